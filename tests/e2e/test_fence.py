"""A node that is cut off from the store, but not from storage, goes on writing: only a proof lets its volume go elsewhere."""

from typing import Any

import pytest
from harness.channel import CommandFailed
from harness.guest import Guest
from harness.leftovers import leftovers
from harness.network import Lan
from harness.product import SETTLE_S, Brickwork, digest, logged_in, lvm_backend, write
from harness.topology import Topology
from harness.waiting import wait_until

from schema.keys import Family


def backends(topology: Topology) -> dict[str, Any]:
    return {"thick": lvm_backend(topology, "thick")}


def test_a_silent_node_keeps_its_volume_until_it_is_fenced(
    brickwork: Brickwork, ctl: Guest, n1: Guest, n2: Guest
) -> None:
    """No move on silence alone (A28, A31); from the fence on its writes fail (A14, A30); it cleans up on return (A32)."""
    volume = brickwork.create("fenced", "thick")
    brickwork.attach(n1, volume)
    boot = brickwork.value(Family.NODE, "n1")["boot"]
    n1.cut(Lan.MANAGEMENT)
    brickwork.brickctl("detach", "n1", volume.name)
    brickwork.brickctl("attach", "n2", volume.name)
    wait_until(lambda: not brickwork.value(Family.ALIVE, "n1"), SETTLE_S, "n1 is silent")

    fence = f"fence n1 --boot {boot}"
    wait_until(lambda: fence in brickwork.explain("n2", volume.name), SETTLE_S, "explain tells what would help")
    assert brickwork.holders(volume) == ["n1"]
    assert logged_in(ctl, volume) == {"n1"}
    write(n1, volume, "written while cut off", offset_mib=1)
    before = digest(ctl, volume.device)

    why = ("--why", "n1 is cut off", "--evidence", "the target refuses it")
    brickwork.brickctl(*fence.split(), *why, "--yes")
    brickwork.wait("attachment", f"n2/{volume.name}", "attached")
    assert logged_in(ctl, volume) == {"n2"}
    with pytest.raises(CommandFailed):
        write(n1, volume, "written after the fence", offset_mib=1)
    assert digest(n2, volume.link) == digest(ctl, volume.device) == before

    n1.heal(Lan.MANAGEMENT)
    wait_until(lambda: brickwork.value(Family.NODE, "n1")["boot"] != boot, SETTLE_S, "n1 has begun a new boot")
    assert leftovers(n1) == []
    brickwork.detach(n2, volume)
    assert brickwork.traces(n1, volume) + brickwork.traces(n2, volume) == []
