"""Confirmations that go along with ends of wishes, where daemons would otherwise take them for an accident (`core.mass`).

Naming what is to go is the confirmation. It names one life of an attachment (its epoch) or volume (its uid), so it covers no
later one. A wish may be made again within that life: then the confirmation goes in the same transaction. What is no longer of
use is taken out along with the next.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from client.facts import says
from client.known import Known, Reader
from client.writing import Change
from reconciler.core.mass import DELETES_PAUSED, DETACHES_PAUSED, MassRule
from reconciler.core.volume_wish import LAST_WISH_UNKNOWN
from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import AttachmentStatus, Claim, DeletionSpec, NodeSpec, VolumeStatus


def detaches(reader: Reader, known: Known, keys: Iterable[Key]) -> Iterator[Change]:
    """What to write together with the end of these attachments' wishes, if anything."""
    ending = {key for key in keys if key.family is Family.DESIRED_ATTACHMENT}
    for node in sorted({key.names[0] for key in ending}):
        claims = _claims(reader, known, node)
        gone = {volume for volume in claims if _wish(node, volume) in ending or not known.see(_wish(node, volume))}
        if MassRule().met(len(gone), len(claims)):
            yield from _confirmed(known, node, claims, {key.names[1] for key in ending if key.names[0] == node})


def vanished(reader: Reader, known: Known, node: str, only: str = "") -> Iterator[Change]:
    """What confirms all ends of wishes on a node that wait for it, or one of them."""
    claims = _claims(reader, known, node)
    gone = {volume for volume in claims if not known.see(_wish(node, volume)) and only in ("", volume)}
    waiting = {volume for volume in gone if says(known, Key(Family.ATTACHMENT, (node, volume)), DETACHES_PAUSED)}
    if waiting:
        yield from _confirmed(known, node, claims, waiting)


def deletions(reader: Reader, known: Known, volumes: list[str]) -> Iterator[Change]:
    """What confirms that the data of these volumes goes. It takes its wish's end along, or rests on that."""
    reader.more(known, Family.DESIRED_DELETION)
    former = [key.names[0] for key in known.keys(Family.DESIRED_DELETION)]
    reader.together([Key(Family.VOLUME, (name,)) for name in {*former, *volumes}], known)
    uids = {name: _uid(known, name) for name in {*former, *volumes}}
    for name in volumes:
        if uids[name]:
            key = Key(Family.DESIRED_DELETION, (name,))
            said = known.value(key, DeletionSpec)
            gone = isinstance(said, DeletionSpec) and said.uid == uids[name] and said.gone
            yield Change(Key(Family.DESIRED_VOLUME, (name,)), None)
            yield Change(key, DeletionSpec(uid=uids[name], **({"gone": True} if gone else {})))
    for name in former:
        said = known.value(Key(Family.DESIRED_DELETION, (name,)), DeletionSpec)
        if name not in volumes and isinstance(said, DeletionSpec) and said.uid != uids[name]:
            yield Change(Key(Family.DESIRED_DELETION, (name,)), None)


def withdrawals(reader: Reader, known: Known, wishes: list[Key], new: Container[Key] = ()) -> Iterator[Change]:
    """What wishes take back: confirmations of the end of those before. Of a `new` one the absence is compared, too: somebody may
    be about to confirm."""
    deletions = [Key(Family.DESIRED_DELETION, key.names) for key in wishes if key.family is Family.DESIRED_VOLUME]
    pairs = [key.names for key in wishes if key.family is Family.DESIRED_ATTACHMENT]
    nodes = [Key(Family.DESIRED_NODE, (node,)) for node in sorted({node for node, _ in pairs})]
    reader.together([*deletions, *nodes], known)
    for key in deletions:
        if known.see(key) is not None or Key(Family.DESIRED_VOLUME, key.names) in new:
            yield Change(key, None)
    for key in nodes:
        spec = known.value(key, NodeSpec)
        if key not in wishes and isinstance(spec, NodeSpec):  # a manifest of the node says itself what is confirmed
            kept = {name: epoch for name, epoch in spec.confirmed_detaches.items() if (*key.names, name) not in pairs}
            if kept != spec.confirmed_detaches:
                said = {**spec.model_dump(exclude_unset=True), "confirmed_detaches": kept}
                yield Change(key, NodeSpec.model_validate(said) if kept or len(said) > 1 else None)


def deletion_waits(known: Known, volume: str) -> bool:
    """Whether the controller waits for a confirmation that the data of this volume goes."""
    return any(
        says(known, Key(Family.VERDICT_VOLUME, (volume,)), reason) for reason in (DELETES_PAUSED, LAST_WISH_UNKNOWN)
    )


def why_deletion_waits(known: Known, volume: str) -> str:
    """What is known of the last wish, for who confirms."""
    if says(known, Key(Family.VERDICT_VOLUME, (volume,)), LAST_WISH_UNKNOWN):
        return "it isn't known what its last wish said"
    return "its last wish said on_delete: delete"


def _claims(reader: Reader, known: Known, node: str) -> dict[str, int]:
    """Volume -> epoch of everything that the node holds."""
    for family in (Family.CLAIM, Family.ATTACHMENT, Family.DESIRED_ATTACHMENT):
        reader.more(known, family, node)
    reader.together([Key(Family.DESIRED_NODE, (node,))], known)
    told = {key.names[1]: known.value(key, AttachmentStatus) for key in known.below(node, Family.ATTACHMENT)}
    claimed = {key.names[1]: known.value(key, Claim) for key in known.below(node, Family.CLAIM)}
    held = {
        name: said for name, said in told.items() if isinstance(said, AttachmentStatus) and said.connected
    } | claimed
    return {volume: said.epoch for volume, said in held.items() if isinstance(said, Claim | AttachmentStatus)}


def _confirmed(known: Known, node: str, claims: dict[str, int], volumes: set[str]) -> Iterator[Change]:
    key = Key(Family.DESIRED_NODE, (node,))
    spec = known.value(key, NodeSpec) or NodeSpec()
    if isinstance(spec, Malformed):
        return  # left alone; the node will say that it waits
    former = {volume: epoch for volume, epoch in spec.confirmed_detaches.items() if claims.get(volume) == epoch}
    named = {volume: claims[volume] for volume in sorted(volumes) if volume in claims}
    said = {**spec.model_dump(exclude_unset=True), "confirmed_detaches": {**former, **named}}
    yield Change(key, NodeSpec.model_validate(said))


def _wish(node: str, volume: str) -> Key:
    return Key(Family.DESIRED_ATTACHMENT, (node, volume))


def _uid(known: Known, volume: str) -> str:
    status = known.value(Key(Family.VOLUME, (volume,)), VolumeStatus)
    return status.uid if isinstance(status, VolumeStatus) else ""
