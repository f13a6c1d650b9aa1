"""A controller's own words do not wake it: a verdict on a failure must not undo the back-off that it tells of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from schema.keys import Family
from tests.integration import fleets
from tools.fleet import FILE_DRIVER, Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.slow]

PATIENT = {**fleets.QUICK, "retry_base_s": 600.0, "retry_cap_s": 1200.0}
"""After one failure nothing is tried again for as long as the test runs."""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "files").mkdir(mode=0o700)
    backends = {
        "files": {"driver": FILE_DRIVER, "options": {"file_driver_folder": str(tmp_path / "files")}},
        "fails": {
            "driver": "reconciler.adapters.cinder.noop_driver.NoopDriver",
            "options": {"noop_failpoints": ["create_volume:fail"], "noop_journal": str(tmp_path / "journal")},
        },
    }
    with Fleet(tmp_path, packages=fleets.STATE, backends=backends) as running:
        running.controller(settings=PATIENT)
        fleets.until_ready(running, "files", "fails")
        yield running


def test_a_verdict_does_not_wake_its_writer(fleet: Fleet) -> None:
    """One failed call, one verdict, and no second call while other volumes come and go."""
    fleets.wish_volume(fleet, "fails", backend="fails")
    wait_until("the failure is told", lambda: fleets.value(fleet, Family.VERDICT_VOLUME, "fails"))
    for number in range(5):
        fleets.wish_volume(fleet, f"v{number}")
        wait_until("another is made", partial(fleets.value, fleet, Family.RECORD, f"v{number}"))
    calls = (fleet.folder / "journal").read_text().count('"create_volume"')
    assert calls == 1
