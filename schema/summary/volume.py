"""Volumes, nodes and backends: state, conditions, and who is waited for."""

from __future__ import annotations

from schema.capacity import sums
from schema.codec import Malformed
from schema.models import (
    Alive,
    BackendStatus,
    Condition,
    ConditionStatus,
    NodeRecord,
    NodeSpec,
    Orphan,
    VolumePhase,
    VolumeSpec,
    VolumeStatus,
    labelled,
)
from schema.summary.reasons import MEANING, NO_CONTROLLER, complaint, nobody_leads, verdict_on
from schema.summary.terms import (
    BackendSummary,
    NodeFacts,
    NodeSummary,
    VolumeFacts,
    VolumeState,
    VolumeSummary,
)

Answer = tuple[VolumeState, str, str, str]
"""State, reason, message, who is waited for."""


def summarise_volume(facts: VolumeFacts) -> VolumeSummary:
    """What to tell of a volume. Total, like its sister for attachments."""
    spec = facts.spec if isinstance(facts.spec, VolumeSpec) else None
    status = facts.status if isinstance(facts.status, VolumeStatus) else None
    verdict = verdict_on(facts.verdict, facts.generation)
    says = complaint(verdict.conditions) if verdict else None
    last = None
    if not facts.led and not _is_doubt(says):
        last, says, verdict = says, None, None
    state, reason, message, waits_for = _volume_state(facts, status, says)
    holders = tuple(holder.node for holder in status.holders) if status else ()
    backend = status.backend if status else spec.backend if spec else None
    if not facts.led and says is None and waits_for not in ("", "user", "operator"):
        told = nobody_leads(backend or "", last)
        reason, message, waits_for = NO_CONTROLLER, f"{message}; {told}" if message else told, "controller"
    if says is not None:
        reason, message = says.reason, says.message
        waits_for = _waits_for(facts, says, holders) or waits_for
    return VolumeSummary(
        volume=facts.volume,
        state=state,
        reason=reason,
        message=message,
        waits_for=waits_for,
        since=(says.since or None) if says else _began(status, state),
        next_try=(verdict.next_try or None) if verdict else None,
        backend=backend,
        uid=status.uid if status else None,
        size_gib=status.size_gib if status else None,
        wanted_gib=spec.size_gib if spec else None,
        on_delete=spec.on_delete if spec else None,
        holders=holders,
        generation=facts.generation,
        observed_generation=max(status.generation if status else 0, verdict.generation if verdict else 0),
        conditions=(_accepted(facts, says, reason, message), _available(status, state, reason, message)),
    )


def _is_doubt(says: Condition | None) -> bool:
    meaning = MEANING.get(says.reason) if says else None
    return meaning is not None and meaning.state == "Uncertain"


def _began(status: VolumeStatus | None, state: VolumeState) -> str | None:
    """When this state began, where it is the phase that the controller told of."""
    return (status.since or None) if status is not None and status.phase.value == state.value else None


def _volume_state(facts: VolumeFacts, status: VolumeStatus | None, says: Condition | None) -> Answer:
    """The rules, first come first served: doubt, what is refused, then the phase that the controller observed."""
    name, means = facts.volume, MEANING.get(says.reason) if says else None
    if isinstance(facts.status, Malformed):
        return VolumeState.UNCERTAIN, "Unreadable", f"volumes/{name} can't be read: {facts.status}", "operator"
    if means and means.state == "Uncertain":
        return VolumeState.UNCERTAIN, "", "", "operator"
    if status is None or status.phase in (VolumePhase.CREATING, VolumePhase.RETAINED):
        return _not_yet(facts, status, means.state if means else "")
    if status.phase is VolumePhase.DELETING:
        return VolumeState.DELETING, "Deleting", "the controller deletes it on the backend", _backend(status)
    if facts.spec is None:
        return _removing(status)
    if status.phase is VolumePhase.EXTENDING:
        return VolumeState.EXTENDING, "Extending", "the controller extends it", _backend(status)
    waits_for = "" if status.generation == facts.generation else "controller"
    return VolumeState.AVAILABLE, "Available", "", waits_for


