"""How each of the node's steps is carried out. The rows are those of docs/PROTOCOL.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reconciler.controllers.conditions import ExtendFailed, device_fields, logs_in, paths_missing, why_not
from reconciler.controllers.host import GIB, Host, Known, least_bytes, note_of
from reconciler.controllers.missing_paths import MissingPaths
from reconciler.controllers.snapshot import Conflict, Snapshot, Writer
from reconciler.controllers.verdicts import rfc3339
from reconciler.core.mass import DETACHES_PAUSED
from reconciler.core.steps import Do, Step
from reconciler.core.views import OnHost
from reconciler.runtime.ports import (
    Boot,
    Busy,
    Clock,
    Connector,
    Device,
    DuplicateIdentity,
    HostIdentity,
    IdentityMismatch,
    LinkTaken,
    PortError,
    Retryable,
    Unsupported,
)
from schema.keys import Family, Key
from schema.models import AttachmentPhase, AttachmentSpec, AttachmentStatus, Claim, Condition, Connection


class PathsNotAdded(Retryable):
    """The device keeps the paths that it has. Nothing else waits for this: it is tried again by its own back-off."""


class NodeSteps:
    """Carries out the node's steps.

    Args:
        failpoint: told the name of each numbered point; crash tests make it kill the process.
    """

    def __init__(
        self,
        *,
        node: str,
        writer: Writer,
        connector: Connector,
        host: Host,
        boot: Boot,
        this: HostIdentity,
        clock: Clock,
        failpoint: Callable[[str], None],
    ) -> None:
        self._node = node
        self._writer = writer
        self._connector = connector
        self._host = host
        self._boot = boot
        self._this = this
        self._clock = clock
        self._failpoint = failpoint
        self._missing = MissingPaths()

    def carry_out(self, step: Step, volume: str, snapshot: Snapshot) -> None:
        """Do the step. Raises Conflict when its facts changed, otherwise the store's and the host's errors."""
        self._failpoint(f"{step.do.name}:before")
        if step.confirms:
            self._writer.confirm(snapshot, step.confirms)
            self._failpoint(f"{step.do.name}:confirmed")
        match step.do:
            case Do.INSPECT:
                self._inspect(volume, snapshot)
            case Do.CLAIM:
                self._claim(step, volume, snapshot)
            case Do.CONNECT:
                self._connect(step, volume, snapshot)
            case Do.REPORT:
                self._report(step, volume, snapshot)
            case Do.ADD_PATHS:
                self._add_paths(volume, snapshot)
            case Do.EXTEND_DEVICE:
                self._extend_device(step, volume, snapshot)
            case Do.DISCONNECT:
                self._disconnect(step, volume, snapshot)
            case Do.RELEASE:
                self._release(step, volume, snapshot)
            case Do.WITHDRAW:
                self._writer.commit(snapshot, step.commits, deletes=[self._key(Family.ATTACHMENT, volume)])
            case other:
                raise AssertionError(f"{other} is no step of a node")
        self._failpoint(f"{step.do.name}:after")

    # --- looking

    def _inspect(self, volume: str, snapshot: Snapshot) -> None:
        """Win back what a restart or an unknown outcome lost."""
        target = self._host.target(volume, snapshot)
        if target is None:
            claim, boot = snapshot.value(self._key(Family.CLAIM, volume), Claim), self._boot.current()
            fenced = snapshot.see(Key(Family.FENCE, (self._node, boot))) is not None
            # Without a note nothing was connected. Only while the connection may come back is that asked twice.
            if claim is not None and claim.boot == boot and not fenced:
                raise Retryable("this boot claimed it, but neither a note nor a connection says what to look for")
            self._host.learn(volume, Known(OnHost.ABSENT))
            return
        note = self._host.note(volume)
        try:
            device = self._connector.inspect(target, note.details if note else None)
        except (IdentityMismatch, LinkTaken) as fault:
            self._host.learn(volume, Known(OnHost.PRESENT, fault=fault, looked_at_s=self._clock.now()))
            return
        if device is not None:
            self._host.learn(volume, Known(OnHost.PRESENT, device, looked_at_s=self._clock.now()))
        elif note is not None and not self._host.explained(volume, snapshot, self._boot.current()):
            self._host.learn(volume, Known(OnHost.PRESENT))  # a session or a link may be left: disconnect proves it
        else:
            self._host.learn(volume, Known(OnHost.ABSENT))

    def verify(self, volume: str, snapshot: Snapshot) -> None:
        """Look at an attached device again, and tell when something about it changed."""
        status = snapshot.value(self._key(Family.ATTACHMENT, volume), AttachmentStatus)
        self._inspect(volume, snapshot)
        known = self._host.known(volume)
        if status is None or known is None or known.on_host is not OnHost.PRESENT:
            return
        if known.fault is not None:
            self.tell(volume, snapshot, known.fault, None)
        elif known.device is not None:
            self._rewrite(volume, snapshot, status, self._with_device(status, known.device, volume, snapshot))

    # --- attaching

    def _claim(self, step: Step, volume: str, snapshot: Snapshot) -> None:
        """N1: durable before os-brick is touched."""
        connection = self._connection(volume, snapshot)
        boot = self._boot.current()
        claim = Claim(uid=connection.uid, epoch=connection.epoch, boot=boot, host_identity=self._this.identity())
        status = self._status(AttachmentPhase.ATTACHING, connection.uid, connection.epoch, volume, snapshot)
        puts = [(self._key(Family.CLAIM, volume), claim), (self._key(Family.ATTACHMENT, volume), status)]
        self._writer.commit(snapshot, step.commits, puts)
        if self._host.known(volume) is None:
            self._host.learn(
                volume, Known(OnHost.ABSENT)
            )  # the plan claims without a device only if there was no trace

    def _connect(self, step: Step, volume: str, snapshot: Snapshot) -> None:
        """N2 and N3: the note, the connect with its checks, and the word that it is attached."""
        connection = self._connection(volume, snapshot)
        target = self._host.wanted(volume, connection)
        former, note = self._host.note(volume), note_of(target, connection)
        if former is not None and (former.uid, former.epoch) == (note.uid, note.epoch):
            # It was here: whatever comes now, there is something to take away.
            note = replace(note, details=former.details)
        self._host.write_note(note)
        self._failpoint("CONNECT:noted")
        self._host.doubt(volume)
        try:
            device = self._connector.connect(target)
        except DuplicateIdentity:
            # All of it was taken back: to look again would end the back-off. Its identity is another volume's now.
            self._host.write_note(replace(note, details=None))
            self._host.learn(volume, Known(OnHost.ABSENT))
            raise
        except Unsupported:
            if former is not None and note.details is not None:  # that is how what was here was connected
                self._host.write_note(replace(note, conn_info=former.conn_info))
            raise
        self._failpoint("CONNECT:called")
        self._host.write_note(replace(note, details=device.details))
        self._host.learn(volume, Known(OnHost.PRESENT, device, looked_at_s=self._clock.now()))
        self._commit_attached(step, volume, snapshot, device)

    def _report(self, step: Step, volume: str, snapshot: Snapshot) -> None:
        """N3 for a device that is there already: after a restart, or when the status went missing."""
        device = self._device(volume, snapshot)
        if device is None:
            self._host.learn(volume, Known(OnHost.ABSENT))  # nothing usable: connect it properly
            return
        note = self._host.note(volume)
        if note is not None and note.details is None:  # a crash came before they were noted
            self._host.write_note(replace(note, details=device.details))
        self._commit_attached(step, volume, snapshot, device)

    def _device(self, volume: str, snapshot: Snapshot) -> Device | None:
        """What is known to be there. One that was not what it should be is looked at again: the volume may have grown meanwhile.

        Raises IdentityMismatch, LinkTaken.
        """
        known = self._host.known(volume)
        if known is not None and known.fault is not None:
            self._inspect(volume, snapshot)
            known = self._host.known(volume)
        if known is not None and known.fault is not None:
            raise known.fault
        return known.device if known is not None else None

    def _extend_device(self, step: Step, volume: str, snapshot: Snapshot) -> None:
        """N12. Until the device has its new size the note promises none: a crash in between may leave either."""
        connection = self._connection(volume, snapshot)
        note, before = self._host.note(volume), self._device(volume, snapshot)
        if note is None or before is None:
            raise Conflict("the device is not known any more")
        self._host.write_note(replace(note, size_bytes=None))
        self._failpoint("EXTEND_DEVICE:noted")
        try:
            device = self._connector.extend(self._host.wanted(volume, connection), note.details)
            _check_growth(device, before, connection)
        except PortError as error:
            raise ExtendFailed(f"the volume grew, its device here did not yet: {error}") from error
        self._failpoint("EXTEND_DEVICE:called")
        # A size need not be exact: what was accepted above is not called too small at the next look.
        least = min(least_bytes(connection) or 0, device.size_bytes) or None
        told = replace(note, size_bytes=connection.size_bytes, size_gib=connection.size_gib, details=device.details)
        told = replace(told, least_bytes=least)
        self._host.write_note(told)
        self._host.learn(volume, Known(OnHost.PRESENT, device, looked_at_s=self._clock.now()))
        self._commit_attached(step, volume, snapshot, device)

    def _commit_attached(self, step: Step, volume: str, snapshot: Snapshot, device: Device) -> None:
        connection = self._connection(volume, snapshot)
        status = self._status(AttachmentPhase.ATTACHED, connection.uid, connection.epoch, volume, snapshot)
        protocol = (connection.conn_info or {}).get("driver_volume_type")
        status = self._with_device(status.model_copy(update={"protocol": protocol}), device, volume, snapshot)
        self._writer.commit(snapshot, step.commits, [(self._key(Family.ATTACHMENT, volume), status)])

    # --- missing paths

    def paths_to_add(self, volume: str) -> bool:
        """Whether portals of missing paths answered at the last look, and it is time to try."""
        known = self._host.known(volume)
        return self._missing.due(volume, known.device if known else None, self._clock.now())

    def _add_paths(self, volume: str, snapshot: Snapshot) -> None:
        """N11. What is known of the device stays true, whatever comes of it: only paths are added."""
        target, note = self._host.target(volume, snapshot), self._host.note(volume)
        status = snapshot.value(self._key(Family.ATTACHMENT, volume), AttachmentStatus)
        if target is None or status is None:
            raise Conflict("neither a note nor a connection says where its paths go")
        try:
            device = self._connector.add_paths(target, note.details if note else None)
        except PortError as error:
            self._missing.tried(volume, self._clock.now(), str(error))
            self._host.doubt(volume)
            raise PathsNotAdded(f"paths could not be added: {error}") from error
        self._failpoint("ADD_PATHS:called")
        self._missing.tried(volume, self._clock.now())
        self._host.learn(volume, Known(OnHost.PRESENT, device, looked_at_s=self._clock.now()))
        self._rewrite(volume, snapshot, status, self._with_device(status, device, volume, snapshot))

    # --- detaching

    def _disconnect(self, step: Step, volume: str, snapshot: Snapshot) -> None:
        """N4: ends with the proof that nothing is left, or with the reason why not."""
        target = self._host.target(volume, snapshot)
        if target is None:
            raise Retryable("neither a note nor a connection says how to disconnect it")
        note = self._host.note(volume)
        known = self._host.known(volume)
        details = note.details if note else None
        if details is None and known is not None and known.device is not None:
            details = known.device.details
        try:
            self._connector.disconnect(target, details, flush=step.flush)
        except Busy:
            raise  # nothing was touched
        except PortError:
            self._host.doubt(volume)
            raise
        self._failpoint("DISCONNECT:called")
        self._host.gone(volume)
        self._missing.whole(volume)

    def _release(self, step: Step, volume: str, snapshot: Snapshot) -> None:
        """N5: the claim goes and `Released(e)` is said, in one transaction. Final for this epoch."""
        claim = snapshot.value(self._key(Family.CLAIM, volume), Claim)
        connection = snapshot.value(self._key(Family.CONNECTION, volume), Connection)
        status = snapshot.value(self._key(Family.ATTACHMENT, volume), AttachmentStatus)
        named = claim or connection or status
        if named is None:
            raise Conflict("nothing is left to release")
        released = self._status(AttachmentPhase.RELEASED, named.uid, named.epoch, volume, snapshot)
        deletes = [self._key(Family.CLAIM, volume)] if claim is not None else []
        self._writer.commit(snapshot, step.commits, [(self._key(Family.ATTACHMENT, volume), released)], deletes)

    # --- telling

    def tell(
        self, volume: str, snapshot: Snapshot, error: PortError, next_try: str | None, *, connecting: bool = False
    ) -> None:
        """Put the reason why the attachment is not settled into its status. Phase and epoch stay, unless it lost its device and
        can't be connected anew: then it is attached no more."""
        status = snapshot.value(self._key(Family.ATTACHMENT, volume), AttachmentStatus)
        if status is None:
            return
        after = status
        if connecting and status.phase is AttachmentPhase.ATTACHED:
            after = self._status(AttachmentPhase.ATTACHING, status.uid, status.epoch, volume, snapshot)
        condition = why_not(error, after, rfc3339(self._clock.wall()))
        after = after.model_copy(update={"conditions": (condition,), "next_try": next_try})
        self._rewrite(volume, snapshot, status, after)

    def tell_paused(self, volume: str, snapshot: Snapshot, why: str) -> bool:
        """Say in the status why it stays although its wish is gone; empty: that it no longer does. True if that was news."""
        status = snapshot.value(self._key(Family.ATTACHMENT, volume), AttachmentStatus)
        if status is None:
            return self._restate(volume, snapshot, why)
        if any(each.reason == DETACHES_PAUSED for each in status.conditions) == bool(why):
            return False
        others = tuple(each for each in status.conditions if each.reason != DETACHES_PAUSED)
        conditions = (self._paused(why), *others) if why else others
        self._rewrite(volume, snapshot, status, status.model_copy(update={"conditions": conditions}))
        return True

    def _with_device(
        self, status: AttachmentStatus, device: Device, volume: str, snapshot: Snapshot
    ) -> AttachmentStatus:
        """The status with what is seen of the device now."""
        whole = device.paths_live >= device.paths_total
        if whole:
            self._missing.whole(volume)
        wish = snapshot.value(self._key(Family.DESIRED_ATTACHMENT, volume), AttachmentSpec)
        enough = wish is not None and device.paths_live >= wish.min_paths
        now = rfc3339(self._clock.wall())
        kept = tuple(each for each in status.conditions if each.reason == DETACHES_PAUSED)
        degraded = () if whole else (paths_missing(device, status, now, self._missing.fault(volume)),)
        return status.model_copy(
            update={
                **device_fields(device),
                "min_paths_reached": status.min_paths_reached or enough,
                "conditions": (*kept, *degraded, *logs_in(device, status, now)),
                "next_try": None,
            }
        )

    def _restate(self, volume: str, snapshot: Snapshot, why: str) -> bool:
        """No key tells of it any more: by the note, so that people learn of it. It gives nobody a right to anything."""
        note, known = self._host.note(volume), self._host.known(volume)
        if note is None or note.boot != self._boot.current() or known is None or known.on_host is not OnHost.PRESENT:
            return False
        status = self._status(AttachmentPhase.ATTACHED, note.uid, note.epoch, volume, snapshot)
        device = device_fields(known.device) if known.device is not None else {}
        status = status.model_copy(update={**device, "conditions": (self._paused(why),) if why else ()})
        key = self._key(Family.ATTACHMENT, volume)
        self._writer.commit(snapshot, (key,), [(key, status)])
        return True

    def _paused(self, why: str) -> Condition:
        now = rfc3339(self._clock.wall())
        return Condition(type="Released", status="False", reason=DETACHES_PAUSED, message=why, since=now)

    def _rewrite(self, volume: str, snapshot: Snapshot, before: AttachmentStatus, after: AttachmentStatus) -> None:
        if after != before:
            key = self._key(Family.ATTACHMENT, volume)
            self._writer.commit(snapshot, (key,), [(key, after)])

    # --- small words

    def _key(self, family: Family, volume: str) -> Key:
        return Key(family, (self._node, volume))

    def _connection(self, volume: str, snapshot: Snapshot) -> Connection:
        connection = snapshot.value(self._key(Family.CONNECTION, volume), Connection)
        if connection is None:
            raise Conflict("the connection is gone")
        return connection

    def _status(
        self, phase: AttachmentPhase, uid: str, epoch: int, volume: str, snapshot: Snapshot
    ) -> AttachmentStatus:
        generation = snapshot.revision(self._key(Family.DESIRED_ATTACHMENT, volume))
        boot = self._boot.current()
        former = snapshot.value(self._key(Family.ATTACHMENT, volume), AttachmentStatus)
        same = former is not None and (former.phase, former.epoch, former.boot) == (phase, epoch, boot)
        since = former.since if former is not None and same else rfc3339(self._clock.wall())
        return AttachmentStatus(
            phase=phase,
            uid=uid,
            epoch=epoch,
            boot=boot,
            host_identity=self._this.identity(),
            since=since,
            generation=generation,
        )


def _check_growth(device: Device, before: Device, connection: Connection) -> None:
    """A size need not be exact (arrays round), but one that stays below the wanted one did not change at all."""
    if device.size_bytes <= before.size_bytes and device.size_bytes < (connection.size_gib or 0) * GIB:
        raise Retryable(f"{device.device} still measures {device.size_bytes} bytes")
