"""F-K11, as a kind: a connection is refused before anything is done, and can be taken back then; or it can be connected, looked for
and disconnected, with os-brick's own reading of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.adapters.brick import connection, locate, ways
from reconciler.adapters.brick.conn_info import checked, is_refused
from reconciler.adapters.brick.host import Host
from reconciler.adapters.brick.library import OsBrick
from reconciler.adapters.brick.settings import ConnectorSettings
from reconciler.runtime.ports import Target, Unsupported
from tests.unit.brick_host import FakeHost
from tests.unit.test_brick_conn_info import EVERYTHING, GOOD, anything, target

WWN = "50060160a0b0c0d0"
BLOCK = ("iscsi", "fibre_channel", "nvmeof", "rbd")
OLD_NVME = {
    "nqn": "nqn.2014-08.org.x:1",
    "target_portal": "10.0.0.1",
    "target_port": 4420,
    "transport_type": "tcp",
    "ns_id": 7,
}


class Reading:
    """os-brick's part of a disconnect: only how it reads a connection, by its own code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read: list[Any] = []

    def lacks_program(self, protocol: str) -> bool:
        return False

    def mount_point(self, export: str) -> Path:
        return self.folder / "mounts" / "share"

    def disconnect(self, protocol: str, data: Mapping[str, Any], device_info: object, **_: object) -> None:
        self.read = read_by_os_brick(protocol, dict(data))


def read_by_os_brick(protocol: str, data: dict[str, Any]) -> list[Any]:
    """The paths that it sees in a connection."""
    from os_brick.initiator.connectors import fibre_channel, iscsi, nvmeof

    if protocol in locate.ISCSI:
        return (
            iscsi.ISCSIConnector(None)._get_ips_iqns_luns(data) if "target_portals" in data else [data["target_portal"]]
        )
    if protocol in locate.NVME:
        return [portal for each in nvmeof.NVMeOFConnProps(data).targets for portal in each.portals]
    if protocol == "fibre_channel":
        reader = fibre_channel.FibreChannelConnector(None)
        return list(reader._add_targets_to_connection_properties(data)["targets"])
    pool, image = data["name"].split("/")
    return [(pool, image, data["cluster_name"], data["auth_username"], port) for port in data["ports"]]


def draw(data: st.DataObject) -> Target:
    """A good connection with some fields gone, of other kinds, repeated or from another protocol."""
    protocol = data.draw(st.sampled_from((*GOOD, "iser", "nvme", "local", "noop ")))
    like = {"iser": "iscsi", "nvme": "nvmeof"}.get(protocol, protocol)
    fields = dict(GOOD.get(like, {"device_path": "/x"}))
    if like == "nvmeof" and data.draw(st.booleans()):
        fields = dict(OLD_NVME)
    values = st.sampled_from(
        [*fields.values(), *OLD_NVME.values(), [], {}, "", "1", "7,1", "10.0.0.1:3260,1", [1], ["1"], [1, 2]]
    )
    for name in data.draw(
        st.lists(st.sampled_from([*fields, "ns_id", "portals", "target_luns", "encrypted"]), max_size=4)
    ):
        if data.draw(st.booleans()):
            fields.pop(name, None)
        else:
            fields[name] = data.draw(values | anything)
    return target(protocol, fields if data.draw(st.integers(0, 20)) else data.draw(anything))


