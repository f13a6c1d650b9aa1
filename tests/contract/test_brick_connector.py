"""The connector's contract on real loop devices, and what only the real one can show: processes, deadlines, shares, secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.contract.connector_contract")

from reconciler.adapters.brick.connector import BrickConnector, ConnectorSettings, Deadlines  # noqa: E402
from reconciler.adapters.brick.loop import check_rights  # noqa: E402
from reconciler.runtime.ports import (  # noqa: E402
    Busy,
    Device,
    PortError,
    Retryable,
    Target,
    Terminal,
    UnknownOutcome,
    Unsupported,
)
from tests.contract.connector_contract import ConnectorContract  # noqa: E402
from tests.integration import brick_host  # noqa: E402

pytestmark = [pytest.mark.root, brick_host.needs_loop_devices]

BIND_MOUNT = 'for last; do :; done; exec /bin/mount --bind "$SERVER" "$last"'


class FileRig:
    """One node; its volumes are files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = brick_host.settings(folder)
        self.log: list[str] = []
        self.connector = self._new()

    def _new(self, settings: ConnectorSettings | None = None) -> BrickConnector:
        return BrickConnector(settings or self.settings, log=self.log.append)

    def change(self, **settings: object) -> BrickConnector:
        """The same node with other settings."""
        self.connector.kill()
        self.connector = self._new(self.settings.model_copy(update=settings))
        return self.connector

    def volume(self, name: str) -> Target:
        return brick_host.file_volume(self.folder, name)

    def grow(self, target: Target) -> Target:
        assert target.size_bytes is not None
        os.truncate(target.conn_info["data"]["device_path"], 2 * target.size_bytes)
        return replace(target, size_bytes=2 * target.size_bytes)

    def use(self, device: Device) -> AbstractContextManager[object]:
        return open(device.path, "rb")

    def published(self) -> list[str]:
        links = self.settings.link_folder
        return sorted(path.name for path in links.iterdir() if path.is_symlink()) if links.exists() else []

    def restart(self) -> None:
        """What a SIGKILL of the daemon does: the worker sees its pipe close and is killed by its keeper."""
        self.connector.kill()
        self.connector = self._new()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[FileRig]:
    with brick_host.cleaned(tmp_path):
        rig = FileRig(tmp_path)
        yield rig
        rig.connector.kill()


class TestBrickConnector(ConnectorContract):
    """All of the contract."""


# --- the process


def test_the_daemon_s_side_loads_nothing_foreign() -> None:
    script = "import sys, reconciler.adapters.brick.connector; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert "pydantic" in loaded
    assert not {"os_brick", "eventlet", "oslo_config", "oslo_concurrency", "oslo_log", "oslo_privsep"} & set(loaded)


def test_a_worker_that_only_makes_loop_devices_does_not_load_os_brick(rig: FileRig) -> None:
    rig.connector.connect(rig.volume("v"))
    maps = [path.read_text() for path in Path("/proc").glob("[0-9]*/maps") if _is_worker(path.parent, rig)]
    assert maps
    assert not any("oslo" in text or "greenlet" in text for text in maps)


def test_the_worker_leaves_its_temporary_files_in_a_folder_of_ours(rig: FileRig) -> None:
    """F-K: os-brick makes keyrings of RBD with `tempfile`, and a worker that is killed leaves them behind."""
    rig.connector.connect(rig.volume("v"))
    environments = [
        path.read_bytes().split(b"\0") for path in Path("/proc").glob("[0-9]*/environ") if _is_worker(path.parent, rig)
    ]
    assert environments
    assert all(f"TMPDIR={rig.settings.temporary_folder}".encode() in each for each in environments)


def _is_worker(process: Path, rig: FileRig) -> bool:
    return str(rig.settings.state_folder).encode() in _command_line(process)


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_call_beyond_its_deadline_is_killed_with_all_that_it_started(
    rig: FileRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that hangs, as of a dead server."""
    brick_host.fake_mount(rig.folder, monkeypatch.setenv, f"echo $$ > {rig.folder}/pid; exec sleep 600")
    connector = rig.change(deadlines_s=Deadlines(connect=3.0))
    with pytest.raises(UnknownOutcome, match="connect"):
        connector.connect(share_volume(rig.folder / "server", "v"))
    assert not alive(int((rig.folder / "pid").read_text()))
    assert connector.inspect(share_volume(rig.folder / "server", "v"), None) is None


def alive(pid: int) -> bool:
    """A zombie is dead: it waits for a parent that may be slow, or none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] != "Z"
    except OSError:
        return False


