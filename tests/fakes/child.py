"""A fake worker process: what `reconciler.adapters.child` does, in virtual time and without a process.

The worker is a process of the virtual clock. It dies with its daemon (PDEATHSIG), and on `kill`; it is not paused with
its daemon, so a call may land while the daemon stands still. Every step of a call is a point of scheduling, hence one
where the simulator may kill or pause: before the effect, between its parts, and after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TypeVar

from reconciler.runtime.ports import NotOpen, PortError, UnknownOutcome
from tests.fakes.clock import Process

FOREVER = inf
"""A pause that only a kill ends: the deadline's, somebody's, or the death of the daemon."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one call. Times are virtual seconds; beyond the deadline they mean a kill."""

    before_s: float = 0.0
    """Passes before the effect. With `FOREVER` it never lands."""
    between_s: float = 0.0
    """Passes between the parts of the effect, where it has several."""
    breaks: bool = False
    """The worker dies between the parts of the effect."""
    after_s: float = 0.0
    """Passes after the effect. With `FOREVER` it has landed, and nobody is told."""
    lands: bool = True
    """Whether there is an effect at all. False and nothing else: the call lies, it says that it was done."""
    raises: PortError | None = None
    """Raised in the end, by the driver or by os-brick."""
    dies: bool = False
    """The worker dies in the end, as by a segmentation fault, with every call that it has in hand."""


class Step:
    """What a call knows of its fault while it runs in the worker."""

    def __init__(self, worker: Process, fault: Fault) -> None:
        self._worker = worker
        self._fault = fault
        self.lands = fault.lands

    def between(self) -> None:
        """Between two parts of the effect: others may run, and the worker may be killed."""
        _pass(self._worker, self._fault.between_s)
        if self._fault.breaks:
            self._worker.kill()  # ends this task, too


class FakeChild:
    """One worker at a time of one daemon.

    Args:
        name: for messages.
        clock: the process of the daemon.
    """

    def __init__(self, name: str, clock: Process) -> None:
        self.name = name
        self.fault: Callable[[str], Fault | None] = lambda _: None
        """Asked at each call with its name what goes wrong with it."""
        self.calls: dict[str, int] = {}
        """How often each call was made."""
        self.under_way: list[str] = []
        """The calls that the worker has in hand."""
        self._clock = clock
        self._worker: Process | None = None
        self._until_s = FOREVER
        self._keeping_until_s = FOREVER

    @property
    def running(self) -> bool:
        return self._worker is not None and not self._worker.dead

    def start(self) -> None:
        """Start a worker, unless one runs."""
        if not self.running:
            self._worker = Process(f"{self._clock.name}.{self.name}", self._clock.scheduler)
            self._clock.children = [child for child in self._clock.children if not child.dead] + [self._worker]
            self._keeping_until_s = FOREVER
            self.permit(self._until_s)

    def permit(self, until_s: float) -> None:
        """The worker, present or future, is killed at this moment, even if the daemon is paused then."""
        self._until_s = until_s
        worker = self._worker
        if worker is not None and not worker.dead and until_s < self._keeping_until_s:
            self._keeping_until_s = until_s  # a keeper that sleeps longer finds it dead
            worker.spawn("keeper", lambda: self._keep(worker))

    def call(self, name: str, act: Callable[[Step], T], deadline_s: float) -> T:
        """Run `act` in the worker.

        Raises what it raises; NotOpen when no worker runs; UnknownOutcome when the worker died under the call, or the
        deadline passed, at which it is killed.
        """
        worker = self._worker
        if worker is None or worker.dead:
            raise NotOpen(f"{self.name} is not running")
        self.calls[name] = self.calls.get(name, 0) + 1
        answers: list[T | PortError] = []
        fault = self.fault(name) or Fault()
        task = worker.spawn(name, lambda: self._serve(name, worker, fault, act, answers))
        task.join(deadline_s)
        if not task.ended.is_set():  # whoever was paused beyond the deadline finds an answer that came meanwhile
            worker.kill()
            raise UnknownOutcome(f"{self.name}: no answer to {name} within {deadline_s:g} s; killed")
        if not answers:
            raise UnknownOutcome(f"{self.name}: the process ended during {name}")
        if isinstance(answers[0], PortError):
            raise answers[0]
        return answers[0]

    def kill(self) -> None:
        """SIGKILL. Nothing in flight lands any more."""
        if self._worker is not None:
            self._worker.kill()

    def _keep(self, worker: Process) -> None:
        """What a keeper does: end the worker when the last permission is over."""
        while (left_s := self._until_s - worker.now()) > 0:
            self._keeping_until_s = self._until_s
            _pass(worker, left_s)
        worker.kill()

    def _serve(
        self, name: str, worker: Process, fault: Fault, act: Callable[[Step], T], answers: list[T | PortError]
    ) -> None:
        self.under_way.append(name)
        try:
            answer = self._answer(worker, fault, act)
        finally:
            self.under_way.remove(name)
        answers.append(answer)

    def _answer(self, worker: Process, fault: Fault, act: Callable[[Step], T]) -> T | PortError:
        answer: T | PortError
        _pass(worker, fault.before_s)
        if fault.lands or not (fault.raises or fault.dies):
            try:
                answer = act(Step(worker, fault))
            except PortError as error:
                answer = error
        _pass(worker, fault.after_s)
        if fault.dies:
            worker.kill()  # ends this task, too
        return fault.raises or answer


def _pass(process: Process, seconds: float) -> None:
    if seconds == FOREVER:
        process.signal().wait()
    else:
        process.sleep(seconds)
