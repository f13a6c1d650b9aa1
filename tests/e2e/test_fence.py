"""A node that is cut off from the store, but not from storage, goes on writing: only a proof lets its volume go elsewhere."""

import signal
from typing import Any

import pytest
from harness.channel import CommandFailed
from harness.guest import Guest
from harness.leftovers import leftovers
from harness.network import Lan
from harness.product import NODE, SETTLE_S, Brickwork, digest, logged_in, lvm_backend, write
from harness.topology import Topology
from harness.waiting import wait_until

from schema.keys import Family


def backends(topology: Topology) -> dict[str, Any]:
    return {"thick": lvm_backend(topology, "thick")}


def test_a_silent_node_keeps_its_volume_until_it_is_fenced(
    brickwork: Brickwork, ctl: Guest, n1: Guest, n2: Guest
) -> None:
    """No move on silence alone (A28, A31); from the fence on its writes fail (A14, A30); its device goes before anything else
    when it returns, another volume that it was to have meanwhile included (A32)."""
    volume, wanted = brickwork.create("fenced", "thick"), brickwork.create("wanted", "thick")
    brickwork.stop(n1)
    brickwork.start_node(n1, failpoint="RELEASE:before")
    brickwork.wait_until_ready()
    brickwork.attach(n1, volume)
    boot = brickwork.value(Family.NODE, "n1")["boot"]
    n1.cut(Lan.MANAGEMENT)
    brickwork.brickctl("detach", "n1", volume.name)
    brickwork.brickctl("attach", "n2", volume.name)
    brickwork.brickctl("attach", "n1", wanted.name)
    wait_until(lambda: not brickwork.value(Family.ALIVE, "n1"), SETTLE_S, "n1 is silent")

    fence = f"fence n1 --boot {boot}"
    wait_until(lambda: fence in brickwork.explain("n2", volume.name), SETTLE_S, "explain tells what would help")
    assert brickwork.holders(volume) == ["n1"]
    assert logged_in(ctl, volume) == {"n1"}
    write(n1, volume, "written while cut off", offset_mib=1)
    before = digest(ctl, volume.device)
    assert digest(n1, volume.link) == before

    why = ("--why", "n1 is cut off", "--evidence", "the target refuses it")
    brickwork.brickctl(*fence.split(), *why, "--yes")
    brickwork.wait("attachment", f"n2/{volume.name}", "attached")
    assert logged_in(ctl, volume) == {"n2"}
    with pytest.raises(CommandFailed):
        write(n1, volume, "written after the fence", offset_mib=1)
    assert digest(n2, volume.link) == digest(ctl, volume.device) == before
    assert any("disk" in left for left in leftovers(n1)), "n1 still has its dead device"

    n1.heal(Lan.MANAGEMENT)
    assert n1.daemons[NODE].wait(SETTLE_S) == -signal.SIGKILL
    assert brickwork.value(Family.CLAIM, "n1", volume.name)["boot"] == boot, "it has said nothing yet"
    assert leftovers(n1) == []
    brickwork.start_node(n1)
    brickwork.wait("attachment", f"n1/{wanted.name}", "attached")
    assert brickwork.value(Family.NODE, "n1")["boot"] != boot
    assert digest(n1, wanted.link) == digest(ctl, wanted.device) != before
    for node, each in ((n1, wanted), (n2, volume)):
        brickwork.detach(node, each)
    assert brickwork.traces(n1, volume) + brickwork.traces(n1, wanted) + brickwork.traces(n2, volume) == []
