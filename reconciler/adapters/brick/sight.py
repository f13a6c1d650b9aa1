"""One look at all processes of the host: what they have mounted and which block devices they have open.

A look takes thousands of system calls, each of which gives up the interpreter's lock: several threads looking at once hinder one
another until each takes seconds. So one looks at a time, and what it sees serves everybody who asked before it began.
"""

from __future__ import annotations

import functools
import os
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.adapters.brick import mounts, sysfs
from reconciler.adapters.brick.sysfs import Roots


@dataclass(frozen=True, slots=True)
class Opened:
    """What one process has open below /dev, by name, and of block devices, by number (`8:0`)."""

    nodes: frozenset[str]
    numbers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look saw. `opened` is by pid, without our own process."""

    spaces: tuple[mounts.Namespace, ...]
    opened: Mapping[int, Opened]


class Sights:
    """Looks at the processes, for any number of threads."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._counting = threading.Lock()
        self._looking = threading.Lock()
        self._begun = 0
        self._ended = 0
        self._sight: Sight | None = None

    def fresh(self) -> Sight:
        """A look that began after this call."""
        with self._counting:
            wanted = self._begun + 1
        with self._looking:
            if self._sight is None or self._ended < wanted:
                with self._counting:
                    self._begun += 1
                self._sight = self._look()
                self._ended = self._begun
            return self._sight

    def _look(self) -> Sight:
        spaces = tuple(mounts.namespaces(self._roots))
        local = {str(mount.mount_id).encode() for space in spaces for mount in space.mounts if not mount.remote}
        harmless: set[tuple[str | None, str]] = set()
        pids = (pid for pid in mounts.processes(self._roots) if pid != os.getpid())
        found = {pid: opened for pid in pids if (opened := self._opened_by(pid, local, harmless)) is not None}
        return Sight(spaces, found)

    def _opened_by(self, pid: int, local: set[bytes], harmless: set[tuple[str | None, str]]) -> Opened | None:
        """In plain system calls: a busy host has 100,000 open files. None: nothing that could matter.

        Args:
            harmless: (mount namespace, path) of files seen in this look that are no block devices: mostly many have the same open.
        """
        node_folder = f"{self._roots.dev}/"
        space = mounts.namespace_id(self._roots, pid)
        nodes, numbers = set(), set()
        for entry in sysfs.names(self._roots.proc / str(pid) / "fd"):
            descriptor = f"{self._roots.proc}/{pid}/fd/{entry}"
            try:
                path = os.readlink(descriptor)
                if path.startswith(node_folder):
                    nodes.add(path[len(node_folder) :])
                if not path.startswith("/") or (space, path) in harmless:
                    continue
                # A node may have any name, in a container or by mknod. But a file whose server may be dead is not asked.
                if path.startswith("/dev/") or self._mount_id(pid, entry) in local:
                    status = os.stat(descriptor)
                    if stat.S_ISBLK(status.st_mode):
                        numbers.add(f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}")
                        continue
                harmless.add((space, path))
            except OSError:
                continue  # closed by now
        return Opened(frozenset(nodes), frozenset(numbers)) if nodes or numbers else None

    def _mount_id(self, pid: int, entry: str) -> bytes:
        """What an open file lies on. A mount that no namespace lists was unmounted lazily, as one does when its server is dead."""
        info = os.open(f"{self._roots.proc}/{pid}/fdinfo/{entry}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            rest = os.read(info, 4096).partition(b"mnt_id:")[2].split(None, 1)
        finally:
            os.close(info)
        return rest[0] if rest else b""


@functools.cache
def sights(roots: Roots) -> Sights:
    """The one that all who look at the same host share."""
    return Sights(roots)
