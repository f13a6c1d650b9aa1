"""How much room a backend has: what drivers say, sums over its pools, and as much of that as a key should hold.

Drivers give GiB as a number, as a text with a number in it, or as one of Cinder's two words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from schema.bounds import NAME_MAX, clipped

INFINITE: Literal["infinite"] = "infinite"
UNKNOWN: Literal["unknown"] = "unknown"
Amount = float | Literal["infinite", "unknown"]
"""GiB."""

POOLS_MAX = 20
"""So many pools are told by name; `pools_left_out` counts the others, and the sums hold them all."""
_SUMS = ("total_gib", "free_gib")


def amount(told: object) -> Amount:
    """What a driver said, as a number where it is one."""
    if isinstance(told, bytes):
        told = told.decode(errors="replace")
    if isinstance(told, str) and told.strip().lower() in (INFINITE, "inf"):
        return INFINITE
    if told is None or isinstance(told, bool):
        return UNKNOWN
    try:
        number = float(str(told))
    except ValueError:
        return UNKNOWN
    if math.isfinite(number):
        return int(number) if number == int(number) else number
    return INFINITE if number > 0 else UNKNOWN


def total(amounts: Iterable[Amount]) -> Amount:
    """Of all pools together. A pool that does not tell makes the sum what there is at least, unless none tells."""
    given = list(amounts)
    if INFINITE in given:
        return INFINITE
    numbers = [each for each in given if not isinstance(each, str)]
    return round(sum(numbers), 2) if numbers else UNKNOWN


def in_brief(capacity: Mapping[str, Any]) -> dict[str, Any]:
    """What a driver's adapter says of its pools (`ports.BackendInfo.capacity`), fit for a key."""
    pools = _pools(capacity)
    told = [
        {"name": clipped(str(pool.get("name", "")), NAME_MAX), **{name: amount(pool.get(name)) for name in _SUMS}}
        for pool in pools[:POOLS_MAX]
    ]
    left_out = {"pools_left_out": len(pools) - POOLS_MAX} if len(pools) > POOLS_MAX else {}
    return {"pools": told, **left_out, **sums(capacity)}


def sums(capacity: Mapping[str, Any]) -> dict[str, Amount]:
    """`total_gib` and `free_gib`: as told, else over the pools; what no pool tells is left out."""
    pools = _pools(capacity)
    found = {
        name: amount(capacity[name]) if name in capacity else total(amount(pool.get(name)) for pool in pools)
        for name in _SUMS
    }
    return {name: value for name, value in found.items() if value != UNKNOWN or any(name in pool for pool in pools)}


def _pools(capacity: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    pools = capacity.get("pools")
    return [pool for pool in pools if isinstance(pool, Mapping)] if isinstance(pools, list) else []
