"""Three members of etcd, two controllers and three nodes as processes, and a proxy between each daemon and each member."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from reconciler.adapters.brick.settings import ConnectorSettings
from reconciler.adapters.etcd.embedded import EmbeddedError, EmbeddedEtcd, find_binary
from reconciler.adapters.etcd.settings import EtcdSettings
from reconciler.adapters.etcd.store import EtcdStore
from tests.chaos.proxy import Proxies
from tools.fleet import Fleet

MEMBERS = 3
CONTROLLERS = ("c1", "c2")
NODES = ("n1", "n2", "n3")
DAEMONS = (*CONTROLLERS, *NODES)
BACKEND = "files"
_SETTINGS: dict[str, Any] = {
    "http": {"listen": "none"},
    "retry_base_s": 0.2,
    "retry_cap_s": 5.0,
    "resync_s": 20.0,
}
_MASS = {"controller": {"mass_delete": {"share": 1.0}}, "node": {"mass_detach": {"share": 1.0}}}
"""The user of a run means every wish that is taken back."""
_CRASHED = 1


class World:
    """Everything that runs, until `close`."""

    def __init__(self, folder: Path, packages: Path) -> None:
        ports = _free_ports(2 * MEMBERS)
        self._clients, peers = ports[:MEMBERS], ports[MEMBERS:]
        flags = [_flags(number, self._clients[number], peers) for number in range(MEMBERS)]
        self.fleet = Fleet(folder, packages=packages, etcd_flags=flags[0])
        binary = find_binary("etcd", packages)
        others = [EmbeddedEtcd(folder / f"m{number}", binary, flags=flags[number]) for number in range(1, MEMBERS)]
        self.members: Sequence[EmbeddedEtcd] = (self.fleet.etcd, *others)
        self.down: set[str] = set()
        """Daemons that a fault has down or stopped: nobody starts them meanwhile."""
        self.ended: Counter[str] = Counter()
        """Ends that no fault asked for, by daemon and exit status."""
        self._stopped: set[int] = set()

    def start(self) -> None:
        """etcd; then the daemons, each behind proxies of its own."""
        with ThreadPoolExecutor(MEMBERS) as pool:  # none is ready before a second one is
            list(pool.map(lambda member: member.start(), self.members))
        self._proxies = Proxies()
        self.proxies = {name: [self._proxies.open("127.0.0.1", port) for port in self._clients] for name in DAEMONS}
        for name in DAEMONS:
            self.start_daemon(name)

    def store(self) -> EtcdStore:
        """A store of the test's own, past all proxies."""
        return EtcdStore(EtcdSettings(tuple(member.endpoint for member in self.members)))

    def close(self) -> list[str]:
        """End everything; what is left nevertheless, which should be nothing."""
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.fleet.close()
        for name in DAEMONS:
            if (self.fleet.folder / name).exists():
                self.fleet.end_children(name)
        for member in self.members:
            member.stop()
        if hasattr(self, "_proxies"):
            self._proxies.close()
        return self._left()

    def _left(self) -> list[str]:
        """What should not be there after the end."""
        left = [f"loop device {name}" for name in self.fleet.loop_devices()]
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if f"{self.fleet.folder}/".encode() in line.read_bytes():
                    left.append(f"process {line.parent.name}")
        outside = [member.sockets for member in self.members if not member.sockets.is_relative_to(self.fleet.folder)]
        return left + [f"folder {sockets}" for sockets in outside if sockets.exists()]

    # --- daemons

    def start_daemon(self, name: str) -> None:
        endpoints = [f"http://127.0.0.1:{proxy.port}" for proxy in self.proxies[name]]
        settings = {**_SETTINGS, "etcd": {"endpoints": endpoints}}
        if name in CONTROLLERS:
            self.fleet.controller(name, {**settings, **_MASS["controller"]})
        else:
            self.fleet.node(name, {**settings, **_MASS["node"]})

    def supervise(self) -> None:
        """What systemd does: start again who ended."""
        for name in DAEMONS:
            daemon = self.fleet.daemon(name)
            if name not in self.down and not daemon.running:
                self.ended[f"{name}: exit {daemon.wait()}"] += 1
                self.start_daemon(name)

    @property
    def crashes(self) -> list[str]:
        return [text for text in self.ended if text.endswith(f"exit {_CRASHED}")]

    def owner(self, node: str) -> str:
        """What the node's devices are tagged with."""
        state = self.fleet.folder / node / "state" / "connector"
        return ConnectorSettings(node=node, state_folder=state, my_ip="127.0.0.1").owner

    def boot_file(self, node: str) -> Path:
        return self.fleet.folder / node / "run" / "boot.json"

    # --- signals

    def signal(self, pid: int, number: signal.Signals) -> None:
        """SIGSTOP is remembered, so that nothing stays stopped at the end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if number is signal.SIGSTOP:
            self._stopped.add(pid)
        else:
            self._stopped.discard(pid)

    def start_member(self, number: int) -> None:
        """After a kill. It may take its time on a busy machine."""
        for attempt in range(5):
            try:
                self.members[number].start()
                return
            except EmbeddedError:
                if attempt == 4:
                    raise
                time.sleep(1.0)


def _flags(number: int, client: int, peers: Sequence[int]) -> list[str]:
    """What makes a member of a cluster out of an embedded etcd. Its socket stays, for those who want no proxy."""
    cluster = ",".join(f"m{index}=http://127.0.0.1:{port}" for index, port in enumerate(peers))
    return [
        f"--name=m{number}",
        f"--listen-client-urls=unix://localhost:1,http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peers[number]}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peers[number]}",
        f"--initial-cluster={cluster}",
        "--auto-compaction-retention=0",
    ]


def _free_ports(number: int) -> list[int]:
    ends = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [end.getsockname()[1] for end in ends]
    for end in ends:
        end.close()
    return ports
