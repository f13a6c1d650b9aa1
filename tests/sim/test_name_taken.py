"""A refused wish for a volume does nothing: not to the volume of that name, and nobody is granted it (F-D3)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schema.keys import Family, Key
from schema.models import Grant, Verdict, VolumePhase, VolumeStatus
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act

FIRST_LIFE = {"backend": "array1", "size_gib": 2}


def wish(fleet: Fleet, spec: dict[str, Any] | None) -> Act:
    value = None if spec is None else json.dumps(spec).encode()
    return Act(0.0, fleet.keyspace.path(Family.DESIRED_VOLUME, "v"), value)


def attachment(fleet: Fleet, node: str) -> Act:
    return Act(0.0, fleet.keyspace.path(Family.DESIRED_ATTACHMENT, node, "v"), b"{}")


def phase(fleet: Fleet) -> VolumePhase | None:
    status = fleet.invariants.values.get(Key(Family.VOLUME, ("v",)))
    return status.phase if isinstance(status, VolumeStatus) else None


REFUSED = {
    "another backend": {"backend": "array2", "size_gib": 2},
    "a backend nobody has": {"backend": "nowhere", "size_gib": 2},
    "a smaller size": {"backend": "array1", "size_gib": 1},
    "an import": {"backend": "array1", "size_gib": 2, "import": {"source-name": "lun-7"}},
    "what can't be read": {"backend": "array1", "size": 2},
}


@pytest.mark.parametrize("seen_retained", [True, False], ids=["noted as retained", "gone and back at once"])
@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_a_refused_wish_opens_no_volume(refused: dict[str, Any], *, seen_retained: bool) -> None:
    """The data of the first life stays where it is, until the wish is one for that volume."""

    def story(run: Run) -> None:
        fleet = run.fleet
        run.act(wish(fleet, FIRST_LIFE))
        run.until_settled()
        run.act(wish(fleet, None))
        if seen_retained:
            run.until_settled()
            assert phase(fleet) is VolumePhase.RETAINED
        run.act(wish(fleet, refused))
        run.act(attachment(fleet, "n1"))
        run.let_pass(60.0)
        grant = fleet.invariants.values.get(Key(Family.GRANT, ("v",)))
        assert isinstance(grant, Grant)
        assert not grant.holders
        assert "mapped" not in fleet.audit.kinds()
        said = fleet.invariants.values.get(Key(Family.VERDICT_ATTACHMENT, ("n1", "v")))
        assert isinstance(said, Verdict)
        assert [each.reason for each in said.conditions] == ["VolumeRefused"]
        run.act(wish(fleet, FIRST_LIFE))
        run.until_settled()
        assert fleet.hosts["n1"].device("/dev/brickwork/v") is not None

    result = Run(Scenario("name taken", Shape(1, 1, 2), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
