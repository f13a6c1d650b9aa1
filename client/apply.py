"""`brickctl apply`: wishes from manifests. What is so already is not written again."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from client import facts
from client.asking import agree
from client.exits import Conflict
from client.known import Known, Reader
from client.manifests import Wish, read, tell_unwished
from client.session import Session
from client.writing import Change, label, outcome, write
from schema.keys import Family, Key
from schema.models import NodeSpec


@click.command()
@click.option(
    "-f", "--filename", "files", multiple=True, required=True, metavar="FILE", help="A manifest, a folder, or -."
)
@click.option("--yes", is_flag=True, help="Do not ask before more than one is detached.")
@click.pass_obj
def apply(session: Session, files: tuple[str, ...], yes: bool) -> None:
    """Make wishes so, as manifests say.

    FILE is YAML or JSON with documents of kind Volume, Attachment or Node; a folder means all of its *.yaml, *.yml and
    *.json; - means stdin. Everything is checked first: with any fault, nothing is written. Done means that the wishes are
    stored; see what becomes of them with get, wait and explain.

    What get printed (-o yaml, -o json) may be applied again, and undoes nothing that others did since: what has no wish is
    skipped, and a document whose generation is no longer the wish's is a conflict. A document without its generation is
    written whatever happened.
    """
    manifests = read(files, sys.stdin)
    tell_unwished(manifests)
    reader = Reader(session.store, session.keyspace)
    known = reader.together([wish.key for wish in manifests.wishes])
    known.must_see(*(wish.key.family for wish in manifests.wishes))
    wishes = [wish for wish in manifests.wishes if not _taken_back(known, wish)]
    outcomes = [(wish, _outcome(known, wish)) for wish in wishes]
    _ask(session, reader, known, [wish for wish, word in outcomes if word != "unchanged"], yes)
    write(session.store, known, [Change(wish.key, wish.spec) for wish, word in outcomes if word != "unchanged"])
    for wish, word in outcomes:
        click.echo(f"{label(wish.key)} {word}")
    for hint in hints(reader, wishes):
        click.echo(hint, err=True)


def _taken_back(known: Known, wish: Wish) -> bool:
    """Printed while it was wished for, and no longer so: somebody took it back since. Told."""
    if not wish.generation or known.see(wish.key) is not None:
        return False
    click.echo(
        f"{wish.where}: {label(wish.key)} skipped: its wish was taken back since this was printed; "
        "to wish for it again, take its generation out",
        err=True,
    )
    return True


def _outcome(known: Known, wish: Wish) -> str:
    word = outcome(known, wish.key, wish.spec)
    now = known.revision_of(wish.key)
    if word == "configured" and wish.generation not in (0, now):
        raise Conflict(
            f"{wish.where}: {label(wish.key)} was changed since this was printed (generation {wish.generation}, now {now}); "
            "nothing was written. Look at it (brickctl get) and print it anew; or take its generation out, and it is written "
            "whatever was changed"
        )
    return word


def _ask(session: Session, reader: Reader, known: Known, wishes: Iterable[Wish], yes: bool) -> None:
    """Before a manifest takes more than one device from nodes: by a first drain, or by confirmed ends of wishes."""
    going: list[str] = []
    for wish in wishes:
        if isinstance(wish.spec, NodeSpec):
            node = wish.key.names[0]
            former = known.value(wish.key, NodeSpec)
            confirmed = former.confirmed_detaches if isinstance(former, NodeSpec) else {}
            ends = {volume for volume, epoch in wish.spec.confirmed_detaches.items() if confirmed.get(volume) != epoch}
            drained = facts.ending(facts.read_node(reader, node), node) if wish.spec.drains else ()
            going += [f"{node}/{volume}" for volume in sorted({*ends, *drained})]
    if len(going) > 1:
        agree(session, f"Detach {', '.join(going)}?", yes=yes)


def hints(reader: Reader, wishes: Iterable[Wish]) -> list[str]:
    """What an attachment will wait for, as far as can be seen now. Allowed: wishes may come in any order."""
    attached = [wish.key.names for wish in wishes if wish.key.family is Family.DESIRED_ATTACHMENT]
    volumes = {Key(Family.DESIRED_VOLUME, (volume,)) for _, volume in attached}
    known = reader.together(volumes)
    found = _missing(known, volumes, "volume {} is not wished for yet: its attachments wait for it")
    return found + unpublished(reader, (node for node, _ in attached))


def unpublished(reader: Reader, nodes: Iterable[str]) -> list[str]:
    """A hint for each node whose daemon has not told of it yet."""
    keys = {Key(Family.NODE, (node,)) for node in nodes}
    return _missing(
        reader.together(keys), keys, "node {} has not published itself yet: is brickwork-node running there?"
    )


def _missing(known: Known, keys: Iterable[Key], text: str) -> list[str]:
    absent = (key for key in keys if key.family not in known.denied and known.see(key) is None)
    return sorted(f"hint: {text.format(key.names[0])}" for key in absent)
