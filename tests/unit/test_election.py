"""The election: one leader, its successor only after a wait, and none of that when it left in order."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

import pytest

from reconciler.runtime.cache import Cache
from reconciler.runtime.election import Election
from reconciler.runtime.lease import LeaseSession
from reconciler.runtime.ports import PortError, Put
from reconciler.runtime.reflector import Reflector
from tests.fakes.clock import TaskFailed, VirtualClock, VirtualTask, shuffled
from tests.fakes.store import FakeEtcd, Fault

KEY = "/leaders/lvm"
MARK = "/leaders/lvm/resigned"
TTL_S = 3
TAKEOVER_S = 10.0


class Candidate:
    """One controller process: its connection, cache, lease and election, and the child it runs while it leads."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.process = world.clock.process(name)
        self.store = world.etcd.client(self.process)
        self.errors: list[PortError] = []
        rng = random.Random(name)
        self.cache = Cache(self.process)
        self.reflector = Reflector(self.store, self.cache, "/leaders/", self.process, rng)
        self.session = LeaseSession(self.store, self.process, rng, ttl_s=TTL_S)
        self.kill: Callable[[], object] = lambda: None
        self.election = Election(
            self.store,
            self.cache,
            self.session,
            KEY,
            name,
            self.process,
            rng,
            host=f"host-{name}",
            on_elected=lambda: world.tell(self, "leads"),
            on_lost=self.lost,
            report=self.errors.append,
        )

    def lost(self) -> None:
        assert not self.election.leading()
        assert not self.election.elected.is_set()
        self.kill()
        self.world.tell(self, "stops")

    def start(self) -> Candidate:
        self.reflector.start()
        self.session.start()
        self.election.start()
        return self

    def leads(self) -> bool:
        return self.election.leading()

    def write(self) -> bool:
        """Whether a write with the guard goes through."""
        guard = self.election.guard
        assert guard is not None
        return self.store.txn([guard], [Put("/x", b"")]).succeeded

    def resign(self) -> None:
        """In its own process, and see it through."""

        def leave() -> None:
            assert self.election.resign(30.0)
            self.session.close()

        assert self.process.spawn("resign", leave).join(60.0)

    def crash(self) -> None:
        """Its children die with it."""
        self.process.kill()
        if self.world.acting[-1:] == [self.name]:
            self.world.acting.clear()


class World:
    """An etcd and candidates, and the proof that never two act at once."""

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock(now=1000.0)
        self.etcd = FakeEtcd(self.clock)
        self.told: list[tuple[float, str, str]] = []
        self.acting: list[str] = []
        self.a = Candidate(self, "a")
        self.b = Candidate(self, "b")

    def tell(self, candidate: Candidate, what: str) -> None:
        self.told.append((self.clock.now(), candidate.name, what))
        if what == "leads":
            self.acting.append(candidate.name)
        else:
            self.acting.remove(candidate.name)
        assert len(self.acting) <= 1, self.told

    def led_by(self, candidate: Candidate, within_s: float = TAKEOVER_S) -> float:
        """Wait until it leads; how long that took."""
        before = self.clock.now()
        self.clock.run_until(candidate.leads, within_s)
        return self.clock.now() - before

    def both(self) -> World:
        """`a` leads, `b` waits."""
        self.a.start()
        self.led_by(self.a)
        self.b.start()
        self.clock.run_for(5)
        assert not self.b.leads()
        return self

    def value(self) -> dict[str, object]:
        value: dict[str, object] = json.loads(self.etcd.contents()[KEY])
        return value


