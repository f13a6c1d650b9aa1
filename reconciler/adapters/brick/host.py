"""What the worker does for the port: connect, inspect and disconnect, the same for every way to a device.

What users may rely on is here: a link is published only after the device was verified, and taken away before the device goes;
nothing in use is touched; nothing counts as gone that was not looked for and not found.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from reconciler.adapters.brick import block, conn_info, connection, files, inquiry, locate, logins, paths, sysfs, ways
from reconciler.adapters.brick.block import Block
from reconciler.adapters.brick.files import Files
from reconciler.adapters.brick.inquiry import Ask
from reconciler.adapters.brick.library import OsBrick
from reconciler.adapters.brick.links import Links
from reconciler.adapters.brick.neighbours import Neighbours
from reconciler.adapters.brick.noop import Noop
from reconciler.adapters.brick.settings import ConnectorSettings
from reconciler.adapters.brick.sysfs import Roots
from reconciler.adapters.brick.usage import Hold, Usage
from reconciler.adapters.brick.ways import Details, Found, StillOpen, Way
from reconciler.runtime.ports import (
    Busy,
    Device,
    DuplicateIdentity,
    IdentityMismatch,
    Retryable,
    Target,
    Terminal,
    Unsupported,
)

_KEPT_S, _INTERVAL_S = 1.0, 0.005
"""How long to bear somebody who has a device open and is not to be found: most likely just looking at it."""
_UNSEEN = "opened by somebody whom /proc does not show, in another container perhaps"


class _WrongMode(Terminal):
    """The device can't be had in the wanted mode."""


