"""`brickctl delete`: wishes taken back. What happens to a volume's data is said before."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from client import confirming, facts
from client.apply import tell_absent
from client.asking import agree
from client.exits import Exit, Misuse
from client.forgetting import forget
from client.known import Known, Reader
from client.manifests import read, tell_unwished
from client.names import Ref, not_found, refs
from client.remedies import Place, remedy
from client.session import Session
from client.writing import Change, label, write
from reconciler.core.mass import MassRule
from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import NodeSpec, VolumeSpec, VolumeStatus
from schema.summary import State, VolumeState

FAMILY_OF = {
    "volume": Family.DESIRED_VOLUME,
    "attachment": Family.DESIRED_ATTACHMENT,
}
"""What is deleted by deleting a wish."""
FORGOTTEN = ("node", "backend")


@click.command()
@click.argument("objects", nargs=-1, metavar="[KIND NAME...]")
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE", help="Delete what this manifest names, or -.")
@click.option("--yes", is_flag=True, help="Do not ask before data is lost, or more than one is detached.")
@click.pass_obj
def delete(session: Session, objects: tuple[str, ...], files: tuple[str, ...], yes: bool) -> None:
    """Take back wishes for volumes or attachments; forget nodes or backends.

    \b
    brickctl delete attachment web-1/data
    brickctl delete volume data logs
    brickctl delete -f manifest.yaml
    brickctl delete node old-host
    brickctl delete backend once-tried

    A volume keeps its data unless its spec says on_delete: delete. Before data is lost, or more than one attachment is
    taken back, it asks; in a script --yes has to say so. An attachment is detached once nothing uses the device.

    A node is forgotten, cordons and drains with it, once its daemon is off for good and it holds nothing; a backend once no
    controller leads it and no volume is recorded on it. That takes the rights of an operator. A Node in a manifest is its
    cordons and drains alone.
    """
    if bool(objects) == bool(files):
        raise Misuse("say what to delete: either KIND NAME... or -f FILE")
    if files:
        manifests = read(files, sys.stdin)
        wanted = [wish.key for wish in manifests.wishes]
        tell_unwished(manifests)
    else:
        meant = refs(objects, (*FAMILY_OF, *FORGOTTEN))
        wanted = [Key(FAMILY_OF[each.kind], each.names) for each in meant if each.kind in FAMILY_OF]
        if wanted and len(wanted) < len(meant):
            raise Misuse("forget nodes and backends by a command of their own; nothing was deleted")
        for each in meant:
            if each.kind in FORGOTTEN:
                forget(session, each)
        if not wanted:
            return
    reader = Reader(session.store, session.keyspace)
    volumes = [key.names for key in wanted if key.family is Family.DESIRED_VOLUME]
    beside = [Key(family, names) for family in (Family.VOLUME, Family.VERDICT_VOLUME) for names in volumes]
    known = reader.together([*wanted, *beside])
    known.must_see(*(key.family for key in wanted))
    present = [key for key in dict.fromkeys(wanted) if known.see(key) is not None]
    waiting = [key for key in dict.fromkeys(wanted) if key not in present and _waits(known, key)]
    losing = _warn(known, [*present, *waiting])
    _ask(session, losing, [key for key in present if key.family is Family.DESIRED_ATTACHMENT], yes)
    confirmed = list(confirming.detaches(reader, known, present))
    if waiting or len(losing) >= MassRule().at_least:
        confirmed += confirming.deletions(reader, known, losing)
    told = {change.key for change in confirmed}  # a node's confirmations outlive its labels, which go along
    confirmed = [_without_labels(change) if change.key in present else change for change in confirmed]
    write(session.store, known, [*(Change(key, None) for key in present if key not in told), *confirmed])
    for key in present:
        click.echo(f"{label(key)} deleted")
    for key in waiting:
        click.echo(f"{label(key)} confirmed: its data is deleted")
    tell_absent(reader, [*present, *waiting])
    missing = [key for key in dict.fromkeys(wanted) if key not in (*present, *waiting)]
    _tell_missing(
        session, reader, [key for key in missing if files or not _tell_what_is_left(reader, key)], strict=not files
    )


def _without_labels(change: Change) -> Change:
    spec = change.spec
    return (
        Change(change.key, NodeSpec(confirmed_detaches=spec.confirmed_detaches))
        if isinstance(spec, NodeSpec)
        else change
    )


def _waits(known: Known, key: Key) -> bool:
    return key.family is Family.DESIRED_VOLUME and confirming.deletion_waits(known, key.names[0])


def _warn(known: Known, keys: Iterable[Key]) -> list[str]:
    """Say what each volume's data is in for. Those that lose it."""
    losing = []
    for key in keys:
        if key.family is Family.DESIRED_VOLUME:
            lost, text = fate(known, key.names[0])
            click.echo(text, err=True)
            losing += [key.names[0]] if lost else []
    return losing


