"""The node's notes on its disk: what is saved is there again, private, and a note that can't be read holds up its volume alone."""

from __future__ import annotations

import re
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.adapters.notes import FileNotes
from reconciler.runtime.ports import Note, Retryable

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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"volume": "data"}', "[" * 100_000, "\udcff"])
def test_an_unreadable_note_is_no_absent_one(tmp_path: Path, text: str) -> None:
    """It may be all that tells how to disconnect a device: told, with the file's name and the remedy, without its content; the
    others are read (F-S4)."""
    (tmp_path / "data").write_text(text, errors="surrogateescape")
    notes = FileNotes(tmp_path)
    notes.save(replace(NOTE, volume="other"))
    assert list(notes.all()) == ["other"]
    told = notes.unreadable()
    assert list(told) == ["data"]
    assert re.search(r"data can't be read .*detach that volume by hand", told["data"])


def test_a_note_of_another_volume_is_no_note(tmp_path: Path) -> None:
    """Somebody copied a file: the name says whose it would be."""
    notes = FileNotes(tmp_path)
    notes.save(NOTE)
    (tmp_path / "copy").write_text((tmp_path / "data").read_text())
    assert list(notes.unreadable()) == ["copy"]


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
    (tmp_path / "n").write_text("")
    with pytest.raises(Retryable, match="can't be written"):
        notes.save(NOTE)


def test_a_folder_that_was_removed_is_made_again_and_holds_nothing_up(tmp_path: Path) -> None:
    """F-S15: under a running daemon. What was connected before can still be dropped."""
    notes = FileNotes(tmp_path / "state" / "n")
    notes.save(NOTE)
    shutil.rmtree(tmp_path / "state")
    notes.drop("data")
    notes.save(NOTE)
    assert FileNotes(tmp_path / "state" / "n").all() == {"data": NOTE}
