"""A fake storage array: what physically is (for a driver see `tests.fakes.backend`).

It has volumes with what was written to them, and which initiator reaches which of them under
which number (LUN). It knows nothing of etcd, grants or epochs. LUNs are used again, the smallest first, so a device that a
host keeps too long shows somebody else's data (CVE-2023-2088).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from reconciler.runtime.ports import Retryable, Terminal
from tests.fakes.audit import Audit

GIB = 1 << 30
PROTOCOL = "fake"


@dataclass
class FakeVolume:
    """A volume on the array. Its uid is also the identity that its devices tell, unless `wwid` says another."""

    uid: str
    size_gib: int
    written: list[str] = field(default_factory=list)
    """The tokens of all writes that landed, in order."""
    wwid: str = ""

    @property
    def identity(self) -> str:
        return self.wwid or self.uid


class FakeArray:
    """An array. The attributes may be changed at any time.

    Args:
        audit: shared by all arrays and hosts of a world.
    """

    def __init__(self, name: str, audit: Audit | None = None) -> None:
        self.name = name
        self.audit = audit or Audit()
        self.target = f"iqn.2026-01.com.example:{name}"
        self.volumes: dict[str, FakeVolume] = {}
        self.deleted: dict[str, FakeVolume] = {}
        self.strangers: dict[str, int] = {}
        """What somebody else made, by name: its size in GiB. Can be adopted."""
        self.exports: dict[str, None] = {}
        """The uids that are exported: nothing else is served, whatever is mapped."""
        self.maps: dict[str, dict[int, str]] = {}
        """Who may reach what: initiator -> LUN -> uid."""
        self.away = False
        """Its management does not answer. Data flows on."""
        self.cuts_access = True
        """False: whoever was let in once stays so until the volume is deleted, as with NFS or RBD. LUNs are never used again."""
        self.list_exports = False
        """Whether its driver can tell what is exported (`exposures`)."""
        self.mark = f"serial-{name}"
        """By which its storage is known; empty: its driver does not tell."""
        self.identifiers: tuple[str, ...] = ("initiator",)
        """What of a node must be its own."""
        self.padding = ""
        """Is part of each conn_info: drivers of large arrays tell of hundreds of portals."""
        self.pools = 1
        """So many it has, of equal size."""
        self.tells_identity = True
        self.tells_size = True
        self.odd_answers = 0
        """So many times its driver answers with what no host can use."""
        self.step_gib = 1
        """It makes volumes in steps of so many GiB."""
        self.extends_online = False
        self.rotates_passwords = False
        """Each connect gets another password, so conn_info changes from call to call."""
        self._still_let_in: dict[str, dict[int, str]] = {}
        self._passwords = count(1)

    # --- What hosts reach

    def serves(self, initiator: str, lun: int) -> FakeVolume | None:
        """What this initiator finds under this number now."""
        uid = self.maps.get(initiator, {}).get(lun)
        if uid is not None and uid in self.exports:
            return self.volumes.get(uid)
        if not self.cuts_access:
            return self.volumes.get(self._still_let_in.get(initiator, {}).get(lun, ""))
        return None

    def exposures(self) -> list[tuple[str, str]]:
        """(uid, initiator) of all that is mapped, sorted: what a driver that can list would tell."""
        return sorted(
            {(uid, initiator) for initiator, luns in self.maps.items() for uid in luns.values() if uid in self.exports}
        )

    # --- What drivers do; every one can be repeated

    def create(self, uid: str, size_gib: int) -> FakeVolume:
        if uid not in self.volumes:
            self.volumes[uid] = FakeVolume(uid, self._in_steps(size_gib))
            self.audit.note("created", self.name, uid)
        return self.volumes[uid]

    def adopt(self, uid: str, name: str) -> FakeVolume:
        if uid not in self.volumes:
            if name not in self.strangers:
                raise Terminal(f"array {self.name} has no volume {name!r} to take over")
            self.create(uid, 0).size_gib = self.strangers.pop(name)
        return self.volumes[uid]

    def _in_steps(self, size_gib: int) -> int:
        return -(-size_gib // self.step_gib) * self.step_gib

    def extend(self, uid: str, size_gib: int) -> FakeVolume:
        volume = self.volume(uid)
        volume.size_gib = max(volume.size_gib, self._in_steps(size_gib))
        return volume

    def delete(self, uid: str) -> None:
        self.remove_export(uid)
        for luns in self._still_let_in.values():
            for lun in [lun for lun, mapped in luns.items() if mapped == uid]:
                del luns[lun]
        if uid in self.volumes:
            self.deleted[uid] = self.volumes.pop(uid)
            self.audit.note("deleted", self.name, uid)

    def create_export(self, uid: str) -> None:
        self.volume(uid)
        if uid not in self.exports:
            self.exports[uid] = None
            self.audit.note("exported", self.name, uid)

    def remove_export(self, uid: str) -> None:
        """Whoever is still mapped is cut off."""
        for initiator in list(self.maps):
            self.unmap(uid, initiator)
        if uid in self.exports:
            del self.exports[uid]
            self.audit.note("unexported", self.name, uid)

    def lun_for(self, uid: str, initiator: str) -> int:
        """The number under which the volume is, or would be, mapped: the smallest free one."""
        taken = self.maps.get(initiator, {}) | self._still_let_in.get(initiator, {})
        own = (lun for lun, mapped in taken.items() if mapped == uid)
        return next(own, None) or next(lun for lun in count(1) if lun not in taken)

    def map(self, uid: str, initiator: str) -> int:
        """Let the initiator in; returns the LUN."""
        if uid not in self.exports:
            raise Retryable(f"array {self.name} does not export {uid}")
        lun = self.lun_for(uid, initiator)
        if lun not in self.maps.setdefault(initiator, {}):
            self.maps[initiator][lun] = uid
            self.audit.note("mapped", self.name, uid, initiator)
        return lun

    def unmap(self, uid: str, initiator: str) -> None:
        luns = self.maps.get(initiator, {})
        for lun in [lun for lun, mapped in luns.items() if mapped == uid]:
            del luns[lun]
            if not self.cuts_access:
                self._still_let_in.setdefault(initiator, {})[lun] = uid
            self.audit.note("unmapped", self.name, uid, initiator)

    def volume(self, uid: str) -> FakeVolume:
        if uid not in self.volumes:
            raise Retryable(f"array {self.name} has no volume {uid}")
        return self.volumes[uid]

    def password(self) -> str:
        """For the next conn_info. A canary: it must be seen nowhere else."""
        return f"canary-{self.name}-{next(self._passwords) if self.rotates_passwords else 0}"

    # --- Accidents

    def restart(self) -> None:
        """Its targets forget what they export; the driver's set-up restores the exports of volumes that have holders."""
        for uid in list(self.exports):
            del self.exports[uid]
            self.audit.note("unexported", self.name, uid)
