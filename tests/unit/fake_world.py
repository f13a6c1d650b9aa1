"""A world of fakes for tests of the fakes: one array, one controller process, and hosts with a daemon each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reconciler.runtime.ports import Device, Export, PortError, Target, VolumeData
from tests.fakes.array import FakeArray
from tests.fakes.audit import Audit
from tests.fakes.backend import FakeBackend
from tests.fakes.child import Fault
from tests.fakes.clock import Process, VirtualClock
from tests.fakes.connector import FakeConnector
from tests.fakes.host import FakeDevice, FakeHost


class World:
    """One array, one controller process, and hosts with a daemon each."""

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock()
        self.audit = Audit(self.clock.now)
        self.array = FakeArray("array", self.audit)
        self.controller = self.clock.process("controller")
        self.backend = FakeBackend(self.array, self.controller)
        self.backend.open([])

    def host(self, name: str) -> tuple[FakeHost, FakeConnector, Process]:
        host, daemon = FakeHost(name, [self.array]), self.clock.process(name)
        return host, FakeConnector(host, daemon), daemon

    def volume(self, name: str, *hosts: FakeHost) -> VolumeData:
        """A volume that exists, with these holders; not exported."""
        exports = tuple(Export(host.name, 1, "rw", {"initiator": host.initiator}) for host in hosts)
        volume = VolumeData(name, f"uid-{name}", 1, {}, exports)
        self.backend.create(volume)
        return volume

    def exported(self, name: str, host: FakeHost) -> tuple[VolumeData, Target]:
        volume = self.volume(name, host)
        self.backend.export(volume, volume.exports[0])
        return volume, self.target(volume)

    def target(self, volume: VolumeData) -> Target:
        reply = self.backend.connect(volume, volume.exports[0])
        assert reply.conn_info is not None
        return Target(volume.volume, reply.conn_info, False, reply.size_bytes, reply.identity)

    def withdraw(self, volume: VolumeData) -> None:
        self.backend.terminate(volume, volume.exports[0])
        self.backend.unexport(replace(volume, exports=()))


def device_of(host: FakeHost, device: Device) -> FakeDevice:
    found = host.device(device.path)
    assert found is not None
    return found


def on(name: str, fault: Fault) -> Callable[[str], Fault | None]:
    """This fault at every such call."""
    return lambda call: fault if call == name else None


def begin(process: Process, call: Callable[[], object]) -> list[object]:
    """Call in a task of the process. The list gets what it returns or raises."""
    outcome: list[object] = []

    def body() -> None:
        try:
            outcome.append(call())
        except PortError as error:
            outcome.append(error)

    process.spawn("call", body)
    return outcome
