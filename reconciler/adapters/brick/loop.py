"""Loop devices for volumes that are plain files: made, recognised, verified and removed, by ioctl.

*Whose is it?* Every loop device of ours carries a tag in the kernel's own name field (`lo_file_name`): a digest of the node
and of the volume's name. LOOP_CONFIGURE sets tag, backing file and flags in one step, and the tag lives exactly as long as the
device. So there is no moment at which a crash leaves a device that nobody can place, and two node daemons on one host,
or an administrator's ``losetup``, over the same file are told apart. A device without our tag is never touched.

*Which file?* A path can't tell: files are deleted and made anew, bind-mounted and renamed, and one name is another's prefix. The
kernel is asked for device and inode of the file it holds (LOOP_GET_STATUS64).

*Is it gone?* While somebody has the device open, LOOP_CLR_FD only promises to remove it at the last close. That is not gone: the
promise is taken back, and the caller told who has it (`Busy`).

Needs Linux 5.8 (LOOP_CONFIGURE) and root with CAP_SYS_ADMIN. See loop(4); this module knows nothing of os-brick.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.adapters.brick import mounts, sysfs
from reconciler.adapters.brick.sysfs import Roots
from reconciler.runtime.ports import IdentityMismatch, Retryable, Terminal

_CLR_FD, _SET_STATUS64, _GET_STATUS64, _SET_CAPACITY, _CONFIGURE = 0x4C01, 0x4C04, 0x4C05, 0x4C07, 0x4C0A
_CTL_GET_FREE = 0x4C82
_READ_ONLY, _AUTOCLEAR, _DIRECT_IO = 1, 4, 16
_MAJOR = 7
_CAP_SYS_ADMIN = 21
_INFO = struct.Struct("=QQQQQIIII64s64s32s2Q")
"""struct loop_info64: device, inode, rdevice, offset, sizelimit, number, encryption type and key size, flags, file name, …"""
_CONFIG = struct.Struct(f"=II{_INFO.size}s8Q")
"""struct loop_config: file descriptor, block size, struct loop_info64, reserved."""
_OURS = "brickwork/"
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Without O_NONBLOCK, opening a FIFO that somebody put in the file's place would wait for ever."""
_ATTEMPTS = 32
"""How often a free device may be snatched away by somebody else before we give up for now."""


def tag(owner: str, volume: str) -> str:
    """What marks a node's device of a volume: 59 of the kernel's 63 bytes. `owner`: `ConnectorSettings.owner`."""
    return f"{_OURS}{_digest(owner, 16)}/{_digest(volume, 32)}"


