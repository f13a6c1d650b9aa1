"""Accidents of etcd on whole daemons: all leases revoked, no space, credentials revoked. No data path is touched, each is told,
and all goes on by itself when the cause is gone (A33)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.runtime.ports import Item, NoSpace, Put
from schema.keys import Family
from tests.integration import fleets
from tools.fleet import Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root, pytest.mark.slow]

ROLES = Path(__file__).parents[2] / "deploy" / "etcd-roles.sh"
QUOTA = 16 << 20


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A node that holds a volume."""
    flags = (f"--quota-backend-bytes={QUOTA}",)
    with Fleet(tmp_path_factory.mktemp("fleet"), packages=fleets.STATE, etcd_flags=flags) as running:
        running.controller(settings=fleets.QUICK)
        running.node("a", fleets.QUICK)
        fleets.until_ready(running, "files")
        fleets.attached(running, "a", "kept")
        yield running


def revoke_all_leases(fleet: Fleet) -> None:
    for lease in fleet.etcdctl_run("lease", "list").split():
        if len(lease) == 16:  # the rest is a heading
            fleet.etcdctl_run("lease", "revoke", lease)


def leader(fleet: Fleet) -> Item | None:
    return fleet.store.get(fleets.KEYSPACE.path(Family.LEADER, "files"))


def test_all_leases_revoked_at_once(fleet: Fleet) -> None:
    """Signs of life and leadership are lost and won anew; nobody takes that for a reason to do anything."""
    before, term = fleets.data_paths(fleet, "kept"), leader(fleet)
    revoke_all_leases(fleet)
    wait_until("it is led anew", lambda: leader(fleet) not in (None, term), 60)
    fleets.attached(fleet, "a", "next")
    assert fleets.explained(fleet, "a", "kept", "attachment a/kept: Attached")
    assert fleets.data_paths(fleet, "kept")[2] == before[2]
    assert set(before[0]) < set(fleet.loop_devices())


def test_a_node_that_lost_its_lease_and_says_nothing_is_doubted(fleet: Fleet) -> None:
    """While it can't give a sign of life, `explain` says so, and its device stays mapped; then all is as before."""
    before = fleets.data_paths(fleet, "kept")
    os.kill(fleet.daemon("a").pid, signal.SIGSTOP)
    revoke_all_leases(fleet)
    try:
        wait_until("it is told", lambda: fleets.explained(fleet, "a", "kept", "Uncertain (NodeSilent)"), 60)
        wait_until("it is led anew", lambda: leader(fleet), 60)
    finally:
        os.kill(fleet.daemon("a").pid, signal.SIGCONT)
    wait_until("it is Attached again", lambda: fleets.explained(fleet, "a", "kept", "a/kept: Attached"), 60)
    assert fleets.data_paths(fleet, "kept") == before


def fill(fleet: Fleet) -> None:
    """Until etcd raises its alarm."""
    with contextlib.suppress(NoSpace):
        while True:
            fleet.store.txn([], [Put("/other/big", b"x" * 2**20)])


def make_room(fleet: Fleet) -> None:
    fleet.etcdctl_run("compact", str(fleet.revision()))
    fleet.etcdctl_run("defrag")
    fleet.etcdctl_run("alarm", "disarm")


def test_no_space(fleet: Fleet) -> None:
    """What is attached stays, what is wished for waits, and a user is told why; with space again all goes on."""
    fleets.wish_volume(fleet, "early")
    fleets.attach(fleet, "b", "early")
    wait_until("it waits for its node", lambda: "NodeUnknown" in fleet.brickctl("explain", "b", "early"), 60)
    before = fleets.data_paths(fleet, "kept", "early")
    fill(fleet)
    fleet.node("b", fleets.QUICK)
    assert "database space exceeded" in fleet.brickctl("attach", "a", "early", check=False)
    assert fleets.explained(fleet, "a", "kept", "etcd: full (NoSpace)")
    assert fleets.explained(fleet, "a", "kept", "attachment a/kept: Attached")
    assert "etcdctl alarm disarm" in fleet.brickctl("explain", "b", "early")
    wait_until("the daemon says so", lambda: fleets.unready(fleet, "a", "database space exceeded"), 90)
    assert fleets.data_paths(fleet, "kept", "early") == before
    make_room(fleet)
    fleets.until_attached(fleet, "b", "early")
    assert not fleets.explained(fleet, "a", "kept", "NoSpace")
    wait_until("nothing is missing", lambda: fleets.is_ready(fleet, "a"), 90)
    assert fleets.data_paths(fleet, "kept", "early")[2] == before[2]


