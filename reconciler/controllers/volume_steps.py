"""How each of the controller's steps is carried out: what its transaction writes, which driver call goes before it.

The rows are those of docs/PROTOCOL.md. Each function does one thing, at most one driver call, and leaves the rest to the
next look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reconciler.controllers.keeper import volume_data
from reconciler.controllers.snapshot import Snapshot, Writer
from reconciler.controllers.volume_work import Puts, Work, there
from reconciler.core.connectors import fit_for_drivers
from reconciler.core.reading import Memory
from reconciler.core.steps import Do, Step
from reconciler.runtime.ports import Backend, Compare, Export, Reply, VolumeData
from schema.keys import Family, Key
from schema.models import (
    AttachmentSpec,
    Connection,
    DeletionSpec,
    ExportIntent,
    FenceStatement,
    Grant,
    Holder,
    HolderPhase,
    Intent,
    NodeRecord,
    Record,
    VolumePhase,
    VolumeSpec,
    VolumeStatus,
)


class VolumeSteps:
    """Carries out the controller's steps.

    Args:
        mint_uid: a new Cinder volume id.
        now: the time for people.
        failpoint: told the name of each numbered point; crash tests make it kill the process.
        others: some of a backend's volumes besides one.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        mint_uid: Callable[[], str],
        failpoint: Callable[[str], None],
        now: Callable[[], str],
        others: Callable[[str, str], Sequence[VolumeData]],
    ) -> None:
        self._now = now
        self._others = others
        self._writer = writer
        self._mint_uid = mint_uid
        self._failpoint = failpoint

    def carry_out(
        self, step: Step, volume: str, snapshot: Snapshot, backend: Backend, guard: Compare, memory: Memory
    ) -> None:
        """Do the step. Raises Conflict when its facts changed, otherwise the store's and the driver's errors."""
        work = Work(step, volume, snapshot, self._writer, guard, self._now)
        self._failpoint(f"{step.do.name}:before")
        if step.confirms:
            work.confirm()
            self._failpoint(f"{step.do.name}:confirmed")
            self._call(work, backend, memory)
        else:
            self._write(work, memory)
        self._failpoint(f"{step.do.name}:after")

    # --- steps that only write

    def _write(self, work: Work, memory: Memory) -> None:
        match work.step.do:
            case Do.RESTORE_HOLDERS:
                self._restore_holders(work)
            case Do.GRANT:
                self._grant(work)
            case Do.REVOKE:
                self._revoke(work)
            case Do.FORGET:
                self._forget(work, memory)
            case Do.INTEND_CREATE:
                self._intend_create(work)
            case Do.INTEND_EXTEND:
                self._intend_extend(work, memory)
            case Do.INTEND_DELETE | Do.GIVE_UP_EXTEND | Do.PROVE_DELETE | Do.SPARE:
                self._change_intent(work)
            case Do.FORGET_VOLUME:
                work.commit([], (work.record_key, work.grant_key, work.volume_key))
            case Do.UPDATE_VOLUME:
                self._update_volume(work)
            case other:
                raise AssertionError(f"{other} is no step of the controller")

    def _restore_holders(self, work: Work) -> None:
        """C0. The mirror has no connectors; the export intents do."""
        grant = work.snapshot.value(work.grant_key, Grant)
        if grant is not None:
            record = work.record
            mirror = tuple(holder.model_copy(update={"connector": {}}) for holder in grant.holders)
            status = VolumeStatus(
                uid=record.uid,
                backend=record.backend,
                phase=VolumePhase.RETAINED,  # the next look corrects it from the wish
                size_gib=record.size_gib,
                asked_gib=record.asked_gib,
                holders=mirror,
            )
            work.commit([(work.volume_key, status)])
            return
        connectors = {(e.node, e.epoch): e.connector for e in work.record.exports}
        holders = tuple(
            holder.model_copy(update={"connector": connectors.get((holder.node, holder.epoch), {})})
            for holder in work.status.holders
        )
        work.commit([(work.grant_key, Grant(uid=work.record.uid, holders=holders))])

    def _grant(self, work: Work) -> None:
        """C1. The epoch is the revision of the very grant that the transaction replaces: whatever happens, no two
        transactions that succeed can have compared the same one (docs/decisions/0002)."""
        node = work.step.node
        grant = work.grant
        past = [holder.epoch for holder in (*grant.holders, *work.status.holders)]
        epoch = max([work.snapshot.revision(work.grant_key), *(e + 1 for e in past)])
        wish = there(work.snapshot.value(Key(Family.DESIRED_ATTACHMENT, (node, work.volume)), AttachmentSpec))
        record = there(work.snapshot.value(Key(Family.NODE, (node,)), NodeRecord))
        connector = fit_for_drivers(node, record.connector)
        holder = Holder(
            node=node,
            epoch=epoch,
            boot=record.boot,
            host_identity=record.host_identity,
            phase=HolderPhase.EXPORTING,
            mode=wish.mode,
            connector=connector,
        )
        intent = ExportIntent(node=node, epoch=epoch, mode=wish.mode, connector=connector)
        after = work.record.model_copy(update={"exports": (*work.record.exports, intent)})
        work.commit([*work.lists((*grant.holders, holder)), (work.record_key, after)])

    def _revoke(self, work: Work) -> None:
        """C4: from here on nobody may use it; what conn_info may hold is taken out of the node's sight."""
        puts = work.lists(work.with_phase(HolderPhase.REVOKED))
        connection = work.snapshot.value(work.connection_key, Connection)
        if connection is not None:
            revoked = connection.model_copy(update={"phase": HolderPhase.REVOKED, "conn_info": None})
            puts.append((work.connection_key, revoked))
        if work.step.copies_fence:
            names = (work.step.node, work.holder.boot)
            statement = work.snapshot.value(Key(Family.FENCE, names), FenceStatement)
            unreadable = FenceStatement(who="unknown", why="unknown", evidence="the operator's key can't be read")
            copy = (statement or unreadable).model_copy(update={"host_identity": work.holder.host_identity})
            puts.append((Key(Family.FENCED, names), copy))
        work.commit(puts)

    def _forget(self, work: Work, memory: Memory) -> None:
        """C6. With the last holder both lists say so: `holders: []`."""
        mine = (work.step.node, work.step.epoch)
        rest = tuple(h for h in work.grant.holders if (h.node, h.epoch) != mine)
        exports = tuple(e for e in work.record.exports if (e.node, e.epoch) != mine)
        after = work.record.model_copy(update={"exports": exports})
        work.commit([*work.lists(rest), (work.record_key, after)], (work.connection_key,))
        for epochs in (memory.exported, memory.terminated, memory.unexported, memory.lost):
            epochs.discard(work.step.epoch)
        memory.asked_again.pop(work.step.epoch, None)

    def _intend_create(self, work: Work) -> None:
        """V1: the uid is made and durable before the driver hears it; from here on the holder lists exist."""
        spec, uid = work.spec, self._mint_uid()
        intent = Intent.IMPORT if spec.import_ else Intent.CREATE
        record = Record(
            uid=uid,
            backend=spec.backend,
            size_gib=spec.size_gib or 0,
            asked_gib=spec.size_gib,
            imported=intent is Intent.IMPORT,
            on_delete=spec.on_delete,
            intent=intent,
            reference=spec.import_,
            heard=work.generation,
        )
        status = VolumeStatus(
            uid=uid,
            backend=spec.backend,
            phase=VolumePhase.CREATING,
            since=work.now(),
            size_gib=spec.size_gib or 0,
            asked_gib=spec.size_gib,
            generation=work.generation,
            on_delete=spec.on_delete,
        )
        work.commit([(work.record_key, record), (work.volume_key, status), (work.grant_key, Grant(uid=uid))])

    def _intend_extend(self, work: Work, memory: Memory) -> None:
        """V3. What the driver refused earlier is asked anew."""
        after = work.record.model_copy(update={"intent": Intent.EXTEND, "target_gib": work.spec.size_gib})
        status = work.in_phase(VolumePhase.EXTENDING)
        work.commit([(work.record_key, after), (work.volume_key, status)])
        memory.refused, memory.refused_gib = "", 0

    def _change_intent(self, work: Work) -> None:
        """V5, V9, V10, V11. Once spared, the next look asks what the last wish said, as if its end were not noted."""
        record, phase = work.record, VolumePhase.AVAILABLE
        match work.step.do:
            case Do.INTEND_DELETE:
                phase = VolumePhase.DELETING
                changes: dict[str, object] = {"intent": Intent.DELETE, "unproven": record.ended}
            case Do.GIVE_UP_EXTEND:
                changes = {"intent": None, "target_gib": None}
            case Do.PROVE_DELETE:
                phase = work.status.phase
                changes = {"unproven": False}
            case _:
                changes = {"intent": None, "unproven": False, "ended": False}
        puts: Puts = [(work.record_key, record.model_copy(update=changes))]
        if phase is not work.status.phase:
            puts.append((work.volume_key, work.in_phase(phase)))
        work.commit(puts)

    def _update_volume(self, work: Work) -> None:
        """V8: follow what the wish says about the volume as a whole, or what its last value said."""
        spec = work.snapshot.value(Key(Family.DESIRED_VOLUME, (work.volume,)), VolumeSpec)
        on_delete = spec.on_delete if spec else work.step.on_delete
        heard = work.generation if spec else work.step.heard
        record = work.record.model_copy(update={"on_delete": on_delete, "heard": heard, "ended": spec is None})
        phase = VolumePhase.RETAINED if spec is None and on_delete == "retain" else VolumePhase.AVAILABLE
        changes: dict[str, object] = {"generation": work.generation, "on_delete": on_delete}
        changes |= {"size_gib": record.size_gib, "asked_gib": record.asked_gib}
        puts: Puts = [(work.volume_key, work.in_phase(phase, **changes))]
        if record != work.record:
            puts.append((work.record_key, record))
        work.commit(puts)

    # --- steps with a driver call

    def _call(self, work: Work, backend: Backend, memory: Memory) -> None:
        match work.step.do:
            case Do.EXPORT:
                self._export(work, backend, memory)
            case Do.CONNECT_EXPORT:
                self._connect_export(work, backend, memory)
            case Do.TERMINATE:
                self._terminate(work, backend, memory)
            case Do.UNEXPORT:
                self._unexport(work, backend, memory)
            case Do.CREATE:
                self._create(work, backend)
            case Do.EXTEND:
                self._extend(work, backend)
            case Do.DELETE:
                self._delete(work, backend)
            case other:
                raise AssertionError(f"{other} makes no driver call")

    def _delete(self, work: Work, backend: Backend) -> None:
        """V6. Some of the backend's other volumes go along: whether they are there tells whether this is their storage."""
        record = work.record
        said = work.snapshot.value(Key(Family.DESIRED_DELETION, (work.volume,)), DeletionSpec)
        gone = said is not None and said.gone and said.uid == record.uid
        backend.delete(volume_data(work.volume, record), self._others(record.backend, work.volume), gone=gone)
        self._failpoint("DELETE:called")
        work.commit([], (work.record_key, work.grant_key, work.volume_key))

    def _export(self, work: Work, backend: Backend, memory: Memory) -> None:
        """C2, first call. A driver that changed its own data has it saved before it is asked for more."""
        reply = backend.export(volume_data(work.volume, work.record), self._mine(work))
        self._failpoint("EXPORT:called")
        saved = work.record_after(reply)
        if saved:
            work.commit(saved)
        memory.exported.add(work.step.epoch)

    def _connect_export(self, work: Work, backend: Backend, memory: Memory) -> None:
        """C2, second call, and C3: `ready` and the node's connection in one transaction.

        C7 writes only what changed: an export that the audit brings back leaves a connection that says the same alone.
        """
        reply = backend.connect(volume_data(work.volume, work.record), self._mine(work))
        self._failpoint("CONNECT_EXPORT:called")
        holder = work.holder
        connection = Connection(
            uid=work.record.uid,
            epoch=holder.epoch,
            boot=holder.boot,
            host_identity=holder.host_identity,
            phase=HolderPhase.READY,
            mode=holder.mode,
            conn_info=dict(reply.conn_info or {}),
            size_bytes=reply.size_bytes,
            size_gib=work.record.size_gib,
            identity=reply.identity,
            rounded=work.record.imported,
        )
        present = work.snapshot.value(work.connection_key, Connection)
        puts: Puts = [] if connection == present else [(work.connection_key, connection)]
        puts += work.record_after(reply)
        if holder.phase is not HolderPhase.READY:
            puts += work.lists(work.with_phase(HolderPhase.READY))
        work.commit(puts)
        memory.lost.discard(holder.epoch)

    def _terminate(self, work: Work, backend: Backend, memory: Memory) -> None:
        """C5, first call: with the connector that the export was made with (S7)."""
        reply = backend.terminate(volume_data(work.volume, work.record), self._mine(work))
        self._failpoint("TERMINATE:called")
        self._save(work, reply)
        memory.terminated.add(work.step.epoch)
        if reply.shared:
            memory.unexported.add(work.step.epoch)

    def _unexport(self, work: Work, backend: Backend, memory: Memory) -> None:
        """C5, second call: nobody of any phase holds the volume besides the one that is being undone."""
        reply = backend.unexport(volume_data(work.volume, work.record))
        self._failpoint("UNEXPORT:called")
        self._save(work, reply)
        memory.unexported.add(work.step.epoch)

    def _create(self, work: Work, backend: Backend) -> None:
        """V2, for a new volume and for one that is taken over."""
        record = work.record
        data = volume_data(work.volume, record)
        imported = record.intent is Intent.IMPORT
        reply = backend.adopt(data, record.reference or {}) if imported else backend.create(data)
        self._failpoint("CREATE:called")
        self._available(work, reply)

    def _extend(self, work: Work, backend: Backend) -> None:
        """V4."""
        record = work.record
        reply = backend.extend(volume_data(work.volume, record), record.target_gib or record.size_gib)
        self._failpoint("EXTEND:called")
        self._available(work, reply)

    def _available(self, work: Work, reply: Reply) -> None:
        """What came, beside what was asked for: arrays make volumes larger."""
        sizes = {"size_gib": reply.size_gib, "asked_gib": work.record.target_gib or work.record.asked_gib}
        changes = {"intent": None, "target_gib": None, "model": dict(reply.model), **sizes}
        status = work.in_phase(VolumePhase.AVAILABLE, **sizes)
        work.commit([(work.record_key, work.record.model_copy(update=changes)), (work.volume_key, status)])

    def _save(self, work: Work, reply: Reply) -> None:
        saved = work.record_after(reply)
        if saved:
            work.commit(saved)

    def _mine(self, work: Work) -> Export:
        holder = work.holder
        return Export(holder.node, holder.epoch, holder.mode, holder.connector)
