"""Arrays that make volumes larger than asked for: the wish that was met stays met (F-B2)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schema.keys import Family, Key
from schema.models import Record, Verdict, VolumePhase, VolumeStatus
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario

STEP_GIB = 8


def wish(fleet: Fleet, size_gib: int | None, **more: Any) -> None:
    path = fleet.keyspace.path(Family.DESIRED_VOLUME, "v")
    sized = {} if size_gib is None else {"size_gib": size_gib}
    fleet.by_hand(path, json.dumps({"backend": "array1", **sized, **more}).encode())


def attachment(fleet: Fleet, *, wished: bool) -> None:
    fleet.by_hand(fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "v"), b"{}" if wished else None)


def unwish(fleet: Fleet) -> None:
    fleet.by_hand(fleet.keyspace.path(Family.DESIRED_VOLUME, "v"), None)


def record(fleet: Fleet) -> Record | None:
    found = fleet.invariants.values.get(Key(Family.RECORD, ("v",)))
    return found if isinstance(found, Record) else None


def reasons(fleet: Fleet) -> list[str]:
    said = fleet.invariants.values.get(Key(Family.VERDICT_VOLUME, ("v",)))
    return [each.reason for each in said.conditions] if isinstance(said, Verdict) else []


def settled_at(run: Run, size_gib: int) -> None:
    """Settled without a word on the volume, with so many GiB."""
    run.until_settled()
    found = record(run.fleet)
    assert found is not None
    assert found.size_gib == size_gib


def test_a_volume_that_came_larger_is_as_wished() -> None:
    """Created, attached, retained, taken back by the same wish, extended, and deleted in the end."""

    def story(run: Run) -> None:
        fleet = run.fleet
        fleet.arrays["array1"].step_gib = STEP_GIB
        wish(fleet, 1)
        attachment(fleet, wished=True)
        settled_at(run, 8)
        assert fleet.hosts["n1"].device("/dev/brickwork/v") is not None
        attachment(fleet, wished=False)
        run.until_settled()
        unwish(fleet)
        run.until_settled()
        wish(fleet, 1)
        settled_at(run, 8)
        wish(fleet, 5)
        settled_at(run, 8)
        wish(fleet, 9)
        settled_at(run, 16)
        wish(fleet, 8)
        run.let_pass(20.0)
        assert reasons(fleet) == ["SizeSmaller"]
        wish(fleet, 9, on_delete="delete")
        settled_at(run, 16)
        unwish(fleet)
        run.until_settled()
        assert record(fleet) is None
        assert not fleet.arrays["array1"].volumes

    result = Run(Scenario("rounded", Shape(1, 1, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


@pytest.mark.parametrize(("asked", "comes"), [(None, 10), (10, 10), (3, 10), (12, 12)])
def test_an_import_is_as_large_as_it_is(asked: int | None, comes: int) -> None:
    """What was asked for is the least that is wished for; the array's volume may be larger."""

    def story(run: Run) -> None:
        fleet = run.fleet
        fleet.arrays["array1"].strangers["lun-7"] = 10
        wish(fleet, asked, **{"import": {"source-name": "lun-7"}})
        settled_at(run, comes)

    result = Run(Scenario("import", Shape(1, 1, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_a_volume_of_an_older_controller_keeps_its_wish() -> None:
    """Which did not note what was asked for: the wish that it answered is this volume's."""

    def story(run: Run) -> None:
        fleet = run.fleet
        fleet.arrays["array1"].step_gib = STEP_GIB
        wish(fleet, 1)
        run.until_settled()
        fleet.daemons["ctl/c1"].kill()
        for family, model in ((Family.RECORD, Record), (Family.VOLUME, VolumeStatus)):
            path = fleet.keyspace.path(family, "v")
            old = json.loads(fleet.etcd.contents()[path])
            del old["asked_gib"]
            assert model.model_validate(old)
            fleet.by_hand(path, json.dumps(old).encode())
        fleet.daemons["ctl/c1"].start()
        attachment(fleet, wished=True)
        settled_at(run, 8)
        assert fleet.hosts["n1"].device("/dev/brickwork/v") is not None
        status = fleet.invariants.values.get(Key(Family.VOLUME, ("v",)))
        assert isinstance(status, VolumeStatus)
        assert status.phase is VolumePhase.AVAILABLE

    result = Run(Scenario("older", Shape(1, 1, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
