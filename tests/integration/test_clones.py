"""F-D1 on whole daemons: a copy of a node's host waits, whatever becomes of the first; a person's word moves the node.

The two hosts share this kernel, so `host_identity` tells them apart; both are `node: a`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemons.process import Exit
from schema.keys import Family
from tests.integration import fleets
from tools.fleet import VENV, Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root, pytest.mark.slow]

LEASE_OVER_S = 4.0
"""Longer than the lease of `QUICK`."""
LONG_S = 10.0


class Line:
    """Between one daemon and etcd: a unix socket that can be cut and mended."""

    def __init__(self, here: Path, there: Path) -> None:
        self._there = there
        self._ends: list[socket.socket] = []
        self._whole = True
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(here))
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        self._whole = False
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def mend(self) -> None:
        self._whole = True

    def close(self) -> None:
        self.cut()
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.socket(socket.AF_UNIX)
                if not self._whole or far.connect_ex(str(self._there)):
                    near.close()
                    continue
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=pair, daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Pair:
    """The node a on its own host, with the volume `mine`; and another host that takes itself for it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.sockets = Path(fleet.etcd.endpoint.removeprefix("unix://")).parent
        self.line = Line(self.sockets / "line", self.sockets / Path(fleet.etcd.endpoint).name)
        self.settings = {**fleets.QUICK, "etcd": {"endpoints": [f"unix://{self.sockets}/line"]}}
        fleet.controller(settings=fleets.QUICK)
        self.start_first()
        fleets.until_ready(fleet, "files")
        fleets.attached(fleet, "a", "mine")
        self.claim = fleets.value(fleet, Family.CLAIM, "a", "mine")
        self.paths = fleets.data_paths(fleet, "mine")
        assert len(self.paths[0]) == 1

    def start_first(self) -> None:
        self.fleet.node("a", self.settings)

    def stop_first(self) -> None:
        self.fleet.daemon("a").kill(signal.SIGTERM)

    def start_clone(self) -> None:
        self.fleet.node("clone", {**fleets.QUICK, "node": "a"})

    def clone_waits(self) -> None:
        wait_until("the copy says so", lambda: fleets.unready(self.fleet, "clone", "another host is a"), 60)

    def for_s(self, seconds: float) -> None:
        """Nothing may happen to the device meanwhile, which the first host has all the time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.intact()
            time.sleep(0.1)

    def intact(self) -> None:
        """One device, one link, and not one step that undid anything."""
        assert fleets.data_paths(self.fleet, "mine") == self.paths
        assert not (self.fleet.folder / "clone" / "dev" / "mine").is_symlink()

    def first_goes_on(self) -> None:
        """By itself: under the same claim, and taking more."""
        fleets.attached(self.fleet, "a", "another")
        assert (self.fleet.folder / "a" / "dev" / "another").is_symlink()
        assert fleets.value(self.fleet, Family.CLAIM, "a", "mine") == self.claim
        assert fleets.data_paths(self.fleet, "mine")[2] == self.paths[2]


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Fleet(tmp_path_factory.mktemp("fleet"), packages=fleets.STATE) as running:
        made = Pair(running)
        yield made
        made.line.close()


def restarted(pair: Pair) -> None:
    """In order, and longer away than its lease."""
    pair.stop_first()
    pair.for_s(LEASE_OVER_S)
    pair.start_first()


def paused(pair: Pair) -> None:
    os.kill(pair.fleet.daemon("a").pid, signal.SIGSTOP)
    pair.for_s(LONG_S)
    os.kill(pair.fleet.daemon("a").pid, signal.SIGCONT)


def cut_off(pair: Pair) -> None:
    pair.line.cut()
    pair.for_s(LONG_S)
    pair.line.mend()


def without_etcd(pair: Pair) -> None:
    """Killed, and all leases are as old as it when it is back."""
    os.kill(pair.fleet.etcd.pid, signal.SIGKILL)
    pair.for_s(LEASE_OVER_S)
    pair.fleet.etcd.start()


HAPPENS = [restarted, *(pytest.param(each, marks=pytest.mark.long) for each in (paused, cut_off, without_etcd))]


@pytest.mark.parametrize("happens", HAPPENS)
def test_a_waiting_clone_never_becomes_the_node(pair: Pair, happens: Callable[[Pair], None]) -> None:
    """Whatever becomes of the first host's daemon, its device stays its own, and it goes on by itself."""
    pair.start_clone()
    pair.clone_waits()
    happens(pair)
    pair.for_s(LEASE_OVER_S)
    pair.first_goes_on()
    assert fleets.unready(pair.fleet, "clone", "another host is a")


def test_a_clone_that_starts_while_the_first_is_off(pair: Pair) -> None:
    """It met nobody, and the sign of life is long gone."""
    pair.stop_first()
    wait_until("its sign of life is gone", lambda: fleets.value(pair.fleet, Family.ALIVE, "a") is None, 30)
    pair.start_clone()
    pair.clone_waits()
    pair.for_s(LEASE_OVER_S)
    assert fleets.value(pair.fleet, Family.ALIVE, "a") is None, "a copy keeps no sign of life up"
    pair.start_first()
    pair.first_goes_on()


