"""`brickctl cordon` and `brickctl uncordon`: nothing new for a node, under a label each, until the last one is taken back."""

from __future__ import annotations

import click

from client import node_labels
from client.apply import unpublished
from client.known import Reader
from client.names import node_argument
from client.session import Session


@click.command()
@node_argument
@click.option("--label", default=node_labels.DEFAULT, show_default=True, help="Whose cordon; several may be there.")
@click.option("--reason", metavar="TEXT", help="Why, for those who meet it.")
@click.pass_obj
def cordon(session: Session, node: str, label: str, reason: str | None) -> None:
    """Keep new attachments from a node.

    What is attached stays; what is wished for waits. Each label is a cordon of its own, and the node is open when all are
    taken back.
    """
    node_labels.put(session, "cordons", node, label, reason, "cordoned")
    for hint in filter(None, (*unpublished(Reader(session.store, session.keyspace), [node]), session.deserted())):
        click.echo(hint, err=True)


@click.command()
@node_argument
@click.option("--label", default=node_labels.DEFAULT, show_default=True, help="Which cordon.")
@click.pass_obj
def uncordon(session: Session, node: str, label: str) -> None:
    """Take a cordon back.

    Those of other labels stay, and are told.
    """
    node_labels.take(session, "cordons", node, label, "uncordoned")
