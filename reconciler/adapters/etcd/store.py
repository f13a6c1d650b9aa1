"""`EtcdStore`: the `Store` port on etcd 3.4 and later.

All reads are linearizable. etcd answers a transaction *without any operation* from whichever member was asked, however far
behind; the failure branch, which reads the compared keys, is what makes the confirming read (an empty `then`) a true one.

Messages are built field by field: half the time of keyword arguments, and this path bounds how many attachments a
controller serves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from reconciler.adapters.etcd import rpc
from reconciler.adapters.etcd.calls import Caller
from reconciler.adapters.etcd.faults import LeaseGone
from reconciler.adapters.etcd.settings import EtcdSettings
from reconciler.adapters.etcd.watching import Watch, history, item
from reconciler.runtime.ports import (
    Batch,
    Compacted,
    Compare,
    Event,
    Item,
    Listing,
    Op,
    PortError,
    Put,
    Stop,
    TooLarge,
    TxnResult,
    Unsupported,
)

_PAGE = 1000
"""Keys in one answer of a list."""
_OPERATIONS_MAX = 128
"""etcd's default limit (`--max-txn-ops`), for the compares and for the operations."""
_LISTS_MAX = 5
"""How often a list starts over because its revision was compacted between two pages."""
_OLDEST = (3, 4)
_FIXED = {(3, 5): 33, (3, 6): 14, (3, 7): 1}
"""First patch releases in which one node's user cannot read or write another's keys."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The member that answered. `warning` is None, or what its operator should know, fit to be logged once."""

    url: str
    version: str
    size_bytes: int
    warning: str | None


class EtcdStore:
    """One etcd cluster; see `reconciler.runtime.ports.Store` for the contract. Threads share it; forked children must not."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Opens no connection yet, so that a daemon starts while etcd is away.

        Raises:
            ValueError: a certificate file cannot be read.
            RuntimeError: `threading` was patched in this process.
        """
        self._caller = Caller(settings)
        self._ttl_s: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all calls, watches and streams. Leases run out by themselves."""
        self._caller.close()

    def get(self, key: str) -> Item | None:
        pairs = self._caller.unary(rpc.RANGE, rpc.RangeRequest(key=_bytes(key))).kvs
        return item(pairs[0]) if pairs else None

    def past(self, key: str, revision: int) -> Item | None:
        pairs = self._caller.unary(rpc.RANGE, rpc.RangeRequest(key=_bytes(key), revision=revision)).kvs
        return item(pairs[0]) if pairs else None

    def history(self, key: str, since: int) -> Sequence[Event]:
        now = self._caller.unary(rpc.RANGE, rpc.RangeRequest(key=_bytes(key), keys_only=True)).header.revision
        return history(self._caller, _bytes(key), since, now)

    def list(self, prefix: str) -> Listing:
        for _ in range(_LISTS_MAX - 1):
            try:
                return self._list(prefix)
            except Compacted:
                continue  # between two pages: begin again, at the present revision
        return self._list(prefix)

    def _list(self, prefix: str) -> Listing:
        start, end = _range(prefix)
        revision = 0  # the first page's: the present one
        cluster = ""
        items: list[Item] = []
        while True:
            request = rpc.RangeRequest(key=start, range_end=end, limit=_PAGE, revision=revision)
            answer = self._caller.unary(rpc.RANGE, request)
            revision = revision or answer.header.revision
            cluster = cluster or _cluster(answer)
            pairs = answer.kvs
            items.extend(map(item, pairs))
            if not answer.more:
                return Listing(tuple(items), revision, cluster)
            start = pairs[-1].key + b"\0"

    def txn(self, compares: Sequence[Compare], then: Sequence[Op] = ()) -> TxnResult:
        if len(compares) > _OPERATIONS_MAX or len(then) > _OPERATIONS_MAX:
            raise TooLarge(
                f"a transaction of {len(compares)} compares and {len(then)} operations; etcd takes {_OPERATIONS_MAX} of each"
            )
        if not compares and not then:
            raise ValueError("a transaction without compares and operations confirms nothing")
        request = rpc.TxnRequest()
        for compare in compares:
            _compare(request.compare.add(), compare)
        for key in dict.fromkeys([compare.key for compare in compares]):
            request.failure.add().request_range.key = _bytes(key)
        for op in then:
            if isinstance(op, Put):
                put = request.success.add().request_put
                put.key = _bytes(op.key)
                put.value = op.value
                put.lease = op.lease
            else:
                request.success.add().request_delete_range.key = _bytes(op.key)
        answer = self._caller.unary(rpc.TXN, request, write=bool(then))
        cluster = _cluster(answer)
        if answer.succeeded:
            return TxnResult(True, answer.header.revision, cluster=cluster)
        found = [item(pair) for response in answer.responses for pair in response.response_range.kvs]
        return TxnResult(False, answer.header.revision, {known.key: known for known in found}, cluster)

    def watch(self, prefix: str, after_revision: int, stop: Stop) -> Iterator[Batch]:
        key, end = _range(prefix)
        return Watch(self._caller, key, end, after_revision, stop).batches()

    def grant_lease(self, ttl_s: int) -> int:
        """A new lease's id. Repeated freely: a lease whose id was lost on the way only runs out."""
        answer = self._caller.unary(rpc.LEASE_GRANT, rpc.LeaseGrantRequest(TTL=ttl_s))
        self._ttl_s[answer.ID] = answer.TTL
        return int(answer.ID)

    def keep_lease(self, lease: int) -> int:
        """Renew. An endpoint gets a quarter of the lease's time to answer, so that a hung one leaves time to ask another
        before a caller that stops at two thirds of it has to; no attempt is made beyond the lease's time."""
        settings = self._caller.settings
        ttl_s = self._ttl_s.get(lease, settings.timeout_s)
        answer = self._caller.unary(
            rpc.LEASE_KEEP_ALIVE,
            rpc.LeaseKeepAliveRequest(ID=lease),
            attempt_s=min(settings.attempt_timeout_s, ttl_s / 4),
            timeout_s=min(settings.timeout_s, ttl_s),
        )
        return int(answer.TTL)

    def revoke_lease(self, lease: int) -> None:
        """End the lease and delete its keys. That it is gone already is success."""
        self._ttl_s.pop(lease, None)
        with suppress(LeaseGone):
            self._caller.unary(rpc.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=lease))

    @property
    def endpoint(self) -> str:
        """The one that the next call goes to: of one that has just been answered, as a rule, who answered."""
        return self._caller.url

    def status(self) -> ServerStatus:
        """Ask the current endpoint for its version.

        Raises:
            Denied: from 3.5.30 on a plain user may not ask; ask as a user with the root role.
            Unsupported: the server is older than 3.4.
        """
        answer = self._caller.unary(rpc.STATUS, rpc.StatusRequest())
        return ServerStatus(self._caller.url, answer.version, answer.dbSize, judge_version(answer.version))

    def is_full(self) -> bool:
        """Whether etcd takes no more writes for want of space. False also where this user may not ask."""
        try:
            alarms = self._caller.unary(rpc.ALARM, rpc.AlarmRequest()).alarms
        except PortError:
            return False
        return any(each.alarm == rpc.NOSPACE for each in alarms)


