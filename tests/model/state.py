"""The state of the searched world: small tuples of small numbers, so that millions of them can be compared and kept.

One volume, two nodes. What is in etcd comes first (`NodeKeys`, `VolumeKeys`), then the world (`Host`, `Array`), then what
processes have in their heads (`Controller`, `Op`, `Lag`). Epochs and boots are only ever compared for equality, so they are
renamed in order of appearance (`canonical`); without that there would be infinitely many states.

Planners never see the ghosts: of which epoch a device is (`Host.device`), and whether the present boot was ever fenced.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from schema.keys import Family

NODES = ("A", "B")

EXPORTING, READY, REVOKED, NOTED = range(4)
"""Phases of a holder entry. NOTED exists in one must-fail variant only."""
ATTACHING, ATTACHED, RELEASED = range(3)
"""Phases in a node's status."""
HERE, CUT_OFF, OFF = range(3)
"""What has become of a host: well, partitioned from etcd, without power."""
UNKNOWN, ABSENT, PRESENT = range(3)
"""What the node daemon knows of the device."""
OPEN, CORDONED, DRAINED = range(3)
"""What users want of a node as a whole."""
CREATING, AVAILABLE, EXTENDING, RETAINED, DELETING = range(5)
"""Phases in `volumes/V`."""

OTHER_UID = -1
"""The epoch of a key that belongs to a former volume of the name."""


class Holder(NamedTuple):
    node: int
    epoch: int
    boot: int
    phase: int


class NodeKeys(NamedTuple):
    """What etcd holds of one node. 0 and None: the key is missing."""

    wish: int = 0
    """Its place in the order of the wishes."""
    intent: int = OPEN
    """`desired/nodes/N`"""
    boot: int = 0
    """`nodes/N`"""
    fences: tuple[int, ...] = ()
    """Boots. One that is there twice is stated to be over: powered off."""
    fenced: tuple[int, ...] = ()
    claim: tuple[int, int] | None = None
    """Epoch, boot."""
    status: tuple[int, int] | None = None
    """Phase, epoch."""
    connection: tuple[int, int, int, int] | None = None
    """Epoch, boot, phase, size."""

    @property
    def wanted(self) -> bool:
        """There is a wish, and it is not set aside."""
        return bool(self.wish) and self.intent != DRAINED


class Spec(NamedTuple):
    size: int
    delete: bool
    generation: int = 1


class Record(NamedTuple):
    size: int
    intent: str = ""
    target: int = 0
    delete: bool = False
    exports: tuple[tuple[int, int], ...] = ()
    """Node, epoch: not known to be undone."""
    ended: bool = False
    """The end of the wish is noted, and `delete` is what it said last."""
    unproven: int = 0
    """With the intent to delete: whether a wish came and went right before it was not looked at yet. UNMISSED to MISSED_RETAIN is
    what the store's history tells, up to that intent."""


UNMISSED, MISSED_DELETE, MISSED_RETAIN = 1, 2, 3


class VolumeStatus(NamedTuple):
    phase: int
    generation: int
    holders: tuple[Holder, ...]


class VolumeKeys(NamedTuple):
    """What etcd holds of the volume."""

    spec: Spec | None
    record: Record | None
    grant: tuple[Holder, ...] | None
    status: VolumeStatus | None

    @property
    def holders(self) -> tuple[Holder, ...]:
        """By whichever copy is there."""
        if self.grant is not None:
            return self.grant
        return self.status.holders if self.status else ()


class Op(NamedTuple):
    """An external call on its way, from the confirming transaction to the recording one."""

    do: int
    node: int
    epoch: int
    boot: int
    commits: int
    """Keys that the recording transaction compares."""
    generation: int = 0
    """Of the volume's wish, as the planner saw it."""
    size: int = 0
    """In the node's connection, as it saw it."""
    landed: bool = False
    dirty: int = 0
    """Those of them that were written since the plan was made: the record will be refused."""


