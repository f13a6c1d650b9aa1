"""docs/OPERATING.md says what each metric and exit code means: all that there are, and no others; tests that it names are there."""

from __future__ import annotations

import random
import re
from pathlib import Path

from prometheus_client import generate_latest

from daemons.process import Exit
from reconciler.adapters.clock import SystemClock
from reconciler.runtime.telemetry import Telemetry
from reconciler.runtime.workqueue import WorkQueue

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "OPERATING.md").read_text()


def test_every_metric_is_explained_and_no_other() -> None:
    telemetry = Telemetry(["connect"])
    telemetry.watch_queue("volumes", WorkQueue(SystemClock(), random.Random(1)))
    telemetry.watch_reflector("/", lambda: 0)
    telemetry.watch_lease("node", lambda: 0)
    telemetry.watch_held_back("patience", lambda: 0)
    telemetry.watch_orphan_exports("lvm", lambda: 0)
    telemetry.watch_paused("detaches", lambda: 0)
    telemetry.watch_store(lambda: 0)
    telemetry.watch_oldest_unsettled("volumes", lambda: 0)
    exposed = set(re.findall(r"^# TYPE (brickwork_\w+) ", generate_latest(telemetry.registry).decode(), re.MULTILINE))
    served = {name for name in exposed if not name.endswith("_created")}
    assert set(re.findall(r"`(brickwork_\w+)`", PAGE)) == served


def test_every_exit_code_is_explained() -> None:
    table = PAGE.split("| exit code |")[1].split("\n\n")[0]
    assert [int(code) for code in re.findall(r"^\| (\d) \|", table, re.MULTILINE)] == sorted(Exit)


def test_every_accident_has_a_test_that_is_there() -> None:
    table = PAGE.split("\n## Accidents\n")[1].split("\n\n")[1]
    rows = table.splitlines()[2:]
    named = [re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row) for row in rows]
    assert all(found or row.endswith("the same |") for found, row in zip(named, rows, strict=True))
    for file, test in (each for found in named for each in found):
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"
