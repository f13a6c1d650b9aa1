"""What the planners look at: small immutable pictures of the keys, nothing else.

A value that can't be read is not an absent one (S13): where it matters it is `BAD` here, and leads to waiting, never to undoing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from schema.keys import Family, Key
from schema.models import AttachmentPhase, HolderPhase, Intent, Proof


class Bad(NamedTuple):
    """A key that is there but can't be read, and why."""

    fault: str


class Wish(NamedTuple):
    """A readable attachment wish. `order`: create revision, the first come is the first served."""

    mode: str
    order: int = 0


class HolderView(NamedTuple):
    node: str
    epoch: int
    boot: str
    phase: HolderPhase
    mode: str = "rw"


class ClaimView(NamedTuple):
    epoch: int
    boot: str


class StatusView(NamedTuple):
    phase: AttachmentPhase
    epoch: int


class ConnectionView(NamedTuple):
    epoch: int
    boot: str
    phase: HolderPhase
    size_gib: int | None = None
    """Of the volume when it was written; None: it does not say."""


# --- the controller's side -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node, as far as one volume is concerned."""

    wish: Wish | Bad | None = None
    boot: str | Bad | None = None
    """The boot in `nodes/N`."""
    alive: bool = True
    """A hint that keeps grants from nodes that are away. Never an argument for taking something back."""
    cordon: str | None = None
    drain: str = ""
    """Who drains the node, and why. While anybody does, its wishes are set aside: they are there, and nobody acts on them."""
    fences: Mapping[str, Proof] = field(default_factory=dict)
    """Boots with an operator's statement, and what it rests on."""
    fenced: Mapping[str, Proof] = field(default_factory=dict)
    """Boots with the controller's own copy of such a statement."""
    reviving: tuple[str, ...] = ()
    """Boots of another host of this name, cut off on somebody's word alone: the next export would let their devices in again."""
    twin: str | None = None
    """Another node that published an identifier of this one, and which: `"web-2 (initiator)"`."""
    claim: ClaimView | Bad | None = None
    status: StatusView | Bad | None = None
    connection: ConnectionView | Bad | None = None
    unreached: int = 0
    """The epoch of which the node says that what it was given was refused, or does not answer; 0: of none."""

    @property
    def wished(self) -> bool:
        """There is a wish, readable or not, and it is not set aside."""
        return self.wish is not None and not self.drain

    def is_fenced(self, boot: str) -> bool:
        return boot in self.fences or boot in self.fenced


@dataclass(frozen=True, slots=True)
class SpecView:
    """A readable volume wish."""

    backend: str
    size_gib: int | None
    on_delete: str = "retain"
    imports: str | None = None
    """The import reference as canonical JSON."""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class RecordView:
    uid: str
    backend: str
    size_gib: int
    intent: Intent | None = None
    target_gib: int | None = None
    on_delete: str = "retain"
    imported: bool = False
    imports: str | None = None
    asked_gib: int | None = None
    """What was asked for to get `size_gib`: arrays may make it larger."""
    heard: int = 0
    """Revision of the last change of its wish that the record speaks of; 0: not known."""
    ended: bool = False
    """That change is the wish's end, and `on_delete` is what the last value said."""
    unproven: bool = False
    """Its deletion is intended, and nobody has looked since whether the wish changed right before."""
    orphans: tuple[str, ...] = ()
    """Nodes with an export intent but no holder entry: reported, never touched."""


class LastWish(NamedTuple):
    """What the store's history tells of a wish that is gone: its last value, and the revision of its end."""

    spec: SpecView | Bad | None = None
    """None: the history does not go back to it any more."""
    revision: int = 0


class BackendView(NamedTuple):
    """The backend as this controller has it now. `fault` says why it is not ready."""

    ready: bool = True
    fault: str = ""
    extends: bool = True
    extends_online: bool = False
    """Also while somebody holds the volume."""
    imports: bool = True
    known: bool = True
    """False: no controller serves a backend of this name."""
    cuts_access: bool = False
    """A host that still has the device can't write any more once `terminate_connection` returned. Not known: no."""


