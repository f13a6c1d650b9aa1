"""The periodic audit of one backend: asks the driver what it really exports, and enqueues; it undoes nothing.

A holder whose export is not there is looked at again, and gets it back by the ordinary way (C7). An export that no record
explains is an orphan: it is told in `backends/<backend>` and counted, and never touched.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

from reconciler.controllers.snapshot import Snapshot
from reconciler.core.audit import Exported, Findings, Recorded, clients_of, compare
from reconciler.runtime.cache import Cache
from reconciler.runtime.ports import Clock, Exposure
from schema.keys import Family, Key, Keyspace
from schema.models import Grant, HolderPhase, Orphan, Record

JITTER = (0.8, 1.2)
TOLD_MAX = 30
"""So many orphans are told by name; the count tells of all."""


class Lister(Protocol):
    """What an audit needs of a `Backend`."""

    @property
    def name(self) -> str: ...

    def exports(self) -> Sequence[Exposure]: ...


class Audit:
    """What one backend's audits found."""

    def __init__(
        self,
        backend: Lister,
        *,
        cache: Cache,
        keyspace: Keyspace,
        clock: Clock,
        rng: random.Random,
        every_s: float,
        enqueue: Callable[[str], None],
    ) -> None:
        self.orphans: tuple[Exported, ...] = ()
        self._backend = backend
        self._cache = cache
        self._keyspace = keyspace
        self._clock = clock
        self._rng = rng
        self._every_s = every_s
        self._enqueue = enqueue
        self._due_s = 0.0
        self._lost: dict[str, frozenset[int]] = {}

    @property
    def wait_s(self) -> float:
        """Seconds until the next one is due."""
        return max(0.0, self._due_s - self._clock.now())

    def forget(self) -> None:
        """The driver is no longer set up here: once it is again, it is asked at once."""
        self._due_s, self._lost, self.orphans = 0.0, {}, ()

    def run_if_due(self) -> None:
        """One audit, if its time has come. Raises what the backend raises; what was found before stays known then."""
        if self.wait_s > 0:
            return
        self._due_s = self._clock.now() + self._every_s * self._rng.uniform(*JITTER)
        before, _ = self._recorded()
        found = [Exported(each.uid, each.client) for each in self._backend.exports()]
        after, readable = self._recorded()
        findings = compare(before, found, after)
        if readable:  # a record that can't be read may explain anything
            self.orphans = findings.orphans
        self._look_again(findings)

    def take_lost(self, volume: str) -> frozenset[int]:
        """Epochs of the volume whose export was not found. Told once: whoever takes them sees to it."""
        return self._lost.pop(volume, frozenset())

    def told(self) -> tuple[Orphan, ...]:
        """The orphans for people, with the names of volumes that are known."""
        names = {record.uid: volume for volume, record in self._records()[0]}
        return tuple(
            Orphan(uid=each.uid, client=each.client, volume=names.get(each.uid)) for each in self.orphans[:TOLD_MAX]
        )

    def _look_again(self, findings: Findings) -> None:
        lost: dict[str, set[int]] = {}
        for volume, epoch in findings.lost:
            lost.setdefault(volume, set()).add(epoch)
        for volume, epochs in lost.items():
            self._lost[volume] = frozenset(epochs)
            self._enqueue(volume)

    def _recorded(self) -> tuple[list[Recorded], bool]:
        """All export intents of this backend; and whether every record could be read."""
        records, readable = self._records()
        return [one for volume, record in records for one in self._intents(volume, record)], readable

    def _intents(self, volume: str, record: Record) -> list[Recorded]:
        grant = Snapshot(self._cache, self._keyspace).value(Key(Family.GRANT, (volume,)), Grant)
        holders = grant.holders if grant is not None else ()
        ready = {(holder.node, holder.epoch) for holder in holders if holder.phase is HolderPhase.READY}
        return [
            Recorded(volume, record.uid, one.epoch, clients_of(one.connector), (one.node, one.epoch) in ready)
            for one in record.exports
        ]

    def _records(self) -> tuple[list[tuple[str, Record]], bool]:
        """This backend's records by volume; and whether every record there is could be read."""
        found, readable = [], True
        for item in self._cache.prefix(self._keyspace.folder(Family.RECORD)):
            record, key = self._cache.decoded(item), self._keyspace.parse(item.key)
            if not isinstance(record, Record) or not isinstance(key, Key):
                readable = False
            elif record.backend == self._backend.name:
                found.append((key.names[0], record))
        return found, readable
