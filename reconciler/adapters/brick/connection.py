"""A connection in one form, however its driver spells it: whoever looks for a device, logs in or compares needs to know no other.

Only fields that are used are kept: os-brick takes some as orders that no driver has to give (`device_path`). What is not as it
must be is left out here, so that looking for a device and taking it away fail at no field; `conn_info` refuses it before a connect.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from reconciler.adapters.brick import grammar, ways
from reconciler.runtime.ports import Target

Data = Mapping[str, Any]
Reader = Callable[[Any], Any]
"""Returns None for what is not as it must be."""
_KEY = re.compile(r"key\s*=\s*(?P<quote>[\"']?)(?P<key>[A-Za-z0-9+/]{1,200}={0,2})(?P=quote)\s*(?:[#;].*)?", re.ASCII)
_KEYRING_MAX = 10_000


def plain(target: Target) -> Target:
    """The target with its connection in this form; unchanged when nothing is known of its protocol."""
    protocol, data = ways.protocol_of(target), ways.data_of(target)
    if protocol not in _FORMS:
        return target
    return replace(target, conn_info={"driver_volume_type": protocol, "data": form(protocol, data)})


def as_connected(target: Target) -> Target:
    """What was connected once by a version that took more: as it is, where nothing is left of it in this form."""
    fit = plain(target)
    names_storage = ways.protocol_of(target) not in _STORAGE or _STORAGE[ways.protocol_of(target)] & set(
        ways.data_of(fit)
    )
    return fit if names_storage else target


def form(protocol: str, given: Data) -> dict[str, Any]:
    """The fields of a connection in this form."""
    access = given.get("access_mode")
    return _FORMS[protocol](given) | ({"access_mode": access} if access in ("ro", "rw") else {})


# --- protocols -------------------------------------------------------------------------------------------------------------


def _iscsi(given: Data) -> dict[str, Any]:
    """Either three lists of one length, as os-brick pairs them, or one portal of one target; nothing of both when it names none."""
    login = _fields(given, _text, "addressing_mode") | _credentials(given, "") | _credentials(given, "discovery_")
    single, iqn = portal(given.get("target_portal")), _text(given.get("target_iqn"))
    if portals := _list(portal, given.get("target_portals")):
        iqns = _list(_text, given.get("target_iqns")) or [iqn] * len(portals)
        paths = list(zip(portals, iqns, _luns(given, len(portals)), strict=False))
        if not paths or None in iqns:
            return login
        return login | dict(
            zip(("target_portals", "target_iqns", "target_luns"), map(list, zip(*paths, strict=True)), strict=True)
        )
    if not single or not iqn:
        return login
    return login | {"target_portal": single, "target_iqn": iqn, "target_lun": _lun(given.get("target_lun")) or 0}


def _credentials(given: Data, which: str) -> dict[str, Any]:
    """A method without a user is none: os-brick would ask for both."""
    names = [f"{which}auth_{field}" for field in ("method", "username", "password")]
    return _fields(given, _text, " ".join(names)) if _text(given.get(names[1])) else {}


def _fibre_channel(given: Data) -> dict[str, Any]:
    named = given.get("target_wwns") or given.get("target_wwn")
    wwns = _list(_wwn, [named] if isinstance(named, str) else named)
    luns = _luns(given, len(wwns))
    luns = luns * len(wwns) if len(luns) == 1 else luns
    both = min(len(wwns), len(luns))
    data = _fields(given, _text, "addressing_mode") | _fields(given, wwn_map, "initiator_target_map")
    data |= _fields(given, _flag, "enable_wildcard_scan")
    return data | ({"target_wwns": wwns[:both], "target_luns": luns[:both]} if both else {})


def _nvme(given: Data) -> dict[str, Any]:
    """The newer of os-brick's two forms. What the older one calls a UUID is the volume's name, and not the namespace's. Of a volume
    that may have several replicas and has one, all is said of that."""
    given = only_replica(given) or given
    nqn, portals = _text(given.get("target_nqn")), _list(_nvme_portal, given.get("portals"))
    ids = "vol_uuid volume_nguid host_nqn" if nqn else "volume_nguid host_nqn"
    single = [given.get(field) for field in ("target_portal", "target_port", "transport_type")]
    portals = portals or _list(_nvme_portal, [single])
    nqn = nqn or _text(given.get("nqn"))
    data = _fields(given, _text, ids) | _fields(given, _namespace, "ns_id")
    return data | ({"target_nqn": nqn, "portals": portals} if nqn and portals else {})


def _rbd(given: Data) -> dict[str, Any]:
    data = _fields(given, _text, "name cluster_name auth_username")
    if key := _client_key(given.get("keyring"), given.get("auth_username")):
        data["keyring"] = key
    lists = {"hosts": _list(_text, given.get("hosts")), "ports": _list(_port, given.get("ports"))}
    return data | {field: values for field, values in lists.items() if values}


def _client_key(text: object, user: object) -> str | None:
    """What a keyring says of a user's key, and no more: os-brick puts it into a ceph.conf, where every other line would be a
    setting of root's programs, and what a keyring is allowed to hold besides is of no use."""
    if not isinstance(text, str) or not isinstance(user, str) or len(text) > _KEYRING_MAX or not user.isprintable():
        return None
    wanted = section = f"client.{user}"
    key = None
    for line in map(str.strip, text.removeprefix("\ufeff").splitlines()):
        if line.startswith("["):
            section = line[1:].partition("]")[0].strip()
        elif section == wanted and (found := _KEY.fullmatch(line)):
            key = found["key"]
    return f"[{wanted}]\n\tkey = {key}\n" if key else None


