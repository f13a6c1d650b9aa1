"""Makes `tests` importable from wherever pytest is started, and the etcd fixtures known to every test."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
pytest_plugins = ["tests.integration.etcd_fixture"]

REAL_PROCESSES = {"test_brick_connector.py", "test_cinder_backend.py", "test_etcd_store.py"}
"""Contract suites that start workers or an etcd for themselves."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts processes of its own takes seconds each: not for `make test-fast`."""
    for item in items:
        if "integration" in item.path.parts or item.path.name in REAL_PROCESSES:
            item.add_marker(pytest.mark.slow)
