"""Volumes over iSCSI by the product's own daemons: Cinder's LVM driver exports with LIO, os-brick attaches."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from harness.guest import Guest
from harness.leftovers import leftovers
from harness.network import Lan
from harness.product import SETTLE_S, Brickwork, Volume, digest, iqn_of, logged_in, lvm_backend, targets, write
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
    assert_it_is_told_which_device(brickwork, ctl, n1, volume)
    assert_only_its_password_lets_in(ctl, n1, volume)

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


def assert_it_is_told_which_device(brickwork: Brickwork, ctl: Guest, node: Guest, volume: Volume) -> None:
    """`describe` has the identity that the target gives the volume, and the size (A34)."""
    unit = ctl.run(f"cat /sys/kernel/config/target/core/iblock_*/*{volume.uid}/wwn/vpd_unit_serial").stdout
    serial = unit.split()[-1].replace("-", "")
    told = brickwork.brickctl("describe", f"attachment/{node.name}/{volume.name}").stdout
    assert f"36001405{serial[:25]}" in told
    assert str(2**30) in told


def assert_only_its_password_lets_in(ctl: Guest, node: Guest, volume: Volume) -> None:
    """CHAP is on: the node itself, with another password or with none, gets no second session."""
    admin = f"iscsiadm -m node -T {iqn_of(volume)} -p {ctl.address(Lan.STORAGE_A)} -I stranger"
    auth = "-o update -n node.session.auth"
    node.run(f"iscsiadm -m iface -I stranger -o new; {admin} -o new")
    for attempt in (
        f"{admin} {auth}.authmethod -v None",
        f"{admin} {auth}.authmethod -v CHAP; {admin} {auth}.username -v user; {admin} {auth}.password -v not-the-secret",
    ):
        done = node.run(f"{attempt} && {admin} --login", check=False, timeout_s=180)
        assert "authorization failure" in done.stderr, done
    node.run(f"{admin} -o delete; iscsiadm -m iface -I stranger -o delete")


@dataclass(frozen=True)
class Use:
    """A way to use a device: shell commands, and how the product calls it."""

    begin: str
    told: str
    write: str
    end: str


USES = {
    "mounted": Use(
        begin="mkfs.ext4 -q -E nodiscard $LINK && mkdir -p /mnt/busy && mount $LINK /mnt/busy",
        told="mounted at /mnt/busy",
        # Frozen, so that two reads of the device find the same.
        write="echo still writable >/mnt/busy/file; fsfreeze -f /mnt/busy",
        end="fsfreeze -u /mnt/busy; umount /mnt/busy",
    ),
    "held by another map": Use(
        begin='dmsetup create busy --table "0 8192 linear $LINK 0"',
        told="(map busy)",
        write="yes still writable | dd of=/dev/mapper/busy bs=1M count=1 iflag=fullblock oflag=direct conv=fsync",
        end="dmsetup remove --retry busy",
    ),
    "open": Use(
        begin="setsid sleep infinity 9<>$LINK >/dev/null 2>&1 & echo $! >/run/user",
        told="opened by sleep",
        write="yes still writable | dd of=/proc/$(cat /run/user)/fd/9 bs=1M count=1 iflag=fullblock oflag=direct conv=fsync",
        end="kill $(cat /run/user)",
    ),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_device_in_use_is_not_detached_until_it_is_free(
    brickwork: Brickwork, ctl: Guest, n1: Guest, use: Use
) -> None:
    """The detach is Blocked and names the user, nothing is unmapped meanwhile, and it ends by itself (A11)."""
    volume = brickwork.create("busy", "thick")
    brickwork.attach(n1, volume)
    link = {"LINK": volume.link}
    n1.run(use.begin, env=link, timeout_s=180)

    brickwork.brickctl("detach", "n1", volume.name)
    condition = wait_until(
        lambda: next(iter(brickwork.attachment(n1, volume)["conditions"]), None), SETTLE_S, "the detach is blocked"
    )
    assert (condition["type"], condition["reason"]) == ("Released", "DeviceBusy")
    assert use.told in condition["message"]
    told = brickwork.explain("n1", volume.name)
    assert "Blocked (DeviceBusy)" in told
    assert use.told in told
    assert brickwork.holders(volume) == ["n1"]
    assert logged_in(ctl, volume) == {"n1"}
    n1.run(use.write, timeout_s=180)
    assert digest(n1, volume.link) == digest(ctl, volume.device)

    n1.run(use.end, timeout_s=180)
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


def test_the_loss_of_one_path_of_two_shows_and_heals(
    brickwork: Brickwork, ctl: Guest, n1: Guest, record_property: Callable[[str, object], None]
) -> None:
    """I/O goes on over the other path, the attachment says Degraded, and the returned path counts again by itself (A41)."""
    volume = brickwork.create("paths", "thick")
    brickwork.attach(n1, volume)
    wait_until(lambda: paths(brickwork, n1, volume) == (2, 2), SETTLE_S, "both paths are up")

    n1.cut(Lan.STORAGE_B)
    cut_s = time.monotonic()
    write(n1, volume, "written over one path", offset_mib=1)
    record_property("a write ends, s after the cut", f"{time.monotonic() - cut_s:.1f}")
    wait_until(lambda: paths(brickwork, n1, volume) == (1, 2), SETTLE_S, "the lost path shows", poll_s=0.1)
    record_property("Degraded shows, s after the cut", f"{time.monotonic() - cut_s:.1f}")
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
    leave_stale_device(ctl, n1, iqn_of(volume))
    brickwork.attach(n1, volume)
    sizes = n1.run(f"for device in {volume.link} /dev/sd*; do blockdev --getsize64 $device; done").stdout.split()
    assert set(sizes) == {str(2**30)}, "the link and every path are the volume's; the other one's device is gone"
    write(n1, volume, "written by n1", offset_mib=1)
    assert digest(n1, volume.link) == digest(ctl, volume.device)
    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) == []
