"""What goes wrong in a run: plain data, drawn from the seed. `nemesis` does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random


class Kind(Enum):
    """Each fault, and how often it is drawn. All of them: docs/SIMULATOR.md."""

    # a daemon
    KILL = "is killed", 6
    PAUSE = "is paused", 6
    STALL = "is paused in the middle of a call", 6
    STOP = "is stopped in order", 1
    CUT = "does not reach etcd", 4
    SILENT = "hears nothing from its watches", 3
    FROZEN = "gets no answer from etcd", 2
    LOSSY = "loses requests and replies to etcd", 4
    TWICE = "hears every event twice", 1
    # a host
    POWER = "loses power", 3
    BUSY = "has its devices in use", 2
    FENCE = "loses power and is fenced", 2
    SPLIT = "does not reach etcd and is fenced", 2
    PATH = "loses a storage network", 0  # drawn apart, where there are two
    COPY = "has its disk copied to another host, which starts", 0  # drawn apart, where there is one
    # an array
    AWAY = "does not answer", 2
    # calls to an array's driver, or to os-brick on a host
    SLOW = "is slow", 3
    HANGS = "hangs or breaks off now and then", 5
    FAILS = "refuses now and then", 4
    # etcd, and a person's hand in it
    DOWN = "is down", 1
    COMPACT = "is compacted", 2
    FULL = "has no space", 1
    LEASES = "loses all leases", 1
    HAND = "loses a key by hand", 4

    def __init__(self, text: str, weight: int) -> None:
        self.text = text
        self.weight = weight


LASTS_S = (0.05, 0.5, 2.0, 4.0, 8.0, 20.0)
"""Short ones and long ones: from within a call to beyond a lease."""
LONGER_S = (2.0, 8.0, 20.0, 40.0)

DAEMON = (Kind.KILL, Kind.PAUSE, Kind.STALL, Kind.STOP, Kind.CUT, Kind.SILENT, Kind.FROZEN, Kind.LOSSY, Kind.TWICE)
HOST = (Kind.POWER, Kind.BUSY, Kind.FENCE, Kind.SPLIT, Kind.PATH)
CALLED = (Kind.SLOW, Kind.HANGS, Kind.FAILS)


@dataclass(frozen=True)
class Fault:
    """From `at_s` on, for `lasts_s` seconds."""

    at_s: float
    lasts_s: float
    kind: Kind
    target: str
    """A daemon, a node (whose host it is), an array, or ``etcd``. Calls are made to arrays and to hosts."""

    def __str__(self) -> str:
        return f"{self.target} {self.kind.text} for {self.lasts_s:.1f} s"


def draw(
    rng: Random, number: int, daemons: Sequence[str], nodes: Sequence[str], arrays: Sequence[str], lasts_s: float
) -> list[Fault]:
    """So many faults, in order."""
    kinds = list(Kind)
    targets: dict[Kind, Sequence[str]] = {
        **dict.fromkeys(DAEMON, daemons),
        **dict.fromkeys(HOST, nodes),
        **dict.fromkeys(CALLED, (*arrays, *nodes)),
        Kind.AWAY: arrays,
    }
    drawn = []
    for at_s in sorted(rng.uniform(0.0, lasts_s) for _ in range(number)):
        kind = rng.choices(kinds, [each.weight for each in kinds])[0]
        target = rng.choice(targets.get(kind, ("etcd",)))
        drawn.append(Fault(at_s, rng.choice(LASTS_S), kind, target))
    return drawn


def draw_of(rng: Random, number: int, kinds: Sequence[Kind], targets: Sequence[str], lasts_s: float) -> list[Fault]:
    """So many faults of these kinds, longer ones."""
    return [
        Fault(rng.uniform(0.0, lasts_s), rng.choice(LONGER_S), rng.choice(kinds), rng.choice(targets))
        for _ in range(number)
    ]
