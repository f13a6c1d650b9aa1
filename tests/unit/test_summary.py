"""What the keys of an attachment mean together (A3, A22, A53)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.codec import Malformed
from schema.models import (
    Alive,
    AttachmentPhase,
    AttachmentSpec,
    AttachmentStatus,
    Claim,
    Condition,
    Connection,
    HolderPhase,
    NodeRecord,
    NodeSpec,
)
from schema.summary import AttachmentFacts, State, summarise_attachment
from schema.summary.rules import RULES
from tests.examples import examples
from tests.unit.keys_around import (
    BAD,
    BOOTS,
    CONDITIONS,
    DOWN,
    EPOCHS,
    GENERATION,
    HOLDER,
    SINCE,
    TRIES,
    VERDICTS,
    claim,
    condition,
    holder,
    status,
    verdict,
)

WISH = AttachmentSpec()
DRAINED = NodeSpec(drains={"ana": "new kernel", "bob": ""})


def facts(**given: Any) -> AttachmentFacts:
    """An attachment on a node that is well, with a wish unless told otherwise."""
    known: dict[str, Any] = {
        "node": "web-1",
        "volume": "data",
        "wish": WISH,
        "holders": (),
        "record": NodeRecord(boot="b1", connector={}),
        "alive": Alive(boot="b1", since=SINCE),
        "backend_name": "lvm",
    }
    known.update(given)
    return AttachmentFacts(generation=GENERATION if known["wish"] is not None else 0, **known)


READY, EXPORTING, REVOKED = (holder("ready"),), (holder("exporting"),), (holder("revoked"),)
TWO_PATHS = AttachmentSpec(min_paths=2)


def paths(live: int, total: int, reached: bool) -> AttachmentStatus:
    """Attached, with so many paths; `reached`: there were once as many as asked for."""
    return status("Attached", paths_live=live, paths_total=total, min_paths_reached=reached)


BUSY = condition("Released", "DeviceBusy", "in use: mounted at /srv")
PAUSED = condition("Released", "DetachesPaused", "4 of 4 wishes are gone")

# fmt: off
# state, reason, who is waited for, and the keys that lead to it
TABLE: list[tuple[str, str, str, dict[str, Any]]] = [
    # the ordinary course
    ("Pending", "WaitingForController", "controller", {}),
    ("Pending", "WaitingForController", "controller", {"holders": None}),
    ("Exporting", "Exporting", "backend lvm", {"holders": EXPORTING}),
    ("Exported", "WaitingForNode", "node web-1", {"holders": READY}),
    ("Attaching", "Connecting", "node web-1", {"holders": READY, "claim": claim(), "status": status("Attaching")}),
    ("Attached", "Attached", "", {"holders": READY, "claim": claim(), "status": status("Attached")}),
    # its paths
    ("Attached", "PathsMissing", "operator", {"holders": READY, "claim": claim(), "status": paths(1, 2, True)}),
    ("Attached", "NoPathLive", "operator", {"holders": READY, "claim": claim(), "status": paths(0, 2, True)}),
    ("Attached", "NoPathLive", "operator", {"holders": READY, "claim": claim(), "status": paths(0, 1, True)}),
    ("Attached", "ModeDiffers", "user", {
        "holders": READY, "claim": claim(), "status": paths(1, 2, True), "verdict": verdict("Accepted", "ModeDiffers"),
    }),
    ("Attached", "NoPathLive", "operator", {
        "holders": READY, "claim": claim(), "status": paths(0, 2, True), "verdict": verdict("Accepted", "ModeDiffers"),
    }),
    ("Attaching", "TooFewPaths", "operator", {
        "wish": TWO_PATHS, "holders": READY, "claim": claim(), "status": paths(1, 2, False),
    }),
    ("Attached", "PathsMissing", "operator", {
        "wish": TWO_PATHS, "holders": READY, "claim": claim(), "status": paths(1, 2, True),
    }),
    ("Attached", "Attached", "", {"wish": TWO_PATHS, "holders": READY, "claim": claim(), "status": paths(2, 2, False)}),
    ("Attached", "PathsMissing", "operator", {"holders": READY, "claim": claim(), "status": paths(1, 2, False)}),
    ("Blocked", "TooFewPaths", "user", {
        "wish": TWO_PATHS, "holders": READY, "claim": claim(), "status": paths(1, 1, False),
    }),
    ("Detaching", "Disconnecting", "node web-1", {"wish": None, "holders": READY, "claim": claim(), "status": paths(1, 2, False)}),
    (
        "Detaching",
        "Disconnecting",
        "node web-1",
        {"wish": None, "holders": READY, "claim": claim(), "status": status("Attached")},
    ),
    ("Released", "Released", "controller", {"wish": None, "holders": READY, "status": status("Released")}),
    ("Unexporting", "Unmapping", "controller", {"wish": None, "holders": REVOKED, "status": status("Released")}),
    ("Released", "Withdrawing", "node web-1", {"wish": None, "status": status("Released")}),
    ("Detached", "Detached", "", {"wish": None}),
    ("Detached", "Detached", "", {"wish": None, "holders": None}),
    ("Detached", "Detached", "", {"wish": None, "holders": (holder("ready", node="web-2"),)}),
    # the wish changes on the way
    ("Unexporting", "Unmapping", "controller", {"wish": None, "holders": EXPORTING}),
    ("Detaching", "Releasing", "node web-1", {"wish": None, "holders": READY}),
    ("Released", "Released", "controller", {"holders": READY, "status": status("Released")}),
    ("Unexporting", "Unmapping", "controller", {"holders": REVOKED, "status": status("Released")}),
    ("Pending", "WaitingForController", "controller", {"status": status("Released")}),
    ("Exported", "WaitingForNode", "node web-1", {"holders": READY, "status": status("Released", epoch=4)}),
    # what the controller says
    ("Pending", "HeldBy", "node web-2", {"holders": (holder("ready", node="web-2"),), "verdict": verdict("Granted", "HeldBy")}),
    ("Pending", "HeldBy", "node that asked first", {"verdict": verdict("Granted", "HeldBy")}),
    ("Pending", "VolumeNotFound", "user", {"holders": None, "verdict": verdict("Granted", "VolumeNotFound")}),
    ("Pending", "NodeUnknown", "node web-1", {"record": None, "verdict": verdict("Granted", "NodeUnknown")}),
    ("Pending", "Cordoned", "operator", {"verdict": verdict("Granted", "Cordoned")}),
    ("Pending", "Drained", "operator", {"intent": DRAINED}),
    ("Pending", "Drained", "operator", {"intent": DRAINED, "verdict": verdict("Granted", "Drained")}),
    ("Pending", "Drained", "operator", {"intent": DRAINED, "verdict": verdict("Granted", "HeldBy")}),
    ("Pending", "WaitingForController", "controller", {"verdict": verdict("Granted", "Drained", generation=39)}),
    ("Detached", "Detached", "", {"intent": DRAINED, "wish": None}),
    ("Detaching", "Disconnecting", "node web-1", {
        "intent": DRAINED, "holders": READY, "claim": claim(), "status": status("Attached"),
    }),
    ("Blocked", "DeviceBusy", "whoever uses it on node web-1", {
        "intent": DRAINED, "holders": READY, "claim": claim(), "status": status("Attached", BUSY),
    }),
    ("Unexporting", "Unmapping", "controller", {"intent": DRAINED, "holders": EXPORTING}),
    ("Released", "Withdrawing", "node web-1", {"intent": DRAINED, "status": status("Released")}),
    ("Attached", "Attached", "", {
        "intent": BAD, "holders": READY, "claim": claim(), "status": status("Attached"),
    }),
    ("Pending", "Strange", "controller", {"verdict": verdict("Granted", "Strange")}),
    ("Pending", "WaitingForController", "controller", {"verdict": verdict("Granted", "HeldBy", generation=39)}),
    ("Pending", "WaitingForController", "controller", {"verdict": BAD}),
    ("Blocked", "DuplicateInitiator", "operator", {"verdict": verdict("Granted", "DuplicateInitiator")}),
    ("Blocked", "FenceWithdrawn", "operator", {"verdict": verdict("Granted", "FenceWithdrawn")}),
    ("Blocked", "FormerHost", "operator", {"verdict": verdict("Granted", "FormerHost")}),
    ("Blocked", "OrphanExport", "operator", {"verdict": verdict("Granted", "OrphanExport")}),
    ("Exporting", "BackendNotReady", "backend lvm", {"holders": EXPORTING, "verdict": verdict("Exported", "BackendNotReady")}),
    (
        "Exporting",
        "ExportFailed",
        "backend lvm",
        {"holders": EXPORTING, "verdict": verdict("Exported", "ExportFailed", next_try=SINCE)},
    ),
    ("Failed", "ExportFailed", "backend lvm", {"holders": EXPORTING, "verdict": verdict("Exported", "ExportFailed")}),
    ("Failed", "Malformed", "user", {"wish": BAD, "verdict": verdict("Accepted", "Malformed")}),
    ("Failed", "Malformed", "user", {"wish": BAD}),
    ("Failed", "Refused", "user", {"verdict": verdict("Accepted", "Refused")}),
    ("Attached", "Malformed", "user", {
        "wish": BAD, "holders": READY, "claim": claim(), "status": status("Attached"),
        "verdict": verdict("Accepted", "Malformed"),
    }),
    ("Attached", "ModeDiffers", "user", {
        "holders": READY, "claim": claim(), "status": status("Attached"), "verdict": verdict("Accepted", "ModeDiffers"),
    }),
    ("Attached", "ModeDiffers", "user", {
        "wish": AttachmentSpec(mode="ro"), "holders": READY, "claim": claim(), "status": status("Attached"),
    }),
    ("Unexporting", "BackendNotReady", "backend lvm", {"wish": None, "holders": REVOKED, "backend": DOWN}),
    ("Unexporting", "TerminateFailed", "backend lvm", {
        "wish": None, "holders": REVOKED, "verdict": verdict("Exported", "TerminateFailed", generation=0),
    }),
    ("Unexporting", "Unmapping", "controller", {"wish": None, "connection": Connection(
        uid="u", epoch=5, boot="b1", phase=HolderPhase.REVOKED)}),
    # what the node says
    ("Attaching", "ConnectFailed", "node web-1", {
        "holders": READY, "claim": claim(),
        "status": status("Attaching", condition("Connected", "ConnectFailed"), next_try=SINCE),
    }),
    ("Failed", "ConnectFailed", "operator", {
        "holders": READY, "claim": claim(), "status": status("Attaching", condition("Connected", "ConnectFailed")),
    }),
    ("Attaching", "WaitingForController", "node web-1", {
        "holders": READY, "claim": claim(), "status": status("Attaching", condition("Connected", "WaitingForController")),
    }),
    ("Failed", "IdentityMismatch", "operator", {
        "holders": READY, "claim": claim(), "status": status("Attaching", condition("Verified", "IdentityMismatch")),
    }),
    ("Detaching", "DisconnectFailed", "node web-1", {
        "wish": None, "holders": READY, "claim": claim(),
        "status": status("Attached", condition("Released", "DisconnectFailed"), next_try=SINCE),
    }),
    ("Blocked", "DetachesPaused", "operator", {
        "wish": None, "holders": READY, "claim": claim(), "status": status("Attached", PAUSED),
    }),
    ("Blocked", "DeviceBusy", "whoever uses it on node web-1", {
        "wish": None, "holders": READY, "claim": claim(), "status": status("Attached", BUSY),
    }),
    ("Blocked", "DeviceBusy", "whoever uses it on node web-1", {
        "holders": REVOKED, "claim": claim(), "status": status("Attached", BUSY),
    }),
    ("Attached", "Attached", "", {"holders": READY, "claim": claim(), "status": status("Attached", BUSY)}),
    ("Released", "Released", "controller", {"wish": None, "holders": READY, "status": status("Released", BUSY)}),
    ("Uncertain", "Restarted", "node web-1", {
        "holders": READY, "claim": claim(), "status": status("Attached", condition("Verified", "Restarted", word="Unknown")),
    }),
    # nodes that are away, or in another boot
    ("Uncertain", "NodeSilent", "node web-1", {
        "holders": READY, "claim": claim(), "status": status("Attached"), "alive": None,
    }),
    ("Exported", "NodeSilent", "node web-1", {"holders": READY, "alive": None}),
    ("Detaching", "NodeSilent", "node web-1", {"wish": None, "holders": READY, "alive": None}),
    ("Uncertain", "OldBoot", "node web-1", {
        "holders": READY, "claim": claim(), "status": status("Attached"), "record": NodeRecord(boot="b2", connector={}),
    }),
    ("Uncertain", "Starting", "node web-1", {
        "holders": READY, "claim": claim(), "status": status("Attached"), "alive": Alive(boot="b2", since=SINCE),
    }),
    ("Uncertain", "NoteUnreadable", "operator", {
        "holders": READY, "claim": claim(), "status": status("Attached", condition("Verified", "NoteUnreadable")),
        "record": NodeRecord(boot="b2", connector={}), "alive": Alive(boot="b2", since=SINCE),
    }),
    ("Failed", "LinkTaken", "operator", {
        "holders": READY, "claim": claim(), "status": status("Attached", condition("Verified", "LinkTaken")),
    }),
    ("Uncertain", "OtherHost", "operator", {
        "holders": READY, "claim": claim().model_copy(update={"host_identity": "h1"}), "status": status("Attached"),
        "record": NodeRecord(boot="b2", connector={}, host_identity="h2"),
    }),
    ("Uncertain", "NodeFenced", "node web-1", {
        "holders": (), "claim": claim(), "status": status("Attached"), "fenced": frozenset({"b1"}),
    }),
    ("Uncertain", "NodeUnknown", "node web-1", {
        "holders": READY, "claim": claim(), "status": status("Attached"), "record": None,
    }),
    # keys deleted or damaged by hand (A33)
    ("Uncertain", "Unreadable", "operator", {"holders": BAD}),
    ("Uncertain", "Unreadable", "operator", {"wish": None, "holders": BAD}),
    ("Uncertain", "Unreadable", "operator", {"wish": None, "holders": (), "claim": BAD}),
    ("Uncertain", "Unreadable", "operator", {"holders": READY, "status": BAD}),
    ("Uncertain", "Unreadable", "operator", {"wish": None, "connection": BAD}),
    ("Uncertain", "GrantMissing", "controller", {"claim": claim(), "status": status("Attached")}),
    ("Uncertain", "StatusMissing", "node web-1", {"holders": READY, "claim": claim()}),
    ("Uncertain", "ClaimMissing", "node web-1", {"holders": READY, "status": status("Attached")}),
    ("Uncertain", "KeysMissing", "node web-1", {"holders": None, "status": status("Attached")}),
    ("Uncertain", "ClaimAfterRelease", "node web-1", {"claim": claim(), "holders": READY, "status": status("Released")}),
    ("Uncertain", "HoldersDiffer", "operator", {"holders": READY, "verdict": verdict("Granted", "HoldersDiffer")}),
    ("Detaching", "Releasing", "node web-1", {"wish": None, "holders": None, "status": status("Attached")}),
    ("Detaching", "Disconnecting", "node web-1", {"wish": None, "holders": None, "claim": claim()}),
]
# fmt: on


@pytest.mark.parametrize(("state", "reason", "waits_for", "given"), TABLE)
def test_decision_table(state: str, reason: str, waits_for: str, given: dict[str, Any]) -> None:
    """Each combination of keys has one state, a reason, and somebody who is waited for."""
    told = summarise_attachment(facts(**given))
    assert (told.state, told.reason, told.waits_for) == (state, reason, waits_for)


def test_every_rule_is_shown() -> None:
    """The table above reaches every rule, so none is dead."""
    from schema.summary.case import Case

    used = [next(rule for rule in RULES if rule.when(Case(facts(**given)))) for *_, given in TABLE]
    assert [rule for rule in RULES if rule not in used] == []


def test_what_the_node_says_is_passed_on() -> None:
    """The holders of a busy device, the time since, and the next try reach the user."""
    busy = status("Attached", BUSY, next_try="2026-11-23T10:00:30Z")
    told = summarise_attachment(facts(wish=None, holders=READY, claim=claim(), status=busy))
    assert (told.message, told.since, told.next_try) == ("in use: mounted at /srv", SINCE, "2026-11-23T10:00:30Z")


def test_an_attachment_tells_where_it_is() -> None:
    """Path, device, protocol, live paths, mode, epoch and generation come from the keys."""
    seen = status("Attached", protocol="iscsi", paths_live=1, paths_total=2)
    told = summarise_attachment(facts(holders=READY, claim=claim(), status=seen))
    assert (told.path, told.device, told.paths, told.protocol) == ("/dev/brickwork/data", "/dev/sdb", "1/2", "iscsi")
    assert (told.mode, told.epoch, told.generation, told.observed_generation) == ("rw", 5, GENERATION, GENERATION)
    assert _words(told.conditions)["Degraded"] == ("True", "PathsMissing")


@pytest.mark.parametrize(
    ("given", "ready", "degraded"),
    [
        ({"status": paths(2, 2, True)}, ("True", "Attached"), ("False", "AllPathsLive")),
        ({"status": paths(1, 2, True)}, ("True", "PathsMissing"), ("True", "PathsMissing")),
        ({"status": paths(0, 2, True)}, ("False", "NoPathLive"), ("True", "NoPathLive")),
        ({"status": paths(1, 2, False), "wish": TWO_PATHS}, ("False", "TooFewPaths"), ("True", "PathsMissing")),
        ({"status": paths(1, 1, False), "wish": TWO_PATHS}, ("False", "TooFewPaths"), ("False", "AllPathsLive")),
    ],
)
def test_missing_paths_show_in_the_conditions(
    given: dict[str, Any], ready: tuple[str, str], degraded: tuple[str, str]
) -> None:
    """Degraded while any is missing; Ready as long as one is live, once there were `min_paths` (A41, A42)."""
    told = _words(summarise_attachment(facts(holders=READY, claim=claim(), **given)).conditions)
    assert (told["Ready"], told["Degraded"]) == (ready, degraded)
    assert told["Verified"][0] == "True"


def test_the_node_tells_since_when_paths_are_missing_and_why() -> None:
    """What it says of the last try to add them is passed on, under whichever reason the attachment has."""
    why = Condition(type="Degraded", status="True", reason="PathsMissing", message="1/2; login refused", since=SINCE)
    seen = status("Attached", why, paths_live=1, paths_total=2)
    told = summarise_attachment(facts(holders=READY, claim=claim(), status=seen))
    assert (told.reason, told.message, told.since) == ("PathsMissing", "1/2; login refused", SINCE)
    waits = summarise_attachment(facts(wish=TWO_PATHS, holders=READY, claim=claim(), status=seen))
    assert (waits.reason, waits.since) == ("TooFewPaths", SINCE)
    assert "1 of 2 paths" in waits.message
    assert next(each for each in waits.conditions if each.type == "Degraded") == why


def test_a_wish_that_is_set_aside_says_by_whom() -> None:
    """Accepted all the same; who drains the node is told in every state, beside the reason for that state."""
    drained = "web-1 is drained (ana: new kernel; bob)"
    held: dict[str, Any] = {"holders": READY, "claim": claim(), "status": status("Attached", BUSY)}
    for keys in ({}, held):
        told = summarise_attachment(facts(intent=DRAINED, **keys))
        assert told.set_aside == drained
        assert _words(told.conditions)["Accepted"] == ("True", "Drained")
    assert summarise_attachment(facts(intent=DRAINED)).message == f"set aside: {drained}"
    assert told.message == "in use: mounted at /srv"
    assert summarise_attachment(facts(wish=None, intent=DRAINED)).set_aside is None
    assert summarise_attachment(facts(intent=BAD, **held)).set_aside is None


def test_conditions_follow_the_keys() -> None:
    """Accepted to Released answer with a reason at each stage."""
    attached = summarise_attachment(facts(holders=READY, claim=claim(), status=status("Attached")))
    assert {kind: word for kind, (word, _) in _words(attached.conditions).items()} == {
        "Accepted": "True",
        "Exported": "True",
        "Connected": "True",
        "Verified": "True",
        "Ready": "True",
        "Degraded": "False",
        "Released": "False",
    }
    held = summarise_attachment(facts(holders=(holder("ready", node="web-2"),), verdict=verdict("Granted", "HeldBy")))
    assert _words(held.conditions)["Exported"] == ("False", "HeldBy")
    busy = summarise_attachment(facts(wish=None, holders=READY, claim=claim(), status=status("Attached", BUSY)))
    assert _words(busy.conditions)["Released"] == ("False", "DeviceBusy")
    silent = summarise_attachment(facts(holders=READY, claim=claim(), status=status("Attached"), alive=None))
    assert _words(silent.conditions)["Ready"] == ("Unknown", "NodeSilent")


def _words(conditions: tuple[Condition, ...]) -> dict[str, tuple[str, str]]:
    return {each.type: (each.status, each.reason) for each in conditions}


# --- total ---------------------------------------------------------------------------------------------------------------

STATUSES = st.builds(
    AttachmentStatus,
    phase=st.sampled_from(AttachmentPhase),
    uid=st.just("u"),
    epoch=EPOCHS,
    boot=BOOTS,
    connected=st.booleans(),
    attached=st.booleans(),
    path=st.sampled_from([None, "/dev/brickwork/data"]),
    paths_live=st.sampled_from([None, 0, 1]),
    paths_total=st.sampled_from([None, 2]),
    min_paths_reached=st.booleans(),
    conditions=CONDITIONS,
    next_try=TRIES,
)
CONNECTIONS = st.builds(
    Connection,
    uid=st.just("u"),
    epoch=EPOCHS,
    boot=BOOTS,
    phase=st.sampled_from([HolderPhase.READY, HolderPhase.REVOKED]),
)
FACTS = st.builds(
    facts,
    wish=st.sampled_from([None, WISH, AttachmentSpec(mode="ro"), TWO_PATHS, BAD]),
    verdict=st.none() | VERDICTS | st.just(BAD),
    holders=st.none() | st.lists(HOLDER, max_size=2).map(tuple) | st.just(BAD),
    connection=st.none() | CONNECTIONS | st.just(BAD),
    claim=st.none() | st.builds(claim, EPOCHS, BOOTS) | st.just(BAD),
    status=st.none() | STATUSES | st.just(BAD),
    record=st.none() | st.builds(NodeRecord, boot=BOOTS, connector=st.just({})) | st.just(BAD),
    alive=st.none() | st.builds(Alive, boot=BOOTS, since=st.just(SINCE)) | st.just(BAD),
    fenced=st.sampled_from([frozenset(), frozenset({"b1"})]),
    intent=st.sampled_from([None, NodeSpec(cordons={"ana": ""}), DRAINED, BAD]),
    backend=st.sampled_from([None, DOWN, BAD]),
    led=st.booleans(),
)
SEVEN = ["Accepted", "Exported", "Connected", "Verified", "Ready", "Degraded", "Released"]


@given(FACTS)
@examples(1500)
def test_every_combination_has_an_honest_summary(given: AttachmentFacts) -> None:
    """Never an exception, never settled in silence, and Detached or Attached only where the keys show it."""
    told = summarise_attachment(given)
    assert [each.type for each in told.conditions] == SEVEN
    assert told.reason
    assert told.message
    assert "{" not in told.message.replace("{braces}", "")
    if told.state not in (State.ATTACHED, State.DETACHED):
        assert told.waits_for
    if told.state is State.DETACHED:
        assert given.wish is None
        assert not isinstance(given.holders, Malformed)
        assert "web-1" not in [each.node for each in given.holders or ()]
        assert (given.claim, given.status, given.connection) == (None, None, None)
    if told.state is State.ATTACHED:
        assert told.set_aside is None
        assert isinstance(given.claim, Claim)
        assert isinstance(given.status, AttachmentStatus)
        assert given.status.phase is AttachmentPhase.ATTACHED
        assert given.claim.epoch == given.status.epoch
    ready = next(each for each in told.conditions if each.type == "Ready")
    assert (ready.status == "True") == (told.state is State.ATTACHED)
