"""How many of a device's paths to its storage work.

A path counts as live when the kernel would send it I/O now: a SCSI path whose state is ``running``, an NVMe controller whose
state is ``live``. A loop device has one path, its file.
"""

from __future__ import annotations

import re

from reconciler.adapters.brick import sysfs
from reconciler.adapters.brick.sysfs import Roots

_NVME = re.compile(r"(nvme\d+)n\d+")


def count(roots: Roots, name: str, expected: int = 0) -> tuple[int, int]:
    """Live and all paths of a device.

    Args:
        expected: how many the connection promised. A path that was never found counts as dead.
    """
    if sysfs.multipath_wwid(roots, name) is not None:
        states = [_state(roots, path) for path in sysfs.slaves(roots, name)]
    elif _NVME.fullmatch(name):
        states = _controllers(roots, name)
    else:
        states = [_state(roots, name)]
    return sum(states), max(len(states), expected)


def _state(roots: Roots, name: str) -> bool:
    """A device without such an attribute (loop, rbd, virtio) has one path, which is there as long as the device is."""
    state = sysfs.text(roots.block(name) / "device" / "state")
    return sysfs.exists(roots, name) and state in (None, "", "running", "live")


def _controllers(roots: Roots, name: str) -> list[bool]:
    """The controllers of the subsystem whose namespace this is.

    With native multipath the namespace's device is its subsystem, else its one controller.
    """
    device = roots.block(name) / "device"
    states = [sysfs.text(device / entry / "state") for entry in sysfs.names(device) if re.fullmatch(r"nvme\d+", entry)]
    if not states:
        return [_state(roots, name)]
    return [state == "live" for state in states]
