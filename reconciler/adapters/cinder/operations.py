"""One driver and what Cinder's volume manager does around it: set-up, and each operation on a volume.

The order of calls, what is saved, and what counts as success are those of `cinder/volume/manager.py` of Cinder 29, minus what
belongs to its services (quotas, notifications, the scheduler). Two things differ on purpose. `remove_export` is a call of its
own, because it cuts off every holder that is left. And a repeated `create` or `extend` succeeds when the volume is already
there: Cinder never repeats those, so few drivers are prepared for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from cinder import exception, utils

from reconciler.adapters.cinder import answers, catalog, storage
from reconciler.adapters.cinder.absence import mind_what_is_not_found, nothing_found
from reconciler.adapters.cinder.library import HOST
from reconciler.adapters.cinder.plain import plain
from reconciler.adapters.cinder.records import PERSISTENT, Record, type_of
from reconciler.adapters.cinder.shadow import Loaded, Shadow, admin_context
from reconciler.core.storage import covers, difference
from reconciler.runtime.ports import NotOpen, OtherStorage, Terminal, Unavailable, Unsupported
from schema.capacity import INFINITE, UNKNOWN, amount

Reply = dict[str, Any]

_log = logging.getLogger("reconciler.cinder")
_PROTOCOLS = {
    "iscsi": "iscsi", "iser": "iser", "fc": "fibre_channel", "fibre_channel": "fibre_channel", "nvmeof": "nvmeof",
    "nvme-of": "nvmeof", "nvmeof_tcp": "nvmeof", "nvmet_tcp": "nvmeof", "nvmet_rdma": "nvmeof", "nvme": "nvmeof", "ceph": "rbd",
}  # fmt: skip
"""What drivers call their protocol -> os-brick's name of it."""
_IDENTIFIERS = {
    "iscsi": ("initiator",),
    "iser": ("initiator",),
    "nvmeof": ("nqn", "nvme_hostid"),
    "lightos": ("nqn", "nvme_hostid"),
    "fibre_channel": ("wwpns",),
}
_SHARES = ("nfs", "smbfs", "glusterfs", "quobyte", "vzstorage", "storage")
"""Protocols of files on shares."""
_RATES = tuple(f"{what}_{unit}_sec" for what in ("read", "write", "total") for unit in ("iops", "bytes"))


SAMPLE = 20
"""So many recorded volumes are looked for where nothing else tells whether a storage is theirs."""


