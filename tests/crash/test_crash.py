"""SIGKILL at every numbered point of an attach and of a detach, in the daemons themselves (A7): it converges, nothing is left.

Each daemon is started with a failpoint, dies there in the middle of its work, and is started again with the next one. The points
come in reverse order of a run, so that the resumed work never meets the next point before its own turn: the start that
resumes after one crash is the start that waits for the next.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schema.keys import Family
from tests.integration import fleets
from tools.fleet import Daemon, Fleet

pytestmark = [pytest.mark.etcd, pytest.mark.root, pytest.mark.slow]

CONTROLLER_ATTACH = (
    *("CONNECT_EXPORT:after", "CONNECT_EXPORT:called", "CONNECT_EXPORT:confirmed", "CONNECT_EXPORT:before"),
    *("EXPORT:after", "EXPORT:called", "EXPORT:confirmed", "EXPORT:before", "GRANT:after", "GRANT:before"),
    *("CREATE:after", "CREATE:called", "CREATE:confirmed", "CREATE:before", "INTEND_CREATE:after"),
    "INTEND_CREATE:before",
)
CONTROLLER_DETACH = (
    *("FORGET:after", "FORGET:before", "UNEXPORT:after", "UNEXPORT:called", "UNEXPORT:confirmed", "UNEXPORT:before"),
    *("TERMINATE:after", "TERMINATE:called", "TERMINATE:confirmed", "TERMINATE:before", "REVOKE:after"),
    "REVOKE:before",
)
NODE_ATTACH = (
    *("CONNECT:after", "CONNECT:called", "CONNECT:noted", "CONNECT:confirmed", "CONNECT:before"),
    *("CLAIM:after", "CLAIM:before"),
)
NODE_DETACH = (
    *("WITHDRAW:after", "WITHDRAW:before", "RELEASE:after", "RELEASE:before"),
    *("DISCONNECT:after", "DISCONNECT:called", "DISCONNECT:confirmed", "DISCONNECT:before"),
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path / "f", packages=fleets.STATE) as running:
        yield running


def doomed(point: str) -> dict[str, object]:
    return {**fleets.QUICK, "allow_failpoints": True, "failpoint": point}


def test_controller_killed_at_every_point_of_an_attach(fleet: Fleet) -> None:
    """Wherever the controller dies while it attaches, its successor completes the very same attachment."""
    fleet.node("a", fleets.HASTY)
    for number, point in enumerate(CONTROLLER_ATTACH):
        volume = f"v{number}"
        daemon = fleet.controller(settings=doomed(point))
        fleets.wish_volume(fleet, volume)
        fleets.attach(fleet, "a", volume)
        _died(daemon, point)
    fleet.controller(settings=fleets.QUICK)
    statuses = [fleets.until_attached(fleet, "a", f"v{number}") for number in range(len(CONTROLLER_ATTACH))]
    assert len({status.device for status in statuses}) == len(CONTROLLER_ATTACH)
    assert len(list(fleet.files.glob("volume-*"))) == len(CONTROLLER_ATTACH), "a crash made a volume twice"
    _detach_all(fleet, len(CONTROLLER_ATTACH))


def test_controller_killed_at_every_point_of_a_detach(fleet: Fleet) -> None:
    """Wherever the controller dies while it detaches, its successor leaves nothing behind."""
    fleet.node("a", fleets.HASTY)
    _attach_all(fleet, len(CONTROLLER_DETACH))
    fleet.daemon("ctl").kill(signal.SIGTERM)
    for number, point in enumerate(CONTROLLER_DETACH):
        daemon = fleet.controller(settings=doomed(point))
        fleets.detach(fleet, "a", f"v{number}")
        _died(daemon, point)
    fleet.controller(settings=fleets.QUICK)
    _nothing_left(fleet, len(CONTROLLER_DETACH))


def test_node_killed_at_every_point(fleet: Fleet) -> None:
    """Wherever the node daemon dies while it attaches or detaches, the next one brings it to the end."""
    fleet.controller(settings=fleets.QUICK)
    fleets.until_ready(fleet, "files")

    def cause(volume: str) -> None:
        fleets.wish_volume(fleet, volume)
        fleets.attach(fleet, "a", volume)

    _each_point(fleet, NODE_ATTACH, cause)
    fleet.node("a", fleets.HASTY)
    for number in range(len(NODE_ATTACH)):
        fleets.until_attached(fleet, "a", f"v{number}")
    fleets.wish_volume(fleet, "v7")
    fleets.attach(fleet, "a", "v7")
    fleets.until_attached(fleet, "a", "v7")
    fleet.daemon("a").kill(signal.SIGTERM)
    _each_point(fleet, NODE_DETACH, lambda volume: fleets.detach(fleet, "a", volume))
    fleet.node("a", fleets.HASTY)
    _nothing_left(fleet, len(NODE_DETACH))


def test_workers_killed_while_they_work(fleet: Fleet) -> None:
    """Cinder's and os-brick's workers are killed again and again during attaches and detaches: everything converges."""
    fleet.node("a", fleets.HASTY)
    _attach_all(fleet, 4)
    most = 0
    for number in range(4, 12):
        fleets.wish_volume(fleet, f"v{number}")
        fleets.attach(fleet, "a", f"v{number}")
        fleets.detach(fleet, "a", f"v{number - 4}")
        workers = fleet.workers()
        most = max(most, len(workers))
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
    assert most == 2, "Cinder's and os-brick's"
    for number in range(8, 12):
        fleets.until_attached(fleet, "a", f"v{number}")
    _detach_all(fleet, 12)


def _each_point(fleet: Fleet, points: tuple[str, ...], cause: Callable[[str], object]) -> None:
    for number, point in enumerate(points):
        daemon = fleet.node("a", fleets.HASTY | doomed(point))
        cause(f"v{number}")
        _died(daemon, point)


def _died(daemon: Daemon, point: str) -> None:
    status = daemon.wait(60)
    assert status == -signal.SIGKILL, f"{point}: ended with {status}\n{daemon.log.read_text()[-2000:]}"


def _attach_all(fleet: Fleet, count: int) -> None:
    fleet.controller(settings=fleets.QUICK)
    for number in range(count):
        fleets.wish_volume(fleet, f"v{number}")
        fleets.attach(fleet, "a", f"v{number}")
    for number in range(count):
        fleets.until_attached(fleet, "a", f"v{number}")


def _detach_all(fleet: Fleet, count: int) -> None:
    for number in range(count):
        fleets.detach(fleet, "a", f"v{number}")
    _nothing_left(fleet, count)


def _nothing_left(fleet: Fleet, count: int) -> None:
    for number in range(count):
        fleets.until_gone(fleet, "a", f"v{number}")
        assert fleets.value(fleet, Family.GRANT, f"v{number}").holders == ()
    assert fleet.loop_devices() == []
