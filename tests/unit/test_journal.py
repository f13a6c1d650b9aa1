"""systemd's journal (F-C21): each line with its priority, and with fields to search by."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from daemons.journal import Journal, leads_to_journal
from daemons.logs import Logs, trace
from reconciler.adapters.child import level_of, levels


class FakeJournal:
    """journald's socket, and what came to it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "socket"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(10)

    def message(self) -> dict[str, str]:
        """The next one, read by the rules of systemd's "Native Journal Protocol"."""
        rest, fields = self._socket.recv(1 << 20), {}
        while rest:
            name, _, rest = rest.partition(b"\n")
            size = int.from_bytes(rest[:8], "little")
            fields[name.decode()], rest = rest[8 : 8 + size].decode(), rest[9 + size :]
        return fields

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()


@pytest.fixture
def stderr() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[FakeJournal]:
    fake = FakeJournal(tmp_path)
    yield fake
    fake.close()


@pytest.fixture
def logs(journal: FakeJournal, stderr: io.StringIO) -> Iterator[Logs]:
    logs = Logs("json", "debug", stderr, Journal("brickwork-node", stderr, journal.path))
    yield logs
    logs.close()


@pytest.mark.usefixtures("logs")
def test_a_line_has_its_priority_and_what_it_is_about(journal: FakeJournal, stderr: io.StringIO) -> None:
    with trace(volume="data", node="web-1", epoch=7):
        structlog.get_logger("x").warning("its device is not as it was", step="DISCONNECT", backend=None)
    message = journal.message()
    assert json.loads(message.pop("MESSAGE"))["event"] == "its device is not as it was"
    assert message == {
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "brickwork-node",
        "VOLUME": "data",
        "NODE": "web-1",
        "EPOCH": "7",
        "STEP": "DISCONNECT",
    }
    assert stderr.getvalue() == ""


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")]
)
def test_every_level_has_a_priority(journal: FakeJournal, level: str, priority: str) -> None:
    getattr(structlog.get_logger("x"), level)("ours")
    assert journal.message()["PRIORITY"] == priority
    getattr(logging.getLogger("x"), level)("a library's")
    assert journal.message()["PRIORITY"] == priority


@pytest.mark.usefixtures("logs")
def test_no_secret_gets_into_a_field_and_no_text_out_of_one(journal: FakeJournal) -> None:
    """A field's value is nobody's to trust: it can't begin another field."""
    structlog.get_logger("x").info("x", volume="a\nPRIORITY=0\nb", node="password=canary-5f3a")
    message = journal.message()
    assert (message["PRIORITY"], message["VOLUME"]) == ("6", "a\nPRIORITY=0\nb")
    assert "canary" not in str(message)


def test_what_the_journal_does_not_take_goes_to_stderr_with_its_priority(
    journal: FakeJournal, logs: Logs, stderr: io.StringIO
) -> None:
    journal.path.rename(journal.path.with_name("gone"))
    structlog.get_logger("x").error("x", volume="data")
    logs.flush()
    journal.path.with_name("gone").rename(journal.path)
    mark, line = stderr.getvalue()[:3], stderr.getvalue()[3:]
    assert mark == "<3>"
    assert json.loads(line)["volume"] == "data"


def test_stderr_is_the_journal_when_systemd_says_so_and_nobody_has_changed_it(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as stream, (tmp_path / "b").open("w") as other:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert leads_to_journal(stream, environ)
        assert not leads_to_journal(other, environ)
        assert not leads_to_journal(stream, {})
    assert not leads_to_journal(io.StringIO(), environ)


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL])
def test_the_level_of_a_worker_s_line_comes_through_the_pipe(level: int) -> None:
    lines = [levels.read(line) for line in levels.mark("failed:\nTraceback …", level).splitlines()]
    assert lines == ["failed:", "Traceback …"]
    assert {level_of(line) for line in lines} == {level}


def test_a_line_without_a_mark_is_information() -> None:
    assert levels.read("<html> iscsiadm said") == "<html> iscsiadm said"
    assert level_of(levels.read("<html> iscsiadm said")) == level_of("a plain text") == logging.INFO
