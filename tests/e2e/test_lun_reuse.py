"""CVE-2023-2088 replayed: an address where a node still has a device is given to another volume.

Sessions live on, sysfs goes on telling the old identity, and reads and writes go to the new volume. The storage that does so is
LIO itself, told through its configfs behind the product's back: the product would not do it.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from harness.guest import Guest
from harness.leftovers import leftovers
from harness.network import Lan
from harness.product import (
    GROUP,
    SETTLE_S,
    Brickwork,
    Volume,
    digest,
    iqn_of,
    logged_in,
    lvm_backend,
    targets,
    write,
)
from harness.topology import Topology
from harness.waiting import wait_until

from schema.keys import Family

OTHER = f"/dev/{GROUP}/other"
OTHER_SERIAL = "0123456789abcdef0123456789abcdef"
# LIO makes a unit's identity of its own prefix and the first digits of the serial number.
OTHER_WWID = f"naa.6001405{OTHER_SERIAL[:25]}"
WWIDS = "cat /sys/block/sd*/device/wwid"
CONFIGFS = "/sys/kernel/config/target"
# Another logical volume behind LUN 0 of a target whose sessions stay, as an array does that numbers its LUNs anew.
GIVE_LUN_AWAY = rf"""
set -e
store={CONFIGFS}/core/iblock_99/other group={CONFIGFS}/iscsi/$IQN/tpgt_1
if [ ! -e $store ]; then
    mkdir -p $store
    echo udev_path={OTHER} >$store/control
    echo {OTHER_SERIAL} >$store/wwn/vpd_unit_serial
    echo 1 >$store/enable
