"""How the fleet should look when it has settled, and how it does.

What is due follows from the wishes alone, every trace included, and nothing of a run's history is in it (epochs, boots, uids,
times). So a run that ends as it should ends as the undisturbed one does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel

from schema.keys import Family, Key
from schema.models import (
    AttachmentPhase,
    AttachmentSpec,
    AttachmentStatus,
    BackendStatus,
    Claim,
    Connection,
    Grant,
    Record,
    Verdict,
    VolumePhase,
    VolumeSpec,
    VolumeStatus,
)
from tests.fakes.array import GIB
from tests.sim import invariants

Values = Mapping[Key, BaseModel]


class Hosts(invariants.Hosts, Protocol):
    """What is to be seen of hosts and arrays in the end."""

    def size_gib(self, node: str, uid: str) -> int:
        """What the node's device of this volume measures; 0: it has none."""
        ...

    def extends_online(self) -> bool:
        """Whether the arrays extend what is attached."""
        ...


@dataclass(frozen=True)
class Attachment:
    """Every trace that an attachment leaves."""

    granted: str
    connection: str
    claimed: bool
    said: str
    device_gib: int
    """0: there is none."""
    mapped: bool
    mode: str


NOTHING = Attachment("", "", False, "", 0, False, "")


def unsettled(values: Values, hosts: Hosts, nodes: Iterable[str], backends: Iterable[str]) -> list[str]:
    """What is not as it should be, one line each. Empty: the fleet has settled."""
    faults: list[str] = []
    volumes = {key.names[0] for key in values if key.family in (Family.DESIRED_VOLUME, Family.RECORD, Family.GRANT)}
    volumes |= {key.volume for key in values if key.volume}
    for volume in sorted(volumes):
        faults += _volume_faults(values, volume, online=hosts.extends_online())
        for node in nodes:
            wished = _wished(values, node, volume)
            there, due = seen(values, hosts, node, volume), wished or NOTHING
            if there != due:
                faults.append(f"{node}/{volume}: {_difference(there, due)}")
    faults += [f"nodes/{node} does not say its boot" for node in nodes if not _published(values, hosts, node)]
    faults += _verdict_faults(values)
    return faults + [f"backends/{name} does not say ready" for name in backends if not _ready(values, name)]


FOR_THE_USER = ("ExtendWaitsForDetach", "ModeDiffers")
"""Reasons of verdicts that stay until the user does something."""


def _verdict_faults(values: Values) -> list[str]:
    return [
        f"{key.family.path}/{'/'.join(key.names)} says {value.conditions[0].reason}"
        for key, value in values.items()
        if isinstance(value, Verdict) and value.conditions[0].reason not in FOR_THE_USER
    ]


def _ready(values: Values, backend: str) -> bool:
    status = values.get(Key(Family.BACKEND, (backend,)))
    return isinstance(status, BackendStatus) and status.ready


def _wished(values: Values, node: str, volume: str) -> Attachment | None:
    wish = values.get(Key(Family.DESIRED_ATTACHMENT, (node, volume)))
    if not isinstance(wish, AttachmentSpec) or Key(Family.DESIRED_VOLUME, (volume,)) not in values:
        return None
    verdict = values.get(Key(Family.VERDICT_ATTACHMENT, (node, volume)))
    mode = wish.mode
    if isinstance(verdict, Verdict) and verdict.conditions[0].reason == "ModeDiffers":
        mode = "rw" if wish.mode == "ro" else "ro"
    record = values.get(Key(Family.RECORD, (volume,)))
    size_gib = record.size_gib if isinstance(record, Record) else 0
    return Attachment("ready", "ready", True, "Attached", size_gib, True, mode)


def seen(values: Values, hosts: Hosts, node: str, volume: str) -> Attachment:
    """One attachment as it is. An epoch that does not fit shows as a question mark."""
    pair = (node, volume)
    record, grant = values.get(Key(Family.RECORD, (volume,))), values.get(Key(Family.GRANT, (volume,)))
    uid = record.uid if isinstance(record, Record) else ""
    holders = [h for h in grant.holders if h.node == node] if isinstance(grant, Grant) else []
    holder = holders[0] if holders else None
    epoch = holder.epoch if holder else 0
    connection, claim = values.get(Key(Family.CONNECTION, pair)), values.get(Key(Family.CLAIM, pair))
    status = values.get(Key(Family.ATTACHMENT, pair))
    said, size_gib = "", hosts.size_gib(node, uid)
    if isinstance(status, AttachmentStatus):
        said = status.phase.value
        if status.phase is AttachmentPhase.ATTACHED and status.epoch != epoch:
            said += "?"
        elif status.conditions:
            said += f" ({status.conditions[0].reason})"
        elif status.phase is AttachmentPhase.ATTACHED and status.size_bytes != size_gib * GIB:
            said += f" ({status.size_bytes} bytes)"
    return Attachment(
        granted=holder.phase.value if holder else "",
        connection=connection.phase.value if isinstance(connection, Connection) else "",
        claimed=isinstance(claim, Claim),
        said=said,
        device_gib=size_gib,
        mapped=node in hosts.mapped(uid),
        mode=holder.mode if holder else "",
    )


def _difference(there: Attachment, due: Attachment) -> str:
    names = Attachment.__dataclass_fields__
    return ", ".join(
        f"{name} is {getattr(there, name)!r}, not {getattr(due, name)!r}"
        for name in names
        if getattr(there, name) != getattr(due, name)
    )


def _volume_faults(values: Values, volume: str, *, online: bool) -> list[str]:
    spec, record = values.get(Key(Family.DESIRED_VOLUME, (volume,))), values.get(Key(Family.RECORD, (volume,)))
    status = values.get(Key(Family.VOLUME, (volume,)))
    grant = values.get(Key(Family.GRANT, (volume,)))
    if not isinstance(record, Record):
        left = [name for name, value in (("volumes", status), ("grants", grant)) if value is not None]
        faults = [f"{name}/{volume} is there without a record" for name in left]
        return faults + ([f"volume {volume} was never made"] if spec is not None else [])
    faults = []
    held = isinstance(grant, Grant) and bool(grant.holders)
    if record.intent is not None:
        faults.append(f"volume {volume}: the intent {record.intent.value!r} is open")
    if not isinstance(grant, Grant) or len(record.exports) != len(grant.holders):
        faults.append(f"volume {volume}: {len(record.exports)} export intents, holders {grant}")
    if spec is None and record.on_delete == "delete" and not record.imported:
        faults.append(f"volume {volume} was to be deleted")
    due = VolumePhase.AVAILABLE if spec is not None else VolumePhase.RETAINED
    if not isinstance(status, VolumeStatus) or status.phase is not due:
        faults.append(f"volume {volume} is not {due.value}: {getattr(status, 'phase', None)}")
    least = min(record.asked_gib or record.size_gib, record.size_gib)
    if (
        isinstance(spec, VolumeSpec)
        and (online or not held)
        and not least <= (spec.size_gib or least) <= record.size_gib
    ):
        faults.append(f"volume {volume} measures {record.size_gib} GiB, not {spec.size_gib}")
    return faults


def _published(values: Values, hosts: Hosts, node: str) -> bool:
    return getattr(values.get(Key(Family.NODE, (node,))), "boot", None) == hosts.boot(node)
