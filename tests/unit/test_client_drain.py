"""`brickctl cordon`, `uncordon`, `drain` and `undrain` (A25, A27). Time is virtual."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schema.keys import Family
from schema.models import AttachmentPhase, AttachmentStatus
from tests.unit.client_world import KEYS, World


@pytest.fixture
def world() -> World:
    """web-1 has the volume data."""
    world = World()
    world.attached()
    return world


def spec(world: World, node: str = "web-1") -> Any:
    """What is stored for the node; None: no key."""
    stored = world.value(Family.DESIRED_NODE, node)
    return None if stored is None else {k: v for k, v in json.loads(stored).items() if k != "schema"}


def detached(world: World, node: str = "web-1", volume: str = "data") -> None:
    """The daemons are done with it; the wish stays."""
    for family in (Family.CLAIM, Family.CONNECTION, Family.ATTACHMENT):
        world.delete(family, node, volume)
    world.available(volume)


def busy(world: World, volume: str = "data") -> None:
    world.said(
        "Attached", world.condition("Released", "DeviceBusy", "device is in use (mounted at /srv)"), volume=volume
    )


# --- labels --------------------------------------------------------------------------------------------------------------


def test_cordons_have_labels(world: World) -> None:
    """A27: several coexist, each taken back on its own; the last one takes the key along."""
    assert (
        world.ok("cordon", "web-1", "--label", "ana", "--reason", "new disk") == "node/web-1 cordoned (ana: new disk)\n"
    )
    assert world.ok("cordon", "web-1") == "node/web-1 cordoned (brickctl)\n"
    assert spec(world) == {"cordons": {"ana": "new disk", "brickctl": ""}}
    assert "Cordoned  Cordoned" in world.ok("get", "nodes")
    assert world.ok("uncordon", "web-1") == (
        "node/web-1 uncordoned (brickctl)\nnode/web-1 is still cordoned (ana: new disk)\n"
    )
    assert world.ok("uncordon", "web-1", "--label", "ana") == "node/web-1 uncordoned (ana)\n"
    assert spec(world) is None
    assert "Ready" in world.ok("get", "nodes")


@pytest.mark.parametrize(("put", "take", "field"), [("cordon", "uncordon", "cordons"), ("drain", "undrain", "drains")])
def test_what_others_wrote_stays(world: World, put: str, take: str, field: str) -> None:
    """Other labels, and the other field, are as they were; a reason stays until another one is given."""
    others = {"cordons": {"bob": "ok"}, "drains": {"eve": "x"}}
    world.put(Family.DESIRED_NODE, ("web-1",), json.dumps(others).encode())
    wait = ["--no-wait"] if put == "drain" else []
    world.ok(put, "web-1", "--reason", "first", *wait)
    assert spec(world) == {**others, field: {**others[field], "brickctl": "first"}}
    assert "already (brickctl: first)" in world.ok(put, "web-1", *wait)
    assert "(brickctl: second)" in world.ok(put, "web-1", "--reason", "second", *wait)
    text = world.ok(take, "web-1")
    assert spec(world) == others
    assert "still cordoned (bob: ok)" in text
    assert "still drained (eve: x)" in text
    assert f"unchanged: it is not {field[:-1]}ed by brickctl" in world.ok(take, "web-1")


def test_two_at_a_time_lose_nothing(world: World) -> None:
    """Somebody else writes between our look and our write: it is read again, and both labels are there."""
    calls = iter(range(100))

    def meanwhile(call: str) -> None:
        """Right before our first write."""
        if call == "txn" and next(calls) == 1:
            world.put(Family.DESIRED_NODE, ("web-1",), b'{"cordons": {"bob": ""}}')

    world.store.fault = meanwhile
    world.ok("cordon", "web-1", "--label", "ana")
    assert spec(world) == {"cordons": {"ana": "", "bob": ""}}


def test_an_unreadable_key_is_left_alone(world: World) -> None:
    """Exit code 3, and the fault; nothing is overwritten."""
    world.put(Family.DESIRED_NODE, ("web-1",), b'{"cordons": 7}')
    for command in ("cordon", "uncordon", "drain", "undrain"):
        result = world.run(command, "web-1")
        assert result.exit_code == 3
        assert "node/web-1: its key can't be read: $.cordons" in result.stderr
    assert spec(world) == {"cordons": 7}


def test_unknown_nodes(world: World) -> None:
    """A typo must not look like an empty or an open node: exit code 4. A node may be cordoned before it comes."""
    for command in ("drain", "undrain", "uncordon"):
        result = world.run(command, "web1")
        assert (result.exit_code, "did you mean web-1?" in result.stderr) == (4, True)
        assert spec(world, "web1") is None
    result = world.run("cordon", "web-9")
    assert (result.exit_code, spec(world, "web-9")) == (0, {"cordons": {"brickctl": ""}})
    assert "web-9 has not published itself yet" in result.stderr


@pytest.mark.parametrize("command", ["cordon", "uncordon", "drain", "undrain"])
def test_misuse(world: World, command: str) -> None:
    """Names are checked before anything is read."""
    for arguments in (("web/1",), ("web-1", "--label", "a b"), ()):
        result = world.run(command, *arguments)
        assert result.exit_code == 2
    assert spec(world) is None


# --- the wait ------------------------------------------------------------------------------------------------------------


def test_drain_waits_until_nothing_is_left(world: World) -> None:
    """A25: holder entry, claim and status all have to go; what is left is told as it shrinks. The wish stays."""
    world.wish("web-1", "logs")
    world.held("ready", volume="logs")
    world.said("Attached", volume="logs")
    world.later(2, lambda: detached(world, volume="logs"))
    world.later(3, lambda: world.delete(Family.CLAIM, "web-1", "data"))
    world.later(4, lambda: world.delete(Family.ATTACHMENT, "web-1", "data"))
    world.later(5, world.available)
    started = world.clock.now()
    result = world.run("drain", "web-1", "--reason", "new kernel", "--yes")
    assert result.exit_code == 0
    assert world.clock.now() - started == pytest.approx(5, abs=0.1)
    assert result.stdout == "node/web-1 draining (brickctl: new kernel)\nnode/web-1 drained\n"
    assert result.stderr == "node/web-1: 2 attachments left\nnode/web-1: 1 attachment left\n"
    assert world.value(Family.DESIRED_ATTACHMENT, "web-1", "data") is not None
    assert spec(world) == {"drains": {"brickctl": "new kernel"}}
    told = world.ok("get", "attachments", "-o", "wide")
    assert "set aside: web-1 is drained (brickctl: new kernel)" in told
    assert "Drained  Drained" in world.ok("get", "nodes")


def test_an_empty_node_is_drained_at_once(world: World) -> None:
    """No watch outlives that, and nobody waits."""
    world.node("web-2")
    assert world.ok("drain", "web-2") == "node/web-2 draining (brickctl)\nnode/web-2 drained\n"


def test_no_wait(world: World) -> None:
    """Only stated; the node says how far it is."""
    assert world.ok("drain", "web-1", "--no-wait") == "node/web-1 draining (brickctl)\n"
    assert "Draining  Draining" in world.ok("get", "nodes")
    assert "watch" not in world.store.calls


def test_all_that_is_left_is_in_use(world: World) -> None:
    """Exit code 7, with each holder; told at once too, and the drain holds."""
    world.later(5, lambda: busy(world))
    result = world.run("drain", "web-1", "--label", "ana", "--timeout", "1m")
    assert result.exit_code == 7
    assert result.stderr == (
        "node/web-1: 1 attachment left\n"
        "attachment/web-1/data: Blocked (device is in use (mounted at /srv))\n"
        "Error: after 60 s: 1 attachment left on node web-1; nothing is forced\n"
        "  attachment/web-1/data is Blocked, waits for whoever uses it on node web-1: device is in use (mounted at /srv)\n"
        "The drain holds: wait on (brickctl drain web-1 --label ana), or take it back (brickctl undrain web-1 --label ana)\n"
    )
    assert spec(world) == {"drains": {"ana": ""}}
    world.later(1, lambda: detached(world))
    assert world.run("drain", "web-1", "--label", "ana").exit_code == 0


def test_the_time_is_over(world: World) -> None:
    """Exit code 5 while anything that is left may go on by itself."""
    world.wish("web-1", "logs")
    world.held("ready", volume="logs")
    world.said("Attached", volume="logs")
    busy(world)
    started = world.clock.now()
    result = world.run("drain", "web-1", "--timeout", "30s", "--yes")
    assert (result.exit_code, world.clock.now() - started) == (5, 30)
    assert "attachment/web-1/data is Blocked" in result.stderr
    assert "attachment/web-1/logs is Detaching, waits for node web-1" in result.stderr
    world.delete(Family.ALIVE, "web-1")
    result = world.run("drain", "web-1", "--timeout", "0")
    assert (result.exit_code, "gives no sign of life" in result.stderr) == (5, True)


def test_a_drain_that_is_taken_back_ends_the_wait(world: World) -> None:
    """Exit code 3: the node is not drained, whatever is left."""
    world.later(2, lambda: world.ok("undrain", "web-1"))
    result = world.run("drain", "web-1")
    assert (result.exit_code, "the drain brickctl was taken back meanwhile" in result.stderr) == (3, True)


def test_a_drain_under_another_label_is_waited_for_alone(world: World) -> None:
    """Another one's end ends nothing."""
    world.put(Family.DESIRED_NODE, ("web-1",), b'{"drains": {"eve": "x"}}')
    world.later(2, lambda: world.ok("undrain", "web-1", "--label", "eve"))
    world.later(3, lambda: detached(world))
    assert world.run("drain", "web-1").exit_code == 0


