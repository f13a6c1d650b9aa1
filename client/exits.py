"""What `brickctl` exits with. Scripts rely on these numbers."""

from __future__ import annotations

from enum import IntEnum

import click


class Exit(IntEnum):
    """The documented exit codes (docs/CLIENT.md)."""

    OK = 0
    UNMET = 1
    """What was asked for is not so: a condition, a difference, a path in an object."""
    USAGE = 2
    CONFLICT = 3
    NOT_FOUND = 4
    TIMEOUT = 5
    UNREACHABLE = 6
    BLOCKED = 7
    """It will not go on before somebody outside of Brickwork acts: Blocked or Failed."""
    OUTPUT = 8
    """What was asked for is done, as far as it got, and the answer could not be written: a full disk."""
    PIPE = 141
    """Whoever read the answer has gone; as a shell tells of a process that ended so (128 + SIGPIPE)."""


class Failure(click.ClickException):
    """An error for the user: what is wrong and what to do, on stderr, and the exit code."""


class Unmet(Failure):
    exit_code = int(Exit.UNMET)


class Misuse(Failure):
    exit_code = int(Exit.USAGE)


class Conflict(Failure):
    exit_code = int(Exit.CONFLICT)


class NotFound(Failure):
    exit_code = int(Exit.NOT_FOUND)


class TimedOut(Failure):
    exit_code = int(Exit.TIMEOUT)


class Unreachable(Failure):
    exit_code = int(Exit.UNREACHABLE)


class Blocked(Failure):
    exit_code = int(Exit.BLOCKED)
