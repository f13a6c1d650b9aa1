"""The reflector: a cache stays true whatever happens to the watch."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from reconciler.runtime.cache import Cache
from reconciler.runtime.ports import (
    Batch,
    Compacted,
    Compare,
    Delete,
    Listing,
    Op,
    PortError,
    Put,
    Retryable,
    Terminal,
    TxnResult,
)
from reconciler.runtime.reflector import Reflector, ReflectorSettings
from tests.fakes.clock import VirtualClock, shuffled
from tests.fakes.store import SILENCE_S, FakeEtcd, FakeStore

SOON_S = 5.0
"""A tick, a few waits of the back-off."""


class World:
    """An etcd, and a reflector of `/a/` with its cache."""

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock(now=1000.0)
        self.etcd = FakeEtcd(self.clock)
        self.store = self.etcd.client()
        self.cache = Cache(self.clock)
        self.errors: list[PortError] = []
        self.went_back: list[tuple[int, int]] = []
        self.settings = ReflectorSettings()
        self.reflector = self.reflect("/a/", self.store)

    def reflect(self, prefix: str, store: FakeStore) -> Reflector:
        return Reflector(
            store,
            self.cache,
            prefix,
            self.clock,
            random.Random(1),
            settings=self.settings,
            report=self.errors.append,
            on_went_back=lambda listed, seen: self.went_back.append((listed, seen)),
        )

    def start(self) -> World:
        self.reflector.start()
        self.clock.run_until(self.reflector.synced.is_set)
        return self

    def seen(self) -> dict[str, bytes]:
        return {item.key: item.value for item in self.cache.prefix("/a/")}

    def caught_up(self, within_s: float = SOON_S) -> None:
        """Wait until the cache shows what is in etcd."""
        self.clock.run_until(lambda: self.seen() == self.etcd.contents("/a/"), within_s)


def test_it_lists_then_follows() -> None:
    """Everything that is there, then every change at once; not what is elsewhere."""
    world = World()
    world.etcd.put("/a/x", b"1")
    world.etcd.put("/b/x", b"1")
    assert not world.reflector.synced.is_set()
    world.start()
    assert world.seen() == {"/a/x": b"1"}
    world.etcd.put("/a/x", b"2")
    world.etcd.put("/a/y", b"1")
    world.etcd.delete("/a/x")
    world.caught_up(within_s=0.0)
    assert world.seen() == {"/a/y": b"1"}
    assert world.store.calls == {"list": 1, "watch": 1}
    assert world.cache.prefix("/b/") == ()


def test_an_empty_prefix_is_synced_too() -> None:
    """Nothing there is an answer."""
    world = World().start()
    assert world.seen() == {}


def test_a_single_key_is_followed() -> None:
    """A prefix without a slash at its end is a key."""
    world = World()
    reflector = world.reflect("/a/n", world.store)
    reflector.start()
    world.clock.run_until(reflector.synced.is_set)
    world.etcd.put("/a/n", b"1")
    world.etcd.put("/a/n2", b"1")
    world.clock.run_for(0)
    assert world.seen() == {"/a/n": b"1"}


@pytest.mark.parametrize("break_it", ["raises", "ends"])
def test_a_watch_that_breaks_is_resumed_without_a_list(break_it: str) -> None:
    """After the last event that was entered; the break is reported, and nothing is lost."""
    world = World().start()
    world.store.watch_ends.append(Retryable("broken") if break_it == "raises" else None)
    world.etcd.put("/a/x", b"1")
    world.clock.run_until(lambda: bool(world.errors))
    world.etcd.put("/a/y", b"2")
    world.etcd.delete("/a/x")
    world.caught_up()
    assert world.store.calls == {"list": 1, "watch": 2}
    assert len(world.errors) == 1


def test_a_resumed_watch_does_not_need_what_was_seen() -> None:
    """History that was entered may be compacted away."""
    world = World().start()
    for number in range(5):
        world.etcd.put("/a/x", str(number).encode())
        world.caught_up()
    world.etcd.compact()
    world.store.watch_ends.append(None)
    world.etcd.put("/a/x", b"last")
    world.caught_up()
    world.clock.run_until(lambda: world.store.calls["watch"] == 2)
    world.clock.run_for(1)
    assert world.store.calls["list"] == 1


def test_a_watch_that_went_well_is_resumed_quickly() -> None:
    """However often it broke before."""
    world = World().start()
    for _ in range(20):
        world.clock.run_for(3)  # a tick at least
        world.store.watch_ends.append(None)
        breaks = len(world.errors)
        world.clock.run_until(lambda breaks=breaks: len(world.errors) > breaks)  # type: ignore[misc]
        world.etcd.put("/a/x", str(breaks).encode())
        world.caught_up(0.1)


def test_a_silent_watch_is_replaced() -> None:
    """As soon as the store says that it heard nothing for too long."""
    world = World().start()
    world.store.silent = True
    world.etcd.put("/a/x", b"1")
    world.clock.run_until(lambda: bool(world.errors), SILENCE_S + SOON_S)
    assert world.seen() == {}
    world.store.silent = False
    world.caught_up(SILENCE_S + SOON_S)


def test_after_a_break_everything_is_listed_soon() -> None:
    """A watch is least to be trusted right after a disturbance: what it left out is found within `distrust_s`."""
    world = World().start()
    world.store.deliver = lambda _: ()  # a server that loses events
    world.etcd.put("/a/x", b"1")
    world.clock.run_for(1)
    world.store.deliver = lambda batch: (batch,)
    world.store.watch_ends.append(None)
    world.clock.run_for(world.settings.distrust_s / 2 - SOON_S)
    assert (world.seen(), world.store.calls["list"]) == ({}, 1)
    world.caught_up(world.settings.distrust_s)
    assert world.store.calls["list"] == 2


def test_everything_is_listed_now_and_then() -> None:
    """Even while the watch seems well: between half of `relist_s` and the whole."""
    world = World().start()
    world.store.deliver = lambda _: ()
    world.etcd.put("/a/x", b"1")
    world.clock.run_for(world.settings.relist_s / 2 - 1)
    assert world.seen() == {}
    world.caught_up(world.settings.relist_s / 2 + SOON_S)
    assert world.errors == []


def test_a_doubled_event_changes_nothing() -> None:
    """Nor one that comes again after later ones."""
    world = World().start()
    told: list[str] = []
    world.cache.subscribe("", told.append)
    first: list[Batch] = []

    def twice(batch: Batch) -> Sequence[Batch]:
        first.append(batch)
        return (batch, batch, first[0])

    world.store.deliver = twice
    world.etcd.put("/a/x", b"1")
    world.clock.run_for(1)
    world.etcd.delete("/a/x")
    world.caught_up()
    assert told == ["/a/x", "/a/x"]


def compact_after_list(world: World, act: Callable[[], object]) -> None:
    """Between the next list and the watch that follows: act, and compact the history away."""
    plain = world.store.fault

    def fault(name: str) -> None:
        if name == "watch":
            world.store.fault = plain
            act()
            world.etcd.compact()

    world.store.fault = fault


class TestCompaction:
    """History that is gone."""

    def test_between_list_and_watch(self) -> None:
        """It lists again, and sees what was made and deleted in the gap."""
        world = World()
        world.etcd.put("/a/gone", b"1")
        world.etcd.put("/a/stays", b"1")

        def change() -> None:
            world.etcd.delete("/a/gone")
            world.etcd.put("/a/made", b"1")

        compact_after_list(world, change)
        world.start()
        world.clock.run_until(lambda: world.store.calls["list"] == 2)
        world.caught_up()
        assert [type(error) for error in world.errors] == [Compacted]

    def test_a_key_deleted_and_made_again_in_the_gap_is_another_one(self) -> None:
        """It arrives as one change: the creation revision tells."""
        world = World()
        old = world.etcd.put("/a/x", b"same")
        told: list[str] = []
        world.cache.subscribe("", told.append)

        def remake() -> None:
            world.etcd.delete("/a/x")
            world.etcd.put("/a/x", b"same")

        compact_after_list(world, remake)
        world.start()
        world.clock.run_until(lambda: world.store.calls["list"] == 2)
        world.clock.run_for(SOON_S)
        item = world.cache.get("/a/x")
        assert item is not None
        assert item.create_revision > old
        assert told == ["/a/x", "/a/x"]

    def test_while_the_watch_is_down(self) -> None:
        """It stays synced, and relists when it can."""
        world = World().start()
        world.etcd.put("/a/x", b"1")
        world.caught_up()
        world.store.down = True
        world.clock.run_for(30)
        world.etcd.delete("/a/x")
        world.etcd.put("/a/y", b"1")
        world.etcd.compact()
        world.clock.run_for(30)
        assert world.reflector.synced.is_set()
        world.store.down = False
        world.caught_up()

    def test_each_second(self) -> None:
        """Nothing is lost while somebody compacts all the time."""
        world = World().start()
        for number in range(60):
            world.etcd.put(f"/a/{number % 7}", str(number).encode())
            if number % 3 == 0:
                world.etcd.delete(f"/a/{(number + 3) % 7}")
            world.etcd.compact()
            if number % 10 == 5:
                world.store.watch_ends.append(None)
            world.clock.run_for(1)
        world.caught_up()


class TestOutage:
    """A store that can't be reached, or won't answer."""

    def test_from_the_start(self) -> None:
        """It is synced when the store comes, within a wait of the back-off."""
        world = World()
        world.store.down = True
        world.etcd.put("/a/x", b"1")
        world.reflector.start()
        world.clock.run_for(3600)
        assert not world.reflector.synced.is_set()
        tries = world.store.calls["list"]
        assert 3600 / 2.5 <= tries <= 3600
        world.store.down = False
        world.clock.run_until(world.reflector.synced.is_set, 2.0)
        assert world.seen() == {"/a/x": b"1"}

    def test_ten_thousand_seconds_later(self) -> None:
        """It goes on from the last event, and lists a little later: not at once, with the whole fleet."""
        world = World().start()
        world.store.down = True
        world.clock.run_for(10_000)
        lists = world.store.calls["list"]
        assert lists <= 10_000 / 30 + 2
        world.store.down = False
        world.etcd.put("/a/x", b"1")
        world.caught_up(2.5)
        assert world.store.calls["list"] <= lists + 1

    def test_age_tells_how_long_nothing_was_heard(self) -> None:
        """Seconds since the last list or batch; a healthy watch says something every few seconds."""
        world = World().start()
        world.clock.run_for(100)
        assert world.reflector.age_s <= 2.0
        world.store.down = True
        world.clock.run_for(100)
        assert world.reflector.age_s >= 97.0

    def test_what_may_not_be_read_is_tried_slowly(self) -> None:
        """Each refusal is reported; when the role is mended all is well without a restart."""
        world = World()
        world.store.denied = ("/a/",)
        world.reflector.start()
        world.clock.run_for(300)
        assert all(isinstance(error, Terminal) for error in world.errors)
        assert 10 <= len(world.errors) <= 21
        world.store.denied = ()
        world.etcd.put("/a/x", b"1")
        world.clock.run_until(world.reflector.synced.is_set, 30)
        world.caught_up(0)

    def test_a_role_that_is_taken_away_later(self) -> None:
        """The watch ends with that, what is known stays."""
        world = World()
        world.etcd.put("/a/x", b"1")
        world.start()
        world.store.denied = ("/a/",)
        world.clock.run_for(120)
        assert world.errors
        assert world.seen() == {"/a/x": b"1"}
        assert world.reflector.synced.is_set()


class TestWentBack:
    """An etcd that was restored from a backup."""

    def restored(self) -> World:
        world = World()
        world.etcd.put("/a/x", b"old")
        backup = world.etcd.backup()
        world.start()
        for value in (b"1", b"2", b"3"):
            world.etcd.put("/a/x", value)
        world.caught_up()
        world.etcd.restore(backup)
        return world

    def test_is_noticed_after_a_break_and_not_entered(self) -> None:
        """The next list is older than what was seen: it ends, unsynced, and says so once."""
        world = self.restored()
        world.store.watch_ends.append(None)
        world.clock.run_until(lambda: world.reflector.went_back, world.settings.distrust_s + SOON_S)
        assert not world.reflector.synced.is_set()
        assert world.seen() == {"/a/x": b"3"}
        assert world.went_back == [(2, 5)]
        world.etcd.put("/a/y", b"1")
        world.clock.run_for(3600)
        assert world.seen() == {"/a/x": b"3"}
        assert world.reflector.stop()

    def test_is_noticed_by_what_others_saw(self) -> None:
        """The highest revision counts, from whatever it was learnt: a transaction of ours, or a former life."""
        world = World()
        world.cache.settle([], [], TxnResult(True, 40))
        world.reflector.start()
        world.clock.run_until(lambda: world.reflector.went_back)
        assert world.went_back == [(1, 40)]
        assert not world.reflector.synced.is_set()

    def test_a_write_of_our_own_during_a_list_is_no_alarm(self) -> None:
        """What counts is what was seen before the list was asked for."""
        world = World()
        world.store.latency_s = 0.5
        world.reflector.start()
        world.clock.run_for(0.75)  # the list was made, its answer is on the way
        world.cache.settle([], [], TxnResult(True, world.etcd.put("/a/own", b"1")))
        world.clock.run_until(world.reflector.synced.is_set)
        world.caught_up()
        assert world.went_back == []

    def test_a_single_stale_list_is_not_entered_either(self) -> None:
        """It can't be told from a restored store."""
        world = World().start()
        world.store.listings.append(Listing((), 1))
        world.etcd.put("/a/x", b"1")
        world.clock.run_until(lambda: world.reflector.went_back)
        assert world.seen() == {"/a/x": b"1"}


