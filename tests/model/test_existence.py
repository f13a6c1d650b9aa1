"""The volume's own life: created, extended, retained or deleted, while a node may be attaching it.

Nothing is deleted while a node holds or claims it, nothing that was to be retained is deleted, nothing is extended under a node,
and whatever users write, things settle.
"""

from __future__ import annotations

import pytest

from tests.model.load import Load
from tests.model.search import Search
from tests.model.state import Budget

NEW = "without volume"
BOTH_SIZES = (1, 2)

LOADS = {
    "three wishes of two sizes": Load(Budget(specs=3), NEW, nodes=1, sizes=BOTH_SIZES),
    "four wishes, compacted": Load(Budget(specs=4, compactions=1), NEW, nodes=1),
    "four wishes, an outdated cache": Load(Budget(specs=4, stale=1), NEW, nodes=1, lag="one"),
    "and an attachment": Load(Budget(specs=3, wishes=1), NEW, nodes=1, sizes=BOTH_SIZES),
    "and a detachment": Load(Budget(specs=3, wishes=2), NEW, nodes=1),
    "and a power cut": Load(Budget(specs=2, wishes=1, power=1), NEW, nodes=1),
    "and a fence": Load(Budget(specs=2, wishes=1, partitions=1, fences=1), NEW, nodes=1),
    "and a deletion by hand": Load(Budget(specs=2, wishes=1, deletions=1), NEW, nodes=1, sizes=BOTH_SIZES),
    "and an outdated cache": Load(Budget(specs=2, wishes=1, stale=1), NEW, nodes=1, lag="one"),
    "two sizes, an outdated cache": Load(Budget(specs=2, stale=1), NEW, nodes=1, sizes=BOTH_SIZES, lag="one"),
}

ONLINE = {
    "attached": Load(Budget(specs=2, wishes=1), NEW, nodes=1, sizes=BOTH_SIZES, online=True),
    "and detached": Load(Budget(specs=2, wishes=2), NEW, nodes=1, sizes=BOTH_SIZES, online=True),
    "and a power cut": Load(Budget(specs=2, wishes=1, power=1), NEW, nodes=1, sizes=BOTH_SIZES, online=True),
    "and a fence": Load(Budget(specs=2, wishes=1, partitions=1, fences=1), NEW, nodes=1, sizes=BOTH_SIZES, online=True),
    "and a deletion by hand": Load(Budget(specs=2, wishes=1, deletions=1), NEW, nodes=1, sizes=BOTH_SIZES, online=True),
    "and an outdated cache": Load(
        Budget(specs=2, wishes=1, stale=1), NEW, nodes=1, sizes=BOTH_SIZES, online=True, lag="one"
    ),
}

FULL_ARRAYS = {
    "no room for more": Load(Budget(specs=3, wishes=1), NEW, nodes=1, sizes=BOTH_SIZES, room=1),
    "room for some": Load(Budget(specs=3), NEW, nodes=1, sizes=(1, 2, 3), room=2),
    "no room, an outdated cache": Load(Budget(specs=2, stale=1), NEW, nodes=1, sizes=BOTH_SIZES, room=1, lag="one"),
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_it_holds(load: Load) -> None:
    """No data lost, nothing deleted or extended under a node, and it settles."""
    report = Search(load).run()
    print(report)
    assert not report.counts, str(report)


@pytest.mark.parametrize("load", ONLINE.values(), ids=ONLINE)
def test_what_is_held_grows_and_its_node_hears_of_it(load: Load) -> None:
    """Where the driver can: the connection and the device have the new size in the end, and nothing else changes."""
    report = Search(load).run()
    print(report)
    assert not report.counts, str(report)


@pytest.mark.parametrize("load", FULL_ARRAYS.values(), ids=FULL_ARRAYS)
def test_what_does_not_fit_is_given_up(load: Load) -> None:
    """The array is full: a smaller wish, or none, gets its way all the same, and the volume goes on with the size it has."""
    report = Search(load).run()
    print(report)
    assert not report.counts, str(report)
