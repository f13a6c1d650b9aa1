"""Which portals of a volume answer, asked before a login: one dead portal of two must not cost minutes.

os-brick waits for every login, and a login to a silent portal takes iscsid two minutes. So it is given only those portals that
accept a TCP connection now, and of these only those that are for this host: an array tells all that it has, of every network
(`for_this_host`). The missing paths show in the device (`paths_live` of `paths_total`), and are added once their
portals answer (`Host.add_paths`).
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from reconciler.runtime.ports import Terminal

_PATIENCE_S = 2.0
"""For one TCP handshake in a storage network: ten lost packets' worth would be longer, and the next connect tries again."""
_SILENT_S = 10.0
"""So long a portal's silence is believed without asking again: a hundred volumes that miss the same portal ask it once."""
_AT_ONCE = 32
_ISCSI_PORT = 3260
_LISTS = ("target_portals", "target_iqns", "target_luns")

Address = tuple[str, int]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def for_this_host(protocol: str, data: Mapping[str, Any], networks: Sequence[Network]) -> dict[str, Any]:
    """The connection with only those portals that are in one of the host's storage networks; without such settings, all but
    link-local ones, which say nothing without an interface. Names of hosts stay. Unchanged where none would be left.

    Not for looking whether something is gone: what is here came through whatever portal.
    """
    if protocol in ("iscsi", "iser") and data.get("target_portals"):
        mine = [_is_mine(_address(str(portal))[0], networks) for portal in data["target_portals"]]
        if not any(mine):
            return dict(data)
        return {**data, **{key: _pick(data[key], mine) for key in _LISTS}}
    if protocol in ("nvmeof", "nvme") and data.get("portals"):
        mine = [_is_mine(str(portal[0]), networks) for portal in data["portals"]]
        return {**data, "portals": _pick(data["portals"], mine)} if any(mine) else dict(data)
    return dict(data)


def refuse_other_networks(protocol: str, data: Mapping[str, Any], networks: Sequence[Network]) -> None:
    """Raises Terminal when the connection has portals, and none of them is for this host."""
    named = data.get("target_portals") or data.get("portals") or filter(None, [data.get("target_portal")])
    hosts = [_address(each)[0] if isinstance(each, str) else str(each[0]) for each in named]
    asked = bool(networks and hosts) and protocol in ("iscsi", "iser", "nvmeof", "nvme")
    if asked and not any(_is_mine(host, networks) for host in hosts):
        ours = ", ".join(map(str, networks))
        raise Terminal(f"none of its portals ({', '.join(hosts)}) is in this node's storage_networks ({ours})")


def _is_mine(host: str, networks: Sequence[Network]) -> bool:
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return True
    if networks:
        return any(address.version == network.version and address in network for network in networks)
    return not address.is_link_local


class Portals:
    """What is known of portals in this process. Thread-safe."""

    def __init__(self) -> None:
        self._silent_until_s: dict[Address, float] = {}
        self._asking: dict[Address, threading.Lock] = {}

    def answering(self, protocol: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """The connection with only those portals that answer. Unchanged when all do, none does, or it names but one."""
        if protocol == "iscsi" and len(data.get("target_portals") or ()) > 1:
            alive = self._alive_or_all([_address(portal) for portal in data["target_portals"]])
            return {**data, **{key: _pick(data[key], alive) for key in _LISTS}}
        if protocol in ("nvmeof", "nvme") and _all_tcp(data.get("portals") or ()):
            alive = self._alive_or_all([(str(portal[0]), int(portal[1])) for portal in data["portals"]])
            return {**data, "portals": _pick(data["portals"], alive)}
        return dict(data)

    def alive(self, portals: Sequence[str]) -> list[str]:
        """Those iSCSI portals that answer now."""
        return _pick(portals, self._alive([_address(portal) for portal in portals]))

    def _alive_or_all(self, addresses: Sequence[Address]) -> list[bool]:
        alive = self._alive(addresses)
        return alive if any(alive) else [True] * len(addresses)

    def _alive(self, addresses: Sequence[Address]) -> list[bool]:
        if not addresses:
            return []
        with ThreadPoolExecutor(min(len(addresses), _AT_ONCE)) as pool:
            return list(pool.map(self._answers, addresses))

    def _answers(self, address: Address) -> bool:
        with self._asking.setdefault(address, threading.Lock()):
            if time.monotonic() < self._silent_until_s.get(address, 0.0):
                return False
            try:
                socket.create_connection(address, timeout=_PATIENCE_S).close()
            except OSError:
                self._silent_until_s[address] = time.monotonic() + _SILENT_S
                return False
            return True


def _all_tcp(portals: Sequence[Sequence[Any]]) -> bool:
    return len(portals) > 1 and all(str(portal[2]).lower() == "tcp" for portal in portals)


def _address(portal: str) -> Address:
    """``10.0.0.1:3260`` or ``[fd00::1]:3260``; iSCSI's port where none is named."""
    host, _, port = portal.rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdigit() and host else (portal.strip("[]"), _ISCSI_PORT)


def _pick(values: Sequence[Any], alive: Sequence[bool]) -> list[Any]:
    return [value for value, good in zip(values, alive, strict=True) if good]
