"""`make demo`, which is what a stranger runs first: it ends well, and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.adapters.etcd.embedded import find_binary
from tests.integration.fleets import STATE

pytestmark = [pytest.mark.etcd, pytest.mark.root]


def demo(state: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.demo"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "BRICKWORK_STATE": str(state), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_the_demo_ends_well_and_leaves_nothing(tmp_path: Path) -> None:
    find_binary("etcd", STATE)
    state = tmp_path / "state"
    state.mkdir()
    (state / "packages").symlink_to(STATE / "packages")

    done = demo(state)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "links: none; devices: none" in done.stdout
    assert [left.name for left in state.iterdir()] == ["packages"]


def test_what_is_missing_is_told_without_a_traceback(tmp_path: Path) -> None:
    done = demo(tmp_path / "not" / "there", PATH="/nowhere")

    assert done.returncode == 1
    assert "demo: " in done.stderr
    assert "Traceback" not in done.stderr
