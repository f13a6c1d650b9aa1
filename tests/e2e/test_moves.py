"""A written volume moves to and fro between the nodes while daemons are killed.

Six moves in `make e2e`; `make e2e-long` makes BRICKWORK_E2E_MOVES of them, with another seed each time unless BRICKWORK_E2E_SEED
says which. The same seed kills the same daemons at the same moments; what the machine does meanwhile is its own affair.
"""

import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.channel import Daemon
from harness.guest import Guest
from harness.product import SETTLE_S, WATCH_SESSIONS, Brickwork, Volume, digest, logged_in, lvm_backend, write
from harness.topology import Topology
from harness.waiting import wait_until

from schema.keys import Family

MOVES = int(os.environ.get("BRICKWORK_E2E_MOVES") or 6)
SEED = int(os.environ.get("BRICKWORK_E2E_SEED") or 20230610)
VICTIMS = ("controller", "source", "target", "source", "target", "nobody")
CHECKED_MIB = 32


def backends(topology: Topology) -> dict[str, Any]:
    return {"thick": lvm_backend(topology, "thick")}


@dataclass(frozen=True)
class Move:
    """One move of a volume, and what the watchers see of it."""

    brickwork: Brickwork
    volume: Volume
    source: Guest
    target: Guest

    def moments(self) -> dict[str, Callable[[], bool]]:
        """When something may go wrong; each comes to pass in every move, in this order."""
        brickwork, volume, target = self.brickwork, self.volume, self.target.name
        return {
            "its link is gone": lambda: self.source.run(["test", "-e", volume.link], check=False).exit_code != 0,
            "its claim is gone": lambda: not brickwork.value(Family.CLAIM, self.source.name, volume.name),
            "the target is granted": lambda: target in brickwork.holders(volume),
            "the target is connected": lambda: bool(brickwork.value(Family.CONNECTION, target, volume.name)),
            "the target has claimed": lambda: bool(brickwork.value(Family.CLAIM, target, volume.name)),
            "the target is logged in": lambda: target in logged_in(brickwork.topology.ctl, volume),
        }

    def disturb(self, victim: str, moment: str) -> None:
        """Kill a daemon at the moment, and start it again as systemd would."""
        if victim == "nobody":
            return
        guest = {"controller": self.brickwork.topology.ctl, "source": self.source, "target": self.target}[victim]
        wait_until(self.moments()[moment], SETTLE_S, f"the moment to kill the daemon on {guest.name}: {moment}", 0.1)
        self.brickwork.kill(guest)
        if guest is self.brickwork.topology.ctl:
            self.brickwork.start_controller()
        else:
            self.brickwork.start_node(guest)

    def check(self, ctl: Guest, before: str) -> None:
        """The target, and only the target, has it; its bytes are those that the source wrote."""
        self.brickwork.wait("attachment", f"{self.target.name}/{self.volume.name}", "attached")
        assert logged_in(ctl, self.volume) == {self.target.name}
        assert digest(self.target, self.volume.link, CHECKED_MIB) == before
        assert digest(ctl, self.volume.device, CHECKED_MIB) == before


def test_a_volume_moves_to_and_fro_while_daemons_are_killed(
    brickwork: Brickwork, ctl: Guest, n1: Guest, n2: Guest
) -> None:
    """The bytes go along, and the target never sees two nodes at once (A7, A14)."""
    print(f"\n{MOVES} moves, seed {SEED}", flush=True)
    chosen = random.Random(SEED)
    victims = [VICTIMS[number % len(VICTIMS)] for number in range(MOVES)]
    chosen.shuffle(victims)
    volume = brickwork.create("moving", "thick")
    watch = ctl.start_daemon("watch", WATCH_SESSIONS)
    brickwork.attach(n1, volume)
    source, target, took_s = n1, n2, []
    for number, victim in enumerate(victims, start=1):
        write(source, volume, f"written before move {number}", offset_mib=number % CHECKED_MIB)
        before, began_s = digest(source, volume.link, CHECKED_MIB), time.monotonic()
        move = Move(brickwork, volume, source, target)
        moment = chosen.choice(list(move.moments()))
        brickwork.brickctl("detach", source.name, volume.name)
        brickwork.brickctl("attach", target.name, volume.name)
        move.disturb(victim, moment)
        move.check(ctl, before)
        assert not [names for names in seen_by_target(watch) if len(names) > 1]
        took_s.append(time.monotonic() - began_s)
        killed = "nobody killed" if victim == "nobody" else f"{victim} killed when {moment}"
        route = f"{source.name} -> {target.name}"
        print(f"move {number:2} {route}, {took_s[-1]:5.1f} s, sha256 {before[:16]}…, {killed}", flush=True)
        source, target = target, source
    brickwork.detach(source, volume)
    assert brickwork.traces(n1, volume) + brickwork.traces(n2, volume) == []
    seen = seen_by_target(watch)
    looks = watch.output().splitlines()[-1].split()[0]
    print(f"the target's list of sessions was looked at {looks} times, and changed {len(seen)} times")
    print(f"a move took {statistics.median(took_s):.0f} s (median)")
    assert {"n1"} in seen
    assert {"n2"} in seen


def seen_by_target(watch: Daemon) -> list[set[str]]:
    """The nodes that were logged in, each time that this changed."""
    return [set(line.split()[2:]) for line in watch.output().splitlines()]
