"""One run: the user's script and the faults, then peace; the fleet must settle, and be quiet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from reconciler.core.mass import DELETES_PAUSED, DETACHES_PAUSED
from reconciler.runtime.ports import Compare, Event
from schema.keys import Family, Key
from schema.models import AttachmentStatus, Claim, Connection, Grant, NodeRecord, Record, Verdict
from tests.fakes.clock import Stuck, TaskFailed, shuffled
from tests.sim.faults import CALLED, DAEMON, Fault, Kind, draw, draw_of
from tests.sim.fleet import Fleet, Shape
from tests.sim.nemesis import Nemesis
from tests.sim.picture import unsettled
from tests.sim.script import Act, Author
from tests.sim.story import Recorder

CHAOS_S = 60.0
"""So long the user and the faults go on."""
SETTLE_S = 600.0
"""So long after the last fault the fleet may take to settle. Its retries are at most 20 s apart here."""
QUIET_S = 70.0
"""So long nothing may be written then: longer than every period of the daemons (resync, statistics, verification)."""
STAGE_S = 0.5
"""What a patient user gives the fleet at least before the next wish."""
EXTENDS_ONLINE = 0.5
"""How often arrays extend what is attached."""
TWO_NETWORKS = 0.4
"""How often hosts have two storage networks, of which they lose one now and then."""
WITH_AGENTS = 0.3
"""How often there are fence agents, and nodes that are quiet for long."""
WITH_CLONE = 0.25
"""How often the first node's host has a copy, and much becomes of the two."""
NEVER_CUT = 0.25
"""How often arrays do not cut off whom they no longer map."""
BY_BOOT = NodeRecord | Claim | Connection
"""What is of one boot of a host."""
PERIODIC = ("/alive/", "/leaders/")


@dataclass(frozen=True)
class Scenario:
    """All that happens to a fleet from outside, and the order of what happens inside."""

    seed: str
    shape: Shape
    acts: Sequence[Act]
    faults: Sequence[Fault]
    preempt: float = 0.05
    """How often a task gives way where it need not."""


@dataclass
class Result:
    """How a run ended. `failure` empty: well."""

    seed: str
    failure: str = ""
    steps: int = 0
    virtual_s: float = 0.0
    writes: int = 0
    faults: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    """The kinds of the faults, for statistics."""
    transcript: Callable[..., str] = lambda: ""


def scenario_of(seed: int) -> Scenario:
    """What the seed draws."""
    rng = Random(seed)
    shape = Shape(rng.choice((1, 2, 2, 3)), rng.choice((2, 3)), rng.choice((1, 2)))
    fleet = Fleet(shuffled(rng.random), shape, rng)  # for its names only
    author = Author(rng, fleet.keyspace, fleet.nodes, [*fleet.arrays], rng.choice((1, 2, 3)), CHAOS_S)
    acts = author.write(rng.randint(4, 30))
    drawn = draw(rng, rng.randint(1, 14), [*fleet.daemons], fleet.nodes, [*fleet.arrays], CHAOS_S)
    preempt = rng.choice((0.0, 0.02, 0.1))
    shape = replace(shape, extends_online=rng.random() < EXTENDS_ONLINE)
    if rng.random() < TWO_NETWORKS:
        shape = replace(shape, paths=2)
        drawn += draw_of(rng, rng.randint(1, 6), (Kind.PATH,), fleet.nodes, CHAOS_S)
    if rng.random() < WITH_AGENTS:
        shape = replace(shape, agents=2)
        agents = [name for name in Fleet(shuffled(rng.random), shape, rng).daemons if name.startswith("fence/")]
        drawn += draw_of(rng, rng.randint(0, 4), DAEMON, agents, CHAOS_S)
        drawn += draw_of(rng, rng.randint(0, 2), CALLED, ("switch",), CHAOS_S)
        drawn += draw_of(rng, rng.randint(1, 3), (Kind.CUT,), [f"node/{name}" for name in fleet.nodes], CHAOS_S)
    if rng.random() < NEVER_CUT:
        shape = replace(shape, cuts=False)
        drawn += draw_of(rng, rng.randint(1, 3), (Kind.SPLIT,), fleet.nodes, CHAOS_S)
    if rng.random() < WITH_CLONE:
        shape = replace(shape, clone=True)
        both = ["node/n1", "node/n1-copy"]
        drawn += draw_of(rng, rng.randint(2, 6), (Kind.KILL, Kind.STOP, Kind.PAUSE, Kind.CUT), both, CHAOS_S)
        drawn += draw_of(rng, rng.randint(0, 2), (Kind.POWER,), ("n1", "n1-copy"), CHAOS_S)
        drawn += draw_of(rng, rng.randint(0, 2), (Kind.COPY,), ("n1",), CHAOS_S)
    return Scenario(str(seed), shape, acts, drawn, preempt)


