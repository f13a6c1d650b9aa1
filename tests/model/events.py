"""What happens without being planned: users, operators, crashes, power cuts, partitions, hands on our keys, and their healing."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.core.steps import Do
from tests.model import checks
from tests.model.canonical import fresh_boot
from tests.model.load import ACTORS, OPERATOR, OUTSIDE, USER, Kind, Load, Next
from tests.model.moves import STEPS
from tests.model.rules import Rules
from tests.model.state import (
    CONTROLLER,
    CORDONED,
    CUT_OFF,
    DRAINED,
    EXPORTED,
    HERE,
    LOST,
    NODES,
    OFF,
    OPEN,
    READY,
    UNKNOWN,
    Controller,
    NodeKeys,
    Op,
    Spec,
    State,
    with_array,
    with_budget,
    with_controller,
    with_host,
    with_node,
    with_volume,
)

# --- for nothing: crashes, healing, calls that land late -----------------------------------------------------------------


def crashes(load: Load, state: State) -> Iterator[Next]:
    """A process dies and is started again. What it had in its head is gone; its calls die with it, but in `late` loads."""
    controller = state.controller
    if controller != Controller() or _lags(state, CONTROLLER):
        after = _outlived(load, state, CONTROLLER, controller.op)._replace(controller=Controller())
        what = "crashes and is started again" if load.controllers == 1 else "loses the lead to the other one"
        yield Next(Kind.CRASH, ACTORS[CONTROLLER], what, _caught_up(after, CONTROLLER))
    for node, host in enumerate(state.hosts):
        if host.away != OFF and (host.op or host.know != UNKNOWN or _lags(state, node)):
            after = _outlived(load, state, node, host.op)
            after = with_host(after, node, host._replace(op=None, know=UNKNOWN))
            yield Next(Kind.CRASH, ACTORS[node], "crashes and is started again", _caught_up(after, node))


def _outlived(load: Load, state: State, actor: int, op: Op | None) -> State:
    if op and not op.landed and actor in load.late and not state.late:
        return state._replace(late=(op,))
    return state


def _lags(state: State, actor: int) -> bool:
    return state.lag is not None and state.lag.actor == actor


def _caught_up(state: State, actor: int) -> State:
    return state._replace(lag=None) if _lags(state, actor) else state


def late_calls(rules: Rules, state: State) -> Iterator[Next]:
    """A call that outlived its process reaches the array or the host. Nobody hears of it."""
    for op in state.late:
        rest = tuple(other for other in state.late if other is not op)
        after, broken = rules.land(state._replace(late=rest), op, heard=False)
        yield Next(Kind.HEAL, OUTSIDE, f"{STEPS[op.do].value} of the dead process lands late", after, broken)


def healing(load: Load, state: State) -> Iterator[Next]:
    if state.lag:
        yield Next(Kind.HEAL, ACTORS[state.lag.actor], "its cache catches up", state._replace(lag=None))
    yield from (
        Next(Kind.HEAL, ACTORS[CONTROLLER], "the audit misses an export", after)
        for after in (_audits(state, there=False) if load.audits else ())
    )
    for after in _words(state) if load.words else ():
        yield Next(Kind.HEAL, ACTORS[CONTROLLER], "the node's word comes: what it was given does not answer", after)
    for node, host in enumerate(state.hosts):
        if host.away == HERE:
            continue
        kind = Kind.RETURN if checks.is_away(state, node) else Kind.HEAL
        if host.away == CUT_OFF:
            after = with_host(state, node, host._replace(away=HERE))
            yield Next(kind, ACTORS[node], "reaches etcd again", after)
        else:
            device = host.asleep if state.array.maps[node] else 0
            boot = fresh_boot(state, node)
            started = host._replace(away=HERE, boot=boot, fenced=False, device=device, asleep=0)
            yield Next(kind, ACTORS[node], "is powered on: a new boot", with_host(state, node, started))


def arrivals(state: State) -> Iterator[Next]:
    """The kernel finds the device of a session that a broken-off connect left, while the array serves it. Nothing waits for it."""
    for node, host in enumerate(state.hosts):
        if host.session and _is_served(state, node):
            after = with_host(state, node, host._replace(device=host.session, session=0))
            yield _event(OUTSIDE, f"the device of a session comes by itself on {NODES[node]}", after)


def _is_served(state: State, node: int) -> bool:
    return (bool(state.array.maps[node]) or not state.array.cuts) and state.hosts[node].away != OFF


def _audits(state: State, *, there: bool) -> Iterator[State]:
    """The controller hears that the export of a holder is missing, between two looks at the volume. `there`: it is not."""
    memory = state.controller
    for holder in state.volume.holders if memory.op is None else ():
        marks = memory.marks if memory.epoch == holder.epoch else 0
        known = marks & LOST
        if holder.phase == READY and not known and there == (state.array.maps[holder.node] == holder.epoch):
            lost = memory._replace(epoch=holder.epoch, marks=marks & ~EXPORTED | LOST)
            yield with_controller(state, lost)


def _words(state: State) -> Iterator[State]:
    """A node that claims what it holds says that it can't reach it: without a device, or through none of its paths."""
    memory = state.controller
    for holder in state.volume.holders if memory.op is None else ():
        claim, host = state.nodes[holder.node].claim, state.hosts[holder.node]
        answers = bool(state.array.target and state.array.maps[holder.node])
        marks = memory.marks if memory.epoch == holder.epoch else 0
        mine = claim == (holder.epoch, host.boot) and host.away == HERE
        if holder.phase == READY and mine and not answers and not marks & LOST:
            yield with_controller(state, memory._replace(epoch=holder.epoch, marks=marks & ~EXPORTED | LOST))