def judge_version(version: str) -> str | None:
    """What to know about a server's version; None when nothing.

    Sources: CVE-2026-33343, CVE-2026-33413 and GHSA-xg4h-6gfc-h4m8; reads seen on 3.4.23, 3.5.16 and 3.5.30, writes on the
    first two.

    Raises:
        Unsupported: older than 3.4.
    """
    try:
        major, minor, patch = (int(part) for part in version.partition("-")[0].split(".")[:3])
    except ValueError:
        return f"etcd's version {version!r} is not understood; 3.4 or later is needed"
    if (major, minor) < _OLDEST:
        raise Unsupported(f"etcd {version} is too old: 3.4 or later is needed, 3.5.33 or later recommended")
    newest = max(_FIXED)
    if (major, minor) > newest or patch >= _FIXED.get((major, minor), patch + 1):
        return None
    fixed = ", ".join(f"{a}.{b}.{c}" for (a, b), c in sorted(_FIXED.items()))
    return (
        f"etcd {version} lets one user read other users' keys in spite of its roles, and in older releases write them "
        f"(CVE-2026-33343, CVE-2026-33413, GHSA-xg4h-6gfc-h4m8); fixed in {fixed}. Upgrade when several nodes share it"
    )


def _compare(message: Any, compare: Compare) -> None:
    """Fill in one compare. Its result stays EQUAL and its target VERSION (the zeros) where nothing else is said."""
    message.key = _bytes(compare.key)
    if (compare.mod_revision is not None) + (compare.create_revision is not None) + compare.present != 1:
        raise ValueError(f"{compare} must say exactly one of mod_revision, create_revision and present")
    if compare.mod_revision is not None:
        message.target = rpc.MOD
        message.mod_revision = compare.mod_revision
    elif compare.create_revision is not None:
        message.target = rpc.CREATE
        message.create_revision = compare.create_revision
    else:
        message.result = rpc.GREATER
        message.version = 0


def _range(prefix: str) -> tuple[bytes, bytes]:
    """First key and end of everything under a prefix; of one key, where the prefix does not end in a slash."""
    key = _bytes(prefix)
    return (key, key[:-1] + b"0") if prefix.endswith("/") else (key, b"")


def _cluster(answer: Any) -> str:
    return f"{answer.header.cluster_id:x}"


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
