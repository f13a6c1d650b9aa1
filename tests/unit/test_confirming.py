"""Wishes that many at once are taken back with `brickctl` are confirmed by that, for this one time (A33)."""

from __future__ import annotations

import json

import pytest

from client.exits import Exit
from reconciler.core.mass import DELETES_PAUSED, DETACHES_PAUSED, MassRule, paused_detaches
from schema.keys import Family
from schema.models import DeletionSpec, NodeSpec
from tests.unit.client_world import World

VOLUMES = ("v1", "v2", "v3")


@pytest.fixture
def world() -> World:
    """web-1 holds three volumes."""
    world = World()
    for volume in VOLUMES:
        world.attached("web-1", volume)
    return world


def confirmed(world: World) -> dict[str, int]:
    stored = world.value(Family.DESIRED_NODE, "web-1")
    spec = {key: value for key, value in json.loads(stored or b"{}").items() if key != "schema"}
    return NodeSpec.model_validate(spec).confirmed_detaches


def vanish(world: World) -> None:
    """All wishes are deleted by other means, and the node says that it waits."""
    for volume in VOLUMES:
        world.delete(Family.DESIRED_ATTACHMENT, "web-1", volume)
        world.said("Attached", world.condition("Released", DETACHES_PAUSED, paused_detaches(3, 3)), volume=volume)


@pytest.mark.parametrize(
    ("gone", "held", "met"), [(1, 1, False), (2, 2, False), (3, 3, True), (3, 5, True), (3, 6, False), (4, 6, True)]
)
def test_the_threshold(gone: int, held: int, met: bool) -> None:
    """Three at least, and more than half."""
    assert MassRule().met(gone, held) is met


def test_share_one_turns_it_off() -> None:
    assert not MassRule(share=1.0).met(9, 9)


def test_one_wish_takes_no_confirmation(world: World) -> None:
    """Everyday work writes nothing but the end of the wish."""
    world.ok("detach", "web-1", "v1")
    assert world.value(Family.DESIRED_NODE, "web-1") is None


def test_all_at_once_are_confirmed_with_their_epochs(world: World) -> None:
    """What else is in the node's key stays."""
    world.put(Family.DESIRED_NODE, ("web-1",), b'{"cordons": {"ann": "disk"}, "confirmed_detaches": {"old": 3}}')
    world.ok("delete", "attachment", *(f"web-1/{volume}" for volume in VOLUMES), "--yes")
    assert confirmed(world) == dict.fromkeys(VOLUMES, 7)
    assert b"ann" in (world.value(Family.DESIRED_NODE, "web-1") or b"")


def test_the_last_of_a_row_confirms_itself_alone(world: World) -> None:
    """Two wishes vanished by other means: the third, taken back by name, does not speak for them."""
    for volume in VOLUMES[:2]:
        world.delete(Family.DESIRED_ATTACHMENT, "web-1", volume)
    world.ok("detach", "web-1", "v3")
    assert confirmed(world) == {"v3": 7}


def test_what_vanished_is_confirmed_as_a_whole_or_one_by_one(world: World) -> None:
    """By the node, or by the volume; another node's is not touched."""
    vanish(world)
    assert "attachment/web-1/v1 confirmed" in world.ok("detach", "web-1", "v1")
    assert confirmed(world) == {"v1": 7}
    world.ok("detach", "--confirm-mass", "web-1")
    assert confirmed(world) == dict.fromkeys(VOLUMES, 7)
    assert "nothing on web-2 waits" in world.ok("detach", "--confirm-mass", "web-2")


def test_nothing_is_confirmed_that_nobody_asks_about(world: World) -> None:
    """--confirm-mass before the accident covers nothing."""
    world.ok("detach", "--confirm-mass", "web-1")
    assert world.value(Family.DESIRED_NODE, "web-1") is None
    assert world.run("detach", "web-1").exit_code == 2


def test_data_that_the_controller_asks_about_is_deleted_by_name() -> None:
    """The wish is gone already: naming the volume again confirms its uid. On a terminal it is asked for."""
    world = World()
    world.backend()
    world.volume("scratch")
    world.available("scratch")
    world.delete(Family.DESIRED_VOLUME, "scratch")
    world.verdict(Family.DESIRED_VOLUME, ("scratch",), "Available", DELETES_PAUSED, "4 of 4 are gone")
    world.terminal = True
    assert world.run("delete", "volume", "scratch", stdin="n\n").exit_code == 1
    assert world.value(Family.DESIRED_DELETION, "scratch") is None
    world.put(Family.DESIRED_DELETION, ("former",), DeletionSpec(uid="long gone"))
    assert "confirmed: its data is deleted" in world.ok("delete", "volume", "scratch", "--yes")
    assert b'"u-1"' in (world.value(Family.DESIRED_DELETION, "scratch") or b"")
    assert world.value(Family.DESIRED_DELETION, "former") is None


def test_f_s5_confirmations_that_do_not_fit_into_the_nodes_key_are_refused_whole(world: World) -> None:
    """A key that is too large could not be read by anybody: it would count as a cordon for ever."""
    names = [f"{'v' * 240}-{number}" for number in range(200)]
    for name in names:
        world.attached("web-1", name)
        world.wish("web-1", name)
    result = world.run("delete", "--yes", "attachment", *(f"web-1/{name}" for name in names))
    assert result.exit_code == Exit.USAGE
    assert "node/web-1: needs" in result.stderr
    assert world.value(Family.DESIRED_ATTACHMENT, "web-1", names[0]) is not None
    world.ok("delete", "--yes", "attachment", *(f"web-1/{name}" for name in names[:3]))
