"""The volume's own life: created, extended, retained or deleted, while a node may be attaching it.

Nothing is deleted while a node holds or claims it, nothing that was to be retained is deleted, nothing is extended under a node,
and whatever users write, things settle.
"""

from __future__ import annotations

import pytest

from tests.model.checks import STUCK
from tests.model.load import Load
from tests.model.rules import Rules
from tests.model.search import Search
from tests.model.state import Budget
from tests.model.variants import RefusedExtensionsEnd

NEW = "without volume"
BOTH_SIZES = (1, 2)

LOADS = {
    "three wishes of two sizes": Load(Budget(specs=3), NEW, nodes=1, sizes=BOTH_SIZES),
    "and an attachment": Load(Budget(specs=3, wishes=1), NEW, nodes=1, sizes=BOTH_SIZES),
    "and a detachment": Load(Budget(specs=3, wishes=2), NEW, nodes=1),
    "and a power cut": Load(Budget(specs=2, wishes=1, power=1), NEW, nodes=1),
    "and a fence": Load(Budget(specs=2, wishes=1, partitions=1, fences=1), NEW, nodes=1),
    "and a deletion by hand": Load(Budget(specs=2, wishes=1, deletions=1), NEW, nodes=1, sizes=BOTH_SIZES),
    "and an outdated cache": Load(Budget(specs=2, wishes=1, stale=1), NEW, nodes=1, lag="one"),
    "two sizes, an outdated cache": Load(Budget(specs=2, stale=1), NEW, nodes=1, sizes=BOTH_SIZES, lag="one"),
}

FULL_ARRAY = Load(Budget(specs=3, wishes=1), NEW, nodes=1, sizes=BOTH_SIZES, room=1)


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_it_holds(load: Load) -> None:
    """No data lost, nothing deleted or extended under a node, and it settles."""
    report = Search(load).run()
    print(report)
    assert not report.counts, str(report)


def test_a_volume_that_does_not_fit_is_given_up() -> None:
    """The array is full: a smaller wish, or none, gets its way all the same."""
    report = Search(FULL_ARRAY, RefusedExtensionsEnd()).run()
    print(report)
    assert not report.counts, str(report)


@pytest.mark.xfail(
    reason="a refused extension stays in the record and is tried for ever: RefusedExtensionsEnd is the cure"
)
def test_a_refused_extension_is_given_up() -> None:
    """The array is full: the volume goes on with the size it has."""
    assert STUCK not in Search(FULL_ARRAY, Rules()).run().counts
