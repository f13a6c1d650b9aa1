"""Which volume is behind a device: all spellings of an identity are one, and a wrong device is told from the right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.adapters.brick import connection, identity, locate, paths, sysfs
from reconciler.runtime.ports import IdentityMismatch
from tests.unit.brick_host import FakeHost

NAA = "6001405b6c4a0b1f8d94d6fa1c5e2a30"


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def page_83(*designators: tuple[int, int, bytes]) -> bytes:
    """SCSI page 83h with designators (association, type, value)."""
    body = b"".join(
        bytes([1, association << 4 | kind, 0, len(value)]) + value for association, kind, value in designators
    )
    return bytes([0, 0x83]) + len(body).to_bytes(2, "big") + body


# --- spellings


@pytest.mark.parametrize(
    "spelling", [f"naa.{NAA}", f"3{NAA}", f"0x{NAA}", NAA.upper(), f"mpath-3{NAA}", f"wwn-0x{NAA}", f"scsi-3{NAA}"]
)
def test_an_naa_has_one_form(spelling: str) -> None:
    assert identity.canonical(spelling) == NAA


def test_other_kinds_keep_what_tells_them_apart() -> None:
    assert identity.canonical("eui.00253858") == identity.canonical("0x00253858")
    assert identity.canonical("uuid.4cfa2f5e-0b2c-4ac1-9f5b-9c0e1f2a3b4c") == "4cfa2f5e0b2c4ac19f5b9c0e1f2a3b4c"
    assert identity.canonical("t10.ATA     QEMU  QM01") == identity.canonical("1ATA_QEMU_QM01")
    assert identity.canonical("pool/volume-1") != identity.canonical("pool/volume-2")


def test_numbers_tell_volumes_apart_where_texts_do_not() -> None:
    one, other = frozenset({NAA, "1vendor_disk"}), frozenset({NAA[::-1], "1vendor_disk"})
    assert identity.differ(one, other)
    assert not identity.differ(one, frozenset({NAA, "1vendor_disk_2"}))
    assert identity.differ(frozenset({"1vendor_a"}), frozenset({"1vendor_b", NAA}))
    assert not identity.differ(one, frozenset())


# --- what a device says


def test_a_scsi_disk_has_the_identities_of_its_unit_and_not_of_its_port(host: FakeHost) -> None:
    folder = host.scsi("sda", f"naa.{NAA}", size_bytes=3 << 20)
    (folder / "device" / "vpd_pg83").write_bytes(
        page_83(
            (0, 3, bytes.fromhex(NAA)),
            (0, 1, b"LIO-ORG volume-1"),
            (1, 3, bytes.fromhex("50" * 8)),
            (2, 8, b"iqn.2010-10:target"),
        )
    )
    seen = identity.of_device(host.roots, "sda")
    assert (seen.main, seen.size_bytes) == (f"naa.{NAA}", 3 << 20)
    assert seen.spellings == {NAA, "1lio-org_volume-1"}


def test_a_cut_off_page_is_read_as_far_as_it_goes(host: FakeHost) -> None:
    folder = host.scsi("sda", "")
    (folder / "device" / "vpd_pg83").write_bytes(page_83((0, 3, bytes.fromhex(NAA)))[:-4])
    identity.of_device(host.roots, "sda")


def test_a_map_has_the_identity_that_multipathd_gave_it(host: FakeHost) -> None:
    host.scsi("sda", f"naa.{NAA}")
    host.stack("dm-0", ["sda"], uuid=f"mpath-3{NAA}", label="mpatha")
    assert identity.of_device(host.roots, "dm-0").main == f"3{NAA}"


def test_a_map_of_lvm_has_none(host: FakeHost) -> None:
    host.stack("dm-1", [], uuid="LVM-abcdef")
    assert identity.of_device(host.roots, "dm-1").main == ""


def test_an_nvme_namespace_is_known_by_uuid_and_nguid_but_not_by_zeros(host: FakeHost) -> None:
    host.disk(
        "nvme0n1",
        uuid="4cfa2f5e-0b2c-4ac1-9f5b-9c0e1f2a3b4c",
        nguid="00000000-0000-0000-0000-000000000000",
        wwid="eui.0025385b91b0",
    )
    assert identity.of_device(host.roots, "nvme0n1").spellings == {"4cfa2f5e0b2c4ac19f5b9c0e1f2a3b4c", "0025385b91b0"}


def test_an_rbd_is_its_image(host: FakeHost) -> None:
    host.disk("rbd0")
    for key, text in {"pool": "volumes", "name": "volume-1", "pool_ns": ""}.items():
        host.write(host.roots.sys / "bus" / "rbd" / "devices" / "0" / key, text)
    assert identity.of_device(host.roots, "rbd0").main == "volumes/volume-1"


def test_devices_are_found_by_identity_with_the_map_over_them(host: FakeHost) -> None:
    host.scsi("sda", f"naa.{NAA}")
    host.scsi("sdb", "naa.6001405ffff")
    host.stack("dm-0", ["sda"], uuid=f"mpath-3{NAA}")
    assert identity.with_identity(host.roots, f"3{NAA}") == ["dm-0", "sda"]
    assert identity.with_identity(host.roots, "") == []


# --- comparing


def test_the_promised_device_passes() -> None:
    seen = identity.Identity(1 << 20, f"naa.{NAA}", frozenset({NAA}))
    identity.verify(seen, "/dev/sda", size_bytes=1 << 20, expected=f"3{NAA}")
    identity.verify(seen, "/dev/sda", size_bytes=None, expected=None)


@pytest.mark.parametrize(
    ("size_bytes", "expected"), [(2 << 20, None), (None, "36001405ffff"), (1 << 20, "36001405ffff")]
)
def test_another_device_does_not(size_bytes: int | None, expected: str | None) -> None:
    seen = identity.Identity(1 << 20, f"naa.{NAA}", frozenset({NAA}))
    with pytest.raises(IdentityMismatch, match="/dev/sda"):
        identity.verify(seen, "/dev/sda", size_bytes=size_bytes, expected=expected)


def test_a_device_that_says_nothing_is_not_taken_for_the_promised_one() -> None:
    with pytest.raises(IdentityMismatch):
        identity.verify(identity.Identity(1 << 20, "", frozenset()), "/dev/sda", size_bytes=1 << 20, expected=NAA)


# --- where a connection's devices are


def test_an_iscsi_volume_is_found_through_every_session_of_its_target_and_nothing_else(host: FakeHost) -> None:
    host.iscsi_lun(1, "iqn.2010-10:a", 3, "sda")
    host.iscsi_lun(2, "iqn.2010-10:a", 3, "sdb")
    host.iscsi_lun(1, "iqn.2010-10:a", 4, "sdc")
    host.iscsi_lun(3, "iqn.2010-10:ab", 3, "sdd")
    data = {"target_portal": "10.0.0.1:3260", "target_iqn": "iqn.2010-10:a", "target_lun": 3}
    assert locate.devices(host.roots, "iscsi", data) == ["sda", "sdb"]


def test_each_target_of_a_connection_has_its_own_lun(host: FakeHost) -> None:
    host.iscsi_lun(1, "iqn:a", 1, "sda")
    host.iscsi_lun(2, "iqn:b", 2, "sdb")
    host.iscsi_lun(2, "iqn:b", 1, "sdc")
    data = {"target_portals": ["x", "y"], "target_iqns": ["iqn:a", "iqn:b"], "target_luns": [1, 2]}
    assert locate.devices(host.roots, "iscsi", data) == ["sda", "sdb"]
    assert locate.paths_expected("iscsi", data, multipath=True) == 2


def test_flat_addressing_moves_the_number(host: FakeHost) -> None:
    host.iscsi_lun(1, "iqn:a", 16384 + 300, "sda")
    data = {"target_portal": "10.0.0.1:3260", "target_iqn": "iqn:a", "target_lun": 300}
    assert locate.devices(host.roots, "iscsi", data | {"addressing_mode": "SAM2"}) == ["sda"]
    assert locate.devices(host.roots, "iscsi", data) == []


def test_a_fibre_channel_volume_is_found_by_port_and_lun(host: FakeHost) -> None:
    host.fc_lun("1:0:0", "500a098280feeba5", 2, "sda")
    host.fc_lun("1:0:0", "500a098280feeba5", 3, "sdb")
    data = connection.form("fibre_channel", {"target_wwn": ["500A098280FEEBA5", "500a098290feeba5"], "target_lun": 2})
    assert locate.devices(host.roots, "fibre_channel", data) == ["sda"]


def test_a_fabric_that_came_back_is_no_other_address(host: FakeHost) -> None:
    """The driver told the ports that were up at the attach. What has the volume's LUN behind another port may be a path of it."""
    host.fc_lun("1:0:0", "500a098280feeba5", 2, "sda")
    host.fc_lun("2:0:0", "500a098290feeba5", 2, "sdb")
    host.fc_lun("2:0:0", "500a098290feeba5", 3, "sdc")
    data = connection.form("fibre_channel", {"target_wwn": ["500a098280feeba5"], "target_lun": 2})
    assert locate.elsewhere(host.roots, "fibre_channel", data, ["sda", "sdb", "sdc"]) == {"sdc"}


