"""`brickctl attach` and `brickctl detach`: one wish, made and taken back."""

from __future__ import annotations

import click

from client.apply import hints
from client.exits import Conflict, Misuse
from client.facts import PAIR_FAMILIES, attachment, pairs, read_attachment
from client.known import Reader
from client.manifests import Wish
from client.names import Ref, checked, not_found
from client.session import Session
from client.writing import Change, label, outcome, unstorable, write
from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import AttachmentSpec
from schema.summary import State


@click.command()
@click.argument("node")
@click.argument("volume")
@click.option("--mode", type=click.Choice(["rw", "ro"]), help="Read and write, or read only.  [default: rw]")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label; may be repeated.")
@click.pass_obj
def attach(session: Session, node: str, volume: str, mode: str | None, labels: tuple[str, ...]) -> None:
    """Wish for a volume on a node.

    Returns as soon as the wish is stored; brickctl wait attachment NODE/VOLUME --for=attached waits for the rest.
    """
    key = Key(Family.DESIRED_ATTACHMENT, (checked("node", node), checked("volume", volume)))
    reader = Reader(session.store, session.keyspace)
    known = reader.together([key])
    known.must_see(key.family)
    spec = _merged(known.value(key, AttachmentSpec), label(key), mode, dict(_label(each) for each in labels))
    word = outcome(known, key, spec)
    if word != "unchanged":
        write(session.store, known, [Change(key, spec)])
    click.echo(f"{label(key)} {word}")
    for hint in hints(reader, [Wish(key, spec, "")]):
        click.echo(hint, err=True)


def _merged(
    present: AttachmentSpec | Malformed | None, name: str, mode: str | None, labels: dict[str, str]
) -> AttachmentSpec:
    """The wish that is there with what was asked for on top. A mode is not changed under a device in use."""
    said = present.model_dump(exclude_unset=True) if isinstance(present, AttachmentSpec) else {}
    if isinstance(present, AttachmentSpec) and mode not in (None, present.mode):
        raise Conflict(
            f"{name} is wished for as {present.mode}; to change that detach it, wait, and attach it as {mode}"
        )
    if mode is not None:
        said["mode"] = mode
    if labels:
        said["labels"] = {**said.get("labels", {}), **labels}
    spec = AttachmentSpec.model_validate(said)
    fault = unstorable(spec)
    if fault:
        raise Misuse(f"{name}: {fault}")
    return spec


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Misuse(f"--label {text!r}: write NAME=VALUE")
    return name, value


@click.command()
@click.argument("node")
@click.argument("volume")
@click.pass_obj
def detach(session: Session, node: str, volume: str) -> None:
    """Take back the wish for a volume on a node.

    The node detaches once nothing uses the device; nothing is ever forced. Detaching what is detached already is fine, as
    long as anything is known of it.
    """
    key = Key(Family.DESIRED_ATTACHMENT, (checked("node", node), checked("volume", volume)))
    reader = Reader(session.store, session.keyspace)
    known = read_attachment(reader, node, volume)
    known.must_see(key.family)
    if known.see(key) is not None:
        write(session.store, known, [Change(key, None)])
        click.echo(f"{label(key)} deleted")
        return
    told = attachment(known, node, volume)
    if told.state is State.DETACHED:
        present = ("/".join(pair) for pair in pairs(reader.families(*PAIR_FAMILIES)))
        raise not_found(Ref("attachment", (node, volume)), present)
    click.echo(f"{label(key)} unchanged: {told.state}, {told.message}")