class Operations:
    """A driver that was constructed; `set_up` comes first.

    Args:
        name: of the backend; its volumes' ``host`` in Cinder is ``brickwork@name#pool``.
        concurrency: calls of the driver at a time, where this class makes several.
        cuts_access: what the settings say about it. None: nothing, the catalogue knows.
    """

    def __init__(
        self, name: str, driver: Any, shadow: Shadow, concurrency: int, *, cuts_access: bool | None = None
    ) -> None:
        self._concurrency = concurrency
        self._cuts_access = cuts_access
        self._driver = driver
        self._shadow = shadow
        self._name = name
        self._stats: Mapping[str, Any] = {}
        self._storage = self._opened_with = ""

    # --- Set-up ----------------------------------------------------------------------------------------------------------

    def set_up(self, records: Sequence[Record], tell: Callable[[str], None], noted: str = "") -> Reply:
        """Raises what the driver raises, Unavailable when it knows nothing of its array, and OtherStorage.

        Args:
            tell: is told each stage.
            noted: the mark of the storage that the records are about.
        """
        for record in records:
            self._shadow.announce(record)
        tell("do_setup")
        self._driver.do_setup(admin_context())
        tell("check_for_setup_error")
        self._driver.check_for_setup_error()
        tell("init_capabilities")
        self._driver.init_capabilities()
        told = dict(self._driver.capabilities)
        if not set(told) - {"properties"}:
            raise Unavailable("the driver was set up, but reports neither pools nor capacity: does the array answer?")
        self._stats = answers.statistics(told)
        tell("storage")
        self._check_storage(noted, records)
        self._driver.set_throttle()
        self._driver.set_initialized()
        tell("update_provider_info")
        provider_ids = self._provider_ids(records)
        tell("ensure_export")

        def bring_back(some: Sequence[Record]) -> dict[str, Reply]:
            replies = {record["volume"]: self._bring_back(record, provider_ids.get(record["uid"])) for record in some}
            return {volume: reply for volume, reply in replies.items() if reply}

        with ThreadPoolExecutor(self._concurrency) as pool:  # an array may take its time for each
            shares = [records[start :: self._concurrency] for start in range(self._concurrency)]
            changed = {volume: reply for share in pool.map(bring_back, shares) for volume, reply in share.items()}
        return {"info": self._info(), "changed": changed}

    def _check_storage(self, noted: str, records: Sequence[Record]) -> None:
        """Before anything is done with a volume: on another storage, restoring exports would meet other volumes, or none."""
        self._storage = self._opened_with = storage.mark(self._driver)
        made = [record for record in records if record["model"]][:SAMPLE]
        seen = (
            bool(noted) or not made or storage.has_any(self._driver, (self._shadow.load(each).volume for each in made))
        )
        if fault := difference(noted, self._storage, len(records), volumes_seen=seen):
            raise OtherStorage(fault, self._storage)

    def _sure_of_storage(self) -> None:
        """Right before data is made or forgotten there: shares are unmounted and groups renamed while a driver goes on, and to many
        what is not there is deleted. The next opening finds out what it is."""
        try:
            found = storage.mark(self._driver)
        except Terminal as error:  # of the mark, not the driver's answer about the volume
            raise NotOpen(str(error)) from error
        if not covers(found, self._opened_with):
            raise NotOpen(f"the storage is {found or 'without a mark'} now, and was {self._opened_with}")

    def _provider_ids(self, records: Sequence[Record]) -> dict[str, str]:
        if not records or not self._overrides("update_provider_info"):
            return {}
        volumes = [self._shadow.load(record).volume for record in records]
        updates, _ = self._driver.update_provider_info(volumes, [])
        return {
            str(update["id"]): plain(update["provider_id"]) for update in updates or () if update.get("provider_id")
        }

    def _bring_back(self, record: Record, provider_id: str | None) -> Reply | None:
        """`ensure_export` for a volume that has holders; the reply, if its model changed."""
        if not record["exports"] and provider_id is None:
            return None
        loaded = self._shadow.load(record)
        update = {} if provider_id is None else {"provider_id": provider_id}
        loaded.volume.update(update)
        if record["exports"]:
            try:
                update |= self._driver.ensure_export(admin_context(), loaded.volume) or {}
            except Exception:  # one volume that the array has lost must not keep all others from being served
                _log.exception("the export of volume %s could not be restored", record["volume"])
        reply = self._reply(loaded, update)
        return reply if reply["model"] != record["model"] else None

    def _overrides(self, method: str) -> bool:
        """Whether the driver itself implements a method, as opposed to Cinder's base classes."""
        owner = next((kind for kind in type(self._driver).__mro__ if method in vars(kind)), None)
        return owner is not None and owner.__module__ != "cinder.volume.driver"

    # --- What the backend is ---------------------------------------------------------------------------------------------

    def describe(self) -> Reply:
        told = self._driver.get_volume_stats(refresh=True)
        if not told:
            raise Unavailable("the driver reports neither pools nor capacity: does the array answer?")
        self._stats = answers.statistics(told)
        self._storage = storage.mark(self._driver)
        return self._info()

    def _info(self) -> Reply:
        kind = type(self._driver)
        told = (self._stats["storage_protocol"] or "unknown").lower()
        protocol = _PROTOCOLS.get(told, told)
        pools = self._pools()
        return {
            "driver": f"{kind.__module__}.{kind.__qualname__}",
            "protocol": protocol,
            "capabilities": {
                "multiattach": any(bool(pool.get("multiattach")) for pool in (self._stats, *pools)),
                "manage_existing": self._overrides("manage_existing") and self._overrides("manage_existing_get_size"),
                "extend": self._overrides("extend_volume"),
                "extend_online": self._overrides("extend_volume") and self._extends_online(protocol, pools),
                "list_exports": hasattr(self._driver, "list_exports"),  # our own addition to the interface
                "cuts_access": self._cuts(protocol) if self._cuts_access is None else self._cuts_access,
            },
            "capacity": {
                "pools": [
                    {
                        "name": pool.get("pool_name") or self._name,
                        "total_gib": amount(pool.get("total_capacity_gb")),
                        "free_gib": amount(pool.get("free_capacity_gb")),
                    }
                    for pool in pools
                ]
            },
            "identifiers": _IDENTIFIERS.get(protocol, ()),
            "storage": self._storage,
        }

    def _cuts(self, protocol: str) -> bool:
        kind = type(self._driver)
        helper = getattr(self._driver, "target_driver", None)
        return catalog.cuts_access(
            f"{kind.__module__}.{kind.__qualname__}", protocol, None if helper is None else type(helper).__name__
        )

    def _extends_online(self, protocol: str, pools: Sequence[Mapping[str, Any]]) -> bool:
        """By what Cinder's scheduler goes by. Drivers of shares do not say so, and refuse what is attached."""
        told = [stats.get("online_extend_support", True) for stats in (self._stats, *pools)]
        return protocol not in _SHARES and all(word is not False for word in told)

    def _pools(self) -> list[Mapping[str, Any]]:
        return self._stats["pools"] or [self._stats]

    def _roomiest_pool(self) -> str:
        """Where a volume without a pool goes. Cinder's scheduler would weigh more than the free capacity."""

        def free(pool: Mapping[str, Any]) -> float:
            room = amount(pool.get("free_capacity_gb"))
            return {INFINITE: float("inf"), UNKNOWN: 0.0}[room] if isinstance(room, str) else room

        best = max(self._pools(), key=free)
        return str(best.get("pool_name") or best.get("volume_backend_name") or self._name)

    # --- Provisioning ----------------------------------------------------------------------------------------------------

    def create(self, record: Record) -> Reply:
        self._sure_of_storage()
        loaded = self._shadow.load(self._placed(record, self._roomiest_pool()), status="creating")
        try:
            update = self._driver.create_volume(loaded.volume)
        except Exception as error:
            if (self._measure(loaded) or 0) < record["size_gib"]:  # or it was only begun
                raise
            _log.warning("volume %s is there already: %s", record["volume"], error)
            update = self._manage_own(loaded)
        return self._reply(loaded, {"status": "available", **(update or {})})

    def _placed(self, record: Record, pool: str) -> Record:
        """The record with what a new volume needs besides."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        placed = {"host": f"{HOST}@{self._name}#{pool}", "created_at": now}
        return {**record, "model": placed | dict(record["model"])}

    def extend(self, record: Record, size_gib: int) -> Reply:
        loaded = self._shadow.load(record, status="extending")
        if not self._overrides("extend_volume"):
            raise Unsupported("this driver cannot extend volumes")
        if record["size_gib"] < size_gib:
            try:
                self._driver.extend_volume(loaded.volume, size_gib)
            except exception.TargetUpdateFailed as error:  # it did grow; Cinder goes on too
                _log.warning("volume %s was extended, but its target not updated: %s", record["volume"], error)
            except Exception as error:
                if (self._measure(loaded) or 0) < size_gib:
                    raise
                _log.warning("volume %s has its new size already: %s", record["volume"], error)
        return self._reply(loaded, {"size": max(size_gib, record["size_gib"]), "status": "available"})

    def delete(self, record: Record, others: Sequence[Record], *, gone: bool) -> None:
        """What is not found is gone, unless this may be another storage: one without a mark, that has no other volume either."""
        self._sure_of_storage()
        loaded = self._shadow.load(record, status="deleting")
        self._remove_export(loaded)
        try:
            self._driver.delete_volume(loaded.volume)
        except exception.NotFound as error:
            mind_what_is_not_found(error)
            if not (self._storage or gone or not others or any(map(self._is_there, others))):
                raise Terminal(nothing_found(record, others, error)) from error
            _log.warning("volume %s is gone already: %s", record["volume"], error)
        self._shadow.forget(record["uid"])
        utils.clean_volume_file_locks(record["uid"], self._driver)

    def adopt(self, record: Record, reference: Mapping[str, Any]) -> Reply:
        """`manage_existing`. A reference may name the ``pool`` besides what the driver wants (mostly ``source-name``)."""
        if not (self._overrides("manage_existing") and self._overrides("manage_existing_get_size")):
            raise Unsupported("this driver cannot take over existing volumes")
        self._sure_of_storage()
        wanted = {key: value for key, value in reference.items() if key != "pool"}
        placed = self._placed(record, reference.get("pool") or self._roomiest_pool())
        loaded = self._shadow.load(placed, status="managing")
        try:
            size = self._driver.manage_existing_get_size(loaded.volume, wanted)
        except (exception.ManageExistingInvalidReference, exception.NotFound):
            # Taking over renames a volume: what an earlier try has taken over has its new name now.
            if (size := self._measure(loaded)) is None:
                raise
            update = self._manage_own(loaded)
        else:
            update = self._driver.manage_existing(loaded.volume, wanted)
        return self._reply(loaded, {**(update or {}), "size": size, "status": "available"})

    def _is_there(self, record: Record) -> bool:
        return self._measure(self._shadow.load(record)) is not None

    def _measure(self, loaded: Loaded) -> int | None:
        """Size (GiB) of the volume that has this volume's own name on the array; None: the driver can't tell."""
        if not self._overrides("manage_existing_get_size"):
            return None
        try:
            return int(self._driver.manage_existing_get_size(loaded.volume, {"source-name": loaded.volume.name}))
        except Exception:
            return None

    def _manage_own(self, loaded: Loaded) -> Mapping[str, Any] | None:
        """The driver's data about a volume that has its own name already: what an interrupted call would have returned."""
        try:
            update = self._driver.manage_existing(loaded.volume, {"source-name": loaded.volume.name})
        except exception.ManageExistingAlreadyManaged:
            return None
        return dict(update) if update else None

    # --- Attaching -------------------------------------------------------------------------------------------------------

    def export(self, record: Record, export: Mapping[str, Any]) -> Reply:
        connector = _connector(export)
        self._driver.validate_connector(connector)
        loaded = self._shadow.load(record, attaching=export["node"])
        return self._reply(loaded, self._driver.create_export(admin_context(), loaded.volume, connector))

    def connect(self, record: Record, export: Mapping[str, Any]) -> Reply:
        loaded = self._shadow.load(record, attaching=export["node"])
        conn_info = answers.connection(self._driver.initialize_connection(loaded.volume, _connector(export)))
        self._add_options(conn_info["data"], record, export)
        told = {"identity": answers.identity(conn_info), "size_bytes": answers.size_bytes(conn_info)}
        return {**self._reply(loaded, None), "conn_info": conn_info, **told}

    def _add_options(self, data: dict[str, Any], record: Record, export: Mapping[str, Any]) -> None:
        """`VolumeManager._parse_connection_options`, and what `_connection_create` adds."""
        _, specification = type_of(record)
        qos = specification.get("qos") or {}
        for_host = qos.get("consumer") in ("front-end", "both")
        data["qos_specs"] = _rates(qos.get("specs", {}), record["size_gib"]) if for_host else None
        data["access_mode"] = export["mode"]
        if data.get("encrypted") is None:
            data["encrypted"] = bool(record["model"].get("encryption_key_id"))
        cacheable = specification.get("extra_specs", {}).get("cacheable") == "<is> True"
        data["cacheable"] = cacheable and bool(data.get("cacheable") in (None, True))
        if data.get("discard") is None and self._driver.configuration.safe_get("report_discard_supported"):
            data["discard"] = True
        data["enforce_multipath"] = export["connector"].get("enforce_multipath", False)

    def terminate(self, record: Record, export: Mapping[str, Any]) -> Reply:
        loaded = self._shadow.load(record)
        try:
            shared = self._driver.terminate_connection(loaded.volume, _connector(export), force=False)
        except exception.NotFound as error:
            mind_what_is_not_found(error)
            _log.warning("volume %s is not connected any more: %s", record["volume"], error)
            shared = False
        return {**self._reply(loaded, None), "shared": shared is True}

    def unexport(self, record: Record) -> Reply:
        loaded = self._shadow.load(record)
        self._remove_export(loaded)
        return self._reply(loaded, None)

    def _remove_export(self, loaded: Loaded) -> None:
        try:
            self._driver.remove_export(admin_context(), loaded.volume)
        except exception.NotFound as error:
            mind_what_is_not_found(error)
            _log.warning("volume %s is not exported any more: %s", loaded.volume.display_name, error)

    def exports(self) -> list[tuple[str, str | None]]:
        """(uid, client) of each, see `ports.Exposure`."""
        if not hasattr(self._driver, "list_exports"):
            raise Unsupported("this driver cannot list its exports")
        return [(plain(uid), plain(client)) for uid, client in self._driver.list_exports()]

    def _reply(self, loaded: Loaded, update: Mapping[str, Any] | None) -> Reply:
        model, size_gib = self._shadow.settle(loaded, _plain_fields(update))
        return {"model": model, "size_gib": size_gib}


def _plain_fields(update: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What is kept of an update must be plain; the rest of it is for Cinder's objects alone."""
    if not update:
        return update
    return {name: plain(value, name) if name in PERSISTENT else value for name, value in update.items()}


def _connector(export: Mapping[str, Any]) -> dict[str, Any]:
    """The connector as Cinder hands it over. An empty one would mean "all hosts" to many drivers, and cut them all off."""
    if not export["connector"]:
        raise Terminal(f"node {export['node']} has published no connector properties")
    return {**export["connector"], "mode": export["mode"]}


def _rates(specs: Mapping[str, str], size_gib: int) -> dict[str, Any]:
    """QoS limits, those per GiB worked out for the volume's size."""
    result: dict[str, Any] = dict(specs)
    for rate in _RATES:
        if f"{rate}_per_gb" in result:
            least = int(result.pop(f"{rate}_per_gb_min", 0))
            value = max(least, int(result.pop(f"{rate}_per_gb")) * size_gib)
            result[rate] = min(value, int(result.pop(f"{rate}_max", value)))
    return result
