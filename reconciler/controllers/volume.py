"""The controller's side of every volume: read, plan, confirm, act once, record.

`reconcile` looks at one volume, asks `plan_volume` for the next step, and carries it out: a write, or one driver call between a
confirming transaction and a recording one. After a step the volume is looked at again. A crash between any two lines is
resumed by this same function, from the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pydantic import BaseModel

from reconciler.controllers.keeper import Keeper
from reconciler.controllers.last_wishes import LastWishes
from reconciler.controllers.snapshot import Conflict, Snapshot, Unanswered, Writer
from reconciler.controllers.surroundings import Surroundings
from reconciler.controllers.verdicts import Failure, refusals, remarks_of, rfc3339, user_key, verdict_changes
from reconciler.controllers.volume_steps import VolumeSteps
from reconciler.core.mass import MassRule
from reconciler.core.plan_volume import plan_volume
from reconciler.core.reading import Memory, volume_view
from reconciler.core.steps import Do, Plan, Step
from reconciler.core.views import BackendView, Bad, VolumeView
from reconciler.core.volume_wish import waits_for_proof
from reconciler.runtime.cache import Cache
from reconciler.runtime.controller import After, Again, Done, Result
from reconciler.runtime.ports import (
    Clock,
    Compare,
    Denied,
    PortError,
    Store,
    Terminal,
    TooLarge,
    UnknownOutcome,
)
from schema.keys import Family, Key, Keyspace
from schema.models import Condition, Record, VolumeSpec

ASK_AGAIN_S = (5.0, 300.0)
"""Shortest and longest pause between two questions to the driver while a node says that it can't reach the volume."""
LISTEN_S = 0.1
"""Until the watch has brought what was written a moment ago."""
CREATION = (Do.CREATE, Do.EXTEND)
"""Steps whose terminal failure only a new wish can cure."""


@dataclass(slots=True)
class _Known:
    """What is remembered of one volume between two looks. Losing it costs repeated, idempotent calls."""

    life: int = 0
    memory: Memory = field(default_factory=Memory)
    failures: dict[str, Failure] = field(default_factory=dict)