class TestWinning:
    """From an absent key to the first write."""

    def test_the_first_leader_waits_for_one_that_may_have_been(self) -> None:
        """An absent key says nothing about who led a moment ago; the wait is one TTL."""
        world = World()
        world.a.start()
        assert world.led_by(world.a) == pytest.approx(TTL_S)

    def test_the_key_says_who_leads(self) -> None:
        """Who, where, since when, with which TTL."""
        world = World().both()
        assert world.value() == {
            "schema": 1,
            "identity": "a",
            "host": "host-a",
            "since": pytest.approx(1000 + 1.7e9, abs=1),
            "ttl_s": TTL_S,
        }

    def test_the_guard_lets_the_leader_write_and_nobody_else(self) -> None:
        """It compares the key's creation; who does not lead has none."""
        world = World().both()
        assert world.a.write()
        assert world.b.election.guard is None

    def test_nobody_leads_during_the_wait(self) -> None:
        """The key is held, no write is possible."""
        world = World()
        world.a.start()
        world.clock.run_for(TTL_S - 0.1)
        assert KEY in world.etcd.contents()
        assert not world.a.leads()
        assert world.a.election.guard is None

    def test_a_leader_stays(self) -> None:
        """For as long as it lives, with no more calls than renewals."""
        world = World().both()
        writes = world.etcd.writes
        world.clock.run_for(3600)
        assert world.a.leads()
        assert world.etcd.writes == writes
        assert [what for _, _, what in world.told] == ["leads"]

    def test_many_candidates_one_leader(self) -> None:
        """Whoever starts when."""
        world = World()
        others = [Candidate(world, str(number)) for number in range(5)]
        for each in (world.a, world.b, *others):
            each.start()
        world.clock.run_for(60)
        assert sum(each.leads() for each in (world.a, world.b, *others)) == 1

    @pytest.mark.parametrize("fault", [Fault.LOST_REQUEST, Fault.LOST_REPLY, Fault.LATE, Fault.UNAVAILABLE])
    def test_an_unknown_outcome_is_read_back(self, fault: Fault) -> None:
        """A key with our own lease is ours, however we came to it, and there is one of it."""
        world = World()
        world.a.store.faults.append(fault)
        world.a.start()
        world.led_by(world.a, 20.0)
        world.clock.run_for(30)
        assert world.a.leads()
        assert world.etcd.get(KEY).lease == world.a.session.lease  # type: ignore[union-attr]
        assert world.a.write()


