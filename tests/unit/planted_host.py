"""A host as plain data: files, programs and what they print. Tests plant misconfigurations in it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reconciler.adapters.brick.preflight import Access, Case, EtcdSection, Fleet, Ran, Settings
from schema.models import NodeRecord

NOW = 1_800_000_000.0
RELEASE = "6.1.0-18-amd64"
INITIATOR = "iqn.1993-08.org.debian:01:4f2a9c"
NQN = "nqn.2014-08.org.nvmexpress:uuid:6e1b5c1e-8f0a-4c0e-9d53-0d7d2a3f1b11"
HOST_ID = "6e1b5c1e-8f0a-4c0e-9d53-0d7d2a3f1b11"

MOUNTS = """\
21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 0:5 / /dev rw - devtmpfs udev rw
23 21 0:6 / /run rw - tmpfs tmpfs rw
"""
MULTIPATH_CONF = """\
defaults {
    find_multipaths no   # os-brick names the disks
    user_friendly_names no
    skip_kpartx yes
    no_path_retry 12
}
blacklist {
    devnode "^(loop|ram|sda$)"
}
"""
LVM_CONF = """\
devices {
    # global_filter = [ "a|.*|" ]
    global_filter = [ "a|^/dev/sda[0-9]*$|",
                      "r|.*|" ]
}
"""
MODULES = """\
kernel/drivers/scsi/iscsi_tcp.ko: kernel/drivers/scsi/libiscsi.ko
kernel/drivers/scsi/libiscsi.ko:
kernel/drivers/md/dm-multipath.ko:
kernel/drivers/nvme/host/nvme-tcp.ko:
kernel/drivers/block/loop.ko:
kernel/drivers/block/rbd.ko:
kernel/fs/nfs/nfs.ko:
"""
RECORD = "# BEGIN RECORD 2.1.8\nnode.name = {target}\nnode.startup = {startup}\n# END RECORD\n"

HEALTHY_FILES = {
    "/proc/self/mountinfo": MOUNTS,
    "/proc/sys/kernel/osrelease": f"{RELEASE}\n",
    "/proc/sys/kernel/hostname": "web-1\n",
    "/proc/modules": "loop 32768 0 - Live 0x0\n",
    "/proc/net/unix": "Num Path\n0000: 2 0 10000 1 1 999 @ISCSIADM_ABSTRACT_NAMESPACE\n",
    f"/lib/modules/{RELEASE}/modules.dep": MODULES,
    f"/lib/modules/{RELEASE}/modules.builtin": "kernel/drivers/scsi/sd_mod.ko\n",
    "/run/udev/control": "",
    "/run/brickwork/node/boot.json": '{"kernel": "k1", "boot": "b1"}',
    "/var/lib/brickwork/node/node-id": "web-1\n",
    "/etc/iscsi/initiatorname.iscsi": f"## generated\nInitiatorName={INITIATOR}\n",
    "/etc/iscsi/nodes/iqn.t/10.0.0.1,3260,1/default": RECORD.format(target="iqn.t", startup="manual"),
    "/etc/multipath.conf": MULTIPATH_CONF,
    "/etc/lvm/lvm.conf": LVM_CONF,
    "/etc/nvme/hostnqn": f"{NQN}\n",
    "/etc/nvme/hostid": f"{HOST_ID}\n",
    "/sys/module/nvme_core/parameters/multipath": "Y\n",
    "/sys/class/fc_host/host1/port_state": "Online\n",
    "/etc/nova/nova.conf": "[oslo_concurrency]\nlock_path = /run/lock/os-brick\n",
}
HEALTHY_PROGRAMS = {
    "ip -json address": '[{"addr_info": [{"family": "inet", "local": "10.0.0.21"}]}]',
    "timedatectl show --property=NTPSynchronized --value": "yes\n",
    "multipathd show status": "path checker states:\nup 4\n",
    "openssl x509 -noout -enddate -in /etc/brickwork/node.pem": "notAfter=Jan 15 08:00:00 2028 GMT\n",
    "openssl x509 -noout -enddate -in /etc/brickwork/ca.pem": "notAfter=Jan 15 08:00:00 2036 GMT\n",
    **dict.fromkeys(("iscsiadm", "iscsid", "lsscsi", "multipath", "kpartx", "lvm", "nvme", "mount.nfs", "qemu-img", "rbd"), ""),
}  # fmt: skip


@dataclass
class PlantedHost:
    """The `Host` port over dictionaries. Folders are there by what lies in them; a program by any of its command lines."""

    files: dict[str, str] = field(default_factory=lambda: dict(HEALTHY_FILES))
    programs: dict[str, str] = field(default_factory=lambda: dict(HEALTHY_PROGRAMS))
    """Command line -> output. Empty: it fails."""
    modes: dict[str, Access] = field(default_factory=dict)
    user: int = 0
    secret: frozenset[str] = frozenset()
    """Files that are seen in their folder and may not be read."""

    def text(self, path: str) -> str | None:
        return None if path in self.secret else self.files.get(path)

    def names(self, folder: str) -> list[str]:
        inside = (path.removeprefix(f"{folder}/") for path in self.files if path.startswith(f"{folder}/"))
        return sorted({path.partition("/")[0] for path in inside})

    def access(self, path: str) -> Access | None:
        return self.modes.get(path)

    def has(self, program: str) -> bool:
        return any(line.split()[0] == program for line in self.programs)

    def run(self, *command: str) -> Ran | None:
        if not self.has(command[0]):
            return None
        out = self.programs.get(" ".join(command), "")
        return Ran(0 if out else 1, out)


SETTINGS = Settings(
    etcd=EtcdSection(
        endpoints=("https://etcd-1:2379",),
        ca_file=Path("/etc/brickwork/ca.pem"),
        cert_file=Path("/etc/brickwork/node.pem"),
        key_file=Path("/etc/brickwork/node.key"),
    ),
    prefix="/brickwork/v1/",
    state_folder=Path("/var/lib/brickwork/node"),
    run_folder=Path("/run/brickwork/node"),
    link_folder=Path("/dev/brickwork"),
    lock_path=Path("/run/lock/os-brick"),
    multipath=True,
    my_ip="10.0.0.21",
)


def record(boot: str = "b1", **connector: Any) -> NodeRecord:
    return NodeRecord(boot=boot, connector=connector)


def healthy() -> Case:
    """A host that is made for every protocol, and one other node."""
    own = record(initiator=INITIATOR, nqn=NQN, nvme_hostid=HOST_ID)
    other = record("b2", initiator="iqn.other:2", nqn="nqn.2014-08.org.other", nvme_hostid="other")
    return Case(
        host=PlantedHost(),
        settings=SETTINGS,
        node="web-1",
        protocols=frozenset({"iscsi", "nvme", "fc", "nfs", "local", "rbd"}),
        fleet=Fleet(nodes={"web-1": own, "web-2": other}, alive={"web-1": "b1", "web-2": "b2"}),
        now=NOW,
    )


def planted(case: Case) -> PlantedHost:
    assert isinstance(case.host, PlantedHost)
    return case.host


def with_settings(case: Case, **changes: Any) -> Case:
    return replace(case, settings=case.settings.model_copy(update=changes))
