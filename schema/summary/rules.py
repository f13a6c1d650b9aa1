"""The table of rules that turns the keys of one attachment into a state. The first rule that holds decides.

Doubt stands first, so nothing is called Attached or Detached that the keys do not show. `Detached` is the last rule, reached
only when no wish, holder, connection, claim or status is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from schema.codec import Malformed
from schema.models import AttachmentPhase, Condition, HolderPhase
from schema.summary.case import HAS_DEVICE, Case
from schema.summary.reasons import MEANING, NO_CONTROLLER, nobody_leads
from schema.summary.terms import State

Voice = Callable[[Case], Condition | None]


def _node(case: Case) -> Condition | None:
    return case.device_says


def _controller(case: Case) -> Condition | None:
    return case.verdict_says


def _busy(case: Case) -> Condition | None:
    return case.complains_of("DeviceBusy")


def _paused(case: Case) -> Condition | None:
    return case.complains_of("DetachesPaused")


def _paths(case: Case) -> Condition | None:
    return case.told_of_paths()


def _too_few(case: Case) -> Condition | None:
    return case.told_of_paths("TooFewPaths")


def _mismatch(case: Case) -> Condition | None:
    found = map(case.complains_of, ("IdentityMismatch", "DuplicateIdentity", "LinkTaken"))
    return next((each for each in found if each is not None), None)


def _no_note(case: Case) -> Condition | None:
    """A new boot says it under what the former one said of the volume: it can do nothing with it."""
    return case.complains_of("NoteUnreadable", of_any_boot=True)


def _drained(case: Case) -> Condition | None:
    """The controller says since when."""
    says = case.verdict_says
    return says if says and says.reason == "Drained" else None


@dataclass(frozen=True, slots=True)
class _Rule:
    """One row: when it holds, this is the state. `voice` may know a better reason and message than the row's own."""

    when: Callable[[Case], bool]
    state: State
    reason: str
    says: str
    waits_for: str = ""
    voice: Voice | None = None


_EXPORTING, _READY = HolderPhase.EXPORTING, HolderPhase.READY
_RELEASED = AttachmentPhase.RELEASED
_ON, _BY, _CTL, _OPS = "whoever uses it on node {node}", "node {node}", "controller", "operator"
_BACKEND = "backend {backend}"

