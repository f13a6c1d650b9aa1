"""From keys to facts, and from facts to summaries: what of the keys concerns one object."""

from __future__ import annotations

from collections.abc import Iterator

from client.known import Known, Reader
from reconciler.core.mass import DETACHES_PAUSED
from schema.codec import Malformed
from schema.keys import CLUSTER, VERDICT_OF, Family, Key, Unparsable
from schema.models import (
    Alive,
    AttachmentSpec,
    AttachmentStatus,
    BackendStatus,
    Claim,
    FenceStatement,
    Leader,
    NodeRecord,
    NodeSpec,
    Verdict,
    VolumeSpec,
    VolumeStatus,
)
from schema.summary import (
    AttachmentFacts,
    AttachmentSummary,
    BackendSummary,
    NodeFacts,
    NodeSummary,
    State,
    VolumeFacts,
    VolumeSummary,
    summarise_attachment,
    summarise_backend,
    summarise_node,
    summarise_volume,
)

PAIR_FAMILIES = (Family.DESIRED_ATTACHMENT, Family.CLAIM, Family.ATTACHMENT)
OF_PAIRS = (*PAIR_FAMILIES, Family.VERDICT_ATTACHMENT)
AROUND_PAIRS = (
    Family.DESIRED_VOLUME,
    Family.VOLUME,
    Family.NODE,
    Family.ALIVE,
    Family.DESIRED_NODE,
    Family.FENCE,
    Family.FENCED,
    Family.BACKEND,
    Family.LEADER,
)
VOLUME_FAMILIES = (Family.DESIRED_VOLUME, Family.VOLUME, Family.VERDICT_VOLUME)
NODE_FAMILIES = (
    Family.DESIRED_NODE,
    Family.NODE,
    Family.ALIVE,
    Family.VERDICT_NODE,
    Family.FENCE,
    Family.FENCED,
    *PAIR_FAMILIES,
)
NODE_NAMING = tuple(family for family in NODE_FAMILIES if family not in (Family.FENCE, Family.FENCED))
"""What makes a node one to list. Fences are never taken back: those of a node that was forgotten stay, and say nothing more."""


# --- attachments ---------------------------------------------------------------------------------------------------------


def keys_around(node: str, volume: str) -> list[Key]:
    """The keys that an attachment's summary rests on, but for fences and the backend."""
    pair = (node, volume)
    keys = [Key(family, pair) for family in OF_PAIRS]
    keys += [Key(family, (volume,)) for family in (Family.VOLUME, Family.DESIRED_VOLUME)]
    return keys + [Key(family, (node,)) for family in (Family.NODE, Family.ALIVE, Family.DESIRED_NODE)]


def read_attachment(reader: Reader, node: str, volume: str) -> Known:
    """One attachment with everything around it."""
    known = reader.together(keys_around(node, volume))
    for family in (Family.FENCE, Family.FENCED):
        reader.more(known, family, node)
    return reader.together(keys_above(known, volume), known)


def keys_above(known: Known, volume: str) -> list[Key]:
    """Of who acts for a volume: its backend, and its controller. What is on no backend yet is the cluster's."""
    backend = backend_of(known, volume)
    own = [Key(Family.BACKEND, (backend,)), Key(Family.LEADER, (backend,))] if backend else []
    return [*own, Key(Family.LEADER, (CLUSTER,))]


def is_led(known: Known, volume: str) -> bool:
    """Whether a controller acts for a volume. Its `keys_above` have to be read."""
    backend = backend_of(known, volume)
    if backend and known.value(Key(Family.LEADER, (backend,)), Leader) is not None:
        return True
    told_of = backend and known.see(Key(Family.BACKEND, (backend,))) is not None
    return not told_of and known.value(Key(Family.LEADER, (CLUSTER,)), Leader) is not None


def read_volume(reader: Reader, name: str) -> Known:
    """One volume, and who acts for it."""
    known = reader.together(volume_keys(name))
    return reader.together(keys_above(known, name), known)


