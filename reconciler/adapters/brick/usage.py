"""Who uses a block device on this host, in short phrases for people.

Asked before a device is taken away, because nothing below stops it: os-brick deletes a mounted SCSI disk without a question.
Looked at are mounts (in every mount namespace that a process lives in), swap, what is stacked on it (device mapper with LVM and
dm-crypt, RAID, caches), loop devices backed by it, and open files; each for the device, its partitions and its paths.

What /proc can't show (another PID namespace, a mount namespace without a process, a target in the kernel that exports it) is
caught by `Hold`: an exclusive open (O_EXCL) fails while any such user has claimed the device, and while it is held, none can begin.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import TracebackType

from reconciler.adapters.brick import mounts, sysfs
from reconciler.adapters.brick.sight import Sight, sights
from reconciler.adapters.brick.sysfs import Roots
from reconciler.runtime.ports import Busy, Retryable

_PASSING = {"systemd-udevd", "(udev-worker)", "udevd", "udevadm", "blkid"}
"""Processes that look at a device for some time after every change."""
_WATCHING = {"multipathd"}
"""Keeps its paths open to check them, and closes them when they go."""
_PASSING_S, _OPENED_S = 2.0, 0.1
"""How long they, and anybody else who only has the device open, may take to let go by themselves. Anybody may be just looking."""
_INTERVAL_S = 0.02
_MOST = 16
"""More holders than a user would read."""
_BLKFLSBUF = 0x1261
_GONE = {errno.ENXIO, errno.ENODEV, errno.EIO, errno.ENOMEDIUM, errno.ENOENT}
"""What opening a device says when it, or all its paths, are dead."""


@dataclass(frozen=True, slots=True)
class Holder:
    """One use, and how many seconds it may take to end by itself before it counts."""

    phrase: str
    patience_s: float = 0.0


class Usage:
    """Looks for the users of devices."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._sights = sights(roots)

    def holders(self, device: str, members: Collection[str] = ()) -> list[str]:
        """Phrases, at most 16; empty: unused. Waits up to two seconds for udev and its like to let go.

        Args:
            members: the paths that `device` is made of. That it holds them is no use.
        """
        since = time.monotonic()
        while True:
            found = list(self._look(device, members))
            waited_s = time.monotonic() - since
            if not found or any(holder.patience_s <= waited_s for holder in found):
                staying = [holder for holder in found if holder.patience_s < _PASSING_S] or found
                return list(dict.fromkeys(holder.phrase for holder in staying))[:_MOST]
            time.sleep(_INTERVAL_S)

    def users(self, device: str, members: Collection[str] = ()) -> list[str]:
        """The holders that will not let go by themselves. Does not wait."""
        return [holder.phrase for holder in self._look(device, members) if holder.patience_s < _PASSING_S]

    def _look(self, device: str, members: Collection[str]) -> Iterator[Holder]:
        disks = {device, *members}
        names = disks | {part for disk in disks for part in sysfs.partitions(self._roots, disk)}
        numbers = {number: name for name in names if (number := sysfs.number(self._roots, name))}
        label = {name: "" if name in disks else f"partition {name} " for name in names}
        for name in sorted(names):
            for upper in sysfs.holders(self._roots, name):
                if upper not in names:
                    yield Holder(f"{label[name]}held by {self._describe(upper)}")
        sight = self._sights.fresh()
        yield from self._mounted(sight.spaces, numbers, label)
        yield from self._swap(label)
        yield from self._loops(label)
        for name, holder in self._open_files(sight, numbers, label):
            if name == device or holder.patience_s < _PASSING_S:  # udev reading a path of a map hinders nobody
                yield holder

    def _describe(self, upper: str) -> str:
        """A device stacked on ours, with the name its owner knows."""
        folder = self._roots.block(upper) / "dm"
        name, uuid = sysfs.text(folder / "name"), sysfs.text(folder / "uuid") or ""
        kinds = {"LVM-": "LVM volume", "CRYPT-": "encrypted volume", "mpath-": "multipath map", "part": "partition map"}
        kind = next((kind for prefix, kind in kinds.items() if uuid.startswith(prefix)), "map")
        return f"{upper} ({kind} {name})" if name else upper

    def _mounted(
        self, spaces: tuple[mounts.Namespace, ...], numbers: dict[str, str], label: dict[str, str]
    ) -> Iterator[Holder]:
        points = set()
        for space in spaces:
            where = "" if space.own else f" in the mount namespace of {space.process} (pid {space.pid})"
            for mount in space.mounts:
                name = numbers.get(mount.number) or self._source(mount.source, label)
                if name and (name, mount.point) not in points:
                    points.add((name, mount.point))
                    yield Holder(f"{label[name]}mounted at {mount.point}{where}")

    def _source(self, source: str, label: dict[str, str]) -> str | None:
        """Some file systems (btrfs) have a device number of their own and show their disk only as the mount's source."""
        name = sysfs.name_of(self._roots, source) if source.startswith("/") else None
        return name if name in label else None

    def _swap(self, label: dict[str, str]) -> Iterator[Holder]:
        for line in (sysfs.text(self._roots.proc / "swaps") or "").splitlines()[1:]:
            fields = line.split()
            name = sysfs.name_of(self._roots, mounts.unescape(fields[0])) if fields[1:2] == ["partition"] else None
            if name in label:
                yield Holder(f"{label[name]}used as swap")

    def _loops(self, label: dict[str, str]) -> Iterator[Holder]:
        for upper in sysfs.disks(self._roots):
            backing = sysfs.text(self._roots.block(upper) / "loop" / "backing_file")
            name = sysfs.name_of(self._roots, backing) if backing else None
            if name in label:
                yield Holder(f"{label[name]}backs /dev/{upper}")

    def _open_files(self, sight: Sight, numbers: dict[str, str], label: dict[str, str]) -> Iterator[tuple[str, Holder]]:
        for pid, opened in sight.opened.items():
            name = next((one for one in opened.nodes if one in label), None)
            name = name or next((numbers[one] for one in opened.numbers if one in numbers), None)
            if name is None:
                continue
            process = mounts.process_name(self._roots, pid)
            if process not in _WATCHING:
                patience_s = _PASSING_S if process in _PASSING else _OPENED_S
                yield name, Holder(f"{label[name]}opened by {process} (pid {pid})", patience_s)


