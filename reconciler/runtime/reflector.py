"""Keeps a cache up to date with one prefix of the store.

List everything, enter it, watch from that list's revision on, enter each batch, and start over where that does not
work. What may go wrong, and the answer:

* the watch breaks, ends or falls silent: wait a little (0.1-2 s, with jitter, so that a fleet does not come back in
  step) and watch again after the last event that was entered. Nothing is lost, nothing need be listed;
* history is compacted away: list anew. What was deleted meanwhile is what the list no longer shows; and only then is it not known
  what was there in between: after any other list the watch goes on where it was;
* the watch leaves something out without a word (servers had such bugs, most of them right after a disturbance):
  everything is listed anew every ten minutes, and soon after each break;
* we may not read: say so, and try again slowly;
* a list is older than something seen before it was asked for: the store was restored from a backup. Epochs and
  generations may be used a second time, so nothing of it is entered. The reflector says so, is no longer synced,
  and ends; a person has to decide.

`synced` is set once the first full list is entered. Until then nobody may conclude anything from a key's absence.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reconciler.runtime.backoff import Backoff, delay_s
from reconciler.runtime.cache import Cache
from reconciler.runtime.ports import (
    Clock,
    Compacted,
    Denied,
    Event,
    PortError,
    Replaced,
    Signal,
    Store,
    Task,
    Unavailable,
)


@dataclass(frozen=True, slots=True)
class ReflectorSettings:
    """Times in seconds. Those of lists and of slow tries are drawn from the upper half of the given time.

    Args:
        relist_s: between two full lists while all is well.
        distrust_s: from a break of the watch to the next full list.
        backoff_base_s: the first wait after a failure.
        backoff_cap_s: the longest wait after failures in a row.
        denied_s: the wait after the store refused us.
    """

    relist_s: float = 600.0
    distrust_s: float = 60.0
    backoff_base_s: float = 0.1
    backoff_cap_s: float = 2.0
    denied_s: float = 30.0


class _Until:
    """Ends a watch when the reflector is to stop, or to list."""

    __slots__ = ("_clock", "_deadline", "_stop")

    def __init__(self, stop: Signal, clock: Clock, deadline: float) -> None:
        self._stop = stop
        self._clock = clock
        self._deadline = deadline

    def is_set(self) -> bool:
        return self._stop.is_set() or self._clock.now() >= self._deadline


Listener = Callable[[Sequence[Event] | None, int], None]
"""Told events in order, and the revision that they are complete to. None for the events: what happened up to there is not known."""


class Reflector:
    """One prefix of the store, mirrored in a cache by a task of its own.

    Args:
        store: where from.
        cache: where to.
        prefix: what is mirrored: everything below it if it ends in a slash, else the one key.
        clock: time, waiting, and the task.
        rng: jitter.
        settings: times.
        report: called with every error of the store, from this reflector's task; it must not wait.
        on_went_back: called once, with the listed revision and the higher one seen before, if the store went back.
    """

    def __init__(
        self,
        store: Store,
        cache: Cache,
        prefix: str,
        clock: Clock,
        rng: random.Random,
        *,
        settings: ReflectorSettings | None = None,
        report: Callable[[PortError], None] | None = None,
        on_went_back: Callable[[int, int], None] | None = None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._rng = rng
        self._settings = settings or ReflectorSettings()
        self._report = report
        self._on_went_back = on_went_back
        self._backoff = Backoff(rng, self._settings.backoff_base_s, self._settings.backoff_cap_s)
        self._stop = clock.signal()
        self._task: Task | None = None
        self._revision = 0
        self._gap = True
        self._listeners: tuple[Listener, ...] = ()
        self._list_due = 0.0
        self._lived = clock.now()
        self.prefix = prefix
        self.synced = clock.signal()
        """Set while the cache holds a full list of the prefix."""
        self.went_back = False
        """The store answered with an earlier state than before; this reflector has ended."""
        cache.feed(prefix)

    @property
    def age_s(self) -> float:
        """Seconds since the last list or batch."""
        return self._clock.now() - self._lived

    def follow(self, listener: Listener) -> None:
        """From now on tell it what the watch brings, right before it is entered into the cache, whether it is news there or not.
        Called by this reflector's task; it must not wait."""
        self._listeners = (*self._listeners, listener)

    def start(self) -> None:
        """Run in a task of its own."""
        self._task = self._clock.spawn(f"reflect {self.prefix}", self.run)

    def stop(self, bound_s: float = 0.0) -> bool:
        """End, and wait for that for at most so many seconds. True when the task has ended (a watch may take seconds)."""
        self._stop.set()
        return self._task is None or self._task.join(bound_s)

    def run(self) -> None:
        """Mirror until `stop`, or until the store went back."""
        while not self._stop.is_set() and not self.went_back:
            try:
                self._round()
            except Replaced:
                self.went_back = True
                self.synced.clear()
            except PortError as error:
                if self._report is not None:
                    self._report(error)
                self._stop.wait(self._wait_s(error))

    def _round(self) -> None:
        """List if that is due, then watch until it is due again."""
        if self._clock.now() >= self._list_due:
            self._list()
        if self.went_back:
            return
        until = _Until(self._stop, self._clock, self._list_due)
        for batch in self._store.watch(self.prefix, self._revision, until):
            self._tell(batch.events, batch.revision)
            self._cache.apply(self.prefix, batch)
            self._revision = max(self._revision, batch.revision)
            self._lived = self._clock.now()
            self._backoff.reset()
        if not until.is_set():
            raise Unavailable(f"the watch of {self.prefix} ended by itself; it is started again")

    def _list(self) -> None:
        if self.synced.is_set():  # if this fails, watch on and list a little later
            self._list_due = self._clock.now() + self._spread(self._settings.distrust_s)
        seen = self._cache.revision
        listing = self._store.list(self.prefix)
        if listing.revision < seen or not self._cache.replace(self.prefix, listing):
            self.went_back = True
            self.synced.clear()
            if self._on_went_back is not None:
                self._on_went_back(listing.revision, seen)
            return
        if not self._listeners:
            self._revision = listing.revision  # only a listener wants every change between two lists
        elif self._gap:
            self._gap = False
            self._revision = listing.revision
            self._tell(None, listing.revision)
        self._lived = self._clock.now()
        self._list_due = self._lived + self._spread(self._settings.relist_s)
        self.synced.set()

    def _tell(self, events: Sequence[Event] | None, revision: int) -> None:
        for listener in self._listeners:
            listener(events, revision)

    def _wait_s(self, error: PortError) -> float:
        """What the error means for the next list, and how long to wait before the next try."""
        if isinstance(error, Compacted):
            self._list_due, self._gap = 0.0, True
        else:
            self._list_due = min(self._list_due, self._clock.now() + self._spread(self._settings.distrust_s))
        if isinstance(error, Denied):
            return self._spread(self._settings.denied_s)
        return self._backoff.next_s()

    def _spread(self, seconds: float) -> float:
        return delay_s(0, seconds, seconds, self._rng)
