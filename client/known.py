"""Keys as read. What belongs together is read together: in one transaction, at one revision.

Only what users may read is asked for. `explain` alone looks at `grants/`, `records/` and `connections/` as well, and does
without them where the store's roles say no.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from pydantic import BaseModel

from reconciler.core.reading import Seen
from reconciler.runtime.ports import Compare, Denied, Item, Store
from schema.codec import Malformed, decode_family
from schema.keys import Family, Key, Keyspace, Unparsable

T = TypeVar("T", bound=BaseModel)

TOGETHER_MAX = 100
"""Keys in one transaction; etcd takes 128."""


class Known:
    """Keys as read, decoded when asked for."""

    def __init__(self, keyspace: Keyspace) -> None:
        self.keyspace = keyspace
        self.denied: set[Family] = set()
        self.strays: list[Unparsable] = []
        """Keys below `desired/` that mean nothing: somebody meant something by them."""
        self.revision = 0
        self._items: dict[Key, Item] = {}
        self._seen: dict[Key, Seen] = {}
        self._below: dict[tuple[Family, str], set[Key]] = {}
        self._of: dict[Family, set[Key]] = {}

    def add(self, item: Item) -> None:
        key = self.keyspace.parse(item.key)
        if isinstance(key, Key):
            self._items[key] = item
            self._seen.pop(key, None)
            self._of.setdefault(key.family, set()).add(key)
            self._below.setdefault((key.family, key.names[0]), set()).add(key)
        elif key.desired:
            self.strays.append(key)

    def forget(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if self._items.pop(key, None) is not None:
                self._seen.pop(key, None)
                self._of[key.family].discard(key)
                self._below[key.family, key.names[0]].discard(key)

    def see(self, key: Key) -> Seen | None:
        item = self._items.get(key)
        if item is None:
            return None
        if key not in self._seen:
            value = decode_family(key.family, item.value)
            self._seen[key] = Seen(value, item.mod_revision, item.create_revision)
        return self._seen[key]

    def value(self, key: Key, model: type[T]) -> T | Malformed | None:
        """The value; Malformed too where the roles hide it: a key that can't be seen is not an absent one."""
        seen = self.see(key)
        if seen is None:
            return Malformed("$", "your user may not read it") if key.family in self.denied else None
        return seen.value if isinstance(seen.value, model | Malformed) else None

    def revision_of(self, key: Key) -> int:
        item = self._items.get(key)
        return item.mod_revision if item else 0

    def keys(self, *families: Family) -> Iterator[Key]:
        return (key for family in families for key in self._of.get(family, ()))

    def below(self, first: str, *families: Family) -> Iterator[Key]:
        """Keys by their first name."""
        return (key for family in families for key in self._below.get((family, first), ()))

    def boots(self, node: str) -> frozenset[str]:
        """The boots of a node with a statement against them."""
        return frozenset(key.names[1] for key in self.below(node, Family.FENCE, Family.FENCED))

    def must_see(self, *families: Family) -> None:
        """Raises Denied where the roles hide what a command can't do without."""
        hidden = sorted(family.path for family in self.denied.intersection(families))
        if hidden:
            raise Denied(f"your user may not read {', '.join(hidden)}: ask for a role that may")


class Reader:
    """Reads keys into a `Known`."""

    def __init__(self, store: Store, keyspace: Keyspace) -> None:
        self._store = store
        self._keyspace = keyspace
        self.prefix = keyspace.prefix
        self._heard = False
        """Something could be read. Who may read nothing at all is a stranger: a wrong password, or no role."""

    def families(self, *families: Family, under: tuple[str, ...] = ()) -> Known:
        """Whole families, or what lies under the first names given."""
        known = Known(self._keyspace)
        refused = [error for family in families if (error := self.more(known, family, *under))]
        self._reject_strangers(refused)
        return known

    def more(self, known: Known, family: Family, *under: str) -> Denied | None:
        """Add a family to what is known. The error, where the roles hide it."""
        try:
            listing = self._store.list(self._keyspace.folder(family, *under))
        except Denied as error:
            known.denied.add(family)
            return error
        self._heard = True
        known.revision = max(known.revision, listing.revision)
        for item in listing.items:
            known.add(item)
        return None

    def together(self, keys: Iterable[Key], into: Known | None = None) -> Known:
        """Exactly these keys, as they were at one moment (in batches, where there are very many).

        A transaction that asserts that none of them is there answers, where that is wrong, with all that are.
        """
        known = into or Known(self._keyspace)
        wanted = list(dict.fromkeys(keys))
        known.forget(wanted)
        for start in range(0, len(wanted), TOGETHER_MAX):
            batch = wanted[start : start + TOGETHER_MAX]
            try:
                result = self._store.txn([Compare(self._path(key), mod_revision=0) for key in batch])
            except Denied:
                self._one_by_one(known, batch)
                continue
            self._heard = True
            known.revision = result.revision
            for item in result.found.values():
                known.add(item)
        return known

    def _one_by_one(self, known: Known, keys: list[Key]) -> None:
        """The roles hide some of them: find out which."""
        refused = []
        for key in keys:
            try:
                item = self._store.get(self._path(key))
            except Denied as error:
                known.denied.add(key.family)
                refused.append(error)
                continue
            self._heard = True
            if item is not None:
                known.add(item)
        self._reject_strangers(refused)

    def _reject_strangers(self, refused: list[Denied]) -> None:
        if refused and not self._heard:
            raise refused[0]

    def _path(self, key: Key) -> str:
        return self._keyspace.path(key.family, *key.names)
