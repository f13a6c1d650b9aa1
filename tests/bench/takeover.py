"""How long a backend is without a controller: ``python -m tests.bench.takeover [--rounds N]``.

Two controllers with production's lease, a node, the file backend. The leader is killed, or stopped as if it hung, and a wish
is made at that moment: the time until its volume is attached, beside the same with nobody lost.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from schema.keys import Family
from tests.integration import fleets
from tools.fleet import Fleet, wait_until
from tools.janitor import Janitor

CONTROLLERS = ("c1", "c2")


def leader(fleet: Fleet) -> str:
    """The name of the controller that acts for the backend, empty while there is none."""
    key = fleets.value(fleet, Family.LEADER, "files")
    return "" if key is None else str(key.identity)


def attach_s(fleet: Fleet, volume: str) -> float:
    """From the wish to the device."""
    began = time.monotonic()
    fleets.wish_volume(fleet, volume)
    fleets.attach(fleet, "n", volume)
    fleets.until_attached(fleet, "n", volume)
    return time.monotonic() - began


def undisturbed(_fleet: Fleet) -> Callable[[], None]:
    return lambda: None


def killed(fleet: Fleet) -> Callable[[], None]:
    """SIGKILL to the leader; in the end a new process has its name."""
    name = leader(fleet)
    fleet.daemon(name).kill()

    def start() -> None:
        fleet.end_children(name)
        fleet.controller(name)

    return start


def hung(fleet: Fleet) -> Callable[[], None]:
    """SIGSTOP to the leader; it goes on when all is over."""
    process = fleet.daemon(leader(fleet)).pid
    os.kill(process, signal.SIGSTOP)
    return lambda: os.kill(process, signal.SIGCONT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="losses of each kind")
    rounds = parser.parse_args().rounds
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=fleets.STATE) as folder,
        Janitor(Path(folder)),
        Fleet(Path(folder), packages=fleets.STATE) as fleet,
    ):
        for name in CONTROLLERS:
            fleet.controller(name)
        fleet.node("n")
        fleets.until_ready(fleet, "files")
        for lose in (undisturbed, killed, hung):
            took_s = []
            for number in range(rounds):
                wait_until("both controllers are there", lambda: bool(leader(fleet)))
                find_again = lose(fleet)
                took_s.append(attach_s(fleet, f"{lose.__name__}-{number}"))
                find_again()
            print(
                f"attach, leader {lose.__name__:12} {statistics.median(took_s):6.2f} s   at most {max(took_s):6.2f} s"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