def _ask(session: Session, losing: list[str], ending: list[Key], yes: bool) -> None:
    """Before data is lost, or more than one device goes. One attachment by name is said clearly enough."""
    parts = [f"delete the data of {', '.join(losing)}"] if losing else []
    if len(ending) > 1:
        parts.append(f"detach {', '.join('/'.join(key.names) for key in ending)}")
    if parts:
        question = " and ".join(parts)
        agree(session, f"{question[0].upper()}{question[1:]}?", yes=yes, otherwise="nothing was deleted")


def fate(known: Known, volume: str) -> tuple[bool, str]:
    """Whether the data may be lost when the wish goes, and a sentence on what becomes of it."""
    spec = known.value(Key(Family.DESIRED_VOLUME, (volume,)), VolumeSpec)
    status = known.value(Key(Family.VOLUME, (volume,)), VolumeStatus)
    holders = [holder.node for holder in status.holders] if isinstance(status, VolumeStatus) else []
    if spec is None and confirming.deletion_waits(known, volume):
        why = confirming.why_deletion_waits(known, volume)
        return True, f"volume {volume}: no longer wished for; its data WILL BE DELETED ({why})"
    once = f" once it is detached from {', '.join(holders)}" if holders else ""
    if spec is None or isinstance(spec, Malformed):
        return (
            True,
            f"volume {volume}: its spec can't be read; its data MAY BE DELETED, unless on_delete: retain is noted",
        )
    size = status.size_gib if isinstance(status, VolumeStatus) else spec.size_gib
    what = f"volume {volume} ({size} GiB on {spec.backend})"
    if status is None and spec.on_delete == "retain":
        return False, f"{what}: no data is known of yet; if there is any, it is retained"
    if isinstance(status, VolumeStatus) and not _is_noted(known, volume, status):
        return spec.on_delete == "delete", f"{what}: {_not_noted(spec, status, volume, once)}"
    if spec.import_ is not None:
        return False, f"{what}: its data is retained, as of everything imported; wish for it again to take it back"
    if spec.on_delete == "delete":
        return True, f"{what}: its data WILL BE DELETED{once} (on_delete: delete)"
    return False, f"{what}: its data is retained (on_delete: retain); wish for it again to take it back"


def _tell_what_is_left(reader: Reader, key: Key) -> bool:
    """Nobody wishes for it, and it is still there: on its way, or retained. Says so, and how to get rid of data."""
    if key.family is Family.DESIRED_ATTACHMENT:
        told = facts.attachment(facts.read_attachment(reader, *key.names), *key.names)
        gone, state, message = told.state is State.DETACHED, str(told.state), told.message
        kept: tuple[str, ...] = ()
    else:
        volume = facts.volume(facts.read_volume(reader, key.names[0]), key.names[0])
        gone, state, message = volume.state is VolumeState.ABSENT, str(volume.state), volume.message
        place = Place(
            reader.prefix, volume=volume.volume, backend=volume.backend or "", size_gib=str(volume.size_gib or "")
        )
        kept = tuple(remedy("RetainedData", place)) if volume.state is VolumeState.RETAINED else ()
    if not gone:
        click.echo(f"{label(key)} unchanged: {state}, {message}")
        for line in kept:
            click.echo(line, err=True)
    return not gone


def _is_noted(known: Known, volume: str, status: VolumeStatus) -> bool:
    """Whether a controller has noted what this very wish says. It notes none that it refuses."""
    seen = known.see(Key(Family.DESIRED_VOLUME, (volume,)))
    return seen is not None and status.generation == seen.mod_revision


def _not_noted(spec: VolumeSpec, status: VolumeStatus, volume: str, once: str) -> str:
    """What the wish says, and that no controller knows of it: nothing is promised on its behalf."""
    what = f"its data WILL BE DELETED{once}" if spec.on_delete == "delete" else "its data is retained"
    noted = f"on_delete: {status.on_delete}" if status.on_delete else "nothing"
    return (
        f"{what} (on_delete: {spec.on_delete}), but no controller has noted this wish yet; noted is {noted}. What a wish said last "
        f"holds if it is not refused; where it can't be found out any more the data stays, and brickctl explain {volume} asks"
    )


def _tell_missing(session: Session, reader: Reader, missing: list[Key], *, strict: bool) -> None:
    """By name, what is not there is an error; by manifest, it is as wished."""
    if not missing:
        return
    if not strict:
        for key in missing:
            click.echo(f"{label(key)} absent")
        return
    for key in missing:
        present = ("/".join(each.names) for each in reader.families(key.family).keys(key.family))
        meant = Ref(label(key).split("/")[0], key.names)
        click.echo(f"Error: {not_found(meant, present).message}", err=True)
    if note := session.deserted():
        click.echo(note, err=True)
    click.get_current_context().exit(int(Exit.NOT_FOUND))
