"""Accidents on whole daemons: etcd comes back from an old backup (A57); two hosts are one node."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest

from daemons.process import Exit
from schema.keys import Family
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


def attached(fleet: Fleet, volume: str) -> None:
    fleets.wish_volume(fleet, volume)
    fleets.attach(fleet, "a", volume)
    fleets.until_attached(fleet, "a", volume)


def refuses(fleet: Fleet, daemon: str) -> bool:
    page = fleets.page(fleet, daemon, "/readyz")
    return " 503 " in page.splitlines()[0] and "went back in time" in page


def accept(fleet: Fleet, program: str, name: str) -> subprocess.CompletedProcess[str]:
    command = [str(VENV / program), "--config", str(fleet.folder / name / "settings.yaml"), "--accept-store"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_old_backup_stops_everything_until_it_is_accepted(fleet: Fleet) -> None:
    """Running and restarted daemons refuse the earlier state. Accepted, what it does not know of stays, and is asked about."""
    attached(fleet, "before")
    saved = fleet.folder / "saved"
    fleet.etcd.stop()
    shutil.copytree(fleet.etcd.folder / "data", saved)
    fleet.etcd.start()
    attached(fleet, "after")
    devices = fleet.loop_devices()
    for name in ("a", "ctl"):
        wait_until("it is noted how far etcd came", lambda n=name: noted(fleet, n) >= fleet.revision())  # type: ignore[misc]
    fleet.etcd.stop()
    shutil.rmtree(fleet.etcd.folder / "data")
    shutil.copytree(saved, fleet.etcd.folder / "data")
    fleet.etcd.start()
    for name in ("a", "ctl"):
        wait_until(f"{name} refuses", lambda n=name: refuses(fleet, n), 90)  # type: ignore[misc]
    assert 'brickwork_store_replaced{store="etcd"} 1.0' in fleets.page(fleet, "a", "/metrics")
    fleets.detach(fleet, "a", "before")
    for name, start in (
        ("a", lambda: fleet.node("a", fleets.QUICK)),
        ("ctl", lambda: fleet.controller(settings=fleets.QUICK)),
    ):
        assert "another daemon uses" in accept(fleet, program(name), name).stderr
        fleet.daemon(name).kill(signal.SIGKILL)
        fleet.end_children(name)
        start()
        wait_until(f"{name} refuses after its restart too", lambda n=name: served(fleet, n) and refuses(fleet, n), 60)  # type: ignore[misc]
    assert fleet.loop_devices() == devices
    fleets.attach(fleet, "a", "before")
    for name, start in (
        ("a", lambda: fleet.node("a", fleets.QUICK)),
        ("ctl", lambda: fleet.controller(settings=fleets.QUICK)),
    ):
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


def served(fleet: Fleet, name: str) -> bool:
    """The new process answers: the old one's socket refuses."""
    try:
        return bool(fleets.page(fleet, name, "/readyz"))
    except OSError:
        return False


def test_a_cloned_host_does_not_act_as_the_node_it_was_copied_from(fleet: Fleet) -> None:
    """Same state folder, other boot: the copy says DuplicateNode and waits; the first keeps its devices and goes on (A17)."""
    attached(fleet, "mine")
    before = fleets.value(fleet, Family.NODE, "a")
    (fleet.folder / "clone").mkdir()
    shutil.copytree(fleet.folder / "a" / "state", fleet.folder / "clone" / "state")
    fleet.node("clone", {**fleets.QUICK, "node": "a"})
    wait_until(
        "the copy says so",
        lambda: served(fleet, "clone") and "DuplicateNode" in fleets.page(fleet, "clone", "/readyz"),
        60,
    )
    attached(fleet, "another")
    assert fleets.value(fleet, Family.NODE, "a") == before
    assert fleets.value(fleet, Family.CLAIM, "a", "mine").boot == before.boot
    fleet.daemon("clone").kill(signal.SIGTERM)


def test_a_second_daemon_on_the_same_folder_is_refused(fleet: Fleet) -> None:
    """For both daemons: the second start ends with the reason, the first goes on."""
    for name in ("a", "ctl"):
        command = [str(VENV / program(name)), "--config", str(fleet.folder / name / "settings.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, "another daemon uses" in done.stderr) == (Exit.REFUSED, True)
    attached(fleet, "goes-on")
