"""Two controllers, one backend, and behind it each host's own disk (F-D6): whole daemons."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from schema.keys import Family
from tests.integration import fleets
from tools.fleet import VENV, Daemon, Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), packages=fleets.STATE) as running:
        yield running


def with_own_disk(fleet: Fleet, name: str) -> Daemon:
    """A controller with the settings of `ctl`, for which another disk is mounted where the volumes are."""
    place = fleet.folder / name
    place.mkdir()
    settings = yaml.safe_load((fleet.folder / "ctl" / "settings.yaml").read_text())
    own = {"name": name, "state_folder": f"{place}/state", "run_folder": f"{place}/run", "http": {"listen": "none"}}
    (place / "settings.yaml").write_text(yaml.safe_dump({**settings, **own}))
    start = f"mount -t tmpfs none {fleet.files} && exec {VENV}/brickwork-controller --config {place}/settings.yaml"
    daemon = Daemon(name, ["unshare", "-m", "sh", "-c", start], place / "log", {"BRICKWORK_STATE": ""})
    fleet._daemons[name] = daemon
    return daemon


def test_f_d6_the_second_controller_stands_aside_and_the_first_goes_on(fleet: Fleet) -> None:
    """A delete that was wished for meanwhile is done by the one that has the data, and counts as done only then."""
    first = fleet.controller(settings=fleets.QUICK)
    fleet.node("n1", fleets.QUICK)
    fleets.until_ready(fleet, "files")
    fleets.attached(fleet, "n1", "v")
    fleets.wish_volume(fleet, "w", on_delete="delete")
    wait_until("w is there", lambda: len(fleet.volume_files()) == 2)
    first.kill()
    with_own_disk(fleet, "other")

    def reason() -> str:
        return str(fleets.value(fleet, Family.BACKEND, "files").reason)

    wait_until("the other says whose storage it has", lambda: reason() == "StorageDiffers", 60)
    fleets.delete(fleet, Family.DESIRED_VOLUME, "w")
    told = fleet.brickctl("get", "backends", check=False)
    assert "files" in told
    fleet.controller(settings=fleets.QUICK)
    wait_until("the first leads again", lambda: reason() == "Ready", 60)
    wait_until("w is deleted", lambda: len(fleet.volume_files()) == 1, 60)
    wait_until("its record is gone", lambda: fleets.value(fleet, Family.RECORD, "w") is None)
