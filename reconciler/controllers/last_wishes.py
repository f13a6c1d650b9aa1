"""What the wishes for volumes said last, for those that are gone: heard from the watch, or asked of the store's history.

The watch brings every change in order, so a controller that has listened since the record's word on a wish knows whether the wish
changed since. What happened before it listened, and what the wish said in between, only the store's history tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.core.reading import spec_view
from reconciler.core.views import Bad, LastWish, RecordView, VolumeView
from reconciler.core.volume_wish import RECENT, asks_for_history, is_noted
from reconciler.runtime.history import last_value
from reconciler.runtime.ports import Compacted, Event, Retryable, Store
from schema.codec import decode
from schema.keys import Family, Keyspace
from schema.models import VolumeSpec


class LastWishes:
    """Listens to one reflector, and asks the store."""

    def __init__(self, store: Store, keyspace: Keyspace) -> None:
        self._store = store
        self._keyspace = keyspace
        self._folder = keyspace.folder(Family.DESIRED_VOLUME)
        self._since = 0
        self._changed: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._position = 0

    def listen(self, events: Sequence[Event] | None, revision: int) -> None:
        """A reflector's listener."""
        if events is None:
            self._since = revision
            self._changed.clear()
        else:
            for event in events:
                if event.key.startswith(self._folder):
                    self._changed[event.key.removeprefix(self._folder)] = event.revision
        self._position = revision

    def complete(self, view: VolumeView, record_revision: int) -> VolumeView:
        """The view with what it needs of the past. Raises the store's errors."""
        record = view.record
        if not isinstance(record, RecordView):
            return view
        if record.heard > record_revision:  # it was copied from another store, whose revisions say nothing here
            record = replace(record, heard=0)
            view = replace(view, record=record, generation=0)
        position = self._position  # before what is known up to it: `listen` writes it last
        heard = max(record.heard or view.generation, self._asked.get(view.volume, 0))
        changed = self._changed.get(view.volume, 0) > heard
        quiet = heard >= self._since and not changed
        if not asks_for_history(view, quiet=quiet):
            return replace(view, proven=quiet and position >= record_revision)
        if record.unproven:
            return replace(view, last=self._ask(view, record, record_revision))
        kept = is_noted(view, record) and record.on_delete != "delete" and not changed
        if kept and not 0 < position - heard <= RECENT:
            self._asked[view.volume] = position
            return view
        listing = self._store.list(self._path(view.volume))
        if listing.items:
            raise Retryable(f"volume {view.volume} is wished for again")
        last = self._ask(view, record, listing.revision)
        # What history told that is not in the record yet is asked for anew at each look, until it is: other steps may come first.
        is_in_record = last.spec is not None and last.revision <= record.heard and is_noted(view, record)
        if is_in_record or (kept and last.spec is None):
            self._asked[view.volume] = listing.revision
        return view if kept and last.spec is None else replace(view, last=last)

    def forget(self, volume: str) -> None:
        """Neither a record nor a wish of it is left."""
        self._asked.pop(volume, None)
        self._changed.pop(volume, None)

    def _ask(self, view: VolumeView, record: RecordView, at: int) -> LastWish:
        """What the last wish said that was gone at this revision."""
        try:
            ended = last_value(self._store, self._path(view.volume), record.heard or view.generation, at)
        except Compacted:
            return LastWish(None, at)
        spec = decode(VolumeSpec, ended.item.value)
        known = spec_view(spec, ended.item.mod_revision) if isinstance(spec, VolumeSpec) else Bad(str(spec))
        return LastWish(known, ended.revision)

    def _path(self, volume: str) -> str:
        return self._keyspace.path(Family.DESIRED_VOLUME, volume)
