"""Volumes over iSCSI by the product's own daemons: Cinder's LVM driver exports with LIO, os-brick attaches."""

from typing import Any

import pytest
from harness.guest import Guest
from harness.leftovers import leftovers
from harness.network import Lan
from harness.product import SETTLE_S, Brickwork, Volume, digest, logged_in, lvm_backend, targets, write
from harness.topology import Topology
from harness.waiting import wait_until


def backends(topology: Topology) -> dict[str, Any]:
    """Both kinds of LVM side by side; the pool is made here, as the driver would give it the whole group."""
    pool = "lvs cinder-volumes/cinder-volumes-pool || lvcreate -q -T -L 4G cinder-volumes/cinder-volumes-pool"
    topology.ctl.run(pool, timeout_s=120)
    return {kind: lvm_backend(topology, kind) for kind in ("thick", "thin")}


@pytest.mark.parametrize("kind", ["thick", "thin"])
def test_a_detached_volume_leaves_nothing_but_its_bytes(brickwork: Brickwork, ctl: Guest, n1: Guest, kind: str) -> None:
    """What the node writes is on the logical volume, and after the detach nothing else is left anywhere (A36, A38)."""
    volume = brickwork.create(f"data-{kind}", kind)
    brickwork.attach(n1, volume)
    assert logged_in(ctl, volume) == {"n1"}
    assert "node.startup = automatic" not in n1.run("iscsiadm -m node -o show").stdout

    n1.run(
        f"mkfs.ext4 -q -E nodiscard {volume.link} && mkdir -p /mnt/data && mount {volume.link} /mnt/data", timeout_s=180
    )
    n1.run("echo written by n1 >/mnt/data/file; umount /mnt/data; sync", timeout_s=180)
    written = digest(n1, volume.link)
    assert digest(ctl, volume.device) == written

    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) == []
    brickwork.delete(volume)
    assert targets(ctl) == []
    assert volume.uid not in ctl.run("lvs").stdout


def test_a_mounted_device_is_not_detached_until_it_is_free(brickwork: Brickwork, n1: Guest) -> None:
    """The detach is Blocked and names the mount, nothing is unmapped meanwhile, and it ends by itself (A11)."""
    volume = brickwork.create("busy", "thick")
    brickwork.attach(n1, volume)
    n1.run(
        f"mkfs.ext4 -q -E nodiscard {volume.link} && mkdir -p /mnt/busy && mount {volume.link} /mnt/busy", timeout_s=180
    )

    brickwork.brickctl("detach", "n1", volume.name)
    condition = wait_until(
        lambda: next(iter(brickwork.attachment(n1, volume)["conditions"]), None), SETTLE_S, "the detach is blocked"
    )
    assert (condition["type"], condition["reason"]) == ("Released", "DeviceBusy")
    assert "mounted at /mnt/busy" in condition["message"]
    told = brickwork.explain("n1", volume.name)
    assert "Blocked (DeviceBusy)" in told
    assert "mounted at /mnt/busy" in told
    assert brickwork.holders(volume) == ["n1"]
    n1.run("echo still writable >/mnt/busy/file; sync; cat /mnt/busy/file", timeout_s=180)

    n1.run("umount /mnt/busy", timeout_s=180)
    brickwork.wait("attachment", f"n1/{volume.name}", "detached")
    assert brickwork.traces(n1, volume) == []


def test_an_attached_volume_is_extended_under_its_user(brickwork: Brickwork, ctl: Guest, n1: Guest) -> None:
    """LVM grows, both paths and the map on the node follow, the mounted file system is untouched, and the node tells (A43)."""
    volume = brickwork.create("grows", "thick")
    brickwork.attach(n1, volume)
    wait_until(lambda: paths(brickwork, n1, volume) == (2, 2), SETTLE_S, "both paths are up")
    n1.run(
        f"mkfs.ext4 -q -E nodiscard {volume.link} && mkdir -p /mnt/grows && mount {volume.link} /mnt/grows",
        timeout_s=180,
    )
    n1.run("echo written before >/mnt/grows/file; sync", timeout_s=180)

    assert brickwork.create("grows", "thick", size_gib=2) == volume
    size = wait_until(
        lambda: next((told for told in [brickwork.attachment(n1, volume)["size_bytes"]] if told != 2**30), None),
        SETTLE_S,
        "the node tells of another size",
    )
    assert size == 2 * 2**30
    assert n1.run(["blockdev", "--getsize64", volume.link]).stdout == f"{size}\n"
    n1.run("resize2fs $(findmnt -no SOURCE /mnt/grows) && cat /mnt/grows/file && umount /mnt/grows", timeout_s=180)

    assert digest(ctl, volume.device) == digest(n1, volume.link)
    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) == []
    brickwork.delete(volume)


