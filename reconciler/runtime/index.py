"""Second ways to find the items of a cache: by a volume's name, by what a value says.

An index is a function from an item to the values under which it wants to be found. What it answered is kept with the item,
so that an item is taken off where it was put, whatever the function would say of it now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reconciler.runtime.ports import Item

Report = Callable[[str, Exception], None]
"""Is told of a key, and of what some function of ours raised for it."""


@dataclass(frozen=True, slots=True)
class Index:
    """A second way to find items.

    Args:
        name: what `select` is asked for.
        keys: the values under which an item is found, from its key and itself. It runs with the cache's lock held, so it
            must not wait, nor use the cache, but for `decoded`. If it raises, the item is found under no value, and the
            fault is reported.
    """

    name: str
    keys: Callable[[str, Item], Iterable[str]]


class Table:
    """What one index has found: the keys under each value, and the values of each key."""

    __slots__ = ("index", "keys", "values")

    def __init__(self, index: Index) -> None:
        self.index = index
        self.keys: dict[str, set[str]] = {}
        self.values: dict[str, tuple[str, ...]] = {}

    def enter(self, key: str, item: Item, report: Report | None) -> None:
        """The item is there, or has changed."""
        try:
            values = tuple(dict.fromkeys(self.index.keys(key, item)))
        except Exception as error:
            values = ()
            if report is not None:
                report(key, error)
        if values == self.values.get(key, ()):
            return
        self.remove(key)
        if values:
            self.values[key] = values
        for value in values:
            self.keys.setdefault(value, set()).add(key)

    def remove(self, key: str) -> None:
        """The item is gone."""
        for value in self.values.pop(key, ()):
            keys = self.keys[value]
            keys.discard(key)
            if not keys:
                del self.keys[value]
