"""Which level a line of a child's log has: it stands before the line as sd-daemon(3) has it, `<4>` for a warning.

Without it everything that os-brick and Cinder say would be told by the daemon at one level. What a child's programs print has no
mark, and is information.
"""

from __future__ import annotations

import logging
import re

_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
_LEVELS = {priority: level for level, priority in _PRIORITIES.items()}
_MARK = re.compile(r"<([0-7])>")


class Line(str):
    """A line without its mark, and the level that it had."""

    __slots__ = ("level",)
    level: int


def priority(level: int) -> int:
    """syslog's number for a level of Python's; for one in between that of the next lower."""
    return next((number for floor, number in _PRIORITIES.items() if level >= floor), 7)


def mark(text: str, level: int) -> str:
    """Each line of it, a traceback's as well, with the mark."""
    return "\n".join(f"<{priority(level)}>{line}" for line in text.split("\n"))


def read(text: str) -> Line:
    """The reverse, for one line."""
    found = _MARK.match(text)
    return at(_LEVELS.get(int(found[1]), logging.INFO), text[found.end() :]) if found else at(logging.INFO, text)


def at(level: int, text: str) -> Line:
    """A line of the daemon's own among a child's."""
    line = Line(text)
    line.level = level
    return line


def level_of(line: str) -> int:
    """Of a line that came through a child's log."""
    return line.level if isinstance(line, Line) else logging.INFO