def test_stop_ends_the_watch() -> None:
    """Within a tick, wherever it is."""
    world = World().start()
    world.clock.run_for(1)
    assert not world.reflector.stop()
    assert world.reflector.stop(SOON_S)
    down = World()
    down.store.down = True
    down.reflector.start()
    down.clock.run_for(1)
    assert down.reflector.stop(0.0)
    calls = down.store.calls["list"]
    down.clock.run_for(60)
    assert down.store.calls["list"] == calls


@pytest.mark.parametrize("seed", range(30))
def test_in_the_end_the_cache_is_right(seed: int) -> None:
    """Breaks, silence, outages, compactions, lost and doubled events, writes of our own that the cache knows before the
    watch, and any interleaving of all that: no key goes back, and soon after the last fault the cache shows what there is.
    """
    rng = random.Random(seed)
    world = World(clock=shuffled(rng.random))
    world.reflector.start()
    shown: dict[str, int] = {}

    def check(key: str) -> None:
        item = world.cache.get(key)
        if item is not None:
            assert item.mod_revision >= shown.get(key, 0)
            shown[key] = item.mod_revision

    def write(store: FakeStore, *, own: bool) -> None:
        key = f"/a/{rng.randrange(6)}"
        item = world.cache.get(key)
        compares = [Compare(key, mod_revision=item.mod_revision if item else 0)]
        ops: list[Op] = [Delete(key) if item and rng.random() < 0.4 else Put(key, bytes([rng.randrange(256)]))]
        try:
            result = store.txn(compares, ops)
        except PortError:
            return
        if own:
            world.cache.settle(compares, ops, result)

    def misbehave() -> None:
        store = world.store
        store.down, store.silent = rng.random() < 0.1, rng.random() < 0.2
        store.deliver = rng.choice(
            [lambda batch: (batch,), lambda batch: (batch, batch), lambda batch: (Batch(batch.revision),)]
        )
        if rng.random() < 0.3:
            store.watch_ends.append(rng.choice([None, Retryable("broken")]))
        if rng.random() < 0.3:
            world.etcd.compact()
        store.latency_s = rng.choice((0.0, 0.2))

    world.cache.subscribe("", check)
    other = world.etcd.client()
    for _ in range(150):
        for number in range(rng.randrange(4)):
            store, own = (world.store, True) if rng.random() < 0.5 else (other, False)
            world.clock.spawn(f"writer {number}", partial(write, store, own=own))
        if rng.random() < 0.2:
            misbehave()
        world.clock.run_for(rng.choice((0.0, 0.1, 1.0, 10.0)))
    world.store.down = world.store.silent = False
    world.store.deliver = lambda batch: (batch,)
    world.clock.run_for(world.settings.relist_s + SOON_S)
    assert world.seen() == world.etcd.contents("/a/")
    assert not world.reflector.went_back
