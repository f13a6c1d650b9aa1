"""Whole daemons whose volumes are to grow: refused for good, and while a node holds them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from schema.keys import Family
from tests.integration import fleets
from tools.fleet import FILE_DRIVER, Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root]

GIB = 1 << 30
NOOP = "reconciler.adapters.cinder.noop_driver.NoopDriver"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "files").mkdir(mode=0o700)
    backends = {
        "files": {"driver": FILE_DRIVER, "options": {"file_driver_folder": str(folder / "files")}},
        "refuses": {"driver": NOOP, "options": {"noop_failpoints": ["extend_volume:refuse"]}},
    }
    with Fleet(folder, packages=fleets.STATE, backends=backends) as running:
        running.controller(settings=fleets.QUICK)
        running.node("a", fleets.QUICK)
        fleets.until_ready(running, "files", "refuses")
        wait_until("the node is published", lambda: running.keys("/brickwork/v1/alive/"))
        yield running


def volume(fleet: Fleet, name: str) -> Any:
    return fleets.value(fleet, Family.VOLUME, name)


def until_available(fleet: Fleet, name: str) -> None:
    wait_until("it is there", lambda: getattr(volume(fleet, name), "phase", "") == "Available")


def reasons(fleet: Fleet, name: str) -> list[str]:
    verdict = fleets.value(fleet, Family.VERDICT_VOLUME, name)
    return [condition.reason for condition in verdict.conditions] if verdict is not None else []


def test_a_refused_extension_is_given_up_and_the_volume_is_granted(fleet: Fleet) -> None:
    """The verdict says why, nothing more is tried until the wish changes, and nobody waits for it meanwhile."""
    fleets.wish_volume(fleet, "full", backend="refuses")
    until_available(fleet, "full")
    fleets.wish_volume(fleet, "full", backend="refuses", size_gib=2)
    wait_until("it is refused", lambda: reasons(fleet, "full") == ["ExtendRefused"])
    assert (volume(fleet, "full").phase, volume(fleet, "full").size_gib) == ("Available", 1)
    assert fleets.value(fleet, Family.RECORD, "full").intent is None
    assert "told to refuse" in fleet.brickctl("explain", "full")
    fleets.attach(fleet, "a", "full")
    wait_until("it is granted", lambda: fleets.value(fleet, Family.GRANT, "full").holders)
    assert reasons(fleet, "full") == ["ExtendRefused"]
    fleets.wish_volume(fleet, "full", backend="refuses", size_gib=1)
    wait_until("nothing is said any more", lambda: not reasons(fleet, "full"))
    fleets.detach(fleet, "a", "full")
    fleets.until_gone(fleet, "a", "full")


def test_an_attached_volume_grows_under_its_user(fleet: Fleet) -> None:
    """The new size reaches the device while somebody has it open, and is told for the node (A43).

    Five writes: V8, V3, V4, C7, N12.
    """
    fleets.wish_volume(fleet, "grows")
    fleets.attach(fleet, "a", "grows")
    before = fleets.until_attached(fleet, "a", "grows")
    revision = fleet.revision()
    with open(before.path, "rb+", buffering=0) as device:
        device.write(b"precious".ljust(512))
        fleets.wish_volume(fleet, "grows", size_gib=2)
        wait_until("the node tells", lambda: fleets.value(fleet, Family.ATTACHMENT, "a", "grows").size_bytes == 2 * GIB)
        assert device.seek(0, os.SEEK_END) == 2 * GIB
        device.seek(0)
        assert device.read(8) == b"precious"
    after = fleets.until_attached(fleet, "a", "grows")
    assert (after.device, after.path, after.epoch) == (before.device, before.path, before.epoch)
    assert (volume(fleet, "grows").phase, volume(fleet, "grows").size_gib) == ("Available", 2)
    assert reasons(fleet, "grows") == []
    assert fleet.revision() - revision - 1 == 5
    fleet.daemon("a").kill()
    fleet.end_children("a")
    fleet.node("a", fleets.QUICK)
    fleets.detach(fleet, "a", "grows")
    fleets.until_gone(fleet, "a", "grows")
