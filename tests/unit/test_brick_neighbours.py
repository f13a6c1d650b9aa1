"""F-D4: two volumes to which the storage gives one identity, on a host made of files. The first stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from reconciler.adapters.brick.host import Host
from reconciler.adapters.brick.library import OsBrick
from reconciler.adapters.brick.settings import ConnectorSettings
from reconciler.runtime.ports import Device, DuplicateIdentity, Target
from tests.unit.brick_host import FakeHost

SIZE, WWID = 8 << 20, "60000000000000000e00000000010001"


class TwoTargets:
    """os-brick and multipathd: one map for each WWID, whatever is behind its paths. `a` brings sda, `b` sdb."""

    def __init__(self, host: FakeHost, *, multipath: bool) -> None:
        self.host, self.multipath = host, multipath
        self.connects: list[str] = []

    def lacks_program(self, protocol: str) -> bool:
        return False

    def use_multipath(self) -> bool:
        return self.multipath

    def set_manual_startup(self, iqns: list[str]) -> None:
        """Nothing starts here."""

    def connect(self, protocol: str, data: Mapping[str, Any], *, multipath: bool, present: bool) -> dict[str, Any]:
        letter, block = data["target_iqn"][-1], self.host.roots.block
        disk, number = f"sd{letter}", ord(letter) - ord("a")
        self.connects.append(letter)
        if not block(disk).exists():
            self.host.scsi(disk, f"naa.{WWID}", size_bytes=SIZE)
            self.host.iscsi_lun(number, data["target_iqn"], 1, disk, data["target_portal"])
            if block("dm-0").exists():
                self.host.join("dm-0", disk)
        if multipath and not block("dm-0").exists():
            self.host.stack("dm-0", [disk], uuid=f"mpath-3{WWID}", label=f"3{WWID}")
            self.host.write(block("dm-0") / "size", str(SIZE // 512))
        return {"type": "block", "path": str(self.host.roots.dev / ("dm-0" if multipath else disk))}

    def disconnect(
        self, protocol: str, data: Mapping[str, Any], device_info: Mapping[str, Any], *, force: bool, **_: object
    ) -> None:
        block, letter = self.host.roots.block, data["target_iqn"][-1]
        disk, number = f"sd{letter}", ord(letter) - ord("a")
        through = list(
            (self.host.roots.sys / "class" / "iscsi_session" / f"session{number}").rglob("persistent_address")
        )
        if [path.read_text().strip() for path in through] != [data["target_portal"].partition(":")[0]]:
            return  # no session through this portal
        shutil.rmtree(block(disk), ignore_errors=True)
        (self.host.roots.dev / disk).unlink(missing_ok=True)
        shutil.rmtree(self.host.roots.sys / "class" / "iscsi_session" / f"session{number}", ignore_errors=True)
        shutil.rmtree(block("dm-0") / "slaves" / disk, ignore_errors=True)
        if block("dm-0").exists() and not list((block("dm-0") / "slaves").iterdir()):
            shutil.rmtree(block("dm-0"))


class Node:
    """A worker on a fake host; `restart` begins another one."""

    def __init__(self, folder: Path, *, multipath: bool) -> None:
        self.fake = FakeHost(folder)
        self.brick = TwoTargets(self.fake, multipath=multipath)
        self.links = folder / "links"
        self._settings = ConnectorSettings(
            node="n1", state_folder=folder / "state", my_ip="10.0.0.9", link_folder=self.links
        )
        self.restart()

    def restart(self) -> None:
        self.host = Host(self._settings, self.fake.roots, cast(OsBrick, self.brick), lambda _: None)

    def published(self) -> dict[str, str]:
        return {path.name: os.readlink(path) for path in self.links.iterdir() if path.is_symlink()}

    def disks(self) -> list[str]:
        return sorted(path.name for path in (self.fake.roots.sys / "class" / "block").iterdir())

    def release(self, letter: str, device: Device | None) -> None:
        for each in self.fake.roots.dev.iterdir():
            each.unlink()  # a plain file can't be flushed
        self.host.disconnect(target(letter), device.details if device else None, flush=True)


def target(letter: str, **more: Any) -> Target:
    data = {"target_portal": "10.0.0.1:3260", "target_iqn": f"iqn.2026-01.example:{letter}", "target_lun": 1}
    return Target(f"vol-{letter}", {"driver_volume_type": "iscsi", "data": data | more}, False, None, None)


def beside(letter: str, first: Device, **more: Any) -> Target:
    """As the node asks for a volume while it has another one."""
    wanted = target(letter, **more)
    return Target(wanted.volume, wanted.conn_info, False, None, None, None, {"vol-a": first.details})


@pytest.fixture(params=[False, True], ids=["one path", "multipath"])
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Node:
    return Node(tmp_path, multipath=request.param)


@pytest.mark.parametrize("restarted", [False, True], ids=["", "after a restart"])
def test_the_second_is_refused_and_what_it_brought_is_gone(node: Node, restarted: bool) -> None:
    first = node.host.connect(target("a"))
    before = (node.published(), node.disks())
    if restarted:
        node.restart()
    with pytest.raises(DuplicateIdentity, match="the storage gives"):
        node.host.connect(beside("b", first))
    assert (node.published(), node.disks()) == before
    assert node.host.inspect(target("a"), first.details) == first
    node.host.disconnect(beside("b", first), None, flush=False)  # the fence of the second's cut
    assert node.host.inspect(target("a"), first.details) == first
    node.release("a", first)
    assert node.disks() == []


def test_the_second_is_not_logged_in_to_again_while_nothing_has_changed(node: Node) -> None:
    """Each login puts its disk into the first one's map for a moment. A detach, another address, the first one's end do."""
    first = node.host.connect(target("a"))
    for _ in range(3):
        with pytest.raises(DuplicateIdentity):
            node.host.connect(beside("b", first))
    assert node.brick.connects == ["a", "b"]
    node.host.disconnect(beside("b", first), None, flush=True)
    with pytest.raises(DuplicateIdentity):
        node.host.connect(beside("b", first))
    with pytest.raises(DuplicateIdentity):
        node.host.connect(beside("b", first, target_portal="10.0.0.2:3260"))
    assert node.brick.connects == ["a", "b", "b", "b"]
    node.release("a", first)
    assert node.host.connect(target("b")).path == str(node.links / "vol-b")


def test_the_read_only_flag_of_the_second_does_not_reach_the_first(node: Node) -> None:
    first = node.host.connect(target("a"))
    wanted = Target("vol-b", target("b").conn_info, True, None, None, None, {"vol-a": first.details})
    with pytest.raises(DuplicateIdentity):
        node.host.connect(wanted)
    assert not (after := node.host.inspect(target("a"), first.details)) or not after.read_only


def test_an_identity_that_is_promised_alike_is_refused_before_a_login(node: Node) -> None:
    first = node.host.connect(target("a"))
    wanted = Target("vol-b", target("b").conn_info, False, None, f"3{WWID}", None, {"vol-a": first.details})
    with pytest.raises(DuplicateIdentity, match="vol-a"):
        node.host.connect(wanted)
    assert node.brick.connects == ["a"]


def test_an_address_that_another_volume_is_attached_through_is_refused_before_a_login(node: Node) -> None:
    first = node.host.connect(target("a"))
    same = beside("b", first, target_iqn="iqn.2026-01.example:a")
    with pytest.raises(DuplicateIdentity, match="one address"):
        node.host.connect(same)
    node.host.disconnect(same, None, flush=True)
    assert node.brick.connects == ["a"]
    assert node.host.inspect(target("a"), first.details) == first


def test_a_target_with_a_copied_name_is_told_by_its_portal(node: Node) -> None:
    """An array that was cloned with all its names: only the portal is another. The first one's disk is no leftover."""
    first = node.host.connect(target("a"))
    clone = beside("b", first, target_iqn="iqn.2026-01.example:a", target_portal="10.0.0.2:3260")
    with pytest.raises(DuplicateIdentity):
        node.host.connect(clone)
    node.host.disconnect(clone, None, flush=True)
    assert node.host.inspect(target("a"), first.details) == first


