"""Renames epochs and boots in order of appearance, so that states which differ in nothing else are one.

Sound because nobody orders them: planners, transactions and checks compare for equality only. A fence of a boot that nothing
speaks of any more is dropped: that boot never comes back.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from tests.model.state import (
    VOLUME_KEYS,
    Holder,
    Host,
    Lag,
    NodeKeys,
    Op,
    State,
    VolumeKeys,
    key_place,
)

Table = dict[int, int]
"""Old number -> new number."""


class Names(NamedTuple):
    boots: tuple[Table, Table]
    epochs: Table


Numbers = tuple[int, ...]
Pair = tuple[Numbers, Numbers]
"""Of node A and of node B."""


class Refs(NamedTuple):
    """The numbers that appear in something, in order of appearance."""

    boots: Pair = ((), ())
    epochs: Numbers = ()
    fences: Pair = ((), ())
    """They name boots, but keep none alive."""


def canonical(state: State, *, keep_fences: bool = False) -> State:
    """The one state that stands for all that differ only in the numbers of epochs and boots."""
    first, second = state.nodes
    if first.wish + second.wish == 2 and first.wish != second.wish:
        state = state._replace(nodes=(_wish_comes_first(first), _wish_comes_first(second)))
    names = _names(_refs(state), keep_fences)
    return state if names is None else _rename(state, names)


def _wish_comes_first(node: NodeKeys) -> NodeKeys:
    return node._replace(wish=1) if node.wish else node


def epochs_in(state: State) -> tuple[int, ...]:
    return _refs(state).epochs


def fresh_epoch(state: State) -> int:
    """An epoch that nothing bears."""
    return _smallest_without(epochs_in(state))


def fresh_boot(state: State, node: int) -> int:
    refs = _refs(state)
    return _smallest_without(refs.boots[node] + refs.fences[node])


def _smallest_without(used: tuple[int, ...]) -> int:
    number = 1
    while number in used:
        number += 1
    return number


@cache
def _names(refs: Refs, keep_fences: bool) -> Names | None:
    """None where every number is in its place already."""
    boots, fences = refs.boots, refs.fences
    if keep_fences:
        boots = boots[0] + fences[0], boots[1] + fences[1]
    names = Names((_table(boots[0]), _table(boots[1])), _table(refs.epochs))
    forgotten = any(boot not in names.boots[node] for node in range(2) for boot in fences[node])
    in_place = all(old == new for table in (*names.boots, names.epochs) for old, new in table.items())
    return None if in_place and not forgotten else names


def _table(numbers: Numbers) -> Table:
    table = {0: 0, -1: -1}
    for number in numbers:
        table.setdefault(number, len(table) - 1)
    return table


# --- which numbers appear: each part is looked at once, then remembered --------------------------------------------------


def _refs(state: State) -> Refs:
    memory = (state.controller.epoch, state.controller.op, state.late, state.lag)
    return _joined(
        _refs_of_world(state.hosts, state.array.maps),
        _refs_of_nodes(state.nodes),
        _refs_of_volume(state.volume),
        _refs_of_memory(*memory) if any(memory) else _NOTHING,
    )


_NOTHING = Refs()


@cache
def _joined(*parts: Refs) -> Refs:
    boots, fences = _pairs(part.boots for part in parts), _pairs(part.fences for part in parts)
    return Refs(boots, tuple(epoch for part in parts for epoch in part.epochs), fences)


def _pairs(pairs: Iterable[Pair]) -> Pair:
    of_a, of_b = zip(*pairs, strict=True)
    return tuple(chain.from_iterable(of_a)), tuple(chain.from_iterable(of_b))


class _Seen(Table):
    """A table that changes nothing and notes in which order it was asked."""

    def __missing__(self, number: int) -> int:
        if number > 0:
            self[number] = number
        return number


def _noting() -> Names:
    return Names((_Seen(), _Seen()), _Seen())


def _noted(names: Names, fences: Pair = ((), ())) -> Refs:
    return Refs((tuple(names.boots[0]), tuple(names.boots[1])), tuple(names.epochs), fences)


@cache
def _refs_of_world(hosts: tuple[Host, Host], maps: tuple[int, int]) -> Refs:
    names = _noting()
    for node in range(2):
        _rename_host(hosts[node], node, names)
    for epoch in maps:
        names.epochs[epoch]
    return _noted(names)


@cache
def _refs_of_nodes(nodes: tuple[NodeKeys, NodeKeys]) -> Refs:
    names = _noting()
    for node in range(2):
        _rename_node(nodes[node], node, names)
    return _noted(names, (nodes[0].fences + nodes[0].fenced, nodes[1].fences + nodes[1].fenced))


@cache
def _refs_of_volume(volume: VolumeKeys) -> Refs:
    names = _noting()
    _rename_volume(volume, names)
    return _noted(names)


@cache
def _refs_of_memory(epoch: int, op: Op | None, late: tuple[Op, ...], lag: Lag | None) -> Refs:
    names = _noting()
    names.epochs[epoch]
    for call in (op, *late):
        if call:
            _rename_op(call, names)
    if lag:
        _rename_lag(lag, names)
    return _noted(names)


# --- the same with other numbers -----------------------------------------------------------------------------------------


def _rename(state: State, names: Names) -> State:
    (node_a, node_b), (host_a, host_b), maps = state.nodes, state.hosts, state.array.maps
    epochs, controller = names.epochs, state.controller
    return state._replace(
        nodes=(_rename_node(node_a, 0, names), _rename_node(node_b, 1, names)),
        volume=_rename_volume(state.volume, names),
        hosts=(_rename_host(host_a, 0, names), _rename_host(host_b, 1, names)),
        array=state.array._replace(maps=(epochs[maps[0]], epochs[maps[1]])),
        controller=controller._replace(
            epoch=epochs[controller.epoch], op=controller.op and _rename_op(controller.op, names)
        ),
        late=tuple(_rename_op(op, names) for op in state.late),
        lag=state.lag and _rename_lag(state.lag, names),
    )


def _rename_node(node: NodeKeys, index: int, names: Names) -> NodeKeys:
    boots, epochs = names.boots[index], names.epochs
    claim, status, connection = node.claim, node.status, node.connection
    return node._replace(
        boot=boots[node.boot],
        connection=connection and (epochs[connection[0]], boots[connection[1]], *connection[2:]),
        claim=claim and (epochs[claim[0]], boots[claim[1]]),
        status=status and (status[0], epochs[status[1]]),
        fences=_rename_fences(node.fences, boots),
        fenced=_rename_fences(node.fenced, boots),
    )


def _rename_fences(fences: tuple[int, ...], boots: Table) -> tuple[int, ...]:
    if isinstance(boots, _Seen):
        return fences
    return tuple(sorted(boots[boot] for boot in fences if boot in boots))


def _rename_holders(holders: tuple[Holder, ...], names: Names) -> tuple[Holder, ...]:
    return tuple(h._replace(epoch=names.epochs[h.epoch], boot=names.boots[h.node][h.boot]) for h in holders)


def _rename_volume(volume: VolumeKeys, names: Names) -> VolumeKeys:
    _, record, grant, status = volume
    return volume._replace(
        record=record and record._replace(exports=tuple((node, names.epochs[epoch]) for node, epoch in record.exports)),
        grant=grant and _rename_holders(grant, names),
        status=status and status._replace(holders=_rename_holders(status.holders, names)),
    )


def _rename_host(host: Host, index: int, names: Names) -> Host:
    return host._replace(
        boot=names.boots[index][host.boot],
        device=names.epochs[host.device],
        op=host.op and _rename_op(host.op, names),
        asleep=names.epochs[host.asleep],
        noted=host.noted and (names.epochs[host.noted[0]], names.boots[index][host.noted[1]]),
        session=names.epochs[host.session],
    )


def _rename_op(op: Op, names: Names) -> Op:
    return op._replace(epoch=names.epochs[op.epoch], boot=names.boots[op.node][op.boot])


def _rename_lag(lag: Lag, names: Names) -> Lag:
    return lag._replace(old=tuple((bit, _rename_value(bit, value, names)) for bit, value in lag.old))


def _rename_value(bit: int, value: Any, names: Names) -> Any:
    """An outdated value, by way of the tuple that it is a field of."""
    place, field = key_place(bit)
    if place == VOLUME_KEYS:
        blank = VolumeKeys(None, None, None, None)
        return _rename_volume(VolumeKeys._make(_with(blank, field, value)), names)[field]
    return _rename_node(NodeKeys._make(_with(NodeKeys(), field, value)), place, names)[field]


def _with(fields: tuple[Any, ...], index: int, value: Any) -> list[Any]:
    return [*fields[:index], value, *fields[index + 1 :]]
