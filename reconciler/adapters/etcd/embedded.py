"""A private etcd server for the demo, for development and for tests: one member, unix sockets only, dead with its parent.

It opens no TCP port; the 0700 folder its sockets lie in is the protection. As soon as a second host joins, the operator
gives endpoints with TLS instead: this default never grows a port.

The binary is the one given, else the one on PATH, else Debian's package `etcd-server`, fetched with `apt-get download` and
unpacked into the state folder. It is never installed: that would start a service on port 2379.

    python -m reconciler.adapters.etcd.embedded --state FOLDER

runs one in the foreground, and prints its endpoint and the path of etcdctl.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import queue
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from reconciler.adapters.etcd.settings import LONGEST_SOCKET_PATH, EtcdSettings
from reconciler.adapters.etcd.store import EtcdStore
from reconciler.runtime.ports import Denied, PortError

_SOCKET = "localhost:1"
"""etcd wants a name with a port number even for a unix socket; the file is named so, in etcd's working directory."""
_PEER_SOCKET = "localhost:2"
_PACKAGES = {"etcd": "etcd-server", "etcdctl": "etcd-client"}
_READY_S = 30.0
_STOP_S = 10.0

# The parent-death signal belongs to the calling thread and survives exec, so it is set in a tiny launcher between fork and
# etcd (no code between fork and exec in a process full of threads). The parent may have died before: then go, too.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedError(Exception):
    """The embedded etcd cannot be found or started; the text says why, and the remedy."""


def find_binary(name: str, state: Path, explicit: Path | None = None) -> Path:
    """The path of ``etcd`` or ``etcdctl``: as given, else on PATH, else out of Debian's package in ``state/packages``.

    Raises:
        EmbeddedError: it is nowhere, and cannot be fetched.
    """
    if explicit is not None:
        if not (explicit.is_file() and os.access(explicit, os.X_OK)):
            raise EmbeddedError(f"{explicit} is not an executable file")
        return explicit.resolve()
    on_path = shutil.which(name)
    if on_path:
        return Path(on_path)
    folder = state.resolve() / "packages"
    binary = folder / "usr" / "bin" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once
        if not binary.exists():
            _fetch(_PACKAGES[name], folder)
    if not binary.exists():
        raise EmbeddedError(f"the package {_PACKAGES[name]} holds no {name}; install etcd and give its path")
    return binary