def test_a_detach_without_space_is_ended_when_there_is_some(fleet: Fleet) -> None:
    """etcd takes the end of a wish even then, and the node can't say what it did: the array is not touched before it has."""
    _, files, _ = fleets.data_paths(fleet)
    fill(fleet)
    fleet.brickctl("detach", "a", "kept")
    wait_until("the device is gone", lambda: not fleet.loop_devices(), 60)
    assert fleets.explained(fleet, "a", "kept", "Detaching (Disconnecting)")
    assert fleets.explained(fleet, "a", "kept", "etcd: full (NoSpace)")
    assert fleets.data_paths(fleet)[1] == files
    make_room(fleet)
    fleets.until_gone(fleet, "a", "kept")


class Guarded:
    """A fleet whose etcd asks who is there."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._file = fleet.folder / "password"
        self._file.write_text("secret\n")
        self._file.chmod(0o600)
        environment = {**os.environ, "ETCDCTL": str(fleet.etcdctl), "ETCDCTL_ENDPOINTS": fleet.etcd.endpoint}
        for role in (("controller",), ("node", "a")):
            command = [str(ROLES), *role, "--password-file", str(self._file)]
            subprocess.run(command, env=environment, check=True, capture_output=True)
        for line in ("user add root:r", "role add root", "user grant-role root root", "auth enable"):
            fleet.etcdctl_run(*line.split())
        fleet.root_password = "r"

    def settings(self, user: str) -> dict[str, Any]:
        etcd = {"endpoints": [self.fleet.etcd.endpoint], "user": user, "password_file": str(self._file)}
        return {**fleets.QUICK, "etcd": etcd}

    def revoke(self, way: str, user: str) -> None:
        if way == "role":
            self.fleet.etcdctl_run("user", "revoke-role", user, user)
        else:
            self._password(user, "another")

    def give_back(self, way: str, user: str) -> None:
        if way == "role":
            self.fleet.etcdctl_run("user", "grant-role", user, user)
        else:
            self._password(user, "secret")

    def _password(self, user: str, password: str) -> None:
        command = [str(self.fleet.etcdctl), "--endpoints", self.fleet.etcd.endpoint, "--user", "root:r"]
        subprocess.run(
            [*command, "user", "passwd", user, "--interactive=false"],
            input=password + "\n",
            env={**os.environ, "ETCDCTL_API": "3"},
            text=True,
            check=True,
            capture_output=True,
        )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with Fleet(tmp_path_factory.mktemp("fleet"), packages=fleets.STATE) as running:
        guarded = Guarded(running)
        running.controller(settings=guarded.settings("brickwork-controller"))
        running.node("a", guarded.settings("brickwork-node-a"))
        fleets.until_ready(running, "files")
        fleets.attached(running, "a", "kept")
        yield guarded


NODES = ("a", "brickwork-node-a", "Exported (WaitingForNode)")
CONTROLLERS = ("ctl", "brickwork-controller", "Pending (WaitingForController)")


@pytest.mark.parametrize(
    ("daemon", "user", "words", "way"),
    [
        (*NODES, "role"),
        (*CONTROLLERS, "password"),
        pytest.param(*NODES, "password", marks=pytest.mark.long),
        pytest.param(*CONTROLLERS, "role", marks=pytest.mark.long),
    ],
)
def test_credentials_revoked(guarded: Guarded, daemon: str, user: str, words: str, way: str) -> None:
    """Its devices and maps stay, `explain` says who is waited for, that daemon says why; given back, it goes on."""
    fleet, volume = guarded.fleet, f"{daemon}-{way}"
    before = fleets.data_paths(fleet, "kept", volume)
    guarded.revoke(way, user)
    fleets.wish_volume(fleet, volume)
    fleets.attach(fleet, "a", volume)
    wait_until("it is told", lambda: fleets.explained(fleet, "a", volume, words), 60)
    assert "/readyz" in fleet.brickctl("explain", "a", volume)
    said = "permission denied" if way == "role" else "authentication failed"
    wait_until("the daemon says why", lambda: fleets.unready(fleet, daemon, said), 60)
    assert fleets.explained(fleet, "a", "kept", "attachment a/kept: Attached")
    assert fleets.data_paths(fleet, "kept", volume)[::2] == before[::2]
    guarded.give_back(way, user)
    fleets.until_attached(fleet, "a", volume)
    wait_until("it is ready", lambda: fleets.is_ready(fleet, daemon), 60)
    assert fleets.data_paths(fleet, "kept", volume)[2] == before[2]
