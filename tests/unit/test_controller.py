"""The loop around a reconcile function."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from reconciler.runtime.controller import After, Again, Controller, Done, Outcome, Result
from reconciler.runtime.ports import Busy, Denied, Unavailable, UnknownOutcome
from reconciler.runtime.workqueue import WorkQueue
from tests.fakes.clock import VirtualClock, VirtualSignal


class World:
    """A controller whose reconcile function is a script: what it does at each visit of a key."""

    def __init__(self, *needs: VirtualSignal, clock: VirtualClock | None = None, workers: int = 2) -> None:
        self.clock = clock or VirtualClock(now=0.0)
        self.queue = WorkQueue(self.clock, random.Random(1), base_s=1.0, cap_s=60.0)
        self.visits: list[tuple[float, str]] = []
        self.outcomes: list[tuple[str, Outcome, float, Exception | None]] = []
        self.scripts: dict[str, Iterator[Result | Exception | Callable[[], Result]]] = {}
        self.controller = Controller(
            "test",
            self.queue,
            self.reconcile,
            self.clock,
            workers=workers,
            needs=needs,
            observe=lambda *told: self.outcomes.append(told),
        )

    def script(self, key: str, *steps: Result | Exception | Callable[[], Result]) -> None:
        self.scripts[key] = iter(steps)
        self.queue.add(key)

    def reconcile(self, key: str) -> Result:
        self.visits.append((self.clock.now(), key))
        step = next(self.scripts.get(key, iter(())), Done())
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, (Done, After, Again)) else step()

    def start(self) -> World:
        self.controller.start()
        return self

    def times(self, key: str) -> list[float]:
        return [time for time, visited in self.visits if visited == key]


class TestResults:
    """What a reconcile returns is the key's next visit."""

    def test_done_waits_for_a_change(self) -> None:
        """Nothing happens until the key is added again."""
        world = World().start()
        world.script("a", Done())
        world.clock.run_for(3600)
        assert world.times("a") == [0.0]
        world.queue.add("a")
        world.clock.run_for(0)
        assert world.times("a") == [0.0, 3600.0]

    def test_after_comes_back_in_time(self) -> None:
        """After so many seconds."""
        world = World().start()
        world.script("a", After(30), Done())
        world.clock.run_for(3600)
        assert world.times("a") == [0.0, 30.0]

    def test_again_comes_back_before_the_others(self) -> None:
        """What is begun is finished: of many keys, some are settled soon rather than all of them late."""
        world = World(workers=1).start()
        world.script("a", Again(), Again(), Done())
        world.script("b", Again(), Done())
        world.clock.run_for(0)
        assert [key for _, key in world.visits] == ["a", "a", "a", "b", "b"]

    def test_again_for_ever_takes_the_back_off(self) -> None:
        """A key that never comes to rest does not keep a worker busy."""
        world = World().start()
        world.script("a", *[Again()] * 1_000_000)
        world.script("b", Done())
        world.clock.run_for(3600)
        assert len(world.visits) < 32 + 3600 / 30 + 12
        assert world.times("b") == [0.0]

    def test_success_forgets_failures(self) -> None:
        """The next failure starts from the base."""
        world = World().start()
        world.script("a", Unavailable("1"), Unavailable("2"), Unavailable("3"), Done(), Unavailable("4"), Done())
        world.clock.run_for(60)
        world.queue.add("a")
        world.clock.run_for(60)
        assert [b - a for a, b in zip(world.times("a"), world.times("a")[1:], strict=False)][-1] <= 1.0


