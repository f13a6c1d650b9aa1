"""The backend's contract on the fake, so that it does not drift from Cinder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

pytest.register_assert_rewrite("tests.contract.backend_contract")

from reconciler.runtime.ports import PortError, Retryable  # noqa: E402
from tests.contract.backend_contract import BackendContract, Call, FailingBackendContract  # noqa: E402
from tests.fakes.array import FakeArray  # noqa: E402
from tests.fakes.backend import FakeBackend  # noqa: E402
from tests.fakes.child import FOREVER, Fault  # noqa: E402
from tests.fakes.clock import VirtualClock  # noqa: E402


class FakeRig:
    """Backends over one fake array, in virtual time."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.array = FakeArray("array")
        self.array.list_exports = True
        self._failing: list[FakeBackend] = []

    def backend(self) -> FakeBackend:
        return FakeBackend(self.array, self.clock.process("controller"))

    def opened(self) -> FakeBackend:
        backend = self.backend()
        backend.open([])
        return backend

    def adoptable(self) -> dict[str, Any]:
        self.array.strangers["disk"] = 1
        return {"source-name": "disk"}

    def failing(self, call: Call, how: Literal["hang", "fail", "die"]) -> FakeBackend:
        faults = {
            "hang": Fault(before_s=FOREVER),
            "fail": Fault(lands=False, raises=Retryable("the driver failed")),
            "die": Fault(lands=False, dies=True),
        }
        backend = self.backend()
        backend.fault = lambda name: faults[how] if name == call else None
        self._failing = [backend]
        return backend

    def under_way(self, call: Call) -> bool:
        return call in self._failing[0].child.under_way

    def during(self, call: Callable[[], object], when: Callable[[], bool], act: Callable[[], None]) -> Exception | None:
        raised: list[Exception] = []

        def keep_what_is_raised() -> None:
            try:
                call()
            except PortError as error:
                raised.append(error)

        task = self.clock.spawn("call", keep_what_is_raised)
        self.clock.run_until(when)
        act()
        task.join()
        return raised[0] if raised else None


@pytest.fixture
def rig() -> FakeRig:
    """A new array."""
    return FakeRig()


class TestFakeBackend(BackendContract, FailingBackendContract):
    """Every promise of the port."""
