"""Two portals, one after the other or both together dead: what users see, and what comes back by itself."""

import time
from collections.abc import Callable
from typing import Any

from harness.guest import Guest
from harness.network import Lan
from harness.product import SETTLE_S, Brickwork, Volume, digest, lvm_backend, write
from harness.topology import Topology
from harness.waiting import wait_until


def backends(topology: Topology) -> dict[str, Any]:
    return {"thick": lvm_backend(topology, "thick")}


def paths(brickwork: Brickwork, node: Guest, volume: Volume) -> tuple[int, int] | None:
    """Live and all paths, as the node tells."""
    told = brickwork.attachment(node, volume)
    return (told["paths_live"], told["paths_total"]) if told.get("attached") else None


def wait_for_paths(brickwork: Brickwork, node: Guest, volume: Volume, live: int, what: str) -> None:
    wait_until(lambda: paths(brickwork, node, volume) == (live, 2), SETTLE_S, what)


def time_to_connect(brickwork: Brickwork, node: Guest, volume: Volume, *arguments: str) -> float:
    """Seconds from the wish to the node's word that the device is there."""
    started = time.monotonic()
    brickwork.brickctl("attach", node.name, volume.name, *arguments)
    wait_until(lambda: paths(brickwork, node, volume), SETTLE_S, "the device is there", poll_s=0.1)
    return time.monotonic() - started


def test_a_portal_that_was_dead_before_the_attach_is_taken_up_when_it_returns(
    brickwork: Brickwork, ctl: Guest, n1: Guest, record_property: Callable[[str, object], None]
) -> None:
    """Connected over the other one without waiting for the dead, and 2/2 later without a hand (A40); `min_paths: 2` keeps
    it Attaching until then, and only degrades it afterwards (A42)."""
    healthy, volume = brickwork.create("healthy", "thick"), brickwork.create("one-dead", "thick")
    brickwork.attach(n1, healthy)  # for nothing: the first attach pays for what is loaded then
    brickwork.detach(n1, healthy)
    healthy_s = time_to_connect(brickwork, n1, healthy)
    wait_for_paths(brickwork, n1, healthy, 2, "both paths are up")
    brickwork.detach(n1, healthy)

    n1.cut(Lan.STORAGE_B)
    degraded_s = time_to_connect(brickwork, n1, volume, "--min-paths", "2")
    record_property("attach with both portals", f"{healthy_s:.1f} s")
    record_property("with one dead", f"{degraded_s:.1f} s, {degraded_s / healthy_s:.2f} of it")
    assert paths(brickwork, n1, volume) == (1, 2)
    told = brickwork.explain("n1", volume.name)
    assert "Attaching (TooFewPaths)" in told
    assert "1 of 2 paths" in told
    waiting = ("wait", "attachment", f"n1/{volume.name}", "--for=attached", "--timeout", "1s")
    assert brickwork.brickctl(*waiting, check=False).returncode == 5, "it goes on by itself, once there is a path"
    brickwork.wait("attachment", f"n1/{volume.name}", "condition=Degraded")
    write(n1, volume, "written over one path", offset_mib=1)

    n1.heal(Lan.STORAGE_B)
    brickwork.wait("attachment", f"n1/{volume.name}", "attached")
    assert paths(brickwork, n1, volume) == (2, 2)
    brickwork.wait("attachment", f"n1/{volume.name}", "condition=Degraded=False")
    n1.cut(Lan.STORAGE_A)
    write(n1, volume, "written over the path that was added", offset_mib=2)
    assert digest(ctl, volume.device) == digest(n1, volume.link)
    wait_for_paths(brickwork, n1, volume, 1, "the lost path shows")
    assert "Attached (PathsMissing)" in brickwork.explain("n1", volume.name)

    n1.heal(Lan.STORAGE_A)
    wait_for_paths(brickwork, n1, volume, 2, "the healed path counts again")
    assert "automatic" not in n1.run("iscsiadm -m node -o show | grep node.startup").stdout
    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) == []


def test_reads_and_writes_wait_while_no_path_is_live(brickwork: Brickwork, ctl: Guest, n1: Guest) -> None:
    """All lost: the attachment says so, multipathd queues as it is told to, and what waited is written when a path is back."""
    volume = brickwork.create("all-dead", "thick")
    brickwork.attach(n1, volume)
    wait_for_paths(brickwork, n1, volume, 2, "both paths are up")

    n1.cut(Lan.STORAGE_A)
    n1.cut(Lan.STORAGE_B)
    script = f"head -c 4096 /dev/urandom | dd of={volume.link} bs=4096 oflag=direct conv=notrunc status=none"
    n1.run(f"setsid sh -c '{script}; echo $? >/tmp/written' >/dev/null 2>&1 &")
    wait_for_paths(brickwork, n1, volume, 0, "both lost paths show")
    told = brickwork.explain("n1", volume.name)
    assert "Attached (NoPathLive)" in told
    assert "0/2 paths are live" in told
    brickwork.wait("attachment", f"n1/{volume.name}", "condition=Ready=False")
    assert "written" not in n1.run("ls /tmp").stdout

    n1.heal(Lan.STORAGE_A)
    n1.heal(Lan.STORAGE_B)
    wait_for_paths(brickwork, n1, volume, 2, "both paths are back")
    wait_until(lambda: n1.run("cat /tmp/written", check=False).stdout == "0\n", SETTLE_S, "what waited is written")
    assert digest(ctl, volume.device) == digest(n1, volume.link)
    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) == []
