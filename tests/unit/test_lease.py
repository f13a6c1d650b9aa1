"""The lease session: it ends here before it ends in etcd."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from reconciler.runtime.lease import LeaseSession
from reconciler.runtime.ports import PortError
from tests.fakes.clock import TaskFailed, VirtualClock
from tests.fakes.store import FakeEtcd, Fault

TTL_S = 3


class World:
    """A session in a process of its own, and what it told, with the time since the start."""

    def __init__(self) -> None:
        self.clock = VirtualClock(now=1000.0)
        self.etcd = FakeEtcd(self.clock)
        self.process = self.clock.process("a")
        self.store = self.etcd.client(self.process)
        self.told: list[tuple[float, str]] = []
        self.errors: list[PortError] = []
        self.session = LeaseSession(self.store, self.process, random.Random(1), ttl_s=TTL_S, report=self.errors.append)
        self.session.subscribe(granted=lambda _: self.tell("granted"), lost=lambda: self.tell("lost"))

    def tell(self, what: str) -> None:
        assert self.session.alive() == (what == "granted")
        self.told.append((self.clock.now() - 1000.0, what))

    def start(self) -> World:
        self.session.start()
        self.clock.run_until(self.session.alive)
        return self

    def what(self) -> list[str]:
        return [what for _, what in self.told]

    def in_etcd(self) -> bool:
        """Whether the server still has a lease of ours."""
        self.etcd.expire()
        return bool(self.etcd._leases)


def test_a_lease_is_kept_for_as_long_as_need_be() -> None:
    """With a renewal every third of its time, and no word about it."""
    world = World().start()
    lease = world.session.lease
    world.clock.run_for(3600)
    assert world.session.lease == lease != 0
    assert world.what() == ["granted"]
    assert world.store.calls["keep"] == pytest.approx(3600, abs=2)
    assert world.session.age_s <= TTL_S / 3


def test_it_may_be_asked_for_a_margin() -> None:
    """Right after a renewal two thirds of the TTL are left, right before the next one third is."""
    world = World().start()
    world.clock.run_for(0.5)
    assert world.session.alive(margin_s=1.25)
    assert not world.session.alive(margin_s=1.75)


def test_one_lost_renewal_is_made_up_for() -> None:
    """By the next try."""
    world = World().start()
    world.clock.run_for(10)
    failures = iter([Fault.UNAVAILABLE])
    world.store.fault = lambda name: next(failures, None) if name == "keep" else None
    world.clock.run_for(10)
    assert world.what() == ["granted"]
    assert len(world.errors) == 1


@pytest.mark.parametrize("how", ["down", "frozen"])
def test_unconfirmed_for_two_thirds_of_its_time_it_is_lost(how: str) -> None:
    """Whether the calls fail or hang, and counted from the sending of the last confirmed renewal: the server has it yet."""
    world = World().start()
    world.clock.run_for(10.5)  # the last renewal was sent at 10
    setattr(world.store, how, True)
    world.clock.run_for(10)
    assert world.told[1] == (10 + TTL_S * 2 / 3, "lost")
    assert world.session.lost.is_set()
    assert world.session.lease == 0
    setattr(world.store, how, False)
    world.clock.run_for(10)
    assert world.what() == ["granted", "lost", "granted"]
    assert not world.session.lost.is_set()


def test_a_slow_confirmation_counts_from_its_sending() -> None:
    """Not from its arrival."""
    world = World().start()
    world.clock.run_for(9.75)
    world.store.latency_s = 0.375  # each way: sent at 10, confirmed at 10.75
    world.clock.run_for(1.5)
    assert world.session.alive(margin_s=0.5)  # it is 11.25; ends at 12
    assert not world.session.alive(margin_s=1.0)


def test_a_confirmation_after_the_deadline_changes_nothing() -> None:
    """A lost lease does not come back to life, though the server has it yet."""
    world = World().start()
    lease = world.session.lease
    world.clock.run_for(9.75)
    world.store.latency_s = 1.25  # sent at 10, confirmed at 12.5; lost at 12
    world.clock.run_for(3)
    assert world.what() == ["granted", "lost"]
    assert world.session.lease == 0
    world.store.latency_s = 0
    world.clock.run_for(10)
    assert world.session.lease not in (0, lease)


def test_a_lease_that_the_server_lost_is_lost_at_once() -> None:
    """TTL 0 in the answer of a renewal is the end, without waiting for the deadline."""
    world = World().start()
    world.clock.run_for(10.5)
    world.etcd.revoke(world.session.lease)
    world.clock.run_for(1)
    assert world.told[1:] == [(11.0, "lost"), (11.0, "granted")]


def test_lost_is_told_before_anything_else_is_done() -> None:
    """No call goes out between the loss and the end of the callbacks."""
    world = World().start()
    at_callback: list[dict[str, int]] = []
    world.session.subscribe(lost=lambda: at_callback.append(dict(world.store.calls)))
    world.clock.run_for(10.5)
    before = dict(world.store.calls)
    world.etcd.revoke(world.session.lease)
    world.clock.run_for(5)
    assert at_callback == [{**before, "keep": before["keep"] + 1}]
    assert "revoke" not in world.store.calls


def test_a_paused_process_finds_its_lease_lost_when_it_goes_on() -> None:
    """`alive` is false from the first instant, before any task of the session has run; no renewal is sent for it."""
    world = World().start()
    world.clock.run_for(10.5)
    world.process.pause()
    world.clock.run_for(60)
    assert not world.session.alive()
    assert world.session.lease == 0
    assert not world.in_etcd()
    keeps = world.store.calls["keep"]
    world.process.resume()
    world.clock.run_for(0.5)
    assert world.what() == ["granted", "lost", "granted"]
    assert world.store.calls["keep"] == keeps


def test_a_pause_shorter_than_the_deadline_does_no_harm() -> None:
    """The next renewal is sent late, and counts."""
    world = World().start()
    lease = world.session.lease
    world.clock.run_for(10.5)
    world.process.pause()
    world.clock.run_for(1.25)
    world.process.resume()
    world.clock.run_for(10)
    assert world.session.lease == lease


def test_a_process_paused_with_the_answer_on_its_way() -> None:
    """The confirmation arrives after the deadline, though it was sent long before: too late."""
    world = World().start()
    world.store.latency_s = 0.25
    world.clock.run_until(lambda: world.store.calls.get("keep", 0) == 5)
    world.clock.run_for(0.375)  # renewed at the server, the answer on its way
    world.process.pause()
    world.clock.run_for(2.5)  # the server's lease lives, ours does not
    assert world.in_etcd()
    assert not world.session.alive()
    world.process.resume()
    world.clock.run_for(2)
    assert world.what() == ["granted", "lost", "granted"]


def test_a_confirmation_does_not_revive_what_was_over_meanwhile() -> None:
    """It came before the deadline, to a process that stood still until after it: somebody may have seen it not alive."""
    world = World().start()
    world.clock.run_for(9.75)
    world.store.latency_s = 0.375  # sent at 10, confirmed at 10.75; the deadline is 11, with it it would be 12
    world.clock.run_for(0.75)
    world.process.pause()
    world.clock.run_for(1.0)
    assert not world.session.alive()
    world.process.resume()
    world.clock.run_for(0.25)
    assert world.what()[:2] == ["granted", "lost"]


def test_always_over_here_before_it_is_over_there() -> None:
    """Whatever happens to the connection: while the session says alive, the server has the lease."""
    world = World().start()
    rng = random.Random(5)
    world.etcd.expire()

    def check() -> None:
        if world.session.alive():
            world.etcd.expire()
            assert world.session.lease in world.etcd._leases

    for _ in range(200):
        world.store.down = world.store.frozen = world.etcd.no_space = False
        world.store.latency_s = 0.0
        world.process.resume()
        match rng.randrange(6):
            case 0:
                world.store.down = True
            case 1:
                world.store.frozen = True
            case 2:
                world.store.latency_s = rng.choice((0.1, 0.6, 1.5))
            case 3:
                world.process.pause()
            case 4:
                world.etcd.no_space = True
        for _ in range(rng.randrange(50)):
            world.clock.run_for(0.1)
            check()
    assert world.what().count("lost") > 20
    assert all(a != b for a, b in zip(world.what(), world.what()[1:], strict=False))


def test_no_lease_is_granted_until_the_store_does() -> None:
    """It asks again and again, with growing waits."""
    world = World()
    world.etcd.no_space = True
    world.session.start()
    world.clock.run_for(600)
    assert not world.session.alive()
    assert 250 <= world.store.calls["grant"] <= 700
    world.etcd.no_space = False
    world.clock.run_until(world.session.alive, 2.0)


def test_a_grant_that_took_too_long_is_not_used() -> None:
    """Its deadline had passed when it came."""
    world = World()
    world.store.latency_s = 1.25
    world.session.start()
    world.clock.run_for(20)
    assert world.told == []
    world.store.latency_s = 0.0
    world.clock.run_for(10)
    assert world.what() == ["granted"]


def test_close_revokes_without_a_word() -> None:
    """It is over at once, here and there; nobody is told, for nobody lost anything."""
    world = World().start()
    closed = world.process.spawn("close", lambda: world.session.close(bound_s=5.0))
    world.clock.run_for(1)
    assert closed.join(0)
    assert not world.session.alive()
    assert not world.in_etcd()
    assert world.what() == ["granted"]
    calls = dict(world.store.calls)
    world.clock.run_for(60)
    assert world.store.calls == calls


def test_close_does_not_need_the_store() -> None:
    """If it is away the lease runs out by itself."""
    world = World().start()
    world.store.down = True
    world.process.spawn("close", world.session.close)
    world.clock.run_for(0)
    assert not world.session.alive()
    world.clock.run_for(TTL_S + 1)
    assert not world.in_etcd()


@pytest.mark.parametrize("callback", ["granted", "lost"])
def test_what_a_callback_raises_is_not_swallowed(callback: str) -> None:
    """Whoever could not stop in time must not go on: the task ends with it."""
    world = World()

    def fail(*_: int) -> None:
        raise RuntimeError("could not kill")

    fails: dict[str, Callable[..., None]] = {callback: fail}
    world.session.subscribe(**fails)
    world.store.fault = lambda name: Fault.UNAVAILABLE if name == "keep" else None
    world.session.start()
    with pytest.raises(TaskFailed, match="could not kill"):
        world.clock.run_for(10)