class Host(NamedTuple):
    """One node's machine and its daemon."""

    boot: int = 1
    away: int = HERE
    know: int = ABSENT
    device: int = 0
    """Ghost: the epoch under which it was connected."""
    fenced: bool = False
    """Ghost: there was a fence of the present boot, whatever has become of the key."""
    op: Op | None = None
    size: int = 0
    """GiB of the volume when the device was made or extended: the daemon's note."""
    restores: bool = False
    """At power on the host itself logs in again to what was connected (R11)."""
    asleep: int = 0
    """Ghost: what it will log in to."""
    short: bool = False
    """Paths are missing, and their portals answer."""
    noted: tuple[int, int] | None = None
    """Epoch, boot: the daemon's note on its disk, there from before a connect. Kept in loads with budget.breaks alone."""
    session: int = 0
    """Ghost: the epoch of a connect that was broken off after its login. The device may come by itself."""


class Array(NamedTuple):
    """The storage side."""

    data: int = 1
    """GiB; 0: the volume does not exist."""
    target: bool = False
    """`create_export` was done."""
    maps: tuple[int, int] = (0, 0)
    """To each node: the epoch that it is mapped under."""
    used: bool = False
    """Ghost: users may have put data on it."""
    room: int = 9
    """GiB. It refuses to make anything bigger."""
    cuts: bool = True
    """Who is not mapped can't write, whatever device is there. Else only the host's own end helps."""
    online: bool = False
    """It can extend what somebody holds."""
    keep: bool = True
    """Ghost: the last wish that was there said `retain`."""
    kept: bool = False
    """Ghost: it said so when the deletion was intended."""
    last: tuple[int, bool] | None = None
    """etcd's history: size and `delete` of the last wish that is gone. None: compacted away, or there is a wish."""
    missed: bool = False
    """A wish ended since the record's last word on it."""


class Controller(NamedTuple):
    """The memory of the controller that leads, lost at a crash and at a change of leader."""

    epoch: int = 0
    marks: int = 0
    """Of `epoch`: EXPORTED, TERMINATED, UNEXPORTED, LOST."""
    refused: int | None = None
    """The generation of the wish that the driver refused; 0 where there was none any more."""
    refused_size: int = 0
    """GiB that it refused to extend to."""
    op: Op | None = None


EXPORTED, TERMINATED, UNEXPORTED, LOST = 1, 2, 4, 8


class Lag(NamedTuple):
    """An outdated cache: `actor` does not see writes to `keys`, and so still sees `old`."""

    actor: int
    """A node, or CONTROLLER."""
    keys: int
    old: tuple[tuple[int, Any], ...]
    """Key bit and the value before the first write that was not seen."""
    past: tuple[tuple[int, bool] | None, bool] = (None, False)
    """What history told then of the wish for the volume: `Array.last`, `Array.missed`."""

    @property
    def dirty(self) -> int:
        return sum(bit for bit, _ in self.old)


CONTROLLER = 2


class Budget(NamedTuple):
    """How many of each event are still to come."""

    wishes: int = 0
    power: int = 0
    partitions: int = 0
    fences: int = 0
    deletions: int = 0
    stale: int = 0
    cordons: int = 0
    drains: int = 0
    specs: int = 0
    losses: int = 0
    """The array forgets its exports, or an audit says so of one that is there."""
    paths: int = 0
    compactions: int = 0
    breaks: int = 0
    """Connects whose worker dies between login and device."""


class State(NamedTuple):
    nodes: tuple[NodeKeys, NodeKeys]
    volume: VolumeKeys
    hosts: tuple[Host, Host]
    array: Array
    controller: Controller
    budget: Budget
    late: tuple[Op, ...] = ()
    """Calls whose process is dead, but which may still land. Only in must-fail variants."""
    lag: Lag | None = None
    skipped: tuple[int, str, int] | None = None
    """The one compare that this run leaves out: step, `confirms` or `commits`, keys (test_compares)."""


# --- the same state, but... (by slices: `_replace` takes three times as long, and this is what the search spends its time on)


def with_node(state: State, node: int, keys: NodeKeys) -> State:
    first, second = state.nodes
    return State._make((((keys, second) if node == 0 else (first, keys)), *state[1:]))


def with_volume(state: State, volume: VolumeKeys) -> State:
    return State._make((state.nodes, volume, *state[2:]))


def with_host(state: State, node: int, host: Host) -> State:
    first, second = state.hosts
    return State._make((*state[:2], (host, second) if node == 0 else (first, host), *state[3:]))


def with_array(state: State, array: Array) -> State:
    return State._make((*state[:3], array, *state[4:]))


def with_controller(state: State, controller: Controller) -> State:
    return State._make((*state[:4], controller, *state[5:]))


