"""A whole Brickwork on this machine: an embedded etcd, controllers and nodes as processes, the file backend.

For the demo, the crash tests and the benchmark. The nodes share the host, so each has a folder of its own for links, locks and
state; everything is under one folder, and `close` leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, get_args

import yaml

from reconciler.adapters.brick.settings import Protocol
from reconciler.adapters.child import end_survivors
from reconciler.adapters.etcd.embedded import EmbeddedEtcd, find_binary
from reconciler.adapters.etcd.settings import EtcdSettings
from reconciler.adapters.etcd.store import EtcdStore

VENV = Path(sys.executable).parent
FILE_DRIVER = "reconciler.adapters.cinder.file_driver.FileDriver"
T = TypeVar("T")

POLL_S = 0.02
"""Between two looks at a condition."""


class FleetError(Exception):
    """A condition did not come true in time; says which, and what the daemons last said."""


def wait_until(what: str, look: Callable[[], T], timeout_s: float = 30.0) -> T:
    """The first truthy answer of `look`.

    Raises:
        FleetError: there was none in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise FleetError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(POLL_S)


def _children(parents: Collection[int]) -> list[int]:
    """The processes that these started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended
            _state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(parent) in parents:
                found.append(int(folder.name))
    return found


class Daemon:
    """One daemon process; its log is a file in the fleet's folder."""

    def __init__(self, name: str, command: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def kill(self, number: signal.Signals = signal.SIGKILL, timeout_s: float = 30.0) -> int:
        """Send the signal and wait for the end; the exit status."""
        if self.running:
            self._process.send_signal(number)
        return self._process.wait(timeout_s)

    def wait(self, timeout_s: float = 30.0) -> int:
        return self._process.wait(timeout_s)


class Fleet:
    """Everything in one folder, until `close`."""

    def __init__(
        self,
        folder: Path,
        *,
        packages: Path,
        backends: Mapping[str, Any] | None = None,
        etcd_flags: Sequence[str] = (),
    ) -> None:
        """
        Args:
            folder: for all state; made if need be.
            packages: where an etcd that had to be fetched is kept.
            backends: the controller's `backends`; by default one called `files`.
            etcd_flags: more flags of etcd.
        """
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.files = folder / "files"
        self.files.mkdir(mode=0o700, exist_ok=True)
        self.etcd = EmbeddedEtcd(folder, find_binary("etcd", packages), flags=etcd_flags)
        self.etcdctl = find_binary("etcdctl", packages)
        options = {"file_driver_folder": str(self.files)}
        self._backends = backends or {"files": {"driver": FILE_DRIVER, "options": options}}
        self._daemons: dict[str, Daemon] = {}
        self._store: EtcdStore | None = None
        self.root_password = ""
        """Of etcd's user root, once authentication is on: what `store`, `brickctl` and `etcdctl_run` log in with."""

    def __enter__(self) -> Self:
        self.etcd.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all daemons in an orderly way, then etcd."""
        for daemon in self._daemons.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.kill(signal.SIGTERM)
            if daemon.running:
                daemon.kill()
        if self._store is not None:
            self._store.close()
            self._store = None
        self.etcd.stop()
        for device in self.loop_devices():
            subprocess.run(["losetup", "--detach", f"/dev/{device}"], check=False)

    def loop_devices(self) -> list[str]:
        """Loop devices on files of this fleet: stopping its daemons leaves them, as it should."""
        backing = Path("/sys/block").glob("loop*/loop/backing_file")
        return [file.parent.parent.name for file in backing if file.read_text().startswith(f"{self.files}/")]

    def volume_files(self) -> list[Path]:
        """The volumes that the file backend has; what else it keeps there is hidden."""
        return sorted(self.files.glob("[!.]*"))

    # --- daemons

    def controller(self, name: str = "ctl", settings: Mapping[str, Any] | None = None) -> Daemon:
        """Start a controller."""
        own = {"name": name, "backends": self._backends, **(settings or {})}
        return self._start(name, "brickwork-controller", own)

    def node(self, name: str, settings: Mapping[str, Any] | None = None, under: Sequence[str] = ()) -> Daemon:
        """Start a node daemon. All nodes are this host, under different ids. `under`: a command that runs it."""
        place = self.folder / name
        own = {
            "node": name,
            "host_identity": name,
            "my_ip": "127.0.0.1",
            "link_folder": str(place / "dev"),
            "mount_link_folder": str(place / "volumes"),
            "lock_path": str(self.folder / "locks"),
            "mount_point_base": str(place / "mnt"),
            "protocols": list(get_args(Protocol)),
            "local_folders": [str(self.files)],
            **(settings or {}),
        }
        return self._start(name, "brickwork-node", own, under)

    def fence_agent(self, name: str, command: list[str], settings: Mapping[str, Any] | None = None) -> Daemon:
        """Start a fence agent that runs this command."""
        return self._start(name, "brickwork-fence-agent", {"name": name, "fence_command": command, **(settings or {})})

    def daemon(self, name: str) -> Daemon:
        return self._daemons[name]

    def reboot(self, name: str) -> None:
        """What a reboot does to a stopped node's boot id: the run folder is emptied. Its devices stay, as after R11."""
        shutil.rmtree(self.folder / name / "run", ignore_errors=True)

    def end_children(self, name: str) -> None:
        """After a daemon was killed: wait until its workers are gone too."""
        for state in (self.folder / name / "state", self.folder / name / "state" / "connector"):
            end_survivors(state, 30.0)

    def workers(self, *daemons: str) -> list[int]:
        """The processes that run foreign code, of these daemons or of all: each is a child of a keeper, a child of the daemon."""
        keepers = _children([self._daemons[name].pid for name in daemons or self._daemons])
        return _children(keepers)

    def _start(self, name: str, program: str, own: Mapping[str, Any], under: Sequence[str] = ()) -> Daemon:
        place = self.folder / name
        place.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "etcd": {"endpoints": [self.etcd.endpoint]},
            "state_folder": str(place / "state"),
            "run_folder": str(place / "run"),
            "http": {"listen": f"unix:{self.etcd.sockets}/{name}.http"},
            "log": {"format": "text"},
            **own,
        }
        file = place / "settings.yaml"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(settings))
        environment = {"BRICKWORK_STATE": "", "BRICKWORK_FLEET": str(self.folder)}
        daemon = Daemon(name, [*under, str(VENV / program), "--config", str(file)], place / "log", environment)
        self._daemons[name] = daemon
        return daemon

    # --- clients

    @property
    def store(self) -> EtcdStore:
        """A store of the fleet's own, for looking."""
        if self._store is None:
            user, password = ("root", self.root_password) if self.root_password else (None, None)
            self._store = EtcdStore(EtcdSettings(endpoints=(self.etcd.endpoint,), user=user, password=password))
        return self._store

    def revision(self) -> int:
        return self.store.list("/brickwork/v1/none/").revision

    def keys(self, prefix: str = "/brickwork/v1/") -> list[str]:
        return [item.key for item in self.store.list(prefix).items]

    def brickctl(self, *arguments: str, check: bool = True) -> str:
        """Run brickctl; what it printed."""
        user = {"BRICKWORK_USER": "root", "BRICKWORK_PASSWORD": self.root_password} if self.root_password else {}
        done = subprocess.run(
            [str(VENV / "brickctl"), *arguments],
            env={**os.environ, "BRICKWORK_ENDPOINTS": self.etcd.endpoint, **user},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if check and done.returncode != 0:
            raise FleetError(f"brickctl {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def etcdctl_run(self, *arguments: str) -> str:
        user = ("--user", f"root:{self.root_password}") if self.root_password else ()
        done = subprocess.run(
            [str(self.etcdctl), "--endpoints", self.etcd.endpoint, *user, *arguments],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout
