"""When a node tries again to add paths: at once, then ever more seldom, and at once again after it was whole."""

from __future__ import annotations

from reconciler.controllers.missing_paths import MissingPaths
from reconciler.runtime.ports import Device


def device(*portals_back: str) -> Device:
    return Device("/dev/brickwork/v", "/dev/dm-0", 1 << 20, "naa.1", 1, 2, False, {}, portals_back)


def test_only_portals_that_answer_are_worth_a_call() -> None:
    missing = MissingPaths()
    assert not missing.due("v", None, 0.0)
    assert not missing.due("v", device(), 0.0)
    assert missing.due("v", device("10.0.0.1:3260"), 0.0)


def test_a_portal_that_answers_in_vain_is_tried_ever_more_seldom() -> None:
    missing, back = MissingPaths(), device("10.0.0.1:3260")
    waits, now_s = [], 0.0
    for _ in range(7):
        missing.tried("v", now_s, "login refused")
        started_s = now_s
        while not missing.due("v", back, now_s):
            now_s += 1.0
        waits.append(now_s - started_s)
    assert waits == [30, 60, 120, 240, 480, 600, 600]
    assert missing.fault("v") == "login refused"
    assert missing.due("other", back, 0.0), "each volume has its own"

    missing.whole("v")
    assert missing.due("v", back, now_s)
    assert missing.fault("v") == ""