def test_a_holder_list_that_cannot_be_read_is_no_empty_one(world: World) -> None:
    """S13: nobody knows whether the node holds it."""
    detached(world)
    world.put(Family.VOLUME, ("data",), b"{broken")
    result = world.run("drain", "web-1", "--timeout", "5s")
    assert result.exit_code == 5
    assert "attachment/web-1/data is Uncertain, waits for operator: volumes/data can't be read" in result.stderr


@pytest.mark.parametrize("family", [Family.VOLUME, Family.CLAIM, Family.ATTACHMENT])
def test_what_may_not_be_read_is_not_empty(world: World, family: Family) -> None:
    """Exit code 6: the wait needs these keys."""
    detached(world)
    world.store.denied = (KEYS.folder(family),)
    result = world.run("drain", "web-1")
    assert (result.exit_code, family.path in result.stderr) == (6, True)


def test_explain_says_why_and_what_to_do(world: World) -> None:
    """Who drains it, the node's next step, and later how to get it back."""
    world.ok("drain", "web-1", "--no-wait", "--reason", "new kernel")
    text = world.ok("explain", "web-1", "data")
    assert "set aside:  web-1 is drained (brickctl: new kernel)" in text
    assert "node web-1: it is set aside while the node is drained (brickctl: new kernel) (N4)" in text
    busy(world)
    assert "to keep it attached instead, take the drain back: brickctl undrain web-1" in world.ok("explain", "data")
    detached(world)
    text = world.ok("explain", "web-1", "data")
    assert "attachment web-1/data: Pending (Drained)" in text
    assert "brickctl undrain web-1 --label LABEL" in text


