"""Cinder's own NFS driver, whole life cycle, across two worker processes that share nothing but the stored models.

No NFS server is needed: the driver takes a share for mounted when ``/proc/mounts`` says so, and a tmpfs can be mounted under
any device name. It needs root (to mount), `qemu-img` (the driver calls it) and `mount.nfs` (the driver looks for it), which
`make setup` brings.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.cinder.backend import CinderBackend
from reconciler.runtime.ports import Retryable
from tests.integration.cinder_backends import HOLDER, OTHER_UID, UID, Backends, backends, volume
from tests.integration.etcd_fixture import STATE

__all__ = ["backends"]

pytestmark = pytest.mark.root

GIB = 1 << 30
SHARE = "127.0.0.1:/export"


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The mounted share."""
    if os.geteuid() != 0:
        pytest.fail("this test mounts a tmpfs: run it as root")
    unpacked = STATE / "packages"
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{unpacked / 'sbin'}:{unpacked / 'usr/sbin'}")
    for tool in ("qemu-img", "mount.nfs"):
        if shutil.which(tool) is None:
            pytest.fail(f"Cinder's NFS driver needs {tool}: make setup")
    folder = tmp_path / "mnt" / hashlib.md5(SHARE.encode(), usedforsecurity=False).hexdigest()
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8G", SHARE, folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture(params=["raw", "qcow2"])
def options(request: pytest.FixtureRequest, share: Path) -> dict[str, Any]:
    return {
        "nas_host": "127.0.0.1",
        "nas_share_path": "/export",
        "nfs_mount_point_base": str(share.parent),
        "nas_secure_file_operations": "false",
        "nas_secure_file_permissions": "false",
        "nfs_snapshot_support": True,
        "nfs_qcow2_volumes": request.param == "qcow2",
    }


def opened(backends: Backends, options: dict[str, Any], *volumes: Any) -> CinderBackend:
    backend = backends.make("cinder.volume.drivers.nfs.NfsDriver", options)
    backend.open(volumes)
    return backend


@pytest.mark.setup
def test_a_life_across_two_processes(backends: Backends, options: dict[str, Any], share: Path) -> None:
    wanted = "qcow2" if options["nfs_qcow2_volumes"] else "raw"
    first = opened(backends, options)
    created = first.create(volume())
    assert created.model["provider_location"] == SHARE
    assert created.model["admin_metadata"] == {"format": wanted}  # the driver wrote it behind its return value
    grown = first.extend(volume(UID, created), 2)
    assert grown.size_gib == 2
    exported = first.export(volume(UID, grown, HOLDER), HOLDER)
    connected = first.connect(volume(UID, exported, HOLDER), HOLDER)
    assert connected.conn_info is not None
    assert connected.conn_info["driver_volume_type"] == "nfs"
    data = connected.conn_info["data"]
    assert (data["export"], data["format"], data["access_mode"]) == (SHARE, wanted, "rw")
    assert (share / data["name"]).exists()
    saved = json.loads(json.dumps(connected.model))
    first.kill()

    second = opened(backends, options, volume(UID, connected, HOLDER))
    held = volume(UID, connected, HOLDER)
    again = second.connect(held, HOLDER)
    assert (again.conn_info, again.model) == (connected.conn_info, saved)
    second.terminate(held, HOLDER)
    second.unexport(volume(UID, connected))
    second.delete(volume(UID, connected))
    second.delete(volume(UID, connected))
    assert list(share.glob("[!.]*")) == []


def test_the_size_that_was_asked_for_is_there(backends: Backends, options: dict[str, Any], share: Path) -> None:
    backend = opened(backends, options)
    backend.extend(volume(UID, backend.create(volume())), 3)
    (file,) = share.glob("[!.]*")
    told = subprocess.run(["qemu-img", "info", "--output=json", file], check=True, capture_output=True)
    assert json.loads(told.stdout)["virtual-size"] == 3 * GIB


def test_an_attached_volume_is_not_extended(backends: Backends, options: dict[str, Any]) -> None:
    """The driver refuses, because it sees the attachment."""
    backend = opened(backends, options)
    held = volume(UID, backend.create(volume()), HOLDER)
    with pytest.raises(Retryable, match="xtend"):
        backend.extend(held, 2)


def test_two_volumes_do_not_share_a_file(backends: Backends, options: dict[str, Any], share: Path) -> None:
    backend = opened(backends, options)
    first, _ = backend.create(volume()), backend.create(volume(OTHER_UID))
    assert len(list(share.glob("[!.]*"))) == 2
    backend.delete(volume(UID, first))
    assert [OTHER_UID in file.name for file in share.glob("[!.]*")] == [True]