# --- taken from the budget -----------------------------------------------------------------------------------------------


def budgeted(load: Load, rules: Rules, state: State) -> Iterator[Next]:
    budget = state.budget
    if budget.wishes:
        yield from _wishes(load, with_budget(state, budget._replace(wishes=budget.wishes - 1)))
    if budget.cordons:
        yield from _cordons(with_budget(state, budget._replace(cordons=budget.cordons - 1)))
    if budget.drains:
        yield from _drains(with_budget(state, budget._replace(drains=budget.drains - 1)))
    if budget.power:
        yield from _power_cuts(with_budget(state, budget._replace(power=budget.power - 1)))
    if budget.partitions:
        yield from _partitions(with_budget(state, budget._replace(partitions=budget.partitions - 1)))
    if budget.fences:
        yield from _fences(with_budget(state, budget._replace(fences=budget.fences - 1)))
    if budget.deletions:
        yield from _deletions(load, rules, with_budget(state, budget._replace(deletions=budget.deletions - 1)))
    if budget.paths:
        yield from _lost_paths(with_budget(state, budget._replace(paths=budget.paths - 1)))
    if budget.breaks:
        yield from _broken_connects(with_budget(state, budget._replace(breaks=budget.breaks - 1)))
    if budget.specs:
        yield from _specs(load, with_budget(state, budget._replace(specs=budget.specs - 1)))
    if budget.compactions and state.array.last is not None:
        forgotten = with_array(state, state.array._replace(last=None))
        after = with_budget(forgotten, budget._replace(compactions=budget.compactions - 1))
        yield _event(OUTSIDE, "etcd is compacted", after)
    if budget.losses:
        yield from _losses(with_budget(state, budget._replace(losses=budget.losses - 1)))


def _event(actor: str, what: str, state: State, broken: str = "") -> Next:
    return Next(Kind.EVENT, actor, what, state, broken)


def _wish(state: State, node: int, order: int) -> State:
    return with_node(state, node, state.nodes[node]._replace(wish=order))


