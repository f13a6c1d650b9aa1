"""F-D4: two targets that give their units one WWID, as tgt or a cloned array does. LIO is told so through its configfs."""

from typing import Any

import pytest
from harness.guest import Guest
from harness.product import GROUP, SETTLE_S, Brickwork, digest, iqn_of, lvm_backend, write
from harness.topology import Topology
from harness.waiting import wait_until

CONFIGFS = "/sys/kernel/config/target"
ALIKE = f"/dev/{GROUP}/alike"
# The second's target gets another unit, with the first one's serial number: over a logical volume of the test's, as a unit can't
# have another number while it is exported, nor two units one device.
NUMBER_ALIKE = rf"""
set -e
serial=$(sed 's/.*: //' {CONFIGFS}/core/iblock_*/*$FIRST/wwn/vpd_unit_serial)
store={CONFIGFS}/core/iblock_98/alike group={CONFIGFS}/iscsi/$IQN/tpgt_1
mkdir -p $store
echo udev_path={ALIKE} >$store/control
echo $serial >$store/wwn/vpd_unit_serial
echo 1 >$store/enable
for lun in $group/acls/*/lun_0 $group/lun/lun_0; do
    find $lun -maxdepth 1 -type l -delete
    rmdir $lun
done
mkdir $group/lun/lun_0
ln -s $store $group/lun/lun_0/alike
for acl in $group/acls/*; do
    mkdir $acl/lun_0
    ln -s $group/lun/lun_0 $acl/lun_0/alike
done
"""
FORGET = f"rmdir {CONFIGFS}/core/iblock_98/alike {CONFIGFS}/core/iblock_98; lvremove --yes {ALIKE}"
LOGGED_IN = "iscsiadm -m session"


def backends(topology: Topology) -> dict[str, Any]:
    return {"thick": lvm_backend(topology, "thick")}


@pytest.mark.long
@pytest.mark.parametrize("multipath", [False, True], ids=["one path", "multipath"])
def test_the_second_volume_of_a_wwid_is_refused_and_the_first_works_on(
    brickwork: Brickwork, ctl: Guest, n1: Guest, multipath: bool
) -> None:
    brickwork.stop(n1)
    brickwork.start_node(n1, multipath=multipath)
    first, second = brickwork.create("first", "thick"), brickwork.create("second", "thick")
    brickwork.attach(n1, first)
    brickwork.attach(n1, second)
    write(n1, first, "written to the first", offset_mib=1)
    write(n1, second, "written to the second", offset_mib=1)
    ctl.run(f"lvcreate --yes --wipesignatures y --size 1G --name alike {GROUP}")
    ctl.run(f"yes 'not to be touched' | dd of={ALIKE} bs=1M count=32 iflag=fullblock oflag=direct", timeout_s=180)
    theirs = digest(ctl, ALIKE)
    brickwork.kill(n1)
    n1.run(f"multipath -f $(basename $(readlink {second.link})) || true; iscsiadm -m node -T {iqn_of(second)} --logout")
    ctl.run(NUMBER_ALIKE, env={"IQN": iqn_of(second), "FIRST": first.uid})

    brickwork.start_node(n1, multipath=multipath)
    told = f"n1/{second.name} is refused"
    wait_until(lambda: "DuplicateIdentity" in brickwork.explain("n1", second.name), SETTLE_S, told)
    brickwork.wait("attachment", f"n1/{first.name}", "attached")
    brickwork.brickctl("attach", "n1", second.name, "--mode", "ro", check=False)
    write(n1, first, "the first is written on", offset_mib=2)
    assert digest(n1, first.link) == digest(ctl, first.device)
    assert digest(ctl, ALIKE) == theirs, "nothing of it reached the second"

    # Its target is gone, too, for a while: the one path that there is to the second, and none of the first.
    ctl.run(f"echo 0 >{CONFIGFS}/iscsi/{iqn_of(second)}/tpgt_1/enable")
    write(n1, first, "written while the other is cut", offset_mib=4)
    assert digest(n1, first.link) == digest(ctl, first.device)
    brickwork.wait("attachment", f"n1/{first.name}", "attached")
    ctl.run(f"echo 1 >{CONFIGFS}/iscsi/{iqn_of(second)}/tpgt_1/enable")

    brickwork.detach(n1, second)
    assert iqn_of(second) not in n1.run(LOGGED_IN, check=False).stdout
    write(n1, first, "and on", offset_mib=3)
    assert digest(n1, first.link) == digest(ctl, first.device)
    brickwork.detach(n1, first)
    assert brickwork.traces(n1, first) == []
    assert digest(ctl, ALIKE) == theirs
    ctl.run(FORGET, check=False)
