"""The node's private notes as files: one JSON file per volume, mode 0600, durable when `save` returns.

A note that can't be read is not an absent one: the daemon must not forget a device, so it does not start then.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from reconciler.runtime.ports import Note, Terminal

_SUFFIX = ".json"


class FileNotes:
    """`ports.Notes` in a folder of the node's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def all(self) -> Mapping[str, Note]:
        """See the port.

        Raises:
            Terminal: a note can't be read; names the file and the remedy.
        """
        return {path.name.removesuffix(_SUFFIX): _read(path) for path in sorted(self._folder.glob(f"*{_SUFFIX}"))}

    def save(self, note: Note) -> None:
        path = self._folder / f"{note.volume}{_SUFFIX}"
        fresh = path.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            json.dump(asdict(note), stream)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
        self._sync()

    def drop(self, volume: str) -> None:
        (self._folder / f"{volume}{_SUFFIX}").unlink(missing_ok=True)
        self._sync()

    def _sync(self) -> None:
        """A rename or a removal is durable with its folder only."""
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> Note:
    try:
        return Note(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise Terminal(
            f"{path} can't be read ({type(error).__name__}): it says how to disconnect a volume that may be attached. "
            "Restore it; or detach that volume by hand and remove the file"
        ) from None
