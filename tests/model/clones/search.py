"""Breadth-first search: every reachable state once, and the shortest trace to whatever is wrong.

Besides safety: from every state that speaks of the first host alone, which kept its identity, a settled one is reached by
steps and healing alone, without a person (`stuck`); and from every state, where people may say their word (`stuck with people`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from tests.model.clones.events import both_fresh, budgeted, crashes, healing, one_alone, people
from tests.model.clones.rules import Rules
from tests.model.clones.state import ATTACHED, HERE, NOWHERE, READY, Host, State, canonical
from tests.model.clones.world import Load, Next, controller_steps, host_steps
from tests.model.load import Kind
from tests.model.search import Graph, Report

STUCK = "stuck: the first host does not come back by itself"
STUCK_WITH_PEOPLE = "stuck whatever people say"
ENDLESS = "(L) grants without end"
MOST_GRANTS = 12
_ALONE = frozenset({Kind.STEP, Kind.GRANT, Kind.HEAL})
_STARTS = {"fresh": both_fresh, "alone": one_alone}


def settled(state: State) -> bool:
    """As wished, on the host that is the node, with everybody well."""
    keys, node = state.keys, state.keys.node
    if node is None or any(host.away not in (HERE, NOWHERE) or host.op for host in state.hosts):
        return False
    at = [index for index, host in enumerate(state.hosts) if (host.boot, host.identity) == node and host.runs]
    others = [host for host in state.hosts if (host.boot, host.identity) != node]
    if not at or any(host.device for host in others):
        return False
    host = state.hosts[at[0]]
    return _held(state, host) if keys.wish else _free(state, host)


def _held(state: State, host: Host) -> bool:
    keys, held = state.keys, (host.device, host.boot, host.identity)
    told = keys.grant == (*held, READY) and keys.connection == (*held, READY) and keys.claim == held
    return bool(host.device and told and keys.status == (ATTACHED, *held) and state.mapped == host.device)


def _free(state: State, host: Host) -> bool:
    keys = state.keys
    return not (host.device or keys.grant or keys.connection or keys.claim or keys.status or state.mapped)


def following(load: Load, rules: Rules, state: State) -> Iterator[Next]:
    yield from controller_steps(rules, state)
    for index in range(2):
        yield from host_steps(rules, state, index)
    yield from healing(rules, state)
    yield from people(load, state)
    yield from crashes(state)
    yield from budgeted(state)


class Search:
    """One search.

    Args:
        until: leave off when all of these were found. Liveness is asked only where safety holds.
    """

    def __init__(self, load: Load, rules: Rules | None = None, *, until: Iterable[str] = ()) -> None:
        self._load = load
        self._rules = rules or Rules()
        self._until = frozenset(until)
        self._states: list[State] = []
        self._index: dict[State, int] = {}
        self._came: list[tuple[int, str]] = []
        self._graph = Graph()
        self._broken: dict[str, list[int]] = {}

    def run(self) -> Report:
        self._place(canonical(_STARTS[self._load.start](self._load.budget)), -1, "")
        if self._explore() and not self._broken:
            self._live()
        report = Report(states=len(self._states), transitions=len(self._graph.sources))
        for check, places in self._broken.items():
            report.counts[check] = len(places)
            report.traces[check] = self._trace(min(places))
        return report

    def _place(self, state: State, parent: int, how: str) -> int:
        self._index[state] = len(self._states)
        self._states.append(state)
        self._came.append((parent, how))
        self._graph.add_state()
        return len(self._states) - 1

    def _explore(self) -> bool:
        at = 0
        while at < len(self._states):
            for found in following(self._load, self._rules, self._states[at]):
                after = canonical(found.state)
                place = self._index.get(after)
                if place is None:
                    place = self._place(after, at, f"{found.actor:10}  {found.what}  {found.broken}")
                self._graph.add(at, place, found.kind)
                if found.broken:
                    self._broken.setdefault(found.broken, []).append(place)
                    if self._until and self._until <= self._broken.keys():
                        return False
            at += 1
        return True

    def _live(self) -> None:
        goals = [place for place, state in enumerate(self._states) if settled(state)]
        alone = self._graph.can_reach(goals, _ALONE)
        first = [place for place, state in enumerate(self._states) if _is_first(state)]
        self._note(STUCK, [place for place in first if not alone[place]])
        if self._load.words:
            helped = self._graph.can_reach(goals, _ALONE | {Kind.RETURN})
            self._note(STUCK_WITH_PEOPLE, [place for place, good in enumerate(helped) if not good])
        ahead = bytearray(b"\1" * len(self._states))
        for _ in range(MOST_GRANTS + 1):
            granting = self._graph.edges_of(Kind.GRANT, ahead)
            if not granting:
                return
            ahead = self._graph.can_reach(granting, frozenset(Kind) - {Kind.RETURN})  # people may go on for ever
        self._note(ENDLESS, [place for place, more in enumerate(ahead) if more])

    def _note(self, check: str, places: list[int]) -> None:
        if places:
            self._broken[check] = places

    def _trace(self, place: int) -> str:
        lines: deque[str] = deque()
        while place >= 0:
            parent, how = self._came[place]
            lines.appendleft(how)
            place = parent
        return "\n".join(f"{number:4}  {line}" for number, line in enumerate(lines) if line)


def _is_first(state: State) -> bool:
    """`nodes/N` names the first host, which has the identity that it had, and nothing is left of a time in which another was N."""
    keys, first = state.keys, state.hosts[0]
    told = [each[2] for each in (keys.grant, keys.connection, keys.claim) if each]
    told += [keys.status[3]] if keys.status else []
    return keys.node is not None and {keys.node[1], *told} == {1} and first.identity == 1