def _not_yet(facts: VolumeFacts, status: VolumeStatus | None, meaning: str) -> Answer:
    """No usable volume: not there, in creation, or retained."""
    if facts.spec is None and status is None:
        return VolumeState.ABSENT, "Absent", "nothing is wished for, and there is no such volume", ""
    if facts.spec is None and status is not None and status.phase is VolumePhase.RETAINED:
        message = f"the data is kept; wish for {facts.volume} on {status.backend} again to take it back"
        return VolumeState.RETAINED, "Retained", message, ""
    if facts.spec is None and status is not None:
        return _removing(status)
    if isinstance(facts.spec, Malformed):
        return VolumeState.FAILED, "Malformed", str(facts.spec), "user"
    if meaning in ("Failed", "Blocked"):
        return VolumeState(meaning), "", "", "user" if meaning == "Failed" else "operator"
    if status is None:
        return VolumeState.PENDING, "WaitingForController", "the controller has not taken it up yet", "controller"
    if status.phase is VolumePhase.RETAINED:
        return VolumeState.PENDING, "Retained", "the controller takes the retained volume back", "controller"
    return VolumeState.CREATING, "Creating", "the controller creates it on the backend", _backend(status)


def _removing(status: VolumeStatus) -> Answer:
    if status.holders:
        names = ", ".join(holder.node for holder in status.holders)
        message = f"no longer wished for, and held by {names}; the data stays until it is detached"
        return VolumeState.REMOVING, "HeldBy", message, f"node {status.holders[0].node}"
    message = "no longer wished for; retained or deleted next, as its last spec said"
    return VolumeState.REMOVING, "Removing", message, "controller"


def _backend(status: VolumeStatus) -> str:
    return f"backend {status.backend}"


def _waits_for(facts: VolumeFacts, says: Condition, holders: tuple[str, ...]) -> str:
    meaning = MEANING.get(says.reason)
    spec = facts.spec if isinstance(facts.spec, VolumeSpec) else None
    status = facts.status if isinstance(facts.status, VolumeStatus) else None
    backend = spec.backend if spec else status.backend if status else "of the volume"
    other = holders[0] if holders else "that still claims it"
    return meaning.waits_for.format(node=other, other=other, volume=facts.volume, backend=backend) if meaning else ""


def _accepted(facts: VolumeFacts, says: Condition | None, reason: str, message: str) -> Condition:
    if facts.spec is None:
        return _condition("Accepted", "Unknown", "NotWished", "there is no wish", 0)
    if says is not None and says.type == "Accepted":
        return says
    if isinstance(facts.spec, Malformed):
        return _condition("Accepted", "False", "Malformed", str(facts.spec), facts.generation)
    if reason == NO_CONTROLLER:
        return _condition("Accepted", "Unknown", reason, message, 0)
    return _condition("Accepted", "True", "Accepted", "", facts.generation)


def _available(status: VolumeStatus | None, state: VolumeState, reason: str, message: str) -> Condition:
    usable = state in (VolumeState.AVAILABLE, VolumeState.EXTENDING)
    word: ConditionStatus = "Unknown" if state is VolumeState.UNCERTAIN else "True" if usable else "False"
    told = _condition("Available", word, "Available" if usable else reason, message, status.generation if status else 0)
    began = _began(status, state)
    return told.model_copy(update={"since": began}) if usable and began else told


def _condition(kind: str, word: ConditionStatus, reason: str, message: str, generation: int) -> Condition:
    return Condition(type=kind, status=word, reason=reason, message=message, since="", observed_generation=generation)


# --- nodes and backends --------------------------------------------------------------------------------------------------


def summarise_node(facts: NodeFacts) -> NodeSummary:
    """What to tell of a node."""
    spec = facts.spec if isinstance(facts.spec, NodeSpec) else None
    record = facts.record if isinstance(facts.record, NodeRecord) else None
    state, reason, message, waits_for = _node_state(facts, spec, record)
    verdict = verdict_on(facts.verdict, facts.generation)
    alive = facts.alive
    return NodeSummary(
        node=facts.node,
        state=state,
        reason=reason,
        message=message,
        waits_for=waits_for,
        since=alive.since or None if isinstance(alive, Alive) and state == "Ready" else None,
        boot=record.boot if record else None,
        cordons=dict(spec.cordons) if spec else {},
        drains=dict(spec.drains) if spec else {},
        fences=tuple(boot for boot, _ in facts.fences),
        versions=dict(record.versions) if record else {},
        multipath=record.multipath if record else None,
        volumes=facts.volumes,
        wished=facts.wished,
        left=facts.left if spec and spec.drains else (),
        generation=facts.generation,
        conditions=verdict.conditions if verdict else (),
    )


