"""Every rule is needed: with one taken away, the search must find what goes wrong (docs/PROTOCOL.md, section 3).

A variant that is no longer caught means that the search has become blind, or that the rule may go. `pytest -rP` prints the shortest
trace to each violation.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.model import variants
from tests.model.checks import (
    CORDON_IGNORED,
    CUT,
    DATA_LOST,
    DELETED_IN_USE,
    DROPPED,
    ENDLESS,
    EXTENDED_IN_USE,
    NOT_ITS_WISH,
    REVIVED,
    STUCK,
    TWO_WRITERS,
    WRONG_EPOCH,
)
from tests.model.load import Load
from tests.model.rules import Rules
from tests.model.search import Search
from tests.model.state import CONTROLLER, Budget

NODES = frozenset({0, 1})
CONTROLLERS = frozenset({CONTROLLER})


@dataclass(frozen=True)
class Missing:
    """A rule that is taken away, and what comes of it."""

    rules: type[Rules]
    load: Load
    broken: frozenset[str]


def missing(rules: type[Rules], load: Load, *broken: str) -> Missing:
    return Missing(rules, load, frozenset(broken))


def load(start: str = "idle", late: frozenset[int] = frozenset(), restores: bool = False, **budget: int) -> Load:
    return Load(Budget(**budget), start, late=late, restores=restores)


VARIANTS = {
    "revoke when unclaimed": missing(variants.RevokesWhenUnclaimed, load(wishes=2, deletions=1), CUT),
    "revoke when unclaimed, status silent": missing(
        variants.RevokesWhenUnclaimedAndSilent, load(wishes=2, deletions=1), CUT
    ),
    "revoke when unclaimed, not noted": missing(variants.RevokesWhenNotNotedInUse, load(wishes=2, deletions=1), CUT),
    "no release without a claim": missing(variants.NeverDeclines, load(wishes=2), STUCK),
    "epochs start anew": missing(variants.EpochsStartAnew, load(wishes=3), STUCK, ENDLESS),
    "claim again, silently": missing(
        variants.ClaimsAgainSilently, load("wished", wishes=2, deletions=1), CUT, WRONG_EPOCH, REVIVED
    ),
    "missing grant is free": missing(
        variants.MissingGrantIsFree, load(wishes=2, deletions=1), TWO_WRITERS, CUT, REVIVED
    ),
    "grant rebuilt from claims": missing(variants.RebuildsTheGrant, load(wishes=2, deletions=1), STUCK),
    "connected otherwise": missing(variants.DropsTheUnexplained, load(wishes=1, deletions=1), DROPPED),
    "claim not put back": missing(variants.LeavesTheClaimMissing, load(wishes=1, deletions=1), STUCK),
    "old claim as own": missing(
        variants.UsesOldClaims, load("attached", power=1, fences=1, deletions=1), CUT, WRONG_EPOCH, REVIVED
    ),
    "old claim taken over": missing(
        variants.TakesOldClaimsOver, load("attached", power=1, fences=1, deletions=1), CUT, WRONG_EPOCH, REVIVED
    ),
    "lift by node": missing(variants.LiftsByNode, load(wishes=1, power=1, fences=1), CUT, REVIVED),
    "any fence, where the array does not cut": missing(
        variants.TakesAnyFence, Load(Budget(wishes=1, partitions=1, fences=1), "attached", cuts=False), TWO_WRITERS
    ),
    "grant to the fenced": missing(variants.GrantsToFenced, load(wishes=1, partitions=1, fences=1), ENDLESS),
    "grant to the fenced, no duty": missing(
        variants.NoDutyAndGrantsToFenced, load(wishes=1, partitions=1, fences=1), STUCK, ENDLESS
    ),
    "no duty on return": missing(variants.NoDutyOnReturn, load(wishes=1, partitions=1, fences=1), STUCK),
    "new boot first": missing(
        variants.NewBootFirst, load("wished", partitions=1, fences=1, deletions=1), CUT, WRONG_EPOCH, REVIVED
    ),
    "fence in the user's key": missing(
        variants.FenceInTheUsersKey, load("wished", partitions=1, fences=1, deletions=1), REVIVED
    ),
    "answers before publishing": missing(variants.AnswersBeforePublishing, load(wishes=1, power=1), ENDLESS),
    "publishes before cleaning": missing(
        variants.PublishesBeforeCleaning, load(wishes=1, power=1, fences=1, restores=True), CUT
    ),
    "does not audit": missing(variants.DoesNotAudit, load("attached", losses=1), STUCK),
    "late controller call": missing(Rules, load(wishes=3, late=CONTROLLERS), CUT, REVIVED),
    "late call of the former leader": missing(
        Rules, Load(Budget(wishes=3), late=CONTROLLERS, controllers=2), CUT, REVIVED
    ),
    "late export, and a fence": missing(
        Rules, load("attached, late export", wishes=1, partitions=1, fences=1, late=CONTROLLERS), TWO_WRITERS
    ),
    "adds paths to what is unclaimed": missing(variants.AddsPathsUnclaimed, load("attached", wishes=1, paths=1), CUT),
    "late adding of paths": missing(Rules, load("attached", wishes=1, paths=1, late=NODES), CUT),
    "a drain is no cordon": missing(variants.GrantsToDrained, load(wishes=1, drains=1), CORDON_IGNORED),
    "a drain is not confirmed": missing(
        variants.DropsOnAnOldDrain, Load(Budget(stale=1, drains=2), "attached", lag="one", crashes=False), DROPPED
    ),
    "what is not seen is released": missing(variants.ReleasesTheUnseen, load(wishes=3, breaks=1), CUT, REVIVED),
    "what is not seen is released, in a fenced boot": missing(
        variants.ReleasesTheUnseen, load("wished", partitions=1, fences=1, breaks=1), CUT, REVIVED
    ),
    "what is not seen is left in a fenced boot": missing(
        variants.LeavesTheUnseenInFencedBoots,
        Load(Budget(partitions=1, fences=1, breaks=1, deletions=1), "wished", deletions=frozenset({"claim"})),
        REVIVED,
    ),
    "late node call": missing(Rules, load(wishes=3, late=NODES), CUT, WRONG_EPOCH, REVIVED),
}

VOLUME_VARIANTS = {
    "deletes what is held": missing(
        variants.DeletesHeld, Load(Budget(specs=2, wishes=1), "without volume", nodes=1), DELETED_IN_USE
    ),
    "deletes what is claimed": missing(
        variants.DeletesClaimed,
        Load(Budget(specs=2, wishes=1, partitions=1, fences=1), "without volume", nodes=1),
        DELETED_IN_USE,
    ),
    "deletes what is to be retained": missing(
        variants.ForgetsOnDelete, Load(Budget(specs=2, wishes=1), "without volume", nodes=1), DATA_LOST
    ),
    "history is not asked": missing(
        variants.AsksNoHistory, Load(Budget(specs=3), "without volume", nodes=1), DATA_LOST
    ),
    "what is compacted away counts as noted": missing(
        variants.TakesTheUnknownAsNoted, Load(Budget(specs=3, compactions=1), "without volume", nodes=1), DATA_LOST
    ),
    "a deletion is not looked at again": missing(
        variants.DoesNotLookAgain, Load(Budget(specs=4, stale=1), "without volume", nodes=1, lag="one"), DATA_LOST
    ),
    "grants whatever is wished": missing(
        variants.GrantsWhateverIsWished,
        Load(Budget(specs=2, wishes=1), "without volume", nodes=1, sizes=(1, 2)),
        NOT_ITS_WISH,
    ),
    "a connection keeps its size": missing(
        variants.NeverTellsOfGrowth,
        Load(Budget(specs=2, wishes=1), "without volume", nodes=1, sizes=(1, 2), online=True),
        STUCK,
    ),
    "a device keeps its size": missing(
        variants.NeverLooksAtTheSize,
        Load(Budget(specs=2, wishes=1), "without volume", nodes=1, sizes=(1, 2), online=True),
        STUCK,
    ),
    "keeps refused extensions": missing(
        variants.KeepsRefusedExtensions,
        Load(Budget(specs=3, wishes=1), "without volume", nodes=1, sizes=(1, 2), room=1),
        STUCK,
    ),
    "refuses whatever is wished": missing(
        variants.RefusesWhateverIsWished,
        Load(Budget(specs=3), "without volume", nodes=1, sizes=(1, 2, 3), room=2),
        STUCK,
    ),
    "extends what is held": missing(
        variants.ExtendsHeld, Load(Budget(specs=2, wishes=1), "without volume", nodes=1, sizes=(1, 2)), EXTENDED_IN_USE
    ),
}

HARMLESS = {
    "revoke on the status alone": (variants.RevokesOnTheStatusAlone, load(wishes=2, deletions=1)),
    "claim again, saying so": (variants.ClaimsAgain, load("declined", deletions=1)),
    "disconnect by the connection key": (variants.NeedsTheConnection, load(wishes=2, deletions=1)),
    "late calls, but none that adds paths": (Rules, load("attached", wishes=1, late=NODES)),
    "forget in two transactions": (variants.ForgetsInTwoTransactions, load(wishes=2, deletions=1)),
    "delete lifted claims": (variants.DeletesLiftedClaims, load("wished", wishes=1, partitions=1, fences=1)),
}


@pytest.mark.parametrize("case", (VARIANTS | VOLUME_VARIANTS).values(), ids=VARIANTS | VOLUME_VARIANTS)
def test_the_missing_rule_is_missed(case: Missing) -> None:
    """The search finds every violation that the rule is there to prevent."""
    report = Search(case.load, case.rules(), until=case.broken).run()
    print(report)
    assert case.broken <= report.counts.keys(), str(report)


@pytest.mark.parametrize(("rules", "load"), HARMLESS.values(), ids=HARMLESS)
def test_it_could_be_done_otherwise(rules: type[Rules], load: Load) -> None:
    """These replace a rule by another that holds as well. None of them was chosen: PROTOCOL says why."""
    report = Search(load, rules()).run()
    print(report)
    assert not report.counts, str(report)


@pytest.mark.parametrize("words", [False, True], ids=["nobody says so", "the node says so"])
@pytest.mark.parametrize("start", ["wished", "attached"])
def test_a_nodes_word_heals_what_the_array_lost(start: str, *, words: bool) -> None:
    """F-S10, C7: an export that went, as a late call of a dead controller takes it away, and a driver that can't list what it
    exports: stuck unless the node says that what it was given does not answer."""
    report = Search(Load(Budget(wishes=1, losses=1), start, audits=False, words=words)).run()
    print(report)
    assert (STUCK in report.counts) != words, str(report)
    assert not (words and report.counts), str(report)
