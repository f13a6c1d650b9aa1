"""What must hold at every moment of a run, checked at each write to etcd and at each change at an array or a host.

The names (S1, S2 …) are those of docs/BEHAVIOUR.md, R3 and the like those of docs/PROTOCOL.md; D1: data is deleted by an intent
only, and under nobody. The checker sees everything, also what no daemon can: which grant a device was made under, and who is
really mapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from pydantic import BaseModel

from reconciler.runtime.ports import Compare, Event
from schema.codec import decode_family
from schema.keys import FENCE_AGENT, Family, Key, Keyspace, Writer
from schema.models import (
    AttachmentPhase,
    AttachmentStatus,
    Claim,
    Connection,
    FenceStatement,
    Grant,
    Holder,
    HolderPhase,
    Record,
    VolumeStatus,
)

CANARY = b"canary"
"""Part of every secret that the fake arrays hand out."""
SECRET_IN = (Family.CONNECTION, Family.RECORD)
LEASED = (Family.ALIVE, Family.LEADER)

T = TypeVar("T", bound=BaseModel)
Change = tuple[Key, BaseModel | None, BaseModel | None]
"""A key, what it held before, and after."""


class Broken(AssertionError):
    """An invariant does not hold."""


class Hosts(Protocol):
    """What the checker can see of the hosts and arrays."""

    def devices(self, uid: str) -> Sequence[str]:
        """Nodes whose host has a device of this volume."""
        ...

    def mapped(self, uid: str) -> Sequence[str]:
        """Nodes that an array gives access to it."""
        ...

    def boot(self, node: str) -> str:
        """The boot that the node's daemon would give as its own now."""
        ...

    def node_of(self, host: str) -> str:
        """Whose id a host bears: its own, unless it is the copy of another."""
        ...

    def host_of(self, node: str, boot: str) -> str:
        """The host of a boot."""
        ...


class Watched(Hosts, Protocol):
    """What the invariants ask besides."""

    def writers(self, uid: str) -> Sequence[str]:
        """Nodes with a device of this volume that could write to it now."""
        ...


def with_access(hosts: Hosts, uid: str) -> list[str]:
    """Nodes with a device of this volume that an array gives access to it: its writers, where arrays cut off the others."""
    mapped = hosts.mapped(uid)
    return [node for node in hosts.devices(uid) if node in mapped]


