"""The values, one pydantic model for each family of keys.

Users' specs refuse unknown fields (a typo must not pass silently); what daemons write ignores them, so that a newer daemon's
extra field does not stop an older one. Sizes are GiB or bytes as named, times are RFC 3339 in UTC, for people only: nothing
decides by them. `schema` (the version) is added and taken off by the codec.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from schema.bounds import Named, Told
from schema.keys import NAME_PATTERN

Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN.pattern}$")]
JsonObject = dict[str, Any]


class Spec(BaseModel):
    """What a user writes."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, strict=True, ser_json_inf_nan="constants"
    )


class Stored(BaseModel):
    """What a daemon writes."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, ser_json_inf_nan="constants")


# --- wishes --------------------------------------------------------------------------------------------------------------


class VolumeSpec(Spec):
    """`desired/volumes/<volume>`: this volume is to exist."""

    backend: Name
    size_gib: int | None = Field(default=None, ge=1, le=1 << 20)
    """GiB. Left out only with `import`, where the array knows."""
    on_delete: Literal["retain", "delete"] = "retain"
    """What becomes of the data when this key is removed. What was imported is always retained."""
    import_: JsonObject | None = Field(default=None, alias="import", min_length=1)
    """The driver's reference of a volume that exists on the array, e.g. `{"source-name": "lun-7"}`."""

    @model_validator(mode="after")
    def _size_is_known(self) -> VolumeSpec:
        if self.size_gib is None and self.import_ is None:
            raise ValueError("size_gib is needed, unless the volume is imported")
        return self


class AttachmentSpec(Spec):
    """`desired/attachments/<node>/<volume>`: the volume belongs on the node. `{}` is enough."""

    mode: Literal["rw", "ro"] = "rw"
    min_paths: int = Field(default=1, ge=1, le=256)
    """It counts as attached once so many paths to the storage have been live at a time. Fewer later only make it degraded."""
    labels: dict[str, str] = {}


class NodeSpec(Spec):
    """`desired/nodes/<node>`: what is to be with a node as a whole."""

    cordons: dict[Name, str] = {}
    """Label -> reason. While any is there, nothing new is granted to the node; what it has stays."""
    drains: dict[Name, str] = {}
    """Label -> reason. While any is there, the wishes for the node are set aside: what it has is detached too. They stay as they
    are, and count again when the last drain is gone."""
    confirmed_detaches: dict[Name, int] = {}
    """Volume -> epoch: the end of this wish is meant, however many others ended with it. Says nothing of any later epoch."""


def labelled(reasons: Mapping[str, str]) -> str:
    """Cordons or drains for people: `ana: new disk; bob`."""
    return "; ".join(f"{label}: {reason}" if reason else label for label, reason in sorted(reasons.items()))


class DeletionSpec(Spec):
    """`desired/deletions/<volume>`: that the data of this uid goes is meant, however many others go with it."""

    uid: str = Field(min_length=1)
    gone: bool = False
    """It is known that the storage has the volume no more: where the driver can't find it, its deletion counts as done."""


Proof = Literal["statement", "powered_off"]
"""What a fence rests on. `statement`: this boot can no longer write, once the array cuts its access. `powered_off`: this boot is
over, the host was off or was reset since; so it holds for arrays that can't cut access as well."""


class FenceStatement(Spec):
    """`fences/<node>/<boot>`: a statement that this boot of the node can no longer write. Never taken back and never
    weakened; once it may be raised from `statement` to `powered_off` (docs/decisions/0009)."""

    who: str = Field(min_length=1)
    why: str = Field(min_length=1)
    evidence: str = Field(min_length=1)
    at: str = ""
    proof: Proof = "statement"
    earlier: FenceStatement | None = None
    """What it said before it was raised."""
    host_identity: str | None = None
    """In the controller's copy: whose boot it was, by the grant that was taken back."""


# --- what nodes say ------------------------------------------------------------------------------------------------------


