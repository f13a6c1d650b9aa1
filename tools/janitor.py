"""Ends what a run of tests or the demo has left, however it ended: by SIGKILL to make, to pytest or to a worker of it, too.

A process of its own, which nobody has a reason to kill. It waits until the run says that it is done, or has gone without a word;
or until the `make` has gone which started the run. Then it kills every process of the run, unmounts and detaches what lies
below the run's folders. The run's processes are known by a variable in their environment, which whatever they start inherits.
The janitor has none, and is run as a *file*: it imports next to nothing, so it is there in 30 ms.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

MARK = "RUN_WITH_JANITOR_"
_DONE = b"done"
_MAKE = {"make", "gmake"}
_LOOK_S = 0.05
_TOOLS = "/usr/sbin:/usr/bin:/sbin:/bin"


class Janitor:
    """The run's end of it. All that is started later, and inherits our environment, belongs to the run."""

    def __init__(self, *folders: Path) -> None:
        """
        Args:
            folders: what is mounted below them, and loop devices on files in them, is the run's. Made if need be.
        """
        self._mark = f"{MARK}{secrets.token_hex(8)}"
        its_end, self._pipe = os.pipe()
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        words = [self._mark, str(os.getpid()), *map(str, folders)]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=its_end,
            env={"PATH": _TOOLS},  # not the mark, which would make it one of the run
            start_new_session=True,  # a Ctrl-C at the terminal is for the run
        )
        os.close(its_end)
        os.write(self._pipe, "\0".join(words).encode() + b"\0\0")
        os.environ[self._mark] = "1"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.dismiss()  # else it looks after what is left when this process has ended

    def dismiss(self) -> None:
        """The run has ended in order, and cleaned up after itself."""
        os.environ.pop(self._mark, None)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, _DONE)
        os.close(self._pipe)
        self._process.wait()


def main() -> int:
    """Wait for the end of the run; clean up. `--free FOLDER`: only unmount and detach."""
    if sys.argv[1:2] == ["--free"]:
        _free(_opened(sys.argv[2:]))
        return 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = b""
    while not told.endswith(b"\0\0"):
        if not (chunk := os.read(0, 4096)):
            return 0  # it ended before anything was started
        told += chunk
    mark, run, *folders = told.decode().rstrip("\0").split("\0")
    opened = _opened(folders)
    if not _ended_in_order(starters := _starters(int(run))):
        _kill(mark, starters, opened)
        _free(opened)
    return 0


def _opened(folders: list[str]) -> list[int]:
    found = []
    for folder in folders:
        with contextlib.suppress(OSError):  # the run has ended, and somebody removed it
            found.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
    return found


def _starters(pid: int) -> list[int]:
    """Descriptors of the run and of those who started it: up to the `make` if one did, the run alone if none."""
    found = []
    with contextlib.suppress(OSError):  # one of them has gone, and init took the next one over
        while pid > 1:
            found.append(os.pidfd_open(pid))
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(") ")
            if name in _MAKE:
                return found
            pid = int(rest.split()[1])
    return found[:1]


def _ended_in_order(starters: list[int]) -> bool:
    """Wait until the run says so, or it or its `make` has gone."""
    poll = select.poll()
    for fd in {0, *starters[:1], *starters[-1:]}:
        poll.register(fd, select.POLLIN)
    return 0 in [fd for fd, _ in poll.poll()] and os.read(0, 4096) == _DONE


def _kill(mark: str, starters: list[int], folders: list[int]) -> None:
    """SIGKILL to all of the run, again and again until none is left: they may be starting others."""
    if len(starters) > 1 and _gone(starters[-1]):  # without its make nobody waits for the run
        for fd in starters:
            _signal(fd)
    _signal(starters[0])
    while members := _marked(mark):
        for fd in members:
            _signal(fd)
            os.close(fd)
        time.sleep(_LOOK_S)
        for point in _mounts(folders):  # whoever writes to a frozen file system can't die
            subprocess.run(["fsfreeze", "--unfreeze", point], check=False, capture_output=True)


def _gone(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _signal(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _marked(mark: str) -> list[int]:
    """Descriptors of the living processes of the run. A zombie has no environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended
            fd = os.pidfd_open(int(folder.name))
            if f"{mark}=".encode() in (folder / "environ").read_bytes() and not _gone(fd):
                found.append(fd)
            else:
                os.close(fd)
    return found


def _prefixes(folders: list[int]) -> tuple[str, ...]:
    """What paths in the run's folders begin with now: pytest renames folders of runs that have ended before it removes them."""
    return tuple(os.readlink(f"/proc/self/fd/{fd}").removesuffix(" (deleted)") + "/" for fd in folders)


def _mounts(folders: list[int]) -> list[str]:
    """What is mounted below the run's folders, innermost first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split()[1]) for line in lines]
    return [point for point in reversed(points) if point.startswith(_prefixes(folders))]


def _free(folders: list[int]) -> None:
    """Unmount and detach, until nothing is left: mounts lie on loop devices, and these on files."""
    for _ in range(10):
        commands = [["umount", "--lazy", point] for point in _mounts(folders)]
        commands += [["losetup", "--detach", device] for device in _loop_devices(folders)]
        if not commands:
            return
        for command in commands:
            subprocess.run(command, check=False, capture_output=True)
        time.sleep(_LOOK_S)


def _loop_devices(folders: list[int]) -> list[str]:
    """On files in these folders. A path of a mount namespace that has gone no longer begins with the folder's (tools/fresh):
    then by the file itself."""
    columns = "NAME,BACK-INO,BACK-MAJ:MIN,BACK-FILE"
    command = ["losetup", "--list", "--json", "--output", columns]
    listing = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    found = []
    for row in json.loads(listing)["loopdevices"] if listing.strip() else []:
        disk = os.makedev(*map(int, row["back-maj:min"].split(":")))
        file = (disk, row["back-ino"])
        if row["back-file"].startswith(_prefixes(folders)) or (
            not _is(row["back-file"], file) and any(_holds(folder, file) for folder in folders)
        ):
            found.append(row["name"])
    return found


def _is(path: str, file: tuple[int, int]) -> bool:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return (found.st_dev, found.st_ino) == file
    return False


def _holds(folder: int, file: tuple[int, int]) -> bool:
    """Whether the file is in the folder or below it."""
    if os.fstat(folder).st_dev != file[0]:
        return False
    return any(
        entry.inode() == file[1] for place, _, _ in os.walk(f"/proc/self/fd/{folder}") for entry in os.scandir(place)
    )


if __name__ == "__main__":
    sys.exit(main())
