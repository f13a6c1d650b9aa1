"""The `Connector` port on a fake host: what os-brick and the code around it do, in a worker of one daemon process.

It passes the same contract suite. What goes wrong with a call says `connector.fault`; what is wrong with the host or the array
are their attributes: late paths, a wrong volume behind a LUN, leftovers, holders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from reconciler.runtime.ports import (
    Busy,
    Device,
    DuplicateIdentity,
    IdentityMismatch,
    LinkTaken,
    Retryable,
    Target,
    Terminal,
    Unsupported,
)
from tests.fakes.array import GIB, PROTOCOL
from tests.fakes.child import FakeChild, Fault, Step
from tests.fakes.clock import Process
from tests.fakes.host import LINKS, FakeDevice, FakeHost, address_of

DEADLINE_S = 180.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")

T = TypeVar("T")


class FakeConnector:
    """`ports.Connector` for a fake host, in a worker of its own.

    Args:
        clock: the node daemon's process. When it is killed, the worker dies too; when it is paused, the worker goes on.
    """

    def __init__(self, host: FakeHost, clock: Process) -> None:
        self.host = host
        self.child = FakeChild("os-brick", clock)
        self.deadline_s = DEADLINE_S
        self.landing: Callable[[str, Target], None] = lambda *_: None
        """Told each connect and disconnect of a device right before it happens, in the worker."""
        self._begun = False

    @property
    def fault(self) -> Callable[[str], Fault | None]:
        """Asked at each call with its name (``"connect"`` …) what goes wrong with it. A look can't lie."""
        return self.child.fault

    @fault.setter
    def fault(self, fault: Callable[[str], Fault | None]) -> None:
        self.child.fault = fault

    def properties(self) -> Mapping[str, Any]:
        return self._call("properties", self._properties)

    def connect(self, target: Target) -> Device:
        def act(step: Step) -> Device:
            _check(target)
            if target.volume in self.host.obstacles:
                raise LinkTaken(f"{LINKS}/{target.volume} is no link")
            _refuse_shared_address(target)
            self._bring(target, step)
            step.between()
            found = self._find(target, None)
            try:
                return self._publish(target, found, None, connecting=True)
            except DuplicateIdentity:
                self._remove(found, flush=False)
                raise

        return self._call("connect", act)

    def inspect(self, target: Target, details: Mapping[str, Any] | None) -> Device | None:
        def act(_: Step) -> Device | None:
            if _never_begun(target, details):
                return None
            _check(target)
            found = self._find(target, details)
            if found:
                device = self._publish(target, found, details, connecting=False)
                missing = device.paths_live < device.paths_total
                return replace(device, portals_back=tuple(self.host.portals_back(found[0]) if missing else ()))
            self.host.links.pop(target.volume, None)
            return None

        return self._call("inspect", act)

    def add_paths(self, target: Target, details: Mapping[str, Any] | None) -> Device:
        def act(step: Step) -> Device:
            _check(target)
            found = self._find(target, details)
            if not found:
                raise Retryable(f"no device of volume {target.volume} is on this host")
            self._publish(target, found, details, connecting=False)
            if not self.host.portals_back(found[0]):
                raise Retryable(f"no portal answers that {found[0].path} has no path through")
            if step.lands:
                self.host.join(found[0])
            step.between()
            return self._publish(target, found, details, connecting=False)

        return self._call("add_paths", act)

    def extend(self, target: Target, details: Mapping[str, Any] | None) -> Device:
        def act(step: Step) -> Device:
            _check(target)
            found = self._find(target, details)
            for device in found if step.lands else ():
                volume = self.host.served(device)
                device.size_gib = volume.size_gib if volume is not None else device.size_gib
            if not found:
                raise Retryable(f"no device of volume {target.volume} is on this host")
            step.between()
            told = self._publish(replace(target, size_bytes=None, least_bytes=None), found, details, connecting=False)
            if target.size_bytes not in (None, told.size_bytes):
                raise Retryable(f"{told.device} measures {told.size_bytes} bytes")
            return told

        return self._call("extend", act)

    def disconnect(self, target: Target, details: Mapping[str, Any] | None, *, flush: bool = True) -> None:
        def act(step: Step) -> None:
            if _never_begun(target, details):
                return
            _check(target)
            if step.lands:
                self._take_away(target, details, step, flush=flush)

        self._call("disconnect", act)

    def kill(self) -> None:
        self.child.kill()

    # --- In the worker

    def _properties(self, _: Step) -> Mapping[str, Any]:
        return {
            "host": self.host.hostname,
            "initiator": self.host.initiator,
            "ip": "192.0.2.1",
            "multipath": self.host.paths_total > 1,
            "nqn": self.host.nqn,
            "os_type": "linux",
            "platform": "x86_64",
        }

    def _find(self, target: Target, details: Mapping[str, Any] | None) -> list[FakeDevice]:
        """By address, those with live paths first. One that is elsewhere is another's, whatever its identity is."""
        if _shared(target):
            return []
        found = [each for each in self.host.devices.values() if each.address == address_of(target.conn_info)]
        return sorted(found, key=lambda device: (not self.host.paths_live(device), device.number))

    def _bring(self, target: Target, step: Step) -> None:
        """Make the device appear. A leftover of another volume at its address goes first (A35)."""
        present = self._find(target, None)
        if present and not self._trusted(target, present):
            self.host.links.pop(target.volume, None)
            if holders := _holders(present):
                raise Terminal(f"a leftover at this volume's address is in use: {'; '.join(holders)}")
            self._remove(present, flush=True)
            present = []
        if present and step.lands and self.host.portals_back(present[0]):
            self.host.join(present[0])
        if present and self.host.paths_live(present[0]):
            return
        if address_of(target.conn_info) in [device.address for device in present]:
            raise Retryable(f"{present[0].path} is there, but can't be read")
        if step.lands:
            self.landing("connect", target)
            self.host.sessions[address_of(target.conn_info)] = target.conn_info
            step.between()
            if self._find(target, None):
                return
        if not step.lands or self.host.attach(target.conn_info) is None:
            raise Retryable(f"no device of volume {target.volume} appeared")

    def _trusted(self, target: Target, present: list[FakeDevice]) -> bool:
        """Proven to be the volume, or published as such before."""
        if self.host.links.get(target.volume) == present[0].number:
            return True
        return target.identity is not None and _mismatch(target, present, None) is None

    def _publish(
        self, target: Target, found: list[FakeDevice], details: Mapping[str, Any] | None, *, connecting: bool
    ) -> Device:
        """The device as the port describes it: verified, read-only where it must be, and linked."""
        if mismatch := _mismatch(target, found, details):
            self.host.links.pop(target.volume, None)
            raise IdentityMismatch(f"{mismatch}; it was not published")
        if target.volume in self.host.obstacles:
            raise LinkTaken(f"{LINKS}/{target.volume} is no link")
        device = found[0]
        for other, known in target.others.items():
            if known.get("identity") == device.identity:
                raise DuplicateIdentity(
                    f"{target.volume} has the identity of {other}, which is here: {device.identity}"
                )
        read_only = target.read_only or target.conn_info["data"].get("access_mode") == "ro"
        if read_only or connecting:
            device.read_only = read_only
        self.host.links[target.volume] = device.number
        return Device(
            path=f"{LINKS}/{target.volume}",
            device=device.path,
            size_bytes=device.size_gib * GIB,
            identity=device.identity,
            paths_live=self.host.paths_live(device),
            paths_total=self.host.paths_total,
            read_only=device.read_only,
            details={"identity": device.identity, "address": list(device.address)},
            logs_in=list(self.host.logs_in),
        )

    def _take_away(self, target: Target, details: Mapping[str, Any] | None, step: Step, *, flush: bool) -> None:
        """Flush while the link is there, take it away, then the device; or neither when somebody has it open."""
        found = self._find(target, details)
        for device in found:
            device.offline = device.offline or not flush
        if holders := _holders(found):
            raise Busy(f"{found[0].path} is in use", holders)
        for device in found if flush else ():
            self.host.flush(device)
        step.between()
        link = self.host.links.pop(target.volume, None)
        step.between()
        if holders := _holders(found):
            if link is not None:
                self.host.links[target.volume] = link
            raise Busy(f"{found[0].path} is in use", holders)
        if found:
            self.landing("disconnect", target)
        self._remove(found, flush=flush)
        self.host.sessions.pop(address_of(target.conn_info), None)
        if left := self._find(target, details):
            raise Retryable(f"{left[0].path} is still there after it was disconnected")

    def _remove(self, devices: list[FakeDevice], *, flush: bool) -> None:
        for device in (each for each in devices if each.number in self.host.devices):
            if flush:
                self.host.flush(device)
            self.host.detach(device)

    def _call(self, name: str, act: Callable[[Step], T]) -> T:
        if not self._begun:  # what an earlier daemon's worker still does could land on top of ours
            self._begun = True
            if self.host.connecting is not None:
                self.host.connecting.kill()
            self.host.connecting = self.child
        self.child.start()
        return self.child.call(name, act, self.deadline_s)


