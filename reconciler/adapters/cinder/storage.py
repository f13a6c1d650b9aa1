"""By what a driver's storage is known: the *mark* of `core.storage`.

Exactly for LVM (the group's uuid), RBD (the cluster's fsid and the pool's id), and everything that keeps files in folders of ours
or on shares: there it is a file of ours, one for each share. Drivers of arrays do not tell.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reconciler.core.storage import mark_of
from reconciler.runtime.ports import Terminal

FILE = ".brickwork-storage"
"""In each folder or share; holds an id, and belongs to the storage as long as that lives."""
_DRIVERS = "cinder.volume.drivers."
_log = logging.getLogger("reconciler.cinder")


def mark(driver: Any) -> str:
    """Of a driver that is set up; empty where that can't be told. Raises what reading it raises."""
    if folders := _folders(driver):
        return mark_of(filter(None, map(folder_id, folders)))
    if _is_a(driver, "lvm"):  # asked anew: the driver keeps what it found
        groups = driver.vg.get_all_volume_groups(driver.vg._root_helper, driver.vg.vg_name)
        return mark_of(f"lvm-{group['uuid']}" for group in groups)
    if _is_a(driver, "rbd"):
        return _ceph(driver)
    return ""


def has_any(driver: Any, volumes: Iterable[Any]) -> bool:
    """Whether the storage has one of these volumes' files; true where volumes are no files."""
    return not _folders(driver) or any(os.path.exists(driver.local_path(each)) for each in volumes)


def folder_id(folder: Path) -> str:
    """What is noted in the folder; a folder without is given an id. Empty: it can't be written."""
    path = folder / FILE
    with contextlib.suppress(FileNotFoundError):
        return _read(path)
    try:
        _make(path)
    except OSError as error:
        _log.warning("the storage in %s gets no mark, and will not be told from another: %s", folder, error)
        return ""
    return _read(path)


def _read(path: Path) -> str:
    text = path.read_text(errors="replace").strip()
    try:
        return f"files-{uuid.UUID(text)}"
    except ValueError:
        raise Terminal(f"{path} is not the mark that was put there: restore it, with the id that it held") from None


def _make(path: Path) -> None:
    """Whole or not at all, and never in the place of another."""
    new = path.with_name(f"{FILE}.{uuid.uuid4()}")
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with open(fd, "w") as file:
            os.fchmod(fd, 0o644)  # whatever the umask: other controllers read it, perhaps as another user
            file.write(f"{uuid.uuid4()}\n")
            file.flush()
            os.fsync(fd)
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _folders(driver: Any) -> list[Path]:
    """Where the driver keeps its files; none if it keeps none."""
    own = getattr(driver, "storage_folders", None)  # our own addition to Cinder's interface
    if callable(own):
        return [Path(folder) for folder in own()]
    if _is_a(driver, "remotefs"):
        return [Path(driver._get_mount_point_for_share(share)) for share in driver._mounted_shares]
    return []


def _ceph(driver: Any) -> str:
    """A pool that was renamed, with another in its place, has another id."""
    with sys.modules[f"{_DRIVERS}rbd"].RADOSClient(driver) as client:
        fsid = client.cluster.get_fsid()
        pool = client.cluster.pool_lookup(driver.configuration.rbd_pool)
    return f"rbd-{fsid.decode() if isinstance(fsid, bytes) else fsid}-{pool}"


def _is_a(driver: Any, module: str) -> bool:
    return any(kind.__module__ == _DRIVERS + module for kind in type(driver).__mro__)
