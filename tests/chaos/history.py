"""What happened in a run, as lines in a file: all of etcd's revisions, and what was seen of devices, mappings and files.

Nothing here relies on the daemons. etcd is watched through connections of the recorder's own. The kernel and the driver's folder
are looked at every few hundredths of a second, so that a change is known to lie between two looks, and no better; a device that
comes and goes between two looks is not seen. Since reads say which revision was current when, it is also known between
which moments each revision was committed. `replay` brings both in order.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from reconciler.adapters.brick import loop
from reconciler.adapters.etcd.store import EtcdStore
from reconciler.runtime.ports import Event, Item, PortError
from schema.keys import DEFAULT_PREFIX, Family, Keyspace

LOOK_S = 0.02
SECTORS_PER_GIB = (1 << 30) // 512
"""What sysfs counts in is 512 bytes, whatever the device's own sector."""
READ_S = 0.1
PERIODIC = tuple(Keyspace().folder(family) for family in (Family.ALIVE, Family.LEADER, Family.BACKEND))
"""Written without anything to do: heartbeats, and the free space of the file system that the driver's folder is on."""

Fact = tuple[str, str, str, str]
"""(``device`` | ``mapped`` | ``file``, node or empty, volume or empty, uid)"""


class History:
    """The file, one JSON object a line, from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stream = path.open("a")

    def note(self, what: str, **fields: Any) -> None:
        with self._lock:
            if not self._stream.closed:
                self._stream.write(json.dumps({"what": what, "at": time.monotonic(), **fields}) + "\n")

    def close(self) -> None:
        with self._lock:
            self._stream.close()

    @staticmethod
    def lines(path: Path) -> list[dict[str, Any]]:
        with path.open() as stream:
            return [json.loads(line) for line in stream]


def event_of(line: Mapping[str, Any]) -> Event:
    """A ``wrote`` line as the store's event."""
    value = line["value"]
    item = None if value is None else Item(line["key"], value.encode("latin-1"), line["rev"], 0, line["lease"])
    return Event(line["key"], item, line["rev"])


class Watcher:
    """Records every revision under the prefix, and which one is current."""

    def __init__(self, history: History, store: EtcdStore) -> None:
        self._history = history
        self._store = store
        self._stop = threading.Event()
        self.revision = store.list("/none/").revision
        self.writes = 0
        self.last_work_s = time.monotonic()
        """When something was last written that a daemon or a user had a reason for."""
        self._threads = [
            threading.Thread(target=self._watch, name="watcher"),
            threading.Thread(target=self._read, name="reader"),
        ]
        for thread in self._threads:
            thread.start()

    def _watch(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(PortError):  # a member is away: the store goes on with another
                for batch in self._store.watch(DEFAULT_PREFIX, self.revision, self._stop):
                    for event in batch.events:
                        self._enter(event)
                    self.revision = max(self.revision, batch.revision)

    def _enter(self, event: Event) -> None:
        value = None if event.item is None else event.item.value.decode("latin-1")
        lease = event.item.lease if event.item else 0
        self._history.note("wrote", rev=event.revision, key=event.key, value=value, lease=lease)
        self.revision = max(self.revision, event.revision)
        self.writes += 1
        if not event.key.startswith(PERIODIC):
            self.last_work_s = time.monotonic()

    def _read(self) -> None:
        while not self._stop.wait(READ_S):
            began = time.monotonic()
            with contextlib.suppress(PortError):
                revision = self._store.list("/none/").revision
                self._history.note("read", rev=revision, began=began, ended=time.monotonic())

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Looker:
    """Looks at loop devices, mappings and files, again and again. It is also the `Hosts` of the checks at the end.

    Args:
        files: the driver's folder.
        owners: node -> what the node's loop devices are tagged with.
        boots: node -> the file with its boot id.
    """

    def __init__(
        self,
        history: History,
        files: Path,
        owners: Mapping[str, str],
        volumes: Sequence[str],
        boots: Mapping[str, Path],
    ) -> None:
        self._history, self._files, self._boots = history, files, boots
        self._loops = loop.Loops()
        self._tags = {loop.tag(owner, volume): (node, volume) for node, owner in owners.items() for volume in volumes}
        self._known: dict[tuple[str, str], tuple[str, str]] = {}
        """(device, diskseq) -> (node, volume): the kernel counts diskseq up with each life of a device."""
        self._facts: frozenset[tuple[Fact, str]] = frozenset()
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="looker")
        self.looks = 0
        self.longest_s = 0.0
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    # --- Hosts

    def devices(self, uid: str) -> Sequence[str]:
        return [node for (kind, node, _, each), _ in self._facts if kind == "device" and uid and each == uid]

    def mapped(self, uid: str) -> Sequence[str]:
        return [node for (kind, node, _, each), _ in self._facts if kind == "mapped" and uid and each == uid]

    def size_gib(self, node: str, uid: str) -> int:
        lives = (life for (kind, where, _, each), life in self._facts if (kind, where, each) == ("device", node, uid))
        return max((_size_gib(life.partition(".")[0]) for life in lives), default=0)

    def extends_online(self) -> bool:
        return False  # nobody wishes for growth here

    def node_of(self, host: str) -> str:
        return host

    def host_of(self, node: str, boot: str) -> str:
        return node

    def boot(self, node: str) -> str:
        with contextlib.suppress(OSError, ValueError):
            return str(json.loads(self._boots[node].read_text())["boot"])
        return ""

    # --- looking

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            began = time.monotonic()
            facts = frozenset([*self._devices(), *self._mapped(), *self._volumes()])
            ended = time.monotonic()
            if facts != self._facts:
                gone, come = sorted(self._facts - facts), sorted(facts - self._facts)
                # Where one life of a device follows another, the end comes first.
                changes = [["-", *fact] for fact, _ in gone] + [["+", *fact] for fact, _ in come]
                self._history.note("saw", began=self._began, ended=ended, changes=changes)
            self.longest_s = max(self.longest_s, ended - self._began)
            self._facts, self._began = facts, began
            self.looks += 1

    def _devices(self) -> Iterable[tuple[Fact, str]]:
        for name in os.listdir("/sys/block"):
            if name.startswith("loop"):
                with contextlib.suppress(OSError):
                    backing = Path(f"/sys/block/{name}/loop/backing_file").read_text()
                    file = Path(backing.strip().removesuffix(" (deleted)"))
                    if file.parent == self._files:
                        yield from self._device(name, file.name.removeprefix("volume-"))

    def _device(self, name: str, uid: str) -> Iterable[tuple[Fact, str]]:
        life = (name, Path(f"/sys/block/{name}/diskseq").read_text())
        if life not in self._known:
            found = self._loops.get(name)
            if found is None or found.tag not in self._tags:
                return
            self._known[life] = self._tags[found.tag]
        yield ("device", *self._known[life], uid), ".".join(life)

    def _mapped(self) -> Iterable[tuple[Fact, str]]:
        with contextlib.suppress(FileNotFoundError):
            for uid in os.listdir(self._files / ".exports"):
                with contextlib.suppress(FileNotFoundError):
                    for host in os.listdir(self._files / ".exports" / uid):
                        yield ("mapped", unquote(host), "", uid), ""

    def _volumes(self) -> Iterable[tuple[Fact, str]]:
        for name in os.listdir(self._files):
            if name.startswith("volume-"):
                yield ("file", "", "", name.removeprefix("volume-")), ""


def _size_gib(device: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        return int(Path(f"/sys/block/{device}/size").read_text()) // SECTORS_PER_GIB
    return 0
