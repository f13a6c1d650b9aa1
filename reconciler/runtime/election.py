"""One leader per key, and no two at once for as long as clocks run alike.

A candidate creates the key with its lease, on condition that it is absent; the key's `create_revision` then names this
one term, and every write of the leader compares it (`guard`). That keeps writes apart. It does not keep apart the
calls that a leader has in flight to a storage array, so two waits do:

* a leader counts its lease as lost at two thirds of the TTL (`lease`), and what it does *first* is to call `on_lost`,
  which kills the children that make those calls; should this process be stopped just then (SIGSTOP, a debugger), the
  children's own keepers kill them at the same moment (`Backend.permit`, fed from the lease session);
* a successor waits for one full TTL after it created the key, which is after it saw the old one go, before it
  considers itself leader.

Nobody need wait after a leader that left in order. That can't be told from an absent key, nor from what one remembers
of its last value: somebody may have led in between. So a leader that resigns, with its children dead, deletes the key
and puts the *mark*, `<key>/resigned`, in one transaction, and whoever creates the key deletes the mark in the same
transaction, or requires that there is none. A mark therefore says that the last term, whose ever, ended in order, also
to a process that was not there to see it: a restart with `resign` costs no wait.

Candidates wait for the cache to say that the key changed; somebody must run a reflector over the prefix that holds key
and mark. A key without a lease was put by hand: it ends the term, and nobody leads until it is deleted by hand.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.runtime.backoff import Backoff
from reconciler.runtime.cache import Cache
from reconciler.runtime.lease import LeaseSession
from reconciler.runtime.ports import (
    Clock,
    Compare,
    Delete,
    Item,
    Op,
    PortError,
    Put,
    Store,
    Task,
    Terminal,
    UnknownOutcome,
)


@dataclass(frozen=True, slots=True)
class Term:
    """One life of the leader key, ours. `orderly`: the term before it ended with a resignation."""

    lease: int
    create_revision: int
    orderly: bool


class Election:
    """A candidate for one key, in a task of its own.

    Args:
        store: where the key is.
        cache: what tells that it changed.
        session: the lease. Its TTL must be the same for all candidates.
        key: the leader key.
        identity: who we are, unique among all candidates and lives; shown in the key.
        host: where we are; shown in the key.
        clock: time and the task.
        rng: jitter of tries after a failure.
        on_near: called when we will lead after the wait for a predecessor, if the key is not lost over that. It must not wait.
        on_elected: called when we lead. It must not wait, or the end of the term would go unseen.
        on_lost: called first when we lead no more, for whatever reason; returns when what we do as a leader has ended
            for good. While it runs nothing else happens here. If it raises, the task ends with that, and the key is
            left to run out.
        report: called with every error of the store, and with Terminal where a key put by hand is in the way; it must
            not wait.
    """

    def __init__(
        self,
        store: Store,
        cache: Cache,
        session: LeaseSession,
        key: str,
        identity: str,
        clock: Clock,
        rng: random.Random,
        *,
        host: str = "",
        on_near: Callable[[], None] = lambda: None,
        on_elected: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
        report: Callable[[PortError], None] | None = None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._session = session
        self._identity = identity
        self._host = host
        self._clock = clock
        self._on_near = on_near
        self._on_elected = on_elected
        self._on_lost = on_lost
        self._report = report
        self._backoff = Backoff(rng)
        self._wake = clock.signal()
        self._resigning = clock.signal()
        self._aside_until_s = 0.0
        self._task: Task | None = None
        self._term: Term | None = None
        self.key = key
        self.mark = f"{key}/resigned"
        self.elected = clock.signal()
        """Set while we lead; cleared before `on_lost` is called."""
        session.subscribe(granted=lambda _: self._wake.set(), lost=self._wake.set)
        cache.subscribe(key, lambda _: self._wake.set())

    def start(self) -> None:
        """Campaign, and again after each loss, until `resign`."""
        self._task = self._clock.spawn(f"election {self.key}", self._run)

    def leading(self, margin_s: float = 0.0) -> bool:
        """Whether we lead, and will for at least so many seconds more if nobody deletes the key."""
        term = self._term
        return term is not None and self._session.lease == term.lease and self._session.alive(margin_s)

    @property
    def guard(self) -> Compare | None:
        """What every write and every confirmation of the leader has to compare; None while we do not lead."""
        term = self._term
        if term is None or self._session.lease != term.lease:
            return None
        return Compare(self.key, create_revision=term.create_revision)

    def resign(self, bound_s: float) -> bool:
        """Stop leading or campaigning: `on_lost` first, then give the key away. True when that was over in so many
        seconds. If the store can't be reached the key runs out with the lease, and the successor waits; so close the
        session afterwards."""
        self._resigning.set()
        self._wake.set()
        return self._task is None or self._task.join(bound_s)

    def step_aside(self, pause_s: float) -> None:
        """Give the key away, as `resign` does, and leave it to others for so long: we can't do what its leader has to. Returns at
        once; `on_lost` is called as ever."""
        self._aside_until_s = self._clock.now() + pause_s
        self._wake.set()

    def rejoin(self) -> None:
        """Campaign again before the pause is over."""
        self._aside_until_s = 0.0
        self._wake.set()

    @property
    def _aside_s(self) -> float:
        """Seconds until we campaign again; 0: we do."""
        return max(0.0, self._aside_until_s - self._clock.now())

    def _run(self) -> None:
        while not self._resigning.is_set():
            term = self._campaign()
            if term is None:
                return
            led = self._wait_for_predecessor(term)
            if led:
                self._lead(term)
            if self._resigning.is_set() or self._aside_s:
                self._give_away(term, orderly=led or term.orderly)

    # --- Candidate

    def _campaign(self) -> Term | None:
        """Wait until the key is ours. None when resigning."""
        while not self._resigning.is_set():
            self._wake.clear()
            lease = self._session.lease
            wait_s = self._aside_s or None
            if lease and not wait_s:
                try:
                    term = self._try(lease)
                    if term is not None:
                        return term
                except PortError as error:
                    self._tell(error)
                    wait_s = self._backoff.next_s()
            if not self._resigning.is_set():
                self._wake.wait(wait_s)
        return None

    def _try(self, lease: int) -> Term | None:
        """Create the key if it is absent. None if it is another's.

        A key with our own lease is ours, whatever the transaction's answer was: nobody else puts it with that lease.
        """
        held = self._cache.get(self.key)
        while held is None:
            mark = self._cache.get(self.mark)
            compares = [
                Compare(self.key, mod_revision=0),
                Compare(self.mark, mod_revision=mark.mod_revision if mark else 0),
            ]
            ops: list[Op] = [Put(self.key, self._value(), lease)]
            if mark:
                ops.append(Delete(self.mark))
            try:
                result = self._store.txn(compares, ops)
            except UnknownOutcome as error:
                self._tell(error)
                held = self._read_back()
                break
            self._cache.settle(compares, ops, result)
            self._backoff.reset()
            if result.succeeded:
                return Term(lease, result.revision, orderly=mark is not None)
            held = result.found.get(self.key)
        return self._own(held, lease)

    def _read_back(self) -> Item:
        held = self._store.get(self.key)
        if held is None:  # it may still come: then the cache will show it
            raise UnknownOutcome(f"{self.key} is not there yet")
        self._cache.observe(held)
        return held

    def _own(self, held: Item, lease: int) -> Term | None:
        if held.lease == 0:
            self._tell(Terminal(f"{self.key} was put by hand (it has no lease), so nobody leads; delete it to go on"))
        return Term(lease, held.create_revision, orderly=False) if held.lease == lease else None

    def _value(self) -> bytes:
        value = {
            "schema": 1,
            "identity": self._identity,
            "host": self._host,
            "since": self._clock.wall(),
            "ttl_s": self._session.ttl_s,
        }
        return json.dumps(value).encode()

    # --- Holder of the key

    def _holds(self, term: Term) -> bool:
        held = self._cache.get(self.key)
        return (
            self._session.lease == term.lease
            and held is not None
            and held.create_revision == term.create_revision
            and held.lease == term.lease
            and not self._resigning.is_set()
            and not self._aside_s
        )

    def _wait_for_predecessor(self, term: Term) -> bool:
        """Give the last leader the time in which its calls end. False if we lost the key over that."""
        until = self._clock.now() + (0 if term.orderly else self._session.ttl_s)
        self._on_near()
        while self._holds(term):
            self._wake.clear()
            left_s = until - self._clock.now()
            if left_s <= 0:
                return True
            if self._holds(term):
                self._wake.wait(left_s)
        return False

    def _lead(self, term: Term) -> None:
        """Lead until the term is over, then end what we do as a leader before anything else."""
        self._term = term
        self.elected.set()
        try:
            self._on_elected()
            while self._holds(term):
                self._wake.clear()
                if self._holds(term):
                    self._wake.wait()
        except Exception:
            self._step_down()
            raise
        self._step_down()

    def _step_down(self) -> None:
        self._term = None
        self.elected.clear()
        self._on_lost()

    def _give_away(self, term: Term, *, orderly: bool) -> None:
        """Delete the key, and put the mark if the successor need not wait."""
        compares = [Compare(self.key, create_revision=term.create_revision)]
        ops: list[Op] = [Delete(self.key)]
        if orderly:
            ops.append(Put(self.mark, self._value()))
        try:
            self._cache.settle(compares, ops, self._store.txn(compares, ops))
        except PortError as error:
            self._tell(error)

    def _tell(self, error: PortError) -> None:
        if self._report is not None:
            self._report(error)
