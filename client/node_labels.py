"""What is to be with a node, by label: read, changed, and written back on what was read. Other labels stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import click

from client import facts
from client.exits import Conflict, Misuse
from client.known import Known, Reader
from client.names import Ref, checked, not_found
from client.session import Session
from client.writing import Change, label, must_not_be_newer, unstorable, write
from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import NodeSpec, labelled

DEFAULT = "brickctl"
TRIES = 10

Alter = Callable[[dict[str, Any]], None]
"""Changes what a spec says, in place."""
Field = Literal["cordons", "drains"]
WORDS = {"cordons": "cordoned", "drains": "drained"}


def put(session: Session, field: Field, node: str, name: str, reason: str | None, word: str) -> None:
    """Add a label, and tell. A reason that is there stays, unless another one is given."""

    def alter(said: dict[str, Any]) -> None:
        present = said.get(field, {})
        said[field] = {**present, name: present.get(name, "") if reason is None else reason}

    before, after = _change(session, node, name, alter)
    already = " already" if before == after else ""
    click.echo(f"node/{node} {word}{already} ({labelled({name: getattr(after, field)[name]})})")


def take(session: Session, field: Field, node: str, name: str, word: str) -> None:
    """Take a label back, and tell which are left. What is not there is taken back already."""

    def alter(said: dict[str, Any]) -> None:
        left = {label: reason for label, reason in said.get(field, {}).items() if label != name}
        said[field] = left
        if not left:
            del said[field]

    before, after = _change(session, node, name, alter)
    if before == NodeSpec():
        known_node(session, node)
    there = name in getattr(before, field)
    click.echo(
        f"node/{node} {word} ({name})" if there else f"node/{node} unchanged: it is not {WORDS[field]} by {name}"
    )
    for other, done in WORDS.items():
        if getattr(after, other):
            click.echo(f"node/{node} is still {done} ({labelled(getattr(after, other))})")


def known_node(session: Session, node: str) -> Known:
    """Everything around a node. Raises NotFound where nothing speaks of it: a typo is no open, nor an empty, node."""
    reader = Reader(session.store, session.keyspace)
    known = facts.read_node(reader, node)
    if node not in facts.names(known, *facts.NODE_NAMING) and not facts.left_on(known, node):
        raise not_found(Ref("node", (node,)), facts.names(reader.families(Family.NODE), Family.NODE))
    return known


def _change(session: Session, node: str, name: str, alter: Alter) -> tuple[NodeSpec, NodeSpec]:
    """The spec before and after. Tried again where others write the same key meanwhile, for labels of their own."""
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

    checked("label", name)
    key = Key(Family.DESIRED_NODE, (checked("node", node),))
    again = Retrying(retry=retry_if_exception_type(Conflict), stop=stop_after_attempt(TRIES), reraise=True)
    return again(_change_once, session, key, alter)


def _change_once(session: Session, key: Key, alter: Alter) -> tuple[NodeSpec, NodeSpec]:
    """On what was just read. A spec that says nothing any more goes with its key."""
    known = Reader(session.store, session.keyspace).together([key])
    before = _present(known, key)
    said = before.model_dump(exclude_unset=True)
    alter(said)
    after = NodeSpec.model_validate(said)
    if fault := unstorable(after):
        raise Misuse(f"{label(key)}: {fault}")
    if after != before:
        write(session.store, known, [Change(key, after if said else None)])
    return before, after


def _present(known: Known, key: Key) -> NodeSpec:
    known.must_see(key.family)
    present = known.value(key, NodeSpec)
    must_not_be_newer(key, present)
    if isinstance(present, Malformed):
        raise Conflict(f"{label(key)}: its key can't be read: {present}; correct it first (brickctl apply -f)")
    return present or NodeSpec()
