"""The stable links: ``<link folder>/<volume>``, the paths that users use.

A link is made only after its device was verified and taken away before the device goes, so a link that is there leads to the
promised volume. One folder belongs to one node: where several node daemons share a host, each has its own folder, and a
marker file in it says whose it is. The folder lies under /dev, so a reboot takes links and marker along with the devices.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from pathlib import Path

from reconciler.runtime.ports import Terminal

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_OWNER = ".owner"
"""Begins with a dot, so no volume can have this name."""


class Links:
    """The stable links of one node.

    Args:
        folder: made when it is missing, with mode 755.
        owner: which node it is, as `ConnectorSettings.owner` says.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder = folder
        self._node = owner

    def path(self, volume: str) -> Path:
        """Where the link of a volume is, or would be. Raises Terminal for a name that is no file name of ours."""
        if not _NAME.fullmatch(volume):
            raise Terminal(
                f"{volume!r} is no name for a volume: letters, digits, '.', '_' and '-', beginning with a letter or digit"
            )
        return self._folder / volume

    def target(self, volume: str) -> Path | None:
        """The device that the link names, which may be gone by now. None: there is no link."""
        try:
            return Path(os.readlink(self.path(volume)))
        except OSError:
            return None

    def publish(self, volume: str, device: Path) -> Path:
        """Make the link lead to a verified device, in one step, whatever it led to before; returns its path.

        Raises Terminal when something that is no link has its name, and when the folder is another node's.
        """
        link = self.path(volume)
        self.own()
        if self.target(volume) == device:
            return link
        try:
            os.symlink(device, link)  # Alone enough for a first link, and it can't replace anything.
        except FileExistsError:
            self._replace(link, device)
        return link

    def withdraw(self, volume: str) -> None:
        """Take the link away. Nothing happens when there is none, or when something that is no link of ours has its name."""
        link = self.path(volume)
        if self.target(volume) is not None and self._owner() in (self._node, None):
            link.unlink(missing_ok=True)

    def own(self) -> None:
        """Make the folder this node's. Raises Terminal when it belongs to another: two nodes would take each other's links away."""
        self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        owner = self._owner() or self._mark()
        if owner != self._node:
            raise Terminal(
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
        if not link.is_symlink():
            raise Terminal(
                f"{link} exists and is no link: it is not Brickwork's, so it stays; remove it or choose another link_folder"
            )
        draft = draft_of(link)
        draft.unlink(missing_ok=True)  # a crash may have left it
        os.symlink(device, draft)
        try:
            os.rename(draft, link)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def draft_of(link: Path) -> Path:
    """The name that a link has for the moment before it replaces another. Begins with a dot, so no volume can have it."""
    return link.with_name(f".{hashlib.sha256(link.name.encode()).hexdigest()[:16]}.new")