def _fetch(package: str, folder: Path) -> None:
    """Download a Debian package and unpack it into `folder`, without installing it."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise EmbeddedError(f"no etcd on PATH and no apt-get to fetch {package} with: install etcd, or give its path")
    for old in folder.glob(f"{package}_*.deb"):
        old.unlink()
    done = _run(["apt-get", "download", "-q", package], folder)
    files = sorted(folder.glob(f"{package}_*.deb"))
    if done.returncode or not files:
        raise EmbeddedError(
            f"`apt-get download {package}` failed; run `apt-get update` and try again, or install etcd and give its path:"
            f"\n{done.stderr.strip()}"
        )
    done = _run(["dpkg-deb", "--extract", str(files[0]), str(folder)], folder)
    if done.returncode:
        raise EmbeddedError(f"cannot unpack {files[0]}: {done.stderr.strip()}")
    files[0].unlink()


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


class EmbeddedEtcd:
    """One etcd process on a folder. May be started again after it was stopped or killed; the data stay."""

    def __init__(self, state: Path, binary: Path, *, fsync: bool = True, flags: Sequence[str] = ()) -> None:
        """Starts nothing yet.

        Args:
            state: holds ``etcd/`` with data and log, and the sockets unless their path would be too long.
            fsync: False for tests only: a power cut then loses data.
            flags: more of etcd's flags; the last of several equal ones counts.
        """
        self.folder = state.resolve() / "etcd"
        self.sockets = _socket_folder(self.folder)
        self.endpoint = f"unix://{self.sockets}/{_SOCKET}"
        self.log = self.folder / "etcd.log"
        self._binary = binary
        self._flags = (*(() if fsync else ("--unsafe-no-fsync",)), *flags)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._log_size = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._process is None:
            raise EmbeddedError("the embedded etcd is not running")
        return self._process.pid

    def start(self) -> None:
        """Start, and return after the first linearizable read.

        Raises:
            EmbeddedError: another process uses the folder, or etcd did not come up; with the end of its log.
        """
        if self._process is not None and self._process.poll() is None:
            raise EmbeddedError("the embedded etcd is running already")
        _private(self.folder)
        _private(self.sockets)
        if self._lock is None:
            self._lock = _take(self.folder)
        for name in (_SOCKET, _PEER_SOCKET):
            (self.sockets / name).unlink(missing_ok=True)  # left by a kill; the lock says that nobody listens
        try:
            self._launch()
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def _launch(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(self._binary), *self._arguments()]
        launched: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

        def keep() -> None:
            """The parent-death signal comes when the *thread* that forked ends: so this one stays until etcd has."""
            try:
                with self.log.open("ab") as log:
                    self._log_size = log.tell()
                    process = subprocess.Popen(
                        command,
                        cwd=self.sockets,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,  # a Ctrl-C at the terminal is ours to pass on
                    )
            except OSError as error:
                launched.put(error)
            else:
                launched.put(process)
                process.wait()

        threading.Thread(target=keep, name="etcd-keeper", daemon=True).start()
        outcome = launched.get()
        if isinstance(outcome, OSError):
            raise EmbeddedError(f"cannot start {self._binary}: {outcome}")
        self._process = outcome

    def _arguments(self) -> list[str]:
        client, peer = f"unix://{_SOCKET}", f"unix://{_PEER_SOCKET}"
        return [
            "--name=default",
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # Long enough that no ordinary outage costs a new list, short enough that the data stay small.
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=1h",
            f"--quota-backend-bytes={2 << 30}",
            "--logger=zap",
            "--log-level=warn",
            *self._flags,
        ]

    def _wait_ready(self) -> None:
        end = time.monotonic() + _READY_S
        with EtcdStore(EtcdSettings((self.endpoint,), attempt_timeout_s=1.0, timeout_s=1.0)) as store:
            while True:
                if self._process is None or self._process.poll() is not None:
                    raise EmbeddedError(f"etcd ended at its start; from {self.log}:\n{self._log_lines()}")
                try:
                    store.get("/")
                    return
                except Denied:
                    return  # users were set up: an answer, too
                except PortError as error:
                    if time.monotonic() > end:
                        raise EmbeddedError(
                            f"etcd is not ready after {_READY_S:.0f} s: {error}\n{self._log_lines()}"
                        ) from error

    def _log_lines(self) -> str:
        """What etcd said since this start: a wrong flag is named first, other reasons last."""
        with self.log.open(errors="replace") as log:
            log.seek(self._log_size)
            lines = log.read().splitlines()
        return "\n".join(lines if len(lines) <= 8 else [*lines[:3], "…", *lines[-4:]])

    def stop(self) -> None:
        """SIGTERM, and wait; SIGKILL when that takes too long. The folder is free afterwards."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)  # a stopped process takes no SIGTERM
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.sockets != self.folder:
            shutil.rmtree(self.sockets, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def wait(self) -> int:
        """Block until the server ends; its exit code."""
        if self._process is None:
            raise EmbeddedError("the embedded etcd is not running")
        return self._process.wait()


def _socket_folder(folder: Path) -> Path:
    """Where the sockets go: the folder itself, or a short one outside when a socket's path would not fit."""
    if len(os.fsencode(folder / _SOCKET)) <= LONGEST_SOCKET_PATH:
        return folder
    base = Path("/run") if os.access("/run", os.W_OK) else Path("/tmp")
    return base / f"brickwork-{os.getuid()}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"


def _private(folder: Path) -> None:
    """Make the folder, or make sure that it is ours alone: /tmp is open to others, who may have made it before us."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise EmbeddedError(f"{folder} exists and is not a folder of ours: remove it") from None
        folder.chmod(0o700)


def _take(folder: Path) -> int:
    """The folder's lock, held until the descriptor is closed or this process ends."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise EmbeddedError(f"another process runs an etcd on {folder}") from None
    return lock


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an embedded etcd in the foreground until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m reconciler.adapters.etcd.embedded", description=main.__doc__)
    parser.add_argument("--state", type=Path, required=True, metavar="FOLDER", help="data, log, sockets and packages")
    parser.add_argument("--etcd-binary", type=Path, metavar="PATH", help="default: on PATH, else Debian's package")
    parser.add_argument("--unsafe-no-fsync", action="store_true", help="faster; a power cut loses data")
    options = parser.parse_args(arguments)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        binary = find_binary("etcd", options.state, options.etcd_binary)
        control = find_binary("etcdctl", options.state)
        with EmbeddedEtcd(options.state, binary, fsync=not options.unsafe_no_fsync) as server:
            if server.sockets != server.folder:
                print(f"the state folder is too deep for a socket; it is in {server.sockets}", file=sys.stderr)
            with EtcdStore(EtcdSettings((server.endpoint,))) as store:
                print(f"etcd {store.status().version}, {binary}", file=sys.stderr)
            print(f"endpoint {server.endpoint}", f"etcdctl {control}", sep="\n", flush=True)
            print(f"etcd ended by itself ({server.wait()}); see {server.log}", file=sys.stderr)
            return 1
    except (EmbeddedError, PortError) as error:
        print(f"embedded etcd: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
