"""What the keys of a volume, a node and a backend mean together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.models import (
    Alive,
    BackendStatus,
    FenceStatement,
    Holder,
    NodeRecord,
    NodeSpec,
    VolumePhase,
    VolumeSpec,
    VolumeStatus,
)
from schema.summary import (
    NodeFacts,
    VolumeFacts,
    VolumeState,
    summarise_backend,
    summarise_node,
    summarise_volume,
)
from tests.examples import examples
from tests.unit.keys_around import BAD, DOWN, GENERATION, HOLDER, SINCE, VERDICTS, holder, verdict

SPEC = VolumeSpec(backend="lvm", size_gib=10)


def volume(phase: str, *holders: Holder, generation: int = GENERATION) -> VolumeStatus:
    return VolumeStatus(
        uid="u", backend="lvm", phase=VolumePhase(phase), size_gib=10, generation=generation, holders=holders
    )


# fmt: off
VOLUMES: list[tuple[str, str, str, dict[str, Any]]] = [
    ("Absent", "Absent", "", {"spec": None}),
    ("Pending", "WaitingForController", "controller", {}),
    ("Pending", "BackendNotReady", "backend lvm", {"verdict": verdict("Available", "BackendNotReady")}),
    ("Creating", "Creating", "backend lvm", {"status": volume("Creating")}),
    ("Available", "Available", "", {"status": volume("Available")}),
    ("Available", "Available", "controller", {"status": volume("Available", generation=39)}),
    ("Available", "SizeSmaller", "user", {"status": volume("Available"), "verdict": verdict("Accepted", "SizeSmaller")}),
    ("Available", "ExtendWaitsForDetach", "node web-1", {
        "status": volume("Available", holder("ready")), "verdict": verdict("Available", "ExtendWaitsForDetach"),
    }),
    ("Extending", "Extending", "backend lvm", {"status": volume("Extending")}),
    ("Retained", "Retained", "", {"spec": None, "status": volume("Retained")}),
    ("Pending", "Retained", "controller", {"status": volume("Retained")}),
    ("Failed", "NameTaken", "user", {"status": volume("Retained"), "verdict": verdict("Accepted", "NameTaken")}),
    ("Failed", "Refused", "user", {"verdict": verdict("Accepted", "Refused")}),
    ("Failed", "Malformed", "user", {"spec": BAD}),
    ("Available", "Malformed", "user", {
        "spec": BAD, "status": volume("Available"), "verdict": verdict("Accepted", "Malformed"),
    }),
    ("Removing", "Removing", "controller", {"spec": None, "status": volume("Available")}),
    ("Removing", "Removing", "controller", {"spec": None, "status": volume("Creating")}),
    ("Removing", "HeldBy", "node web-1", {"spec": None, "status": volume("Available", holder("ready"))}),
    ("Deleting", "DeleteFailed", "backend lvm", {
        "spec": None, "status": volume("Deleting"), "verdict": verdict("Available", "DeleteFailed", generation=0),
    }),
    ("Deleting", "Deleting", "backend lvm", {"spec": None, "status": volume("Deleting")}),
    ("Uncertain", "Unreadable", "operator", {"status": BAD}),
    ("Uncertain", "RecordMissing", "operator", {"status": volume("Available"), "verdict": verdict("Available", "RecordMissing")}),
]
# fmt: on


@pytest.mark.parametrize(("state", "reason", "waits_for", "given"), VOLUMES)
def test_volume_table(state: str, reason: str, waits_for: str, given: dict[str, Any]) -> None:
    """Each combination of a volume's keys has one state, a reason, and somebody who is waited for."""
    told = summarise_volume(volume_facts(**given))
    assert (told.state, told.reason, told.waits_for) == (state, reason, waits_for)


def volume_facts(**given: Any) -> VolumeFacts:
    known = {"spec": SPEC, **given}
    return VolumeFacts(volume="data", generation=GENERATION if known["spec"] is not None else 0, **known)


