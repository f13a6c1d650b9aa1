"""What the last value of a key was that is gone: asked of the store's history, for who missed its end.

A watch, and still more a cache, may skip what was there for a moment, and a daemon that was not there heard nothing at all. etcd
keeps every value until it is compacted away.
"""

from __future__ import annotations

from typing import NamedTuple

from reconciler.runtime.ports import Compacted, Item, Store


class Ended(NamedTuple):
    """A key that is gone. `item`: its last value; `revision`: of its deletion."""

    item: Item
    revision: int


def last_value(store: Store, key: str, known: int, at: int) -> Ended:
    """The last value of a key that was absent at a revision.

    Args:
        known: a revision at which the key is known to have been put or deleted; 0: none is known.
        at: when it was absent. What came later does not count.

    Raises:
        Compacted: the store no longer knows.
        Retryable: the store does not answer.
    """
    before = _last_seen(store, key, known, at)
    item, ended = before.item, None
    for event in store.history(key, before.revision):
        if event.revision > at:
            break
        if event.item is not None:
            item = event.item
        else:
            ended = Ended(item, event.revision)
    if ended is None:
        raise Compacted(f"{key} was not known to be gone at revision {at}")
    return ended


def _last_seen(store: Store, key: str, known: int, now: int) -> Ended:
    """A value that the key had once, and a revision from which on its history tells of what came after: the key was there right
    before, and is not now. Looked for from now backwards, in doubled strides, for the end is mostly not long ago: reading all that
    happened in the store since long ago costs much more."""
    absent_at, stride, oldest = now, 1, max(known, 1)
    while absent_at > oldest:
        at = max(now - stride, oldest)
        try:
            item = store.past(key, at)
        except Compacted:
            return _at_the_edge(store, key, at, absent_at)
        if item is not None:
            return Ended(item, at + 1)
        absent_at, stride = at, stride * 2
    item = store.past(key, known - 1) if known > 1 else None
    if item is None:
        raise Compacted(f"{key} was not there at revision {absent_at}, nor is it known when it was")
    return Ended(item, known)


def _at_the_edge(store: Store, key: str, compacted: int, absent_at: int) -> Ended:
    """The same between a revision that is compacted away and one at which the key was absent."""
    while absent_at - compacted > 1:
        at = (compacted + absent_at) // 2
        try:
            item = store.past(key, at)
        except Compacted:
            compacted = at
            continue
        if item is not None:
            return Ended(item, at + 1)
        absent_at = at
    raise Compacted(f"what {key} was before revision {absent_at} is gone from the store")
