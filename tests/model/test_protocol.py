"""Every interleaving of the planners' steps with the faults of each load: safe, never stuck, and quiet where settled.

The loads are those of docs/PROTOCOL.md, section 3, as far as they fit into a minute or two of Python. What takes longer runs with
`BRICKWORK_MODEL=full` in the environment: about an hour, up to 6 GiB. `pytest -rP tests/model` prints states and seconds.

W wish changes, OFF power cuts, PART partitions, FENCE fences, LOSS exports that the array lost (or an audit says so), DEL deletions
by hand, STALE caches that miss writes, CORDON and DRAIN changes of what is to be with a node, BREAK connects broken off after the
login; crashes of everybody at any time are always on.
"""

from __future__ import annotations

import os

import pytest

from tests.model import checks
from tests.model.load import ALL_DELETIONS, Load
from tests.model.search import Search
from tests.model.state import Budget

BUT_NODES = ALL_DELETIONS - {"boot"}

FAST = {
    "W=4": Load(Budget(wishes=4)),
    "W=3, 2 controllers": Load(Budget(wishes=3), controllers=2),
    "W=3 OFF=1": Load(Budget(wishes=3, power=1)),
    "W=3 DEL=1": Load(Budget(wishes=3, deletions=1)),
    "W=2 PART=1 FENCE=1": Load(Budget(wishes=2, partitions=1, fences=1)),
    "no cutting, attached, W=1 OFF=1 FENCE=2": Load(Budget(wishes=1, power=1, fences=2), "attached", cuts=False),
    "W=2 STALE=1, one key": Load(Budget(wishes=2, stale=1), lag="one"),
    "W=2 STALE=1, all keys": Load(Budget(wishes=2, stale=1), lag="all"),
    "W=2 LOSS=1": Load(Budget(wishes=2, losses=1)),
    "W=2 PATHS=2": Load(Budget(wishes=2, paths=2)),
    "attached, W=1 PATHS=1 STALE=1": Load(Budget(wishes=1, paths=1, stale=1), "attached", lag="one"),
    "W=3 BREAK=1": Load(Budget(wishes=3, breaks=1)),
    "wished, W=1 PART=1 FENCE=1 BREAK=1": Load(Budget(wishes=1, partitions=1, fences=1, breaks=1), "wished"),
    "W=1 STALE=1 CORDON=2": Load(Budget(wishes=1, stale=1, cordons=2), lag="one"),
    "W=2 DRAIN=2": Load(Budget(wishes=2, drains=2)),
    "attached, STALE=1 DRAIN=2": Load(Budget(stale=1, drains=2), "attached", lag="one"),
}
"""A second or two each."""

SLOW = {
    "W=2 DEL=2": Load(Budget(wishes=2, deletions=2)),
    "W=2 OFF=1 DEL=1": Load(Budget(wishes=2, power=1, deletions=1)),
    "W=2 OFF=1 PART=1 FENCE=1": Load(Budget(wishes=2, power=1, partitions=1, fences=1)),
    "W=1 OFF=1 PART=1 FENCE=1 DEL=1": Load(Budget(wishes=1, power=1, partitions=1, fences=1, deletions=1)),
    "restored by the host, W=1 OFF=1 FENCE=1 DEL=1": Load(
        Budget(wishes=1, power=1, fences=1, deletions=1), restores=True, deletions=BUT_NODES
    ),
    "attached, W=1 PART=1 FENCE=1 DEL=1": Load(Budget(wishes=1, partitions=1, fences=1, deletions=1), "attached"),
    "attached, W=1 LOSS=2 DEL=1": Load(Budget(wishes=1, losses=2, deletions=1), "attached"),
    "attached, PART=1 FENCE=1 LOSS=1": Load(Budget(partitions=1, fences=1, losses=1), "attached"),
    "attached, LOSS=1 STALE=1": Load(Budget(losses=1, stale=1), "attached", lag="one"),
    "no cutting, attached, W=1 OFF=1 PART=1 FENCE=2": Load(
        Budget(wishes=1, power=1, partitions=1, fences=2), "attached", cuts=False
    ),
    "no cutting, attached, W=1 OFF=1 FENCE=2 DEL=1": Load(
        Budget(wishes=1, power=1, fences=2, deletions=1), "attached", cuts=False
    ),
    "attached, W=1 OFF=1 PATHS=1 DEL=1": Load(Budget(wishes=1, power=1, paths=1, deletions=1), "attached"),
    "attached, PART=1 FENCE=1 PATHS=1 STALE=1": Load(
        Budget(partitions=1, fences=1, paths=1, stale=1), "attached", lag="one"
    ),
    "W=3 STALE=1": Load(Budget(wishes=3, stale=1), lag="one"),
    "attached, OFF=1 STALE=1": Load(Budget(power=1, stale=1), "attached", lag="one"),
    "W=1 OFF=1 STALE=1": Load(Budget(wishes=1, power=1, stale=1), lag="one"),
    "attached, PART=1 FENCE=1 STALE=1": Load(Budget(partitions=1, fences=1, stale=1), "attached", lag="one"),
    "attached, W=1 STALE=1 DRAIN=1": Load(Budget(wishes=1, stale=1, drains=1), "attached", lag="one"),
    "W=3 DRAIN=3": Load(Budget(wishes=3, drains=3)),
    "W=1 DRAIN=2 OFF=1 DEL=1": Load(Budget(wishes=1, drains=2, power=1, deletions=1)),
    "W=1 DRAIN=2 PART=1 FENCE=1": Load(Budget(wishes=1, drains=2, partitions=1, fences=1)),
    "attached, DRAIN=1 OFF=1 STALE=1": Load(Budget(drains=1, power=1, stale=1), "attached", lag="one"),
    "attached, DRAIN=1 CORDON=1 STALE=1": Load(Budget(drains=1, cordons=1, stale=1), "attached", lag="one"),
    "wished, PART=1 FENCE=1 BREAK=1 DEL=1": Load(
        Budget(partitions=1, fences=1, breaks=1, deletions=1), "wished", deletions=frozenset({"claim"})
    ),
    "wished, W=1 OFF=1 BREAK=1 DEL=1": Load(
        Budget(wishes=1, power=1, breaks=1, deletions=1), "wished", deletions=frozenset({"claim"})
    ),
    "declined, DEL=1 STALE=1": Load(Budget(deletions=1, stale=1), "declined", lag="one"),
}
"""Up to fifteen seconds each."""

