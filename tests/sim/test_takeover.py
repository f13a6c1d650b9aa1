"""A leader that is gone, or hangs, or is cut off, is replaced within ten seconds, and the fleet goes on without it."""

from __future__ import annotations

import pytest

from schema.keys import Family, Key
from schema.models import AttachmentPhase, AttachmentStatus, Leader
from tests.sim.faults import Fault, Kind
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act

TAKEN_OVER_S = 10.0
LONG_S = 120.0


def leaders(fleet: Fleet) -> set[str]:
    """The controllers that act for an array."""
    values = (fleet.invariants.values.get(Key(Family.LEADER, (array,))) for array in fleet.arrays)
    return {value.identity for value in values if isinstance(value, Leader)}


def wish(fleet: Fleet, array: str) -> list[Act]:
    volume = fleet.keyspace.path(Family.DESIRED_VOLUME, f"on-{array}")
    attachment = fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", f"on-{array}")
    return [Act(0.0, volume, b'{"backend": "%s", "size_gib": 1}' % array.encode()), Act(0.0, attachment, b"{}")]


def attached(fleet: Fleet, array: str) -> bool:
    status = fleet.invariants.values.get(Key(Family.ATTACHMENT, ("n1", f"on-{array}")))
    return isinstance(status, AttachmentStatus) and status.phase is AttachmentPhase.ATTACHED


@pytest.mark.parametrize("kind", [Kind.KILL, Kind.PAUSE, Kind.CUT, Kind.FROZEN], ids=lambda kind: kind.name)
@pytest.mark.parametrize("seed", range(5))
def test_a_leaders_backends_are_taken_over_in_ten_seconds(kind: Kind, seed: int) -> None:
    """Wishes that are made the moment it is lost are attached by then."""

    def story(run: Run) -> None:
        fleet = run.fleet
        run.until_settled()
        lost = min(leaders(fleet))
        run.nemesis.strike(Fault(0.0, LONG_S, kind, f"ctl/{lost}"))
        for array in fleet.arrays:
            for act in wish(fleet, array):
                run.act(act)
        run.let_pass(TAKEN_OVER_S)
        assert lost not in leaders(fleet)
        assert all(attached(fleet, array) for array in fleet.arrays)

    result = Run(Scenario(f"takeover {seed}", Shape(2, 1, 2), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