def test_an_nvme_volume_is_found_by_uuid_among_those_of_its_subsystem(host: FakeHost) -> None:
    uuids = ["4cfa2f5e-0b2c-4ac1-9f5b-9c0e1f2a3b4c", "5cfa2f5e-0b2c-4ac1-9f5b-9c0e1f2a3b4c"]
    for index, uuid in enumerate(uuids):
        host.disk(f"nvme0n{index + 1}", uuid=uuid, nsid=str(index + 1), device__subsysnqn="nqn:a")
    data = {"target_nqn": "nqn:a", "vol_uuid": uuids[1].upper(), "portals": [["10.0.0.1", "4420", "tcp"]]}
    assert locate.devices(host.roots, "nvmeof", data) == ["nvme0n2"]
    assert locate.devices(host.roots, "nvmeof", {"target_nqn": "nqn:a", "ns_id": "1"}) == ["nvme0n1"]
    assert locate.devices(host.roots, "nvmeof", {"target_nqn": "nqn:b", "ns_id": "1"}) == []


# --- paths


def test_paths_of_a_map_count_by_their_state(host: FakeHost) -> None:
    host.scsi("sda", f"naa.{NAA}")
    host.scsi("sdb", f"naa.{NAA}", state="transport-offline")
    host.stack("dm-0", ["sda", "sdb"], uuid=f"mpath-3{NAA}")
    assert paths.count(host.roots, "dm-0") == (1, 2)


