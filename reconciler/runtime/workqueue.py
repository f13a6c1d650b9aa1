"""Keys that want to be looked at: each by one worker at a time, and bursts collapsed into one visit.

A key is *dirty* from the moment somebody adds it until a worker takes it, and *processing* from then until that worker
is done. Adding a dirty key changes nothing; adding one that is being processed makes it dirty again, and it is queued
once more when its worker is done. So a key is never processed twice at once, and no change is ever missed.

A key that fails is *retried* after a delay that doubles per key, up to a cap, until somebody forgets its failures; a
key may also be added for later (`add_after`), where the earliest of several times is kept.

Waiting costs one wake-up per key and no polling. Workers without work stand on a stack, each with a signal of its own.
A key that arrives is handed to the worker on top, which is the one that worked last; nobody else wakes. The worker at
the bottom also keeps the time for the keys added for later. It is the last to be handed anything, so the office is
empty only when all workers are busy, and then whoever asks next looks at the clock first.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from reconciler.runtime.backoff import delay_s
from reconciler.runtime.ports import Clock, Signal

_STALE_TIMES_MAX = 64
"""So many outdated entries the heap of times may hold beyond the live ones before it is built anew."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """A look at a queue, for metrics. Times are in seconds.

    Args:
        depth: keys that are due and wait for a worker.
        oldest_age_s: how long the oldest dirty key has been waiting, 0 without any.
        processing: keys that workers have in hand.
        longest_s: how long the longest of these has been in hand, 0 without any.
        later: keys that were added for a later time.
        failing: keys with failures that nobody forgot.
        retries: how often `retry` was called since the start.
    """

    depth: int
    oldest_age_s: float
    processing: int
    longest_s: float
    later: int
    failing: int
    retries: int


class _Idle:
    """A worker that waits: `key` is what it was handed."""

    __slots__ = ("key", "signal")

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.key: str | None = None


class WorkQueue:
    """A queue of keys with set semantics, delays and per-key back-off. Safe for any number of tasks.

    Args:
        clock: time and waiting.
        rng: jitter of the back-off.
        base_s: the delay after a key's first failure, in seconds.
        cap_s: the longest delay between two tries of a key, in seconds.
    """

    def __init__(self, clock: Clock, rng: random.Random, *, base_s: float = 0.05, cap_s: float = 60.0) -> None:
        self._clock = clock
        self._rng = rng
        self._base_s = base_s
        self._cap_s = cap_s
        self._lock = clock.lock()
        self._ready: deque[str] = deque()  # dirty, due and in nobody's hands; empty while anybody is idle
        self._dirty: dict[str, float] = {}  # since when; in the order of arrival
        self._processing: dict[str, float] = {}  # since when
        self._first: set[str] = set()  # of those: to come before the others if they are dirty when done
        self._due: dict[str, float] = {}  # the time of each key added for later
        self._times: list[tuple[float, int, str]] = []  # heap over _due, with outdated entries
        self._order = 0
        self._failures: dict[str, int] = {}
        self._retries = 0
        self._idle: list[_Idle] = []
        self._closed = False

    def add(self, key: str, *, first: bool = False) -> None:
        """Have the key looked at as soon as a worker is free. Ignored after `shut_down`.

        Args:
            first: ahead of the others, if it is being processed: so that what is begun is finished, and of many keys
                some are settled soon rather than all of them late. The caller sees to it that this has an end.
        """
        with self._lock:
            if first and key in self._processing and not self._closed:
                self._first.add(key)
            woken = self._add(key, self._clock.now())
        if woken is not None:
            woken.signal.set()

    def add_after(self, key: str, seconds: float) -> None:
        """Have the key looked at in so many seconds; of several times the earliest is kept. A visit in between does not
        cancel it: a visit too many is cheap, one too few is a hang."""
        if seconds <= 0:
            self.add(key)
            return
        with self._lock:
            woken = self._add_at(key, self._clock.now() + seconds)
        if woken is not None:
            woken.signal.set()

    def retry(self, key: str, *, slowly: bool = False) -> float:
        """The key failed: have it looked at again after its back-off. Returns in how many seconds that will be.

        Args:
            slowly: only a change elsewhere can cure the failure: wait for the cap at once.
        """
        with self._lock:
            now = self._clock.now()
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            self._retries += 1
            wait_s = delay_s(failures, self._cap_s if slowly else self._base_s, self._cap_s, self._rng)
            woken = self._add_at(key, now + wait_s)
            due = self._due.get(key, now)
        if woken is not None:
            woken.signal.set()
        return max(0.0, due - now)

    def forget(self, key: str) -> None:
        """The key went well: its next failure starts from the base delay. What is queued stays queued."""
        self._failures.pop(key, None)

    def failures(self, key: str) -> int:
        """How often the key failed in a row."""
        return self._failures.get(key, 0)

    def get(self) -> str | None:
        """The next key, waiting for one; None after `shut_down`. The caller owes a `done` for it, or a `next`."""
        return self._get(None)

    def next(self, key: str) -> str | None:
        """`done(key)` and `get()` in one go, without waking another worker for what the caller can take itself."""
        return self._get(key)

    def done(self, key: str) -> None:
        """The caller is through with a key it got. If it was added meanwhile, it is queued again now."""
        with self._lock:
            woken = self._done(key)
        if woken is not None:
            woken.signal.set()

    def shut_down(self) -> None:
        """Hand out nothing any more: waiting workers get None, queued keys are dropped, adds are ignored."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._ready.clear()
            self._dirty.clear()
            self._first.clear()
            self._due.clear()
            self._times.clear()
        for each in idle:
            each.signal.set()

    def stats(self) -> QueueStats:
        """Figures of this moment."""
        with self._lock:
            now = self._clock.now()
            return QueueStats(
                depth=len(self._ready),
                oldest_age_s=now - next(iter(self._dirty.values()), now),
                processing=len(self._processing),
                longest_s=now - min(self._processing.values(), default=now),
                later=len(self._due),
                failing=len(self._failures),
                retries=self._retries,
            )

    # --- Below: with the lock held, but for `_get`. What returns an `_Idle` leaves it to the caller to set its signal
    # --- after the lock is free, so that the woken worker does not run into it.

    def _get(self, finished: str | None) -> str | None:
        me: _Idle | None = None
        while True:
            woken: list[_Idle] = []
            with self._lock:
                if finished is not None:
                    self._finish(finished)
                    finished = None
                if self._closed:
                    return None
                now = self._clock.now()
                if self._times:
                    self._promote(now, woken)
                key = self._take(me, now)
                if key is None:
                    me = self._stand_by(me)
                    timeout_s = self._times[0][0] - now if self._times and self._idle[0] is me else None
            for each in woken:
                each.signal.set()
            if key is not None:
                return key
            assert me is not None
            me.signal.wait(timeout_s)
            if me.key is not None:
                return me.key

    def _take(self, me: _Idle | None, now: float) -> str | None:
        if me is not None and me.key is not None:
            return me.key
        if not self._ready:
            return None
        key = self._ready.popleft()
        del self._dirty[key]
        self._processing[key] = now
        return key

    def _stand_by(self, me: _Idle | None) -> _Idle:
        if me is None:
            me = _Idle(self._clock.signal())
            self._idle.append(me)
        else:
            me.signal.clear()
        return me

    def _add(self, key: str, now: float) -> _Idle | None:
        if self._closed or key in self._dirty:
            return None
        if not self._idle or key in self._processing:
            self._dirty[key] = now
            if key not in self._processing:
                self._ready.append(key)
            return None
        return self._hand(key, now)

    def _hand(self, key: str, now: float) -> _Idle:
        idle = self._idle.pop()
        idle.key = key
        self._processing[key] = now
        return idle

    def _finish(self, key: str) -> None:
        """The key is in nobody's hands; if it is dirty, it is ready."""
        del self._processing[key]
        if key in self._first:
            self._first.remove(key)
            self._ready.appendleft(key)
        elif key in self._dirty:
            self._ready.append(key)

    def _done(self, key: str) -> _Idle | None:
        self._finish(key)
        if not self._ready or not self._idle:
            return None
        self._ready.clear()
        del self._dirty[key]
        return self._hand(key, self._clock.now())

    def _add_at(self, key: str, time: float) -> _Idle | None:
        """Queue for later; returns the timekeeper where it has to wait for less than it does."""
        if self._closed or self._due.get(key, time + 1) <= time:
            return None
        self._due[key] = time
        self._order += 1
        earlier = not self._times or time < self._times[0][0]
        heappush(self._times, (time, self._order, key))
        if len(self._times) > 2 * len(self._due) + _STALE_TIMES_MAX:
            self._times = [entry for entry in self._times if self._due.get(entry[2]) == entry[0]]
            heapify(self._times)
        return self._idle[0] if earlier and self._idle else None

    def _promote(self, now: float, woken: list[_Idle]) -> None:
        """Make the keys dirty whose time has come, and drop outdated times from the top."""
        while self._times:
            time, _, key = self._times[0]
            live = self._due.get(key) == time
            if live and time > now:
                return
            heappop(self._times)
            if live:
                del self._due[key]
                idle = self._add(key, now)
                if idle is not None:
                    woken.append(idle)
