"""The store against answers that a real etcd gives too rarely to wait for: each test scripts a server, word for word."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from reconciler.adapters.etcd import rpc
from reconciler.adapters.etcd.settings import EtcdSettings
from reconciler.adapters.etcd.store import EtcdStore
from reconciler.runtime.ports import Compacted, Compare, Denied, Put, Unavailable, UnknownOutcome

Code = grpc.StatusCode
Answer = Callable[[bytes, Any], bytes]
"""What a script does with one request and gRPC's context: returns the serialized answer, or aborts."""

_RANGE = rpc.message("RangeResponse")
_TXN = rpc.message("TxnResponse")
_LOGIN = rpc.message("AuthenticateResponse")
_WATCH = rpc.message("WatchResponse")
_KEEP = rpc.message("LeaseKeepAliveResponse")


class Script(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers each method from its list of answers, in order; a call too many fails the test. Streams are a function each."""

    def __init__(self) -> None:
        self.unary: dict[rpc.Call, list[Answer]] = {}
        self.streams: dict[rpc.Call, Callable[[Iterator[bytes], Any], Iterator[bytes]]] = {}
        self.seen: list[rpc.Call] = []

    def service(self, details: Any) -> Any:
        for call in (rpc.RANGE, rpc.TXN, rpc.AUTHENTICATE):
            if call.path == details.method:
                return grpc.unary_unary_rpc_method_handler(partial(self._next, call))
        for call, script in self.streams.items():
            if call.path == details.method:
                return grpc.stream_stream_rpc_method_handler(script)
        return None

    def _next(self, call: rpc.Call, request: bytes, context: Any) -> bytes:
        self.seen.append(call)
        if not self.unary.get(call):
            context.abort(Code.INVALID_ARGUMENT, "the script has no more answers")
        return self.unary[call].pop(0)(request, context)


def abort(code: Any, details: str) -> Answer:
    """An answer that is an error."""
    return lambda _, context: context.abort(code, details)


def say(message: Any) -> Answer:
    """An answer."""
    return lambda *_: message.SerializeToString()


@pytest.fixture
def script() -> Script:
    """The script of this test, empty."""
    return Script()


@pytest.fixture
def endpoint(script: Script, tmp_path: Path) -> Iterator[str]:
    """Where the script is served."""
    server = grpc.server(ThreadPoolExecutor(8), handlers=(script,))
    url = f"unix://{tmp_path}/s"
    server.add_insecure_port(f"unix:{tmp_path}/s")
    server.start()
    yield url
    server.stop(None).wait()


@pytest.fixture
def store(endpoint: str) -> Iterator[EtcdStore]:
    """A store on the scripted server, without a user."""
    with EtcdStore(EtcdSettings((endpoint,), attempt_timeout_s=0.5, timeout_s=1.0)) as opened:
        yield opened


LOST = [
    (Code.UNAVAILABLE, "Socket closed"),
    (Code.UNAVAILABLE, "etcdserver: request timed out, possibly due to previous leader failure"),
    (Code.UNAVAILABLE, "etcdserver: leader changed"),
    (Code.UNAVAILABLE, "etcdserver: server stopped"),
    (Code.UNKNOWN, "raft proposal dropped"),
    (Code.INTERNAL, "Received RST_STREAM with error code 2"),
    (Code.DEADLINE_EXCEEDED, "context deadline exceeded"),
    (Code.CANCELLED, "etcdserver: request canceled"),
]


@pytest.mark.parametrize(("code", "details"), LOST)
def test_a_lost_write_is_never_repeated(script: Script, store: EtcdStore, code: Any, details: str) -> None:
    """It may have happened: said so after one attempt."""
    script.unary[rpc.TXN] = [abort(code, details), say(_TXN(succeeded=True))]
    with pytest.raises(UnknownOutcome, match="may or may not"):
        store.txn([], [Put("/a", b"")])
    assert script.seen == [rpc.TXN]


@pytest.mark.parametrize(("code", "details"), LOST)
def test_a_lost_read_is_repeated(script: Script, store: EtcdStore, code: Any, details: str) -> None:
    """Reads change nothing; the confirming read is one."""
    script.unary[rpc.RANGE] = [abort(code, details), say(_RANGE())]
    script.unary[rpc.TXN] = [abort(code, details), say(_TXN(succeeded=True))]
    assert store.get("/a") is None
    assert store.txn([Compare("/a", present=True)]).succeeded
    assert script.seen == [rpc.RANGE] * 2 + [rpc.TXN] * 2


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (Code.UNAVAILABLE, "etcdserver: no leader"),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests"),
        (Code.UNAVAILABLE, "etcdserver: rpc not supported for learner"),
        (Code.FAILED_PRECONDITION, "etcdserver: rpc not supported for learner"),
    ],
)
def test_a_write_refused_before_it_was_proposed_is_repeated(
    script: Script, store: EtcdStore, code: Any, details: str
) -> None:
    """It cannot have happened; and when it never goes through, nothing happened."""
    script.unary[rpc.TXN] = [abort(code, details), say(_TXN(succeeded=True))]
    assert store.txn([], [Put("/a", b"")]).succeeded
    script.unary[rpc.TXN] = [abort(code, details)] * 100
    with pytest.raises(Unavailable, match=details):
        store.txn([], [Put("/a", b"")])


def test_confirming_reads_are_linearizable(script: Script, store: EtcdStore) -> None:
    """etcd serves a transaction without any operation from a member that may be behind: ours always has one."""
    requests: list[Any] = []

    def keep(request: bytes, _: Any) -> bytes:
        requests.append(rpc.TxnRequest.FromString(request))
        return _TXN(succeeded=True).SerializeToString()  # type: ignore[no-any-return]

    script.unary[rpc.TXN] = [keep]
    store.txn([Compare("/a", present=True)])
    assert [op.request_range.serializable for op in requests[0].failure] == [False]


def test_a_list_compacted_between_pages_starts_over(script: Script, store: EtcdStore) -> None:
    """Half of the old revision is never joined with half of the new one; when it never ends, that is said."""

    def page(revision: int, *keys: bytes, more: bool = False) -> Answer:
        answer = _RANGE(more=more)
        answer.header.revision = revision
        for key in keys:
            answer.kvs.add(key=key)
        return say(answer)

    gone = abort(Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
    first = page(5, b"/a/1", more=True)
    script.unary[rpc.RANGE] = [first, gone, page(9, b"/a/2", more=True), page(11, b"/a/3")]
    listing = store.list("/a/")
    assert ([item.key for item in listing.items], listing.revision) == (["/a/2", "/a/3"], 9)
    script.unary[rpc.RANGE] = [first, gone] * 100
    with pytest.raises(Compacted):
        store.list("/a/")


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (Code.UNAUTHENTICATED, "etcdserver: invalid auth token"),
        (Code.INVALID_ARGUMENT, "etcdserver: revision of auth store is old"),
        (Code.INVALID_ARGUMENT, "etcdserver: user name is empty"),
    ],
)
def test_a_refused_token_is_replaced_once(script: Script, endpoint: str, code: Any, details: str) -> None:
    """A write too may be repeated after it; a second refusal is final."""
    with EtcdStore(EtcdSettings((endpoint,), user="u", password="p")) as store:
        script.unary[rpc.AUTHENTICATE] = [say(_LOGIN(token="t1")), say(_LOGIN(token="t2")), say(_LOGIN(token="t3"))]
        script.unary[rpc.TXN] = [abort(code, details), say(_TXN(succeeded=True)), *[abort(code, details)] * 2]
        assert store.txn([], [Put("/a", b"")]).succeeded
        with pytest.raises(Denied, match="password"):
            store.txn([], [Put("/a", b"")])
    assert script.seen.count(rpc.AUTHENTICATE) == 3


def test_many_threads_log_in_once(script: Script, endpoint: str) -> None:
    """Log-in costs the server 60 ms of bcrypt."""
    script.unary[rpc.AUTHENTICATE] = [say(_LOGIN(token="t1"))]
    script.unary[rpc.RANGE] = [say(_RANGE())] * 8
    with (
        EtcdStore(EtcdSettings((endpoint,), user="u", password="p")) as store,
        ThreadPoolExecutor(8) as threads,
    ):
        assert list(threads.map(store.get, ["/a"] * 8)) == [None] * 8
    assert script.seen.count(rpc.AUTHENTICATE) == 1


def watch_answer(watch_id: int = 0, revision: int = 0, **fields: Any) -> bytes:
    answer = _WATCH(watch_id=watch_id, **fields)
    answer.header.revision = revision
    return answer.SerializeToString()  # type: ignore[no-any-return]


def event_answer(header: int, *revisions: int) -> bytes:
    answer = _WATCH()
    answer.header.revision = header
    for revision in revisions:
        pair = answer.events.add().kv
        pair.key, pair.mod_revision = b"/a/1", revision
    return answer.SerializeToString()  # type: ignore[no-any-return]


def test_a_watch_resumes_from_its_last_event(script: Script, store: EtcdStore) -> None:
    """Never from a header, which runs ahead; only a progress notice for this watch moves it without an event."""
    starts: queue.SimpleQueue[int] = queue.SimpleQueue()
    lives = iter(
        [
            [watch_answer(created=True, revision=900), event_answer(900, 3, 4)],
            [watch_answer(created=True, revision=900), watch_answer(-1, 900)],  # a progress request's answer
            [watch_answer(created=True, revision=900), watch_answer(0, 7)],  # a progress notice
            [watch_answer(created=True, revision=900), event_answer(900, 12)],
        ]
    )

    def serve(requests: Iterator[bytes], _: Any) -> Iterator[bytes]:
        starts.put(rpc.WatchRequest.FromString(next(requests)).create_request.start_revision)
        yield from next(lives)

    script.streams[rpc.WATCH] = serve
    moved = []
    for batch in store.watch("/a/", 2, threading.Event()):
        moved.append((batch.revision, len(batch.events)))
        if batch.revision >= 12:
            break
    assert moved == [(4, 2), (7, 0), (12, 1)]
    assert [starts.get() for _ in range(4)] == [3, 5, 5, 8]


def test_a_watch_that_is_cancelled_without_a_reason_is_made_anew(script: Script, store: EtcdStore) -> None:
    """Only `created` and `canceled` together are a refusal."""
    lives = iter([[watch_answer(created=True), watch_answer(canceled=True)], [event_answer(5, 5)]])
    script.streams[rpc.WATCH] = lambda *_: iter(next(lives))
    assert next(store.watch("/a/", 4, threading.Event())).revision == 5
    script.streams[rpc.WATCH] = lambda *_: iter([watch_answer(-1, created=True, canceled=True)])
    with pytest.raises(Denied, match="cancelled without a reason"):
        next(store.watch("/a/", 4, threading.Event()))


def test_a_renewal_whose_answer_is_late_is_made_again(script: Script, store: EtcdStore) -> None:
    """In a quarter of the lease's time, and the late answer is not taken for the next one's."""
    late = threading.Event()
    opened: list[int] = []

    def serve(requests: Iterator[bytes], _: Any) -> Iterator[bytes]:
        next(requests)
        opened.append(1)
        if len(opened) == 1:
            late.wait(10)
            yield _KEEP(TTL=99).SerializeToString()
        else:
            yield _KEEP(TTL=7).SerializeToString()

    script.streams[rpc.LEASE_KEEP_ALIVE] = serve
    assert store.keep_lease(1) == 7
    late.set()
    assert store.keep_lease(1) == 7
    assert len(opened) == 3
