"""The host itself: kernel modules, udev, folders, address, clock; and the protocols that need little (NVMe, FC, NFS, RBD)."""

from __future__ import annotations

import configparser
import json
import re
import uuid
from pathlib import Path

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

_MODULES: dict[str, tuple[tuple[str, ...], ...]] = {
    "iscsi": (("iscsi_tcp",), ("sd_mod",)),
    "fc": (("sd_mod",),),
    "nvme": (("nvme_tcp", "nvme_rdma", "nvme_fc"),),
    "nfs": (("nfs",), ("loop",)),
    "local": (("loop",),),
    "rbd": (("rbd",),),
}
"""What each protocol needs: one of each group."""
_VOLATILE = {"tmpfs", "ramfs", "devtmpfs"}
_OTHERS = {"/etc/nova/nova.conf": "Nova", "/etc/cinder/cinder.conf": "Cinder"}


# --- kernel --------------------------------------------------------------------------------------------------------------


def _updated(case: Case) -> Answer:
    release = _release(case.host)
    installed = [each for each in case.host.names("/lib/modules") if _listed(case.host, each)]
    if not installed or release in installed:
        return None
    return Fault(
        f"the modules of the running kernel {release} are gone; installed are those of {', '.join(installed)}: it was updated",
        ("detach what is attached (brickctl get attachments), then reboot the host",),
    )


def _modules(case: Case) -> Answer:
    there = _available(case.host)
    groups = {group for protocol in case.protocols for group in _MODULES[protocol]}
    if case.settings.multipath and case.protocols & {"iscsi", "fc"}:
        groups.add(("dm_multipath",))
    missing = sorted(group[0] for group in groups if not there.intersection(group))
    if not missing:
        return None
    if not _listed(case.host, _release(case.host)):
        return Unknown(
            f"no list of the running kernel's modules; not loaded, so perhaps built in: {', '.join(missing)}"
        )
    return Fault(
        f"the running kernel {_release(case.host)} has no {', '.join(missing)}",
        (
            "install all of the kernel: linux-image-amd64 instead of the cloud one (Debian), linux-modules-extra (Ubuntu)",
        ),
    )


def _release(host: Host) -> str:
    return (host.text("/proc/sys/kernel/osrelease") or "").strip()


def _listed(host: Host, release: str) -> bool:
    return host.text(f"/lib/modules/{release}/modules.dep") is not None


def _available(host: Host) -> set[str]:
    """Modules that are loaded, built in, or can be loaded."""
    found = {line.split()[0] for line in (host.text("/proc/modules") or "").splitlines() if line}
    found.update(host.names("/sys/module"))
    for list_file in ("modules.builtin", "modules.dep"):
        for line in (host.text(f"/lib/modules/{_release(host)}/{list_file}") or "").splitlines():
            name = Path(line.partition(":")[0]).name.partition(".")[0]
            found.add(name.replace("-", "_"))
    return found


def _udev(case: Case) -> Answer:
    if "control" in case.host.names("/run/udev"):
        return None
    return Fault(
        "udev does not run: no links below /dev/disk, and multipathd never hears of new disks",
        ("apt-get install udev; systemctl start systemd-udevd",),
    )


# --- folders -------------------------------------------------------------------------------------------------------------


def _state_folder(case: Case) -> Answer:
    folder = case.settings.state_folder
    mount = case.mount_of(folder)
    access = case.host.access(str(folder))
    if mount and mount.fstype in _VOLATILE:
        seen = f"{folder} is on {mount.fstype}: the node's id and its notes on devices are lost at a reboot"
    elif mount and mount.remote:
        seen = f"{folder} is on {mount.fstype}, which other hosts may share: two hosts would be one node"
    elif access and access.owner != 0:
        seen = (
            f"{folder} belongs to user {access.owner}: the daemon refuses it, as connection data with secrets lie there"
        )
        return Fault(seen, (f"chown -R root: {folder}; chmod 700 {folder}",))
    else:
        return None
    return Fault(seen, ("stop brickwork-node, move the folder to a local disk, and set state_folder to it",))