def _wishes(load: Load, state: State) -> Iterator[Next]:
    """Put, delete, move. The very first wish is for A: for B it would be the mirror image."""
    first = state.budget.wishes + 1 == load.budget.wishes and not any(keys.wish for keys in state.nodes)
    for node in range(1 if first else load.nodes):
        other = 1 - node
        if not state.nodes[node].wish:
            order = 2 if state.nodes[other].wish else 1
            yield _event(USER, f"puts the wish for {NODES[node]}", _wish(state, node, order))
            continue
        yield _event(USER, f"deletes the wish for {NODES[node]}", _wish(state, node, 0))
        if other < load.nodes and not state.nodes[other].wish:
            moved = _wish(_wish(state, node, 0), other, 1)
            yield _event(USER, f"moves the wish from {NODES[node]} to {NODES[other]}", moved)


def _cordons(state: State) -> Iterator[Next]:
    for node, keys in enumerate(state.nodes):
        what, intent = ("opens", OPEN) if keys.intent else ("cordons", CORDONED)
        yield _event(USER, f"{what} {NODES[node]}", with_node(state, node, keys._replace(intent=intent)))


def _drains(state: State) -> Iterator[Next]:
    for node, keys in enumerate(state.nodes):
        what, intent = ("takes back the drain of", OPEN) if keys.intent == DRAINED else ("drains", DRAINED)
        yield _event(USER, f"{what} {NODES[node]}", with_node(state, node, keys._replace(intent=intent)))


def _power_cuts(state: State) -> Iterator[Next]:
    for node, host in enumerate(state.hosts):
        if host.away == OFF:
            continue
        asleep = (host.device or host.session) if host.restores else 0
        dark = host._replace(away=OFF, op=None, know=UNKNOWN, device=0, size=0, asleep=asleep, short=False, session=0)
        after = with_host(state, node, dark)._replace(late=tuple(op for op in state.late if not _runs_on(op, node)))
        yield _event(OUTSIDE, f"power cut on {NODES[node]}", _caught_up(after, node))


def _runs_on(op: Op, node: int) -> bool:
    return op.node == node and STEPS[op.do] in (Do.CONNECT, Do.DISCONNECT, Do.ADD_PATHS, Do.EXTEND_DEVICE)


def _lost_paths(state: State) -> Iterator[Next]:
    """Not found at the connect, or lost since; their portals are back."""
    for node, host in enumerate(state.hosts):
        if host.device and not host.short:
            yield _event(OUTSIDE, f"{NODES[node]} misses paths", with_host(state, node, host._replace(short=True)))


def _broken_connects(state: State) -> Iterator[Next]:
    """The worker dies between login and device. The daemon lives, and knows no more than one that was started again."""
    for node, host in enumerate(state.hosts):
        op = host.op
        if op and not op.landed and STEPS[op.do] is Do.CONNECT and not host.device and _is_served(state, node):
            left = host._replace(op=None, know=UNKNOWN, size=op.size, session=host.session or op.epoch)
            yield _event(
                OUTSIDE, f"the connect on {NODES[node]} is broken off after the login", with_host(state, node, left)
            )


def _partitions(state: State) -> Iterator[Next]:
    for node, host in enumerate(state.hosts):
        if host.away == HERE:
            yield _event(OUTSIDE, f"{NODES[node]} loses etcd", with_host(state, node, host._replace(away=CUT_OFF)))


def _losses(state: State) -> Iterator[Next]:
    if state.array.target:
        after = with_array(state, state.array._replace(target=False, maps=(0, 0)))
        yield _event(OUTSIDE, "the array forgets its exports", after)
    for after in _audits(state, there=True):
        yield _event(OUTSIDE, "an outdated audit misses an export that is there", after)


def _fences(state: State) -> Iterator[Next]:
    """The published boot of a node that is away, or one that holds something. It may come back in the same boot, its
    device still there; unless the statement is that it is powered off, which is made of what is so. It may come second."""
    for node, (keys, host) in enumerate(zip(state.nodes, state.hosts, strict=True)):
        if host.away == HERE:
            continue
        held = {holder.boot for holder in state.volume.holders if holder.node == node}
        for boot in sorted({keys.boot, *held} - {0}):
            before = keys.fences.count(boot)
            is_over = host.away == OFF or boot != host.boot
            for proof, what in ((1, "fences"), (2, "states as powered off")):
                if before < proof and (proof == 1 or (is_over and not state.array.cuts)):
                    fenced = keys._replace(fences=tuple(sorted((*keys.fences, *(boot,) * (proof - before)))))
                    after = with_host(state, node, host._replace(fenced=host.fenced or boot == host.boot))
                    yield _event(OPERATOR, f"{what} boot {boot} of {NODES[node]}", with_node(after, node, fenced))


