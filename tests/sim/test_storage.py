"""Another storage behind equal settings: local disks of two controllers, a restored array, a moved address (F-D6)."""

from __future__ import annotations

from collections.abc import Callable

from schema.keys import Family, Key
from schema.models import BackendStatus, Verdict
from tests.fakes.array import FakeArray
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act

TAKEOVER_S = 20.0


def play(story: Callable[[Run], None], controllers: int = 2) -> None:
    result = Run(Scenario("storage", Shape(controllers, 2, 1), [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"


def put(fleet: Fleet, family: Family, *names: str, value: bytes | None) -> Act:
    return Act(0.0, fleet.keyspace.path(family, *names), value)


def wish(run: Run, *volumes: str) -> None:
    for name in volumes:
        value = b'{"backend": "array1", "size_gib": 1, "on_delete": "delete"}'
        run.act(put(run.fleet, Family.DESIRED_VOLUME, name, value=value))
    run.act(put(run.fleet, Family.DESIRED_ATTACHMENT, "n1", volumes[0], value=b"{}"))
    run.until_settled()


def status(fleet: Fleet) -> BackendStatus:
    told = fleet.invariants.values[Key(Family.BACKEND, ("array1",))]
    assert isinstance(told, BackendStatus)
    return told


def record_of(fleet: Fleet, volume: str) -> object:
    return fleet.invariants.values.get(Key(Family.RECORD, (volume,)))


def another(fleet: Fleet, mark: str = "serial-other") -> FakeArray:
    array = FakeArray("array1", fleet.audit)
    array.mark = mark
    return array


def without_mark(fleet: Fleet) -> FakeArray:
    """As most arrays are: their drivers can't tell whether they speak to the same one."""
    array = fleet.arrays["array1"]
    array.mark = ""
    for daemon in fleet.daemons.values():
        daemon.kill()
    for daemon in fleet.daemons.values():
        daemon.start()
    return array


def test_f_d6_a_controller_with_other_local_storage_stands_aside_and_deletes_nothing() -> None:
    """The leader dies; the other has an empty disk under the same settings. A delete is not done, nothing is created there. The
    first comes back, and everything goes on."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish(run, "v", "w")
        first = fleet.daemons[leader(fleet)]
        second = "ctl/c1" if first.name == "ctl/c2" else "ctl/c2"
        fleet.daemons[second].kill()
        fleet.local[second, "array1"] = another(fleet)
        fleet.daemons[second].start()
        run.let_pass(10.0)
        first.kill()
        run.act(
            put(fleet, Family.STORAGE, "array1", value=None)
        )  # lost by hand: the last leader's status says the same
        run.let_pass(TAKEOVER_S)
        assert (status(fleet).ready, status(fleet).reason) == (False, "StorageDiffers")
        assert "serial-other" in status(fleet).message
        assert "serial-array1" in status(fleet).message
        run.act(put(fleet, Family.DESIRED_VOLUME, "w", value=None))
        run.act(put(fleet, Family.DESIRED_VOLUME, "new", value=b'{"backend": "array1", "size_gib": 1}'))
        run.let_pass(200.0)
        assert record_of(fleet, "w") is not None
        assert len(fleet.arrays["array1"].volumes) == 2
        assert not any(array.volumes for array in fleet.local.values())
        assert len(fleet.hosts["n1"].devices) == 1
        first.start()
        run.until_settled()
        assert record_of(fleet, "w") is None
        assert len(fleet.arrays["array1"].volumes) == 2

    play(story)


def leader(fleet: Fleet) -> str:
    item = fleet.etcd.get(fleet.keyspace.path(Family.LEADER, "array1"))
    assert item is not None
    return "ctl/c2" if b'"c2"' in item.value else "ctl/c1"


def test_f_d6_both_run_and_the_right_one_leads_whoever_was_first() -> None:
    """Also while both are up: the wrong one gives the key away at once, and the right one does not wait for its end."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish(run, "v")
        right = leader(fleet)
        wrong = "ctl/c1" if right == "ctl/c2" else "ctl/c2"
        fleet.daemons[wrong].kill()
        fleet.local[wrong, "array1"] = another(fleet)
        fleet.daemons[right].kill()
        fleet.daemons[wrong].start()
        run.let_pass(TAKEOVER_S)
        assert status(fleet).reason == "StorageDiffers"
        fleet.daemons[right].start()
        run.let_pass(TAKEOVER_S)
        assert status(fleet).ready
        run.act(put(fleet, Family.DESIRED_ATTACHMENT, "n1", "v", value=None))
        run.until_settled()

    play(story)


def test_f_d6_an_array_that_changes_under_the_leader_is_noticed_and_a_person_may_accept_it() -> None:
    """A restored array, a share that is no longer mounted, a DNS name that moved: the leader looks at the mark again and again."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish(run, "v")
        array = fleet.arrays["array1"]
        array.mark = "serial-restored"
        run.let_pass(100.0)
        assert status(fleet).reason == "StorageDiffers"
        run.act(put(fleet, Family.DESIRED_VOLUME, "late", value=b'{"backend": "array1", "size_gib": 1}'))
        run.let_pass(100.0)
        assert len(array.volumes) == 1
        run.act(put(fleet, Family.STORAGE, "array1", value=b'{"mark": "serial-restored"}'))
        run.until_settled()
        assert len(array.volumes) == 2
        assert status(fleet).ready

    play(story)


def test_f_d6_what_is_deleted_or_made_right_after_the_storage_changed_is_not_done_on_the_other() -> None:
    """A share that is unmounted under its driver: nobody looks at the mark for a minute, and there everything is "not found"."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish(run, "v", "w")
        array = fleet.arrays["array1"]
        mark, kept = array.mark, array.volumes
        array.mark, array.volumes = "serial-mountpoint", {}
        run.act(put(fleet, Family.DESIRED_VOLUME, "w", value=None))
        run.act(put(fleet, Family.DESIRED_VOLUME, "new", value=b'{"backend": "array1", "size_gib": 1}'))
        run.let_pass(20.0)
        assert record_of(fleet, "w") is not None
        assert not array.volumes
        assert status(fleet).reason == "StorageDiffers"
        array.mark, array.volumes = mark, kept
        run.until_settled()
        assert record_of(fleet, "w") is None
        assert len(array.volumes) == 2

    play(story)


def test_f_d6_without_a_mark_a_volume_that_is_not_found_is_forgotten_only_where_others_are_found() -> None:
    """Most arrays' drivers can't tell whether they speak to the same array. Where nothing of ours is on it, it is asked about."""

    def story(run: Run) -> None:
        fleet = run.fleet
        array = without_mark(fleet)
        wish(run, "v", "w", "x")
        kept, array.volumes = array.volumes, {}
        run.act(put(fleet, Family.DESIRED_VOLUME, "w", value=None))
        run.let_pass(60.0)
        assert record_of(fleet, "w") is not None
        verdict = fleet.invariants.values.get(Key(Family.VERDICT_VOLUME, ("w",)))
        assert isinstance(verdict, Verdict)
        assert "is it another one?" in verdict.conditions[0].message
        array.volumes = kept
        run.until_settled()
        assert record_of(fleet, "w") is None
        lost = fleet.invariants.values[Key(Family.RECORD, ("x",))].uid  # type: ignore[attr-defined]
        del array.volumes[lost]
        run.act(put(fleet, Family.DESIRED_VOLUME, "x", value=None))
        run.until_settled()
        assert record_of(fleet, "x") is None

    play(story)


def test_f_d6_without_a_mark_volumes_that_are_all_deleted_at_once_are_kept_where_none_is_found() -> None:
    """What is being deleted is recorded all the same: the last ones of a backend do not pass for gone on another array."""

    def story(run: Run) -> None:
        fleet = run.fleet
        array = without_mark(fleet)
        wish(run, "v", "w")
        run.act(put(fleet, Family.DESIRED_ATTACHMENT, "n1", "v", value=None))
        run.until_settled()
        kept, array.volumes = array.volumes, {}
        for name in ("v", "w"):
            run.act(put(fleet, Family.DESIRED_VOLUME, name, value=None))
        run.let_pass(60.0)
        assert record_of(fleet, "v") is not None
        assert record_of(fleet, "w") is not None
        array.volumes = kept
        run.until_settled()
        assert not array.volumes
        assert record_of(fleet, "v") is None
        assert record_of(fleet, "w") is None

    play(story)


def test_f_d6_a_person_may_say_that_a_volume_is_gone() -> None:
    def story(run: Run) -> None:
        fleet = run.fleet
        array = without_mark(fleet)
        wish(run, "v", "w")
        uid = fleet.invariants.values[Key(Family.RECORD, ("w",))].uid  # type: ignore[attr-defined]
        kept, array.volumes = array.volumes, {}
        run.act(put(fleet, Family.DESIRED_VOLUME, "w", value=None))
        run.let_pass(30.0)
        said = b'{"uid": "%s", "gone": true}' % uid.encode()
        run.act(put(fleet, Family.DESIRED_DELETION, "w", value=said))
        run.let_pass(60.0)
        assert record_of(fleet, "w") is None
        array.volumes = {each: volume for each, volume in kept.items() if each != uid}
        run.act(put(fleet, Family.DESIRED_DELETION, "w", value=None))
        run.until_settled()

    play(story)
