"""A store that is another, or earlier than it was, is refused: in this life and in the next (A57)."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemons.identity import FileStoreMemory
from daemons.process import Refused
from reconciler.runtime.lineage import ASKS_S, KnownStore
from reconciler.runtime.ports import Compare, Put, Replaced, StoreMark
from tests.fakes.clock import VirtualClock
from tests.fakes.store import FakeEtcd


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock()
        self.etcd = FakeEtcd(self.clock)
        self.memory = FileStoreMemory(folder)
        self.told: list[str] = []

    def start(self) -> KnownStore:
        """A new life of the daemon."""
        return KnownStore(self.etcd.client(), self.memory, self.clock, self.told.append, lambda: "https://etcd-2:2379")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def restored(world: World, store: KnownStore) -> None:
    """The daemon has seen more than what is restored now."""
    backup = world.etcd.backup()
    store.txn((), (Put("/x", b"1"),))
    store.list("/")
    store.save()
    world.etcd.restore(backup)


def test_an_earlier_state_is_refused_by_whatever_call_comes_first(world: World) -> None:
    """A confirmation that would hold in the earlier state does not pass; nothing passes after it; it is told once."""
    store = world.start()
    restored(world, store)
    with pytest.raises(
        Replaced, match="etcd at https://etcd-2:2379 went back in time: it is at revision 1, and was at 2"
    ):
        store.txn((Compare("/y", mod_revision=0),))
    for call in (
        lambda: store.get("/x"),
        lambda: store.grant_lease(5),
        lambda: store.keep_lease(1),
        lambda: store.list("/"),
    ):
        with pytest.raises(Replaced):
            call()
    assert len(world.told) == 1


def test_a_restart_notices_it_too(world: World) -> None:
    """What was seen is on disk."""
    restored(world, world.start())
    with pytest.raises(Replaced):
        world.start().list("/")


def test_another_cluster_is_refused_even_if_it_is_ahead(world: World) -> None:
    store = world.start()
    store.list("/")
    store.save()
    world.etcd.cluster = "c2"
    world.etcd.put("/x")
    with pytest.raises(Replaced, match="another cluster"):
        world.start().list("/")
    with pytest.raises(Replaced, match="another cluster"):
        store.txn((Compare("/y", mod_revision=0),))


def test_what_a_person_accepted_is_asked_about_for_a_while(world: World) -> None:
    """The acceptance outlives a crash, but not for ever."""
    restored(world, world.start())
    world.memory.save(StoreMark(accepted=True))
    store = world.start()
    store.list("/")
    store.save()
    assert store.newly_accepted
    following = world.start()
    world.clock.run_for(ASKS_S)
    assert not store.newly_accepted
    assert following.newly_accepted, "not before it has answered for so long"
    store.save()
    assert not world.start().newly_accepted
    world.etcd.put("/x")
    world.start().list("/")
    assert not world.start().fault


def test_a_file_that_says_nothing_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("{}")
    with pytest.raises(Refused, match="--accept-store"):
        FileStoreMemory(tmp_path).load()