def test_a_strangers_path_in_the_map_withdraws_the_link_until_it_is_gone(tmp_path: Path) -> None:
    """Somebody logged in to the clone by hand: reads of the map may come from either."""
    node = Node(tmp_path, multipath=True)
    first = node.host.connect(target("a"))
    node.brick.connect("iscsi", target("b").conn_info["data"], multipath=True, present=False)
    with pytest.raises(DuplicateIdentity, match="/dev/sdb"):
        node.host.inspect(target("a"), first.details)
    assert node.published() == {}
    node.brick.disconnect("iscsi", target("b").conn_info["data"], {"path": ""}, multipath=True, force=False)
    assert node.host.inspect(target("a"), first.details) == first
    assert node.published() != {}


# --- NVMe and RBD


NQN, NGUID = "nqn.2014-08.org.example:a", "6e1b5c1e8f0a4c0e9d530d7d2a3f1b11"


class Plain:
    """os-brick for what needs no maps: a connect finds the device `brings`, a disconnect takes the one away that it is given."""

    def __init__(self, host: FakeHost) -> None:
        self.host, self.brings = host, ""
        self.disconnected: list[str] = []

    def use_multipath(self) -> bool:
        return False

    def lacks_program(self, protocol: str) -> bool:
        return False

    def connect(self, protocol: str, data: Mapping[str, Any], *, multipath: bool, present: bool) -> dict[str, Any]:
        if not self.host.roots.block(self.brings).exists():
            if protocol == "rbd":
                rbd(self.host, self.brings, data["name"])
            else:
                namespace(self.host, self.brings, data["target_nqn"])
        return {"type": "block", "path": str(self.host.roots.dev / self.brings)}

    def disconnect(self, protocol: str, data: object, device_info: Mapping[str, Any], **_: object) -> None:
        self.disconnected.append(name := Path(device_info["path"]).name)
        shutil.rmtree(self.host.roots.block(name), ignore_errors=True)


