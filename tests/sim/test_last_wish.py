"""What the last value of a wish said about the data holds, also where nobody saw that value (F-D2)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence

import pytest

from reconciler.runtime.ports import Op, Put, Retryable
from schema.keys import Family, Key
from schema.models import Record, Verdict, VolumePhase, VolumeStatus
from tests.fakes.child import Fault as CallFault
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario

RETAIN, DELETE, GONE = "retain", "delete", ""


def wish(fleet: Fleet, on_delete: str, size_gib: int = 1) -> None:
    path = fleet.keyspace.path(Family.DESIRED_VOLUME, "v")
    spec = {"backend": "array1", "size_gib": size_gib, "on_delete": on_delete}
    fleet.by_hand(path, json.dumps(spec).encode() if on_delete else None)


def lead(fleet: Fleet, *, on: bool) -> None:
    for name, daemon in fleet.daemons.items():
        if name.startswith("ctl/"):
            (daemon.start if on else daemon.kill)()


def has_data(fleet: Fleet) -> bool:
    return bool(fleet.arrays["array1"].volumes)


def reasons(fleet: Fleet) -> list[str]:
    said = fleet.invariants.values.get(Key(Family.VERDICT_VOLUME, ("v",)))
    return [each.reason for each in said.conditions] if isinstance(said, Verdict) else []


def phase(fleet: Fleet) -> VolumePhase | None:
    status = fleet.invariants.values.get(Key(Family.VOLUME, ("v",)))
    return status.phase if isinstance(status, VolumeStatus) else None


def played(story: Callable[[Run], None], name: str, controllers: int = 1, seed: int = 0) -> None:
    result = Run(Scenario(f"{name} {seed}", Shape(controllers, 1, 1), [], []), story=story).play()
    assert not result.failure, f"{name} {seed}: {result.failure}\n{result.transcript(60)}"


def orders(rng: random.Random) -> Iterator[str]:
    """Wishes put one over the other, and deleted: it begins with one, and ends without."""
    there = ""
    for _ in range(rng.randrange(1, 7)):
        there = rng.choice((RETAIN, DELETE, GONE) if there else (RETAIN, DELETE))
        yield there
    if there:
        yield GONE


def answer(run: Run, what: str) -> None:
    """What the condition says that a person may do."""
    fleet = run.fleet
    if what == DELETE:
        record = fleet.invariants.values[Key(Family.RECORD, ("v",))]
        assert isinstance(record, Record)
        fleet.by_hand(fleet.keyspace.path(Family.DESIRED_DELETION, "v"), json.dumps({"uid": record.uid}).encode())
        run.let_pass(30.0)
    else:
        wish(fleet, RETAIN)
        run.until_settled()
        wish(fleet, GONE)
        run.until_settled()
        assert phase(fleet) is VolumePhase.RETAINED
    assert has_data(fleet) == (what == RETAIN)
    assert not reasons(fleet)


def random_order(seed: int) -> None:
    """Controllers see each change, or only some; half the time none between the last put and the deletion. In a tenth the history
    of those is compacted: then the data stays, and a condition asks, unless it was noted as retained before that."""
    rng = random.Random(seed)
    changes = list(orders(rng))
    last_put = max(number for number, each in enumerate(changes) if each)
    unseen, compacts = rng.random() < 0.5, rng.random() < 0.2

    def story(run: Run) -> None:
        fleet = run.fleet
        last, was_retained = RETAIN, False
        wish(fleet, last)
        run.until_settled()
        for number, change in enumerate(changes):
            if not has_data(fleet):
                assert last == DELETE, f"{changes[:number]}: {last} was said last"
                return  # as was said; and what is wished now is another volume
            if unseen and number == last_put:
                was_retained = phase(fleet) is VolumePhase.RETAINED
                lead(fleet, on=False)
            wish(fleet, change)
            last = change or last
            if rng.random() < 0.5:
                run.let_pass(rng.uniform(1.0, 3.0))
        if unseen:
            run.let_pass(10.0)
        if unseen and compacts:
            fleet.etcd.put("/of/somebody/else")
            fleet.etcd.compact()
        lead(fleet, on=True)
        run.let_pass(60.0)
        asked = "LastWishUnknown" in reasons(fleet)
        if unseen and compacts:
            assert has_data(fleet)
            assert asked != was_retained, f"{changes}: {phase(fleet)}"
            if was_retained:  # of such a volume nobody is asked what may have been wished since
                assert phase(fleet) is VolumePhase.RETAINED
                return
            answer(run, rng.choice((RETAIN, DELETE)))
            return
        assert not asked
        assert has_data(fleet) == (last == RETAIN), f"{changes}: {last} was said last"

    played(story, "last wish", seed=seed)


def attached(run: Run) -> str:
    """The volume is on n1. The path of the wish for that."""
    path = run.fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "v")
    wish(run.fleet, DELETE)
    run.fleet.by_hand(path, b"{}")
    run.until_settled()
    return path


@pytest.mark.parametrize("seed", range(60))
def test_the_last_wish_holds(seed: int) -> None:
    random_order(seed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(60, 1000, 20))
def test_the_last_wish_holds_in_a_thousand_orders(first: int) -> None:
    for seed in range(first, min(first + 20, 1000)):
        random_order(seed)


def test_a_wish_that_nobody_saw_is_found_by_the_other_controller() -> None:
    """A leader that is gone; what came after it last looked is found by its successor, which heard all of it or asks for it."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish(fleet, DELETE)
        run.until_settled()
        lead(fleet, on=False)
        wish(fleet, RETAIN)
        wish(fleet, GONE)
        fleet.daemons["ctl/c2"].start()
        run.let_pass(30.0)
        assert has_data(fleet)
        assert phase(fleet) is VolumePhase.RETAINED

    played(story, "takeover", controllers=2)


