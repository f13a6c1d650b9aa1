"""How long wishes take: from the wish to the device, from its end to nothing left. For metrics only, nothing decides by it."""

from __future__ import annotations

from typing import Protocol

from reconciler.controllers.snapshot import Snapshot
from reconciler.core.reading import drain_of
from reconciler.runtime.cache import Cache
from reconciler.runtime.ports import Clock, Item
from schema.keys import Family, Key, Keyspace
from schema.models import AttachmentPhase, AttachmentStatus

_WATCHED = (Family.DESIRED_ATTACHMENT, Family.DESIRED_NODE, Family.ATTACHMENT, Family.CONNECTION)


class Durations(Protocol):
    """Where measured times go (`runtime.telemetry`)."""

    def attached(self, since_wish_s: float) -> None: ...

    def detached(self, since_wish_s: float) -> None: ...


class WishTimes:
    """Watches the cache and times every attachment that is not settled. What was there at the start counts from then."""

    def __init__(self, cache: Cache, keyspace: Keyspace, clock: Clock, durations: Durations) -> None:
        self._cache = cache
        self._keyspace = keyspace
        self._clock = clock
        self._durations = durations
        self._since: dict[tuple[str, ...], tuple[bool, float]] = {}
        for family in _WATCHED:
            cache.subscribe(keyspace.folder(family), self._changed)

    def oldest_s(self) -> float:
        """Age of the oldest unsettled wish or end of a wish, in seconds; 0 without any."""
        now = self._clock.now()
        return max((now - since for _, since in tuple(self._since.values())), default=0.0)

    def _changed(self, path: str) -> None:
        key = self._keyspace.parse(path)
        if not isinstance(key, Key):
            return
        if key.family is not Family.DESIRED_NODE:
            self._time(key)
            return
        for item in self._cache.prefix(self._keyspace.folder(Family.DESIRED_ATTACHMENT, key.names[0])):
            wish = self._keyspace.parse(item.key)
            if isinstance(wish, Key):
                self._time(wish)

    def _time(self, key: Key) -> None:
        wished = self._item(Family.DESIRED_ATTACHMENT, key) is not None and not self._set_aside(key)
        if self._settled(key, wished):
            known = self._since.pop(key.names, None)
            if known is not None and known[0] == wished:
                measure = self._durations.attached if wished else self._durations.detached
                measure(self._clock.now() - known[1])
        elif self._since.get(key.names, (not wished, 0.0))[0] != wished:
            self._since[key.names] = (wished, self._clock.now())

    def _set_aside(self, key: Key) -> bool:
        """The node is drained: it is as if the wish were gone."""
        return bool(drain_of(Snapshot(self._cache, self._keyspace).see, key.names[0]))

    def _settled(self, key: Key, wished: bool) -> bool:
        item = self._item(Family.ATTACHMENT, key)
        if not wished:
            return item is None and self._item(Family.CONNECTION, key) is None
        status = self._cache.decoded(item) if item is not None else None
        return isinstance(status, AttachmentStatus) and status.phase is AttachmentPhase.ATTACHED

    def _item(self, family: Family, key: Key) -> Item | None:
        return self._cache.get(self._keyspace.path(family, *key.names))
