"""One backend's keeper: it opens, audits, and opens again when the worker died."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reconciler.controllers.audit import Audit
from reconciler.controllers.keeper import Keeper
from reconciler.controllers.snapshot import Writer
from reconciler.runtime.cache import Cache
from reconciler.runtime.ports import (
    BackendInfo,
    Compare,
    Export,
    Exposure,
    NotOpen,
    Opened,
    PortError,
    Reply,
    Unavailable,
    Unsupported,
    VolumeData,
)
from schema.codec import decode_family
from schema.keys import Family, Key, Keyspace
from tests.fakes.clock import VirtualClock
from tests.fakes.store import FakeEtcd

KEYSPACE = Keyspace()
LEADER = KEYSPACE.path(Family.LEADER, "array")


class Array:
    """A backend whose worker may die."""

    name = "array"

    def __init__(self, lists: bool) -> None:
        self.opened = 0
        self.alive = False
        self.answers = True
        self.listed: list[Exposure] = []
        self.opening: Callable[[], None] = lambda: None
        """Called when `open` was called, and has not started a worker yet."""
        self.capabilities: dict[str, Any] = {"list_exports": lists}

    def open(self, volumes: Sequence[VolumeData], storage: str = "") -> Opened:
        self.opening()
        self.opened += 1
        self.alive = True
        return Opened(self._info())

    def describe(self) -> BackendInfo:
        self._needs_worker()
        if not self.answers:
            raise Unavailable("the array does not answer")
        return self._info()

    def exports(self) -> Sequence[Exposure]:
        self._needs_worker()
        return self.listed

    def _info(self) -> BackendInfo:
        return BackendInfo("driver", "iscsi", self.capabilities, {})

    def _needs_worker(self) -> None:
        if not self.alive:
            raise NotOpen("the worker is not running")

    def prepare(self) -> None:
        pass

    def permit(self, until_s: float) -> None:
        pass

    def kill(self) -> None:
        self.alive = False

    def _unused(self, *_: object) -> Reply:
        raise Unsupported("not in these tests")

    def create(self, volume: VolumeData) -> Reply:
        return self._unused()

    def extend(self, volume: VolumeData, size_gib: int) -> Reply:
        return self._unused()

    def delete(self, volume: VolumeData, others: Sequence[VolumeData] = (), *, gone: bool = False) -> None:
        self._unused()

    def adopt(self, volume: VolumeData, reference: Mapping[str, Any]) -> Reply:
        return self._unused()

    def export(self, volume: VolumeData, export: Export) -> Reply:
        return self._unused()

    def connect(self, volume: VolumeData, export: Export) -> Reply:
        return self._unused()

    def terminate(self, volume: VolumeData, export: Export) -> Reply:
        return self._unused()

    def unexport(self, volume: VolumeData) -> Reply:
        return self._unused()


class Leads:
    """Leadership until `guard` is None."""

    def __init__(self, guard: Compare) -> None:
        self.guard: Compare | None = guard

    def step_aside(self, pause_s: float) -> None:
        self.guard = None


class World:
    def __init__(self, *, lists: bool = True) -> None:
        self.clock = VirtualClock(now=1000.0)
        self.etcd = FakeEtcd(self.clock)
        self.etcd.put(LEADER, b"{}")
        store = self.etcd.client(self.clock.process("ctl"))
        cache = Cache(self.clock, decode=lambda item: decode_family(family(item.key), item.value))
        self.array = Array(lists)
        self.told: list[str] = []
        self.leads = Leads(Compare(LEADER, present=True))
        self.audit = Audit(
            self.array,
            cache=cache,
            keyspace=KEYSPACE,
            clock=self.clock,
            rng=random.Random(1),
            every_s=300.0,
            enqueue=lambda _: None,
        )
        self.keeper = Keeper(
            self.array,
            driver="driver",
            controller="ctl",
            leadership=self.leads,
            cache=cache,
            keyspace=KEYSPACE,
            writer=Writer(store, cache, KEYSPACE),
            clock=self.clock,
            audit=self.audit,
            enqueue=lambda _: None,
            report=self._report,
        )
        self.clock.spawn("keeper", self.keeper.run)
        self.clock.run_until(lambda: self.keeper.view().ready)
        self.cache = cache

    def _report(self, text: str, error: PortError | BaseException | None) -> None:
        self.told.append(text)

    def status(self) -> Any:
        item = self.cache.get(KEYSPACE.path(Family.BACKEND, "array"))
        assert item is not None
        return self.cache.decoded(item)


def family(path: str) -> Family:
    key = KEYSPACE.parse(path)
    assert isinstance(key, Key)
    return key.family


def test_a_worker_that_died_while_nobody_called_it_is_started_again() -> None:
    world = World()
    world.array.alive = False
    world.clock.run_for(120)
    assert world.array.opened == 2
    assert world.keeper.view().ready


def test_an_array_that_does_not_answer_costs_no_worker() -> None:
    world = World()
    world.array.answers = False
    world.clock.run_for(120)
    assert not world.keeper.view().ready
    world.array.answers = True
    world.clock.run_for(10)
    assert world.keeper.view().ready
    assert world.array.opened == 1


def test_it_tells_of_orphans_and_no_longer_once_they_are_gone() -> None:
    world = World()
    world.array.listed = [Exposure("uid", "stranger")]
    world.clock.run_for(400)
    assert (world.status().orphan_exports, world.status().orphans[0].client) == (1, "stranger")
    world.array.listed = []
    world.clock.run_for(400)
    assert (world.status().orphan_exports, world.status().orphans) == (0, ())


def test_a_driver_that_cannot_list_is_not_asked_to() -> None:
    world = World(lists=False)
    world.array.listed = [Exposure("uid", "stranger")]
    world.clock.run_for(1000)
    assert world.status().orphan_exports == 0
    assert not [line for line in world.told if "list" in line]


def test_a_worker_that_was_about_to_start_when_leadership_went_is_killed() -> None:
    """`lost` returns when nothing can begin any more: a set-up brings exports back, and a successor may have removed them."""
    world = World()
    lost: list[bool] = []

    def give_up() -> None:
        world.keeper.lost()
        lost.append(world.array.alive)

    def lose() -> None:
        world.leads.guard = None
        world.clock.spawn("election", give_up)
        world.clock.sleep(1.0)

    world.array.opening = lose
    world.array.alive = False
    world.clock.run_for(120)
    assert (lost, world.array.alive) == ([False], False)


def test_nothing_is_opened_once_leadership_has_gone() -> None:
    """The leader key went, and nobody here was told of it yet."""
    world = World()
    world.array.alive = False
    world.etcd.delete(LEADER)
    world.clock.run_for(120)
    assert world.array.opened == 1
    assert not world.keeper.view().ready
