"""Accidents on whole daemons: many wishes vanish at once (A33). Nothing is taken away before somebody says that it is meant."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from schema.keys import Family
from tests.integration import fleets
from tools.fleet import Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root, pytest.mark.slow]

VOLUMES = ("v1", "v2", "v3", "v4")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One node that holds four volumes, one that holds one."""
    with Fleet(tmp_path_factory.mktemp("fleet"), packages=fleets.STATE) as running:
        running.controller(settings=fleets.QUICK)
        running.node("a", fleets.QUICK)
        running.node("b", fleets.QUICK)
        fleets.until_ready(running, "files")
        wait_until("both nodes are published", lambda: len(running.keys("/brickwork/v1/alive/")) == 2)
        for volume in (*VOLUMES, "single"):
            fleets.wish_volume(running, volume)
            fleets.attach(running, "b" if volume == "single" else "a", volume)
        for volume in VOLUMES:
            fleets.until_attached(running, "a", volume)
        fleets.until_attached(running, "b", "single")
        yield running


def reasons(fleet: Fleet, volume: str) -> list[str]:
    status = fleets.value(fleet, Family.ATTACHMENT, "a", volume)
    return [each.reason for each in status.conditions] if status else []


def until_paused(fleet: Fleet, *volumes: str) -> None:
    for volume in volumes:
        wait_until(f"{volume} is paused", lambda v=volume: reasons(fleet, v) == ["DetachesPaused"])  # type: ignore[misc]


def devices(fleet: Fleet) -> dict[str, tuple[str, int]]:
    found = {volume: fleets.value(fleet, Family.ATTACHMENT, "a", volume) for volume in VOLUMES}
    return {volume: (status.device, status.epoch) for volume, status in found.items()}


def metric(fleet: Fleet, daemon: str, name: str) -> float:
    lines = fleets.page(fleet, daemon, "/metrics").splitlines()
    return float(next(line for line in lines if line.startswith(name)).rsplit(" ", 1)[1])


def test_wishes_deleted_by_prefix_detach_nothing(fleet: Fleet) -> None:
    """All wishes go at once: every device stays, through a restart of the daemon, until each wish is back."""
    before = devices(fleet)
    fleet.etcdctl_run("del", "--prefix", "/brickwork/v1/desired/attachments/a/")
    until_paused(fleet, *VOLUMES)
    told = fleet.brickctl("explain", "a", "v1")
    assert "Blocked (DetachesPaused)" in told
    assert "4 of 4 wishes for volumes on this node are gone at once" in told
    assert "brickctl detach --confirm-mass a" in told
    assert "DetachesPaused" in fleet.brickctl("get", "nodes")
    assert metric(fleet, "a", 'brickwork_paused{what="detaches"}') == 4
    fleet.daemon("a").kill(signal.SIGKILL)
    fleet.end_children("a")
    fleet.node("a", fleets.QUICK)
    for volume in VOLUMES[:3]:  # with the last one alone the threshold is no longer met, and still it stays
        fleets.attach(fleet, "a", volume)
        wait_until(f"{volume} is wished for again", lambda v=volume: not reasons(fleet, v))  # type: ignore[misc]
    assert reasons(fleet, "v4") == ["DetachesPaused"]
    fleets.attach(fleet, "a", "v4")
    wait_until("v4 is wished for again", lambda: not reasons(fleet, "v4"))
    assert devices(fleet) == before
    assert metric(fleet, "a", 'brickwork_paused{what="detaches"}') == 0


def test_what_is_confirmed_goes_and_covers_no_later_accident(fleet: Fleet) -> None:
    """The confirmation names epochs: the same volumes, attached anew, are protected anew."""
    fleet.etcdctl_run("del", "--prefix", "/brickwork/v1/desired/attachments/a/")
    until_paused(fleet, *VOLUMES)
    assert "attachment/a/v2 confirmed" in fleet.brickctl("detach", "a", "v2")
    fleets.until_gone(fleet, "a", "v2")
    assert reasons(fleet, "v1") == ["DetachesPaused"]
    fleet.brickctl("detach", "--confirm-mass", "a")
    for volume in VOLUMES:
        fleets.until_gone(fleet, "a", volume)
    for volume in VOLUMES:
        fleets.attach(fleet, "a", volume)
    for volume in VOLUMES:
        fleets.until_attached(fleet, "a", volume)
    fleet.etcdctl_run("del", "--prefix", "/brickwork/v1/desired/attachments/a/")
    until_paused(fleet, *VOLUMES)
    for volume in VOLUMES:
        fleets.attach(fleet, "a", volume)
        wait_until(f"{volume} is wished for again", lambda v=volume: not reasons(fleet, v))  # type: ignore[misc]


def test_wishes_taken_back_by_name_need_no_more_words(fleet: Fleet) -> None:
    """Naming is confirming: brickctl's own delete of all is carried out at once."""
    fleet.brickctl("delete", "attachment", *(f"a/{volume}" for volume in VOLUMES), "--yes")
    for volume in VOLUMES:
        fleets.until_gone(fleet, "a", volume)


def test_a_single_wish_that_goes_is_everyday_work(fleet: Fleet) -> None:
    """Below the threshold nobody is asked."""
    fleet.etcdctl_run("del", "--prefix", "/brickwork/v1/desired/attachments/b/")
    fleets.until_gone(fleet, "b", "single")


def test_volumes_whose_data_would_go_wait_for_a_confirmation(fleet: Fleet) -> None:
    """desired/volumes/ deleted by prefix: nothing is deleted on the backend until it is confirmed by name (A33)."""
    names = [f"scratch{number}" for number in range(4)]
    for name in names:
        fleets.wish_volume(fleet, name, on_delete="delete")
    records = {name: wait_until("made", lambda n=name: made(fleet, n)) for name in names}  # type: ignore[misc]
    fleet.etcdctl_run("del", "--prefix", "/brickwork/v1/desired/volumes/scratch")
    for name in names:
        wait_until(f"{name} is told", lambda n=name: paused(fleet, n))  # type: ignore[misc]
    assert all(files(fleet, record) for record in records.values())
    assert metric(fleet, "ctl", 'brickwork_paused{what="deletions"}') == 4
    assert "if its data is to go: brickctl delete volume scratch0" in fleet.brickctl("explain", "scratch0")
    for name in names[:3]:
        fleets.wish_volume(fleet, name, on_delete="delete")
        wait_until(f"{name} is wished for again", lambda n=name: not paused(fleet, n))  # type: ignore[misc]
    assert paused(fleet, "scratch3")
    fleet.brickctl("delete", "volume", "scratch3", "--yes")
    wait_until("the confirmed one goes", lambda: fleets.value(fleet, Family.RECORD, "scratch3") is None)
    assert not files(fleet, records["scratch3"])
    fleet.brickctl("delete", "volume", *names[:3], "--yes")
    wait_until("those named go", lambda: not any(fleets.value(fleet, Family.RECORD, name) for name in names))


def made(fleet: Fleet, volume: str) -> str:
    """The uid of a volume that is there."""
    status = fleets.value(fleet, Family.VOLUME, volume)
    return status.uid if status is not None and status.phase == "Available" else ""


def paused(fleet: Fleet, volume: str) -> bool:
    verdict = fleets.value(fleet, Family.VERDICT_VOLUME, volume)
    return verdict is not None and [each.reason for each in verdict.conditions] == ["DeletesPaused"]


def files(fleet: Fleet, uid: str) -> list[Path]:
    return [file for file in fleet.files.iterdir() if uid in file.name]