def namespace(host: FakeHost, name: str, nqn: str) -> None:
    host.disk(name, device__subsysnqn=nqn, nsid="7", nguid=NGUID, device__state="live")


def rbd(host: FakeHost, name: str, image: str) -> None:
    host.disk(name)
    for key, text in zip(("pool", "name"), image.split("/"), strict=True):
        host.write(host.roots.sys / "bus" / "rbd" / "devices" / name.removeprefix("rbd") / key, text)


def other(protocol: str, volume: str, first: Device | None = None, **data: Any) -> Target:
    login = {"cluster_name": "ceph", "auth_username": "c", "keyring": "key = A==", "hosts": ["10.0.0.1"], "ports": [1]}
    given = login if protocol == "rbd" else {"target_nqn": NQN, "portals": [["10.0.0.1", 4420, "tcp"]]}
    conn_info = {"driver_volume_type": protocol, "data": given | data}
    return Target(volume, conn_info, False, None, None, None, {"vol-a": first.details} if first else {})


@pytest.fixture
def plain(tmp_path: Path) -> tuple[Host, Plain]:
    fake = FakeHost(tmp_path)
    brick = Plain(fake)
    own = ConnectorSettings(node="n1", state_folder=tmp_path / "state", my_ip="::1", link_folder=tmp_path / "links")
    return Host(own, fake.roots, cast(OsBrick, brick), lambda _: None), brick


@pytest.mark.parametrize(
    ("protocol", "device", "one", "same"),
    [
        ("nvmeof", "nvme0n1", {"volume_nguid": NGUID}, {"ns_id": 7}),
        ("nvmeof", "nvme0n1", {"ns_id": 7}, {"ns_id": "7", "portals": [["10.0.0.2", 4420, "tcp"]]}),
        ("rbd", "rbd0", {"name": "p/i"}, {"name": "p/i", "hosts": ["10.9.9.9"]}),
    ],
)
def test_one_namespace_or_image_under_two_names_stays_the_first_ones(
    plain: tuple[Host, Plain], protocol: str, device: str, one: dict[str, Any], same: dict[str, Any]
) -> None:
    """The end of the second, a fence's too, leaves the first one's device where it is."""
    host, brick = plain
    brick.brings = device
    first = host.connect(other(protocol, "vol-a", **one))
    second = other(protocol, "vol-b", first, **same)
    with pytest.raises(DuplicateIdentity):
        host.connect(second)
    host.disconnect(second, None, flush=False)
    assert brick.disconnected == []
    assert host.inspect(other(protocol, "vol-a", **one), first.details) == first


def test_a_namespace_with_a_copied_nguid_is_taken_back(plain: tuple[Host, Plain]) -> None:
    """In another subsystem, as of a cloned array: a device of its own, which goes."""
    host, brick = plain
    brick.brings = "nvme0n1"
    first = host.connect(other("nvmeof", "vol-a", volume_nguid=NGUID))
    brick.brings = "nvme1n1"
    with pytest.raises(DuplicateIdentity):
        host.connect(other("nvmeof", "vol-b", first, volume_nguid=NGUID, target_nqn=f"{NQN}2"))
    assert brick.disconnected == ["nvme1n1"]
    assert host.inspect(other("nvmeof", "vol-a", volume_nguid=NGUID), first.details) == first


def test_images_whose_names_differ_in_capitals_are_two(plain: tuple[Host, Plain]) -> None:
    host, brick = plain
    rbd(brick.host, "rbd0", "p/Data")
    assert host.inspect(other("rbd", "vol-a", name="p/data"), None) is None


def test_an_image_that_was_mapped_before_is_mapped_anew(plain: tuple[Host, Plain]) -> None:
    """Its name says nothing of its cluster, and os-brick would hand it out. The one with a link was connected here."""
    host, brick = plain
    rbd(brick.host, "rbd0", "p/data")
    (brick.host.roots.dev / "rbd0").unlink()
    brick.brings = "rbd1"
    assert host.connect(other("rbd", "vol-a", name="p/data")).device.endswith("rbd1")
    assert brick.disconnected == ["rbd0"]
    host.connect(other("rbd", "vol-a", name="p/data"))
    assert brick.disconnected == ["rbd0"]
