"""No test of ours: what `test_ended_run` starts, and ends from outside. It has everything that a run can leave behind."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from tests.integration import fleets
from tools.fleet import Fleet


def test_it_hangs(tmp_path: Path) -> None:
    """Daemons, an etcd, a worker, a program in a session of its own, a mounted loop device."""
    told = Path(os.environ["HANGING"])
    if told.exists():
        return  # the worker that did it before was killed, and is replaced
    with Fleet(tmp_path / "fleet", packages=fleets.STATE) as fleet:
        fleet.node("a", fleets.QUICK)
        fleet.controller(settings=fleets.QUICK)
        image, point = tmp_path / "image", tmp_path / "a point"
        point.mkdir()
        with image.open("wb") as file:
            file.truncate(16 << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, point], check=True)
        subprocess.Popen(["sleep", "3600"], start_new_session=True)
        fleets.until_ready(fleet, "files")
        told.write_text(f"{os.getpid()} {tmp_path}")
        threading.Event().wait()
