"""The `Backend` port on a fake array: a driver in a worker of one controller process.

The array is changed by the worker, at once, between two points of scheduling. What goes wrong with a call says `backend.fault`;
what is wrong with the array are its attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from reconciler.runtime.ports import (
    BackendInfo,
    Export,
    Exposure,
    NotOpen,
    Opened,
    OtherStorage,
    PortError,
    Reply,
    Retryable,
    Terminal,
    Unavailable,
    UnknownOutcome,
    Unsupported,
    VolumeData,
)
from tests.fakes.array import GIB, PROTOCOL, FakeArray
from tests.fakes.child import FakeChild, Fault, Step
from tests.fakes.clock import Process

DEADLINE_S = 180.0
OPEN_DEADLINE_S = 900.0

T = TypeVar("T")


class FakeBackend:
    """`ports.Backend` for a fake array, in a worker of its own.

    Args:
        clock: the controller's process. When it is killed, the worker dies too; when it is paused, the worker goes on.
    """

    def __init__(self, array: FakeArray, clock: Process, name: str | None = None) -> None:
        self.name = name or array.name
        self.array = array
        self.child = FakeChild(f"backend-{self.name}", clock)
        self.deadline_s = DEADLINE_S
        self.open_deadline_s = OPEN_DEADLINE_S
        self.landing: Callable[[str, VolumeData, Export | None], None] = lambda *_: None
        """Told each effect on the array (call, volume, holder) right before it happens."""
        self._is_open = False
        self._unused = False
        self._storage = ""

    @property
    def fault(self) -> Callable[[str], Fault | None]:
        """Asked at each call with its name (``"connect"`` …) what goes wrong with it."""
        return self.child.fault

    @fault.setter
    def fault(self, fault: Callable[[str], Fault | None]) -> None:
        self.child.fault = fault

    def prepare(self) -> None:
        if not (self._unused and self.child.running):
            self.child.kill()
            self._is_open = False
            self.child.start()
            self._unused = True

    def open(self, volumes: Sequence[VolumeData], storage: str = "") -> Opened:
        def act(step: Step) -> Opened:
            info = self._info()
            if storage not in ("", info.storage) and volumes:
                raise OtherStorage(f"volumes are recorded on {storage}, and this is {info.storage}", info.storage)
            for volume in volumes:
                if step.lands and volume.exports and volume.uid in self.array.volumes:
                    self.array.create_export(volume.uid)
            self._is_open, self._storage = True, info.storage
            return Opened(info)

        self.prepare()
        self._unused = False
        try:
            return self.child.call("open", act, self.open_deadline_s)
        except UnknownOutcome as error:
            raise Unavailable(f"the set-up did not end: {error}") from error
        except PortError:
            self.child.kill()
            raise

    def describe(self) -> BackendInfo:
        try:
            return self._ask("describe", lambda _: self._info())
        except UnknownOutcome as error:
            raise Unavailable(str(error)) from error

    def create(self, volume: VolumeData) -> Reply:
        model = {**volume.model, "provider_location": self.array.target}
        return self._call(
            "create",
            volume,
            lambda: self.array.create(volume.uid, volume.size_gib),
            lambda: Reply(model, self.array.volume(volume.uid).size_gib),
        )

    def extend(self, volume: VolumeData, size_gib: int) -> Reply:
        size_gib = max(size_gib, volume.size_gib)
        return self._call(
            "extend",
            volume,
            lambda: self.array.extend(volume.uid, size_gib),
            lambda: Reply(volume.model, self.array.volume(volume.uid).size_gib),
        )

    def delete(self, volume: VolumeData, others: Sequence[VolumeData] = (), *, gone: bool = False) -> None:
        def effect() -> None:
            array = self.array
            known = [each for each in (volume, *others) if each.uid in array.volumes]
            if not (array.mark or gone or known) and others:
                raise Terminal(
                    f"array {array.name} knows neither {volume.volume} nor any other volume: is it another one?"
                )
            array.delete(volume.uid)

        self._call("delete", volume, effect)

    def adopt(self, volume: VolumeData, reference: Mapping[str, Any]) -> Reply:
        name = str(reference.get("source-name"))
        model = {**volume.model, "provider_location": self.array.target}
        return self._call(
            "adopt",
            volume,
            lambda: self.array.adopt(volume.uid, name),
            lambda: Reply(model, self.array.volume(volume.uid).size_gib),
        )

    def export(self, volume: VolumeData, export: Export) -> Reply:
        def effect() -> None:
            _initiator(export)
            self.array.create_export(volume.uid)

        return self._call("export", volume, effect, export=export)

    def connect(self, volume: VolumeData, export: Export) -> Reply:
        return self._call(
            "connect",
            volume,
            lambda: self.array.map(volume.uid, _initiator(export)),
            lambda: self._connection(volume, export),
            export,
        )

    def terminate(self, volume: VolumeData, export: Export) -> Reply:
        """While other holders are behind the same initiator it keeps its access, as with Cinder's drivers."""
        shared = any(other != export and _initiator(other) == _initiator(export) for other in volume.exports)

        def effect() -> None:
            if not shared:
                self.array.unmap(volume.uid, _initiator(export))

        return self._call(
            "terminate", volume, effect, lambda: Reply(volume.model, volume.size_gib, shared=shared), export
        )

    def unexport(self, volume: VolumeData) -> Reply:
        return self._call("unexport", volume, lambda: self.array.remove_export(volume.uid))

    def exports(self) -> Sequence[Exposure]:
        def act(_: Step) -> Sequence[Exposure]:
            if not self._info().capabilities["list_exports"]:
                raise Unsupported("this driver cannot list its exports")
            return tuple(Exposure(uid, initiator) for uid, initiator in self.array.exposures())

        try:
            return self._ask("exports", act)
        except UnknownOutcome as error:
            raise Unavailable(str(error)) from error

    def permit(self, until_s: float) -> None:
        self.child.permit(until_s)

    def kill(self) -> None:
        self.child.kill()

    def _call(
        self,
        name: str,
        volume: VolumeData,
        effect: Callable[[], object],
        reply: Callable[[], Reply] | None = None,
        export: Export | None = None,
    ) -> Reply:
        """One call of the driver: the effect, unless it lies, and what it returns after that."""

        def act(step: Step) -> Reply:
            if self.array.away:
                raise Retryable(f"array {self.array.name} does not answer")
            if name in ("create", "delete", "adopt") and self._storage not in ("", self.array.mark):
                raise NotOpen(f"the storage is {self.array.mark} now, and was {self._storage}")
            if step.lands:
                self.landing(name, volume, export)
                effect()
            return reply() if reply else Reply(volume.model, volume.size_gib)

        return self._ask(name, act)

    def _ask(self, name: str, act: Callable[[Step], T]) -> T:
        def when_open(step: Step) -> T:
            if not self._is_open:
                raise NotOpen(f"{self.name} is not open yet")
            return act(step)

        return self.child.call(name, when_open, self.deadline_s)

    def _connection(self, volume: VolumeData, export: Export) -> Reply:
        array = self.array
        data = {
            "target": array.target,
            "lun": array.lun_for(volume.uid, _initiator(export)),
            "auth_password": array.password(),
            "access_mode": export.mode,
            **({"padding": array.padding} if array.padding else {}),
        }
        odd = array.odd_answers > 0
        array.odd_answers -= odd
        return Reply(
            volume.model,
            volume.size_gib,
            conn_info={"driver_volume_type": "unusable" if odd else PROTOCOL, "data": data},
            size_bytes=array.volume(volume.uid).size_gib * GIB if array.tells_size else None,
            identity=array.volume(volume.uid).identity if array.tells_identity else None,
        )

    def _info(self) -> BackendInfo:
        if self.array.away:
            raise Unavailable(f"array {self.array.name} does not answer")
        capabilities = {
            "multiattach": True,
            "manage_existing": True,
            "extend": True,
            "extend_online": self.array.extends_online,
            "list_exports": self.array.list_exports,
            "cuts_access": self.array.cuts_access,
        }
        room_gib = 10_000 / self.array.pools
        pools = [
            {"name": f"{self.name}.example.com:/export/pool-{n:04}", "total_gib": room_gib, "free_gib": room_gib}
            for n in range(self.array.pools)
        ]
        return BackendInfo(
            "tests.fakes.FakeDriver", PROTOCOL, capabilities, {"pools": pools}, self.array.identifiers, self.array.mark
        )


def _initiator(export: Export) -> str:
    """By which the array knows a node. Raises Terminal without one."""
    initiator = export.connector.get("initiator")
    if not initiator:
        raise Terminal(f"node {export.node} has published no initiator")
    return str(initiator)