def test_a_successor_ends_the_worker_of_a_dead_daemon(rig: FileRig) -> None:
    target = rig.volume("v")
    old = rig.connector
    old.connect(target)
    rig.connector = BrickConnector(rig.settings, log=rig.log.append)
    rig.connector.inspect(target, None)
    with pytest.raises((UnknownOutcome, Retryable)):
        old._child.call("inspect", {}, 10)
    old.kill()


def test_os_brick_has_what_is_relied_on_beyond_its_interface() -> None:
    """Where it keeps shares, and what its connectors call to clean up. In a process of its own, as always."""
    script = """
from pathlib import Path
from reconciler.adapters.brick import library
from reconciler.adapters.brick.settings import ConnectorSettings
base = Path("/base")
ours = library.OsBrick(ConnectorSettings(node="n", state_folder=base, my_ip="::1", mount_point_base=base, lock_path="/tmp"))
remote = ours._connector("nfs", {}, False)._remotefsclient
assert ours.mount_point("server:/export") == Path(remote.get_mount_point("server:/export"))
for protocol, method in library._CLEAN_UP.items():
    library._disable(ours._connector(protocol, {}, False), method)
library._method(ours._connector("iscsi", {}, False), "_disconnect_connection")
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


# --- data


def test_what_was_written_is_in_the_file_after_the_disconnect(rig: FileRig) -> None:
    target = rig.volume("v")
    device = rig.connector.connect(target)
    with open(device.path, "r+b", buffering=0) as file:
        file.write(b"written")
    rig.connector.disconnect(target, device.details)
    assert Path(str(target.identity)).read_bytes().startswith(b"written")


def test_a_read_only_device_refuses_writes(rig: FileRig) -> None:
    device = rig.connector.connect(replace(rig.volume("v"), read_only=True))
    with pytest.raises(OSError, match=r"not permitted|Read-only"), open(device.path, "r+b", buffering=0) as file:
        file.write(b"x" * 512)


def test_a_volume_that_the_storage_gives_read_only_is_so(rig: FileRig) -> None:
    target = rig.volume("v")
    data = {**target.conn_info["data"], "access_mode": "ro"}
    assert rig.connector.connect(replace(target, conn_info={**target.conn_info, "data": data})).read_only


# --- shares


def share_volume(server: Path, name: str, **more: object) -> Target:
    """A volume on an NFS share. The connection carries the controller's mount point base, as Cinder's does."""
    server.mkdir(exist_ok=True)
    with open(server / name, "ab") as file:
        file.truncate(brick_host.SIZE)
    data = {"export": "server:/export", "name": name, "options": None, "format": "raw", **more}
    conn_info = {"driver_volume_type": "nfs", "data": data, "mount_point_base": "/var/lib/cinder/mnt"}
    return Target(name, conn_info, False, brick_host.SIZE, f"/var/lib/cinder/mnt/aa/{name}")


def mount_points(rig: FileRig) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [
        point for point in (line.split()[4] for line in lines) if point.startswith(str(rig.settings.mount_point_base))
    ]


def test_a_share_is_mounted_for_its_first_volume_and_unmounted_after_its_last(
    rig: FileRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = brick_host.fake_mount(rig.folder, monkeypatch.setenv, BIND_MOUNT)
    first, second = share_volume(server, "volume-1"), share_volume(server, "volume-2")
    device = rig.connector.connect(first)
    assert device.device.startswith("/dev/loop")
    assert device.identity == "server:/export/volume-1"
    rig.connector.connect(second)
    assert len(mount_points(rig)) == 1
    rig.connector.disconnect(first, device.details)
    assert len(mount_points(rig)) == 1
    rig.connector.disconnect(second, None)
    assert mount_points(rig) == []
    assert rig.connector.inspect(first, None) is None


def test_a_share_that_cannot_be_mounted_says_why(rig: FileRig, monkeypatch: pytest.MonkeyPatch) -> None:
    server = brick_host.fake_mount(
        rig.folder, monkeypatch.setenv, "echo mount.nfs: access denied by server >&2; exit 32"
    )
    with pytest.raises(Retryable, match="access denied by server"):
        rig.connector.connect(share_volume(server, "v"))


def test_a_qcow2_file_is_refused(rig: FileRig, monkeypatch: pytest.MonkeyPatch) -> None:
    server = brick_host.fake_mount(rig.folder, monkeypatch.setenv, BIND_MOUNT)
    with pytest.raises(Unsupported, match="qcow2"):
        rig.connector.connect(share_volume(server, "v", format="qcow2"))
    assert brick_host.loops_under(rig.folder) == []


def test_a_link_that_the_server_put_in_the_place_of_the_file_is_not_followed(
    rig: FileRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever writes to the share could have any file of this host attached, and written to."""
    server = brick_host.fake_mount(rig.folder, monkeypatch.setenv, BIND_MOUNT)
    target = share_volume(server, "v")
    (server / "v").unlink()
    (server / "v").symlink_to("/etc/passwd")
    with pytest.raises(Terminal, match="symbolic link"):
        rig.connector.connect(target)


