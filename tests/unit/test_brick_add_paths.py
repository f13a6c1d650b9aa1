"""A portal that was dead at the attach and answers again: its path is added, and nothing else is touched (A40)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from reconciler.adapters.brick.host import Host
from reconciler.adapters.brick.library import OsBrick
from reconciler.adapters.brick.settings import ConnectorSettings
from reconciler.runtime.ports import IdentityMismatch, Retryable, Target
from tests.unit.brick_host import FakeHost
from tests.unit.test_brick_block import IQN, LUN, SIZE, FakeBrick, target


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.fixture
def portals() -> Iterator[list[str]]:
    """Two that answer."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        yield [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]


@pytest.fixture
def brick(fake: FakeHost, portals: list[str]) -> FakeBrick:
    """Finds the first portal's disk only."""
    brick = FakeBrick(fake)
    brick.multipath, brick.portals = True, portals
    return brick


@pytest.fixture
def host(fake: FakeHost, brick: FakeBrick, tmp_path: Path) -> Host:
    settings = ConnectorSettings(
        node="n1", state_folder=tmp_path / "state", my_ip="10.0.0.9", link_folder=tmp_path / "links"
    )
    return Host(settings, fake.roots, cast(OsBrick, brick))


@pytest.fixture
def both(portals: list[str]) -> Target:
    lists: dict[str, Any] = {"target_portals": portals, "target_iqns": [IQN] * 2, "target_luns": [LUN] * 2}
    return target(**lists)


def test_a_portal_that_is_back_is_told_and_its_path_added(
    host: Host, brick: FakeBrick, both: Target, portals: list[str]
) -> None:
    device = host.connect(both)
    assert (device.paths_live, device.paths_total, device.portals_back) == (1, 2, ())
    assert host.inspect(both, device.details) == replace(device, portals_back=(portals[1],))

    brick.disks = ["sda", "sdb"]
    whole = host.add_paths(both, device.details)
    assert brick.calls[-2:] == ["add paths", f"manual {IQN} {IQN}"]
    assert (whole.paths_live, whole.paths_total) == (2, 2)
    assert host.inspect(both, device.details) == whole
    assert replace(whole, paths_live=1) == device


def test_a_silent_portal_costs_no_call(host: Host, brick: FakeBrick, both: Target, portals: list[str]) -> None:
    lists = {"target_portals": [portals[0], "[::1]:1"]}
    silent = replace(both, conn_info={**both.conn_info, "data": {**both.conn_info["data"], **lists}})
    device = host.connect(silent)
    assert host.inspect(silent, device.details) == device
    before = list(brick.calls)
    with pytest.raises(Retryable, match="no portal answers"):
        host.add_paths(silent, device.details)
    assert brick.calls == before


def test_a_lost_path_with_a_session_is_left_to_iscsid(
    host: Host, brick: FakeBrick, both: Target, fake: FakeHost
) -> None:
    brick.disks = ["sda", "sdb"]
    device = host.connect(both)
    fake.write(fake.roots.block("sdb") / "device" / "state", "transport-offline")
    assert host.inspect(both, device.details) == replace(device, paths_live=1)


def test_a_plain_disk_is_not_made_a_map_under_its_users(host: Host, brick: FakeBrick, both: Target) -> None:
    """It was connected while multipathd did not run; only a new attachment makes a map of it."""
    brick.multipath = False
    device = host.connect(both)
    brick.multipath = True
    assert host.inspect(both, {**device.details, "use_multipath": True}) == replace(
        device, paths_total=2, details={**device.details, "use_multipath": True}
    )


def test_nothing_is_added_to_what_is_not_the_volume(host: Host, brick: FakeBrick, both: Target) -> None:
    """A34: looked at before, so that nobody logs in for a device that must not be used."""
    device = host.connect(both)
    before = list(brick.calls)
    with pytest.raises(IdentityMismatch):
        host.add_paths(replace(both, size_bytes=2 * SIZE), device.details)
    assert brick.calls == before


def test_nothing_is_connected_anew(host: Host, brick: FakeBrick, both: Target) -> None:
    """Only a connect, under its own step, may bring a device that is not here."""
    with pytest.raises(Retryable, match="no device"):
        host.add_paths(both, None)
    assert brick.calls == []


def test_a_failure_leaves_the_device_as_it_was(
    host: Host, brick: FakeBrick, both: Target, portals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = host.connect(both)

    def refuse(*_: Any, **__: Any) -> dict[str, Any]:
        raise Retryable("login refused")

    monkeypatch.setattr(brick, "connect", refuse)
    with pytest.raises(Retryable, match="login refused"):
        host.add_paths(both, device.details)
    assert host.inspect(both, device.details) == replace(device, portals_back=(portals[1],))
