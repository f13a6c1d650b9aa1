"""`brickctl wait`: watch-based, with a clear answer for each way it can end (A54). Time is virtual."""

from __future__ import annotations

import pytest

from reconciler.runtime.ports import Compacted
from schema.keys import Family
from tests.unit.client_world import KEYS, World


@pytest.fixture
def world() -> World:
    """web-1 claimed the volume and connects it."""
    world = World()
    world.attached()
    world.said("Attaching")
    return world


ATTACHED = ("wait", "attachment", "web-1/data", "--for=attached")


def test_it_ends_when_it_is_so(world: World) -> None:
    """The change itself ends the wait; nothing is asked in between."""
    world.later(3, lambda: world.said("Attached"))
    started = world.clock.now()
    assert world.ok(*ATTACHED) == "attachment/web-1/data attached\n"
    assert world.clock.now() - started == pytest.approx(3, abs=0.1)
    quiet = world.store.calls["txn"]
    world.said("Attaching")
    world.later(50, lambda: world.said("Attached"))
    world.ok(*ATTACHED)
    assert world.store.calls["txn"] - quiet <= 8


def test_it_is_so_already(world: World) -> None:
    """No watch is opened for that."""
    world.said("Attached")
    world.ok(*ATTACHED)
    assert "watch" not in world.store.calls


def test_the_time_is_over(world: World) -> None:
    """Exit code 5, in time, with the state, who is waited for, and the last reason."""
    started = world.clock.now()
    result = world.run(*ATTACHED, "--timeout", "2m")
    assert (result.exit_code, world.clock.now() - started) == (5, 120)
    assert result.stderr == (
        "Error: after 120 s: attachment/web-1/data is Attaching, not attached, waits for node web-1: "
        "web-1 connects and verifies it\n"
    )


def test_blocked_has_its_own_exit_code(world: World) -> None:
    """A11, A25: a device in use ends in 7, and names the holders."""
    busy = world.condition("Released", "DeviceBusy", "device is in use (mounted at /srv)")
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")
    world.said("Attached", busy)
    result = world.run("wait", "attachment", "web-1/data", "--for=detached")
    assert result.exit_code == 7
    assert (
        "is Blocked, not detached, waits for whoever uses it on node web-1: device is in use (mounted" in result.stderr
    )


def test_what_is_refused_does_not_become_so(world: World) -> None:
    """F-C1: another mode is wished for than the device has: exit code 7, not 5."""
    world.said("Attached")
    world.wish(spec=b'{"mode": "ro"}')
    assert world.run(*ATTACHED).exit_code == 7
    assert world.run("wait", "attachment", "web-1/data", "--for=condition=Ready").exit_code == 7
    assert world.run("wait", "attachment", "web-1/data", "--for=detached").exit_code == 5


def test_one_look(world: World) -> None:
    """--timeout 0: exit code 1 where it is not so."""
    assert world.run(*ATTACHED, "--timeout", "0").exit_code == 1


def test_there_is_nothing_to_wait_for(world: World) -> None:
    """Exit code 4, at once; and when the wish goes away in the middle."""
    assert world.run("wait", "attachment", "web-1/logs", "--for=attached").exit_code == 4
    assert world.run("wait", "volume", "logs", "--for=available").exit_code == 4

    def gone() -> None:
        for family in (Family.DESIRED_ATTACHMENT, Family.CLAIM, Family.ATTACHMENT):
            world.delete(family, "web-1", "data")
        world.available()

    world.later(1, gone)
    assert world.run(*ATTACHED).exit_code == 4


def test_detached_means_nothing_in_flight(world: World) -> None:
    """Released is not detached yet; a wish that is still there is named in the end."""
    world.said("Released")
    result = world.run("wait", "attachment", "web-1/data", "--for=detached", "--timeout", "1s")
    assert "it is still wished for: brickctl detach web-1 data" in result.stderr
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")
    world.later(1, world.available)
    world.later(2, lambda: world.delete(Family.ATTACHMENT, "web-1", "data"))
    started = world.clock.now()
    world.ok("wait", "attachment", "web-1/data", "--for=detached")
    assert world.clock.now() - started >= 2


def test_volumes(world: World) -> None:
    """Available in its present spec; deleted, though the data may be retained."""
    world.volume("logs")
    world.later(2, lambda: world.available("logs"))
    assert (
        world.ok("wait", "volume", "data", "logs", "--for=available")
        == "volume/data available\nvolume/logs available\n"
    )
    world.volume("logs", b'{"backend": "lvm", "size_gib": 20}')
    assert world.run("wait", "volume", "logs", "--for=available", "--timeout", "1s").exit_code == 5
    world.delete(Family.DESIRED_VOLUME, "logs")
    world.later(2, lambda: world.delete(Family.VOLUME, "logs"))
    assert world.ok("wait", "volume/logs", "--for=deleted") == "volume/logs deleted\n"


