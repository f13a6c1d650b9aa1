"""A planner's step in the terms of the search."""

from __future__ import annotations

from typing import NamedTuple

from reconciler.core.steps import Do

STEPS = tuple(Do)
CALLS = frozenset(
    {
        Do.EXPORT,
        Do.CONNECT_EXPORT,
        Do.TERMINATE,
        Do.UNEXPORT,
        Do.CREATE,
        Do.EXTEND,
        Do.DELETE,
        Do.CONNECT,
        Do.DISCONNECT,
        Do.ADD_PATHS,
        Do.EXTEND_DEVICE,
    }
)
"""Steps with an external call, which lands later than it was confirmed."""
RECORDED = frozenset({Do.CONNECT_EXPORT, Do.CREATE, Do.EXTEND, Do.DELETE, Do.CONNECT, Do.EXTEND_DEVICE})
"""Calls whose result is written down in a transaction of its own."""


class Move(NamedTuple):
    """A planner's step in the terms of the search."""

    do: Do
    code: int
    node: int
    epoch: int
    boot: int
    """Of the holder entry that the controller's step is about."""
    confirms: int
    commits: int
    copies_fence: bool
    generation: int
    text: str
    delete: bool = False
    """What the wish that is gone said last."""
    size: int = 0
    """In the node's connection, as it saw it."""
