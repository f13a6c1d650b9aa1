"""`brickctl describe`: everything about one object that a user may know, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import click

from client import facts, get, shapes
from client.known import Reader
from client.names import Ref, refs
from client.output import age, one_line, print_table
from client.session import Session
from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import Condition, NodeRecord
from schema.summary import VolumeSummary

INDENT = "  "


@click.command()
@click.argument("object_", nargs=-1, required=True, metavar="KIND NAME")
@click.pass_obj
def describe(session: Session, object_: tuple[str, ...]) -> None:
    """Tell everything about one object.

    \b
    brickctl describe attachment web-1/data
    brickctl describe volume data
    brickctl describe node web-1
    brickctl describe backend lvm
    """
    wanted = refs(object_)
    reader = Reader(session.store, session.keyspace)
    now = session.clock.wall()
    for index, meant in enumerate(wanted):
        found = get.find(reader, meant)
        if index:
            click.echo()
        _heading(found.shape)
        _status(found.shape, now)
        _conditions(getattr(found.summary, "conditions", ()), now)
        _around(reader, meant, now)


def _heading(shape: shapes.Shape) -> None:
    click.echo(f"{shape['kind']} {'/'.join(shape[role] for role in ('node', 'volume', 'name') if role in shape)}")
    for name, value in shape.get("spec", {}).items():
        if value not in ({}, []):
            _field(f"spec.{name}", value)
    if shape.get("generation"):
        _field("generation", shape["generation"])


def _status(shape: shapes.Shape, now: float) -> None:
    for name, value in shape["status"].items():
        if name in ("conditions", "spec_hash") or value in ({}, []):
            continue
        shown = f"{age(value, now)} ({value})" if name in ("since", "next_try") else value
        _field(name, shown)


def _field(name: str, value: object) -> None:
    if isinstance(value, Mapping):
        value = ", ".join(f"{key}={_plain(each)}" for key, each in value.items())
    click.echo(f"{INDENT}{name + ':':<21} {_plain(value)}")


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return one_line(str(value)) if not isinstance(value, bool) else str(value).lower()


def _conditions(conditions: Sequence[Condition], now: float) -> None:
    if not conditions:
        return
    click.echo()
    rows = [[each.type, each.status, each.reason, age(each.since, now), each.message] for each in conditions]
    print_table(["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"], rows)


def _around(reader: Reader, meant: Ref, now: float) -> None:
    """What else concerns it: who is attached, which host it is, which boots are fenced."""
    if meant.kind == "node":
        for line in _fences(reader, meant.names[0]):
            click.echo(line)
        _table("attachment", get.attachments(reader, node=meant.names[0])[1], now)
    if meant.kind == "volume":
        _table("attachment", get.attachments(reader, volume=meant.names[0])[1], now)
    if meant.kind == "backend":
        _, rows = get.everything(reader, "volume")
        _table("volume", [each for each in rows if _is_on(each, meant.names[0])], now)


def _is_on(found: get.Found, backend: str) -> bool:
    return isinstance(found.summary, VolumeSummary) and found.summary.backend == backend


def _table(kind: str, rows: list[get.Found], now: float) -> None:
    if rows:
        click.echo()
        print_table(*get.table(kind, rows, wide=False, now=now))


def _fences(reader: Reader, node: str) -> Iterator[str]:
    known = facts.read_node(reader, node)
    record = known.value(Key(Family.NODE, (node,)), NodeRecord)
    if isinstance(record, NodeRecord) and record.host_identity:
        yield f"{INDENT}host:                 {record.host_identity}"
    for boot, statement in facts.fences(known, node):
        if isinstance(statement, Malformed):
            yield f"{INDENT}fenced boot:          {boot}, by a statement that can't be read: {statement}"
        else:
            copied = " (noted by the controller)" if known.see(Key(Family.FENCED, (node, boot))) else ""
            off = ", powered off" if statement.proof == "powered_off" else ""
            said = f"{statement.why} ({statement.evidence}{off})"
            yield f"{INDENT}fenced boot:          {boot} by {statement.who}: {said}{copied}"