def with_budget(state: State, budget: Budget) -> State:
    return State._make((*state[:5], budget, *state[6:]))


# --- first states --------------------------------------------------------------------------------------------------------


def existing_volume() -> VolumeKeys:
    """A volume of 1 GiB that nobody holds."""
    return VolumeKeys(Spec(1, False), Record(1), (), VolumeStatus(AVAILABLE, 1, ()))


def first_state(budget: Budget, *, restores: bool = False, cuts: bool = True, online: bool = False) -> State:
    """Both nodes up and published, nothing wished."""
    node, host = NodeKeys(boot=1), Host(restores=restores)
    array = Array(used=True, cuts=cuts, online=online)
    return State((node, node), existing_volume(), (host, host), array, Controller(), budget)


# --- keys as bits --------------------------------------------------------------------------------------------------------

_NODE_FAMILIES = (
    Family.DESIRED_ATTACHMENT,
    Family.DESIRED_NODE,
    Family.NODE,
    Family.FENCE,
    Family.FENCED,
    Family.CLAIM,
    Family.ATTACHMENT,
    Family.CONNECTION,
)
"""In the order of NodeKeys' fields. All boots' fences of a node count as one key."""
_VOLUME_FAMILIES = (Family.DESIRED_VOLUME, Family.RECORD, Family.GRANT, Family.VOLUME)
"""In the order of VolumeKeys' fields."""

WIDTH = len(_NODE_FAMILIES)
NODE_KEYS = (1 << WIDTH) - 1
ALL_KEYS = (1 << 2 * WIDTH + len(_VOLUME_FAMILIES)) - 1


def key_bit(family: Family, node: int = 0) -> int:
    """The bit of a key. Of volume keys there is one, whatever the node."""
    if family in _VOLUME_FAMILIES:
        return 1 << 2 * WIDTH + _VOLUME_FAMILIES.index(family)
    return 1 << node * WIDTH + _NODE_FAMILIES.index(family)


BOTH_LISTS = key_bit(Family.GRANT) | key_bit(Family.VOLUME)


def kinds(mask: int) -> int:
    """The same keys of whichever node: B's bits become A's."""
    return mask >> WIDTH & NODE_KEYS | mask & ~(NODE_KEYS << WIDTH)


def families(mask: int) -> tuple[Family, ...]:
    """Which families the bits belong to."""
    merged = kinds(mask)
    named = [family for index, family in enumerate(_NODE_FAMILIES) if merged >> index & 1]
    return (*named, *(f for index, f in enumerate(_VOLUME_FAMILIES) if mask >> 2 * WIDTH + index & 1))


def bits(mask: int) -> list[int]:
    return [1 << index for index in range(mask.bit_length()) if mask >> index & 1]


VOLUME_KEYS = 2
"""In the place of a node: the volume's."""


def key_place(bit: int) -> tuple[int, int]:
    """Whose key it is (a node's, or VOLUME_KEYS), and which field there."""
    index = bit.bit_length() - 1
    return (VOLUME_KEYS, index - 2 * WIDTH) if index >= 2 * WIDTH else divmod(index, WIDTH)


def value_of(state: State, bit: int) -> Any:
    """What is under the key now."""
    place, field = key_place(bit)
    return state.volume[field] if place == VOLUME_KEYS else state.nodes[place][field]


def overlay(state: State, old: tuple[tuple[int, Any], ...]) -> State:
    """The state as it looks to somebody who still sees these values."""
    parts: list[list[Any]] = [list(state.nodes[0]), list(state.nodes[1]), list(state.volume)]
    for bit, value in old:
        place, field = key_place(bit)
        parts[place][field] = value
    nodes = NodeKeys._make(parts[0]), NodeKeys._make(parts[1])
    return state._replace(nodes=nodes, volume=VolumeKeys._make(parts[2]))


def written(before: State, after: State) -> int:
    """The keys whose values differ."""
    mask = _changed(before.volume, after.volume) << 2 * WIDTH
    for node in range(2):
        mask |= _changed(before.nodes[node], after.nodes[node]) << node * WIDTH
    return mask


def _changed(before: tuple[Any, ...], after: tuple[Any, ...]) -> int:
    if before is after:
        return 0
    return sum(1 << index for index, (old, new) in enumerate(zip(before, after, strict=True)) if old != new)
