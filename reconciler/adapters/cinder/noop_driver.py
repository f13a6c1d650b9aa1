"""A Cinder driver that does nothing, fast: for benchmarks, and for tests that want a call to hang, fail or die.

Not for use: the devices that it speaks of do not exist.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import threading
from typing import Any, NoReturn

from cinder import exception, objects
from cinder.volume import configuration, driver, volume_types
from oslo_config import cfg

OPTIONS: list[cfg.Opt] = [
    cfg.MultiStrOpt(
        "noop_failpoints",
        default=[],
        help="<method>:<hang|fail|refuse|die|exit|an exception of Cinder's>[:<n>]: what happens at the n-th call (else each)",
    ),
    cfg.StrOpt("noop_journal", help="A file to which each call appends one JSON line"),
    cfg.BoolOpt("noop_chap", default=False, help="Keep a CHAP password in provider_auth, as LVM does"),
    cfg.BoolOpt("noop_reads_database", default=False, help="Read the volume from the database in each call"),
    cfg.StrOpt(
        "noop_protocol", default="iscsi", choices=["iscsi", "noop"], help="noop: nodes make up a device, if allowed"
    ),
    cfg.StrOpt("noop_password", secret=True, help="Part of the text of failures, to see that it is hidden"),
    cfg.IntOpt("noop_number", default=1, min=1, max=8, help="A number, to be given wrongly"),
]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)


def _compare(volume: Any) -> None:
    """Raises when the database says anything else than the object that the driver was given."""
    stored = objects.Volume.get_by_id(volume._context, volume.id)
    plain = set(volume.fields) - set(volume.OPTIONAL_FIELDS) - {"created_at", "updated_at"}
    differing = [
        name for name in (*plain, "metadata", "admin_metadata") if getattr(stored, name) != getattr(volume, name)
    ]
    if _attachments(stored) != _attachments(volume):
        differing.append("volume_attachment")
    if volume_types.get_volume_type_extra_specs(volume.volume_type_id) != volume.volume_type.extra_specs:
        differing.append("extra_specs")
    if differing:
        raise exception.VolumeDriverException(f"the database does not say what the object says: {differing}")


def _attachments(volume: Any) -> list[list[Any]]:
    names = ("id", "volume_id", "attached_host", "attach_status", "attach_mode", "connector")
    return sorted(([getattr(one, name) for name in names] for one in volume.volume_attachment), key=str)


class NoopDriver(driver.VolumeDriver):  # type: ignore[misc]
    """iSCSI-shaped; every operation succeeds at once."""

    VERSION = "1.0"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTIONS)
        self._failpoints = [text.split(":") for text in self.configuration.noop_failpoints]
        self._journal = self.configuration.noop_journal
        self._exports: set[tuple[str, str]] = set()
        self._counts: dict[str, itertools.count[int]] = {}
        password = self.configuration.noop_password or ""
        self._called("__init__", password_hash=hashlib.sha256(password.encode()).hexdigest())

    @staticmethod
    def get_driver_options() -> list[cfg.Opt]:
        return OPTIONS

    def _called(self, method: str, volume: Any = None, **details: Any) -> None:
        number = next(self._counts.setdefault(method, itertools.count(1)))
        if self._journal:
            line = json.dumps({"method": method, "volume": volume and volume.id, **details}) + "\n"
            with open(self._journal, "a") as journal:
                journal.write(line)
        for name, action, *when in self._failpoints:
            if name == method and (not when or int(when[0]) == number):
                self._fail(action, method)
        if volume is not None and self.configuration.noop_reads_database:
            _compare(volume)

    def _fail(self, action: str, method: str) -> NoReturn:
        if action == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if action in ("hang", "die"):  # a signal may take a moment
            threading.Event().wait()
        if action == "exit":
            raise SystemExit(3)
        if action == "refuse":
            raise NotImplementedError(f"{method} was told to refuse")
        if kind := getattr(exception, action, None):
            raise kind(f"{method} was told to raise {action}")
        password = self.configuration.noop_password
        raise exception.VolumeBackendAPIException(data=f"{method} was told to fail (login with {password})")

    def do_setup(self, context: Any) -> None:
        self._called("do_setup")

    def check_for_setup_error(self) -> None:
        self._called("check_for_setup_error")

    def get_volume_stats(self, refresh: bool = False) -> dict[str, Any]:
        self._called("get_volume_stats")
        pool = {"pool_name": "noop", "total_capacity_gb": 10_000, "free_capacity_gb": 10_000, "multiattach": True}
        protocol = self.configuration.noop_protocol
        return {"volume_backend_name": "noop", "storage_protocol": protocol, "pools": [pool]}

    def list_exports(self) -> list[tuple[str, str]]:
        """What is mapped in this life of the worker."""
        self._called("list_exports")
        return list(self._exports)

    def create_volume(self, volume: Any) -> dict[str, Any]:
        self._called("create_volume", volume)
        return {"provider_location": f"noop:{volume.id}"}

    def extend_volume(self, volume: Any, new_size: int) -> None:
        self._called("extend_volume", volume, size=new_size)

    def delete_volume(self, volume: Any) -> None:
        self._called("delete_volume", volume)

    def ensure_export(self, context: Any, volume: Any) -> dict[str, Any] | None:
        self._called("ensure_export", volume)
        self._exports |= {(volume.id, one.attached_host) for one in volume.volume_attachment}
        return None

    def create_export(self, context: Any, volume: Any, connector: Any) -> dict[str, Any] | None:
        self._called("create_export", volume, host=connector["host"])
        if self.configuration.noop_chap and not volume.provider_auth:
            return {"provider_auth": f"CHAP brickwork {os.urandom(8).hex()}"}
        return None

    def remove_export(self, context: Any, volume: Any) -> None:
        self._called("remove_export", volume)
        self._exports -= {one for one in list(self._exports) if one[0] == volume.id}

    def validate_connector(self, connector: Any) -> None:
        if self.configuration.noop_protocol == "iscsi" and "initiator" not in connector:
            raise exception.InvalidConnectorException(missing="initiator")

    def initialize_connection(self, volume: Any, connector: Any) -> dict[str, Any]:
        self._called("initialize_connection", volume, host=connector["host"])
        self._exports.add((volume.id, connector["host"]))
        data = {
            "target_discovered": False,
            "target_iqn": f"iqn.2010-10.org.openstack:{volume.name}",
            "target_portal": "127.0.0.1:3260",
            "target_lun": 1,
            "volume_id": volume.id,
        }
        return {"driver_volume_type": self.configuration.noop_protocol, "data": data}

    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> bool:
        attached = [one for one in volume.volume_attachment if one.attached_host == connector["host"]]
        self._called("terminate_connection", volume, host=connector["host"], attached=len(volume.volume_attachment))
        self._exports.discard((volume.id, connector["host"]))
        return len(attached) > 1
