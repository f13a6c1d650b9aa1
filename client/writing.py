"""Writes of users' keys. Each rests on what was read: if somebody else was faster, nothing is written and the user is told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from client.exits import Conflict, Misuse
from client.known import Known
from reconciler.runtime.ports import Compare, Delete, Op, Put, Store
from schema import SCHEMA_VERSION
from schema.codec import LIMIT_BYTES, Malformed, decode
from schema.keys import Family, Key
from schema.models import Spec

OPERATIONS_MAX = 100
"""In one transaction; etcd takes 128."""

KIND_OF = {
    Family.DESIRED_VOLUME: "volume",
    Family.DESIRED_ATTACHMENT: "attachment",
    Family.DESIRED_NODE: "node",
    Family.DESIRED_DELETION: "deletion",
}


def label(key: Key) -> str:
    """`attachment/web-1/data`."""
    return f"{KIND_OF[key.family]}/{'/'.join(key.names)}"


def stored(spec: Spec) -> bytes:
    """The value as etcd keeps it: what the user said and no more, so that a default stays a default."""
    said = {"schema": SCHEMA_VERSION, **spec.model_dump(mode="json", by_alias=True, exclude_unset=True)}
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def unstorable(spec: Spec) -> str:
    """Why the spec can't be kept in a key as it is meant; empty: it can."""
    try:
        data = stored(spec)
    except (ValueError, RecursionError):
        return "holds something that is no JSON, such as a date: quote it"
    if len(data) > LIMIT_BYTES:
        return f"needs {len(data):,} bytes; a key holds at most {LIMIT_BYTES:,}"
    read_back = decode(type(spec), data)
    if isinstance(read_back, Malformed):
        return str(read_back)
    return (
        ""
        if read_back.model_dump() == spec.model_dump()
        else "holds something that is no JSON, such as a date: quote it"
    )


@dataclass(frozen=True, slots=True)
class Change:
    """One key to be written. `spec` None: to be deleted."""

    key: Key
    spec: Spec | None


def must_not_be_newer(key: Key, value: object) -> None:
    """Raises Conflict for what a newer Brickwork wrote: this one can't tell what it would overwrite."""
    if isinstance(value, Malformed) and value.newer:
        raise Conflict(f"{label(key)}: {value}; nothing was written. Upgrade this brickctl: a newer Brickwork wrote it")


def outcome(known: Known, key: Key, spec: Spec) -> str:
    """`created`, `configured` or `unchanged`: what writing this spec comes to. Equal is what means the same.

    Raises:
        Conflict: the key was written by a newer Brickwork, in a schema that this one can't compare.
    """
    seen = known.see(key)
    if seen is None:
        return "created"
    if isinstance(seen.value, Malformed):
        must_not_be_newer(key, seen.value)
        return "configured"
    same = isinstance(seen.value, Spec) and seen.value.model_dump() == spec.model_dump()
    return "unchanged" if same else "configured"


def write(store: Store, known: Known, changes: Iterable[Change]) -> None:
    """All of the changes, or none (in batches, where there are very many).

    Raises:
        Conflict: a key is no longer as it was read; tells which.
        Misuse: a value does not fit into its key, such as the confirmations of very many detaches on one node.
    """
    waiting = list(changes)
    for change in waiting:
        if change.spec is not None and (fault := unstorable(change.spec)):
            raise Misuse(f"{label(change.key)}: {fault}; nothing was written. Do it in several smaller steps")
    done = 0
    while waiting:
        batch, waiting = waiting[:OPERATIONS_MAX], waiting[OPERATIONS_MAX:]
        paths = {change.key: known.keyspace.path(change.key.family, *change.key.names) for change in batch}
        result = store.txn(
            [Compare(paths[change.key], mod_revision=known.revision_of(change.key)) for change in batch],
            [_operation(paths[change.key], change.spec) for change in batch],
        )
        if not result.succeeded:
            now = {key: found.mod_revision if (found := result.found.get(path)) else 0 for key, path in paths.items()}
            moved = [label(key) for key, revision in now.items() if revision != known.revision_of(key)]
            raise Conflict(_conflict(moved, done))
        done += len(batch)


def _conflict(moved: list[str], done: int) -> str:
    state = f"the first {done} were written, the rest was not" if done else "nothing was written"
    return (
        f"{', '.join(moved)}: changed by somebody else meanwhile; {state}. Look at it (brickctl get) and run it again"
    )


def _operation(path: str, spec: Spec | None) -> Op:
    if spec is None:
        return Delete(path)
    return Put(path, stored(spec))
