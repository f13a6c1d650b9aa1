"""Watches on exactly the keys that concern an object, for `wait`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from client import facts
from client.known import Reader
from client.names import Ref
from client.session import Session
from reconciler.runtime.ports import Clock, Compacted, Denied, PortError, Store
from schema.keys import Family, Key


def paths(session: Session, reader: Reader, meant: Ref) -> list[str]:
    """The keys and folders whose changes may matter to an object."""
    keyspace = session.keyspace
    if meant.kind == "attachment":
        node, volume = meant.names
        keys = facts.keys_around(node, volume)
        keys += facts.keys_above(reader.together(keys), volume)
        folders = [keyspace.folder(family, node) for family in (Family.FENCE, Family.FENCED)]
    elif meant.kind == "volume":
        keys, folders = facts.volume_keys(meant.names[0]), []
        keys += facts.keys_above(reader.together(keys), meant.names[0])
    else:
        single = (Family.DESIRED_NODE, Family.NODE, Family.ALIVE, Family.VERDICT_NODE)
        keys = [Key(family, meant.names) for family in single]
        folders = [keyspace.folder(Family.FENCE, meant.names[0])]
    return [*(keyspace.path(key.family, *key.names) for key in keys), *folders]


class Watching:
    """Says when something happened to any of some keys, each watched in a task of its own.

    Made before the first look: what happens from then on is not missed.
    """

    def __init__(self, store: Store, clock: Clock, paths: Iterable[str]) -> None:
        self._store = store
        self._clock = clock
        self._paths = list(dict.fromkeys(paths))
        self._stop = clock.signal()
        self._news = clock.signal()
        self._fault: PortError | None = None
        self._started = False
        self._start = self._revision()

    def news(self, deadline: float) -> bool:
        """Wait for something to happen. False: the time is over. Raises what ended a watch."""
        if not self._started:
            self._started = True
            for path in self._paths:
                self._clock.spawn(f"watch {path}", partial(self._follow, path, self._start))
        arrived = self._news.wait(max(0.0, deadline - self._clock.now()))
        self._news.clear()
        if self._fault is not None:
            raise self._fault
        return arrived

    def end(self) -> None:
        """The tasks end when they notice."""
        self._stop.set()

    def _revision(self) -> int:
        """The store's, as any key that may be read tells it."""
        for path in self._paths:
            try:
                return self._store.list(path).revision
            except Denied:
                continue
        raise Denied("your user may read none of the keys concerned: ask for a role that may")

    def _follow(self, path: str, after: int) -> None:
        try:
            while not self._stop.is_set():
                after = self._watch(path, after)
        except Denied:
            return  # the roles hide it: the other keys have to do
        except PortError as error:
            self._fault = error
            self._news.set()

    def _watch(self, path: str, after: int) -> int:
        """One watch, until it ends; the revision to go on from."""
        try:
            for batch in self._store.watch(path, after, self._stop):
                after = batch.revision
                if batch.events:
                    self._news.set()
        except Compacted:
            after = self._store.list(path).revision
            self._news.set()
        return after
