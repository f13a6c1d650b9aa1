"""Everything that can go wrong once, at each point where it can: one short story, played anew for each.

The story is played undisturbed first, which gives its points: the transactions of each daemon, the events that each is told,
and the calls to arrays and hosts. Nothing else draws lots here, so until its disturbance a run is the undisturbed one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from reconciler.runtime.ports import Batch, Compare, Event, Op, Retryable
from schema.keys import Family, Key, Keyspace
from tests.fakes.child import FOREVER
from tests.fakes.child import Fault as CallFault
from tests.fakes.store import Fault as StoreFault
from tests.sim.fleet import Daemon, Fleet, Shape
from tests.sim.nemesis import BY_HAND
from tests.sim.run import PERIODIC, Result, Run, Scenario
from tests.sim.script import Act
from tests.sim.story import Recorder

SHAPE = Shape(controllers=2, nodes=2, arrays=1, extends_online=True, paths=2)
DOWN_S = 1.0
"""So long a daemon that was killed is away."""
UNWISHED_S = 0.3
"""So long a wish is gone: less than the user waits before he looks."""
BLIND_S = 20.0
"""So long a standby is told of leaders only: long enough to become one."""
DEAF_S = 4.0
"""So long a watch stands still: the user's next wish may come meanwhile."""


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


@dataclass
class Played:
    """How the story went."""

    result: Result
    end: str
    """What is left of it at its end, everywhere."""
    written: list[str]
    """What landed on the volume before it was deleted."""
    stages: dict[str, list[str]] = field(default_factory=dict)
    """What the daemons wrote after each act: a line for each transaction, lists of leaders and signs of life left out."""


# --- the story


def acts(keyspace: Keyspace) -> dict[str, list[Act]]:
    """A volume is made, attached, written to, extended, moved, put again, detached and deleted.

    The user waits for each act's effect, but for one change of mind: it comes when the release is said, and not yet heard.
    """
    volume = keyspace.path(Family.DESIRED_VOLUME, "v")
    first, second = (keyspace.path(Family.DESIRED_ATTACHMENT, node, "v") for node in ("n1", "n2"))
    return {
        "start": [],
        "create": [Act(0.0, volume, b'{"backend": "array1", "size_gib": 1, "on_delete": "delete"}')],
        "attach": [Act(0.0, first, b"{}")],
        "write": [],
        "grow": [Act(0.0, volume, b'{"backend": "array1", "size_gib": 2, "on_delete": "delete"}')],
        "move": [Act(0.0, first, None), Act(0.0, second, b"{}")],
        "again": [Act(0.0, second, None), Act(0.0035, second, b"{}")],
        "detach": [Act(0.0, second, None)],
        "delete": [Act(0.0, volume, None)],
    }


def play(meet: Meet, recorder: Recorder | None = None) -> Played:
    """The story, with what `meet` says at each point."""
    stages: dict[str, list[str]] = {}

    def story(run: Run) -> None:
        disturb(run.fleet, meet)
        note = _noting(run.fleet)
        for stage, wishes in acts(run.fleet.keyspace).items():
            stages[stage] = note(stage)
            for act in wishes:
                run.let_pass(act.at_s)
                run.act(act)
            if stage == "write":
                _write(run.fleet)
            if stage == "move":
                _connect_by_one_path(run)
            run.until_settled()

    run = Run(Scenario("exhaustive", SHAPE, [], [], preempt=0.0), recorder, story)
    result = run.play()
    deleted = [volume for array in run.fleet.arrays.values() for volume in array.deleted.values()]
    written = [token for volume in deleted for token in volume.written]
    return Played(result, "" if result.failure else left(run.fleet), written, stages)


def _connect_by_one_path(run: Run) -> None:
    """The other storage network is there again when the device is."""
    host = run.fleet.hosts["n2"]
    host.paths_down.add(1)
    run.until(lambda: [] if host.devices else ["n2 has no device"])
    host.paths_down.discard(1)


def _write(fleet: Fleet) -> None:
    device = fleet.hosts["n1"].device("/dev/brickwork/v")
    assert device is not None, "n1 has no device of the volume"
    fleet.hosts["n1"].write(device, "a token", flush=False)


def _noting(fleet: Fleet) -> Callable[[str], list[str]]:
    """Begin a list of the daemons' transactions, at each call another."""
    lists: list[list[str]] = []
    observe = fleet.etcd.observe

    def note(by: str, compares: Sequence[Compare], events: Sequence[Event]) -> None:
        if events and by not in ("", "lease") and not any(part in events[0].key for part in PERIODIC):
            lists[-1].append(f"{by}: {', '.join(event.key for event in events)}")
        observe(by, compares, events)

    fleet.etcd.observe = note

    def begin(_stage: str) -> list[str]:
        lists.append([])
        return lists[-1]

    return begin


HISTORY = ("alive/", "leaders/", "fences/", "fenced/")
"""Keys that are not about what there is."""


def left(fleet: Fleet) -> str:
    """What there is: keys, what the arrays have, what is on the hosts. No epoch, boot or uid is in it."""
    found = (path.removeprefix(fleet.keyspace.prefix) for path in fleet.etcd.contents())
    lines = [f"keys: {' '.join(each for each in found if not each.startswith(HISTORY))}"]
    for name, array in fleet.arrays.items():
        lines.append(f"{name}: volumes {[*array.volumes]}, exports {[*array.exports]}, maps {array.exposures()}")
    for name, host in fleet.hosts.items():
        there = f"devices {[*host.devices.values()]}, sessions {[*host.sessions]}, links {[*host.links]}"
        lines.append(f"{name}: {there}, notes {[*host.disk]}")
    return "\n".join(lines)


