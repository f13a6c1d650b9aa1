"""This host, as preflight checks ask it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from reconciler.adapters.brick import sysfs, tools
from reconciler.adapters.brick.preflight.case import Access, Ran
from reconciler.runtime.ports import Retryable, Terminal

DEADLINE_S = 10.0
"""For one program. Those that are asked only tell something; one that hangs is itself a sign of trouble."""


class SystemHost:
    """The `Host` port over the running system."""

    def __init__(self) -> None:
        self.user = os.geteuid()

    def text(self, path: str) -> str | None:
        try:
            return Path(path).read_bytes().decode(errors="replace")
        except OSError:
            return None

    def names(self, folder: str) -> list[str]:
        return sysfs.names(Path(folder))

    def access(self, path: str) -> Access | None:
        try:
            found = os.stat(path)
        except OSError:
            return None
        return Access(found.st_uid, stat.S_IMODE(found.st_mode) & 0o777)

    def has(self, program: str) -> bool:
        try:
            tools.require(program, program)
        except Terminal:
            return False
        return True

    def run(self, *command: str) -> Ran | None:
        try:
            done = tools.run(*command, timeout_s=DEADLINE_S)
        except (Terminal, Retryable, OSError):
            return None
        return Ran(done.returncode, done.stdout)
