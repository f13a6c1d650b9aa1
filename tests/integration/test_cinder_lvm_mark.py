"""LVM's mark is the group's uuid as it is now, asked with Cinder's own code (F-D6)."""

from __future__ import annotations

from pathlib import Path

import pytest
from cinder.brick.local_dev.lvm import LVM
from oslo_concurrency.processutils import ProcessExecutionError

from reconciler.adapters.cinder import storage

pytestmark = pytest.mark.root


class Driver:
    """Of a driver that is set up, as much as counts."""

    def __init__(self) -> None:
        self.vg = LVM.__new__(LVM)
        self.vg.vg_name, self.vg._root_helper, self.vg.vg_uuid = "bricks", "", "as-it-was"


Driver.__module__ = "cinder.volume.drivers.lvm"


def test_f_d6_a_group_that_was_replaced_has_another_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, answer = tmp_path / "vgs", tmp_path / "answer"
    program.write_text(f"#!/bin/sh\ncat {answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    driver = Driver()
    answer.write_text("  bricks:10.00:5.00:3:uXJ-1\n")
    assert storage.mark(driver) == "lvm-uXJ-1"
    answer.write_text("  bricks:10.00:5.00:0:uXJ-2\n")
    assert storage.mark(driver) == "lvm-uXJ-2"
    answer.unlink()
    with pytest.raises(ProcessExecutionError):
        storage.mark(driver)