class Invariants:
    """Follows one run."""

    def __init__(self, keyspace: Keyspace, hosts: Watched) -> None:
        self._keyspace = keyspace
        self._hosts = hosts
        self._values: dict[Key, BaseModel] = {}
        self._holders: dict[str, dict[tuple[str, int], Holder]] = {}
        """By uid: the holder entries as last written by a controller, whatever was deleted by hand since."""
        self._claims: dict[tuple[str, str], Claim] = {}
        """(node, uid) -> the claim as its node last wrote it, whatever was deleted by hand since."""
        self._epochs: dict[str, set[int]] = {}
        self._released: set[tuple[str, str, int]] = set()
        self._device_of: dict[tuple[str, str], tuple[int, str]] = {}
        """(node, uid) -> the epoch and boot of the claim under which the device was connected."""
        self._halted: set[tuple[str, ...]] = set()
        """(node, boot) that a fence agent switched off."""

    # --- etcd

    def wrote(self, by: str, compares: Sequence[Compare], events: Sequence[Event]) -> None:
        """A transaction went through. `by`: ``ctl/<name>``, ``node/<name>``, ``lease``, or empty for a person."""
        changes = self._enter(events, by_daemon=bool(by))
        if by in ("", "lease"):
            return
        for key, _, _ in changes:
            self._check_writer(by, key, compares)
        self._check_changes(changes)

    def observed(self, events: Sequence[Event], *, by_hand: bool) -> None:
        """As `wrote`, of a real etcd, which does not tell who wrote and under which conditions: S9 and S10 are left out.

        Args:
            by_hand: a person wrote, or a test in its place. Otherwise whoever may write the family is taken to have.
        """
        people = (Writer.USER, Writer.OPERATOR)
        keys = [self._keyspace.parse(event.key) for event in events]
        by_daemon = not by_hand and not any(isinstance(key, Key) and key.family.writer in people for key in keys)
        changes = self._enter(events, by_daemon=by_daemon)
        if by_daemon:
            self._check_changes(changes)

    def _enter(self, events: Sequence[Event], *, by_daemon: bool) -> list[Change]:
        changes: list[Change] = []
        for event in events:
            key = self._keyspace.parse(event.key)
            if not isinstance(key, Key):
                continue
            before, after = self._values.pop(key, None), None
            if event.item is not None:
                decoded = decode_family(key.family, event.item.value)
                after = decoded if isinstance(decoded, BaseModel) else None
                if after is not None:
                    self._values[key] = after
                if by_daemon:
                    self._check_value(key, event)
            elif not by_daemon and isinstance(before, AttachmentStatus):
                # A careless hand takes a node's word back with the key that says it; then the node may claim once more (R3).
                self._released.discard((key.names[0], before.uid, before.epoch))
            changes.append((key, before, after))
        return changes

    def _check_changes(self, changes: Sequence[Change]) -> None:
        for key, before, after in sorted(changes, key=lambda change: change[0].family is not Family.GRANT):
            self._check_change(key, before, after)

    def _check_value(self, key: Key, event: Event) -> None:
        assert event.item is not None
        if CANARY in event.item.value and key.family not in SECRET_IN:
            raise Broken(f"S16: a secret is in {event.key}")
        if event.item.lease and key.family not in LEASED:
            raise Broken(f"S3: {event.key} hangs on a lease")

    def _check_writer(self, by: str, key: Key, compares: Sequence[Compare]) -> None:
        role, _, name = by.partition("/")
        if role == "fence":
            self._check_agent(by, key, compares)
            return
        writer = Writer.CONTROLLER if role == "ctl" else Writer.NODE
        if key.family.writer is not writer or (writer is Writer.NODE and key.node != self._hosts.node_of(name)):
            raise Broken(f"S10: {by} wrote {key}")
        if key.family in LEASED:
            return
        if not compares:
            raise Broken(f"S9: {by} wrote {key} without any condition")
        leaders = self._keyspace.folder(Family.LEADER)
        if writer is Writer.CONTROLLER and not any(compare.key.startswith(leaders) for compare in compares):
            raise Broken(f"S9: {by} wrote {key} without comparing that it leads")

    def _check_agent(self, by: str, key: Key, compares: Sequence[Compare]) -> None:
        if key == Key(Family.LEADER, (FENCE_AGENT,)):
            return
        if key.family is not Family.FENCE:
            raise Broken(f"S10: {by} wrote {key}")
        if not any(compare.key == self._keyspace.path(Family.LEADER, FENCE_AGENT) for compare in compares):
            raise Broken(f"S9: {by} wrote {key} without comparing that it leads")
        node, boot = key.names
        if self._hosts.boot(self._hosts.host_of(node, boot)) == boot and key.names not in self._halted:
            raise Broken(f"S14: {by} says that boot {boot} of {node} is over, and nobody ended it")

    def _check_change(self, key: Key, before: BaseModel | None, after: BaseModel | None) -> None:
        match key.family:
            case Family.GRANT if isinstance(after, Grant):
                self._check_grant(key.names[0], after)
            case Family.CLAIM:
                self._check_claim(key, before, after)
            case Family.ATTACHMENT if isinstance(after, AttachmentStatus):
                self._check_status(key, before, after)
            case Family.CONNECTION if isinstance(after, Connection):
                self._check_connection(key, after)
            case Family.FENCED if after is not None and Key(Family.FENCE, key.names) not in self._values:
                raise Broken(f"S14: {key.names} copied without a statement")

    # --- grants

    def _check_grant(self, volume: str, grant: Grant) -> None:
        known = self._holders.setdefault(grant.uid, {})
        now = {(holder.node, holder.epoch): holder for holder in grant.holders}
        if len({holder.node for holder in grant.holders}) > 1:
            raise Broken(f"S1: {volume} is granted to {sorted(now)} at once")
        for entry, holder in now.items():
            if entry not in known:
                self._check_new_holder(volume, grant.uid, holder)
            elif known[entry].phase is not holder.phase:
                self._check_phase(volume, grant.uid, known[entry], holder)
        for entry in known.keys() - now.keys():
            if known[entry].phase is not HolderPhase.REVOKED:
                raise Broken(f"S5: {volume}: the entry of {entry} went while it was {known[entry].phase}")
        self._holders[grant.uid] = now
        status = self._value(Key(Family.VOLUME, (volume,)), VolumeStatus)
        if status is not None and {(h.node, h.epoch): h.phase for h in status.holders} != {
            entry: holder.phase for entry, holder in now.items()
        }:
            raise Broken(f"R8: grants/{volume} and volumes/{volume} differ after a write")

    def _check_new_holder(self, volume: str, uid: str, holder: Holder) -> None:
        epochs = self._epochs.setdefault(uid, set())
        if holder.epoch in epochs:
            raise Broken(f"S12: epoch {holder.epoch} of {volume} was used before")
        epochs.add(holder.epoch)
        if holder.phase is not HolderPhase.EXPORTING:
            raise Broken(f"S6: {volume} became {holder.phase} for {holder.node} without an intent first")
        if self.fenced(holder.node, holder.boot):
            raise Broken(f"R6: {volume} was granted to the fenced boot {holder.boot} of {holder.node}")
        host = self._hosts.host_of(holder.node, holder.boot)
        for other in self._hosts.writers(uid):
            if other != host:
                raise Broken(f"S1: {volume} was granted to {host} while {other} can write to it")

    def _check_phase(self, volume: str, uid: str, before: Holder, after: Holder) -> None:
        node, epoch = after.node, after.epoch
        if after.phase is HolderPhase.READY and before.phase is HolderPhase.REVOKED:
            raise Broken(f"S5: {volume}: a revoked grant of {node} came back to life")
        if before.phase is not HolderPhase.READY or after.phase is not HolderPhase.REVOKED:
            return
        claim = self._value(Key(Family.CLAIM, (node, volume)), Claim)
        if self.fenced(node, before.boot) and (claim is None or claim.boot == before.boot):
            return
        if claim is not None or (node, uid, epoch) not in self._released:
            raise Broken(f"S4: {volume} was revoked from {node} before it released epoch {epoch}")

    # --- what nodes say

    def _check_claim(self, key: Key, before: BaseModel | None, after: BaseModel | None) -> None:
        node, volume = key.names
        if isinstance(after, Claim):
            if (node, after.uid, after.epoch) in self._released:
                raise Broken(f"R3: {node} claims epoch {after.epoch} of {volume}, which it released")
            holder = self._holders.get(after.uid, {}).get((node, after.epoch))
            if holder is None or holder.phase is not HolderPhase.READY or holder.boot != after.boot:
                raise Broken(f"S2: {node} claims {volume} in epoch {after.epoch} on the grant {holder}")
            status = self._value(Key(Family.ATTACHMENT, key.names), AttachmentStatus)
            if status is None or (status.phase, status.epoch) != (AttachmentPhase.ATTACHING, after.epoch):
                raise Broken(f"R3: {node} claims epoch {after.epoch} of {volume}, and says {status}")
            self._claims[node, after.uid] = after
        elif isinstance(before, Claim):
            host = self._hosts.host_of(node, before.boot)
            if host in self._hosts.devices(before.uid) and not self.is_over(node, before.boot):
                raise Broken(f"S2: {node} gave back its claim of {volume} while its device is there")
            self._claims.pop((node, before.uid), None)

    def _check_status(self, key: Key, before: BaseModel | None, status: AttachmentStatus) -> None:
        node, volume = key.names
        said = (before.phase, before.epoch) if isinstance(before, AttachmentStatus) else None
        if said == (status.phase, status.epoch):
            return  # only what it says of it has changed
        host = self._hosts.host_of(node, status.boot)
        there = host in self._hosts.devices(status.uid)
        epoch, _ = self._device_of.get((host, status.uid), (0, ""))
        if status.phase is AttachmentPhase.ATTACHED and status.epoch != epoch:
            raise Broken(f"S15: {node} says Attached({status.epoch}) of {volume}, its device is of epoch {epoch}")
        if status.phase is AttachmentPhase.RELEASED:
            if there and epoch == status.epoch:
                raise Broken(f"S2: {node} says Released({epoch}) of {volume} while its device is there")
            self._released.add((node, status.uid, status.epoch))

    def _check_connection(self, key: Key, connection: Connection) -> None:
        node, volume = key.names
        if connection.phase is HolderPhase.REVOKED and connection.conn_info:
            raise Broken(f"S16: connections/{node}/{volume} is revoked, and still tells how to connect")
        holder = self._holders.get(connection.uid, {}).get((node, connection.epoch))
        if holder is None or holder.phase.value != connection.phase.value:
            raise Broken(f"S8: connections/{node}/{volume} says {connection.phase}, the grant {holder}")

    # --- arrays and hosts

    def exported(self, by: str, acting: str, uid: str) -> None:
        """An array made a volume ready to be reached, on demand or while its driver was set up."""
        self._check_acting(by, acting, f"exported {uid}")
        record = self._record(uid)
        if record is None or not record.exports:
            raise Broken(f"S6: {uid} was exported without an intent")

    def mapped(self, by: str, acting: str, node: str, uid: str) -> None:
        """An array let a node reach a volume."""
        self._check_acting(by, acting, f"mapped {uid} to {node}")
        record = self._record(uid)
        if record is None or not any(export.node == self._hosts.node_of(node) for export in record.exports):
            raise Broken(f"S6: {uid} was mapped to {node} without an intent")
        self._check_writers(uid)

    def unmapped(self, by: str, acting: str, node: str, uid: str) -> None:
        """An array cut a node off."""
        self._check_acting(by, acting, f"unmapped {uid} from {node}")
        _, boot = self._device_of.get((node, uid), (0, ""))
        if node in self._hosts.devices(uid) and not self.fenced(self._hosts.node_of(node), boot):
            raise Broken(f"S4: {uid} was unmapped from {node}, which has a device of it")

    def deleted(self, by: str, acting: str, uid: str) -> None:
        self._check_acting(by, acting, f"deleted {uid}")
        record = self._record(uid)
        if record is None or record.intent is None or record.intent.value not in ("delete", "create"):
            raise Broken(f"D1: {uid} was deleted without that intent")
        users = [node for node in self._hosts.devices(uid) if not self._given_up(node, uid)]
        if users:
            raise Broken(f"D1: {uid} was deleted while {users} have devices of it")

    def _given_up(self, node: str, uid: str) -> bool:
        """Its boot is fenced, hence cut off, and a careless hand took away the claim that would still have kept the volume."""
        _, boot = self._device_of.get((node, uid), (0, ""))
        name = self._hosts.node_of(node)
        claims = (self._values.get(key) for key in self._values if key.family is Family.CLAIM and key.names[0] == name)
        return self.fenced(name, boot) and all(getattr(claim, "uid", uid) != uid for claim in claims)

    def connected(self, node: str, volume: str, uid: str) -> None:
        """A host got a device."""
        claim = self._own_claim(node, uid)
        if claim is None:
            raise Broken(f"S2: {node} connected {volume} without a claim")
        self._device_of[node, uid] = (claim.epoch, claim.boot)
        self._check_writers(uid)

    def joined(self, node: str, volume: str, uid: str) -> None:
        """A host logged in once more, and a path joined its device."""
        claim = self._own_claim(node, uid)
        if claim is None or self._device_of.get((node, uid)) != (claim.epoch, claim.boot):
            raise Broken(f"S2: {node} added a path to {volume}, which it has no claim of")

    def halted(self, node: str) -> None:
        """A host was switched off."""
        self._halted.add((self._hosts.node_of(node), self._hosts.boot(node)))

    def came_back(self, node: str, uid: str) -> None:
        """A host that was reset restored a session: it is still by the grant of the boot that claimed it."""
        claim = self._own_claim(node, uid)
        if claim is not None:
            self._device_of[node, uid] = (claim.epoch, claim.boot)

    def disconnected(self, node: str, uid: str) -> None:
        self._device_of.pop((node, uid), None)

    def _check_writers(self, uid: str) -> None:
        writers = self._hosts.writers(uid)
        if len(writers) > 1:
            raise Broken(f"S1: {writers} can all write to {uid}")

    def _check_acting(self, by: str, acting: str, what: str) -> None:
        if by != acting:
            raise Broken(f"S17: {by} {what} after {acting} had begun to act there")

    # --- reading

    def _value(self, key: Key, model: type[T]) -> T | None:
        value = self._values.get(key)
        return value if isinstance(value, model) else None

    @property
    def values(self) -> Mapping[Key, BaseModel]:
        """All readable keys as they are now."""
        return self._values

    def claim(self, node: str, uid: str) -> Claim | None:
        """The claim as its node last wrote it, whatever was deleted by hand since."""
        return self._claims.get((node, uid))

    def _own_claim(self, host: str, uid: str) -> Claim | None:
        """The claim that this host wrote, not another one of the same name."""
        node = self._hosts.node_of(host)
        claim = self.claim(node, uid)
        return claim if claim is not None and self._hosts.host_of(node, claim.boot) == host else None

    def fenced(self, node: str, boot: str) -> bool:
        """Whether somebody said that this boot is over."""
        return any(Key(family, (node, boot)) in self._values for family in (Family.FENCE, Family.FENCED))

    def is_over(self, node: str, boot: str) -> bool:
        """Whether somebody said that its host was off, or was reset since: then another host may speak for it."""
        fence = self._value(Key(Family.FENCE, (node, boot)), FenceStatement)
        return fence is not None and fence.proof == "powered_off"

    def _record(self, uid: str) -> Record | None:
        return next((r for r in self._values.values() if isinstance(r, Record) and r.uid == uid), None)
