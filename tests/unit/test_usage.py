"""Who uses a block device: every kind of use is found, named shortly, and nothing else is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from reconciler.adapters.brick import mounts
from reconciler.adapters.brick.usage import Hold, Usage
from reconciler.runtime.ports import Busy
from tests.unit.brick_host import FakeHost


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = FakeHost(tmp_path)
    host.disk("sda")
    return host


def number(host: FakeHost, name: str) -> str:
    return (host.roots.block(name) / "dev").read_text().strip()


def holders(host: FakeHost, device: str = "sda", *members: str) -> list[str]:
    return Usage(host.roots).holders(device, members)


def test_an_unused_device_has_no_holders(host: FakeHost) -> None:
    assert holders(host) == []


def test_a_mount_is_named_by_its_place(host: FakeHost) -> None:
    line = f"36 35 {number(host, 'sda')} / /srv/my\\040data rw,noatime shared:1 - ext4 /dev/sda rw"
    host.process(os.getpid(), "worker", namespace="host", mounts=[line])
    assert holders(host) == ["mounted at /srv/my data"]


def test_a_mount_in_another_namespace_is_found_once_and_placed(host: FakeHost) -> None:
    line = f"90 35 {number(host, 'sda')} / /data rw - xfs /dev/sda rw"
    for pid in (77, 78):
        host.process(pid, "nginx", namespace="container", mounts=[line])
    assert holders(host) == ["mounted at /data in the mount namespace of nginx (pid 77)"]


def test_a_file_system_with_a_number_of_its_own_is_found_by_its_source(host: FakeHost) -> None:
    """btrfs shows 0:45 as its device."""
    line = f"36 35 0:45 /@ /srv rw - btrfs {host.roots.dev}/sda rw"
    host.process(os.getpid(), "worker", namespace="host", mounts=[line])
    assert holders(host) == ["mounted at /srv"]


def test_a_mounted_partition_uses_its_disk(host: FakeHost) -> None:
    host.partition("sda", "sda1")
    line = f"36 35 {number(host, 'sda1')} / /srv rw - ext4 /dev/sda1 rw"
    host.process(os.getpid(), "worker", namespace="host", mounts=[line])
    assert holders(host) == ["partition sda1 mounted at /srv"]


def test_swap_is_named(host: FakeHost) -> None:
    header = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority"
    host.write(host.roots.proc / "swaps", f"{header}\n{host.roots.dev}/sda partition 1024 0 -2\n/swapfile file 1 0 -3")
    assert holders(host) == ["used as swap"]


@pytest.mark.parametrize(
    ("uuid", "label", "phrase"),
    [
        ("LVM-7sKx", "vg-data", "held by dm-3 (LVM volume vg-data)"),
        ("CRYPT-LUKS2-aa", "secret", "held by dm-3 (encrypted volume secret)"),
        ("", "", "held by dm-3"),
    ],
)
def test_what_is_stacked_on_it_is_named_as_its_owner_knows_it(
    host: FakeHost, uuid: str, label: str, phrase: str
) -> None:
    host.stack("dm-3", ["sda"], uuid=uuid, label=label)
    assert holders(host) == [phrase]


def test_a_multipath_map_does_not_use_its_own_paths(host: FakeHost) -> None:
    host.disk("sdb")
    host.stack("dm-0", ["sda", "sdb"], uuid="mpath-36001")
    assert holders(host, "dm-0", "sda", "sdb") == []


def test_somebody_on_a_path_of_a_map_uses_the_map(host: FakeHost) -> None:
    host.stack("dm-0", ["sda"], uuid="mpath-36001")
    host.stack("dm-9", ["sda"], uuid="LVM-x", label="vg-old")
    assert holders(host, "dm-0", "sda") == ["held by dm-9 (LVM volume vg-old)"]


def test_a_loop_device_backed_by_it_is_named(host: FakeHost) -> None:
    host.disk("loop7", loop__backing_file=f"{host.roots.dev}/sda")
    assert holders(host) == ["backs /dev/loop7"]


def test_a_loop_device_backed_by_another_device_with_a_longer_name_is_not(host: FakeHost) -> None:
    host.disk("sdaa")
    host.disk("loop7", loop__backing_file=f"{host.roots.dev}/sdaa")
    assert holders(host) == []


def test_a_process_that_has_it_open_is_named(host: FakeHost) -> None:
    host.process(412, "qemu", namespace="host", files={3: ("socket:[77]", 0), 9: (f"{host.roots.dev}/sda", 20)})
    assert holders(host) == ["opened by qemu (pid 412)"]


def test_multipathd_checking_its_paths_is_no_user(host: FakeHost) -> None:
    host.process(300, "multipathd", namespace="host", files={5: (f"{host.roots.dev}/sda", 20)})
    assert holders(host) == []


def test_udev_is_waited_for(host: FakeHost) -> None:
    """It lets go while we look: the second look counts."""

    class Leaving(Usage):
        looks = 0

        def _look(self, *arguments: object) -> object:  # type: ignore[override]
            self.looks += 1
            if self.looks == 3:
                (host.roots.proc / "9" / "fd" / "5").unlink()
            return super()._look(*arguments)  # type: ignore[arg-type]

    host.process(9, "(udev-worker)", namespace="host", files={5: (f"{host.roots.dev}/sda", 20)})
    assert Leaving(host.roots).holders("sda") == []


def test_udev_is_not_named_beside_a_user(host: FakeHost) -> None:
    for pid, name in ((9, "(udev-worker)"), (412, "qemu")):
        host.process(pid, name, namespace="host", files={5: (f"{host.roots.dev}/sda", 20)})
    assert holders(host) == ["opened by qemu (pid 412)"]


def test_udev_on_a_path_of_a_map_is_no_user(host: FakeHost) -> None:
    """A path that was cut keeps it waiting for minutes; the map can go all the same."""
    host.stack("dm-0", ["sda"], uuid="mpath-36001")
    host.process(9, "(udev-worker)", namespace="host", files={5: (f"{host.roots.dev}/sda", 20)})
    assert holders(host, "dm-0", "sda") == []


def test_a_node_of_another_name_is_recognised_by_its_number(host: FakeHost, tmp_path: Path) -> None:
    """A container opened /data/disk, made by mknod: only the number tells."""
    node = tmp_path / "disk"
    try:
        os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(8, 1))
    except PermissionError:
        pytest.skip("needs root")
    mounted = ["20 1 0:5 / / rw - ext4 /dev/vda rw"]
    host.process(50, "postgres", namespace="container", mounts=mounted, files={4: (str(node), 20)})
    assert holders(host) == ["opened by postgres (pid 50)"]


@pytest.mark.parametrize("mount_id", [21, 99], ids=["remote", "lazily unmounted"])
def test_a_file_behind_a_server_is_never_asked(host: FakeHost, tmp_path: Path, mount_id: int) -> None:
    """The server may be dead, and asking would wait for ever. Here the file would answer: that it is the device."""
    node = tmp_path / "file-on-a-server"
    try:
        os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(8, 1))
    except PermissionError:
        pytest.skip("needs root")
    mounted = ["20 1 0:5 / / rw - ext4 /dev/vda rw", "21 20 0:50 / /srv rw - nfs4 server:/export rw"]
    host.process(50, "tail", namespace="host", mounts=mounted, files={4: (str(node), mount_id)})
    assert holders(host) == []


def test_more_holders_than_a_user_reads_are_cut(host: FakeHost) -> None:
    for pid in range(100, 140):
        host.process(pid, "qemu", namespace="host", files={3: (f"{host.roots.dev}/sda", 20)})
    assert len(holders(host)) == 16


def test_a_dead_device_can_still_be_looked_at(host: FakeHost) -> None:
    """Opening it fails, since its node is gone; its users are found nevertheless."""
    (host.roots.dev / "sda").unlink()
    host.process(412, "qemu", namespace="host", files={9: (f"{host.roots.dev}/sda", 20)})
    with pytest.raises(Busy) as caught, Hold(host.roots, Usage(host.roots), "sda"):
        pass
    assert caught.value.holders == ("opened by qemu (pid 412)",)


def test_of_mounts_over_one_another_the_last_is_what_a_path_lies_on() -> None:
    first = mounts.Mount(1, "8:1", "/srv", "ext4", "/dev/sda1")
    second = mounts.Mount(2, "0:50", "/srv", "nfs4", "server:/export")
    root = mounts.Mount(3, "8:2", "/", "ext4", "/dev/sda2")
    assert mounts.containing((root, first, second), "/srv/file") == second
    assert mounts.containing((root, first, second), "/srvother/file") == root
    assert mounts.at((root, first, second), "/srv") == second