@pytest.mark.parametrize("name", ["../v", "/etc/passwd", ""])
def test_a_name_that_leads_out_of_the_share_is_refused(rig: FileRig, name: str) -> None:
    target = share_volume(rig.folder, "v")
    data = {**target.conn_info["data"], "name": name}
    with pytest.raises(Terminal):
        rig.connector.connect(replace(target, conn_info={**target.conn_info, "data": data}))


# --- secrets


def test_no_secret_leaves_the_worker(rig: FileRig) -> None:
    secrets = ["canary-chap", "canary-discovery", "canary-keyring"]
    data = {
        "target_portal": "127.0.0.1:1",
        "target_iqn": "iqn.2010-10:x",
        "target_lun": 0,
        "auth_method": "CHAP",
        "auth_username": "u",
    }
    data |= dict(zip(["auth_password", "discovery_auth_password", "keyring"], secrets, strict=True))
    target = Target("v", {"driver_volume_type": "iscsi", "data": data}, False, None, None)
    with pytest.raises(PortError) as caught:
        rig.connector.connect(target)
    lines = [str(caught.value), *rig.log]
    lines += [
        _command_line(path).decode(errors="replace") for path in Path("/proc").glob("[0-9]*") if _is_worker(path, rig)
    ]
    assert not [line for line in lines for secret in secrets if secret in line]


# --- made-up devices


def test_made_up_devices_are_refused_unless_the_settings_say_so(rig: FileRig) -> None:
    target = Target("v", {"driver_volume_type": "noop", "data": {}}, False, 5 << 30, "noop-v")
    with pytest.raises(Unsupported):
        rig.connector.connect(target)
    connector = rig.change(allow_noop=True)
    assert connector.inspect(target, None) is None
    device = connector.connect(target)
    assert (device.size_bytes, device.identity) == (5 << 30, "noop-v")
    assert connector.inspect(target, device.details) == device
    connector.disconnect(target, device.details)
    assert connector.inspect(target, None) is None
    assert rig.published() == []


# --- rights


def test_with_all_rights_the_check_passes() -> None:
    check_rights()


def test_without_the_capability_the_check_says_so() -> None:
    script = "from reconciler.adapters.brick.loop import check_rights; check_rights()"
    done = subprocess.run(
        ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert "Terminal: loop devices need CAP_SYS_ADMIN" in done.stderr


# --- two nodes on one host


def test_two_nodes_on_one_host_have_a_device_each(rig: FileRig) -> None:
    """A shared volume, attached on both: each finds, verifies and removes its own device only."""
    target = rig.volume("v")
    other = BrickConnector(brick_host.settings(rig.folder, "n2"), log=rig.log.append)
    try:
        mine, theirs = rig.connector.connect(target), other.connect(target)
        assert mine.device != theirs.device
        assert (rig.connector.inspect(target, None), other.inspect(target, None)) == (mine, theirs)
        with rig.use(mine):
            other.disconnect(target, None)
            with pytest.raises(Busy):
                rig.connector.disconnect(target, None)
        assert other.inspect(target, mine.details) is None
        other.disconnect(target, mine.details)
        assert rig.connector.inspect(target, None) == mine
    finally:
        other.kill()


def test_two_nodes_cannot_share_a_link_folder(rig: FileRig) -> None:
    target = rig.volume("v")
    rig.connector.connect(target)
    other = BrickConnector(
        brick_host.settings(rig.folder, "n2", link_folder=rig.settings.link_folder), log=rig.log.append
    )
    try:
        with pytest.raises(Terminal, match="belongs to node n1"):
            other.connect(target)
        assert other.inspect(target, None) is None
    finally:
        other.kill()
    assert rig.published() == ["v"]