@given(st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_connection_is_refused_or_can_be_read_and_whatever_was_noted_can_be_taken_back(data: st.DataObject) -> None:
    wanted = draw(data)
    with TemporaryDirectory() as folder:
        fake, brick = FakeHost(Path(folder)), Reading(Path(folder))
        own = ConnectorSettings(
            node="n", state_folder=Path(folder), my_ip="::1", protocols=EVERYTHING, link_folder=Path(folder) / "links"
        )
        host = Host(own, fake.roots, cast(OsBrick, brick))
        assert host.inspect(wanted, None) is None
        host.disconnect(wanted, None, flush=True)
        refused = is_refused(wanted)
        assert not (refused and brick.read), "nothing was begun"
        if refused:
            with pytest.raises(Unsupported):
                checked(wanted, own)
        elif (protocol := ways.protocol_of(wanted)) in locate.PROTOCOLS:
            assert brick.read or protocol == "rbd", "which has nothing but its device"
            assert protocol not in locate.ISCSI or locate.iqns(ways.data_of(checked(wanted, own)))
        # Of an earlier version, or spoiled since: there are details, so something was connected.
        assert host.inspect(replaced(wanted), {"device_info": {}}) is None


def replaced(wanted: Target) -> Target:
    return wanted if ways.protocol_of(wanted) != "noop " else target("iscsi", {})


@pytest.mark.parametrize("protocol", BLOCK)
def test_what_no_driver_has_to_give_does_not_reach_os_brick(protocol: str) -> None:
    """It would take them as orders: which device to flush, to ask, to leave alone."""
    orders = {
        "device_path": "/dev/sda",
        "alias": "../x",
        "replica_count": 2,
        "encrypted": True,
        "targets": [],
        "do_local_attach": False,
    }
    assert connection.form(protocol, GOOD[protocol] | orders) == connection.form(protocol, GOOD[protocol])


@pytest.mark.parametrize(
    ("protocol", "one", "other"),
    [
        ("iscsi", {"target_lun": "1"}, {"target_lun": 1}),
        ("iscsi", {"target_portal": "10.0.0.1:3260,1"}, {"target_portal": "10.0.0.1:3260"}),
        ("iscsi", {"target_portal": "[FD00:0:0::1]:3260"}, {"target_portal": "[fd00::1]:3260"}),
        ("fibre_channel", {"target_wwn": "0x50060160A0B0C0D0", "target_lun": "2"}, {"target_wwns": [WWN], "target_luns": [2]}),
        ("nvmeof", OLD_NVME, {"target_nqn": OLD_NVME["nqn"], "portals": [["10.0.0.1", "4420", "tcp"]], "ns_id": "7"}),
    ],
)  # fmt: skip
def test_one_address_is_one_however_it_is_spelled(protocol: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    """os-brick compares them letter by letter: a device would come, and never go."""
    base = {"target_iqn": "iqn.2010-10.org:x", "target_portal": "10.0.0.1:3260"} if protocol == "iscsi" else {}
    first, second = (connection.form(protocol, base | each) for each in (one, other))
    assert first == second
    assert first.get("ns_id", "7") == "7", "sysfs has text"
    assert locate.addresses(protocol, first)


def test_several_portals_of_one_target_are_its_paths() -> None:
    given = {"target_portals": ["10.0.0.1:3260", "10.0.0.2:3260"], "target_iqn": "iqn.2010-10.org:x", "target_lun": 3}
    assert connection.form("iscsi", given) == {
        "target_portals": given["target_portals"],
        "target_iqns": [given["target_iqn"]] * 2,
        "target_luns": [3, 3],
    }


def test_a_local_disk_is_no_namespace_of_a_connection_that_names_none(tmp_path: Path) -> None:
    fake = FakeHost(tmp_path)
    fake.disk("nvme0n1")
    assert locate.devices(fake.roots, "nvmeof", connection.form("nvmeof", {"ns_id": None})) == []


def test_a_port_of_the_host_may_reach_none_of_the_storages(tmp_path: Path) -> None:
    """As a driver tells that asks the switches."""
    ports = {"10000090FA1B2C3D": [WWN], "10000090fa1b2c3e": []}
    wanted = target("fibre_channel", GOOD["fibre_channel"] | {"initiator_target_map": ports})
    own = ConnectorSettings(node="n", state_folder=tmp_path, my_ip="::1")
    assert ways.data_of(checked(wanted, own))["initiator_target_map"] == {
        "10000090fa1b2c3d": [WWN],
        "10000090fa1b2c3e": [],
    }
