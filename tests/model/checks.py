"""What must never happen, and what "settled" means. The letters are those of docs/PROTOCOL.md, section 3."""

from __future__ import annotations

from tests.model.state import (
    ABSENT,
    ATTACHED,
    AVAILABLE,
    HERE,
    LOST,
    PRESENT,
    READY,
    RELEASED,
    RETAINED,
    State,
)

TWO_WRITERS = "(a) two nodes can write"
CUT = "(b) unmapped while an unfenced boot holds the device"
WRONG_EPOCH = "(c) a device of another epoch is published as attached"
DROPPED = "(e) a wished device is dropped without a reason"
REVIVED = "(g) an old device gets a newer export"
ENDLESS = "(L) grants without end"
STUCK = "stuck: no settled state can be reached"
STUCK_UNHEALED = "stuck as long as fenced nodes stay away"
NOISY = "a settled state is not quiet"
CORDON_IGNORED = "(k) granted to a cordoned or drained node"
NOT_ITS_WISH = "(r) granted although no wish for the volume is accepted"
DATA_LOST = "(d) data deleted that was to be retained"
DELETED_IN_USE = "(h) deleted while a node holds or claims it"
EXTENDED_IN_USE = "(x) extended while a node holds it"


def of_state(state: State) -> str:
    """(a) and (g): true or false of a state, however it came about."""
    (first, second), maps = state.hosts, state.array.maps
    if first.device and second.device and (not state.array.cuts or (maps[0] and maps[1])):
        return TWO_WRITERS
    for host, mapped in zip(state.hosts, maps, strict=True):
        if host.device and mapped and host.device != mapped:
            return REVIVED
    return ""


def unmap(state: State, nodes: tuple[int, ...]) -> str:
    """(b), when a terminate or a remove_export lands."""
    return CUT if any(state.hosts[node].device and not fence_covers(state, node) for node in nodes) else ""


def fence_covers(state: State, node: int) -> bool:
    """A fence counts for the boot it names; where hosts restore devices by themselves, until a newer boot is published."""
    keys, host = state.nodes[node], state.hosts[node]
    return host.fenced or (host.restores and keys.boot in keys.fences)


def attached(state: State, node: int, epoch: int) -> str:
    """(c), when `Attached(e)` is written."""
    return WRONG_EPOCH if state.hosts[node].device != epoch else ""


def disconnect(state: State, node: int) -> str:
    """(e), when a disconnect is begun: nobody took back what this device rests on."""
    host, keys, volume = state.hosts[node], state.nodes[node], state.volume
    entry = (node, host.device, host.boot, READY)
    listed = entry in (volume.grant or ()) or (volume.status and entry in volume.status.holders)
    fenced = host.boot in keys.fences or host.boot in keys.fenced
    return DROPPED if keys.wanted and host.device and listed and not fenced else ""


def grant(state: State, node: int) -> str:
    if state.nodes[node].intent:
        return CORDON_IGNORED
    return "" if _is_accepted(state) else NOT_ITS_WISH


def _is_accepted(state: State) -> bool:
    """The wish for the volume is one that it can become."""
    spec, record = state.volume.spec, state.volume.record
    return spec is not None and record is not None and spec.size >= record.size


def intend_delete(state: State) -> str:
    """(d): what users may have put data on is deleted only when its wish is gone."""
    return DATA_LOST if state.array.used and state.volume.spec is not None else ""


def delete(state: State) -> str:
    record = state.volume.record
    if state.volume.holders or any(keys.claim for keys in state.nodes):
        return DELETED_IN_USE
    asked = record is not None and record.intent == "delete" and not state.array.kept
    return (
        DATA_LOST if state.array.used and not asked else ""
    )  # (d): and only when the last wish said so until it was intended


def extend(state: State) -> str:
    return EXTENDED_IN_USE if state.volume.holders else ""


# --- settled -------------------------------------------------------------------------------------------------------------


def is_away(state: State, node: int) -> bool:
    """Fenced and not here: may never come back. Nothing is asked of such a node, and nothing of it may be in the way.

    Fenced are its published boot and those it was granted something in, if they are others; and well enough for the array.
    """
    if state.hosts[node].away == HERE:
        return False
    keys = state.nodes[node]
    held = [holder.boot for holder in state.volume.holders if holder.node == node]
    enough = 1 if state.array.cuts else 2
    stated = (keys.fences, keys.fenced)
    return all(any(fences.count(boot) >= enough for fences in stated) for boot in (keys.boot, *held) if boot)


def settled(state: State, *, healed: bool) -> bool:
    """Everything is as wished and nothing is left over. Not `healed`: fenced nodes that are away are not waited for."""
    if state.controller.op or state.late or state.lag or state.controller.marks & LOST:
        return False
    here = [node for node in range(2) if healed or not is_away(state, node)]
    if not all(_is_well(state, node) for node in here):
        return False
    volume = state.volume
    if not _volume_settled(state):
        return False
    holders = volume.holders
    wished = [node for node in here if state.nodes[node].wish and not state.nodes[node].intent]
    holding = {holder.node for holder in holders}
    grantable = _is_accepted(state) and volume.record and not volume.record.intent
    if len(holders) > 1 or (wished and grantable and not holders) or (not holders and state.array.target):
        return False
    return all(_node_settled(state, node, node in holding, node in here) for node in range(2))


def _is_well(state: State, node: int) -> bool:
    keys, host = state.nodes[node], state.hosts[node]
    seen = PRESENT if host.device else ABSENT
    if host.session or (host.device and host.short):
        return False
    return (host.away, host.op, host.know, keys.boot) == (HERE, None, seen, host.boot) and host.boot not in keys.fences


def _volume_settled(state: State) -> bool:
    spec, record, grant, status = state.volume
    refused = spec is not None and state.controller.refused == spec.generation and spec.size > state.array.room
    if record is None:
        return (spec is None or refused) and grant is None and status is None and not state.array.data
    if refused and record.intent == "create":
        return True  # said in the verdict; the user has to act
    if record.intent or status is None or grant != status.holders or state.array.data != record.size:
        return False
    if len(record.exports) != len(grant):
        return False
    if spec is None:
        if not record.ended or state.array.missed:
            return state.array.last is None  # nobody knows what it said: told in the verdict; the user has to act
        in_use = grant or any(keys.claim for keys in state.nodes)
        return bool(in_use) if record.delete else status.phase == RETAINED
    if spec.size < record.size:
        return True  # refused in the verdict; the user has to act
    grown = record.size == spec.size or (bool(grant) and not state.array.online) or refused
    return (status.phase, status.generation) == (AVAILABLE, spec.generation) and grown


def _node_settled(state: State, node: int, holds: bool, here: bool) -> bool:
    keys, host = state.nodes[node], state.hosts[node]
    if not holds:
        said = keys.status is None or bool(keys.wanted and keys.status[0] == RELEASED)  # goes with the wish (N6)
        gone = (said and not keys.claim and not host.device and not host.noted) or not here
        return gone and not keys.connection and not state.array.maps[node]
    epoch = host.device
    attached = keys.claim == (epoch, host.boot) and keys.status == (ATTACHED, epoch)
    size = state.volume.record.size if state.volume.record else 0
    told = keys.connection == (epoch, host.boot, READY, size) and host.size == size
    exported = told and state.array.maps[node] == epoch and state.array.target
    held = (node, epoch, host.boot, READY) in state.volume.holders
    return bool(keys.wanted and here and epoch and attached and exported and held)
