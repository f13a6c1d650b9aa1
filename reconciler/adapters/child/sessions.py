"""Children of an earlier daemon: the record by which they are found, and their end.

A session's number may be used again by a stranger. While the daemon has not reaped the session's leader it can't be; after a
restart of the daemon, the random token in the environment of any living member is the proof.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from reconciler.adapters.child import keeper
from reconciler.runtime import ports

MARKER = "BRICKWORK_CHILD"


def end_survivors(state_folder: Path, deadline_s: float) -> None:
    """Kill, and wait for, what a daemon that was killed itself left behind. To be called before the first `Child.start`.

    Raises Unavailable, naming the pids, when some do not die in time (state D: the kernel is waiting for a device).
    """
    until = time.monotonic() + deadline_s
    for path in state_folder.glob("child-*.json"):
        try:
            record = json.loads(path.read_bytes())
        except ValueError:  # its daemon died while writing it, hence before the first request
            record = {"boot": None}
        present = record["boot"] == _boot_id() and _is_ours(record["session"], record["token"])
        if present and (left := keeper.end_session(record["session"], until)):
            raise ports.Unavailable(f"processes of an earlier run do not die: {describe(left)}")
        path.unlink(missing_ok=True)


def write_record(path: Path, token: str, session: int) -> None:
    """What `end_survivors` needs to know. Raises OSError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"token": token, "session": session, "boot": _boot_id()}, file)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def members(session: int) -> list[int]:
    """Pids of the session's processes that have not ended."""
    found = keeper.living(session)
    keeper.close(found)
    return list(found)


def describe(pids: Sequence[int]) -> str:
    """``pid 412 (lvcreate, state D)``…"""

    def one(pid: int) -> str:
        name, _, rest = _read(pid, "stat").decode(errors="replace").rpartition(") ")
        return f"pid {pid} ({name.partition('(')[2] or 'gone'}, state {rest[:1] or '?'})"

    return ", ".join(one(pid) for pid in pids)


def _is_ours(session: int, token: str) -> bool:
    """Whether a session number still means the recorded session: one living member with the token proves it for all of them.

    A process without any environment has given its memory back and is on its way out: it is waited for as well.
    """
    environments = [_read(pid, "environ") for pid in members(session)]
    return any(text == b"" or f"{MARKER}={token}".encode() in text.split(b"\0") for text in environments)


def _read(pid: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b"?"
