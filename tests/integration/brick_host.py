"""Nodes on this real host, for tests: files as volumes, loop devices, and everything cleaned up whatever the test did."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.adapters.brick import loop, mounts, sysfs
from reconciler.adapters.brick.settings import ConnectorSettings
from reconciler.adapters.brick.sysfs import Roots
from reconciler.runtime.ports import Device, Target

SIZE = 16 << 20

needs_loop_devices = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/loop-control").exists(), reason="needs root and /dev/loop-control"
)


def settings(folder: Path, node: str = "n1", **more: object) -> ConnectorSettings:
    """A node daemon's settings, all its folders under one."""
    home = folder / node
    values = {
        "node": node,
        "state_folder": home / "state",
        "temporary_folder": home / "tmp",
        "my_ip": "127.0.0.1",
        "link_folder": home / "links",
        "lock_path": folder / "locks",
        "mount_point_base": home / "mounts",
        "protocols": ("local", "nfs", "glusterfs", "iscsi"),
        "local_folders": (folder,),
    }
    return ConnectorSettings.model_validate(values | more)


def file_volume(folder: Path, name: str, size: int = SIZE) -> Target:
    """A new volume that is a file, as our own file backend exports it."""
    path = folder / f"{name}.img"
    with open(path, "wb") as file:
        file.truncate(size)
    return Target(name, {"driver_volume_type": "local", "data": {"device_path": str(path)}}, False, size, str(path))


def loops_under(folder: Path) -> list[str]:
    """The loop devices over files in a folder, deleted ones included."""
    roots = Roots()
    backing = {name: sysfs.text(roots.block(name) / "loop" / "backing_file") or "" for name in sysfs.disks(roots)}
    return [name for name, path in backing.items() if path.startswith(f"{folder}/")]


def mark(folder: Path) -> str:
    """The tag of the first node's device."""
    return loop.tag(settings(folder).owner, "v")


def attribute(device: Device, name: str) -> str:
    return (Path("/sys/class/block") / Path(device.device).name / name).read_text().strip()


def run(*command: object) -> str:
    """A program that must succeed."""
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def cleaned(folder: Path) -> Iterator[Path]:
    """Unmount and detach everything that has to do with the folder, even when the test failed half-way."""
    try:
        yield folder
    finally:
        points = [mount.point for mount in mounts.of_process(Roots()) if mount.point.startswith(f"{folder}/")]
        for point in reversed(points):
            subprocess.run(["umount", point], check=False, capture_output=True)
        for name in loops_under(folder):
            subprocess.run(["swapoff", f"/dev/{name}"], check=False, capture_output=True)
            subprocess.run(["losetup", "-d", f"/dev/{name}"], check=False, capture_output=True)


Setter = Callable[[str, str], None]


def fake_mount(folder: Path, setenv: Setter, script: str) -> Path:
    """Put a program `mount` first on the PATH, for os-brick to call. Returns the folder that it gets as ``$SERVER``."""
    programs, server = folder / "bin", folder / "server"
    programs.mkdir()
    server.mkdir()
    (programs / "mount").write_text(f"#!/bin/sh\nSERVER={server}\n{script}\n")
    (programs / "mount").chmod(0o755)
    setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return server
