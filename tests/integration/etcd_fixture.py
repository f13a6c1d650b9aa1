"""Fixtures with a real etcd: `etcd` (one for the session), `store` on it, `prefix`, and `start_etcd` for the cruel tests."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.etcd.embedded import EmbeddedEtcd, find_binary
from reconciler.adapters.etcd.settings import EtcdSettings
from reconciler.adapters.etcd.store import EtcdStore
from reconciler.runtime.ports import Batch, Event, Store, Unavailable

STATE = Path(__file__).parents[2] / ".state"
"""Where a downloaded etcd is kept between runs; ignored by git."""
DEADLINE_S = 30.0
"""How long a test waits for something that must happen."""


class Server(EmbeddedEtcd):
    """An embedded etcd with the handles a test needs. It elects itself at once: a restart takes 0.3 s, not 2."""

    def __init__(self, state: Path, *flags: str) -> None:
        hasty = ("--heartbeat-interval=10", "--election-timeout=50")
        super().__init__(state, find_binary("etcd", STATE), fsync=False, flags=(*hasty, *flags))

    def ctl(self, *arguments: str, **environment: str) -> str:
        """Run etcdctl on it; what it printed. Raises when it failed."""
        command = [str(find_binary("etcdctl", STATE)), "--endpoints", self.endpoint, *arguments]
        done = subprocess.run(
            command,
            env={"ETCDCTL_API": "3", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        assert done.returncode == 0, f"etcdctl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def open(self, **settings: Any) -> EtcdStore:
        """A store on it; the settings' own defaults, but quicker."""
        return EtcdStore(EtcdSettings(**{"endpoints": (self.endpoint,), **settings}))


class Follower:
    """A watch running in a thread of its own; `until` waits for what it has seen."""

    def __init__(self, store: EtcdStore, prefix: str, after_revision: int) -> None:
        self.events: list[Event] = []
        self.error: Exception | None = None
        self.stop = threading.Event()
        self._batches = store.watch(prefix, after_revision, self.stop)
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for batch in self._batches:
                self._tell(batch)
        except Exception as error:
            self.error = error
        self._tell(Batch(0))

    def _tell(self, batch: Batch) -> None:
        with self._news:
            self.events += batch.events
            self._news.notify_all()

    def until_count(self, count: int) -> None:
        """Wait until so many events have come."""
        with self._news:
            came = self._news.wait_for(lambda: len(self.events) >= count, DEADLINE_S)
        assert came, f"{len(self.events)} of {count} events, error {self.error!r}"

    def end(self) -> None:
        """Stop, and wait for the thread."""
        self.stop.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()


def reachable(store: Store) -> bool:
    """Does etcd answer?"""
    try:
        store.get("/")
    except Unavailable:
        return False
    return True


def eventually(true: Callable[[], object], every_s: float = 0.02) -> None:
    """Wait until `true()` is; for conditions that nobody announces."""
    end = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(every_s)


Start = Callable[..., Server]
"""What `start_etcd` gives: a function of etcd's extra flags."""


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One etcd for all tests that treat it well."""
    with Server(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def store(etcd: Server) -> Iterator[EtcdStore]:
    """A store on the session's etcd."""
    with etcd.open() as opened:
        yield opened


@pytest.fixture
def prefix() -> str:
    """A part of the key space that no other test uses."""
    return f"/test/{uuid.uuid4().hex[:12]}/"


@pytest.fixture
def start_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts an etcd of the test's own, to be killed, stopped or filled up; extra flags as arguments."""
    servers: list[Server] = []

    def start(*flags: str) -> Server:
        server = Server(tmp_path_factory.mktemp("etcd"), *flags)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()
