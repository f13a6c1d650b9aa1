"""The product in the guests: a controller with its backends in `ctl`, a node daemon in `n1` and in `n2`, and the client.

The daemons are started as systemd would: with a plain PATH, from settings files, and each only when it does not run.
They outlive tests: a start takes a guest half a minute. A test that needs other settings says so with `configure`.
"""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from harness import layout
from harness.guest import Guest
from harness.leftovers import leftovers
from harness.network import Lan
from harness.topology import Topology
from harness.waiting import wait_until
from schema.keys import Family, Keyspace

CONTROLLER = "brickwork-controller"
NODE = "brickwork-node"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GROUP = "cinder-volumes"
SHARE = "/disk/nfs/volumes"
# For whatever takes one or several calls of drivers or os-brick. There to end a hang, hence far too long.
SETTLE_S = 420

# What a failed test wants to know of the product. Of connections and records only the names: their values hold secrets.
EVIDENCE = [
    "brickctl get backends -o wide; brickctl get nodes -o wide; brickctl get volumes -o wide",
    "brickctl get attachments -o wide",
    "for volume in $(brickctl get volumes -o name); do brickctl explain ${volume#volume/}; done",
    "etcdctl get --prefix --keys-only /brickwork/v1/ | grep .",
    "for family in claims attachments nodes alive fences fenced grants volumes verdicts leaders; do"
    ' etcdctl get --prefix /brickwork/v1/$family/ | sed \'s/"connector":{[^}]*}/"connector":…/g\'; done',
]

# Prints how often it looked, and all initiators that are logged in, whenever there are others than before.
WATCH_SESSIONS = r"""
looks=0
last=
while :; do
    looks=$((looks + 1))
    now=
    for acl in /sys/kernel/config/target/iscsi/iqn*/tpgt_1/acls/*; do
        { read -r state <$acl/info; } 2>/dev/null || continue
        case $state in "No active"*) ;; *) now="$now ${acl##*:}";; esac
    done
    [ "$now" = "$last" ] || echo "$looks looks:$now"
    last=$now
    sleep 0.1
done
"""


def lvm_backend(topology: Topology, kind: str) -> dict[str, Any]:
    """Cinder's LVM driver, exporting with LIO and CHAP over both storage networks; `kind` is `thick` or `thin`."""
    options = {
        "volume_group": GROUP,
        "lvm_type": "default" if kind == "thick" else "thin",
        "target_helper": "lioadm",
        "target_protocol": "iscsi",
        "target_ip_address": topology.ctl.address(Lan.STORAGE_A),
        "target_secondary_ip_addresses": [topology.ctl.address(Lan.STORAGE_B)],
        "use_chap_auth": True,
        # Enough for a file system's signature: lvcreate refuses to take space that has one.
        "volume_clear_size": 2,
    }
    return {"driver": "cinder.volume.drivers.lvm.LVMVolumeDriver", "options": options}


def nfs_backend(topology: Topology) -> dict[str, Any]:
    """Cinder's NFS driver, with a share of the controller's guest; starts its server."""
    ctl = topology.ctl
    ctl.run(f"mountpoint -q /proc/fs/nfsd || {layout.E2E}/guest/serve-nfs; mkdir -p {SHARE}")
    ctl.put("/etc/brickwork/shares", f"{ctl.address(Lan.STORAGE_A)}:/volumes\n")
    options = {
        "nfs_shares_config": "/etc/brickwork/shares",
        "nfs_mount_point_base": "/var/lib/brickwork/nfs",
        "nas_secure_file_operations": "false",
        "nas_secure_file_permissions": "false",
    }
    return {"driver": "cinder.volume.drivers.nfs.NfsDriver", "options": options}


@dataclass(frozen=True)
class Volume:
    """A volume of the LVM driver: its name for users, and where its bytes lie."""

    name: str
    uid: str

    @property
    def device(self) -> str:
        """On the controller's guest."""
        return f"/dev/{GROUP}/volume-{self.uid}"

    @property
    def file(self) -> str:
        """On the controller's guest, when it is one of the NFS driver."""
        return f"{SHARE}/volume-{self.uid}"

    @property
    def link(self) -> str:
        """On a node."""
        return f"/dev/brickwork/{self.name}"