@dataclass(frozen=True, slots=True)
class VolumeView:
    """Everything the controller knows of one volume."""

    volume: str
    spec: SpecView | Bad | None = None
    record: RecordView | Bad | None = None
    holders: tuple[HolderView, ...] | Bad | None = None
    """`grants/V`; None when the key is missing."""
    mirror: tuple[HolderView, ...] | Bad | None = None
    """The holder list in `volumes/V`."""
    phase: str = ""
    """The phase in `volumes/V`, and the generation it answered."""
    generation: int = 0
    nodes: Mapping[str, NodeView] = field(default_factory=dict)
    backend: BackendView = field(default_factory=BackendView)
    exported: frozenset[int] = frozenset()
    """Epochs whose `create_export` returned in this life of the worker."""
    terminated: frozenset[int] = frozenset()
    """Epochs whose `terminate_connection` returned in this life of the worker."""
    unexported: frozenset[int] = frozenset()
    """Epochs after whose termination nothing of the export is left."""
    lost: frozenset[int] = frozenset()
    """Epochs whose export the audit did not find at the driver."""
    refused: str = ""
    """A terminal answer of the driver to the volume's present spec."""
    refused_gib: int = 0
    """The size that it refused to extend the volume to, whatever the spec said then; 0: none since this was last intended."""
    deletion_paused: str = ""
    """Why its data stays although its wish is gone (`core.mass`)."""
    deletion_confirmed: bool = False
    """Somebody answered the question for the data of a volume whose last wish is not known: it may go."""
    last: LastWish | None = None
    """Asked of the store's history where it matters (`core.volume_wish`); None: it was not asked."""
    proven: bool = False
    """The wish did not change between the record's word on it and the record's own last change."""


# --- the node's side -----------------------------------------------------------------------------------------------------


class OnHost(Enum):
    """Whether a device of this volume is on the host. The node sees *whether*, never of which epoch."""

    UNKNOWN = "unknown"
    ABSENT = "absent"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class AttachmentView:
    """Everything the node knows of one volume."""

    node: str
    volume: str
    boot: str
    """My present boot."""
    published: bool = True
    """`nodes/N` says this boot."""
    fenced: bool = False
    """`fences/N/<my boot>` is there."""
    foreign: bool = False
    """`nodes/N` names another host: this one is not the node."""
    theirs: frozenset[Family] = frozenset()
    """Keys of a boot of another host, which is not known to be over: nobody here speaks for it."""
    fences: tuple[Key, ...] = ()
    """Those that end such boots, so that this host may speak for them."""
    drain: str = ""
    """As in `NodeView`."""
    wish: Wish | Bad | None = None
    connection: ConnectionView | Bad | None = None
    claim: ClaimView | Bad | None = None
    status: StatusView | Bad | None = None
    device: OnHost = OnHost.UNKNOWN
    noted: ClaimView | None = None
    """What the node's own note on its disk says of the device, should all keys be lost."""
    size_gib: int | None = None
    """Of the volume when its device here was made, or extended."""
    paused: str = ""
    """Why it stays although its wish is gone (`core.mass`)."""
    note_fault: str = ""
    """Why its note can't be read: then nobody knows what is to be undone."""
    paths_to_add: bool = False
    """Paths of the device are missing whose portals answer, and it is time to try."""

    @property
    def wished(self) -> bool:
        """There is a wish, readable or not, and it is not set aside."""
        return self.wish is not None and not self.drain

    @property
    def unreadable(self) -> bool:
        """A key of ours can't be read."""
        return any(isinstance(key, Bad) for key in (self.connection, self.claim, self.status))


OTHER_UID: Final = -1
"""The epoch shown to a planner for a key that belongs to another life of the name (another uid)."""