@pytest.mark.parametrize("last", [RETAIN, DELETE])
def test_a_retained_volume_that_was_wished_for_while_nobody_led(last: str) -> None:
    """Its end was noted; the life after that nobody saw."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish(fleet, RETAIN)
        run.until_settled()
        wish(fleet, GONE)
        run.until_settled()
        lead(fleet, on=False)
        wish(fleet, RETAIN if last == DELETE else DELETE)
        wish(fleet, last)
        wish(fleet, GONE)
        run.let_pass(10.0)
        lead(fleet, on=True)
        run.let_pass(30.0)
        assert has_data(fleet) == (last == RETAIN)
        assert not reasons(fleet)

    played(story, f"retained {last}")


def test_a_wish_that_nobody_saw_is_not_forgotten_while_a_detach_is_under_way() -> None:
    """What history told is not in the record before V8 is, and the steps of holders come before that."""

    def story(run: Run) -> None:
        fleet = run.fleet
        attachment = attached(run)
        wish(fleet, GONE)
        run.let_pass(10.0)
        lead(fleet, on=False)
        wish(fleet, RETAIN)
        wish(fleet, GONE)
        fleet.by_hand(attachment, None)
        run.let_pass(30.0)
        lead(fleet, on=True)
        run.let_pass(60.0)
        assert has_data(fleet)
        assert phase(fleet) is VolumePhase.RETAINED

    played(story, "detach under way")


def test_what_history_told_is_not_asked_of_people_when_another_step_fails() -> None:
    """The array does not answer while a detach is under way; what is said of that failure knows of the last wish, too."""

    def story(run: Run) -> None:
        fleet = run.fleet
        attachment = attached(run)
        lead(fleet, on=False)
        wish(fleet, RETAIN)
        wish(fleet, GONE)
        fleet.by_hand(attachment, None)
        run.let_pass(30.0)
        refused = CallFault(lands=False, raises=Retryable("it does not answer"))
        fleet.call_fault = lambda _by, _where, call: refused if call == "terminate" else None
        lead(fleet, on=True)
        for _ in range(30):
            run.let_pass(1.0)
            assert "LastWishUnknown" not in reasons(fleet)
        fleet.call_fault = lambda _by, _where, _call: None
        run.until_settled()
        assert phase(fleet) is VolumePhase.RETAINED

    played(story, "failure")


def test_a_confirmation_from_before_the_question_is_no_answer() -> None:
    """It was about another fault of the same volume, told at the same key."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish(fleet, DELETE, 2)
        run.until_settled()
        wish(fleet, DELETE, 1)
        run.let_pass(10.0)
        assert reasons(fleet) == ["SizeSmaller"]
        record = fleet.invariants.values[Key(Family.RECORD, ("v",))]
        assert isinstance(record, Record)
        fleet.by_hand(fleet.keyspace.path(Family.DESIRED_DELETION, "v"), json.dumps({"uid": record.uid}).encode())
        run.let_pass(10.0)
        lead(fleet, on=False)
        wish(fleet, RETAIN, 2)
        wish(fleet, GONE)
        run.let_pass(10.0)
        fleet.etcd.put("/of/somebody/else")
        fleet.etcd.compact()
        lead(fleet, on=True)
        run.let_pass(60.0)
        assert reasons(fleet) == ["LastWishUnknown"]
        assert has_data(fleet)
        answer(run, DELETE)

    played(story, "before the question")


