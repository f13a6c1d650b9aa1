"""Makes `tests` importable from wherever pytest is started, and the etcd fixtures known to every test."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
pytest_plugins = ["tests.integration.etcd_fixture"]
