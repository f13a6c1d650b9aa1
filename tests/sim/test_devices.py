"""What the storage gives is not what was asked for: too small (F-D5), or numbered like another volume (F-D4)."""

from __future__ import annotations

from client import facts
from client.known import Reader
from schema.keys import Family
from tests.fakes.host import FakeHost
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act

ONE = Shape(controllers=1, nodes=1, arrays=1)


def volume(fleet: Fleet, name: str, size_gib: int = 2) -> Act:
    value = b'{"backend": "array1", "size_gib": %d}' % size_gib
    return Act(0.0, fleet.keyspace.path(Family.DESIRED_VOLUME, name), value)


def attachment(fleet: Fleet, name: str, value: bytes | None = b"{}") -> Act:
    return Act(0.0, fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", name), value)


def node(fleet: Fleet) -> FakeHost:
    return fleet.hosts["n1"]


def status(run: Run, name: str) -> str:
    item = run.fleet.etcd.client(None).get(run.fleet.keyspace.path(Family.ATTACHMENT, "n1", name))
    return item.value.decode() if item else ""


def play(story: object) -> None:
    result = Run(Scenario("devices", ONE, [], []), story=story).play()  # type: ignore[arg-type]
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_f_d5_a_device_smaller_than_its_volume_is_not_attached() -> None:
    """The driver tells neither bytes nor identity, and what answers is half as big."""

    def story(run: Run) -> None:
        array = run.fleet.arrays["array1"]
        array.tells_size = array.tells_identity = False
        run.act(volume(run.fleet, "v"))
        run.until_settled()
        (small,) = array.volumes.values()
        small.size_gib = 1
        run.act(attachment(run.fleet, "v"))
        run.let_pass(60.0)
        assert "IdentityMismatch" in status(run, "v")
        assert not node(run.fleet).links
        small.size_gib = 2
        run.act(attachment(run.fleet, "v", None))
        run.until_settled()

    play(story)


def test_f_d4_the_second_volume_of_an_identity_is_refused_and_the_first_stays_able_to_go() -> None:
    def story(run: Run) -> None:
        array = run.fleet.arrays["array1"]
        array.tells_identity = False
        run.act(volume(run.fleet, "a"))
        run.act(volume(run.fleet, "b"))
        run.until_settled()
        for each in array.volumes.values():
            each.wwid = "60000000000000000e00000000010001"
        run.act(attachment(run.fleet, "a"))
        run.until_settled()
        run.act(attachment(run.fleet, "b"))
        run.let_pass(60.0)
        assert "DuplicateIdentity" in status(run, "b")
        assert list(node(run.fleet).links) == ["a"]
        assert len(node(run.fleet).devices) == 1
        run.act(attachment(run.fleet, "a", None))
        run.let_pass(600.0)  # the second is tried again by its back-off
        assert list(node(run.fleet).links) == ["b"]
        run.act(attachment(run.fleet, "b", None))
        run.until_settled()

    play(story)


def test_f_b7_a_host_that_logs_in_by_itself_is_told() -> None:
    def story(run: Run) -> None:
        node(run.fleet).logs_in = ["iqn.2026-01.example:shared"]
        run.act(volume(run.fleet, "v"))
        run.act(attachment(run.fleet, "v"))
        run.let_pass(10.0)
        known = Reader(run.fleet.etcd.client(), run.fleet.keyspace).families(*Family)
        told = facts.attachment(known, "n1", "v")
        assert told.state == "Attached"
        (logs_in,) = (each for each in told.conditions if each.type == "HostLogsIn")
        assert "iqn.2026-01.example:shared" in logs_in.message
        node(run.fleet).logs_in = []
        run.until_settled()

    play(story)
