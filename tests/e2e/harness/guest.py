"""One guest: a host with a kernel of its own that a test may use, break, kill and start again."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from weakref import WeakSet

from harness import channel, layout
from harness.channel import CommandFailed, CommandResult, Daemon, GuestUnreachable
from harness.logs import LogFolder
from harness.network import Lan, Network, link_name
from harness.place import Place
from harness.waiting import wait_until

BOOT_TIMEOUT_S = 300
PR_SET_CHILD_SUBREAPER = 36
# Both are sparse: what is not written costs nothing.
OWN_DISK_BYTES = 8 << 30
STORAGE_DISK_BYTES = 64 << 30


@dataclass(frozen=True)
class GuestSpec:
    """What makes a guest this one: `role` is `controller` or `node` and decides which storage daemons it starts.

    `stage2` is the script that goes on when the guest has its own root: one starts everything by itself, one starts systemd.
    """

    name: str
    number: int
    role: str
    memory_mib: int
    stage2: str = "stage2"


class Guest:
    """One guest. Its disks outlive its boots; `/run` and `/tmp` do not."""

    def __init__(self, spec: GuestSpec, hosts: str, place: Place, network: Network, logs: LogFolder) -> None:
        self.name = spec.name
        self.spec = spec
        self.daemons: dict[str, Daemon] = {}
        self._hosts = hosts
        self._network = network
        self._logs = logs
        self._folder = place.guests / spec.name
        self._console = self._folder / "console.log"
        self._console_seen_bytes = 0
        self._connections: WeakSet[socket.socket] = WeakSet()
        self._process: subprocess.Popen[bytes] | None = None

    # Life

    def start(self) -> None:
        """Start booting. Must be called from a thread that lives on: when it ends, the guest is killed with it."""
        assert not self.running, f"{self.name} runs already"
        self.kill()  # What may be left of a guest that ended by itself.
        self._folder.mkdir(parents=True, exist_ok=True)
        for disk, size_bytes in (("own", OWN_DISK_BYTES), ("storage", STORAGE_DISK_BYTES)):
            if not self._disk(disk).exists():
                with self._disk(disk).open("wb") as image:
                    image.truncate(size_bytes)
        with self._console.open("ab") as console:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._network.command(self._kernel_command())],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Wait until it takes commands, which is after its storage daemons were started."""

        def answers() -> bool:
            if not self.running:
                raise GuestUnreachable(f"{self.name} ended while booting:\n{self.console_tail()}")
            try:
                return self.run("true", timeout_s=BOOT_TIMEOUT_S).exit_code == 0
            except GuestUnreachable:
                return False

        wait_until(answers, BOOT_TIMEOUT_S, f"{self.name} is up")

    def boot(self) -> None:
        """Start, and wait until ready."""
        self.start()
        self.wait_until_ready()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Take the power away: nothing is flushed, nobody is told."""
        if self._process is None:
            return
        kill_family(self._process)
        self._process = None
        self._hang_up()

    def shutdown(self, timeout_s: float = 60) -> None:
        """Flush the disks and power off. Daemons are not stopped first: a test that wants that says so."""
        assert self._process is not None, f"{self.name} does not run"
        self._request("sync; busybox poweroff -f", {}).close()
        self._process.wait(timeout_s)
        self.kill()

    def freeze(self) -> None:
        """Stop the guest as a whole: it runs nothing and answers nobody, while its clocks go on."""
        assert self._process is not None, f"{self.name} does not run"
        # Only the kernel's process: it traces the others, and would take their stopping for an error of theirs.
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo a freeze; nothing to do when there is none."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def forget_disks(self) -> None:
        """Make the next boot the first one."""
        assert not self.running
        for disk in ("own", "storage"):
            self._disk(disk).unlink(missing_ok=True)

    def boot_id(self) -> str:
        """Return the kernel's own name for this boot."""
        return self.run("cat /proc/sys/kernel/random/boot_id").stdout.strip()

    # Commands

    def run(
        self,
        command: str | Sequence[str | Path],
        timeout_s: float = 60,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        content: bytes = b"",
    ) -> CommandResult:
        """Run a shell script (a string) or a command line (a sequence) as root; `content` is its standard input.

        The checkout's console scripts are on the PATH. With `check`, an exit code other than 0 raises.
        """
        result = channel.run(self._connect, command, env or {}, content, timeout_s)
        if check and result.exit_code != 0:
            raise CommandFailed(f"on {self.name}: {result}")
        return result

    def put(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file, and the folders that lead to it."""
        script = 'mkdir -p "$(dirname "$TARGET")" && cat >"$TARGET" && chmod "$MODE" "$TARGET"'
        written = content.encode() if isinstance(content, str) else content
        self.run(script, env={"TARGET": path, "MODE": f"{mode:o}"}, content=written)

    def get(self, path: str) -> bytes:
        """Read a file, of any size and content."""
        return self.run(["cat", path]).stdout_bytes

    # Daemons

    def start_daemon(
        self, name: str, command: str | Sequence[str | Path], env: Mapping[str, str] | None = None
    ) -> Daemon:
        """Start a long-running process. Its output goes to `<guest>-<name>.log` in the folder of the running test.

        The same name may be started again once it ended. It is not started again after a boot of the guest.
        """
        running = self.daemons.get(name)
        assert running is None or not running.running, f"{name} runs already on {self.name}"
        log_file = partial(self._logs.file, f"{self.name}-{name}.log")
        self.daemons[name] = Daemon(name, self._request(command, env or {}), log_file)
        return self.daemons[name]

    def kill_daemon(self, name: str, signal_number: int = signal.SIGKILL, timeout_s: float = 60) -> int | None:
        """Send a signal to the process alone, not to its children, and wait until it ended; return its exit code.

        What its children do then is its own affair, and part of what is tested.
        """
        daemon = self.daemons[name]
        self.signal_daemon(name, signal_number)
        return daemon.wait(timeout_s)

    def signal_daemon(self, name: str, signal_number: int) -> None:
        """Send a signal (SIGSTOP, SIGCONT, SIGHUP) to a daemon and do not wait for anything."""
        self.run(["kill", f"-{int(signal_number)}", str(self.daemons[name].pid)])

    def stop_daemons(self, keep: Sequence[Daemon] = ()) -> None:
        """Kill all daemons but these, with their children: nothing of a test may be left for the next one."""
        for name, daemon in list(self.daemons.items()):
            if daemon in keep:
                continue
            if self.running:
                self.run(f"kill -KILL -- -{daemon.pid}", check=False)
                daemon.wait(timeout_s=60)
            del self.daemons[name]

    # Network

    def cut(self, lan: Lan) -> None:
        """Stop this guest's traffic on one network; its own link stays up."""
        self._network.cut(self.name, lan)

    def heal(self, lan: Lan) -> None:
        """Undo a cut."""
        self._network.heal(self.name, lan)

    def address(self, lan: Lan) -> str:
        """Return this guest's address on a network."""
        return lan.address(self.spec.number)

    # Evidence

    def console_tail(self, characters: int = 4000) -> str:
        """Return the end of the console: boot messages, and the kernel's."""
        return self._console.read_text(errors="replace")[-characters:]

    def save_console(self) -> None:
        """Add what the console got since the last call to `<guest>-console.log` of the running test."""
        if not self._console.exists() or self._console.stat().st_size == self._console_seen_bytes:
            return
        with self._console.open("rb") as console, self._logs.file(f"{self.name}-console.log").open("ab") as log:
            console.seek(self._console_seen_bytes)
            shutil.copyfileobj(console, log)
            self._console_seen_bytes = console.tell()

    def _connect(self) -> socket.socket:
        connection = self._network.connect(self.address(Lan.HARNESS), channel.AGENT_PORT, timeout_s=5)
        self._connections.add(connection)
        return connection

    def _request(self, command: str | Sequence[str | Path], env: Mapping[str, str]) -> socket.socket:
        """Start a command that has no time limit."""
        return channel.request(self._connect, channel.argv_of(command), env, b"", timeout_s=None, merge=True)

    def _hang_up(self) -> None:
        """End all that waits for this guest: a dead guest does not hang up by itself."""
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for daemon in self.daemons.values():
            daemon.wait(channel.ANSWER_GRACE_S)
        self.daemons.clear()

    def _disk(self, name: str) -> Path:
        return self._folder / f"{name}.img"

    def _kernel_command(self) -> list[str]:
        """Return the command line. Words that the kernel does not know (GUEST_...) become the guest's environment."""
        interfaces = [
            f"vec{lan.position}:transport=tap,ifname={link_name(self.name, lan)},depth=64,gro=1,"
            f"mac=02:00:00:00:{lan.position:02x}:{self.spec.number:02x}"
            for lan in Lan
        ]
        preload = ["env", f"LD_PRELOAD={layout.WIDE_REGISTERS}"] if layout.WIDE_REGISTERS.exists() else []
        return [
            *preload,
            str(layout.KERNEL),
            f"mem={self.spec.memory_mib}M",
            f"umid={self.name}",
            f"uml_dir={self._folder.parent}/control",
            *("root=/dev/root", "rootfstype=hostfs", f"rootflags={layout.ROOT_TREE}", "ro", "init=/e2e/stage1"),
            *("con0=null,fd:1", "con=null", "ssl=null", "panic=1"),
            f"ubda={self._disk('own')}",
            f"ubdb={self._disk('storage')}",
            *interfaces,
            f"GUEST_NAME={self.name}",
            f"GUEST_ROLE={self.spec.role}",
            f"GUEST_STAGE2={self.spec.stage2}",
            f"GUEST_HOSTS={self._hosts}",
            "GUEST_ADDRESSES=" + ",".join(f"{self.address(lan)}/24" for lan in Lan),
            f"GUEST_AGENT_ADDRESS={self.address(Lan.HARNESS)}",
            f"GUEST_AGENT_PORT={channel.AGENT_PORT}",
            f"GUEST_MODULES={layout.KERNEL_MODULES}",
            f"GUEST_CHECKOUT={layout.CHECKOUT}",
            f"GUEST_VENV={layout.VENV}",
        ]


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """Kill a guest's processes and wait for all of them: the last one alive would keep the disk images locked.

    They are in one process group, and orphans come to us (see `adopt_orphans`), so they can all be waited for.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-process.pid, 0)


def adopt_orphans(adopt: bool) -> None:
    """Make this process the parent of its descendants' orphans, in place of PID 1, which may not reap them."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)