class Brickwork:
    """All daemons and the client."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.keyspace = Keyspace()
        self.env = {"BRICKWORK_ENDPOINTS": f"http://{topology.etcd.endpoint}"}
        self._backends: dict[str, Any] = {}
        self._nodes = {guest.name: guest for guest in (topology.n1, topology.n2)}
        topology.lasting_daemons = {CONTROLLER, NODE}

    # --- daemons

    def configure(self, backends: Mapping[str, Any]) -> None:
        """Have a controller with these backends, and both node daemons; returns once all of them work."""
        if self._backends != backends:
            self.stop(self.topology.ctl)
            self._backends = dict(backends)
        self.start_controller()
        for guest in self._nodes.values():
            self.start_node(guest)
        self.wait_until_ready()

    def start_controller(self) -> None:
        """Start it, if it does not run."""
        if self._runs(self.topology.ctl, CONTROLLER):
            return
        self._start(self.topology.ctl, CONTROLLER, self.controller_settings(self.topology.ctl, self._backends))

    def controller_settings(self, guest: Guest, backends: Mapping[str, Any]) -> dict[str, Any]:
        """What a guest's controller is told."""
        return self._common("controller") | {
            "my_ip": guest.address(Lan.STORAGE_A),
            "backends": dict(backends),
            "deadlines_s": {"start": 300},
        }

    def start_node(self, guest: Guest, failpoint: str = "", *, multipath: bool = True) -> None:
        """Start the node daemon, if it does not run. With a failpoint it kills itself there (see docs/DEVELOPING.md)."""
        if self._runs(guest, NODE):
            return
        settings = self.node_settings(guest) | {"multipath": multipath}
        if failpoint:
            settings |= {"allow_failpoints": True, "failpoint": failpoint}
        self._start(guest, NODE, settings)

    def node_settings(self, guest: Guest) -> dict[str, Any]:
        """What a guest's node daemon is told."""
        return self._common("node") | {
            "node": guest.name,
            "host_identity": guest.name,
            "my_ip": guest.address(Lan.STORAGE_A),
            "multipath": True,
            "deadlines_s": {"start": 300, "properties": 300, "inspect": 180},
        }

    def fence_agent_settings(self) -> dict[str, Any]:
        """What a fence agent is told; its command is the test's."""
        return self._common("fence-agent") | {"retry_base_s": 1.0}

    def kill(self, guest: Guest) -> None:
        """SIGKILL the guest's daemon."""
        guest.kill_daemon(CONTROLLER if guest is self.topology.ctl else NODE)

    def stop(self, guest: Guest) -> None:
        """End the guest's daemon with all its children; nothing to do when it does not run."""
        name = CONTROLLER if guest is self.topology.ctl else NODE
        guest.stop_daemons(keep=[daemon for other, daemon in guest.daemons.items() if other != name])

    def wait_until_ready(self) -> None:
        """Wait until every backend and every node has said that it works."""
        for name in self._backends:
            self._wait_for(name, partial(self._is_ready, name))
        for name in self._nodes:
            self._wait_for(name, partial(self.value, Family.ALIVE, name))

    def _wait_for(self, what: str, works: Callable[[], object]) -> None:
        wait_until(works, SETTLE_S, f"{what} works, see the daemons' logs")

    def _is_ready(self, backend: str) -> bool:
        return bool(self.value(Family.BACKEND, backend).get("ready"))

    def _common(self, kind: str) -> dict[str, Any]:
        return {
            "etcd": {"endpoints": [f"http://{self.topology.etcd.endpoint}"]},
            "state_folder": f"/var/lib/brickwork/{kind}",
            "run_folder": f"/run/brickwork/{kind}",
            "http": {"listen": "none"},
            "log": {"format": "text"},
            "lease_ttl_s": 10,
            "retry_cap_s": 5.0,
        }

    def _runs(self, guest: Guest, name: str) -> bool:
        return name in guest.daemons and guest.daemons[name].running

    def _start(self, guest: Guest, name: str, settings: Mapping[str, Any]) -> None:
        file = f"/etc/brickwork/{name}.yaml"
        guest.put(file, yaml.safe_dump(dict(settings)))
        guest.start_daemon(name, [layout.VENV / "bin" / name, "--config", file], env={"PATH": PATH})

    # --- the client

    def brickctl(self, *arguments: str, check: bool = True, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the client on this machine. With `check`, another exit code than 0 fails, with what it wrote."""
        command = [str(layout.VENV / "bin" / "brickctl"), *arguments]
        done = self.topology.network.run(command, timeout_s, check=False, env=self.env)
        assert not check or done.returncode == 0, f"brickctl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    def wait(self, kind: str, name: str, goal: str, timeout_s: float = SETTLE_S) -> None:
        """`brickctl wait`; fails with what `brickctl` says of the state."""
        wanted = ["wait", kind, name, f"--for={goal}", "--timeout", f"{timeout_s:.0f}s"]
        self.brickctl(*wanted, timeout_s=timeout_s + 60)

    def attach(self, node: Guest, volume: Volume) -> None:
        """Wish for it and wait."""
        self.brickctl("attach", node.name, volume.name)
        self.wait("attachment", f"{node.name}/{volume.name}", "attached")

    def detach(self, node: Guest, volume: Volume) -> None:
        """Take the wish back and wait."""
        self.brickctl("detach", node.name, volume.name)
        self.wait("attachment", f"{node.name}/{volume.name}", "detached")

    def create(self, name: str, backend: str, size_gib: int = 1) -> Volume:
        """Wish for a volume and wait until it is there."""
        manifest = self.topology.logs.file(f"{name}.yaml")
        spec = {"backend": backend, "size_gib": size_gib, "on_delete": "delete"}
        manifest.write_text(yaml.safe_dump({"kind": "Volume", "name": name, "spec": spec}))
        self.brickctl("apply", "-f", str(manifest))
        self.wait("volume", name, "available")
        return Volume(name, self.value(Family.VOLUME, name)["uid"])

    def delete(self, volume: Volume) -> None:
        """Take the wish for a volume back and wait until its data is gone."""
        self.brickctl("delete", "volume", volume.name, "--yes")
        self.wait("volume", volume.name, "deleted")

    def explain(self, *names: str) -> str:
        return self.brickctl("explain", *names).stdout

    # --- what is in the store and on the array

    def value(self, family: Family, *names: str) -> dict[str, Any]:
        """One key's value; empty when there is none."""
        text = self.topology.etcd.etcdctl("get", "--print-value-only", self.keyspace.path(family, *names))
        value: dict[str, Any] = json.loads(text) if text.strip() else {}
        return value

    def attachment(self, node: Guest, volume: Volume) -> dict[str, Any]:
        """What the node says of it."""
        return self.value(Family.ATTACHMENT, node.name, volume.name)

    def value_of_node(self, node: Guest) -> dict[str, Any]:
        """What the node says of itself."""
        return self.value(Family.NODE, node.name)

    def keys(self) -> list[str]:
        """All keys below the prefix."""
        listed = self.topology.etcd.etcdctl("get", "--prefix", "--keys-only", self.keyspace.prefix)
        return [line.removeprefix(self.keyspace.prefix) for line in listed.splitlines() if line]

    def holders(self, volume: Volume) -> list[str]:
        """Who may use it, by both copies of the list."""
        copies = [self.value(family, volume.name).get("holders", []) for family in (Family.GRANT, Family.VOLUME)]
        return sorted({holder["node"] for copy in copies for holder in copy})

    def traces_of_node(self, node: Guest, volume: Volume) -> list[str]:
        """What is left of an attachment on the node, and of its keys."""
        pair = f"/{node.name}/{volume.name}"
        return [f"{node.name}: {what}" for what in leftovers(node)] + [key for key in self.keys() if key.endswith(pair)]

    def traces(self, node: Guest, volume: Volume) -> list[str]:
        """All that an attachment may leave: on the node, in the store, on the array. After a detach there is none (A36)."""
        left = self.traces_of_node(node, volume)
        left += [f"holder {holder}" for holder in self.holders(volume)]
        left += [f"export {each}" for each in self.value(Family.RECORD, volume.name).get("exports", [])]
        return left + [f"target {each}" for each in targets(self.topology.ctl) if volume.uid in each]


def targets(ctl: Guest) -> list[str]:
    """The iSCSI targets that LIO has."""
    return ctl.run("ls /sys/kernel/config/target/iscsi 2>/dev/null | grep ^iqn", check=False).stdout.split()


def iqn_of(volume: Volume) -> str:
    """The iSCSI target that Cinder's driver makes for a volume."""
    return f"iqn.2010-10.org.openstack:volume-{volume.uid}"


def logged_in(ctl: Guest, volume: Volume) -> set[str]:
    """The nodes with a live session to this volume's target, as the target sees it."""
    script = f"grep -L '^No active' /sys/kernel/config/target/iscsi/*{volume.uid}/tpgt_1/acls/*/info"
    return {path.split("/")[-2].rpartition(":")[2] for path in ctl.run(script, check=False).stdout.split()}


def write(node: Guest, volume: Volume, word: str, offset_mib: int) -> None:
    """Fill one MiB of the device, past the caches."""
    pattern = (word.encode() + b" ") * (2**20 // (len(word) + 1) + 1)
    target = f"of={volume.link} bs=1M count=1 iflag=fullblock oflag=direct conv=fsync,notrunc seek={offset_mib}"
    node.run(f"dd {target}", content=pattern[: 2**20], timeout_s=180)


def digest(guest: Guest, device: str, size_mib: int = 32) -> str:
    """The SHA-256 of the first part of a device, read past the caches."""
    script = f"set -o pipefail; dd if={device} bs=1M count={size_mib} iflag=direct 2>/dev/null | sha256sum"
    return guest.run(script, timeout_s=180).stdout.split()[0]
