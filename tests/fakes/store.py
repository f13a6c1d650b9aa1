"""A fake etcd, and the `Store` port on it: what etcd does that Brickwork relies on, and the ways in which it fails.

`FakeEtcd` is the server: revisions, history and compaction, transactions, leases on the clock's time. Any number of
clients share it; each `FakeStore` is one process' connection, with faults of its own. `etcd.put` and `etcd.delete` are a
person with etcdctl.

It passes the same contract suite as the real one. Under the virtual clock every call gives way to other tasks, takes
`latency_s`, and asks `fault` what is to go wrong with it.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeVar

from reconciler.runtime.ports import (
    Batch,
    Clock,
    Compacted,
    Compare,
    Delete,
    Denied,
    Event,
    Item,
    Listing,
    NoSpace,
    Op,
    PortError,
    Put,
    Retryable,
    Signal,
    Stop,
    Terminal,
    TooLarge,
    TxnResult,
    Unavailable,
    UnknownOutcome,
)

TICK_S = 2.0
"""A watch to which nothing happens says so this often."""
SILENCE_S = 10.0
"""A watch that hears nothing for so long raises Unavailable."""
TIMEOUT_S = 5.0
"""A call that gets no answer takes so long."""
KEEP_TIMEOUT_S = 2.0
"""The same for a renewal."""
VALUE_MAX = 3 * 2**19
OPS_MAX = 128
LEASE_MIN_S = 2

T = TypeVar("T")


class Fault(Enum):
    """What may go wrong with one call."""

    UNAVAILABLE = auto()
    """It is refused at once, and nothing happens."""
    LOST_REQUEST = auto()
    """It never arrives; for a write, nobody can know that."""
    LOST_REPLY = auto()
    """It is done, and nobody hears of it."""
    LATE = auto()
    """It is given up, and done a second later."""


class LeaseGone(Retryable):
    """The lease is not there (any more)."""


@dataclass
class _Lease:
    ttl_s: int
    expires: float
    keys: dict[str, None] = field(default_factory=dict)


def covers(prefix: str, key: str) -> bool:
    """Whether the key is under the prefix, as the port means it."""
    return key.startswith(prefix) if prefix.endswith("/") else key == prefix


class FakeEtcd:
    """The server."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.revision = 1
        self.cluster = "c1"
        self.compacted = 0
        self.no_space = False
        self.writes = 0
        """Transactions that raised the revision."""
        self.observe: Callable[[str, Sequence[Compare], Sequence[Event]], None] = lambda *_: None
        """Told of each transaction that held when it is done: by whom (nobody's name: a person, ``"lease"``: an expiry), on what
        facts. Without events: a confirmation."""
        self._items: dict[str, Item] = {}
        self._history: list[Event] = []
        self._leases: dict[int, _Lease] = {}
        self._last_lease = 0x1000
        self._watchers: dict[int, tuple[str, Signal]] = {}
        self._watcher_ids = 0
        self._lock = threading.Lock()  # never waits under the virtual clock, so that a paused process can't hold it

    def client(self, clock: Clock | None = None, by: str = "") -> FakeStore:
        """A connection for a process with this clock, under a name that `observe` is told."""
        return FakeStore(self, clock or self.clock, by)

    # --- A person's hand, and disasters

    def put(self, key: str, value: bytes = b"{}") -> int:
        return self.txn((), (Put(key, value),)).revision

    def delete(self, key: str) -> int:
        return self.txn((), (Delete(key),)).revision

    def contents(self, prefix: str = "/") -> dict[str, bytes]:
        """What there is, without disturbing anybody."""
        self.expire()
        return {key: item.value for key, item in sorted(self._items.items()) if key.startswith(prefix)}

    def compact(self, revision: int | None = None) -> None:
        """Forget what was before this revision (default: the present one)."""
        with self._lock:
            self.compacted = revision if revision is not None else self.revision

    def backup(self) -> tuple[int, dict[str, Item]]:
        return self.revision, dict(self._items)

    def restore(self, backup: tuple[int, dict[str, Item]]) -> None:
        """Go back to the backup, revision and all. Open watches hear nothing of that."""
        with self._lock:
            self.revision, self._items = backup[0], dict(backup[1])
            self._history = [event for event in self._history if event.revision <= self.revision]

    # --- What clients do

    def get(self, key: str) -> Item | None:
        self.expire()
        return self._items.get(key)

    def past(self, key: str, revision: int) -> Item | None:
        """The key as it was at the revision. Raises Compacted."""
        self.expire()
        with self._lock:
            if revision < self.compacted:
                raise Compacted(f"revision {revision} is compacted away")
            before = self._history[: bisect_right(self._history, revision, key=lambda event: event.revision)]
            return next((event.item for event in reversed(before) if event.key == key), None)

    def listing(self, prefix: str) -> Listing:
        self.expire()
        with self._lock:
            keys = sorted(
                (key for key in self._items if covers(prefix, key)),
                key=lambda key: key.encode("utf-8", "surrogateescape"),
            )
            return Listing(tuple(self._items[key] for key in keys), self.revision, self.cluster)

    def txn(self, compares: Sequence[Compare], then: Sequence[Op], by: str = "") -> TxnResult:
        self.expire()
        with self._lock:
            if not all(self._holds(compare) for compare in compares):
                found = {key: self._items[key] for key in (c.key for c in compares) if key in self._items}
                return TxnResult(False, self.revision, found, self.cluster)
            self._check(then)
            events = self._write(then)
        self._publish(events, by, compares)
        return TxnResult(True, self.revision, cluster=self.cluster)

    def since(self, prefix: str, after: int) -> Batch:
        """What happened under the prefix after the revision. Raises Compacted."""
        self.expire()
        with self._lock:
            if after + 1 < self.compacted:
                raise Compacted(f"revision {after} is compacted away")
            start = bisect_right(self._history, after, key=lambda event: event.revision)
            events = tuple(event for event in self._history[start:] if covers(prefix, event.key))
            return Batch(max(after, self.revision), events)

    def grant(self, ttl_s: int) -> int:
        if self.no_space:
            raise NoSpace("the quota alarm is up")
        with self._lock:
            self._last_lease += 1
            ttl_s = max(ttl_s, LEASE_MIN_S)
            self._leases[self._last_lease] = _Lease(ttl_s, self.clock.now() + ttl_s)
            return self._last_lease

    def keep(self, lease: int) -> int:
        self.expire()
        if (held := self._leases.get(lease)) is None:
            return 0
        held.expires = self.clock.now() + held.ttl_s
        return held.ttl_s

    def revoke(self, *leases: int) -> None:
        with self._lock:
            gone = [held for held in (self._leases.pop(lease, None) for lease in leases) if held]
            events = [event for held in gone for event in self._write([Delete(key) for key in held.keys])]
        self._publish(events, "lease")

    def leases(self) -> tuple[int, ...]:
        return tuple(self._leases)

    def expire(self) -> None:
        """Leases whose time is over go, in the order of their ends."""
        now = self.clock.now()
        over = sorted((held.expires, lease) for lease, held in self._leases.items() if held.expires <= now)
        for _, lease in over:
            self.revoke(lease)

    def next_expiry(self) -> float:
        return min((held.expires for held in self._leases.values()), default=float("inf"))

    def add_watcher(self, prefix: str, signal: Signal) -> int:
        self._watcher_ids += 1
        self._watchers[self._watcher_ids] = (prefix, signal)
        return self._watcher_ids

    def remove_watcher(self, number: int) -> None:
        self._watchers.pop(number, None)

    # --- Inside, with the lock held, but for `_publish`

    def _holds(self, compare: Compare) -> bool:
        item = self._items.get(compare.key)
        if compare.present:
            return item is not None
        if compare.create_revision is not None:
            return compare.create_revision == (item.create_revision if item else 0)
        return compare.mod_revision == (item.mod_revision if item else 0)

    def _check(self, then: Sequence[Op]) -> None:
        """Refuse what etcd refuses, before anything is written."""
        puts = [op for op in then if isinstance(op, Put)]
        if sum(len(op.value) for op in puts) > VALUE_MAX:
            raise TooLarge("etcd takes 1.5 MiB by default")
        if len({op.key for op in then}) < len(then):
            raise Terminal("duplicate key given in a transaction")
        if puts and self.no_space:
            raise NoSpace("the quota alarm is up")
        if any(op.lease and op.lease not in self._leases for op in puts):
            raise LeaseGone("lease not found")

    def _write(self, then: Sequence[Op]) -> list[Event]:
        revision = self.revision + 1
        events: list[Event] = []
        for op in then:
            known = self._items.get(op.key)
            if isinstance(op, Delete):
                item = None
                if self._items.pop(op.key, None) is None:
                    continue
            else:
                item = Item(op.key, op.value, revision, known.create_revision if known else revision, op.lease)
                self._items[op.key] = item
            if known is not None and known.lease in self._leases:
                self._leases[known.lease].keys.pop(op.key, None)
            if item is not None and item.lease:
                self._leases[item.lease].keys[op.key] = None
            events.append(Event(op.key, item, revision))
        if events:
            self.revision = revision
            self.writes += 1
            self._history += events
        return events

    def _publish(self, events: Sequence[Event], by: str, compares: Sequence[Compare] = ()) -> None:
        self.observe(by, compares, events)
        for prefix, signal in list(self._watchers.values()):
            if any(covers(prefix, event.key) for event in events):
                signal.set()