_BY_HAND = {
    "claim": lambda keys: keys._replace(claim=None),
    "status": lambda keys: keys._replace(status=None),
    "connection": lambda keys: keys._replace(connection=None),
    "boot": lambda keys: keys._replace(boot=0),
    "prefix": lambda keys: keys._replace(claim=None, status=None) if keys.claim and keys.status else keys,
    "fence": lambda keys: keys._replace(fences=()),
    "copy": lambda keys: keys._replace(fenced=()),
}
_NAMES = {
    "claim": "the claim of {}",
    "status": "the status of {}",
    "connection": "the connection of {}",
    "boot": "nodes/{}",
    "prefix": "all claims and attachments of {}",
    "fence": "the fence of {}",
    "copy": "the controller's copy of the fence of {}",
}


def _deletions(load: Load, rules: Rules, state: State) -> Iterator[Next]:
    for node, keys in enumerate(state.nodes):
        for name in sorted(load.deletions & _BY_HAND.keys()):
            after: NodeKeys = _BY_HAND[name](keys)
            if after != keys:
                what = f"deletes {_NAMES[name].format(NODES[node])}"
                yield _event("somebody", what, with_node(state, node, after))
        overwritten = rules.fence_overwritten(state, node)
        if overwritten is not None:
            yield _event("somebody", f"overwrites the fence of {NODES[node]}", overwritten)
    volume = state.volume
    if volume.grant is None or volume.status is None:
        return
    if "grant" in load.deletions:
        yield _event("somebody", "deletes grants/V", with_volume(state, volume._replace(grant=None)))
    if "volume" in load.deletions:
        yield _event("somebody", "deletes volumes/V", with_volume(state, volume._replace(status=None)))


# --- the volume's own life -----------------------------------------------------------------------------------------------


def array_refuses(state: State, op: Op) -> bool:
    """There is no room for what is to be created or extended; there never will be."""
    record = state.volume.record
    asked = {Do.CREATE: record.size, Do.EXTEND: record.target}.get(STEPS[op.do], 0) if record else 0
    return asked > state.array.room


def refused(state: State, op: Op) -> State:
    """The controller remembers which wish was refused, and which size."""
    target = state.volume.record.target if state.volume.record else 0
    memory = state.controller._replace(op=None, refused=op.generation, refused_size=target)
    return with_controller(state, memory)


def _specs(load: Load, state: State) -> Iterator[Next]:
    volume = state.volume
    if volume.spec:
        said = volume.spec.size, volume.spec.delete
        array = state.array._replace(keep=not volume.spec.delete, last=said, missed=True)
        after = with_array(with_volume(state, volume._replace(spec=None)), array)
        yield _event(USER, "deletes the volume's wish", after)
    for size in load.sizes:
        for delete in (False, True):
            if not volume.spec or (size, delete) != volume.spec[:2]:
                spec = Spec(size, delete, _fresh_generation(state))
                what = f"wishes for {size} GiB, on_delete: {'delete' if delete else 'retain'}"
                array = state.array._replace(keep=True, last=None)
                yield _event(USER, what, with_array(with_volume(state, volume._replace(spec=spec)), array))


def _fresh_generation(state: State) -> int:
    volume = state.volume
    used = {volume.spec.generation if volume.spec else 0, volume.status.generation if volume.status else 0}
    used |= {state.controller.refused or 0, state.controller.op.generation if state.controller.op else 0}
    for _, value in state.lag.old if state.lag else ():
        used.add(getattr(value, "generation", 0))
    return next(number for number in range(1, 9) if number not in used)
