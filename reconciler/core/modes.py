"""Which modes keep others out: of files that hold secrets, and of folders in which a daemon makes files. Pure decisions."""

from __future__ import annotations

ROOT = 0

_OTHERS = 0o007
_GROUP_WRITES_OR_RUNS = 0o030
_GROUP_READS = 0o040
_OTHERS_WRITE = 0o002
_STICKY = 0o1000


def exposes(mode: int, owner: int) -> bool:
    """Whether a file with a secret can be read, or replaced in place, by somebody that nobody chose for that.

    PostgreSQL's rule: its owner alone, or a group to which root gave it for reading (`root:brickwork`, 0640).
    """
    if mode & (_OTHERS | _GROUP_WRITES_OR_RUNS):
        return True
    return bool(mode & _GROUP_READS) and owner != ROOT


def lets_others_in(mode: int, owner: int, us: int, *, itself: bool) -> str:
    """Why others could put files of theirs into a folder, or move it away; empty: they could not.

    Args:
        us: the user that this process is.
        itself: it is the folder that is used, and not one above it: there the sticky bit does not help, as whoever makes a file
            first owns it.
    """
    if owner not in (ROOT, us):
        return f"it belongs to user {owner}"
    if mode & _OTHERS_WRITE and (itself or not mode & _STICKY):
        return "everybody may write to it"
    return ""