# --- its points, and what goes wrong there


def survey(recorder: Recorder | None = None) -> tuple[Played, list[Point]]:
    """The undisturbed story, and all its points."""
    points: list[Point] = []

    def meet(point: Point) -> None:
        points.append(point)

    return play(meet, recorder), points


def disturb(fleet: Fleet, meet: Meet) -> None:
    """Ask `meet` at each point of each daemon's first life, and do what it says."""
    counted: dict[tuple[str, At], int] = {}

    def number(daemon: str, at: At) -> int:
        counted[daemon, at] = counted.get((daemon, at), 0) + 1
        return counted[daemon, at]

    def strike(met: Disturbance | None) -> What | None:
        if met is None:
            return None
        fleet.story.fault(str(met))
        _strike(fleet, fleet.daemons[met.point.daemon], met)
        return met.what

    for daemon in fleet.daemons.values():
        _disturb_store(daemon, fleet.keyspace, fleet.clock.now, number, lambda point: strike(meet(point)))

    def fault(by: str, where: str, call: str) -> CallFault | None:
        what = strike(meet(Point(At.CALL, by, number(by, At.CALL), f"{call} at {where}")))
        return what.call if what else None

    fleet.call_fault = fault


def _disturb_store(
    daemon: Daemon,
    keyspace: Keyspace,
    now: Callable[[], float],
    number: Callable[[str, At], int],
    meet: Callable[[Point], What | None],
) -> None:
    store = daemon.store
    leaders = keyspace.folder(Family.LEADER)
    blind_until_s: list[float] = []

    def fault_of(compares: Sequence[Compare], then: Sequence[Op]) -> StoreFault | None:
        keys = tuple(each.key for each in compares if each.mod_revision)
        text = ", ".join(op.key.removeprefix(keyspace.prefix) for op in then) or "a confirmation"
        what = meet(Point(At.TRANSACTION, daemon.name, number(daemon.name, At.TRANSACTION), text, bool(then), keys))
        return what.store if what else None

    def shown(event: Event) -> bool:
        text = event.key.removeprefix(keyspace.prefix)
        if blind_until_s and now() < blind_until_s[0]:
            return event.key.startswith(leaders)
        what = meet(Point(At.EVENT, daemon.name, number(daemon.name, At.EVENT), text))
        if what is not None and what.blind:
            blind_until_s.append(now() + BLIND_S)
        return what is None

    store.fault_of = fault_of
    store.deliver = lambda batch: (Batch(batch.revision, tuple(event for event in batch.events if shown(event))),)


def _strike(fleet: Fleet, daemon: Daemon, met: Disturbance) -> None:
    what, store = met.what, daemon.store
    if met.touched:
        fleet.by_hand(met.touched, None if what.takes else fleet.etcd.contents()[met.touched])

    def kill(victim: Daemon, after_s: float) -> None:
        fleet.clock.sleep(after_s)
        victim.kill()
        fleet.clock.sleep(DOWN_S)
        victim.start()

    def pause(lasts_s: float) -> None:
        if daemon.process is not None:
            daemon.process.pause()
            fleet.clock.sleep(lasts_s)
            daemon.process.resume()

    def deafen() -> None:
        store.silent = True
        fleet.clock.sleep(DEAF_S)
        store.silent = False

    if what.paused_s:
        fleet.clock.spawn("pause", lambda: pause(what.paused_s))
    if what.deposes:
        for path in fleet.etcd.contents(fleet.keyspace.folder(Family.LEADER)):
            fleet.by_hand(path, None)
    if what.unwished:
        fleet.clock.spawn("unwish", lambda: _unwish(fleet, daemon.name.removeprefix("node/")))
    if what.fenced:
        fleet.clock.spawn("fence", lambda: _fence(fleet, daemon.name.removeprefix("node/"), what.killed_after_s or 0.0))
    if what.killed_after_s is not None:
        after_s = what.killed_after_s
        fleet.clock.spawn("kill", lambda: kill(daemon, after_s))
    if what.blind:
        for other in (each for each in fleet.daemons.values() if each.backends and each is not daemon):
            fleet.clock.spawn("kill", partial(kill, other, DOWN_S))
    if what.deaf:
        fleet.clock.spawn("deafen", deafen)


def _unwish(fleet: Fleet, node: str) -> None:
    """The user deletes this node's wishes, and puts them again."""
    wishes = fleet.etcd.contents(fleet.keyspace.folder(Family.DESIRED_ATTACHMENT, node))
    for path in wishes:
        fleet.by_hand(path, None)
    fleet.clock.sleep(UNWISHED_S)
    for path, value in wishes.items():
        fleet.by_hand(path, value)


def _fence(fleet: Fleet, node: str, after_s: float) -> None:
    """Somebody says that this boot is over, while its daemon is away."""
    fleet.clock.sleep(after_s + DOWN_S / 4)
    if boot := fleet.boot(node):
        statement = b'{"who": "the operator", "why": "it is quiet", "evidence": "its power is off"}'
        fleet.by_hand(fleet.keyspace.path(Family.FENCE, node, boot), statement)


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


def meeting(disturbance: Disturbance) -> Meet:
    """Answers with the disturbance at its point, and only there."""
    where = (disturbance.point.at, disturbance.point.daemon, disturbance.point.number)
    return lambda point: disturbance if (point.at, point.daemon, point.number) == where else None
