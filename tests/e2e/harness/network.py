"""The guests' networks: bridges and taps in a network namespace of our own."""

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from harness.place import Place

CLONE_NEWNET = 0x40000000


class Lan(StrEnum):
    """One bridge that every guest has a link to. The value is the bridge's name."""

    MANAGEMENT = "mg"
    STORAGE_A = "sa"
    STORAGE_B = "sb"
    # The harness's own, for commands into the guests: a test that cuts the management network still has a look inside.
    HARNESS = "hx"

    @property
    def position(self) -> int:
        return list(Lan).index(self)

    def address(self, number: int) -> str:
        """Return the address of the guest with this number; number 1 is the machine that runs the tests."""
        third = 9 if self is Lan.HARNESS else self.position
        return f"10.9.{third}.{number}"


class Network:
    """The namespace and what is in it.

    The place makes its name, and removes it with all that is in it.
    """

    def __init__(self, place: Place) -> None:
        self.namespace = place.namespace

    def create(self, guests: Sequence[str]) -> None:
        """Make the bridges, and a tap on each of them for each guest."""
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        commands = ["link set lo up"]
        for lan in Lan:
            commands += [f"link add {lan} type bridge", f"link set {lan} up"]
            for guest in guests:
                link = link_name(guest, lan)
                commands += [
                    f"tuntap add dev {link} mode tap",
                    f"link set {link} master {lan}",
                    f"link set {link} up",
                ]
        # The machine itself is reached for etcd and for commands, and takes no part in the storage networks.
        commands += [f"addr add {lan.address(1)}/24 dev {lan}" for lan in (Lan.MANAGEMENT, Lan.HARNESS)]
        self._ip("-batch", "-", stdin="\n".join(commands))
        # A forwarding machine would let a guest reach one network through another, around a cut.
        self.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=0"])

    def cut(self, guest: str, lan: Lan) -> None:
        """Stop all traffic of one guest on one network, without its noticing (its own link stays up).

        Taking the tap down instead would leave the guest's interface dead even after it is up again.
        """
        self._ip("link", "set", link_name(guest, lan), "nomaster")

    def heal(self, guest: str, lan: Lan) -> None:
        """Undo a cut; nothing to do when there is none."""
        self._ip("link", "set", link_name(guest, lan), "master", lan)

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """Return the command line that runs this command inside the namespace."""
        return ["ip", "netns", "exec", self.namespace, *map(str, argv)]

    def run(
        self,
        argv: Sequence[str | Path],
        timeout_s: float = 60,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of this machine inside the namespace, where etcd and the guests can be reached.

        Far quicker than in a guest: the place for a client like `brickctl`.
        """
        return subprocess.run(
            self.command(argv),
            env=os.environ | (env or {}),
            check=check,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )

    def connect(self, address: str, port: int, timeout_s: float) -> socket.socket:
        """Open a TCP connection from inside the namespace, for use in this process.

        A socket belongs for ever to the namespace of the thread that made it, so a thread enters for this alone.
        """
        made: list[socket.socket | OSError] = []

        def enter_and_connect() -> None:
            try:
                enter_namespace(self.namespace)
                made.append(socket.create_connection((address, port), timeout=timeout_s))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=enter_and_connect, daemon=True)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    def _ip(self, *arguments: str, stdin: str | None = None) -> None:
        subprocess.run(["ip", "-n", self.namespace, *arguments], check=True, input=stdin, text=True)


def link_name(guest: str, lan: Lan) -> str:
    """Return the name of the tap that is this guest's end of this network."""
    return f"{lan}-{guest}"


def enter_namespace(name: str) -> None:
    """Move the calling thread, and only it, into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{name}", "rb") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"cannot enter network namespace {name}: {os.strerror(error)}")
