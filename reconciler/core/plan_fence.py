"""Which node the fence agent fences now, if any: a pure function of what the agent itself has seen.

Silence proves nothing, and is no ground for a fence either: it is the reason to ask a power switch, which can prove something. What
keeps that from doing harm is here: patience, one node at a time, and none at all when it is probably our own network that is away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Watched:
    """One node, as the agent sees it."""

    node: str
    boot: str
    """The published one."""
    silent_since: float | None = None
    """On the agent's own clock, in seconds: when it saw that the sign of life is gone, and it has been so at each look since.
    None: the node lives."""
    holds: tuple[str, ...] = ()
    """Volumes that were granted to this boot and are to be had by fencing it."""
    fenced: bool = False
    """This boot is fenced already."""


class Limits(NamedTuple):
    after_s: float
    """So long a node has to be silent."""
    max_at_once: int
    """So many nodes are fenced within `window_s`, and no more."""
    window_s: float


class Hold(StrEnum):
    """Why a node that is silent and holds something is not fenced now."""

    PATIENCE = "patience"
    MAJORITY = "majority"
    LIMIT = "limit"
    RETRY = "retry"


class Plan(NamedTuple):
    """At most one node to be fenced now; and what holds back the others."""

    fence: Watched | None
    held: Mapping[str, Hold]


def plan_fence(
    nodes: Sequence[Watched], recent: Mapping[str, float], not_before: Mapping[str, float], limits: Limits, now: float
) -> Plan:
    """What to do now.

    Args:
        nodes: all that there are.
        recent: when nodes were fenced last, or may have been, on the agent's clock.
        not_before: until when a node whose try failed is left alone, likewise.
    """
    held: dict[str, Hold] = {}
    chosen: Watched | None = None
    suspects = [each for each in nodes if each.silent_since is not None and each.holds and not each.fenced]
    for each in sorted(suspects, key=lambda each: (each.silent_since or 0.0, each.node)):
        reason = _against(each, nodes, recent, not_before, limits, now)
        if reason is None and chosen is None:
            chosen = each
        else:
            held[each.node] = reason or Hold.LIMIT
    return Plan(chosen, held)


def _against(
    suspect: Watched,
    nodes: Sequence[Watched],
    recent: Mapping[str, float],
    not_before: Mapping[str, float],
    limits: Limits,
    now: float,
) -> Hold | None:
    assert suspect.silent_since is not None
    if now - suspect.silent_since < limits.after_s:
        return Hold.PATIENCE
    if _is_ourselves(suspect.silent_since, nodes, limits.after_s):
        return Hold.MAJORITY
    others = [node for node, when in recent.items() if node != suspect.node and now - when < limits.window_s]
    if len(others) >= limits.max_at_once:
        return Hold.LIMIT
    if now < not_before.get(suspect.node, now):
        return Hold.RETRY
    return None


def _is_ourselves(since: float, nodes: Sequence[Watched], after_s: float) -> bool:
    """More than half of all nodes went quiet together: not they are cut off, but etcd or we. Those that have been quiet for
    longer, and those that are fenced, are not counted at all."""
    living = sum(each.silent_since is None for each in nodes)
    together = sum(
        each.silent_since is not None and not each.fenced and abs(each.silent_since - since) <= after_s
        for each in nodes
    )
    return together > living
