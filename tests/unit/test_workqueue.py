"""The work queue: what it hands out, to whom, when, and how often anybody wakes for it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters.clock import SystemClock
from reconciler.runtime.workqueue import WorkQueue
from tests.examples import examples
from tests.fakes.clock import Process, VirtualClock, VirtualSignal, shuffled


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(now=0.0)


@pytest.fixture
def queue(clock: VirtualClock) -> WorkQueue:
    """Base 1 s, cap 60 s; every delay is between half of its step and the whole."""
    return WorkQueue(clock, random.Random(1), base_s=1.0, cap_s=60.0)


def ready(queue: WorkQueue) -> Iterator[str]:
    """What can be taken without waiting; each key is done before the next is taken."""
    while queue.stats().depth:
        key = queue.get()
        assert key is not None
        yield key
        queue.done(key)


class TestSetSemantics:
    """A key is queued once, and processed by one worker at a time."""

    def test_keys_come_in_the_order_of_arrival_each_once(self, queue: WorkQueue) -> None:
        """A key added again before it is taken is one visit."""
        for key in ("a", "b", "a", "c", "b"):
            queue.add(key)
        assert list(ready(queue)) == ["a", "b", "c"]

    def test_a_key_added_while_processed_is_queued_once_more_when_done(self, queue: WorkQueue) -> None:
        """Not before: no second worker gets it."""
        queue.add("a")
        assert queue.get() == "a"
        queue.add("a")
        queue.add("a")
        assert queue.stats().depth == 0
        queue.done("a")
        assert list(ready(queue)) == ["a"]

    def test_next_is_done_and_get(self, queue: WorkQueue) -> None:
        """What waited longer comes first."""
        queue.add("a")
        assert queue.get() == "a"
        queue.add("a")
        queue.add("b")
        assert queue.next("a") == "b"
        assert queue.next("b") == "a"
        assert queue.stats().depth == 0

    def test_a_key_may_come_before_the_others_when_it_is_done(self, queue: WorkQueue) -> None:
        """Once, and only if it is being processed."""
        queue.add("a")
        assert queue.get() == "a"
        queue.add("b")
        queue.add("c", first=True)
        queue.add("a", first=True)
        assert queue.next("a") == "a"
        queue.add("a")
        assert queue.next("a") == "b"
        assert queue.next("b") == "c"
        assert queue.next("c") == "a"

    def test_figures(self, clock: VirtualClock, queue: WorkQueue) -> None:
        """Depth, ages, and what is in hand, due later, or failing."""
        queue.add("a")
        queue.add("b")
        clock.run_for(3)
        assert queue.get() == "a"
        queue.add_after("c", 30)
        queue.retry("d")
        clock.run_for(2)
        stats = queue.stats()
        assert (stats.depth, stats.oldest_age_s, stats.processing, stats.longest_s) == (1, 5.0, 1, 2.0)
        assert (stats.later, stats.failing, stats.retries) == (2, 1, 1)

    def test_shut_down_ends_everything(self, clock: VirtualClock, queue: WorkQueue) -> None:
        """Those who wait and those who come get None; what is queued, or added, is dropped."""
        got: list[str | None] = []
        waiting = [clock.spawn(str(n), lambda: got.append(queue.get())) for n in range(3)]
        clock.run_for(1)
        queue.shut_down()
        assert all(task.join() for task in waiting)
        queue.add("a")
        queue.add_after("b", 1)
        assert queue.get() is None
        assert got == [None] * 3


class TestLater:
    """Delays and back-off."""

    def test_a_key_comes_at_its_time(self, clock: VirtualClock, queue: WorkQueue) -> None:
        """Not sooner, and in the order of the times."""
        queue.add_after("b", 20)
        queue.add_after("a", 10)
        assert queue.get() == "a"
        assert clock.now() == 10.0
        assert queue.get() == "b"
        assert clock.now() == 20.0

    def test_the_earliest_of_several_times_is_kept(self, clock: VirtualClock, queue: WorkQueue) -> None:
        """A later one changes nothing, an earlier one does, and there is one visit."""
        for seconds in (10, 20, 5, 7):
            queue.add_after("a", seconds)
        assert queue.get() == "a"
        assert clock.now() == 5.0
        queue.done("a")
        clock.run_for(60)
        assert queue.stats().depth == 0
        assert queue.stats().later == 0

    def test_no_delay_is_no_delay(self, queue: WorkQueue) -> None:
        """Zero and less mean now."""
        queue.add_after("a", 0)
        queue.add_after("b", -1)
        assert list(ready(queue)) == ["a", "b"]

    def test_a_visit_in_between_does_not_cancel_a_time(self, clock: VirtualClock, queue: WorkQueue) -> None:
        """Whoever asked for it may know something that the visit did not."""
        queue.add_after("a", 10)
        queue.add("a")
        assert list(ready(queue)) == ["a"]
        assert queue.get() == "a"
        assert clock.now() == 10.0

    def test_the_back_off_doubles_to_the_cap_and_is_forgotten(self, clock: VirtualClock, queue: WorkQueue) -> None:
        """Per key; each delay is drawn from the upper half of its step."""
        for step in (1, 2, 4, 8, 16, 32, 60, 60):
            delay_s = queue.retry("a")
            assert step / 2 <= delay_s <= step
            before = clock.now()
            assert queue.get() == "a"
            assert clock.now() == pytest.approx(before + delay_s)
            queue.done("a")
        assert queue.failures("a") == 8
        assert queue.retry("b") <= 1
        queue.forget("a")
        assert queue.failures("a") == 0
        assert queue.retry("a") <= 1

    def test_a_slow_retry_waits_for_the_cap(self, queue: WorkQueue) -> None:
        """From the first failure on."""
        assert 30 <= queue.retry("a", slowly=True) <= 60

    def test_a_retry_tells_when_the_key_comes_up(self, queue: WorkQueue) -> None:
        """Which may be sooner than its back-off, if somebody asked for that."""
        queue.add_after("a", 0.25)
        assert queue.retry("a") == 0.25

    def test_outdated_times_do_not_pile_up(self, queue: WorkQueue) -> None:
        """A key whose time is brought forward again and again has one entry, give or take a bounded number."""
        for number in range(10_000, 0, -1):
            queue.add_after("a", number)
        assert queue.stats().later == 1
        assert len(queue._times) < 100


class Counting(VirtualClock):
    """Counts how often anybody wakes from a wait for a signal."""

    def __init__(self) -> None:
        super().__init__(now=0.0)
        self.wakes = 0

    def signal(self) -> VirtualSignal:
        clock = self

        class Signal(VirtualSignal):
            def wait(self, timeout_s: float | None = None) -> bool:
                woken = super().wait(timeout_s)
                clock.wakes += 1
                return woken

        return Signal(self.scheduler)


class TestWaking:
    """One wake-up per key, none in vain."""

    def workers(self, clock: Process, queue: WorkQueue, count: int, work_s: float) -> list[tuple[float, str]]:
        """Start workers that need a while for each key; when they took what."""
        taken: list[tuple[float, str]] = []

        def work() -> None:
            key = queue.get()
            while key is not None:
                taken.append((clock.now(), key))
                clock.sleep(work_s)
                key = queue.next(key)

        for number in range(count):
            clock.spawn(f"worker {number}", work)
        return taken

    def test_one_key_wakes_one_worker(self) -> None:
        """However many wait; a burst is worked off by those who are awake."""
        clock = Counting()
        queue = WorkQueue(clock, random.Random(1))
        taken = self.workers(clock, queue, 8, 0.001)
        clock.run_for(1)
        queue.add("one")
        clock.run_for(1)
        assert clock.wakes == 1
        for number in range(64):
            queue.add(str(number))
        clock.run_for(1)
        assert clock.wakes == 1 + 8
        assert len(taken) == 65

    def test_a_time_wakes_the_timekeeper_and_one_worker(self) -> None:
        """Setting an earlier time wakes the timekeeper, a later one nobody; at rest nobody wakes at all."""
        clock = Counting()
        queue = WorkQueue(clock, random.Random(1))
        taken = self.workers(clock, queue, 8, 0.001)
        clock.run_for(1)
        queue.add_after("a", 10)
        clock.run_for(0)
        queue.add_after("b", 20)
        clock.run_for(5)
        assert clock.wakes == 1
        clock.run_for(100)
        assert taken == [(11.0, "a"), (21.0, "b")]
        assert clock.wakes == 1 + 2 + 2
        clock.run_for(3600)
        assert clock.wakes == 5

    def test_times_are_kept_while_workers_come_and_go(self) -> None:
        """Every key starts within the work time of another, even if all were busy at its time."""
        clock = VirtualClock(now=0.0)
        queue = WorkQueue(clock, random.Random(1))
        taken = self.workers(clock, queue, 2, 3.0)
        for number in range(10):
            queue.add_after(str(number), float(number))
        clock.run_for(60)
        assert [key for _, key in sorted(taken)] == [str(number) for number in range(10)]
        assert all(start - float(key) <= 3.0 * 5 for start, key in taken)

    def test_a_single_worker_keeps_time_for_itself(self) -> None:
        """It is the only one there."""
        clock = VirtualClock(now=0.0)
        queue = WorkQueue(clock, random.Random(1))
        taken = self.workers(clock, queue, 1, 0.5)
        queue.add("now")
        queue.add_after("later", 0.25)
        clock.run_for(10)
        assert taken == [(0.0, "now"), (0.5, "later")]


actions = st.lists(
    st.tuples(
        st.sampled_from(["add", "add_after", "retry", "forget", "wait"]),
        st.sampled_from("abcd"),
        st.sampled_from([0.0, 0.1, 0.5, 2.0]),
    ),
    max_size=40,
)


@examples(200)
@given(actions=actions, workers=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_nothing_is_lost_and_nothing_is_done_twice_at_once(
    actions: list[tuple[str, str, float]], workers: int, seed: int
) -> None:
    """Whatever is added, and however the tasks interleave: no key is in two hands, every add is followed by a visit that
    began after it, every time is kept, and in the end nothing is left."""
    rng = random.Random(seed)
    clock = shuffled(rng.random)
    queue = WorkQueue(clock, rng, base_s=0.1, cap_s=1.0)
    in_hand: set[str] = set()
    wanted: dict[str, float] = {}  # key: visit it at this time or later
    visits: list[str] = []

    def work() -> None:
        key = queue.get()
        while key is not None:
            assert key not in in_hand
            in_hand.add(key)
            visits.append(key)
            if wanted.get(key, float("inf")) <= clock.now():
                del wanted[key]
            clock.sleep(rng.choice((0.0, 0.3)))
            in_hand.remove(key)
            if rng.random() < 0.5:
                queue.done(key)
                key = queue.get()
            else:
                key = queue.next(key)

    def act() -> None:
        for name, key, seconds in actions:
            match name:
                case "add":
                    wanted[key] = max(wanted.get(key, 0.0), clock.now())
                    queue.add(key, first=rng.random() < 0.3)
                case "add_after":
                    queue.add_after(key, seconds)
                case "retry":
                    assert 0 <= queue.retry(key) <= 1.0
                case "forget":
                    queue.forget(key)
                case "wait":
                    clock.sleep(seconds)

    tasks = [clock.spawn(f"worker {number}", work) for number in range(workers)]
    clock.spawn("actor", act)
    clock.run_for(120)
    stats = queue.stats()
    assert (stats.depth, stats.later, stats.processing, wanted) == (0, 0, 0, {})
    assert {key for name, key, _ in actions if name in ("add", "add_after", "retry")} == set(visits)
    queue.shut_down()
    assert all(task.join() for task in tasks)


def test_the_same_on_real_threads() -> None:
    """Keys that add one another and themselves, eight workers: no key in two hands, and every add is followed by a visit."""
    clock = SystemClock()
    queue = WorkQueue(clock, random.Random(1), base_s=0.0001, cap_s=0.001)
    keys = [str(number) for number in range(50)]
    adds = dict.fromkeys(keys, 0)
    seen = dict.fromkeys(keys, 0)
    faults: list[str] = []
    in_hand: set[str] = set()
    lock, finished = clock.lock(), clock.signal()
    left = 20_000

    def work(rng: random.Random) -> None:
        nonlocal left
        key = queue.get()
        while key is not None:
            with lock:
                if key in in_hand:
                    faults.append(key)
                in_hand.add(key)
                seen[key] = adds[key]
                left -= 1
                others = [rng.choice(keys), key] if left > 0 else []
                for other in others:
                    adds[other] += 1
            for other in others:
                match rng.randrange(3):
                    case 0:
                        queue.retry(other)
                    case first:
                        queue.add(other, first=first == 1)
            with lock:
                in_hand.remove(key)
                if left <= 0 and seen == adds:
                    finished.set()
            key = queue.next(key)

    tasks = [clock.spawn("worker", partial(work, random.Random(number))) for number in range(8)]
    for key in keys:
        queue.add(key)
    assert finished.wait(60.0), (left, {key for key in keys if seen[key] != adds[key]}, queue.stats())
    queue.shut_down()
    assert all(task.join(60.0) for task in tasks)
    assert faults == []
