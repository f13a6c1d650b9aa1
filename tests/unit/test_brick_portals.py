"""Only portals that answer are logged in to: os-brick would wait two minutes for each of the others (A40)."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from reconciler.adapters.brick.portals import Portals


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
    data = {"target_portal": refusing, "x": 1} | lists
    alive = {"target_portals": [listening], "target_iqns": ["b"], "target_luns": [2]}
    assert Portals().answering("iscsi", data) == {"target_portal": listening, "x": 1} | alive
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
    portals = Portals()
    assert portals.alive([refusing]) == []
    host, port = refusing.split(":")
    with socket.create_server((host, int(port))):
        assert portals.alive([refusing]) == [], "believed to be silent still"
        assert Portals().alive([refusing]) == [refusing]


def test_a_portal_without_a_port_is_asked_at_iscsi_s_own() -> None:
    data = {"target_portals": ["127.0.0.1", "[::1]"], "target_iqns": ["a", "b"], "target_luns": [1, 2]}
    assert Portals().answering("iscsi", data) == data
