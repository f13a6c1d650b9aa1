"""Asking a SCSI device itself which logical unit it is.

The kernel asks once, when it finds a device, and never again: when the array gives the LUN to another volume meanwhile, sysfs goes
on telling the old identity, while reads and writes go to the new volume (CVE-2023-2088). So the device is asked anew, with an
INQUIRY for page 83h that goes to the array and past all caches (SG_IO, as `sg_inq` does).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable

Ask = Callable[[os.PathLike[str]], bytes | None]

_SG_IO = 0x2285
_FROM_DEVICE = -3
_PAGE_BYTES = 4096
_PATIENCE_MS = 5000
"""The kernel's own, longer patience begins where this one ends: it then tries to win the path back, or gives it up."""
_INQUIRY = bytes([0x12, 0x01, 0x83, _PAGE_BYTES >> 8, _PAGE_BYTES & 0xFF, 0])


class _Request(ctypes.Structure):
    """``struct sg_io_hdr`` of <scsi/sg.h>."""

    _fields_ = (
        ("interface_id", ctypes.c_int),
        ("dxfer_direction", ctypes.c_int),
        ("cmd_len", ctypes.c_ubyte),
        ("mx_sb_len", ctypes.c_ubyte),
        ("iovec_count", ctypes.c_ushort),
        ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p),
        ("cmdp", ctypes.c_void_p),
        ("sbp", ctypes.c_void_p),
        ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("pack_id", ctypes.c_int),
        ("usr_ptr", ctypes.c_void_p),
        ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte),
        ("msg_status", ctypes.c_ubyte),
        ("sb_len_wr", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort),
        ("driver_status", ctypes.c_ushort),
        ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint),
        ("info", ctypes.c_uint),
    )


def page_83(node: os.PathLike[str]) -> bytes | None:
    """The device's page 83h, fresh. None: it gave no answer, has no such page, is no SCSI device, or has nothing behind it now.

    A path whose loss the kernel has not noticed yet keeps the caller waiting until it has.
    """
    page, command, sense = (ctypes.create_string_buffer(size) for size in (_PAGE_BYTES, len(_INQUIRY), 64))
    command.raw = _INQUIRY
    request = _Request(
        interface_id=ord("S"),
        dxfer_direction=_FROM_DEVICE,
        cmd_len=len(_INQUIRY),
        mx_sb_len=len(sense),
        dxfer_len=_PAGE_BYTES,
        dxferp=ctypes.addressof(page),
        cmdp=ctypes.addressof(command),
        sbp=ctypes.addressof(sense),
        timeout=_PATIENCE_MS,
    )
    try:
        device = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _SG_IO, request)
        finally:
            os.close(device)
    except OSError:
        return None
    failed = request.status or request.host_status or request.driver_status
    answer = page.raw[: _PAGE_BYTES - request.resid]
    # The first three bits are clear when a logical unit is behind the address.
    return answer if not failed and len(answer) >= 4 and answer[0] >> 5 == 0 and answer[1] == 0x83 else None
