"""One look at the keys for one reconcile, and the transactions that rest on it.

A reconcile sees each key once. What a step's transaction compares is exactly what was seen: the mod revision of each key that
the planner named, or its absence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from reconciler.core.reading import Seen
from reconciler.runtime.cache import Cache
from reconciler.runtime.ports import (
    Compare,
    Delete,
    Item,
    Op,
    Put,
    Retryable,
    Store,
    Terminal,
    TooLarge,
    UnknownOutcome,
)
from schema.codec import Oversize, Unstorable, encode, unknown_fields, with_unknown
from schema.keys import Family, Key, Keyspace

T = TypeVar("T", bound=BaseModel)


class Conflict(Retryable):
    """A fact that the step relied on has changed: nothing was done. The cache has been brought up to date."""


class Unanswered(UnknownOutcome):
    """The store's answer to a transaction was lost: it may have happened. Reading the keys again tells."""


def stored(value: BaseModel, unknown: Mapping[str, Any] | None = None) -> bytes:
    """The value as a key holds it. Raises TooLarge, which is told like any other refusal of the store's.

    Args:
        unknown: fields that a newer daemon wrote into it.
    """
    try:
        return with_unknown(encode(value), unknown or {})
    except Oversize as error:
        raise TooLarge(f"can't be stored: {error}") from error
    except Unstorable as error:
        raise Terminal(f"can't be stored: {error}") from error


class Snapshot:
    """What one reconcile has seen."""

    def __init__(self, cache: Cache, keyspace: Keyspace) -> None:
        self._cache = cache
        self._keyspace = keyspace
        self._seen: dict[Key, Seen | None] = {}
        self._items: dict[Key, Item | None] = {}

    def see(self, key: Key) -> Seen | None:
        """The key as it was at the first look."""
        if key not in self._seen:
            item = self._cache.get(self._keyspace.path(key.family, *key.names))
            self._items[key] = item
            self._seen[key] = (
                None if item is None else Seen(self._cache.decoded(item), item.mod_revision, item.create_revision)
            )
        return self._seen[key]

    def value(self, key: Key, model: type[T]) -> T | None:
        """The value where it is there and readable."""
        seen = self.see(key)
        return seen.value if seen is not None and isinstance(seen.value, model) else None

    def unknown(self, key: Key, after: BaseModel) -> Mapping[str, Any]:
        """What a newer daemon wrote into the value that `after` takes the place of; nothing where that tells of another grant."""
        seen, item = self.see(key), self._items.get(key)
        if seen is None or item is None or not isinstance(seen.value, type(after)):
            return {}
        same = all(getattr(seen.value, name, None) == getattr(after, name, None) for name in ("uid", "epoch"))
        return unknown_fields(type(after), item.value) if same else {}

    def revision(self, key: Key) -> int:
        """Mod revision, 0 where the key is absent."""
        seen = self.see(key)
        return 0 if seen is None else seen.mod_revision

    def compares(self, keys: Iterable[Key]) -> list[Compare]:
        return [
            Compare(self._keyspace.path(key.family, *key.names), mod_revision=self.revision(key))
            for key in dict.fromkeys(keys)
        ]


class Writer:
    """Confirms and commits what rests on a snapshot, and applies our own writes to the cache at once.

    Reading our own writes from the cache saves a round trip through the watch: the next step can be planned right away.
    """

    def __init__(self, store: Store, cache: Cache, keyspace: Keyspace) -> None:
        self._store = store
        self._cache = cache
        self._keyspace = keyspace

    def confirm(self, snapshot: Snapshot, keys: Iterable[Key], guard: Iterable[Compare] = ()) -> None:
        """The read-only transaction right before an external call. Raises Conflict when the facts are no longer so."""
        self._transact([*snapshot.compares(keys), *guard], ())

    def listed(self, family: Family) -> Sequence[Item]:
        """All keys of a family as they are in the store now, whatever the cache knows."""
        return self._store.list(self._keyspace.folder(family)).items

    def commit(
        self,
        snapshot: Snapshot,
        keys: Iterable[Key],
        puts: Iterable[tuple[Key, BaseModel]] = (),
        deletes: Iterable[Key] = (),
        guard: Iterable[Compare] = (),
    ) -> int:
        """One write transaction; returns its revision. Raises Conflict, TooLarge, UnknownOutcome and the store's errors."""
        ops: list[Op] = [Put(self._path(key), stored(value, snapshot.unknown(key, value))) for key, value in puts]
        ops += [Delete(self._path(key)) for key in deletes]
        return self._transact([*snapshot.compares(keys), *guard], tuple(ops))

    def _transact(self, compares: list[Compare], ops: tuple[Op, ...]) -> int:
        try:
            result = self._store.txn(compares, ops)
        except UnknownOutcome as error:
            raise Unanswered(str(error)) from error
        self._cache.settle(compares, ops, result)
        if result.succeeded:
            return result.revision
        found = {key: item.mod_revision for key, item in result.found.items()}
        changed = [
            compare.key.removeprefix(self._keyspace.prefix)
            for compare in compares
            if compare.mod_revision is not None and found.get(compare.key, 0) != compare.mod_revision
        ]
        raise Conflict(f"changed meanwhile: {', '.join(changed) or 'the leader'}")

    def _path(self, key: Key) -> str:
        return self._keyspace.path(key.family, *key.names)
