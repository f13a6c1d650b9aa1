"""Since when a thing is as it is: told of what is well, too (F-C5)."""

from __future__ import annotations

from schema.keys import Family, Key
from schema.models import AttachmentStatus, VolumeStatus
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act

VOLUME, ATTACHMENT = Key(Family.VOLUME, ("v",)), Key(Family.ATTACHMENT, ("n1", "v"))


def since(fleet: Fleet) -> tuple[str, str]:
    """Of the volume, and of the attachment."""
    volume, attachment = fleet.invariants.values.get(VOLUME), fleet.invariants.values.get(ATTACHMENT)
    assert isinstance(volume, VolumeStatus)
    assert isinstance(attachment, AttachmentStatus)
    return volume.since, attachment.since


def test_since_stays_while_the_phase_does() -> None:
    """It begins with the phase, outlives restarts of daemons and what is rewritten of a status, and costs no write of its own."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish = fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "v")
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_VOLUME, "v"), b'{"backend": "array1", "size_gib": 1}'))
        run.let_pass(20.0)
        run.act(Act(0.0, wish, b"{}"))
        run.until_settled()
        first = since(fleet)
        assert first[0]
        assert first[0] < first[1]
        writes = fleet.etcd.writes
        fleet.daemons["node/n1"].kill()
        fleet.daemons["ctl/c1"].kill()
        run.let_pass(20.0)
        fleet.daemons["ctl/c1"].start()
        fleet.daemons["node/n1"].start()
        run.until_settled()
        assert since(fleet) == first
        assert fleet.etcd.writes - writes < 12, "leases and what daemons tell of themselves"
        fleet.by_hand(wish, None)
        run.until_settled()
        run.act(Act(0.0, wish, b"{}"))
        run.until_settled()
        second = since(fleet)
        assert second[0] == first[0]
        assert second[1] > first[1]

    result = Run(Scenario("since", Shape(1, 1, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
