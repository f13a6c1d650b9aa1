"""F-S4 on whole daemons: what can't be read, on etcd or on disk, holds up its own volume, also after a reboot; and says so."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator

import pytest

from schema.keys import Family
from tests.integration import fleets
from tools.fleet import Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root, pytest.mark.slow]

VOLUMES = ("claim", "note", "link", "good")


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), packages=fleets.STATE) as running:
        running.controller(settings=fleets.QUICK)
        running.node("a", fleets.QUICK)
        fleets.until_ready(running, "files")
        yield running


def is_back(fleet: Fleet, volume: str, before: str) -> bool:
    status = fleets.value(fleet, Family.ATTACHMENT, "a", volume)
    attached = getattr(status, "attached", False) and status.boot != before
    return attached and (fleet.folder / "a" / "dev" / volume).is_symlink()


def test_what_can_not_be_read_keeps_no_other_volume_from_coming_back(fleet: Fleet) -> None:
    for volume in VOLUMES:
        fleets.wish_volume(fleet, volume)
        fleets.attach(fleet, "a", volume)
    for volume in VOLUMES:
        fleets.until_attached(fleet, "a", volume)
    before = fleets.value(fleet, Family.NODE, "a").boot
    fleet.daemon("a").kill()
    fleet.end_children("a")
    fleets.put(fleet, Family.CLAIM, "a", "claim", text='{"schema": 99}')
    note, link = fleet.folder / "a" / "state" / "notes" / "note", fleet.folder / "a" / "dev" / "link"
    kept = note.read_text()
    note.write_text("[" * 100_000)
    link.unlink()
    link.write_text("somebody's")
    fleet.reboot("a")
    fleet.node("a", fleets.QUICK)

    wait_until("the others are back", lambda: is_back(fleet, "good", before), 60)
    for volume, words in (
        ("claim", "claims/a/claim can't be read"),
        ("note", "(NoteUnreadable)"),
        ("link", "(LinkTaken)"),
    ):
        wait_until(f"{volume} is told", lambda v=volume, w=words: fleets.explained(fleet, "a", v, w), 60)  # type: ignore[misc]
    assert fleets.unready(fleet, "a", "claims/a/claim can't be read")
    assert fleets.unready(fleet, "a", f"{note} can't be read")
    log = (fleet.folder / "a" / "log").read_text()
    assert "claims/a/claim" in log
    assert not any(is_back(fleet, volume, before) for volume in VOLUMES if volume != "good")

    fleets.delete(fleet, Family.CLAIM, "a", "claim")
    link.unlink()
    note.write_text(kept)
    for volume in VOLUMES:
        wait_until(f"{volume} is back", lambda v=volume: is_back(fleet, v, before), 60)  # type: ignore[misc]
    assert not fleets.unready(fleet, "a", "can't be read")


def test_a_state_folder_that_was_removed_holds_up_no_detach(fleet: Fleet) -> None:
    """F-S15: under a running daemon, its worker killed as well, so that it begins another."""
    fleets.attached(fleet, "a", "here")
    shutil.rmtree(fleet.folder / "a" / "state")
    for worker in fleet.workers("a"):
        os.kill(worker, signal.SIGKILL)
    fleets.detach(fleet, "a", "here")
    fleets.until_gone(fleet, "a", "here")
    fleets.attached(fleet, "a", "next")