class TestFailures:
    """What a reconcile raises is its key's alone."""

    @pytest.mark.parametrize(
        ("error", "outcome"),
        [
            (Unavailable("x"), Outcome.RETRYABLE),
            (UnknownOutcome("x"), Outcome.UNKNOWN),
            (Busy("x", ["mounted"]), Outcome.BUSY),
            (KeyError("x"), Outcome.PANIC),
            (AssertionError("x"), Outcome.PANIC),
        ],
    )
    def test_backs_off_and_is_told(self, error: Exception, outcome: Outcome) -> None:
        """With longer and longer waits; the observer gets key, outcome, duration and error."""
        world = World().start()
        world.script("a", *[error] * 5, Done())
        world.clock.run_for(3600)
        gaps = [b - a for a, b in zip(world.times("a"), world.times("a")[1:], strict=False)]
        assert all(step / 2 <= gap <= step for gap, step in zip(gaps, (1, 2, 4, 8, 16), strict=True))
        assert world.outcomes == [("a", outcome, 0.0, error)] * 5 + [("a", Outcome.DONE, 0.0, None)]

    def test_what_only_a_change_can_cure_is_tried_slowly(self) -> None:
        """Never given up: the change may come without an event."""
        world = World().start()
        world.script("a", *[Denied("x")] * 1000)
        world.clock.run_for(29)
        assert len(world.visits) == 1
        world.clock.run_for(600)
        assert 10 <= len(world.visits) <= 22
        assert {outcome for _, outcome, _, _ in world.outcomes} == {Outcome.TERMINAL}

    def test_holds_up_nobody_else(self) -> None:
        """A poisoned key among many: the others are done at once."""
        world = World(workers=1).start()
        world.script("poison", *[RuntimeError("x")] * 1000)
        for number in range(100):
            world.script(str(number), Done())
        world.clock.run_for(0)
        assert Counter(key for _, key in world.visits) == Counter(["poison", *map(str, range(100))])

    def test_an_observer_that_raises_is_counted_and_survived(self) -> None:
        """The loop goes on."""
        clock = VirtualClock()
        queue = WorkQueue(clock, random.Random(1))

        def fail(*_: object) -> None:
            raise OSError("no space left for the log")

        controller = Controller("test", queue, lambda _: Done(), clock, workers=1, observe=fail)
        controller.start()
        queue.add("a")
        queue.add("b")
        clock.run_for(1)
        assert controller.faults == 2
        assert queue.stats().processing == 0

    def test_the_next_try_is_told(self) -> None:
        """With the key still in the worker's hands; what that raises is counted."""
        clock = VirtualClock()
        queue = WorkQueue(clock, random.Random(1), base_s=1.0)
        told: list[tuple[str, float, int]] = []

        def reconcile(key: str) -> Result:
            if key == "bad" and not told:
                raise Unavailable("x")
            return Done()

        def failed(key: str, delay_s: float) -> None:
            told.append((key, delay_s, queue.stats().processing))
            raise Unavailable("the verdict could not be written")

        controller = Controller("test", queue, reconcile, clock, workers=1, failed=failed)
        controller.start()
        queue.add("bad")
        queue.add("good")
        clock.run_for(1)
        ((key, delay_s, processing),) = told
        assert (key, processing, controller.faults) == ("bad", 1, 1)
        assert 0.5 <= delay_s <= 1.0

    def test_duration_is_measured(self) -> None:
        """In seconds of the clock."""
        world = World().start()

        def slow() -> Result:
            world.clock.sleep(2.5)
            return Done()

        world.script("a", slow)
        world.clock.run_for(10)
        assert world.outcomes == [("a", Outcome.DONE, 2.5, None)]


class TestSynced:
    """Nothing is decided before everything is known."""

    def test_starts_when_everything_is_synced(self) -> None:
        """One of two is not enough."""
        clock = VirtualClock(now=0.0)
        one, other = clock.signal(), clock.signal()
        world = World(one, other, clock=clock).start()
        world.script("a", Done())
        other.set()
        clock.run_for(100)
        assert world.visits == []
        one.set()
        clock.run_for(0)
        assert world.times("a") == [100.0]

    def test_pauses_while_something_is_not_synced_any_more(self) -> None:
        """Keys wait, none is lost."""
        clock = VirtualClock(now=0.0)
        synced = clock.signal()
        synced.set()
        world = World(synced, clock=clock).start()
        clock.run_for(1)
        synced.clear()
        world.script("a", Done())
        clock.run_for(99.5)
        assert world.visits == []
        synced.set()
        clock.run_for(1)
        assert len(world.times("a")) == 1


class TestStop:
    """An end in order."""

    def slow_world(self, seconds: float) -> World:
        world = World().start()

        def slow() -> Result:
            world.clock.sleep(seconds)
            world.visits.append((world.clock.now(), "end"))
            return Again()

        for key in "abc":
            world.script(key, slow)
        world.clock.run_for(1)
        return world

    def test_running_reconciles_are_finished(self) -> None:
        """What is queued is not begun."""
        world = self.slow_world(5)
        assert world.controller.stop(10.0)
        assert world.clock.now() == 5.0
        assert world.times("end") == [5.0, 5.0]
        world.clock.run_for(100)
        assert world.times("c") == []

    def test_but_not_for_ever(self) -> None:
        """After the bound it says that not all have ended."""
        world = self.slow_world(50)
        assert not world.controller.stop(10.0)
        assert world.clock.now() == 11.0

    def test_before_anything_was_synced(self) -> None:
        """No worker starts afterwards."""
        clock = VirtualClock(now=0.0)
        synced = clock.signal()
        world = World(synced, clock=clock).start()
        world.script("a", Done())
        clock.run_for(1)
        assert world.controller.stop(10.0)
        synced.set()
        clock.run_for(10)
        assert world.visits == []