def _digest(name: str, length: int) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:length]


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop device as the kernel describes it. `file` is (device, inode) of what backs it."""

    name: str
    file: tuple[int, int]
    tag: str
    read_only: bool
    whole: bool
    """No offset and no size limit: the device is the file, from its first byte to its last."""

    @property
    def ours(self) -> bool:
        """Made by Brickwork, by this node or another on the same host."""
        return self.tag.startswith(_OURS)


class Loops:
    """The loop devices of this host."""

    def __init__(self, roots: Roots | None = None) -> None:
        self._roots = roots or Roots()

    # --- look

    def get(self, name: str) -> Loop | None:
        """The device as it is now, or None when it is not bound to a file."""
        if not self.bound(name):
            return None
        try:
            with self._opened(name, os.O_RDONLY) as device:
                return _read(device, name)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT, errno.ENODEV):
                return None
            raise

    def bound(self, name: str) -> bool:
        """Whether sysfs shows a backing file. Opens nothing."""
        return sysfs.text(self._roots.block(name) / "loop" / "backing_file") is not None

    def tagged(self, wanted: str, file_name: str | None) -> list[Loop]:
        """All devices with this tag.

        The kernel answers with the file's present attributes, for which it may wait for a file server. A device over a
        remote file of another name is therefore not asked: it can't be the wanted one, and its server may be dead.
        """
        return [loop for loop in self._candidates(file_name) if loop.tag == wanted]

    def over(self, file: tuple[int, int], file_name: str) -> list[Loop]:
        """All devices, whoever made them, that a file backs. A hard link under another name on a remote file system is missed."""
        return [loop for loop in self._candidates(file_name) if loop.file == file]

    def _candidates(self, file_name: str | None) -> Iterator[Loop]:
        mounted = mounts.of_process(self._roots)
        for name in sysfs.names(self._roots.sys / "class" / "block"):
            backing = sysfs.text(self._roots.block(name) / "loop" / "backing_file")
            if backing is None:
                continue
            same_name = file_name in (None, Path(backing).name, Path(backing.removesuffix(" (deleted)")).name)
            mount = mounts.containing(mounted, backing)
            if (same_name or not (mount and mount.remote)) and (loop := self.get(name)):
                yield loop

    # --- make

    def attach(self, path: Path, mark: str, *, read_only: bool) -> Loop:
        """The device with tag `mark` over the file: the one that is there, brought up to the file's size, or a new one.

        Direct I/O where the file system can: the file's pages are then not cached twice, and what was written is on its
        server when the volume moves to another host.

        Raises IdentityMismatch when the tag is on a device over another file (it stays, for inspection), Terminal when somebody
        else can write through a device over this file, or for want of rights.
        """
        with _open_file(path, read_only) as backing:
            file = file_id(os.fstat(backing))
            for loop in self.tagged(mark, path.name):
                if loop.file != file or not loop.whole:
                    raise IdentityMismatch(
                        f"/dev/{loop.name} was made for this volume, but is not backed by {path} as it is now; it was left as it is"
                    )
                if sysfs.size_bytes(self._roots, loop.name) != os.fstat(backing).st_size // sysfs.SECTOR * sysfs.SECTOR:
                    self.grow(loop.name)
                return loop
            self._refuse_strangers(path, file, mark, read_only)
            return self._configure(backing, path, mark, read_only)

    def _refuse_strangers(self, path: Path, file: tuple[int, int], mark: str, read_only: bool) -> None:
        """Another node's device is the protocol's business (shared volumes); anybody else's writes would corrupt the volume."""
        node = mark.rpartition("/")[0]
        for loop in self.over(file, path.name):
            other_node = loop.ours and loop.tag.rpartition("/")[0] != node
            if not other_node and not (loop.read_only and read_only):
                whose = "another volume of this node" if loop.ours else "nobody Brickwork knows"
                raise Terminal(
                    f"{path} is already attached as /dev/{loop.name}, by {whose}: detach that first (losetup -d /dev/{loop.name})"
                )

    def _configure(self, backing: int, path: Path, mark: str, read_only: bool) -> Loop:
        flags = _DIRECT_IO | (_READ_ONLY if read_only else 0)
        info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, mark.encode(), b"", b"", 0, 0)
        for _ in range(_ATTEMPTS):
            name = f"loop{self._free()}"
            with self._opened(name, os.O_RDONLY if read_only else os.O_RDWR) as device:
                try:
                    fcntl.ioctl(device, _CONFIGURE, _CONFIG.pack(backing, 0, info, *[0] * 8))
                except OSError as error:
                    if error.errno == errno.EBUSY:
                        continue  # somebody else was given the same number and was faster
                    if error.errno in (errno.EINVAL, errno.ENOTTY):
                        raise Terminal(
                            f"{path} can't back a loop device: {error.strerror} (needs Linux 5.8, and a file system that allows it)"
                        ) from error
                    raise
                return _read(device, name)
        raise Retryable(f"no loop device could be had for {path}: each free one was taken by somebody else first")

    def grow(self, name: str) -> None:
        """After an extension of the file the device keeps its size until it is told."""
        with self._opened(name, os.O_RDONLY) as device:
            fcntl.ioctl(device, _SET_CAPACITY)

    def probe(self) -> None:
        """Try what `attach` needs before it needs a file. Raises Terminal."""
        with self._opened(f"loop{self._free()}", os.O_RDWR):
            pass

    def _free(self) -> int:
        with _opened_node(self._roots.dev / "loop-control", os.O_RDWR) as control:
            return fcntl.ioctl(control, _CTL_GET_FREE)

    @contextlib.contextmanager
    def _opened(self, name: str, mode: int) -> Iterator[int]:
        node = self._roots.node(name)
        self._ensure_node(name, node)
        with _opened_node(node, mode) as device:
            yield device

    def _ensure_node(self, name: str, node: Path) -> None:
        """A container's /dev may lack the node of a device that the kernel just made."""
        if node.exists():
            return
        number = os.makedev(_MAJOR, int(name.removeprefix("loop")))
        try:
            os.mknod(node, stat.S_IFBLK | 0o600, number)
        except FileExistsError:
            pass
        except PermissionError as error:
            raise Terminal(
                f"{node} is missing and may not be made ({error.strerror}): allow mknod, or mount the host's /dev"
            ) from error

    # --- remove

    def clear(self, name: str, device: int) -> bool:
        """Remove the device through an open descriptor, which must then be closed for the removal to happen.

        Returns whether it will be gone by then: False when somebody else has it open; then it is as it was before.
        """
        fcntl.ioctl(device, _CLR_FD)
        try:
            info = bytearray(_INFO.size)
            fcntl.ioctl(device, _GET_STATUS64, info)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return True
            raise
        fields = list(_INFO.unpack(info))
        fields[8] &= ~_AUTOCLEAR
        fcntl.ioctl(device, _SET_STATUS64, _INFO.pack(*fields))
        return False


