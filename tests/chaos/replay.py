"""Brings a recorded history in order, and asks the simulator's invariants about it.

etcd's revisions have an order. What was seen at hosts and at the driver has not: each change lies between two looks, so between
two revisions. Within that window it is put where it is innocent, if there is such a place. So whatever is reported did happen,
and what is too short for the windows goes unnoticed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

from reconciler.runtime.ports import Event
from schema.codec import decode_family
from schema.keys import Family, Key, Keyspace
from schema.models import AttachmentPhase, AttachmentStatus, Claim, Record
from tests.chaos.history import event_of
from tests.sim.invariants import Broken, Invariants, with_access

Subject = tuple[str, str, str]
"""Kind of fact, node, uid: what changes one after the other."""


@dataclass(frozen=True)
class Change:
    """Something came or went, after the revision `first` at the earliest, and before the one after `last` at the latest."""

    come: bool
    kind: str
    node: str
    volume: str
    uid: str
    first: int
    last: int

    @property
    def subject(self) -> Subject:
        return self.kind, self.node, self.uid

    def __str__(self) -> str:
        where = f" at {self.node}" if self.node else ""
        return (
            f"{self.kind} of {self.uid}{where} {'came' if self.come else 'went'} between {self.first} and {self.last}"
        )


class Order:
    """Between which moments each revision was committed."""

    def __init__(self, lines: Sequence[Mapping[str, Any]]) -> None:
        wrote = {line["rev"]: line["at"] for line in reversed(lines) if line["what"] == "wrote"}
        reads = [line for line in lines if line["what"] == "read"]
        self.revisions = sorted(wrote)
        after = [float("-inf")] * len(self.revisions)
        before = [wrote[revision] for revision in self.revisions]
        for read in reads:
            place = bisect_right(self.revisions, read["rev"])  # the first revision that the read did not know of
            if place < len(after):
                after[place] = max(after[place], read["began"])
            if place:
                before[place - 1] = min(before[place - 1], read["ended"])
        for place in range(1, len(after)):
            after[place] = max(after[place], after[place - 1])
        for place in range(len(before) - 2, -1, -1):
            before[place] = min(before[place], before[place + 1])
        self._after, self._before = after, before

    def window(self, began: float, ended: float) -> tuple[int, int]:
        """The last revision that is surely older than the first moment, and the last that may be older than the second."""
        first = bisect_right(self._before, began)
        last = bisect_left(self._after, ended)
        return (self.revisions[first - 1] if first else 0), (self.revisions[last - 1] if last else 0)


class Replay:
    """One history. It is the `Hosts` of the invariants meanwhile."""

    def __init__(self, lines: Sequence[Mapping[str, Any]], boots: Callable[[str], str] = lambda _: "") -> None:
        self.boot = boots
        self.violations: list[str] = []
        self.invariants = Invariants(Keyspace(), self)
        self._lines = lines
        self._keyspace = Keyspace()
        self.facts: set[Subject] = set()
        """What is there, at the end of what was played."""
        self._epoch_of: dict[Subject, int] = {}
        self._pending: dict[Subject, deque[Change]] = defaultdict(deque)
        self._by_hand = {(line["rev"], line["key"]) for line in lines if line["what"] == "hand"}
        self._maybe_by_hand = {line["key"] for line in lines if line["what"] == "hand, unknown"}

    def play(self) -> list[str]:
        """What did not hold, one line each."""
        order = Order(self._lines)
        for change in self._changes(order):
            self._pending[change.subject].append(change)
        wrote = (event_of(line) for line in self._lines if line["what"] == "wrote")
        for revision, group in groupby(sorted(wrote, key=lambda event: event.revision), lambda event: event.revision):
            events = list(group)
            self._force(revision)
            self._hasten(revision)
            for event in events:
                self._prepare(event, revision)
            self._try(f"revision {revision}", partial(self.invariants.observed, events, by_hand=self._hand(events)))
        self._force(1 << 62)
        return self.violations

    # --- Hosts

    def devices(self, uid: str) -> Sequence[str]:
        return sorted(node for kind, node, each in self.facts if kind == "device" and each == uid)

    def mapped(self, uid: str) -> Sequence[str]:
        return sorted(node for kind, node, each in self.facts if kind == "mapped" and each == uid)

    def writers(self, uid: str) -> Sequence[str]:
        return with_access(self, uid)

    def node_of(self, host: str) -> str:
        return host

    def host_of(self, node: str, boot: str) -> str:
        return node

    # --- the order

    def _changes(self, order: Order) -> Iterable[Change]:
        for line in self._lines:
            if line["what"] == "saw":
                first, last = order.window(line["began"], line["ended"])
                for sign, kind, node, volume, uid in line["changes"]:
                    yield Change(sign == "+", kind, node, volume, uid, first, last)

    def _hand(self, events: Sequence[Event]) -> bool:
        return any(
            (e.revision, e.key) in self._by_hand or (not e.item and e.key in self._maybe_by_hand) for e in events
        )

    def _force(self, revision: int) -> None:
        """What must have happened before this revision."""
        late = [change for queue in self._pending.values() for change in queue if change.last < revision]
        for change in sorted(late, key=lambda change: change.last):
            queue = self._pending[change.subject]
            while change in queue:
                if not queue[0].come:
                    self._drain(change.uid, revision, change.node)
                if change in queue:  # a device may have been drained just now
                    self._apply(queue.popleft())

    def _hasten(self, revision: int) -> None:
        """What may have happened, and is innocent now. Devices wait until something asks for them."""
        for subject, queue in list(self._pending.items()):
            while queue and subject[0] != "device" and queue[0].first < revision and self._is_innocent(queue[0]):
                self._apply(queue.popleft())

    def _is_innocent(self, change: Change) -> bool:
        record = next(
            (r for r in self.invariants.values.values() if isinstance(r, Record) and r.uid == change.uid), None
        )
        if change.kind == "mapped" and change.come:
            return record is not None and any(export.node == change.node for export in record.exports)
        if change.kind == "mapped":
            return change.node not in self.devices(change.uid)
        intended = record is not None and record.intent is not None and record.intent.value in ("delete", "create")
        return change.come or (intended and not self.devices(change.uid))

    def _prepare(self, event: Event, revision: int) -> None:
        """Before this write: the devices' changes that it builds on, if they may have happened already."""
        key = self._keyspace.parse(event.key)
        if not isinstance(key, Key):
            return
        before = self.invariants.values.get(key)
        if key.family is Family.GRANT and before is not None:
            self._drain(getattr(before, "uid", ""), revision)
        elif key.family is Family.CLAIM and event.item is None and isinstance(before, Claim):
            self._drain(before.uid, revision, key.names[0])
        elif key.family is Family.ATTACHMENT and event.item is not None:
            self._prepare_status(key, event, revision)

    def _prepare_status(self, key: Key, event: Event, revision: int) -> None:
        status = self._status(event)
        if status is None:
            return
        subject = ("device", key.names[0], status.uid)
        queue = self._pending[subject]
        if status.phase is AttachmentPhase.RELEASED:
            self._drain(status.uid, revision, key.names[0])
        elif status.phase is AttachmentPhase.ATTACHED:
            while queue and queue[0].first < revision and self._epoch_of.get(subject) != status.epoch:
                self._apply(queue.popleft())

    @staticmethod
    def _status(event: Event) -> AttachmentStatus | None:
        value = decode_family(Family.ATTACHMENT, event.item.value if event.item else b"")
        return value if isinstance(value, AttachmentStatus) else None

    def _drain(self, uid: str, revision: int, node: str = "") -> None:
        """Devices that may be gone by now are. One that came and went, too; one that only came may have come later."""
        for subject, queue in list(self._pending.items()):
            if subject[0] != "device" or subject[2] != uid or (node and subject[1] != node):
                continue
            possible = [change for change in queue if change.first < revision]
            while possible and possible[-1].come:
                possible.pop()
            for change in possible:
                if change.come and self.invariants.claim(change.node, uid) is None:
                    break
                self._apply(queue.popleft())

    # --- the checks

    def _apply(self, change: Change) -> None:
        (self.facts.add if change.come else self.facts.discard)(change.subject)
        self._try(str(change), lambda: self._tell(change))

    def _tell(self, change: Change) -> None:
        match change.kind, change.come:
            case "device", True:
                claim = self.invariants.claim(change.node, change.uid)
                self._epoch_of[change.subject] = claim.epoch if claim else 0
                self.invariants.connected(change.node, change.volume, change.uid)
            case "device", False:
                self._epoch_of.pop(change.subject, None)
                self.invariants.disconnected(change.node, change.uid)
            case "mapped", True:
                self.invariants.mapped("", "", change.node, change.uid)
            case "mapped", False:
                self.invariants.unmapped("", "", change.node, change.uid)
            case "file", False:
                self.invariants.deleted("", "", change.uid)

    def _try(self, where: str, check: Callable[[], None]) -> None:
        try:
            check()
        except Broken as error:
            self.violations.append(f"{error} [{where}]")
