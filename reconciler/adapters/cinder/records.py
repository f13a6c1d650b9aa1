"""A volume's record (`ports.VolumeData` as JSON) in the terms of Cinder's tables and objects. No state, no effects.

The *model* inside a record is the part of Cinder's volume that a later process needs: the driver's own fields, the pool, the
metadata. Everything else (status, attachments, names, times of no interest) follows from the record. A model may also hold
``type``, ``{"extra_specs": {…}, "qos": {"consumer": …, "specs": {…}}}``, which is ours and is carried along unchanged.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from cinder import objects
from oslo_utils import timeutils

Record = Mapping[str, Any]
"""``volume, uid, size_gib, model, exports``, and while it is loaded: ``status`` and ``attaching``, see `Shadow.load`."""

OWNER = "brickwork"
"""User and project of everything; Cinder's columns want some."""
DICTIONARIES = ("metadata", "admin_metadata")
PERSISTENT = (
    "host", "_name_id", "provider_id", "provider_location", "provider_auth", "provider_geometry", "replication_status",
    "replication_extended_status", "replication_driver_data", "encryption_key_id", "bootable", "multiattach", *DICTIONARIES,
)  # fmt: skip
"""The fields that make up the model. NULL, False and empty ones are left out of it."""
_NAMESPACE = uuid.UUID("3f9a0c1e-52d4-4e0b-9a55-6f1f6b7f2a10")
_NULL_VOLUME = dict.fromkeys(name for name in objects.Volume.fields if name not in objects.Volume.OPTIONAL_FIELDS)
_NULL_ATTACHMENT = dict.fromkeys(name for name in objects.VolumeAttachment.fields if name != "volume")


def derived_id(*parts: object) -> str:
    """An id that is the same in every process: of an attachment, a type…"""
    return str(uuid.uuid5(_NAMESPACE, "/".join(map(str, parts))))


_NO_TYPE = derived_id("type", "{}")


def type_of(record: Record) -> tuple[str, Mapping[str, Any]]:
    """The volume type's id and specification. Cinder's volumes always have a type; its id follows from what it says."""
    specification = record["model"].get("type") or {}
    return (derived_id("type", json.dumps(specification, sort_keys=True)) if specification else _NO_TYPE), specification


def volume_fields(record: Record, default_host: str) -> dict[str, Any]:
    """All plain fields of Cinder's volume, and its two dictionaries."""
    model = record["model"]
    attached = any(export["node"] != record.get("attaching") for export in record["exports"])
    fields = {
        **_NULL_VOLUME,
        "id": record["uid"],
        "display_name": record["volume"],
        "size": record["size_gib"],
        "user_id": OWNER,
        "project_id": OWNER,
        "host": default_host,
        "status": record.get("status") or ("in-use" if attached else "available"),
        "attach_status": "attached" if attached else "detached",
        "volume_type_id": type_of(record)[0],
        "metadata": {},
        "admin_metadata": {},
        "shared_targets": True,
        **dict.fromkeys(("bootable", "multiattach", "deleted"), False),
        "use_quota": False,
        **{name: model[name] for name in PERSISTENT if name in model},
    }
    if "created_at" in model:
        fields["created_at"] = timeutils.normalize_time(timeutils.parse_isotime(model["created_at"]))
    return fields


def attachment_fields(record: Record) -> Iterator[dict[str, Any]]:
    """One attachment per export. The one that is under way has no host and no connector yet, as in Cinder."""
    for export in record["exports"]:
        under_way = export["node"] == record.get("attaching")
        connector = None if under_way else export["connector"] | {"mode": export["mode"]}
        yield {
            **_NULL_ATTACHMENT,
            "id": derived_id(record["uid"], export["node"], export["epoch"]),
            "volume_id": record["uid"],
            "attach_mode": export["mode"],
            "attach_status": "attaching" if under_way else "attached",
            "attached_host": connector and connector.get("host"),
            "connector": connector,
            "deleted": False,
        }


def model_of(volume: Any, record: Record) -> dict[str, Any]:
    """The model to be kept of Cinder's volume; what is not Cinder's stays as it was."""
    model = {name: value for name, value in record["model"].items() if name not in PERSISTENT}
    for name in PERSISTENT:
        if value := getattr(volume, name):
            model[name] = dict(value) if name in DICTIONARIES else value
    return model
