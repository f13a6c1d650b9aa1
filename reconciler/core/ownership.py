"""Whether this host is the node that it bears the name of, and whose boots it may speak for (docs/PROTOCOL.md, R17).

`nodes/N` names the host. A copy of that host has the same node id, state folder and initiator, but not the same identity: it
does nothing as N, however long N is silent, until a person says otherwise, and the boot published there is known to be over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pydantic import BaseModel

from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import AttachmentPhase, AttachmentStatus, Claim, Connection, FenceStatement, NodeRecord

Look = Callable[[Key], BaseModel | Malformed | None]
"""The decoded value of a key, as this look at the keys sees it."""


class ThisHost(NamedTuple):
    """What a host knows of itself."""

    identity: str
    boots: frozenset[str] = frozenset()
    """Its own, of this identity: what an older version wrote names the boot alone."""
    was_node: bool = False
    """It published itself as the node before."""
    word: bool = False
    """A person said on this host that it is the node from now on."""


class Ownership(NamedTuple):
    """Whether this host may act as the node."""

    fault: str = ""
    """Why not. Empty: it may."""
    fence: Key | None = None
    """Of the former host's boot: with a person's word, N0 rests on it."""


def ownership(look: Look, node: str, this: ThisHost, told: str | None) -> Ownership:
    """By `nodes/N` alone: silence is no reason.

    Args:
        told: the identity in a `nodes/N` that can't be read as a whole.
    """
    published = look(Key(Family.NODE, (node,)))
    if published is None:
        return Ownership()
    if not isinstance(published, NodeRecord):
        return _unreadable(published, node, this, told)
    if _is_own(published.host_identity, published.boot, this):
        return Ownership()
    fence = Key(Family.FENCE, (node, published.boot))
    if not this.word:
        return Ownership(_other(published, node, this))
    if is_over(look, fence):
        return Ownership(fence=fence)
    return Ownership(
        f"DuplicateNode: this host ({this.identity}) is to be {node} by a person's word, and waits for the end of the former "
        f"one ({published.host_identity or 'which an older version did not name'}): switch that off, and say so: brickctl "
        f"fence {node} --boot {published.boot} --why … --evidence … --powered-off"
    )


def _is_own(identity: str | None, boot: str, this: ThisHost) -> bool:
    return identity == this.identity if identity else boot in this.boots


def _unreadable(published: object, node: str, this: ThisHost, told: str | None) -> Ownership:
    """A key that only this host writes is put right by it. It must not be the one of another host."""
    if told == this.identity or (told is None and this.was_node):
        return Ownership()
    return Ownership(
        f"DuplicateNode: nodes/{node} can't be read ({published}), and this host ({this.identity}) has not been {node} "
        f"before: is another host? Its daemon puts the key right. If there is none: etcdctl del the key"
    )


def _other(published: NodeRecord, node: str, this: ThisHost) -> str:
    other = published.host_identity
    if other is None:
        return (
            f"DuplicateNode: nodes/{node} is of boot {published.boot}, from before hosts had an identity, and nothing tells "
            f"that this host ({this.identity}) was in that boot. If it was, or is to be {node} from now on: brickwork-node "
            f"--this-host-is {node}; then brickctl fence {node} --boot {published.boot} --why … --evidence … --powered-off"
        )
    return (
        f"DuplicateNode: another host is {node} ({other}, boot {published.boot}); this host is {this.identity}. Nothing is "
        f"done here as {node}. Is this host a clone? Then remove its state folder, so that it becomes a node of its own. Or do "
        f"its settings name another host's `node`? If this host is to take its place: brickwork-node --this-host-is {node}"
    )


def is_over(look: Look, fence: Key) -> bool:
    """A person's statement, or a fence agent's, that the boot is over. A weaker one leaves a device that may come back to life:
    two hosts of one node share the initiator."""
    statement = look(fence)
    return isinstance(statement, FenceStatement) and statement.proof == "powered_off"


class Others(NamedTuple):
    """What the keys of one attachment say of boots of other hosts."""

    families: frozenset[Family] = frozenset()
    """Whose value is of a boot that this host must not speak for."""
    fences: tuple[Key, ...] = ()
    """Those that end such boots, so that it may: whoever speaks for one compares its fence."""


def others(look: Look, node: str, volume: str, boot: str, this: ThisHost) -> Others:
    """Which of claim, connection and status are another host's, whose boot is not known to be over."""
    families, fences, own = set(), [], this._replace(boots=this.boots | {boot})
    for family in (Family.CLAIM, Family.CONNECTION, Family.ATTACHMENT):
        value = look(Key(family, (node, volume)))
        if not isinstance(value, Claim | Connection | AttachmentStatus) or _is_own(
            value.host_identity, value.boot, own
        ):
            continue
        if isinstance(value, AttachmentStatus) and value.phase is AttachmentPhase.RELEASED:
            continue  # final: to take it away says nothing of that boot
        fence = Key(Family.FENCE, (node, value.boot))
        if is_over(look, fence):
            fences.append(fence)
        else:
            families.add(family)
    return Others(frozenset(families), tuple(dict.fromkeys(fences)))
