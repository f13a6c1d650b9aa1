"""Tells a path through the states as an incident report: who did what, and what that changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.model.canonical import epochs_in
from tests.model.load import Next
from tests.model.state import NODES, Array, Holder, Host, NodeKeys, State, VolumeKeys
from tests.model.world import World

HOLDER_PHASES = ("exporting", "ready", "revoked", "in use")
STATUS_PHASES = ("Attaching", "Attached", "Released")
VOLUME_PHASES = ("Creating", "Available", "Extending", "Retained", "Deleting")
AWAY = ("here", "cut off from etcd", "without power")


def tell(world: World, path: list[State]) -> str:
    """A line for each step, and one for what it changed. Epochs keep their first number here, though the search renames."""
    lines, state, highest = [], path[0], 0
    for number, wanted in enumerate(path[1:], start=1):
        highest = max((highest, *epochs_in(state)))
        happened = _find(world, state, wanted, highest)
        lines.append(f"{number:4}  {happened.actor:10}  {happened.what}")
        changes = ", ".join(_changes(state, happened.state))
        if changes:
            lines.append(f"{'':18}{changes}")
        if happened.broken:
            lines.append(f"{'':18}** {happened.broken}")
        state = happened.state
    return "\n".join(lines)


def _find(world: World, state: State, wanted: State, highest: int) -> Next:
    world.rules.highest_epoch = highest
    try:
        return next(found for found in world.as_numbered(state) if world.canonical(found.state) == wanted)
    finally:
        world.rules.highest_epoch = 0


# --- what changed --------------------------------------------------------------------------------------------------------


def _changes(before: State, after: State) -> Iterator[str]:
    for index, name in enumerate(NODES):
        yield from _of_keys(name, before.nodes[index], after.nodes[index])
    yield from _of_volume(before.volume, after.volume)
    for index, name in enumerate(NODES):
        yield from _of_host(name, before.hosts[index], after.hosts[index])
    yield from _of_array(before.array, after.array)


def _of_keys(name: str, before: NodeKeys, after: NodeKeys) -> Iterator[str]:
    if before.boot != after.boot:
        yield f"nodes/{name} = {_shown(after.boot and f'boot {after.boot}')}"
    if before.fences != after.fences:
        yield f"fences/{name} = {_boots(after.fences)}"
    if before.fenced != after.fenced:
        yield f"fenced/{name} = {_boots(after.fenced)}"
    if before.claim != after.claim:
        claim = after.claim
        yield f"claims/{name} = {_shown(claim and f'epoch {claim[0]}, boot {claim[1]}')}"
    if before.status != after.status:
        status = after.status
        yield f"attachments/{name} = {_shown(status and f'{STATUS_PHASES[status[0]]}({status[1]})')}"
    if before.connection != after.connection:
        found = after.connection
        shown = found and f"epoch {found[0]}, boot {found[1]}, {HOLDER_PHASES[found[2]]}"
        yield f"connections/{name} = {_shown(shown)}"


def _of_volume(before: VolumeKeys, after: VolumeKeys) -> Iterator[str]:
    if before.spec != after.spec:
        spec = after.spec
        yield f"desired/volumes = {_shown(spec and f'{spec.size} GiB')}"
    if before.record != after.record:
        record = after.record
        yield f"records = {_shown(record and f'{record.size} GiB {record.intent}'.strip())}"
    if before.grant != after.grant:
        yield f"grants = {_holders(after.grant)}"
    if before.status != after.status:
        status = after.status
        shown = status and f"{VOLUME_PHASES[status.phase]} {_holders(status.holders)}"
        yield f"volumes = {_shown(shown)}"


def _of_host(name: str, before: Host, after: Host) -> Iterator[str]:
    if before.boot != after.boot:
        yield f"{name} is in boot {after.boot}"
    if before.away != after.away:
        yield f"{name} is {AWAY[after.away]}"
    if before.device != after.device:
        yield f"device on {name}: {f'of epoch {after.device}' if after.device else 'none'}"
    if before.noted != after.noted:
        noted = after.noted
        yield f"note on {name}: {f'epoch {noted[0]}, boot {noted[1]}' if noted else 'none'}"
    if before.session != after.session:
        yield f"session on {name}: {f'of epoch {after.session}' if after.session else 'none'}"


def _of_array(before: Array, after: Array) -> Iterator[str]:
    if before.target != after.target:
        yield "the export is there" if after.target else "the export is gone"
    for name, old, new in zip(NODES, before.maps, after.maps, strict=True):
        if old != new:
            yield f"mapped to {name} under epoch {new}" if new else f"unmapped from {name}"
    if before.data != after.data:
        yield f"on the array: {f'{after.data} GiB' if after.data else 'nothing'}"


def _holders(holders: tuple[Holder, ...] | None) -> str:
    if holders is None:
        return "missing"
    entries = (f"{NODES[h.node]} epoch {h.epoch} boot {h.boot} {HOLDER_PHASES[h.phase]}" for h in holders)
    return f"[{'; '.join(entries)}]"


def _boots(boots: tuple[int, ...]) -> str:
    strengths = ((boot, boots.count(boot) > 1) for boot in dict.fromkeys(boots))
    return _shown(", ".join(f"boot {boot}{' (powered off)' if off else ''}" for boot, off in strengths))


def _shown(value: Any) -> str:
    return str(value) if value else "missing"
