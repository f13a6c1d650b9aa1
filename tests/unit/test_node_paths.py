"""A node with an attached device that misses paths: what it does, and what it tells (N11, A40, A42)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from reconciler.controllers.host import Host
from reconciler.controllers.node import NodeReconciler
from reconciler.controllers.snapshot import Conflict
from reconciler.core.mass import MassRule
from reconciler.core.steps import Do
from reconciler.runtime.cache import Cache
from reconciler.runtime.controller import After, Again
from reconciler.runtime.ports import Device, IdentityMismatch, Item, Note, PortError, Retryable, Target
from schema.codec import decode_family, encode
from schema.keys import Family, Key, Keyspace
from schema.models import AttachmentSpec, AttachmentStatus, Connection, HolderPhase, NodeRecord
from tests.fakes.clock import VirtualClock
from tests.fakes.host import an_identity
from tests.fakes.store import FakeEtcd

KEYSPACE = Keyspace()
PAIR = ("web-1", "data")
BACK = ("10.0.0.2:3260",)
WHOLE = Device("/dev/brickwork/data", "/dev/dm-0", 1 << 20, "naa.1", 2, 2, False, {})
ONE_DEAD = replace(WHOLE, paths_live=1)


class Brick:
    """A connector: `seen` is how the device is now, `fault` what comes of adding paths."""

    def __init__(self) -> None:
        self.seen: Device | None = None
        self.fault: PortError | None = None
        self.odd: IdentityMismatch | None = None
        self.added = 0

    def properties(self) -> Mapping[str, Any]:
        return {}

    def connect(self, target: Target) -> Device:
        assert self.seen
        return self.seen

    def inspect(self, target: Target, details: Mapping[str, Any] | None) -> Device | None:
        if self.odd:
            raise self.odd
        return self.seen

    def add_paths(self, target: Target, details: Mapping[str, Any] | None) -> Device:
        self.added += 1
        if self.fault:
            raise self.fault
        assert self.seen
        self.seen = WHOLE
        return self.seen

    def extend(self, target: Target, details: Mapping[str, Any] | None) -> Device:
        return self.connect(target)

    def disconnect(self, target: Target, details: Mapping[str, Any] | None, *, flush: bool = True) -> None:
        self.seen = None

    def kill(self) -> None:
        pass


class NoNotes:
    def all(self) -> Mapping[str, Note]:
        return {}

    def unreadable(self) -> Mapping[str, str]:
        return {}

    def save(self, note: Note) -> None:
        pass

    def drop(self, volume: str) -> None:
        pass


class Boot:
    def current(self) -> str:
        return "b1"

    def mint(self) -> str:
        raise AssertionError("nobody fenced it")


class World:
    """web-1, to which `data` was exported, with `device` where it connects."""

    def __init__(self, device: Device, wish: AttachmentSpec | None = None) -> None:
        self.clock = VirtualClock()
        self.etcd = FakeEtcd(self.clock)
        self.brick = Brick()
        self.brick.seen = device
        self.told: list[tuple[str, bool]] = []
        self.steps: list[tuple[Do, BaseException | None]] = []
        self.cache = Cache(self.clock, decode=_decode)
        connection = Connection(
            uid="u", epoch=5, boot="b1", phase=HolderPhase.READY, conn_info={"driver_volume_type": "iscsi", "data": {}}
        )
        self.put(Family.NODE, ("web-1",), encode(NodeRecord(boot="b1", connector={})))
        self.put(Family.DESIRED_ATTACHMENT, PAIR, encode(wish or AttachmentSpec()))
        self.put(Family.CONNECTION, PAIR, encode(connection))
        self.node = NodeReconciler(
            node="web-1",
            store=self.etcd.client(self.clock),
            cache=self.cache,
            keyspace=KEYSPACE,
            clock=self.clock,
            connector=self.brick,
            host=Host("web-1", NoNotes()),
            boot=Boot(),
            this=an_identity(),
            record=lambda: NodeRecord(boot="b1", connector={}),
            enqueue=lambda _: None,
            failpoint=lambda _: None,
            observe_step=lambda _volume, step, _s, error: self.steps.append((step.do, error)),
            mass=MassRule,
            tell_paused=lambda _volume, _why: None,
            tell_device=lambda _volume, seen, well: self.told.append((seen, well)),
        )
        self.settle()
        self.steps.clear()

    def put(self, family: Family, names: tuple[str, ...], value: bytes) -> None:
        path = KEYSPACE.path(family, *names)
        self.etcd.put(path, value)
        item = self.etcd.get(path)
        assert item
        self.cache.observe(item)

    def settle(self) -> None:
        """As many steps as there are."""
        while isinstance(result := self.node.reconcile("data"), Again):
            pass
        assert isinstance(result, After)

    def look(self, device: Device | None = None) -> None:
        """The next look at the device, which is so now."""
        self.brick.seen = device or self.brick.seen
        self.clock.sleep(15.1)
        self.settle()

    @property
    def status(self) -> AttachmentStatus:
        item = self.etcd.get(KEYSPACE.path(Family.ATTACHMENT, *PAIR))
        assert item
        status = _decode(item)
        assert isinstance(status, AttachmentStatus)
        return status


def _decode(item: Item) -> Any:
    key = KEYSPACE.parse(item.key)
    assert isinstance(key, Key)
    return decode_family(key.family, item.value)


def test_a_portal_that_is_back_makes_it_whole_without_a_hand() -> None:
    world = World(ONE_DEAD)
    since = world.status.conditions[0].since
    assert [(each.type, each.reason) for each in world.status.conditions] == [("Degraded", "PathsMissing")]
    world.look()
    assert world.steps == [], "a silent portal costs no call"
    assert world.status.conditions[0].since == since

    world.look(replace(ONE_DEAD, portals_back=BACK))
    assert world.steps == [(Do.ADD_PATHS, None)]
    assert (world.status.paths_live, world.status.conditions) == (2, ())


def test_a_portal_that_gives_no_path_is_told_and_disturbs_nothing() -> None:
    """Not an attachment that failed; and the next try is its own back-off's."""
    world = World(ONE_DEAD)
    world.brick.fault = Retryable("the login was refused")
    world.look(replace(ONE_DEAD, portals_back=BACK))
    world.look()
    assert world.brick.added == 1
    assert world.status.phase == "Attached"
    assert [each.message for each in world.status.conditions] == [
        "1/2 paths are live; adding the others failed: the login was refused"
    ]
    world.brick.fault = None
    world.look()
    assert world.brick.added == 2
    assert world.status.conditions == ()


