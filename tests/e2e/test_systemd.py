"""A host with systemd: under the units of deploy/ as they are shipped, volumes come, go, and are mounted at boot."""

import json
from typing import Any

import pytest
import yaml
from harness import layout
from harness.channel import CommandResult
from harness.guest import Guest
from harness.network import Lan
from harness.product import (
    GROUP,
    SETTLE_S,
    Brickwork,
    Volume,
    digest,
    lvm_backend,
    nfs_backend,
    targets,
    write,
)
from harness.topology import Topology
from harness.waiting import wait_until

from schema.keys import Family

MOUNT = "srv-data.mount"
# Of a process: the hardening that its unit has asked for.
HARDENING = "grep -E '^(Umask|Seccomp|NoNewPrivs|CapBnd):' /proc/$(systemctl show -P MainPID $UNIT)/status"
CONFIGFS = "/sys/kernel/config"


def backends(topology: Topology) -> dict[str, Any]:
    return {"thick": lvm_backend(topology, "thick"), "nfs": nfs_backend(topology)}


def systemctl(guest: Guest, *arguments: str, check: bool = True) -> CommandResult:
    return guest.run(["systemctl", *arguments], timeout_s=SETTLE_S, check=check)


def show(guest: Guest, unit: str, what: str) -> str:
    return systemctl(guest, "show", "-P", what, unit).stdout.strip()


def hardening(guest: Guest, unit: str) -> dict[str, str]:
    lines = guest.run(HARDENING, env={"UNIT": unit}).stdout.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def journal(guest: Guest, *arguments: str) -> list[str]:
    """The messages of this boot that `journalctl` finds."""
    return guest.run(["journalctl", "-b", "-o", "cat", *arguments], timeout_s=120).stdout.splitlines()


def wait_for_mount(sd: Guest) -> None:
    def is_active() -> bool:
        return systemctl(sd, "is-active", MOUNT, check=False).stdout == "active\n"

    wait_until(is_active, SETTLE_S, f"{MOUNT} is up", poll_s=2)


def use(sd: Guest, data: Volume) -> None:
    """Make a file system and have it mounted, now and at each boot, by the unit of deploy/examples."""
    sd.run(f"mkfs.ext4 -q -E nodiscard {data.link}", timeout_s=180)
    sd.put(f"/etc/systemd/system/{MOUNT}", (layout.CHECKOUT / "deploy" / "examples" / MOUNT).read_bytes())
    systemctl(sd, "daemon-reload")
    systemctl(sd, "enable", "--now", MOUNT)
    sd.run("echo brick by brick >/srv/data/file; sync")


def test_volumes_of_the_shipped_units_are_there_again_after_a_power_cut(
    brickwork: Brickwork, ctl: Guest, sd: Guest
) -> None:
    """iSCSI and NFS (A36, A38); a mount unit waits for the device of its own boot, and no longer (A18)."""
    sd.put(
        "/etc/brickwork/node.yaml",
        yaml.safe_dump(brickwork.node_settings(sd) | {"log": {}}),
        mode=0o600,
    )
    systemctl(sd, "enable", "--now", "brickwork-node")
    assert hardening(sd, "brickwork-node") == {
        "Umask": "0077", "CapBnd": "00000000082b542f", "NoNewPrivs": "1", "Seccomp": "2"
    }  # fmt: skip

    data, share = brickwork.create("data", "thick"), brickwork.create("share", "nfs")
    brickwork.attach(sd, data)
    brickwork.attach(sd, share)
    use(sd, data)
    write(sd, share, "written before the power was lost", offset_mib=1)
    before = digest(sd, share.link)
    assert digest(ctl, share.file) == before

    sd.kill()
    sd.boot()
    wait_for_mount(sd)
    assert sd.get("/srv/data/file") == b"brick by brick\n"
    boot = brickwork.value_of_node(sd)["boot"]
    for volume in (data, share):
        brickwork.wait("attachment", f"{sd.name}/{volume.name}", "attached")
        assert brickwork.attachment(sd, volume)["boot"] == boot
    assert digest(sd, share.link) == digest(ctl, share.file) == before

    tell_of_trouble_by_level_and_by_volume(brickwork, sd, data)
    systemctl(sd, "disable", "--now", MOUNT)
    brickwork.wait("attachment", f"{sd.name}/{data.name}", "detached")
    brickwork.detach(sd, share)
    assert brickwork.traces(sd, data) + brickwork.traces(sd, share) == []


def tell_of_trouble_by_level_and_by_volume(brickwork: Brickwork, sd: Guest, data: Volume) -> None:
    """The volume is in use and is not to be there any more: that is a warning about this volume, and the journal knows it."""
    brickwork.brickctl("detach", sd.name, data.name)
    wait_until(lambda: brickwork.attachment(sd, data)["conditions"], SETTLE_S, "the detach is blocked")
    warnings = [json.loads(line) for line in journal(sd, "-p", "warning", "-u", "brickwork-node")]
    assert all(each["level"] in ("warning", "error", "critical") for each in warnings)
    assert data.name in {each.get("volume") for each in warnings}
    about = [json.loads(line) for line in journal(sd, f"VOLUME={data.name}")]
    assert {each["volume"] for each in about} == {data.name}
    assert {"info", "warning"} <= {each["level"] for each in about}


