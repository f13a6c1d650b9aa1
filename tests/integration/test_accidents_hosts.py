"""Accidents of hosts on whole daemons: clones, duplicates, a new host name (A17). The first works on; what is too much says so."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from daemons.process import Exit
from schema.keys import Family
from tests.integration import fleets
from tools.fleet import VENV, Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), packages=fleets.STATE) as running:
        running.controller(settings=fleets.QUICK)
        yield running


def called(name: str) -> tuple[str, ...]:
    """What makes a command run on a host of this name."""
    return ("unshare", "--uts", "sh", "-ec", f'echo {name} > /proc/sys/kernel/hostname; exec "$@"', "sh")


def leader(fleet: Fleet) -> Any:
    return fleet.store.get(fleets.KEYSPACE.path(Family.LEADER, "files"))


@pytest.mark.parametrize("identity", ["its own", "the same"])
def test_a_second_host_does_not_act_as_the_node_that_another_is(fleet: Fleet, identity: str) -> None:
    """A host whose settings name another's id, whether it can be told from it or not: it waits and says so; the first keeps its
    device and goes on; users are told; and it is over when the copy is."""
    fleet.node("a", fleets.QUICK)
    fleets.until_ready(fleet, "files")
    fleets.attached(fleet, "a", "mine")
    before, paths = fleets.value(fleet, Family.NODE, "a"), fleets.data_paths(fleet, "mine")
    own = {} if identity == "its own" else {"host_identity": "a"}
    fleet.node("clone", {**fleets.QUICK, "node": "a", **own})
    wait_until("the copy says so", lambda: fleets.unready(fleet, "clone", "DuplicateNode"), 60)
    wait_until("users are told", lambda: fleets.explained(fleet, "a", "mine", "(DuplicateNode)"), 60)
    assert fleets.explained(fleet, "a", "mine", "attachment a/mine: Attached")
    assert fleets.data_paths(fleet, "mine") == paths
    fleets.attached(fleet, "a", "another")
    assert fleets.value(fleet, Family.NODE, "a") == before
    assert fleets.value(fleet, Family.CLAIM, "a", "mine").boot == before.boot
    fleet.daemon("clone").kill(signal.SIGTERM)
    wait_until("it is over", lambda: not fleets.explained(fleet, "a", "mine", "(DuplicateNode)"), 90)
    assert fleets.data_paths(fleet, "mine")[2] == paths[2]


def test_a_second_daemon_on_the_same_folder_is_refused(fleet: Fleet) -> None:
    """For both daemons: the second start ends with the reason, the first goes on."""
    fleet.node("a", fleets.QUICK)
    fleets.until_ready(fleet, "files")
    for name, program in (("a", "brickwork-node"), ("ctl", "brickwork-controller")):
        command = [str(VENV / program), "--config", str(fleet.folder / name / "settings.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, "another daemon uses" in done.stderr) == (Exit.REFUSED, True)
    fleets.attached(fleet, "a", "goes-on")


def test_two_controllers_of_one_name_are_two(fleet: Fleet) -> None:
    """One leads, the other waits, as with two names; when the leader dies the other takes over, and no data path is touched."""
    fleets.until_ready(fleet, "files")
    fleet.node("a", fleets.QUICK)
    fleet.controller("twin", {**fleets.QUICK, "name": "ctl"})
    fleets.attached(fleet, "a", "mine")
    term, paths = leader(fleet), fleets.data_paths(fleet, "mine")
    wait_until("it is there", lambda: fleets.is_ready(fleet, "twin"), 60)
    assert leader(fleet).create_revision == term.create_revision
    fleet.daemon("ctl").kill()
    wait_until("the other leads", lambda: (key := leader(fleet)) and key.create_revision != term.create_revision, 60)
    fleets.attached(fleet, "a", "another")
    assert fleets.data_paths(fleet, "mine")[2] == paths[2]
    assert fleets.explained(fleet, "a", "mine", "attachment a/mine: Attached")


def test_a_host_that_is_renamed_stays_the_node_that_it_was(fleet: Fleet) -> None:
    """Without a node in its settings it is called as its host was at its first start, from then on."""
    settings = {**fleets.QUICK, "node": None}
    fleet.node("host", settings, under=called("before"))
    fleets.until_ready(fleet, "files")
    fleets.attached(fleet, "before", "mine")
    paths = fleets.data_paths(fleet, "mine")
    fleet.daemon("host").kill(signal.SIGTERM)
    fleet.node("host", settings, under=called("after"))
    fleets.attached(fleet, "before", "another")
    assert fleets.value(fleet, Family.NODE, "after") is None
    assert fleets.explained(fleet, "before", "mine", "attachment before/mine: Attached")
    assert fleets.data_paths(fleet, "mine")[2] == paths[2]
    assert set(paths[0]) < set(fleet.loop_devices())


def test_a_node_that_is_renamed_in_its_settings_is_refused(fleet: Fleet) -> None:
    """Its devices belong to the node that it has been: it does not start, and says what to do."""
    fleet.node("a", fleets.QUICK)
    fleets.until_ready(fleet, "files")
    fleets.attached(fleet, "a", "mine")
    paths = fleets.data_paths(fleet, "mine")
    fleet.daemon("a").kill(signal.SIGTERM)
    assert fleet.node("a", {**fleets.QUICK, "node": "b"}).wait(60) == Exit.REFUSED
    assert "it has been the node 'a'" in (fleet.folder / "a" / "log").read_text()
    assert fleets.data_paths(fleet, "mine") == paths
    fleet.node("a", fleets.QUICK)
    fleets.attached(fleet, "a", "another")
    assert fleets.data_paths(fleet, "mine")[2] == paths[2]
