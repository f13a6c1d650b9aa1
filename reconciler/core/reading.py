"""From decoded keys to the planners' views. Pure, so `brickctl explain` reads the same pictures as the daemons.

`see` is asked once for every key that a view rests on; whoever answers can note the revisions, and so knows exactly what a
step's transaction has to compare.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from pydantic import BaseModel

from reconciler.core.ownership import Others, ThisHost, others, ownership
from reconciler.core.views import (
    OTHER_UID,
    AttachmentView,
    BackendView,
    Bad,
    ClaimView,
    ConnectionView,
    HolderView,
    NodeView,
    OnHost,
    RecordView,
    SpecView,
    StatusView,
    VolumeView,
    Wish,
)
from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import (
    AttachmentPhase,
    AttachmentSpec,
    AttachmentStatus,
    Claim,
    Connection,
    FenceStatement,
    Grant,
    Holder,
    NodeRecord,
    NodeSpec,
    Proof,
    Record,
    VolumeSpec,
    VolumeStatus,
    labelled,
)


class Seen(NamedTuple):
    """A key as read: its decoded value, or what is wrong with it."""

    value: BaseModel | Malformed
    mod_revision: int
    create_revision: int


UNREACHED = (
    ("Connected", "ConnectFailed"),
    ("Verified", "IdentityMismatch"),
    ("Verified", "DuplicateIdentity"),
    ("Degraded", "NoPathLive"),
)
"""A node's conditions that may be cured by asking the driver once more how the volume is reached."""

See = Callable[[Key], Seen | None]
T = TypeVar("T", bound=BaseModel)


@dataclass(slots=True)
class Memory:
    """What a controller process remembers of driver calls that returned. Losing it costs a repeated, idempotent call."""

    exported: set[int] = field(default_factory=set)
    terminated: set[int] = field(default_factory=set)
    unexported: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    """Found missing by the audit."""
    asked_again: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Epochs that a node could not reach -> how long the pause is after the last time that the driver was asked, and its end."""
    refused: str = ""
    refused_generation: int = 0
    """The wish that the driver's terminal answer was about: a new wish is tried anew."""
    refused_gib: int = 0
    """What it refused to extend the volume to."""


class Around(NamedTuple):
    """What the controller knows of the nodes besides their keys on one volume."""

    names: Iterable[str]
    """Nodes with any key on this volume."""
    twin: Callable[[str, str], str | None]
    """(node, backend) -> another node with the same identifier."""
    fences: Callable[[Family, str], frozenset[str]]
    """Boots of a node with a `fences/` or `fenced/` key."""
    alive: Callable[[str], bool]
    deletion_confirmed: Callable[[str], bool] = lambda _: False
    """Whether the question what becomes of its data was answered (`core.volume_wish`)."""
    deletion_paused: Callable[[str], str] = lambda _: ""
    """Volume without a wish whose data would go -> why it stays (`core.mass`)."""


# --- the controller's side -----------------------------------------------------------------------------------------------


def volume_view(see: See, volume: str, around: Around, backend: BackendView, memory: Memory) -> VolumeView:
    """Everything the controller knows of one volume."""
    record = _value(see, Key(Family.RECORD, (volume,)), Record)
    grant = _value(see, Key(Family.GRANT, (volume,)), Grant)
    status = _value(see, Key(Family.VOLUME, (volume,)), VolumeStatus)
    spec, generation = _spec(see, volume)
    holding = {holder.node for holder in grant.holders} if isinstance(grant, Grant) else set()
    names = sorted(holding.union(around.names))
    uid = record.uid if isinstance(record, Record) else ""
    owner = record.backend if isinstance(record, Record) else ""
    own = status if isinstance(status, VolumeStatus) else None
    goes = isinstance(record, Record) and record.goes_with_its_wish
    return VolumeView(
        volume=volume,
        spec=spec,
        record=_record_view(record, grant),
        holders=_holder_views(grant, uid),
        mirror=_holder_views(status, uid),
        phase=own.phase.value if own else "",
        generation=own.generation if own else 0,
        nodes={name: _node_view(see, volume, name, uid, owner, around) for name in names},
        backend=backend,
        exported=frozenset(memory.exported),
        terminated=frozenset(memory.terminated),
        unexported=frozenset(memory.unexported),
        lost=frozenset(memory.lost),
        refused=memory.refused if memory.refused_generation == generation else "",
        refused_gib=memory.refused_gib,
        deletion_paused=around.deletion_paused(volume) if spec is None and goes else "",
        deletion_confirmed=spec is None and around.deletion_confirmed(volume),
    )


