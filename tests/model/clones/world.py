"""Everything that can happen next. A transaction reads and compares at once; a call to os-brick lands later than confirmed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from reconciler.core.steps import Do, Step
from tests.model.checks import CUT, DROPPED, REVIVED, TWO_WRITERS, WRONG_EPOCH
from tests.model.clones.rules import Rules
from tests.model.clones.state import (
    ABSENT,
    ATTACHED,
    ATTACHING,
    CUT_OFF,
    EXPORTED,
    EXPORTING,
    HERE,
    PRESENT,
    READY,
    RELEASED,
    REVOKED,
    TERMINATED,
    UNEXPORTED,
    UNKNOWN,
    Budget,
    Host,
    Keys,
    State,
    epochs_of,
    fresh,
    with_host,
)
from tests.model.load import Kind

NAMES = ("host A", "host B")


class Next(NamedTuple):
    """One thing that can happen now."""

    kind: Kind
    actor: str
    what: str
    state: State
    broken: str = ""


@dataclass(frozen=True)
class Load:
    """What a search lets happen besides the steps themselves, and crashes of everybody at any time.

    `start`: both hosts new (``fresh``), or A alone and settled with the volume (``settled``), for B to become its copy.
    """

    budget: Budget = field(default_factory=Budget)
    start: str = "fresh"
    words: bool = False
    """People say the word on any host, and of any boot that is over, that it is."""


def broken_by(state: State) -> str:
    """(a) and (g), true or false of a state, however it came about."""
    devices = [host.device for host in state.hosts if host.device]
    if not state.mapped:
        return ""
    if len(devices) > 1:
        return TWO_WRITERS
    return REVIVED if any(device != state.mapped for device in devices) else ""


def _cut(state: State) -> str:
    """(b), when a terminate or a remove_export lands."""
    return CUT if any(host.device and not host.fenced for host in state.hosts) else ""


# --- the controller ------------------------------------------------------------------------------------------------------


def controller_steps(rules: Rules, state: State) -> Iterator[Next]:
    step = rules.for_volume(state.keys, state.marks)
    if step is not None:
        after, broken = _controller(step, state)
        kind = Kind.GRANT if step.do is Do.GRANT else Kind.STEP
        yield Next(kind, "controller", f"{step.do.value}: {step.why}", after, broken or broken_by(after))
    if state.marks:
        yield Next(Kind.CRASH, "controller", "crashes and is started again", state._replace(marks=0))


def _controller(step: Step, state: State) -> tuple[State, str]:
    keys, marks = state.keys, state.marks
    if step.do is Do.GRANT:
        assert keys.node is not None
        granted = (fresh(epochs_of(state)), *keys.node, EXPORTING)
        return state._replace(keys=keys._replace(grant=granted), marks=0), ""
    grant = keys.grant
    assert grant is not None
    match step.do:
        case Do.EXPORT:
            return state._replace(marks=marks | EXPORTED), ""
        case Do.CONNECT_EXPORT:
            ready = (*grant[:3], READY)
            return state._replace(keys=keys._replace(grant=ready, connection=ready), mapped=grant[0]), ""
        case Do.REVOKE:
            return state._replace(keys=_revoked(keys, copies=step.copies_fence)), ""
        case Do.TERMINATE:
            return state._replace(mapped=0, marks=marks | TERMINATED), _cut(state)
        case Do.UNEXPORT:
            return state._replace(mapped=0, marks=marks | UNEXPORTED), _cut(state)
        case Do.FORGET:
            return state._replace(keys=keys._replace(grant=None, connection=None), marks=0), ""
        case other:
            raise AssertionError(f"{other} is no step of this world")


def _revoked(keys: Keys, *, copies: bool) -> Keys:
    grant, connection, fenced = keys.grant, keys.connection, keys.fenced
    assert grant is not None
    if copies:
        copy = [(*each, grant[2]) for each in keys.fences if each[0] == grant[1]]
        fenced = tuple(sorted([*(each for each in fenced if each[0] != grant[1]), *copy]))
    connection = connection and (*connection[:3], REVOKED)
    return keys._replace(grant=(*grant[:3], REVOKED), connection=connection, fenced=fenced)


# --- a host --------------------------------------------------------------------------------------------------------------


def host_steps(rules: Rules, state: State, index: int) -> Iterator[Next]:
    host = state.hosts[index]
    if host.op is not None and host.away in (HERE, CUT_OFF):
        after = _landed(state, index)
        yield Next(Kind.STEP, NAMES[index], f"{host.op[0]} lands", after, broken_by(after))
    if not host.runs or host.away != HERE:
        return
    step, boot, fault = rules.for_host(state.keys, host)
    yield from _sign_of_life(rules, state, index, fault)
    if host.op is not None or not (fault or host.given or not rules.waits_for_sign_of_life):
        return
    for each in filter(None, (step, boot)):
        after, broken = _host(each, state, index, rules)
        yield Next(Kind.STEP, NAMES[index], f"{each.do.value}: {each.why}", after, broken or broken_by(after))


def _sign_of_life(rules: Rules, state: State, index: int, fault: str) -> Iterator[Next]:
    keys, host = state.keys, state.hosts[index]
    mine = keys.alive == (index, host.boot)
    if not rules.may_put_alive(fault):
        if mine:
            after = with_host(state, index, host._replace(given=False))._replace(keys=keys._replace(alive=None))
            yield Next(Kind.STEP, NAMES[index], "gives the sign of life back", after)
        elif host.given:
            yield Next(Kind.STEP, NAMES[index], "is not the node", with_host(state, index, host._replace(given=False)))
    elif keys.alive is None or (mine and not host.given):
        after = with_host(state, index, host._replace(given=True))
        after = after._replace(keys=keys._replace(alive=(index, host.boot)))
        yield Next(Kind.STEP, NAMES[index], "puts the sign of life", after)
    elif rules.latches and not host.latched and _is_rival(state, index):
        latched = host._replace(given=False, latched=True)
        yield Next(Kind.STEP, NAMES[index], "meets another host, and remembers it", with_host(state, index, latched))
    elif not mine and host.given:
        yield Next(Kind.STEP, NAMES[index], "finds a rival", with_host(state, index, host._replace(given=False)))


def _is_rival(state: State, index: int) -> bool:
    """`alive/N` is another host's, which lives."""
    alive = state.keys.alive
    return alive is not None and alive[0] != index and state.hosts[alive[0]].boot == alive[1]


