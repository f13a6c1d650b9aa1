"""How much of what may happen in one search, and what a thing that happened looks like."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from tests.model.state import NODES, Budget, State

ACTORS = (*(f"node {name}" for name in NODES), "controller")
OUTSIDE = "outside"
USER, OPERATOR = "user", "operator"


class Kind(IntEnum):
    """What sort of thing happened. The questions of liveness are about steps and healing alone."""

    STEP = 0
    GRANT = 1
    """A step too, counted by (L)."""
    HEAL = 2
    RETURN = 3
    """Healing of a node that was fenced while it was away."""
    CRASH = 4
    """Always possible, as often as one likes."""
    EVENT = 5
    """Taken from the budget."""


class Next(NamedTuple):
    """One thing that can happen now."""

    kind: Kind
    actor: str
    what: str
    state: State
    broken: str = ""
    """The check that this very thing breaks."""


ALL_DELETIONS = frozenset({"claim", "status", "connection", "boot", "prefix", "grant", "volume"})


@dataclass(frozen=True)
class Load:
    """What a search lets happen besides the steps themselves."""

    budget: Budget = field(default_factory=Budget)
    start: str = "idle"
    """Where it begins: a name of starts.STARTS."""
    lag: str = ""
    """With budget.stale. `one`: the cache of one actor misses writes to one key or to a few that belong together, `all`: to
    every key."""
    deletions: frozenset[str] = ALL_DELETIONS
    """What may be deleted by hand."""
    late: frozenset[int] = frozenset()
    """Actors whose calls outlive them. The real ones kill their children first (R10)."""
    cuts: bool = True
    """The array cuts off whom it does not map (R12)."""
    restores: bool = False
    """Hosts log in to what was connected by themselves at power on (R11)."""
    audits: bool = True
    """The controller hears of exports that are missing from the driver, which can list them."""
    words: bool = False
    """Nodes say so when what they were given does not answer, and the controller acts upon it."""
    crashes: bool = True
    controllers: int = 1
    nodes: int = 2
    """How many of the nodes users put wishes for."""
    skips: bool = False
    """What lags is not compared, for one step (test_compares)."""
    sizes: tuple[int, ...] = (1,)
    """GiB that users ask for in `desired/volumes`."""
    room: int = 9
    """GiB. The array refuses to make anything bigger."""
    online: bool = False
    """It can extend what somebody holds."""