def _spec(see: See, volume: str) -> tuple[SpecView | Bad | None, int]:
    seen = see(Key(Family.DESIRED_VOLUME, (volume,)))
    if seen is None:
        return None, 0
    if not isinstance(seen.value, VolumeSpec):
        return Bad(str(seen.value)), seen.mod_revision
    return spec_view(seen.value, seen.mod_revision), seen.mod_revision


def spec_view(spec: VolumeSpec, revision: int) -> SpecView:
    imports = canonical(spec.import_) if spec.import_ else None
    return SpecView(spec.backend, spec.size_gib, spec.on_delete, imports, revision)


def canonical(reference: Mapping[str, object]) -> str:
    """An import reference in one spelling, for comparing."""
    return json.dumps(reference, sort_keys=True)


def _record_view(record: Record | Bad | None, grant: Grant | Bad | None) -> RecordView | Bad | None:
    if not isinstance(record, Record):
        return record
    held = {(holder.node, holder.epoch) for holder in grant.holders} if isinstance(grant, Grant) else set()
    orphans = tuple(export.node for export in record.exports if (export.node, export.epoch) not in held)
    return RecordView(
        uid=record.uid,
        backend=record.backend,
        size_gib=record.size_gib,
        intent=record.intent,
        target_gib=record.target_gib,
        on_delete=record.on_delete,
        imported=record.imported,
        imports=canonical(record.reference) if record.reference else None,
        asked_gib=record.asked_gib,
        heard=record.heard,
        ended=record.ended,
        unproven=record.unproven,
        orphans=orphans if isinstance(grant, Grant) else (),
    )


def _holder_views(source: Grant | VolumeStatus | Bad | None, uid: str) -> tuple[HolderView, ...] | Bad | None:
    if source is None or isinstance(source, Bad):
        return source
    if uid and source.uid != uid:
        return Bad(f"it is of uid {source.uid}, the record of {uid}")
    return tuple(holder_view(holder) for holder in source.holders)


def holder_view(holder: Holder) -> HolderView:
    return HolderView(holder.node, holder.epoch, holder.boot, holder.phase, holder.mode)


def _node_view(see: See, volume: str, name: str, uid: str, backend: str, around: Around) -> NodeView:
    node = _value(see, Key(Family.NODE, (name,)), NodeRecord)
    intent = _value(see, Key(Family.DESIRED_NODE, (name,)), NodeSpec)
    fences, fenced = _fences(see, Family.FENCE, name, around), _fences(see, Family.FENCED, name, around)
    weak = [boot for boot in fenced if "powered_off" not in (fences.get(boot), fenced[boot])]
    return NodeView(
        wish=_wish(see, name, volume),
        boot=node.boot if isinstance(node, NodeRecord) else node,
        alive=around.alive(name),
        cordon=_cordon(intent),
        drain=drain_of(see, name),
        fences=fences,
        fenced=fenced,
        reviving=tuple(boot for boot in sorted(weak) if _is_of_another_host(see, name, boot, node)),
        twin=around.twin(name, backend),
        claim=_claim(see, name, volume, uid),
        status=_status(see, name, volume, uid),
        connection=_connection(see, name, volume, uid),
        unreached=_unreached(see, name, volume, uid),
    )


def _fences(see: See, family: Family, name: str, around: Around) -> dict[str, Proof]:
    """By boot. A statement that can't be read was meant as one, and counts as the weakest."""
    found = ((boot, see(Key(family, (name, boot)))) for boot in around.fences(family, name))
    return {
        boot: seen.value.proof if isinstance(seen.value, FenceStatement) else "statement"
        for boot, seen in found
        if seen is not None
    }


def _is_of_another_host(see: See, name: str, boot: str, node: NodeRecord | Bad | None) -> bool:
    """By the controller's copy of its fence. What older versions wrote names no host."""
    copy = _value(see, Key(Family.FENCED, (name, boot)), FenceStatement)
    former = copy.host_identity if isinstance(copy, FenceStatement) else None
    now = node.host_identity if isinstance(node, NodeRecord) else None
    return bool(former and now and former != now)


def _cordon(intent: NodeSpec | Bad | None) -> str | None:
    """An unreadable `desired/nodes/N` counts as a cordon: somebody wanted to hold something back."""
    if isinstance(intent, Bad):
        return f"its key desired/nodes can't be read ({intent.fault})"
    if intent is None or not intent.cordons:
        return None
    return labelled(intent.cordons)


def drain_of(see: See, node: str) -> str:
    """Who drains the node and why, empty where nobody does. What can't be read is a cordon, and no reason to detach."""
    intent = _value(see, Key(Family.DESIRED_NODE, (node,)), NodeSpec)
    return labelled(intent.drains) if isinstance(intent, NodeSpec) else ""


