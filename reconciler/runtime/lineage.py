"""Whether the store is still the one that it was: the same cluster, and never earlier than it was known to be (A57).

A store that was restored from a backup answers like any other, and what it says was once true. But grants of the meantime are
forgotten while devices of theirs live, and epochs may be given out a second time. So an earlier state than one seen before, in
this life of the daemon or in one before it, ends everything: `KnownStore` refuses every call from then on, leases run out,
leaders stop, and no effect passes its confirmation. Only a person can accept the store as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from reconciler.runtime.ports import (
    Batch,
    Clock,
    Compare,
    Denied,
    Event,
    Item,
    Listing,
    NoSpace,
    Op,
    Replaced,
    Stop,
    Store,
    StoreMark,
    StoreMemory,
    TxnResult,
)

ASKS_S = 600.0
"""So long after a person accepted another store everything that it does not know of is asked about: time to look at it all."""


class KnownStore:
    """A store under watch. The same contract; besides, every call raises Replaced once the store is not the one it was.

    Args:
        store: the store itself.
        memory: what outlives the process; None: nothing does.
        clock: for the time since the start.
        replaced: called once, with the sentence for a person.
        place: the endpoint that is spoken to now; empty where there is none to name.
    """

    def __init__(
        self,
        store: Store,
        memory: StoreMemory | None,
        clock: Clock,
        replaced: Callable[[str], None],
        place: Callable[[], str] = str,
    ) -> None:
        self._store = store
        self._memory = memory
        self._clock = clock
        self._heard_at: float | None = None
        self._replaced = replaced
        self._place = place
        self._saved = memory.load() if memory is not None else None
        self._mark = self._saved or StoreMark()
        self.fault = ""
        """Why nothing is done any more."""
        self.refusal = ""
        """What the store says to whatever we write: no rights, no space. It ends with the first write that passes."""

    @property
    def newly_accepted(self) -> bool:
        """A person accepted another store a little while ago: what it does not know of is no proof of anything.

        Counted from its first answer, so that a store that comes later is not trusted sooner."""
        return self._mark.accepted and (self._heard_at is None or self._clock.now() - self._heard_at < ASKS_S)

    @property
    def revision(self) -> int:
        """The highest that was ever seen."""
        return self._mark.revision

    def save(self) -> None:
        """Make what is known durable, if it is news."""
        mark = self._mark._replace(accepted=self.newly_accepted)
        if self._memory is not None and mark != self._saved and not self.fault:
            self._memory.save(mark)
            self._saved = mark

    # --- the store

    def get(self, key: str) -> Item | None:
        self._refuse()
        return self._store.get(key)

    def past(self, key: str, revision: int) -> Item | None:
        self._refuse()
        return self._store.past(key, revision)

    def history(self, key: str, since: int) -> Sequence[Event]:
        self._refuse()
        return self._store.history(key, since)

    def list(self, prefix: str) -> Listing:
        self._refuse()
        before = self._mark
        listing = self._store.list(prefix)
        self._judge(before, listing.revision, listing.cluster)
        return listing

    def txn(self, compares: Sequence[Compare], then: Sequence[Op] = ()) -> TxnResult:
        self._refuse()
        before = self._mark
        try:
            result = self._store.txn(compares, then)
        except (Denied, NoSpace) as error:
            self.refusal = str(error)
            raise
        if then:
            self.refusal = ""
        self._judge(before, result.revision, result.cluster)
        return result

    def watch(self, prefix: str, after_revision: int, stop: Stop) -> Iterator[Batch]:
        self._refuse()
        for batch in self._store.watch(prefix, after_revision, stop):
            self._refuse()
            self._note(batch.revision, "")
            yield batch

    def grant_lease(self, ttl_s: int) -> int:
        self._refuse()
        return self._store.grant_lease(ttl_s)

    def keep_lease(self, lease: int) -> int:
        self._refuse()
        return self._store.keep_lease(lease)

    def revoke_lease(self, lease: int) -> None:
        self._refuse()
        self._store.revoke_lease(lease)

    # --- what is known

    def _refuse(self) -> None:
        if self.fault:
            raise Replaced(self.fault)

    def _judge(self, before: StoreMark, revision: int, cluster: str) -> None:
        """A linearizable answer can't be older than what was known before the question was sent."""
        if before.cluster and cluster and cluster != before.cluster:
            self._end(
                f"etcd{self._at()} is another cluster ({cluster}) than the one that is known here ({before.cluster})"
            )
        if revision < before.revision:
            self._end(f"etcd{self._at()} went back in time: it is at revision {revision}, and was at {before.revision}")
        if self._heard_at is None:
            self._heard_at = self._clock.now()
        self._note(revision, cluster)

    def _note(self, revision: int, cluster: str) -> None:
        mark = self._mark
        if revision > mark.revision or (cluster and cluster != mark.cluster):
            self._mark = mark._replace(cluster=cluster or mark.cluster, revision=max(revision, mark.revision))

    def _at(self) -> str:
        return f" at {place}" if (place := self._place()) else ""

    def _end(self, what: str) -> None:
        first = not self.fault
        self.fault = (
            f"{what}. Was it restored from a backup? Nothing more is done until a person accepts it: see Accidents in "
            f"docs/OPERATING.md"
        )
        if first:
            self._replaced(self.fault)
        self._refuse()
