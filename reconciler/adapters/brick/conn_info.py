"""What a connection may make root do on this host: checked before anything is touched (SECURITY: hostile input).

conn_info comes through etcd, from a driver, and neither is trusted with this host. Only the protocols that the node's settings
allow are taken, and of each protocol only values that follow its grammar. A file on this host has to lie in one of
`local_folders`; a share is one of a server's, and is mounted without devices, programs or set-user-id files in it. What is
attached already stays, and can be detached, whatever its conn_info says now.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.adapters.brick import connection, grammar, ways
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
    "defaults",
    "auto",
    "noauto",
    "nouser",
    *ALWAYS,
)
_IN_TURN = "bg"
"""A mount that goes on trying after the call has ended could land when nobody knows of it any more."""


def _words(*lines: str) -> frozenset[str]:
    """The mount options of a protocol, with those that all have."""
    return frozenset(" ".join(lines).split()).union(_SHARED_OPTIONS)


_MOUNT_OPTIONS: Mapping[str, frozenset[str]] = {
    "nfs": _words(
        "vers nfsvers minorversion proto sec rsize wsize timeo retrans retry hard soft softerr softreval nconnect",
        "max_connect port mountport mountproto mountvers mounthost tcp udp rdma acregmin acregmax acdirmin acdirmax",
        "actimeo ac noac lookupcache bg fg lock nolock local_lock cto nocto sharecache nosharecache resvport noresvport",
        "rdirplus nordirplus clientaddr xprtsec trunkdiscovery notrunkdiscovery acl noacl intr nointr fsc nofsc posix noposix",
        "sharetransport nosharetransport lazytime nolazytime norelatime strictatime nostrictatime diratime dirsync",
        "v2 v3 v4 v4.0 v4.1 v4.2",
    ),
    "glusterfs": _words(
        "backupvolfile-server backup-volfile-servers transport log-level direct-io-mode attribute-timeout entry-timeout",
        "negative-timeout fetch-attempts volfile-max-fetch-attempts use-readdirp",
    ),
    "quobyte": _words(),
}
_OPTIONS = re.compile(r"(?:\s*-o\s*[^\s-]\S*(?!\S))*\s*")
_OPTIONS_WORD = re.compile(r"(?<!\S)-o\s*(\S+)")
_OPTION = re.compile(r"(?P<key>v4\.\d|_?[a-z][a-z0-9_-]{0,40})(?:=(?P<value>[A-Za-z0-9][A-Za-z0-9._:/\[\]-]{0,200}))?")

_SERVER = rf"(?:{grammar.HOST}|\[[0-9A-Fa-f:.]{{2,45}}(?:%[A-Za-z0-9.-]{{1,15}})?\])"
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
_IMAGE = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,200}/[A-Za-z0-9_.][A-Za-z0-9_.-]{0,200}")
"""Not in a namespace of the pool: os-brick can't map these."""
_IQN = re.compile(
    r"(?:iqn\.\d{4}-\d{2}[.:][a-z0-9][a-z0-9.:_-]{0,210}|eui\.[0-9a-f]{16}|naa\.[0-9a-f]{16}(?:[0-9a-f]{16})?)",
    re.IGNORECASE,
)
_NQN = re.compile(
    r"nqn\.[A-Za-z0-9][A-Za-z0-9.:_-]{0,218}"
)  # Cinder's own target has nqn.iqn.2010-10.org.openstack:-UUID
_WWN = re.compile(r"(?:0x)?[0-9a-f]{16}", re.IGNORECASE)
_TRANSPORT = re.compile(r"tcp|rdma|RoCEv2|fc", re.IGNORECASE)
_UUID = re.compile(r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}")
_ADDRESSING = re.compile("SAM|SAM2|SAM3-flat|transparent")
_CREDENTIAL = re.compile(r"[^\x00-\x1f\x7f]{1,512}")
_PATH_MAX = 4095


def checked(target: Target, settings: ConnectorSettings) -> Target:
    """The target, fit to be connected: with the mount options that hold here.

    Raises:
        Unsupported: something that this node does not do for anybody; names the field.
        Terminal: the file is not there.
    """
    protocol, data = ways.protocol_of(target), ways.data_of(target)
    if protocol not in settings.protocols:
        raise Unsupported(
            f"connections of type {grammar.short(protocol)} are not supported on this node: its settings allow protocols: "
            f"{', '.join(settings.protocols) or 'none'}"
        )
    fit = _follows_the_grammar(target)
    if protocol in LOCAL:
        _check_local(data["device_path"], settings.local_folders)
    return fit


def is_refused(target: Target) -> bool:
    """Whether no node would connect it, whatever its settings: then it was refused before anything was done for it."""
    try:
        _follows_the_grammar(target)
    except Unsupported:
        return True
    return False


