"""Made-up devices, for measuring everything but the devices. Off unless the settings say so."""

from __future__ import annotations

from reconciler.adapters.brick import ways
from reconciler.adapters.brick.settings import ConnectorSettings
from reconciler.runtime.ports import Device, Target


class Noop:
    """Remembers which volumes are "connected" as long as the worker lives; no device and no link is made."""

    def __init__(self, settings: ConnectorSettings) -> None:
        self._allowed = settings.allow_noop
        self._folder = settings.link_folder
        self._connected: set[str] = set()

    def takes(self, target: Target) -> bool:
        return self._allowed and ways.protocol_of(target) == "noop"

    def connect(self, target: Target) -> Device:
        self._connected.add(target.volume)
        return self._device(target)

    def inspect(self, target: Target) -> Device | None:
        return self._device(target) if target.volume in self._connected else None

    def disconnect(self, target: Target) -> None:
        self._connected.discard(target.volume)

    def _device(self, target: Target) -> Device:
        return Device(
            path=str(self._folder / target.volume),
            device="/dev/null",
            size_bytes=target.size_bytes or 0,
            identity=target.identity or f"noop:{target.volume}",
            paths_live=1,
            paths_total=1,
            read_only=target.read_only,
            details={},
        )
