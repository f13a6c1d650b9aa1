"""Whole daemons whose array is changed behind their back: what is lost comes back, what is foreign is told and left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schema.keys import Family
from schema.models import Record
from tests.integration import fleets
from tools.fleet import Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, packages=fleets.STATE) as running:
        running.controller(settings={**fleets.QUICK, "audit_s": 0.5})
        running.node("a", fleets.QUICK)
        fleets.until_ready(running, "files")
        wait_until("the node is published", lambda: running.keys("/brickwork/v1/alive/"))
        yield running


def exported(fleet: Fleet, volume: str) -> Path:
    """Where the driver notes that the volume is mapped to node a."""
    record: Record = fleets.value(fleet, Family.RECORD, volume)
    return fleet.files / ".exports" / record.uid / "a"


def test_an_export_that_is_lost_comes_back_without_a_write(fleet: Fleet) -> None:
    fleets.wish_volume(fleet, "data")
    fleets.attach(fleet, "a", "data")
    before = fleets.until_attached(fleet, "a", "data")
    connection = fleet.store.get(fleets.KEYSPACE.path(Family.CONNECTION, "a", "data"))
    exported(fleet, "data").unlink()
    wait_until("it is exported again", exported(fleet, "data").exists)
    assert fleet.store.get(fleets.KEYSPACE.path(Family.CONNECTION, "a", "data")) == connection
    assert fleets.until_attached(fleet, "a", "data") == before
    fleets.detach(fleet, "a", "data")
    fleets.until_gone(fleet, "a", "data")


def test_an_export_that_nobody_recorded_is_told_and_never_touched(fleet: Fleet) -> None:
    fleets.wish_volume(fleet, "data")
    fleets.attach(fleet, "a", "data")
    fleets.until_attached(fleet, "a", "data")
    stranger = exported(fleet, "data").with_name("b")
    stranger.touch()
    told = wait_until("it is told", lambda: fleets.value(fleet, Family.BACKEND, "files").orphans)
    assert [(each.volume, each.client) for each in told] == [("data", "b")]
    assert "volume data" in fleet.brickctl("describe", "backend", "files")
    assert stranger.exists()
    stranger.unlink()
    wait_until("it is no longer told", lambda: not fleets.value(fleet, Family.BACKEND, "files").orphan_exports)