class TestLosing:
    """Every way in which a term ends."""

    def test_a_crash(self) -> None:
        """The successor leads in less than ten seconds, after the key ran out and a TTL more."""
        world = World().both()
        world.a.crash()
        took_s = world.led_by(world.b)
        assert 2 * TTL_S - TTL_S / 3 <= took_s <= 2 * TTL_S + 1
        assert world.etcd.contents().keys() >= {KEY}
        assert world.value()["identity"] == "b"

    def test_a_partition(self) -> None:
        """The old leader has stopped before its key has gone, and long before the new one begins."""
        world = World().both()
        world.a.store.down = True
        world.led_by(world.b, 20.0)
        (stopped, who, what), (began, _, _) = world.told[-2:]
        assert (who, what) == ("a", "stops")
        assert began - stopped >= TTL_S + TTL_S / 3
        assert not world.a.leads()

    def test_a_partition_that_heals_in_time(self) -> None:
        """A renewal is late, nothing else."""
        world = World().both()
        world.a.store.down = True
        world.clock.run_for(0.9)
        world.a.store.down = False
        world.clock.run_for(60)
        assert [what for _, _, what in world.told] == ["leads"]

    def test_a_pause(self) -> None:
        """Resumed, the old leader does not lead for an instant, has no guard, its old one fails, and it stops first."""
        world = World().both()
        guard = world.a.election.guard
        assert guard is not None
        world.a.process.pause()
        world.acting.clear()  # what its child does meanwhile no pause of ours could stop: hence the wait, and the fences
        world.led_by(world.b)
        assert not world.a.leads()
        assert world.a.election.guard is None
        assert not world.a.store.txn([guard], [Put("/x", b"a")]).succeeded
        world.a.kill = lambda: world.acting.append("a")  # for `tell` to strike out
        world.a.process.resume()
        world.clock.run_for(30)
        assert world.told[-1][1:] == ("a", "stops")
        assert world.b.leads()
        assert not world.a.leads()

    def test_a_pause_during_the_wait(self) -> None:
        """Who was paused while it waited for its predecessor to end does not lead when it goes on."""
        world = World()
        world.a.start()
        world.clock.run_for(1)
        world.a.process.pause()
        world.b.start()
        world.led_by(world.b)
        world.a.process.resume()
        world.clock.run_for(30)
        assert world.b.leads()
        assert [who for _, who, _ in world.told] == ["b"]

    @pytest.mark.parametrize("deleted_by", ["hand", "lease"])
    def test_a_key_that_goes(self, deleted_by: str) -> None:
        """The leader stops as soon as it sees that, and somebody leads again after the wait."""
        world = World().both()
        if deleted_by == "hand":
            world.etcd.delete(KEY)
        else:
            world.etcd.revoke(world.a.session.lease)
        world.clock.run_for(1.5)
        assert world.told[-1][1:] == ("a", "stops")
        assert not world.a.leads()
        assert not world.b.leads()
        world.clock.run_for(10)
        assert world.a.leads() != world.b.leads()

    def test_another_life_of_the_key_is_another_term(self) -> None:
        """Even with our own lease: the guard names the old one."""
        world = World().both()
        world.etcd.delete(KEY)
        world.etcd.txn((), (Put(KEY, b"{}", world.a.session.lease),))
        world.clock.run_for(1)
        assert world.told[-1][1:] == ("a", "stops")
        world.led_by(world.a)
        assert world.a.write()

    def test_a_new_lease_does_not_lead_on_the_old_ones_term(self) -> None:
        """Though it is alive, and the election's task has not yet got to see the loss."""

        def election_last(ready: Sequence[VirtualTask]) -> int:
            return next((n for n, task in enumerate(ready) if not task.name.startswith("election")), 0)

        world = World(VirtualClock(choose=election_last))
        leading: list[tuple[bool, bool]] = []
        session, election = world.a.session, world.a.election
        session.subscribe(granted=lambda _: leading.append((election.leading(), election.guard is None)))
        world.a.start()
        world.led_by(world.a)
        world.a.store.silent = True  # only the lease tells
        world.etcd.revoke(session.lease)
        world.clock.run_for(1.5)
        assert leading == [(False, True), (False, True)]

    def test_a_key_put_by_hand_stops_everybody(self) -> None:
        """Until it is deleted by hand; it is said why."""
        world = World().both()
        world.etcd.put(KEY, b"maintenance")
        world.clock.run_for(0)
        assert world.told[-1][1:] == ("a", "stops")
        world.clock.run_for(600)
        assert not world.a.leads()
        assert not world.b.leads()
        assert any("by hand" in str(error) for error in world.b.errors)
        world.etcd.delete(KEY)
        world.clock.run_for(10)
        assert world.a.leads() != world.b.leads()

    def test_stopping_comes_before_anything_else(self) -> None:
        """No new campaign while `on_lost` runs, however long that takes."""
        world = World().both()
        world.b.crash()
        killed = world.clock.signal()
        world.a.kill = killed.wait
        world.etcd.revoke(world.a.session.lease)
        world.clock.run_for(60)
        assert KEY not in world.etcd.contents()
        assert not world.a.leads()
        killed.set()
        world.led_by(world.a)

    def test_a_child_that_can_not_be_killed(self) -> None:
        """The task ends with what `on_lost` raised; the key is left to run out."""
        world = World()
        world.a.start()
        world.led_by(world.a)
        world.a.kill = lambda: 1 // 0
        world.a.process.spawn("resign", lambda: world.a.election.resign(0.0))
        with pytest.raises(TaskFailed, match="ZeroDivisionError"):
            world.clock.run_for(1)
        assert KEY in world.etcd.contents()
        assert MARK not in world.etcd.contents()

    def test_an_outage_of_etcd(self) -> None:
        """Nobody leads when nobody can be sure, and one does again after it."""
        world = World().both()
        world.a.store.down = world.b.store.down = True
        world.clock.run_for(600)
        assert not world.a.leads()
        world.a.store.down = world.b.store.down = False
        world.clock.run_for(15)
        assert world.a.leads() != world.b.leads()


class TestResigning:
    """A leader that leaves in order."""

    def test_the_successor_need_not_wait(self) -> None:
        """It leads at once, and the mark is used up."""
        world = World().both()
        world.a.resign()
        assert world.led_by(world.b) < 0.1
        assert world.etcd.contents().keys() == {KEY}

    def test_a_restart_need_not_wait(self) -> None:
        """The mark says so to a process that was not there."""
        world = World()
        world.a.start()
        world.led_by(world.a)
        world.a.resign()
        assert world.etcd.contents().keys() == {MARK}
        world.clock.run_for(3600)
        world.b.start()
        assert world.led_by(world.b) < 0.1

    def test_a_mark_is_good_for_one_term(self) -> None:
        """Who crashed after it is waited for."""
        world = World()
        world.a.start()
        world.led_by(world.a)
        world.a.resign()
        other = Candidate(world, "c").start()
        world.led_by(other)
        world.b.start()
        other.crash()
        assert world.led_by(world.b) > TTL_S

    def test_an_old_sight_of_the_mark_is_worth_nothing(self) -> None:
        """Who saw the mark, but whose transaction arrives when another has led and crashed in between, waits."""
        world = World().both()
        delays = iter([20.0])
        world.b.store.fault = lambda name: world.clock.sleep(next(delays, 0.0)) if name == "txn" else None
        world.a.resign()
        world.clock.run_for(1)
        other = Candidate(world, "c").start()
        world.led_by(other)
        other.crash()
        world.clock.run_for(TTL_S + 0.5)  # its key ran out
        assert world.etcd.contents() == {}
        world.clock.run_until(lambda: bool(world.etcd.contents()), 30.0)
        assert world.led_by(world.b) >= TTL_S

    def test_stopping_comes_first(self) -> None:
        """The key is given away when `on_lost` has returned."""
        world = World().both()
        keys_at_kill: list[set[str]] = []
        world.a.kill = lambda: keys_at_kill.append(set(world.etcd.contents()))
        world.a.resign()
        assert keys_at_kill == [{KEY}]

    def test_of_a_candidate_leaves_the_leader_alone(self) -> None:
        """It just goes."""
        world = World().both()
        world.b.resign()
        world.clock.run_for(60)
        assert world.a.leads()
        assert world.b.election.resign(0.0)

    def test_during_the_wait_hands_no_mark_on(self) -> None:
        """Who never led can't vouch for who led before."""
        world = World()
        world.a.start()
        world.clock.run_for(1)
        world.a.resign()
        assert world.etcd.contents() == {}

    def test_without_the_store_leaves_the_key_to_run_out(self) -> None:
        """And the successor to wait."""
        world = World().both()
        world.a.store.down = True
        world.a.resign()
        assert MARK not in world.etcd.contents()
        assert world.led_by(world.b) > TTL_S


@pytest.mark.parametrize("seed", range(20))
def test_never_two_at_once(seed: int) -> None:
    """Partitions, outages, lost answers, deletions by hand, slow and late calls, crashes and newcomers: no two act at
    once (`World.tell` looks at each change), and when all is well again somebody leads."""
    told = trouble(seed)
    assert sum(what == "leads" for _, _, what in told) > 5


def test_the_same_seed_is_the_same_story() -> None:
    """To the last microsecond: what the simulator finds can be played again."""
    assert trouble(3) == trouble(3) != trouble(4)


def trouble(seed: int) -> list[tuple[float, str, str]]:
    """A hundred things that happen to candidates, drawn by the seed, and what they told."""
    rng = random.Random(seed)
    world = World(shuffled(rng.random, preempt=rng.choice((0.0, 0.1, 0.5))))
    alive = [world.a.start(), world.b.start()]
    for number in range(100):
        each = rng.choice(alive)
        match rng.randrange(8):
            case 0:
                each.store.down = True
            case 1:
                each.store.frozen = True
            case 2:
                each.store.faults.append(rng.choice(list(Fault)))
            case 3:
                world.etcd.delete(KEY)
            case 4:
                each.store.latency_s = rng.choice((0.05, 0.3, 0.7))
            case 5:
                each.crash()
                alive.remove(each)
                alive.append(Candidate(world, f"n{number}").start())
            case 6 if len(alive) < 4:
                alive.append(Candidate(world, f"n{number}").start())
        world.clock.run_for(rng.choice((0.1, 1.0, 4.0, 12.0)))
        if rng.random() < 0.5:
            each.store.down = each.store.frozen = False
            each.store.latency_s = 0.0
    for each in alive:
        each.store.down = each.store.frozen = False
        each.store.latency_s = 0.0
        each.store.faults.clear()
    world.clock.run_for(60)
    assert sum(each.leads() for each in alive) == 1
    return world.told
