"""`brickctl delete node` and `delete backend`: what is over is forgotten, and nothing that is not over (F-S9)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.runtime.ports import Put
from schema.codec import encode
from schema.keys import Family
from schema.models import Alive, FenceStatement, VolumePhase, VolumeStatus
from tests.fakes.store import Fault
from tests.unit.client_world import KEYS, World


def retired() -> World:
    """A host that is gone for good, with a cordon that is left of it."""
    world = World()
    world.node("old", alive=False)
    world.node("web-1")
    world.put(Family.DESIRED_NODE, ("old",), b'{"cordons": {"ann": "retired"}}')
    return world


def test_a_node_that_holds_nothing_is_forgotten() -> None:
    """Record and cordons go; it is not listed any more, also when a boot of it was fenced: that stays."""
    world = retired()
    world.put(Family.FENCE, ("old", "b1"), FenceStatement(who="ana", why="dead", evidence="seen"))
    assert world.ok("delete", "node", "old") == "node/old deleted\n"
    assert [world.value(family, "old") for family in (Family.NODE, Family.DESIRED_NODE)] == [None, None]
    assert world.value(Family.FENCE, "old", "b1") is not None
    assert "old" not in world.ok("get", "nodes")
    assert world.run("get", "node", "old").exit_code == 4
    assert world.run("delete", "node", "old").exit_code == 4


def held(world: World) -> None:
    world.volume()
    world.held(node="old")


def claimed(world: World) -> None:
    world.volume()
    world.said("Attached", node="old")


def unreadable(world: World) -> None:
    world.put(Family.VOLUME, ("odd",), b"{")


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (lambda world: world.node("old"), "node old is alive: stop its daemon first"),
        (held, "node old holds data"),
        (claimed, "node old holds data"),
        (unreadable, "node old holds odd"),
        (lambda world: world.wish("old"), "node old is wished to have data: take that back first"),
    ],
)
def test_a_node_that_is_not_over_is_refused(more: Callable[[World], object], reason: str) -> None:
    """With the reason; nothing is written."""
    world = retired()
    more(world)
    before = world.etcd.revision
    result = world.run("delete", "node", "old")
    assert (result.exit_code, world.etcd.revision) == (3, before)
    assert reason in result.stderr


@pytest.mark.parametrize(
    ("kind", "family"), [("node", Family.ALIVE), ("node", Family.NODE), ("backend", Family.LEADER)]
)
def test_who_comes_back_meanwhile_is_not_forgotten(kind: str, family: Family) -> None:
    """Between the look and the transaction."""
    world = retired()
    world.backend("old")
    world.delete(Family.LEADER, "old")
    value = encode(Alive(boot="b2", since=""))

    def interfere(name: str) -> Fault | None:
        if name == "txn" and world.store.calls["txn"] == 2:
            world.etcd.txn((), (Put(KEYS.path(family, "old"), value),))
        return None

    world.store.fault = interfere
    result = world.run("delete", kind, "old")
    assert result.exit_code == 3
    assert "it changed meanwhile; nothing was written" in result.stderr
    assert world.value(Family.NODE if kind == "node" else Family.BACKEND, "old") is not None


def test_a_backend_that_nobody_serves_is_forgotten() -> None:
    """While a controller leads it, or a volume is recorded on it, retained ones too, it stays."""
    world = World()
    world.backend("tried")
    assert "controller ctl-1 on storage-1 leads backend tried" in world.run("delete", "backend", "tried").stderr
    world.delete(Family.LEADER, "tried")
    status = VolumeStatus(uid="u-1", backend="tried", phase=VolumePhase.RETAINED, size_gib=1)
    world.put(Family.VOLUME, ("kept",), status)
    result = world.run("delete", "backend", "tried")
    assert (result.exit_code, "volumes are recorded on backend tried: kept" in result.stderr) == (3, True)
    world.put(Family.VOLUME, ("kept",), b"{")
    assert world.run("delete", "backend/tried").exit_code == 3
    world.delete(Family.VOLUME, "kept")
    assert world.ok("delete", "backend/tried") == "backend/tried deleted\n"
    assert world.value(Family.BACKEND, "tried") is None
    assert "did you mean" in world.run("delete", "backend", "tried").stderr or world.run("get", "backends").stdout == ""


def test_a_node_in_a_manifest_is_its_cordons_alone() -> None:
    """As apply made them; the node itself is its daemon's, and stays."""
    world = World()
    world.node()
    world.put(Family.DESIRED_NODE, ("web-1",), b'{"cordons": {"ann": "disk"}}')
    assert world.ok("delete", "-f", "-", stdin="kind: Node\nname: web-1\n") == "node/web-1 deleted\n"
    assert world.value(Family.DESIRED_NODE, "web-1") is None
    assert world.value(Family.NODE, "web-1") is not None