@given(
    st.builds(
        volume_facts,
        spec=st.sampled_from([None, SPEC, BAD]),
        status=st.none()
        | st.just(BAD)
        | st.builds(volume, st.sampled_from(list(VolumePhase)), HOLDER, generation=st.sampled_from([0, GENERATION])),
        verdict=st.none() | VERDICTS | st.just(BAD),
        led=st.booleans(),
    )
)
@examples(500)
def test_every_volume_has_an_honest_summary(given: VolumeFacts) -> None:
    """Never an exception; Absent only when nothing is there; what is not settled waits for somebody."""
    told = summarise_volume(given)
    assert [each.type for each in told.conditions] == ["Accepted", "Available"]
    assert told.reason
    if told.state is VolumeState.ABSENT:
        assert (given.spec, given.status) == (None, None)
    if told.state not in (VolumeState.AVAILABLE, VolumeState.ABSENT, VolumeState.RETAINED):
        assert told.waits_for


RECORD = NodeRecord(boot="b1", connector={"auth_password": "s3cret"}, versions={"brickwork": "0.1.0"})
DRAIN = NodeSpec(cordons={"bob": ""}, drains={"ana": "new kernel"})
ALIVE = Alive(boot="b1", since=SINCE)
FENCE = FenceStatement(who="ann", why="dead", evidence="power off")


@pytest.mark.parametrize(
    ("state", "waits_for", "given"),
    [
        ("Ready", "", {"record": RECORD, "alive": ALIVE}),
        ("Unknown", "node web-1", {}),
        ("Silent", "node web-1", {"record": RECORD}),
        ("Uncertain", "node web-1", {"record": BAD, "alive": ALIVE}),
        ("Cordoned", "operator", {"record": RECORD, "alive": ALIVE, "spec": NodeSpec(cordons={"ann": "new disk"})}),
        ("Drained", "operator", {"record": RECORD, "alive": ALIVE, "spec": DRAIN}),
        ("Drained", "operator", {"record": RECORD, "spec": DRAIN}),
        ("Draining", "node web-1", {"record": RECORD, "alive": ALIVE, "spec": DRAIN, "left": ("data",)}),
        ("Silent", "node web-1", {"record": RECORD, "spec": DRAIN, "left": ("data",)}),
        ("Unknown", "node web-1", {"spec": DRAIN}),
        ("Cordoned", "user", {"record": RECORD, "alive": ALIVE, "spec": BAD}),
        ("Fenced", "node web-1", {"record": RECORD, "alive": ALIVE, "fences": (("b1", FENCE),)}),
        ("Ready", "", {"record": RECORD, "alive": ALIVE, "fences": (("b0", FENCE),)}),
    ],
)
def test_node_table(state: str, waits_for: str, given: dict[str, Any]) -> None:
    """A node is Ready, or says why not; its connector stays out of the summary."""
    told = summarise_node(NodeFacts(node="web-1", **given))
    assert (told.state, told.waits_for) == (state, waits_for)
    assert "s3cret" not in repr(told)


def test_backend_table() -> None:
    """A backend is ready, or says why not; of its pools it is told what is there and what is free, where the driver knows."""
    odd = {"name": "b", "total_gib": "infinite", "free_gib": True, "san_password": "s3cret"}
    pools = [{"name": "a", "total_gib": 10.5, "free_gib": 7.5}, odd, {"total_gib": 1}, "nonsense"]
    capacity: dict[str, Any] = {"pools": pools, "san_password": "s3cret"}
    ready = summarise_backend("lvm", BackendStatus(ready=True, driver="d", capacity=capacity), led=True)
    assert (ready.state, ready.capacity, ready.waits_for) == ("Ready", {"total_gib": "infinite", "free_gib": 7.5}, "")
    down = summarise_backend("lvm", DOWN, led=True)
    assert (down.state, down.message) == ("NotReady", "no route to 10.0.0.9")
    assert summarise_backend("lvm", None, led=True).reason == "BackendUnknown"
    assert summarise_backend("lvm", BAD, led=True).state == "Uncertain"


def test_a_backend_that_nobody_leads_is_not_ready() -> None:
    """Whatever its last leader said: that one is gone."""
    left = summarise_backend("lvm", BackendStatus(ready=True, driver="d", reason="Ready", controller="ctl"), led=False)
    assert (left.state, left.reason, left.waits_for, left.since) == ("NotReady", "NoController", "operator", None)
    assert left.message == "no controller leads it: is one running? (ctl said: Ready)"
    assert "no route to 10.0.0.9" in summarise_backend("lvm", DOWN, led=False).message
