"""F-S4: what can't be read holds up its own volume, and nothing else of the node; also after a reboot."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from client import facts
from client.known import Reader
from schema.codec import decode_family
from schema.keys import Family
from schema.models import AttachmentPhase, AttachmentStatus
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act

ONE = Shape(controllers=1, nodes=1, arrays=1)
OWN = (Family.ATTACHMENT, Family.CLAIM, Family.CONNECTION)
NEWER = b'{"schema": 99}'


def attached(run: Run, *names: str) -> None:
    fleet = run.fleet
    for name in names:
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_VOLUME, name), b'{"backend": "array1", "size_gib": 1}'))
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", name), b"{}"))
    run.until_settled()


def status(fleet: Fleet, name: str) -> AttachmentStatus | None:
    item = fleet.etcd.client().get(fleet.keyspace.path(Family.ATTACHMENT, "n1", name))
    value = decode_family(Family.ATTACHMENT, item.value) if item else None
    return value if isinstance(value, AttachmentStatus) else None


def is_back(fleet: Fleet, name: str) -> bool:
    """Attached in the present boot, with its link."""
    told, host = status(fleet, name), fleet.hosts["n1"]
    here = told is not None and (told.phase, told.boot) == (AttachmentPhase.ATTACHED, fleet.boot("n1"))
    return here and name in host.links


def unready(fleet: Fleet) -> str:
    """What `/readyz` would say."""
    assembly = fleet.daemons["node/n1"].assembly
    assert assembly is not None
    return "; ".join(look() for look in assembly.hindrances.values())


def play(story: Callable[[Run], None]) -> None:
    result = Run(Scenario("unreadable", ONE, [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(80)}"


@pytest.mark.parametrize("value", [b"{", NEWER], ids=["malformed", "newer"])
@pytest.mark.parametrize("family", OWN, ids=lambda family: family.path)
def test_one_unreadable_key_keeps_nothing_else_from_coming_back(family: Family, value: bytes) -> None:
    def story(run: Run) -> None:
        fleet = run.fleet
        attached(run, "bad", "good")
        path = fleet.keyspace.path(family, "n1", "bad")
        fleet.turn_off("n1")
        fleet.by_hand(path, value)
        run.let_pass(5.0)
        fleet.turn_on("n1")
        run.let_pass(30.0)
        assert is_back(fleet, "good")
        assert not is_back(fleet, "bad")
        named = f"{family.path}/n1/bad"
        assert named in unready(fleet)
        assert named in fleet.story.text()
        fleet.by_hand(path, None)
        run.let_pass(30.0)
        assert is_back(fleet, "bad"), "the removal is noticed at once"
        assert named not in unready(fleet)
        run.until_settled()

    play(story)


@pytest.mark.parametrize("family", OWN, ids=lambda family: family.path)
def test_a_fenced_boot_is_cleaned_whatever_can_not_be_read(family: Family) -> None:
    def story(run: Run) -> None:
        fleet = run.fleet
        attached(run, "bad", "good")
        before = fleet.boot("n1")
        path = fleet.keyspace.path(family, "n1", "bad")
        fleet.by_hand(path, b"{")
        statement = b'{"who": "a test", "why": "a try", "evidence": "it says so"}'
        fleet.by_hand(fleet.keyspace.path(Family.FENCE, "n1", before), statement)
        run.let_pass(30.0)
        assert fleet.boot("n1") != before
        assert is_back(fleet, "good")
        fleet.by_hand(path, None)
        run.until_settled()

    play(story)


def test_a_note_that_can_not_be_read_holds_up_its_volume_alone() -> None:
    def story(run: Run) -> None:
        fleet = run.fleet
        attached(run, "bad", "good")
        fleet.turn_off("n1")
        fleet.hosts["n1"].spoiled["bad"] = "it is not JSON"
        run.let_pass(5.0)
        fleet.turn_on("n1")
        run.let_pass(30.0)
        assert is_back(fleet, "good")
        assert not is_back(fleet, "bad")
        assert "bad" in unready(fleet)
        assert "NoteUnreadable" in str(status(fleet, "bad"))
        del fleet.hosts["n1"].spoiled["bad"], fleet.hosts["n1"].disk["bad"]
        run.until_settled()
        assert not unready(fleet).strip("; ")

    play(story)


def test_something_in_the_place_of_a_link_holds_up_its_volume_alone() -> None:
    """The device can be disconnected, and the node comes back after a reboot."""

    def story(run: Run) -> None:
        fleet = run.fleet
        attached(run, "bad", "good")
        host = fleet.hosts["n1"]
        host.obstacles.add("bad")
        host.links.pop("bad")
        run.let_pass(60.0)
        assert "LinkTaken" in str(status(fleet, "bad"))
        fleet.daemons["node/n1"].kill()
        fleet.daemons["node/n1"].start()
        run.let_pass(30.0)
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "bad"), None))
        run.until_settled()
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "bad"), b"{}"))
        run.let_pass(30.0)
        fleet.turn_off("n1")
        run.let_pass(5.0)
        fleet.turn_on("n1")
        run.let_pass(30.0)
        assert is_back(fleet, "good")
        assert "LinkTaken" in str(status(fleet, "bad"))
        host.obstacles.clear()
        run.until_settled()
        assert is_back(fleet, "bad")

    play(story)


def told(fleet: Fleet, name: str) -> str:
    """The state that users are told, from one look at the keys."""
    known = Reader(fleet.etcd.client(), fleet.keyspace).families(*Family)
    return facts.attachment(known, "n1", name).state


def test_nothing_of_the_boot_before_is_told_as_attached() -> None:
    """From when the daemon of the new boot gives its first sign of life; and units that wait for it start after its look."""

    def story(run: Run) -> None:
        fleet = run.fleet
        attached(run, "good")
        before = fleet.boot("n1")
        fleet.turn_off("n1")
        run.let_pass(0.5)
        fleet.turn_on("n1")
        alive = fleet.keyspace.path(Family.ALIVE, "n1")
        states = set()
        while not is_back(fleet, "good"):
            run.let_pass(0.0005)
            item = fleet.etcd.client().get(alive)
            if item is not None and before.encode() not in item.value:
                states.add(told(fleet, "good"))
                assert told(fleet, "good") != "Attached" or is_back(fleet, "good")
            assembly = fleet.daemons["node/n1"].assembly
            if assembly is not None and all(each.is_set() for each in assembly.working):
                record = fleet.etcd.client().get(fleet.keyspace.path(Family.NODE, "n1"))
                assert record is not None
                assert fleet.boot("n1").encode() in record.value
        assert "Uncertain" in states
        run.until_settled()

    play(story)
