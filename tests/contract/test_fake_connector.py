"""The connector's contract on the fake, so that it does not drift from os-brick."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

pytest.register_assert_rewrite("tests.contract.connector_contract")

from reconciler.runtime.ports import Device, Target  # noqa: E402
from tests.contract.connector_contract import ConnectorContract  # noqa: E402
from tests.fakes.array import GIB, PROTOCOL, FakeArray  # noqa: E402
from tests.fakes.clock import Process, VirtualClock  # noqa: E402
from tests.fakes.connector import FakeConnector  # noqa: E402
from tests.fakes.host import FakeHost  # noqa: E402


class FakeRig:
    """One fake node, in virtual time."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.array = FakeArray("array")
        self.host = FakeHost("n1", [self.array])
        self._begin()

    def _begin(self) -> None:
        self.daemon: Process = self.clock.process("node")
        self.connector = FakeConnector(self.host, self.daemon)

    def volume(self, name: str) -> Target:
        uid = f"uid-{name}"
        self.array.create(uid, 1)
        self.array.create_export(uid)
        data = {"target": self.array.target, "lun": self.array.map(uid, self.host.initiator), "access_mode": "rw"}
        return Target(name, {"driver_volume_type": PROTOCOL, "data": data}, False, GIB, uid)

    def grow(self, target: Target) -> Target:
        assert target.identity is not None
        return replace(target, size_bytes=self.array.extend(target.identity, 2).size_gib * GIB)

    def use(self, device: Device) -> AbstractContextManager[object]:
        used = self.host.device(device.path)
        assert used is not None
        return self.host.using(used, "opened by a test")

    def published(self) -> Sequence[str]:
        return sorted(self.host.links)

    def restart(self) -> None:
        self.daemon.kill()
        self._begin()


@pytest.fixture
def rig() -> FakeRig:
    """A new host."""
    return FakeRig()


class TestFakeConnector(ConnectorContract):
    """All of the contract."""
