"""F-D1, searched: two hosts bear one node id and one initiator, and `nodes/N` names the host (docs/PROTOCOL.md, R17).

W wish changes, OFF power cuts, PAUSE frozen daemons, PART partitions, ETCD all leases gone at once, DEL keys deleted by hand, STMT
fences that are no more than a statement, COPY a copy made of the host at any moment, BOARD the first host gets another board;
daemons end and are started again at any time.
"""

from __future__ import annotations

import pytest

from tests.model.checks import CUT, REVIVED, TWO_WRITERS
from tests.model.clones import variants
from tests.model.clones.rules import Rules
from tests.model.clones.search import ENDLESS, STUCK, Search
from tests.model.clones.state import Budget
from tests.model.clones.world import Load


def copy(words: bool = False, **budget: int) -> Load:
    return Load(Budget(copies=1, **budget), "alone", words)


def fresh(words: bool = False, **budget: int) -> Load:
    return Load(Budget(**budget), "fresh", words)


HOLDS: dict[str, tuple[type[Rules], Load]] = {
    "copy, OFF=1 PAUSE=1": (variants.WithoutFolder, copy(power=1, pauses=1)),
    "copy, W=1 PART=1 ETCD=1": (variants.WithoutFolder, copy(wishes=1, partitions=1, leases=1)),
    "copy, OFF=1 DEL=1": (variants.WithoutFolder, copy(power=1, deletions=1)),
    "fresh, W=1 OFF=1": (Rules, fresh(wishes=1, power=1)),
    "the folder is checked, OFF=1 DEL=1": (Rules, copy(power=1, deletions=1)),
    "words, copy": (variants.WithoutFolder, copy(True)),
    "words, board changed, W=1 OFF=1": (Rules, Load(Budget(wishes=1, power=1, boards=1), "alone", True)),
    "alive is a hint, copy, W=1 OFF=1": (variants.SignOfLifeIsAHint, copy(wishes=1, power=1)),
}
LONG: dict[str, tuple[type[Rules], Load]] = {
    "copy, W=2 OFF=1 PAUSE=1 PART=1 ETCD=1": (
        variants.WithoutFolder,
        copy(wishes=2, power=1, pauses=1, partitions=1, leases=1),
    ),
    "fresh, W=1 OFF=1 DEL=1": (Rules, fresh(wishes=1, power=1, deletions=1)),
    "copy, W=1 OFF=1 PAUSE=1 DEL=1": (variants.WithoutFolder, copy(wishes=1, power=1, pauses=1, deletions=1)),
    "alive is a hint, copy, W=1 OFF=1 PAUSE=1 DEL=1": (
        variants.SignOfLifeIsAHint,
        copy(wishes=1, power=1, pauses=1, deletions=1),
    ),
    "the folder is checked, W=1 OFF=1 PAUSE=1 DEL=1": (Rules, copy(wishes=1, power=1, pauses=1, deletions=1)),
    "copy, PART=1 STMT=1 DEL=1": (variants.WithoutFolder, copy(partitions=1, statements=1, deletions=1)),
    "words, copy, OFF=1": (variants.WithoutFolder, copy(True, power=1)),
    "words, copy, DEL=1": (variants.WithoutFolder, copy(True, deletions=1)),
    "words, fresh, DEL=1": (Rules, fresh(True, deletions=1)),
    "words, copy, W=1 OFF=1 PART=1 STMT=1": (
        variants.WithoutFolder,
        copy(True, wishes=1, power=1, partitions=1, statements=1),
    ),
}
"""A minute or some."""

FAILS: dict[str, tuple[type[Rules], Load, frozenset[str]]] = {
    "as it was: alive/N free is enough": (variants.ByLifeAlone, copy(), frozenset({CUT})),
    "as it was, both fresh": (variants.ByLifeAlone, fresh(), frozenset({CUT})),
    "only the folder's identity is checked, both fresh": (variants.ByFolderAlone, fresh(), frozenset({CUT})),
    "both hosts bear one identity": (variants.OneIdentity, fresh(wishes=1), frozenset({CUT})),
    "N speaks for all": (variants.SpeaksForAll, fresh(deletions=1), frozenset({TWO_WRITERS, CUT, REVIVED})),
    "epochs are of hosts, but all publish": (variants.PublishesOverOthers, fresh(), frozenset({ENDLESS})),
    "a latch instead of identities, copy": (variants.LatchAlone, copy(), frozenset({CUT})),
    "a latch instead of identities, both fresh": (variants.LatchAlone, fresh(), frozenset({CUT})),
    "the latch on top of identities": (variants.LatchOnTop, fresh(pauses=1), frozenset({STUCK})),
    "what a former host may have is not asked for": (
        variants.RevivesFormerHosts,
        copy(partitions=1, statements=1, deletions=1),
        frozenset({REVIVED}),
    ),
    "a word takes any fence": (
        variants.AnyFence,
        copy(True, partitions=1, statements=1),
        frozenset({REVIVED}),
    ),
    "a word takes silence": (variants.WordAndSilence, copy(True, partitions=1, statements=1), frozenset({REVIVED})),
    "alive/N is put by who is not N": (variants.KeepsOthersOut, fresh(), frozenset({STUCK})),
    "hosts log in by themselves": (variants.LogsInByItself, copy(power=1), frozenset({TWO_WRITERS})),
}


def holds(rules: type[Rules], load: Load) -> None:
    report = Search(load, rules()).run()
    print(report)
    assert not report.counts, str(report)


@pytest.mark.parametrize(("rules", "load"), HOLDS.values(), ids=HOLDS)
def test_a_node_is_one_host(rules: type[Rules], load: Load) -> None:
    """Never two writers, never an unmap under a device; the first host comes back by itself, another one by a person's word."""
    holds(rules, load)


@pytest.mark.long
@pytest.mark.parametrize(("rules", "load"), LONG.values(), ids=LONG)
def test_a_node_is_one_host_under_more(rules: type[Rules], load: Load) -> None:
    holds(rules, load)


@pytest.mark.parametrize(
    ("rules", "load", "broken"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.long] if case[1].budget.statements else [])
        for name, case in FAILS.items()
    ],
)
def test_without_the_rule_it_is_two(rules: type[Rules], load: Load, broken: frozenset[str]) -> None:
    """The search finds what each rule is there to prevent."""
    report = Search(load, rules(), until=broken).run()
    print(report)
    assert broken <= report.counts.keys(), str(report)