class Run:
    """A scenario, played once.

    Args:
        story: what happens between the start of the daemons and the peace; by default the scenario's acts and faults.
    """

    def __init__(
        self, scenario: Scenario, recorder: Recorder | None = None, story: Callable[[Run], None] | None = None
    ) -> None:
        self.scenario = scenario
        self._story = story or Run._go_through
        order = Random(f"{scenario.seed} order")
        self.clock = shuffled(order.random, scenario.preempt)
        self.fleet = Fleet(self.clock, scenario.shape, Random(f"{scenario.seed} daemons"))
        self.nemesis = Nemesis(self.fleet, Random(f"{scenario.seed} nemesis"))
        if recorder is not None:
            recorder.attach(self.fleet.story, self.fleet.whose)
        self._began_s = self.clock.now()

    def play(self) -> Result:
        """From the start of the daemons to the quiet end."""
        fleet = self.fleet
        failure = ""
        try:
            fleet.start()
            self._story(self)
            self.nemesis.heal()
            fleet.story.tell("", "the faults are over")
            self._settle()
        except (AssertionError, Stuck, TaskFailed) as error:
            failure = f"{type(error).__name__}: {error}"
        result = Result(
            self.scenario.seed,
            failure,
            self.clock.scheduler.steps,
            self.clock.now() - self._began_s,
            fleet.etcd.writes,
            fleet.story.faults,
            [fault.kind.text for fault in self.scenario.faults],
            fleet.story.text,
        )
        fleet.end()
        return result

    def _timeline(self) -> list[tuple[float, Callable[[], None]]]:
        moments: list[tuple[float, Callable[[], None]]] = [
            (act.at_s, partial(self.act, act)) for act in self.scenario.acts
        ]
        for fault in self.scenario.faults:
            moments.append((fault.at_s, partial(self.nemesis.strike, fault)))
            moments.append((fault.at_s + fault.lasts_s, partial(self.nemesis.relent, fault)))
        return sorted(moments, key=lambda moment: moment[0])

    def act(self, act: Act) -> None:
        """What the user does."""
        self.fleet.story.tell("user", str(act))
        self.fleet.by_hand(act.path, act.value)

    def _go_through(self) -> None:
        for at_s, happen in self._timeline():
            self.let_pass(self._began_s + at_s - self.clock.now())
            happen()
            self._check()

    def let_pass(self, seconds: float) -> None:
        """So long, or until an invariant breaks, which is raised."""
        if seconds > 0:
            self.clock.scheduler.drive(lambda: self.fleet.broken is not None, seconds)
        self._check()

    def _check(self) -> None:
        if self.fleet.broken is not None:
            raise self.fleet.broken

    def until_settled(self) -> None:
        """Let time pass until everything is as it should be."""
        self.let_pass(STAGE_S)
        self.until(self._unsettled)

    def until(self, look: Callable[[], list[str]]) -> None:
        """Let time pass until nothing is missing any more."""
        until = self.clock.now() + SETTLE_S
        while missing := look():
            if self.clock.now() >= until:
                raise AssertionError(f"L1: not settled within {SETTLE_S:.0f} s: {'; '.join(missing)}")
            self.let_pass(1.0)

    def _settle(self) -> None:
        """As it should be, and nothing written for long: what looks settled may not have heard of the last fault yet."""
        until = self.clock.now() + SETTLE_S
        written = self._note_writes()
        quiet_since = self.clock.now()
        while self.clock.now() < until:
            self.let_pass(1.0)
            self._confirm()
            self._bring_back()
            faults = self._unsettled()
            if faults or written:
                quiet_since = self.clock.now()
                last = faults or [f"written: {', '.join(sorted(written))}"]
                written.clear()
            elif self.clock.now() - quiet_since >= QUIET_S:
                return
        raise AssertionError(f"L1: not settled and quiet within {SETTLE_S:.0f} s: {'; '.join(last)}")

    def _confirm(self) -> None:
        """The user says that all ends of wishes were meant which the daemons take for an accident, as `brickctl` would."""
        values, keyspace = self.fleet.invariants.values, self.fleet.keyspace
        detaches: dict[str, dict[str, int]] = {}
        for key, value in values.items():
            if isinstance(value, AttachmentStatus) and _waits(value, DETACHES_PAUSED):
                detaches.setdefault(key.names[0], {})[key.names[1]] = value.epoch
        for node, epochs in detaches.items():
            self._put(keyspace.path(Family.DESIRED_NODE, node), {"confirmed_detaches": epochs})
        for key, value in list(values.items()):
            record = values.get(Key(Family.RECORD, key.names))
            if isinstance(value, Verdict) and _waits(value, DELETES_PAUSED) and isinstance(record, Record):
                self._put(keyspace.path(Family.DESIRED_DELETION, *key.names), {"uid": record.uid})

    def _bring_back(self) -> None:
        """After a careless hand deleted `nodes/N`, its copy may have been the first to say that it is N. A person switches that
        off for good, says so of each of its boots, and on the node's own host that this is the node."""
        fleet, values = self.fleet, self.fleet.invariants.values
        for copy, node in fleet.copies.items():
            held = [value.boot for key, value in values.items() if isinstance(value, BY_BOOT) and key.node == node]
            held += [
                h.boot for value in values.values() if isinstance(value, Grant) for h in value.holders if h.node == node
            ]
            boots = {boot for boot in held if fleet.host_of(node, boot) == copy and boot != fleet.boot(node)}
            if boots:
                fleet.turn_off(copy)
                fleet.hosts[node].state["word"] = node
            for boot in boots:
                said = {"who": "a person", "why": "it is a copy", "evidence": "it is off", "proof": "powered_off"}
                self._put(fleet.keyspace.path(Family.FENCE, node, boot), said)

    def _put(self, path: str, value: Mapping[str, object]) -> None:
        """Unless it is so already."""
        encoded = json.dumps(value).encode()
        if self.fleet.etcd.contents().get(path) != encoded:
            self.act(Act(0.0, path, encoded))

    def _note_writes(self) -> set[str]:
        """Who writes what from now on, heartbeats left out."""
        written: set[str] = set()
        observe = self.fleet.etcd.observe

        def note(by: str, compares: Sequence[Compare], events: Sequence[Event]) -> None:
            written.update(f"{by}: {event.key}" for event in events if not any(part in event.key for part in PERIODIC))
            observe(by, compares, events)

        self.fleet.etcd.observe = note
        return written

    def _unsettled(self) -> list[str]:
        fleet = self.fleet
        values = fleet.invariants.values
        left = [f"{name} has sessions without a device" for name, host in fleet.hosts.items() if host.sessions]
        for name, host in ((name, fleet.hosts[name]) for name in fleet.nodes):
            unclaimed = [volume for volume in host.disk if Key(Family.CLAIM, (name, volume)) not in values]
            left += [f"{name} has a note of {volume}, and no claim" for volume in unclaimed]
        return unsettled(values, fleet, fleet.nodes, fleet.arrays) + left


def _waits(told: AttachmentStatus | Verdict, reason: str) -> bool:
    return any(each.reason == reason for each in told.conditions)
