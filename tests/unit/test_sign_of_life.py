"""`alive/N`: there while the daemon lives, put back when it is deleted, and never taken from another boot (A17)."""

from __future__ import annotations

import random

import pytest

from reconciler.controllers.sign_of_life import LOOK_S, SignOfLife
from reconciler.runtime.lease import LeaseSession
from reconciler.runtime.ports import Put
from schema.codec import decode
from schema.models import Alive
from tests.fakes.clock import VirtualClock
from tests.fakes.store import FakeEtcd

KEY = "/alive/a"


class Daemon:
    """The part of a node daemon that tells of its life."""

    def __init__(self, world: World, boot: str) -> None:
        self.boot = boot
        self.denied = ""
        store = world.etcd.client()
        self.told: list[str] = []
        self.session = LeaseSession(store, world.clock, random.Random(1), ttl_s=3)
        self.life = SignOfLife(
            store,
            self.session,
            world.clock,
            KEY,
            lambda: self.boot,
            lambda: f"host-{boot}",
            denied=lambda: self.denied,
            duplicate=self.told.append,
        )
        self.session.start()
        world.clock.spawn("life", self.life.run)


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.etcd = FakeEtcd(self.clock)

    def alive(self) -> Alive:
        item = self.etcd.get(KEY)
        value = decode(Alive, item.value) if item else None
        return value if isinstance(value, Alive) else Alive(boot="", since="")

    def boot(self) -> str:
        return self.alive().boot


@pytest.fixture
def world() -> World:
    return World()


def test_it_is_put_back_when_it_is_deleted_by_hand(world: World) -> None:
    """Nobody watches it, so it is looked after: else nothing would ever be granted to the node again."""
    daemon = Daemon(world, "b1")
    world.clock.run_until(daemon.life.given.is_set)
    world.etcd.delete(KEY)
    world.clock.run_until(lambda: world.boot() == "b1", LOOK_S + 1)


def test_who_is_not_the_node_never_holds_the_key(world: World) -> None:
    """F-D1: a waiting copy would keep the true host out. It leaves its name, for people, while the true one lives."""
    copy = Daemon(world, "b2")
    copy.denied = "DuplicateNode: another host is a"
    world.clock.run_until(copy.life.decided.is_set)
    world.clock.run_for(30)
    assert (world.boot(), copy.told, copy.life.given.is_set()) == ("", [copy.denied], False)
    first = Daemon(world, "b1")
    world.clock.run_until(first.life.given.is_set, 1.0)
    world.clock.run_until(lambda: world.alive().rival == "host-b2 (boot b2)", LOOK_S)
    first.life.stop()
    first.session.close()
    world.clock.run_for(30)
    assert (world.boot(), copy.life.fault, first.life.fault) == ("", copy.denied, "")


def test_it_is_given_back_by_who_is_no_longer_the_node(world: World) -> None:
    daemon = Daemon(world, "b1")
    world.clock.run_until(daemon.life.given.is_set)
    daemon.denied = "DuplicateNode: another host is a"
    daemon.life.look()
    world.clock.run_until(lambda: world.boot() == "", 1.0)
    daemon.denied = ""
    world.clock.run_until(lambda: world.boot() == "b1" and not daemon.life.fault, 2.0)


def test_a_host_of_the_same_identity_waits_for_what_runs_out(world: World) -> None:
    """While the first lives the other says so and may not act; the first notices nothing."""
    first = Daemon(world, "b1")
    world.clock.run_until(first.life.given.is_set)
    copy = Daemon(world, "b2")
    world.clock.run_for(60)
    assert "DuplicateNode" in copy.life.fault
    assert not copy.life.given.is_set()
    assert (world.boot(), first.life.fault, len(copy.told)) == ("b1", "", 1)
    world.clock.run_until(lambda: world.alive().rival == "host-b2 (boot b2)", LOOK_S)
    first.life.stop()
    first.session.close()
    world.clock.run_until(copy.life.given.is_set, LOOK_S)
    assert (world.boot(), copy.life.fault) == ("b2", "")


def test_a_copy_that_is_gone_is_no_longer_told_of(world: World) -> None:
    """And since when the first lives is as it was."""
    first = Daemon(world, "b1")
    world.clock.run_until(first.life.given.is_set)
    since = world.alive().since
    copy = Daemon(world, "b2")
    world.clock.run_until(lambda: bool(world.alive().rival), LOOK_S)
    copy.life.stop()
    world.clock.run_for(2 * LOOK_S)
    assert world.alive() == Alive(boot="b1", since=since)


def test_a_boot_that_was_minted_anew_is_told(world: World) -> None:
    """By the same daemon, under the same lease (N10)."""
    daemon = Daemon(world, "b1")
    world.clock.run_until(daemon.life.given.is_set)
    daemon.boot = "b2"
    world.clock.run_until(lambda: world.boot() == "b2", LOOK_S + 1)


def test_the_next_daemon_of_the_same_boot_does_not_wait(world: World) -> None:
    """After a crash the old key still has some seconds to live."""
    world.clock.run_until(Daemon(world, "b1").life.given.is_set)
    following = Daemon(world, "b1")
    world.clock.run_until(following.life.given.is_set, 1.0)


def test_one_that_can_not_be_read_is_not_overwritten_while_it_lives(world: World) -> None:
    """F-S15: by a newer daemon on another host, perhaps. It runs out with its lease."""
    other = LeaseSession(world.etcd.client(), world.clock, random.Random(2), ttl_s=3)
    other.start()
    world.clock.run_until(lambda: other.lease != 0)
    newer = b'{"schema": 99, "boot": "b0"}'
    world.etcd.client().txn((), (Put(KEY, newer, other.lease),))
    daemon = Daemon(world, "b1")
    world.clock.run_for(60)
    item = world.etcd.get(KEY)
    assert item is not None
    assert item.value == newer
    assert not daemon.life.given.is_set()
    other.close()
    world.clock.run_until(lambda: world.boot() == "b1", 20)
