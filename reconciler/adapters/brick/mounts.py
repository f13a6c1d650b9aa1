"""What is mounted, in every mount namespace that /proc shows.

Only text is read: asking a file system of a dead server anything, even by `stat`, waits for ever, and one dead NFS server must
not hold up the volumes of another backend.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.adapters.brick import sysfs

_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "lustre", "gpfs", "virtiofs", "beegfs", "ocfs2", "gfs2"}
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo. `number` is ``major:minor`` of the file system's device."""

    mount_id: int
    number: str
    point: str
    fstype: str
    source: str

    @property
    def remote(self) -> bool:
        """Whether its files live behind a server or a user's process that may not answer."""
        return self.fstype in _REMOTE or self.fstype.startswith("fuse")


@dataclass(frozen=True, slots=True)
class Namespace:
    """A mount namespace and one process in it."""

    pid: int
    process: str
    own: bool
    mounts: tuple[Mount, ...]


def unescape(field: str) -> str:
    """Undo the kernel's octal escapes (blank, tab, line end, backslash) in mountinfo and swaps."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)


def of_process(roots: sysfs.Roots, pid: int | str = "self") -> tuple[Mount, ...]:
    """The mounts that a process sees, in the order they were made; none when the process is gone."""
    try:
        return parse((roots.proc / str(pid) / "mountinfo").read_bytes().decode(errors="surrogateescape"))
    except OSError:
        return ()


def parse(mountinfo: str) -> tuple[Mount, ...]:
    """Format: proc(5), ``36 35 98:0 /root /point options [tags…] - fstype source options``."""
    found = []
    for line in mountinfo.splitlines():
        head, separator, tail = line.partition(" - ")
        fields, kind = head.split(" "), tail.split(" ")
        if separator and len(fields) >= 5 and len(kind) >= 2:
            found.append(Mount(int(fields[0]), fields[2], unescape(fields[4]), kind[0], unescape(kind[1])))
    return tuple(found)


def processes(roots: sysfs.Roots) -> list[int]:
    return sorted(int(name) for name in sysfs.names(roots.proc) if name.isdigit())


def process_name(roots: sysfs.Roots, pid: int) -> str:
    return sysfs.text(roots.proc / str(pid) / "comm") or "?"


def namespaces(roots: sysfs.Roots) -> Iterator[Namespace]:
    """Every mount namespace in which a process lives, each once, our own first.

    A namespace that only a file descriptor keeps alive is not seen; an exclusive open of the device tells of it.
    """
    seen: set[str] = set()
    own = namespace_id(roots, "self")
    for pid in (os.getpid(), *processes(roots)):
        name = namespace_id(roots, pid)
        if name is not None and name not in seen:
            seen.add(name)
            yield Namespace(pid, process_name(roots, pid), name == own, of_process(roots, pid))


def namespace_id(roots: sysfs.Roots, pid: int | str) -> str | None:
    try:
        return os.readlink(roots.proc / str(pid) / "ns" / "mnt")
    except OSError:
        return None


def containing(mounts: tuple[Mount, ...], path: str | Path) -> Mount | None:
    """The mount that a path lies on, going by the text alone. Of several at one point the last made is the visible one."""
    best: Mount | None = None
    for mount in mounts:
        inside = f"{path}/".startswith(f"{mount.point.rstrip('/')}/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def at(mounts: tuple[Mount, ...], point: str | Path) -> Mount | None:
    """What is mounted exactly here."""
    return next((mount for mount in reversed(mounts) if mount.point == str(point)), None)
