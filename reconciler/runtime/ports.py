"""The few interfaces through which Brickwork touches the world.

Everything above this module (runtime, controllers, planners) is ours and runs unchanged in production, in tests and under the
simulator; everything below (`reconciler.adapters`, `tests.fakes`) implements these protocols:

* `Store`      one etcd: linearizable reads, transactions, watches, leases;
* `Backend`    one storage backend: a Cinder driver in a killable worker;
* `Connector`  the host: os-brick in a killable worker;
* `Notes`      the node's private notes on its disk, and `Boot`, the id of its present boot;
* `Clock`      time, waiting and threads. Nothing else in the runtime may sleep, wait or ask the time.

Errors, each of one kind only, because the caller's answer depends on the kind alone:

    PortError
    ├── Retryable            nothing happened (or it is safe to repeat); try again with back-off
    │   ├── Unavailable      the store or the worker can't be reached
    │   │   └── NotOpen      there is no worker: `open` starts one
    │   ├── Compacted        a watch or a list asked for a revision that is gone: list anew
    │   └── NoSpace          etcd refuses writes until its quota is lifted
    ├── Terminal             repeating won't help until somebody changes something
    │   ├── Denied           no permission
    │   ├── TooLarge         the value does not fit
    │   ├── Unsupported      this driver or host can't do that
    │   ├── OtherStorage     a backend's storage is not the one that its volumes are on
    │   ├── Replaced         the store is not the one that it was
    │   └── IdentityMismatch the device is not the one that was promised
    │       └── DuplicateIdentity the storage gives two volumes one identity
    ├── Busy                 the device is in use; carries by whom
    └── UnknownOutcome       it may or may not have happened: keep the intent, read back, repeat the idempotent call
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from schema.models import Proof


class PortError(Exception):
    """An effect on the world that did not go through. `str()` is fit for a user's eyes: what failed, and the remedy."""


class Retryable(PortError):
    """Nothing happened, or repeating is safe."""


class Unavailable(Retryable):
    """The other side could not be reached."""


class NotOpen(Unavailable):
    """No worker is running: it was never opened, or it died."""


class Compacted(Retryable):
    """History is gone: list anew."""


class NoSpace(Retryable):
    """etcd's quota alarm is up."""


class Terminal(PortError):
    """Somebody has to change something first."""


class Denied(Terminal):
    """The store's user may not do this."""


class TooLarge(Terminal):
    """The store refuses the size of the request."""


class Unsupported(Terminal):
    """This driver, protocol or host cannot do it."""


class Replaced(Terminal):
    """The store is another one, or in an earlier state, than it was: a person has to accept it."""


class OtherStorage(Terminal):
    """What is behind the backend's settings is not what its volumes are on.

    Args:
        found: the mark of what is there.
    """

    def __init__(self, message: str, found: str = "") -> None:
        super().__init__(message)
        self.found = found


class IdentityMismatch(Terminal):
    """A device appeared that is not the promised one (size, WWID, backing file). It was not published."""


class DuplicateIdentity(IdentityMismatch):
    """The storage gives two volumes one identity, and another of them is on this host already. Nothing of that one was touched."""


class LinkTaken(Terminal):
    """The device is the promised one, but its stable link can't be made: something else has its place. It was not published."""


class UnknownOutcome(PortError):
    """A deadline, a kill or a lost connection: the call may have happened."""


class Busy(PortError):
    """The device is in use on this host.

    Args:
        holders: who uses it, one short phrase each: ``"mounted at /srv"``, ``"held by dm-3"``, ``"opened by qemu (pid 412)"``.
    """

    def __init__(self, message: str, holders: Sequence[str]) -> None:
        super().__init__(message)
        self.holders = tuple(holders)


# --- Store ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """One key as stored: its value, and the store's revisions of its last change and of its creation."""

    key: str
    value: bytes
    mod_revision: int
    create_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """All keys of a prefix at one revision, in key order. `cluster` identifies the store, where it tells."""

    items: tuple[Item, ...]
    revision: int
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Compare:
    """A fact a transaction relies on. `mod_revision` 0 means *absent*; `present` means *there, whatever its revision*;
    `create_revision` identifies one life of a key (a leader's). Exactly one of the three is given."""

    key: str
    mod_revision: int | None = None
    create_revision: int | None = None
    present: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


Op = Put | Delete


