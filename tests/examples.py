"""How often property tests try: `make fuzz` means it more than `make test`."""

import os

from hypothesis import settings

TIMES = int(os.environ.get("BRICKWORK_FUZZ", "1"))


def examples(number: int) -> settings:
    """Decorates a property test: so many examples, times what `make fuzz` says."""
    return settings(max_examples=number * TIMES, deadline=None)
