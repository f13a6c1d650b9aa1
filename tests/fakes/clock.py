"""Virtual time: the `Clock` port over greenlets, for tests and for the simulator.

Tasks are greenlets in one thread. One runs until it waits; then the scheduler picks the next that can run. When none
can, time jumps to the next deadline, so nothing is ever slept for, and ten minutes pass in no time. Runs are
deterministic: with the same choices the same things happen in the same order.

The test's own code is no task. When it waits (for a signal, in `sleep`), the tasks run until it may go on; `run_for` and
`run_until` do the same in so many words. If it waits for something that can no more happen, `Stuck` says who waits.

Tasks belong to processes. `clock.process("a")` is a clock of its own for the code of one process, and that process can
be paused (as by SIGSTOP: time goes on, its tasks do not), resumed, and killed (as by SIGKILL: each of its tasks ends
with `Killed`, a BaseException, where it waits, and gets it again at each further use of the clock).

Two hooks let a simulator take over: `choose` picks the next task, and `preempt` may take the processor away where a
task would have gone on (at a lock, when it sets a signal), as happens to real threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from heapq import heappop, heappush
from typing import Any

import greenlet  # type: ignore[import-untyped, unused-ignore]

STEPS_MAX = 1_000_000  # so many steps without time moving are a loop that never waits
PATIENCE_S = 86_400.0
"""The test's own waits without a time limit end after a day in which nothing but ticks happened."""


class Killed(BaseException):
    """The process of this task is dead."""


class Stuck(AssertionError):
    """The test waits for something that nobody is going to do."""


class TaskFailed(AssertionError):
    """A task raised something."""


class VirtualTask:
    """A greenlet, and how it waits: `ready` if it does not, `woken` if somebody ended its last wait, else time did."""

    __slots__ = ("ended", "green", "locks", "name", "process", "ready", "wait", "woken")

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process
        self.green: greenlet.greenlet
        self.ended = VirtualSignal(process.scheduler)
        self.ready = True
        self.woken = False
        self.wait = 0  # counts waits, so that an old deadline does not end a later one
        self.locks = 0

    def join(self, timeout_s: float | None = None) -> bool:
        return self.ended.wait(timeout_s)

    def __repr__(self) -> str:
        return f"{self.process.name}/{self.name}"


