"""systemd's journal: lines with their priority, and with fields to search by (`journalctl VOLUME=data`).

Only when stderr leads there. systemd says so by `JOURNAL_STREAM`, and a daemon that was started with another stderr since then must
not write past it. What the journal's own socket does not take goes to stderr after all, with the priority before each line
(sd-daemon(3)).
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from reconciler.adapters.child.levels import mark, priority

SOCKET = Path("/run/systemd/journal/socket")
FIELDS = ("volume", "node", "backend", "step", "epoch")
"""What of a line can be searched for; in the journal the names are in capitals."""


def leads_to_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether what is written to the stream gets into the journal."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def complain(text: str) -> None:
    """The last words of a process that has no log, on stderr; an error, for the journal."""
    print(mark(text, logging.ERROR) if leads_to_journal(sys.stderr, os.environ) else text, file=sys.stderr)


class Journal:
    """Where lines go instead of to the stream."""

    def __init__(self, program: str, stream: TextIO, path: Path = SOCKET) -> None:
        self._program = program
        self._stream = stream
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def write(self, text: str, level: int, fields: Mapping[str, str]) -> None:
        """One message. Raises OSError when there is no way at all."""
        message = {"MESSAGE": text, "PRIORITY": str(priority(level)), "SYSLOG_IDENTIFIER": self._program}
        message |= {name.upper(): value for name, value in fields.items()}
        try:
            self._socket.sendto(b"".join(_entry(*each) for each in message.items()), str(self._path))
        except OSError:  # the journal is being restarted, or the message is too long for a datagram
            self._stream.write(mark(text, level) + "\n")
            self._stream.flush()

    def close(self) -> None:
        self._socket.close()


def behind_stderr() -> Journal | None:
    """The journal, when stderr leads there."""
    return Journal(Path(sys.argv[0]).name, sys.stderr) if leads_to_journal(sys.stderr, os.environ) else None


def _entry(name: str, value: str) -> bytes:
    """A field in the journal's own form, in which a value may hold anything: name, length, value."""
    content = value.encode(errors="replace")
    return name.encode() + b"\n" + len(content).to_bytes(8, "little") + content + b"\n"
