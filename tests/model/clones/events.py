"""What happens without being planned: crashes, healing, people, and what is taken from the budget."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.clones.rules import Rules
from tests.model.clones.state import (
    ABSENT,
    CUT_OFF,
    HERE,
    NOWHERE,
    OFF,
    PAUSED,
    POWERED_OFF,
    STATEMENT,
    UNKNOWN,
    Budget,
    Host,
    Keys,
    State,
    with_host,
)
from tests.model.clones.world import NAMES, Load, Next, fresh_boot
from tests.model.load import Kind

OTHER_BOARD = 3
"""The identity of the first host after its board was changed."""


def crashes(state: State) -> Iterator[Next]:
    """A daemon ends, in order or not. Its calls die with it; it is started again some time."""
    for index, host in enumerate(state.hosts):
        if host.runs and host.away == HERE:
            after = host._replace(runs=False, op=None, know=UNKNOWN, given=False)
            yield Next(Kind.CRASH, NAMES[index], "its daemon ends", with_host(state, index, after))


def healing(rules: Rules, state: State) -> Iterator[Next]:
    for index, host in enumerate(state.hosts):
        if host.away in (PAUSED, CUT_OFF):
            yield Next(Kind.HEAL, NAMES[index], "is itself again", with_host(state, index, host._replace(away=HERE)))
        elif host.away == OFF:
            device = host.asleep if state.mapped and rules.logs_in_by_itself else 0
            on = host._replace(away=HERE, boot=fresh_boot(state), fenced=False, device=device, asleep=0)
            yield Next(Kind.HEAL, NAMES[index], "is powered on: a new boot", with_host(state, index, on))
        elif host.away == HERE and not host.runs and _may_start(rules, host):
            after = host._replace(runs=True, folder=rules.identity(host))
            yield Next(Kind.HEAL, NAMES[index], "its daemon is started", with_host(state, index, after))
    yield from _expiry(state)


def _may_start(rules: Rules, host: Host) -> bool:
    return not rules.folder_is_checked or host.folder in (0, rules.identity(host)) or host.word


def _expiry(state: State) -> Iterator[Next]:
    """The lease runs out of a daemon that does not renew it, or of a boot that is over."""
    alive = state.keys.alive
    if alive is not None:
        host = state.hosts[alive[0]]
        if not (host.runs and host.away == HERE and host.boot == alive[1]):
            gone = state._replace(keys=state.keys._replace(alive=None))
            yield Next(Kind.HEAL, "etcd", "the lease runs out", gone)


def people(load: Load, state: State) -> Iterator[Next]:
    """A word on either host, wise or not; statements that a boot is over, made of what is so; and where keys speak of two hosts,
    one of them is switched off."""
    if not load.words:
        return
    keys = state.keys
    for index, host in enumerate(state.hosts):
        if len(_identities(keys)) > 1 and host.away not in (OFF, NOWHERE):
            yield Next(Kind.RETURN, "person", f"switches {NAMES[index]} off", with_host(state, index, _dark(host)))
    for index, host in enumerate(state.hosts):
        named = keys.node is not None and keys.node[1] != host.identity
        moved = host.folder not in (0, host.identity)
        if host.away == HERE and not host.word and (named or moved):
            said = with_host(state, index, host._replace(word=True))
            yield Next(Kind.RETURN, "person", f"says on {NAMES[index]} that it is the node", said)
    held = [each[1] for each in (keys.grant, keys.connection, keys.claim) if each]
    held += [boot for boot, proof, _ in keys.fenced if proof == STATEMENT]
    for boot in sorted({*held, *([keys.node[0]] if keys.node else []), *([keys.status[2]] if keys.status else [])}):
        in_it = any(host.boot == boot and host.away not in (OFF, NOWHERE) for host in state.hosts)
        if not in_it and dict(keys.fences).get(boot) != POWERED_OFF:
            yield Next(Kind.RETURN, "person", f"states that boot {boot} is over", _fenced(state, boot, POWERED_OFF))


def _identities(keys: Keys) -> set[int]:
    told = [each[2] for each in (keys.grant, keys.connection, keys.claim) if each]
    return {*told, *([keys.node[1]] if keys.node else []), *([keys.status[3]] if keys.status else [])}


def _dark(host: Host) -> Host:
    return host._replace(away=OFF, runs=False, op=None, know=UNKNOWN, given=False, device=0, asleep=host.device)


def _fenced(state: State, boot: int, proof: int) -> State:
    fences = tuple(sorted({**dict(state.keys.fences), boot: proof}.items()))
    first, second = (host._replace(fenced=host.fenced or host.boot == boot) for host in state.hosts)
    return state._replace(keys=state.keys._replace(fences=fences), hosts=(first, second))


# --- from the budget -----------------------------------------------------------------------------------------------------


def budgeted(state: State) -> Iterator[Next]:
    budget, keys = state.budget, state.keys

    def spent(name: str, actor: str, what: str, after: State) -> Next:
        left = budget._replace(**{name: getattr(budget, name) - 1})
        return Next(Kind.EVENT, actor, what, after._replace(budget=left))

    if budget.wishes:
        what = "deletes the wish" if keys.wish else "puts the wish"
        yield spent("wishes", "user", what, state._replace(keys=keys._replace(wish=not keys.wish)))
    if budget.leases and keys.alive:
        yield spent("leases", "etcd", "loses all leases", state._replace(keys=keys._replace(alive=None)))
    for index, host in enumerate(state.hosts):
        yield from _of_host(state, index, host, spent) if host.away == HERE else ()
        off = host.away not in (OFF, NOWHERE)
        if budget.power and off:
            yield spent("power", NAMES[index], "loses power", with_host(state, index, _dark(host)))
        if budget.statements and host.away in (CUT_OFF, PAUSED, OFF) and host.boot not in dict(keys.fences):
            what = f"states of boot {host.boot} that it can no longer write"
            yield spent("statements", "person", what, _fenced(state, host.boot, STATEMENT))
    if budget.copies and state.hosts[1].away == NOWHERE:
        first = state.hosts[0]  # what its kernel would log in to by itself is copied, too
        clone = state.hosts[1]._replace(
            away=OFF, folder=first.folder, latched=first.latched, know=UNKNOWN, asleep=first.device
        )
        yield spent("copies", NAMES[1], "is made, a copy of host A", with_host(state, 1, clone))
    if budget.boards and state.hosts[0].away == OFF:
        changed = state.hosts[0]._replace(identity=OTHER_BOARD)
        yield spent("boards", "person", "changes the board of host A", with_host(state, 0, changed))
    if budget.deletions:
        for after in _without_one(keys):
            gone = next(name for name in keys._fields if getattr(keys, name) != getattr(after, name))
            yield spent("deletions", "somebody", f"deletes the {gone} by hand", state._replace(keys=after))


def _without_one(keys: Keys) -> Iterator[Keys]:
    without = (
        keys._replace(node=None),
        keys._replace(alive=None),
        keys._replace(claim=None),
        keys._replace(status=None),
        keys._replace(connection=None),
    )
    yield from (each for each in without if each != keys)


def _of_host(state: State, index: int, host: Host, spent: object) -> Iterator[Next]:
    assert callable(spent)
    for name, away, what in (("pauses", PAUSED, "is paused"), ("partitions", CUT_OFF, "is cut off from etcd")):
        if getattr(state.budget, name):
            yield spent(name, NAMES[index], what, with_host(state, index, host._replace(away=away)))


# --- first states --------------------------------------------------------------------------------------------------------


def both_fresh(budget: Budget) -> State:
    """Two new hosts of one id and one initiator, and a wish. The first to publish is the node."""
    first, second = Host(1, 1, boot=1, know=ABSENT), Host(2, 2, boot=2, know=ABSENT)
    return State(Keys(wish=True), (first, second), 0, 0, budget)


def one_alone(budget: Budget) -> State:
    """A alone is the node, and a wish. B is made by copying it."""
    host = Host(1, 1, boot=1, given=True)
    keys = Keys(wish=True, node=(1, 1), alive=(0, 1))
    return State(keys, (host, Host(2, away=NOWHERE, runs=False)), 0, 0, budget)
