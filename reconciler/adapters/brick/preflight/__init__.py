"""Is this host fit for volumes? Looks for what is known to go wrong on hosts (docs/DOCTOR.md), and changes nothing.

case         what a check is given, and what it answers
host         the running system
fleet        etcd, and other nodes with this host's identity
iscsi, multipath, lvm, system
"""

from __future__ import annotations

from reconciler.adapters.brick.preflight import fleet, iscsi, lvm, multipath, system
from reconciler.adapters.brick.preflight.case import (
    PROTOCOLS,
    Access,
    Case,
    Check,
    EtcdSection,
    Finding,
    Fleet,
    Host,
    Ran,
    Settings,
    Severity,
    examine,
)
from reconciler.adapters.brick.preflight.host import SystemHost

__all__ = [
    "CHECKS", "PROTOCOLS", "Access", "Case", "Check", "EtcdSection", "Finding", "Fleet", "Host", "Ran", "Settings",
    "Severity", "SystemHost", "node_id", "preflight", "seems_made_for",
]  # fmt: skip

CHECKS: tuple[Check, ...] = (*fleet.CHECKS, *system.CHECKS, *iscsi.CHECKS, *multipath.CHECKS, *lvm.CHECKS)


def preflight(case: Case) -> list[Finding]:
    """The answers of all checks that concern the case's protocols."""
    return [examine(check, case) for check in CHECKS if check.protocols & case.protocols]


def node_id(host: Host, settings: Settings) -> str:
    """Who this host is, as the daemon would tell: the kept id, else the settings', else the host's name."""
    kept = host.text(f"{settings.state_folder}/node-id")
    return (kept or settings.node or host.text("/proc/sys/kernel/hostname") or "?").strip()


def seems_made_for(host: Host) -> frozenset[str]:
    """The protocols that a host seems to be made for. Files of this host (`local`) need nothing."""
    signs = {
        "iscsi": host.has("iscsiadm") or bool(host.names("/etc/iscsi")),
        "nvme": host.has("nvme") or bool(host.names("/etc/nvme")),
        "fc": bool(host.names("/sys/class/fc_host")),
        "nfs": host.has("mount.nfs"),
        "rbd": host.has("rbd") or bool(host.names("/etc/ceph")),
        "local": True,
    }
    return frozenset(protocol for protocol, there in signs.items() if there)
