"""A host with systemd: under the units of deploy/ as they are shipped, volumes come, go, and are mounted at boot."""

import json
from typing import Any

import yaml
from harness import layout
from harness.channel import CommandResult
from harness.guest import Guest
from harness.product import SETTLE_S, Brickwork, Volume, digest, lvm_backend, nfs_backend, write
from harness.topology import Topology
from harness.waiting import wait_until

MOUNT = "srv-data.mount"
# Of a process: the hardening that its unit has asked for.
HARDENING = (
    "grep -E '^(Umask|Seccomp|NoNewPrivs|CapBnd):' /proc/$(systemctl show -P MainPID $UNIT)/status | tr -d '\\t'"
)


def backends(topology: Topology) -> dict[str, Any]:
    return {"thick": lvm_backend(topology, "thick"), "nfs": nfs_backend(topology)}


def systemctl(guest: Guest, *arguments: str, check: bool = True) -> CommandResult:
    return guest.run(["systemctl", *arguments], timeout_s=SETTLE_S, check=check)


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
    assert sd.run(HARDENING, env={"UNIT": "brickwork-node"}).stdout.split() == [
        "Umask:0077", "CapBnd:00000000082b542f", "NoNewPrivs:1", "Seccomp:2"
    ]  # fmt: skip

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
    brickwork.wait("attachment", f"{sd.name}/{data.name}", "condition=Blocked")
    warnings = [json.loads(line) for line in journal(sd, "-p", "warning", "-u", "brickwork-node")]
    assert all(each["level"] in ("warning", "error", "critical") for each in warnings)
    assert data.name in {each.get("volume") for each in warnings}
    about = [json.loads(line) for line in journal(sd, f"VOLUME={data.name}")]
    assert {each["volume"] for each in about} == {data.name}
    assert {"info", "warning"} <= {each["level"] for each in about}