def _lock_path(case: Case) -> Answer:
    path = case.settings.lock_path
    mount = case.mount_of(path)
    if mount is None or not mount.remote:
        return None
    return Fault(
        f"lock_path {path} is on {mount.fstype}: os-brick's locks wait for its server, and for other hosts",
        ("set lock_path in the node's settings to a local folder, such as /run/brickwork/locks",),
    )


def _lock_path_differs(case: Case) -> Answer:
    for file, program in _OTHERS.items():
        other = _lock_path_in(case.host.text(file) or "")
        if other and Path(other) != case.settings.lock_path:
            return Fault(
                f"{program} on this host locks in {other} ({file}), Brickwork in {case.settings.lock_path}: "
                "they tear down each other's sessions",
                (f"set lock_path: {other} in the node's settings, and restart brickwork-node",),
            )
    return None


def _lock_path_in(text: str) -> str:
    """os-brick's own section goes before the one that all of oslo shares."""
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    try:
        parser.read_string(text)
    except configparser.Error:
        return ""
    for section in ("os_brick", "oslo_concurrency"):
        value = parser.get(section, "lock_path", fallback=None)
        if value and "$" not in value:
            return value
    return ""


def _link_folder(case: Case) -> Answer:
    folder = case.settings.link_folder
    mount = case.mount_of(folder)
    if mount is None or mount.fstype in _VOLATILE:
        return None
    return Fault(
        f"link_folder {folder} is on {mount.fstype} and outlives a reboot: a link may then lead to another volume's device",
        ("set link_folder in the node's settings to a folder below /dev, such as /dev/brickwork",),
    )


# --- address, clock, rights ----------------------------------------------------------------------------------------------


def _my_ip(case: Case) -> Answer:
    wanted = case.settings.my_ip
    if wanted is None:
        return None
    ran = case.host.run("ip", "-json", "address")
    try:
        found = {each["local"] for link in json.loads(ran.out if ran else "") for each in link.get("addr_info", ())}
    except (ValueError, TypeError, KeyError):
        return Unknown("ip (package iproute2) does not tell this host's addresses")
    if wanted in found:
        return None
    return Fault(
        f"my_ip is {wanted}, which is no address of this host ({', '.join(sorted(found))}): arrays grant access to another host",
        ("set my_ip in the node's settings to this host's address in the storage network, or take it out",),
    )


