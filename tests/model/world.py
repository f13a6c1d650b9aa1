"""Everything that can happen next: the steps of controller and nodes, and the events of `events.py`.

A transaction on etcd is one step. An external call is three: the confirming transaction, the landing of the call, the recording
transaction. Any step that is enabled may come next, and a planner may look at an outdated picture (`Lag`): what a step names in
`confirms` and `commits` is compared then, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reconciler.core.steps import Do
from schema.keys import Family
from tests.model import checks, events
from tests.model.canonical import canonical
from tests.model.load import ACTORS, Kind, Load, Next
from tests.model.moves import CALLS, RECORDED, STEPS, Move
from tests.model.planners import Planners
from tests.model.rules import Rules
from tests.model.state import (
    ALL_KEYS,
    BOTH_LISTS,
    CONTROLLER,
    HERE,
    NODE_KEYS,
    OFF,
    UNKNOWN,
    WIDTH,
    Lag,
    Op,
    State,
    bits,
    key_bit,
    kinds,
    overlay,
    value_of,
    with_array,
    with_controller,
    with_host,
    written,
)

WISH = key_bit(Family.DESIRED_VOLUME)
"""The key that comes and goes as users like. To compare that it is absent does not tell whether it came and went again."""


class World:
    """One load under given rules."""

    def __init__(self, load: Load, rules: Rules | None = None) -> None:
        self.load = load
        self.rules = rules or Rules()
        self.planners = Planners(self.rules)
        self._lags = list(_lags(load))
        self._notes = bool(load.budget.breaks)

    def following(self, state: State) -> Iterator[Next]:
        """All that can happen now, each with the canonical state that it leads to."""
        for happened in self.as_numbered(state):
            after = self.canonical(happened.state)
            yield happened if after is happened.state else happened._replace(state=after)

    def canonical(self, state: State) -> State:
        return canonical(state, keep_fences=self.rules.remembers_fences)

    def as_numbered(self, state: State) -> Iterator[Next]:
        """The same without renaming."""
        for happened in self._raw(state):
            after = happened.state
            if after.nodes is state.nodes and after.volume is state.volume:
                yield happened
                continue
            keys = written(state, after)
            noticed = self._noticed(state, after, keys)
            yield happened if noticed is after else happened._replace(state=noticed)
            if after.budget.stale and after.lag is None:
                yield from self._unseen(state, noticed, happened, keys)

    def quiet(self, state: State) -> bool:
        """No planner wants anything."""
        asked = [self.planners.for_volume(state)]
        for node in range(2):
            if state.hosts[node].away == HERE:
                asked += [self.planners.for_node(state, node), self.planners.for_boot(state, node)]
        return not any(asked)

    def _raw(self, state: State) -> Iterator[Next]:
        if state.controller.op is None:
            for picture in _pictures(CONTROLLER, state):
                yield from self._begin(CONTROLLER, state, picture, self.planners.for_volume(picture.seen))
        else:
            yield from self._carry_on(CONTROLLER, state, state.controller.op)
        for node in range(2):
            yield from self._node_steps(node, state)
        yield from events.late_calls(self.rules, state)
        yield from events.healing(self.load, state)
        if self._notes:
            yield from events.arrivals(state)
        if self.load.crashes:
            yield from events.crashes(self.load, state)
        yield from events.budgeted(self.load, self.rules, state)

    def _node_steps(self, node: int, state: State) -> Iterator[Next]:
        host = state.hosts[node]
        if host.away == OFF:
            return
        if host.op is not None:
            yield from self._carry_on(node, state, host.op)
        if host.away == HERE:
            for picture in _pictures(node, state):
                if host.op is None:
                    yield from self._begin(node, state, picture, self.planners.for_node(picture.seen, node))
                yield from self._begin(node, state, picture, self.planners.for_boot(picture.seen, node))

    # --- one step

    def _begin(self, actor: int, state: State, picture: Picture, move: Move | None) -> Iterator[Next]:
        """Commit a step that only writes; confirm one with an external call."""
        if move is None:
            return
        calls = move.do in CALLS
        where, keys = ("confirms", move.confirms) if calls else ("commits", move.commits)
        outdated = keys & picture.outdated
        allowed = self._skipped(actor, state, move.code, where, outdated) if outdated else state
        if allowed is None:
            return
        if calls:
            dirty = self._dirt(picture.outdated & move.commits)
            op = Op(move.code, move.node, move.epoch, move.boot, move.commits, move.generation, move.size, dirty=dirty)
            broken = checks.disconnect(state, move.node) if move.do is Do.DISCONNECT else ""
            begun = _with_op(allowed, actor, op)
            if self._notes and move.do is Do.CONNECT:
                begun = _with_note(begun, op)
            yield Next(Kind.STEP, ACTORS[actor], move.text, begun, broken)
        else:
            after, broken = self.rules.commit(allowed, picture.seen, move)
            kind = Kind.GRANT if move.do is Do.GRANT else Kind.STEP
            yield Next(kind, ACTORS[actor], move.text, after, broken)

    def _carry_on(self, actor: int, state: State, op: Op) -> Iterator[Next]:
        """The call lands, or is refused; later its result is recorded."""
        do = STEPS[op.do]
        if op.landed:
            if actor == CONTROLLER or state.hosts[actor].away == HERE:
                yield self._record(actor, state, op)
        elif events.array_refuses(state, op):
            yield Next(Kind.STEP, ACTORS[actor], f"{do.value} is refused by the array", events.refused(state, op))
        else:
            waiting = op._replace(landed=True) if do in RECORDED else None
            after, broken = self.rules.land(_with_op(state, actor, waiting), op, heard=True)
            yield Next(Kind.STEP, ACTORS[actor], f"{do.value} lands", after, broken)

    def _record(self, actor: int, state: State, op: Op) -> Next:
        """Unless what it rests on was written meanwhile."""
        what, idle = STEPS[op.do].value, _with_op(state, actor, None)
        allowed = self._skipped(actor, idle, op.do, "commits", op.dirty) if op.dirty else idle
        if allowed is None:
            return Next(Kind.STEP, ACTORS[actor], f"{what}: not recorded, something changed meanwhile", idle)
        after, broken = self.rules.record(allowed, op)
        return Next(Kind.STEP, ACTORS[actor], f"{what} is recorded", after, broken)

    # --- outdated pictures

    def _skipped(self, actor: int, state: State, do: int, where: str, keys: int) -> State | None:
        """Goes on in spite of outdated keys, where leaving out this compare, of this step alone, is what is searched."""
        if not self.load.skips:
            return None
        if state.skipped is None:
            lag = state.lag
            lagging = lag is not None and lag.actor == actor and not keys & ~lag.keys
            return state._replace(skipped=(do, where, kinds(lag.keys if lag and lagging else keys)))
        left_out = state.skipped[:2] == (do, where) and not kinds(keys) & ~state.skipped[2]
        return state if left_out else None

    def _noticed(self, before: State, after: State, keys: int) -> State:
        """What a write means to calls on their way, and to somebody who does not see it."""
        for actor in range(3):
            op = _op_of(after, actor)
            if op and op.commits & keys:
                after = _with_op(after, actor, op._replace(dirty=op.dirty | self._dirt(op.commits & keys)))
        lag = after.lag
        if lag:
            unseen = keys & lag.keys & ~lag.dirty
            if unseen:
                old = tuple(sorted((*lag.old, *_values(before, unseen))))
                after = after._replace(lag=lag._replace(old=old, past=_past(before) if unseen & WISH else lag.past))
        return after

    def _dirt(self, keys: int) -> int:
        """Which keys made it dirty matters only where compares are left out."""
        return keys if self.load.skips else int(keys != 0)

    def _unseen(self, before: State, after: State, happened: Next, keys: int) -> Iterator[Next]:
        """The same, but from this write on somebody's cache lags behind."""
        budget = after.budget._replace(stale=after.budget.stale - 1)
        for actor, lagging in self._lags:
            if lagging & keys:
                lag = Lag(actor, lagging, _values(before, lagging & keys), _past(before))
                what = f"{happened.what} (from now on unseen by {ACTORS[actor]})"
                blind = after._replace(lag=lag, budget=budget)
                yield Next(Kind.EVENT, happened.actor, what, blind, happened.broken)


