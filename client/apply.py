"""`brickctl apply`: wishes from manifests. What is so already is not written again."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from client.known import Known, Reader
from client.manifests import Wish, read
from client.session import Session
from client.writing import Change, label, outcome, write
from schema.keys import Family, Key


@click.command()
@click.option(
    "-f", "--filename", "files", multiple=True, required=True, metavar="FILE", help="A manifest, a folder, or -."
)
@click.pass_obj
def apply(session: Session, files: tuple[str, ...]) -> None:
    """Make wishes so, as manifests say.

    FILE is YAML or JSON with documents of kind Volume, Attachment or Node; a folder means all of its *.yaml, *.yml and
    *.json; - means stdin. Everything is checked first: with any fault, nothing is written. Done means that the wishes are
    stored; see what becomes of them with get, wait and explain.
    """
    wishes = read(files, sys.stdin)
    reader = Reader(session.store, session.keyspace)
    known = reader.together([wish.key for wish in wishes])
    known.must_see(*(wish.key.family for wish in wishes))
    outcomes = [(wish, outcome(known, wish.key, wish.spec)) for wish in wishes]
    write(session.store, known, [Change(wish.key, wish.spec) for wish, word in outcomes if word != "unchanged"])
    for wish, word in outcomes:
        click.echo(f"{label(wish.key)} {word}")
    for hint in hints(reader, wishes):
        click.echo(hint, err=True)


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
