"""Which silent node is fenced now, and what holds back the others."""

from __future__ import annotations

import pytest

from reconciler.core.plan_fence import Hold, Limits, Watched, plan_fence

LIMITS = Limits(after_s=30, max_at_once=1, window_s=600)
NOW = 1000.0


def silent(node: str, for_s: float, holds: tuple[str, ...] = ("data",), fenced: bool = False) -> Watched:
    return Watched(node, "b1", NOW - for_s, holds, fenced)


def living(*names: str) -> list[Watched]:
    return [Watched(name, "b1", None, ("other",)) for name in names]


def test_patience() -> None:
    """Not a moment before `after_s`."""
    others = living("b", "c")
    assert plan_fence([silent("a", 29.9), *others], {}, {}, LIMITS, NOW) == (None, {"a": Hold.PATIENCE})
    assert plan_fence([silent("a", 30), *others], {}, {}, LIMITS, NOW) == (silent("a", 30), {})


@pytest.mark.parametrize("node", [silent("a", 99, holds=()), silent("a", 99, fenced=True), living("a")[0]])
def test_who_need_not_be_fenced(node: Watched) -> None:
    """Who holds nothing, is fenced already, or lives."""
    assert plan_fence([node, *living("b", "c")], {}, {}, LIMITS, NOW) == (None, {})


@pytest.mark.parametrize(
    ("quiet", "alive", "ours"), [(1, 1, False), (2, 2, False), (2, 1, True), (1, 0, True), (3, 4, False)]
)
def test_more_than_half_at_once_is_our_own_network(quiet: int, alive: int, ours: bool) -> None:
    """Half is not more than half: of two nodes, one may be fenced."""
    nodes = [silent(f"q{n}", 40 + n) for n in range(quiet)] + living(*(f"a{n}" for n in range(alive)))
    plan = plan_fence(nodes, {}, {}, LIMITS, NOW)
    assert (plan.fence is None) == ours
    assert (Hold.MAJORITY in plan.held.values()) == ours


def test_who_has_long_been_quiet_does_not_count() -> None:
    """Machines that were taken away, and nodes that are fenced, are neither for nor against it."""
    gone = [silent(f"old{n}", 5000, holds=()) for n in range(5)]
    fenced = [silent("f", 31, fenced=True)]
    nodes = [silent("a", 31), *gone, *fenced, *living("b")]
    assert plan_fence(nodes, {}, {}, LIMITS, NOW).fence == silent("a", 31)


def test_one_at_a_time() -> None:
    """The longest silent first; the next one when the window is over."""
    nodes = [silent("a", 31), silent("b", 40), *living("c", "d", "e")]
    assert plan_fence(nodes, {}, {}, LIMITS, NOW) == (silent("b", 40), {"a": Hold.LIMIT})
    assert plan_fence(nodes[:1] + nodes[2:], {"b": NOW - 599}, {}, LIMITS, NOW) == (None, {"a": Hold.LIMIT})
    assert plan_fence(nodes[:1] + nodes[2:], {"b": NOW - 600}, {}, LIMITS, NOW).fence == silent("a", 31)
    assert plan_fence(nodes[:1] + nodes[2:], {"a": NOW - 1}, {}, LIMITS, NOW).fence == silent("a", 31)


def test_a_failed_try_is_left_alone_for_a_while() -> None:
    """And holds up nobody else."""
    nodes = [silent("a", 50), silent("b", 40), *living("c", "d", "e")]
    plan = plan_fence(nodes, {}, {"a": NOW + 1}, LIMITS, NOW)
    assert plan == (silent("b", 40), {"a": Hold.RETRY})
    assert plan_fence(nodes, {}, {"a": NOW}, LIMITS, NOW).fence == silent("a", 50)
