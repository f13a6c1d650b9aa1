"""`brickctl attach` and `brickctl detach`: one wish, made and taken back."""

from __future__ import annotations

import click

from client import confirming
from client.apply import tell_absent, tell_hints
from client.exits import Conflict, Misuse
from client.facts import PAIR_FAMILIES, attachment, pairs, read_attachment, says
from client.known import Reader
from client.manifests import Wish
from client.names import Ref, not_found, pair, plain
from client.session import Session
from client.writing import Change, label, outcome, unstorable, write
from reconciler.core.mass import DETACHES_PAUSED
from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import AttachmentSpec, NodeSpec
from schema.summary import State


@click.command()
@click.argument("node")
@click.argument("volume", default="", metavar="VOLUME")
@click.option(
    "--mode",
    type=click.Choice(["rw", "ro"]),
    help="Read and write, or read only.  [default: as it is, else rw]",
)
@click.option(
    "--min-paths",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Attached only once N paths to the storage are live.  [default: as it is, else 1]",
)
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label; may be repeated.")
@click.pass_obj
def attach(
    session: Session, node: str, volume: str, mode: str | None, min_paths: int | None, labels: tuple[str, ...]
) -> None:
    """Wish for a volume on a node.

    Returns as soon as the wish is stored; brickctl wait attachment NODE/VOLUME --for=attached waits for the rest. Of a wish
    that is there already, what no option names stays as it is.
    """
    node, volume = pair((node, volume), "attach")
    key = Key(Family.DESIRED_ATTACHMENT, (node, volume))
    reader = Reader(session.store, session.keyspace)
    known = reader.together([key])
    known.must_see(key.family)
    before = known.value(key, AttachmentSpec)
    spec = _merged(before, label(key), mode, min_paths, dict(_label(each) for each in labels))
    word = outcome(known, key, spec)
    new = [Change(key, spec)] if word != "unchanged" else []
    write(session.store, known, [*new, *confirming.withdrawals(reader, known, [key])])
    click.echo(f"{label(key)} {word}")
    if before is not None and mode is None and spec.mode != AttachmentSpec().mode:
        click.echo(f"note: it was wished for as {spec.mode} already, and that stays", err=True)
    tell_hints(session, reader, [Wish(key, spec, "")])


def _merged(
    present: AttachmentSpec | Malformed | None,
    name: str,
    mode: str | None,
    min_paths: int | None,
    labels: dict[str, str],
) -> AttachmentSpec:
    """The wish that is there with what was asked for on top. A mode is not changed under a device in use."""
    said = present.model_dump(exclude_unset=True) if isinstance(present, AttachmentSpec) else {}
    if isinstance(present, AttachmentSpec) and mode not in (None, present.mode):
        raise Conflict(
            f"{name} is wished for as {present.mode}; to change that detach it, wait, and attach it as {mode}"
        )
    if mode is not None:
        said["mode"] = mode
    if min_paths is not None:
        said["min_paths"] = min_paths
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
@click.argument("volume", default="", metavar="[VOLUME]")
@click.option(
    "--confirm-mass", is_flag=True, help="Confirm what vanished: every wish for this node that it asks about."
)
@click.pass_obj
def detach(session: Session, node: str, volume: str, confirm_mass: bool) -> None:
    """Take back the wish for a volume on a node.

    The node detaches once nothing uses the device; nothing is ever forced. Detaching what is detached already is fine, as
    long as anything is known of it.

    Where many wishes vanished at once without this command (DetachesPaused), the node keeps everything until they are put
    back, or their end is confirmed: brickctl detach --confirm-mass NODE.
    """
    if confirm_mass and not volume and "/" not in node.removeprefix("node/"):
        _confirm(session, plain("node", node), "")
        return
    node, volume = pair((node, volume), "detach")
    if confirm_mass:
        _confirm(session, node, volume)
        return
    key = Key(Family.DESIRED_ATTACHMENT, (node, volume))
    reader = Reader(session.store, session.keyspace)
    known = read_attachment(reader, node, volume)
    known.must_see(key.family)
    if known.see(key) is not None:
        write(session.store, known, [*confirming.detaches(reader, known, [key]), Change(key, None)])
        click.echo(f"{label(key)} deleted")
        tell_absent(reader, [key])
        return
    told = attachment(known, node, volume)
    if says(known, Key(Family.ATTACHMENT, (node, volume)), DETACHES_PAUSED):
        _confirm(session, node, volume)
        return
    if told.state is State.DETACHED:
        present = ("/".join(pair) for pair in pairs(reader.families(*PAIR_FAMILIES)))
        raise not_found(Ref("attachment", (node, volume)), present)
    click.echo(f"{label(key)} unchanged: {told.state}, {told.message}")


def _confirm(session: Session, node: str, only: str) -> None:
    """The ends of wishes that a node asks about are meant."""
    reader = Reader(session.store, session.keyspace)
    known = reader.families()
    changes = list(confirming.vanished(reader, known, node, only))
    write(session.store, known, changes)
    meant = [spec.confirmed_detaches for change in changes if isinstance(spec := change.spec, NodeSpec)]
    for volume in (volume for each in meant for volume in each if only in ("", volume)):
        click.echo(f"attachment/{node}/{volume} confirmed")
    if not changes:
        click.echo(f"nothing on {node} waits for a confirmation")
