"""Where in sysfs the devices of a connection are, whatever udev has made of them.

Sessions and links come and go, and by-path links lie while udev is busy; sysfs is what the kernel has. Portals are ignored on
purpose: the same logical unit of the same target through another portal is the same volume, and a leftover of it as well. They
count only where it may be another volume with the same identity (`exact`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reconciler.adapters.brick import identity, sysfs
from reconciler.adapters.brick.sysfs import Roots

ISCSI = {"iscsi", "iser"}
SCSI = {*ISCSI, "fibre_channel"}
NVME = {"nvmeof", "nvme"}
PROTOCOLS = {*SCSI, *NVME, "rbd"}
"""Those of whose devices sysfs tells where they are. Of any other it could not be proven that it is gone."""
_NAMESPACE = re.compile(r"nvme\d+n\d+")
_FLAT_SPACE = 16384

Data = Mapping[str, Any]
"""Of a connection in the form of `connection.plain`."""


def devices(roots: Roots, protocol: str, data: Data, *, exact: bool = False) -> list[str]:
    """The kernel's names of a connection's devices, without maps on top of them, for one of `PROTOCOLS`."""
    if protocol in ISCSI:
        return _iscsi(roots, data, exact)
    if protocol == "fibre_channel":
        return _fibre_channel(roots, data)
    if protocol in NVME:
        return _nvme(roots, data)
    return _rbd(roots, data)


def elsewhere(roots: Roots, protocol: str, data: Data, names: Iterable[str]) -> set[str]:
    """Those disks that are known to be at an address that is not this connection's, whatever they say of themselves."""
    asked = set(names) - set(devices(roots, protocol, data))
    if not asked:
        return set()
    local = {name for name in asked if not name.startswith(_kinds(protocol)) or _is_local(roots, name)}
    nvme = {
        name for name in asked if _NAMESPACE.fullmatch(name) and sysfs.text(roots.block(name) / "device" / "subsysnqn")
    }
    return local | nvme | (asked & _addressed_disks(roots)) - _through_other_ports(roots, protocol, data)


def _kinds(protocol: str) -> tuple[str, ...]:
    """How the kernel's names of a protocol's devices begin, and of what is made of them."""
    return ("sd", "dm-") if protocol in SCSI else ("nvme", "dm-") if protocol in NVME else ("rbd",)


def _is_local(roots: Roots, name: str) -> bool:
    """Whether a SCSI disk hangs on neither a session nor a port of the storage's: this host's own, whatever it calls itself."""
    place = os.path.realpath(roots.block(name))
    return name.startswith("sd") and "/devices/" in place and not re.search(r"/(session|rport-)\d", place)


def _through_other_ports(roots: Roots, protocol: str, data: Data) -> set[str]:
    """Disks with the connection's LUN behind Fibre Channel ports that it does not name: drivers tell those that were up then."""
    if protocol != "fibre_channel":
        return set()
    folder, luns = roots.sys / "class" / "fc_transport", {_addressed(lun, data) for _, lun in _ports(data)}
    return {
        disk
        for port in sysfs.names(folder)
        for lun in luns
        for disk in _disks(folder / port / "device", f"*:*:*:{lun}")
    }


def _addressed_disks(roots: Roots) -> set[str]:
    """All disks behind a session or a port: of these the kernel tells where they are."""
    found = set()
    for kind in ("iscsi_session", "fc_transport"):
        folder = roots.sys / "class" / kind
        pattern = "target*/*:*:*:*" if kind == "iscsi_session" else "*:*:*:*"
        for name in sysfs.names(folder):
            found |= _disks(folder / name / "device", pattern)
    return found


def addresses(protocol: str, data: Data) -> frozenset[str]:
    """Where the connection says that its logical unit is, in a form that can be compared. Empty where that names no single one."""
    if protocol in ISCSI:
        return frozenset(f"{_plain(portal)} {iqn.lower()} {lun}" for portal, iqn, lun in _units(data))
    if protocol == "fibre_channel":
        return frozenset(f"{wwn} {lun}" for wwn, lun in _ports(data))
    if protocol in NVME:
        ids = {identity.canonical(str(data[key])) for key in ("vol_uuid", "volume_nguid") if data.get(key)}
        numbers = {f"number {data['ns_id']}"} if data.get("ns_id") is not None else set()
        return frozenset(f"{data.get('target_nqn')} {each}" for each in ids or numbers)
    return frozenset({f"rbd {data['name']}"} if data.get("name") else ())


def addresses_of(roots: Roots, protocol: str, data: Data, names: Iterable[str]) -> frozenset[str]:
    """The same, with what else these devices could be called there: one namespace has a number and several identities."""
    told = addresses(protocol, data)
    if protocol not in NVME:
        return told
    nqn = data.get("target_nqn")
    numbers = {f"{nqn} number {number}" for name in names if (number := sysfs.text(roots.block(name) / "nsid"))}
    return told | numbers | {f"{nqn} {each}" for name in names for each in identity.of_device(roots, name).spellings}


