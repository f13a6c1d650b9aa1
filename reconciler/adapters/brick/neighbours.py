"""What the host has for other volumes: no device may be taken for two of them.

The storage may number alike what is not the same: two tgt daemons that count their LUNs from one, an array that was cloned with
its serial number, NVMe namespaces with equal NGUIDs. multipathd makes one map of such disks, and whoever finds devices by identity
finds both. So the second volume is refused, and all that came by it is taken away again, before anybody could use it.

Whose an identity is tell the notes of the volumes that were verified here (`Target.others`); among those that connect at the same
time, the first that was found.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from reconciler.adapters.brick import identity, locate, ways
from reconciler.adapters.brick.identity import Identity
from reconciler.runtime.ports import DuplicateIdentity, Target


class Neighbours:
    """The identities that volumes have on this host. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[str, str] = {}
        """By volume, in this process."""
        self._devices: dict[str, frozenset[str]] = {}
        self._shown: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        """Of volumes that were refused: at which addresses, and as what they showed themselves there."""

    def check_promise(self, target: Target) -> None:
        """Before anything is done: by what the connection says. Raises DuplicateIdentity."""
        for volume, shared in self._at_its_address(target):
            raise DuplicateIdentity(
                f"the storage gives volumes {target.volume} and {volume} one address, {shared}, and {volume} is here;"
                f" {target.volume} was not connected"
            )
        if target.identity:
            promised = frozenset({identity.canonical(target.identity)})
            with self._lock:
                self._refuse(target, promised, "was not connected")
        with self._lock:
            address, shown = self._shown.get(target.volume, (frozenset(), frozenset()))
            if address == _addresses(target):
                outcome = "was not connected again; once they differ: detach it here, and attach it again"
                self._refuse(target, shown, outcome)

    def remember(self, target: Target, seen: Identity) -> None:
        """What a volume showed that was refused. Each login puts it into the other one's multipath map for a moment, and what is
        written there meanwhile may reach it: so there is no second one while nothing has changed."""
        with self._lock:
            self._shown[target.volume] = (_addresses(target), seen.spellings)

    def is_at_its_address(self, target: Target) -> bool:
        """Whether another volume is here through this one's address: then nothing there is this one's."""
        return any(True for _ in self._at_its_address(target))

    def _at_its_address(self, target: Target) -> Iterator[tuple[str, str]]:
        address = _addresses(target)
        for volume, details in target.others.items():
            if shared := address & frozenset(details.get("addresses", ())):
                yield volume, min(shared)

    def check(self, target: Target, seen: Identity) -> None:
        """Raises DuplicateIdentity for a device that has another volume's identity."""
        with self._lock:
            self._refuse(target, seen.spellings, "was not published")

    def take(self, target: Target, seen: Identity, devices: Iterable[str]) -> None:
        """The identity and the devices are this volume's from now on. Raises DuplicateIdentity when the first is another's."""
        with self._lock:
            self._refuse(target, seen.spellings, "was not published")
            self._devices[target.volume] = frozenset(devices)
            if seen.main:
                self._taken[target.volume] = seen.main

    def owner(self, target: Target, seen: Identity) -> str | None:
        """Another volume that has this identity here."""
        with self._lock:
            return next(
                (name for name, other in self._others(target) if identity.is_shown(other, seen.spellings)), None
            )

    def devices(self, but: str) -> set[str]:
        """Those of all other volumes, as far as this process has seen them."""
        with self._lock:
            return set().union(*(names for volume, names in self._devices.items() if volume != but))

    def forget(self, volume: str) -> None:
        with self._lock:
            self._devices.pop(volume, None)
            self._taken.pop(volume, None)
            self._shown.pop(volume, None)

    def _refuse(self, target: Target, spellings: frozenset[str], outcome: str) -> None:
        for volume, other in self._others(target):
            if identity.is_shown(other, spellings):
                raise DuplicateIdentity(
                    f"the storage gives volumes {target.volume} and {volume} one identity, {other}, and {volume} is here;"
                    f" {target.volume} {outcome}"
                )

    def _others(self, target: Target) -> Iterator[tuple[str, str]]:
        for volume, details in target.others.items():
            yield volume, str(details.get("identity") or "")
        for volume, main in self._taken.items():
            if volume != target.volume:
                yield volume, main


def _addresses(target: Target) -> frozenset[str]:
    return frozenset(locate.addresses(ways.protocol_of(target), ways.data_of(target)))
