"""What this daemon knows of the devices on its host, volume by volume.

Knowledge is lost with the process and won back by looking (`Connector.inspect`): after a start everything that left a note or a
claim is UNKNOWN, shown to users as `Uncertain`. The notes on disk outlive the process and say what to look for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reconciler.controllers.snapshot import Snapshot
from reconciler.core.reading import drain_of
from reconciler.core.views import OnHost
from reconciler.runtime.ports import Device, IdentityMismatch, LinkTaken, Note, Notes, Target
from schema.keys import Family, Key
from schema.models import Claim, Connection

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Known:
    """The last look at one volume's device. PRESENT without a device: something may be left, and has to be removed."""

    on_host: OnHost
    device: Device | None = None
    fault: IdentityMismatch | LinkTaken | None = None
    looked_at_s: float = 0.0


class Host:
    """The devices that this node's daemon is answerable for."""

    def __init__(self, node: str, notes: Notes) -> None:
        self._node = node
        self._notes = notes
        self._noted: dict[str, Note] = dict(notes.all())
        self._spoiled: dict[str, str] = dict(notes.unreadable())
        self._known: dict[str, Known] = {}

    def volumes(self) -> Iterable[str]:
        """Volumes with a note: looked at whatever the keys say."""
        return (*self._noted, *self._spoiled)

    def spoiled(self, volume: str) -> str:
        """Why the volume's note can't be read; empty: it can."""
        return self._spoiled.get(volume, "")

    def read_again(self, volume: str) -> bool:
        """Whether somebody put its note right, or removed it. Then the host is looked at as after a start."""
        if volume in self._notes.unreadable():
            return False
        del self._spoiled[volume]
        if (note := self._notes.all().get(volume)) is not None:
            self._noted[volume] = note
        self._known.pop(volume, None)
        return True

    def note(self, volume: str) -> Note | None:
        return self._noted.get(volume)

    def known(self, volume: str) -> Known | None:
        return self._known.get(volume)

    def on_host(self, volume: str, snapshot: Snapshot) -> OnHost:
        """UNKNOWN when there may be something that nobody looked at since the start."""
        known = self._known.get(volume)
        if known is not None:
            return known.on_host
        claim = snapshot.see(Key(Family.CLAIM, (self._node, volume)))
        return OnHost.UNKNOWN if volume in self._noted or claim is not None else OnHost.ABSENT

    def target(self, volume: str, snapshot: Snapshot) -> Target | None:
        """What to look for or to disconnect: by the note, else by the connection."""
        note = self._noted.get(volume)
        connection = snapshot.value(Key(Family.CONNECTION, (self._node, volume)), Connection)
        if note is not None:
            size_bytes = None if _grew(note, connection) else note.size_bytes
            others = self.others(volume) if note.details is None else {}
            read_only, least_bytes = note.mode == "ro", note.least_bytes
            return Target(volume, note.conn_info, read_only, size_bytes, note.identity, least_bytes, others)
        if connection is None or connection.conn_info is None:
            return None
        return replace(target_of(volume, connection), others=self.others(volume))

    def others(self, volume: str) -> dict[str, Mapping[str, Any]]:
        """What is known of the devices of all other volumes that were verified here."""
        return {name: note.details for name, note in list(self._noted.items()) if name != volume and note.details}

    def wanted(self, volume: str, connection: Connection) -> Target:
        """What to connect. A device that was here in this epoch must come back as the volume that it was (A34)."""
        target, note = replace(target_of(volume, connection), others=self.others(volume)), self._noted.get(volume)
        if target.identity is not None or note is None or note.epoch != connection.epoch:
            return target
        return replace(target, identity=(note.details or {}).get("identity") or note.identity)

    def explained(self, volume: str, snapshot: Snapshot, boot: str) -> bool:
        """Whether the present wish and claim are those of the note: then what is half done may simply be done again."""
        note = self._noted.get(volume)
        claim = snapshot.value(Key(Family.CLAIM, (self._node, volume)), Claim)
        wish = snapshot.see(Key(Family.DESIRED_ATTACHMENT, (self._node, volume)))
        wished = wish is not None and not drain_of(snapshot.see, self._node)
        return wished and note is not None and claim is not None and (claim.epoch, claim.boot) == (note.epoch, boot)

    # --- what changes it

    def write_note(self, note: Note) -> None:
        """Durable before os-brick is touched."""
        self._notes.save(note)
        self._noted[note.volume] = note

    def learn(self, volume: str, known: Known) -> None:
        self._known[volume] = known

    def doubt(self, volume: str) -> None:
        """A call's outcome is not known: look again before anything else."""
        self._known[volume] = Known(OnHost.UNKNOWN)

    def gone(self, volume: str) -> None:
        """It is proven that nothing is left."""
        self._notes.drop(volume)
        self._noted.pop(volume, None)
        self._known[volume] = Known(OnHost.ABSENT)


def _grew(note: Note, connection: Connection | None) -> bool:
    """Whether the volume grew since the note was written. Until N12 was done its device may have either size."""
    if connection is None or (connection.uid, connection.epoch) != (note.uid, note.epoch):
        return False
    return (connection.size_gib or 0) > (note.size_gib or 0)


def target_of(volume: str, connection: Connection) -> Target:
    return Target(
        volume,
        connection.conn_info or {},
        connection.mode == "ro",
        connection.size_bytes,
        connection.identity,
        least_bytes(connection),
    )


def note_of(target: Target, connection: Connection) -> Note:
    return Note(
        volume=target.volume,
        uid=connection.uid,
        epoch=connection.epoch,
        boot=connection.boot,
        mode=connection.mode,
        conn_info=connection.conn_info or {},
        size_bytes=connection.size_bytes,
        identity=target.identity,
        size_gib=connection.size_gib,
        least_bytes=target.least_bytes,
    )


def least_bytes(connection: Connection) -> int | None:
    """What the volume measures at least. One that was imported may lack a part of its last GiB."""
    if connection.size_gib is None:
        return None
    return (connection.size_gib - 1) * GIB + 1 if connection.rounded else connection.size_gib * GIB