def _never_begun(target: Target, details: Mapping[str, Any] | None) -> bool:
    return details is None and target.conn_info.get("driver_volume_type") != PROTOCOL


def _check(target: Target) -> None:
    """Refuse what the real connector refuses. Raises Terminal and Unsupported."""
    if not _NAME.fullmatch(target.volume):
        raise Terminal(f"{target.volume!r} is no name for a volume")
    if target.conn_info.get("driver_volume_type") != PROTOCOL:
        raise Unsupported(f"connections of type {target.conn_info.get('driver_volume_type')!r} are not supported")


def _shared(target: Target) -> str | None:
    """Another volume that is here through this one's address."""
    address = list(address_of(target.conn_info))
    return next((other for other, known in target.others.items() if known.get("address") == address), None)


def _refuse_shared_address(target: Target) -> None:
    if other := _shared(target):
        raise DuplicateIdentity(f"{target.volume} has the address of {other}, which is here")


def _holders(devices: list[FakeDevice]) -> list[str]:
    return [holder for device in devices for holder in device.holders]


def _mismatch(target: Target, found: list[FakeDevice], details: Mapping[str, Any] | None) -> str | None:
    """Why the first of these is not what was promised, or not one with the others."""
    device = found[0]
    expected = target.identity or (details or {}).get("identity")
    if target.size_bytes is not None and device.size_gib * GIB != target.size_bytes:
        return f"{device.path} measures {device.size_gib} GiB, but the volume has {target.size_bytes} bytes"
    if target.least_bytes is not None and device.size_gib * GIB < target.least_bytes:
        return f"{device.path} measures {device.size_gib} GiB, but the volume has {target.least_bytes} bytes at least"
    if expected and device.identity != expected:
        return f"{device.path} is {device.identity}, but the volume is {expected}"
    if others := {other.uid for other in found} - {device.uid}:
        return f"at the address of {device.path} is also {', '.join(sorted(others))}"
    return None
