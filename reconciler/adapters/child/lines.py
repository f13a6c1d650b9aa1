"""Lines on the pipes of a child: bounded, whatever it writes.

A reply is one JSON text. A long one comes in several lines, all but the last of which begin with `CONTINUED`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from reconciler.runtime import ports

LINE_MAX = 1 << 20
"""Bytes of one line of a reply."""
PIECE_MAX = LINE_MAX // 2
REPLY_MAX = 64 << 20
"""Bytes of one reply: some kB for each volume of the largest backends."""
CONTINUED = b"+"

ERRORS: Mapping[str, type[ports.PortError]] = {
    kind.__name__: kind
    for kind in vars(ports).values()
    if isinstance(kind, type) and issubclass(kind, ports.PortError) and kind is not ports.PortError
}
"""What a worker may say that went wrong."""


class BadReply(ValueError):
    """What came over the pipe is no reply. The child is of no use any more."""


class Lines:
    """Chunks in, whole lines out. Of a line that exceeds `limit` bytes the rest is left out, or it is refused."""

    def __init__(self, limit: int, *, refuse: bool = False) -> None:
        self._rest = bytearray()
        self._limit = limit
        self._refuse = refuse
        self._cutting = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that ended with this chunk. Raises BadReply."""
        *ended, rest = chunk.split(b"\n")
        lines = []
        for part in ended:
            self._take(part)
            if not self._cutting:
                lines.append(bytes(self._rest))
            self._rest.clear()
            self._cutting = False
        self._take(rest)
        if len(self._rest) > self._limit:
            lines.append(bytes(self._rest[: self._limit]))
            self._rest.clear()
            self._cutting = True
        return lines

    def _take(self, part: bytes) -> None:
        if self._cutting:
            return
        self._rest += part
        if self._refuse and len(self._rest) > self._limit:
            raise BadReply(f"a line of more than {self._limit:,} bytes")


class Replies:
    """Chunks of the reply pipe in, whole replies out."""

    def __init__(self) -> None:
        self._lines = Lines(LINE_MAX, refuse=True)
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """Raises BadReply."""
        found = []
        for line in self._lines.feed(chunk):
            self._size += len(line)
            if self._size > REPLY_MAX:
                raise BadReply(f"a reply of more than {REPLY_MAX:,} bytes")
            if line.startswith(CONTINUED):
                self._parts.append(line[1:])
                continue
            found.append(_checked(b"".join([*self._parts, line])))
            self._parts, self._size = [], 0
        return found


def _checked(text: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadReply(f"no JSON: {type(error).__name__}") from None
    match reply:
        case {"secret": str()}:
            return dict(reply)
        case {"secret": _}:
            pass
        case {"id": int(), "ok": _}:
            return dict(reply)
        case {"id": int(), "error": {"kind": str(kind), "message": str(), "holders": list(), "found": str()}} if (
            kind in ERRORS
        ):
            return dict(reply)
    raise BadReply("neither a result nor an error that there is")


def to_exception(error: Mapping[str, Any]) -> ports.PortError:
    """The error of a reply."""
    kind = ERRORS[error["kind"]]
    if kind is ports.OtherStorage:
        return ports.OtherStorage(error["message"], error["found"])
    holders = [str(each) for each in error["holders"]]
    return ports.Busy(error["message"], holders) if kind is ports.Busy else kind(error["message"])
