"""iSCSI: the tools, the initiator's name, iscsid, and logins that nobody asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.adapters.brick.preflight.case import (
    Answer,
    Case,
    Check,
    Fault,
    Host,
    Severity,
    Unknown,
    missing_programs,
)
from reconciler.adapters.brick.preflight.fleet import twin

NAME_FILE = "/etc/iscsi/initiatorname.iscsi"
RECORDS = ("/etc/iscsi/nodes", "/var/lib/iscsi/nodes")
"""Where open-iscsi keeps what it knows of targets: Debian's place until 12, and that of others."""
SOCKET = "@ISCSIADM_ABSTRACT_NAMESPACE"
"""Where iscsid, or systemd for it, listens for iscsiadm."""

_VALID = re.compile(r"iqn\.\d{4}-\d{2}\.[a-z0-9.-]+(:\S*)?|eui\.[0-9A-Fa-f]{16}|naa\.[0-9A-Fa-f]{16,32}", re.IGNORECASE)
_NEW_NAME = f"echo InitiatorName=$(iscsi-iname) > {NAME_FILE}"
_ANEW = "systemctl restart iscsid brickwork-node"


def names(host: Host) -> list[str]:
    """The initiator names in the file, as os-brick reads it: a line with a blank before the name is none."""
    lines = (host.text(NAME_FILE) or "").splitlines()
    return [line.partition("=")[2].strip() for line in lines if line.startswith("InitiatorName=")]


def _name(case: Case) -> Answer:
    found = names(case.host)
    folder, _, file = NAME_FILE.rpartition("/")
    if case.host.text(NAME_FILE) is None and file in case.host.names(folder):
        return Unknown(f"only root may read {NAME_FILE}")
    if fault := _fault_of(case.host, found):
        return Fault(f"{NAME_FILE}: {fault}", (_NEW_NAME, _ANEW))
    return None


def _fault_of(host: Host, found: list[str]) -> str:
    if host.text(NAME_FILE) is None:
        return "there is no such file"
    if not found:
        return "it has no line that begins with InitiatorName="
    if len(found) > 1:
        return f"it has {len(found)} names; os-brick takes the first, iscsid perhaps another"
    name = found[0]
    if not _VALID.fullmatch(name):
        return f"{name!r} is no initiator name"
    if name.endswith(":"):
        return f"{name!r} ends where the host's own part should stand: all hosts of this image have it"
    return ""


def _changed(case: Case) -> Answer:
    """The record was written when the daemon started; iscsid, too, reads the file only then."""
    record = case.fleet.nodes.get(case.node)
    published = record.connector.get("initiator") if record else None
    found = names(case.host)
    if not published or not found or published == found[0]:
        return None
    seen = f"{NAME_FILE} says {found[0]}, but node {case.node} published {published}: exports are made for that name"
    return Fault(seen, (f"detach what node {case.node} has, then: {_ANEW}",))


def _shared(case: Case) -> Answer:
    return twin(case, {"initiator": next(iter(names(case.host)), "")}, (_NEW_NAME, _ANEW))


def _listens(case: Case) -> Answer:
    if not case.host.has("iscsid") or SOCKET in (case.host.text("/proc/net/unix") or ""):
        return None
    return Fault("iscsid is installed, but nothing listens for iscsiadm", ("systemctl enable --now iscsid",))


def _automatic(case: Case) -> Answer:
    found = [target for target, text in _records(case.host) if re.search(r"^node\.startup\s*=\s*automatic", text, re.M)]
    if not found:
        return None
    targets = sorted(set(found))
    seen = f"the host logs in by itself at boot to {', '.join(targets[:3])}" + (
        f" and {len(targets) - 3} more" if len(targets) > 3 else ""
    )
    set_manual = "iscsiadm -m node -T {} --op update -n node.startup -v manual"
    return Fault(
        seen,
        (
            *(set_manual.format(each) for each in targets[:3]),
            "or, when nobody uses it: … --op delete; or leave it, when the host itself lives on that target",
        ),
    )


def _records(host: Host) -> Iterator[tuple[str, str]]:
    """Each record's target and text: `nodes/IQN/PORTAL/INTERFACE`, or `nodes/IQN/PORTAL` of old releases."""
    for folder in RECORDS:
        for target in host.names(folder):
            for portal in host.names(f"{folder}/{target}"):
                path = f"{folder}/{target}/{portal}"
                for file in (path, *(f"{path}/{interface}" for interface in host.names(path))):
                    if (text := host.text(file)) is not None:
                        yield target, text


_ISCSI = frozenset({"iscsi"})
_TOOLS = {"iscsiadm": "open-iscsi", "iscsid": "open-iscsi"}

CHECKS = (
    Check("iscsi-tools", Severity.ERROR, "open-iscsi is installed", missing_programs(_TOOLS), _ISCSI),
    Check("iscsi-initiator", Severity.ERROR, "the initiator has a name of its own", _name, _ISCSI),
    Check("iscsi-initiator-shared", Severity.ERROR, "no other node has this initiator name", _shared, _ISCSI),
    Check("iscsi-initiator-changed", Severity.ERROR, "the published initiator name is the file's", _changed, _ISCSI),
    Check("iscsid", Severity.ERROR, "iscsid listens", _listens, _ISCSI),
    Check("iscsi-autologin", Severity.WARNING, "the host logs in to no target by itself", _automatic, _ISCSI),
)
