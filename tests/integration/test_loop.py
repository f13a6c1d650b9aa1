"""Loop devices on this kernel: whose they are, what backs them, who uses them, and that they are gone when we say so."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.adapters.brick import loop, sysfs
from reconciler.adapters.brick.host import Host
from reconciler.adapters.brick.sysfs import Roots
from reconciler.runtime.ports import Busy, Device, IdentityMismatch, Target, Terminal
from tests.integration import brick_host
from tests.integration.brick_host import SIZE, attribute, loops_under, mark, run

pytestmark = [pytest.mark.root, brick_host.needs_loop_devices]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with brick_host.cleaned(tmp_path):
        yield tmp_path


@pytest.fixture
def host(folder: Path) -> Host:
    return Host(brick_host.settings(folder))


@pytest.fixture
def target(folder: Path) -> Target:
    return brick_host.file_volume(folder, "v")


def backing(target: Target) -> Path:
    return Path(str(target.identity))


def link(folder: Path) -> Path:
    return folder / "n1" / "links" / "v"


@contextlib.contextmanager
def opened(device: Device) -> Iterator[int]:
    """Another process has the device open meanwhile; its pid."""
    with open(device.path, "rb") as file:
        user = subprocess.Popen(["sleep", "600"], stdin=file)
    try:
        yield user.pid
    finally:
        user.kill()
        user.wait()


def holders(host: Host, target: Target) -> tuple[str, ...]:
    """Who keeps the volume from being disconnected. The device must be as it was before."""
    before = host.inspect(target, None)
    with pytest.raises(Busy) as caught:
        host.disconnect(target, None, flush=True)
    assert host.inspect(target, None) == before
    assert before is not None
    assert attribute(before, "loop/autoclear") == "0"
    return caught.value.holders


# --- made


def test_a_device_is_the_whole_file_and_stays_until_it_is_removed(host: Host, target: Target) -> None:
    device = host.connect(target)
    assert attribute(device, "loop/backing_file") == target.identity
    assert attribute(device, "loop/autoclear") == "0"
    assert (device.size_bytes, device.read_only) == (SIZE, False)


def test_direct_io_is_used_where_the_file_system_can(host: Host, target: Target, folder: Path) -> None:
    probe = run(
        "losetup", "--direct-io=on", "--find", "--show", brick_host.file_volume(folder, "probe").identity
    ).strip()
    can = (Path("/sys/class/block") / Path(probe).name / "loop/dio").read_text().strip()
    assert attribute(host.connect(target), "loop/dio") == can


def test_a_read_only_device_is_so_down_to_the_file(host: Host, target: Target) -> None:
    """Clearing the flag, as root may, does not help a writer."""
    device = host.connect(replace(target, read_only=True))
    assert attribute(device, "ro") == "1"
    subprocess.run(["blockdev", "--setrw", device.device], check=False)
    wrote = subprocess.run(
        ["dd", "if=/etc/passwd", f"of={device.device}", "conv=fsync"], check=False, capture_output=True
    )
    assert wrote.returncode != 0
    assert not backing(target).read_bytes().strip(b"\0")


def test_a_mode_that_changed_under_a_user_is_refused(host: Host, target: Target) -> None:
    device = host.connect(target)
    with opened(device) as pid, pytest.raises(Terminal, match=rf"opened by sleep \(pid {pid}\)"):
        host.connect(replace(target, read_only=True))
    assert host.inspect(target, None) == device
    assert host.connect(replace(target, read_only=True)).read_only


def test_a_device_grows_with_its_file(host: Host, target: Target) -> None:
    device = host.connect(target)
    os.truncate(backing(target), SIZE * 2)
    larger = host.connect(replace(target, size_bytes=SIZE * 2))
    assert (larger.device, larger.size_bytes) == (device.device, SIZE * 2)


def test_a_missing_node_is_made(folder: Path, target: Target) -> None:
    """A container's /dev has only what was there when it was started."""
    roots = Roots(dev=folder / "dev")
    roots.dev.mkdir()
    os.mknod(roots.dev / "loop-control", 0o020600, os.stat("/dev/loop-control").st_rdev)
    host = Host(brick_host.settings(folder), roots)
    device = host.connect(target)
    assert Path(device.device).parent == roots.dev
    assert Path(device.device).is_block_device()
    host.disconnect(target, None, flush=True)
    assert loops_under(folder) == []


def test_without_the_module_the_remedy_is_named(folder: Path, target: Target) -> None:
    (folder / "dev").mkdir()
    with pytest.raises(Terminal, match="modprobe loop"):
        Host(brick_host.settings(folder), Roots(dev=folder / "dev")).connect(target)
    with pytest.raises(Terminal, match="modprobe loop"):
        loop.check_rights(Roots(dev=folder / "dev"))


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "link"])
def test_what_is_no_plain_file_is_never_attached(host: Host, target: Target, kind: str) -> None:
    path = backing(target)
    path.unlink()
    make: dict[str, Callable[[], object]] = {
        "missing": lambda: None,
        "folder": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("/etc/passwd"),
    }
    make[kind]()
    for read_only in (False, True):
        with pytest.raises(Terminal):
            host.connect(replace(target, read_only=read_only))


