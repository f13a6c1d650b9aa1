"""The store on an etcd that is killed, stopped, filled up, compacted, or says no."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.adapters.etcd.settings import EtcdSettings
from reconciler.adapters.etcd.store import EtcdStore
from reconciler.runtime.ports import (
    Compacted,
    Compare,
    Delete,
    Denied,
    NoSpace,
    Put,
    Store,
    TooLarge,
    Unavailable,
    UnknownOutcome,
)
from tests.integration.etcd_fixture import Follower, Server, Start, eventually, reachable

pytestmark = pytest.mark.etcd


def write(store: Store, *keys: str) -> None:
    """One transaction for each key."""
    for key in keys:
        store.txn([], [Put(key, key.encode())])


def kill(server: Server) -> None:
    """SIGKILL; returns when it is dead."""
    os.kill(server.pid, signal.SIGKILL)
    server.wait()


def test_kill_while_watching(start_etcd: Start) -> None:
    """A watch outlives the death of etcd: it resumes by itself and delivers every event once, in order."""
    server = start_etcd()
    with server.open() as store, server.open() as other:
        keys = [f"/a/{number}" for number in range(40)]
        follower = Follower(store, "/a/", store.list("/a/").revision)
        write(other, *keys[:20])
        follower.until_count(20)
        kill(server)
        server.start()
        write(other, *keys[20:])
        follower.until_count(40)
        follower.end()
    assert [event.key for event in follower.events] == keys
    assert follower.error is None


@pytest.mark.slow
def test_kill_in_catch_up(start_etcd: Start) -> None:
    """A watch that is far behind loses nothing when etcd dies while it catches up, however often."""
    server, count = start_etcd(), 4000
    keys = [f"/a/{number}" for number in range(count)]
    with server.open() as store:
        after = store.list("/a/").revision
        writers = [threading.Thread(target=write, args=(store, *keys[part::8])) for part in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        revisions: list[int] = []
        kills = 0
        for batch in store.watch("/a/", after, threading.Event()):
            revisions += [event.revision for event in batch.events]
            if len(revisions) >= count:
                break
            if batch.events and kills < 3:
                kills += 1
                kill(server)
                server.start()
    assert kills > 0
    assert revisions == list(range(after + 1, after + count + 1))


def test_compaction_while_the_watch_is_cut_off(start_etcd: Start) -> None:
    """A live watch whose next event was compacted while it could not listen is told, not left waiting."""
    server = start_etcd()
    with server.open() as store, server.open() as other:
        batches = store.watch("/a/", store.list("/a/").revision, threading.Event())
        write(other, "/a/1")
        assert next(batches).events
        kill(server)
        server.start()
        write(other, "/a/2", "/a/3")
        server.ctl("compact", str(other.list("/a/").revision))
        with pytest.raises(Compacted):
            for _ in batches:
                pass


def test_compaction_leaves_a_watch_that_is_up_to_date_alone(start_etcd: Start) -> None:
    """Compaction each moment costs a watch nothing while it keeps up."""
    server = start_etcd()
    with server.open() as store, server.open() as other:
        follower = Follower(store, "/a/", store.list("/a/").revision)
        for number in range(5):
            write(other, f"/a/{number}")
            follower.until_count(number + 1)
            server.ctl("compact", str(other.list("/a/").revision))
        follower.end()
        assert follower.error is None


def set_up_users(server: Server) -> None:
    """root with password r; n1 with password p and the prefix /n1/."""
    for line in (
        "user add root:r",
        "role add root",
        "user grant-role root root",
        "user add n1:p",
        "role add n1",
        "role grant-permission n1 readwrite --prefix=true /n1/",
        "user grant-role n1 n1",
        "auth enable",
    ):
        server.ctl(*line.split())


def test_foreign_keys_are_denied(start_etcd: Start) -> None:
    """Reading, writing, comparing, listing and watching outside one's role is Denied, and named; inside it works."""
    server = start_etcd()
    set_up_users(server)
    with server.open(user="n1", password="p") as store:
        after = store.txn([Compare("/n1/a", mod_revision=0)], [Put("/n1/a", b"1")]).revision
        assert next(store.watch("/n1/", after - 1, threading.Event())).events
        attempts: list[Callable[[], object]] = [
            lambda: store.get("/n2/a"),
            lambda: store.list("/n2/"),
            lambda: store.txn([], [Put("/n2/a", b"")]),
            lambda: store.txn([], [Delete("/n2/a")]),
            lambda: store.txn([Compare("/n2/a", present=True)]),
            lambda: next(store.watch("/n2/", after, threading.Event())),
            lambda: next(store.watch("/n", after, threading.Event())),
        ]
        for attempt in attempts:
            with pytest.raises(Denied, match="permission denied"):
                attempt()
    for settings in ({"user": "n1", "password": "wrong"}, {}):
        with server.open(**settings) as stranger:
            with pytest.raises(Denied):
                stranger.get("/n1/a")
            with pytest.raises(Denied):
                next(stranger.watch("/n1/", after, threading.Event()))