@dataclass(frozen=True, slots=True)
class TxnResult:
    """`revision` is the store's at the transaction: for a write that succeeded, the mod revision of every key it put.
    `found` holds, where it failed, the compared keys as they are now (a key that is absent is missing from it).
    `cluster` identifies the store, where it tells."""

    succeeded: bool
    revision: int
    found: Mapping[str, Item] = field(default_factory=dict)
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """A key's new value, or its deletion (`item` is None)."""

    key: str
    item: Item | None
    revision: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of a watch in order; together they bring the watcher to `revision`. No events: only progress."""

    revision: int
    events: tuple[Event, ...] = ()


class Stop(Protocol):
    """What ends a blocking call early."""

    def is_set(self) -> bool: ...


class Store(Protocol):
    """One etcd. Raises Unavailable, UnknownOutcome (writes only), Compacted, Denied, TooLarge, NoSpace; nothing else leaks."""

    def get(self, key: str) -> Item | None:
        """Linearizable read of one key."""
        ...

    def list(self, prefix: str) -> Listing:
        """All keys with the prefix (or the one key, where `prefix` does not end in a slash), in pages, at one revision."""
        ...

    def past(self, key: str, revision: int) -> Item | None:
        """The key as it was at this revision. Raises Compacted where the store no longer knows."""
        ...

    def history(self, key: str, since: int) -> Sequence[Event]:
        """Every change of one key from this revision on, that revision's included, up to a moment after the call was made.

        For who knows that there was one: where none comes, this raises Unavailable in the end. Raises Compacted."""
        ...

    def txn(self, compares: Sequence[Compare], then: Sequence[Op] = ()) -> TxnResult:
        """One transaction: if every compare holds, do all of `then`. An empty `then` is the confirming read."""
        ...

    def watch(self, prefix: str, after_revision: int, stop: Stop) -> Iterator[Batch]:
        """Batches of everything that changes under the prefix (or at the one key) after the revision, exactly once and in
        order, across reconnects.

        Yields at least every few seconds, an empty batch when nothing happened, so that the caller sees silence.
        Ends when `stop` is set. Raises Compacted, Denied, and Unavailable when the watch stayed silent beyond its deadline.
        """
        ...

    def grant_lease(self, ttl_s: int) -> int: ...

    def keep_lease(self, lease: int) -> int:
        """Renew; returns the seconds the server grants. 0: the lease is gone."""
        ...

    def revoke_lease(self, lease: int) -> None: ...


class StoreMark(NamedTuple):
    """What is remembered of a store: which one it is, and the highest revision that was seen. `accepted`: a person accepted
    another one in its place, lately."""

    cluster: str = ""
    revision: int = 0
    accepted: bool = False


class StoreMemory(Protocol):
    """Remembers the store across restarts."""

    def load(self) -> StoreMark | None: ...

    def save(self, mark: StoreMark) -> None:
        """Durable when it returns."""
        ...


# --- Backend -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What a driver said of itself when it was set up.

    `capabilities`: plain JSON; keys we use: ``multiattach``, ``manage_existing``, ``extend``, ``extend_online`` (while somebody
    holds the volume), ``list_exports``, ``cuts_access`` (bool). The last: a host that still has the device can't write any more
    once `terminate` returned.
    `identifiers`: connector properties that must be unique among nodes for this protocol (A17).
    """

    driver: str
    protocol: str
    capabilities: Mapping[str, Any]
    capacity: Mapping[str, Any]
    identifiers: tuple[str, ...] = ()
    storage: str = ""
    """The mark by which the storage is known (`core.storage`); empty: the driver does not tell."""


