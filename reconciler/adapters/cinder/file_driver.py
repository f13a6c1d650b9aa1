"""A Cinder driver for machines without storage: each volume is a sparse file in a folder, attached as a loop device.

It is real storage, for a machine whose nodes are the machine itself (or share the folder). Every operation may be repeated at
any point: each file carries its volume's id in its name, is made without ever replacing another, and only ever grows.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import stat
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from cinder import exception
from cinder.volume import configuration, driver
from oslo_config import cfg

GIB = 1 << 30
CLIENTS = ".exports"
"""Below the driver's folder: who each volume is mapped to."""
OPTIONS: list[cfg.Opt] = [
    cfg.StrOpt("file_driver_folder", help="The folder of the volumes. It must exist, and be private to root")
]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)


class FileDriver(driver.VolumeDriver):  # type: ignore[misc]
    """conn_info is ``local`` with ``device_path``, the file, and ``size`` in bytes."""

    VERSION = "1.0"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTIONS)

    @staticmethod
    def get_driver_options() -> list[cfg.Opt]:
        return OPTIONS

    def check_for_setup_error(self) -> None:
        folder = self.configuration.file_driver_folder
        if not folder:
            raise exception.InvalidConfigurationValue(option="file_driver_folder", value=folder)
        if not Path(folder).is_dir():
            raise exception.VolumeBackendAPIException(data=f"the folder {folder} does not exist")
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise exception.VolumeBackendAPIException(data=f"no permission to write to the folder {folder}")

    def storage_folders(self) -> list[Path]:
        """Brickwork's addition to Cinder's interface: where the mark of the storage is kept."""
        return [self._folder]

    def local_path(self, volume: Any) -> str:
        return str(self._path(volume))

    @property
    def _folder(self) -> Path:
        return Path(self.configuration.file_driver_folder)

    def _path(self, volume: Any) -> Path:
        return self._folder / str(volume.name)

    def get_volume_stats(self, refresh: bool = False) -> dict[str, Any]:
        space = os.statvfs(self._folder)
        pool = {
            "pool_name": "files",
            "total_capacity_gb": round(space.f_blocks * space.f_frsize / GIB, 2),
            "free_capacity_gb": round(space.f_bavail * space.f_frsize / GIB, 2),
            "multiattach": True,
            "thin_provisioning_support": True,
            "reserved_percentage": 0,
        }
        name = self.configuration.safe_get("volume_backend_name")
        return {
            "volume_backend_name": name,
            "vendor_name": "Brickwork",
            "driver_version": self.VERSION,
            "storage_protocol": "local",
            "pools": [pool],
        }

    # --- Provisioning ----------------------------------------------------------------------------------------------------

    def create_volume(self, volume: Any) -> None:
        """The name holds the volume's id: a file that is there already is from an earlier try, and kept."""
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path(volume), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        self._grow(volume, volume.size)
        self._sync_folder()

    def extend_volume(self, volume: Any, new_size: int) -> None:
        self._grow(volume, new_size)

    def _grow(self, volume: Any, size_gib: int) -> None:
        """Never shrinks: a repeated call may find a file that has grown since."""
        try:
            fd = os.open(self._path(volume), os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise exception.VolumeNotFound(volume_id=volume.id) from None
        try:
            if os.fstat(fd).st_size < size_gib * GIB:
                os.ftruncate(fd, size_gib * GIB)
                os.fsync(fd)
        finally:
            os.close(fd)

    def delete_volume(self, volume: Any) -> None:
        self._path(volume).unlink(missing_ok=True)
        self._sync_folder()

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    # --- Taking over files -----------------------------------------------------------------------------------------------

    def manage_existing_get_size(self, volume: Any, existing_ref: dict[str, Any]) -> int:
        return math.ceil(self._referenced(existing_ref).stat().st_size / GIB)

    def manage_existing(self, volume: Any, existing_ref: dict[str, Any]) -> None:
        """Give the file the volume's name, by a link, which fails where a rename would replace a file."""
        source, path = self._referenced(existing_ref), self._path(volume)
        if source != path:
            with contextlib.suppress(FileExistsError):  # an earlier try got as far as this
                os.link(source, path, follow_symlinks=False)
            if not source.samefile(path):
                reason = f"the volume has another file already, {path.name}"
                raise exception.ManageExistingInvalidReference(existing_ref=existing_ref, reason=reason)
            source.unlink()
        self._grow(volume, math.ceil(path.stat().st_size / GIB))  # devices come in whole GiB
        self._sync_folder()

    def _referenced(self, existing_ref: dict[str, Any]) -> Path:
        name = str(existing_ref.get("source-name", ""))
        path = self._folder / name
        if not name or "/" in name or name.startswith("."):
            reason = "source-name must be the name of a file in the driver's folder"
        elif not path.exists() or not stat.S_ISREG(path.lstat().st_mode):
            reason = f"there is no file {name} in the driver's folder"
        else:
            return path
        raise exception.ManageExistingInvalidReference(existing_ref=existing_ref, reason=reason)

    # --- Attaching: a file needs no export, but who may use it is noted, as an array would --------------------------------

    def _clients(self, volume: Any) -> Path:
        """One empty file for each host that the volume is mapped to."""
        return self._folder / CLIENTS / str(volume.id)

    def list_exports(self) -> list[tuple[str, str]]:
        """Brickwork's addition to Cinder's interface: (volume id, host) of everything that is mapped."""
        return [(path.parent.name, unquote(path.name)) for path in (self._folder / CLIENTS).glob("*/*")]

    def ensure_export(self, context: Any, volume: Any) -> None:
        pass

    def create_export(self, context: Any, volume: Any, connector: dict[str, Any]) -> None:
        pass

    def remove_export(self, context: Any, volume: Any) -> None:
        shutil.rmtree(self._clients(volume), ignore_errors=True)

    def validate_connector(self, connector: dict[str, Any]) -> None:
        pass

    def initialize_connection(self, volume: Any, connector: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        path = self._path(volume)
        if not path.exists():
            raise exception.VolumeNotFound(volume_id=volume.id)
        self._clients(volume).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._client(volume, connector).touch()
        return {"driver_volume_type": "local", "data": {"device_path": str(path), "size": path.stat().st_size}}

    def terminate_connection(self, volume: Any, connector: dict[str, Any], **kwargs: Any) -> None:
        self._client(volume, connector).unlink(missing_ok=True)

    def _client(self, volume: Any, connector: dict[str, Any]) -> Path:
        return self._clients(volume) / quote(connector["host"], safe="")
