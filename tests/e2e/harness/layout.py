"""Where things lie on the machine that runs the tests."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
VENV = CHECKOUT / ".venv"
E2E = CHECKOUT / "tests" / "e2e"

STATE = Path(os.environ.get("BRICKWORK_STATE", CHECKOUT / ".state")).resolve() / "e2e"
ROOT_TREE = STATE / "root"
GUESTS = STATE / "guests"
LOGS = STATE / "logs"
ETCD_BINARIES = STATE / "etcd" / "usr" / "bin"
ETCD_DATA = STATE / "etcd-data"
SESSION_LOCK = STATE / "session.lock"

KERNEL = Path("/usr/bin/linux.uml")
KERNEL_MODULES = Path("/usr/lib/uml/modules")
