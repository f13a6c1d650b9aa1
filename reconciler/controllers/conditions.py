"""What a node says of a device in its status."""

from __future__ import annotations

from typing import Any

from reconciler.runtime.ports import Busy, Device, IdentityMismatch, LinkTaken, PortError, Retryable, Terminal
from schema.bounds import several
from schema.models import AttachmentPhase, AttachmentStatus, Condition


class NoteUnreadable(Terminal):
    """Nobody knows how its device would be disconnected."""


HOST_LOGS_IN = "HostLogsIn"

_NAMED = (IdentityMismatch, LinkTaken, NoteUnreadable)
"""Told under their own names: the device is doubted, or can't be given."""


class ExtendFailed(Retryable):
    """The device does not have the size of its volume yet. It stays usable as it is."""


def device_fields(device: Device) -> dict[str, Any]:
    """What of a verified device goes into the status."""
    return {
        "connected": True,
        "attached": True,
        "path": device.path,
        "device": device.device,
        "identity": device.identity,
        "size_bytes": device.size_bytes,
        "read_only": device.read_only,
        "paths_live": device.paths_live,
        "paths_total": device.paths_total,
    }


def paths_missing(device: Device, status: AttachmentStatus, now: str, fault: str) -> Condition:
    """Which paths are missing, and why the last try to add them failed; `since` is kept while any is missing."""
    live = device.paths_live
    message = f"{live}/{device.paths_total} paths are live" + ("" if live else ": reads and writes wait or fail")
    return Condition(
        type="Degraded",
        status="True",
        reason="PathsMissing" if live else "NoPathLive",
        message=f"{message}; adding the others failed: {fault}" if fault else message,
        since=next((each.since for each in status.conditions if each.type == "Degraded"), now),
        observed_generation=status.generation,
    )


def logs_in(device: Device, status: AttachmentStatus, now: str) -> tuple[Condition, ...]:
    """That the host itself logs in to the device's target at boot: so it may be there before anybody granted it."""
    if not device.logs_in:
        return ()
    message = (
        f"at boot this host logs in by itself to {', '.join(device.logs_in)}, which it had before Brickwork used it"
    )
    since = next((each.since for each in status.conditions if each.type == HOST_LOGS_IN), now)
    return (Condition(type=HOST_LOGS_IN, status="True", reason=HOST_LOGS_IN, message=message, since=since),)


def why_not(error: PortError, status: AttachmentStatus, now: str) -> Condition:
    """The error as a condition; `since` is kept while the reason stays."""
    detaching = status.phase is AttachmentPhase.ATTACHED
    reason = type(error).__name__
    if isinstance(error, Busy):
        reason = "DeviceBusy"
    elif isinstance(error, ExtendFailed):
        reason = "ResizeFailed"
    elif not isinstance(error, _NAMED):
        reason = "DisconnectFailed" if detaching else "ConnectFailed"
    kind = "Verified" if isinstance(error, _NAMED) else "Released" if detaching else "Connected"
    kind = "Resized" if isinstance(error, ExtendFailed) else kind
    holders = [each for each in error.holders if each not in str(error)] if isinstance(error, Busy) else []
    message = f"{error} ({several(holders)})" if holders else str(error)
    since = next((c.since for c in status.conditions if (c.type, c.reason) == (kind, reason)), now)
    return Condition(
        type=kind, status="False", reason=reason, message=message, since=since, observed_generation=status.generation
    )
