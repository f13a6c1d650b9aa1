"""The stable links: ``<link folder>/<volume>``, the paths that users use.

A link is made only after its device was verified and taken away before the device goes, so a link that is there leads to the
promised volume. One folder belongs to one node: where several node daemons share a host, each has its own folder, and a
marker file in it says whose it is. The folder lies under /dev, so a reboot takes links and marker along with the devices.

For mount units there is a second folder outside /dev: for a path under /dev systemd would wait for a device unit, which comes of
udev's links only. That folder is a convenience: where it can't be used, nothing else waits.

Nothing that is not ours is replaced or followed: neither a folder that is a link itself, nor another's link of a volume's name.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import stat
from pathlib import Path

from reconciler.runtime.ports import LinkTaken, Terminal

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_OWNER = ".owner"
"""Begins with a dot, so no volume can have this name."""


class Links:
    """The stable links of one node.

    Args:
        folder: made when it is missing, with mode 755.
        owner: which node it is, as `ConnectorSettings.owner` says.
        dev: where devices are: what leads elsewhere is no link of ours.
        mounts: the second folder.
    """

    def __init__(self, folder: Path, owner: str, dev: Path = Path("/dev"), mounts: Path | None = None) -> None:
        self._folder = folder
        self._node = owner
        self._dev = dev
        self._second = Links(mounts, owner, dev) if mounts is not None and mounts != folder else None
        self._told = ""

    def path(self, volume: str) -> Path:
        """Where the link of a volume is, or would be. Raises Terminal for a name that is no file name of ours."""
        if not _NAME.fullmatch(volume):
            raise Terminal(
                f"{volume!r} is no name for a volume: letters, digits, '.', '_' and '-', beginning with a letter or digit"
            )
        return self._folder / volume

    def target(self, volume: str) -> Path | None:
        """The device that the link names, which may be gone by now. None: there is no link of ours."""
        link = self.path(volume)
        return self._device_of(link) if self._is_folder() else None

    def _device_of(self, link: Path) -> Path | None:
        try:
            device, uid = Path(os.readlink(link)), os.lstat(link).st_uid
        except OSError:
            return None
        return device if uid == os.geteuid() and device.is_relative_to(self._dev) else None

    def _is_folder(self) -> bool:
        try:
            return stat.S_ISDIR(os.lstat(self._folder).st_mode)
        except OSError:
            return False

    def check(self, volume: str) -> None:
        """Raises LinkTaken when the volume could not be published, before anything is connected for it."""
        self.own()
        self._refuse_strangers(self.path(volume))

    def publish(self, volume: str, device: Path) -> Path:
        """Make the link lead to a verified device, in one step, whatever it led to before; returns its path.

        Raises LinkTaken when something that is no link of ours has its name, and when the folder is another node's.
        """
        link = self.path(volume)
        self.own()
        if self.target(volume) != device:
            try:
                os.symlink(device, link)  # Alone enough for a first link, and it can't replace anything.
            except FileExistsError:
                self._replace(link, device)
            except OSError as error:
                raise LinkTaken(f"{link} can't be made: {error.strerror}; the device was not published") from error
        if self._second is not None:
            self._beside(self._second, volume, device)
        return link

    def _beside(self, second: Links, volume: str, device: Path | None) -> None:
        try:
            if device is None:
                second.withdraw(volume)
            else:
                second.publish(volume, device)
        except (Terminal, OSError) as error:
            if str(error) != self._told:
                self._told = str(error)
                _LOG.warning("no link for mount units: %s", error)

    def withdraw(self, volume: str) -> None:
        """Take the link away. Nothing happens when there is none, or when something that is no link of ours has its name."""
        link = self.path(volume)
        if self._second is not None:
            self._beside(self._second, volume, None)
        if self.target(volume) is not None and self._owner() in (self._node, None):
            link.unlink(missing_ok=True)

    def own(self) -> None:
        """Make the folder this node's. Raises LinkTaken when it can't be: two nodes would take each other's links away."""
        try:
            with contextlib.suppress(FileExistsError):
                self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            if not self._is_folder():  # asked last: another volume's thread may have made it just now
                raise LinkTaken(
                    f"the link folder {self._folder} is a link or a file, which is not followed: remove it, and it is made anew"
                )
            self._folder.chmod(0o755)  # the links are for everybody, whatever this process's umask
            owner = self._owner() or self._mark()
        except (OSError, UnicodeDecodeError) as error:
            raise LinkTaken(f"the link folder {self._folder} can't be used: {error}") from error
        if owner != self._node:
            raise LinkTaken(
                f"the link folder {self._folder} belongs to node {owner} on this host: give each node a link_folder of its own,"
                f" or remove {self._folder / _OWNER} when that node is no more"
            )

    def _owner(self) -> str | None:
        try:
            return (self._folder / _OWNER).read_text().strip()
        except FileNotFoundError:
            return None

    def _mark(self) -> str:
        """Write whose folder it is, unless another node is faster. Returns whose it is now."""
        draft = self._folder / f"{_OWNER}-{secrets.token_hex(8)}"
        draft.write_text(f"{self._node}\n")
        try:
            with contextlib.suppress(FileExistsError):
                os.link(draft, self._folder / _OWNER)  # Unlike a rename it never replaces what is there.
        finally:
            draft.unlink()
        return self._owner() or self._node

    def _replace(self, link: Path, device: Path) -> None:
        self._refuse_strangers(link)
        draft = draft_of(link)
        draft.unlink(missing_ok=True)  # a crash may have left it
        os.symlink(device, draft)
        try:
            os.rename(draft, link)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def _refuse_strangers(self, link: Path) -> None:
        if os.path.lexists(link) and self._device_of(link) is None:
            what = "leads elsewhere or is another user's" if link.is_symlink() else "is no link"
            raise LinkTaken(
                f"{link} exists and {what}: it is not Brickwork's, so it stays; remove it or choose another link_folder"
            )


def draft_of(link: Path) -> Path:
    """The name that a link has for the moment before it replaces another. Begins with a dot, so no volume can have it."""
    return link.with_name(f".{hashlib.sha256(link.name.encode()).hexdigest()[:16]}.new")