@dataclass(frozen=True, slots=True)
class Export:
    """One holder as the driver must know it: who, in which grant, with which connector properties."""

    node: str
    epoch: int
    mode: str
    connector: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VolumeData:
    """A volume as a driver needs it: Cinder's id, size, the driver's own fields (`model`, from `records/`), and *all* its
    present exports (drivers count them per host)."""

    volume: str
    uid: str
    size_gib: int
    model: Mapping[str, Any]
    exports: tuple[Export, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a driver call left behind. `model` is the driver's own data after the call, to be saved when it differs."""

    model: Mapping[str, Any]
    size_gib: int
    conn_info: Mapping[str, Any] | None = None
    """Only from `connect`: ``{"driver_volume_type": …, "data": {…}}`` (may hold secrets)."""
    size_bytes: int | None = None
    """Only from `connect`: what the device must measure."""
    identity: str | None = None
    """Only from `connect`, where the driver tells: WWID, NGUID, or the backing file for local protocols."""
    shared: bool = False
    """Only from `terminate`: the driver says that other attachments still use this export."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A driver that is set up. `changed`: replies for the volumes whose model the set-up changed, by volume name."""

    info: BackendInfo
    changed: Mapping[str, Reply] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Exposure:
    """An export that is at the driver now, whoever made it.

    `uid`: of the volume, as the driver has it. `client`: whom it lets in, by one of its connector properties (``host``,
    ``initiator``, ``nqn`` or one of ``wwpns``); None where the driver knows only *that* the volume is exported.
    """

    uid: str
    client: str | None


class Backend(Protocol):
    """One storage backend. Every call is idempotent, has a deadline that is enforced by killing the worker, and raises
    Retryable, Terminal (Unsupported …) or UnknownOutcome."""

    name: str

    def prepare(self) -> None:
        """Do of `open` what takes its time and touches no array: for who knows that it will open soon. May be left out, and
        repeated. Raises Unavailable."""
        ...

    def open(self, volumes: Sequence[VolumeData], storage: str = "") -> Opened:
        """Start the worker and set the driver up, with all volumes that this backend has (drivers look at them in their set-up).
        Exports of volumes that have holders are made sure of (`ensure_export`: a rebooted target host has lost them).
        Raises Unavailable (array away) or Terminal (missing SDK, wrong option) with the reason and the remedy; OtherStorage, before
        anything is done with a volume, when `storage` is the mark that was noted, and volumes are on another one than this.
        Every other call raises NotOpen until it is open, and again after `kill` or a worker's death."""
        ...

    def describe(self) -> BackendInfo:
        """Ask the driver for fresh statistics. Raises Unavailable with the reason when the array does not answer."""
        ...

    def create(self, volume: VolumeData) -> Reply: ...

    def extend(self, volume: VolumeData, size_gib: int) -> Reply: ...

    def delete(self, volume: VolumeData, others: Sequence[VolumeData] = (), *, gone: bool = False) -> None:
        """Where storage has no mark, a volume that is not found counts as deleted only if one of `others` (volumes that the
        backend has besides) is, or there is none, or it is said to be `gone`. Raises Terminal otherwise: is it another storage?"""
        ...

    def adopt(self, volume: VolumeData, reference: Mapping[str, Any]) -> Reply:
        """Take over a volume that exists on the array (`manage_existing`)."""
        ...

    def export(self, volume: VolumeData, export: Export) -> Reply:
        """`create_export` for one holder; `export` is in `volume.exports` too."""
        ...

    def connect(self, volume: VolumeData, export: Export) -> Reply:
        """`initialize_connection`."""
        ...

    def terminate(self, volume: VolumeData, export: Export) -> Reply:
        """`terminate_connection` with the connector that was used; `export` is still in `volume.exports`."""
        ...

    def unexport(self, volume: VolumeData) -> Reply:
        """`remove_export`: only when no holder of any phase is left."""
        ...

    def exports(self) -> Sequence[Exposure]:
        """Everything that is exported now. Only reads. Raises Unsupported without the capability ``list_exports``."""

    def permit(self, until_s: float) -> None:
        """Calls may land until this moment (`Clock.now`), and no later, even if this process is stopped and can't see to
        that: the worker is killed then by somebody else. Each permission replaces the one before; without any there is no
        limit. Does not wait."""
        ...

    def kill(self) -> None:
        """End every call in flight now, and return only when none can land any more. `open` starts anew."""
        ...


# --- Connector -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Device:
    """A block device on this host that was verified to be the promised one.

    `path` is the stable link that users use, `device` the kernel's node (``/dev/loop3``); `details` is what os-brick needs
    to disconnect.
    """

    path: str
    device: str
    size_bytes: int
    identity: str
    paths_live: int
    paths_total: int
    read_only: bool
    details: Mapping[str, Any]
    portals_back: Sequence[str] = ()
    """Portals that answer, and that no path of the device goes through: `add_paths` may help. Told by `inspect` only."""
    logs_in: Sequence[str] = ()
    """Targets of it that the host logs in to by itself at boot, for reasons of its own."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to connect, and what it must turn out to be."""

    volume: str
    conn_info: Mapping[str, Any]
    read_only: bool
    size_bytes: int | None
    identity: str | None
    least_bytes: int | None = None
    """A smaller device is another volume. It may be larger: arrays round up."""
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What this host has for other volumes: their devices' details, where this volume has not been verified here yet."""


class Connector(Protocol):
    """The host's side. Every call is idempotent and has a deadline, enforced by killing the worker."""

    def properties(self) -> Mapping[str, Any]:
        """os-brick's connector properties of this host, plain JSON."""
        ...

    def connect(self, target: Target) -> Device:
        """Connect, verify size and identity, enforce read-only, make the stable link. Raises IdentityMismatch, Retryable,
        Terminal, UnknownOutcome; and DuplicateIdentity, after which nothing of this volume is left on the host."""
        ...

    def inspect(self, target: Target, details: Mapping[str, Any] | None) -> Device | None:
        """Look only: the device as it is now, or None when it is *proven* that nothing of this target is on the host.
        Raises IdentityMismatch when a device is there that is not the promised one. `details` is the known device's, if any."""
        ...

    def add_paths(self, target: Target, details: Mapping[str, Any] | None) -> Device:
        """Connect through what portals answer now, to a device that is here already and may be in use: nothing of it is
        removed or replaced, whatever goes wrong. Returns as `connect` does; raises Retryable when no such device is here."""
        ...

    def extend(self, target: Target, details: Mapping[str, Any] | None) -> Device:
        """Let the device, which may be in use, have the size that its volume has now, and verify it against `target`. Raises
        Retryable where it is not there, can't be told now, or has another size afterwards (it stays published then), and
        otherwise as `connect`."""
        ...

    def disconnect(self, target: Target, details: Mapping[str, Any] | None, *, flush: bool = True) -> None:
        """Remove link and device and prove that nothing is left. Raises Busy (nothing was touched), Retryable, UnknownOutcome.
        `flush=False` only for a device of a fenced boot: its writes must not land."""
        ...

    def kill(self) -> None:
        """End every call in flight now, and return only when none can land any more."""
        ...


# --- Notes ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Note:
    """What the node must know to disconnect, whatever happens to the keys: kept from before the connect until the release.

    Holds conn_info, so it may hold secrets.
    """

    volume: str
    uid: str
    epoch: int
    boot: str
    mode: str
    conn_info: Mapping[str, Any]
    size_bytes: int | None
    identity: str | None
    details: Mapping[str, Any] | None = None
    size_gib: int | None = None
    """Of the volume, as the connection told it last when the device was made or extended."""
    least_bytes: int | None = None
    """What the device must measure at least. None: not known, in notes of older versions."""


class Notes(Protocol):
    """The node's private notes on its disk. Each write is durable when the call returns."""

    def all(self) -> Mapping[str, Note]:
        """By volume, as far as they can be read."""
        ...

    def unreadable(self) -> Mapping[str, str]:
        """By volume: notes that are there and can't be read, and why."""
        ...

    def save(self, note: Note) -> None: ...

    def drop(self, volume: str) -> None: ...


class Boot(Protocol):
    """This life of the node, from boot to boot or to the cleaning after a fence."""

    def current(self) -> str: ...

    def mint(self) -> str:
        """Begin a new one, durably."""
        ...


class HostIdentity(Protocol):
    """What this host knows of itself, on its own disk and from its firmware."""

    def identity(self) -> str: ...

    def boots(self) -> frozenset[str]:
        """Those of this host under this identity, as far as they are remembered."""
        ...

    def was_node(self) -> bool:
        """It published itself as the node, under this identity."""
        ...

    def word(self) -> bool:
        """A person said here that this host, under this identity, is the node from now on. Asked anew each time."""
        ...

    def published(self, boot: str) -> None:
        """Remember, durably, that this boot was published. A word is used up by it."""
        ...

    def replaced(self) -> None:
        """Remember, durably, that another host is the node."""
        ...


# --- Fencing -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FenceTarget:
    """The boot that is to be ended for certain, and what is known of its node."""

    node: str
    boot: str
    connector: Mapping[str, Any]
    volumes: tuple[str, ...]
    """What it holds and others may wait for."""
    silent_s: float
    host: str = ""
    """The identity of the host that was the node in this boot; empty: it named none. A name alone may mean another host by now."""


@dataclass(frozen=True, slots=True)
class FenceProof:
    """How it is known that the boot can no longer write."""

    evidence: str
    proof: Proof


class Fencer(Protocol):
    """Whatever holds a power switch, or another proof."""

    def fence(self, target: FenceTarget, still: Callable[[], bool]) -> FenceProof:
        """End that boot, and prove it. Raises Retryable when nothing was done, and any other PortError when nobody knows.
        `still` is asked right before: a `kill` that comes after the answer finds the call in flight."""
        ...

    def kill(self) -> None:
        """End the call in flight, for good. Returns when it has ended. Whoever calls it answers `still` with no from then on."""
        ...


# --- Clock ---------------------------------------------------------------------------------------------------------------


class Signal(Protocol):
    """A flag that can be waited for."""

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def is_set(self) -> bool: ...

    def wait(self, timeout_s: float | None = None) -> bool: ...


class Task(Protocol):
    """A running activity."""

    def join(self, timeout_s: float | None = None) -> bool:
        """True when it has ended."""
        ...


class Clock(Protocol):
    """Time, waiting and concurrency: the seam at which the simulator takes over."""

    def now(self) -> float:
        """Seconds since boot, counting suspend (CLOCK_BOOTTIME). For intervals and leases."""
        ...

    def wall(self) -> float:
        """Seconds since 1970. For people only."""
        ...

    def signal(self) -> Signal: ...

    def lock(self) -> AbstractContextManager[Any]:
        """A mutual exclusion lock, for short sections without waiting."""
        ...

    def sleep(self, seconds: float) -> None: ...

    def spawn(self, name: str, target: Callable[[], None]) -> Task:
        """Run `target` beside the caller."""
        ...
