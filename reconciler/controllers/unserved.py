"""Volumes whose backend is in nobody's settings: what is attached stays so, and nothing more happens to them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from reconciler.runtime.cache import Cache
from schema.bounds import several
from schema.keys import Family, Keyspace
from schema.models import Record


def told(cache: Cache, keyspace: Keyspace, served: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each backend that volumes are recorded on, and that neither this controller serves nor another one leads; and a sentence."""
    folder = keyspace.folder(Family.RECORD)
    of: dict[str, list[str]] = {}
    held: dict[str, list[str]] = {}
    for item in cache.prefix(folder):
        record = cache.decoded(item)
        if isinstance(record, Record) and record.backend not in served:
            name = item.key.removeprefix(folder)
            of.setdefault(record.backend, []).append(name)
            held.setdefault(record.backend, []).extend([name] if record.exports else [])
    for backend, names in sorted(of.items()):
        if cache.get(keyspace.path(Family.LEADER, backend)) is None:
            attached = f", of which are attached: {several(held[backend])}" if held[backend] else ""
            yield (
                backend,
                f"backend {backend} is in no settings here, and no controller leads it: {len(names)} volumes are recorded on it"
                f"{attached}. They can't be detached, moved or deleted until it is back in a controller's settings",
            )
