"""The node's private notes as files: one JSON file per volume, mode 0600, durable when `save` returns.

A note that can't be read is not an absent one: its volume is left alone until somebody restores the note, or removes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from reconciler.runtime.ports import Note, Retryable, Terminal

_NOTE = TypeAdapter(Note)
_FRESH = ".fresh-"
"""Half-written notes begin so; no volume's name begins with a dot. Notes have no suffix: a name may be as long as a file's."""


class FileNotes:
    """`ports.Notes` in a folder of the node's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def all(self) -> Mapping[str, Note]:
        """See the port."""
        return {name: note for name, note in self._read().items() if isinstance(note, Note)}

    def unreadable(self) -> Mapping[str, str]:
        """See the port. Names the file and the remedy."""
        return {name: note for name, note in self._read().items() if isinstance(note, str)}

    def _read(self) -> dict[str, Note | str]:
        try:
            return {path.name: _read(path) for path in sorted(self._folder.iterdir()) if not path.name.startswith(".")}
        except OSError as error:
            raise Terminal(f"the notes in {self._folder} can't be read: {error.strerror}") from error

    def save(self, note: Note) -> None:
        fresh = self._folder / f"{_FRESH}{hashlib.sha256(note.volume.encode()).hexdigest()}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # somebody may have removed it
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
                json.dump(asdict(note), stream)
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(self._folder / note.volume)
            self._sync()
        except OSError as error:
            raise Retryable(
                f"the note on {note.volume} can't be written to {self._folder}: {error.strerror}"
            ) from error

    def drop(self, volume: str) -> None:
        try:
            (self._folder / volume).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the whole folder was removed: nothing is there to drop
                self._sync()
        except OSError as error:
            raise Retryable(f"the note on {volume} can't be removed from {self._folder}: {error.strerror}") from error

    def _sync(self) -> None:
        """A rename or a removal is durable with its folder only."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> Note | str:
    """The note, or what is wrong with it."""
    try:
        note = _NOTE.validate_json(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        why = type(error).__name__
    else:
        if note.volume == path.name:
            return note
        why = f"it is of volume {note.volume!r}"
    return (
        f"{path} can't be read ({why}): it says how to disconnect a volume that may be attached. "
        "Restore it; or detach that volume by hand and remove the file"
    )