@pytest.mark.parametrize("last", [RETAIN, DELETE])
def test_the_last_wish_holds_in_a_store_that_the_keys_were_copied_to(last: str) -> None:
    """Key by key, as a mirror or a dump does: what was noted speaks of revisions that this store has not reached."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish(fleet, RETAIN if last == DELETE else DELETE)
        run.until_settled()
        lead(fleet, on=False)
        for family, field in ((Family.RECORD, "heard"), (Family.VOLUME, "generation")):
            path = fleet.keyspace.path(family, "v")
            value = json.loads(fleet.etcd.contents()[path])
            fleet.by_hand(path, json.dumps({**value, field: 1_000_000}).encode())
        wish(fleet, last)
        wish(fleet, GONE)
        run.let_pass(10.0)
        lead(fleet, on=True)
        run.let_pass(60.0)
        assert not reasons(fleet)
        assert has_data(fleet) == (last == RETAIN)

    played(story, f"copied {last}")


def test_a_last_wish_that_was_refused_deletes_nothing() -> None:
    """Another size, or what can't be read: what it asks for is not done, and what is noted is not overruled towards deletion."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish(fleet, RETAIN, 2)
        run.until_settled()
        wish(fleet, DELETE, 1)
        run.let_pass(5.0)
        wish(fleet, GONE)
        run.until_settled()
        assert has_data(fleet)
        assert phase(fleet) is VolumePhase.RETAINED
        wish(fleet, DELETE, 2)
        run.let_pass(5.0)
        wish(fleet, RETAIN, 1)
        wish(fleet, GONE)
        run.until_settled()
        assert has_data(fleet)
        assert phase(fleet) is VolumePhase.RETAINED

    played(story, "refused")


def test_a_wish_that_came_and_went_right_before_the_intent_spares_the_volume() -> None:
    """No compare of an absent key can see it. The deletion is looked at once more before anything is called, by a successor too."""

    def story(run: Run) -> None:
        fleet = run.fleet
        wish(fleet, DELETE)
        run.until_settled()
        intents: list[str] = []

        def before(_compares: object, ops: Sequence[Op]) -> None:
            if any(
                isinstance(op, Put) and b'"intent":"delete"' in op.value and b'"unproven":true' in op.value
                for op in ops
            ):
                intents.append("")
                wish(fleet, RETAIN)
                wish(fleet, GONE)
                if len(intents) == 1:
                    run.fleet.clock.spawn("power", fleet.daemons["ctl/c1"].kill)

        fleet.daemons["ctl/c1"].store.fault_of = before
        wish(fleet, GONE)
        run.let_pass(5.0)
        assert intents
        lead(fleet, on=True)
        run.let_pass(30.0)
        assert has_data(fleet)
        assert phase(fleet) is VolumePhase.RETAINED

    played(story, "between")
