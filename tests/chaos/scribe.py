"""Writes through attached devices, and looks whether what it wrote is still there, wherever the volume is by then.

It opens a device by its stable link, writes one block, flushes and closes, so that it is seldom in the way of a detach. Which
volume the device is of, the kernel says while it is open.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.chaos.history import History

EVERY_S = 0.1
BLOCK = 4096
_EXPECTED = (errno.ENOENT, errno.ENXIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENODEV, errno.EIO)
"""The device went just now, or is read-only."""


class Scribe:
    """One run's."""

    def __init__(self, history: History, links: Sequence[Path], files: Path, rng: Random) -> None:
        self._history, self._links, self._files, self._rng = history, links, files, rng
        self._acknowledged: dict[str, int] = defaultdict(int)
        """uid -> the number of the last block that was flushed."""
        self._tried: dict[str, int] = defaultdict(int)
        self._stop = threading.Event()
        self.violations: list[str] = []
        self.blocks = 0
        self._thread = threading.Thread(target=self._run, name="scribe")
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def check_files(self) -> int:
        """At the end, the files themselves; how many hold what was written to them."""
        good = 0
        for uid in self._tried:
            file = self._files / f"volume-{uid}"
            if file.exists():
                with file.open("rb") as stream:
                    good += self._check(uid, stream.read(BLOCK), str(file))
        return good

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            links = [
                link for folder in self._links if folder.is_dir() for link in folder.iterdir() if link.is_symlink()
            ]
            if links:
                self._visit(self._rng.choice(sorted(links)))

    def _visit(self, link: Path) -> None:
        try:
            device = os.open(link, os.O_RDWR)
        except OSError as error:
            self._expect(link, error)
            return
        try:
            backing = Path(f"/sys/dev/block/{_number(device)}/loop/backing_file").read_text().strip()
            self._write(device, Path(backing.removesuffix(" (deleted)")).name.removeprefix("volume-"), str(link))
        except OSError as error:
            self._expect(link, error)
        finally:
            os.close(device)

    def _write(self, device: int, uid: str, where: str) -> None:
        self._check(uid, os.pread(device, BLOCK, 0), where)
        self._tried[uid] += 1
        number = self._tried[uid]
        os.pwrite(device, f"{uid} {number}\n".encode().ljust(BLOCK, b"\0"), 0)
        os.fsync(device)
        self._acknowledged[uid] = number
        self.blocks += 1

    def _check(self, uid: str, block: bytes, where: str) -> bool:
        words = block.rstrip(b"\0").decode(errors="replace").split()
        held, number = (words[0], int(words[1])) if len(words) == 2 and words[1].isdigit() else (uid, 0)
        if (
            held != uid
            or not self._acknowledged[uid] <= number <= self._tried[uid]
            or (block.strip(b"\0") and not number)
        ):
            self.violations.append(
                f"content: {where} of {uid} holds {words}, written were {self._acknowledged[uid]} to {self._tried[uid]}"
            )
            self._history.note("content", where=where, uid=uid, holds=words)
            return False
        return True

    def _expect(self, link: Path, error: OSError) -> None:
        if error.errno not in _EXPECTED:
            self.violations.append(f"content: {link}: {error}")


def _number(device: int) -> str:
    number = os.fstat(device).st_rdev
    return f"{os.major(number)}:{os.minor(number)}"
