"""Where things lie on the machine that runs the tests."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
VENV = CHECKOUT / ".venv"
E2E = CHECKOUT / "tests" / "e2e"

STATE = Path(os.environ.get("BRICKWORK_STATE", CHECKOUT / ".state")).resolve() / "e2e"
# Shared by all sets of guests, and changed by none of them.
ROOT_TREE = STATE / "root"
ETCD_BINARIES = STATE / "etcd" / "usr" / "bin"

# Made by prepare.sh where the processor needs it.
WIDE_REGISTERS = STATE / "wide-registers.so"
KERNEL = Path("/usr/bin/linux.uml")
KERNEL_MODULES = Path("/usr/lib/uml/modules")
