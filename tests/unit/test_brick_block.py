"""Connecting and disconnecting block devices: what is done around os-brick, on a host that exists only as files.

The os-brick here does what the real one does to sysfs; the real one is tried on real kernels in the end-to-end tests.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from reconciler.adapters.brick.host import Host
from reconciler.adapters.brick.library import OsBrick
from reconciler.adapters.brick.settings import ConnectorSettings
from reconciler.runtime.ports import Busy, IdentityMismatch, Retryable, Target, Terminal, Unsupported
from tests.unit.brick_host import FakeHost

IQN, LUN, SIZE = "iqn.2010-10.org.example:volume-1", 3, 8 << 20
OURS, OTHER = "6001405aaaaaaaaa", "6001405bbbbbbbbb"  # 16 digits, as an NAA has at least


class FakeBrick:
    """The part of os-brick that `Block` uses, for iSCSI: devices appear and go in the fake sysfs."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        self.calls: list[str] = []
        self.serves = OURS
        self.disks = ["sda"]
        self.portals: list[str] = []
        self.multipath = False
        self.removes = True
        self.on_connect: Callable[[], object] = lambda: None
        self.on_disconnect: Callable[[], None] = lambda: None
        self.forced: bool | None = None
        self.path_given = ""
        self.given: dict[str, Any] = {}
        self.program_missing = False
        self.answer = ""

    def lacks_program(self, protocol: str) -> bool:
        return self.program_missing

    def use_multipath(self) -> bool:
        return self.multipath

    def set_manual_startup(self, iqns: list[str]) -> None:
        self.calls.append(f"manual {' '.join(iqns)}")

    def connect(self, protocol: str, data: Mapping[str, Any], *, multipath: bool, present: bool) -> dict[str, Any]:
        self.calls.append("add paths" if present else "connect")
        self.on_connect()
        for number, disk in enumerate(self.disks):
            if not self.host.roots.block(disk).exists():
                self.host.scsi(disk, f"naa.{self.serves}", size_bytes=SIZE)
                self.host.iscsi_lun(number, IQN, LUN, disk, self.portals[number] if self.portals else "")
                if self.host.roots.block("dm-0").exists():
                    self.host.join("dm-0", disk)
        if multipath and not self.host.roots.block("dm-0").exists():
            self.host.stack("dm-0", self.disks, uuid=f"mpath-3{self.serves}", label=f"3{self.serves}")
            self.host.write(self.host.roots.block("dm-0") / "size", str(SIZE // 512))
        name = self.answer or ("dm-0" if multipath else self.disks[0])
        return {"type": "block", "path": str(self.host.roots.dev / name)}

    def disconnect(
        self, protocol: str, data: Mapping[str, Any], device_info: Mapping[str, Any], *, force: bool, **_: object
    ) -> None:
        self.calls.append("disconnect")
        self.on_disconnect()
        self.forced, self.path_given, self.given = force, device_info["path"], dict(device_info)
        if self.removes:
            for name in (*self.disks, "dm-0"):
                shutil.rmtree(self.host.roots.block(name), ignore_errors=True)
                (self.host.roots.dev / name).unlink(missing_ok=True)
            shutil.rmtree(self.host.roots.sys / "class" / "iscsi_session", ignore_errors=True)


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def brick(fake: FakeHost) -> FakeBrick:
    return FakeBrick(fake)


@pytest.fixture
def links(tmp_path: Path) -> Path:
    return tmp_path / "links"


class FakeArray:
    """What devices answer when they are asked themselves, whatever sysfs says; nothing, until a test has an answer."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.asked: list[str] = []

    def ask(self, node: os.PathLike[str]) -> bytes | None:
        name = Path(node).name
        self.asked.append(name)
        value = bytes.fromhex(self.answers.get(name, ""))
        return bytes([0, 0x83, 0, 4 + len(value), 1, 3, 0, len(value)]) + value if value else None


@pytest.fixture
def array() -> FakeArray:
    return FakeArray()


@pytest.fixture
def host(fake: FakeHost, brick: FakeBrick, array: FakeArray, tmp_path: Path, links: Path) -> Host:
    settings = ConnectorSettings(node="n1", state_folder=tmp_path / "state", my_ip="10.0.0.9", link_folder=links)
    return Host(settings, fake.roots, cast(OsBrick, brick), array.ask)


def target(*, identity: str | None = None, size_bytes: int | None = SIZE, **data: Any) -> Target:
    address = {"target_portal": "10.0.0.1:3260", "target_iqn": IQN, "target_lun": LUN}
    return Target("vol-1", {"driver_volume_type": "iscsi", "data": address | data}, False, size_bytes, identity)


def hide_nodes(fake: FakeHost) -> None:
    """A plain file can't be flushed as a device: without its node, the device counts as one that can't be opened."""
    for node in fake.roots.dev.iterdir():
        node.unlink()


def opened_by_qemu(fake: FakeHost, disk: str) -> None:
    fake.process(412, "qemu", namespace="host", files={9: (str(fake.roots.dev / disk), 20)})


# --- connect


def test_a_device_is_published_once_verified(host: Host, brick: FakeBrick, links: Path, fake: FakeHost) -> None:
    device = host.connect(target())
    assert os.readlink(links / "vol-1") == device.device == str(fake.roots.dev / "sda")
    assert (device.size_bytes, device.identity, device.paths_live, device.paths_total) == (SIZE, f"naa.{OURS}", 1, 1)
    assert brick.calls == ["connect", f"manual {IQN}"]
    assert host.inspect(target(), device.details) == device
    assert host.inspect(target(), None) == device


def test_connecting_again_changes_nothing(host: Host, brick: FakeBrick) -> None:
    assert host.connect(target()) == host.connect(target())
    assert brick.calls == ["connect", f"manual {IQN}", f"manual {IQN}"]


def test_connecting_again_adds_missing_paths_and_takes_none_away(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    """A40: os-brick, when it fails to, would remove the paths that work, under whoever uses the device."""
    brick.multipath, brick.disks = True, ["sda", "sdb"]
    host.connect(target())
    fake.write(fake.roots.block("sdb") / "device" / "state", "transport-offline")
    host.connect(target())
    assert [call for call in brick.calls if not call.startswith("manual")] == ["connect", "add paths"]


def test_a_path_is_added_even_when_no_other_works(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    """It ends the waiting of whoever uses the device."""
    host.connect(target())
    fake.write(fake.roots.block("sda") / "device" / "state", "transport-offline")
    host.connect(target())
    assert "add paths" in brick.calls
    assert "disconnect" not in brick.calls


def test_a_leftover_at_the_address_goes_before_the_connect(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    """A35: os-brick would return it, with the size and identity of the volume that was there before."""
    fake.scsi("sda", f"naa.{OTHER}", size_bytes=SIZE)
    fake.iscsi_lun(0, IQN, LUN, "sda")
    hide_nodes(fake)
    assert host.connect(target()).identity == f"naa.{OURS}"
    assert brick.calls == ["disconnect", "connect", f"manual {IQN}"]


def test_a_leftover_in_use_stops_the_connect(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    fake.scsi("sda", f"naa.{OTHER}", size_bytes=SIZE)
    fake.iscsi_lun(0, IQN, LUN, "sda")
    opened_by_qemu(fake, "sda")
    with pytest.raises(Terminal, match=r"opened by qemu \(pid 412\)"):
        host.connect(target())
    assert brick.calls == []


def test_what_is_there_and_proven_to_be_the_volume_is_kept(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    """The worker was killed between os-brick's connect and the link; the volume may be in use by its path already."""
    fake.scsi("sda", f"naa.{OURS}", size_bytes=SIZE)
    fake.iscsi_lun(0, IQN, LUN, "sda")
    assert host.connect(target(identity=f"3{OURS}")).identity == f"naa.{OURS}"
    assert "disconnect" not in brick.calls


@pytest.mark.parametrize("wrong", [{"identity": f"3{OTHER}"}, {"size_bytes": SIZE * 2}], ids=["identity", "size"])
def test_a_wrong_device_is_kept_for_inspection_but_not_published(
    host: Host, fake: FakeHost, links: Path, wrong: dict[str, Any]
) -> None:
    """A34."""
    with pytest.raises(IdentityMismatch):
        host.connect(target(**wrong))
    assert fake.roots.block("sda").exists()
    assert not (links / "vol-1").is_symlink()
    with pytest.raises(IdentityMismatch):
        host.inspect(target(**wrong), None)
    hide_nodes(fake)
    host.disconnect(target(**wrong), None, flush=True)
    assert host.inspect(target(**wrong), None) is None


def test_an_identity_that_changes_takes_the_link_away(host: Host, fake: FakeHost, links: Path) -> None:
    """CVE-2023-2088: the LUN was given to another volume, and a rescan let the device show it."""
    device = host.connect(target())
    fake.write(fake.roots.block("sda") / "device" / "wwid", f"naa.{OTHER}")
    with pytest.raises(IdentityMismatch, match=OTHER):
        host.inspect(target(), device.details)
    assert not (links / "vol-1").is_symlink()


def test_a_device_that_answers_as_another_volume_is_not_published(
    host: Host, array: FakeArray, fake: FakeHost, links: Path
) -> None:
    """CVE-2023-2088: the LUN was given to another volume, and sysfs tells the old identity for ever (A34, A35)."""
    device = host.connect(target())
    array.answers["sda"] = OTHER
    with pytest.raises(IdentityMismatch, match=f"/dev/sda was {OURS} .* answers as {OTHER} now"):
        host.inspect(target(), device.details)
    assert not (links / "vol-1").is_symlink()
    assert fake.roots.block("sda").exists()


def test_a_promised_identity_is_believed_of_the_device_only(
    host: Host, brick: FakeBrick, array: FakeArray, fake: FakeHost
) -> None:
    """A leftover that has the volume's old identity in sysfs, and another volume behind it, goes unflushed (A35)."""
    fake.scsi("sda", f"naa.{OURS}", size_bytes=SIZE)
    fake.iscsi_lun(0, IQN, LUN, "sda")
    array.answers["sda"] = OTHER
    states: list[str] = []
    brick.on_disconnect = lambda: states.append((fake.roots.block("sda") / "device" / "state").read_text())
    brick.on_connect = lambda: array.answers.update(sda=OURS)
    hide_nodes(fake)
    assert host.connect(target(identity=f"3{OURS}")).identity == f"naa.{OURS}"
    assert (states, brick.forced) == (["offline\n"], True)
    assert brick.calls == ["disconnect", "connect", f"manual {IQN}"]


def test_a_path_is_asked_once_and_again_after_it_was_down(host: Host, array: FakeArray, fake: FakeHost) -> None:
    """To ask a path whose loss is not noticed yet takes minutes: not at every look."""
    array.answers["sda"] = OURS
    details = host.connect(target()).details
    host.inspect(target(), details)
    assert array.asked == ["sda"]
    for state in ("transport-offline", "running"):
        fake.write(fake.roots.block("sda") / "device" / "state", state)
        host.inspect(target(), details)
    assert array.asked == ["sda", "sda"]


def test_a_leftover_that_does_not_go_stops_the_connect(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    fake.scsi("sdb", f"naa.{OTHER}", size_bytes=SIZE)
    fake.iscsi_lun(7, IQN, LUN, "sdb")
    brick.removes = False
    hide_nodes(fake)
    with pytest.raises(Retryable, match="did not go away"):
        host.connect(target())
    assert "connect" not in brick.calls


def test_two_volumes_at_one_address_are_not_taken_for_paths_of_one(host: Host, fake: FakeHost) -> None:
    device = host.connect(target())
    fake.scsi("sdb", f"naa.{OTHER}", size_bytes=SIZE)
    fake.iscsi_lun(7, IQN, LUN, "sdb")
    with pytest.raises(IdentityMismatch, match="/dev/sda and /dev/sdb"):
        host.inspect(target(), device.details)


def test_a_portal_that_is_away_shows_in_the_paths(host: Host, brick: FakeBrick) -> None:
    """A40: connected over one of two portals."""
    brick.multipath = True
    both: dict[str, Any] = {
        "target_portals": ["[::1]:1", "[::1]:2"],
        "target_iqns": [IQN, IQN],
        "target_luns": [LUN, LUN],
    }
    device = host.connect(target(**both))
    assert device.device.endswith("dm-0")
    assert (device.paths_live, device.paths_total) == (1, 2)
    assert host.inspect(target(**both), device.details) == device


def test_a_lost_path_shows_in_the_paths(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    brick.multipath, brick.disks = True, ["sda", "sdb"]
    device = host.connect(target())
    assert (device.paths_live, device.paths_total) == (2, 2)
    fake.write(fake.roots.block("sdb") / "device" / "state", "transport-offline")
    now = host.inspect(target(), device.details)
    assert now is not None
    assert (now.paths_live, now.paths_total) == (1, 2)


def test_a_device_that_os_brick_only_claims_is_not_believed(
    host: Host, brick: FakeBrick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brick, "connect", lambda *_, **__: {"path": "/dev/nowhere"})
    with pytest.raises(Retryable, match="/dev/nowhere"):
        host.connect(target())


@pytest.mark.parametrize(
    ("protocol", "data", "words"),
    [
        ("iscsi", {"encrypted": True}, "encrypted"),
        ("nvmeof", {"volume_replicas": [{}, {}]}, "mirrors"),
        ("nvmeof", {"volume_replicas": [{}], "replica_count": 2}, "mirrors"),
        ("vmdk", {}, "vmdk"),
        ("storpool", {}, "prove"),
        ("noop", {}, "noop"),
        ("", {}, "not supported"),
    ],
)
def test_what_cannot_be_done_safely_is_refused(
    host: Host, brick: FakeBrick, protocol: str, data: dict[str, Any], words: str
) -> None:
    wanted = Target("vol-1", {"driver_volume_type": protocol, "data": data}, False, SIZE, None)
    with pytest.raises(Unsupported, match=words):
        host.connect(wanted)
    assert brick.calls == []


# --- disconnect


def test_the_link_goes_before_the_device(host: Host, brick: FakeBrick, fake: FakeHost, links: Path) -> None:
    device = host.connect(target())
    hide_nodes(fake)
    there: list[bool] = []
    brick.on_disconnect = lambda: there.append((links / "vol-1").is_symlink())
    host.disconnect(target(), device.details, flush=True)
    assert there == [False]
    assert (brick.path_given, brick.forced) == (device.device, False)
    assert host.inspect(target(), device.details) is None
    host.disconnect(target(), device.details, flush=True)


def test_a_device_in_use_is_not_touched(host: Host, brick: FakeBrick, fake: FakeHost, links: Path) -> None:
    """A11."""
    device = host.connect(target())
    opened_by_qemu(fake, "sda")
    with pytest.raises(Busy) as caught:
        host.disconnect(target(), device.details, flush=True)
    assert caught.value.holders == ("opened by qemu (pid 412)",)
    assert "disconnect" not in brick.calls
    assert host.inspect(target(), device.details) == device
    assert (links / "vol-1").is_symlink()


def test_somebody_on_a_path_keeps_the_whole_map(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    brick.multipath, brick.disks = True, ["sda", "sdb"]
    device = host.connect(target())
    opened_by_qemu(fake, "sdb")
    with pytest.raises(Busy):
        host.disconnect(target(), device.details, flush=True)


def test_a_device_that_stays_is_not_released(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    device = host.connect(target())
    hide_nodes(fake)
    brick.removes = False
    with pytest.raises(Retryable, match="still there"):
        host.disconnect(target(), device.details, flush=True)


def test_a_device_is_found_by_identity_when_its_session_is_gone(host: Host, fake: FakeHost) -> None:
    """A37: no session, no address; the kernel still has the disk."""
    device = host.connect(target())
    shutil.rmtree(fake.roots.sys / "class" / "iscsi_session")
    assert host.inspect(target(), None) is None
    assert host.inspect(target(), device.details) == device


def test_a_dead_device_goes_although_it_cannot_be_flushed(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    """A37: all paths are gone; nobody uses it, so nothing that could be written is left."""
    device = host.connect(target())
    fake.write(fake.roots.block("sda") / "device" / "state", "transport-offline")
    host.disconnect(target(), device.details, flush=True)
    assert brick.forced is True


def test_nothing_is_flushed_into_another_volume(host: Host, brick: FakeBrick, array: FakeArray, fake: FakeHost) -> None:
    """The storage gave the LUN away while the device was here: its paths are cut before the device goes."""
    device = host.connect(target())
    array.answers["sda"] = OTHER
    states: list[str] = []
    brick.on_disconnect = lambda: states.append((fake.roots.block("sda") / "device" / "state").read_text())
    hide_nodes(fake)
    host.disconnect(target(), device.details, flush=True)
    assert (states, brick.forced) == (["offline\n"], True)


def test_without_a_record_os_brick_is_still_given_a_path(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    """With none it would delete a disk that was written to without flushing it."""
    host.connect(target())
    hide_nodes(fake)
    host.disconnect(target(), None, flush=True)
    assert brick.path_given == str(fake.roots.dev / "sda")


def test_with_nothing_there_sessions_are_ended_all_the_same(host: Host, brick: FakeBrick) -> None:
    host.disconnect(target(), None, flush=True)
    assert brick.calls == ["disconnect"]
    assert brick.path_given


def test_a_host_without_the_program_takes_the_attachment_back_all_the_same(host: Host, brick: FakeBrick) -> None:
    """Its connect was refused for that, so there is nothing to disconnect. What was connected once is not given up so."""
    brick.program_missing = True
    host.disconnect(target(), None, flush=True)
    assert brick.calls == []
    host.disconnect(target(), {"device_info": {"path": "/dev/sdz"}}, flush=True)
    assert brick.calls == ["disconnect"]


def test_a_disk_of_the_host_itself_is_never_the_volume_for_its_identity(
    host: Host, fake: FakeHost, tmp_path: Path
) -> None:
    """F-D4, F-K11: a driver, or whoever forged the connection, promises an identity that a disk of this host has."""
    own = fake.scsi("sdq", f"naa.{OURS}", size_bytes=SIZE)
    there = tmp_path / "devices" / "pci0000:00" / "ata1" / "host0" / "target0:0:0" / "0:0:0:0" / "block" / "sdq"
    there.parent.mkdir(parents=True)
    own.rename(there)
    own.symlink_to(there)
    fake.scsi("vda", f"naa.{OURS}", size_bytes=SIZE)
    wanted = target(identity=f"naa.{OURS}")
    assert host.inspect(wanted, None) is None
    host.disconnect(wanted, None, flush=False)
    assert (there / "device" / "state").read_text() == "running\n", "a fence's cut did not reach it"
    assert host.connect(wanted).device == str(fake.roots.dev / "sda")


def test_a_device_that_came_back_under_anothers_name_is_not_published(
    host: Host, brick: FakeBrick, fake: FakeHost
) -> None:
    """Between os-brick's answer and our look the name went to another session's disk."""
    fake.scsi("sdb", f"naa.{OTHER}", size_bytes=SIZE)
    fake.iscsi_lun(7, "iqn.2010-10.org.example:another", LUN, "sdb")
    brick.disks = []
    brick.answer = "sdb"
    with pytest.raises(Retryable, match="/dev/sdb, which is not at this connection's address"):
        host.connect(target())


def test_a_fenced_device_is_cut_off_before_anything_else(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    """Its writes must not land: neither now nor by a flush on the way out."""
    device = host.connect(target())
    states: list[str] = []
    brick.on_disconnect = lambda: states.append((fake.roots.block("sda") / "device" / "state").read_text().strip())
    host.disconnect(target(), device.details, flush=False)
    assert states == ["offline"]
    assert brick.forced is True


def test_a_fenced_device_in_use_is_cut_off_all_the_same(host: Host, fake: FakeHost) -> None:
    device = host.connect(target())
    opened_by_qemu(fake, "sda")
    with pytest.raises(Busy):
        host.disconnect(target(), device.details, flush=False)
    assert (fake.roots.block("sda") / "device" / "state").read_text().strip() == "offline"


def test_a_map_without_paths_is_removed(
    host: Host, brick: FakeBrick, fake: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A36: os-brick forgets it, and multipathd would keep it for ever."""
    brick.multipath = True
    device = host.connect(target())
    brick.disconnect("iscsi", {}, {"path": ""}, multipath=True, force=False)
    brick.removes = False
    fake.stack("dm-0", [], uuid=f"mpath-3{OURS}", label="mpatha")
    hide_nodes(fake)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("multipath", "dmsetup"):
        (programs / name).write_text(
            f"#!/bin/sh\necho {name} $* >> {tmp_path}/log\n[ $1 = remove ] && rm -r {fake.roots.block('dm-0')}\n"
        )
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    host.disconnect(target(), device.details, flush=True)
    assert (tmp_path / "log").read_text().splitlines() == [
        "dmsetup message mpatha 0 fail_if_no_path",
        "multipath -f mpatha",
        "dmsetup remove mpatha",
    ]


# --- what a killed connect leaves


def test_looking_calls_nobody(host: Host, brick: FakeBrick, fake: FakeHost) -> None:
    """Nor does it take a login without a device for one: the disconnect ends that."""
    fake.session(1, IQN)
    assert host.inspect(target(), None) is None
    assert brick.calls == []


def test_looking_takes_a_link_to_nothing_away(host: Host, fake: FakeHost, links: Path) -> None:
    """The kernel gives numbers and names again: soon it would lead to another volume."""
    links.mkdir()
    (links / "vol-1").symlink_to(fake.roots.dev / "sda")
    assert host.inspect(target(), None) is None
    assert not (links / "vol-1").is_symlink()


def test_looking_restores_a_missing_link(host: Host, links: Path) -> None:
    device = host.connect(target())
    (links / "vol-1").unlink()
    assert host.inspect(target(), device.details) == device
    assert os.readlink(links / "vol-1") == device.device


@pytest.mark.parametrize("kept", [True, False])
def test_a_file_that_os_brick_left_in_tmp_is_not_needed_to_disconnect(
    host: Host, brick: FakeBrick, fake: FakeHost, tmp_path: Path, kept: bool
) -> None:
    """F-S4: RBD's key, which a power cut takes away. With it gone the node never came back."""
    device = host.connect(target())
    conf = tmp_path / "brickrbd_x"
    if kept:
        conf.write_text("")
    hide_nodes(fake)
    info = {**device.details["device_info"], "conf": str(conf)}
    host.disconnect(target(), {**device.details, "device_info": info}, flush=True)
    assert ("conf" in brick.given) is kept


def test_paths_are_expected_only_through_the_hosts_storage_networks(
    fake: FakeHost, brick: FakeBrick, array: FakeArray, tmp_path: Path, links: Path
) -> None:
    """F-B8: a portal in another network is neither logged in to nor missed."""
    settings = ConnectorSettings.model_validate(
        {
            "node": "n1",
            "state_folder": tmp_path / "state",
            "my_ip": "10.0.0.9",
            "link_folder": links,
            "storage_networks": ["10.0.0.0/24"],
        }
    )
    host = Host(settings, fake.roots, cast(OsBrick, brick), array.ask)
    brick.multipath, brick.portals = True, ["10.0.0.1:3260"]
    portals: dict[str, Any] = {
        "target_portals": ["10.0.0.1:3260", "10.9.0.1:3260"],
        "target_iqns": [IQN, IQN],
        "target_luns": [LUN, LUN],
    }
    device = host.connect(target(**portals))
    assert (device.paths_live, device.paths_total) == (1, 1)
    again = host.inspect(target(**portals), device.details)
    assert again is not None
    assert (again.paths_total, again.portals_back) == (1, ())
