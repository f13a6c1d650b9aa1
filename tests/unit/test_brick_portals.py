"""Only portals that answer are logged in to: os-brick would wait two minutes for each of the others (A40)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.adapters.brick import portals
from reconciler.adapters.brick.portals import Portals
from reconciler.runtime.ports import Terminal


@pytest.fixture
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing() -> str:
    """A portal where nobody listens: the port was given to us, and given back."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_only_portals_that_answer_are_logged_in_to(listening: str, refusing: str) -> None:
    """A40: os-brick would wait two minutes for the other."""
    lists = {"target_portals": [refusing, listening], "target_iqns": ["a", "b"], "target_luns": [1, 2]}
    data = {"x": 1} | lists
    alive = {"target_portals": [listening], "target_iqns": ["b"], "target_luns": [2]}
    assert Portals().answering("iscsi", data) == {"x": 1} | alive
    assert Portals().answering("iser", data) == data, "RDMA has no TCP port to ask"
    nvme = {"portals": [[*listening.split(":"), "tcp"], [*refusing.split(":"), "tcp"]]}
    assert Portals().answering("nvmeof", nvme) == {"portals": [[*listening.split(":"), "tcp"]]}


def test_when_no_portal_answers_all_are_tried(refusing: str) -> None:
    data = {"target_portals": [refusing, refusing], "target_iqns": ["a", "b"], "target_luns": [1, 2]}
    assert Portals().answering("iscsi", data) == data


def test_a_single_portal_is_not_asked(refusing: str) -> None:
    data = {"target_portal": refusing, "target_iqn": "a", "target_lun": 1}
    assert Portals().answering("iscsi", data) == data


def test_a_silent_portal_is_not_asked_by_every_volume(refusing: str) -> None:
    """A hundred volumes that miss the same portal ask it once; a while later it is asked again."""
    asker = Portals()
    assert asker.alive([refusing]) == []
    host, port = refusing.split(":")
    with socket.create_server((host, int(port))):
        assert asker.alive([refusing]) == [], "believed to be silent still"
        assert Portals().alive([refusing]) == [refusing]


def test_a_portal_without_a_port_is_asked_at_iscsi_s_own() -> None:
    data = {"target_portals": ["127.0.0.1", "[::1]"], "target_iqns": ["a", "b"], "target_luns": [1, 2]}
    assert Portals().answering("iscsi", data) == data


NETWORKS = (ipaddress.ip_network("10.1.0.0/24"), ipaddress.ip_network("fd00:1::/64"))
LISTS = {
    "target_portals": ["10.1.0.5:3260", "10.2.0.5:3260", "[fd00:1::5]:3260", "[fe80::5]:3260", "san.example:3260"],
    "target_iqns": ["a", "b", "c", "d", "e"],
    "target_luns": [1, 2, 3, 4, 5],
}


def test_only_portals_of_the_hosts_storage_networks_are_for_it() -> None:
    """F-B8: an array tells those of all networks that it is in. What is no address can't be told apart."""
    mine = portals.for_this_host("iscsi", {"x": 1} | LISTS, NETWORKS)
    assert mine["target_portals"] == ["10.1.0.5:3260", "[fd00:1::5]:3260", "san.example:3260"]
    assert (mine["target_iqns"], mine["target_luns"], mine["x"]) == (["a", "c", "e"], [1, 3, 5], 1)
    nvme = {"portals": [["10.2.0.5", 4420, "tcp"], ["10.1.0.5", 4420, "tcp"]]}
    assert portals.for_this_host("nvmeof", nvme, NETWORKS) == {"portals": [["10.1.0.5", 4420, "tcp"]]}


def test_without_such_a_setting_only_link_local_portals_are_not_for_it() -> None:
    mine = portals.for_this_host("iscsi", LISTS, ())
    assert mine["target_iqns"] == ["a", "b", "c", "e"]


@pytest.mark.parametrize(
    "data",
    [{"target_portal": "10.2.0.5:3260"}, {"target_portals": ["10.2.0.5:3260"]}, {"portals": [["10.2.0.5", 1, "tcp"]]}],
)
def test_a_connection_without_a_portal_for_this_host_is_refused(data: dict[str, Any]) -> None:
    protocol = "nvmeof" if "portals" in data else "iscsi"
    with pytest.raises(Terminal, match=r"10\.2\.0\.5.*storage_networks"):
        portals.refuse_other_networks(protocol, data, NETWORKS)
    portals.refuse_other_networks(protocol, data, ())
