"""Whole daemons whose volumes are to grow: refused for good, and while a node holds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from schema.keys import Family
from tests.integration import fleets
from tools.fleet import FILE_DRIVER, Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root]

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
