"""Waiting for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T | None], timeout_s: float, what: str, poll_s: float = 0.5) -> T:
    """Ask until the answer is true and return it; fail with `what` and the last answer after the deadline.

    Guests share few processors with whatever else runs: deadlines are there to end a hang, so make them generous.
    """
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not within {timeout_s:.0f} s: {what} (last answer: {answer!r})")
        time.sleep(poll_s)
    return answer