class NodeRecord(Stored):
    """`nodes/<node>`: which host the node is, in which boot, and how storage reaches it."""

    boot: str
    host_identity: str | None = None
    """Of the host that is this node: no other one publishes, or speaks for its boots (PROTOCOL R17)."""
    connector: JsonObject
    multipath: bool = False
    versions: dict[str, str] = {}
    public_key: str | None = None


class Alive(Stored):
    """`alive/<node>`: lease-bound; liveness only."""

    boot: str
    since: str
    rival: str = ""
    """Another host that takes itself for this node, as it calls itself. It may not act."""


class Claim(Stored):
    """`claims/<node>/<volume>`: the node uses, or is about to use, this epoch. Never on a lease."""

    uid: str
    epoch: int
    boot: str
    host_identity: str | None = None
    """Of the host whose boot it is; older versions did not say."""


class AttachmentPhase(StrEnum):
    ATTACHING = "Attaching"
    ATTACHED = "Attached"
    RELEASED = "Released"


ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(Stored):
    """One thing to know about an object. `reason` is CamelCase and stable; `message` is for people and holds no secret."""

    type: str
    status: ConditionStatus
    reason: str
    message: Told
    since: str
    observed_generation: int = 0


class AttachmentStatus(Stored):
    """`attachments/<node>/<volume>`: what the node sees. `phase` and `epoch` are the protocol's; the rest is for users."""

    phase: AttachmentPhase
    uid: str
    epoch: int
    boot: str
    host_identity: str | None = None
    """As in `Claim`."""
    since: str = ""
    """When the phase of this epoch began, for people. Empty: a daemon wrote it that did not know."""
    generation: int = 0
    """Mod revision of the wish that this answers."""
    connected: bool = False
    attached: bool = False
    protocol: str | None = None
    path: str | None = None
    """The stable link. Users use this."""
    device: str | None = None
    identity: str | None = None
    size_bytes: int | None = None
    read_only: bool = False
    paths_live: int | None = None
    paths_total: int | None = None
    min_paths_reached: bool = False
    """The wish's `min_paths` were live at some time since the device was connected."""
    conditions: tuple[Condition, ...] = ()
    next_try: str | None = None


# --- what the controller says --------------------------------------------------------------------------------------------


class Orphan(Stored):
    """An export at the array that no record explains: of which volume (its uid), and whom it lets in, as far as is known."""

    uid: Named
    client: Named | None = None
    volume: str | None = None


class BackendStatus(Stored):
    """`backends/<backend>`: ready, or why not."""

    ready: bool
    reason: str = "Ready"
    message: Told = ""
    driver: str
    protocol: Named | None = None
    capabilities: JsonObject = {}
    capacity: JsonObject = {}
    """The first pools by name, `pools_left_out`: how many more there are, and `total_gib`, `free_gib` of all together."""
    storage: str = ""
    """The mark of the storage that this controller finds; empty where that can't be told."""
    orphan_exports: int = 0
    """How many exports the last audit found that no record explains. Reported, never touched."""
    orphans: tuple[Orphan, ...] = ()
    """The first of them."""
    controller: str = ""
    since: str = ""


class BackendStorage(Stored):
    """`storage/<backend>`: the storage that the backend's volumes are on. Noted when the backend is first opened; a controller that
    has another storage neither leads nor overwrites this. A person may (`brickctl accept`)."""

    mark: str
    """One id, or several with commas between (`core.storage`)."""
    noted_by: str = ""
    at: str = ""


class HolderPhase(StrEnum):
    EXPORTING = "exporting"
    READY = "ready"
    REVOKED = "revoked"


class Entry(Stored):
    """A part of a list in a value, which is copied as a whole: with what a newer program wrote into it."""

    model_config = ConfigDict(extra="allow")


class Holder(Entry):
    """One node's grant. (uid, epoch) names it for ever; an epoch belongs to one boot of one host."""

    node: str
    epoch: int
    boot: str
    host_identity: str | None = None
    """As in `nodes/N` when it was granted."""
    phase: HolderPhase
    mode: Literal["rw", "ro"] = "rw"
    connector: JsonObject = {}
    """The connector properties that the export was made with: its termination needs the same."""