def _node_state(facts: NodeFacts, spec: NodeSpec | None, record: NodeRecord | None) -> tuple[str, str, str, str]:
    name, by_node = facts.node, f"node {facts.node}"
    if isinstance(facts.record, Malformed):
        return "Uncertain", "Unreadable", f"nodes/{name} can't be read: {facts.record}", by_node
    if record is None:
        return "Unknown", "NodeUnknown", "it has not published itself: is brickwork-node running there?", by_node
    if record.boot in {boot for boot, _ in facts.fences}:
        message = f"boot {record.boot} is fenced; it has to come back, clean up, and begin a new one"
        return "Fenced", "NodeFenced", message, by_node
    if spec and spec.drains and not facts.left:
        away = "; it gives no sign of life" if facts.alive is None else ""
        return "Drained", "Drained", f"nothing is attached ({labelled(spec.drains)}){away}", "operator"
    if facts.alive is None:
        return "Silent", "NodeSilent", "it gives no sign of life; nothing new is granted to it", by_node
    if isinstance(facts.alive, Alive) and facts.alive.boot != record.boot:
        message = f"boot {facts.alive.boot} has begun and has not looked at its host yet; what is told of {record.boot} is over"
        return "Starting", "Starting", message, by_node
    if isinstance(facts.spec, Malformed):
        return "Cordoned", "Malformed", f"desired/nodes/{name} can't be read: {facts.spec}", "user"
    if spec and spec.drains:
        return "Draining", "Draining", f"{len(facts.left)} left ({labelled(spec.drains)})", by_node
    if spec and spec.cordons:
        return "Cordoned", "Cordoned", labelled(spec.cordons), "operator"
    if isinstance(facts.alive, Alive) and facts.alive.rival:
        return "Ready", "DuplicateNode", f"another host takes itself for it: {facts.alive.rival}", "operator"
    if facts.paused:
        message = f"{facts.paused} attachments stay although their wishes are gone: too many went at once"
        return "Ready", "DetachesPaused", message, "operator"
    return "Ready", "Ready", "", ""


def summarise_backend(name: str, status: BackendStatus | Malformed | None, *, led: bool) -> BackendSummary:
    """What to tell of a backend. `led`: a controller holds its leader key; without one, its status is but a last word."""
    known = status if isinstance(status, BackendStatus) else None
    if isinstance(status, Malformed):
        state, reason, message = "Uncertain", "Unreadable", f"backends/{name} can't be read: {status}"
    elif known is None:
        state, reason, message = "NotReady", "BackendUnknown", "no controller has told of it: is it in its settings?"
    elif not led:
        said = ", ".join(filter(None, (known.reason, known.message)))
        last = f"{known.controller or 'the last one'} said: {said}"
        state, reason, message = "NotReady", NO_CONTROLLER, f"no controller leads it: is one running? ({last})"
    else:
        state, reason, message = ("Ready" if known.ready else "NotReady"), known.reason, known.message
    return BackendSummary(
        backend=name,
        state=state,
        reason=reason,
        message=message,
        waits_for="" if state == "Ready" else "operator",
        since=(known.since or None) if known and led else None,
        driver=known.driver if known else None,
        protocol=known.protocol if known else None,
        controller=(known.controller or None) if known and led else None,
        capacity=sums(known.capacity) if known else {},
        orphan_exports=known.orphan_exports if known else 0,
        orphans=tuple(map(_orphan, known.orphans)) if known else (),
    )


def _orphan(orphan: Orphan) -> str:
    volume = f"volume {orphan.volume} ({orphan.uid})" if orphan.volume else f"uid {orphan.uid}"
    return f"{volume} to {orphan.client or 'somebody'}"
