"""LVM: whether the host's own LVM looks into attached volumes.

A volume often holds LVM of its own (a virtual machine's disk does). Where the host scans it, the volume groups inside are
activated here: the device is in use by nobody that its user knows of, detaching waits, and equal names clash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from reconciler.adapters.brick.preflight.case import Answer, Case, Check, Fault, Host, Severity

FILES = ("/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf")
"""What the second says holds."""
DEVICES_FILE = "/etc/lvm/devices/system.devices"

_SCSI = ("/dev/sdzz", "/dev/disk/by-id/wwn-0x6000000000000000")
_MAPS = ("/dev/dm-9999", "/dev/mapper/36000000000000000", "/dev/disk/by-id/dm-uuid-mpath-36000000000000000")
_NAMES_OF = {
    "iscsi": _SCSI,
    "fc": _SCSI,
    "nvme": ("/dev/nvme99n1", "/dev/disk/by-id/nvme-uuid.00000000"),
    "nfs": ("/dev/loop9999",),
    "local": ("/dev/loop9999",),
    "rbd": ("/dev/rbd9999",),
}
"""Names that an attached volume may have, and a disk of the host's own has not."""

_TEXT = r'"(?:[^"\\]|\\.)*"'
"""A text of lvm.conf; it may hold brackets, as regular expressions do."""


def _scans(case: Case) -> Answer:
    if not case.host.has("lvm") or _devices_file_used(case.host):
        return None
    filters = [_filter(case.host, name) for name in ("global_filter", "filter")]
    for protocol in sorted(case.protocols):
        maps = case.settings.multipath and protocol in ("iscsi", "fc")
        names = _MAPS if maps else _NAMES_OF[protocol]
        if all(any(_accepts(patterns, name) for name in names) for patterns in filters):
            return Fault(
                f"the host's LVM scans attached volumes ({names[0]} passes its filters), and activates what it finds inside",
                (
                    "let it see its own disks only: vgimportdevices --all, with use_devicesfile = 1 in /etc/lvm/lvm.conf",
                    'or by a filter there: global_filter = [ "a|^/dev/DISK OF THE HOST$|", "r|.*|" ]; then update-initramfs -u',
                ),
            )
    return None


def _devices_file_used(host: Host) -> bool:
    """Without the file nothing is restricted; some distributions use it unless told otherwise."""
    return host.text(DEVICES_FILE) is not None and _last(host, r"use_devicesfile\s*=\s*(\d)") != "0"


def _filter(host: Host, name: str) -> list[str]:
    """The patterns of a filter; none where it is not set."""
    value = _last(host, rf"(?<!\w){name}\s*=\s*(\[(?:[\s,]|{_TEXT})*\]|{_TEXT})")
    return [text[1:-1] for text in re.findall(_TEXT, value)]


def _last(host: Host, pattern: str) -> str:
    found = ""
    for file in FILES:
        text = re.sub(r"^\s*#.*$", "", host.text(file) or "", flags=re.MULTILINE)
        found = next(reversed(re.findall(pattern, text)), found)
    return found


def _accepts(patterns: Iterable[str], name: str) -> bool:
    """The first pattern that fits decides (`a|regex|`, `r/regex/`); what none fits is accepted (lvm.conf(5))."""
    for pattern in patterns:
        try:
            if len(pattern) > 2 and re.search(pattern[2:-1], name):
                return pattern[0] == "a"
        except re.error:
            continue
    return True


CHECKS = (Check("lvm-scan", Severity.WARNING, "the host's LVM does not look into attached volumes", _scans),)
