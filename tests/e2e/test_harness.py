"""The harness itself: guests are hosts with real storage, and what a test does to them has its effect."""

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness import layout
from harness.channel import CommandFailed, CommandTimedOut
from harness.guest import Guest
from harness.leftovers import leftovers
from harness.network import Lan
from harness.topology import Topology
from harness.waiting import wait_until

BRICK_PROBE = Path(__file__).parent / "brick_probe.py"
PYTHON = layout.VENV / "bin" / "python3"


def test_each_guest_is_a_host_of_its_own(topology: Topology) -> None:
    """Nothing that a storage array tells hosts apart by is shared."""
    files = ("/etc/hostname", "/etc/machine-id", "/etc/nvme/hostnqn", "/etc/iscsi/initiatorname.iscsi")
    for file in files:
        assert len({guest.get(file) for guest in topology.guests}) == 3, file
    assert [guest.run("hostname").stdout.strip() for guest in topology.guests] == ["ctl", "n1", "n2"]
    assert len({guest.boot_id() for guest in topology.guests}) == 3


def test_guests_see_the_checkout_and_cannot_change_it(n1: Guest) -> None:
    assert n1.get(str(Path(__file__))) == Path(__file__).read_bytes()
    assert n1.run(["touch", layout.CHECKOUT / "written-by-a-guest"], check=False).exit_code == 1
    assert n1.run([PYTHON, "-c", "import schema; print(schema.__file__)"]).stdout.startswith(str(layout.CHECKOUT))


def test_a_command_has_an_exit_code_both_outputs_and_a_deadline(n1: Guest) -> None:
    result = n1.run("echo said; echo complained >&2; exit 3", check=False)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "said\n", "complained\n")
    with pytest.raises(CommandFailed, match="complained"):
        n1.run("echo complained >&2; false")
    with pytest.raises(CommandTimedOut, match="begun"):
        n1.run("echo begun; sleep 1000 & wait", timeout_s=2)
    assert n1.run(["pgrep", "sleep"], check=False).exit_code == 1, "a time-out must end the children too"
    # A daemon that it leaves behind holds its output open, and that must not hold up the command.
    left_behind = int(n1.run("sleep 1000 & echo $!").stdout)
    n1.run(["kill", str(left_behind)])  # not by its name, which it has only once it is more than a copy of the shell


def test_files_get_in_and_out_unchanged(n1: Guest) -> None:
    content = bytes(range(256)) * 4096
    n1.put("/var/lib/some/folder/file", content, mode=0o600)
    assert n1.get("/var/lib/some/folder/file") == content
    assert n1.run("stat -c %a /var/lib/some/folder/file").stdout == "600\n"


def test_a_daemon_is_followed_signalled_and_started_again(topology: Topology, n1: Guest) -> None:
    script = "trap 'echo asked to stop; exit 7' TERM; echo serving as $ROLE; while :; do sleep 0.1; done"
    daemon = n1.start_daemon("example", script, env={"ROLE": "first"})
    daemon.wait_for_output("serving as first", timeout_s=30)
    assert n1.kill_daemon("example", signal.SIGTERM) == 7
    assert daemon.output() == "serving as first\nasked to stop\n"

    n1.start_daemon("example", script, env={"ROLE": "second"}).wait_for_output("second", timeout_s=30)
    assert n1.kill_daemon("example") == -signal.SIGKILL
    logged = topology.logs.file("n1-example.log").read_text()
    assert logged == "serving as first\nasked to stop\nserving as second\n"


def test_a_node_without_management_network_loses_etcd_and_still_takes_commands(topology: Topology, n1: Guest) -> None:
    reach_etcd = f"exec 3<>/dev/tcp/{topology.etcd.endpoint.replace(':', '/')}"
    n1.run(reach_etcd)
    n1.cut(Lan.MANAGEMENT)
    with pytest.raises(CommandTimedOut):
        n1.run(reach_etcd, timeout_s=2)
    n1.heal(Lan.MANAGEMENT)
    wait_until(lambda: n1.run(reach_etcd, check=False).exit_code == 0, 60, "etcd is back")


def test_a_frozen_guest_answers_nobody_until_it_is_thawed(n1: Guest, n2: Guest) -> None:
    ping = ["ping", "-c", "1", "-W", "2", n1.address(Lan.MANAGEMENT)]
    boot_id = n1.boot_id()
    n1.freeze()
    assert n2.run(ping, check=False).exit_code != 0
    n1.thaw()
    wait_until(lambda: n2.run(ping, check=False).exit_code == 0, 60, "n1 answers again")
    assert n1.boot_id() == boot_id


def test_etcd_keeps_its_keys_over_a_crash(topology: Topology) -> None:
    topology.etcd.put("/harness/key", {"value": 1})
    topology.etcd.kill()
    assert not topology.etcd.healthy()
    topology.etcd.start()
    assert json.loads(topology.etcd.etcdctl("get", "--print-value-only", "/harness/key")) == {"value": 1}
    topology.etcd.wipe()


@dataclass(frozen=True)
class Export:
    """A logical volume on ctl that both its storage addresses export, to whoever knows the CHAP secret."""

    device: str
    connection: dict[str, Any]


