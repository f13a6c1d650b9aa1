"""What Brickwork itself reads of drivers' answers, in the types that it counts on: drivers mean well, and write what they like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.adapters.cinder.plain import plain
from reconciler.runtime.ports import Retryable, Terminal

_IDENTITIES = ("vol_uuid", "volume_nguid", "wwn", "wwid")
"""Where in conn_info's data drivers tell a device's identity, best first."""


def statistics(told: Mapping[str, Any]) -> dict[str, Any]:
    """With the pools as a list of mappings, and texts for their names and for the protocol; empty where there is none."""
    protocol, pools = told.get("storage_protocol"), told.get("pools")
    if isinstance(protocol, list | tuple | set | frozenset):
        protocol = next(iter(plain(protocol)), None)
    each = pools.values() if isinstance(pools, Mapping) else pools if isinstance(pools, Iterable) else ()
    named = [{**pool, "pool_name": _text(pool.get("pool_name"))} for pool in each if isinstance(pool, Mapping)]
    return {**told, "storage_protocol": _text(protocol), "pools": named}


def connection(told: Any) -> dict[str, Any]:
    """conn_info, with a mapping for its data. Raises Retryable: it is none."""
    conn_info = plain(told, "conn_info")
    if isinstance(conn_info, dict) and isinstance(conn_info.get("driver_volume_type"), str):
        data = conn_info.get("data") or {}
        if isinstance(data, dict):
            return {**conn_info, "data": data}
    raise Retryable(f"the driver's answer is no connection, with driver_volume_type and data: a {type(told).__name__}")


def identity(conn_info: Mapping[str, Any]) -> str | None:
    """What the device is known by, as far as the driver tells."""
    data = conn_info["data"]
    names = ("device_path",) if conn_info["driver_volume_type"] == "local" else _IDENTITIES
    return next((data[name] for name in names if data.get(name) and isinstance(data[name], str)), None)


def size_bytes(conn_info: Mapping[str, Any]) -> int | None:
    """The exact size of a local device. Others may round up, and most do not tell."""
    told = conn_info["data"].get("size")
    if conn_info["driver_volume_type"] != "local" or isinstance(told, bool) or not isinstance(told, int | float | str):
        return None
    try:
        return int(told)
    except ValueError:
        return None


def _text(value: Any) -> str:
    if value is None:
        return ""
    try:
        return str(plain(value))
    except Terminal:
        return ""
