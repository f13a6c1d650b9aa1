"""F-T2: whoever ends a run of tests or the demo, and by which signal: nothing of it lives on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

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
