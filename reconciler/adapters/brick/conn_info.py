"""What a connection may make root do on this host: checked before anything is touched (SECURITY: hostile input).

conn_info comes through etcd, from a driver, and neither is trusted with this host. Only the protocols that the node's settings
allow are taken, and of each protocol only values that follow its grammar. A file on this host has to lie in one of
`local_folders`; a share is one of a server's, and is mounted without devices, programs or set-user-id files in it. What is
attached already stays, and can be detached, whatever its conn_info says now.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from reconciler.adapters.brick import ways
from reconciler.adapters.brick.settings import LOCAL, ConnectorSettings
from reconciler.core.modes import ROOT, lets_others_in
from reconciler.runtime.ports import Target, Terminal, Unsupported

Data = Mapping[str, Any]

ALWAYS = ("nosuid", "nodev", "noexec")
"""A volume is a file on the share, behind a loop device: nothing else there is for this host."""
_SHARED_OPTIONS = (
    "rw",
    "ro",
    "sync",
    "async",
    "nofail",
    "noatime",
    "nodiratime",
    "relatime",
    "atime",
    "_netdev",
    *ALWAYS,
)


def _words(*lines: str) -> frozenset[str]:
    """The mount options of a protocol, with those that all have."""
    return frozenset(" ".join(lines).split()).union(_SHARED_OPTIONS)


_MOUNT_OPTIONS: Mapping[str, frozenset[str]] = {
    "nfs": _words(
        "vers nfsvers minorversion proto sec rsize wsize timeo retrans retry hard soft softerr softreval nconnect",
        "max_connect port mountport mountproto mountvers mounthost tcp udp rdma acregmin acregmax acdirmin acdirmax",
        "actimeo ac noac lookupcache bg fg lock nolock local_lock cto nocto sharecache nosharecache resvport noresvport",
        "rdirplus nordirplus clientaddr xprtsec trunkdiscovery notrunkdiscovery acl noacl intr nointr",
    ),
    "glusterfs": _words(
        "backupvolfile-server backup-volfile-servers transport log-level direct-io-mode attribute-timeout entry-timeout",
        "negative-timeout fetch-attempts volfile-max-fetch-attempts use-readdirp",
    ),
    "quobyte": _words(),
}
_OPTION = re.compile(r"(?P<key>_?[a-z][a-z0-9_-]{0,40})(?:=(?P<value>[A-Za-z0-9][A-Za-z0-9._:/\[\]-]{0,200}))?")

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})"
_SERVER = rf"(?:{_HOST}|\[[0-9A-Fa-f:.]{{2,45}}(?:%[A-Za-z0-9.-]{{1,15}})?\])"
_SHARE_PATH = r"/[^\x00-\x1f\x7f]{0,1000}"
_EXPORTS: Mapping[str, re.Pattern[str]] = {
    "nfs": re.compile(rf"{_SERVER}:{_SHARE_PATH}"),
    "glusterfs": re.compile(rf"{_SERVER}:/?[A-Za-z0-9][A-Za-z0-9._/-]{{0,255}}"),
    "quobyte": re.compile(
        rf"(?:quobyte://)?{_SERVER}(?::\d{{1,5}})?(?:,{_SERVER}(?::\d{{1,5}})?){{0,20}}/[A-Za-z0-9][A-Za-z0-9 ._-]{{0,255}}"
    ),
}
_FILE_NAME = re.compile(r"[^-./\x00-\x1f\x7f][^/\x00-\x1f\x7f]{0,254}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_IMAGE = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,200}(?:/[A-Za-z0-9_.][A-Za-z0-9_.-]{0,200}){1,2}")
_KEYRING = re.compile(r"[\x20-\x7e\t\n]{1,10000}")
_IQN = re.compile(
    r"(?:iqn\.\d{4}-\d{2}[.:][a-z0-9][a-z0-9.:_-]{0,210}|eui\.[0-9a-f]{16}|naa\.[0-9a-f]{16}(?:[0-9a-f]{16})?)",
    re.IGNORECASE,
)
_NQN = re.compile(
    r"nqn\.[A-Za-z0-9][A-Za-z0-9.:_-]{0,218}"
)  # Cinder's own target has nqn.iqn.2010-10.org.openstack:-UUID
_WWN = re.compile(r"(?:0x)?[0-9a-f]{16}", re.IGNORECASE)
_TRANSPORT = re.compile(r"tcp|rdma|RoCEv2|fc", re.IGNORECASE)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,128}")
_CREDENTIAL = re.compile(r"[^\x00-\x1f\x7f]{1,512}")
_SHOWN_MAX = 80


def checked(target: Target, settings: ConnectorSettings) -> Target:
    """The target, fit to be connected: with the mount options that hold here.

    Raises:
        Unsupported: something that this node does not do for anybody; names the field.
        Terminal: the file is not there.
    """
    protocol = ways.protocol_of(target)
    if protocol not in settings.protocols:
        raise Unsupported(
            f"connections of type {_short(protocol)} are not supported on this node: its settings allow protocols: "
            f"{', '.join(settings.protocols) or 'none'}"
        )
    data = target.conn_info.get("data")
    if not isinstance(data, Mapping):
        _refuse("data", data, "must be an object")
    if protocol in LOCAL:
        _check_local(data, settings.local_folders)
    elif protocol in _EXPORTS:
        options = _checked_share(protocol, data)
        return replace(target, conn_info={**target.conn_info, "data": {**data, "options": options}})
    else:
        _CHECKS[protocol](data)
    return target


# --- files -----------------------------------------------------------------------------------------------------------------


def _check_local(data: Data, folders: Sequence[Path]) -> None:
    """A plain file of root's in a folder that the settings name, where nobody else can put another in its place."""
    given = data.get("device_path")
    if not isinstance(given, str) or not given.startswith("/") or not given.isprintable():
        _refuse("device_path", given, "must be the absolute path of a file")
    path = Path(given)
    try:
        real = path.resolve()
        inside = any(real.is_relative_to(folder.resolve()) for folder in folders)
        found, above = (real.stat(), real.parent.stat()) if inside else (None, None)
    except FileNotFoundError:
        raise Terminal(f"{_short(given)} does not exist on this host, so it can't be attached here") from None
    except (OSError, RuntimeError) as error:
        _refuse("device_path", given, f"can't be looked at: {getattr(error, 'strerror', None) or error}")
    if found is None or above is None:
        allowed = ", ".join(map(str, folders)) or "none"
        _refuse("device_path", given, f"lies in no folder of this node's local_folders ({allowed})")
    if not stat.S_ISREG(found.st_mode):
        _refuse("device_path", given, "is no plain file")
    if found.st_uid not in (ROOT, os.geteuid()):
        _refuse("device_path", given, f"belongs to user {found.st_uid}, not to root")
    if why := lets_others_in(above.st_mode, above.st_uid, os.geteuid(), itself=True):
        _refuse("device_path", given, f"lies in {real.parent}: {why}")