def only_replica(given: Data) -> Data | None:
    """Of a volume that is not mirrored: with one of several replicas missing, what is left is a part of the host's mirror."""
    replicas = given.get("volume_replicas") if given.get("replica_count") in (None, 0, 1) else None
    one = replicas[0] if isinstance(replicas, list | tuple) and len(replicas) == 1 else None
    return one if isinstance(one, Mapping) else None


def _share(given: Data) -> dict[str, Any]:
    return _fields(given, _text, "export name options")


def _local(given: Data) -> dict[str, Any]:
    return _fields(given, _text, "device_path")


_FORMS: Mapping[str, Callable[[Data], dict[str, Any]]] = {
    **dict.fromkeys(("iscsi", "iser"), _iscsi),
    **dict.fromkeys(("nvmeof", "nvme"), _nvme),
    **dict.fromkeys(("nfs", "glusterfs", "quobyte"), _share),
    **dict.fromkeys(("local", "gpfs"), _local),
    "fibre_channel": _fibre_channel,
    "rbd": _rbd,
}


_STORAGE: Mapping[str, set[str]] = {
    "iscsi": {"target_portal", "target_portals"},
    "iser": {"target_portal", "target_portals"},
    "nvmeof": {"target_nqn"},
    "nvme": {"target_nqn"},
    "fibre_channel": {"target_wwns"},
}
"""What names it in each form: one of these."""


# --- values ----------------------------------------------------------------------------------------------------------------


def _fields(given: Data, read: Reader, names: str) -> dict[str, Any]:
    return {name: value for name in names.split() if (value := read(given.get(name))) is not None}


def _list(read: Reader, given: object) -> list[Any]:
    """Empty: it is no list, or not all of it is as it must be."""
    values = [read(each) for each in given] if isinstance(given, list | tuple) else []
    return [] if None in values else values


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _lun(value: object) -> int | None:
    """os-brick compares it with numbers: another kind would be found at the connect, and never at the disconnect."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return int(value) if re.fullmatch(r"\d{1,20}", str(value), re.ASCII) else None


def _namespace(value: object) -> str | None:
    """This one it compares with text."""
    number = _lun(value)
    return None if number is None else str(number)


def _luns(given: Data, length: int) -> list[int]:
    if given.get("target_luns"):
        return _list(_lun, given["target_luns"])
    return [_lun(given.get("target_lun")) or 0] * length


def _port(value: object) -> int | None:
    number = _lun(value)
    return number if number and number < 1 << 16 else None


def portal(value: object) -> str | None:
    """Without what some drivers append, `,1`: no session has it in its name. An IPv6 address in its shortest form."""
    if not isinstance(value, str):
        return None
    host, port = grammar.split_portal(value)
    return f"{_host(host)}:{int(port)}" if host and _port(port) else None


def _host(text: str) -> str:
    try:
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return text
    return f"[{address}]" if address.version == 6 else str(address)


def _nvme_portal(value: object) -> list[Any] | None:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return None
    host, port, transport = _text(value[0]), _port(value[1]), _text(value[2])
    return [_host(host).strip("[]"), port, transport] if host and port and transport else None


def _wwn(value: object) -> str | None:
    return value.lower().removeprefix("0x") if isinstance(value, str) else None


def wwn_map(value: object) -> dict[str, list[str]] | None:
    """Which of the host's ports reaches which of the storage's."""
    if not isinstance(value, Mapping):
        return None
    if not all(_list(_wwn, theirs) or theirs == [] for theirs in value.values()):
        return None
    return {str(_wwn(ours)): _list(_wwn, theirs) for ours, theirs in value.items()}
