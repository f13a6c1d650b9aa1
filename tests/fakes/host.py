"""A fake host, and the ports `Notes` and `Boot` on it (for `Connector` see `tests.fakes.connector`).

`FakeHost` is what physically is: devices, links, who uses what, a disk that survives a reboot and a tmpfs that does not. As
a kernel does, it keeps a device whose export is gone (without a live path), remembers the identity that the device had when
it appeared, and shows whatever the array serves now under that number. It knows nothing of etcd, grants or epochs; a device
keeps the conn_info by which it came.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from reconciler.runtime.ports import Clock, Note
from tests.fakes.array import FakeArray, FakeVolume
from tests.fakes.audit import Audit
from tests.fakes.child import FakeChild, Fault

LINKS = "/dev/brickwork"

Address = tuple[str, int]
"""Of a device: the array's target, and the LUN."""


@dataclass
class FakeDevice:
    """A block device. `uid`: of the volume that it showed when it appeared; `identity`: what the kernel remembers of that."""

    number: int
    address: Address
    initiator: str
    uid: str
    size_gib: int
    conn_info: Mapping[str, Any]
    since_s: float
    paths: set[int]
    """The storage networks that it was logged in through. One that is down comes back by itself; others are `join`ed."""
    read_only: bool = False
    identity: str = ""
    offline: bool = False
    """Cut off on this host: no write lands any more."""
    dirty: list[str] = field(default_factory=list)
    """Tokens that were written, but not flushed."""
    holders: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"/dev/fake{self.number}"


class FakeHost:
    """A host. The attributes may be changed at any time.

    Args:
        arrays: those that it reaches.
        audit: shared by all arrays and hosts of a world; default: the first array's.
    """

    def __init__(self, name: str, arrays: Sequence[FakeArray], audit: Audit | None = None) -> None:
        self.name = name
        self.arrays = {array.target: array for array in arrays}
        self.audit = audit or arrays[0].audit
        self.hostname = name
        self.initiator = f"iqn.1994-05.com.example:{name}"
        """May be changed, or another host's: then both are one to an array. A device keeps the one that it came by."""
        self.nqn = f"nqn.2014-08.org.example:{name}"
        self.up = True
        self.boots = 1
        self.restores_sessions = False
        """Whether a boot brings the devices back, as iscsid does with automatic sessions."""
        self.paths_total = 1
        """How many storage networks there are, each with a portal of each array."""
        self.paths_down: set[int] = set()
        """Those that this host reaches nothing through."""
        self.devices: dict[int, FakeDevice] = {}
        self.sessions: dict[Address, Mapping[str, Any]] = {}
        """By conn_info: logins whose device has not been found yet. The kernel may find it by itself (`scan`)."""
        self.links: dict[str, int] = {}
        """The stable links: volume -> device."""
        self.logs_in: list[str] = []
        """Targets that it logs in to by itself at boot."""
        self.obstacles: set[str] = set()
        """Volumes whose link has something else in its place."""
        self.disk: dict[str, Note] = {}
        self.spoiled: dict[str, str] = {}
        """Volumes whose note on the disk can't be read, and why."""
        self.state: dict[str, Any] = {}
        """What else is on the disk: which host it was, and a person's word."""
        self.identity = name
        """What a copy of the disk does not take along."""
        self.tmpfs: dict[str, str] = {}
        self.boot_ids = 0
        self.connecting: FakeChild | None = None
        """The worker of the last connector that began here."""
        self._numbers = 0

    # --- The daemon's side of the kernel

    def attach(self, conn_info: Mapping[str, Any], read_only: bool = False) -> FakeDevice | None:
        """Log in and make a device; None when nothing is served there."""
        address = address_of(conn_info)
        self.sessions.pop(address, None)
        volume = self._served(address, self.initiator)
        if volume is None:
            return None
        self._numbers += 1
        device = FakeDevice(
            *(
                self._numbers,
                address,
                self.initiator,
                volume.uid,
                volume.size_gib,
                conn_info,
                self.audit.now(),
                self._up(),
                read_only,
                volume.identity,
            )
        )
        self.devices[device.number] = device
        self.audit.note("connected", self.name, volume.uid, device.initiator, conn_info)
        return device

    def scan(self) -> None:
        """The kernel finds the devices of logins that somebody began and nobody took back."""
        for conn_info in list(self.sessions.values()) if self.up else ():
            self.attach(conn_info)

    def detach(self, device: FakeDevice) -> None:
        del self.devices[device.number]
        self.audit.note("disconnected", self.name, device.uid, device.initiator, device.conn_info)

    def join(self, device: FakeDevice) -> None:
        """Log in through what answers: paths to the same volume join its device."""
        volume = self._served(device.address, device.initiator)
        if volume is not None and volume.uid == device.uid:
            device.paths |= self._up()
            self.audit.note("joined", self.name, device.uid, device.initiator, device.conn_info)

    def served(self, device: FakeDevice) -> FakeVolume | None:
        """What is behind the device now; None: it has no live path."""
        cut = device.offline or not self.up or not device.paths & self._up()
        return None if cut else self._behind(device.address, device.initiator)

    def paths_live(self, device: FakeDevice) -> int:
        return len(device.paths & self._up()) if self.served(device) else 0

    def is_let_in(self, device: FakeDevice) -> bool:
        """Whether the array would serve the device, over any path."""
        volume = self._behind(device.address, device.initiator)
        return volume is not None and volume.uid == device.uid and not device.offline

    def portals_back(self, device: FakeDevice) -> Sequence[str]:
        """Those that answer, and that the device has no path through."""
        return [f"192.0.2.{network}:3260" for network in sorted(self._up() - device.paths)]

    def _served(self, address: Address, initiator: str) -> FakeVolume | None:
        return self._behind(address, initiator) if self._up() else None

    def _behind(self, address: Address, initiator: str) -> FakeVolume | None:
        """Whatever the paths are."""
        array = self.arrays.get(address[0])
        return array.serves(initiator, address[1]) if array else None

    def _up(self) -> set[int]:
        return set(range(self.paths_total)) - self.paths_down

    # --- What users of the host do

    def device(self, path: str) -> FakeDevice | None:
        """By its link or by the kernel's name."""
        for volume, number in self.links.items():
            if path == f"{LINKS}/{volume}":
                return self.devices.get(number)
        return next((device for device in self.devices.values() if device.path == path), None)

    def write(self, device: FakeDevice, token: str, *, flush: bool = True) -> bool:
        """Write, as somebody who has the device open. Returns whether all that was written so far has landed."""
        device.dirty.append(token)
        return flush and self.flush(device)

    def flush(self, device: FakeDevice) -> bool:
        """Everything that is dirty lands on what is behind the device now, or is refused."""
        volume = self.served(device) if device.number in self.devices and not device.read_only else None
        tokens, device.dirty = device.dirty, []
        for token in tokens:
            if volume is not None:
                volume.written.append(token)
            kind, uid = ("refused", device.uid) if volume is None else ("written", volume.uid)
            self.audit.note(kind, self.name, uid, token, device.conn_info)
        return volume is not None

    @contextmanager
    def using(self, device: FakeDevice, holder: str) -> Iterator[None]:
        """Somebody has it open, or mounted: ``"mounted at /srv"``."""
        device.holders.append(holder)
        yield
        device.holders.remove(holder)

    # --- Accidents

    def halt(self) -> None:
        """The host stops at once: nothing of it writes any more. Its processes are the caller's to kill, before."""
        self.up = False

    def reboot(self) -> None:
        """What was not on the disk is gone. Its processes are the caller's to kill, before."""
        self.up = True
        self.boots += 1
        lost, self.devices, self.links, self.tmpfs = self.devices, {}, {}, {}
        self.sessions = {}
        self.audit.note("rebooted", self.name, "")
        for device in lost.values():
            self.audit.note("disconnected", self.name, device.uid, device.initiator, device.conn_info)
        for device in lost.values() if self.restores_sessions else ():
            self.attach(device.conn_info)


