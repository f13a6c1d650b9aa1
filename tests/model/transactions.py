"""What each step writes and what each external call does: the executors' part of the protocol, row by row.

`commit` is a transaction on etcd. What it writes is computed from what the planner saw, as the executors do: where nothing is
compared, an outdated picture is written back. `land` is an external call reaching the array or the host.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.model import checks
from tests.model.canonical import fresh_boot
from tests.model.moves import Move
from tests.model.state import (
    ABSENT,
    ATTACHED,
    ATTACHING,
    AVAILABLE,
    CREATING,
    DELETING,
    EXPORTING,
    EXTENDING,
    MISSED_DELETE,
    MISSED_RETAIN,
    PRESENT,
    RELEASED,
    RETAINED,
    REVOKED,
    UNMISSED,
    Controller,
    Holder,
    Op,
    Record,
    State,
    VolumeStatus,
    with_array,
    with_controller,
    with_host,
    with_node,
    with_volume,
)

Outcome = tuple[State, str]
"""The state afterwards, and the check that this very step breaks, if any."""


class Transactions:
    """The steps of PROTOCOL section 1. Must-fail variants override single ones."""

    def commit(self, state: State, seen: State, move: Move) -> Outcome:
        """A step that only writes: the method of its name."""
        write: Callable[[State, State, Move], Outcome] = getattr(self, move.do.name.lower())
        return write(state, seen, move)

    # --- the controller, for a volume

    def write_lists(self, state: State, seen: State, holders: tuple[Holder, ...]) -> State:
        status = seen.volume.status or VolumeStatus(AVAILABLE, 1, ())
        volume = state.volume._replace(grant=holders, status=status._replace(holders=holders))
        return with_volume(state, volume)

    def with_phase(self, holders: tuple[Holder, ...], move: Move | Op, phase: int) -> tuple[Holder, ...]:
        mine = (move.node, move.epoch)
        return tuple(h._replace(phase=phase) if (h.node, h.epoch) == mine else h for h in holders)

    def restore_holders(self, state: State, seen: State, move: Move) -> Outcome:
        """C0."""
        volume = state.volume
        if seen.volume.grant is not None:
            volume = volume._replace(status=VolumeStatus(RETAINED, 0, seen.volume.grant))
        else:
            volume = volume._replace(grant=seen.volume.holders)
        return with_volume(state, volume), ""

    def grant(self, state: State, seen: State, move: Move) -> Outcome:
        """C1."""
        holder = Holder(move.node, self.new_epoch(state), seen.nodes[move.node].boot, EXPORTING)
        state = self.write_lists(state, seen, (*seen.volume.holders, holder))
        record = seen.volume.record or Record(1)
        record = record._replace(exports=(*record.exports, (holder.node, holder.epoch)))
        return with_volume(state, state.volume._replace(record=record)), checks.grant(state, move.node)

    def new_epoch(self, state: State) -> int:
        raise NotImplementedError

    def revoke(self, state: State, seen: State, move: Move) -> Outcome:
        """C4."""
        state = self.write_lists(state, seen, self.with_phase(seen.volume.holders, move, REVOKED))
        keys = state.nodes[move.node]
        connection = seen.nodes[move.node].connection
        if connection:
            keys = keys._replace(connection=(connection[0], connection[1], REVOKED, connection[3]))
        if move.copies_fence:
            others = (boot for boot in keys.fenced if boot != move.boot)
            copied = (boot for boot in seen.nodes[move.node].fences if boot == move.boot)
            keys = keys._replace(fenced=tuple(sorted((*others, *copied))))
        return with_node(state, move.node, keys), ""

    def forget(self, state: State, seen: State, move: Move) -> Outcome:
        """C6."""
        mine = (move.node, move.epoch)
        state = self.write_lists(state, seen, tuple(h for h in seen.volume.holders if (h.node, h.epoch) != mine))
        record = seen.volume.record or Record(1)
        record = record._replace(exports=tuple(export for export in record.exports if export != mine))
        state = with_volume(state, state.volume._replace(record=record))
        state = with_node(state, move.node, state.nodes[move.node]._replace(connection=None))
        if state.controller.epoch == move.epoch:
            memory = state.controller
            state = with_controller(state, Controller(refused=memory.refused, refused_size=memory.refused_size))
        return state, ""

    # --- the controller, for the volume itself

    def intend_create(self, state: State, seen: State, move: Move) -> Outcome:
        spec = seen.volume.spec
        assert spec is not None
        record = Record(spec.size, "create", 0, spec.delete)
        status = VolumeStatus(CREATING, spec.generation, ())
        state = with_array(state, state.array._replace(missed=False))
        return with_volume(state, state.volume._replace(record=record, grant=(), status=status)), ""

    def intend_extend(self, state: State, seen: State, move: Move) -> Outcome:
        spec, record = seen.volume.spec, seen.volume.record
        assert spec is not None
        assert record is not None
        state = with_controller(state, state.controller._replace(refused=None, refused_size=0))
        return self._intend(state, seen, record._replace(intent="extend", target=spec.size), EXTENDING), ""

    def give_up_extend(self, state: State, seen: State, move: Move) -> Outcome:
        """V9."""
        record = seen.volume.record
        assert record is not None
        return self._intend(state, seen, record._replace(intent="", target=0), AVAILABLE), ""

    def intend_delete(self, state: State, seen: State, move: Move) -> Outcome:
        record = seen.volume.record
        assert record is not None
        broken = checks.intend_delete(state)
        array, unproven = state.array, UNMISSED if record.ended else 0
        if unproven and array.missed:
            unproven = MISSED_DELETE if array.last and array.last[1] else MISSED_RETAIN
        state = with_array(state, array._replace(kept=array.keep))
        return self._intend(state, seen, record._replace(intent="delete", unproven=unproven), DELETING), broken

    def prove_delete(self, state: State, seen: State, move: Move) -> Outcome:
        """V10."""
        record, status = seen.volume.record, seen.volume.status
        assert record is not None
        assert status is not None
        return self._intend(state, seen, record._replace(unproven=0), status.phase), ""

    def spare(self, state: State, seen: State, move: Move) -> Outcome:
        """V11."""
        record = seen.volume.record
        assert record is not None
        return self._intend(state, seen, record._replace(intent="", unproven=0, ended=False), AVAILABLE), ""

    def forget_volume(self, state: State, seen: State, move: Move) -> Outcome:
        return with_volume(state, state.volume._replace(record=None, grant=None, status=None)), ""

    def update_volume(self, state: State, seen: State, move: Move) -> Outcome:
        """V8."""
        spec, record, status = seen.volume.spec, seen.volume.record, seen.volume.status
        assert record is not None
        assert status is not None
        delete = spec.delete if spec else move.delete
        phase = AVAILABLE if spec or delete else RETAINED
        status = status._replace(phase=phase, generation=spec.generation if spec else 0)
        record = record._replace(delete=delete, ended=spec is None)
        missed = state.array.missed and spec is None and state.array.last != seen.array.last
        state = with_array(state, state.array._replace(missed=missed))
        if state.lag and not missed:  # history is asked after the record was seen: never for less than that speaks of
            state = state._replace(lag=state.lag._replace(past=(state.array.last, False)))
        return with_volume(state, state.volume._replace(status=status, record=record)), ""

    def _intend(self, state: State, seen: State, record: Record, phase: int) -> State:
        status = seen.volume.status
        assert status is not None
        return with_volume(state, state.volume._replace(record=record, status=status._replace(phase=phase)))

    # --- the nodes

    def claim(self, state: State, seen: State, move: Move) -> Outcome:
        """N1."""
        connection = seen.nodes[move.node].connection
        assert connection is not None
        epoch = connection[0]
        keys = state.nodes[move.node]
        keys = keys._replace(claim=(epoch, state.hosts[move.node].boot), status=(ATTACHING, epoch))
        return with_node(state, move.node, keys), ""

    def report(self, state: State, seen: State, move: Move) -> Outcome:
        """N3, for a device that is there already."""
        return self._attached(state, move.node, move.epoch)

    def _attached(self, state: State, node: int, epoch: int) -> Outcome:
        keys = state.nodes[node]._replace(status=(ATTACHED, epoch))
        return with_node(state, node, keys), checks.attached(state, node, epoch)

    def release(self, state: State, seen: State, move: Move) -> Outcome:
        """N5."""
        keys = state.nodes[move.node]._replace(status=(RELEASED, move.epoch))
        if seen.nodes[move.node].claim:
            keys = keys._replace(claim=None)
        return with_node(state, move.node, keys), ""

    def withdraw(self, state: State, seen: State, move: Move) -> Outcome:
        """N6."""
        return with_node(state, move.node, state.nodes[move.node]._replace(status=None)), ""

    def publish(self, state: State, seen: State, move: Move) -> Outcome:
        """N0."""
        keys = state.nodes[move.node]._replace(boot=state.hosts[move.node].boot)
        return with_node(state, move.node, keys), ""

    def mint_boot(self, state: State, seen: State, move: Move) -> Outcome:
        """N10: an id in a folder of the host, no key."""
        host = state.hosts[move.node]._replace(boot=fresh_boot(state, move.node), fenced=False)
        return with_host(state, move.node, host), ""

    def inspect(self, state: State, seen: State, move: Move) -> Outcome:
        host = state.hosts[move.node]
        return with_host(state, move.node, host._replace(know=PRESENT if host.device else ABSENT)), ""
