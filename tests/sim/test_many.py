"""Things that users have many of: no value that we write outgrows its key, and no daemon ends over one that would."""

from __future__ import annotations

from schema.keys import Family, Key
from schema.models import BackendStatus, Verdict
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act


def wish(fleet: Fleet, array: str) -> list[Act]:
    volume = f"on-{array}"
    return [
        Act(0.0, fleet.keyspace.path(Family.DESIRED_VOLUME, volume), b'{"backend":"%s","size_gib":1}' % array.encode()),
        Act(0.0, fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", volume), b"{}"),
    ]


def test_f_s5_five_hundred_pools_neither_end_a_controller_nor_hold_up_its_other_backends() -> None:
    """What is told of the backend is cut, says how much was left out, and sums up everything."""

    def story(run: Run) -> None:
        fleet = run.fleet
        fleet.arrays["array1"].pools = 500
        for act in (*wish(fleet, "array1"), *wish(fleet, "array2")):
            run.act(act)
        run.until_settled()
        assert all(daemon.running for daemon in fleet.daemons.values())
        assert len(fleet.hosts["n1"].devices) == 2
        status = fleet.invariants.values[Key(Family.BACKEND, ("array1",))]
        assert isinstance(status, BackendStatus)
        capacity = status.capacity
        assert len(capacity["pools"]) + capacity["pools_left_out"] == 500
        assert capacity["total_gib"] == 10_000

    result = Run(Scenario("pools", Shape(2, 2, 2), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_f_s5_what_does_not_fit_into_a_key_all_the_same_is_told_and_holds_up_nothing_else() -> None:
    def story(run: Run) -> None:
        fleet = run.fleet
        fleet.arrays["array1"].padding = "p" * 40_000
        for act in (*wish(fleet, "array1"), *wish(fleet, "array2")):
            run.act(act)
        run.let_pass(30.0)
        assert len(fleet.hosts["n1"].devices) == 1
        verdict = fleet.invariants.values[Key(Family.VERDICT_ATTACHMENT, ("n1", "on-array1"))]
        assert isinstance(verdict, Verdict)
        assert "can't be stored: Connection needs 40," in verdict.conditions[0].message
        fleet.arrays["array1"].padding = ""
        run.until_settled()

    result = Run(Scenario("padding", Shape(1, 1, 2), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_f_s5_a_wish_with_a_very_long_name_in_it_is_answered_like_any_other() -> None:
    """The verdict quotes what is wrong, and quotes no more than fits."""
    wrong = b'{"%s": 1, "backend": "array1", "size_gib": 1}' % (b"k" * 32_700)

    def story(run: Run) -> None:
        fleet = run.fleet
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_VOLUME, "v"), wrong))
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_NODE, "n1"), wrong))
        run.let_pass(30.0)
        for key in (Key(Family.VERDICT_VOLUME, ("v",)), Key(Family.VERDICT_NODE, ("n1",))):
            verdict = fleet.invariants.values.get(key)
            assert isinstance(verdict, Verdict)
            assert "more characters" in verdict.conditions[0].message
            assert verdict.conditions[0].reason == "Malformed"
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_VOLUME, "v"), None))
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_NODE, "n1"), None))

    result = Run(Scenario("long", Shape(1, 1, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
