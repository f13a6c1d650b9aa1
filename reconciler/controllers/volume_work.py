"""One step on one volume: what was seen of it, and the ways to confirm and commit what comes of the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from reconciler.controllers.snapshot import Conflict, Snapshot, Writer
from reconciler.core.steps import Step
from reconciler.runtime.ports import Compare, Reply
from schema.keys import Family, Key
from schema.models import Grant, Holder, HolderPhase, Record, VolumePhase, VolumeSpec, VolumeStatus

Puts = list[tuple[Key, BaseModel]]
T = TypeVar("T")


class Work:
    """One step on one volume: what was seen, and the ways to confirm and commit."""

    def __init__(
        self, step: Step, volume: str, snapshot: Snapshot, writer: Writer, guard: Compare, now: Callable[[], str]
    ) -> None:
        self.step = step
        self.now = now
        self.volume = volume
        self.snapshot = snapshot
        self._writer = writer
        self._guard = (guard,)
        self.grant_key = Key(Family.GRANT, (volume,))
        self.volume_key = Key(Family.VOLUME, (volume,))
        self.record_key = Key(Family.RECORD, (volume,))
        self.connection_key = Key(Family.CONNECTION, (step.node, volume))

    def confirm(self) -> None:
        self._writer.confirm(self.snapshot, self.step.confirms, self._guard)

    def commit(self, puts: Puts, deletes: tuple[Key, ...] = ()) -> None:
        self._writer.commit(self.snapshot, self.step.commits, puts, deletes, self._guard)

    @property
    def record(self) -> Record:
        return there(self.snapshot.value(self.record_key, Record))

    @property
    def grant(self) -> Grant:
        return there(self.snapshot.value(self.grant_key, Grant))

    @property
    def status(self) -> VolumeStatus:
        return there(self.snapshot.value(self.volume_key, VolumeStatus))

    @property
    def spec(self) -> VolumeSpec:
        return there(self.snapshot.value(Key(Family.DESIRED_VOLUME, (self.volume,)), VolumeSpec))

    @property
    def generation(self) -> int:
        return self.snapshot.revision(Key(Family.DESIRED_VOLUME, (self.volume,)))

    @property
    def holder(self) -> Holder:
        mine = [h for h in self.grant.holders if (h.node, h.epoch) == (self.step.node, self.step.epoch)]
        return there(mine[0] if mine else None)

    def lists(self, holders: tuple[Holder, ...], **status: object) -> Puts:
        """Both copies of the holder list, always written together (R8). The mirror leaves the connectors out."""
        mirror = tuple(holder.model_copy(update={"connector": {}}) for holder in holders)
        return [
            (self.grant_key, self.grant.model_copy(update={"holders": holders})),
            (self.volume_key, self.status.model_copy(update={"holders": mirror, **status})),
        ]

    def in_phase(self, phase: VolumePhase, **changes: object) -> VolumeStatus:
        """The status with this phase, and when it began."""
        status = self.status
        since = status.since if status.phase is phase else self.now()
        return status.model_copy(update={"phase": phase, "since": since, **changes})

    def with_phase(self, phase: HolderPhase) -> tuple[Holder, ...]:
        mine = self.holder
        return tuple(h.model_copy(update={"phase": phase}) if h is mine else h for h in self.grant.holders)

    def record_after(self, reply: Reply, **changes: object) -> Puts:
        """The record, where the driver's own data or anything else in it changed."""
        after = self.record.model_copy(update={"model": dict(reply.model), **changes})
        return [] if after == self.record else [(self.record_key, after)]


def there(value: T | None) -> T:
    """A key that the planner saw; gone only when the plan rests on something else than the snapshot."""
    if value is None:
        raise Conflict("a key that this step rests on is gone")
    return value
