"""How many writes each undisturbed sequence takes: the second table of docs/PROTOCOL.md, section 1.

A write is a transaction of a daemon that changes something in etcd. Each count is the least and the most over every interleaving.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.model.load import Kind, Load
from tests.model.starts import attached, is_settled, run, wished
from tests.model.state import (
    CUT_OFF,
    DRAINED,
    OFF,
    OPEN,
    RELEASED,
    Spec,
    State,
    with_array,
    with_host,
    with_node,
    with_volume,
    written,
)
from tests.model.world import World

LOAD = Load(crashes=False)


def counts(start: State) -> set[int]:
    """The numbers of writes on all ways to where nothing more happens."""
    world = World(LOAD)
    seen: dict[State, set[int]] = {start: {0}}
    ends: set[int] = set()
    todo = [start]
    while todo:
        state = todo.pop()
        following = [found for found in world.as_numbered(state) if found.kind is not Kind.CRASH]
        if not following:
            assert is_settled(state)
            ends |= seen[state]
        for found in following:
            after, write = world.canonical(found.state), int(written(state, found.state) != 0)
            known = seen.setdefault(after, set())
            more = {number + write for number in seen[state]} - known
            if more:
                known |= more
                todo.append(after)
    return ends


def unwished(state: State) -> State:
    return with_node(state, 0, state.nodes[0]._replace(wish=0))


def moved(state: State) -> State:
    state = unwished(state)
    return with_node(state, 1, state.nodes[1]._replace(wish=1))


def exporting() -> State:
    return run(wished(LOAD), lambda state: bool(state.volume.holders))


def ready() -> State:
    return run(wished(LOAD), lambda state: state.nodes[0].connection is not None)


def disconnected() -> State:
    return run(unwished(attached(LOAD)), lambda state: not state.hosts[0].device)


def released() -> State:
    return run(unwished(attached(LOAD)), lambda state: (state.nodes[0].status or (0,))[0] == RELEASED)


def wished_again(state: State) -> State:
    return with_node(state, 0, state.nodes[0]._replace(wish=1))


def rebooting() -> State:
    state = attached(LOAD)
    return with_host(state, 0, state.hosts[0]._replace(away=OFF, device=0))


def fenced(away: int) -> State:
    state = moved(attached(LOAD))
    host = state.hosts[0]
    state = with_host(state, 0, host._replace(away=away, device=0 if away == OFF else host.device, fenced=True))
    return with_node(state, 0, state.nodes[0]._replace(fences=(host.boot,)))


def drained() -> State:
    return run(draining(attached(LOAD)), is_settled)


def draining(state: State, intent: int = DRAINED) -> State:
    return with_node(state, 0, state.nodes[0]._replace(intent=intent))


def but(**keys: Any) -> State:
    """Attached, and then some keys of A by hand."""
    state = attached(LOAD)
    return with_node(state, 0, state.nodes[0]._replace(**keys))


def but_volume(**keys: Any) -> State:
    state = attached(LOAD)
    return with_volume(state, state.volume._replace(**keys))


def without_export() -> State:
    state = attached(LOAD)
    return with_array(state, state.array._replace(target=False, maps=(0, 0)))


def outgrown() -> State:
    """Attached, and a bigger size is wished for. A fifth write is the node's word of it: the model's status has no size."""
    state = attached(LOAD)
    state = with_array(state, state.array._replace(online=True))
    return with_volume(state, state.volume._replace(spec=Spec(2, False, 2)))


SEQUENCES: dict[str, tuple[Callable[[], State], int]] = {
    "attach": (lambda: wished(LOAD), 4),
    "detach": (lambda: unwished(attached(LOAD)), 4),
    "move": (lambda: moved(attached(LOAD)), 8),
    "wish deleted while exporting": (lambda: unwished(exporting()), 2),
    "wish deleted while ready, unclaimed": (lambda: unwished(ready()), 4),
    "put again before the disconnect": (lambda: wished_again(unwished(attached(LOAD))), 0),
    "put again before the release": (lambda: wished_again(disconnected()), 0),
    "put again after the release": (lambda: wished_again(released()), 6),
    "reboot while attached": (rebooting, 8),
    "fence of a node without power, move, return": (lambda: fenced(OFF), 9),
    "fence of a node that is cut off, move, return": (lambda: fenced(CUT_OFF), 9),
    "drain while attached": (lambda: draining(attached(LOAD)), 4),
    "drain taken back": (lambda: draining(drained(), OPEN), 4),
    "claim deleted by hand": (lambda: but(claim=None), 2),
    "status deleted by hand": (lambda: but(status=None), 1),
    "connection deleted by hand": (lambda: but(connection=None), 1),
    "nodes/N deleted by hand": (lambda: but(boot=0), 1),
    "claims and attachments deleted by hand": (lambda: but(claim=None, status=None), 2),
    "extended while attached": (outgrown, 4),
    "export lost at the array": (without_export, 0),
    "grants/V deleted by hand": (lambda: but_volume(grant=None), 1),
    "volumes/V deleted by hand": (lambda: but_volume(status=None), 2),
}


@pytest.mark.parametrize(("start", "expected"), SEQUENCES.values(), ids=SEQUENCES)
def test_it_takes_so_many_writes(start: Callable[[], State], expected: int) -> None:
    """The least is the most."""
    assert counts(start()) == {expected}