def _follows_the_grammar(target: Target) -> Target:
    """The target in its plain form. Raises Unsupported."""
    protocol, data = ways.protocol_of(target), target.conn_info.get("data")
    if not isinstance(data, Mapping):
        grammar.refuse("data", data, "must be an object")
    check = _CHECKS.get(protocol)
    if check is None:
        raise Unsupported(f"connections of type {grammar.short(protocol)} are not supported")
    ways.refuse_encrypted(target)
    options = check(protocol, data)
    fit = connection.plain(target)
    if options is not None:
        return replace(fit, conn_info={**fit.conn_info, "data": {**ways.data_of(fit), "options": options}})
    return fit


# --- files -----------------------------------------------------------------------------------------------------------------


def _check_local_text(_: str, data: Data) -> None:
    given = data.get("device_path")
    if not isinstance(given, str) or not given.startswith("/") or not given.isprintable() or len(given) > _PATH_MAX:
        grammar.refuse("device_path", given, "must be the absolute path of a file")
    _refuse_format(data)


def _check_local(given: str, folders: Sequence[Path]) -> None:
    """A plain file of root's in a folder that the settings name, where nobody else can put another in its place: neither on the
    way there, nor by a link, which could lead elsewhere once it was looked at."""
    path = Path(given)
    folder = next((each for named in folders for each in (named, named.resolve()) if path.is_relative_to(each)), None)
    if folder is None or ".." in path.parts:
        allowed = ", ".join(map(str, folders)) or "none"
        grammar.refuse("device_path", given, f"lies in no folder of this node's local_folders ({allowed})")
    inside = path.parents[: len(path.parents) - len(folder.parents)]
    try:
        found = path.lstat()
        above = [(each, each.stat() if each == folder else each.lstat()) for each in inside]
    except FileNotFoundError:
        raise Terminal(f"{grammar.short(given)} does not exist on this host, so it can't be attached here") from None
    except OSError as error:
        grammar.refuse("device_path", given, f"can't be looked at: {error.strerror}")
    for each, status in above:
        if stat.S_ISLNK(status.st_mode):
            grammar.refuse("device_path", given, f"goes through a link, {each}: name the file itself")
        if why := lets_others_in(status.st_mode, status.st_uid, os.geteuid(), itself=True):
            grammar.refuse("device_path", given, f"lies in {each}: {why}")
    if stat.S_ISLNK(found.st_mode):
        grammar.refuse("device_path", given, "is a link: name the file itself")
    if not stat.S_ISREG(found.st_mode):
        grammar.refuse("device_path", given, "is no plain file")
    if found.st_uid not in (ROOT, os.geteuid()):
        grammar.refuse("device_path", given, f"belongs to user {found.st_uid}, not to root")


def _refuse_format(data: Data) -> None:
    """Going by what the driver says. The file's beginning is no witness: what a user writes there decides how it looks."""
    kind = data.get("format") or "raw"
    if kind != "raw":
        raise Unsupported(
            f"the volume is a {grammar.short(kind)} file, of which no block device can be made: only of raw files"
            " (taking a snapshot is what turns a file into qcow2)"
        )


def _check_share(protocol: str, data: Data) -> str:
    """Returns the mount options that hold here."""
    grammar.text(data, "export", _EXPORTS[protocol], "must be a server's share, as in nas:/volumes")
    if "/../" in f"{data['export']}/":
        grammar.refuse("export", data["export"], "must be a server's share, without '..'")
    grammar.text(data, "name", _FILE_NAME, "must be a plain file name")
    _refuse_format(data)
    given = data.get("options") or ""
    if not isinstance(given, str) or not _OPTIONS.fullmatch(given):
        grammar.refuse("options", given, "must be of the form -o name=value,…")
    kept = []
    for option in filter(None, ",".join(_OPTIONS_WORD.findall(given)).split(",")):
        found = _OPTION.fullmatch(option)
        if found is None or found["key"] not in _MOUNT_OPTIONS[protocol]:
            grammar.refuse("options", option, f"is not among the mount options that a node takes for {protocol}")
        if option not in (*ALWAYS, _IN_TURN):
            kept.append(option)
    return "-o " + ",".join([*kept, *ALWAYS])


# --- block -----------------------------------------------------------------------------------------------------------------


def _check_iscsi(protocol: str, data: Data) -> None:
    grammar.several(data, "target_iqn", _IQN, "must be an iSCSI name (iqn.2026-11.org.example:disk)")
    for portal in grammar.each(data, "target_portal"):
        if not (isinstance(portal, str) and grammar.is_portal(portal)):
            grammar.refuse("target_portal", portal, "must be address:port")
    for lun in grammar.each(data, "target_lun"):
        grammar.check_lun("target_lun", lun)
    for name in ("auth_username", "auth_password", "discovery_auth_username", "discovery_auth_password"):
        grammar.optional(data, name, _CREDENTIAL, "must be one line of text", secret=name.endswith("password"))
    grammar.optional(data, "auth_method", re.compile("CHAP|None", re.IGNORECASE), "must be CHAP")
    grammar.optional(data, "discovery_auth_method", re.compile("CHAP|None", re.IGNORECASE), "must be CHAP")
    grammar.optional(data, "addressing_mode", _ADDRESSING, "must be SAM, SAM2, SAM3-flat or transparent")
    if not {"target_iqn", "target_iqns"} & _plain_fields(protocol, data):
        grammar.refuse(
            "target_iqn",
            data.get("target_iqn"),
            "and target_portal must be given, or a list of each, with the LUNs",
        )