def paths(brickwork: Brickwork, node: Guest, volume: Volume) -> tuple[int, int]:
    """Live and all paths, as the node tells."""
    told = brickwork.attachment(node, volume)
    return told["paths_live"], told["paths_total"]


def test_the_loss_of_one_path_of_two_shows_and_heals(brickwork: Brickwork, ctl: Guest, n1: Guest) -> None:
    """I/O goes on over the other path, the attachment says Degraded, and the returned path counts again by itself (A41)."""
    volume = brickwork.create("paths", "thick")
    brickwork.attach(n1, volume)
    wait_until(lambda: paths(brickwork, n1, volume) == (2, 2), SETTLE_S, "both paths are up")

    n1.cut(Lan.STORAGE_B)
    write(n1, volume, "written over one path", offset_mib=1)
    wait_until(lambda: paths(brickwork, n1, volume) == (1, 2), SETTLE_S, "the lost path shows")
    assert "1/2" in brickwork.brickctl("get", "attachments", "-o", "wide").stdout
    brickwork.wait("attachment", f"n1/{volume.name}", "condition=Degraded")
    assert digest(ctl, volume.device) == digest(n1, volume.link)

    n1.heal(Lan.STORAGE_B)
    wait_until(lambda: paths(brickwork, n1, volume) == (2, 2), SETTLE_S, "the healed path counts again")
    brickwork.wait("attachment", f"n1/{volume.name}", "condition=Degraded=False")
    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) == []


def leave_stale_device(ctl: Guest, node: Guest, iqn: str) -> None:
    """Have the node log in to another volume at this address, and take its export away behind the node's back."""
    decoy, portal, user, secret = (
        "/dev/cinder-volumes/decoy",
        ctl.address(Lan.STORAGE_A),
        "decoy-user",
        "decoy-secret-12",
    )
    initiator = node.get("/etc/iscsi/initiatorname.iscsi").decode().strip().removeprefix("InitiatorName=")
    ctl.run("lvcreate --yes --wipesignatures y --size 64M --name decoy cinder-volumes")
    ctl.run(["cinder-rtstool", "create", decoy, iqn, user, secret, "False", initiator, f"-a{portal}"])
    admin = f"iscsiadm -m node -T {iqn} -p {portal}"
    chap = {"authmethod": "CHAP", "username": user, "password": secret}
    updates = [f"{admin} -o update -n node.session.auth.{name} -v {value}" for name, value in chap.items()]
    node.run(" && ".join([f"{admin} -o new", *updates, f"{admin} --login"]), timeout_s=120)
    wait_until(lambda: any("disk" in left for left in leftovers(node)), 60, "the other volume's device is there")
    ctl.run(["cinder-rtstool", "delete", iqn])
    ctl.run("lvremove --yes cinder-volumes/decoy")
    assert any("disk" in left for left in leftovers(node)), "the kernel keeps a device whose export is gone"


def test_a_stale_device_at_the_same_address_is_not_taken_for_the_volume(
    brickwork: Brickwork, ctl: Guest, n1: Guest
) -> None:
    """A target name that another volume had before: its device is purged, and the volume's own attached (A35)."""
    volume = brickwork.create("reused", "thick")
    leave_stale_device(ctl, n1, f"iqn.2010-10.org.openstack:volume-{volume.uid}")
    brickwork.attach(n1, volume)
    assert n1.run(["blockdev", "--getsize64", volume.link]).stdout == f"{2**30}\n"
    write(n1, volume, "written by n1", offset_mib=1)
    assert digest(n1, volume.link) == digest(ctl, volume.device)
    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) == []