def address_of(conn_info: Mapping[str, Any]) -> Address:
    data = conn_info["data"]
    return str(data["target"]), int(data["lun"])


class FakeNotes:
    """`ports.Notes` on a fake host's disk. Survives everything but the host's end."""

    def __init__(self, host: FakeHost, clock: Clock) -> None:
        self.fault: Callable[[str], Fault | None] = lambda _: None
        """Asked at each write (``"save"``, ``"drop"``) what goes wrong with it: `lands` and `raises` count."""
        self._host = host
        self._clock = clock

    def all(self) -> Mapping[str, Note]:
        return {name: note for name, note in sorted(self._host.disk.items()) if name not in self._host.spoiled}

    def unreadable(self) -> Mapping[str, str]:
        return {name: f"the note on {name} can't be read: {why}" for name, why in self._host.spoiled.items()}

    def save(self, note: Note) -> None:
        stored = Note(**json.loads(json.dumps(asdict(note))))
        self._write("save", lambda: self._host.disk.update({note.volume: stored}))

    def drop(self, volume: str) -> None:
        self._write("drop", lambda: self._host.disk.pop(volume, None))

    def _write(self, name: str, act: Callable[[], object]) -> None:
        fault = self.fault(name) or Fault()
        self._clock.sleep(0)
        if fault.lands:
            act()
        self._clock.sleep(0)
        if fault.raises:
            raise fault.raises


class FakeBoot:
    """`ports.Boot` in a fake host's tmpfs: a reboot empties it."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def current(self) -> str:
        return self._host.tmpfs.get("boot") or self.mint()

    def mint(self) -> str:
        self._host.boot_ids += 1
        self._host.tmpfs["boot"] = f"{self._host.name}-boot-{self._host.boot_ids}"
        return self._host.tmpfs["boot"]


class FakeIdentity:
    """`ports.HostIdentity` of a fake host: the firmware's, and what is kept on its disk."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        if host.state.get("identity") != host.identity:
            host.state.update(identity=host.identity, boots=[], was_node=False)

    def identity(self) -> str:
        return self._host.identity

    def boots(self) -> frozenset[str]:
        return frozenset(self._host.state["boots"])

    def was_node(self) -> bool:
        return bool(self._host.state["was_node"])

    def word(self) -> bool:
        return bool(self._host.state.get("word") == self._host.identity)

    def published(self, boot: str) -> None:
        self._host.state["was_node"] = True
        if boot not in self._host.state["boots"]:
            self._host.state["boots"].append(boot)
        self._host.state.pop("word", None)

    def replaced(self) -> None:
        self._host.state["was_node"] = False


def an_identity(name: str = "web-1") -> FakeIdentity:
    """Of a host that is needed for nothing else."""
    return FakeIdentity(FakeHost(name, [], Audit()))
