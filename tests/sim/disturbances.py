"""What can go wrong once: the points of a story, and what may happen at each. `exhaustive` plays the story and does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from reconciler.runtime.ports import Retryable
from schema.keys import Family, Key, Keyspace
from tests.fakes.child import FOREVER
from tests.fakes.child import Fault as CallFault
from tests.fakes.store import Fault as StoreFault
from tests.sim.nemesis import BY_HAND


class At(Enum):
    """Kinds of points."""

    TRANSACTION = "transaction"
    EVENT = "event"
    CALL = "call"


@dataclass(frozen=True)
class Point:
    """The `number`-th (from 1) of its kind in a daemon's first life. `keys`: what a transaction compares, and is there."""

    at: At
    daemon: str
    number: int
    text: str = ""
    writes: bool = False
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class What:
    """What goes wrong at a point."""

    text: str
    store: StoreFault | None = None
    call: CallFault | None = None
    killed_after_s: float | None = None
    """The daemon is killed so long after the point was met, and started again."""
    unwished: bool = False
    fenced: bool = False
    """The boot of its node is fenced while it is away."""
    deaf: bool = False
    blind: bool = False
    """It is told of leaders only from here on, and the others are killed, so that it has to lead with what it knows."""
    hidden: bool = False
    paused_s: float = 0.0
    deposes: bool = False
    """The leader keys are deleted by hand, so that another takes over."""
    takes: bool = False
    """The key at hand is deleted, not put again."""


CRASHES = (
    What("killed before it arrives", StoreFault.LOST_REQUEST, killed_after_s=0.0),
    What("killed when it is done", StoreFault.LOST_REPLY, killed_after_s=0.0),
)
FENCES = (What("killed when it is done, and fenced", StoreFault.LOST_REPLY, killed_after_s=0.0, fenced=True),)
UNKNOWN = (
    What("it never arrives, and nobody knows", StoreFault.LOST_REQUEST),
    What("it is done, and nobody is told", StoreFault.LOST_REPLY),
    What("it is given up, and done later", StoreFault.LATE),
)
STALE = (What("the view stands still", deaf=True),)
TOUCHED = What("somebody puts a key again that it compares")
TAKEN = What("somebody deletes a key that it compares", takes=True)
HIDDEN = What("not told", hidden=True)
BLIND = What("not told, nor of anything after it, and then it has to lead", blind=True)
OF_NODES = (
    What("killed in the middle, and fenced", call=CallFault(between_s=0.2), killed_after_s=0.1, fenced=True),
    What("killed after it, and fenced", call=CallFault(after_s=0.2), killed_after_s=0.1, fenced=True),
    What(
        "done, an error comes all the same, and the wish is gone for a while",
        call=CallFault(after_s=0.1, raises=Retryable("it was done")),
        unwished=True,
    ),
)
OF_CONTROLLERS = (
    What("it takes long, and its caller is paused", call=CallFault(before_s=10.0), paused_s=20.0),
    What("it takes long, and its caller is deposed", call=CallFault(before_s=15.0), deposes=True),
)
CALLS = (
    What("killed before it", call=CallFault(before_s=0.2), killed_after_s=0.1),
    What("killed in the middle", call=CallFault(between_s=0.2, after_s=0.2), killed_after_s=0.1),
    What("killed after it", call=CallFault(after_s=0.2), killed_after_s=0.1),
    What("the worker dies before it", call=CallFault(lands=False, dies=True)),
    What("the worker dies in the middle", call=CallFault(breaks=True)),
    What("the worker dies after it", call=CallFault(dies=True)),
    What("it hangs before", call=CallFault(before_s=FOREVER)),
    What("it hangs after", call=CallFault(after_s=FOREVER)),
    What("it is refused", call=CallFault(lands=False, raises=Retryable("not now"))),
    What("it is done, and an error comes all the same", call=CallFault(raises=Retryable("it was done"))),
)


@dataclass(frozen=True)
class Disturbance:
    """What goes wrong, and where. `touched`: the key that somebody has a hand in."""

    point: Point
    what: What
    touched: str = ""

    def __str__(self) -> str:
        point = self.point
        return (
            f"{point.daemon}'s {point.at.value} {point.number} ({point.text}): {self.what.text} {self.touched}".rstrip()
        )


Meet = Callable[[Point], Disturbance | None]


def disturbances(points: Sequence[Point], keyspace: Keyspace) -> Iterator[Disturbance]:
    """All that can go wrong, once each."""
    calling = {point.daemon for point in points if point.at is At.CALL}
    standbys = {point.daemon for point in points if point.daemon.startswith("ctl/")} - calling
    for point in points:
        of_node = point.daemon.startswith("node/")
        match point.at:
            case At.TRANSACTION:
                for what in (*CRASHES, *STALE, *(UNKNOWN if point.writes else ()), *(FENCES if of_node else ())):
                    yield Disturbance(point, what)
                for path in point.keys if point.writes else ():
                    yield from _by_hand(keyspace, point, path)
            case At.EVENT:
                yield Disturbance(point, BLIND if point.daemon in standbys else HIDDEN)
            case At.CALL:
                for what in (*CALLS, *(OF_NODES if of_node else OF_CONTROLLERS)):
                    yield Disturbance(point, what)


def _by_hand(keyspace: Keyspace, point: Point, path: str) -> Iterator[Disturbance]:
    """A person may put every key, but for a leader's: without its lease it ends all leading until it is deleted."""
    key = keyspace.parse(path)
    if isinstance(key, Key) and key.family is not Family.LEADER:
        yield Disturbance(point, TOUCHED, path)
        if key.family in BY_HAND:
            yield Disturbance(point, TAKEN, path)
