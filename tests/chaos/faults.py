"""What goes wrong in a run with real processes: plain data, drawn from the seed. `nemesis` does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random


class Kind(Enum):
    """Each fault, and how often it is drawn."""

    # a daemon
    KILL = "is killed (SIGKILL)", 6
    PAUSE = "is paused (SIGSTOP)", 5
    STOP = "is stopped in order (SIGTERM)", 1
    WORKER = "loses its workers (SIGKILL)", 4
    HANG = "has its workers paused (SIGSTOP)", 3
    REBOOT = "is killed and finds a new boot", 2
    # between a daemon and etcd
    CUT = "does not reach etcd", 3
    DELAY = "reaches etcd late", 2
    HALF_OPEN = "talks to etcd and nothing passes", 3
    DEAF = "hears no reply of etcd", 3
    TRICKLE = "reaches etcd with one byte a second", 1
    RESET = "has its connections to etcd reset", 3
    # etcd
    MEMBER_KILL = "is killed (SIGKILL)", 3
    MEMBER_PAUSE = "is paused (SIGSTOP)", 3
    COMPACT = "is compacted and defragmented", 2
    LEASE = "loses a lease", 3
    HAND = "loses a key by hand", 4

    def __init__(self, text: str, weight: int) -> None:
        self.text = text
        self.weight = weight


DAEMON = (Kind.KILL, Kind.PAUSE, Kind.STOP, Kind.WORKER, Kind.HANG)
NETWORK = (Kind.CUT, Kind.DELAY, Kind.HALF_OPEN, Kind.DEAF, Kind.TRICKLE, Kind.RESET)
MEMBER = (Kind.MEMBER_KILL, Kind.MEMBER_PAUSE)
AT_ONCE = (Kind.WORKER, Kind.RESET, Kind.COMPACT, Kind.LEASE, Kind.HAND)
DURATIONS_S = (0.2, 1.0, 3.0, 8.0, 15.0)
"""From within a call to far beyond a lease."""


@dataclass(frozen=True)
class Fault:
    """From `at_s` on, for `lasts_s` seconds."""

    at_s: float
    lasts_s: float
    kind: Kind
    target: str
    """A daemon, a node, a member of etcd, or ``etcd``."""
    members: tuple[int, ...] = ()
    """Of the network's faults: the connections to which members have it."""

    @property
    def ends_s(self) -> float:
        return self.at_s + self.lasts_s

    def __str__(self) -> str:
        to = f" (members {', '.join(map(str, self.members))})" if self.members else ""
        lasts = "" if self.kind in AT_ONCE else f" for {self.lasts_s:.1f} s"
        return f"{self.target} {self.kind.text}{to}{lasts}"


def draw(
    rng: Random, number: int, controllers: Sequence[str], nodes: Sequence[str], members: int, lasts_s: float
) -> list[Fault]:
    """At most so many faults, in order, all over before `lasts_s`. Of etcd's members never two are away at once."""
    kinds, drawn, member_free_s = list(Kind), [], 0.0
    for at_s in sorted(rng.uniform(0.0, lasts_s) for _ in range(number)):
        kind = rng.choices(kinds, [each.weight for each in kinds])[0]
        fault = Fault(
            at_s, min(rng.choice(DURATIONS_S), lasts_s - at_s), kind, *_aim(rng, kind, controllers, nodes, members)
        )
        if kind in MEMBER and at_s < member_free_s:
            continue
        if kind in MEMBER:
            member_free_s = fault.ends_s + 5.0  # to come back, and catch up
        drawn.append(fault)
    return drawn


def _aim(
    rng: Random, kind: Kind, controllers: Sequence[str], nodes: Sequence[str], members: int
) -> tuple[str, tuple[int, ...]]:
    daemons = [*controllers, *nodes]
    if kind in NETWORK:
        which = tuple(range(members)) if rng.random() < 0.5 else (rng.randrange(members),)
        return rng.choice(daemons), which
    if kind in MEMBER:
        return f"m{rng.randrange(members)}", ()
    if kind is Kind.REBOOT:
        return rng.choice(nodes), ()
    return (rng.choice(daemons) if kind in DAEMON else "etcd"), ()