def check_rights(roots: Roots | None = None) -> None:
    """Whether this process may make loop devices. Raises Terminal, saying what is missing and the remedy."""
    roots = roots or Roots()
    status = sysfs.text(roots.proc / "self" / "status") or ""
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    if not int(effective, 16) >> _CAP_SYS_ADMIN & 1:
        raise Terminal(
            "loop devices need CAP_SYS_ADMIN, which this process lacks: run it as root, a container as privileged"
        )
    Loops(roots).probe()


def _read(device: int, name: str) -> Loop:
    info = bytearray(_INFO.size)
    fcntl.ioctl(device, _GET_STATUS64, info)
    number, inode, _, offset, limit, _, _, _, flags, file_name, *_ = _INFO.unpack(info)
    return Loop(
        name=name,
        file=(number, inode),
        tag=file_name.rstrip(b"\0").decode(errors="replace"),
        read_only=bool(flags & _READ_ONLY),
        whole=offset == 0 and limit == 0,
    )


def file_id(status: os.stat_result) -> tuple[int, int]:
    """(device, inode) as the kernel writes them in struct loop_info64 (`huge_encode_dev`)."""
    major, minor = os.major(status.st_dev), os.minor(status.st_dev)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12), status.st_ino


@contextlib.contextmanager
def _open_file(path: Path, read_only: bool) -> Iterator[int]:
    """Open a backing file. A link in its place is refused: whoever may write to a share could point it at any file of the host."""
    try:
        backing = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | _SAFELY)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Terminal(f"{path} is a symbolic link, not a volume's file") from error
        if error.errno in (errno.EISDIR, errno.ENXIO):
            raise Terminal(f"{path} is no plain file") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(backing).st_mode):
            raise Terminal(f"{path} is no plain file")
        yield backing
    finally:
        os.close(backing)


@contextlib.contextmanager
def _opened_node(node: Path, mode: int) -> Iterator[int]:
    try:
        device = os.open(node, mode | os.O_CLOEXEC)
    except FileNotFoundError as error:
        if node.name == "loop-control":
            raise Terminal(
                f"{node} is missing: load the module loop (modprobe loop), or give the container the host's /dev"
            ) from error
        raise
    except PermissionError as error:
        raise Terminal(
            f"no right to open {node} ({error.strerror}): loop devices need root; in a container, let its device rules allow {node}"
        ) from error
    try:
        yield device
    finally:
        os.close(device)
