"""Accidents that need a world of its own: clocks that jump, and two hosts that are one to the array (A17)."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import pytest
import structlog

from schema.codec import encode
from schema.keys import Family, Key
from schema.models import BackendStatus, Verdict
from tests.sim.faults import Fault, Kind
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act

YEAR_S = 365 * 86400.0


def volume(fleet: Fleet, name: str) -> Act:
    return Act(0.0, fleet.keyspace.path(Family.DESIRED_VOLUME, name), b'{"backend": "array1", "size_gib": 1}')


def attachment(fleet: Fleet, node: str, name: str) -> Act:
    return Act(0.0, fleet.keyspace.path(Family.DESIRED_ATTACHMENT, node, name), b"{}")


def undone(fleet: Fleet) -> list[str]:
    return [each for each in fleet.audit.kinds() if each in ("disconnected", "unmapped", "unexported", "deleted")]


@pytest.fixture
def lines() -> Iterator[Sequence[MutableMapping[str, Any]]]:
    """What the daemons log."""
    with structlog.testing.capture_logs() as captured:
        yield captured
    structlog.reset_defaults()


@pytest.mark.parametrize("jumps_s", [(YEAR_S,), (-YEAR_S,), (3600.0, -7200.0, 40 * YEAR_S, -80 * YEAR_S)])
def test_jumps_of_the_wall_clocks_change_nothing(jumps_s: tuple[float, ...]) -> None:
    """Of every process at once, and of one alone; between two steps, and while something waits to be tried again: leases,
    pauses and deadlines go by the clock that does not jump. No leader changes, nothing is undone, new wishes are met."""

    def story(run: Run) -> None:
        fleet = run.fleet
        run.act(volume(fleet, "kept"))
        run.act(attachment(fleet, "n1", "kept"))
        run.until_settled()
        leader = fleet.etcd.get(fleet.keyspace.path(Family.LEADER, "array1"))
        for number, jump_s in enumerate(jumps_s):
            away = Fault(0.0, 10.0, Kind.AWAY, "array1")
            run.nemesis.strike(away)
            run.act(volume(fleet, f"v{number}"))
            run.act(attachment(fleet, "n2", f"v{number}"))
            run.let_pass(5.0)
            for count, daemon in enumerate(fleet.daemons.values()):
                assert daemon.process is not None
                daemon.process.wall_offset_s += jump_s * (count + 1)
            run.let_pass(5.0)
            run.nemesis.relent(away)
            began = fleet.clock.now()
            run.until_settled()
            assert fleet.clock.now() - began < 60.0, "a retry waited for the wall clock"
        assert fleet.etcd.get(fleet.keyspace.path(Family.LEADER, "array1")) == leader
        assert not undone(fleet)

    result = Run(Scenario("jumps", Shape(2, 2, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_a_node_with_the_identifier_of_another_is_granted_nothing() -> None:
    """The first keeps its device and gets new ones; the second is told so, and goes on once it has one of its own."""

    def story(run: Run) -> None:
        fleet = run.fleet
        clone, daemon = fleet.hosts["n2"], fleet.daemons["node/n2"]
        daemon.kill()
        own, clone.initiator = clone.initiator, fleet.hosts["n1"].initiator
        for name in ("kept", "next", "clones"):
            run.act(volume(fleet, name))
        run.act(attachment(fleet, "n1", "kept"))
        run.let_pass(30.0)
        daemon.start()
        run.act(attachment(fleet, "n2", "clones"))
        run.act(attachment(fleet, "n1", "next"))
        run.let_pass(30.0)
        verdict = fleet.invariants.values.get(Key(Family.VERDICT_ATTACHMENT, ("n2", "clones")))
        assert isinstance(verdict, Verdict)
        assert "DuplicateInitiator" in [each.reason for each in verdict.conditions]
        assert len(fleet.hosts["n1"].devices) == 2
        assert not clone.devices
        # F-S8: the first's record is of a newer version, or has a bad field, and its daemon is away: its identifiers are there
        fleet.daemons["node/n1"].stop()
        path = fleet.keyspace.path(Family.NODE, "n1")
        newer = json.loads(fleet.etcd.contents()[path]) | {"schema": 99}
        run.act(Act(0.0, path, json.dumps(newer).encode()))
        run.let_pass(30.0)
        assert not clone.devices
        fleet.daemons["node/n1"].start()
        daemon.kill()
        clone.initiator = own
        daemon.start()
        run.until_settled()
        assert clone.device("/dev/brickwork/clones") is not None
        assert not undone(fleet)

    result = Run(Scenario("clone", Shape(1, 2, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_who_waits_for_the_record_of_another_node_goes_on_when_it_goes() -> None:
    """F-S9: the record of a retired host is forgotten, and its successor with the same identifier gets its volumes at once,
    not at the next resync. A record that changes is as good."""

    def story(run: Run) -> None:
        fleet = run.fleet
        path = fleet.keyspace.path(Family.NODE, "n1")
        old, host = fleet.hosts["n1"], fleet.hosts["n2"]
        daemon = fleet.daemons["node/n2"]
        daemon.kill()
        run.let_pass(5.0)
        fleet.daemons["node/n1"].kill()
        old.initiator, host.initiator = host.initiator, old.initiator
        run.let_pass(10.0)
        daemon.start()
        for name in ("one", "two"):
            run.act(volume(fleet, name))
            run.act(attachment(fleet, "n2", name))
        run.let_pass(10.0)
        assert not host.devices
        fleet.by_hand(path, None)
        run.let_pass(5.0)
        assert len(host.devices) == 2, "it waits for the next resync"
        fleet.daemons["node/n1"].start()

    result = Run(Scenario("retired", Shape(1, 2, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_who_waits_for_one_node_on_each_backend_goes_on_when_either_goes(order: tuple[int, int]) -> None:
    """F-S9: a backend over iSCSI and one over NVMe, each with an identifier that another retired host has."""

    def story(run: Run) -> None:
        fleet = run.fleet
        fleet.arrays["array2"].identifiers = ("nqn",)
        first, second, new = (fleet.hosts[name] for name in ("n1", "n2", "n3"))
        fleet.daemons["node/n3"].kill()
        run.let_pass(5.0)
        for name in ("node/n1", "node/n2"):
            fleet.daemons[name].kill()
        first.initiator, new.initiator = new.initiator, first.initiator
        second.nqn, new.nqn = new.nqn, second.nqn
        run.let_pass(10.0)
        fleet.daemons["node/n3"].start()
        for number in (1, 2):
            wish = b'{"backend": "array%d", "size_gib": 1}' % number
            fleet.by_hand(fleet.keyspace.path(Family.DESIRED_VOLUME, f"v{number}"), wish)
            run.act(attachment(fleet, "n3", f"v{number}"))
        run.let_pass(10.0)
        assert not new.devices
        for number in order:
            fleet.by_hand(fleet.keyspace.path(Family.NODE, f"n{number}"), None)
            run.let_pass(5.0)
            assert new.device(f"/dev/brickwork/v{number}") is not None, "it waits for the next resync"
        for name in ("node/n1", "node/n2"):
            fleet.daemons[name].start()

    result = Run(Scenario("two retired", Shape(1, 3, 2), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_a_backend_that_is_forgotten_is_unknown_to_its_wishes_at_once() -> None:
    """F-S9: whoever waits for its controller is told that there is none; not at the next resync."""

    def story(run: Run) -> None:
        fleet = run.fleet
        path = fleet.keyspace.path(Family.BACKEND, "tried")
        status = BackendStatus(ready=True, driver="x.Driver", controller="c9")
        fleet.by_hand(path, encode(status))
        fleet.by_hand(fleet.keyspace.path(Family.DESIRED_VOLUME, "v"), b'{"backend": "tried", "size_gib": 1}')
        run.let_pass(20.0)
        verdict = Key(Family.VERDICT_VOLUME, ("v",))
        assert fleet.invariants.values.get(verdict) is None
        fleet.by_hand(path, None)
        run.let_pass(5.0)
        told = fleet.invariants.values.get(verdict)
        assert isinstance(told, Verdict)
        assert "UnknownBackend" in [each.reason for each in told.conditions]
        fleet.by_hand(fleet.keyspace.path(Family.DESIRED_VOLUME, "v"), None)

    result = Run(Scenario("tried", Shape(1, 1, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_a_wish_that_can_not_be_met_is_in_the_log_once(lines: Sequence[MutableMapping[str, Any]]) -> None:
    """F-C14: whatever key it is; and again only when its fault is another."""

    def story(run: Run) -> None:
        fleet = run.fleet
        path = fleet.keyspace.path
        bad = {
            path(Family.DESIRED_ATTACHMENT, "n1", "v"): b'{"mode": "sideways"}',
            path(Family.DESIRED_VOLUME, "w"): b"{",
            path(Family.DESIRED_NODE, "n1"): b"[]",
            f"{fleet.keyspace.prefix}desired/volume/x": b"{}",
        }
        for key, value in bad.items():
            fleet.by_hand(key, value)
        run.let_pass(150.0)
        told = [line for line in lines if line["event"] == "a wish can't be met as it stands"]
        assert sorted((line.get("node", ""), line.get("volume", ""), line["reason"]) for line in told) == [
            ("", "", "UnparsableKey"),
            ("", "w", "Malformed"),
            ("n1", "", "Malformed"),
            ("n1", "v", "Malformed"),
        ]
        assert {line["log_level"] for line in told} == {"warning"}
        fleet.by_hand(path(Family.DESIRED_VOLUME, "w"), b'{"backend": "array1", "size": 1}')
        run.let_pass(10.0)
        assert any(line.get("volume") == "w" and "size" in line["why"] for line in lines if "why" in line)
        for key in bad:
            fleet.by_hand(key, None)

    result = Run(Scenario("malformed", Shape(1, 1, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