@pytest.fixture
def export(ctl: Guest, n1: Guest) -> Iterator[Export]:
    iqn = "iqn.2010-10.org.openstack:probe"
    addresses = [ctl.address(lan) for lan in (Lan.STORAGE_A, Lan.STORAGE_B)]
    user, secret, device = "probe-user", "probe-secret-12", "/dev/cinder-volumes/probe"
    initiator = n1.get("/etc/iscsi/initiatorname.iscsi").decode().strip().removeprefix("InitiatorName=")
    ctl.run("lvcreate --yes --wipesignatures y --size 64M --name probe cinder-volumes")
    try:
        ctl.run(["cinder-rtstool", "create", device, iqn, user, secret, "False", initiator, "-a" + ",".join(addresses)])
        connection = {
            "target_discovered": False,
            "target_portal": f"{addresses[0]}:3260",
            "target_iqn": iqn,
            "target_lun": 0,
            "target_portals": [f"{address}:3260" for address in addresses],
            "target_iqns": [iqn, iqn],
            "target_luns": [0, 0],
            "auth_method": "CHAP",
            "auth_username": user,
            "auth_password": secret,
            "volume_id": "probe",
            "access_mode": "rw",
            "encrypted": False,
        }
        yield Export(device, connection)
    finally:
        ctl.run(["cinder-rtstool", "delete", iqn], check=False)
        ctl.run("lvremove --yes cinder-volumes/probe")


def probe(node: Guest, action: str, told: dict[str, Any]) -> str:
    """Let os-brick connect or disconnect."""
    return node.run([PYTHON, BRICK_PROBE, action], content=json.dumps(told).encode(), timeout_s=180).stdout


def paths(node: Guest, state: str) -> int:
    """Count the multipath paths in this state."""
    listed = node.run(["multipathd", "show", "paths", "raw", "format", "%d %t %o %T"], check=False).stdout
    return len(re.findall(rf"^sd\w+ {state} ", listed, re.MULTILINE))


def test_a_volume_is_attached_over_two_paths_and_survives_the_loss_of_one(
    ctl: Guest, n1: Guest, export: Export
) -> None:
    """CHAP, iSCSI, multipath and udev are the real ones: what a node writes is on the controller's logical volume."""
    device = json.loads(probe(n1, "connect", {"connection": export.connection}))
    assert leftovers(n1), "the check for leftovers must see an attached volume"
    wait_until(lambda: paths(n1, "active") == 2, 60, "both paths are up")

    n1.put("/tmp/pattern", b"written by n1..." * 65536)
    write = ["dd", "if=/tmp/pattern", f"of={device['path']}", "bs=1M", "oflag=direct", "conv=fsync"]
    n1.run([*write, "seek=8"])
    assert read(ctl, export.device, offset_mib=8) == n1.get("/tmp/pattern")

    n1.cut(Lan.STORAGE_B)
    n1.run([*write, "seek=16"], timeout_s=120)
    assert read(ctl, export.device, offset_mib=16) == n1.get("/tmp/pattern")
    wait_until(lambda: paths(n1, "failed") == 1, 60, "the cut path has failed")
    n1.heal(Lan.STORAGE_B)
    wait_until(lambda: paths(n1, "active") == 2, 120, "the healed path is back")

    probe(n1, "disconnect", {"connection": export.connection, "device": device})
    assert leftovers(n1) == []


def read(guest: Guest, device: str, offset_mib: int) -> bytes:
    """Read one MiB past the caches."""
    return guest.run(["dd", f"if={device}", "bs=1M", "count=1", f"skip={offset_mib}", "iflag=direct"]).stdout_bytes


def test_a_killed_guest_boots_again_with_its_disks_and_an_empty_run(topology: Topology, ctl: Guest, n1: Guest) -> None:
    ctl.run("lvcreate --yes --size 8M --name survivor cinder-volumes; sync")
    n1.run("echo kept >/var/lib/kept; echo lost >/run/lost; sync")
    daemon = n1.start_daemon("example", ["sleep", "1000"])
    boot_ids = [guest.boot_id() for guest in topology.guests]

    ctl.kill()
    n1.kill()
    assert not daemon.running
    assert daemon.exit_code is None
    topology.boot_all()

    booted_again = [old != guest.boot_id() for old, guest in zip(boot_ids, topology.guests, strict=True)]
    assert booted_again == [True, True, False]
    assert n1.get("/var/lib/kept") == b"kept\n"
    assert n1.run("ls /run/lost", check=False).exit_code != 0
    ctl.run("lvremove --yes cinder-volumes/survivor")


def test_a_guest_shuts_down_and_boots_again(n2: Guest) -> None:
    n2.run("echo kept >/var/lib/kept")
    n2.shutdown()
    assert not n2.running
    n2.boot()
    assert n2.get("/var/lib/kept") == b"kept\n"


def test_a_node_mounts_what_the_controller_serves_over_nfs(ctl: Guest, n1: Guest) -> None:
    ctl.run([layout.E2E / "guest" / "serve-nfs"])
    ctl.run("mkdir /disk/nfs/shared")
    n1.run(f"mkdir -p /mnt/shared; mount -t nfs {ctl.address(Lan.STORAGE_A)}:/shared /mnt/shared")
    n1.run("echo written by n1 >/mnt/shared/file; sync")
    assert ctl.get("/disk/nfs/shared/file") == b"written by n1\n"
    assert any("NFS mount" in leftover for leftover in leftovers(n1))
    n1.run("umount /mnt/shared")
    assert leftovers(n1) == []
