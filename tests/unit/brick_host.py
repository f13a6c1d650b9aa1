"""A host that exists only as files: what sysfs, /proc and /dev would say, laid out as the kernel does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.adapters.brick.sysfs import SECTOR, Roots


class FakeHost:
    """Builds the views; a test removes from them what shall be gone."""

    def __init__(self, folder: Path) -> None:
        self.roots = Roots(folder / "sys", folder / "proc", folder / "dev")
        for path in (self.roots.sys / "class" / "block", self.roots.proc, self.roots.dev):
            path.mkdir(parents=True)
        self._minor = 0
        self.process(os.getpid(), "worker", namespace="host")

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    # --- block devices

    def disk(self, name: str, *, size_bytes: int = 1 << 20, **attributes: str) -> Path:
        """Attributes' double underscores are slashes: ``device__wwid="naa.6001"``."""
        folder = self.roots.block(name)
        self._minor += 1
        self.write(folder / "dev", f"8:{self._minor}")
        self.write(folder / "size", str(size_bytes // SECTOR))
        self.write(folder / "ro", "0")
        for attribute, text in attributes.items():
            self.write(folder / attribute.replace("__", "/"), text)
        for sub in ("holders", "slaves"):
            (folder / sub).mkdir()
        (self.roots.dev / name).write_bytes(b"\0" * SECTOR)
        return folder

    def scsi(self, name: str, wwid: str, *, size_bytes: int = 1 << 20, state: str = "running") -> Path:
        return self.disk(name, size_bytes=size_bytes, device__wwid=wwid, device__state=state)

    def partition(self, disk: str, name: str) -> None:
        self.disk(name, partition="1")
        (self.roots.block(disk) / name).symlink_to(self.roots.block(name))

    def stack(self, upper: str, lower: Sequence[str], *, uuid: str = "", label: str = "") -> None:
        """A device-mapper map over others."""
        self.disk(upper, dm__uuid=uuid, dm__name=label)
        for name in lower:
            self.join(upper, name)

    def join(self, upper: str, lower: str) -> None:
        """One more below a map."""
        (self.roots.block(lower) / "holders" / upper).mkdir()
        (self.roots.block(upper) / "slaves" / lower).mkdir()

    def iscsi_lun(self, session: int, iqn: str, lun: int, disk: str, portal: str = "") -> None:
        folder = self.session(session, iqn, portal)
        (folder / "device" / f"target{session}:0:0" / f"{session}:0:0:{lun}" / "block" / disk).mkdir(parents=True)

    def session(self, number: int, iqn: str, portal: str = "") -> Path:
        folder = self.roots.sys / "class" / "iscsi_session" / f"session{number}"
        self.write(folder / "targetname", iqn)
        if portal:
            address, _, port = portal.rpartition(":")
            connection = folder / "device" / f"connection{number}:0" / "iscsi_connection" / f"connection{number}:0"
            self.write(connection / "persistent_address", address)
            self.write(connection / "persistent_port", port)
        return folder

    def fc_lun(self, target: str, wwpn: str, lun: int, disk: str) -> None:
        folder = self.roots.sys / "class" / "fc_transport" / f"target{target}"
        self.write(folder / "port_name", f"0x{wwpn}")
        (folder / "device" / f"{target}:{lun}" / "block" / disk).mkdir(parents=True)

    # --- processes

    def process(
        self,
        pid: int,
        name: str,
        *,
        namespace: str,
        mounts: Sequence[str] = (),
        files: Mapping[int, tuple[str, int]] | None = None,
    ) -> None:
        """`mounts` are lines of mountinfo; `files` maps a descriptor to its path and to the id of the mount it lies on."""
        folder = self.roots.proc / str(pid)
        self.write(folder / "comm", name)
        self.write(folder / "mountinfo", "\n".join(mounts))
        (folder / "ns").mkdir(exist_ok=True)
        (folder / "ns" / "mnt").unlink(missing_ok=True)
        (folder / "ns" / "mnt").symlink_to(f"mnt:[{namespace}]")
        if pid == os.getpid():
            (self.roots.proc / "self").unlink(missing_ok=True)
            (self.roots.proc / "self").symlink_to(folder)
        (folder / "fd").mkdir(exist_ok=True)
        for descriptor, (path, mount_id) in (files or {}).items():
            (folder / "fd" / str(descriptor)).symlink_to(path)
            self.write(folder / "fdinfo" / str(descriptor), f"pos:\t0\nflags:\t02\nmnt_id:\t{mount_id}\nino:\t5")