def _host(step: Step, state: State, index: int, rules: Rules) -> tuple[State, str]:
    keys, host = state.keys, state.hosts[index]
    own = (host.boot, rules.identity(host))
    match step.do:
        case Do.INSPECT:
            return with_host(state, index, host._replace(know=PRESENT if host.device else ABSENT)), ""
        case Do.CONNECT | Do.DISCONNECT:
            epoch = keys.connection[0] if keys.connection and step.do is Do.CONNECT else 0
            broken = _dropped(state, host) if step.do is Do.DISCONNECT else ""
            return with_host(state, index, host._replace(op=(step.do.name, epoch))), broken
        case Do.PUBLISH:
            after = with_host(state, index, host._replace(word=False, latched=False))
            return after._replace(keys=keys._replace(node=own)), ""
        case Do.MINT_BOOT:
            taken = [other.boot for other in state.hosts] + _named_boots(keys)
            return with_host(state, index, host._replace(boot=fresh(taken), fenced=False)), ""
        case Do.WITHDRAW:
            return state._replace(keys=keys._replace(status=None)), ""
        case Do.RELEASE:
            return state._replace(keys=keys._replace(claim=None, status=(RELEASED, step.epoch, *own))), ""
        case Do.CLAIM:
            claim, status = (step.epoch, *own), (ATTACHING, step.epoch, *own)
            return state._replace(keys=keys._replace(claim=claim, status=status)), ""
        case Do.REPORT:
            if not host.device:
                return with_host(state, index, host._replace(know=ABSENT)), ""
            wrong = WRONG_EPOCH if host.device != step.epoch else ""
            return state._replace(keys=keys._replace(status=(ATTACHED, step.epoch, *own))), wrong
        case other:
            raise AssertionError(f"{other} is no step of this world")


def _named_boots(keys: Keys) -> list[int]:
    told = [each[0] for each in (*keys.fences, *keys.fenced)]
    told += [each[1] for each in (keys.grant, keys.connection, keys.claim) if each]
    told += [keys.status[2]] if keys.status else []
    told += [keys.node[0]] if keys.node else []
    return told + ([keys.alive[1]] if keys.alive else [])


def fresh_boot(state: State) -> int:
    return fresh([*(host.boot for host in state.hosts), *_named_boots(state.keys)])


def _landed(state: State, index: int) -> State:
    host = state.hosts[index]
    assert host.op is not None
    name, epoch = host.op
    if name == Do.CONNECT.name:
        works = bool(state.mapped)
        host = host._replace(op=None, know=PRESENT if works else UNKNOWN, device=(host.device or epoch) if works else 0)
        return with_host(state, index, host)
    return with_host(state, index, host._replace(op=None, know=ABSENT, device=0))


def _dropped(state: State, host: Host) -> str:
    """(e), when the call is confirmed: wished for, granted to and claimed by this very boot of this host. A wish that is put again
    stops no disconnect under way."""
    keys = state.keys
    held = (host.device, host.boot, host.identity)
    mine = bool(keys.wish and keys.grant == (*held, READY) and keys.connection == (*held, READY) and keys.claim == held)
    return DROPPED if host.device and mine and not host.fenced else ""