def test_conditions(world: World) -> None:
    """Any condition, with True as the default."""
    world.later(1, lambda: world.said("Attached", paths_live=1))
    assert world.run("wait", "attachment", "web-1/data", "--for=condition=Degraded").exit_code == 0
    world.later(1, lambda: world.said("Attached"))
    assert world.run("wait", "attachment", "web-1/data", "--for=condition=Degraded=False").exit_code == 0
    assert world.run("wait", "volume", "data", "--for=condition=Available").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attachment", "a/b", "--for=ready"), "write one of attached, detached, available, deleted, condition="),
        (("volume", "a", "--for=attached"), "--for=attached is for attachment, not for volume/a"),
        (("volume", "a", "--for=condition=Ready"), "the conditions of volumes are Accepted, Available"),
        (("node", "a", "--for=condition=Ready"), "the conditions of nodes are none"),
        (("attachment", "a/b", "--for=condition=Ready=yes"), "write True, False or Unknown"),
        (("attachment", "a/b", "--for=attached", "--timeout", "soon"), "write for instance 60s, 5m or 1h"),
        (("backend", "lvm", "--for=deleted"), "'backend' is no kind of object here"),
    ],
)
def test_misuse(arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2, and what to write instead."""
    result = World().run("wait", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_compacted_history_is_read_anew(world: World) -> None:
    """A21: what was missed is looked for; the wait goes on."""
    world.store.watch_ends.extend([Compacted("gone")] * 8)
    world.later(30, lambda: world.said("Attached"))
    assert world.run(*ATTACHED).exit_code == 0


def test_a_store_that_goes_away(world: World) -> None:
    """Exit code 6, not a hang."""
    world.later(2, lambda: setattr(world.store, "down", True))
    assert world.run(*ATTACHED, "--timeout", "1h").exit_code == 6


def test_a_narrow_role_can_wait_too(world: World) -> None:
    """Keys that may not be read are done without."""
    world.store.denied = (KEYS.folder(Family.FENCE), KEYS.folder(Family.FENCED))
    world.later(2, lambda: world.said("Attached"))
    assert world.run(*ATTACHED).exit_code == 0


def test_somebody_looking_on_is_told(world: World) -> None:
    """F-C17: on a terminal it says at once how it stands, and every change."""
    world.terminal = True
    world.later(1, lambda: world.said("Attaching", world.condition("Verified", "IdentityMismatch", "another disk")))
    world.later(2, lambda: world.said("Attached"))
    result = world.run(*ATTACHED)
    assert result.stderr.splitlines() == [
        "attachment/web-1/data: Attaching, waits for node web-1: web-1 connects and verifies it",
        "attachment/web-1/data: Failed, waits for operator: another disk",
    ]
    world.terminal = False
    assert world.run(*ATTACHED).stderr == ""


def test_there_is_a_nearest_name(world: World) -> None:
    """F-C8: for what is waited for, and for the goal."""
    assert "did you mean web-1/data?" in world.run("wait", "attachment", "web-1/dta", "--for=attached").stderr
    assert "did you mean attached?" in world.run(*ATTACHED[:-1], "--for=atached").stderr


@pytest.mark.parametrize("goal", ["attached", "condition=Ready"])
@pytest.mark.parametrize(
    ("spec", "words"),
    [(b'{"mode": "ro"}', "attached as rw, and wished for otherwise"), (b'{"mode": "sideways"}', "is Attached")],
)
def test_a_device_in_another_mode_is_not_what_was_asked_for(world: World, goal: str, spec: bytes, words: str) -> None:
    """F-C1: a wish in another mode, or one that can't be read, is not met by the device that is there; with a verdict or
    before it."""
    world.said("Attached")
    assert world.run(*ATTACHED[:-1], f"--for={goal}", "--timeout", "0").exit_code == 0
    world.wish(spec=spec)
    world.said("Attached")
    result = world.run(*ATTACHED[:-1], f"--for={goal}", "--timeout", "0")
    assert (result.exit_code, words in result.stderr) == (1, True)
    world.verdict(Family.DESIRED_ATTACHMENT, ("web-1", "data"), "Accepted", "ModeDiffers", "granted rw")
    assert world.run(*ATTACHED[:-1], f"--for={goal}", "--timeout", "0").exit_code == 1
    world.wish()
    world.said("Attached")
    assert world.run(*ATTACHED[:-1], f"--for={goal}", "--timeout", "0").exit_code == 0


def test_a_volume_that_is_smaller_than_wished_for_is_not_available_yet(world: World) -> None:
    """F-C1: the controller answered, and the array has yet to extend it; or the wish was refused."""
    world.volume(spec=b'{"backend": "lvm", "size_gib": 20}')
    world.available()
    available = ("wait", "volume", "data", "--for=available", "--timeout", "0")
    result = world.run(*available)
    assert (result.exit_code, "is Available, but not as wished" in result.stderr) == (1, True)
    world.volume(spec=b'{"backend": "lvm", "size_gib": 5}')
    world.verdict(Family.DESIRED_VOLUME, ("data",), "Accepted", "SizeSmaller", "volumes do not shrink")
    assert world.run(*available).exit_code == 1
    world.volume()
    world.available()
    world.delete(Family.VERDICT_VOLUME, "data")
    assert world.run(*available).exit_code == 0