def test_a_path_that_never_appeared_is_missing(host: FakeHost) -> None:
    host.scsi("sda", f"naa.{NAA}")
    host.stack("dm-0", ["sda"], uuid=f"mpath-3{NAA}")
    assert paths.count(host.roots, "dm-0", expected=2) == (1, 2)


def test_a_map_may_have_lost_all_its_paths(host: FakeHost) -> None:
    host.stack("dm-0", [], uuid=f"mpath-3{NAA}")
    assert paths.count(host.roots, "dm-0") == (0, 0)


def test_native_nvme_multipath_counts_controllers(host: FakeHost) -> None:
    host.disk("nvme0n1", device__nvme0__state="live", device__nvme1__state="connecting")
    host.disk("nvme1n1", device__state="live")
    assert paths.count(host.roots, "nvme0n1") == (1, 2)
    assert paths.count(host.roots, "nvme1n1") == (1, 1)


def test_a_loop_device_has_one_path_while_it_is_there(host: FakeHost) -> None:
    host.disk("loop3")
    assert paths.count(host.roots, "loop3") == (1, 1)
    assert paths.count(host.roots, "loop4") == (0, 1)


def test_a_link_names_a_device_only_when_it_leads_to_one(host: FakeHost, tmp_path: Path) -> None:
    host.disk("sda")
    link = tmp_path / "link"
    link.symlink_to(host.roots.dev / "sda")
    assert sysfs.name_of(host.roots, link) == "sda"
    assert sysfs.name_of(host.roots, host.roots.dev / "sdb") is None
    assert sysfs.name_of(host.roots, tmp_path / "sda") is None
