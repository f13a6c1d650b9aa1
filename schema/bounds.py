"""How much of what users have many of goes into one value: a key holds 32 KiB, and what was left out is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

from schema.secrets import redact_text
from schema.shown import without_surrogates

TEXT_MAX = 1000
"""Characters of a sentence for people. Drivers' errors come cut to 800."""
NAME_MAX = 256
"""Characters of a name that a driver gave."""
NAMED_MAX = 10
"""So many names in a sentence; the others are counted."""


def clipped(text: str, most: int = TEXT_MAX) -> str:
    """The text's beginning, and how much more there was."""
    if len(text) <= most:
        return text
    kept = text[: most - 40]
    return f"{kept}… ({len(text) - len(kept):,} more characters)"


def several(names: Sequence[str], most: int = NAMED_MAX) -> str:
    """`a, b, c and 497 others`."""
    rest = len(names) - most
    if rest <= 0:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {rest:,} other{'s' if rest > 1 else ''}"


def _told(text: str) -> str:
    """Without secrets, and short. Done until it changes nothing more: what is read back has to equal what was written."""
    for _ in range(_PASSES):
        again = clipped(redact_text(without_surrogates(text)))
        if again == text:
            break
        text = again
    return text


_PASSES = 8
Told = Annotated[str, AfterValidator(_told)]
"""A sentence in a value of ours. Whatever went into it (a driver's error, names, a user's own text), it stays short enough, and
what looks like a secret is hidden: everybody reads it."""
Named = Annotated[str, AfterValidator(lambda name: clipped(without_surrogates(name), NAME_MAX))]
"""A name in a value of ours that somebody else chose, and that only people read."""
