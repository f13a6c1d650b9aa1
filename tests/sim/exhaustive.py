"""Everything that can go wrong once, at each point where it can: one short story, played anew for each.

The story is played undisturbed first, which gives its points: the transactions of each daemon, the events that each is told,
and the calls to arrays and hosts. Nothing else draws lots here, so until its disturbance a run is the undisturbed one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from reconciler.runtime.ports import Batch, Compare, Event, Op
from schema.keys import Family, Keyspace
from tests.fakes.child import Fault as CallFault
from tests.fakes.store import Fault as StoreFault
from tests.sim.disturbances import At, Disturbance, Meet, Point, What
from tests.sim.fleet import Daemon, Fleet, Shape
from tests.sim.run import PERIODIC, Result, Run, Scenario
from tests.sim.script import Act
from tests.sim.story import Recorder

DOWN_S = 1.0
"""So long a daemon that was killed is away."""
UNWISHED_S = 0.3
"""So long a wish is gone: less than the user waits before he looks."""
BLIND_S = 20.0
"""So long a standby is told of leaders only: long enough to become one."""
DEAF_S = 4.0
"""So long a watch stands still: the user's next wish may come meanwhile."""


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


@dataclass(frozen=True)
class Tale:
    """What happens to a fleet. The user waits for the effect of each stage before the next."""

    shape: Shape
    acts: Callable[[str, str, str], Mapping[str, Sequence[Act]]]
    """Stage by stage what the user does to the wish for a volume, and to those for it on n1 and n2."""
    besides: Mapping[str, Callable[[Run], None]]
    """What else happens at a stage."""


def _moving(volume: str, first: str, second: str) -> Mapping[str, Sequence[Act]]:
    """One change of mind is not waited for: it comes when the release is said, and not yet heard."""
    return {
        "start": [],
        "create": [Act(0.0, volume, _spec(1))],
        "attach": [Act(0.0, first, b"{}")],
        "write": [],
        "grow": [Act(0.0, volume, _spec(2))],
        "move": [Act(0.0, first, None), Act(0.0, second, b"{}")],
        "again": [Act(0.0, second, None), Act(0.0035, second, b"{}")],
        "detach": [Act(0.0, second, None)],
        "delete": [Act(0.0, volume, None)],
    }


def _fencing(volume: str, first: str, second: str) -> Mapping[str, Sequence[Act]]:
    return {
        "create": [Act(0.0, volume, _spec(1))],
        "attach": [Act(0.0, first, b"{}")],
        "write": [],
        "lose": [],
        "move": [Act(0.0, first, None), Act(0.0, second, b"{}")],
        "detach": [Act(0.0, second, None)],
        "delete": [Act(0.0, volume, None)],
    }


def _spec(size_gib: int) -> bytes:
    return b'{"backend": "array1", "size_gib": %d, "on_delete": "delete"}' % size_gib


def play(meet: Meet, recorder: Recorder | None = None, tale: Tale | None = None) -> Played:
    """The tale (by default `MOVING`), with what `meet` says at each point."""
    stages: dict[str, list[str]] = {}
    told = tale or MOVING

    def story(run: Run) -> None:
        disturb(run.fleet, meet)
        note = _noting(run.fleet)
        path = run.fleet.keyspace.path
        wishes = (path(Family.DESIRED_ATTACHMENT, node, "v") for node in ("n1", "n2"))
        for stage, acts in told.acts(path(Family.DESIRED_VOLUME, "v"), *wishes).items():
            stages[stage] = note(stage)
            for act in acts:
                run.let_pass(act.at_s)
                run.act(act)
            if stage in told.besides:
                told.besides[stage](run)
            run.until_settled()

    run = Run(Scenario("exhaustive", told.shape, [], [], preempt=0.0), recorder, story)
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


def _write(run: Run) -> None:
    host = run.fleet.hosts["n1"]
    device = host.device("/dev/brickwork/v")
    assert device is not None, "n1 has no device of the volume"
    host.write(device, "a token", flush=False)


def _lose(run: Run) -> None:
    """n1 does not reach etcd any more, and has its device."""
    run.fleet.daemons["node/n1"].store.down = True


MOVING = Tale(
    Shape(controllers=2, nodes=2, arrays=1, extends_online=True, paths=2),
    _moving,
    {"write": _write, "move": _connect_by_one_path},
)
"""A volume is made, attached, written to, extended, moved, put again, detached and deleted."""
FENCING = Tale(Shape(controllers=1, nodes=2, arrays=1, agents=2), _fencing, {"write": _write, "lose": _lose})
"""The node that has a volume is quiet, and another is to have it: the fence agents see to that."""


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


def survey(recorder: Recorder | None = None, tale: Tale | None = None) -> tuple[Played, list[Point]]:
    """The undisturbed tale, and all its points."""
    points: list[Point] = []

    def meet(point: Point) -> None:
        points.append(point)

    return play(meet, recorder, tale), points


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


def meeting(disturbance: Disturbance) -> Meet:
    """Answers with the disturbance at its point, and only there."""
    where = (disturbance.point.at, disturbance.point.daemon, disturbance.point.number)
    return lambda point: disturbance if (point.at, point.daemon, point.number) == where else None