def test_a_manifest_says_the_same(world: World) -> None:
    """`kind: Node` carries drains; what yaml prints may be applied again."""
    manifest = "kind: Node\nname: web-1\nspec: {drains: {ana: new kernel}}\n"
    assert world.ok("apply", "-f", "-", stdin=manifest) == "node/web-1 created\n"
    assert spec(world) == {"drains": {"ana": "new kernel"}}
    shown = world.ok("get", "node", "web-1", "-o", "yaml")
    assert world.ok("apply", "-f", "-", stdin=shown) == "node/web-1 unchanged\n"
    assert "left:\n  - data" in shown


def test_what_failed_on_the_way_up_is_not_told_on_the_way_down(world: World) -> None:
    """F-C16: a drain that ends well says nothing of another attachment's Failed in between."""
    world.wish("web-1", "logs", b'{"mode": "sideways"}')
    world.put(
        Family.ATTACHMENT,
        ("web-1", "logs"),
        AttachmentStatus(phase=AttachmentPhase.RELEASED, uid="u-1", epoch=8, boot="b1"),
    )
    world.later(2, lambda: detached(world))
    world.later(4, lambda: world.delete(Family.ATTACHMENT, "web-1", "logs"))
    result = world.run("drain", "web-1", "--yes")
    assert result.exit_code == 0
    assert "Failed" not in result.stderr


def test_a_drained_node_has_no_volumes(world: World) -> None:
    """F-C4: what it has is counted, not what is wished for; and nobody knows since when it is drained."""
    assert world.ok("get", "nodes").splitlines()[1].split() == ["web-1", "Ready", "Ready", "60m", "1"]
    world.ok("drain", "web-1", "--no-wait")
    assert world.ok("get", "nodes").splitlines()[1].split() == ["web-1", "Draining", "Draining", "-", "1"]
    detached(world)
    world.available()
    assert world.ok("get", "nodes").splitlines()[1].split() == ["web-1", "Drained", "Drained", "-", "0"]
    assert "  wished:               data" in world.ok("describe", "node", "web-1")
