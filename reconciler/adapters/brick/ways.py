"""What the ways to a device have in common: `Files` (plain files behind loop devices) and `Block` (os-brick's block protocols)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from reconciler.adapters.brick.identity import Identity
from reconciler.adapters.brick.usage import Hold
from reconciler.runtime.ports import Target, Unsupported

Details = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A device of a target that is on this host."""

    device: str
    """The kernel's name."""
    members: tuple[str, ...] = ()
    """Its paths, where it is made of such, and paths of the same volume that it does not use."""
    details: Details = field(default_factory=dict)
    """What a later disconnect needs."""
    paths_expected: int = 0
    """How many paths the connection promised; 0: it does not say."""
    strangers: tuple[str, ...] = ()
    """Paths of its map that are not this connection's. Nothing is done with them."""


class StillOpen(Exception):
    """The device can't go, because somebody has it open. It is as it was before."""


class Way(Protocol):
    """One way to a device. All methods can be repeated after a crash at any point."""

    tells_openers: bool
    """Whether `remove` finds out by itself, exactly and at once, that somebody has the device open. Else one looks before."""

    def find(self, target: Target, details: Details | None) -> Found | None:
        """The target's device, the promised one or not. None: nothing of it is on this host. Changes nothing."""
        ...

    def bring(self, target: Target) -> Found:
        """Make the device appear, or complete what is there. Nothing is published."""
        ...

    def portals_back(self, target: Target, found: Found) -> Sequence[str]:
        """Portals that answer now, and that no path of the device goes through. Changes nothing."""
        ...

    def add_paths(self, target: Target, found: Found) -> None:
        """Connect through the portals that answer now. What is here of the device stays as it is."""
        ...

    def identity(self, target: Target, found: Found) -> Identity:
        """What the device is, the promised one or not."""
        ...

    def verify(self, target: Target, found: Found) -> Identity:
        """Raises IdentityMismatch when it is not the promised one."""
        ...

    def changed(self, found: Found) -> bool:
        """Whether what is behind the device now is another volume than when the host found it."""
        ...

    def extend(self, target: Target, found: Found) -> None:
        """Tell the device, in use or not, that its volume may have grown."""
        ...

    def stop_queueing(self, found: Found) -> None:
        """Of a device without any live path: let reads and writes fail instead of wait, if nobody but udev waits for one."""
        ...

    def cut(self, found: Found) -> None:
        """See to it that no write of this host lands any more, where the host can do that."""
        ...

    def take_back(self, target: Target) -> None:
        """Take away what is at exactly this connection's address, of a volume that nobody used: its device looks like another
        volume's, of which nothing is touched. Raises Retryable while something is left."""
        ...

    def remove(self, target: Target, details: Details, found: Found | None, hold: Hold | None, *, flush: bool) -> None:
        """Take the device away, and what only it needed: sessions, mounts. With `found` None: whatever else is left.

        `hold` is released where the device must be closed for that. Raises StillOpen.
        """
        ...


def data_of(target: Target) -> Mapping[str, Any]:
    data = target.conn_info.get("data")
    return data if isinstance(data, Mapping) else {}


def protocol_of(target: Target) -> str:
    return str(target.conn_info.get("driver_volume_type", "")).lower()


def read_only(target: Target) -> bool:
    """By wish, or because the storage gives no more."""
    return target.read_only or data_of(target).get("access_mode") == "ro"


def refuse_encrypted(target: Target) -> None:
    """Publishing the ciphertext would invite somebody to format it."""
    if data_of(target).get("encrypted"):
        raise Unsupported(
            f"volume {target.volume} is encrypted (LUKS), which Brickwork can't open yet: use a volume type without encryption"
        )
