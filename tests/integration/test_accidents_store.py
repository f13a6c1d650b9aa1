"""Accidents on whole daemons: etcd comes back from an old backup (A57)."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from daemons.process import Exit
from tests.integration import fleets
from tools.fleet import VENV, Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), packages=fleets.STATE) as running:
        running.controller(settings=fleets.QUICK)
        running.node("a", fleets.QUICK)
        fleets.until_ready(running, "files")
        yield running


def refuses(fleet: Fleet, daemon: str) -> bool:
    return fleets.unready(fleet, daemon, "went back in time")


def accept(fleet: Fleet, program: str, name: str) -> subprocess.CompletedProcess[str]:
    command = [str(VENV / program), "--config", str(fleet.folder / name / "settings.yaml"), "--accept-store"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_old_backup_stops_everything_until_it_is_accepted(fleet: Fleet) -> None:
    """Running and restarted daemons refuse the earlier state. Accepted, what it does not know of stays, and is asked about."""
    fleets.attached(fleet, "a", "before")
    saved = fleet.folder / "saved"
    fleet.etcd.stop()
    shutil.copytree(fleet.etcd.folder / "data", saved)
    fleet.etcd.start()
    fleets.attached(fleet, "a", "after")
    devices = fleet.loop_devices()
    for name in ("a", "ctl"):
        wait_until("it is noted how far etcd came", lambda n=name: noted(fleet, n) >= fleet.revision())  # type: ignore[misc]
    fleet.etcd.stop()
    shutil.rmtree(fleet.etcd.folder / "data")
    shutil.copytree(saved, fleet.etcd.folder / "data")
    fleet.etcd.start()
    for name in ("a", "ctl"):
        wait_until(f"{name} refuses", partial(refuses, fleet, name), 90)
    assert 'brickwork_store_replaced{store="etcd"} 1.0' in fleets.page(fleet, "a", "/metrics")
    fleets.detach(fleet, "a", "before")
    starts: tuple[tuple[str, Callable[[], object]], ...] = (
        ("a", lambda: fleet.node("a", fleets.QUICK)),
        ("ctl", lambda: fleet.controller(settings=fleets.QUICK)),
    )
    for name, start in starts:
        assert "another daemon uses" in accept(fleet, program(name), name).stderr
        fleet.daemon(name).kill(signal.SIGKILL)
        fleet.end_children(name)
        start()
        wait_until(f"{name} refuses after its restart too", partial(refuses, fleet, name), 60)
    assert fleet.loop_devices() == devices
    fleets.attach(fleet, "a", "before")
    for name, start in starts:
        fleet.daemon(name).kill(signal.SIGTERM)
        done = accept(fleet, program(name), name)
        assert (done.returncode, done.stderr) == (Exit.OK, "")
        start()
    wait_until(
        "what the backup knows goes on", lambda: "a/before: Attached" in fleet.brickctl("explain", "a", "before"), 60
    )
    wait_until(
        "the rest is asked about", lambda: "DetachesPaused" in fleet.brickctl("explain", "a", "after", check=False), 60
    )
    assert fleet.loop_devices() == devices
    fleet.brickctl("detach", "--confirm-mass", "a")
    fleets.until_gone(fleet, "a", "after")


def program(name: str) -> str:
    return "brickwork-controller" if name == "ctl" else "brickwork-node"


def noted(fleet: Fleet, name: str) -> int:
    file = fleet.folder / name / "state" / "store.json"
    return int(file.read_text().split('"revision": ')[1].split(",")[0]) if file.exists() else 0