class VolumeReconciler:
    """Reconciles volumes by name. One per controller process, for all its backends."""

    def __init__(
        self,
        *,
        store: Store,
        cache: Cache,
        keyspace: Keyspace,
        clock: Clock,
        keepers: Mapping[str, Keeper],
        cluster_guard: Callable[[], Compare | None],
        mass: Callable[[], MassRule],
        last_wishes: LastWishes,
        mint_uid: Callable[[], str],
        failpoint: Callable[[str], None],
        observe_step: Callable[[str, Step, float, BaseException | None], None],
        refused: Callable[[Key, Condition], None] = lambda _key, _condition: None,
    ) -> None:
        self._cache = cache
        self._keyspace = keyspace
        self._clock = clock
        self._keepers = keepers
        self._cluster_guard = cluster_guard
        self._writer = Writer(store, cache, keyspace)
        self._last_wishes = last_wishes
        self._surroundings = Surroundings(cache, keyspace, keepers, mass)
        self._steps = VolumeSteps(
            self._writer,
            mint_uid=mint_uid,
            failpoint=failpoint,
            now=lambda: rfc3339(clock.wall()),
            others=self._surroundings.others,
        )
        self._observe_step = observe_step
        self._refused = refused
        self._known: dict[str, _Known] = {}

    def reconcile(self, volume: str) -> Result:
        """One look at one volume, and at most one step. Raises what the step raised, for the queue to back off."""
        snapshot = Snapshot(self._cache, self._keyspace)
        backend = self._backend_of(snapshot, volume)
        keeper = self._keepers.get(backend)
        guard = keeper.guard if keeper else self._guard_of_strangers(backend)
        if guard is None:
            self._known.pop(volume, None)
            return Done()
        known = self._remember(volume, keeper)
        view = self._view(snapshot, volume, keeper, known)
        if keeper is not None:
            view = self._ask_again(view, known)
            view = self._last_wishes.complete(view, snapshot.revision(Key(Family.RECORD, (volume,))))
        plan = plan_volume(view)
        if plan.step is None or keeper is None:
            known.failures.clear()
            told = self._tell(snapshot, volume, view, plan, known, guard)
            if waits_for_proof(view):
                return After(LISTEN_S)
            ends_s = [end_s for _, end_s in known.memory.asked_again.values()]
            return After(max(ASK_AGAIN_S[0], min(ends_s) - self._clock.now())) if ends_s else told
        self._act(snapshot, volume, keeper, guard, plan.step, known)
        return Again()

    def failed(self, volume: str, delay_s: float) -> None:
        """The queue will try the volume again in `delay_s` seconds: say so at the keys concerned."""
        known = self._known.get(volume)
        snapshot = Snapshot(self._cache, self._keyspace)
        backend = self._backend_of(snapshot, volume)
        keeper = self._keepers.get(backend)
        guard = keeper.guard if keeper else None
        if known is None or guard is None or not known.failures:
            return
        for failure in known.failures.values():
            failure.next_try = rfc3339(self._clock.wall() + delay_s)
        view = self._view(snapshot, volume, keeper, known)
        try:
            view = self._last_wishes.complete(view, snapshot.revision(Key(Family.RECORD, (volume,))))
        except PortError:
            return  # told at the next look that goes well
        self._tell(snapshot, volume, view, plan_volume(view), known, guard)

    def waiting_for(self, node: str) -> tuple[str, ...]:
        """The other nodes whose volumes have to be looked at when this node's record changes."""
        return self._surroundings.waiting_for(node)

    # --- reading

    def _backend_of(self, snapshot: Snapshot, volume: str) -> str:
        """The backend that the volume is on; for one that is not made yet, the one it is wished for on."""
        record = snapshot.value(Key(Family.RECORD, (volume,)), Record)
        if record is not None:
            return record.backend
        spec = snapshot.value(Key(Family.DESIRED_VOLUME, (volume,)), VolumeSpec)
        return spec.backend if spec is not None else ""

    def _guard_of_strangers(self, backend: str) -> Compare | None:
        """Keys that belong to no backend anybody serves are answered by the cluster's leader."""
        served = backend and self._cache.get(self._keyspace.path(Family.BACKEND, backend)) is not None
        return None if served else self._cluster_guard()

    def _remember(self, volume: str, keeper: Keeper | None) -> _Known:
        known = self._known.setdefault(volume, _Known())
        if keeper is not None and known.life != keeper.life:
            known.life = keeper.life
            known.memory = Memory()
        if keeper is not None and (lost := keeper.audit.take_lost(volume)):
            known.memory.exported -= lost
            known.memory.lost |= lost
        return known

    def _ask_again(self, view: VolumeView, known: _Known) -> VolumeView:
        """C7 on a node's word: what it was given was refused, or does not answer. With pauses that double, for the word stays while
        asking is of no use; the first time at once."""
        memory, now_s = known.memory, self._clock.now()
        holders = () if view.holders is None or isinstance(view.holders, Bad) else view.holders
        unreached = {each.epoch for each in holders if view.nodes[each.node].unreached == each.epoch}
        for epoch in memory.asked_again.keys() - unreached:
            del memory.asked_again[epoch]
        due = {epoch for epoch in unreached if memory.asked_again.get(epoch, (0.0, 0.0))[1] <= now_s}
        for epoch in due - memory.lost:
            pause_s = min(max(2 * memory.asked_again.get(epoch, (0.0, 0.0))[0], ASK_AGAIN_S[0]), ASK_AGAIN_S[1])
            memory.asked_again[epoch] = (pause_s, now_s + pause_s)
            memory.exported.discard(epoch)
            memory.lost.add(epoch)
        return replace(view, exported=frozenset(memory.exported), lost=frozenset(memory.lost))

    def _view(self, snapshot: Snapshot, volume: str, keeper: Keeper | None, known: _Known) -> VolumeView:
        if keeper is not None:
            picture = keeper.view()
        else:
            names = ", ".join(sorted(self._keepers)) or "none"
            picture = BackendView(ready=False, known=False, fault=f"served here: {names}")
        around = self._surroundings.around(volume)
        return volume_view(snapshot.see, volume, around, picture, known.memory)

    # --- acting

    def _act(self, snapshot: Snapshot, volume: str, keeper: Keeper, guard: Compare, step: Step, known: _Known) -> None:
        started = self._clock.now()
        error: BaseException | None = None
        try:
            self._steps.carry_out(step, volume, snapshot, keeper.backend, guard, known.memory)
        except PortError as caught:
            error = caught
            if isinstance(caught, Conflict | Unanswered):
                raise
            if not self._note_refusal(snapshot, volume, step, caught, known):
                keeper.failed(caught)
                self._note_failure(step, caught, known)
                raise
        else:
            known.failures.pop(step.node, None)
        finally:
            self._observe_step(volume, step, self._clock.now() - started, error)

    def _note_refusal(self, snapshot: Snapshot, volume: str, step: Step, error: PortError, known: _Known) -> bool:
        """Whether the driver refused for good to make what is wished for: an answer, which the next look deals with."""
        if step.do not in CREATION or not isinstance(error, Terminal) or isinstance(error, Denied | TooLarge):
            return False
        record = snapshot.value(Key(Family.RECORD, (volume,)), Record)
        known.memory.refused = str(error)
        known.memory.refused_generation = snapshot.revision(Key(Family.DESIRED_VOLUME, (volume,)))
        known.memory.refused_gib = (record.target_gib or 0) if record is not None else 0
        return True

    def _note_failure(self, step: Step, error: PortError, known: _Known) -> None:
        kind = (
            "UnknownOutcome" if isinstance(error, UnknownOutcome) else f"{step.do.name.title().replace('_', '')}Failed"
        )
        aspect = "Exported" if step.node else "Available"
        known.failures[step.node] = Failure(aspect, kind, f"{step.why}: {error}", "")

    # --- telling

    def _tell(
        self, snapshot: Snapshot, volume: str, view: VolumeView, plan: Plan, known: _Known, guard: Compare
    ) -> Result:
        """Bring the verdicts on this volume's user keys up to date. No write where nothing changed."""
        remarks = remarks_of(volume, plan.sayings, known.failures)
        about = [user_key(volume, ""), *(user_key(volume, node) for node in view.nodes)]
        puts, deletes = verdict_changes(snapshot, about, remarks, rfc3339(self._clock.wall()))
        if puts or deletes:
            touched: list[Key] = [key for key, _ in puts] + deletes
            bodies: list[tuple[Key, BaseModel]] = list(puts)
            self._writer.commit(snapshot, touched, bodies, deletes, (guard,))
            for key, condition in refusals(puts, snapshot):
                self._refused(key, condition)
        if view.record is None and view.spec is None and not known.failures:
            self._known.pop(volume, None)
            self._last_wishes.forget(volume)
        return Done()
