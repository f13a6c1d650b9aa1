"""``python -m tests.chaos --seed 7 --minutes 3``: chaos with real processes; docs/CHAOS.md. Exit 1 on a violation."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from tests.chaos.history import History
from tests.chaos.replay import Replay
from tests.chaos.run import Run
from tools.janitor import Janitor

ROOT = Path(__file__).parents[2] / ".state"


@click.command()
@click.option("--seed", type=int, default=None, help="Fixes the user's script and the faults. Default: at random.")
@click.option("--minutes", type=float, default=3.0, show_default=True, help="So long the faults go on.")
@click.option("--keep", is_flag=True, help="Keep history and logs even if all is well.")
@click.option("--check", type=click.Path(path_type=Path, exists=True), help="Only check a history of before.")
def main(seed: int | None, minutes: float, keep: bool, check: Path | None) -> None:
    """Chaos with real processes."""
    if check is not None:
        violations = Replay(History.lines(check)).play()
        click.echo("\n".join(violations) or "no violation")
        sys.exit(1 if violations else 0)
    if os.geteuid() != 0:
        click.echo("make chaos attaches loop devices, and needs root for that", err=True)
        sys.exit(2)
    signal.signal(signal.SIGTERM, _interrupt)
    seed = int.from_bytes(os.urandom(3)) if seed is None else seed
    folder = ROOT / f"chaos-{seed}"
    if folder.exists():
        shutil.rmtree(folder)
    with Janitor(folder):
        report = Run(seed, minutes * 60, folder, ROOT).play(click.echo)
    click.echo(report.text())
    if report.violations or keep:
        click.echo(f"kept: {folder}; again: make chaos SEED={seed} MINUTES={minutes:g}")
    else:
        shutil.rmtree(folder)
    sys.exit(1 if report.violations else 0)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