def backend_of(known: Known, volume: str) -> str:
    """The backend a volume is on, or is wished for on."""
    for key, model in (
        (Key(Family.VOLUME, (volume,)), VolumeStatus),
        (Key(Family.DESIRED_VOLUME, (volume,)), VolumeSpec),
    ):
        value = known.value(key, model)
        if isinstance(value, VolumeStatus | VolumeSpec):
            return value.backend
    return ""


def attachment_facts(known: Known, node: str, volume: str) -> AttachmentFacts:
    """The keys of one attachment, decoded."""
    wish = Key(Family.DESIRED_ATTACHMENT, (node, volume))
    status = known.value(Key(Family.VOLUME, (volume,)), VolumeStatus)
    backend = backend_of(known, volume)
    return AttachmentFacts(
        node=node,
        volume=volume,
        wish=known.value(wish, AttachmentSpec),
        generation=known.revision_of(wish),
        verdict=known.value(Key(VERDICT_OF[wish.family], wish.names), Verdict),
        holders=status.holders if isinstance(status, VolumeStatus) else status,
        claim=known.value(Key(Family.CLAIM, (node, volume)), Claim),
        status=known.value(Key(Family.ATTACHMENT, (node, volume)), AttachmentStatus),
        record=known.value(Key(Family.NODE, (node,)), NodeRecord),
        alive=known.value(Key(Family.ALIVE, (node,)), Alive),
        intent=known.value(Key(Family.DESIRED_NODE, (node,)), NodeSpec),
        fenced=known.boots(node),
        backend_name=backend,
        backend=known.value(Key(Family.BACKEND, (backend,)), BackendStatus) if backend else None,
        led=is_led(known, volume),
    )


def attachment(known: Known, node: str, volume: str) -> AttachmentSummary:
    return summarise_attachment(attachment_facts(known, node, volume))


def pairs(known: Known) -> list[tuple[str, str]]:
    """(node, volume) of every attachment that any key speaks of."""
    found = {(key.names[0], key.names[1]) for key in known.keys(*PAIR_FAMILIES)}
    for key in known.keys(Family.VOLUME):
        status = known.value(key, VolumeStatus)
        if isinstance(status, VolumeStatus):
            found |= {(holder.node, key.names[0]) for holder in status.holders}
    return sorted(found)


SKEW = ("GrantMissing", "StatusMissing", "ClaimMissing", "KeysMissing", "ClaimAfterRelease", "OldBoot")
"""Doubts that may come from families listed one after another."""


def all_attachments(
    reader: Reader, only_node: str | None = None, only_volume: str | None = None
) -> tuple[Known, list[AttachmentSummary]]:
    """Every attachment, or those of a node or volume. A row that looks doubtful is read again, its keys together."""
    known = reader.families(*AROUND_PAIRS)
    for family in OF_PAIRS:
        reader.more(known, family, *([only_node] if only_node else []))
    wanted = [pair for pair in pairs(known) if only_node in (None, pair[0]) and only_volume in (None, pair[1])]
    rows = [attachment(known, *pair) for pair in wanted]
    again = [row for row in rows if row.reason in SKEW]
    if again:
        reader.together([key for row in again for key in keys_around(row.node, row.volume)], known)
        rows = [attachment(known, row.node, row.volume) if row in again else row for row in rows]
    return known, [row for row in rows if row.state is not State.DETACHED]


# --- volumes, nodes, backends --------------------------------------------------------------------------------------------


def volume(known: Known, name: str) -> VolumeSummary:
    wish = Key(Family.DESIRED_VOLUME, (name,))
    return summarise_volume(
        VolumeFacts(
            volume=name,
            spec=known.value(wish, VolumeSpec),
            generation=known.revision_of(wish),
            status=known.value(Key(Family.VOLUME, (name,)), VolumeStatus),
            verdict=known.value(Key(Family.VERDICT_VOLUME, (name,)), Verdict),
            led=is_led(known, name),
        )
    )


def volume_keys(name: str) -> list[Key]:
    return [Key(family, (name,)) for family in (Family.DESIRED_VOLUME, Family.VOLUME, Family.VERDICT_VOLUME)]


