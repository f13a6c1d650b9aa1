"""`brickctl fence`: the statement, with a name to it, that one boot of a node can no longer write.

It is shown first what the statement frees, and what it does not. Whoever makes it answers for it: if it is not so, two hosts write
to one volume.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from client import facts, planning
from client.asking import agree
from client.exits import Conflict, Misuse, NotFound, Unmet
from client.known import Known, Reader
from client.names import Ref, checked, node_argument, not_found
from client.session import Session
from reconciler.runtime.ports import Compare, Put
from schema.codec import Malformed, Oversize, encode
from schema.keys import Family, Key
from schema.models import Claim, FenceStatement, HolderPhase, NodeRecord, VolumeStatus

NEEDED = (Family.FENCE, Family.NODE, Family.ALIVE, Family.VOLUME)
"""What the roles must let a user read who fences."""


@dataclass(frozen=True, slots=True)
class Held:
    """A volume that the boot was granted. `freed`: the statement is enough for it. `waiting`: nodes that want it."""

    volume: str
    backend: str
    freed: bool
    waiting: tuple[str, ...]

    def __str__(self) -> str:
        fate = (
            "freed"
            if self.freed
            else "NOT freed: its array can't cut a host's access, so the host has to be powered off"
        )
        waiting = f", and {', '.join(self.waiting)} waits for it" if self.waiting else ""
        return f"  {self.volume} (on {self.backend}): {fate}{waiting}"


@click.command()
@node_argument
@click.option("--boot", required=True, help="The boot that is over: see brickctl explain, or describe node.")
@click.option("--why", required=True, help="Why it is fenced, for those who read it later.")
@click.option("--evidence", required=True, help="How you know that this boot can no longer write.")
@click.option("--powered-off", is_flag=True, help="You know more: the host is off, or was reset since that boot.")
@click.option("--who", help="Who states it.  [default: you@this-host]")
@click.option("--although-alive", is_flag=True, help="Fence a node that gives signs of life.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def fence(
    session: Session,
    node: str,
    boot: str,
    why: str,
    evidence: str,
    powered_off: bool,
    who: str | None,
    although_alive: bool,
    yes: bool,
) -> None:
    """State that one boot of a node can no longer write.

    \b
    brickctl fence web-1 --boot 4f1c… --why "host is dead" --evidence "its switch ports are shut"
    brickctl fence web-1 --boot 4f1c… --why "host is dead" --evidence "the PDU says off" --powered-off

    Only then is what the boot was granted taken back, its access cut at the array, and the volumes free for others. Silence is
    no proof: a host that is merely cut off from etcd goes on writing. Where the array can't cut a host's access (NFS, RBD…),
    only --powered-off frees the volume.

    A fence is never taken back. One that was made without --powered-off can be raised once, by the same command with it. The
    node needs nothing: when it comes back it drops what the boot left, and begins a new one.

    Another host that is to take the node's place (brickwork-node --this-host-is, said there) waits for a fence with --powered-off
    of the boot that the node published, whether that holds a volume or not.
    """
    key = Key(Family.FENCE, (node, checked("boot", boot)))
    known = _read(Reader(session.store, session.keyspace), node, key)
    earlier = _earlier(known, key, powered_off=powered_off)
    held = list(_held(known, node, boot, powered_off=powered_off))
    _refuse(known, node, boot, held, earlier, powered_off=powered_off, although_alive=although_alive)
    statement = FenceStatement(
        who=who or _user(),
        why=_said("--why", why),
        evidence=_said("--evidence", evidence),
        at=datetime.fromtimestamp(session.clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        proof="powered_off" if powered_off else "statement",
        earlier=earlier,
    )
    _ask(session, node, boot, held, powered_off=powered_off, yes=yes)
    _write(session, known, key, statement, although_alive=although_alive)
    click.echo(f"fence/{node}/{boot} {'raised' if earlier else 'created'}")


def _read(reader: Reader, node: str, key: Key) -> Known:
    known = reader.families(Family.VOLUME, Family.DESIRED_ATTACHMENT, Family.BACKEND, Family.NODE)
    reader.more(known, Family.CLAIM, node)
    own = [Key(Family.NODE, (node,)), Key(Family.ALIVE, (node,)), key, Key(Family.FENCED, key.names)]
    reader.together(own, known)
    known.must_see(*NEEDED)
    return known


def _earlier(known: Known, key: Key, *, powered_off: bool) -> FenceStatement | None:
    """What this boot is fenced by already, if that may be raised."""
    present = known.value(key, FenceStatement)
    if present is None:
        return None
    name = "/".join(key.names)
    if isinstance(present, Malformed) and present.newer:
        raise Conflict(
            f"{name} is fenced already, by a statement of a newer Brickwork ({present}): upgrade this brickctl"
        )
    if isinstance(present, Malformed):
        raise Conflict(f"{name} is fenced by a statement that can't be read ({present}): correct the key by hand")
    if present.proof == "powered_off" or not powered_off:
        more = "" if present.proof == "powered_off" else "; it can only be raised, with --powered-off"
        raise Conflict(f"{name} is fenced already, by {present.who}: {present.why}. A fence is never changed{more}")
    return present


def _held(known: Known, node: str, boot: str, *, powered_off: bool) -> Iterator[Held]:
    for key in sorted(known.keys(Family.VOLUME), key=lambda key: key.names):
        status = known.value(key, VolumeStatus)
        for holder in status.holders if isinstance(status, VolumeStatus) else ():
            if (holder.node, holder.boot) == (node, boot) and holder.phase is not HolderPhase.REVOKED:
                volume = key.names[0]
                unused = holder.phase is HolderPhase.EXPORTING
                freed = powered_off or unused or planning.cuts_access(known, facts.backend_of(known, volume))
                wishes = (wish.names for wish in known.keys(Family.DESIRED_ATTACHMENT))
                waiting = sorted(names[0] for names in wishes if names[1] == volume and names[0] != node)
                yield Held(volume, facts.backend_of(known, volume), freed, tuple(waiting))


def _refuse(
    known: Known,
    node: str,
    boot: str,
    held: list[Held],
    earlier: FenceStatement | None,
    *,
    powered_off: bool,
    although_alive: bool,
) -> None:
    """What is no help, or looks like a mistake."""
    record = known.value(Key(Family.NODE, (node,)), NodeRecord)
    published = record.boot if isinstance(record, NodeRecord) else ""
    copied = known.see(Key(Family.FENCED, (node, boot))) is not None
    boots = _boots_of(known, node) | ({published} if published else set()) | ({boot} if earlier or copied else set())
    if record is None and not boots:
        raise not_found(Ref("node", (node,)), facts.names(known, Family.NODE))
    if boot not in boots:
        raise NotFound(f"{node} has no boot {boot}: it is in {published or 'none'}; see brickctl describe node {node}")
    if known.see(Key(Family.ALIVE, (node,))) is not None and not although_alive:
        raise Conflict(
            f"{node} gives signs of life: detach its volumes instead (brickctl detach), and they are released in order. "
            "To fence it all the same: --although-alive"
        )
    if copied and earlier is None:
        return  # it was acted upon, and somebody took the statement away, by which the node would know
    if not held:
        if powered_off and (earlier or boot == published or boot in _claimed(known, node)):
            return  # what it frees is the node's name, for another host, or what that one may not get or give back before
        raise Unmet(f"boot {boot} of {node} holds no volume: there is nothing that a fence would free")
    if not any(each.freed for each in held):
        kept = ", ".join(each.volume for each in held)
        raise Conflict(
            f"this would free nothing: the arrays of {kept} can't cut a host's access. Power {node} off, or reset it, and say so "
            "with --powered-off"
        )


def _boots_of(known: Known, node: str) -> set[str]:
    """Boots that were granted something, or claimed it."""
    statuses = (known.value(key, VolumeStatus) for key in known.keys(Family.VOLUME))
    holders = (each for status in statuses if isinstance(status, VolumeStatus) for each in status.holders)
    return {holder.boot for holder in holders if holder.node == node} | _claimed(known, node)


def _claimed(known: Known, node: str) -> set[str]:
    """Boots that claimed something, also where the grant went already."""
    claims = (known.value(key, Claim) for key in known.below(node, Family.CLAIM))
    return {claim.boot for claim in claims if isinstance(claim, Claim)}


def _ask(session: Session, node: str, boot: str, held: list[Held], *, powered_off: bool, yes: bool) -> None:
    means = "is over: the host is off, or was reset since" if powered_off else "can no longer write"
    click.echo(f"You state that boot {boot} of {node} {means}. It holds{':' if held else ' nothing.'}", err=True)
    for each in held:
        click.echo(str(each), err=True)
    click.echo(
        "If that is not so, two hosts write to one volume, and its data is lost. It can't be taken back.", err=True
    )
    agree(session, f"Fence boot {boot} of {node}?", yes=yes)


def _write(session: Session, known: Known, key: Key, statement: FenceStatement, *, although_alive: bool) -> None:
    """The statement, if nobody was faster, and the node is still as it was."""
    node = key.names[0]
    rests_on = [key, Key(Family.NODE, (node,)), *([] if although_alive else [Key(Family.ALIVE, (node,))])]
    paths = {each: session.keyspace.path(each.family, *each.names) for each in rests_on}
    try:
        value = encode(statement)
    except Oversize as error:
        raise Misuse(f"--why and --evidence are too long: {error}") from None
    compares = [Compare(path, mod_revision=known.revision_of(each)) for each, path in paths.items()]
    result = session.store.txn(compares, [Put(paths[key], value)])
    if not result.succeeded:
        now = {path: item.mod_revision for path, item in result.found.items()}
        moved = [path for each, path in paths.items() if now.get(path, 0) != known.revision_of(each)]
        raise Conflict(
            f"changed meanwhile: {', '.join(moved)}; nothing was written. Look at it again: brickctl get nodes"
        )


def _said(option: str, text: str) -> str:
    if not text.strip():
        raise Misuse(f"{option} is empty: say it in a few words")
    return text


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "unknown"
    return f"{name}@{socket.gethostname()}"
