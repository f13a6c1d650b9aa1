"""When to try again to give an attached device the paths that it misses, volume by volume.

A portal that answers and yet gives no path (it refuses the login, or does not show the volume) must not cost a call of os-brick
at every look. One that is silent costs no call at all: it is not among `Device.portals_back`.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.runtime.ports import Device

_BASE_S, _CAP_S = 30.0, 600.0


@dataclass(slots=True)
class _Tries:
    wait_s: float = _BASE_S
    due_s: float = 0.0
    fault: str = ""


class MissingPaths:
    """What was tried in this life of the daemon. Calls about one volume come one after the other."""

    def __init__(self) -> None:
        self._tries: dict[str, _Tries] = {}

    def due(self, volume: str, device: Device | None, now_s: float) -> bool:
        """Whether paths are to be added now, to the device as it was at the last look."""
        if device is None or not device.portals_back:
            return False
        return now_s >= self._tries.get(volume, _Tries()).due_s

    def tried(self, volume: str, now_s: float, fault: str = "") -> None:
        """What came of it shows at the next look; until then it counts as failed."""
        tries = self._tries.setdefault(volume, _Tries())
        tries.due_s, tries.fault = now_s + tries.wait_s, fault
        tries.wait_s = min(_CAP_S, 2 * tries.wait_s)

    def fault(self, volume: str) -> str:
        """Why the last try failed."""
        return self._tries.get(volume, _Tries()).fault

    def whole(self, volume: str) -> None:
        """Nothing is missing, or the device is gone: the next loss is a new one."""
        self._tries.pop(volume, None)
