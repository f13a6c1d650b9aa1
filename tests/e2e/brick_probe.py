"""Runs in a node guest: one os-brick call, as the self tests of the harness need it.

    brick_probe.py connect|disconnect     (standard input: {"connection": ..., "device": ...})

Prints the device as JSON. Brickwork itself has no part in this: it shows that a guest can carry os-brick at all.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")

import os_brick  # noqa: E402
from os_brick import privileged  # noqa: E402
from os_brick.initiator import connector  # noqa: E402
from oslo_concurrency import lockutils  # noqa: E402
from oslo_config import cfg  # noqa: E402


def main(action: str) -> None:
    """Call os-brick as root in this process, without its privileged helper."""
    cfg.CONF([], project="probe")
    lockutils.set_defaults("/run/lock")
    os_brick.setup(cfg.CONF)
    privileged.default.set_client_mode(False)
    brick = connector.InitiatorConnector.factory("iscsi", "sudo", use_multipath=True, device_scan_attempts=5)
    told = json.load(sys.stdin)
    if action == "connect":
        json.dump(brick.connect_volume(told["connection"]), sys.stdout)
    else:
        brick.disconnect_volume(told["connection"], told["device"])


if __name__ == "__main__":
    main(sys.argv[1])