def test_users_without_authentication(start_etcd: Start) -> None:
    """A user in the settings of a server that asks for none does no harm, and is used once it does ask."""
    server = start_etcd()
    with server.open(user="n1", password="p") as store:
        write(store, "/n1/a")
        set_up_users(server)
        write(store, "/n1/a")
        with pytest.raises(Denied):
            write(store, "/n2/a")


def await_line(server: Server, text: str) -> None:
    """Wait until etcd logs this once more."""
    before = server.log.read_text().count(text)
    eventually(lambda: server.log.read_text().count(text) > before)


@pytest.mark.slow
def test_tokens_run_out(start_etcd: Start) -> None:
    """When etcd has forgotten the token, calls and watches log in again by themselves."""
    server = start_etcd("--auth-token-ttl=1", "--log-level=info")
    set_up_users(server)
    with server.open(user="n1", password="p") as store:
        write(store, "/n1/a")
        await_line(server, "deleted a simple token")
        write(store, "/n1/a")
        await_line(server, "deleted a simple token")
        assert next(store.watch("/n1/", 0, threading.Event())).events


def test_a_restart_forgets_all_tokens(start_etcd: Start) -> None:
    """A running watch, many threads and the lease go on after a restart that made their token worthless."""
    server = start_etcd()
    set_up_users(server)
    with server.open(user="n1", password="p") as store:
        lease = store.grant_lease(60)
        assert store.keep_lease(lease) == 60
        follower = Follower(store, "/n1/", store.list("/n1/").revision)
        write(store, "/n1/before")
        follower.until_count(1)
        kill(server)
        server.start()
        eventually(lambda: store.keep_lease(lease) == 60)
        threads = [threading.Thread(target=write, args=(store, f"/n1/{number}")) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        follower.until_count(17)
        follower.end()


def freeze(server: Server) -> None:
    """SIGSTOP; returns when each of its threads has stopped, which takes a moment."""
    os.kill(server.pid, signal.SIGSTOP)
    threads = Path(f"/proc/{server.pid}/task")
    eventually(lambda: all("State:\tT" in file.read_text() for file in threads.glob("*/status")))


@pytest.mark.slow
def test_a_stopped_server(start_etcd: Start) -> None:
    """etcd under SIGSTOP: a write's outcome is unknown, a read and a renewal fail, a watch notices; all work afterwards."""
    server = start_etcd()
    with server.open(attempt_timeout_s=0.3, timeout_s=0.4) as store:
        lease = store.grant_lease(60)
        store.keep_lease(lease)
        after = store.list("/a/").revision
        batches = store.watch("/a/", after, threading.Event())
        write(store, "/a/1")
        assert next(batches).events
        freeze(server)
        with pytest.raises(UnknownOutcome):
            store.txn([Compare("/a/2", mod_revision=0)], [Put("/a/2", b"")])
        with pytest.raises(Unavailable):
            store.txn([Compare("/a/2", mod_revision=0)])
        with pytest.raises(Unavailable):
            store.get("/a/1")
        with pytest.raises(Unavailable):
            store.keep_lease(lease)
        with pytest.raises(Unavailable, match="nothing heard"):
            list(batches)
        os.kill(server.pid, signal.SIGCONT)
        eventually(lambda: reachable(store))
        with server.open() as patient:
            repeated = patient.txn([Compare("/a/2", mod_revision=0)], [Put("/a/2", b"")])
            assert repeated.succeeded or "/a/2" in repeated.found
            assert patient.keep_lease(lease) == 60


@pytest.mark.slow
def test_a_silent_watch_is_alive(start_etcd: Start) -> None:
    """Nothing happens for longer than the silence deadline: the watch asks for a sign of life, and goes on."""
    server = start_etcd()
    with server.open(attempt_timeout_s=0.3, timeout_s=0.3) as store, server.open() as other:
        batches = store.watch("/a/", store.list("/a/").revision, threading.Event())
        assert not next(batches).events  # these two come 4 s after the start at the earliest,
        assert not next(batches).events  # the deadline is 1.8 s
        write(other, "/a/1")
        assert [event.key for event in next(batches).events] == ["/a/1"]


@pytest.mark.slow
def test_no_server(start_etcd: Start) -> None:
    """A write that never left is Unavailable, not unknown; the watch ticks, and gives up; after the start all is well."""
    server = start_etcd()
    kill(server)
    with server.open(attempt_timeout_s=0.3, timeout_s=0.4) as store:
        for attempt in (
            lambda: write(store, "/a/1"),
            lambda: store.get("/a/1"),
            lambda: store.grant_lease(5),
            lambda: list(store.watch("/a/", 1, threading.Event())),
        ):
            with pytest.raises(Unavailable, match="failed to connect"):
                attempt()
        server.start()
        eventually(lambda: reachable(store))
        write(store, "/a/1")


def test_a_write_to_a_name_that_nobody_knows_has_never_left() -> None:
    """gRPC words it anew now and then. This name is none, so that no server of names is asked."""
    settings = EtcdSettings(("http://etcd..1:2379",), attempt_timeout_s=5.0, timeout_s=5.0)
    with EtcdStore(settings) as store, pytest.raises(Unavailable, match="resolving"):
        write(store, "/a/1")


def test_one_of_two_endpoints(start_etcd: Start) -> None:
    """With one endpoint dead every call succeeds, writes included, wherever it begins."""
    server = start_etcd()
    dead = f"unix://{server.sockets}/nobody"
    for number in range(6):
        with server.open(endpoints=(dead, server.endpoint)) as store:
            write(store, f"/a/{number}")
            assert next(store.watch("/a/", 1, threading.Event())).events
            assert store.keep_lease(store.grant_lease(5)) > 0


def fill_up(store: Store) -> None:
    """Write until etcd refuses, 1 GiB at most: it looks at its size now and then, and a quick disk takes much in between."""
    for _ in range(1 << 10):
        store.txn([], [Put("/a/big", b"x" * 2**20)])


def test_no_space(start_etcd: Start) -> None:
    """A full etcd refuses writes and leases as NoSpace, serves reads, deletes and renewals; and recovers."""
    server = start_etcd(f"--quota-backend-bytes={8 << 20}")
    with server.open() as store:
        lease = store.grant_lease(60)
        write(store, "/a/1")
        with pytest.raises(NoSpace, match="defragment"):
            fill_up(store)
        with pytest.raises(NoSpace):
            store.grant_lease(5)
        assert store.get("/a/1") is not None
        assert store.keep_lease(lease) == 60
        store.txn([], [Delete("/a/1")])
        server.ctl("compact", str(store.list("/a/").revision))
        server.ctl("defrag")
        server.ctl("alarm", "disarm")
        write(store, "/a/1")


def test_too_large_names_the_limit(store: EtcdStore, prefix: str) -> None:
    """The message for a person says how much etcd takes."""
    with pytest.raises(TooLarge, match=r"1\.5 MiB"):
        store.txn([], [Put(prefix + "a", b"x" * (2 << 20))])


def test_keys_of_any_bytes(etcd: Server, store: EtcdStore, prefix: str) -> None:
    """A key that is no UTF-8, put by hand, is listed and watched like any other, and can be named again."""
    after = store.list(prefix).revision
    etcd.ctl("put", os.fsdecode(prefix.encode() + b"\xff\xfe"), "x")
    (item,) = store.list(prefix).items
    assert next(store.watch(prefix, after, threading.Event())).events[0].item == item
    assert store.get(item.key) == item


def test_a_closed_store(etcd: Server, prefix: str) -> None:
    """Closing ends a watch in progress; later calls are Unavailable."""
    store = etcd.open()
    follower = Follower(store, prefix, store.list(prefix).revision)
    write(store, prefix + "a")
    follower.until_count(1)
    store.close()
    follower.end()
    with pytest.raises(Unavailable, match="closed"):
        store.get(prefix)
    with pytest.raises(Unavailable, match="closed"):
        store.keep_lease(7)


def test_two_stores_see_the_same(etcd: Server, store: EtcdStore, prefix: str) -> None:
    """Settings are values: a second store on the same endpoints is a second connection to the same data."""
    write(store, prefix + "a")
    with EtcdStore(EtcdSettings((etcd.endpoint,))) as other:
        assert other.get(prefix + "a") == store.get(prefix + "a")


def test_status(store: EtcdStore) -> None:
    """The server's version is known, and judged."""
    status = store.status()
    assert status.version.count(".") == 2
    assert status.size_bytes > 0
