"""The words of a summary: states, the facts it is made from, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schema.capacity import Amount
from schema.codec import Malformed
from schema.models import (
    Alive,
    AttachmentSpec,
    AttachmentStatus,
    BackendStatus,
    Claim,
    Condition,
    Connection,
    FenceStatement,
    Holder,
    NodeRecord,
    NodeSpec,
    Verdict,
    VolumeSpec,
    VolumeStatus,
)


class State(StrEnum):
    """Where an attachment stands."""

    PENDING = "Pending"
    """Wished for; nothing was granted yet. Waiting as designed."""
    EXPORTING = "Exporting"
    EXPORTED = "Exported"
    """The node may take it."""
    ATTACHING = "Attaching"
    ATTACHED = "Attached"
    DETACHING = "Detaching"
    RELEASED = "Released"
    """The node is done with it; the controller unmaps next."""
    UNEXPORTING = "Unexporting"
    DETACHED = "Detached"
    """Nothing is wished for and nothing is left. Derived, never stored."""
    UNCERTAIN = "Uncertain"
    """The keys do not say what is so. Nothing is undone on doubt."""
    BLOCKED = "Blocked"
    """Stands until somebody outside of Brickwork acts."""
    FAILED = "Failed"
    """Refused, and not tried again before something is changed."""


class VolumeState(StrEnum):
    """Where a volume stands."""

    PENDING = "Pending"
    CREATING = "Creating"
    AVAILABLE = "Available"
    EXTENDING = "Extending"
    REMOVING = "Removing"
    """The wish is gone; what becomes of the data is not settled yet."""
    RETAINED = "Retained"
    DELETING = "Deleting"
    ABSENT = "Absent"
    UNCERTAIN = "Uncertain"
    BLOCKED = "Blocked"
    FAILED = "Failed"


# --- what is known -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentFacts:
    """The keys around one attachment, decoded. None: the key is absent."""

    node: str
    volume: str
    wish: AttachmentSpec | Malformed | None = None
    generation: int = 0
    """Mod revision of the wish."""
    verdict: Verdict | Malformed | None = None
    holders: tuple[Holder, ...] | Malformed | None = None
    """Everybody who holds the volume: from `volumes/V`, or its twin `grants/V`."""
    connection: Connection | Malformed | None = None
    claim: Claim | Malformed | None = None
    status: AttachmentStatus | Malformed | None = None
    record: NodeRecord | Malformed | None = None
    """`nodes/N`."""
    alive: Alive | Malformed | None = None
    intent: NodeSpec | Malformed | None = None
    """`desired/nodes/N`."""
    fenced: frozenset[str] = frozenset()
    """Boots of the node with a statement in `fences/` or `fenced/`."""
    backend_name: str = ""
    backend: BackendStatus | Malformed | None = None
    led: bool = True
    """Some controller acts for the backend. Without one, what the controller said is but a last word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeFacts:
    """The keys around one volume, decoded."""

    volume: str
    spec: VolumeSpec | Malformed | None = None
    generation: int = 0
    status: VolumeStatus | Malformed | None = None
    verdict: Verdict | Malformed | None = None
    led: bool = True
    """As of an attachment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """The keys around one node, decoded."""

    node: str
    spec: NodeSpec | Malformed | None = None
    generation: int = 0
    record: NodeRecord | Malformed | None = None
    alive: Alive | Malformed | None = None
    verdict: Verdict | Malformed | None = None
    fences: tuple[tuple[str, FenceStatement | Malformed], ...] = ()
    """(boot, statement)."""
    volumes: tuple[str, ...] = ()
    """What the node has, or may have: a holder entry, a claim or a status is there."""
    wished: tuple[str, ...] = ()
    """What it is wished to have."""
    paused: int = 0
    """Attachments that stay although their wishes are gone."""
    left: tuple[str, ...] = ()
    """What is not detached from it: a holder entry, a claim or a status is there."""


# --- what it means -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentSummary:
    """What to tell of an attachment. `waits_for` says who has to act; it is empty only where nothing is to be done."""

    node: str
    volume: str
    state: State
    reason: str
    message: str
    waits_for: str
    set_aside: str | None
    """Who drains the node and why, where that sets the wish aside."""
    since: str | None
    next_try: str | None
    path: str | None
    device: str | None
    identity: str | None
    """The WWID, UUID or file that was verified."""
    paths: str | None
    """Live of all, as in `1/2`."""
    size_bytes: int | None
    """Of the device."""
    mode: str | None
    protocol: str | None
    epoch: int | None
    generation: int
    observed_generation: int
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSummary:
    """What to tell of a volume."""

    volume: str
    state: VolumeState
    reason: str
    message: str
    waits_for: str
    since: str | None
    next_try: str | None
    backend: str | None
    uid: str | None
    size_gib: int | None
    wanted_gib: int | None
    on_delete: str | None
    holders: tuple[str, ...]
    """Nodes with a holder entry of any phase."""
    generation: int
    observed_generation: int
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSummary:
    """What to tell of a node. States: Ready, Cordoned, Draining, Drained, Silent, Fenced, Unknown, Uncertain."""

    node: str
    state: str
    reason: str
    message: str
    waits_for: str
    since: str | None
    boot: str | None
    cordons: dict[str, str]
    drains: dict[str, str]
    fences: tuple[str, ...]
    versions: dict[str, str]
    multipath: bool | None
    """None: it never said."""
    volumes: tuple[str, ...]
    wished: tuple[str, ...]
    left: tuple[str, ...]
    """While it is drained: what is not detached yet."""
    generation: int
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSummary:
    """What to tell of a backend. States: Ready, NotReady, Uncertain."""

    backend: str
    state: str
    reason: str
    message: str
    waits_for: str
    since: str | None
    driver: str | None
    protocol: str | None
    controller: str | None
    capacity: dict[str, Amount]
    """`total_gib` and `free_gib` of all pools together, or a word (`infinite`, `unknown`): whatever else a driver reports stays out
    of sight."""
    orphan_exports: int = 0
    """How many exports the audit found that no record explains."""
    orphans: tuple[str, ...] = ()
    """The first of them, as people may read them."""
