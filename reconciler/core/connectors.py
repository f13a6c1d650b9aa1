"""What of a node's connector properties a driver gets: the fields that are known, where they follow their grammar.

`nodes/<node>` is written by the node's own key, and the node is not trusted with the array: what it says goes to drivers, which
paste it into commands, URLs and queries. So the name of the host is the node's id, whatever it calls itself, and the rest is left
out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any

_IQN = re.compile(
    r"(?:iqn\.\d{4}-\d{2}[.:][a-z0-9][a-z0-9.:_-]{0,210}|eui\.[0-9a-f]{16}|naa\.[0-9a-f]{16,32})", re.IGNORECASE
)
_NQN = re.compile(r"nqn\.\d{4}-\d{2}\.[A-Za-z0-9][A-Za-z0-9.:_-]{0,210}")
_WWN = re.compile(r"(?:0x)?[0-9a-f]{16}", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_MANY = 256
"""Ports or addresses of one host."""


def _text(grammar: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and grammar.fullmatch(value) is not None


def _address(value: object) -> bool:
    try:
        return isinstance(value, str) and "%" not in value and bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def _each(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list | tuple) and 0 < len(value) <= _MANY and all(map(fits, value))


def _flag(value: object) -> bool:
    return isinstance(value, bool)


_FIELDS: Mapping[str, Callable[[object], bool]] = {
    "initiator": _text(_IQN),
    "nqn": _text(_NQN),
    "nvme_hostid": _text(_WORD),
    "uuid": _text(_WORD),
    "system uuid": _text(_WORD),
    "wwpns": _each(_text(_WWN)),
    "wwnns": _each(_text(_WWN)),
    "ip": _address,
    "host_ips": _each(_address),
    "sdc_guid": _text(_WORD),
    "found_dsc": _text(re.compile(r"[A-Za-z0-9._:,\[\]-]{0,1000}")),
    "platform": _text(_WORD),
    "os_type": _text(_WORD),
    "multipath": _flag,
    "enforce_multipath": _flag,
    "do_local_attach": _flag,
    "nvme_native_multipath": _flag,
}
"""What os-brick 7 tells of a host, and what fits."""


def fit_for_drivers(node: str, connector: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that a driver may see. Of none nothing is made: to many drivers an empty connector means all hosts."""
    known = {name: value for name, value in connector.items() if name in _FIELDS and _FIELDS[name](value)}
    return {**known, "host": node} if connector else {}
