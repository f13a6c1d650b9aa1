"""`brickctl get`: lists, in every format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import click

from client import facts, output, shapes
from client.exits import Misuse
from client.known import Known, Reader
from client.names import Ref, kind_of, not_found, plain, refs
from client.output import Table, age
from client.session import Session
from schema.keys import Family, Key
from schema.models import Spec
from schema.shown import shell_word, shown
from schema.summary import AttachmentSummary, BackendSummary, NodeSummary, State, VolumeState, VolumeSummary

Summary = AttachmentSummary | VolumeSummary | NodeSummary | BackendSummary


@dataclass(frozen=True, slots=True)
class Found:
    """One object: what to tell of it in tables, and its whole shape."""

    summary: Summary
    shape: shapes.Shape


@click.command()
@click.argument("kind", metavar="KIND")
@click.argument("words", nargs=-1, metavar="[NAME]")
@click.option("--node", help="Attachments of this node only.")
@click.option("--volume", help="Attachments of this volume only.")
@output.option
@click.pass_obj
def get(session: Session, kind: str, words: tuple[str, ...], node: str | None, volume: str | None, form: str) -> None:
    """List volumes, attachments, nodes or backends.

    \b
    brickctl get attachments
    brickctl get attachment web-1/data -o yaml
    brickctl get volumes -o wide
    brickctl get attachment web-1/data -o jsonpath=.status.path

    KIND is volumes, attachments, nodes or backends; the name of an attachment is NODE/VOLUME. Wide tells of every
    unsettled row who is waited for, and why. What yaml prints may be applied again.
    """
    meant = _named(kind, words)
    kind = meant.kind if meant else kind_of(kind)
    node, volume = node and plain("node", node), volume and plain("volume", volume)
    if (node or volume) and (kind != "attachment" or meant):
        raise Misuse("--node and --volume choose among attachments; they take no name beside them")
    reader = Reader(session.store, session.keyspace)
    if meant is not None:
        found = [find(reader, meant)]
    else:
        known, found = attachments(reader, node, volume) if kind == "attachment" else everything(reader, kind)
        reader.more(known, Family.VERDICT_UNPARSABLE)
        _tell_oddities(known)
    if not found:
        _must_be_known(reader, node, volume)
    if not found and form in ("table", "wide"):
        click.echo(f"no {kind}s", err=True)
        if note := session.deserted():
            click.echo(note, err=True)
        return
    now = session.clock.wall()
    output.show(
        form, [each.shape for each in found], single=meant is not None, table=lambda wide: table(kind, found, wide, now)
    )


def _must_be_known(reader: Reader, node: str | None, volume: str | None) -> None:
    """Raises NotFound for a node or volume that no key speaks of: a typo is no empty node."""
    if node is not None and node not in (nodes := facts.names(reader.families(*facts.NODE_NAMING), *facts.NODE_NAMING)):
        raise not_found(Ref("node", (node,)), nodes)
    families = (Family.DESIRED_VOLUME, Family.VOLUME)
    if volume is not None and volume not in (volumes := facts.names(reader.families(*families), *families)):
        raise not_found(Ref("volume", (volume,)), volumes)


def _named(kind: str, words: tuple[str, ...]) -> Ref | None:
    """The one object, where one is named: `attachment web-1/data`, `attachment web-1 data`, `attachment/web-1/data`."""
    if not words and "/" not in kind:
        return None
    meant = refs((kind, *words))
    if len(meant) > 1:
        raise Misuse(f"{len(meant)} names: write one, or none for all; brickctl describe takes several")
    return meant[0]


def _tell_oddities(known: Known) -> None:
    for family in sorted(known.denied, key=lambda each: each.path):
        click.echo(f"note: your user may not read {family.path}: what rests on it is left out or uncertain", err=True)
    for path, fault in sorted(facts.strays(known).items()):
        named = shown(path, keep="")
        click.echo(f"note: {named} means nothing: {fault}; take it away: etcdctl del {shell_word(path)}", err=True)


# --- finding -------------------------------------------------------------------------------------------------------------


def attachments(reader: Reader, node: str | None = None, volume: str | None = None) -> tuple[Known, list[Found]]:
    """All attachments, or those of a node or of a volume."""
    known, rows = facts.all_attachments(reader, node, volume)
    return known, [found_attachment(known, row) for row in rows]


def everything(reader: Reader, kind: str) -> tuple[Known, list[Found]]:
    """All objects of a kind."""
    if kind == "attachment":
        return attachments(reader)
    families = {"volume": facts.VOLUME_FAMILIES, "node": facts.NODE_FAMILIES, "backend": (Family.BACKEND,)}[kind]
    beside = {
        "node": (Family.VOLUME,),
        "volume": (Family.BACKEND, Family.LEADER),
        "backend": (Family.LEADER,),
    }[kind]
    known = reader.families(*beside, *families)
    make = {"volume": found_volume, "node": found_node, "backend": found_backend}[kind]
    found = [make(known, name) for name in facts.names(known, *(facts.NODE_NAMING if kind == "node" else families))]
    return known, [each for each in found if each.shape["status"]["state"] != VolumeState.ABSENT]


def find(reader: Reader, meant: Ref) -> Found:
    """The one object of that name. Raises NotFound."""
    found = _find(reader, meant)
    if found is None:
        raise not_found(meant, ["/".join(_names(each.shape)) for each in everything(reader, meant.kind)[1]])
    return found


def _find(reader: Reader, meant: Ref) -> Found | None:
    if meant.kind == "attachment":
        node, volume = meant.names
        known = facts.read_attachment(reader, node, volume)
        told = facts.attachment(known, node, volume)
        return None if told.state is State.DETACHED else found_attachment(known, told)
    name = meant.names[0]
    if meant.kind == "volume":
        known = facts.read_volume(reader, name)
        found = found_volume(known, name)
        return None if found.shape["status"]["state"] == VolumeState.ABSENT else found
    if meant.kind == "node":
        known = facts.read_node(reader, name)
        return found_node(known, name) if name in facts.names(known, *facts.NODE_NAMING) else None
    known = reader.together([Key(family, (name,)) for family in (Family.BACKEND, Family.LEADER)])
    return found_backend(known, name) if known.see(Key(Family.BACKEND, (name,))) else None


def _names(shape: shapes.Shape) -> Sequence[str]:
    return [shape["node"], shape["volume"]] if shape["kind"] == "Attachment" else [shape["name"]]


def _spec(known: Known, family: Family, *names: str) -> object:
    return known.value(Key(family, names), Spec)


def found_attachment(known: Known, told: AttachmentSummary) -> Found:
    spec = _spec(known, Family.DESIRED_ATTACHMENT, told.node, told.volume)
    return Found(told, shapes.attachment(told, spec))


def found_volume(known: Known, name: str) -> Found:
    told = facts.volume(known, name)
    return Found(told, shapes.volume(told, _spec(known, Family.DESIRED_VOLUME, name)))


def found_node(known: Known, name: str) -> Found:
    told, record = facts.node(known, name), known.see(Key(Family.NODE, (name,)))
    spec = _spec(known, Family.DESIRED_NODE, name)
    return Found(told, shapes.node(told, spec, record.value if record else None))


def found_backend(known: Known, name: str) -> Found:
    told = facts.backend(known, name)
    return Found(told, shapes.backend(told))


# --- tables --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """A head, and the cell of an object. `wide`: only there."""

    head: str
    cell: Callable[[object, float], object]
    wide: bool = False


def _of(*names: str) -> Callable[[object, float], object]:
    """The first of these attributes that says something."""
    return lambda told, _now: next((value for name in names if (value := getattr(told, name, None))), "")


def _age(name: str) -> Callable[[object, float], object]:
    return lambda told, now: age(getattr(told, name), now)


def _many(name: str) -> Callable[[object, float], object]:
    return lambda told, _now: ",".join(getattr(told, name))


def _why(told: object, _now: float) -> str:
    """What is waited for; and who wanted it so, where the wish itself does not tell."""
    if not getattr(told, "waits_for", ""):
        return ""
    message, aside = getattr(told, "message", ""), getattr(told, "set_aside", None) or ""
    return message if aside in message else f"{message}; {aside}"


_WHY = Column("WHY", _why, wide=True)
_WAITS = Column("WAITS FOR", _of("waits_for"), wide=True)
_NEXT = Column("NEXT TRY", _age("next_try"), wide=True)
_STATE = (Column("STATE", _of("state")), Column("REASON", _of("reason")), Column("SINCE", _age("since")))

COLUMNS: dict[str, tuple[Column, ...]] = {
    "attachment": (
        Column("NODE", _of("node")),
        Column("VOLUME", _of("volume")),
        *_STATE,
        Column("PATH", _of("path")),
        Column("MODE", _of("mode"), wide=True),
        Column("PATHS", _of("paths"), wide=True),
        Column("PROTOCOL", _of("protocol"), wide=True),
        Column("DEVICE", _of("device"), wide=True),
        _WAITS,
        _NEXT,
        _WHY,
    ),
    "volume": (
        Column("NAME", _of("volume")),
        *_STATE,
        Column("GIB", _of("size_gib", "wanted_gib")),
        Column("BACKEND", _of("backend")),
        Column("HELD BY", _many("holders")),
        Column("ON DELETE", _of("on_delete"), wide=True),
        Column("UID", _of("uid"), wide=True),
        _WAITS,
        _NEXT,
        _WHY,
    ),
    "node": (
        Column("NAME", _of("node")),
        *_STATE,
        Column("VOLUMES", lambda told, _now: len(getattr(told, "volumes", ()))),
        Column("WISHED", lambda told, _now: len(getattr(told, "wished", ())), wide=True),
        Column("BOOT", _of("boot"), wide=True),
        Column("VERSION", lambda told, _now: getattr(told, "versions", {}).get("brickwork", ""), wide=True),
        _WAITS,
        _WHY,
    ),
    "backend": (
        Column("NAME", _of("backend")),
        *_STATE,
        Column("PROTOCOL", _of("protocol")),
        Column("CONTROLLER", _of("controller"), wide=True),
        Column("DRIVER", _of("driver"), wide=True),
        Column("ORPHANS", lambda told, _now: getattr(told, "orphan_exports", 0), wide=True),
        _WAITS,
        _WHY,
    ),
}


def table(kind: str, found: Iterable[Found], wide: bool, now: float) -> Table:
    """Heads and rows."""
    columns = [column for column in COLUMNS[kind] if wide or not column.wide]
    rows = [[str(column.cell(each.summary, now)) for column in columns] for each in found]
    return [column.head for column in columns], rows
