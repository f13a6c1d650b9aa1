"""Objects as `-o json|yaml|jsonpath` show them, and as manifests may give them back: kind, names, spec; and the status.

What is shown is listed here, field by field. Keys hold things that are nobody's business (connectors, drivers' data): nothing
gets out by being left in.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from pydantic import BaseModel

from schema.models import Condition, NodeRecord, Spec
from schema.summary import AttachmentSummary, BackendSummary, NodeSummary, VolumeSummary

Shape = dict[str, Any]

IDENTIFIERS = ("host", "ip", "initiator", "nqn", "nvme_hostid", "wwpns", "wwnns")
"""What of a node's connector properties is shown: how storage knows the host. Never all of it."""


def attachment(told: AttachmentSummary, spec: object) -> Shape:
    path = ("path", "device", "identity", "size_bytes", "paths")
    status = _status(told, "set_aside", *path, "mode", "protocol", "epoch", "observed_generation")
    return {"kind": "Attachment", "node": told.node, "volume": told.volume, **_wish(spec, told.generation, status)}


def volume(told: VolumeSummary, spec: object) -> Shape:
    status = _status(told, "backend", "uid", "size_gib", "holders", "observed_generation")
    return {"kind": "Volume", "name": told.volume, **_wish(spec, told.generation, status)}


def node(told: NodeSummary, spec: object, record: object) -> Shape:
    status = _status(told, "boot", "versions", "multipath", "fences", "volumes", "wished", "left")
    status["connector"] = identifiers(record)
    return {"kind": "Node", "name": told.node, **_wish(spec, told.generation, status)}


def backend(told: BackendSummary) -> Shape:
    status = _status(told, "driver", "protocol", "controller", "capacity", "orphan_exports", "orphans")
    return {"kind": "Backend", "name": told.backend, "status": status}


def identifiers(record: object) -> Shape:
    """The plain words among a node's connector properties."""
    if not isinstance(record, NodeRecord):
        return {}
    found = {name: record.connector.get(name) for name in IDENTIFIERS}
    return {name: value for name, value in found.items() if _plain(value)}


def _plain(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, str) for each in value)
    return isinstance(value, str) and bool(value)


def normalised(spec: BaseModel) -> Shape:
    """A spec with every default spelt out: equal specs look equal, whoever wrote them, and however (A1)."""
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def spec_hash(spec: BaseModel) -> str:
    """Equal for equal specs."""
    import json

    text = json.dumps(normalised(spec), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:16]


def _wish(spec: object, generation: int, status: Shape) -> Shape:
    if not isinstance(spec, Spec):
        return {"generation": generation, "status": status} if generation else {"status": status}
    return {"spec": normalised(spec), "generation": generation, "status": {**status, "spec_hash": spec_hash(spec)}}


def _status(told: object, *names: str) -> Shape:
    common = ("state", "reason", "message", "waits_for", "since", "next_try")
    status: Shape = {name: _value(getattr(told, name, None)) for name in (*common, *names)}
    status = {name: value for name, value in status.items() if value not in (None, "")}
    conditions: tuple[Condition, ...] = getattr(told, "conditions", ())
    if conditions:
        status["conditions"] = [each.model_dump(mode="json") for each in conditions]
    return status


def _value(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else str(value) if isinstance(value, str) else value


def name(shape: Shape) -> str:
    """`attachment/web-1/data`, `volume/data`: what `-o name` prints and every command takes."""
    if shape["kind"] == "Attachment":
        return f"attachment/{shape['node']}/{shape['volume']}"
    return f"{shape['kind'].lower()}/{shape['name']}"