def _clock(case: Case) -> Answer:
    ran = case.host.run("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if ran is None or ran.code != 0 or ran.out.strip() not in ("yes", "no"):
        return Unknown("timedatectl does not tell whether the clock is synchronised")
    if ran.out.strip() == "yes":
        return None
    return Fault(
        "the clock is not synchronised: a certificate counts as expired, or as not yet valid, and logs do not fit together",
        ("systemctl enable --now systemd-timesyncd (or chrony), and let it reach its servers",),
    )


def _rights(case: Case) -> Answer:
    if case.host.user == 0:
        return None
    return Fault("not run as root: what only root may read is not seen", ("sudo brickctl doctor",))


# --- NVMe, Fibre Channel -------------------------------------------------------------------------------------------------

HOSTNQN, HOSTID = "/etc/nvme/hostnqn", "/etc/nvme/hostid"
_NEW_IDENTITY = (f"nvme gen-hostnqn > {HOSTNQN}; uuidgen > {HOSTID}", "systemctl restart brickwork-node")


def _nvme_identity(case: Case) -> Answer:
    """Missing files are no fault: os-brick makes them. Bad ones it takes as they are."""
    nqn, host_id = case.host.text(HOSTNQN), case.host.text(HOSTID)
    if nqn is not None and not re.fullmatch(r"nqn\.\d{4}-\d{2}\.\S+", nqn.strip()):
        return Fault(f"{HOSTNQN}: {nqn.strip()!r} is no NVMe qualified name", _NEW_IDENTITY)
    if host_id is not None and not _is_uuid(host_id.strip()):
        return Fault(f"{HOSTID}: {host_id.strip()!r} is no UUID", _NEW_IDENTITY)
    return None


def _is_uuid(text: str) -> bool:
    try:
        return uuid.UUID(text).int != 0
    except ValueError:
        return False


def _nvme_shared(case: Case) -> Answer:
    own = {"nqn": (case.host.text(HOSTNQN) or "").strip(), "nvme_hostid": (case.host.text(HOSTID) or "").strip()}
    return twin(case, own, _NEW_IDENTITY)


def _nvme_multipath(case: Case) -> Answer:
    native = (case.host.text("/sys/module/nvme_core/parameters/multipath") or "Y").strip()
    if not case.settings.multipath or native == "Y":
        return None
    return Fault(
        "the settings ask for multipath, but NVMe's own is switched off: each path is a device of its own",
        ("take nvme_core.multipath=N off the kernel's command line (and out of /etc/modprobe.d), and reboot",),
    )


def _fc_ports(case: Case) -> Answer:
    ports = case.host.names("/sys/class/fc_host")
    states = {port: (case.host.text(f"/sys/class/fc_host/{port}/port_state") or "?").strip() for port in ports}
    if "Online" in states.values():
        return None
    told = ", ".join(f"{port} {state}" for port, state in states.items())
    seen = f"no Fibre Channel port is online: {told}" if states else "the kernel knows no Fibre Channel port"
    return Fault(seen, ("check cable, switch and zoning; lspci -nn | grep -i fibre; dmesg has the driver's words",))


_NVME, _FC, _NFS, _RBD = (frozenset({each}) for each in ("nvme", "fc", "nfs", "rbd"))
_SCSI = frozenset({"iscsi", "fc"})
_NFS_TOOLS = missing_programs({"mount.nfs": "nfs-common", "qemu-img": "qemu-utils"})

CHECKS = (
    Check("rights", Severity.WARNING, "everything may be looked at", _rights),
    Check("kernel-updated", Severity.ERROR, "the running kernel is the installed one", _updated),
    Check("kernel-modules", Severity.ERROR, "the kernel has the modules that are needed", _modules),
    Check("udev", Severity.ERROR, "udev runs", _udev, _SCSI | _NVME),
    Check("state-folder", Severity.ERROR, "the state folder is local, lasting and root's", _state_folder),
    Check("lock-path", Severity.ERROR, "locks are local", _lock_path),
    Check("lock-path-differs", Severity.ERROR, "all users of os-brick here share one lock path", _lock_path_differs),
    Check("link-folder", Severity.WARNING, "links go with a reboot", _link_folder),
    Check("my-ip", Severity.ERROR, "my_ip is an address of this host", _my_ip),
    Check("clock", Severity.WARNING, "the clock is synchronised", _clock),
    Check("scsi-tools", Severity.WARNING, "lsscsi is installed", missing_programs({"lsscsi": "lsscsi"}), _SCSI),
    Check("nvme-tools", Severity.ERROR, "nvme-cli is installed", missing_programs({"nvme": "nvme-cli"}), _NVME),
    Check("nvme-identity", Severity.ERROR, "the host's NVMe names are valid", _nvme_identity, _NVME),
    Check("nvme-identity-shared", Severity.ERROR, "no other node has this host's NVMe names", _nvme_shared, _NVME),
    Check("nvme-multipath", Severity.WARNING, "NVMe's own multipath is on", _nvme_multipath, _NVME),
    Check("fc-ports", Severity.ERROR, "a Fibre Channel port is online", _fc_ports, _FC),
    Check("nfs-tools", Severity.ERROR, "nfs-common and qemu-utils are installed", _NFS_TOOLS, _NFS),
    Check("rbd-tools", Severity.ERROR, "ceph-common is installed", missing_programs({"rbd": "ceph-common"}), _RBD),
)