# --- the node's side -----------------------------------------------------------------------------------------------------


def attachment_view(
    see: See,
    node: str,
    volume: str,
    boot: str,
    device: OnHost,
    noted: tuple[str, int, str] | None = None,
    *,
    paths_to_add: bool = False,
    size_gib: int | None = None,
    note_fault: str = "",
    this: ThisHost | None = None,
    told: str | None = None,
) -> AttachmentView:
    """Everything the node knows of one volume. Reads only what a node may read (A48).

    Args:
        noted: uid, epoch, boot.
        this: the host; left out by who looks from elsewhere: then it is the one that is the node.
        told: as in `ownership`.
    """
    published = _value(see, Key(Family.NODE, (node,)), NodeRecord)
    connection = see(Key(Family.CONNECTION, (node, volume)))
    uid = connection.value.uid if connection and isinstance(connection.value, Connection) else ""
    look = looking(see)
    foreign = this is not None and bool(ownership(look, node, this, told).fault)
    theirs = others(look, node, volume, boot, this) if this is not None else Others()
    return AttachmentView(
        node=node,
        volume=volume,
        boot=boot,
        published=isinstance(published, NodeRecord) and published.boot == boot,
        fenced=see(Key(Family.FENCE, (node, boot))) is not None,
        foreign=foreign,
        theirs=theirs.families,
        fences=theirs.fences,
        drain=drain_of(see, node),
        wish=_wish(see, node, volume),
        connection=_connection(see, node, volume, uid),
        claim=_claim(see, node, volume, uid),
        status=_status(see, node, volume, uid),
        device=device,
        paths_to_add=paths_to_add,
        noted=_noted(noted, uid) if noted else None,
        size_gib=size_gib,
        note_fault=note_fault,
    )


def looking(see: See) -> Callable[[Key], BaseModel | Malformed | None]:
    """The decoded values alone."""

    def look(key: Key) -> BaseModel | Malformed | None:
        seen = see(key)
        return None if seen is None else seen.value

    return look


# --- one key each --------------------------------------------------------------------------------------------------------


def _value(see: See, key: Key, model: type[T]) -> T | Bad | None:
    seen = see(key)
    if seen is None:
        return None
    return seen.value if isinstance(seen.value, model) else Bad(str(seen.value))


def _wish(see: See, node: str, volume: str) -> Wish | Bad | None:
    seen = see(Key(Family.DESIRED_ATTACHMENT, (node, volume)))
    if seen is None:
        return None
    if not isinstance(seen.value, AttachmentSpec):
        return Bad(str(seen.value))
    return Wish(seen.value.mode, seen.create_revision)


def _claim(see: See, node: str, volume: str, uid: str) -> ClaimView | Bad | None:
    claim = _value(see, Key(Family.CLAIM, (node, volume)), Claim)
    return ClaimView(_epoch(claim, uid), claim.boot) if isinstance(claim, Claim) else claim


def _status(see: See, node: str, volume: str, uid: str) -> StatusView | Bad | None:
    status = _value(see, Key(Family.ATTACHMENT, (node, volume)), AttachmentStatus)
    return StatusView(status.phase, _epoch(status, uid)) if isinstance(status, AttachmentStatus) else status


def _unreached(see: See, node: str, volume: str, uid: str) -> int:
    """The epoch that the node can't reach with what it was given, by its own word; 0: it says no such thing."""
    status = _value(see, Key(Family.ATTACHMENT, (node, volume)), AttachmentStatus)
    if not isinstance(status, AttachmentStatus) or status.phase is AttachmentPhase.RELEASED:
        return 0
    says = any((each.type, each.reason) in UNREACHED for each in status.conditions)
    return max(_epoch(status, uid), 0) if says else 0


def _connection(see: See, node: str, volume: str, uid: str) -> ConnectionView | Bad | None:
    connection = _value(see, Key(Family.CONNECTION, (node, volume)), Connection)
    if not isinstance(connection, Connection):
        return connection
    return ConnectionView(_epoch(connection, uid), connection.boot, connection.phase, connection.size_gib)


def _noted(noted: tuple[str, int, str], uid: str) -> ClaimView:
    return ClaimView(noted[1] if not uid or noted[0] == uid else OTHER_UID, noted[2])


def _epoch(value: Claim | AttachmentStatus | Connection, uid: str) -> int:
    """(uid, epoch) names a grant: the epoch of another uid is no epoch of this volume."""
    return value.epoch if not uid or value.uid == uid else OTHER_UID
