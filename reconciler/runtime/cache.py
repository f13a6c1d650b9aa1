"""The last known value of every key that somebody watches.

A cache is fed twice over: by reflectors, which bring whatever happens in the store, and by our own transactions, which
are entered as soon as they are answered (`settle`), so that a writer reads its own writes at once and the event that
follows finds nothing left to do. What it says of a key may be old, and may skip values that were there in between, but
it never goes back:

* an item is taken only if its `mod_revision` is higher than that of the item, or of the deletion, known so far;
* a deletion leaves a tombstone with its revision, until the reflector of that prefix has *passed* it. From then on the
  reflector's position says as much: what is absent here and was last changed at or before that position was deleted
  since, whoever brings it again (a slow worker with an old answer in its hand, an event that came twice).

Whoever read the store after the reflector got where it is, is the stronger witness: what a full list or a refused
transaction shows is there, even if the watch never said so.

Values are immutable, so reading one key takes no lock. Subscribers are called after a change, with the key alone and
with no lock held; they look at the cache themselves, and should do no more than fill a work queue.

Prefixes are meant as in `Store.list`: one that ends in a slash means everything below it, another the one key; the
empty one means everything.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from reconciler.runtime.index import Index, Report, Table
from reconciler.runtime.ports import Batch, Clock, Compare, Delete, Event, Item, Listing, Op, TxnResult

_CHUNK = 512
"""Keys that `replace` enters under one hold of the lock, so that a long list does not hold up the workers."""

_SORT_FROM = 16
"""From so many new keys at once, one sort is cheaper than putting each in its place."""


def matches(prefix: str, key: str) -> bool:
    """Whether the key is the prefix, or below it where it ends in a slash or is empty."""
    return key.startswith(prefix) if prefix.endswith("/") or not prefix else key == prefix


class _Feed:
    """A reflector's prefix: how far it got, and the deletions it has yet to pass."""

    __slots__ = ("gone", "passed", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.passed = 0
        self.gone: dict[str, int] = {}


class Cache:
    """A store's keys as last seen. Safe for any number of tasks.

    Args:
        clock: for its lock.
        indexes: further ways to find items.
        decode: what `decoded` makes of an item.
        report: called with a key and an exception that a subscriber or an index raised for it; the cache goes on. It must
            neither wait nor use the cache.
        revision: the store's highest revision known from before (`Cache.revision` begins there).
    """

    def __init__(
        self,
        clock: Clock,
        *,
        indexes: Sequence[Index] = (),
        decode: Callable[[Item], Any] | None = None,
        report: Report | None = None,
        revision: int = 0,
    ) -> None:
        self._lock = clock.lock()
        self._decode = decode
        self._report = report
        self._revision = revision
        self._items: dict[str, Item] = {}
        self._sorted: list[str] = []
        self._memo: dict[str, tuple[int, Any]] = {}  # mod revision, decoded
        self._feeds: dict[str, _Feed] = {}
        self._unfed = _Feed("")
        self._indexes = [Table(index) for index in indexes]
        self._subscribers: tuple[tuple[str, Callable[[str], None]], ...] = ()

    # --- Reading

    @property
    def revision(self) -> int:
        """The highest revision of the store that was ever seen here: a linearizable read can't answer with less."""
        return self._revision

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: str) -> Item | None:
        """The key's last known item."""
        return self._items.get(key)

    def prefix(self, prefix: str) -> tuple[Item, ...]:
        """The items under the prefix, in key order."""
        with self._lock:
            return tuple(map(self._items.__getitem__, self._range(prefix)))

    def select(self, index: str, value: str, at_most: int | None = None) -> tuple[Item, ...]:
        """The items that the named index finds under the value, in key order; `at_most`: any so many of them."""
        table = next(table for table in self._indexes if table.index.name == index)
        with self._lock:
            keys = table.keys.get(value, ())
            return tuple(map(self._items.__getitem__, sorted(islice(keys, at_most))))

    def decoded(self, item: Item) -> Any:
        """What the `decode` given at construction makes of an item, computed once per key and revision.

        It takes the item, not the key, so that the decoded value and the revision that a transaction will compare are of
        the same item. It raises what `decode` raises.
        """
        memo = self._memo.get(item.key)
        if memo is not None and memo[0] == item.mod_revision:
            return memo[1]
        assert self._decode is not None, "this cache was given no decode function"
        value = self._decode(item)
        if self._items.get(item.key) is item:
            self._memo[item.key] = (item.mod_revision, value)
        return value

    def subscribe(self, prefix: str, changed: Callable[[str], None]) -> None:
        """From now on call `changed` with every key under the prefix that changes, once the change can be read here."""
        with self._lock:
            self._subscribers = (*self._subscribers, (prefix, changed))

    # --- Writing: what our own reads and transactions learnt

    def observe(self, item: Item) -> bool:
        """Somebody read or wrote this item. True if it was news."""
        with self._lock:
            news = self._put(item, self._floor(item.key))
        if news:
            self._notify((item.key,))
        return news

    def forget(self, key: str, revision: int) -> bool:
        """Somebody deleted the key at this revision, or found it absent then. True if it was news."""
        with self._lock:
            news = self._delete(key, revision)
        if news:
            self._notify((key,))
        return news

    def settle(self, compares: Sequence[Compare], ops: Sequence[Op], result: TxnResult) -> None:
        """Enter what a transaction did, or, where it was refused, what it found instead.

        A put whose create revision does not follow from the compares is left to the reflector.
        """
        with self._lock:
            if result.succeeded:
                changed = self._settle_done(compares, ops, result.revision)
            else:
                keys = dict.fromkeys(compare.key for compare in compares)
                changed = [key for key in keys if self._find(key, result.found.get(key), result.revision)]
            self._revision = max(self._revision, result.revision)
        self._notify(changed)

    # --- Writing: what reflectors bring

    def feed(self, prefix: str) -> None:
        """A reflector will bring everything under this prefix."""
        with self._lock:
            self._feed(prefix)

    def apply(self, prefix: str, batch: Batch) -> None:
        """A reflector's next events, all under one hold of the lock, and how far they bring it."""
        with self._lock:
            changed = [event.key for event in batch.events if self._happen(event)]
            self._pass(self._feed(prefix), batch.revision)
        self._notify(changed)

    def replace(self, prefix: str, listing: Listing) -> bool:
        """A reflector's full list: take what is new, delete what is gone. False, and nothing is done, if the list is
        from before what the same reflector brought already: then the store itself went back."""
        with self._lock:
            feed = self._feed(prefix)
            if listing.revision < feed.passed:
                return False
        for start in range(0, len(listing.items), _CHUNK):
            with self._lock:
                changed = self._put_listed(listing.items[start : start + _CHUNK], feed.gone)
            self._notify(changed)
        listed = {item.key for item in listing.items}
        with self._lock:
            missing = [key for key in self._range(prefix) if key not in listed]
        gone: list[str] = []  # told when all are gone: whoever looks at one has to see how many went with it
        for start in range(0, len(missing), _CHUNK):
            with self._lock:
                gone += [key for key in missing[start : start + _CHUNK] if self._delete(key, listing.revision)]
        self._notify(gone)
        with self._lock:
            self._pass(feed, listing.revision)
        return True

    # --- Below: with the lock held, but for `_notify`

    def _range(self, prefix: str) -> Sequence[str]:
        if not prefix:
            return self._sorted
        if not prefix.endswith("/"):
            return (prefix,) if prefix in self._items else ()
        after = prefix[:-1] + "0"  # the character that follows the slash
        return self._sorted[bisect_left(self._sorted, prefix) : bisect_left(self._sorted, after)]

    def _happen(self, event: Event) -> bool:
        if event.item is None:
            return self._delete(event.key, event.revision)
        return self._put(event.item, self._floor(event.key))

    def _find(self, key: str, item: Item | None, revision: int) -> bool:
        """The key was read at this revision."""
        return self._delete(key, revision) if item is None else self._put(item, self._floor(key, revision))

    def _put(self, item: Item, floor: int) -> bool:
        """Take the item, if it is newer than what is known; `floor` counts where nothing is."""
        known = self._items.get(item.key)
        if item.mod_revision <= (floor if known is None else known.mod_revision):
            return False
        if known is None:
            insort(self._sorted, item.key)
        self._enter(item)
        return True

    def _put_listed(self, items: Sequence[Item], gone: dict[str, int]) -> list[str]:
        """Take what a list shows, but for what was deleted after it, and return what is news."""
        if sum(item.key not in self._items for item in items) < _SORT_FROM:
            return [item.key for item in items if self._put(item, gone.get(item.key, 0))]
        changed: list[str] = []
        for item in items:
            known = self._items.get(item.key)
            if item.mod_revision > (gone.get(item.key, 0) if known is None else known.mod_revision):
                if known is None:
                    self._sorted.append(item.key)
                self._enter(item)
                changed.append(item.key)
        self._sorted.sort()
        return changed

    def _enter(self, item: Item) -> None:
        self._items[item.key] = item
        self._unfed.gone.pop(item.key, None)
        self._revision = max(self._revision, item.mod_revision)
        for table in self._indexes:
            table.enter(item.key, item, self._report)

    def _delete(self, key: str, revision: int) -> bool:
        known = self._items.get(key)
        if known is not None and revision <= known.mod_revision:
            return False
        self._revision = max(self._revision, revision)
        if known is not None:
            del self._items[key]
            self._memo.pop(key, None)
            del self._sorted[bisect_left(self._sorted, key)]
            for table in self._indexes:
                table.remove(key)
        elif revision <= self._floor(key):
            return False
        feeds = [feed for feed in self._feeds.values() if matches(feed.prefix, key)] or [self._unfed]
        for feed in feeds:
            if revision > feed.passed:
                feed.gone[key] = revision
        return known is not None

    def _settle_done(self, compares: Sequence[Compare], ops: Sequence[Op], revision: int) -> list[str]:
        created = {compare.key: self._created(compare, revision) for compare in compares}
        changed: list[str] = []
        for op in ops:
            if isinstance(op, Delete):
                news = self._delete(op.key, revision)
            else:
                create_revision = created.get(op.key)
                news = create_revision is not None and self._put(
                    Item(op.key, op.value, revision, create_revision, op.lease), self._floor(op.key)
                )
            if news:
                changed.append(op.key)
        return changed

    def _created(self, compare: Compare, revision: int) -> int | None:
        """The create revision of a key that was put at `revision` under this compare, if that can be told."""
        if compare.create_revision is not None:
            return compare.create_revision or revision
        if compare.mod_revision == 0:
            return revision
        known = self._items.get(compare.key)
        return known.create_revision if known is not None and known.mod_revision == compare.mod_revision else None

    def _feed(self, prefix: str) -> _Feed:
        feed = self._feeds.get(prefix)
        if feed is None:
            feed = self._feeds[prefix] = _Feed(prefix)
            feed.gone = {key: gone for key, gone in self._unfed.gone.items() if matches(prefix, key)}
            for key in feed.gone:
                del self._unfed.gone[key]
        return feed

    def _floor(self, key: str, read_at: int = 0) -> int:
        """What was last changed at or before this revision, and is not here, is known to be deleted.

        Args:
            read_at: the revision at which the key was read, if that is known: it was there then, so reflectors that have
                not got further don't count.
        """
        floor = self._unfed.gone.get(key, 0)
        for feed in self._feeds.values():
            if matches(feed.prefix, key):
                floor = max(floor, feed.passed if feed.passed > read_at else 0, feed.gone.get(key, 0))
        return floor

    def _pass(self, feed: _Feed, revision: int) -> None:
        feed.passed = max(feed.passed, revision)
        self._revision = max(self._revision, revision)
        if feed.gone:
            feed.gone = {key: gone for key, gone in feed.gone.items() if gone > revision}

    def _notify(self, keys: Iterable[str]) -> None:
        for key in keys:
            for prefix, changed in self._subscribers:
                if matches(prefix, key):
                    try:
                        changed(key)
                    except Exception as error:
                        if self._report is not None:
                            self._report(key, error)
