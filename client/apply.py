"""`brickctl apply`: wishes from manifests. What is so already is not written again."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches

import click

from client import confirming, facts
from client.asking import agree
from client.exits import Conflict
from client.known import Known, Reader
from client.manifests import Wish, read, tell_unwished
from client.session import Session
from client.writing import Change, label, outcome, write
from reconciler.runtime.ports import PortError
from schema.keys import Family, Key
from schema.models import AttachmentSpec, NodeSpec, VolumeSpec, VolumeStatus
from schema.summary import nobody_leads


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
    new = {wish.key: Change(wish.key, wish.spec) for wish, word in outcomes if word != "unchanged"}
    back = confirming.withdrawals(reader, known, [wish.key for wish in wishes], new)
    # What is of one volume stands together: in one transaction, or nearly so where there are very many.
    write(
        session.store,
        known,
        sorted([*new.values(), *back], key=lambda each: (each.key.names[-1], each.spec is not None)),
    )
    for wish, word in outcomes:
        click.echo(f"{label(wish.key)} {word}")
    tell_hints(session, reader, wishes)


def tell_hints(session: Session, reader: Reader, wishes: Iterable[Wish]) -> None:
    """What the wishes will wait for, or be refused for, as far as can be seen now."""
    wishes = list(wishes)
    for hint in filter(None, (*hints(reader, wishes), session.deserted())):
        click.echo(hint, err=True)
    tell_absent(reader, [wish.key for wish in wishes])


def tell_absent(reader: Reader, keys: Iterable[Key]) -> None:
    """Who is not there that would have to act on these wishes, or on their end. What was written stays, whatever this finds."""
    with suppress(PortError):
        _tell_absent(reader, list(keys))


def _tell_absent(reader: Reader, keys: Sequence[Key]) -> None:
    volumes = sorted(
        {key.names[-1] for key in keys if key.family in (Family.DESIRED_VOLUME, Family.DESIRED_ATTACHMENT)}
    )
    nodes = sorted({key.names[0] for key in keys if key.family in (Family.DESIRED_NODE, Family.DESIRED_ATTACHMENT)})
    known = reader.together(Key(family, (name,)) for name in nodes for family in (Family.NODE, Family.ALIVE))
    reader.together((key for name in volumes for key in facts.volume_keys(name)), known)
    backends = sorted({name for volume in volumes if (name := facts.backend_of(known, volume))})
    reader.together((Key(family, (name,)) for name in backends for family in (Family.BACKEND, Family.LEADER)), known)
    for name in backends:
        if _is_left(known, Family.BACKEND, Family.LEADER, name):
            click.echo(f"hint: {nobody_leads(name, None)} Nothing goes on before one does", err=True)
    for name in nodes:
        if _is_left(known, Family.NODE, Family.ALIVE, name):
            click.echo(
                f"hint: node {name} gives no sign of life: nothing goes on there before its daemon does", err=True
            )


def _is_left(known: Known, said: Family, there: Family, name: str) -> bool:
    """Something was told by who is not there now."""
    hidden = known.denied.intersection((said, there))
    return not hidden and known.see(Key(said, (name,))) is not None and known.see(Key(there, (name,))) is None


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


def hints(reader: Reader, wishes: list[Wish]) -> list[str]:
    """All wishes are allowed: they may come in any order, and the controller answers them."""
    return [*_about_volumes(reader, wishes), *_about_attachments(reader, wishes)]


def _about_volumes(reader: Reader, wishes: list[Wish]) -> list[str]:
    """What of a volume the controller will refuse: it is where it is, and no smaller than it is."""
    specs = {wish.key.names[0]: wish.spec for wish in wishes if isinstance(wish.spec, VolumeSpec)}
    if not specs:
        return []
    known = reader.together(Key(Family.VOLUME, (name,)) for name in specs)
    backends = facts.names(reader.families(Family.BACKEND), Family.BACKEND)
    found = []
    for name, spec in sorted(specs.items()):
        status = known.value(Key(Family.VOLUME, (name,)), VolumeStatus)
        if isinstance(status, VolumeStatus) and status.backend != spec.backend:
            found.append(
                f"hint: volume {name} is on backend {status.backend} and does not move; this wish will be refused"
            )
        elif backends and spec.backend not in backends:
            near = get_close_matches(spec.backend, backends, n=1)
            meant = f"; did you mean {near[0]}?" if near else f" (there are: {', '.join(backends)})"
            found.append(f"hint: no controller has told of backend {spec.backend}{meant}")
        elif isinstance(status, VolumeStatus) and spec.size_gib and spec.size_gib < _least(status):
            found.append(
                f"hint: volume {name} has {status.size_gib} GiB and does not shrink; this wish will be refused"
            )
    return found


def _least(status: VolumeStatus) -> int:
    """The array may have made it larger than was asked for: that much is still no shrinking."""
    return min(status.asked_gib or status.size_gib, status.size_gib)


def _about_attachments(reader: Reader, wishes: list[Wish]) -> list[str]:
    """What an attachment will wait for."""
    attached = [wish.key.names for wish in wishes if wish.key.family is Family.DESIRED_ATTACHMENT]
    volumes = {Key(Family.DESIRED_VOLUME, (volume,)) for _, volume in attached}
    known = reader.together(volumes)
    known_volumes = facts.names(reader.families(Family.DESIRED_VOLUME), Family.DESIRED_VOLUME) if attached else []
    found = _missing(known, volumes, "volume {} is not wished for yet: its attachments wait for it", known_volumes)
    found += _modes(reader, wishes)
    return found + unpublished(reader, (node for node, _ in attached))


def unpublished(reader: Reader, nodes: Iterable[str]) -> list[str]:
    """A hint for each node whose daemon has not told of it yet."""
    keys = {Key(Family.NODE, (node,)) for node in nodes}
    known = reader.together(keys)
    absent = any(known.see(key) is None for key in keys)
    published = facts.names(reader.families(Family.NODE), Family.NODE) if absent else []
    return _missing(known, keys, "node {} has not published itself yet: is brickwork-node running there?", published)


def _missing(known: Known, keys: Iterable[Key], text: str, present: list[str]) -> list[str]:
    absent = sorted(key.names[0] for key in keys if key.family not in known.denied and known.see(key) is None)
    return [f"hint: {text.format(name)}{_or(name, present)}" for name in absent]


def _or(name: str, present: list[str]) -> str:
    near = get_close_matches(name, present, n=1)
    return f" Or did you mean {near[0]}?" if near else ""


def _modes(reader: Reader, wishes: list[Wish]) -> list[str]:
    """A mode is not changed under a device in use."""
    specs = {wish.key.names: wish.spec for wish in wishes if isinstance(wish.spec, AttachmentSpec)}
    known = reader.together(Key(Family.VOLUME, (volume,)) for _, volume in specs)
    found = []
    for (node, volume), spec in sorted(specs.items()):
        status = known.value(Key(Family.VOLUME, (volume,)), VolumeStatus)
        for holder in status.holders if isinstance(status, VolumeStatus) else ():
            if holder.node == node and holder.mode != spec.mode:
                found.append(
                    f"hint: {node}/{volume} is attached as {holder.mode} and stays so; for {spec.mode} detach it, wait, and "
                    "attach it again"
                )
    return found
