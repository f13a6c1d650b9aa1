"""Hosts and daemons die at bad moments, and nobody lifts a hand."""

import signal
from functools import partial
from typing import Any

import pytest
from harness.guest import Guest
from harness.leftovers import leftovers
from harness.product import (
    NODE,
    SETTLE_S,
    WATCH_SESSIONS,
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

# What a driver that was interrupted may leave: a target to log in to, and nothing behind it.
TAKE_LUN_AWAY = """
set -e
group=/sys/kernel/config/target/iscsi/$IQN/tpgt_1
for lun in $group/acls/*/lun_0 $group/lun/lun_0; do
    find $lun -maxdepth 1 -type l -delete
    rmdir $lun
done
"""


def backends(topology: Topology) -> dict[str, Any]:
    return {"thick": lvm_backend(topology, "thick")}


def test_a_node_that_lost_power_has_its_volume_again_after_its_boot(
    brickwork: Brickwork, ctl: Guest, n1: Guest
) -> None:
    """The claim of the boot that is over is given back, and the new boot attaches, without human action (A18)."""
    volume = brickwork.create("power", "thick")
    brickwork.attach(n1, volume)
    write(n1, volume, "written before the power was lost", offset_mib=1)
    before, old_boot = digest(n1, volume.link), brickwork.attachment(n1, volume)["boot"]

    die(brickwork, n1, "host")
    see_it_uncertain(brickwork, n1, volume)
    brickwork.start_node(n1)

    def is_back() -> bool:
        told = brickwork.attachment(n1, volume)
        return bool(told["boot"] != old_boot and told["phase"] == "Attached")

    wait_until(is_back, SETTLE_S, "the new boot has attached it")
    boot = brickwork.value(Family.NODE, "n1")["boot"]
    assert brickwork.attachment(n1, volume)["boot"] == boot
    assert brickwork.value(Family.CLAIM, "n1", volume.name)["boot"] == boot
    assert digest(n1, volume.link) == digest(ctl, volume.device) == before
    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) == []


def test_a_device_is_used_on_while_the_node_daemon_is_dead(brickwork: Brickwork, ctl: Guest, n1: Guest) -> None:
    """Reads and writes go on; the next daemon takes over what is there, by the same sessions and in the same epoch (A8, A20)."""
    volume = brickwork.create("orphaned", "thick")
    brickwork.attach(n1, volume)
    write(n1, volume, "written before the daemon died", offset_mib=1)
    told, sessions = brickwork.attachment(n1, volume), n1.run("ls /sys/class/iscsi_session").stdout
    assert len(sessions.split()) == 2

    brickwork.kill(n1)
    wait_until(lambda: not brickwork.value(Family.ALIVE, "n1"), SETTLE_S, "n1 is silent")
    write(n1, volume, "written while no daemon was there", offset_mib=2)
    before = digest(n1, volume.link)
    assert digest(ctl, volume.device) == before
    brickwork.start_node(n1)
    brickwork.wait_until_ready()

    brickwork.wait("attachment", f"n1/{volume.name}", "attached")
    after = brickwork.attachment(n1, volume)
    kept = ("epoch", "boot", "identity", "phase")
    assert {key: after[key] for key in kept} == {key: told[key] for key in kept}
    assert n1.run("ls /sys/class/iscsi_session").stdout == sessions
    assert digest(n1, volume.link) == digest(ctl, volume.device) == before
    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) == []


def test_a_controller_that_lost_power_exports_again_what_is_attached(
    brickwork: Brickwork, ctl: Guest, n1: Guest
) -> None:
    """The same targets, each of its own volume as before: initiators recover, no attachment begins anew (A20, A36)."""
    volumes = [brickwork.create(name, "thick") for name in ("exports", "others")]
    for volume in volumes:
        brickwork.attach(n1, volume)
        write(n1, volume, f"written to {volume.name} before the power was lost", offset_mib=1)
    before = [digest(n1, volume.link) for volume in volumes]
    told, exported = [brickwork.attachment(n1, volume) for volume in volumes], targets(ctl)
    assert before[0] != before[1]

    ctl.kill()
    ctl.boot()
    brickwork.start_controller()

    for volume, bytes_before, told_before in zip(volumes, before, told, strict=True):
        wait_until(partial(is_logged_in, ctl, volume), SETTLE_S, "the initiator is back")
        wait_until(partial(has_two_paths, brickwork, n1, volume), SETTLE_S, "both paths are back")
        # The kernel has the disks back, and the map its paths when multipathd has looked: reads fail till then.
        wait_until(
            lambda: "failed" not in n1.run("multipath -ll").stdout, SETTLE_S, "multipathd has reinstated the paths"
        )
        assert digest(n1, volume.link) == digest(ctl, volume.device) == bytes_before
        write(n1, volume, "written after it", offset_mib=2)
        assert digest(n1, volume.link) == digest(ctl, volume.device) != bytes_before
        after = brickwork.attachment(n1, volume)
        kept = ("epoch", "boot", "identity")
        assert {key: after[key] for key in kept} == {key: told_before[key] for key in kept}
    assert targets(ctl) == exported
    for volume in volumes:
        brickwork.detach(n1, volume)
    assert [trace for volume in volumes for trace in brickwork.traces(n1, volume)] == []