class Host:
    """The devices of one node on this host. Thread-safe; calls for the same volume must come one after the other.

    Args:
        roots: other folders than /sys, /proc and /dev, for tests.
        brick: os-brick, or what a test has for it.
        ask: how a SCSI device is asked for its identity.
    """

    def __init__(
        self,
        settings: ConnectorSettings,
        roots: Roots | None = None,
        brick: OsBrick | None = None,
        ask: Ask = inquiry.page_83,
    ) -> None:
        self._settings = settings
        self._roots = roots or Roots()
        self._brick = brick or OsBrick(settings)
        self._links = Links(settings.link_folder, settings.owner, self._roots.dev, settings.mount_link_folder)
        self._usage = Usage(self._roots)
        self._files: Way = Files(settings.owner, self._roots, self._brick, self._links)
        self._neighbours = Neighbours()
        self._block: Way = Block(
            self._roots,
            self._brick,
            self._links,
            self._neighbours,
            nvme_multipath=settings.multipath,
            ask=ask,
            networks=settings.storage_networks,
        )
        self._noop = Noop(settings)

    def properties(self) -> Mapping[str, Any]:
        return self._brick.properties()

    def connect(self, target: Target) -> Device:
        self._links.path(target.volume)  # a bad name is refused before anything happens
        if self._noop.takes(target):
            return self._noop.connect(target)
        way = self._way(target)
        target = conn_info.checked(target, self._settings)
        self._links.check(target.volume)
        with self._no_link_unless_verified(target):
            self._neighbours.check_promise(target)
            found = way.bring(target)
            try:
                return self._device(way, target, found, connecting=True)
            except DuplicateIdentity:
                self._neighbours.remember(target, way.identity(target, found))
                way.take_back(target)
                raise

    def inspect(self, target: Target, details: Details | None) -> Device | None:
        """Looks at the device. What it changes is the link, when that tells a lie, and a lost read-only flag."""
        if self._noop.takes(target):
            return self._noop.inspect(target)
        if _never_begun(target, details):
            return None
        target = connection.plain(target)
        way = self._way(target)
        found = way.find(target, details)
        if found is not None:
            with self._no_link_unless_verified(target):
                device = self._device(way, target, found, connecting=False)
            missing = device.paths_live < device.paths_total
            return replace(device, portals_back=tuple(way.portals_back(target, found))) if missing else device
        self._links.withdraw(target.volume)
        return None

    def add_paths(self, target: Target, details: Details | None) -> Device:
        """More paths to a device that is here, is the promised one, and is perhaps in use."""
        target = conn_info.checked(target, self._settings)
        way = self._way(target)
        found = way.find(target, details)
        if found is None:
            raise Retryable("there is no device that paths could be added to")
        with self._no_link_unless_verified(target):
            way.verify(target, found)
            way.add_paths(target, found)
            return self._device(way, target, way.find(target, details) or found, connecting=False)

    def extend(self, target: Target, details: Details | None) -> Device:
        """The device may be in use: it is verified again, and stays as it is when it does not have its new size yet."""
        if self._noop.takes(target):
            return self._noop.connect(target)
        given, target = target, connection.plain(target)
        way = self._way(target)
        found = way.find(target, details)
        if found is None:
            raise Retryable(f"no device of volume {target.volume} is on this host")
        target = conn_info.checked(given, self._settings)
        way.extend(target, found)
        with self._no_link_unless_verified(target):
            device = self._device(way, replace(target, size_bytes=None, least_bytes=None), found, connecting=False)
        if target.size_bytes not in (None, device.size_bytes):
            raise Retryable(f"{device.device} measures {device.size_bytes} bytes, and the volume {target.size_bytes}")
        return device

    def disconnect(self, target: Target, details: Details | None, *, flush: bool) -> None:
        if self._noop.takes(target):
            return self._noop.disconnect(target)
        if _never_begun(target, details):
            return None
        connected, target = connection.as_connected(target), connection.plain(target)
        way = self._way(target)
        if self._neighbours.is_at_its_address(target):
            return self._links.withdraw(target.volume)
        found = way.find(target, details)
        if found is not None and self._is_others(way, target, found):
            self._links.withdraw(target.volume)
            way.take_back(target)
            return self._neighbours.forget(target.volume)
        if found is None:
            self._links.withdraw(target.volume)
            way.remove(connected, details or {}, None, None, flush=flush)
        else:
            self._take_away(way, connected, found, flush=flush)
        if left := way.find(target, details):
            raise Retryable(f"/dev/{left.device} is still there after it was disconnected; the volume is not released")
        self._neighbours.forget(target.volume)
        return None

    def _is_others(self, way: Way, target: Target, found: Found) -> bool:
        """Whether what was found for a volume that was never verified here is another one's."""
        if not target.others:
            return False
        return bool(found.strangers) or self._neighbours.owner(target, way.identity(target, found)) is not None

    def _take_away(self, way: Way, target: Target, found: Found, *, flush: bool) -> None:
        live = paths.count(self._roots, found.device)[0]
        if not flush:
            way.cut(found)
        elif not live:
            way.stop_queueing(found)
        with Hold(self._roots, self._usage, found.device, found.members, look=not way.tells_openers) as hold:
            if flush and way.changed(found):
                way.cut(found)
                flush = False
            if flush and live:
                hold.flush()  # most of it while the link is still there: it may take minutes, or fail
            until = time.monotonic() + _KEPT_S
            while not self._removed(way, target, found, hold, flush=flush, live=live > 0):
                hold.check()
                if time.monotonic() > until:
                    raise Busy(f"/dev/{found.device} is in use: {_UNSEEN}", [_UNSEEN])
                time.sleep(_INTERVAL_S)

    def _removed(self, way: Way, target: Target, found: Found, hold: Hold, *, flush: bool, live: bool) -> bool:
        """Take link and device away, or, when somebody has the device open, neither: its user finds it as it was."""
        link = self._links.target(target.volume)
        self._links.withdraw(target.volume)
        if flush and live:
            hold.flush()
        try:
            way.remove(target, found.details, found, hold, flush=flush)
        except StillOpen:
            if link is not None and sysfs.name_of(self._roots, link) == found.device:
                self._links.publish(target.volume, link)
            return False
        return True

    def _device(self, way: Way, target: Target, found: Found, *, connecting: bool) -> Device:
        """The device as the port describes it: verified, read-only where it must be, and published (A34)."""
        self._neighbours.check(target, way.identity(target, found))
        seen = way.verify(target, found)
        self._neighbours.take(target, seen, (found.device, *found.members))
        wanted = ways.read_only(target)
        if wanted or connecting:  # what is found read-only later is only told
            self._set_read_only(target, found, wanted)
        link = self._links.publish(target.volume, self._roots.node(found.device))
        live, total = paths.count(self._roots, found.device, found.paths_expected)
        return Device(
            path=str(link),
            device=str(self._roots.node(found.device)),
            size_bytes=seen.size_bytes,
            identity=seen.main,
            paths_live=live,
            paths_total=total,
            read_only=sysfs.read_only(self._roots, found.device),
            details=dict(found.details),
            logs_in=self._logs_in(target),
        )

    def _logs_in(self, target: Target) -> list[str]:
        """Where the host itself logs in at boot, for reasons of its own: those records are not ours to change."""
        return logins.automatic(logins.of(ways.data_of(target))) if ways.protocol_of(target) in locate.ISCSI else []

    @contextlib.contextmanager
    def _no_link_unless_verified(self, target: Target) -> Iterator[None]:
        """Users must not reach a device that is not the promised one, or not in the promised mode. The device itself stays."""
        try:
            yield
        except (IdentityMismatch, _WrongMode):
            self._links.withdraw(target.volume)
            raise

    def _set_read_only(self, target: Target, found: Found, wanted: bool) -> None:
        """Set or clear the flag. On the paths as well: a user of one of them would bypass the map's."""
        for name in (found.device, *found.members):
            if sysfs.read_only(self._roots, name) != wanted:
                block.set_read_only(self._roots.node(name), wanted)
        if sysfs.read_only(self._roots, found.device) != wanted:
            raise _WrongMode(
                f"/dev/{found.device} can't be made read-only; it was not published"
                if wanted
                else f"the storage gives /dev/{found.device} for reading only, but volume {target.volume} is wanted for writing:"
                " attach it with mode ro"
            )

    def _way(self, target: Target) -> Way:
        protocol = ways.protocol_of(target)
        if protocol in files.PROTOCOLS:
            return self._files
        if protocol in locate.PROTOCOLS:
            return self._block
        raise Unsupported(
            f"connections of type {protocol!r} are not supported: Brickwork could not prove that such a device is gone"
        )


def _never_begun(target: Target, details: Details | None) -> bool:
    """Its connect was refused before it did anything, for what its connection is: so nothing at its address is its own, and its
    wish can be taken back. Whatever was connected, by a version that could, has details."""
    return details is None and conn_info.is_refused(target)
