"""What the node asks its connector for: the volume of this epoch, as it was seen before."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.adapters.notes import FileNotes
from reconciler.controllers.host import Host
from reconciler.runtime.ports import Note
from schema.models import Connection, HolderPhase


def connection(epoch: int, identity: str | None = None) -> Connection:
    return Connection(uid="uid", epoch=epoch, boot="boot", phase=HolderPhase.READY, conn_info={}, identity=identity)


def host(folder: Path, *, details: dict[str, str] | None, identity: str | None = None) -> Host:
    """A host that connected `data` in epoch 7."""
    notes = FileNotes(folder)
    notes.save(Note("data", "uid", 7, "boot", "rw", {}, None, identity, details))
    return Host("n1", notes)


@pytest.mark.parametrize("forgotten", [False, True], ids=["connected", "connecting again"])
def test_a_device_that_went_away_must_come_back_as_the_same_volume(tmp_path: Path, forgotten: bool) -> None:
    """A34: the storage promised no identity, and might have put another volume at the address meanwhile."""
    known = (
        host(tmp_path, details=None, identity="3600a") if forgotten else host(tmp_path, details={"identity": "3600a"})
    )
    assert known.wanted("data", connection(7)).identity == "3600a"


def test_another_epoch_may_have_another_identity(tmp_path: Path) -> None:
    assert host(tmp_path, details={"identity": "3600a"}).wanted("data", connection(8)).identity is None


def test_what_the_storage_promises_counts_more_than_what_was_seen(tmp_path: Path) -> None:
    assert host(tmp_path, details={"identity": "3600a"}).wanted("data", connection(7, "3600b")).identity == "3600b"
