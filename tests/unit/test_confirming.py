"""Wishes that many at once are taken back with `brickctl` are confirmed by that, for this one time (A33)."""

from __future__ import annotations

import json

import pytest

from client.exits import Exit
from reconciler.core.mass import DELETES_PAUSED, DETACHES_PAUSED, MassRule, paused_detaches
from schema.keys import Family
from schema.models import DeletionSpec, NodeSpec
from tests.unit.client_world import KEYS, World

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


@pytest.fixture
def asked() -> World:
    """The wish for scratch is gone, and the controller asks whether that is meant."""
    world = World()
    world.backend()
    world.volume("scratch")
    world.available("scratch")
    world.delete(Family.DESIRED_VOLUME, "scratch")
    world.verdict(Family.DESIRED_VOLUME, ("scratch",), "Available", DELETES_PAUSED, "4 of 4 are gone")
    return world


def test_data_that_the_controller_asks_about_is_deleted_by_name(asked: World) -> None:
    """The wish is gone already: naming the volume again confirms its uid. On a terminal it is asked for."""
    asked.terminal = True
    assert asked.run("delete", "volume", "scratch", stdin="n\n").exit_code == 1
    assert asked.value(Family.DESIRED_DELETION, "scratch") is None
    asked.put(Family.DESIRED_DELETION, ("former",), DeletionSpec(uid="long gone"))
    assert "confirmed: its data is deleted" in asked.ok("delete", "volume", "scratch", "--yes")
    assert b'"u-1"' in (asked.value(Family.DESIRED_DELETION, "scratch") or b"")
    assert asked.value(Family.DESIRED_DELETION, "former") is None


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


# --- a new wish takes back what was confirmed of the one before ---------------------------------------------------------------

MANIFEST = "kind: Volume\nname: scratch\nspec: {backend: lvm, size_gib: 10, on_delete: delete}\n"


@pytest.mark.parametrize("lies", ["before", "beside"])
def test_a_new_wish_takes_a_confirmed_deletion_back_with_it(asked: World, lies: str) -> None:
    """In one transaction; and also where the wish is there already, put by other means."""
    asked.ok("delete", "volume", "scratch", "--yes")
    if lies == "beside":
        asked.volume("scratch", b'{"backend": "lvm", "size_gib": 10, "on_delete": "delete"}')
    before = asked.etcd.writes
    asked.ok("apply", "-f", "-", stdin=MANIFEST)
    assert asked.etcd.writes == before + 1
    assert asked.value(Family.DESIRED_DELETION, "scratch") is None
    assert asked.value(Family.DESIRED_VOLUME, "scratch") is not None
    asked.ok("apply", "-f", "-", stdin=MANIFEST)
    assert asked.etcd.writes == before + 1


@pytest.mark.parametrize("command", [("apply", "-f", "-"), ("delete", "volume", "scratch", "--yes")])
def test_a_wish_and_a_confirmation_that_cross_are_a_conflict(asked: World, command: tuple[str, ...]) -> None:
    """The command's own write is never the second of the two, at whichever of its calls the other comes."""

    def cross(name: str) -> None:
        if name == "txn" and asked.store.calls["txn"] == crosses_at:
            if command[0] == "apply":
                asked.put(Family.DESIRED_DELETION, ("scratch",), DeletionSpec(uid="u-1"))
            else:
                asked.volume("scratch")

    for crosses_at in range(2, 8):
        asked.delete(Family.DESIRED_DELETION, "scratch")
        asked.delete(Family.DESIRED_VOLUME, "scratch")
        asked.verdict(Family.DESIRED_VOLUME, ("scratch",), "Available", DELETES_PAUSED, "4 of 4 are gone")
        asked.store.calls.clear()
        asked.store.fault = cross
        asked.run(*command, stdin=MANIFEST)
        asked.store.fault = lambda _: None
        wished, said = (
            asked.etcd.get(KEYS.path(each, "scratch")) for each in (Family.DESIRED_VOLUME, Family.DESIRED_DELETION)
        )
        if wished and said:
            assert (wished.mod_revision > said.mod_revision) is (command[0] == "delete"), crosses_at


def test_what_is_known_to_be_gone_stays_known(asked: World) -> None:
    """`"gone": true` is an operator's word on this uid; to confirm its deletion says no less."""
    asked.put(Family.DESIRED_DELETION, ("scratch",), DeletionSpec(uid="u-1", gone=True))
    asked.ok("delete", "volume", "scratch", "--yes")
    assert b'"gone":true' in (asked.value(Family.DESIRED_DELETION, "scratch") or b"")
    asked.put(Family.DESIRED_DELETION, ("scratch",), DeletionSpec(uid="other", gone=True))
    asked.ok("delete", "volume", "scratch", "--yes")
    assert b"gone" not in (asked.value(Family.DESIRED_DELETION, "scratch") or b"")


@pytest.mark.parametrize("command", [("attach", "web-1", "v1"), ("apply", "-f", "-")])
def test_a_new_wish_takes_a_confirmed_detach_back_with_it(world: World, command: tuple[str, ...]) -> None:
    """The device is still there in the same epoch: a later accident is to be asked about again. The others' stay confirmed."""
    world.ok("delete", "attachment", *(f"web-1/{volume}" for volume in VOLUMES), "--yes")
    before = world.etcd.writes
    world.ok(*command, stdin="kind: Attachment\nnode: web-1\nvolume: v1\n")
    assert world.etcd.writes == before + 1
    assert confirmed(world) == {"v2": 7, "v3": 7}
