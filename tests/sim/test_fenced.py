"""A host that comes back fenced writes nothing of what it still holds (docs/PROTOCOL.md, N10)."""

from __future__ import annotations

from schema.keys import Family
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
