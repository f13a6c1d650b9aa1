"""Breadth-first search of a world: every reachable state once, and the shortest trace to whatever is wrong.

Two kinds of faults. *Safety*: a check of `checks.py` breaks, on the way or in a state. *Liveness*, asked of the complete graph:
from every state a settled one can be reached by fault-free steps and healing alone (`stuck`), the same where fenced nodes that
are away never return, no run has more than a dozen grants (`L`), and in settled states nobody wants anything (`noisy`).
"""

from __future__ import annotations

import gc
import time
from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.model import checks
from tests.model.load import Kind, Load
from tests.model.rules import Rules
from tests.model.starts import STARTS
from tests.model.state import State
from tests.model.trace import tell
from tests.model.world import World

MOST_GRANTS = 12
"""More in one bounded run are a livelock (PROTOCOL R4)."""
MOST_STATES = 20_000_000


@dataclass
class Report:
    """What a search found. `str()` is the line for the table, with the traces below it."""

    states: int = 0
    transitions: int = 0
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    """Check -> how many states break it."""
    traces: dict[str, str] = field(default_factory=dict)
    """Check -> the shortest way there."""

    def __str__(self) -> str:
        found = ", ".join(f"{check}: {count}" for check, count in self.counts.items()) or "holds"
        line = f"{self.states:,} states, {self.transitions:,} transitions, {self.seconds:.1f} s: {found}"
        return "\n\n".join([line, *(f"{check}\n{trace}" for check, trace in self.traces.items())])


class Graph:
    """The edges, kept by their targets: liveness is asked backwards, from the settled states."""

    def __init__(self) -> None:
        self.sources = array("i")
        self.kinds = bytearray()
        self._before = array("i")
        self._last: list[int] = []

    def add_state(self) -> None:
        self._last.append(-1)

    def add(self, source: int, target: int, kind: Kind) -> None:
        self._before.append(self._last[target])
        self._last[target] = len(self.sources)
        self.sources.append(source)
        self.kinds.append(kind)

    def can_reach(self, goals: Iterable[int], kinds: frozenset[Kind]) -> bytearray:
        """For each state, whether a goal can be reached from it over edges of these kinds."""
        reached = bytearray(len(self._last))
        frontier = list(goals)
        for goal in frontier:
            reached[goal] = 1
        sources, before, last, kind_of = self.sources, self._before, self._last, self.kinds
        while frontier:
            edge = last[frontier.pop()]
            while edge >= 0:
                source = sources[edge]
                if not reached[source] and kind_of[edge] in kinds:
                    reached[source] = 1
                    frontier.append(source)
                edge = before[edge]
        return reached

    def edges_of(self, kind: Kind, targets: bytearray) -> list[int]:
        """Sources of the edges of a kind that lead into the marked states."""
        found = []
        for target, marked in enumerate(targets):
            edge = self._last[target] if marked else -1
            while edge >= 0:
                if self.kinds[edge] == kind:
                    found.append(self.sources[edge])
                edge = self._before[edge]
        return found


ALWAYS = frozenset({Kind.STEP, Kind.GRANT, Kind.HEAL})
HEALED = ALWAYS | {Kind.RETURN}


class Search:
    """One search.

    Args:
        until: leave off when all of these checks have been broken. Liveness is asked only where safety holds.
    """

    def __init__(
        self,
        load: Load,
        rules: Rules | None = None,
        *,
        until: frozenset[str] = frozenset(),
        most_states: int = MOST_STATES,
    ) -> None:
        self.load = load
        self.world = World(load, rules)
        self.states: list[State] = []
        self.report = Report()
        self._until = until
        self._most_states = most_states
        self._index: dict[State, int] = {}
        self._parents = array("i")
        self._graph = Graph()
        self.broken: dict[str, list[int]] = {}
        self._place(STARTS[load.start](load), -1)

    def run(self) -> Report:
        """Explore everything, then ask for liveness where safety holds."""
        started = time.process_time()
        gc.disable()  # nothing here goes round in circles, and looking for that takes a sixth of the time
        try:
            complete = self._explore()
        finally:
            gc.enable()
        if complete and (self.load.skips or not self.broken):
            self._check_settling()
            self._check_loops()
        for check, places in self.broken.items():
            path = self.path(min(places))
            self.report.counts[check] = len(places)
            self.report.traces[check] = tell(self.world, self._loop(path) if check == checks.ENDLESS else path)
        self.report.states = len(self.states)
        self.report.transitions = len(self._graph.sources)
        self.report.seconds = time.process_time() - started
        return self.report

    def path(self, place: int) -> list[State]:
        """The shortest way to a state."""
        path = []
        while place >= 0:
            path.append(self.states[place])
            place = self._parents[place]
        return path[::-1]

    # --- exploring

    def _place(self, state: State, parent: int) -> int:
        place = len(self.states)
        self._index[state] = place
        self.states.append(state)
        self._parents.append(parent)
        self._graph.add_state()
        return place

    def _explore(self) -> bool:
        """False when it left off before the end."""
        index, graph, at = self._index, self._graph, 0
        while at < len(self.states):
            for happened in self.world.following(self.states[at]):
                broken = happened.broken
                place = index.get(happened.state)
                if place is None:
                    place = self._place(happened.state, at)
                    broken = broken or checks.of_state(happened.state)
                graph.add(at, place, happened.kind)
                if broken:
                    self.broken.setdefault(broken, []).append(place)
                    if self._until and self._until <= self.broken.keys():
                        return False
            at += 1
            if len(self.states) > self._most_states:
                raise AssertionError(f"more than {self._most_states:,} states: the search is not bounded")
        return True

    # --- liveness

    def _check_settling(self) -> None:
        """A settled state can be reached from everywhere, and is quiet."""
        for healed, kinds, check in ((True, HEALED, checks.STUCK), (False, ALWAYS, checks.STUCK_UNHEALED)):
            settled = [place for place, state in enumerate(self.states) if checks.settled(state, healed=healed)]
            reached = self._graph.can_reach(settled, kinds)
            stuck = [place for place, good in enumerate(reached) if not good]
            noisy = [place for place in settled if not self.world.quiet(self.states[place])]
            for name, places in ((check, stuck), (checks.NOISY, noisy)):
                if places:
                    self.broken.setdefault(name, []).extend(places)

    def _check_loops(self) -> None:
        """(L): from which states can one, two, three... more grants follow?"""
        ahead = bytearray(b"\1" * len(self.states))
        for _ in range(MOST_GRANTS + 1):
            granting = self._graph.edges_of(Kind.GRANT, ahead)
            if not granting:
                return
            ahead = self._graph.can_reach(granting, frozenset(Kind))
        self.broken[checks.ENDLESS] = [place for place, more in enumerate(ahead) if more]

    def _loop(self, path: list[State]) -> list[State]:
        """The path carried on to the next few grants, so that the trace shows what goes round."""
        endless = {self.states[place] for place in self.broken[checks.ENDLESS]}
        for _ in range(3):
            path = path + self._to_next_grant(path[-1], endless)
        return path

    def _to_next_grant(self, start: State, within: set[State]) -> list[State]:
        """The shortest way to a grant, without `start`."""
        ways: dict[State, list[State]] = {start: []}
        frontier = deque([start])
        while frontier:
            state = frontier.popleft()
            for happened in self.world.following(state):
                if happened.state in within and happened.state not in ways:
                    ways[happened.state] = [*ways[state], happened.state]
                    frontier.append(happened.state)
                if happened.kind is Kind.GRANT and happened.state in within:
                    return [*ways[state], happened.state]
        raise AssertionError("no grant follows")
