"""The fence agent at work: watch who is silent, ask the power switch, write down what it proved.

`look` is called each second and after each change. It sees all nodes, asks `plan_fence`, and fences at most one: confirm, run the
command, record, as with every external call. Silence is counted by this process alone, from look to look: a pause of its own, or
a store that does not answer, and counting begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from reconciler.controllers.snapshot import Conflict, Snapshot, Writer
from reconciler.controllers.verdicts import rfc3339
from reconciler.core.connectors import fit_for_drivers
from reconciler.core.plan_fence import Hold, Limits, Plan, Watched, plan_fence
from reconciler.runtime.backoff import Backoff
from reconciler.runtime.cache import Cache
from reconciler.runtime.ports import Clock, Compare, Fencer, FenceTarget, PortError, Retryable, Store
from schema.keys import Family, Key, Keyspace
from schema.models import FenceStatement, HolderPhase, NodeRecord, VolumeStatus

LOOK_S = 1.0
"""Between two looks while nothing changes."""
GAP_S = 5.0
"""After a longer pause between two looks, nobody knows what was meanwhile: silence is counted anew."""

Tell = Callable[[str, str, str], None]
"""Node, what came of it (`fenced`, `not_now`, `failed`, `overtaken`), and the details."""


class FenceOptions(NamedTuple):
    limits: Limits
    who: str
    """Signs the statements."""
    only_awaited: bool = True
    """Fence only for volumes that another node is wished to have."""


class Fencing:
    """One agent. `guard`: the compare that fences every write; None while another agent leads."""

    def __init__(
        self,
        *,
        store: Store,
        cache: Cache,
        keyspace: Keyspace,
        clock: Clock,
        fencer: Fencer,
        options: FenceOptions,
        guard: Callable[[], Compare | None],
        backoff: Callable[[], Backoff],
        tell: Tell,
    ) -> None:
        self._cache = cache
        self._keyspace = keyspace
        self._clock = clock
        self._fencer = fencer
        self._options = options
        self._guard = guard
        self._new_backoff = backoff
        self._tell = tell
        self._writer = Writer(store, cache, keyspace)
        self._looked = clock.now()
        self._silent: dict[tuple[str, str], float] = {}
        self._recent: dict[str, float] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._not_before: dict[str, float] = {}
        self.held: dict[str, Hold] = {}
        """Who is held back now, and why: for metrics."""

    def look(self) -> None:
        """One look at everything, and at most one fence. Raises the store's errors; silence is counted anew then."""
        now = self._clock.now()
        if now - self._looked > GAP_S:
            self._silent.clear()
        self._looked = now
        nodes = list(self._nodes(now))
        self._confirm_silence(nodes)
        plan = self._plan(nodes, now)
        self.held = dict(plan.held)
        guard = self._guard()
        if plan.fence is not None and guard is not None:
            self._fence(plan.fence, guard)

    def _plan(self, nodes: list[Watched], now: float) -> Plan:
        return plan_fence(nodes, self._recent, self._not_before, self._options.limits, now)

    # --- seeing

    def _nodes(self, now: float) -> Iterable[Watched]:
        """All published nodes. The tables of silence and of recent fences are brought up to date on the way."""
        snapshot, holds = Snapshot(self._cache, self._keyspace), self._held_volumes()
        known: set[tuple[str, str]] = set()
        for item in self._cache.prefix(self._keyspace.folder(Family.NODE)):
            key = self._keyspace.parse(item.key)
            record = self._cache.decoded(item)
            if not (isinstance(key, Key) and isinstance(record, NodeRecord)):
                continue
            node, life = key.names[0], (key.names[0], record.boot)
            known.add(life)
            fenced = snapshot.see(Key(Family.FENCE, life)) is not None
            if fenced:  # by whomever: it counts from when we saw it, as long as the node has not returned
                self._recent.setdefault(node, now)
            if snapshot.see(Key(Family.ALIVE, (node,))) is not None:
                self._silent.pop(life, None)
                self._forget_failures(node)
            else:
                self._silent.setdefault(life, now)
            yield Watched(node, record.boot, self._silent.get(life), tuple(holds.get(life, ())), fenced)
        for gone in self._silent.keys() - known:
            del self._silent[gone]
        window_s = self._options.limits.window_s
        for node in [
            node for node, when in self._recent.items() if now - when >= window_s and not self._is_fenced(node)
        ]:
            del self._recent[node]

    def _is_fenced(self, node: str) -> bool:
        """The published boot is."""
        snapshot = Snapshot(self._cache, self._keyspace)
        record = snapshot.value(Key(Family.NODE, (node,)), NodeRecord)
        return record is not None and snapshot.see(Key(Family.FENCE, (node, record.boot))) is not None

    def _held_volumes(self) -> dict[tuple[str, str], list[str]]:
        """By node and boot: what it was granted, and, if that is asked for, what others wait for."""
        wishes: dict[str, set[str]] = {}
        for item in self._cache.prefix(self._keyspace.folder(Family.DESIRED_ATTACHMENT)):
            key = self._keyspace.parse(item.key)
            if isinstance(key, Key):
                wishes.setdefault(key.names[1], set()).add(key.names[0])
        held: dict[tuple[str, str], list[str]] = {}
        for item in self._cache.prefix(self._keyspace.folder(Family.VOLUME)):
            key, status = self._keyspace.parse(item.key), self._cache.decoded(item)
            if isinstance(key, Key) and isinstance(status, VolumeStatus):
                volume = key.names[0]
                for holder in status.holders:
                    awaited = wishes.get(volume, set()) - {holder.node}
                    if holder.phase is HolderPhase.READY and (awaited or not self._options.only_awaited):
                        held.setdefault((holder.node, holder.boot), []).append(volume)
        return held

    def _confirm_silence(self, nodes: Iterable[Watched]) -> None:
        """A cache may be old. Who is suspected is looked for in the store itself, at each look."""
        for each in nodes:
            if each.silent_since is not None and each.holds and not each.fenced:
                try:
                    self._writer.confirm(Snapshot(self._cache, self._keyspace), self._facts(each))
                except Conflict:  # something about this one changed, and the cache knows now
                    self._silent.pop((each.node, each.boot), None)
                    raise
                except PortError:
                    self._silent.clear()
                    raise

    def _facts(self, suspect: Watched) -> tuple[Key, ...]:
        """What has to be as seen: the boot, its silence, and that nobody fenced it yet."""
        node = (suspect.node,)
        return Key(Family.NODE, node), Key(Family.ALIVE, node), Key(Family.FENCE, (suspect.node, suspect.boot))

    # --- fencing

    def _fence(self, suspect: Watched, guard: Compare) -> None:
        snapshot, node = Snapshot(self._cache, self._keyspace), suspect.node
        facts = self._facts(suspect)
        record = snapshot.value(facts[0], NodeRecord)
        silent_s = self._clock.now() - (suspect.silent_since or 0.0)
        if record is None or record.boot != suspect.boot or any(snapshot.see(key) for key in facts[1:]):
            return  # it changed under our eyes: the next look sees it
        self._writer.confirm(snapshot, facts, (guard,))
        connector, host = fit_for_drivers(node, record.connector), record.host_identity or ""
        target = FenceTarget(node, suspect.boot, connector, suspect.holds, silent_s, host)
        self._recent[node] = self._clock.now()  # from here on it may be so
        try:
            proof = self._fencer.fence(target, lambda: self._guard() == guard)
        except PortError as error:
            self._failed(node, error)
            return
        statement = FenceStatement(
            who=self._options.who,
            why=f"no sign of life for {silent_s:.0f} s; it holds {', '.join(suspect.holds)[:1000]}",
            evidence=proof.evidence,
            at=rfc3339(self._clock.wall()),
            proof=proof.proof,
        )
        try:
            self._writer.commit(snapshot, facts, [(facts[2], statement)], guard=(guard,))
        except Conflict as error:  # it came back, or another agent was faster
            self._tell(node, "overtaken", str(error))
        except PortError as error:
            self._failed(node, error)
        else:
            self._tell(node, "fenced", f"boot {suspect.boot}: {proof.evidence}")

    def _failed(self, node: str, error: PortError) -> None:
        """Left alone for a while. `Retryable` says that nothing was done, so that it does not count as fenced."""
        not_now = isinstance(error, Retryable)
        if not_now:
            self._recent.pop(node, None)
        pause_s = self._backoffs.setdefault(node, self._new_backoff()).next_s()
        self._not_before[node] = self._clock.now() + pause_s
        self._tell(node, "not_now" if not_now else "failed", f"{error}; tried again in {pause_s:.0f} s")

    def _forget_failures(self, node: str) -> None:
        self._backoffs.pop(node, None)
        self._not_before.pop(node, None)
