"""Hosts and daemons die at bad moments, and nobody lifts a hand."""

import random
from collections.abc import Callable
from typing import Any

from harness.guest import Guest
from harness.product import (
    SETTLE_S,
    WATCH_SESSIONS,
    Brickwork,
    Volume,
    digest,
    logged_in,
    lvm_backend,
    targets,
    write,
)
from harness.topology import Topology
from harness.waiting import wait_until

from schema.keys import Family

SEED = 20230610


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

    n1.kill()
    n1.boot()
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


def test_a_controller_that_lost_power_exports_again_what_is_attached(
    brickwork: Brickwork, ctl: Guest, n1: Guest
) -> None:
    """The same targets with the same identities: initiators recover, no attachment begins anew (A20, A36)."""
    volume = brickwork.create("exports", "thick")
    brickwork.attach(n1, volume)
    write(n1, volume, "written before the power was lost", offset_mib=1)
    before, told, exported = digest(n1, volume.link), brickwork.attachment(n1, volume), targets(ctl)

    ctl.kill()
    ctl.boot()
    brickwork.start_controller()

    wait_until(lambda: logged_in(ctl, volume) == {"n1"}, SETTLE_S, "the initiator is back")
    assert targets(ctl) == exported
    wait_until(lambda: brickwork.attachment(n1, volume)["paths_live"] == 2, SETTLE_S, "both paths are back")
    write(n1, volume, "written after it", offset_mib=2)
    assert digest(n1, volume.link) == digest(ctl, volume.device) != before
    after = brickwork.attachment(n1, volume)
    assert {key: after[key] for key in ("epoch", "boot", "identity")} == {
        key: told[key] for key in ("epoch", "boot", "identity")
    }
    brickwork.detach(n1, volume)
    assert brickwork.traces(n1, volume) == []


def test_a_volume_moves_to_and_fro_while_daemons_are_killed(
    brickwork: Brickwork, ctl: Guest, n1: Guest, n2: Guest
) -> None:
    """Six moves: the bytes go along, and the target never sees two nodes at once (A7, A14)."""
    chosen = random.Random(SEED)
    victims = ["controller", "source", "target", "source", "target", "nobody"]
    chosen.shuffle(victims)
    volume = brickwork.create("moving", "thick")
    watch = ctl.start_daemon("watch", WATCH_SESSIONS)
    brickwork.attach(n1, volume)
    source, target = n1, n2
    for number, victim in enumerate(victims):
        write(source, volume, f"written before move {number}", offset_mib=number)
        before = digest(source, volume.link)
        brickwork.brickctl("detach", source.name, volume.name)
        brickwork.brickctl("attach", target.name, volume.name)
        moments = moments_of_a_move(brickwork, volume, source, target)
        disturb(brickwork, {"controller": ctl, "source": source, "target": target}.get(victim), chosen.choice(moments))
        brickwork.wait("attachment", f"{target.name}/{volume.name}", "attached")
        assert logged_in(ctl, volume) == {target.name}
        assert digest(target, volume.link) == digest(ctl, volume.device) == before
        source, target = target, source
    brickwork.detach(source, volume)
    assert brickwork.traces(n1, volume) + brickwork.traces(n2, volume) == []
    seen = [set(line.split()[2:]) for line in watch.output().splitlines()]
    assert {"n1"} in seen
    assert {"n2"} in seen
    assert not [names for names in seen if len(names) > 1]


def moments_of_a_move(brickwork: Brickwork, volume: Volume, source: Guest, target: Guest) -> list[Callable[[], bool]]:
    """When something may go wrong; each comes to pass in every move."""
    return [
        lambda: not brickwork.value(Family.CLAIM, source.name, volume.name),
        lambda: target.name in brickwork.holders(volume),
        lambda: bool(brickwork.value(Family.CONNECTION, target.name, volume.name)),
        lambda: bool(brickwork.value(Family.CLAIM, target.name, volume.name)),
    ]


def disturb(brickwork: Brickwork, victim: Guest | None, moment: Callable[[], bool]) -> None:
    """Kill a daemon at the moment, and start it again as systemd would."""
    if victim is None:
        return
    wait_until(moment, SETTLE_S, f"the moment to kill the daemon on {victim.name}")
    brickwork.kill(victim)
    if victim is brickwork.topology.ctl:
        brickwork.start_controller()
    else:
        brickwork.start_node(victim)
