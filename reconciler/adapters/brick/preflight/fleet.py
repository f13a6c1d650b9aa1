"""What etcd says about this node: whether it can be asked, who else has this host's identifiers, who else is this node."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path

from reconciler.adapters.brick.preflight.case import Answer, Case, Check, Fault, Severity, Unknown

EXPIRES_SOON_S = 30 * 86_400


def twin(case: Case, own: Mapping[str, str], remedy: tuple[str, ...]) -> Answer:
    """Another node that published one of these identifiers (connector property -> value)."""
    for name, record in sorted(case.fleet.nodes.items()):
        for kind, value in own.items():
            if name != case.node and value and record.connector.get(kind) == value:
                return Fault(f"node {name} has the same {kind}, {value}: one of them is a clone", remedy)
    if case.fleet.failure or case.fleet.hidden:
        return Unknown(_NOT_SEEN)
    return None


_NOT_SEEN = (
    "the records of other nodes can't be read: give brickctl a user who may read nodes/ (--cert and --key, or --user)"
)


def _settings(case: Case) -> Answer:
    if not case.settings_fault:
        return None
    return Fault(
        f"{case.settings_fault}; the daemon does not start with them, and the other checks took its defaults",
        ("correct them, and see: brickwork-node --check-config",),
    )


def _reached(case: Case) -> Answer:
    if not case.fleet.failure:
        return None
    return Fault(
        case.fleet.failure,
        (
            "the message names the fault; endpoints and certificates are under etcd: in the node's settings",
            f"try: etcdctl --endpoints {','.join(case.settings.etcd.endpoints)} endpoint health",
        ),
    )


def _certificates(case: Case) -> Answer:
    etcd = case.settings.etcd
    for file in filter(None, (etcd.cert_file, etcd.ca_file)):
        ends = _not_after(case, file)
        if ends is None:
            return Unknown(f"{file}: openssl can't tell how long it is valid")
        if ends - case.now < EXPIRES_SOON_S:
            days = int((ends - case.now) // 86_400)
            seen = f"{file} expires in {days} days" if ends > case.now else f"{file} expired {-days} days ago"
            return Fault(seen, (f"put a new certificate into {file}, in place: nothing needs to be restarted",))
    return None


def _not_after(case: Case, file: Path) -> float | None:
    """When a certificate ends, in seconds since 1970."""
    ran = case.host.run("openssl", "x509", "-noout", "-enddate", "-in", str(file))
    try:
        return ssl.cert_time_to_seconds(ran.out.strip().removeprefix("notAfter=")) if ran and ran.code == 0 else None
    except ValueError:
        return None


def _readable_secrets(case: Case) -> Answer:
    etcd = case.settings.etcd
    for file in filter(None, (etcd.key_file, etcd.password_file)):
        access = case.host.access(str(file))
        if access is not None and access.mode & 0o077:
            return Fault(
                f"{file} can be read by others (mode {access.mode:04o}): they can act as this node",
                (f"chmod 600 {file}",),
            )
    return None


def _clash(case: Case) -> Answer:
    """The one who gives a sign of life as this node must be this host's daemon: its boot id lies in the run folder."""
    alive = case.fleet.alive.get(case.node)
    if alive is None or alive == _boot(case):
        return Unknown("etcd can't be asked") if case.fleet.failure else None
    if case.host.user != 0:
        return Unknown("only root may read this host's boot id")
    return Fault(
        f"another daemon is alive as node {case.node} (boot {alive}; this host's is {_boot(case) or 'not begun'})",
        (
            "find out which of the two is the clone, and stop its daemon: systemctl stop brickwork-node",
            f"there, with nothing attached, remove {case.settings.state_folder}, /etc/iscsi/initiatorname.iscsi,",
            "/etc/nvme/hostnqn and /etc/nvme/hostid; give the host a name of its own (or set node), and start the daemon",
        ),
    )


def _boot(case: Case) -> str:
    try:
        return str(json.loads(case.host.text(f"{case.settings.run_folder}/boot.json") or "")["boot"])
    except (ValueError, TypeError, KeyError):
        return ""


CHECKS = (
    Check("settings", Severity.ERROR, "the node's settings are valid", _settings),
    Check("etcd", Severity.ERROR, "etcd answers", _reached),
    Check("etcd-certificate", Severity.WARNING, "no certificate is about to expire", _certificates),
    Check("etcd-secrets", Severity.WARNING, "nobody else can read the node's key or password", _readable_secrets),
    Check("node-clash", Severity.ERROR, "no other host is this node", _clash),
)
