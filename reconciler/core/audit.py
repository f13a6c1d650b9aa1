"""The audit: what a driver really exports, compared with what the records say. Pure; it decides nothing but what to tell.

A listing takes its time, and goes stale while it is read. So it is compared with the records as they were before it was asked
for and as they are after: an intent is durable before the driver hears of an export, and is forgotten after it was undone, so
an export that neither picture names was made by somebody else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar


class Exported(NamedTuple):
    """An export at the driver: of which volume (Cinder's id), and whom it lets in. None: the driver knows only *that* it is."""

    uid: str
    client: str | None


class Recorded(NamedTuple):
    """An export intent of a record. `ready`: its holder entry says that the node may use it."""

    volume: str
    uid: str
    epoch: int
    clients: frozenset[str]
    """The names that a driver may know the node by."""
    ready: bool

    def explains(self, found: Exported) -> bool:
        return found.uid == self.uid and (found.client is None or found.client in self.clients)


T = TypeVar("T", Exported, Recorded)


@dataclass(frozen=True, slots=True)
class Findings:
    lost: frozenset[tuple[str, int]]
    """(volume, epoch) of holders that may use an export which is not there."""
    orphans: tuple[Exported, ...]
    """Exports that no record explains, sorted. Reported, never touched."""


def compare(before: Collection[Recorded], found: Collection[Exported], after: Collection[Recorded]) -> Findings:
    """What a listing means, between two pictures of the records."""
    listed = _by_uid(found)
    lasting = {(one.volume, one.epoch) for one in before if one.ready}
    lost = frozenset(
        (one.volume, one.epoch)
        for one in after
        if one.ready and (one.volume, one.epoch) in lasting and not any(map(one.explains, listed.get(one.uid, ())))
    )
    recorded = _by_uid([*before, *after])
    orphans = {each for each in found if not any(one.explains(each) for one in recorded.get(each.uid, ()))}
    return Findings(lost, tuple(sorted(orphans, key=lambda each: (each.uid, each.client or ""))))


def clients_of(connector: Mapping[str, Any]) -> frozenset[str]:
    """The names by which drivers know a node, of its connector properties."""
    names = [connector.get(key) for key in ("host", "initiator", "nqn")]
    names += connector.get("wwpns") or ()
    return frozenset(name for name in names if isinstance(name, str))


def _by_uid(items: Collection[T]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = {}
    for item in items:
        found.setdefault(item.uid, []).append(item)
    return found
