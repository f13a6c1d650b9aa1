"""Asks the production planners: shows them the state as the views they know, and remembers their answers.

Few different views exist among millions of states, so nearly every question has been asked before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reconciler.core.steps import Do, Step
from reconciler.core.views import (
    AttachmentView,
    BackendView,
    ClaimView,
    ConnectionView,
    HolderView,
    LastWish,
    NodeView,
    OnHost,
    RecordView,
    SpecView,
    StatusView,
    VolumeView,
    Wish,
)
from schema.keys import Key
from schema.models import AttachmentPhase, HolderPhase, Intent, Proof, VolumePhase
from tests.model.moves import STEPS, Move
from tests.model.rules import Rules
from tests.model.state import (
    CORDONED,
    DRAINED,
    EXPORTED,
    LOST,
    MISSED_DELETE,
    NODES,
    NOTED,
    TERMINATED,
    UNEXPORTED,
    UNMISSED,
    Array,
    Controller,
    Holder,
    Host,
    NodeKeys,
    Record,
    Spec,
    State,
    VolumeKeys,
    bits,
    key_bit,
    kinds,
)

VOLUME = "data"
HOLDER_PHASES = (HolderPhase.EXPORTING, HolderPhase.READY, HolderPhase.REVOKED, HolderPhase.READY)
ATTACHMENT_PHASES = (AttachmentPhase.ATTACHING, AttachmentPhase.ATTACHED, AttachmentPhase.RELEASED)
VOLUME_PHASES = tuple(VolumePhase)
MISSED = 1
"""A revision that no record speaks of."""
ON_HOST = (OnHost.UNKNOWN, OnHost.ABSENT, OnHost.PRESENT)


class Planners:
    """The planners under given rules, with memory."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._volume_moves: dict[tuple[object, ...], Move | None] = {}
        self._node_moves: dict[tuple[object, ...], Move | None] = {}
        self._boot_moves: dict[tuple[object, ...], Move | None] = {}

    def for_volume(self, seen: State) -> Move | None:
        """The controller's next step."""
        memory = seen.controller
        remembered = (memory.epoch, memory.marks, memory.refused, memory.refused_size)
        past = (seen.array.last, seen.array.missed)
        asked = (seen.nodes, seen.volume, seen.array.cuts, seen.array.online, past, remembered)
        if asked not in self._volume_moves:
            array = seen.array
            view = volume_view(seen.nodes, seen.volume, memory, cuts=array.cuts, online=array.online)
            view = replace(view, last=_last_wish(seen.volume, array), proven=_is_proven(seen.volume))
            step = self._rules.plan_volume(view)
            self._volume_moves[asked] = _move(step, seen.volume) if step else None
        return self._volume_moves[asked]

    def for_node(self, seen: State, index: int) -> Move | None:
        """A node's next step for its attachment."""
        host = seen.hosts[index]
        asked = (index, seen.nodes[index], host.boot, host.know, host.short, host.size, host.noted)
        if asked not in self._node_moves:
            keys = seen.nodes[index]
            step = self._rules.plan_node(attachment_view(keys, index, host))
            self._node_moves[asked] = _told_size(_move(step, seen.volume, index), keys) if step else None
        return self._node_moves[asked]

    def for_boot(self, seen: State, index: int) -> Move | None:
        """A node's next step for itself."""
        host = seen.hosts[index]
        asked = (index, seen.nodes[index], host.boot, host.know, host.short, host.noted)
        if asked not in self._boot_moves:
            view = attachment_view(seen.nodes[index], index, host)
            step = self._rules.plan_boot(
                published=view.published,
                fenced=view.fenced,
                traces=self._rules.traces(view),
                claims=int(view.fenced and self._rules.plan_node(view) is not None),
            )
            self._boot_moves[asked] = _move(step, seen.volume, index) if step else None
        return self._boot_moves[asked]

    def compared(self) -> Iterator[tuple[int, str, int]]:
        """Every key that a step planned so far names: step, `confirms` or `commits`, the key's bit."""
        for moves in (self._volume_moves, self._node_moves, self._boot_moves):
            for move in filter(None, moves.values()):
                yield from ((move.code, "confirms", bit) for bit in bits(kinds(move.confirms)))
                yield from ((move.code, "commits", bit) for bit in bits(kinds(move.commits)))


# --- steps ---------------------------------------------------------------------------------------------------------------


def _generation(step: Step, volume: VolumeKeys) -> int:
    return volume.spec.generation if volume.spec and step.do in (Do.CREATE, Do.EXTEND) else 0


def _told_size(move: Move, keys: NodeKeys) -> Move:
    return move._replace(size=keys.connection[3] if keys.connection else 0)


def _move(step: Step, volume: VolumeKeys, node: int | None = None) -> Move:
    index = node if node is not None else NODES.index(step.node) if step.node else 0
    boots = [h.boot for h in volume.holders if (h.node, h.epoch) == (index, step.epoch)] if node is None else []
    return Move(
        do=step.do,
        code=STEPS.index(step.do),
        node=index,
        epoch=step.epoch,
        boot=boots[0] if boots else 0,
        confirms=_mask(step.confirms),
        commits=_mask(step.commits),
        copies_fence=step.copies_fence,
        generation=_generation(step, volume),
        text=f"{step.do.value}: {step.why}",
        delete=step.on_delete == "delete",
    )