def _checked_share(protocol: str, data: Data) -> str:
    """The mount options that hold here."""
    _text(data, "export", _EXPORTS[protocol], "must be a server's share, as in nas:/volumes")
    if "/../" in f"{data['export']}/":
        _refuse("export", data["export"], "must be a server's share, without '..'")
    _text(data, "name", _FILE_NAME, "must be a plain file name")
    given = data.get("options") or ""
    words = given.split() if isinstance(given, str) else [given]
    if words and (len(words) != 2 or words[0] != "-o"):
        _refuse("options", given, "must be of the form -o name=value,…")
    kept = []
    for option in words[1].split(",") if words else ():
        found = _OPTION.fullmatch(option)
        if found is None or found["key"] not in _MOUNT_OPTIONS[protocol]:
            _refuse("options", option, f"is not among the mount options that a node takes for {protocol}")
        kept.append(option)
    return "-o " + ",".join([*kept, *(option for option in ALWAYS if option not in kept)])


# --- block -----------------------------------------------------------------------------------------------------------------


def _check_iscsi(data: Data) -> None:
    _several(data, "target_iqn", _IQN, "must be an iSCSI name (iqn.2026-11.org.example:disk)")
    for portal in _each(data, "target_portal"):
        if not (isinstance(portal, str) and is_portal(portal)):
            _refuse("target_portal", portal, "must be address:port")
    for lun in _each(data, "target_lun"):
        _check_lun("target_lun", lun)
    for name in ("auth_username", "auth_password", "discovery_auth_username", "discovery_auth_password"):
        _optional(data, name, _CREDENTIAL, "must be one line of text", secret=name.endswith("password"))
    _optional(data, "auth_method", re.compile("CHAP|None", re.IGNORECASE), "must be CHAP")
    _optional(data, "discovery_auth_method", re.compile("CHAP|None", re.IGNORECASE), "must be CHAP")


def _check_fibre_channel(data: Data) -> None:
    for field in ("target_wwn", "target_wwns"):
        given = data.get(field)
        for wwn in given if isinstance(given, list | tuple) else () if given is None else (given,):
            if not (isinstance(wwn, str) and _WWN.fullmatch(wwn)):
                _refuse(field, wwn, "must be 16 hexadecimal digits")
    for lun in _each(data, "target_lun"):
        _check_lun("target_lun", lun)


def _check_nvme(data: Data) -> None:
    for field in ("target_nqn", "nqn", "host_nqn"):
        _optional(data, field, _NQN, "must be an NVMe name (nqn.2026-11.org.example:disk)")
    _check_nvme_portals(data)
    if data.get("target_portal") is not None:
        _check_address("target_portal", data["target_portal"], data.get("target_port"))
    _optional(data, "transport_type", _TRANSPORT, "must be tcp or rdma")
    for field in ("vol_uuid", "volume_nguid", "alias"):
        _optional(data, field, _ID, "must be an identifier")
    replicas = data.get("volume_replicas") or ()
    if not isinstance(replicas, list | tuple) or not all(isinstance(each, Mapping) for each in replicas):
        _refuse("volume_replicas", replicas, "must be a list of objects")
    for replica in replicas:
        if replica.get("volume_replicas"):
            _refuse("volume_replicas", replica, "must not have replicas of its own")
        _check_nvme(replica)