@pytest.mark.long
def test_a_controller_exports_under_its_unit(brickwork: Brickwork, topology: Topology, sd: Guest, n1: Guest) -> None:
    """LVM and LIO of the host with systemd: its volume is created, exported, taken back and deleted, hardening and all (A36)."""
    sd.run(
        "modprobe -a configfs dm_snapshot target_core_mod target_core_iblock target_core_file iscsi_target_mod;"
        f"mkdir -p /etc/target /var/target; mountpoint -q {CONFIGFS} || mount -t configfs configfs {CONFIGFS};"
        f"vgcreate -q {GROUP} /dev/ubdb"
    )
    backend = lvm_backend(topology, "thick")
    backend["options"] |= {
        "target_ip_address": sd.address(Lan.STORAGE_A),
        "target_secondary_ip_addresses": [sd.address(Lan.STORAGE_B)],
    }
    start_controller(brickwork, sd, "brickwork-controller", {"own": backend})
    wait_until(lambda: brickwork.value(Family.BACKEND, "own").get("ready"), SETTLE_S, "the backend works")

    volume = brickwork.create("exported", "own")
    brickwork.attach(n1, volume)
    write(n1, volume, "exported under a unit", offset_mib=1)
    assert digest(n1, volume.link) == digest(sd, volume.device)
    brickwork.detach(n1, volume)
    assert brickwork.traces_of_node(n1, volume) == []
    assert targets(sd) == []
    brickwork.delete(volume)
    assert sd.run(["lvs", f"{GROUP}/volume-{volume.uid}"], check=False).exit_code != 0


@pytest.mark.long
def test_a_controller_for_arrays_and_a_fence_agent_work_without_rights(brickwork: Brickwork, sd: Guest) -> None:
    """As far as there is no array: the driver is loaded in the sandbox, and gets an answer of the network."""
    options = {
        "san_ip": sd.address(Lan.STORAGE_A),
        "san_login": "admin",
        "san_password": "secret",
        "dell_sc_ssn": 64702,
    }
    driver = "cinder.volume.drivers.dell_emc.sc.storagecenter_iscsi.SCISCSIDriver"
    array = {"driver": driver, "options": options, "enable_unsupported": True}
    start_controller(brickwork, sd, "brickwork-controller-array", {"array": array})
    assert show(sd, "brickwork-controller-array", "User") == "brickwork"
    assert hardening(sd, "brickwork-controller-array") == {
        "Umask": "0077", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"
    }  # fmt: skip
    wait_until(
        lambda: "Connection refused" in told_of_array(brickwork), SETTLE_S, "the driver tells what the array said"
    )

    about = [json.loads(line) for line in journal(sd, "-u", "brickwork-controller-array", "BACKEND=array")]
    assert {each["backend"] for each in about} == {"array"}

    sd.put("/etc/brickwork/fence/never", "#!/bin/sh\nexit 1\n", mode=0o755)
    settings = brickwork.fence_agent_settings() | {"fence_command": ["/etc/brickwork/fence/never"]}
    sd.put("/etc/brickwork/fence-agent.yaml", yaml.safe_dump(settings), mode=0o600)
    systemctl(sd, "start", "brickwork-fence-agent")
    assert hardening(sd, "brickwork-fence-agent")["CapBnd"] == "0000000000000000"
    assert (
        systemctl(sd, "is-active", "brickwork-controller-array", "brickwork-fence-agent").stdout == "active\nactive\n"
    )


def start_controller(brickwork: Brickwork, sd: Guest, unit: str, backends: dict[str, Any]) -> None:
    settings = brickwork.controller_settings(sd, backends) | {"log": {}}
    sd.run("install -d -m 0700 /etc/brickwork")  # as docs/OPERATING.md says
    sd.put("/etc/brickwork/controller.yaml", yaml.safe_dump(settings), mode=0o600)
    for command in commands_of(unit):
        sd.run(command)
    systemctl(sd, "start", unit)


def commands_of(unit: str) -> list[str]:
    """What the unit's text says is to be done first. The settings of these tests name no other file."""
    lines = (layout.CHECKOUT / "deploy" / f"{unit}.service").read_text().splitlines()
    commands = [line.removeprefix("#     ") for line in lines if line.startswith("#     ")]
    return [command.replace(" FILES-THAT-IT-NAMES", "") for command in commands]


def told_of_array(brickwork: Brickwork) -> str:
    """Empty while the controller has not come to it."""
    return brickwork.brickctl("describe", "backend", "array", check=False).stdout
