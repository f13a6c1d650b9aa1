"""Makes `tests` importable from wherever pytest is started, and the etcd fixtures known to every test."""

import os
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))
from tools.janitor import Janitor  # found by the line above

pytest_plugins = ["tests.integration.etcd_fixture"]

REAL_PROCESSES = {"test_brick_connector.py", "test_cinder_backend.py", "test_etcd_store.py"}
"""Contract suites that start workers or an etcd for themselves."""


JANITOR = pytest.StashKey[Janitor]()
INTERRUPTED = threading.Event()


def pytest_configure(config: pytest.Config) -> None:
    """Ends the workers when this process is killed, or the `make` that started it, before any test runs, too."""
    if not hasattr(config, "workerinput"):
        config.stash[JANITOR] = Janitor()


def pytest_keyboard_interrupt() -> None:
    """What the tests could not clean up any more is the janitor's, as soon as this process has ended."""
    INTERRUPTED.set()


def pytest_unconfigure(config: pytest.Config) -> None:
    if (janitor := config.stash.get(JANITOR, None)) is not None and not INTERRUPTED.is_set():
        janitor.dismiss()


@pytest.fixture(scope="session", autouse=True)
def _nothing_lives_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For each process that runs tests: what it started ends with it, whoever kills it (F-T2)."""
    janitor = Janitor(tmp_path_factory.getbasetemp())
    yield
    if not INTERRUPTED.is_set():
        janitor.dismiss()


@pytest.fixture(scope="module", autouse=True)
def _logging_is_left_as_found() -> Iterator[None]:
    """Which file a worker runs next is chance: one that leaves logging configured takes the other's lines, or its messages."""
    yield
    assert not structlog.is_configured()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts processes of its own takes seconds each: not for `make test-fast`."""
    for item in items:
        if "integration" in item.path.parts or item.path.name in REAL_PROCESSES:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With BRICKWORK_TESTS_REQUIRED set (`make fresh`) a skip is a failure: it would hide what set-up does not bring (F-T1)."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("BRICKWORK_TESTS_REQUIRED"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and BRICKWORK_TESTS_REQUIRED is set: {report.longreprtext}"
    return report
