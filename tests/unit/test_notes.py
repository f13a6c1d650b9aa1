"""The node's notes on its disk: what is saved is there again, private, and a note that can't be read stops the start."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from reconciler.adapters.notes import FileNotes
from reconciler.runtime.ports import Note, Retryable, Terminal

NOTE = Note("data", "uid", 7, "boot", "rw", {"data": {"auth_password": "s3cret"}}, 1 << 30, None, {"path": "/dev/x"})


def test_a_note_outlives_the_process(tmp_path: Path) -> None:
    """Another instance on the same folder reads what was saved, the last word of it."""
    FileNotes(tmp_path / "n").save(Note("data", "uid", 6, "boot", "rw", {}, None, None))
    FileNotes(tmp_path / "n").save(NOTE)
    assert FileNotes(tmp_path / "n").all() == {"data": NOTE}


def test_a_note_is_private(tmp_path: Path) -> None:
    """It holds secrets: nobody but its owner may read the file or the folder."""
    FileNotes(tmp_path / "n").save(NOTE)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "n", tmp_path / "n" / "data")]
    assert modes == [0o700, 0o600]


def test_dropping_twice_is_dropping_once(tmp_path: Path) -> None:
    """Idempotent, as everything that is resumed after a crash."""
    notes = FileNotes(tmp_path)
    notes.save(NOTE)
    notes.drop("data")
    notes.drop("data")
    assert notes.all() == {}


def test_the_longest_name_fits(tmp_path: Path) -> None:
    """A volume's name may be as long as a file's."""
    name = "v" * 253
    notes = FileNotes(tmp_path)
    notes.save(Note(name, "uid", 7, "boot", "rw", {}, None, None))
    assert list(notes.all()) == [name]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"volume": "data"}'])
def test_an_unreadable_note_is_no_absent_one(tmp_path: Path, text: str) -> None:
    """It may be all that tells how to disconnect a device: refused, with the file's name and the remedy, without its content."""
    (tmp_path / "data").write_text(text)
    with pytest.raises(Terminal, match=r"data can't be read .*detach that volume by hand"):
        FileNotes(tmp_path).all()


def test_a_half_written_note_is_not_read(tmp_path: Path) -> None:
    """A crash while saving leaves the note before, whole."""
    notes = FileNotes(tmp_path)
    notes.save(NOTE)
    (tmp_path / ".fresh-0123").write_text("{")
    assert notes.all() == {"data": NOTE}


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """What can't be written is tried again, before anything is connected."""
    notes = FileNotes(tmp_path / "n")
    (tmp_path / "n").rmdir()
    with pytest.raises(Retryable, match="can't be written"):
        notes.save(NOTE)