def node(known: Known, name: str) -> NodeSummary:
    wish = Key(Family.DESIRED_NODE, (name,))
    left = left_on(known, name)
    return summarise_node(
        NodeFacts(
            node=name,
            spec=known.value(wish, NodeSpec),
            generation=known.revision_of(wish),
            record=known.value(Key(Family.NODE, (name,)), NodeRecord),
            alive=known.value(Key(Family.ALIVE, (name,)), Alive),
            verdict=known.value(Key(Family.VERDICT_NODE, (name,)), Verdict),
            fences=tuple(fences(known, name)),
            volumes=left,
            wished=tuple(sorted(key.names[1] for key in known.below(name, Family.DESIRED_ATTACHMENT))),
            paused=sum(1 for key in known.below(name, Family.ATTACHMENT) if says(known, key, DETACHES_PAUSED)),
            left=left,
        )
    )


def says(known: Known, key: Key, reason: str) -> str:
    """The message of a condition in a status or verdict; empty, where it is not there."""
    value = known.value(key, AttachmentStatus if key.family is Family.ATTACHMENT else Verdict)
    told = value.conditions if isinstance(value, Verdict | AttachmentStatus) else ()
    return next((each.message for each in told if each.reason == reason), "")


def left_on(known: Known, name: str) -> tuple[str, ...]:
    """Volumes that are not detached from a node: a claim, a status or a holder entry says so, or an entry can't be read."""
    left = {key.names[1] for key in known.below(name, Family.CLAIM, Family.ATTACHMENT)}
    for key in known.keys(Family.VOLUME):
        status = known.value(key, VolumeStatus)
        holders = [holder.node for holder in status.holders] if isinstance(status, VolumeStatus) else [name]
        left |= {key.names[0]} if name in holders else set()
    return tuple(sorted(left))


def ending(known: Known, name: str) -> tuple[str, ...]:
    """What a first drain would detach from a node: nothing more, where it is drained already."""
    spec = known.value(Key(Family.DESIRED_NODE, (name,)), NodeSpec)
    return () if isinstance(spec, NodeSpec) and spec.drains else left_on(known, name)


def fences(known: Known, name: str) -> Iterator[tuple[str, FenceStatement | Malformed]]:
    """The statements against boots of a node, the operator's own before the controller's copy."""
    for boot in sorted(known.boots(name)):
        for family in (Family.FENCE, Family.FENCED):
            statement = known.value(Key(family, (name, boot)), FenceStatement)
            if statement is not None:
                yield boot, statement
                break


def backend(known: Known, name: str) -> BackendSummary:
    """The leader key has to be read, too."""
    led = known.value(Key(Family.LEADER, (name,)), Leader) is not None
    return summarise_backend(name, known.value(Key(Family.BACKEND, (name,)), BackendStatus), led=led)


def strays(known: Known) -> dict[str, str]:
    """Keys under `desired/` that mean nothing, and why: those met, and those of no family, of which a controller told."""
    found = {stray.path: stray.fault for stray in known.strays}
    for key in known.keys(Family.VERDICT_UNPARSABLE):
        path = known.keyspace.unparsable_path(key.names[0])
        stray = known.keyspace.parse(path)
        if isinstance(stray, Unparsable) and stray.desired:
            found[path] = stray.fault
    return found


def names(known: Known, *families: Family) -> list[str]:
    """The first names in some families, in order."""
    return sorted({key.names[0] for key in known.keys(*families)})


def read_node(reader: Reader, name: str) -> Known:
    """One node with everything around it.

    Holder lists come before claims and statuses: where a drain lets no new grant through, nothing slips through in between.
    """
    single = (Family.DESIRED_NODE, Family.NODE, Family.ALIVE, Family.VERDICT_NODE)
    known = reader.together([Key(family, (name,)) for family in single])
    reader.more(known, Family.VOLUME)
    for family in (Family.FENCE, Family.FENCED, *PAIR_FAMILIES):
        reader.more(known, family, name)
    return known
