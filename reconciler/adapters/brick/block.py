"""Volumes that os-brick brings as block devices: iSCSI, Fibre Channel, NVMe-oF and Ceph RBD.

os-brick does the connecting; what it leaves out is done here. It takes any device that it finds at the right address, though it
may be a leftover with another volume behind it; it deletes a mounted disk without a question, even when all that failed is the
search for more paths to it; a map without paths it leaves for ever; and what it was given no path for it does not flush.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reconciler.adapters.brick import identity, locate, paths, sysfs, tools, ways
from reconciler.adapters.brick.identity import Identity
from reconciler.adapters.brick.inquiry import Ask
from reconciler.adapters.brick.library import OsBrick
from reconciler.adapters.brick.links import Links
from reconciler.adapters.brick.neighbours import Neighbours
from reconciler.adapters.brick.portals import Network, Portals, for_this_host, refuse_other_networks
from reconciler.adapters.brick.sysfs import Roots
from reconciler.adapters.brick.usage import Hold, Usage
from reconciler.adapters.brick.ways import Details, Found
from reconciler.runtime.ports import Busy, DuplicateIdentity, IdentityMismatch, Retryable, Target, Terminal

_BLKROSET = 0x125D
_NO_DEVICE = "/dev/disk/by-path/none"
"""A path for os-brick where the device is unknown: with any path, it flushes what it then finds."""


class Block:
    """The way of os-brick's block protocols."""

    tells_openers = False

    def __init__(
        self,
        roots: Roots,
        brick: OsBrick,
        links: Links,
        near: Neighbours,
        *,
        nvme_multipath: bool,
        ask: Ask,
        networks: Sequence[Network] = (),
    ) -> None:
        self._roots, self._brick, self._links, self._nvme_multipath = roots, brick, links, nvme_multipath
        self._neighbours = near
        self._usage = Usage(roots)
        self._ask = ask
        self._answered: dict[str, frozenset[str]] = {}
        self._portals = Portals()
        self._networks = networks

    # --- look

    def find(self, target: Target, details: Details | None) -> Found | None:
        """By address and by identity: either may have gone while the device has not."""
        known = details or {}
        names = set(locate.devices(self._roots, ways.protocol_of(target), ways.data_of(target)))
        alike = set[str]()
        for wwid in filter(None, (target.identity, known.get("identity"))):
            alike |= set(identity.with_identity(self._roots, wwid)) - names
        return self._found(target, names | {name for name in alike if self._may_be(target, name)}, known)

    def _may_be(self, target: Target, name: str) -> bool:
        """Whether a device that has the volume's identity may be its own: another volume can have the same one (F-D4). Not when the
        kernel tells that it, or all that it is made of, is at another address."""
        parts = set(sysfs.slaves(self._roots, name)) or {name}
        return bool(parts - locate.elsewhere(self._roots, ways.protocol_of(target), ways.data_of(target), parts))

    def _found(self, target: Target, names: set[str], details: Details) -> Found | None:
        """The device that users get of these names: the multipath map over the paths, where there is one."""
        maps = {
            upper
            for name in names
            for upper in (name, *sysfs.holders(self._roots, name))
            if sysfs.multipath_wwid(self._roots, upper)
        }
        below = set[str]().union(*(sysfs.slaves(self._roots, name) for name in maps))
        protocol, data = ways.protocol_of(target), ways.data_of(target)
        strangers = locate.elsewhere(self._roots, protocol, data, below - names)
        every = names | maps | below - strangers
        if not every:
            return None
        connected = sysfs.name_of(self._roots, details.get("device_info", {}).get("path", _NO_DEVICE))
        device = min(maps or every & {connected} or every)
        complete = {
            "device_info": {"type": "block", "path": str(self._roots.node(device))},
            "use_multipath": bool(maps),
            "identity": identity.of_device(self._roots, device).main,
            "addresses": sorted(locate.addresses_of(self._roots, protocol, data, every)),
            **details,
        }
        expected = locate.paths_expected(protocol, self._data(target), multipath=complete["use_multipath"])
        return Found(device, tuple(sorted(every - {device})), complete, expected, tuple(sorted(strangers)))

    def identity(self, target: Target, found: Found) -> Identity:
        return identity.of_device(self._roots, found.device)

    def verify(self, target: Target, found: Found) -> Identity:
        """Where the driver promised no identity, the one that was found at connect must stay."""
        device = f"/dev/{found.device}"
        expected = target.identity or found.details.get("identity")
        seen = self.identity(target, found)
        if found.strangers:
            raise DuplicateIdentity(
                f"{device} goes through /dev/{found.strangers[0]} as well, which is at an address of its own: the storage gives"
                f" two volumes one identity, {seen.main}, and multipathd made one device of them; not published"
            )
        identity.verify(seen, device, size_bytes=target.size_bytes, expected=expected, least_bytes=target.least_bytes)
        for member in found.members:
            other = identity.of_device(self._roots, member)
            if seen.spellings and other.spellings and not seen.spellings & other.spellings:
                raise IdentityMismatch(
                    f"{device} and /dev/{member} are at the same address, but are {seen.main} and {other.main}: not published"
                )
        self._verify_answers(target.volume, found)
        return seen

    def _verify_answers(self, volume: str, found: Found) -> None:
        """What sysfs tells may be long over: each working path is asked itself, once, and again after it was down."""
        working = self._working(found)
        answered = self._answered.get(volume, frozenset()) & working
        for name in sorted(working - answered):
            known, now = self._known_and_now(name)
            if identity.differ(known, now):
                raise IdentityMismatch(
                    f"/dev/{name} was {min(known)} when this host found it, and answers as {min(now)} now: the storage has put"
                    " another volume at its address; not published"
                )
            answered |= {name} if now else set()
        self._answered[volume] = answered

    def changed(self, found: Found) -> bool:
        """Whether another volume answers at one of its paths: what the host has in memory for the old one must not get there."""
        pairs = (self._known_and_now(name) for name in self._working(found))
        return any(identity.differ(known, now) for known, now in pairs)

    def _working(self, found: Found) -> frozenset[str]:
        """The SCSI paths that would get I/O now; others would only keep us waiting."""
        disks = (name for name in (found.device, *found.members) if name.startswith("sd"))
        return frozenset(name for name in disks if paths.count(self._roots, name)[0])

    def _known_and_now(self, name: str) -> tuple[frozenset[str], frozenset[str]]:
        """A path's identities as the kernel has them, and as the path answers itself; empty where it does not tell."""
        page = self._ask(self._roots.node(name)) or b""
        now = frozenset(map(identity.canonical, identity.designators(page)))
        return identity.of_device(self._roots, name).spellings, now

    # --- connect

    def bring(self, target: Target) -> Found:
        protocol, data = ways.protocol_of(target), ways.data_of(target)
        self._answered.pop(target.volume, None)
        multipath = self._nvme_multipath if protocol in locate.NVME else self._brick.use_multipath()
        found = self._present(target)
        if found is None or not self._complete(target, found, multipath):
            found = self._connect(target, multipath, present=found is not None)
        if protocol in locate.ISCSI:
            self._brick.set_manual_startup(locate.iqns(data))
        self._probe(found)
        return found

    def _connect(self, target: Target, multipath: bool, *, present: bool) -> Found:
        protocol, data = ways.protocol_of(target), ways.data_of(target)
        info = self._log_in(target, multipath, present=present)
        name = sysfs.name_of(self._roots, str(info.get("path", "")))
        if name is None:
            raise Retryable(f"os-brick reported {info.get('path')!r}, which is no device of this host")
        parts = set(sysfs.slaves(self._roots, name)) or {name}
        if parts <= locate.elsewhere(self._roots, protocol, data, parts):  # its name may be another's by now
            raise Retryable(f"os-brick reported /dev/{name}, which is not at this connection's address")
        details = {"device_info": info, "use_multipath": multipath}
        found = self._found(target, {name, *locate.devices(self._roots, protocol, data)}, details)
        assert found is not None
        return found

    def portals_back(self, target: Target, found: Found) -> Sequence[str]:
        """Only of a multipath map over iSCSI: no other device could take a path more without being made anew."""
        if ways.protocol_of(target) not in locate.ISCSI or not sysfs.multipath_wwid(self._roots, found.device):
            return ()
        return self._portals.alive(locate.portals_without_path(self._roots, self._data(target)))

    def add_paths(self, target: Target, found: Found) -> None:
        """os-brick's connect once more. Safe under a device in use, as all that it does is to add:

        * it logs in only to portals without a session, and scans for the LUN; its cleaning up after a failure is switched off;
        * the new disk joins the map by multipathd's hand, which goes by the WWID: of another volume it would never join;
        * users have the map open, not its paths, and the map's table is exchanged under them without an error.
        """
        if not self.portals_back(target, found):
            raise Retryable(f"no portal answers that /dev/{found.device} has no path through")
        self._log_in(target, multipath=True, present=True)
        self._brick.set_manual_startup(locate.iqns(ways.data_of(target)))

    def _data(self, target: Target) -> dict[str, Any]:
        """The connection as far as it is for this host: what to log in to, and which paths to expect."""
        return for_this_host(ways.protocol_of(target), ways.data_of(target), self._networks)

    def _log_in(self, target: Target, multipath: bool, *, present: bool) -> dict[str, Any]:
        protocol = ways.protocol_of(target)
        refuse_other_networks(protocol, ways.data_of(target), self._networks)
        answering = self._portals.answering(protocol, self._data(target))
        return self._brick.connect(protocol, answering, multipath=multipath, present=present)

    def _complete(self, target: Target, found: Found, multipath: bool) -> bool:
        """Whether all promised paths are there and work."""
        live, total = paths.count(self._roots, found.device)
        expected = locate.paths_expected(ways.protocol_of(target), self._data(target), multipath)
        return live >= max(total, expected, 1)

    def _present(self, target: Target) -> Found | None:
        """The volume's device, when it is there already. Anything else at its address is taken away first (A35).

        The kernel keeps a device whose export is gone. When the array gives its LUN to another volume, the old device comes back
        to life with the old size and identity, and os-brick would return it. Nothing is flushed into what answers there now.
        An RBD's name is its identity, and another cluster may have an image of that name. Of NVMe the kernel itself looks anew.
        """
        present = self.find(target, None)
        if present is not None and (owner := self._neighbours.owner(target, self.identity(target, present))):
            raise DuplicateIdentity(
                f"/dev/{present.device} is at the address of volume {target.volume}, and has the identity of {owner},"
                f" which is here; {target.volume} was not connected"
            )
        if present is None or ways.protocol_of(target) in locate.NVME or self._trusted(target, present):
            return present
        self._links.withdraw(target.volume)
        if not paths.count(self._roots, present.device)[0]:
            self.stop_queueing(present)
        try:
            with Hold(self._roots, self._usage, present.device, present.members) as hold:
                if changed := self.changed(present):
                    self.cut(present)
                self.remove(target, present.details, present, hold, flush=not changed)
        except Busy as error:
            raise Terminal(
                f"/dev/{present.device} has been at this volume's address since before it was attached here, and is in use:"
                f" {'; '.join(error.holders)}; free it first, it may be another volume"
            ) from error
        if left := self.find(target, None):
            raise Retryable(f"/dev/{left.device}, a leftover at this volume's address, did not go away")
        return None

    def _trusted(self, target: Target, present: Found) -> bool:
        """Proven to be the volume, or published as such before by this node."""
        link = self._links.target(target.volume)
        if link is not None and sysfs.name_of(self._roots, link) == present.device:
            return True
        if target.identity is None:
            return False
        try:
            self.verify(target, present)
        except IdentityMismatch:
            return False
        return True

    def _probe(self, found: Found) -> None:
        """Read its first bytes. Raises Retryable: a device that can't be read is no use, though the kernel lists it."""
        node = self._roots.node(found.device)
        try:
            with open(node, "rb", buffering=0) as device:
                device.read(sysfs.SECTOR)
        except OSError as error:
            raise Retryable(f"{node} is there, but can't be read: {error.strerror}") from error

    # --- extend

    def extend(self, target: Target, found: Found) -> None:
        """os-brick rescans every path, then resizes the map; it wants all of them up, or the map would lose one."""
        multipath = bool(found.details.get("use_multipath"))
        self._brick.extend(ways.protocol_of(target), ways.data_of(target), multipath=multipath)

    # --- disconnect

    def stop_queueing(self, found: Found) -> None:
        """udev, having seen the paths go, reads the map and waits for better times; it would keep the map busy for ever (A37).

        A user's writes that wait for a path are not given up: then the device is in use, and stays.
        """
        if not self._usage.users(found.device, found.members):
            self._fail_if_no_path(found)

    def _fail_if_no_path(self, found: Found) -> None:
        for name in (found.device, *found.members):
            if sysfs.multipath_wwid(self._roots, name):
                tools.run("dmsetup", "message", self._label(name), "0", "fail_if_no_path")

    def _label(self, name: str) -> str:
        """A map's name, as its own tools want it."""
        return sysfs.text(self._roots.block(name) / "dm" / "name") or name

    def cut(self, found: Found) -> None:
        """Set SCSI paths offline, from when on each write fails; and let no map queue writes for better times.

        NVMe and RBD have no such switch: there, only a device that nobody has open can be dropped without writing.
        """
        self._fail_if_no_path(found)
        for name in (found.device, *found.members):
            state = self._roots.block(name) / "device" / "state"
            if name.startswith("sd") and state.exists():
                _set_offline(state)

    def remove(self, target: Target, details: Details, found: Found | None, hold: Hold | None, *, flush: bool) -> None:
        """os-brick's disconnect.

        With no live path (or after `cut`) it is told to go on when flushing fails: the device is unused, so whatever could be
        written was written at its last close, and else the attachment of a dead array could never end (A37).
        """
        if found is None and not details and self._brick.lacks_program(ways.protocol_of(target)):
            return  # nothing was connected, and nothing is here that a program could disconnect
        known = dict(details.get("device_info", {}))
        if not os.path.exists(
            known.get("conf", "/")
        ):  # a key that os-brick keeps below /tmp, which a boot or a cleaner empties:
            del known["conf"]  # without it an RBD can be unmapped as well
        if found is None and ways.protocol_of(target) == "rbd":
            # There are no sessions, and the image's name may be another's.
            if "conf" in known:
                Path(known["conf"]).unlink(missing_ok=True)
            return
        # What was its path may be another's by now.
        path = str(self._roots.node(found.device)) if found else _NO_DEVICE
        dead = found is not None and paths.count(self._roots, found.device)[0] == 0
        # A disk goes even while we have it open, so nobody can slip in; a map or an RBD must be closed.
        if hold and found and not found.device.startswith("sd"):
            hold.release()
        self._brick.disconnect(
            ways.protocol_of(target),
            ways.data_of(target),
            {**known, "type": "block", "path": path},
            devices=(found.device, *found.members) if found else (),
            multipath=bool(details.get("use_multipath")),
            force=dead or not flush,
        )
        for name in (found.device, *found.members) if found else ():
            if sysfs.multipath_wwid(self._roots, name) and not sysfs.slaves(self._roots, name):
                self._drop_map(name)

    def take_back(self, target: Target) -> None:
        """Without os-brick, which would flush and remove the map: that is the other volume's, and works on without this path."""
        protocol, data = ways.protocol_of(target), ways.data_of(target)
        found, others = locate.devices(self._roots, protocol, data, exact=True), self._devices_of_others(target)
        mine = [name for name in found if name not in others]
        if found and not mine:
            return  # it came by a device that was here already
        for name in mine:
            if name.startswith("sd"):
                with contextlib.suppress(OSError):
                    (self._roots.block(name) / "device" / "delete").write_text("1\n")
        # Of Fibre Channel there is no session that only this volume needed; of RBD there is nothing but the device.
        if protocol != "fibre_channel" and (mine or protocol != "rbd"):
            path = str(self._roots.node(mine[0])) if mine and protocol not in locate.SCSI else _NO_DEVICE
            info = {"type": "block", "path": path}
            self._brick.disconnect(protocol, data, info, devices=mine, multipath=False, force=True)
        if left := set(locate.devices(self._roots, protocol, data, exact=True)) - others:
            raise Retryable(f"/dev/{min(left)}, which looks like another volume's, did not go away")

    def _devices_of_others(self, target: Target) -> set[str]:
        paths_of = (str(details.get("device_info", {}).get("path", _NO_DEVICE)) for details in target.others.values())
        named = {name for path in paths_of if (name := sysfs.name_of(self._roots, path))}
        return named | self._neighbours.devices(target.volume)

    def _drop_map(self, name: str) -> None:
        """A map whose paths are all gone, which os-brick forgets. The kernel refuses when somebody has it open."""
        for command in (("multipath", "-f"), ("dmsetup", "remove")):
            with contextlib.suppress(Terminal):  # one of the tools may be missing
                tools.run(*command, self._label(name))
            if not sysfs.exists(self._roots, name):
                return


def _set_offline(state: Path) -> None:
    """Raises OSError while the kernel waits for the transport to come back: a path that was given up fails all I/O already."""
    try:
        state.write_text("offline\n")
    except OSError:
        if sysfs.text(state) != "transport-offline":
            raise


def set_read_only(node: os.PathLike[str], value: bool) -> None:
    """Set or clear a block device's own read-only flag (BLKROSET)."""
    device = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _BLKROSET, struct.pack("i", int(value)))
    finally:
        os.close(device)
