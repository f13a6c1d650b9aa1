"""`brickctl accept`: a person's word that a backend's storage is the right one, although its volumes were noted on another.

What was noted keeps a controller with other local storage, a restored array or an unmounted share from acting as if it had the
volumes (docs/OPERATING.md, "Another storage").
"""

from __future__ import annotations

import click

from client import facts
from client.asking import agree
from client.exits import Conflict, Unmet
from client.known import Known, Reader
from client.names import Ref, not_found, plain
from client.session import Session
from reconciler.core.storage import covers
from reconciler.runtime.ports import Compare, Put
from schema.codec import encode
from schema.keys import Family, Key
from schema.models import BackendStatus, BackendStorage, VolumeStatus


@click.command()
@click.argument("backend")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def accept(session: Session, backend: str, yes: bool) -> None:
    """Take a backend's storage as it is, although it is another one.

    Only after a storage was replaced or restored, and its volumes are on it. Where a controller merely has another host's
    storage, do not: the controller with the right one takes over by itself.
    """
    name = plain("backend", backend)
    own, noted = Key(Family.BACKEND, (name,)), Key(Family.STORAGE, (name,))
    reader = Reader(session.store, session.keyspace)
    known = reader.families(Family.VOLUME)
    reader.together([own, noted], known)
    known.must_see(Family.VOLUME, Family.BACKEND, Family.STORAGE)
    status = known.value(own, BackendStatus)
    if status is None:
        raise not_found(Ref("backend", (name,)), facts.names(reader.families(Family.BACKEND), Family.BACKEND))
    found, before = status.storage if isinstance(status, BackendStatus) else "", _noted(known, noted)
    if not found:
        raise Unmet(f"backend {name}: no controller has told of a storage; see brickctl describe backend {name}")
    if before and covers(found, before):
        raise Unmet(f"backend {name}: its storage is the one that was noted ({found}); there is nothing to accept")
    volumes = [key for key in known.keys(Family.VOLUME) if _is_on(known, key, name)]
    who = status.controller if isinstance(status, BackendStatus) else ""
    click.echo(
        f"backend {name}: noted is {before or 'no storage'}; controller {who} finds {found}. {len(volumes)} volumes are recorded "
        "on it. Those that are not on this storage count as deleted as soon as they are to be",
        err=True,
    )
    agree(session, f"Take {found} for the storage of backend {name}?", yes=yes)
    _write(session, known, own, noted, BackendStorage(mark=found, noted_by="brickctl accept"))
    click.echo(f"backend/{name} accepted")


def _noted(known: Known, key: Key) -> str:
    said = known.value(key, BackendStorage)
    return said.mark if isinstance(said, BackendStorage) else ""


def _is_on(known: Known, key: Key, backend: str) -> bool:
    status = known.value(key, VolumeStatus)
    return isinstance(status, VolumeStatus) and status.backend == backend


def _write(session: Session, known: Known, own: Key, noted: Key, storage: BackendStorage) -> None:
    """If both are as they were shown."""
    paths = {each: session.keyspace.path(each.family, *each.names) for each in (own, noted)}
    compares = [Compare(path, mod_revision=known.revision_of(each)) for each, path in paths.items()]
    if not session.store.txn(compares, [Put(paths[noted], encode(storage))]).succeeded:
        raise Conflict(
            "what is known of the backend changed meanwhile; nothing was written. Look at it again: brickctl get backends"
        )
