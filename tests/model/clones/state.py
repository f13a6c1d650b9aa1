"""The state of the searched world: what is in etcd of one node and one volume, two hosts, the array's map, a controller's memory.

Epochs and boots are only ever compared for equality, so they are renamed in order of appearance. Planners never see the ghosts:
of which epoch a device is, and whether a host's present boot was ever fenced.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

HERE, PAUSED, CUT_OFF, OFF, NOWHERE = range(5)
"""What has become of a host. A paused one's calls land after the thaw. NOWHERE: not there yet."""
UNKNOWN, ABSENT, PRESENT = range(3)
"""What its daemon knows of the device."""
EXPORTING, READY, REVOKED = range(3)
ATTACHING, ATTACHED, RELEASED = range(3)
STATEMENT, POWERED_OFF = 1, 2
EXPORTED, TERMINATED, UNEXPORTED = 1, 2, 4
"""Calls of the present grant that the controller knows to have returned."""

Epoch = int
Boot = int
Identity = int
Fences = tuple[tuple[Boot, int], ...]
Copies = tuple[tuple[Boot, int, Identity], ...]
"""The controller's copies of fences: they name the host as the grant did."""


class Keys(NamedTuple):
    """What etcd holds. Both holder lists are one here: nobody deletes one of them by hand."""

    wish: bool = False
    node: tuple[Boot, Identity] | None = None
    alive: tuple[int, Boot] | None = None
    """Whose lease it hangs on: a host, and its boot."""
    fences: Fences = ()
    fenced: Copies = ()
    claim: tuple[Epoch, Boot, Identity] | None = None
    status: tuple[int, Epoch, Boot, Identity] | None = None
    connection: tuple[Epoch, Boot, Identity, int] | None = None
    grant: tuple[Epoch, Boot, Identity, int] | None = None


class Host(NamedTuple):
    """A machine that bears the node's id, and its daemon."""

    identity: Identity
    folder: Identity = 0
    """The identity in its state folder; 0: there is none yet."""
    boot: Boot = 0
    away: int = HERE
    runs: bool = True
    given: bool = False
    """In the daemon's head: the sign of life is its own."""
    know: int = ABSENT
    device: Epoch = 0
    """Ghost: the epoch under which it was connected."""
    fenced: bool = False
    """Ghost: there was a fence of its present boot."""
    op: tuple[str, Epoch] | None = None
    """A call to os-brick that was confirmed and has not landed."""
    word: bool = False
    """A person said here that this host is the node."""
    latched: bool = False
    """In its state folder: it met another host that lived as the node. Only variants ask."""
    asleep: Epoch = 0
    """Ghost: what it will log in to by itself at power on, where hosts do that."""


class Budget(NamedTuple):
    """How many of each event are still to come."""

    wishes: int = 0
    power: int = 0
    pauses: int = 0
    partitions: int = 0
    leases: int = 0
    """All leases gone at once."""
    deletions: int = 0
    statements: int = 0
    """Fences that are no more than a statement, of a host that is away."""
    copies: int = 0
    boards: int = 0


class State(NamedTuple):
    keys: Keys
    hosts: tuple[Host, Host]
    mapped: Epoch
    """What the initiator of both is let at, by the epoch of the export; 0: nothing."""
    marks: int
    budget: Budget


def with_host(state: State, index: int, host: Host) -> State:
    first, second = state.hosts
    return state._replace(hosts=(host, second) if index == 0 else (first, host))


def fresh(used: Iterable[int]) -> int:
    taken = set(used)
    number = 1
    while number in taken:
        number += 1
    return number


def epochs_of(state: State) -> list[Epoch]:
    keys = state.keys
    told = [each[0] for each in (keys.grant, keys.connection, keys.claim) if each]
    told += [keys.status[1]] if keys.status else []
    for host in state.hosts:
        told += [host.device, host.asleep, *([host.op[1]] if host.op else [])]
    return [*told, state.mapped]


def boots_of(state: State) -> list[Boot]:
    """Those that something speaks of, but for fences: the boot of one that nothing else speaks of never comes back. A weak copy
    keeps grants from other hosts, also then."""
    keys = state.keys
    told = [keys.node[0]] if keys.node else []
    told += [keys.alive[1]] if keys.alive else []
    told += [each[1] for each in (keys.grant, keys.connection, keys.claim) if each]
    told += [keys.status[2]] if keys.status else []
    told += [boot for boot, proof, _ in keys.fenced if proof == STATEMENT and (boot, POWERED_OFF) not in keys.fences]
    return [*told, *(host.boot for host in state.hosts)]


@cache
def _table(numbers: tuple[int, ...]) -> dict[int, int] | None:
    """Old number -> new number; None where each is in its place."""
    table = {0: 0}
    for number in numbers:
        table.setdefault(number, len(table))
    return None if all(old == new for old, new in table.items()) else table


def canonical(state: State) -> State:
    """The one state that stands for all that differ in the numbers alone."""
    boots = _table(tuple(boots_of(state)))
    known = boots if boots is not None else set(boots_of(state))
    keys = state.keys
    if any(each[0] not in known for each in (*keys.fences, *keys.fenced)):
        keys = keys._replace(
            fences=tuple(each for each in keys.fences if each[0] in known),
            fenced=tuple(each for each in keys.fenced if each[0] in known),
        )
        state = state._replace(keys=keys)
    if boots is not None:
        state = _with_boots(state, boots)
    epochs = _table(tuple(epochs_of(state)))
    return state if epochs is None else _with_epochs(state, epochs)


def _with_boots(state: State, boots: dict[int, int]) -> State:
    keys = state.keys
    claim, status, connection, grant = keys.claim, keys.status, keys.connection, keys.grant
    keys = keys._replace(
        node=keys.node and (boots[keys.node[0]], keys.node[1]),
        alive=keys.alive and (keys.alive[0], boots[keys.alive[1]]),
        fences=tuple(sorted((boots[boot], proof) for boot, proof in keys.fences)),
        fenced=tuple(sorted((boots[boot], proof, identity) for boot, proof, identity in keys.fenced)),
        claim=claim and (claim[0], boots[claim[1]], claim[2]),
        status=status and (status[0], status[1], boots[status[2]], status[3]),
        connection=connection and (connection[0], boots[connection[1]], *connection[2:]),
        grant=grant and (grant[0], boots[grant[1]], *grant[2:]),
    )
    first, second = (host._replace(boot=boots[host.boot]) for host in state.hosts)
    return state._replace(keys=keys, hosts=(first, second))


def _with_epochs(state: State, epochs: dict[int, int]) -> State:
    keys = state.keys
    claim, status, connection, grant = keys.claim, keys.status, keys.connection, keys.grant
    keys = keys._replace(
        claim=claim and (epochs[claim[0]], *claim[1:]),
        status=status and (status[0], epochs[status[1]], *status[2:]),
        connection=connection and (epochs[connection[0]], *connection[1:]),
        grant=grant and (epochs[grant[0]], *grant[1:]),
    )
    first, second = (
        host._replace(
            device=epochs[host.device], asleep=epochs[host.asleep], op=host.op and (host.op[0], epochs[host.op[1]])
        )
        for host in state.hosts
    )
    return state._replace(keys=keys, hosts=(first, second), mapped=epochs[state.mapped])
