"""A host that comes back fenced writes nothing of what it still holds (docs/PROTOCOL.md, N10)."""

from __future__ import annotations

from schema.keys import Family, Key
from schema.models import Verdict
from tests.sim.faults import Fault, Kind
from tests.sim.fleet import Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act


def test_a_fenced_node_that_returns_flushes_nothing() -> None:
    """n1 is alone with unwritten data and fenced; n2 gets the volume; then n1 is back."""
    split = Fault(0.0, 20.0, Kind.SPLIT, "n1")

    def story(run: Run) -> None:
        fleet = run.fleet
        first, second = (fleet.keyspace.path(Family.DESIRED_ATTACHMENT, node, "v") for node in ("n1", "n2"))
        volume = fleet.keyspace.path(Family.DESIRED_VOLUME, "v")
        run.act(Act(0.0, volume, b'{"backend": "array1", "size_gib": 1}'))
        run.act(Act(0.0, first, b"{}"))
        run.until_settled()
        host = fleet.hosts["n1"]
        device = host.device("/dev/brickwork/v")
        assert device is not None
        host.write(device, "too late", flush=False)
        run.nemesis.strike(split)
        run.act(Act(0.0, first, None))
        run.act(Act(0.0, second, b"{}"))
        run.let_pass(split.lasts_s)
        assert fleet.hosts["n2"].device("/dev/brickwork/v") is not None
        run.nemesis.relent(split)
        run.until_settled()
        assert not host.devices
        assert "too late" not in [event.who for event in fleet.audit.events]

    result = Run(Scenario("fenced", Shape(1, 2, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_a_fence_that_is_withdrawn_after_it_was_acted_upon_is_told() -> None:
    """The node, away meanwhile, can't know of it: nothing is granted to that boot, and people are told to state it again."""

    def story(run: Run) -> None:
        fleet = run.fleet
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_VOLUME, "v"), b'{"backend": "array1", "size_gib": 1}'))
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "v"), b"{}"))
        run.until_settled()
        boot = fleet.boot("n1")
        fence = fleet.keyspace.path(Family.FENCE, "n1", boot)
        said = b'{"who": "ana", "why": "cut off", "evidence": "its port is shut"}'
        away = Fault(0.0, 0.0, Kind.CUT, "node/n1")
        run.nemesis.strike(away)
        run.let_pass(10.0)
        for value in (said, None):
            run.act(Act(0.0, fence, value))
            run.let_pass(10.0)
        run.nemesis.relent(away)
        run.let_pass(60.0)
        verdict = fleet.invariants.values.get(Key(Family.VERDICT_ATTACHMENT, ("n1", "v")))
        assert isinstance(verdict, Verdict)
        assert [each.reason for each in verdict.conditions] == ["FenceWithdrawn"]
        run.act(Act(0.0, fence, said))
        run.until_settled()
        assert fleet.boot("n1") != boot

    result = Run(Scenario("withdrawn", Shape(1, 2, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