def paths_expected(protocol: str, data: Data, multipath: bool) -> int:
    """How many paths the connection promises. 0: it does not say."""
    if not multipath:
        return 0
    portals = data.get("target_portals") if protocol in ISCSI else data.get("portals") if protocol in NVME else None
    return len(portals) if isinstance(portals, list | tuple) else 0


def iqns(data: Data) -> list[str]:
    return [iqn for _, iqn, _ in _units(data)]


def _units(data: Data) -> list[tuple[str, str, Any]]:
    """Portal, target and LUN of each path that an iSCSI connection names."""
    if data.get("target_portals"):
        return list(zip(data["target_portals"], data.get("target_iqns", ()), data.get("target_luns", ()), strict=False))
    return [(data["target_portal"], data["target_iqn"], data.get("target_lun", 0))] if data.get("target_iqn") else []


def portals_without_path(roots: Roots, data: Data) -> list[str]:
    """The portals of an iSCSI connection that no disk of the volume goes through, with a session or without."""
    missing = []
    for portal, iqn, lun in _units(data):
        sessions = [each for each in _sessions(roots, [iqn]) if _portal_of(each) == _plain(portal)]
        if not any(_disks(session / "device", f"target*/*:*:*:{_addressed(lun, data)}") for session in sessions):
            missing.append(str(portal))
    return missing


def _portal_of(session: Path) -> str | None:
    """As it was asked for, which a target may have redirected."""
    for connection in session.glob("device/connection*/iscsi_connection/*"):
        address, port = (sysfs.text(connection / f"persistent_{name}") for name in ("address", "port"))
        return _plain(f"{address}:{port}")
    return None


def _plain(portal: str) -> str:
    return portal.replace("[", "").replace("]", "").lower()


def _iscsi(roots: Roots, data: Data, exact: bool) -> list[str]:
    portals = {_plain(portal) for portal, _, _ in _units(data)}
    found = set()
    for _, iqn, lun in _units(data):
        for session in _sessions(roots, [iqn]):
            if exact and _portal_of(session) not in {None, *portals}:
                continue
            found |= _disks(session / "device", f"target*/*:*:*:{_addressed(lun, data)}")
    return sorted(found)


def _sessions(roots: Roots, targets: list[str]) -> list[Path]:
    folder = roots.sys / "class" / "iscsi_session"
    return [folder / name for name in sysfs.names(folder) if sysfs.text(folder / name / "targetname") in targets]


def _fibre_channel(roots: Roots, data: Data) -> list[str]:
    folder = roots.sys / "class" / "fc_transport"
    found = set()
    for wwn, lun in _ports(data):
        for target in sysfs.names(folder):
            if (sysfs.text(folder / target / "port_name") or "").removeprefix("0x") == wwn:
                found |= _disks(folder / target / "device", f"*:*:*:{_addressed(lun, data)}")
    return sorted(found)


def _ports(data: Data) -> Iterator[tuple[str, Any]]:
    """The storage's ports of a Fibre Channel connection, and its LUN behind each."""
    yield from zip(data.get("target_wwns", ()), data.get("target_luns", ()), strict=False)


def _disks(device: Path, pattern: str) -> set[str]:
    """The disks of logical units ``H:C:T:LUN``."""
    return {disk for unit in device.glob(pattern) for disk in sysfs.names(unit / "block")}


def _addressed(lun: Any, data: Data) -> int:
    """The kernel's number for a LUN. Arrays number in several ways; os-brick's `lun_for_addressing` says the same."""
    mode = data.get("addressing_mode")
    flat = mode == "SAM3-flat" or (mode == "SAM2" and int(lun) >= 256)
    return int(lun) + (_FLAT_SPACE if flat else 0)


def _nvme(roots: Roots, data: Data) -> list[str]:
    """By UUID or NGUID, where the connection has one: several volumes may share a subsystem, and numbers are used again."""
    nqn = data.get("target_nqn")
    wanted = {identity.canonical(str(data[key])) for key in ("vol_uuid", "volume_nguid") if data.get(key)}
    number = data.get("ns_id")
    found = []
    for name in sysfs.disks(roots):
        folder = roots.block(name)
        if not nqn or not _NAMESPACE.fullmatch(name) or sysfs.text(folder / "device" / "subsysnqn") != nqn:
            continue
        same = (
            bool(wanted & identity.of_device(roots, name).spellings)
            if wanted
            else number is None or sysfs.text(folder / "nsid") == str(number)
        )
        if same:
            found.append(name)
    return found


def _rbd(roots: Roots, data: Data) -> list[str]:
    """By the very name: images may differ in capitals only."""
    rbds = (name for name in sysfs.disks(roots) if name.startswith("rbd"))
    return [name for name in rbds if data.get("name") and identity.rbd_image(roots, name) == data["name"]]
