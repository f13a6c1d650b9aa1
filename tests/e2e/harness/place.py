"""Where one set of guests lives: a folder, and a network namespace named after it. Sets run side by side, each in its own.

A place is held by a lock for as long as its set runs. A run that was killed has let go of the lock and may have left a namespace
with processes behind; whoever comes next removes that, and nothing of a place that somebody holds.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from harness import layout
from harness.waiting import wait_until

PREFIX = "set-"


class Place:
    """One place. Its number tells it from the others in the same state folder; a run without a parallel one has 0."""

    def __init__(self, number: int = 0, state: Path = layout.STATE) -> None:
        self._state = state
        self.folder = state / f"{PREFIX}{number}"
        self.guests = self.folder / "guests"
        self.etcd_data = self.folder / "etcd-data"
        self.logs = self.folder / "logs"
        # From the folder's whole path: two checkouts never take each other's namespace for a leftover of their own.
        self.namespace = "brickwork-e2e-" + hashlib.sha256(str(self.folder).encode()).hexdigest()[:8]
        self._lock: TextIO | None = None

    def take(self) -> None:
        """Hold this place from now on, cleared of what dead runs left, as are all others that nobody holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # One at a time: while one clears the places of the dead, another must not move into one of them.
        with (self._state / "take.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            if not self._hold():
                raise RuntimeError(f"another end-to-end run uses {self.folder}")
            self.clear()
            for folder in self._state.glob(f"{PREFIX}*"):
                other = Place(int(folder.name.removeprefix(PREFIX)), self._state)
                if other.folder != self.folder and other._hold():
                    other.release()

    def release(self) -> None:
        """Remove all but the logs, and let go."""
        self.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def clear(self) -> None:
        """Kill everything in the namespace and delete it with the disks. The logs stay."""
        if Path("/run/netns", self.namespace).exists():
            wait_until(self._kill_all, 60, f"namespace {self.namespace} is empty")
            subprocess.run(["ip", "netns", "delete", self.namespace], check=True)
        for folder in (self.guests, self.etcd_data):
            shutil.rmtree(folder, ignore_errors=True)

    def pids(self) -> list[int]:
        """Return the processes in the namespace. A process that ended but was not waited for does not count."""
        command = ["ip", "netns", "pids", self.namespace]
        return [int(pid) for pid in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]

    def _hold(self) -> bool:
        """Say whether the lock is ours now."""
        lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _kill_all(self) -> bool:
        pids = self.pids()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids
