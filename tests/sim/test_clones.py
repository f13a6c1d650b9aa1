"""F-D1: two hosts bear one node id and one initiator. `nodes/N` names the host; however silent it is, the other one waits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from schema.keys import Family, Key
from schema.models import Claim, NodeRecord
from tests.fakes.clock import VirtualClock
from tests.sim.faults import Fault, Kind
from tests.sim.fleet import Daemon, Fleet, Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act

AWAY_S = 10.0
"""Longer than a lease."""
VOLUME = b'{"backend": "array1", "size_gib": 1}'


def attached(run: Run, *volumes: str) -> None:
    fleet = run.fleet
    for volume in volumes:
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_VOLUME, volume), VOLUME))
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", volume), b"{}"))


def published(fleet: Fleet) -> NodeRecord:
    record = fleet.invariants.values[Key(Family.NODE, ("n1",))]
    assert isinstance(record, NodeRecord)
    return record


def undone(fleet: Fleet) -> list[str]:
    return [each for each in fleet.audit.kinds() if each in ("disconnected", "unmapped", "unexported")]


def later(clock: VirtualClock, daemon: Daemon) -> None:
    clock.sleep(AWAY_S / 2)
    daemon.start()


def first_alone(run: Run, *volumes: str) -> Daemon:
    """The first host is the node, with these volumes; the copy's daemon."""
    copy = run.fleet.daemons["node/n1-copy"]
    copy.kill()
    run.let_pass(1.0)
    attached(run, *volumes)
    run.until_settled()
    return copy


def strikes(kind: Kind, target: str = "node/n1") -> Callable[[Run], None]:
    """It happens to the first host's daemon, for longer than a lease."""

    def happen(run: Run) -> None:
        fault = Fault(0.0, AWAY_S, kind, target)
        run.nemesis.strike(fault)
        run.let_pass(AWAY_S)
        run.nemesis.relent(fault)

    return happen


HAPPENS = {
    "restarted": strikes(Kind.STOP),
    "killed": strikes(Kind.KILL),
    "paused": strikes(Kind.PAUSE),
    "cut off": strikes(Kind.CUT),
    "hears nothing": strikes(Kind.SILENT),
    "etcd lost its leases": strikes(Kind.LEASES, "etcd"),
    "etcd was away": strikes(Kind.DOWN, "etcd"),
}


@pytest.mark.parametrize("disk", ["its own", "copied"])
@pytest.mark.parametrize("clone", ["waits", "starts meanwhile", "started while it was off"])
@pytest.mark.parametrize("happens", HAPPENS.values(), ids=HAPPENS)
def test_the_first_host_stays_the_node(happens: Callable[[Run], None], clone: str, disk: str) -> None:
    """Its device is not touched, nothing is unmapped under it, and it goes on by itself."""

    def story(run: Run) -> None:
        fleet = run.fleet
        copy = first_alone(run, "kept")
        claim = fleet.invariants.values[Key(Family.CLAIM, ("n1", "kept"))]
        if disk == "copied":
            fleet.copy_disk("n1", "n1-copy")
        if clone == "waits":
            copy.start()
            run.let_pass(AWAY_S)
        elif clone == "started while it was off":
            fleet.daemons["node/n1"].stop()
            run.let_pass(AWAY_S)
            copy.start()
            run.let_pass(AWAY_S)
            fleet.daemons["node/n1"].start()
            run.let_pass(AWAY_S)
        else:
            fleet.clock.spawn("later", lambda: later(fleet.clock, copy))
        happens(run)
        run.let_pass(AWAY_S)
        attached(run, "next")
        run.until_settled()
        assert published(fleet).host_identity == "n1"
        assert fleet.invariants.values[Key(Family.CLAIM, ("n1", "kept"))] == claim
        for family in (Family.CLAIM, Family.CONNECTION, Family.ATTACHMENT):
            assert getattr(fleet.invariants.values[Key(family, ("n1", "next"))], "host_identity", "") == "n1"
        assert not undone(fleet)
        assert not fleet.hosts["n1-copy"].devices

    result = Run(Scenario("clones", Shape(1, 2, 1, clone=True), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(80)}"


def test_a_host_that_is_back_after_a_second_waits_for_nobody() -> None:
    """Fifty power cuts with a copy at hand, which never is the node: no person is needed, and its volume is back each time."""

    def story(run: Run) -> None:
        fleet = run.fleet
        first_alone(run, "v").start()
        for _ in range(50):
            fleet.turn_off("n1")
            run.let_pass(1.0)
            fleet.turn_on("n1")
            began_s = fleet.clock.now()
            run.until_settled()
            assert fleet.clock.now() - began_s < 15.0
            assert published(fleet).host_identity == "n1"

    result = Run(Scenario("back at once", Shape(1, 2, 1, clone=True), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(80)}"


@pytest.mark.parametrize("also", [(), ("claims",), ("claims", "attachments")])
@pytest.mark.parametrize("wished", [True, False])
def test_a_careless_hand_makes_the_copy_the_node(also: tuple[str, ...], *, wished: bool) -> None:
    """`nodes/N` is deleted while its host is away with a device, and with it what else tells of that host. The copy is N then,
    and all the same speaks for none of the first host's boots. A person mends it (`Run._bring_back`)."""

    def story(run: Run) -> None:
        fleet = run.fleet
        first_alone(run, "v").start()
        run.let_pass(AWAY_S)
        cut = Fault(0.0, 0.0, Kind.CUT, "node/n1")
        run.nemesis.strike(cut)
        run.let_pass(AWAY_S)
        for family in also:
            run.act(Act(0.0, f"{fleet.keyspace.prefix}{family}/n1/v", None))
        run.act(Act(0.0, fleet.keyspace.path(Family.NODE, "n1"), None))
        if not wished:
            run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "v"), None))
        run.let_pass(3 * AWAY_S)
        assert published(fleet).host_identity == "n1-copy"
        assert len(fleet.hosts["n1"].devices) == 1
        assert not fleet.hosts["n1-copy"].devices
        run.nemesis.relent(cut)

    result = Run(Scenario("by hand", Shape(1, 2, 1, clone=True), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(80)}"


@pytest.mark.parametrize("first", ["the fence", "the hand"])
def test_what_the_former_host_has_never_comes_to_life_again(first: str) -> None:
    """Its boot is fenced on somebody's word, before or after a careless hand makes the copy the node. They share an initiator:
    an export to the copy would let in the former host's device. It waits until that host is stated to be off."""

    def story(run: Run) -> None:
        fleet = run.fleet
        first_alone(run, "v").start()
        boot = published(fleet).boot
        cut = Fault(0.0, 0.0, Kind.CUT, "node/n1")
        run.nemesis.strike(cut)
        run.let_pass(AWAY_S)
        fence = fleet.keyspace.path(Family.FENCE, "n1", boot)
        said = b'{"who": "ana", "why": "cut off", "evidence": "its port is shut", "proof": "%s"}'
        acts = [Act(0.0, fence, said % b"statement"), Act(0.0, fleet.keyspace.path(Family.NODE, "n1"), None)]
        for act in acts if first == "the fence" else reversed(acts):
            run.act(act)
            run.let_pass(AWAY_S)
        run.act(Act(0.0, f"{fleet.keyspace.prefix}claims/n1/v", None))
        run.let_pass(6 * AWAY_S)
        assert published(fleet).host_identity == "n1-copy"
        assert len(fleet.hosts["n1"].devices) == 1
        assert not fleet.hosts["n1-copy"].devices
        assert not any(array.exposures() for array in fleet.arrays.values())
        fleet.turn_off("n1")
        run.act(Act(0.0, fence, said % b"powered_off"))
        run.let_pass(3 * AWAY_S)
        assert len(fleet.hosts["n1-copy"].devices) == 1
        run.nemesis.relent(cut)
        # back again, for the settled end of a run
        other = published(fleet).boot
        fleet.turn_off("n1-copy")
        fleet.turn_on("n1")
        fleet.hosts["n1"].state["word"] = "n1"
        run.act(Act(0.0, fleet.keyspace.path(Family.FENCE, "n1", other), said % b"powered_off"))
        run.until_settled()

    result = Run(Scenario("revived", Shape(1, 2, 1, clone=True), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(80)}"


def test_a_person_moves_the_node_to_the_other_host() -> None:
    """The word does nothing before the former boot is stated to be over, and that it can no longer write is not enough: the two
    share their initiator. The former host, back in its old boot, drops its device and says nothing."""

    def story(run: Run) -> None:
        fleet = run.fleet
        first_alone(run, "v").start()
        first, boot = fleet.hosts["n1"], published(fleet).boot
        cut = Fault(0.0, 0.0, Kind.CUT, "node/n1")
        run.nemesis.strike(cut)
        fleet.hosts["n1-copy"].state["word"] = "n1-copy"
        fence = fleet.keyspace.path(Family.FENCE, "n1", boot)
        said = b'{"who": "ana", "why": "replaced", "evidence": "pulled", "proof": "%s"}'
        run.act(Act(0.0, fence, said % b"statement"))
        run.let_pass(30.0)
        assert published(fleet).boot == boot
        fleet.turn_off("n1")
        run.act(Act(0.0, fence, said % b"powered_off"))
        run.let_pass(60.0)
        claim = fleet.invariants.values[Key(Family.CLAIM, ("n1", "v"))]
        assert isinstance(claim, Claim)
        assert (published(fleet).host_identity, claim.host_identity) == ("n1-copy", "n1-copy")
        assert len(fleet.hosts["n1-copy"].devices) == 1
        run.nemesis.relent(cut)
        fleet.turn_on("n1")
        run.let_pass(60.0)
        assert not first.devices
        assert published(fleet).host_identity == "n1-copy"
        # a record that can't be read is not the former host's to put right, although it wrote it once
        fleet.daemons["node/n1-copy"].stop()
        run.let_pass(AWAY_S)
        path = fleet.keyspace.path(Family.NODE, "n1")
        run.act(Act(0.0, path, b"{"))
        run.let_pass(AWAY_S)
        assert fleet.etcd.contents()[path] == b"{"
        fleet.daemons["node/n1-copy"].start()
        run.let_pass(AWAY_S)
        assert published(fleet).host_identity == "n1-copy"
        # back again, for the settled end of a run
        other = published(fleet).boot
        fleet.turn_off("n1-copy")
        first.state["word"] = "n1"
        run.act(Act(0.0, fleet.keyspace.path(Family.FENCE, "n1", other), said % b"powered_off"))
        run.until_settled()

    result = Run(Scenario("moved", Shape(1, 2, 1, clone=True), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(80)}"