LONG = {
    "attached, W=1 OFF=1 STALE=1": Load(Budget(wishes=1, power=1, stale=1), "attached", lag="one"),
    "attached, W=1 STALE=1 DRAIN=2": Load(Budget(wishes=1, stale=1, drains=2), "attached", lag="one"),
    "DRAIN=1 CORDON=1 OFF=1 STALE=1": Load(Budget(drains=1, cordons=1, power=1, stale=1), "attached", lag="one"),
}
"""A minute or so each. `SLOW` has the same with one move less."""

FULL = {
    "W=3 OFF=2": Load(Budget(wishes=3, power=2)),
    "W=3 STALE=1, all keys": Load(Budget(wishes=3, stale=1), lag="all"),
    "W=2 STALE=2": Load(Budget(wishes=2, stale=2), lag="one"),
    "W=3 OFF=1 PART=1 FENCE=1": Load(Budget(wishes=3, power=1, partitions=1, fences=1)),
    "W=2 PART=1 FENCE=1 DEL=2": Load(Budget(wishes=2, partitions=1, fences=1, deletions=2)),
    "no cutting, W=2 OFF=1 PART=1 FENCE=2": Load(Budget(wishes=2, power=1, partitions=1, fences=2), cuts=False),
    "no cutting, attached, W=1 OFF=1 FENCE=2 STALE=1": Load(
        Budget(wishes=1, power=1, fences=2, stale=1), "attached", cuts=False, lag="one"
    ),
    "W=3 DEL=1 STALE=1": Load(Budget(wishes=3, deletions=1, stale=1), lag="one"),
    "W=2 DEL=2 STALE=1": Load(Budget(wishes=2, deletions=2, stale=1), lag="one"),
    "W=2 OFF=1 DEL=1 STALE=1": Load(Budget(wishes=2, power=1, deletions=1, stale=1), lag="one"),
    "W=2 OFF=1 PART=1 FENCE=1 DEL=1": Load(Budget(wishes=2, power=1, partitions=1, fences=1, deletions=1)),
    "W=2 OFF=1 PART=2 FENCE=2": Load(Budget(wishes=2, power=1, partitions=2, fences=2)),
    "W=2 OFF=2 PART=1 FENCE=2": Load(Budget(wishes=2, power=2, partitions=1, fences=2)),
    "restored by the host, W=2 OFF=1 PART=1 FENCE=1 DEL=1": Load(
        Budget(wishes=2, power=1, partitions=1, fences=1, deletions=1), restores=True, deletions=BUT_NODES
    ),
    "attached, W=1 PART=1 FENCE=1 DEL=1 STALE=1": Load(
        Budget(wishes=1, partitions=1, fences=1, deletions=1, stale=1), "attached", lag="one"
    ),
    "W=3 OFF=1 PART=1 FENCE=1 DEL=1": Load(Budget(wishes=3, power=1, partitions=1, fences=1, deletions=1)),
}
"""Minutes each, up to millions of states."""


def holds(load: Load) -> None:
    report = Search(load).run()
    print(report)
    assert not report.counts, str(report)


@pytest.mark.parametrize("load", FAST.values(), ids=FAST)
def test_it_holds(load: Load) -> None:
    """Nothing that must never happen happens, every state leads to a settled one, and settled states are quiet."""
    holds(load)


@pytest.mark.slow
@pytest.mark.parametrize("load", SLOW.values(), ids=SLOW)
def test_it_holds_under_more(load: Load) -> None:
    """The same with several kinds of faults at once."""
    holds(load)


@pytest.mark.long
@pytest.mark.parametrize("load", LONG.values(), ids=LONG)
def test_it_holds_longer(load: Load) -> None:
    holds(load)


@pytest.mark.long
@pytest.mark.skipif(os.environ.get("BRICKWORK_MODEL") != "full", reason="set BRICKWORK_MODEL=full")
@pytest.mark.parametrize("load", FULL.values(), ids=FULL)
def test_it_holds_in_full(load: Load) -> None:
    """The same as far as memory goes."""
    holds(load)


@pytest.mark.parametrize(("deleted", "price"), [("copy", set()), ("fence", {checks.STUCK, checks.STUCK_UNHEALED})])
def test_a_deleted_fence_costs_no_safety(deleted: str, price: set[str]) -> None:
    """A node that is fenced in our copy alone gets nothing more in this boot, and can't know why: fence it again."""
    budget = Budget(wishes=1, partitions=1, fences=1, deletions=1)
    report = Search(Load(budget, "attached", deletions=frozenset({deleted}))).run()
    print(report)
    assert report.counts.keys() == price, str(report)
