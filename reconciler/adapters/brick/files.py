"""Volumes that are plain files, behind loop devices: on this host (ours, GPFS) or on a mounted share (NFS and its like).

os-brick hands out the *file* for these, which is no device: nobody could tell it from any other file, and read-only, size and
holders would be unknown. So the path of a file is never called attached.

A share is mounted by os-brick, under the node's own base folder, and unmounted here (os-brick never does) when no loop device is
left on it. Between mounting and making the loop device another call could unmount, so both hold the share's lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from reconciler.adapters.brick import identity, loop, mounts, sysfs, tools, ways
from reconciler.adapters.brick.identity import Identity, canonical
from reconciler.adapters.brick.library import REMOTE_FS, OsBrick
from reconciler.adapters.brick.links import Links
from reconciler.adapters.brick.sysfs import Roots
from reconciler.adapters.brick.usage import Hold, Usage
from reconciler.adapters.brick.ways import Details, Found, StillOpen
from reconciler.runtime.ports import Busy, IdentityMismatch, Retryable, Target, Terminal, Unsupported

_LOG = logging.getLogger(__name__)
LOCAL = {"local", "gpfs"}
PROTOCOLS = LOCAL | REMOTE_FS
_GOING_S = 5.0
"""How long a removal that the kernel accepted may take."""
_INTERVAL_S = 0.02


class Files:
    """The way of files. Its `Found.device` is a loop device that carries the tag of this node and volume."""

    tells_openers = True

    def __init__(self, owner: str, roots: Roots, brick: OsBrick, links: Links) -> None:
        self._owner, self._roots, self._brick, self._links = owner, roots, brick, links
        self._loops = loop.Loops(roots)
        self._usage = Usage(roots)

    def find(self, target: Target, details: Details | None) -> Found | None:
        path = self._path(target)
        tagged = self._loops.tagged(self._tag(target), path.name if path else None)
        return self._found(target, tagged[0], path) if tagged else None

    def bring(self, target: Target) -> Found:
        read_only = ways.read_only(target)
        with self._share(target) as path:
            if path is None:
                raise Terminal(f"the connection of volume {target.volume} does not name its file")
            if path.is_block_device():
                raise Unsupported(
                    f"{path} is a block device that another system (LINSTOR, FusionStorage) manages: it can't be proven gone"
                )
            try:
                made = self._loops.attach(path, self._tag(target), read_only=read_only)
                if made.read_only != read_only:
                    self._discard(target, made)
                    made = self._loops.attach(path, self._tag(target), read_only=read_only)
            except FileNotFoundError as error:
                kind = Retryable if _remote(target) else Terminal
                raise kind(
                    f"{path} does not exist on this host, so volume {target.volume} can't be attached here"
                ) from error
        return self._found(target, made, path)

    def portals_back(self, target: Target, found: Found) -> Sequence[str]:
        """A loop device has one path: its file."""
        return ()

    def add_paths(self, target: Target, found: Found) -> None:
        """There are none to add."""

    def verify(self, target: Target, found: Found) -> Identity:
        """The device is backed by the file that has the promised name *now*, and is as long as promised."""
        path, held = self._path(target), self._loops.get(found.device)
        device = f"/dev/{found.device}"
        try:
            now = loop.file_id(os.stat(path)) if path else None
        except FileNotFoundError:
            now = None
        if path is None or held is None or held.file != now or not held.whole:
            raise IdentityMismatch(
                f"{device} is not backed by {path} as it is now: the file was deleted or replaced, or its share unmounted"
            )
        size = sysfs.size_bytes(self._roots, found.device)
        identity.verify_size(size or 0, device, target.size_bytes, target.least_bytes)
        if target.identity and not self._same(target.identity, path, _remote(target)):
            raise IdentityMismatch(
                f"{device} is backed by {path}, but the volume is {target.identity}; it was not published"
            )
        return self.identity(target, found)

    def identity(self, target: Target, found: Found) -> Identity:
        main = self._name(target, self._path(target))
        return Identity(sysfs.size_bytes(self._roots, found.device) or 0, main, frozenset({canonical(main)}))

    def _name(self, target: Target, path: Path | None) -> str:
        """The file, as all hosts would call it."""
        if path is None:
            return ""
        return f"{ways.data_of(target)['export']}/{path.name}" if _remote(target) else str(path)

    def changed(self, found: Found) -> bool:
        """A loop device keeps the file that it was made with."""
        return False

    def extend(self, target: Target, found: Found) -> None:
        self._loops.grow(found.device)

    def stop_queueing(self, found: Found) -> None:
        """A loop device does not queue."""

    def cut(self, found: Found) -> None:
        """A loop device can't be made to lose writes. While nobody has it open it holds none: the last close wrote them."""

    def take_back(self, target: Target) -> None:
        """Its own loop device, over a file that another volume has as well."""
        found = self.find(target, None)
        if found is None:
            return
        try:
            with Hold(self._roots, self._usage, found.device, look=False) as hold:
                self._clear(found.device, self._tag(target), hold)
        except (Busy, StillOpen) as error:
            raise Retryable(
                f"/dev/{found.device} has another volume's file, and somebody has it open: {error}"
            ) from error

    def remove(self, target: Target, details: Details, found: Found | None, hold: Hold | None, *, flush: bool) -> None:
        if found and hold:
            self._clear(found.device, self._tag(target), hold)
        if _remote(target):
            self._unmount(target)

    # --- the file

    def _path(self, target: Target) -> Path | None:
        """Where the volume's file is on this host, mounted or not. None: the connection does not say. Asks no file system."""
        data = ways.data_of(target)
        if not _remote(target):
            return Path(data["device_path"]) if data.get("device_path") else None
        name = data.get("name", "")
        if not data.get("export") or not name or Path(name).name != name:
            return None
        return self._brick.mount_point(str(data["export"])) / str(name)

    @contextlib.contextmanager
    def _share(self, target: Target) -> Iterator[Path | None]:
        """The volume's file, its share mounted and kept so meanwhile."""
        path = self._path(target)
        if path is None or not _remote(target):
            yield path
            return
        with self._locked(path.parent):
            yield self._brick.mount(ways.protocol_of(target), ways.data_of(target))

    @contextlib.contextmanager
    def _locked(self, point: Path) -> Iterator[None]:
        """Across threads and node daemons: each has the lock file open for itself."""
        point.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with open(point.parent / f".{point.name}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _same(self, promised: str, path: Path, remote: bool) -> bool:
        """On a share the promise names the file as the controller sees it, under another mount point."""
        if remote:
            return Path(promised).name == path.name
        try:
            return os.path.samefile(promised, path)
        except OSError:
            return False

    # --- the device

    def _tag(self, target: Target) -> str:
        return loop.tag(self._owner, target.volume)

    def _found(self, target: Target, device: loop.Loop, path: Path | None) -> Found:
        return Found(device.name, details={"file": str(path), "identity": self._name(target, path)})

    def _discard(self, target: Target, made: loop.Loop) -> None:
        """A device of an earlier attachment in another mode. Raises Terminal when it is in use."""
        try:
            with Hold(self._roots, self._usage, made.name) as hold:
                self._links.withdraw(target.volume)
                hold.flush()
                self._clear(made.name, made.tag, hold)
        except (Busy, StillOpen) as error:
            mode = "read-only" if made.read_only else "for writing"
            users = "; ".join(error.holders) if isinstance(error, Busy) else "somebody has it open"
            raise Terminal(f"the volume is already attached {mode}, and in use: {users}") from error

    def _clear(self, name: str, tag: str, hold: Hold) -> None:
        """Remove the device and wait until it is gone. Raises StillOpen, and Retryable when it will not go."""
        if hold.device is not None and not self._loops.clear(name, hold.device):
            raise StillOpen
        hold.release()
        until = time.monotonic() + _GOING_S
        while (left := self._loops.get(name)) and left.tag == tag:  # The number may be somebody else's device by now.
            if time.monotonic() > until:
                raise Retryable(f"/dev/{name} is still there although its removal was accepted")
            time.sleep(_INTERVAL_S)

    def _unmount(self, target: Target) -> None:
        """Unmount the share unless something still uses it, which the kernel knows best. Only what lies under our own base."""
        export = ways.data_of(target).get("export")
        if not export:
            return
        point = self._brick.mount_point(str(export))
        with self._locked(point):
            if mounts.at(mounts.of_process(self._roots), point) is None:
                return
            done = tools.run("umount", str(point))
            if done.returncode != 0 and "busy" not in done.stderr:
                _LOG.warning("could not unmount %s: %s", point, done.stderr.strip())


def _remote(target: Target) -> bool:
    return ways.protocol_of(target) in REMOTE_FS