def test_nobody_logs_in_on_facts_that_have_changed() -> None:
    """S9: the wish was taken back while this node did not see it yet."""
    world = World(ONE_DEAD)
    world.etcd.delete(KEYSPACE.path(Family.DESIRED_ATTACHMENT, *PAIR))
    world.clock.sleep(15.1)
    world.brick.seen = replace(ONE_DEAD, portals_back=BACK)
    assert isinstance(world.node.reconcile("data"), Again)
    with pytest.raises(Conflict):
        world.node.reconcile("data")
    assert world.brick.added == 0


def test_all_paths_lost_is_a_reason_of_its_own() -> None:
    world = World(WHOLE)
    world.look(replace(WHOLE, paths_live=0))
    world.look()
    assert [each.reason for each in world.status.conditions] == ["NoPathLive"]
    world.look(WHOLE)
    assert world.status.conditions == ()
    assert world.told == [("0/2 paths are live", False), ("2/2 paths are live", True)], "each news once, for the log"


def test_a_device_that_is_another_one_is_told_to_the_log_once() -> None:
    world = World(WHOLE)
    world.brick.odd = IdentityMismatch("another volume answers")
    world.look()
    world.look()
    assert world.told == [("another volume answers", False)]


def test_min_paths_are_reached_once_and_for_all_of_an_attachment() -> None:
    """A42: fewer later only degrade it."""
    world = World(ONE_DEAD, AttachmentSpec(min_paths=2))
    assert (world.status.phase, world.status.min_paths_reached) == ("Attached", False)
    world.look(WHOLE)
    assert world.status.min_paths_reached
    world.look(ONE_DEAD)
    assert world.status.min_paths_reached
