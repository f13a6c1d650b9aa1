"""F-T2: whoever ends a run of tests or the demo, and by which signal: nothing of it lives on."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import fleets
from tools.fleet import wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root]

ROOT = Path(__file__).parents[2]
HANGS = "ARGS=-p no:cacheprovider tests/integration/hanging.py"
DEADLINE_S = 120.0


class Run:
    """`make` and all that comes of it, known by a variable in the environment."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.hanging = folder / "hanging"
        self._mark = f"ENDED_RUN_{uuid.uuid4().hex}=1"
        name, _, value = self._mark.partition("=")
        # Without what pytest-xdist tells its workers: this is a run of its own.
        inherited = {key: text for key, text in os.environ.items() if not key.startswith("PYTEST_")}
        self.make = subprocess.Popen(
            [
                "env",
                "--default-signal=INT",
                "make",
                *words,
            ],  # it may be ignored here, as in all that a shell has beside itself
            cwd=ROOT,
            env={**inherited, name: value, "HANGING": str(self.hanging)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )

    def processes(self) -> dict[int, str]:
        """pid and command line of all that lives."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended
                if f"{self._mark}\0".encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def pytest(self) -> int:
        """The one that `make` started, not a worker of it."""
        return min(pid for pid, line in self.processes().items() if line.startswith(".venv/bin/python -m pytest"))

    def end(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.make.stdout is not None
        self.make.stdout.close()
        self.make.wait()


@contextlib.contextmanager
def made(folder: Path, *words: str) -> Iterator[Run]:
    run = Run(folder, *words)
    try:
        yield run
    finally:
        run.end()


def mounts_and_loops(folder: str) -> list[str]:
    """What of the kernel's has to do with this folder."""
    found = [line for line in Path("/proc/mounts").read_text().splitlines() if folder in line]
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it was detached
            if folder in file.read_text():
                found.append(str(file))
    return found


@pytest.mark.parametrize(
    ("number", "whom"),
    [
        (signal.SIGTERM, "make"),
        (signal.SIGKILL, "make"),
        pytest.param(signal.SIGINT, "make", marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, "pytest", marks=pytest.mark.long),
        pytest.param(signal.SIGINT, "pytest", marks=pytest.mark.long),
        pytest.param(signal.SIGKILL, "pytest", marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, "worker", marks=pytest.mark.long),
        pytest.param(signal.SIGKILL, "worker", marks=pytest.mark.long),
    ],
)
def test_nothing_of_an_ended_run_lives_on(number: signal.Signals, whom: str, tmp_path: Path) -> None:
    with made(tmp_path, "test", HANGS) as run:
        wait_until("it hangs", run.hanging.exists, DEADLINE_S)
        worker, folder = run.hanging.read_text().split(" ", 1)
        assert mounts_and_loops(folder)
        whose = {"make": run.make.pid, "pytest": run.pytest(), "worker": int(worker)}

        if (number, whom) == (signal.SIGINT, "make"):
            os.killpg(run.make.pid, number)  # as a terminal does: make itself passes on SIGTERM alone
        else:
            os.kill(whose[whom], number)

        wait_until("all of it is gone", lambda: not run.processes(), DEADLINE_S)
        wait_until("mounts and loop devices are gone", lambda: not mounts_and_loops(folder), DEADLINE_S)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_of_an_ended_demo_lives_on(number: signal.Signals, tmp_path: Path) -> None:
    with made(tmp_path, "demo") as run:
        assert run.make.stdout is not None
        until_attached = (line for line in run.make.stdout if line.endswith("node-a/data attached\n"))
        assert next(until_attached, None), "the demo ended"
        folders = [str(folder) for folder in (ROOT / ".state").glob("demo-*")]
        assert any(mounts_and_loops(folder) for folder in folders)

        run.make.send_signal(number)

        wait_until("all of it is gone", lambda: not run.processes(), DEADLINE_S)
        wait_until("so are the loop devices", lambda: not any(map(mounts_and_loops, folders)), DEADLINE_S)


DEBOOTSTRAP = """#!/bin/sh
mkdir -p "$6/proc" && mount -t proc proc "$6/proc" && touch "$HANGING" && sleep 3600
"""
MAKE_IN_THERE = """#!/bin/bash
truncate -s 8M /image && losetup --find /image && : >/hanging && sleep 3600
"""


@pytest.mark.parametrize(
    ("hangs", "whom"),
    [("make", "fresh"), pytest.param("make", "make", marks=pytest.mark.long), ("debootstrap", "fresh")],
)
def test_nothing_of_a_killed_fresh_run_lives_on(
    hangs: str, whom: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop device that was made in there has another path when the mounts of there have gone."""
    tree = tmp_path / "fresh" / "tree"
    if hangs == "make":
        bare_tree(tmp_path / "fresh")
    else:
        program(tmp_path / "programs" / "debootstrap", DEBOOTSTRAP)
        monkeypatch.setenv("PATH", f"{tmp_path}/programs:{os.environ['PATH']}")
    monkeypatch.setenv("BRICKWORK_STATE", str(tmp_path))
    with made(tmp_path, "fresh", "TEST=test-setup") as run:
        told = run.hanging if hangs == "debootstrap" else tree / "hanging"
        wait_until("it hangs", told.exists, DEADLINE_S)
        image = (tree / "image").stat().st_ino if hangs == "make" else None
        assert left_of_fresh(tmp_path, image)
        fresh = min(pid for pid, line in run.processes().items() if "tools/fresh" in line and "make" not in line)

        os.kill({"fresh": fresh, "make": run.make.pid}[whom], signal.SIGKILL)

        wait_until("all of it is gone", lambda: not run.processes(), DEADLINE_S)
        wait_until("mounts and loop devices are gone", lambda: not left_of_fresh(tmp_path, image), DEADLINE_S)


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def bare_tree(state: Path) -> None:
    """As debootstrap would have made it, in the eyes of tools/fresh; with no more in it than hangs."""
    bare = state / "bare"
    programs = ["/bin/bash", "/usr/bin/env", "/usr/bin/sleep", "/usr/bin/truncate", "/sbin/losetup"]
    libraries = re.findall(
        r"/\S+", subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    )
    for file in {*programs, *(name for name in libraries if not name.endswith(":"))}:
        (bare / file[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, bare / file[1:])
    for folder in ("dev", "sys", "proc", "root", "tmp", "etc/apt/apt.conf.d", "var/cache/apt/archives"):
        (bare / folder).mkdir(parents=True, exist_ok=True)
    program(bare / "usr" / "bin" / "make", MAKE_IN_THERE)
    words = dict(re.findall(r"^(suite|included|excluded)=(\S+)", (ROOT / "tools" / "fresh").read_text(), re.MULTILINE))
    kind = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()
    (state / "bare.stamp").write_text(f"{words['suite']} {kind} {words['included']} {words['excluded']}\n")


def left_of_fresh(state: Path, image: int | None) -> list[str]:
    """Mounts below its state folder, and loop devices on the image, whatever path they have."""
    rows = fleets.run(["losetup", "--list", "--noheadings", "--raw", "--output", "NAME,BACK-INO"]).splitlines()
    loops = [row for row in rows if image is not None and row.endswith(f" {image}")]
    return loops + [line for line in Path("/proc/mounts").read_text().splitlines() if f"{state}/" in line]