class FakeStore:
    """One client's connection. The faults are plain attributes, to be set at any time.

    Args:
        etcd: the server.
        clock: the clock of the process that uses this connection.
    """

    def __init__(self, etcd: FakeEtcd, clock: Clock, by: str = "") -> None:
        self.etcd = etcd
        self.by = by
        self.latency_s = 0.0
        """What a call takes, each way."""
        self.down = False
        """Nothing goes through."""
        self.silent = False
        """Watches hear nothing; calls work."""
        self.frozen = False
        """Calls get no answer and watches hear nothing, as when etcd was stopped with SIGSTOP."""
        self.denied: tuple[str, ...] = ()
        """Prefixes that this client's user may not touch."""
        self.faults: deque[Fault | None] = deque()
        """What goes wrong with the next writes, one after the other."""
        self.fault: Callable[[str], Fault | None] = lambda _: None
        """Asked at each call with its name (``"txn"``, ``"list"`` …) what goes wrong with it."""
        self.fault_of: Callable[..., Fault | None] = lambda *_: None
        """The same for transactions, with their compares and operations; it may change the world first."""
        self.watch_ends: deque[Exception | None] = deque()
        """What the next watches end with, once they are up; None: without a word."""
        self.listings: deque[Listing] = deque()
        """What the next lists answer instead of the truth."""
        self.deliver: Callable[[Batch], Sequence[Batch]] = lambda batch: (batch,)
        """What a watch makes of its next batch: drops, doubles."""
        self.calls: dict[str, int] = {}
        """How often each method was called."""
        self._clock = clock

    def get(self, key: str) -> Item | None:
        return self._call("get", lambda: self.etcd.get(key), keys=(key,))

    def past(self, key: str, revision: int) -> Item | None:
        return self._call("past", lambda: self.etcd.past(key, revision), keys=(key,))

    def history(self, key: str, since: int) -> Sequence[Event]:
        """As the real one, which can't tell that nothing happened."""
        events = self._call("history", lambda: self.etcd.since(key, since - 1).events, keys=(key,))
        if not events:
            self._clock.sleep(TIMEOUT_S)
            raise Unavailable(f"nothing is heard of {key} since revision {since}")
        return events

    def list(self, prefix: str) -> Listing:
        return self._call("list", lambda: self._listing(prefix), keys=(prefix,))

    def txn(self, compares: Sequence[Compare], then: Sequence[Op] = ()) -> TxnResult:
        if len(compares) > OPS_MAX or len(then) > OPS_MAX:
            raise TooLarge(f"etcd takes {OPS_MAX} operations")
        if not compares and not then:
            raise ValueError("a transaction without compares and operations confirms nothing")
        for compare in compares:
            if (compare.mod_revision is not None) + (compare.create_revision is not None) + compare.present != 1:
                raise ValueError(f"{compare} must say exactly one of mod_revision, create_revision and present")
        keys = [each.key for each in (*compares, *then)]
        return self._call("txn", lambda: self.etcd.txn(compares, then, self.by), keys, (compares, then))

    def grant_lease(self, ttl_s: int) -> int:
        return self._call("grant", lambda: self.etcd.grant(ttl_s))

    def keep_lease(self, lease: int) -> int:
        return self._call("keep", lambda: self.etcd.keep(lease))

    def revoke_lease(self, lease: int) -> None:
        self._call("revoke", lambda: self.etcd.revoke(lease))

    def watch(self, prefix: str, after_revision: int, stop: Stop) -> Iterator[Batch]:
        """As the real one: ticks while nothing happens, and gives up after a long silence."""
        self._call("watch", lambda: None, keys=(prefix,))
        news = self._clock.signal()
        watcher = self.etcd.add_watcher(prefix, news)
        heard, position = self._clock.now(), after_revision
        try:
            while not stop.is_set():
                news.clear()
                self._refuse((prefix,))
                deaf = self.silent or self.frozen
                if not deaf:
                    heard = self._clock.now()
                    batch = self.etcd.since(prefix, position)
                    position = batch.revision
                    if batch.events:
                        yield from self.deliver(batch)
                        continue
                elif self._clock.now() - heard >= SILENCE_S:
                    raise Unavailable(f"nothing heard for {SILENCE_S} s")
                if self.watch_ends:
                    ends_with = self.watch_ends.popleft()
                    if ends_with is None:
                        return
                    raise ends_with
                expiry_s = TICK_S if deaf else max(0.0, self.etcd.next_expiry() - self._clock.now())
                if not news.wait(min(TICK_S, expiry_s)) and expiry_s >= TICK_S:
                    yield Batch(position)
        finally:
            self.etcd.remove_watcher(watcher)

    def _listing(self, prefix: str) -> Listing:
        return self.listings.popleft() if self.listings else self.etcd.listing(prefix)

    def _refuse(self, keys: Sequence[str]) -> None:
        if self.down:
            raise Unavailable("etcd is down")
        if any(covers(prefix, key) for prefix in self.denied for key in keys):
            raise Denied(f"permission denied: {keys}")

    def _call(self, name: str, act: Callable[[], T], keys: Sequence[str] = (), txn: tuple[Any, Any] = ((), ())) -> T:
        self.calls[name] = self.calls.get(name, 0) + 1
        self._clock.sleep(self.latency_s)
        self._refuse(keys)
        write = bool(txn[1])
        fault = (self.fault_of(*txn) if name == "txn" else None) or self.fault(name)
        fault = fault or (self.faults.popleft() if write and self.faults else None)
        fault = Fault.LOST_REQUEST if self.frozen else fault
        if fault is None:
            result = act()
            self._clock.sleep(self.latency_s)
            return result
        if fault is Fault.UNAVAILABLE:
            raise Unavailable(f"{name}: could not be sent")
        if fault is Fault.LOST_REPLY:
            act()
        if fault is Fault.LATE:
            self.etcd.clock.spawn(f"late {name}", lambda: self._land(act))
        self._clock.sleep(KEEP_TIMEOUT_S if name == "keep" else TIMEOUT_S)
        raise UnknownOutcome(f"{name}: no answer") if write else Unavailable(f"{name}: no answer")

    def _land(self, act: Callable[[], object]) -> None:
        self.etcd.clock.sleep(TIMEOUT_S + 1)
        with suppress(PortError):
            act()
