"""The daemon's side of the connector: calls to a worker process that can be killed. Imports nothing foreign.

The worker is started at the first call, and again after it was killed: by a deadline, by `kill`, or by itself. So is a call that
finds it just gone: every call may be repeated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from reconciler.adapters import child
from reconciler.adapters.brick.settings import ConnectorSettings, Deadlines
from reconciler.runtime.ports import Device, Target

__all__ = ["BrickConnector", "ConnectorSettings", "Deadlines"]


class BrickConnector:
    """The `Connector` port over os-brick. Thread-safe; calls for one volume must come one after the other.

    Args:
        log: gets each line that the worker, or a program under it, writes. Secrets of connections are taken out before.
    """

    def __init__(self, settings: ConnectorSettings, *, log: Callable[[str], None] | None = None) -> None:
        self._settings = settings
        self._child = child.Child(
            "reconciler.adapters.brick.worker",
            name="os-brick worker",
            state_folder=settings.state_folder,
            argv=[settings.model_dump_json()],
            environment={"TMPDIR": str(settings.temporary_folder)} if settings.temporary_folder else None,
            log=log,
        )
        self._beginning = threading.Lock()
        self._survivors_ended = False

    def properties(self) -> Mapping[str, Any]:
        """os-brick's connector properties of this host, under the node's id; see the port."""
        properties: Mapping[str, Any] = self._call("properties", {}, self._settings.deadlines_s.properties)
        return properties

    def connect(self, target: Target) -> Device:
        """See the port. A device that is there already and is the promised one is completed and returned."""
        params = {"target": asdict(target)}
        return Device(**self._call("connect", params, self._settings.deadlines_s.connect))

    def inspect(self, target: Target, details: Mapping[str, Any] | None) -> Device | None:
        """See the port. The link is put right as well: restored over a verified device, taken away where there is none."""
        params = {"target": asdict(target), "details": _json(details)}
        found = self._call("inspect", params, self._settings.deadlines_s.inspect)
        return None if found is None else Device(**found)

    def add_paths(self, target: Target, details: Mapping[str, Any] | None) -> Device:
        """See the port."""
        params = {"target": asdict(target), "details": _json(details)}
        return Device(**self._call("add_paths", params, self._settings.deadlines_s.connect))

    def extend(self, target: Target, details: Mapping[str, Any] | None) -> Device:
        """See the port."""
        params = {"target": asdict(target), "details": _json(details)}
        return Device(**self._call("extend", params, self._settings.deadlines_s.extend))

    def disconnect(self, target: Target, details: Mapping[str, Any] | None, *, flush: bool = True) -> None:
        """See the port."""
        params = {"target": asdict(target), "details": _json(details), "flush": flush}
        self._call("disconnect", params, self._settings.deadlines_s.disconnect)

    def kill(self) -> None:
        """See the port. The next call starts a new worker."""
        self._child.kill()

    def _call(self, method: str, params: Mapping[str, Any], deadline_s: float) -> Any:
        self._end_survivors()
        self._child.start(self._settings.deadlines_s.start)
        return self._child.call(method, params, deadline_s)

    def _end_survivors(self) -> None:
        """Before the first call: what an earlier daemon's worker still does could land on top of ours (PROTOCOL R10)."""
        with self._beginning:
            if not self._survivors_ended:
                self._settings.state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                child.end_survivors(self._settings.state_folder, self._settings.deadlines_s.start)
                self._survivors_ended = True


def _json(details: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if details is None else dict(details)
