"""The daemons' own planners on the live keys, for `explain`: what happens next, as they would decide it now.

What only the daemons know is taken as follows: a controller's memory of returned calls as empty (they are repeated, and
idempotent); a device as the node last told; a driver's refusal and an identifier's double from the verdict.
"""

from __future__ import annotations

from dataclasses import replace

from client import facts
from client.known import Known, Reader
from reconciler.core.mass import DELETES_PAUSED, DETACHES_PAUSED
from reconciler.core.ownership import ThisHost
from reconciler.core.plan_node import plan_node
from reconciler.core.plan_volume import plan_volume
from reconciler.core.reading import Around, Memory, attachment_view, volume_view
from reconciler.core.steps import Plan, Step
from reconciler.core.views import BackendView, OnHost
from schema.keys import CLUSTER, Family, Key
from schema.models import (
    AttachmentPhase,
    AttachmentStatus,
    BackendStatus,
    Grant,
    Leader,
    NodeRecord,
    Verdict,
    VolumeSpec,
    VolumeStatus,
)

PRIVATE = (Family.GRANT, Family.RECORD, Family.CONNECTION)
"""What the planners need beyond what every user may read. Never shown."""


def read_volume(reader: Reader, volume: str) -> tuple[Known, list[str]]:
    """A volume with everything around it, at one revision; and the nodes that any key on it names."""
    listed = reader.families(*facts.PAIR_FAMILIES)
    nodes = {key.names[0] for key in listed.keys(*facts.PAIR_FAMILIES) if key.names[1] == volume}
    own = [Key(family, (volume,)) for family in (Family.VOLUME, Family.GRANT)]
    nodes |= _holders(reader.together(own), volume)
    keys = [*facts.volume_keys(volume), *own, Key(Family.RECORD, (volume,))]
    for node in sorted(nodes):
        keys += [
            *facts.keys_around(node, volume),
            Key(Family.CONNECTION, (node, volume)),
        ]
    known = reader.together(keys)
    for node in nodes:
        for family in (Family.FENCE, Family.FENCED):
            reader.more(known, family, node)
    return reader.together(facts.keys_above(known, volume), known), sorted(nodes)


def _holders(known: Known, volume: str) -> set[str]:
    found: set[str] = set()
    for value in (
        known.value(Key(Family.VOLUME, (volume,)), VolumeStatus),
        known.value(Key(Family.GRANT, (volume,)), Grant),
    ):
        if isinstance(value, VolumeStatus | Grant):
            found |= {holder.node for holder in value.holders}
    return found


def controller_plan(known: Known, volume: str, nodes: list[str]) -> Plan:
    """What the controller would do and say now."""
    around = Around(
        names=nodes,
        twin=lambda node, _backend: _twin(known, node, volume),
        fences=lambda family, node: frozenset(key.names[1] for key in known.below(node, family)),
        deletion_paused=lambda _: facts.says(known, Key(Family.VERDICT_VOLUME, (volume,)), DELETES_PAUSED),
        alive=lambda node: known.see(Key(Family.ALIVE, (node,))) is not None or Family.ALIVE in known.denied,
    )
    return plan_volume(volume_view(known.see, volume, around, _backend(known, volume), _memory(known, volume)))


def _twin(known: Known, node: str, volume: str) -> str | None:
    told = facts.says(known, Key(Family.VERDICT_ATTACHMENT, (node, volume)), "DuplicateInitiator")
    return "another node" if told else None


def _backend(known: Known, volume: str) -> BackendView:
    name = facts.backend_of(known, volume)
    status = known.value(Key(Family.BACKEND, (name,)), BackendStatus) if name else None
    if not isinstance(status, BackendStatus):
        return BackendView(ready=False, known=False, fault="no controller has told of it")
    can = status.capabilities
    return BackendView(
        status.ready or leader(known, name) is None,  # what would be next; that nobody leads is told besides
        status.message or status.reason,
        extends=can.get("extend") is not False,
        extends_online=can.get("extend_online") is True,
        imports=can.get("manage_existing") is not False,
        cuts_access=cuts_access(known, name),
    )


def cuts_access(known: Known, backend: str) -> bool:
    """Whether the backend is known to cut off a host that still has the device."""
    status = known.value(Key(Family.BACKEND, (backend,)), BackendStatus) if backend else None
    return isinstance(status, BackendStatus) and status.capabilities.get("cuts_access") is True


def _memory(known: Known, volume: str) -> Memory:
    verdict = known.value(Key(Family.VERDICT_VOLUME, (volume,)), Verdict)
    if not isinstance(verdict, Verdict):
        return Memory()
    said = [each.message for each in verdict.conditions if each.reason in ("Refused", "ExtendRefused")]
    spec = known.value(Key(Family.DESIRED_VOLUME, (volume,)), VolumeSpec)
    size_gib = spec.size_gib if isinstance(spec, VolumeSpec) else None
    return Memory(refused=said[0] if said else "", refused_generation=verdict.generation, refused_gib=size_gib or 0)


def node_step(known: Known, node: str, volume: str) -> Step | None:
    """What the node would do now."""
    record = known.value(Key(Family.NODE, (node,)), NodeRecord)
    if not isinstance(record, NodeRecord):
        return None
    status = known.value(Key(Family.ATTACHMENT, (node, volume)), AttachmentStatus)
    there = isinstance(status, AttachmentStatus) and (status.phase is AttachmentPhase.ATTACHED or status.connected)
    this = ThisHost(record.host_identity) if record.host_identity else None
    device = OnHost.PRESENT if there else OnHost.ABSENT
    view = attachment_view(known.see, node, volume, record.boot, device, this=this)
    paused = facts.says(known, Key(Family.ATTACHMENT, (node, volume)), DETACHES_PAUSED) if view.wish is None else ""
    return plan_node(replace(view, paused=paused))


def leader(known: Known, backend: str) -> Leader | None:
    """The controller that acts for a backend; for what belongs to none, the cluster's."""
    found = known.value(Key(Family.LEADER, (backend or CLUSTER,)), Leader)
    return found if isinstance(found, Leader) else None