def is_logged_in(ctl: Guest, volume: Volume) -> bool:
    return logged_in(ctl, volume) == {"n1"}


def has_two_paths(brickwork: Brickwork, node: Guest, volume: Volume) -> bool:
    return bool(brickwork.attachment(node, volume)["paths_live"] == 2)


@pytest.mark.parametrize("victim", ["daemon", "host"])
def test_a_node_that_dies_while_attaching_and_while_detaching_ends_where_it_should(
    brickwork: Brickwork, ctl: Guest, n1: Guest, victim: str
) -> None:
    """SIGKILL of the daemon, or no power, with os-brick in the middle of its work; nobody lifts a hand (A7, A18, A36)."""
    volume = brickwork.create(f"midway-{victim}", "thick")
    watch = ctl.start_daemon("watch", WATCH_SESSIONS)
    brickwork.brickctl("attach", "n1", volume.name)
    wait_until(lambda: logged_in(ctl, volume) == {"n1"}, SETTLE_S, "os-brick has logged in", poll_s=0.1)
    die(brickwork, n1, victim)
    if victim == "host":
        see_it_uncertain(brickwork, n1, volume)
    brickwork.start_node(n1)
    brickwork.wait("attachment", f"n1/{volume.name}", "attached")
    write(n1, volume, "written after the first death", offset_mib=1)
    before = digest(n1, volume.link)
    assert digest(ctl, volume.device) == before

    brickwork.brickctl("detach", "n1", volume.name)
    n1.run(f"while [ -e {volume.link} ]; do sleep 0.1; done", timeout_s=SETTLE_S)
    die(brickwork, n1, victim)
    brickwork.start_node(n1)
    brickwork.wait("attachment", f"n1/{volume.name}", "detached")
    assert brickwork.traces(n1, volume) == []
    assert digest(ctl, volume.device) == before
    assert {name for line in watch.output().splitlines() for name in line.split()[2:]} == {"n1"}


def test_a_login_without_its_device_is_taken_back_when_the_wish_goes(
    brickwork: Brickwork, ctl: Guest, n1: Guest
) -> None:
    """SIGKILL while os-brick waits for the device; none ever comes, and nobody wants it any more (R14, A36)."""
    volume = brickwork.create("unseen", "thick")
    brickwork.kill(n1)
    brickwork.start_node(n1, failpoint="CONNECT:before")
    brickwork.brickctl("attach", "n1", volume.name)
    assert n1.daemons[NODE].wait(SETTLE_S) == -signal.SIGKILL
    ctl.run(TAKE_LUN_AWAY, env={"IQN": iqn_of(volume)})
    brickwork.start_node(n1)
    wait_until(lambda: logged_in(ctl, volume) == {"n1"}, SETTLE_S, "os-brick has logged in", poll_s=0.1)

    brickwork.kill(n1)
    brickwork.brickctl("detach", "n1", volume.name)
    left = leftovers(n1)
    assert [each for each in left if each.startswith("iSCSI session")], left
    assert not [each for each in left if each.startswith(("disk", "dm map", "link"))], left
    brickwork.start_node(n1)
    brickwork.wait("attachment", f"n1/{volume.name}", "detached")
    assert brickwork.traces(n1, volume) == []


def die(brickwork: Brickwork, node: Guest, victim: str) -> None:
    """Kill the node's daemon, or the node with all that its kernel had."""
    if victim == "daemon":
        brickwork.kill(node)
    else:
        node.kill()
        node.boot()


def see_it_uncertain(brickwork: Brickwork, node: Guest, volume: Volume) -> None:
    """Stop the daemon of the new boot after it is published and before it gives the claim of the old one back: look, then go on."""
    brickwork.start_node(node, failpoint="RELEASE:before")
    assert node.daemons[NODE].wait(SETTLE_S) == -signal.SIGKILL
    told = brickwork.explain(node.name, volume.name)
    assert "Uncertain (OldBoot)" in told, told
