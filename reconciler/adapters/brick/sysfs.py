"""What the kernel says of block devices, read from sysfs. Nothing here opens a device or changes anything.

A device is named as the kernel names it: ``loop3``, ``sda``, ``dm-0``, ``nvme0n1``. Every function takes `Roots`, so that
tests can hand in folders that look like a host no test machine has. An attribute of a device that is just going away reads
as absent: the caller asks again or treats the device as gone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
"""sysfs counts in these, whatever the device's own block size is."""


@dataclass(frozen=True, slots=True)
class Roots:
    """Where this host's views are mounted."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")
    dev: Path = Path("/dev")

    def block(self, name: str) -> Path:
        """A device's folder, whole disk or partition."""
        return self.sys / "class" / "block" / name

    def node(self, name: str) -> Path:
        """A device's node. The kernel writes ``!`` in sysfs where the node's name has a slash (``cciss!c0d0``)."""
        return self.dev / name.replace("!", "/")


def text(path: Path) -> str | None:
    """An attribute without its line end, or None: absent, or the device is going away."""
    try:
        return path.read_bytes().decode(errors="replace").strip()
    except OSError:
        return None


def names(folder: Path) -> list[str]:
    """The entries of a folder in order; none where it does not exist."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def exists(roots: Roots, name: str) -> bool:
    return roots.block(name).exists()


def disks(roots: Roots) -> list[str]:
    """All whole disks of the host."""
    return [name for name in names(roots.sys / "class" / "block") if not (roots.block(name) / "partition").exists()]


def number(roots: Roots, name: str) -> str | None:
    """``major:minor``."""
    return text(roots.block(name) / "dev")


def name_of(roots: Roots, path: str | os.PathLike[str]) -> str | None:
    """The kernel's name for a device node or a link to one, or None when it is no device of this host.

    Goes by name, not by number: links under /dev lead to a node that the kernel named.
    """
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(roots.dev):
        return None
    name = str(real.relative_to(roots.dev)).replace("/", "!")
    return name if exists(roots, name) else None


def size_bytes(roots: Roots, name: str) -> int | None:
    sectors = text(roots.block(name) / "size")
    return int(sectors) * SECTOR if sectors else None


def read_only(roots: Roots, name: str) -> bool:
    return text(roots.block(name) / "ro") == "1"


def partitions(roots: Roots, name: str) -> list[str]:
    return [part for part in names(roots.block(name)) if (roots.block(name) / part / "partition").exists()]


def holders(roots: Roots, name: str) -> list[str]:
    """What is stacked on the device: device-mapper maps, RAID arrays, caches."""
    return names(roots.block(name) / "holders")


def slaves(roots: Roots, name: str) -> list[str]:
    """What the device is made of: for a multipath map its paths."""
    return names(roots.block(name) / "slaves")


def multipath_wwid(roots: Roots, name: str) -> str | None:
    """The WWID that a multipath map stands for, or None when the device is no multipath map."""
    uuid = text(roots.block(name) / "dm" / "uuid") or ""
    return uuid.removeprefix("mpath-") if uuid.startswith("mpath-") else None
