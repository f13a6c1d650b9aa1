"""Which volume is behind a device: its size and its world-wide identity, as the kernel learned them from the device itself.

One identity is spelled in many ways: sysfs says ``naa.6001…``, udev and os-brick ``36001…``, a driver ``0x6001…`` or with capitals;
an NVMe namespace has a UUID, an NGUID and an EUI-64, with or without dashes. A device often has several. So spellings are brought
to one form, and a device matches when *one* of its identities is the promised one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.adapters.brick import sysfs
from reconciler.adapters.brick.sysfs import Roots
from reconciler.runtime.ports import IdentityMismatch

_PREFIXES = re.compile(r"^(mpath-|scsi-|nvme-|wwn-|0x|naa\.|eui\.|uuid\.|nguid\.)+")
_HEX = re.compile(r"[0-9a-f-]+")
_NVME_ATTRIBUTES = ("uuid", "nguid", "eui", "wwid")
_T10, _EUI64, _NAA, _SCSI_NAME = 1, 2, 3, 8
"""Designator types of SPC-5's page 83h; the others are vendors' serial numbers and ports, which prove nothing."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device says of itself. `main` is fit to be shown and stored; empty: it says nothing."""

    size_bytes: int
    main: str
    spellings: frozenset[str]
    """All its identities, in the form of `canonical`."""


def canonical(identity: str) -> str:
    """One form for all spellings of an identity; a text that is none of the known kinds stays itself, in lower case."""
    plain = re.sub(r"[\s_]+", "_", identity.strip().lower())
    if plain.startswith("t10."):
        return f"1{plain.removeprefix('t10.')}"
    bare = _PREFIXES.sub("", plain)
    if not _HEX.fullmatch(bare):
        return bare
    digits = bare.replace("-", "")
    # udev puts the designator's type before the 16 or 32 digits of an EUI-64 (2) or an NAA (3).
    return digits[1:] if len(digits) in (17, 33) and digits[0] in "23" else digits


def of_device(roots: Roots, name: str) -> Identity:
    """What sysfs says. A multipath map has its paths' identities."""
    members = sysfs.slaves(roots, name) if sysfs.multipath_wwid(roots, name) else [name]
    texts = [text for text in _texts(roots, name, members) if text]
    return Identity(sysfs.size_bytes(roots, name) or 0, texts[0] if texts else "", frozenset(map(canonical, texts)))


def with_identity(roots: Roots, identity: str) -> list[str]:
    """All devices of this host that have an identity: a volume is found by it although links and sessions are gone (A37)."""
    wanted = canonical(identity)
    return [name for name in sysfs.disks(roots) if wanted in of_device(roots, name).spellings] if wanted else []


def verify(
    found: Identity, device: str, *, size_bytes: int | None, expected: str | None, least_bytes: int | None = None
) -> None:
    """Compare a device with what was promised; a promise that was not made is not compared. Raises IdentityMismatch."""
    verify_size(found.size_bytes, device, size_bytes, least_bytes)
    if expected and canonical(expected) not in found.spellings:
        raise IdentityMismatch(
            f"{device} is {found.main or 'a device without identity'}, but the volume is {expected}; it was not published"
        )


def verify_size(measured: int, device: str, size_bytes: int | None, least_bytes: int | None) -> None:
    """Raises IdentityMismatch for a device that can't be the volume for its size."""
    if size_bytes is not None and measured != size_bytes:
        raise IdentityMismatch(
            f"{device} measures {measured} bytes, but the volume has {size_bytes}; it was not published"
        )
    if least_bytes is not None and measured < least_bytes:
        raise IdentityMismatch(
            f"{device} measures {measured} bytes, but the volume has {least_bytes} at least; it was not published"
        )


def is_shown(identity: str, spellings: frozenset[str]) -> bool:
    """Whether a device with these spellings could be taken for one of that identity, by people or by multipathd.

    A text proves nothing beside world-wide numbers: a vendor may give all its volumes the same one.
    """
    wanted = canonical(identity)
    if not _is_number(wanted) and any(map(_is_number, spellings)):
        return False
    return bool(wanted) and wanted in spellings


def differ(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two devices' identities, in canonical form, are of different volumes. False where one of them tells none.

    World-wide numbers decide where both have some: a vendor may give all its volumes the same text.
    """
    for numbers in (True, False):
        first, second = (frozenset(each for each in every if _is_number(each) or not numbers) for every in (one, other))
        if first and second:
            return not first & second
    return False


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{16,}", text) is not None


def _texts(roots: Roots, name: str, members: list[str]) -> Iterator[str]:
    yield sysfs.multipath_wwid(roots, name) or ""
    for member in members:
        folder = roots.block(member)
        for attribute in _NVME_ATTRIBUTES:
            yield _meaningful(sysfs.text(folder / attribute))
        yield _meaningful(sysfs.text(folder / "device" / "wwid"))
        yield from _page_83(roots, member)
        yield rbd_image(roots, member)


def _meaningful(value: str | None) -> str:
    """NVMe shows an identity that the namespace lacks as zeros."""
    return value if value and value.strip("0- .") else ""


def _page_83(roots: Roots, name: str) -> Iterator[str]:
    """What the kernel read when it found the device."""
    try:
        page = (roots.block(name) / "device" / "vpd_pg83").read_bytes()
    except OSError:
        return
    yield from designators(page)


def designators(page: bytes) -> Iterator[str]:
    """The identities of the logical unit that a SCSI page 83h holds."""
    at = 4
    while at + 4 <= min(len(page), 4 + int.from_bytes(page[2:4], "big")):
        kind, association = page[at + 1] & 0xF, page[at + 1] >> 4 & 3
        value = page[at + 4 : at + 4 + page[at + 3]]
        at += 4 + page[at + 3]
        if association != 0:
            continue  # of a port or of the whole target
        if kind in (_EUI64, _NAA):
            yield value.hex()
        elif kind == _T10:
            yield f"t10.{value.decode(errors='replace')}"
        elif kind == _SCSI_NAME:
            yield value.rstrip(b"\0").decode(errors="replace")


def rbd_image(roots: Roots, name: str) -> str:
    """``pool/image`` (or ``pool/namespace/image``) of a mapped Ceph image."""
    if not name.startswith("rbd"):
        return ""
    folder = roots.sys / "bus" / "rbd" / "devices" / name.removeprefix("rbd")
    return "/".join(part for part in (sysfs.text(folder / key) for key in ("pool", "pool_ns", "name")) if part)