class Picture(NamedTuple):
    """What an actor sees when it plans, and which keys of it are outdated."""

    seen: State
    outdated: int


def _pictures(actor: int, state: State) -> Iterator[Picture]:
    """The present; the past as well, while the actor's cache lags: one worker may be slower than another."""
    yield Picture(state, 0)
    if state.lag and state.lag.actor == actor:
        seen = overlay(state, state.lag.old)
        if state.lag.dirty & WISH:
            last, missed = state.lag.past
            seen = with_array(seen, seen.array._replace(last=last, missed=missed))
        gone_again = WISH if (WISH, None) in state.lag.old and state.volume.spec is None else 0
        yield Picture(seen, state.lag.dirty & ~gone_again)


def _past(state: State) -> tuple[tuple[int, bool] | None, bool]:
    return state.array.last, state.array.missed


def _values(state: State, keys: int) -> tuple[tuple[int, object], ...]:
    return tuple((bit, value_of(state, bit)) for bit in bits(keys))


def _op_of(state: State, actor: int) -> Op | None:
    return state.controller.op if actor == CONTROLLER else state.hosts[actor].op


def _with_op(state: State, actor: int, op: Op | None) -> State:
    if actor == CONTROLLER:
        return with_controller(state, state.controller._replace(op=op))
    host = state.hosts[actor]
    connecting = op is not None and not op.landed and STEPS[op.do] is Do.CONNECT
    return with_host(state, actor, host._replace(op=op, know=UNKNOWN if connecting else host.know))


def _with_note(state: State, op: Op) -> State:
    """The node's own, durable before the connect (R14)."""
    host = state.hosts[op.node]
    return with_host(state, op.node, host._replace(noted=(op.epoch, host.boot)))


def _lags(load: Load) -> Iterator[tuple[int, int]]:
    """Whose cache may lag, and for which keys."""
    if load.lag == "all":
        yield CONTROLLER, ALL_KEYS
        yield from ((node, NODE_KEYS << node * WIDTH) for node in range(2))
    elif load.lag == "one":
        own = BOTH_LISTS | key_bit(Family.RECORD)
        yield from ((CONTROLLER, keys) for keys in (*bits(ALL_KEYS), BOTH_LISTS, own))
        for node in range(2):
            said = key_bit(Family.CLAIM, node) | key_bit(Family.ATTACHMENT, node)
            yield CONTROLLER, said
            yield from (
                (node, keys)
                for keys in (*bits(NODE_KEYS << node * WIDTH), said, said | key_bit(Family.CONNECTION, node))
            )
