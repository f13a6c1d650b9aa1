"""Which portals of a volume answer, asked before a login: one dead portal of two must not cost minutes.

os-brick waits for every login, and a login to a silent portal takes iscsid two minutes. So it is given only those portals that
accept a TCP connection now. The missing paths show in the device (`paths_live` of `paths_total`), and the next connect, which
may be made at any time, adds them once their portal answers.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_PATIENCE_S = 2.0
"""For one TCP handshake in a storage network: ten lost packets' worth would be longer, and the next connect tries again."""
_LISTS = ("target_portals", "target_iqns", "target_luns")

Address = tuple[str, int]


def answering(protocol: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The connection with only those portals that answer. Unchanged when all do, none does, or it names but one."""
    if protocol == "iscsi" and len(data.get("target_portals") or ()) > 1:
        alive = _alive([_address(portal) for portal in data["target_portals"]])
        lists = {key: _pick(data[key], alive) for key in _LISTS if data.get(key)}
        first = {"target_portal": lists["target_portals"][0]} if "target_portal" in data else {}
        return {**data, **lists, **first}
    if protocol in ("nvmeof", "nvme") and _all_tcp(data.get("portals") or ()):
        alive = _alive([(str(portal[0]), int(portal[1])) for portal in data["portals"]])
        return {**data, "portals": _pick(data["portals"], alive)}
    return dict(data)


def _all_tcp(portals: Sequence[Sequence[Any]]) -> bool:
    return len(portals) > 1 and all(str(portal[2]).lower() == "tcp" for portal in portals)


def _address(portal: str) -> Address:
    """``10.0.0.1:3260`` or ``[fd00::1]:3260``."""
    host, _, port = portal.rpartition(":")
    return host.strip("[]"), int(port)


def _alive(addresses: Sequence[Address]) -> list[bool]:
    with ThreadPoolExecutor(len(addresses)) as pool:
        alive = list(pool.map(_answers, addresses))
    return alive if any(alive) else [True] * len(addresses)


def _answers(address: Address) -> bool:
    try:
        socket.create_connection(address, timeout=_PATIENCE_S).close()
    except OSError:
        return False
    return True


def _pick(values: Sequence[Any], alive: Sequence[bool]) -> list[Any]:
    return [value for value, good in zip(values, alive, strict=True) if good]