class Grant(Stored):
    """`grants/<volume>`: who may use the volume. Lives as long as the record; with nobody it says `holders: []`."""

    uid: str
    holders: tuple[Holder, ...] = ()


class VolumePhase(StrEnum):
    CREATING = "Creating"
    AVAILABLE = "Available"
    EXTENDING = "Extending"
    RETAINED = "Retained"
    DELETING = "Deleting"


class VolumeStatus(Stored):
    """`volumes/<volume>`: the controller's observation, and the second copy of the holder list (PROTOCOL R8)."""

    uid: str
    backend: str
    phase: VolumePhase
    since: str = ""
    """When the phase began, for people."""
    size_gib: int
    asked_gib: int | None = None
    """What was asked for to get it; None: not known. A wish for less than this, and less than there is, is refused."""
    generation: int = 0
    on_delete: Literal["retain", "delete"] | None = None
    """What becomes of the data once the wish is gone, as far as that is noted: by the wish of this generation."""
    holders: tuple[Holder, ...] = ()


class Connection(Stored):
    """`connections/<node>/<volume>`: the node's own view of its holder entry, and how to reach the volume."""

    uid: str
    epoch: int
    boot: str
    host_identity: str | None = None
    """As in `Holder`."""
    phase: Literal[HolderPhase.READY, HolderPhase.REVOKED]
    mode: Literal["rw", "ro"] = "rw"
    conn_info: JsonObject | None = None
    """May hold secrets. Taken out when revoked."""
    size_bytes: int | None = None
    size_gib: int | None = None
    """What the volume measured when this was written: where it grew, the node has to tell its device."""
    identity: str | None = None
    rounded: bool = False
    """`size_gib` is rounded up: an imported volume may have less than its last GiB."""


class Intent(StrEnum):
    """What the driver may be in the middle of with the volume itself."""

    CREATE = "create"
    IMPORT = "import"
    EXTEND = "extend"
    DELETE = "delete"


class ExportIntent(Entry):
    """An export that is not known to be undone: in `records/` from the grant until its termination returned."""

    node: str
    epoch: int
    mode: Literal["rw", "ro"] = "rw"
    connector: JsonObject = {}


class Record(Stored):
    """`records/<volume>`: the driver's own data, and the intents not yet known to be undone. Private to the controller."""

    uid: str
    backend: str
    size_gib: int
    """What the volume measures as far as is known. 0 while an import has not been measured."""
    asked_gib: int | None = None
    """What was asked for when it was made, taken over or extended last: arrays may make it larger. None: not known."""
    imported: bool = False
    on_delete: Literal["retain", "delete"] = "retain"
    intent: Intent | None = None
    target_gib: int | None = None
    """What an extension is to reach."""
    reference: JsonObject | None = None
    """The array's name of an imported volume."""
    heard: int = 0
    """Revision of the last change of its wish that this rests on: of the wish in force, or of its end. 0: not known."""
    ended: bool = False
    """That change was the wish's end, and `on_delete` is what its last value said."""
    unproven: bool = False
    """With the intent to delete: it was not looked at yet whether the wish changed right before."""
    exports: tuple[ExportIntent, ...] = ()
    model: JsonObject = {}

    @property
    def goes_with_its_wish(self) -> bool:
        """Its data is deleted once nobody wishes for it or holds it; and this has not begun."""
        return self.on_delete == "delete" and not self.imported and self.intent is not Intent.DELETE


class Verdict(Stored):
    """`verdicts/<family>/<name…>`: what the controller has to say on one user's key while that is not plain sailing."""

    generation: int
    conditions: tuple[Condition, ...]
    next_try: str | None = None


class Leader(Stored):
    """`leaders/<backend>`: who acts for a backend. Lease-bound; written by `runtime.election`."""

    identity: str
    host: str = ""
    since: float = 0.0
    """Seconds since 1970, for people."""
    ttl_s: int = 0