RULES: tuple[_Rule, ...] = (
    # what can't be trusted or can't go on
    _Rule(lambda c: bool(c.unreadable), State.UNCERTAIN, "Unreadable", "{unreadable}", _OPS),
    _Rule(
        lambda c: _no_note(c) is not None, State.UNCERTAIN, "NoteUnreadable", "its note can't be read", _OPS, _no_note
    ),
    _Rule(lambda c: c.paused, State.BLOCKED, "DetachesPaused", "too many wishes are gone at once", _OPS, _paused),
    _Rule(lambda c: c.busy, State.BLOCKED, "DeviceBusy", "the device is in use", _ON, _busy),
    _Rule(lambda c: _mismatch(c) is not None, State.FAILED, "IdentityMismatch", "wrong device", _OPS, _mismatch),
    _Rule(
        lambda c: c.fenced and not c.of_another_host,
        State.UNCERTAIN,
        "NodeFenced",
        "boot {boot} of {node} is fenced: it has to come back and drop the device before it is clean",
        _BY,
    ),
    _Rule(
        lambda c: c.claim is not None and c.silent,
        State.UNCERTAIN,
        "NodeSilent",
        "{node} gives no sign of life; its last word on this volume was {said}",
        _BY,
    ),
    _Rule(
        lambda c: c.claim is not None and c.boot is None,
        State.UNCERTAIN,
        "NodeUnknown",
        "nodes/{node} is missing or unreadable, so nobody knows whether boot {boot} still runs; its daemon puts the key right",
        _BY,
    ),
    _Rule(
        lambda c: c.of_another_host,
        State.UNCERTAIN,
        "OtherHost",
        "claimed in boot {boot} by the host that was {node} before: only that host gives it back, or its end stated by a fence",
        _OPS,
    ),
    _Rule(
        lambda c: c.claim is not None and c.claim.boot != c.boot,
        State.UNCERTAIN,
        "OldBoot",
        "claimed by boot {boot} of {node}, which is over; {node} has to release it",
        _BY,
    ),
    _Rule(
        lambda c: c.claim is not None and c.claim.boot != c.living,
        State.UNCERTAIN,
        "Starting",
        "{node} has begun another boot, and has not looked at its host yet; what it said of boot {boot} is over",
        _BY,
    ),
    _Rule(lambda c: c.doubted, State.UNCERTAIN, "NotVerified", "{node} has not looked at it yet", _BY, _node),
    _Rule(lambda c: c.means == "Uncertain", State.UNCERTAIN, "Uncertain", "the keys disagree", _OPS, _controller),
    # claimed
    _Rule(
        lambda c: (
            c.claim is not None and c.said is _RELEASED and c.status is not None and c.status.epoch == c.claim.epoch
        ),
        State.UNCERTAIN,
        "ClaimAfterRelease",
        "claims/{node}/{volume} is there although {node} released epoch {epoch}",
        _BY,
    ),
    _Rule(
        lambda c: c.claim is not None and c.wished and c.holder is None,
        State.UNCERTAIN,
        "GrantMissing",
        "{node} uses it, and no holder list names {node}; the device stays",
        _CTL,
    ),
    _Rule(
        lambda c: c.wished and c.mine and not c.says_this_epoch,
        State.UNCERTAIN,
        "StatusMissing",
        "{node} claimed epoch {epoch}, and attachments/{node}/{volume} does not tell of it; {node} writes it again",
        _BY,
    ),
    _Rule(
        lambda c: c.too_few_paths and c.total < c.min_paths,
        State.BLOCKED,
        "TooFewPaths",
        "connected to {node} with {live} of {total} paths live; min_paths asks for {min_paths}, which this connection never has",
        "user",
        _too_few,
    ),
    _Rule(
        lambda c: c.too_few_paths,
        State.ATTACHING,
        "TooFewPaths",
        "connected to {node} with {live} of {total} paths live; it counts as attached once {min_paths} are",
        _OPS,
        _too_few,
    ),
    _Rule(
        lambda c: c.attached and c.degraded and c.live == 0,
        State.ATTACHED,
        "NoPathLive",
        "0/{total} paths are live: reads and writes wait or fail",
        _OPS,
        _paths,
    ),
    _Rule(
        lambda c: c.attached and c.mode_differs,
        State.ATTACHED,
        "ModeDiffers",
        "attached as {mode}, and wished for otherwise: detach it, wait, and attach it again",
        "user",
        _controller,
    ),
    _Rule(
        lambda c: c.attached and c.degraded and c.verdict_says is None,
        State.ATTACHED,
        "PathsMissing",
        "{live}/{total} paths are live",
        _OPS,
        _paths,
    ),
    _Rule(
        lambda c: c.attached,
        State.ATTACHED,
        "Attached",
        "attached to {node}",
        "",
        _controller,
    ),
    _Rule(
        lambda c: c.wished and c.mine and c.said is AttachmentPhase.ATTACHING and c.gave_up,
        State.FAILED,
        "ConnectFailed",
        "{node} can't connect it",
        _OPS,
        _node,
    ),
    _Rule(
        lambda c: c.wished and c.mine and c.said is AttachmentPhase.ATTACHING,
        State.ATTACHING,
        "Connecting",
        "{node} connects and verifies it",
        _BY,
        _node,
    ),
    _Rule(
        lambda c: c.claim is not None,
        State.DETACHING,
        "Disconnecting",
        "{node} removes the device and then releases it",
        _BY,
        _node,
    ),
    # held, not claimed
    _Rule(
        lambda c: c.unmapping and bool(c.backend_fault),
        State.UNEXPORTING,
        "BackendNotReady",
        "to be unmapped from {node}; backend {backend} is not ready: {fault}",
        _BACKEND,
        _controller,
    ),
    _Rule(
        lambda c: c.unmapping,
        State.UNEXPORTING,
        "Unmapping",
        "the controller unmaps it from {node}",
        _CTL,
        _controller,
    ),
    _Rule(
        lambda c: c.phase is _READY and c.said is _RELEASED and c.says_this_epoch,
        State.RELEASED,
        "Released",
        "{node} released epoch {epoch}; the controller unmaps it next",
        _CTL,
    ),
    _Rule(
        lambda c: c.phase is _READY and c.wished and c.says_this_epoch,
        State.UNCERTAIN,
        "ClaimMissing",
        "{node} tells of a device of epoch {epoch}, and claims/{node}/{volume} is missing; {node} puts it back",
        _BY,
    ),
    _Rule(
        lambda c: c.phase is _READY and not c.wished and c.silent,
        State.DETACHING,
        "NodeSilent",
        "{node} has to release epoch {epoch} and gives no sign of life",
        _BY,
    ),
    _Rule(
        lambda c: c.phase is _READY and not c.wished,
        State.DETACHING,
        "Releasing",
        "{node} has to release epoch {epoch}",
        _BY,
        _node,
    ),
    _Rule(
        lambda c: c.phase is _READY and c.silent,
        State.EXPORTED,
        "NodeSilent",
        "exported to {node}, which gives no sign of life",
        _BY,
    ),
    _Rule(
        lambda c: c.phase is _READY,
        State.EXPORTED,
        "WaitingForNode",
        "exported; {node} takes it next",
        _BY,
        _controller,
    ),
    _Rule(lambda c: c.export_gave_up, State.FAILED, "ExportFailed", "the driver refused", _OPS, _controller),
    _Rule(
        lambda c: c.phase is _EXPORTING,
        State.EXPORTING,
        "Exporting",
        "the controller exports it to {node}",
        _BACKEND,
        _controller,
    ),
    # neither held nor claimed
    _Rule(
        lambda c: c.wished and c.said in HAS_DEVICE,
        State.UNCERTAIN,
        "KeysMissing",
        "{node} said {said}, and neither a grant nor a claim is left",
        _BY,
    ),
    _Rule(lambda c: isinstance(c.facts.wish, Malformed), State.FAILED, "Malformed", "{wish}", "user", _controller),
    _Rule(lambda c: c.means == "Failed", State.FAILED, "Refused", "refused", "user", _controller),
    _Rule(lambda c: c.means == "Blocked", State.BLOCKED, "Blocked", "it can't go on", _OPS, _controller),
    _Rule(
        lambda c: c.wished,
        State.PENDING,
        "WaitingForController",
        "the controller has not granted it yet",
        _CTL,
        _controller,
    ),
    _Rule(
        lambda c: c.facts.connection is not None,
        State.UNEXPORTING,
        "Unmapping",
        "connections/{node}/{volume} is left; the controller removes it",
        _CTL,
    ),
    _Rule(
        lambda c: c.said is _RELEASED,
        State.RELEASED,
        "Withdrawing",
        "unmapped; {node} removes its last key",
        _BY,
    ),
    _Rule(
        lambda c: c.said is not None,
        State.DETACHING,
        "Releasing",
        "{node} said {said} and has to say that nothing of it is left",
        _BY,
        _node,
    ),
    _Rule(lambda c: bool(c.set_aside), State.PENDING, "Drained", "set aside: {set_aside}", _OPS, _drained),
    _Rule(lambda c: not c.wished, State.DETACHED, "Detached", "nothing is wished for and nothing is left"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of the table."""

    state: State
    reason: str
    message: str
    waits_for: str
    since: str | None
    next_try: str | None


def find(case: Case) -> Finding:
    """The first rule that holds, in the words of whoever knows best."""
    rule = next(rule for rule in RULES if rule.when(case))
    condition = rule.voice(case) if rule.voice else None
    if condition is None:
        says, waits_for, reason = case.fill(rule.says), case.fill(rule.waits_for), rule.reason
        if not case.facts.led and rule.waits_for in (_CTL, _BACKEND):
            says = f"{says}; {nobody_leads(case.facts.backend_name, case.last_word)}"
            waits_for, reason = _CTL, NO_CONTROLLER
        return Finding(rule.state, reason, says, waits_for, case.since(rule.state), None)
    by_controller = rule.voice in (_controller, _drained)
    known = MEANING.get(condition.reason) if by_controller else None
    waits_for = _BACKEND if condition.reason == "HeldBy" and case.is_given_back else known.waits_for if known else ""
    source = case.verdict if by_controller else case.status
    return Finding(
        rule.state,
        condition.reason,
        condition.message or case.fill(rule.says),
        case.fill(waits_for or rule.waits_for),
        condition.since or None,
        (source.next_try or None) if source else None,
    )
