"""Texts that somebody else wrote, made fit for a terminal or a log: what would steer it is written out as `\\x1b`."""

from __future__ import annotations

import shlex
import unicodedata

_STEERING = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode's categories: control, format (which turn the direction of writing, or are invisible), surrogates, unassigned, and the
separators that end a line."""


def shown(text: str, *, keep: str = "\n\t") -> str:
    """The text with everything that a terminal would act on as escapes, as Python writes them.

    Args:
        keep: what is left as it is.
    """
    if text.isascii() and text.isprintable():  # most are
        return text
    return "".join(each if each in keep or _harmless(each) else escaped(each) for each in text)


def _harmless(character: str) -> bool:
    return unicodedata.category(character) not in _STEERING


def escaped(character: str) -> str:
    """`\\x1b`, `\\u202e`, `\\U000e0041`."""
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def without_surrogates(text: str) -> str:
    """What can be written as UTF-8: half a character becomes its escape."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def shell_word(text: str) -> str:
    """The text as one word for a shell, whatever is in it; fit for a terminal, too."""
    if shown(text, keep="") == text:
        return shlex.quote(text)
    raw = text.encode("utf-8", "surrogateescape")
    harmless = (
        chr(byte) if (byte < 128 and chr(byte).isalnum()) or chr(byte) in "/._-" else f"\\x{byte:02x}" for byte in raw
    )
    return f"$'{''.join(harmless)}'"
