"""A node's daemon is killed while another node waits for its volume: without a fence agent nothing moves; with one whose command
can really prove that the node is gone, it moves without a human (A28, A30)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from schema.keys import Family
from tests.integration import fleets
from tools.fleet import Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root]

PROOF = """#!/bin/sh
# "Powered off" of a node that is a process: it is gone, and the devices that it left behind on this host are too.
pid=$(cat {folder}/$1.pid)
[ -d /proc/$pid ] && {{ echo "process $pid is still there" >&2; exit 75; }}
for device in $(losetup --noheadings --output NAME --associated {files}/$(cat {folder}/$1.file)); do losetup --detach $device; done
echo "{{\\"evidence\\": \\"process $pid is gone\\", \\"proof\\": \\"powered_off\\"}}"
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """`b` waits for the volume that `a` has; then `a` is stopped so that it gives no sign of life, but lives."""
    with Fleet(tmp_path / "fleet", packages=fleets.STATE) as running:
        running.controller(settings=fleets.QUICK)
        for node in ("a", "b", "c"):
            running.node(node, fleets.QUICK)
        fleets.until_ready(running, "files")
        wait_until("all are published", lambda: len(running.keys("/brickwork/v1/alive/")) == 3)
        fleets.wish_volume(running, "data")
        fleets.attach(running, "a", "data")
        fleets.until_attached(running, "a", "data")
        uid = fleets.value(running, Family.VOLUME, "data").uid
        (file,) = [each.name for each in running.files.iterdir() if uid in each.name]
        (tmp_path / "a.file").write_text(file)
        (tmp_path / "a.pid").write_text(str(running.daemon("a").pid))
        fleets.attach(running, "b", "data")
        yield running


def silence(fleet: Fleet) -> None:
    os.kill(fleet.daemon("a").pid, signal.SIGSTOP)
    wait_until("a gives no sign of life", lambda: fleets.value(fleet, Family.ALIVE, "a") is None)


def test_the_volume_moves_once_it_is_proven_that_the_node_is_gone(fleet: Fleet, tmp_path: Path) -> None:
    """A node that still lives is not fenced, however silent it is: the command says so. Once it is dead, it is."""
    command = tmp_path / "prove"
    command.write_text(PROOF.format(folder=tmp_path, files=fleet.files))
    command.chmod(0o755)
    quick = {**fleets.QUICK, "after_s": 1.0, "retry_base_s": 0.2, "retry_cap_s": 1.0}
    agent = fleet.fence_agent("agent", [str(command)], quick)
    silence(fleet)
    wait_until("the command was asked", lambda: "not_now" in agent.log.read_text())
    assert fleets.value(fleet, Family.GRANT, "data").holders[0].node == "a"

    boot = fleets.value(fleet, Family.NODE, "a").boot
    fleet.daemon("a").kill(signal.SIGKILL)
    fleet.end_children("a")
    fleets.until_attached(fleet, "b", "data")
    said = fleets.value(fleet, Family.FENCE, "a", boot)
    assert (said.who, said.proof) == ("brickwork-fence-agent agent", "powered_off")
    assert "is gone" in said.evidence

    fleet.node("a", fleets.QUICK)
    wait_until("a is back in a new boot", lambda: fleets.value(fleet, Family.NODE, "a").boot != boot)
    wait_until("it has no claim", lambda: fleets.value(fleet, Family.CLAIM, "a", "data") is None)
    assert fleets.value(fleet, Family.GRANT, "data").holders[0].node == "b"


def test_without_an_agent_nothing_moves_before_somebody_says_so(fleet: Fleet) -> None:
    """A quiet node is unknown, never dead; then one command frees the volume, and only with the proof that this array needs."""
    silence(fleet)
    fleet.daemon("a").kill(signal.SIGKILL)
    fleet.end_children("a")
    boot = fleets.value(fleet, Family.NODE, "a").boot
    before = fleet.revision()
    fleets.wish_volume(fleet, "other")
    fleets.attach(fleet, "c", "other")
    fleets.until_attached(fleet, "c", "other")
    assert fleets.value(fleet, Family.GRANT, "data").holders[0].node == "a"
    assert not fleet.keys("/brickwork/v1/fences/")
    assert fleet.revision() > before
    advice = fleet.brickctl("explain", "b", "data")
    assert f"brickctl fence a --boot {boot}" in advice
    words = ("fence", "a", "--boot", boot, "--why", "killed", "--evidence", "its process is gone", "--yes")
    assert "would free nothing" in fleet.brickctl(*words, check=False)
    fleet.brickctl(*words, "--powered-off")
    wait_until(
        "a holds it no more", lambda: all(h.node != "a" for h in fleets.value(fleet, Family.GRANT, "data").holders)
    )