@pytest.mark.long
@pytest.mark.parametrize("happens", [restarted, paused, cut_off, without_etcd])
def test_a_clone_that_started_while_the_first_was_off_never_becomes_the_node(
    pair: Pair, happens: Callable[[Pair], None]
) -> None:
    pair.stop_first()
    wait_until("its sign of life is gone", lambda: fleets.value(pair.fleet, Family.ALIVE, "a") is None, 30)
    pair.start_clone()
    pair.clone_waits()
    pair.start_first()
    wait_until("it is back", lambda: fleets.value(pair.fleet, Family.ALIVE, "a") is not None, 30)
    happens(pair)
    pair.for_s(LEASE_OVER_S)
    pair.first_goes_on()
    assert fleets.unready(pair.fleet, "clone", "another host is a")


@pytest.mark.long
def test_a_host_that_is_back_after_a_second_waits_for_nobody(pair: Pair) -> None:
    """Fifty power cuts with a copy that waits: each time its volume is back by itself, and the copy has nothing."""
    fleet = pair.fleet
    pair.start_clone()
    pair.clone_waits()
    for _ in range(50):
        before = fleets.value(fleet, Family.NODE, "a").boot
        fleet.daemon("a").kill(signal.SIGKILL)
        fleet.end_children("a")
        for device in fleet.loop_devices():
            fleets.run(["losetup", "--detach", f"/dev/{device}"])
        fleet.reboot("a")
        time.sleep(1.0)
        pair.start_first()

        def is_back(before: str = before) -> bool:
            status = fleets.value(fleet, Family.ATTACHMENT, "a", "mine")
            return getattr(status, "attached", False) and status.boot != before

        wait_until("its volume is back", is_back, 60)
        assert fleets.value(fleet, Family.NODE, "a").host_identity == "setting=a"
        assert not (fleet.folder / "clone" / "dev" / "mine").is_symlink()
    assert not fleet.keys("/brickwork/v1/fences/"), "no person was needed"


def test_a_copied_state_folder_stops_its_daemon(pair: Pair) -> None:
    """Before anything is written, with both identities and the remedy; a person's word there lets it wait for the fence."""
    place = pair.fleet.folder / "clone"
    place.mkdir()
    shutil.copytree(pair.fleet.folder / "a" / "state", place / "state")
    daemon = pair.fleet.node("clone", {**fleets.QUICK, "node": "a"})
    assert daemon.wait(60) == Exit.REFUSED
    told = daemon.log.read_text()
    assert all(each in told for each in ("setting=a", "setting=clone", "brickwork-node --this-host-is a"))
    pair.intact()
    pair.first_goes_on()


def test_a_person_moves_the_node_to_another_host(pair: Pair) -> None:
    """The word alone moves nothing. With the former host's boot stated to be over it does, and what that claimed is released
    by the new one. The former host, back again, drops its device and is silent."""
    fleet = pair.fleet
    pair.start_clone()
    pair.clone_waits()
    config = str(fleet.folder / "clone" / "settings.yaml")
    said = fleets.run([str(VENV / "brickwork-node"), "--config", config, "--this-host-is", "a"])
    assert "(setting=clone) is a" in said
    wait_until("it waits for the fence", lambda: fleets.unready(fleet, "clone", "waits for the end of the former"), 60)
    pair.for_s(LEASE_OVER_S)
    pair.stop_first()
    wait_until("it is silent", lambda: fleets.value(fleet, Family.ALIVE, "a") is None, 30)
    proof = ("--why", "replaced", "--evidence", "pulled", "--powered-off", "--yes")
    fleet.brickctl("fence", "a", "--boot", pair.claim.boot, *proof)
    wait_until("the other host has it", (fleet.folder / "clone" / "dev" / "mine").is_symlink, 60)
    now = fleets.value(fleet, Family.NODE, "a")
    assert (now.host_identity, fleets.value(fleet, Family.CLAIM, "a", "mine").host_identity) == ("setting=clone",) * 2
    assert not (fleet.folder / "clone" / "state" / "this-host-is.json").exists(), "a word is used up"
    pair.start_first()
    wait_until("it drops its device", lambda: not (fleet.folder / "a" / "dev" / "mine").is_symlink(), 60)
    wait_until("and says who is a", lambda: fleets.unready(fleet, "a", "another host is a (setting=clone"), 60)
    assert fleets.value(fleet, Family.NODE, "a") == now
    assert (fleet.folder / "clone" / "dev" / "mine").is_symlink()


def test_an_unreadable_record_of_the_node_is_put_right_by_it(pair: Pair) -> None:
    """F-S8: nobody is told to fence a healthy node, and its device stays."""
    fleet = pair.fleet
    pair.stop_first()
    fleets.put(fleet, Family.NODE, "a", text='{"schema": 99, "boot": "of a newer version"}')
    wait_until("it is told", lambda: fleets.explained(fleet, "a", "mine", "nodes/a"), 30)
    assert "fenced" not in fleet.brickctl("explain", "a", "mine")
    pair.start_first()
    wait_until("it is put right", lambda: getattr(fleets.value(fleet, Family.NODE, "a"), "boot", "") != "", 60)
    pair.first_goes_on()
