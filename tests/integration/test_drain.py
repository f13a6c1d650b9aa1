"""A host is drained and comes back, with whole daemons on a real etcd (A25, A27)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from schema.keys import Family
from schema.models import HolderPhase
from tests.integration import fleets
from tools.fleet import VENV, Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A controller and two nodes."""
    with Fleet(tmp_path_factory.mktemp("fleet"), packages=fleets.STATE) as running:
        running.controller(settings=fleets.QUICK)
        running.node("a", fleets.QUICK)
        running.node("b", fleets.QUICK)
        fleets.until_ready(running, "files")
        wait_until("both nodes are published", lambda: len(running.keys("/brickwork/v1/alive/")) == 2)
        yield running


def start(fleet: Fleet, *arguments: str) -> subprocess.Popen[str]:
    """brickctl, running."""
    return subprocess.Popen(
        [str(VENV / "brickctl"), *arguments],
        env={**os.environ, "BRICKWORK_ENDPOINTS": fleet.etcd.endpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(client: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code, and all that it said."""
    out, err = client.communicate(timeout=180)
    return client.returncode, out + err


def attached_with(fleet: Fleet, node: str, volume: str, content: bytes) -> Any:
    """A volume that is attached, with something written through its device."""
    fleets.wish_volume(fleet, volume)
    fleets.attach(fleet, node, volume)
    status = fleets.until_attached(fleet, node, volume)
    with open(status.path, "r+b", buffering=0) as device:
        device.write(content.ljust(4096, b"\0"))
        os.fsync(device.fileno())
    return status


def content_of(fleet: Fleet, node: str, volume: str, length: int) -> bytes:
    with open(fleets.until_attached(fleet, node, volume).path, "rb") as device:
        return device.read(length)


def until_told(fleet: Fleet, node: str, volume: str, message: str) -> None:
    """The controller's verdict on the wish says just that."""

    def look() -> bool:
        verdict = fleets.value(fleet, Family.VERDICT_ATTACHMENT, node, volume)
        return bool(verdict) and [each.message for each in verdict.conditions] == [message]

    wait_until(f"{node}/{volume}: {message}", look, 60)


def until_busy(fleet: Fleet, node: str, volume: str) -> None:
    def look() -> bool:
        status = fleets.value(fleet, Family.ATTACHMENT, node, volume)
        return status is not None and any(each.reason == "DeviceBusy" for each in status.conditions)

    wait_until(f"{node}/{volume} is in use", look, 60)


def held_by(fleet: Fleet, volume: str) -> list[str]:
    grant = wait_until(f"{volume} is there", lambda: fleets.value(fleet, Family.GRANT, volume))
    return [holder.node for holder in grant.holders]


def until_detached(fleet: Fleet, node: str, volume: str) -> None:
    """Nothing is left of it but the wish, and what the controller says on that."""
    wait_until(
        f"{node}/{volume} is set aside",
        lambda: fleets.left_of(fleet, node, volume) == [Family.VERDICT_ATTACHMENT.path],
        60,
    )


def test_a_drain_outlives_daemons_and_its_end_brings_everything_back(fleet: Fleet) -> None:
    """One device is in use; node daemon and controller are killed in the middle; then it is free, and the drain is done."""
    free, used = (attached_with(fleet, "a", volume, volume.encode()) for volume in ("free", "used"))
    assert free.boot == used.boot
    with open(used.path, "rb"):
        draining = start(fleet, "drain", "a", "--label", "kernel", "--reason", "reboot", "--timeout", "170s", "--yes")
        until_detached(fleet, "a", "free")
        until_busy(fleet, "a", "used")
        for name, again in (("a", fleet.node), ("ctl", fleet.controller)):
            fleet.daemon(name).kill(signal.SIGKILL)
            fleet.end_children(name)
            again(name, settings=fleets.QUICK)
        fleets.until_ready(fleet, "files")
        fleets.wish_volume(fleet, "late")
        fleets.attach(fleet, "a", "late")
        until_told(fleet, "a", "late", "set aside: a is drained (kernel: reboot)")
        code, told = ended(start(fleet, "drain", "a", "--label", "kernel", "--timeout", "1s"))
        assert code == 7, told
        assert f"pid {os.getpid()}" in told
        assert fleets.value(fleet, Family.GRANT, "used").holders[0].phase is HolderPhase.READY
        assert held_by(fleet, "late") == held_by(fleet, "free") == []
        assert draining.poll() is None
    code, told = ended(draining)
    assert (code, "node/a drained\n" in told) == (0, True), told
    for volume in ("free", "used", "late"):
        assert set(fleets.left_of(fleet, "a", volume)) <= {Family.VERDICT_ATTACHMENT.path}
        assert fleets.value(fleet, Family.DESIRED_ATTACHMENT, "a", volume) is not None
    assert "Drained" in fleet.brickctl("get", "node", "a")

    # two labels: the node is open when both are gone
    assert ended(start(fleet, "drain", "a", "--label", "disk"))[0] == 0
    fleet.brickctl("undrain", "a", "--label", "kernel")
    for volume in ("free", "used", "late"):
        until_told(fleet, "a", volume, "set aside: a is drained (disk)")
        assert held_by(fleet, volume) == []
    fleet.brickctl("undrain", "a", "--label", "disk")
    for volume in ("free", "used"):
        assert content_of(fleet, "a", volume, 4) == volume.encode()
    fleets.until_attached(fleet, "a", "late")
    for volume in ("free", "used", "late"):
        fleets.detach(fleet, "a", volume)
        fleets.until_gone(fleet, "a", volume)
    assert fleets.value(fleet, Family.DESIRED_NODE, "a") is None


def test_a_cancelled_drain_leaves_what_was_not_detached_yet(fleet: Fleet) -> None:
    """The device in use is never touched; the other one comes back with its content."""
    attached_with(fleet, "b", "back", b"back again")
    kept = attached_with(fleet, "b", "kept", b"kept")
    with open(kept.path, "rb") as device:
        fleet.brickctl("drain", "b", "--no-wait", "--yes")
        until_detached(fleet, "b", "back")
        until_busy(fleet, "b", "kept")
        fleet.brickctl("undrain", "b")
        assert content_of(fleet, "b", "back", 10) == b"back again"
        assert device.read(4) == b"kept"
    after = fleets.until_attached(fleet, "b", "kept")
    assert (after.epoch, after.device) == (kept.epoch, kept.device)
    assert "Attached  Attached" in fleet.brickctl("get", "attachment", "b/kept")
    for volume in ("back", "kept"):
        fleets.detach(fleet, "b", volume)
        fleets.until_gone(fleet, "b", volume)


def test_a_cordon_keeps_what_is_there_and_new_work_away(fleet: Fleet) -> None:
    """Two labels; the wish is served once both are gone (A27)."""
    fleets.wish_volume(fleet, "waits")
    attached_with(fleet, "b", "stays", b"stays")
    fleet.brickctl("cordon", "b", "--label", "ana", "--reason", "new disk")
    fleet.brickctl("cordon", "b", "--label", "bob")
    fleets.attach(fleet, "b", "waits")
    until_told(fleet, "b", "waits", "node b is cordoned: ana: new disk; bob")
    fleet.brickctl("uncordon", "b", "--label", "ana")
    until_told(fleet, "b", "waits", "node b is cordoned: bob")
    assert content_of(fleet, "b", "stays", 5) == b"stays"
    fleet.brickctl("uncordon", "b", "--label", "bob")
    fleets.until_attached(fleet, "b", "waits")
    for volume in ("waits", "stays"):
        fleets.detach(fleet, "b", volume)
        fleets.until_gone(fleet, "b", volume)
