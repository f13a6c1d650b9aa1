"""Logs: one line each, with their context, and without secrets."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from daemons.logs import Format, Level, Logs, trace

CANARY = "canary-5f3a"


class Lines:
    """What was logged, as text and as parsed JSON."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.logs: Logs | None = None

    def open(self, form: Format = "json", level: Level = "info") -> None:
        self.logs = Logs(form, level, self.stream)

    def text(self) -> str:
        assert self.logs is not None
        self.logs.flush()
        return self.stream.getvalue()

    def parsed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    found = Lines()
    yield found
    if found.logs is not None:
        found.logs.close()


def test_a_line_is_one_json_object_with_time_level_and_logger(lines: Lines) -> None:
    lines.open()
    structlog.get_logger("reconciler.runtime").info("granted", volume="data", epoch=7)
    (line,) = lines.parsed()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "granted", "level": "info", "logger": "reconciler.runtime", "volume": "data", "epoch": 7}


def test_what_the_standard_library_logs_looks_the_same(lines: Lines) -> None:
    lines.open()
    logging.getLogger("reconciler.adapters.child").info("ended by %s", "signal 9")
    (line,) = lines.parsed()
    assert (line["event"], line["level"], line["logger"]) == ("ended by signal 9", "info", "reconciler.adapters.child")


def test_the_context_stands_in_every_line_below_it_of_its_thread_alone(lines: Lines) -> None:
    lines.open()
    log = structlog.get_logger()
    with trace(volume="data", node="web-1"), trace(epoch=7, step="CLAIM"):
        logging.getLogger("library").warning("slow")
        other = threading.Thread(target=lambda: log.info("elsewhere"))
        other.start()
        other.join()
    log.info("after")
    inside, elsewhere, after = lines.parsed()
    assert [inside[name] for name in ("volume", "node", "epoch", "step")] == ["data", "web-1", 7, "CLAIM"]
    assert "volume" not in elsewhere
    assert "volume" not in after


def test_less_than_the_level_is_not_logged(lines: Lines) -> None:
    lines.open(level="warning")
    structlog.get_logger().info("no")
    logging.getLogger("library").info("no")
    structlog.get_logger().error("yes")
    assert [line["event"] for line in lines.parsed()] == ["yes"]


def test_text_is_for_people(lines: Lines) -> None:
    lines.open("text")
    structlog.get_logger().info("granted", volume="data", password=CANARY)
    assert "granted" in lines.text()
    assert "password=*** volume=data" in lines.text()


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_secret_is_logged_however_it_comes(lines: Lines, form: Format) -> None:
    lines.open(form)
    log = structlog.get_logger()
    conn_info = {"driver_volume_type": "iscsi", "data": {"auth_password": CANARY, "target_lun": 1}}
    log.info("connected", conn_info=conn_info)
    log.info("connected", reply={"model": [{"provider_auth": f"CHAP user {CANARY}"}]})
    log.info(f"got {conn_info}")
    logging.getLogger("library").warning("options %s", {"san_password": CANARY})
    try:
        secret_local = CANARY
        raise RuntimeError(f"login failed: --password {secret_local}")
    except RuntimeError:
        log.exception("failed")
        logging.getLogger("library").exception("failed")
    text = lines.text()
    assert "login failed" in text
    assert "iscsi" in text
    assert CANARY not in text


def test_a_sink_that_nobody_reads_holds_up_nobody() -> None:
    """More than a pipe and the queue can hold; then somebody reads."""
    reading, writing = os.pipe()
    found: list[str] = []
    with os.fdopen(reading) as reader:
        with os.fdopen(writing, "w") as stream:
            logs = Logs("json", "info", stream)
            for number in range(12_000):
                logging.getLogger("flood").info("line %s %s", number, "x" * 100)
            somebody = threading.Thread(target=lambda: found.extend(reader))
            somebody.start()
            logs.close()
        somebody.join()
    events = [json.loads(line)["event"] for line in found]
    assert events[0].startswith("line 0 ")
    assert any(event.endswith("lines dropped: nobody read") for event in events)


def test_closing_puts_the_logging_of_before_back(lines: Lines) -> None:
    before = logging.getLogger().handlers[:]
    lines.open()
    assert logging.getLogger().handlers != before
    assert lines.logs is not None
    lines.logs.close()
    lines.logs = None
    assert logging.getLogger().handlers == before


ENDS = """
from daemons import logs
logs._FLUSH_S = 3600.0
opened = logs.Logs("json", "info")
logs.logging.getLogger("library").info("last words")
opened.close()
"""


def test_a_closed_log_does_not_hold_up_the_end_of_the_process() -> None:
    """The standard library flushes every handler once more at the end."""
    ended = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(ended.stderr)["event"] == "last words"