def _check_fibre_channel(protocol: str, data: Data) -> None:
    for field in ("target_wwn", "target_wwns"):
        given = data.get(field)
        wwns = given if isinstance(given, list | tuple) else () if given is None else (given,)
        grammar.check_list(field, wwns, grammar.PORTS_MAX)
        for wwn in wwns:
            if not (isinstance(wwn, str) and _WWN.fullmatch(wwn)):
                grammar.refuse(field, wwn, "must be 16 hexadecimal digits")
    for lun in grammar.each(data, "target_lun", grammar.PORTS_MAX):
        grammar.check_lun("target_lun", lun)
    grammar.optional(data, "addressing_mode", _ADDRESSING, "must be SAM, SAM2, SAM3-flat or transparent")
    ports = data.get("initiator_target_map")
    if ports is not None and not _is_port_map(ports):
        grammar.refuse("initiator_target_map", ports, "must name ports of the storage for ports of this host")
    if "target_wwns" not in _plain_fields(protocol, data):
        grammar.refuse("target_wwn", data.get("target_wwn"), "must be given, with one LUN, or one for each port")


def _is_port_map(value: object) -> bool:
    found = connection.wwn_map(value)
    return found is not None and all(_WWN.fullmatch(port) for ours, theirs in found.items() for port in (ours, *theirs))


def _check_nvme(protocol: str, data: Data) -> None:
    if (replica := connection.only_replica(data)) is not None:
        data = replica
    elif data.get("volume_replicas"):
        raise Unsupported(
            "volumes that the host mirrors over several NVMe targets are not supported: use an unreplicated volume type"
        )
    for field in ("target_nqn", "nqn", "host_nqn"):
        grammar.optional(data, field, _NQN, "must be an NVMe name (nqn.2026-11.org.example:disk)")
    _check_nvme_portals(data)
    if data.get("target_portal") is not None:
        grammar.check_address("target_portal", data["target_portal"], data.get("target_port"))
    grammar.optional(data, "transport_type", _TRANSPORT, "must be tcp or rdma")
    for field in ("vol_uuid", "volume_nguid"):
        grammar.optional(data, field, _UUID, "must be a UUID")
    if data.get("ns_id") is not None:
        grammar.check_lun("ns_id", data["ns_id"])
    fields = _plain_fields(protocol, data)
    if "target_nqn" not in fields:
        grammar.refuse("target_nqn", data.get("target_nqn"), "must be given, with portals")
    if not fields & {"vol_uuid", "volume_nguid", "ns_id"}:
        grammar.refuse(
            "vol_uuid",
            data.get("vol_uuid"),
            "must be given, or a volume_nguid or ns_id: a target may have many volumes",
        )


def _check_nvme_portals(data: Data) -> None:
    portals = data.get("portals") or ()
    grammar.check_list("portals", portals)
    for portal in portals:
        if not isinstance(portal, list | tuple) or len(portal) != 3:
            grammar.refuse("portals", portal, "must be [address, port, transport]")
        grammar.check_address("portals", portal[0], portal[1])
        if not (isinstance(portal[2], str) and _TRANSPORT.fullmatch(portal[2])):
            grammar.refuse("portals", portal[2], "must be tcp or rdma")


def _check_rbd(protocol: str, data: Data) -> None:
    grammar.text(data, "name", _IMAGE, "must be pool/image")
    for field in ("cluster_name", "auth_username"):
        grammar.text(data, field, _NAME, "must be a name of letters, digits, '.', '_' and '-'")
    fields = _plain_fields(protocol, data)
    if "keyring" not in fields:
        shown, rule = (
            "(not shown)" if data.get("keyring") else "",
            f"must hold the key of client.{data['auth_username']}",
        )
        grammar.refuse("keyring", shown, f"{rule}: a keyring of this host is not used for others' wishes")
    hosts, ports = data.get("hosts") or (), data.get("ports") or ()
    grammar.check_list("hosts", hosts)
    grammar.check_list("ports", ports)
    for host in hosts:
        if not (isinstance(host, str) and re.fullmatch(rf"{_SERVER}|[0-9A-Fa-f:.]{{2,45}}", host)):
            grammar.refuse("hosts", host, "must be an address")
    for port in ports:
        grammar.check_port("ports", port)
    for field in ("hosts", "ports"):
        if field not in fields:
            grammar.refuse(field, data.get(field), "must name a monitor")


def _plain_fields(protocol: str, data: Data) -> set[str]:
    return set(connection.form(protocol, data))


_CHECKS: Mapping[str, Callable[[str, Data], str | None]] = {
    **dict.fromkeys(_EXPORTS, _check_share),
    **dict.fromkeys(LOCAL, _check_local_text),
    "iscsi": _check_iscsi,
    "iser": _check_iscsi,
    "fibre_channel": _check_fibre_channel,
    "nvmeof": _check_nvme,
    "nvme": _check_nvme,
    "rbd": _check_rbd,
}