# --- whose


def test_another_s_device_over_the_same_file_stops_a_connect(host: Host, target: Target, folder: Path) -> None:
    """Both could write, and neither would see what the other wrote."""
    foreign = run("losetup", "--find", "--show", target.identity).strip()
    with pytest.raises(Terminal, match=f"already attached as {foreign}"):
        host.connect(target)
    assert host.inspect(target, None) is None
    host.disconnect(target, None, flush=True)
    assert loops_under(folder) == [Path(foreign).name]


def test_readers_of_the_same_file_do_not_disturb_each_other(host: Host, target: Target, folder: Path) -> None:
    foreign = run("losetup", "--read-only", "--find", "--show", target.identity).strip()
    host.connect(replace(target, read_only=True))
    host.disconnect(target, None, flush=True)
    assert loops_under(folder) == [Path(foreign).name]


def test_a_hard_link_to_another_volume_s_file_is_found_out(host: Host, target: Target, folder: Path) -> None:
    os.link(backing(target), folder / "w.img")
    host.connect(target)
    other = Target(
        "w", {"driver_volume_type": "local", "data": {"device_path": str(folder / "w.img")}}, False, SIZE, None
    )
    with pytest.raises(Terminal, match="another volume of this node"):
        host.connect(other)


def test_the_same_file_under_a_bind_mount_is_the_same_volume(host: Host, target: Target, folder: Path) -> None:
    device = host.connect(target)
    (folder / "bound").mkdir()
    run("mount", "--bind", folder, folder / "bound")
    path = str(folder / "bound" / "v.img")
    seen = host.connect(Target("v", {"driver_volume_type": "local", "data": {"device_path": path}}, False, SIZE, path))
    assert seen.device == device.device
    assert len(loops_under(folder)) == 1


def test_names_that_contain_one_another_are_kept_apart(host: Host, folder: Path) -> None:
    names = ["v", "v.img", "v1"]
    targets = [brick_host.file_volume(folder, name) for name in names]
    devices = {name: host.connect(target) for name, target in zip(names, targets, strict=True)}
    assert len({device.device for device in devices.values()}) == len(names)
    host.disconnect(targets[0], None, flush=True)
    assert [host.inspect(target, None) for target in targets] == [None, devices["v.img"], devices["v1"]]


def test_a_second_node_on_the_host_neither_sees_nor_removes_the_first_s(
    host: Host, target: Target, folder: Path
) -> None:
    device = host.connect(target)
    other = Host(brick_host.settings(folder, "n2"))
    assert other.inspect(target, device.details) is None
    other.disconnect(target, device.details, flush=True)
    assert host.inspect(target, None) == device
    assert other.connect(target).device != device.device


# --- the file goes


def test_a_deleted_file_is_noticed_and_its_device_can_still_be_removed(
    host: Host, target: Target, folder: Path
) -> None:
    device = host.connect(target)
    backing(target).unlink()
    with pytest.raises(IdentityMismatch, match="deleted or replaced"):
        host.inspect(target, device.details)
    assert not link(folder).is_symlink()
    host.disconnect(target, device.details, flush=True)
    assert loops_under(folder) == []


def test_a_new_file_of_the_same_name_is_not_the_volume(host: Host, target: Target, folder: Path) -> None:
    """The volume was deleted and made anew under its name while an old device was left here."""
    old = host.connect(target)
    backing(target).unlink()
    brick_host.file_volume(folder, "v")
    with pytest.raises(IdentityMismatch, match="left as it is"):
        host.connect(target)
    assert attribute(old, "loop/backing_file").endswith("(deleted)")
    host.disconnect(target, None, flush=True)
    assert host.connect(target).size_bytes == SIZE


def test_a_file_whose_name_looks_deleted_is_just_a_name(host: Host, folder: Path) -> None:
    path = folder / "v.img (deleted)"
    path.write_bytes(bytes(SIZE))
    target = Target("v", {"driver_volume_type": "local", "data": {"device_path": str(path)}}, False, SIZE, str(path))
    host.connect(target)
    assert host.inspect(target, None) is not None
    host.disconnect(target, None, flush=True)
    assert loops_under(folder) == []


# --- in use


@pytest.mark.setup
def test_a_mounted_device_is_busy_and_what_was_written_is_kept(host: Host, target: Target, folder: Path) -> None:
    device = host.connect(target)
    run("mkfs.ext4", "-q", device.path)
    (folder / "mnt").mkdir()
    run("mount", device.path, folder / "mnt")
    (folder / "mnt" / "file").write_text("kept")
    assert holders(host, target) == (f"mounted at {folder}/mnt",)
    run("umount", folder / "mnt")
    host.disconnect(target, device.details, flush=True)
    run("mount", host.connect(target).path, folder / "mnt")
    assert (folder / "mnt" / "file").read_text() == "kept"


