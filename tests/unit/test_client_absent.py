"""Whoever should answer is not there: what they said last is not told as what is so (F-S11)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schema.keys import Family
from schema.models import Alive, BackendStatus
from tests.unit.client_world import World

NOBODY = "no controller leads backend lvm: is one running, with lvm in its settings?"


def status(world: World, *name: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(world.ok("get", *name, "-o", "json"))["status"]
    return told


@pytest.fixture
def moving() -> World:
    """web-2 waits for the volume; web-1 has released it; then the last controller ended."""
    world = World()
    world.attached()
    world.node("web-2")
    world.wish("web-2")
    world.verdict(Family.DESIRED_ATTACHMENT, ("web-2", "data"), "Granted", "HeldBy", "held by web-1 (epoch 7, ready)")
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")
    world.said("Released")
    return world


def test_an_old_verdict_blames_nobody_where_no_controller_leads(moving: World) -> None:
    """In every form of `get`, in `describe` and in `wait`; with a controller its word stands."""
    assert status(moving, "attachment", "web-2/data")["waits_for"] == "node web-1"
    moving.delete(Family.LEADER, "lvm")
    for node in ("web-1", "web-2"):
        told = status(moving, "attachment", f"{node}/data")
        assert (told["reason"], told["waits_for"]) == ("NoController", "controller")
        assert NOBODY in told["message"]
        for command in (("describe", "attachment", f"{node}/data"), ("get", "attachments", "-o", "wide")):
            assert NOBODY in moving.ok(*command)
    rows = [line.split() for line in moving.ok("get", "attachments").splitlines()[1:]]
    assert [row[:4] for row in rows] == [
        ["web-1", "data", "Released", "NoController"],
        ["web-2", "data", "Pending", "NoController"],
    ]
    assert "the last one said: HeldBy" in status(moving, "attachment", "web-2/data")["message"]
    result = moving.run("wait", "attachment", "web-2/data", "--for=attached", "--timeout", "10s")
    assert (result.exit_code, NOBODY in result.stderr) == (5, True)


def test_why_a_controller_stands_aside_is_told(moving: World) -> None:
    """Its storage is another one: it gives leadership away again and again, so that mostly nobody leads (F-D6)."""
    moving.delete(Family.LEADER, "lvm")
    moving.put(
        Family.BACKEND, ("lvm",), BackendStatus(ready=False, reason="StorageDiffers", message="it is lvm-B", driver="d")
    )
    assert "the last one said: StorageDiffers: it is lvm-B" in status(moving, "attachment", "web-1/data")["message"]


def test_the_controller_may_go_while_somebody_waits(moving: World) -> None:
    """The last look is taken when the time is over."""
    moving.later(5, lambda: moving.delete(Family.LEADER, "lvm"))
    result = moving.run("wait", "attachment", "web-2/data", "--for=attached", "--timeout", "10s")
    assert (result.exit_code, NOBODY in result.stderr) == (5, True)


def test_what_is_attached_works_on_without_a_controller() -> None:
    """The node answers for it, and nothing is waited for; an old complaint is dropped."""
    world = World()
    world.attached()
    world.verdict(Family.DESIRED_ATTACHMENT, ("web-1", "data"), "Exported", "ExportFailed", "array down", next_try="x")
    world.delete(Family.LEADER, "lvm")
    told = status(world, "attachment", "web-1/data")
    assert (told["state"], told["reason"], told.get("waits_for"), told.get("next_try")) == (
        "Attached",
        "Attached",
        None,
        None,
    )
    assert "array down" not in world.ok("get", "attachments", "-o", "wide")
    world.ok("wait", "attachment", "web-1/data", "--for=attached")
    assert status(world, "volume", "data")["state"] == "Available"


def test_an_old_doubt_stays_one() -> None:
    """Nothing is called attached that the controller could not explain."""
    world = World()
    world.attached()
    world.verdict(Family.DESIRED_ATTACHMENT, ("web-1", "data"), "Granted", "HoldersDiffer", "grants differ")
    world.delete(Family.LEADER, "lvm")
    assert status(world, "attachment", "web-1/data")["state"] == "Uncertain"


@pytest.mark.parametrize("told", ["CreateFailed", "DeletesPaused"])
def test_a_volume_that_nobody_answers_for(told: str) -> None:
    """Failed or waiting: the backend's last word is told as such, and no next try is promised."""
    world = World()
    world.backend()
    world.volume()
    world.verdict(Family.DESIRED_VOLUME, ("data",), "Available", told, "no space", next_try="2030-01-01T00:00:00Z")
    assert status(world, "volume", "data")["reason"] == told
    world.delete(Family.LEADER, "lvm")
    found = status(world, "volume", "data")
    assert (found["reason"], found["waits_for"], found.get("next_try")) == ("NoController", "controller", None)
    assert f"(the last one said: {told}: no space)" in found["message"]
    accepted = next(each for each in found["conditions"] if each["type"] == "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("Unknown", "NoController")
    result = world.run("wait", "volume", "data", "--for=available", "--timeout", "0")
    assert (result.exit_code, NOBODY in result.stderr) == (1, True)


@pytest.mark.parametrize("gone", ["silent", "rebooted"])
def test_a_busy_device_is_a_word_of_a_boot_that_is_there(gone: str) -> None:
    """Of a node that is silent, or has begun another boot, nobody knows what uses the device, or how many paths are live."""
    world = World()
    world.attached()
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")
    world.said("Attached", world.condition("Released", "DeviceBusy", "device is in use (mounted at /srv)"))
    assert status(world, "attachment", "web-1/data")["reason"] == "DeviceBusy"
    if gone == "silent":
        world.delete(Family.ALIVE, "web-1")
    else:
        world.put(Family.ALIVE, ("web-1",), Alive(boot="b2", since=world.stamp(1)))
    told = status(world, "attachment", "web-1/data")
    assert (told["state"], told["waits_for"]) == ("Uncertain", "node web-1")
    assert "mounted at" not in json.dumps(told)
    assert (told.get("paths"), told.get("device"), told["path"]) == (None, None, "/dev/brickwork/data")
    assert "mounted at" not in world.run("drain", "web-1", "--timeout", "5s").stderr


def test_who_holds_it_is_waited_for_only_until_it_is_revoked(moving: World) -> None:
    """The controller leads, and its backend can't unmap: the node has done its part."""
    moving.held("revoked")
    assert status(moving, "attachment", "web-2/data")["waits_for"] == "backend lvm"


def test_a_backend_without_a_leader_has_no_controller() -> None:
    """Its last one is named in the message only."""
    world = World()
    world.backend()
    world.delete(Family.LEADER, "lvm")
    assert "controller" not in status(world, "backend", "lvm")


@pytest.mark.parametrize(
    "command",
    [
        ("attach", "web-1", "data"),
        ("detach", "web-1", "data"),
        ("apply", "-f", "-"),
        ("delete", "volume", "data"),
        ("delete", "attachment", "web-1/data"),
    ],
)
def test_who_makes_or_ends_a_wish_is_told_that_nobody_answers(command: tuple[str, ...]) -> None:
    """A wish is stored whoever is there; but "created" alone sounds as if it went on."""
    manifest = "kind: Attachment\nnode: web-1\nvolume: data\n---\nkind: Volume\nname: data\nspec: {backend: lvm, size_gib: 10}\n"
    world = World()
    world.attached()
    told = world.run(*command, stdin=manifest).stderr
    assert "hint: no controller" not in told
    assert "gives no sign of life" not in told
    world = World()
    world.attached()
    world.delete(Family.LEADER, "lvm")
    world.delete(Family.ALIVE, "web-1")
    told = world.run(*command, stdin=manifest).stderr
    assert "hint: no controller leads backend lvm" in told
    assert ("hint: node web-1 gives no sign of life" in told) is ("volume" not in command)
