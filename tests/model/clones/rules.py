"""What decides: the production planners and rules of ownership, on pictures of the searched state. Variants override a method."""

from __future__ import annotations

from functools import cache

from pydantic import BaseModel

from reconciler.core.ownership import Look, Others, Ownership, ThisHost, others, ownership
from reconciler.core.plan_node import leaves_trace, plan_boot, plan_node
from reconciler.core.plan_volume import plan_volume
from reconciler.core.steps import Step
from reconciler.core.views import (
    AttachmentView,
    BackendView,
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
from schema.keys import Family, Key
from schema.models import (
    AttachmentPhase,
    AttachmentStatus,
    Claim,
    Connection,
    FenceStatement,
    HolderPhase,
    NodeRecord,
    Proof,
)
from tests.model.clones.state import (
    EXPORTED,
    POWERED_OFF,
    TERMINATED,
    UNEXPORTED,
    Boot,
    Copies,
    Fences,
    Host,
    Identity,
    Keys,
)

NODE, VOLUME = "N", "V"
ON_HOST = (OnHost.UNKNOWN, OnHost.ABSENT, OnHost.PRESENT)
HOLDER_PHASES: tuple[HolderPhase, ...] = (HolderPhase.EXPORTING, HolderPhase.READY, HolderPhase.REVOKED)
CONNECTION_PHASES = (None, HolderPhase.READY, HolderPhase.REVOKED)
STATUS_PHASES = (AttachmentPhase.ATTACHING, AttachmentPhase.ATTACHED, AttachmentPhase.RELEASED)
_NODE_KEY = Key(Family.NODE, (NODE,))


class Rules:
    """Those in force."""

    waits_for_sign_of_life = True
    """A host that may be the node acts only once `alive/N` is its own."""
    folder_is_checked = True
    """A state folder of another identity stops the daemon, unless a person gave the word."""
    latches = False
    """A host that met another one alive as the node remembers that in its state folder, and waits for a person."""
    logs_in_by_itself = False
    """Hosts bring back at power on what was connected, and no daemon is asked."""

    def __init__(self) -> None:
        self._node: dict[tuple[object, ...], tuple[Step | None, Step | None, str]] = {}
        self._volume: dict[tuple[Keys, int], Step | None] = {}

    # --- what a variant replaces

    def identity(self, host: Host) -> Identity:
        return host.identity

    def ownership(self, look: Look, this: ThisHost, keys: Keys) -> Ownership:
        return ownership(look, NODE, this, None)

    def others(self, look: Look, boot: str, this: ThisHost) -> Others:
        return others(look, NODE, VOLUME, boot, this)

    def may_put_alive(self, fault: str) -> bool:
        return not fault

    def reviving(self, keys: Keys) -> tuple[str, ...]:
        """As `reading` makes it of the copies."""
        host = keys.node[1] if keys.node else 0
        weak = [
            (boot, of) for boot, proof, of in keys.fenced if POWERED_OFF not in (proof, dict(keys.fences).get(boot))
        ]
        return tuple(f"b{boot}" for boot, of in weak if host and of != host)

    # --- asked by the world

    def for_host(self, keys: Keys, host: Host) -> tuple[Step | None, Step | None, str]:
        """The step for the attachment, that for the node, and why this host is not the node."""
        asked = (keys, host.identity, host.boot, host.know, host.word, host.latched)
        if asked not in self._node:
            self._node[asked] = self._plan(keys, host)
        return self._node[asked]

    def _plan(self, keys: Keys, host: Host) -> tuple[Step | None, Step | None, str]:
        look = looking(keys)
        this = ThisHost(named(self.identity(host)), frozenset(), word=host.word)
        own = self.ownership(look, this, keys)
        fault = own.fault or ("it met another host that lived as the node" if host.latched and not host.word else "")
        theirs = self.others(look, f"b{host.boot}", this)
        view = AttachmentView(
            node=NODE,
            volume=VOLUME,
            boot=f"b{host.boot}",
            published=keys.node is not None and keys.node[0] == host.boot,
            fenced=any(boot == host.boot for boot, _ in keys.fences),
            foreign=bool(fault),
            theirs=theirs.families,
            fences=theirs.fences,
            wish=Wish("rw") if keys.wish else None,
            connection=_connection(keys),
            claim=keys.claim and ClaimView(keys.claim[0], f"b{keys.claim[1]}"),
            status=keys.status and StatusView(STATUS_PHASES[keys.status[0]], keys.status[1]),
            device=ON_HOST[host.know],
        )
        step = plan_node(view)
        boot = plan_boot(
            published=keys.node == (host.boot, self.identity(host)),
            fenced=view.fenced,
            traces=int(leaves_trace(view)),
            claims=int(view.fenced and step is not None),
            foreign=view.foreign,
        )
        return step, boot, fault

    def for_volume(self, keys: Keys, marks: int) -> Step | None:
        asked = (keys, marks)
        if asked not in self._volume:
            self._volume[asked] = plan_volume(volume_view(keys, marks, self.reviving(keys))).step
        return self._volume[asked]


def named(identity: Identity) -> str:
    return f"host={identity}"


def looking(keys: Keys) -> Look:
    """The keys as the rules of ownership see them."""
    fences = dict(keys.fences)

    def look(key: Key) -> BaseModel | None:
        match key.family:
            case Family.NODE:
                return _record(*keys.node) if keys.node else None
            case Family.CLAIM:
                return _claim(*keys.claim) if keys.claim else None
            case Family.CONNECTION:
                return _stored_connection(*keys.connection) if keys.connection else None
            case Family.ATTACHMENT:
                return _status(*keys.status) if keys.status else None
            case _:
                return _fence(fences[boot]) if (boot := int(key.names[1][1:])) in fences else None

    return look


@cache
def _record(boot: Boot, identity: Identity) -> NodeRecord:
    return NodeRecord(boot=f"b{boot}", connector={}, host_identity=named(identity))


@cache
def _claim(epoch: int, boot: Boot, identity: Identity) -> Claim:
    return Claim(uid="u", epoch=epoch, boot=f"b{boot}", host_identity=named(identity))


@cache
def _stored_connection(epoch: int, boot: Boot, identity: Identity, phase: int) -> Connection:
    stored = CONNECTION_PHASES[phase]
    assert stored is not None
    return Connection(uid="u", epoch=epoch, boot=f"b{boot}", host_identity=named(identity), phase=stored)


@cache
def _status(phase: int, epoch: int, boot: Boot, identity: Identity) -> AttachmentStatus:
    return AttachmentStatus(
        phase=STATUS_PHASES[phase], uid="u", epoch=epoch, boot=f"b{boot}", host_identity=named(identity)
    )


def _proof(proof: int) -> Proof:
    return "powered_off" if proof == POWERED_OFF else "statement"


@cache
def _fence(proof: int) -> FenceStatement:
    return FenceStatement(who="ana", why="w", evidence="e", proof=_proof(proof))


def _connection(keys: Keys) -> ConnectionView | None:
    if keys.connection is None:
        return None
    epoch, boot, _, phase = keys.connection
    return ConnectionView(epoch, f"b{boot}", HOLDER_PHASES[phase], 1)


def _proofs(fences: Fences | Copies) -> dict[str, Proof]:
    return {f"b{each[0]}": _proof(each[1]) for each in fences}


def volume_view(keys: Keys, marks: int, reviving: tuple[str, ...]) -> VolumeView:
    grant = keys.grant
    holders = (HolderView(NODE, grant[0], f"b{grant[1]}", HOLDER_PHASES[grant[3]]),) if grant else ()
    marked = frozenset({grant[0]}) if grant else frozenset()
    node = NodeView(
        wish=Wish("rw", 1) if keys.wish else None,
        boot=f"b{keys.node[0]}" if keys.node else None,
        alive=keys.alive is not None,
        fences=_proofs(keys.fences),
        fenced=_proofs(keys.fenced),
        reviving=reviving,
        claim=keys.claim and ClaimView(keys.claim[0], f"b{keys.claim[1]}"),
        status=keys.status and StatusView(STATUS_PHASES[keys.status[0]], keys.status[1]),
        connection=_connection(keys),
    )
    return VolumeView(
        volume=VOLUME,
        spec=SpecView("array", 1, generation=1),
        record=RecordView("u", "array", 1),
        holders=holders,
        mirror=holders,
        phase="Available",
        generation=1,
        nodes={NODE: node},
        backend=BackendView(cuts_access=True),
        exported=marked if marks & EXPORTED else frozenset(),
        terminated=marked if marks & TERMINATED else frozenset(),
        unexported=marked if marks & UNEXPORTED else frozenset(),
    )
