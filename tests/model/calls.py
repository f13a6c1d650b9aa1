"""What external calls do when they reach the array or the host, and what is recorded when they return."""

from __future__ import annotations

from reconciler.core.steps import Do
from tests.model import checks
from tests.model.moves import STEPS
from tests.model.state import (
    ABSENT,
    AVAILABLE,
    EXPORTED,
    LOST,
    OFF,
    PRESENT,
    READY,
    TERMINATED,
    UNEXPORTED,
    UNKNOWN,
    Holder,
    Op,
    State,
    with_array,
    with_controller,
    with_host,
    with_node,
    with_volume,
)
from tests.model.transactions import Outcome, Transactions


class Calls(Transactions):
    """External calls. `heard`: the process that made the call is still there when it returns."""

    def land(self, state: State, op: Op, *, heard: bool) -> Outcome:
        match STEPS[op.do]:
            case Do.EXPORT:
                state = with_array(state, state.array._replace(target=True))
                return self._remember(state, op, EXPORTED) if heard else state, ""
            case Do.CONNECT_EXPORT:
                return self._map(state, op, op.epoch if state.array.target else 0), ""
            case Do.TERMINATE:
                broken = checks.unmap(state, (op.node,))
                state = self._map(state, op, 0)
                return self._remember(state, op, TERMINATED) if heard else state, broken
            case Do.UNEXPORT:
                broken = checks.unmap(state, (0, 1))
                state = with_array(state, state.array._replace(target=False, maps=(0, 0)))
                return self._remember(state, op, UNEXPORTED) if heard else state, broken
            case Do.CONNECT:
                return self._connect(state, op, heard), ""
            case Do.ADD_PATHS:
                return self._add_paths(state, op), ""
            case Do.EXTEND_DEVICE:
                return self._extend_device(state, op, heard), ""
            case Do.DISCONNECT:
                host = state.hosts[op.node]._replace(device=0, size=0, session=0)
                return with_host(state, op.node, host._replace(know=ABSENT, noted=None) if heard else host), ""
            case _:
                return self._land_existence(state, op)

    def _map(self, state: State, op: Op, epoch: int) -> State:
        maps = state.array.maps
        return with_array(state, state.array._replace(maps=(epoch, maps[1]) if op.node == 0 else (maps[0], epoch)))

    def _remember(self, state: State, op: Op, mark: int) -> State:
        memory = state.controller
        marks = memory.marks if memory.epoch == op.epoch else 0
        return with_controller(state, memory._replace(epoch=op.epoch, marks=marks | mark))

    def _connect(self, state: State, op: Op, heard: bool) -> State:
        """It works only while the export is there, if the array looks. A device or a session that is there already is used."""
        host = state.hosts[op.node]
        works = (bool(state.array.maps[op.node]) or not state.array.cuts) and host.away != OFF
        if works:
            host = host._replace(device=host.device or host.session or op.epoch, size=op.size, session=0)
        if heard:
            host = host._replace(know=PRESENT if works else UNKNOWN, op=host.op if works else None)
        return with_host(state, op.node, host)

    def _add_paths(self, state: State, op: Op) -> State:
        """It logs in like a connect. Whether a device is there was looked at before: by now it may have gone."""
        host = state.hosts[op.node]
        if not state.array.maps[op.node] or host.away == OFF:
            return state
        return with_host(state, op.node, host._replace(device=host.device or op.epoch, short=False))

    def _extend_device(self, state: State, op: Op, heard: bool) -> State:
        """The device is not harmed; that it was told is noted only by a daemon that hears of it, with what the connection said."""
        host, connection = state.hosts[op.node], state.nodes[op.node].connection
        if heard and connection and host.device:
            host = host._replace(size=op.size)
        return with_host(state, op.node, host)

    def _land_existence(self, state: State, op: Op) -> Outcome:
        record, array = state.volume.record, state.array
        match STEPS[op.do]:
            case Do.CREATE:
                return with_array(state, array._replace(data=record.size if record else 1)), ""
            case Do.EXTEND:
                return with_array(state, array._replace(data=record.target if record else 1)), (
                    "" if array.online else checks.extend(state)
                )
            case Do.DELETE:
                return with_array(state, array._replace(data=0, used=False)), checks.delete(state)
            case other:
                raise AssertionError(f"{other} is no external call")

    # --- what is recorded afterwards

    def record(self, state: State, op: Op) -> Outcome:
        match STEPS[op.do]:
            case Do.CONNECT_EXPORT:
                return self._ready(state, op), ""
            case Do.CONNECT | Do.EXTEND_DEVICE:
                return self._attached(state, op.node, op.epoch)
            case Do.DELETE:
                return with_volume(state, state.volume._replace(record=None, grant=None, status=None)), ""
            case _:
                return self._available(state), ""

    def _ready(self, state: State, op: Op) -> State:
        """C3, and C7 where the entry is `ready` already: then the lists are not written."""
        ready = Holder(op.node, op.epoch, op.boot, READY)
        if ready not in state.volume.holders:
            state = self.write_lists(state, state, (ready,))
        size = state.volume.record.size if state.volume.record else 0
        keys = state.nodes[op.node]._replace(connection=(op.epoch, op.boot, READY, size))
        memory = state.controller
        if memory.epoch == op.epoch:
            state = with_controller(state, memory._replace(marks=memory.marks & ~LOST))
        return with_node(state, op.node, keys)

    def _available(self, state: State) -> State:
        record, status = state.volume.record, state.volume.status
        assert record is not None
        assert status is not None
        record = record._replace(size=state.array.data, intent="", target=0)
        status = status._replace(phase=AVAILABLE)
        state = with_volume(state, state.volume._replace(record=record, status=status))
        return with_array(state, state.array._replace(used=True))
