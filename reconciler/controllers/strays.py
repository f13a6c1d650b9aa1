"""Users' keys that belong to no volume's reconcile: unreadable node wishes, and keys that are no keys at all.

Answered by the cluster's leader, one verdict each; the keys themselves are never touched.
"""

from __future__ import annotations

from collections.abc import Callable

from reconciler.controllers.snapshot import Snapshot, Writer, stored
from reconciler.controllers.verdicts import Remarks, refusals, rfc3339, verdict_changes
from reconciler.runtime.cache import Cache
from reconciler.runtime.controller import Done, Result
from reconciler.runtime.ports import Clock, Compare, Delete, Put, Store
from schema.codec import Malformed
from schema.keys import Family, Key, Keyspace, Unparsable
from schema.models import Condition, Verdict


class StrayReconciler:
    """Reconciles full key paths: those below `desired/` that do not parse, and `desired/nodes/<node>`."""

    def __init__(
        self,
        *,
        store: Store,
        cache: Cache,
        keyspace: Keyspace,
        clock: Clock,
        guard: Callable[[], Compare | None],
        refused: Callable[[Key, Condition], None] = lambda _key, _condition: None,
    ) -> None:
        self._refused = refused
        self._store = store
        self._cache = cache
        self._keyspace = keyspace
        self._clock = clock
        self._guard = guard
        self._writer = Writer(store, cache, keyspace)

    def reconcile(self, path: str) -> Result:
        guard = self._guard()
        if guard is not None:
            key = self._keyspace.parse(path)
            if isinstance(key, Unparsable):
                self._answer_unparsable(key, guard)
            elif key.family is Family.DESIRED_NODE:
                self._answer_node(key, guard)
        return Done()

    def _answer_node(self, key: Key, guard: Compare) -> None:
        snapshot = Snapshot(self._cache, self._keyspace)
        seen = snapshot.see(key)
        remarks = Remarks()
        if seen is not None and isinstance(seen.value, Malformed):
            remarks.add(key, "Accepted", "Malformed", f"{seen.value}; it counts as a cordon until it can be read")
        puts, deletes = verdict_changes(snapshot, [key], remarks, rfc3339(self._clock.wall()))
        if puts or deletes:
            self._writer.commit(snapshot, [each for each, _ in puts] + deletes, puts, deletes, (guard,))
            for each, condition in refusals(puts, snapshot):
                self._refused(each, condition)

    def _answer_unparsable(self, stray: Unparsable, guard: Compare) -> None:
        """The verdict's name is made of the path, so it is written as a path too."""
        item = self._cache.get(stray.path)
        answer = self._keyspace.verdict_unparsable(stray.path)
        present = self._cache.get(answer)
        compares = [Compare(answer, mod_revision=present.mod_revision if present else 0), guard]
        if item is None:
            if present is not None:
                self._transact(compares, Delete(answer))
            return
        known = self._cache.decoded(present) if present else None
        if isinstance(known, Verdict) and known.generation == item.mod_revision:
            return
        condition = Condition(
            type="Accepted",
            status="False",
            reason="UnparsableKey",
            message=stray.fault,
            since=rfc3339(self._clock.wall()),
            observed_generation=item.mod_revision,
        )
        self._transact(compares, Put(answer, stored(Verdict(generation=item.mod_revision, conditions=(condition,)))))
        self._refused(Key(Family.VERDICT_UNPARSABLE, (stray.path,)), condition)

    def _transact(self, compares: list[Compare], op: Put | Delete) -> None:
        result = self._store.txn(compares, (op,))
        self._cache.settle(compares, (op,), result)
