"""A connect that was broken off may still bring a device: nothing is released before a disconnect ran to its end (S2, S4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from schema.keys import Family
from tests.fakes.child import Fault
from tests.sim.fleet import SCAN_S, Fleet, Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act


def unwish(fleet: Fleet) -> None:
    fleet.by_hand(fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "v"), None)


def drain(fleet: Fleet) -> None:
    fleet.by_hand(fleet.keyspace.path(Family.DESIRED_NODE, "n1"), b'{"drains": {"test": "a try"}}')


def unwish_and_lose_the_claim(fleet: Fleet) -> None:
    unwish(fleet)
    fleet.by_hand(fleet.keyspace.path(Family.CLAIM, "n1", "v"), None)


def fence(fleet: Fleet) -> None:
    statement = b'{"who": "the operator", "why": "it is quiet", "evidence": "its power is off"}'
    fleet.by_hand(fleet.keyspace.path(Family.FENCE, "n1", fleet.boot("n1")), statement)
    unwish(fleet)


def fence_and_lose_all_keys(fleet: Fleet) -> None:
    fence(fleet)
    for family in (Family.CLAIM, Family.CONNECTION, Family.ATTACHMENT):
        fleet.by_hand(fleet.keyspace.path(family, "n1", "v"), None)


@pytest.mark.parametrize("end", [unwish, drain, unwish_and_lose_the_claim, fence, fence_and_lose_all_keys])
def test_what_a_broken_off_connect_left_is_taken_back_before_the_release(end: Callable[[Fleet], None]) -> None:
    """The worker dies between the login and the device; the look finds none yet; while it looks, the attachment's end comes."""

    def story(run: Run) -> None:
        fleet = run.fleet
        calls: list[str] = []

        def fault(by: str, _where: str, call: str) -> Fault | None:
            if by != "node/n1":
                return None
            calls.append(call)
            if calls.count("connect") == 1 and call == "connect":
                return Fault(breaks=True)
            if call == "inspect" and calls.count("inspect") == 1:
                end(fleet)
            return None

        fleet.call_fault = fault
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_VOLUME, "v"), b'{"backend": "array1", "size_gib": 1}'))
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "v"), b"{}"))
        run.let_pass(2 * SCAN_S)
        assert "inspect" in calls
        assert not fleet.hosts["n1"].devices
        assert not fleet.hosts["n1"].sessions
        fleet.by_hand(fleet.keyspace.path(Family.DESIRED_NODE, "n1"), None)

    result = Run(Scenario("broken off", Shape(1, 2, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
