"""Waits between tries."""

from __future__ import annotations

import random

from reconciler.runtime.backoff import Backoff, delay_s


def test_waits_double_up_to_the_cap_with_jitter() -> None:
    """Each wait is in the upper half of its step."""
    backoff = Backoff(random.Random(1), base_s=0.1, cap_s=2.0)
    for step_s in (0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0):
        assert step_s / 2 <= backoff.next_s() <= step_s


def test_success_starts_over() -> None:
    """After a reset the next wait is the base again."""
    backoff = Backoff(random.Random(1))
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 0.1


def test_the_same_seed_waits_the_same() -> None:
    """Jitter comes from the injected source alone."""
    one, other = (Backoff(random.Random(7)) for _ in range(2))
    assert [one.next_s() for _ in range(5)] == [other.next_s() for _ in range(5)]


def test_a_fleet_does_not_come_back_in_step() -> None:
    """Waits of different sources are spread over the upper half of the step."""
    waits = sorted(delay_s(0, 1.0, 1.0, random.Random(seed)) for seed in range(1000))
    assert waits[0] < 0.51
    assert 0.74 < waits[500] < 0.76
    assert waits[-1] > 0.99


def test_a_million_failures_wait_for_the_cap() -> None:
    """The power does not overflow."""
    assert 30 <= delay_s(1_000_000, 0.05, 60.0, random.Random(1)) <= 60
