"""A node that says that what it was given does not answer, or is refused: the driver is asked once more (F-S10, C7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.runtime.ports import DuplicateIdentity
from schema.keys import Family, Key
from schema.models import AttachmentPhase, AttachmentStatus
from tests.fakes.child import Fault as CallFault
from tests.fakes.store import Fault as StoreFault
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario


def wish(fleet: Fleet) -> None:
    fleet.by_hand(fleet.keyspace.path(Family.DESIRED_VOLUME, "v"), b'{"backend": "array1", "size_gib": 1}')
    fleet.by_hand(fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "v"), b"{}")


def attached(fleet: Fleet) -> bool:
    status = fleet.invariants.values.get(Key(Family.ATTACHMENT, ("n1", "v")))
    return isinstance(status, AttachmentStatus) and status.phase is AttachmentPhase.ATTACHED


def connected(fleet: Fleet) -> bool:
    return Key(Family.CONNECTION, ("n1", "v")) in fleet.invariants.values


def answers_once_with_too_little(run: Run) -> None:
    run.fleet.arrays["array1"].odd_answers = 1
    wish(run.fleet)


def moves_its_portal(run: Run) -> None:
    """Between the answer and the login."""
    fleet = run.fleet
    fleet.daemons["node/n1"].kill()
    wish(fleet)
    run.let_pass(5.0)
    assert connected(fleet)
    array, host = fleet.arrays["array1"], fleet.hosts["n1"]
    array.target = "iqn.2026-01.com.example:moved"
    host.arrays = {array.target: array}
    fleet.daemons["node/n1"].start()


def loses_its_exports(run: Run) -> None:
    """As a late `remove_export` of a dead controller does. This driver can't list them, so no audit sees it."""
    fleet = run.fleet
    fleet.daemons["node/n1"].kill()
    wish(fleet)
    run.let_pass(5.0)
    assert connected(fleet)
    array = fleet.arrays["array1"]
    assert not array.list_exports
    array.exports.clear()
    fleet.daemons["node/n1"].start()


def answers_once_with_the_address_of_another(run: Run) -> None:
    """A volume of this very host: the node refuses it before anything is done."""
    fleet = run.fleet
    asked: list[str] = []
    fleet.daemons["ctl/c1"].backends["array1"].landing = lambda call, *_: asked.append(call)
    refusal = CallFault(lands=False, raises=DuplicateIdentity("another volume of this host has that address"))
    fleet.call_fault = lambda _, where, call: (
        refusal if (where, call) == ("n1", "connect") and asked.count("connect") < 2 else None
    )
    wish(fleet)


@pytest.mark.parametrize(
    "accident",
    [
        answers_once_with_too_little,
        answers_once_with_the_address_of_another,
        moves_its_portal,
        loses_its_exports,
    ],
)
def test_the_driver_is_asked_again_on_the_nodes_word(accident: Callable[[Run], None]) -> None:
    def story(run: Run) -> None:
        run.let_pass(5.0)
        accident(run)
        run.let_pass(120.0)
        assert attached(run.fleet)
        run.until_settled()

    result = Run(Scenario(accident.__name__, Shape(1, 1, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


@pytest.mark.long
@pytest.mark.parametrize("kind", StoreFault)
@pytest.mark.parametrize("accident", [answers_once_with_too_little, moves_its_portal])
def test_whichever_answer_to_the_node_is_lost_meanwhile(accident: Callable[[Run], None], kind: StoreFault) -> None:
    """Each of its transactions in turn."""
    lost, came = 0, 1

    def story(run: Run) -> None:
        daemon = run.fleet.daemons["node/n1"]

        def fault(call: str) -> StoreFault | None:
            nonlocal came
            came += call == "txn"
            return kind if call == "txn" and came == lost else None

        run.let_pass(5.0)
        accident(run)
        run.let_pass(0.001)
        daemon.store.fault = fault
        run.let_pass(120.0)
        assert attached(run.fleet)
        run.until_settled()

    while came >= lost:
        lost, came = lost + 1, 0
        result = Run(Scenario(f"{accident.__name__} {lost}", Shape(1, 1, 1), [], []), story=story).play()
        assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
    assert lost > 10


def test_a_device_all_of_whose_paths_are_lost_gets_its_export_back() -> None:
    """The export went under an attached device."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish(fleet)
        run.until_settled()
        array = fleet.arrays["array1"]
        array.exports.clear()
        run.let_pass(120.0)
        assert array.exports
        run.until_settled()

    result = Run(Scenario("lost under a device", Shape(1, 1, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_a_device_that_went_is_asked_for_anew_where_it_no_longer_is() -> None:
    """The kernel gave it up (NVMe does, after ten minutes without a path), and the array answers elsewhere by now."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish(fleet)
        run.until_settled()
        array, host = fleet.arrays["array1"], fleet.hosts["n1"]
        array.target = "iqn.2026-01.com.example:moved"
        host.arrays = {array.target: array}
        host.devices.clear()
        fleet.daemons["ctl/c1"].kill()
        run.let_pass(60.0)
        assert not attached(fleet), "nobody is told that it is"
        fleet.daemons["ctl/c1"].start()
        run.let_pass(120.0)
        assert host.devices
        assert attached(fleet)
        run.until_settled()

    result = Run(Scenario("gone and moved", Shape(1, 1, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_the_driver_is_not_asked_without_end() -> None:
    """A node that can't connect for a reason of its own: pauses that double."""

    def story(run: Run) -> None:
        fleet = run.fleet
        run.let_pass(5.0)
        asked: list[float] = []
        backend = fleet.daemons["ctl/c1"].backends["array1"]
        backend.landing = lambda call, *_: asked.append(fleet.clock.now()) if call == "connect" else None
        fleet.arrays["array1"].odd_answers = 1_000_000
        wish(fleet)
        run.let_pass(3600.0)
        assert 3 <= len(asked) <= 25, len(asked)
        fleet.arrays["array1"].odd_answers = 0
        run.let_pass(400.0)
        assert attached(fleet)

    result = Run(Scenario("not without end", Shape(1, 1, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
