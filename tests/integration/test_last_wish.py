"""Whole daemons and a real etcd: what a wish for a volume said last holds, seen or not, and where etcd forgot it somebody is asked
(F-D2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schema.keys import Family
from tests.integration import fleets
from tools.fleet import Fleet, wait_until

MEANT = {**fleets.QUICK, "mass_delete": {"share": 1.0}}
"""A controller that does not ask whether many deletions at once are meant (A33)."""
pytestmark = [pytest.mark.etcd, pytest.mark.root, pytest.mark.slow]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), packages=fleets.STATE) as running:
        running.controller(settings=MEANT)
        fleets.until_ready(running, "files")
        yield running


def made(fleet: Fleet, volume: str) -> str:
    """The uid of a volume that is there."""
    status = fleets.value(fleet, Family.VOLUME, volume)
    return status.uid if status is not None and status.phase == "Available" else ""


def asked(fleet: Fleet, volume: str) -> bool:
    verdict = fleets.value(fleet, Family.VERDICT_VOLUME, volume)
    return verdict is not None and [each.reason for each in verdict.conditions] == ["LastWishUnknown"]


def retained(fleet: Fleet, volume: str) -> bool:
    status = fleets.value(fleet, Family.VOLUME, volume)
    return status is not None and status.phase == "Retained"


def gone(fleet: Fleet, volume: str) -> bool:
    return fleets.value(fleet, Family.RECORD, volume) is None


def files(fleet: Fleet, uid: str) -> list[Path]:
    return [file for file in fleet.files.iterdir() if uid in file.name]


def test_a_wish_that_is_changed_and_removed_at_once(fleet: Fleet) -> None:
    """Quicker than the controller looks."""
    for number in range(3):
        name = f"v{number}"
        fleets.wish_volume(fleet, name, on_delete="delete")
        uid = wait_until(f"{name} is made", lambda n=name: made(fleet, n))  # type: ignore[misc]
        fleets.wish_volume(fleet, name, on_delete="retain")
        fleets.delete(fleet, Family.DESIRED_VOLUME, name)
        wait_until(f"{name} is retained", lambda n=name: retained(fleet, n))  # type: ignore[misc]
        assert files(fleet, uid)


def test_the_last_wish_holds(fleet: Fleet) -> None:
    """Changed and removed while no controller runs, for both words; and again with the history of that compacted away."""
    first = {"kept": "delete", "goes": "retain", "asked-goes": "delete", "asked-stays": "retain"}
    for name, on_delete in first.items():
        fleets.wish_volume(fleet, name, on_delete=on_delete)
    uids = {name: wait_until(f"{name} is made", lambda n=name: made(fleet, n)) for name in first}  # type: ignore[misc]
    fleet.daemon("ctl").kill()
    for name in ("asked-goes", "asked-stays"):
        fleets.wish_volume(fleet, name, on_delete="retain")
        fleets.delete(fleet, Family.DESIRED_VOLUME, name)
    fleet.etcdctl_run("compact", str(fleet.revision()))
    for name, on_delete in (("kept", "retain"), ("goes", "delete")):
        fleets.wish_volume(fleet, name, on_delete=on_delete)
        fleets.delete(fleet, Family.DESIRED_VOLUME, name)
    fleet.controller(settings=MEANT)
    wait_until("what was to go is gone", lambda: gone(fleet, "goes"))
    wait_until("what was to be kept is kept", lambda: retained(fleet, "kept"))
    for name in ("asked-goes", "asked-stays"):
        wait_until(f"{name} is asked about", lambda n=name: asked(fleet, n))  # type: ignore[misc]
    assert not files(fleet, uids["goes"])
    assert all(files(fleet, uids[name]) for name in ("kept", "asked-goes", "asked-stays"))
    assert "if its data is to go: brickctl delete volume asked-goes" in fleet.brickctl("explain", "asked-goes")
    fleet.brickctl("delete", "volume", "asked-goes", "--yes")
    wait_until("the confirmed one goes", lambda: gone(fleet, "asked-goes"))
    fleets.wish_volume(fleet, "asked-stays")
    wait_until("the other is taken back", lambda: made(fleet, "asked-stays"))
    fleets.delete(fleet, Family.DESIRED_VOLUME, "asked-stays")
    wait_until("and is retained", lambda: retained(fleet, "asked-stays"))
    assert files(fleet, uids["asked-stays"])
