"""What the runtime relies on in a `Clock`, for the real one and for the virtual one."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.runtime.ports import Clock
from tests.fakes.clock import Killed, Stuck, TaskFailed, VirtualClock, shuffled

LONG_S = 30.0
"""Nothing here takes so long: a wait that does has failed."""


@pytest.fixture(params=[SystemClock, VirtualClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    """Either clock."""
    made: Callable[[], Clock] = request.param
    return made()


class TestAnyClock:
    """The port's contract."""

    def test_a_signal_wakes_who_waits(self, clock: Clock) -> None:
        """A task that waits for a signal goes on when it is set."""
        asked, answered = clock.signal(), clock.signal()

        def answer() -> None:
            if asked.wait(LONG_S):
                answered.set()

        clock.spawn("answer", answer)
        asked.set()
        assert answered.wait(LONG_S)

    def test_a_signal_stays_set(self, clock: Clock) -> None:
        """A set signal does not hold up anybody, until it is cleared."""
        signal = clock.signal()
        assert not signal.is_set()
        assert not signal.wait(0.0)
        signal.set()
        assert signal.wait(0.0)
        assert signal.wait()
        signal.clear()
        assert not signal.is_set()
        assert not signal.wait(0.001)

    def test_a_wait_ends_in_time(self, clock: Clock) -> None:
        """A wait with a time limit is never shorter than that."""
        before = clock.now()
        assert not clock.signal().wait(1 / 64)
        clock.sleep(1 / 64)
        assert clock.now() - before >= 1 / 32

    def test_join_tells_whether_a_task_has_ended(self, clock: Clock) -> None:
        """A task that runs is not joined, one that has ended is, again and again."""
        leave = clock.signal()

        def wait() -> None:
            leave.wait(LONG_S)

        task = clock.spawn("waiter", wait)
        assert not task.join(0.001)
        leave.set()
        assert task.join(LONG_S)
        assert task.join()

    def test_a_lock_keeps_others_out(self, clock: Clock) -> None:
        """What is done under one lock is not done by two tasks at once."""
        lock = clock.lock()
        total = 0

        def add() -> None:
            nonlocal total
            for _ in range(1000):
                with lock:
                    total += 1

        tasks = [clock.spawn(f"adder {n}", add) for n in range(4)]
        assert all(task.join(LONG_S) for task in tasks)
        assert total == 4000

    def test_wall_time_is_of_this_century(self, clock: Clock) -> None:
        """`wall` counts from 1970, `now` from the boot."""
        assert clock.wall() > 1.6e9
        assert clock.now() < clock.wall()


class TestSystemClock:
    """The real one alone."""

    def test_what_a_task_raises_is_reported(self) -> None:
        """A task that fails is reported by its name, so that the daemon can end."""
        failed = []
        clock = SystemClock(failed=lambda name, error: failed.append((name, str(error))))

        def fail() -> None:
            raise ValueError("broken")

        assert clock.spawn("weak", fail).join(LONG_S)
        assert failed == [("weak", "broken")]


class TestVirtualClock:
    """Time, order, and processes that stop."""

    def test_time_jumps_to_the_next_deadline(self) -> None:
        """An hour passes at once when all wait, and everybody wakes at their own time."""
        clock = VirtualClock(now=0.0)
        woken = []

        def wake_after(seconds: float) -> None:
            clock.sleep(seconds)
            woken.append(clock.now())

        for seconds in (3600.0, 5.0, 60.0):
            clock.spawn("sleeper", partial(wake_after, seconds))
        clock.run_for(4000)
        assert woken == [5.0, 60.0, 3600.0]
        assert clock.now() == 4000.0

    def test_a_wait_for_nothing_is_found(self) -> None:
        """A test that waits for what nobody does is told who else waits."""
        clock = VirtualClock()
        clock.spawn("a", clock.signal().wait)
        with pytest.raises(Stuck, match="test/a"):
            clock.signal().wait()

    def test_a_task_that_raises_fails_the_test(self) -> None:
        """Nothing is lost in a task."""
        clock = VirtualClock()
        clock.spawn("a", lambda: 1 // 0)
        with pytest.raises(TaskFailed, match="ZeroDivisionError"):
            clock.run_for(1)

    def test_waiting_with_a_lock_is_found(self) -> None:
        """Locks are for short sections: whoever waits in one is a fault."""
        clock = VirtualClock()

        def wait() -> None:
            with clock.lock():
                clock.sleep(1)

        clock.spawn("a", wait)
        with pytest.raises(TaskFailed, match="with a lock held"):
            clock.run_for(1)

    def test_a_paused_process_stands_still_while_time_goes_on(self) -> None:
        """Its deadlines pass without it; resumed, it goes on where it was."""
        clock = VirtualClock(now=0.0)
        process = clock.process("a")
        seen = []

        def tick() -> None:
            for _ in range(3):
                process.sleep(1)
                seen.append(process.now())

        process.spawn("tick", tick)
        clock.run_for(1.5)
        process.pause()
        clock.run_for(10)
        assert seen == [1.0]
        process.resume()
        clock.run_for(2)
        assert seen == [1.0, 11.5, 12.5]

    def test_a_killed_process_does_nothing_more(self) -> None:
        """Its tasks end where they wait, and no `finally` gets to wait, sleep or signal."""
        clock = VirtualClock()
        process = clock.process("a")
        done, refused = [], []

        def work() -> None:
            try:
                process.sleep(10)
                done.append("work")
            finally:
                try:
                    process.signal().set()
                except Killed:
                    refused.append("signal")
                    raise

        task = process.spawn("work", work)
        clock.run_for(1)
        process.kill()
        assert task.join(LONG_S)
        assert (done, refused) == ([], ["signal"])

    @pytest.mark.parametrize("seed", range(3))
    def test_one_seed_is_one_run(self, seed: int) -> None:
        """The same choices lead to the same order; others may not."""

        def run(seed: int) -> list[int]:
            clock = shuffled(random.Random(seed).random)
            order: list[int] = []

            def work(number: int) -> None:
                lock = clock.lock()
                for _ in range(5):
                    with lock:
                        order.append(number)

            for number in range(4):
                clock.spawn(str(number), partial(work, number))
            clock.run_for(1)
            return order

        assert run(seed) == run(seed)
        assert run(seed) != run(seed + 100)


NO_ROOM = """
import signal, threading
from reconciler.adapters.clock import SystemClock

done = threading.Event()
signal.signal(signal.SIGALRM, lambda *_: threading.stack_size(0))  # from now on there is room
signal.setitimer(signal.ITIMER_REAL, 0.2)
threading.stack_size(1 << 50)  # no thread fits into the address space
SystemClock().spawn("late", done.set)
print(done.wait(10))
"""


def test_a_host_without_room_for_a_thread_is_waited_for() -> None:
    """F-B13: it ended the daemon with a traceback."""
    done = subprocess.run([sys.executable, "-c", NO_ROOM], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "True\n"
    assert "no room for the thread 'late'" in done.stderr
    assert "Traceback" not in done.stderr
