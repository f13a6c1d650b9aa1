"""Sets of guests side by side: each removes what dead runs left, and nothing of a run that lives."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import layout
from harness.place import Place
from harness.waiting import wait_until

# A run with something in its namespace, as guests are, that outlives it when it is killed.
RUN = """
import subprocess, sys
from pathlib import Path
from harness.place import Place
place = Place(int(sys.argv[1]), Path(sys.argv[2]))
place.take()
subprocess.run(["ip", "netns", "add", place.namespace], check=True)
left = ["ip", "netns", "exec", place.namespace, "sleep", "1000"]
subprocess.Popen(left, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
place.guests.mkdir()
print("running", flush=True)
sys.stdin.read()
"""


class Run:
    """Another process that holds a place."""

    def __init__(self, number: int, state: Path) -> None:
        self.place = Place(number, state)
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(number), str(state)],
            cwd=layout.E2E,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "running\n"
        wait_until(self.place.pids, 30, "something runs in its namespace")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    @property
    def is_whole(self) -> bool:
        return self.namespace_exists and len(self.place.pids()) == 1 and self.place.guests.exists()

    @property
    def namespace_exists(self) -> bool:
        return Path("/run/netns", self.place.namespace).exists()


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[list[Run]]:
    """Three runs in one state folder and one in another's."""
    with ExitStack() as ends:
        started = []
        for number, state in ((0, "a"), (1, "a"), (2, "a"), (0, "b")):
            started.append(run := Run(number, tmp_path / state))
            ends.callback(run.place.clear)
            ends.callback(run.kill)
        yield started


def test_a_run_removes_what_dead_runs_left_and_nothing_of_the_living(runs: list[Run]) -> None:
    dead, dead_too, alive, of_another_checkout = runs
    for run in (dead, dead_too, of_another_checkout):
        run.kill()
    assert all(run.is_whole for run in runs), "a killed run leaves all of it behind"

    dead.place.take()
    assert not dead.namespace_exists
    assert not dead_too.namespace_exists
    assert not dead_too.place.guests.exists()
    assert alive.is_whole
    assert of_another_checkout.is_whole
    dead.place.release()


def test_a_place_is_held_by_one_run(runs: list[Run]) -> None:
    with pytest.raises(RuntimeError, match=r"another end-to-end run uses .*set-2"):
        Place(2, runs[2].place.folder.parent).take()
    assert all(run.is_whole for run in runs)
