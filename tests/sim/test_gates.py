"""Nothing is concluded from what is not listed (yet, or any more): S11, and fault 22."""

from __future__ import annotations

from reconciler.controllers.sign_of_life import LOOK_S
from schema.keys import Family, Key
from tests.fakes.store import Fault
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act

SMALL = Shape(controllers=1, nodes=1, arrays=1)


def wish(fleet: Fleet) -> list[Act]:
    volume = fleet.keyspace.path(Family.DESIRED_VOLUME, "v")
    attachment = fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "v")
    return [Act(0.0, volume, b'{"backend": "array1", "size_gib": 1}'), Act(0.0, attachment, b"{}")]


def test_a_node_asks_nothing_before_it_has_every_list() -> None:
    """It comes back, and can't list its wishes: what is attached looks as if nobody wished for it."""

    def story(run: Run) -> None:
        fleet, daemon = run.fleet, run.fleet.daemons["node/n1"]
        for act in wish(fleet):
            run.act(act)
        run.until_settled()
        daemon.kill()
        daemon.start()
        daemon.store.denied = (fleet.keyspace.folder(Family.DESIRED_ATTACHMENT, "n1"),)
        run.let_pass(30.0)
        assert daemon.store.calls.get("txn", 0) <= 1 + 30.0 / LOOK_S, "more than its signs of life"
        daemon.store.denied = ()

    result = Run(Scenario("lists", SMALL, [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_a_controller_campaigns_when_it_knows_all_records() -> None:
    """Driver and array come back together, and a leader could not tell what was exported: another has to lead till then."""

    def story(run: Run) -> None:
        fleet, daemon = run.fleet, run.fleet.daemons["ctl/c1"]
        for act in wish(fleet):
            run.act(act)
        run.until_settled()
        daemon.kill()
        fleet.arrays["array1"].restart()
        run.let_pass(10.0)  # its leader keys are gone
        daemon.start()
        daemon.store.fault = lambda call: Fault.UNAVAILABLE if call == "list" else None
        run.let_pass(30.0)
        assert Key(Family.LEADER, ("array1",)) not in fleet.invariants.values
        daemon.store.fault = lambda _: None
        run.until_settled()

    result = Run(Scenario("records", SMALL, [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def test_a_controller_does_nothing_more_once_etcd_went_back_in_time() -> None:
    """All that it compares is as it was, for revisions are used a second time; only the list tells."""

    def story(run: Run) -> None:
        fleet, array = run.fleet, run.fleet.arrays["array1"]
        run.until_settled()
        array.away = True
        for act in wish(fleet):
            run.act(act)
        run.let_pass(30.0)
        backup = fleet.etcd.backup()
        fleet.by_hand(fleet.keyspace.path(Family.DESIRED_NODE, "other"), b"{}")
        run.let_pass(5.0)
        fleet.etcd.restore(backup)
        run.let_pass(120.0)
        array.away = False
        run.let_pass(120.0)
        assert not array.volumes
        fleet.daemons["ctl/c1"].kill()
        fleet.daemons["node/n1"].kill()
        run.nemesis.heal()

    result = Run(Scenario("back", SMALL, [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