fi
for lun in $group/acls/*/lun_0 $group/lun/lun_0; do
    find $lun -maxdepth 1 -type l -delete
    rmdir $lun
done
mkdir $group/lun/lun_0
ln -s $store $group/lun/lun_0/other
for acl in $group/acls/*; do
    mkdir $acl/lun_0
    ln -s $group/lun/lun_0 $acl/lun_0/other
done
"""
FORGET_OTHER = f"""
rmdir {CONFIGFS}/core/iblock_99/other {CONFIGFS}/core/iblock_99
lvremove --yes {OTHER}
"""


def backends(topology: Topology) -> dict[str, Any]:
    return {"thick": lvm_backend(topology, "thick")}


@pytest.fixture
def other(ctl: Guest) -> Iterator[str]:
    """Somebody else's logical volume: as large as ours, with content of its own. Returns its digest."""
    ctl.run(f"lvcreate --yes --wipesignatures y --size 1G --name other {GROUP}")
    ctl.run(f"yes 'not to be touched' | dd of={OTHER} bs=1M count=32 iflag=fullblock oflag=direct", timeout_s=180)
    yield digest(ctl, OTHER)
    ctl.run(FORGET_OTHER, check=False)


def test_a_volume_whose_address_was_given_away_is_published_no_more(
    brickwork: Brickwork, ctl: Guest, n1: Guest, other: str
) -> None:
    """The device is asked, not sysfs: it loses its link and is not called attached; the detach flushes nothing (A34).

    And when its sessions end: what is found at the address then is another device, and not published either.
    """
    volume = brickwork.create("given", "thick")
    brickwork.attach(n1, volume)
    write(n1, volume, "written by n1", offset_mib=1)
    ours, wwid = digest(ctl, volume.device), brickwork.attachment(n1, volume)["identity"]

    brickwork.kill(n1)
    ctl.run(GIVE_LUN_AWAY, env={"IQN": iqn_of(volume)})
    wait_until(lambda: digest(n1, volume.link) == other, SETTLE_S, "n1 reads somebody else's volume")
    assert wwid.removeprefix("3") in n1.run(WWIDS).stdout, "sysfs still tells the old identity"

    brickwork.start_node(n1)
    n1.run(f"while [ -e {volume.link} ]; do sleep 0.1; done", timeout_s=SETTLE_S)
    wait_until(lambda: "IdentityMismatch" in brickwork.explain("n1", volume.name), SETTLE_S, "it is told")
    assert brickwork.holders(volume) == ["n1"]
    assert logged_in(ctl, volume) == {"n1"}, "what is in doubt is kept"

    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) == []
    assert digest(ctl, OTHER) == other
    brickwork.attach(n1, volume)
    assert digest(n1, volume.link) == digest(ctl, volume.device) == ours

    ctl.run(GIVE_LUN_AWAY, env={"IQN": iqn_of(volume)})
    n1.run("multipath -F; iscsiadm -m node --logout", timeout_s=180)
    wait_until(
        lambda: OTHER_WWID in n1.run(WWIDS, check=False).stdout, SETTLE_S, "os-brick has connected what is there"
    )
    wait_until(lambda: "IdentityMismatch" in brickwork.explain("n1", volume.name), SETTLE_S, "it is told again")
    assert n1.run(["test", "-e", volume.link], check=False).exit_code != 0
    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) == []
    assert digest(ctl, OTHER) == other


def test_a_node_that_was_cut_off_during_its_detach_does_not_touch_who_has_its_address_now(
    brickwork: Brickwork, ctl: Guest, n1: Guest, other: str
) -> None:
    """Nothing is unmapped while it is silent (A14); fenced, it drops its device before anything else, unflushed (A32, A33, A35)."""
    volume = brickwork.create("cut", "thick")
    brickwork.attach(n1, volume)
    boot = brickwork.value(Family.NODE, "n1")["boot"]
    user, secret = chap_of(brickwork, volume)
    for lan in (Lan.MANAGEMENT, Lan.STORAGE_A, Lan.STORAGE_B):
        n1.cut(lan)
    brickwork.brickctl("detach", "n1", volume.name)
    wait_until(lambda: not brickwork.value(Family.ALIVE, "n1"), SETTLE_S, "n1 is silent")
    assert brickwork.holders(volume) == ["n1"]
    assert targets(ctl) == [iqn_of(volume)]

    statement = {"who": "the test", "why": "n1 is cut off", "evidence": "its networks are unplugged"}
    brickwork.topology.etcd.put(brickwork.keyspace.path(Family.FENCE, "n1", boot), statement)
    wait_until(lambda: targets(ctl) == [], SETTLE_S, "the controller has unmapped it")
    initiator = n1.get("/etc/iscsi/initiatorname.iscsi").decode().strip().removeprefix("InitiatorName=")
    portals = ",".join(ctl.address(lan) for lan in (Lan.STORAGE_A, Lan.STORAGE_B))
    ctl.run(["cinder-rtstool", "create", OTHER, iqn_of(volume), user, secret, "False", initiator, f"-a{portals}"])
    for lan in (Lan.STORAGE_A, Lan.STORAGE_B):
        n1.heal(lan)
    wait_until(
        lambda: logged_in(ctl, volume) == {"n1"}, SETTLE_S, "n1's kernel has logged in to somebody else's volume"
    )
    assert any("disk" in left for left in leftovers(n1)), "n1's stale device is there"

    n1.heal(Lan.MANAGEMENT)
    wait_until(lambda: brickwork.value(Family.NODE, "n1")["boot"] != boot, SETTLE_S, "n1 has begun a new boot")
    assert leftovers(n1) == []
    assert digest(ctl, OTHER) == other
    ctl.run(["cinder-rtstool", "delete", iqn_of(volume)])
    brickwork.wait("attachment", f"n1/{volume.name}", "detached")
    assert brickwork.traces(n1, volume) == []


def chap_of(brickwork: Brickwork, volume: Volume) -> tuple[str, str]:
    """The user and the password that the node's sessions log in with."""
    found = re.search(r'"CHAP (\S+) ([^"]+)"', str(brickwork.value(Family.RECORD, volume.name)).replace("'", '"'))
    assert found, "no CHAP user in the volume's record"
    return found[1], found[2]