class Hold:
    """An exclusive open of a device: from here on nobody can mount it, swap on it or stack anything on it.

    Opened for reading, so that closing it does not make udev look at the device again. Where the device is dead there is nothing
    to hold: `device` is None. Use as a context manager.
    """

    def __init__(
        self, roots: Roots, usage: Usage, name: str, members: Collection[str] = (), *, look: bool = True
    ) -> None:
        """`look`: for those, too, who have it open without having claimed it."""
        self.device: int | None = None
        self._roots, self._usage, self._name, self._members, self._look = roots, usage, name, members, look

    def __enter__(self) -> Hold:
        """Raises Busy when the device is in use, however it is used."""
        try:
            self.device = os.open(self._roots.node(self._name), os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise self._busy() from None
            if error.errno not in _GONE:
                raise
        try:
            if self._look or self.device is None:
                self.check()
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def check(self) -> None:
        """Raises Busy when somebody has the device open without having claimed it."""
        if holders := self._usage.holders(self._name, self._members):
            raise Busy(f"/dev/{self._name} is in use: {'; '.join(holders)}", holders)

    def _busy(self) -> Busy:
        unseen = "held by something that /proc does not show: a mount in another namespace, or an export by the kernel"
        holders = self._usage.holders(self._name, self._members) or [unseen]
        return Busy(f"/dev/{self._name} is in use: {'; '.join(holders)}", holders)

    def flush(self) -> None:
        """Write out what the host still has in memory, down to the storage, and forget what it read.

        Raises Retryable when a write failed, now or since the last flush: its writer was told, or will never know. Told once.
        """
        if self.device is None:
            return
        try:
            os.fsync(self.device)
            fcntl.ioctl(self.device, _BLKFLSBUF)
        except OSError as error:
            raise Retryable(
                f"/dev/{self._name}: something that was written did not reach the storage: {error.strerror}"
            ) from error

    def release(self) -> None:
        """Close it; what the kernel promised to do at the last close happens here."""
        if self.device is not None:
            os.close(self.device)
            self.device = None