def _mask(keys: tuple[Key, ...]) -> int:
    mask = 0
    for key in keys:
        mask |= key_bit(key.family, NODES.index(key.node) if key.node else 0)
    return mask


# --- views ---------------------------------------------------------------------------------------------------------------


def volume_view(
    nodes: tuple[NodeKeys, NodeKeys],
    volume: VolumeKeys,
    memory: Controller,
    *,
    cuts: bool = True,
    online: bool = False,
) -> VolumeView:
    def marked(bit: int) -> frozenset[int]:
        return frozenset({memory.epoch}) if memory.marks & bit else frozenset()

    status = volume.status
    generation = volume.spec.generation if volume.spec else 0
    return VolumeView(
        volume=VOLUME,
        spec=_spec_view(volume.spec),
        record=_record_view(volume.record, volume.grant),
        holders=_holder_views(volume.grant),
        mirror=_holder_views(status.holders) if status else None,
        phase=VOLUME_PHASES[status.phase] if status else "",
        generation=status.generation if status else 0,
        nodes={NODES[index]: _node_view(nodes[index]) for index in range(2)},
        backend=BackendView(cuts_access=cuts, extends_online=online),
        exported=marked(EXPORTED),
        terminated=marked(TERMINATED),
        unexported=marked(UNEXPORTED),
        lost=marked(LOST),
        refused="the array is full" if memory.refused == generation else "",
        refused_gib=memory.refused_size,
    )


def attachment_view(keys: NodeKeys, index: int, host: Host) -> AttachmentView:
    return AttachmentView(
        node=NODES[index],
        volume=VOLUME,
        boot=_boot(host.boot),
        published=keys.boot == host.boot,
        fenced=host.boot in keys.fences,
        drain=_drain(keys),
        wish=Wish("rw") if keys.wish else None,
        connection=_connection_view(keys),
        claim=_claim_view(keys),
        status=_status_view(keys),
        device=ON_HOST[host.know],
        noted=host.noted and ClaimView(host.noted[0], _boot(host.noted[1])),
        paths_to_add=host.short,
        size_gib=host.size or None,
    )


def _boot(boot: int) -> str:
    return f"b{boot}"


def _spec_view(spec: Spec | None) -> SpecView | None:
    if spec is None:
        return None
    return SpecView("array", spec.size, "delete" if spec.delete else "retain", generation=spec.generation)


def _record_view(record: Record | None, grant: tuple[Holder, ...] | None) -> RecordView | None:
    if record is None:
        return None
    held = {(holder.node, holder.epoch) for holder in grant or ()}
    orphans = tuple(NODES[node] for node, epoch in record.exports if (node, epoch) not in held)
    return RecordView(
        uid="u",
        backend="array",
        size_gib=record.size,
        intent=Intent(record.intent) if record.intent else None,
        target_gib=record.target,
        on_delete="delete" if record.delete else "retain",
        ended=record.ended,
        unproven=record.unproven > 0,
        orphans=orphans if grant is not None else (),
    )


def _is_proven(volume: VolumeKeys) -> bool:
    return volume.record is not None and volume.record.unproven == UNMISSED


def _last_wish(volume: VolumeKeys, array: Array) -> LastWish | None:
    """What the executor asks the store for, where it matters (`asks_for_history`)."""
    record = volume.record
    if record is None:
        return None
    missed = record.unproven > UNMISSED
    if not missed and (volume.spec is not None or (record.ended and not array.missed)):
        return None
    if array.last is None:
        return LastWish(None, MISSED)
    said = (record.size, record.unproven == MISSED_DELETE) if missed else array.last
    return LastWish(SpecView("array", said[0], "delete" if said[1] else "retain"), MISSED)


def _holder_views(holders: tuple[Holder, ...] | None) -> tuple[HolderView, ...] | None:
    if holders is None:
        return None
    return tuple(_holder_view(holder) for holder in holders)


def _holder_view(holder: Holder) -> HolderView:
    mode = "in use" if holder.phase == NOTED else "rw"
    return HolderView(NODES[holder.node], holder.epoch, _boot(holder.boot), HOLDER_PHASES[holder.phase], mode)


def _node_view(keys: NodeKeys) -> NodeView:
    return NodeView(
        wish=Wish("rw", keys.wish) if keys.wish else None,
        boot=_boot(keys.boot) if keys.boot else None,
        cordon="work in progress" if keys.intent == CORDONED else None,
        drain=_drain(keys),
        fences=_proofs(keys.fences),
        fenced=_proofs(keys.fenced),
        claim=_claim_view(keys),
        status=_status_view(keys),
        connection=_connection_view(keys),
    )


def _proofs(fences: tuple[int, ...]) -> dict[str, Proof]:
    return {_boot(boot): "powered_off" if fences.count(boot) > 1 else "statement" for boot in fences}


def _drain(keys: NodeKeys) -> str:
    return "maintenance" if keys.intent == DRAINED else ""


def _claim_view(keys: NodeKeys) -> ClaimView | None:
    return keys.claim and ClaimView(keys.claim[0], _boot(keys.claim[1]))


def _status_view(keys: NodeKeys) -> StatusView | None:
    return keys.status and StatusView(ATTACHMENT_PHASES[keys.status[0]], keys.status[1])


def _connection_view(keys: NodeKeys) -> ConnectionView | None:
    connection = keys.connection
    if connection is None:
        return None
    epoch, boot, phase, size = connection
    return ConnectionView(epoch, _boot(boot), HOLDER_PHASES[phase], size)
