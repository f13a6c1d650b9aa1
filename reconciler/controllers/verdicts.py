"""What the controller has to say on users' keys: sayings and failures to verdicts, written only when they changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import BaseModel

from reconciler.controllers.snapshot import Snapshot
from reconciler.core.steps import Saying
from schema.keys import VERDICT_OF, Family, Key
from schema.models import Condition, Verdict


@dataclass(slots=True)
class Failure:
    """The last failed try of a step, until it succeeds or the plan no longer asks for it."""

    aspect: str
    reason: str
    message: str
    next_try: str


@dataclass(slots=True)
class Remarks:
    """All there is to say about one volume now: by user key."""

    conditions: dict[Key, list[tuple[str, str, str]]] = field(default_factory=dict)
    next_tries: dict[Key, str] = field(default_factory=dict)

    def add(self, key: Key, aspect: str, reason: str, message: str) -> None:
        self.conditions.setdefault(key, []).append((aspect, reason, message))


def rfc3339(wall_s: float) -> str:
    """A time for people, in UTC, to the second."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user_key(volume: str, node: str) -> Key:
    """The user's key that a remark about the volume (`node` empty) or an attachment belongs to."""
    return Key(Family.DESIRED_ATTACHMENT, (node, volume)) if node else Key(Family.DESIRED_VOLUME, (volume,))


def remarks_of(volume: str, sayings: Iterable[Saying], failures: Mapping[str, Failure]) -> Remarks:
    """The planner's sayings and the failures of tries, each at its key. `failures` is by node, "" for the volume itself."""
    remarks = Remarks()
    for saying in sayings:
        remarks.add(user_key(volume, saying.node), saying.aspect.value, saying.reason, saying.message)
    for node, failure in failures.items():
        key = user_key(volume, node)
        remarks.add(key, failure.aspect, failure.reason, failure.message)
        remarks.next_tries[key] = failure.next_try
    return remarks


def verdict_changes(
    snapshot: Snapshot, about: Iterable[Key], remarks: Remarks, now: str
) -> tuple[list[tuple[Key, BaseModel]], list[Key]]:
    """What to put and what to delete so that the verdicts on these user keys say just that.

    A verdict stays while its key is gone only as long as something about it still fails.
    """
    puts: list[tuple[Key, BaseModel]] = []
    deletes: list[Key] = []
    for key in about:
        verdict_key = Key(VERDICT_OF[key.family], key.names)
        present = snapshot.value(verdict_key, Verdict)
        said = remarks.conditions.get(key, [])
        if not said:
            if snapshot.see(verdict_key) is not None:
                deletes.append(verdict_key)
            continue
        verdict = _verdict(said, snapshot.revision(key), present, now, remarks.next_tries.get(key))
        if verdict != present:
            puts.append((verdict_key, verdict))
    return puts, deletes


def refusals(puts: Iterable[tuple[Key, BaseModel]], snapshot: Snapshot) -> Iterable[tuple[Key, Condition]]:
    """What is new among the answers to wishes that can't be taken as they stand: (the wish's verdict, why). For logs."""
    for key, verdict in puts:
        present = snapshot.value(key, Verdict)
        known = {(c.reason, c.message) for c in present.conditions} if present else set()
        for condition in verdict.conditions if isinstance(verdict, Verdict) else ():
            if condition.type == "Accepted" and (condition.reason, condition.message) not in known:
                yield key, condition


def _verdict(
    said: list[tuple[str, str, str]], generation: int, present: Verdict | None, now: str, next_try: str | None
) -> Verdict:
    since = {(c.type, c.reason): c.since for c in present.conditions} if present else {}
    conditions = tuple(
        Condition(
            type=aspect,
            status="False",
            reason=reason,
            message=message,
            since=since.get((aspect, reason), now),
            observed_generation=generation,
        )
        for aspect, reason, message in dict.fromkeys(said)
    )
    return Verdict(generation=generation, conditions=conditions, next_try=next_try)
