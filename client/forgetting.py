"""What is over and only stays listed: a host that was retired, a backend that was once tried.

Their daemons' last words are deleted once nothing rests on them.
This is an operator's, as a fence is: the keys are a daemon's, and the daemon is gone.
"""

from __future__ import annotations

import click

from client import facts
from client.exits import Conflict
from client.known import Known, Reader
from client.names import Ref, not_found
from client.session import Session
from reconciler.runtime.ports import Compare, Delete
from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import Leader, VolumeStatus

SHOWN = 5
"""So many volumes are named in a refusal."""


def forget(session: Session, meant: Ref) -> None:
    """Forget a node or a backend. Raises Conflict with what stands against it."""
    reader = Reader(session.store, session.keyspace)
    name = meant.names[0]
    (_forget_node if meant.kind == "node" else _forget_backend)(session, reader, name)
    click.echo(f"{meant} deleted")


def _forget_node(session: Session, reader: Reader, name: str) -> None:
    known = facts.read_node(reader, name)
    known.must_see(Family.NODE, Family.ALIVE, Family.DESIRED_NODE, Family.VOLUME, *facts.PAIR_FAMILIES)
    if name not in facts.names(known, *facts.NODE_NAMING) and not facts.left_on(known, name):
        raise not_found(Ref("node", (name,)), facts.names(reader.families(Family.NODE), Family.NODE))
    if known.see(Key(Family.ALIVE, (name,))) is not None:
        raise Conflict(
            f"node {name} is alive: stop its daemon first (systemctl disable --now brickwork-node), and run this again some "
            f"seconds later. To open it for attachments instead: brickctl uncordon {name}, brickctl undrain {name}"
        )
    if left := facts.left_on(known, name):
        raise Conflict(
            f"node {name} holds {_some(left)}: while anything is held, its record stays. Start its daemon and detach them "
            f"(brickctl detach), or see what they wait for: brickctl explain {name} {left[0]}. Is the host off for good? Fence it "
            f"with --powered-off, and let another host take its name, which gives them back: brickwork-node --this-host-is {name}"
        )
    if wished := sorted(key.names[1] for key in known.below(name, Family.DESIRED_ATTACHMENT)):
        raise Conflict(
            f"node {name} is wished to have {_some(wished)}: take that back first (brickctl detach {name} VOLUME)"
        )
    own = Key(Family.NODE, (name,)), Key(Family.DESIRED_NODE, (name,))
    _delete(session, known, own, absent=Key(Family.ALIVE, (name,)))


def _forget_backend(session: Session, reader: Reader, name: str) -> None:
    known = reader.families(Family.VOLUME)
    own, lead, storage = (Key(family, (name,)) for family in (Family.BACKEND, Family.LEADER, Family.STORAGE))
    reader.together([own, lead, storage], known)
    known.must_see(Family.VOLUME, Family.BACKEND, Family.LEADER, Family.STORAGE)
    if known.see(own) is None:
        raise not_found(Ref("backend", (name,)), facts.names(reader.families(Family.BACKEND), Family.BACKEND))
    if (leader := known.value(lead, Leader)) is not None:
        who = f"controller {leader.identity} on {leader.host}" if isinstance(leader, Leader) else "a controller"
        raise Conflict(f"{who} leads backend {name}: take it out of the controllers' settings, and restart them, first")
    recorded = sorted(key.names[0] for key in known.keys(Family.VOLUME) if _may_be_on(known, key, name))
    if recorded:
        raise Conflict(
            f"volumes are recorded on backend {name}: {_some(recorded)}. While one is, what is known of the backend stays: "
            "see them with brickctl get volumes"
        )
    _delete(session, known, (own, storage), absent=lead)


def _may_be_on(known: Known, key: Key, backend: str) -> bool:
    """A status that can't be read may be of a volume on any backend."""
    status = known.value(key, VolumeStatus)
    return isinstance(status, Malformed) or (isinstance(status, VolumeStatus) and status.backend == backend)


def _delete(session: Session, known: Known, keys: tuple[Key, ...], *, absent: Key) -> None:
    """If all is as it was read, and nobody came back meanwhile."""
    path = {key: session.keyspace.path(key.family, *key.names) for key in (*keys, absent)}
    compares = [Compare(path[key], mod_revision=known.revision_of(key)) for key in (*keys, absent)]
    result = session.store.txn(compares, [Delete(path[key]) for key in keys if known.see(key) is not None])
    if not result.succeeded:
        raise Conflict("it changed meanwhile; nothing was written. Look at it (brickctl get), and run it again")


def _some(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
