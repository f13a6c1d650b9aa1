"""How long to wait before trying again.

Delays grow by doubling from a base to a cap, and each is drawn from the upper half of its step, so that a fleet that
failed together does not come back together. The random source is injected: the same seed gives the same waits.
"""

from __future__ import annotations

import random

_DOUBLINGS_MAX = 60
"""Past this the step is at any sensible cap; the limit keeps the power from overflowing a float."""


def delay_s(failures: int, base_s: float, cap_s: float, rng: random.Random) -> float:
    """The wait after so many failures in a row (0: after the first), in seconds: between half a step and the whole."""
    step_s = min(cap_s, base_s * 2.0 ** min(failures, _DOUBLINGS_MAX))
    return float(step_s * (0.5 + rng.random() / 2))


class Backoff:
    """The waits of one loop. Not for several threads at once.

    Args:
        rng: where the jitter comes from.
        base_s: the first step, in seconds.
        cap_s: the longest step, in seconds.
    """

    def __init__(self, rng: random.Random, base_s: float = 0.1, cap_s: float = 2.0) -> None:
        self._rng = rng
        self._base_s = base_s
        self._cap_s = cap_s
        self._failures = 0

    def next_s(self) -> float:
        """The next wait in seconds; each is about twice as long as the one before, up to the cap."""
        wait_s = delay_s(self._failures, self._base_s, self._cap_s, self._rng)
        self._failures += 1
        return wait_s

    def reset(self) -> None:
        """It went well: the next failure starts from the base again."""
        self._failures = 0
