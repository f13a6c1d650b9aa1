"""The loop around a reconcile function.

Each worker takes a key, calls `reconcile(key)`, and turns what comes of it into the key's next visit:

    Done()          nothing left to do: forget its failures, wait for a change
    After(seconds)  look again then
    Again()         a step went well and there may be another: look again at once, before keys that are not begun
    PortError       look again after the key's back-off; after the longest back-off at once if the error is Terminal
    any Exception   a fault of ours in this one key: as PortError, counted apart

What a key raises never reaches the loop, and one key's failures never slow another. What is no `Exception` (the end of
the interpreter, a crash that a simulator throws) ends the task: whoever spawned it has to hear of that (see the clock).

No key is reconciled before everything it may depend on is synced, and none while that is not so any more.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reconciler.runtime.ports import Busy, Clock, PortError, Retryable, Signal, Task, Terminal, UnknownOutcome
from reconciler.runtime.workqueue import WorkQueue

_AGAIN_MAX = 32
"""So often in a row a key may ask for `Again` before it has to take the back-off: a loop would keep a worker for ever."""

_UNSYNCED_S = 1.0
"""A key that comes up while not everything is synced is looked at again after so many seconds."""


@dataclass(frozen=True, slots=True)
class Done:
    """Settled, or waiting for somebody else's change."""


@dataclass(frozen=True, slots=True)
class After:
    """Look again in so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Again:
    """Look again at once."""


Result = Done | After | Again


class Outcome(enum.StrEnum):
    """What came of one reconcile, as observers and metrics name it."""

    DONE = "done"
    AFTER = "after"
    AGAIN = "again"
    RETRYABLE = "retryable"
    TERMINAL = "terminal"
    BUSY = "busy"
    UNKNOWN = "unknown"
    PANIC = "panic"


Observer = Callable[[str, Outcome, float, Exception | None], None]
"""Called after each reconcile with the key, the outcome, the duration in seconds, and the exception, if any."""


class Controller:
    """Workers that reconcile the keys of one queue.

    Args:
        name: for task names.
        queue: the keys.
        reconcile: looks at one key and does at most one thing about it. Never called twice at once for one key.
        clock: time and tasks.
        workers: how many keys are reconciled at once.
        needs: signals that must be set while anything is reconciled: the `synced` of all reflectors it relies on.
        observe: is told of every reconcile, by the worker itself, before it takes the next key; it must not wait.
        failed: is told of each key that failed and in how many seconds it is tried again, likewise; it may write that
            down in the store. What it raises is counted (`faults`), and told again with the next failure.
    """

    def __init__(
        self,
        name: str,
        queue: WorkQueue,
        reconcile: Callable[[str], Result],
        clock: Clock,
        *,
        workers: int = 8,
        needs: Sequence[Signal] = (),
        observe: Observer | None = None,
        failed: Callable[[str, float], None] | None = None,
    ) -> None:
        self._name = name
        self._queue = queue
        self._reconcile = reconcile
        self._clock = clock
        self._count = workers
        self._needs = tuple(needs)
        self._observe = observe
        self._failed = failed
        self._workers: list[Task] = []
        self._agains: dict[str, int] = {}
        self.faults = 0
        """How often `observe` or `failed` raised: that is swallowed, or a full log disk would stop the loop."""

    def start(self) -> None:
        """Start the workers as soon as everything they need is synced. Returns at once."""
        self._clock.spawn(f"{self._name} start", self._start)

    def stop(self, bound_s: float) -> bool:
        """Take no more keys, and wait for at most so many seconds for the reconciles that run. True when all have ended.

        What is queued is dropped: it is found again from the store by whoever comes next.
        """
        self._queue.shut_down()
        deadline = self._clock.now() + bound_s
        ended = [worker.join(max(0.0, deadline - self._clock.now())) for worker in self._workers]
        return all(ended)

    def _start(self) -> None:
        for signal in self._needs:
            signal.wait()
        self._workers = [self._clock.spawn(f"{self._name} {n}", self._work) for n in range(self._count)]

    def _work(self) -> None:
        key = self._queue.get()
        while key is not None:
            self._visit(key)
            key = self._queue.next(key)

    def _visit(self, key: str) -> None:
        if not all(signal.is_set() for signal in self._needs):
            self._queue.add_after(key, _UNSYNCED_S)
            return
        started = self._clock.now()
        error: Exception | None = None
        retry_s = 0.0
        try:
            outcome = self._schedule(key, self._reconcile(key))
        except Exception as raised:
            error = raised
            outcome = _outcome_of(raised)
            self._agains.pop(key, None)
            retry_s = self._queue.retry(key, slowly=outcome is Outcome.TERMINAL)
        try:
            if self._observe is not None:
                self._observe(key, outcome, self._clock.now() - started, error)
            if self._failed is not None and error is not None:
                self._failed(key, retry_s)
        except Exception:
            self.faults += 1

    def _schedule(self, key: str, result: Result) -> Outcome:
        match result:
            case Again():
                agains = self._agains.get(key, 0) + 1
                self._agains[key] = agains
                if agains > _AGAIN_MAX:
                    self._queue.retry(key)
                else:
                    self._queue.forget(key)
                    self._queue.add(key, first=True)
                return Outcome.AGAIN
            case After(seconds):
                self._queue.add_after(key, seconds)
        self._agains.pop(key, None)
        self._queue.forget(key)
        return Outcome.AFTER if isinstance(result, After) else Outcome.DONE


def _outcome_of(error: Exception) -> Outcome:
    match error:
        case Retryable():
            return Outcome.RETRYABLE
        case Terminal():
            return Outcome.TERMINAL
        case Busy():
            return Outcome.BUSY
        case UnknownOutcome() | PortError():
            return Outcome.UNKNOWN
    return Outcome.PANIC
