"""What the controller knows around one volume: which nodes have keys on it, who lives, who shares an identifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from reconciler.controllers.keeper import Keeper, volume_data
from reconciler.controllers.vanished import VanishedVolumes
from reconciler.core.mass import MassRule
from reconciler.core.reading import Around
from reconciler.runtime.cache import Cache
from reconciler.runtime.ports import Item, VolumeData
from schema.keys import Family, Key, Keyspace
from schema.models import Intent, Record

BY_VOLUME = "volume"
"""Cache index: keys by the volume they name."""
BY_BACKEND = "backend"
"""Cache index: `records/` keys of volumes that may be on a backend, those that are being deleted as `<backend>/leaving`."""
BY_IDENTIFIER = "identifier"
"""Cache index: `nodes/` keys by `<property>=<value>` of their connector properties."""

WITNESSES = 8
"""So many other volumes are looked for where one that is to be deleted can't be found."""
IDENTIFIERS = ("initiator", "nqn", "nvme_hostid", "uuid", "wwpns")
"""Connector properties that some protocol needs to be unique among nodes (A17)."""


def volume_of(keyspace: Keyspace, path: str) -> tuple[str, ...]:
    """The index entry of a key under `BY_VOLUME`."""
    key = keyspace.parse(path)
    volume = key.volume if isinstance(key, Key) else None
    return () if volume is None else (volume,)


def backend_of(record: Record) -> tuple[str, ...]:
    """The index entry of a record under `BY_BACKEND`. What is still to be made is on none."""
    match record.intent:
        case None | Intent.EXTEND:
            return (record.backend,)
        case Intent.DELETE:
            return (f"{record.backend}/leaving",)
        case Intent.CREATE | Intent.IMPORT:
            return ()


def identifiers_of(connector: Mapping[str, object]) -> Iterable[str]:
    """The index entries of a node under `BY_IDENTIFIER`. Arrays don't tell upper from lower case."""
    for name in IDENTIFIERS:
        value = connector.get(name)
        for each in value if isinstance(value, list) else [value]:
            if each:
                yield f"{name}={each}".casefold()


class Surroundings:
    """Answers from the cache's indexes; nothing here walks all keys."""

    def __init__(
        self, cache: Cache, keyspace: Keyspace, keepers: Mapping[str, Keeper], mass: Callable[[], MassRule]
    ) -> None:
        self._cache = cache
        self._keyspace = keyspace
        self._keepers = keepers
        self._vanished = VanishedVolumes(cache, keyspace, mass)
        self._twins: dict[tuple[str, str], str] = {}
        """Node and backend -> the node whose record keeps it from being granted anything there."""

    def around(self, volume: str) -> Around:
        vanished = self._vanished
        return Around(
            names=tuple(self._nodes(volume)),
            twin=self._twin,
            fences=self._boots,
            alive=self._alive,
            deletion_paused=vanished.why_paused,
            deletion_confirmed=vanished.is_answered,
        )

    def others(self, backend: str, besides: str) -> Sequence[VolumeData]:
        """Some of the backend's other volumes. Those that are being deleted come last: they may be gone, and are still recorded."""
        items = self._cache.select(BY_BACKEND, backend, WITNESSES + 1)
        if len(items) <= WITNESSES:
            items += self._cache.select(BY_BACKEND, f"{backend}/leaving", WITNESSES + 1)
        read = ((item.key.rsplit("/", 1)[1], self._cache.decoded(item)) for item in items)
        found = (volume_data(name, record) for name, record in read if name != besides and isinstance(record, Record))
        return tuple(islice(found, WITNESSES))

    def _nodes(self, volume: str) -> Iterable[str]:
        for item in self._cache.select(BY_VOLUME, volume):
            key = self._keyspace.parse(item.key)
            if isinstance(key, Key) and key.node is not None:
                yield key.node

    def _boots(self, family: Family, node: str) -> frozenset[str]:
        folder = self._keyspace.folder(family, node)
        return frozenset(item.key.removeprefix(folder) for item in self._cache.prefix(folder))

    def _alive(self, node: str) -> bool:
        return self._cache.get(self._keyspace.path(Family.ALIVE, node)) is not None

    def waiting_for(self, node: str) -> tuple[str, ...]:
        """The nodes that wait for a change of this node's record."""
        return tuple({waiting for (waiting, _), twin in tuple(self._twins.items()) if twin == node})

    def _twin(self, node: str, backend: str) -> str | None:
        """Another node that published one of this node's identifiers before it: the first keeps working (A17).

        Who waits is noted before the answer counts: the other record may change between the look and the note.
        """
        told = self._look_for_twin(node, backend)
        while told is not None and self._twins.get((node, backend)) != told[0]:
            self._twins[node, backend] = told[0]
            told = self._look_for_twin(node, backend)
        return f"{told[0]} ({told[1]})" if told else None

    def _look_for_twin(self, node: str, backend: str) -> tuple[str, str] | None:
        """The other node, and which identifier it is."""
        keeper = self._keepers.get(backend)
        wanted = keeper.info.identifiers if keeper and keeper.info else ()
        own = self._cache.get(self._keyspace.path(Family.NODE, node))
        if own is None or not wanted:
            return None
        connector = getattr(self._cache.decoded(own), "connector", {})
        for entry in identifiers_of(connector):
            if entry.split("=", 1)[0] not in wanted:
                continue
            older = [item for item in self._cache.select(BY_IDENTIFIER, entry) if _before(item, own)]
            if older:
                return older[0].key.rsplit("/", 1)[1], entry.split("=", 1)[0]
        return None


def _before(item: Item, own: Item) -> bool:
    return item.key != own.key and (item.create_revision, item.key) < (own.create_revision, own.key)
