"""Whether an absent wish may be acted upon, or is one of many that vanished at once. Asked only right before something would go."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.controllers.host import Host
from reconciler.controllers.snapshot import Snapshot
from reconciler.core.mass import (
    DELETES_PAUSED,
    DETACHES_PAUSED,
    UNKNOWN_TO_THE_STORE,
    MassRule,
    paused_deletes,
    paused_detaches,
)
from reconciler.core.views import OnHost
from reconciler.core.volume_wish import LAST_WISH_UNKNOWN
from reconciler.runtime.cache import Cache
from schema.keys import Family, Key, Keyspace
from schema.models import AttachmentStatus, Claim, DeletionSpec, NodeSpec, Record, Verdict


class VanishedAttachments:
    """For one node: of the volumes that it holds, how many are no longer wished for?"""

    def __init__(self, node: str, cache: Cache, keyspace: Keyspace, host: Host, rule: Callable[[], MassRule]) -> None:
        self._node = node
        self._cache = cache
        self._keyspace = keyspace
        self._host = host
        self._rule = rule

    def why_paused(self, volume: str, snapshot: Snapshot) -> str:
        """Why this volume stays although its wish is gone. Empty: it may go."""
        status = snapshot.value(self._key(Family.ATTACHMENT, volume), AttachmentStatus)
        if self._is_confirmed(volume, status, snapshot):
            return ""
        if status is not None:
            told = next((each for each in status.conditions if each.reason == DETACHES_PAUSED), None)
            if told is not None:
                return told.message
        elif self._host.note(volume) and not any(
            snapshot.see(self._key(family, volume)) for family in (Family.CLAIM, Family.CONNECTION)
        ):
            return UNKNOWN_TO_THE_STORE
        held = [name for name in self._held() if not self._is_leaving(name)]
        gone = [name for name in held if not self._is_wished(name)]
        return paused_detaches(len(gone), len(held)) if self._rule().met(len(gone), len(held)) else ""

    def paused(self) -> int:
        """How many are held for this alone at present."""
        statuses = (self._status(item.key.rsplit("/", 1)[1]) for item in self._cache.prefix(self._folder()))
        return sum(1 for status in statuses if status is not None and _says(status, DETACHES_PAUSED))

    def _is_confirmed(self, volume: str, status: AttachmentStatus | None, snapshot: Snapshot) -> bool:
        """(volume, epoch) names one attachment for ever, so a confirmation covers no later one."""
        intent = snapshot.value(Key(Family.DESIRED_NODE, (self._node,)), NodeSpec)
        claim = snapshot.value(self._key(Family.CLAIM, volume), Claim)
        note = self._host.note(volume)
        named = claim or status or note
        return intent is not None and named is not None and intent.confirmed_detaches.get(volume) == named.epoch

    def _held(self) -> set[str]:
        """What a note or a claim speaks of."""
        folder = self._keyspace.folder(Family.CLAIM, self._node)
        return set(self._host.volumes()) | {item.key.removeprefix(folder) for item in self._cache.prefix(folder)}

    def _is_leaving(self, volume: str) -> bool:
        """Its detach began already, for a reason of its own: it tells nothing of the others."""
        if self._is_wished(volume):
            return False
        known = self._host.known(volume)
        status = self._status(volume)
        begun = status is not None and any(
            each.type == "Released" and each.reason != DETACHES_PAUSED for each in status.conditions
        )
        return begun or (known is not None and known.on_host is OnHost.ABSENT)

    def _is_wished(self, volume: str) -> bool:
        return self._cache.get(self._keyspace.path(Family.DESIRED_ATTACHMENT, self._node, volume)) is not None

    def _status(self, volume: str) -> AttachmentStatus | None:
        item = self._cache.get(self._keyspace.path(Family.ATTACHMENT, self._node, volume))
        value = self._cache.decoded(item) if item is not None else None
        return value if isinstance(value, AttachmentStatus) else None

    def _folder(self) -> str:
        return self._keyspace.folder(Family.ATTACHMENT, self._node)

    def _key(self, family: Family, volume: str) -> Key:
        return Key(family, (self._node, volume))


class VanishedVolumes:
    """For all volumes: of those whose data goes with their wish, how many are no longer wished for?"""

    def __init__(self, cache: Cache, keyspace: Keyspace, rule: Callable[[], MassRule]) -> None:
        self._cache = cache
        self._keyspace = keyspace
        self._rule = rule

    def why_paused(self, volume: str) -> str:
        """Why the data of this volume stays although its wish is gone. Empty: it may be deleted."""
        record = self._value(Family.RECORD, volume)
        confirmed = self._value(Family.DESIRED_DELETION, volume)
        if isinstance(confirmed, DeletionSpec) and isinstance(record, Record) and confirmed.uid == record.uid:
            return ""
        verdict = self._value(Family.VERDICT_VOLUME, volume)
        if isinstance(verdict, Verdict) and verdict.generation == 0:
            told = next((each for each in verdict.conditions if each.reason == DELETES_PAUSED), None)
            if told is not None:
                return told.message
        folder = self._keyspace.folder(Family.RECORD)
        records = ((item.key.removeprefix(folder), self._cache.decoded(item)) for item in self._cache.prefix(folder))
        held = [name for name, record in records if isinstance(record, Record) and record.goes_with_its_wish]
        gone = [name for name in held if self._cache.get(self._keyspace.path(Family.DESIRED_VOLUME, name)) is None]
        return paused_deletes(len(gone), len(held)) if self._rule().met(len(gone), len(held)) else ""

    def is_answered(self, volume: str) -> bool:
        """Whether somebody confirmed that this data goes after it was asked what its last wish said. An earlier word was about a
        wish that was known then."""
        asked = self._cache.get(self._keyspace.path(Family.VERDICT_VOLUME, volume))
        answer = self._cache.get(self._keyspace.path(Family.DESIRED_DELETION, volume))
        record, verdict = self._value(Family.RECORD, volume), self._value(Family.VERDICT_VOLUME, volume)
        if asked is None or answer is None or not isinstance(record, Record) or not isinstance(verdict, Verdict):
            return False
        said = self._cache.decoded(answer)
        names_it = isinstance(said, DeletionSpec) and said.uid == record.uid
        return names_it and answer.mod_revision > asked.mod_revision and _says(verdict, LAST_WISH_UNKNOWN)

    def paused(self) -> int:
        """How many are kept for this alone at present."""
        verdicts = map(self._cache.decoded, self._cache.prefix(self._keyspace.folder(Family.VERDICT_VOLUME)))
        return sum(1 for verdict in verdicts if isinstance(verdict, Verdict) and _says(verdict, DELETES_PAUSED))

    def _value(self, family: Family, volume: str) -> object:
        item = self._cache.get(self._keyspace.path(family, volume))
        return None if item is None else self._cache.decoded(item)


def _says(told: AttachmentStatus | Verdict, reason: str) -> bool:
    return any(each.reason == reason for each in told.conditions)