class Scheduler:
    """Runs tasks, one at a time, and moves time."""

    def __init__(
        self,
        choose: Callable[[Sequence[VirtualTask]], int] | None,
        preempt: Callable[[VirtualTask, str], bool] | None,
        now: float,
    ) -> None:
        self.now = now
        self.steps = 0
        self.current: VirtualTask | None = None
        self.tasks: dict[VirtualTask, None] = {}
        self._choose = choose
        self._preempt = preempt
        self._hub = greenlet.getcurrent()
        self._ready: deque[VirtualTask] = deque()
        self._timers: list[tuple[float, int, VirtualTask, int]] = []
        self._order = 0
        self._moved_at = 0  # the step at which time last moved
        self._failure: tuple[VirtualTask, BaseException] | None = None

    # --- For tasks

    def spawn(self, name: str, process: Process, target: Callable[[], object]) -> VirtualTask:
        self.check()
        task = VirtualTask(name, process)

        def body() -> None:
            try:
                if not process.dead:
                    target()
            except (Killed, greenlet.GreenletExit):
                pass
            except BaseException as error:
                self._failure = (task, error)
            del self.tasks[task]
            task.ended.fire()

        task.green = greenlet.greenlet(body, self._hub)
        self.tasks[task] = None
        self._enqueue(task)
        return task

    def check(self) -> None:
        """A dead process does nothing any more."""
        if self.current is not None and self.current.process.dead:
            raise Killed(self.current.process.name)

    def point(self, label: str) -> None:
        """The current task could go on; perhaps somebody else does first."""
        self.check()
        if self._preempt is not None and self.current is not None and self._preempt(self.current, label):
            self.give_way()

    def give_way(self) -> None:
        """Let all others who can run do so first."""
        assert self.current is not None
        self._enqueue(self.current)
        self._switch()

    def block(self, waiters: dict[VirtualTask, None] | None, timeout_s: float | None) -> bool:
        """The current task waits until somebody wakes it, whom it tells by entering itself in `waiters` (True), or for
        so many seconds (False)."""
        self.check()
        task = self.current
        assert task is not None
        task.wait += 1
        task.ready = task.woken = False
        if waiters is not None:
            waiters[task] = None
        if timeout_s is not None:
            self._order += 1
            heappush(self._timers, (self.now + max(0.0, timeout_s), self._order, task, task.wait))
        self._switch()
        if not task.woken and waiters is not None:
            waiters.pop(task, None)
        return task.woken

    def wake(self, task: VirtualTask) -> None:
        """The task need not wait any more."""
        if not task.ready:
            task.woken = True
            self._enqueue(task)

    # --- For the test's own code, which is no task

    def drive(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        """Run tasks until `done` (True), or for so long (False)."""
        deadline = self.now + (PATIENCE_S if timeout_s is None else max(0.0, timeout_s))
        while not done():
            if self._step(deadline):
                continue
            if timeout_s is None:
                waiting = ", ".join(map(repr, self.tasks)) or "nobody is left"
                raise Stuck(f"nothing of that happens at {self.now:.3f} s; waiting: {waiting}")
            self.now = deadline
            return False
        return True

    def hold(self, process: Process) -> None:
        """The process was paused: put its tasks aside."""
        process.held.extend(task for task in self._ready if task.process is process)
        self._ready = deque(task for task in self._ready if task.process is not process)
        if self.current is not None and self.current.process is process:
            self.give_way()

    def release(self, process: Process) -> None:
        """The process was resumed; or killed: its tasks run once more, into `Killed`."""
        self._ready.extend(process.held)
        process.held.clear()
        if process.dead:
            for task in self.tasks:
                if task.process is process and task is not self.current:
                    self.wake(task)

    # --- Inside

    def _enqueue(self, task: VirtualTask) -> None:
        task.ready = True
        (task.process.held if task.process.paused else self._ready).append(task)

    def _switch(self) -> None:
        self._hub.switch()
        self.check()

    def _step(self, deadline: float) -> bool:
        """Run one task until it waits, or move time to the next deadline. False: neither is possible (in time)."""
        ready = self._ready
        if not ready:
            return self._pass_time(deadline)
        chosen = self._choose(ready) if self._choose is not None and len(ready) > 1 else 0
        task = ready[chosen]
        del ready[chosen]
        self.steps += 1
        if self.steps - self._moved_at > STEPS_MAX:
            raise Stuck(f"{STEPS_MAX} steps at {self.now:.3f} s; the last was {task!r}'s")
        self.current = task
        task.green.switch()
        self.current = None
        if self._failure is not None:
            (failed, error), self._failure = self._failure, None
            raise TaskFailed(f"{failed}: {error!r}") from error
        return True

    def _pass_time(self, deadline: float) -> bool:
        while self._timers:
            time, _, task, wait = self._timers[0]
            live = task.wait == wait and not task.ready
            if live and time > deadline:
                return False
            heappop(self._timers)
            if live:
                self._moved_at = self.steps if time > self.now else self._moved_at
                self.now = max(self.now, time)
                self._enqueue(task)
                return True
        return False


class VirtualSignal:
    """A flag that can be waited for. As with threads, a `set` wakes who waits, even if a `clear` follows at once."""

    __slots__ = ("_scheduler", "_set", "_sets", "_waiters")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._set = False
        self._sets = 0
        self._waiters: dict[VirtualTask, None] = {}

    def set(self) -> None:
        self._scheduler.check()
        self.fire()
        self._scheduler.point("set")

    def fire(self) -> None:
        """`set`, without giving way."""
        self._set = True
        self._sets += 1
        waiters, self._waiters = self._waiters, {}
        for task in waiters:
            self._scheduler.wake(task)

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout_s: float | None = None) -> bool:
        scheduler = self._scheduler
        if self._set:
            scheduler.point("wait")
            return True
        if scheduler.current is None:
            before = self._sets
            return scheduler.drive(lambda: self._sets > before, timeout_s)
        assert not scheduler.current.locks, f"{scheduler.current} waits with a lock held"
        return scheduler.block(self._waiters, timeout_s)