def test_a_mount_in_another_namespace_is_found(host: Host, target: Target, folder: Path) -> None:
    device = host.connect(target)
    run("mkfs.ext4", "-q", device.path)
    (folder / "mnt").mkdir()
    script = f"mount {device.device} {folder}/mnt && echo ready && read line"
    command = ["unshare", "--mount", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as hidden:
        assert hidden.stdout is not None
        assert hidden.stdout.readline() == "ready\n"
        assert holders(host, target) == (f"mounted at {folder}/mnt in the mount namespace of sh (pid {hidden.pid})",)
        hidden.communicate("\n")
    host.disconnect(target, device.details, flush=True)


def test_an_open_device_is_busy_and_the_process_named(host: Host, target: Target) -> None:
    device = host.connect(target)
    with opened(device) as pid:
        assert holders(host, target) == (f"opened by sleep (pid {pid})",)
    host.disconnect(target, device.details, flush=True)


def test_a_device_under_another_loop_device_is_busy(host: Host, target: Target) -> None:
    device = host.connect(target)
    upper = run("losetup", "--find", "--show", device.device).strip()
    try:
        assert holders(host, target) == (f"backs {upper}",)
    finally:
        run("losetup", "-d", upper)


def test_swap_is_busy(host: Host, target: Target) -> None:
    device = host.connect(target)
    run("mkswap", device.device)
    if subprocess.run(["swapon", device.device], check=False, capture_output=True).returncode != 0:
        pytest.skip("this kernel does not swap")
    try:
        assert holders(host, target) == ("used as swap",)
    finally:
        run("swapoff", device.device)


def test_a_user_whom_proc_does_not_show_keeps_the_device(host: Host, target: Target, folder: Path) -> None:
    """Here the test itself, which the worker takes for itself. LOOP_CLR_FD would remove the device at its last close."""
    device = host.connect(target)
    with open(device.device, "rb"):
        assert holders(host, target) == ("opened by somebody whom /proc does not show, in another container perhaps",)
        assert link(folder).is_symlink()
    assert host.inspect(target, None) == device
    host.disconnect(target, None, flush=True)
    assert loops_under(folder) == []


# --- crashes and company


def test_a_crash_between_device_and_link_leaves_nothing_unexplained(target: Target, folder: Path) -> None:
    """LOOP_CONFIGURE has happened, nothing else: the tag says whose it is."""
    made = loop.Loops().attach(backing(target), mark(folder), read_only=False)
    again = Host(brick_host.settings(folder))
    found = again.inspect(target, None)
    assert found is not None
    assert found.device == f"/dev/{made.name}"
    assert again.connect(target) == found
    again.disconnect(target, None, flush=True)
    assert loops_under(folder) == []


def test_killed_at_any_moment_it_can_be_taken_up_again(host: Host, target: Target, folder: Path) -> None:
    """A process that connects and disconnects all the time is killed 20 times, wherever it is."""
    for _ in range(20):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                while True:
                    host.connect(target)
                    os.write(writing, b".")
                    host.disconnect(target, None, flush=True)
            finally:
                os._exit(1)
        os.close(writing)
        os.read(reading, 1)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        found = host.inspect(target, None)
        assert found == (host.connect(target) if found else None)
        host.disconnect(target, None, flush=True)
        assert loops_under(folder) == []
        assert not link(folder).is_symlink()


def test_many_at_once_do_not_disturb_each_other(folder: Path) -> None:
    """Two nodes look for, make and remove devices of the same files at the same time. Looking opens them for a moment."""
    targets = [brick_host.file_volume(folder, f"v{number}") for number in range(4)]
    nodes = [Host(brick_host.settings(folder, node)) for node in ("n1", "n2")]

    def cycle(job: tuple[Host, Target]) -> None:
        host, target = job
        for _ in range(10):
            device = host.connect(target)
            assert host.inspect(target, None) == device
            host.disconnect(target, device.details, flush=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(cycle, [(host, target) for host in nodes for target in targets]))
    assert loops_under(folder) == []


def test_a_free_number_that_is_gone_is_tried_again(folder: Path, target: Target) -> None:
    """Somebody else got the same number and was faster."""

    class Slow(loop.Loops):
        taken: list[str] = []  # noqa: RUF012

        def _free(self) -> int:
            number = super()._free()
            if not self.taken:
                self.taken.append(f"/dev/loop{number}")
                run("losetup", f"/dev/loop{number}", brick_host.file_volume(folder, "other").identity)
            return number

    made = Slow().attach(backing(target), mark(folder), read_only=False)
    assert [f"/dev/{made.name}"] != Slow.taken
    assert sysfs.size_bytes(Roots(), made.name) == SIZE