def _check_nvme_portals(data: Data) -> None:
    portals = data.get("portals") or ()
    if not isinstance(portals, list | tuple):
        _refuse("portals", portals, "must be a list")
    for portal in portals:
        if not isinstance(portal, list | tuple) or len(portal) != 3:
            _refuse("portals", portal, "must be [address, port, transport]")
        _check_address("portals", portal[0], portal[1])
        if not (isinstance(portal[2], str) and _TRANSPORT.fullmatch(portal[2])):
            _refuse("portals", portal[2], "must be tcp or rdma")


def _check_rbd(data: Data) -> None:
    _text(data, "name", _IMAGE, "must be pool/image")
    for field in ("cluster_name", "auth_username"):
        _text(data, field, _NAME, "must be a name of letters, digits, '.', '_' and '-'")
    _text(
        data, "keyring", _KEYRING, "must be given: a keyring of this host is not used for others' wishes", secret=True
    )
    hosts, ports = data.get("hosts") or (), data.get("ports") or ()
    if not isinstance(hosts, list | tuple) or not isinstance(ports, list | tuple):
        _refuse("hosts", hosts, "must be a list of addresses")
    for host in hosts:
        if not (isinstance(host, str) and re.fullmatch(rf"{_SERVER}|[0-9A-Fa-f:.]{{2,45}}", host)):
            _refuse("hosts", host, "must be an address")
    for port in ports:
        _check_port("ports", port)
    _optional(data, "secret_uuid", _ID, "must be a UUID", secret=True)


_CHECKS: Mapping[str, Callable[[Data], None]] = {
    "iscsi": _check_iscsi,
    "iser": _check_iscsi,
    "fibre_channel": _check_fibre_channel,
    "nvmeof": _check_nvme,
    "nvme": _check_nvme,
    "rbd": _check_rbd,
}


# --- values ----------------------------------------------------------------------------------------------------------------


def is_portal(text: str) -> bool:
    """`10.0.0.1:3260`, `[fd00::1]:3260`, `san-1:3260`; also with what some drivers append, `,1`."""
    address, _, port = re.sub(r",\d{1,5}$", "", text).rpartition(":")
    return is_address(address) and is_port(port)


def is_address(text: object) -> bool:
    """An IP address, in brackets or not, or a host name."""
    if not isinstance(text, str):
        return False
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]") if text.startswith("[") else text)
    except ValueError:
        return re.fullmatch(_HOST, text) is not None and ":" not in text
    return True


def is_port(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return False
    return re.fullmatch(r"\d{1,5}", str(value), re.ASCII) is not None and 0 < int(value) < 1 << 16


def _check_address(field: str, address: object, port: object) -> None:
    if not is_address(address):
        _refuse(field, address, "must be an address")
    _check_port(field, port)


def _check_port(field: str, port: object) -> None:
    if not is_port(port):
        _refuse(field, port, "must be a port")


def _check_lun(field: str, lun: object) -> None:
    good = isinstance(lun, int | str) and not isinstance(lun, bool) and re.fullmatch(r"\d{1,20}", str(lun), re.ASCII)
    if not good or int(str(lun)) >= 1 << 64:
        _refuse(field, lun, "must be the number of a logical unit")


def _each(data: Data, field: str) -> Sequence[object]:
    """The values of a field and of its plural."""
    one, several = data.get(field), data.get(f"{field}s")
    if several is not None and not isinstance(several, list | tuple):
        _refuse(f"{field}s", several, "must be a list")
    return [*(() if one is None else (one,)), *(several or ())]


def _several(data: Data, field: str, grammar: re.Pattern[str], rule: str) -> None:
    for value in _each(data, field):
        if not (isinstance(value, str) and grammar.fullmatch(value)):
            _refuse(field, value, rule)


def _text(data: Data, field: str, grammar: re.Pattern[str], rule: str, *, secret: bool = False) -> None:
    value = data.get(field)
    if not (isinstance(value, str) and grammar.fullmatch(value)):
        _refuse(field, "(not shown)" if secret and value is not None else value, rule)


def _optional(data: Data, field: str, grammar: re.Pattern[str], rule: str, *, secret: bool = False) -> None:
    if data.get(field) not in (None, ""):
        _text(data, field, grammar, rule, secret=secret)


def _refuse(field: str, value: object, rule: str) -> NoReturn:
    raise Unsupported(f"the connection's {field} {_short(value)} {rule}; nothing was done")


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, str) else f"({type(value).__name__})" if value is not None else "(none)"
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"
