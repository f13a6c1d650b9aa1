"""A lease that is kept alive, and that ends here before it ends in the store.

What is bound to a lease (a leader key, a node's heartbeat) outlives us by at most its TTL. So whoever acts on the
strength of it has to stop *before* that, even when the store can't be asked and when this process was paused for a
minute. The rule: the lease counts as lost from two thirds of its TTL after the *sending* of the last renewal that was
confirmed, by the clock that goes on during suspend. Renewals are sent every third of the TTL, so one may be lost.

`alive()` computes this anew each time; it is right the instant a paused process goes on, before any task has run. Two
tasks do the rest: one renews and may hang in that call; the other waits for the deadline and hangs in nothing. When a
lease is lost the `lost` callbacks come first, before anything else is done about it. Then a new one is granted. The old
one is not revoked: it runs out by itself, and until then nobody else takes what was bound to it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from reconciler.runtime.backoff import Backoff
from reconciler.runtime.ports import Clock, PortError, Signal, Store, Task

_TRUST = 2 / 3
"""The part of the TTL for which a confirmed renewal counts."""


@dataclass(slots=True)
class _Life:
    """One lease, from grant to loss. `over` is set when it must not be used or renewed any more."""

    lease: int
    sent: float
    deadline: float
    over: Signal
    tasks: list[Task] = field(default_factory=list)


class LeaseSession:
    """Keeps one lease at a time.

    Args:
        store: where the lease is.
        clock: time and tasks.
        rng: jitter of tries after a failure.
        ttl_s: the TTL to ask for, in seconds; etcd 3.4 grants no less than 2.
        name: for task names.
        report: called with every error of the store; it must not wait.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        rng: random.Random,
        *,
        ttl_s: int = 3,
        name: str = "lease",
        report: Callable[[PortError], None] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._name = name
        self._report = report
        self._lock = clock.lock()
        self._life: _Life | None = None
        self._closing = clock.signal()
        self._task: Task | None = None
        self._on_granted: list[Callable[[int], None]] = []
        self._on_lost: list[Callable[[], None]] = []
        self._on_trusted: list[Callable[[float], None]] = []
        self._confirmed = clock.now()
        self.ttl_s = ttl_s
        self.lost = clock.signal()
        """Set when a lease was lost, after the callbacks and until the next is granted."""

    def subscribe(
        self,
        *,
        granted: Callable[[int], None] | None = None,
        lost: Callable[[], None] | None = None,
        trusted: Callable[[float], None] | None = None,
    ) -> None:
        """Be told of each new lease, of each loss, and until when (by the clock) the lease may be relied on, before it is
        for the first time and whenever that moment moves. Called from the session's own tasks, in order of subscription;
        they must not wait (set a signal, kill a child). A callback that raises ends the session's task. Before `start`.
        """
        if trusted is not None:
            self._on_trusted.append(trusted)
        if granted is not None:
            self._on_granted.append(granted)
        if lost is not None:
            self._on_lost.append(lost)

    @property
    def lease(self) -> int:
        """The id of the lease while it is alive, else 0."""
        life = self._life
        return life.lease if life is not None and self._alive(life, 0.0) else 0

    def alive(self, margin_s: float = 0.0) -> bool:
        """Whether the lease may be relied on for at least so many seconds more."""
        life = self._life
        return life is not None and self._alive(life, margin_s)

    @property
    def age_s(self) -> float:
        """Seconds since the sending of the last confirmed renewal, or since the start."""
        return self._clock.now() - self._confirmed

    def start(self) -> None:
        """Grant a lease and keep it, in tasks of its own."""
        self._task = self._clock.spawn(self._name, self._run)

    def close(self, bound_s: float = 0.0) -> None:
        """End the lease of our own will: no callback is called, and the lease is revoked if the store can be reached.
        Whatever relied on it must have stopped before. Waits for the tasks for at most so many seconds."""
        with self._lock:
            self._closing.set()
            life, self._life = self._life, None
            if life is not None:
                life.over.set()
        if life is not None:
            try:
                self._store.revoke_lease(life.lease)
            except PortError as error:
                self._tell(error)
        deadline = self._clock.now() + bound_s
        for task in ([self._task] if self._task else []) + (life.tasks if life else []):
            task.join(max(0.0, deadline - self._clock.now()))

    def _run(self) -> None:
        while not self._closing.is_set():
            life = self._grant()
            if life is None:
                return
            for granted in self._on_granted:
                granted(life.lease)
            if self._outlive(life):
                self._lose(life)

    def _grant(self) -> _Life | None:
        """A new life, however many tries that takes; None when closing."""
        backoff = Backoff(self._rng)
        while not self._closing.is_set():
            sent = self._clock.now()
            try:
                lease = self._store.grant_lease(self.ttl_s)
            except PortError as error:  # if it was granted all the same, it runs out
                self._tell(error)
                self._closing.wait(backoff.next_s())
                continue
            life = _Life(lease, sent, sent + _TRUST * self.ttl_s, self._clock.signal())
            self._tell_trust(life)
            with self._lock:
                if self._closing.is_set() or not self._alive(life, 0.0):
                    continue  # too late to be of use; it runs out
                self._life = life
                self._confirmed = sent
                self.lost.clear()
            life.tasks.append(self._clock.spawn(f"{self._name} renew", partial(self._renew, life)))
            return life
        return None

    def _outlive(self, life: _Life) -> bool:
        """Wait for the end of a life. True when it was lost, False when it was closed."""
        while self._alive(life, 0.0):
            life.over.wait(max(0.0, life.deadline - self._clock.now()))
        with self._lock:
            life.over.set()
            return self._life is life

    def _lose(self, life: _Life) -> None:
        for lost in self._on_lost:
            lost()
        with self._lock:
            if self._life is life:
                self._life = None
        self.lost.set()

    def _renew(self, life: _Life) -> None:
        """Renew until the life is over; a hanging call keeps only this life's renewals."""
        backoff = Backoff(self._rng)
        next_at = life.sent + self.ttl_s / 3
        while not life.over.wait(max(0.0, next_at - self._clock.now())) and self._alive(life, 0.0):
            sent = self._clock.now()
            try:
                granted_s = self._store.keep_lease(life.lease)
            except PortError as error:
                self._tell(error)
                next_at = self._clock.now() + min(backoff.next_s(), self.ttl_s / 3)
                continue
            self._confirm(life, sent, granted_s)
            backoff.reset()
            next_at = sent + self.ttl_s / 3

    def _confirm(self, life: _Life, sent: float, granted_s: int) -> None:
        """Enter a renewal, unless the life ended while it was on its way: a lost lease never comes back to life."""
        with self._lock:
            if granted_s <= 0 or not self._alive(life, 0.0):
                life.over.set()
                return
            life.sent = sent
            life.deadline = max(life.deadline, sent + _TRUST * min(granted_s, self.ttl_s))
            if self._life is life:
                self._confirmed = sent
        self._tell_trust(life)

    def _tell_trust(self, life: _Life) -> None:
        for trusted in self._on_trusted:
            trusted(life.deadline)

    def _alive(self, life: _Life, margin_s: float) -> bool:
        return not life.over.is_set() and self._clock.now() + margin_s < life.deadline

    def _tell(self, error: PortError) -> None:
        if self._report is not None:
            self._report(error)