class VirtualLock:
    """A lock that finds those who would wait for ever: who takes it twice, or waits for something else while having it."""

    __slots__ = ("_held", "_holder", "_scheduler", "_waiters")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held = False
        self._holder: VirtualTask | None = None
        self._waiters: dict[VirtualTask, None] = {}

    def __enter__(self) -> None:
        scheduler = self._scheduler
        scheduler.point("lock")
        task = scheduler.current
        while self._held:
            assert self._holder is not task, f"{task} takes a lock twice"
            if task is None:
                scheduler.drive(lambda: not self._held, None)
            else:
                scheduler.block(self._waiters, None)
        self._held = True
        self._holder = task
        if task is not None:
            task.locks += 1
            scheduler.point("locked")

    def __exit__(self, *exc_info: object) -> None:
        self._held = False
        if self._holder is not None:
            self._holder.locks -= 1
        self._holder = None
        if self._waiters:
            first = next(iter(self._waiters))
            del self._waiters[first]
            self._scheduler.wake(first)


class Process:
    """The clock of one process."""

    def __init__(self, name: str, scheduler: Scheduler) -> None:
        self.name = name
        self.scheduler = scheduler
        self.paused = self.dead = False
        self.held: list[VirtualTask] = []
        self.children: list[Process] = []  # die with this one, but are not paused with it
        self.wall_offset_s = 1.7e9

    # --- The port

    def now(self) -> float:
        return self.scheduler.now

    def wall(self) -> float:
        return self.scheduler.now + self.wall_offset_s

    def signal(self) -> VirtualSignal:
        return VirtualSignal(self.scheduler)

    def lock(self) -> AbstractContextManager[Any]:
        return VirtualLock(self.scheduler)

    def sleep(self, seconds: float) -> None:
        scheduler = self.scheduler
        if scheduler.current is None:
            scheduler.drive(lambda: False, seconds)
            return
        assert not scheduler.current.locks, f"{scheduler.current} sleeps with a lock held"
        if seconds > 0:
            scheduler.block(None, seconds)
        else:
            scheduler.give_way()

    def spawn(self, name: str, target: Callable[[], object]) -> VirtualTask:
        return self.scheduler.spawn(name, self, target)

    # --- For tests

    def pause(self) -> None:
        self.paused = True
        self.scheduler.hold(self)

    def resume(self) -> None:
        self.paused = False
        self.scheduler.release(self)

    def kill(self) -> None:
        """The tasks end where they are, and those of its children."""
        for process in (self, *self.children):
            process.dead, process.paused = True, False
            self.scheduler.release(process)
        self.scheduler.check()


class VirtualClock(Process):
    """A world with its own time.

    Args:
        choose: which of several tasks that can run is next; by default the one that could first.
        preempt: whether a task gives way at a point where it need not (its label says which); by default never.
        now: seconds since boot at the start.
    """

    def __init__(
        self,
        choose: Callable[[Sequence[VirtualTask]], int] | None = None,
        preempt: Callable[[VirtualTask, str], bool] | None = None,
        now: float = 1000.0,
    ) -> None:
        super().__init__("test", Scheduler(choose, preempt, now))

    def process(self, name: str) -> Process:
        """A clock for the code of another process in this world."""
        return Process(name, self.scheduler)

    def run_for(self, seconds: float) -> None:
        """Let the tasks do what they do in so many seconds."""
        self.scheduler.drive(lambda: False, seconds)

    def run_until(self, done: Callable[[], bool], within_s: float = 3600.0) -> None:
        """Let the tasks go on until `done`. Raises Stuck if it is not so within so many seconds."""
        if not self.scheduler.drive(done, within_s):
            raise Stuck(f"not within {within_s} s")


def shuffled(random: Callable[[], float], preempt: float = 0.2) -> VirtualClock:
    """A clock whose choices are drawn: any ready task may be next, and any point gives way with this probability."""
    return VirtualClock(
        choose=lambda ready: int(random() * len(ready)),
        preempt=lambda _task, _label: random() < preempt,
    )
