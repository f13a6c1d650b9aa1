"""`brickctl explain`: the planners' next step, who waits for whom, and the remedy (A31, A51)."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from client.remedies import REMEDIES, Place, remedy
from schema.keys import Family, Keyspace
from schema.models import Alive, FenceStatement, Leader, NodeRecord
from schema.summary.reasons import MEANING
from schema.summary.rules import RULES
from tests.unit.client_world import KEYS, World


@pytest.fixture
def world() -> World:
    world = World()
    world.attached()
    return world


def block(text: str, head: str) -> str:
    """The paragraph of one object."""
    return next(each for each in text.split("\n\n") if each.startswith(head))


def test_a_settled_attachment(world: World) -> None:
    """Where it is, and that nothing is to be done."""
    assert world.ok("explain", "web-1", "data") == (
        "volume data: Available, 10 GiB on lvm\n"
        "  held by:    web-1\n"
        "  next:       nothing: settled\n"
        "\n"
        "attachment web-1/data: Attached\n"
        "  path:       /dev/brickwork/data\n"
        "  next:       nothing: settled\n"
    )


def test_the_planners_say_whose_turn_it_is(world: World) -> None:
    """The controller's step and the node's, as they would decide it now."""
    world.wish("web-2", "logs")
    world.node("web-2")
    world.volume("logs")
    world.available("logs")
    text = world.ok("explain", "logs")
    assert "next:       controller ctl-1 on storage-1: nobody holds it: grant it to web-2 (C1)" in text
    world.said("Attaching")
    assert "next:       node web-1: claimed: connect it (N2, N3)" in world.ok("explain", "web-1/data")
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")
    assert "next:       node web-1: no longer wished for here, and no device is left (N5)" in world.ok(
        "explain", "data"
    )


def test_who_waits_for_whom(world: World) -> None:
    """web-2 waits for web-1, which waits for whoever has it mounted: both are shown, with commands."""
    world.node("web-2")
    world.wish("web-2")
    world.verdict(Family.DESIRED_ATTACHMENT, ("web-2", "data"), "Granted", "HeldBy", "held by web-1 (epoch 7, ready)")
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")
    busy = world.condition("Released", "DeviceBusy", "device is in use (mounted at /srv)")
    world.said("Attached", busy, next_try=world.stamp(-2))
    text = world.ok("explain", "web-2", "data")
    waiting, blocking = block(text, "attachment web-2/data"), block(text, "attachment web-1/data")
    assert "waits for:  node web-1, since 5m" in waiting
    assert "web-1 is to detach data first" in waiting
    assert "attachment web-1/data: Blocked (DeviceBusy)" in blocking
    assert "why:        device is in use (mounted at /srv)" in blocking
    assert "waits for:  whoever uses it on node web-1, since 5m, next try in 2s" in blocking
    assert "fuser -vm /dev/brickwork/data" in blocking


def test_a_volume_that_stays_elsewhere_has_to_be_detached_there(world: World) -> None:
    """The remedy of HeldBy while the other node still wants it."""
    world.wish("web-2")
    assert "to move the volume here: brickctl detach web-1 data" in world.ok("explain", "web-2", "data")


def test_a_dead_node_is_unblocked_by_a_statement(world: World) -> None:
    """A31: the exact command is printed, for the one who waits as well; run, it fences the boot that holds the device."""
    world.delete(Family.ALIVE, "web-1")
    world.wish("web-2")
    text = world.ok("explain", "web-2", "data")
    assert "attachment web-1/data: Uncertain (NodeSilent)" in text
    assert "next:       nothing before node web-1 acts" in text
    assert "never state it on silence alone" in text
    assert "--powered-off" not in text
    command = re.search(r"brickctl (fence .*)", text)
    assert command is not None
    world.ok(*shlex.split(command[1]), "--yes")
    assert world.value(Family.FENCE, "web-1", "b1")


def test_where_the_array_does_not_cut_the_host_has_to_be_off(world: World) -> None:
    """The remedy asks for what helps; so it does when somebody's word is there and is not enough."""
    world.cuts_access = False
    world.backend()
    world.delete(Family.ALIVE, "web-1")
    command = "brickctl fence web-1 --boot b1 --why 'host is dead' --evidence 'HOW YOU KNOW' --powered-off"
    assert command in world.ok("explain", "data")
    world.put(Family.FENCE, ("web-1", "b1"), FenceStatement(who="ann", why="burnt", evidence="saw it"))
    text = world.ok("explain", "data")
    assert "this array can't cut its access" in text
    assert "(FenceTooWeak)" in text
    assert command in text


def test_no_controller_leads(world: World) -> None:
    """The commonest reason of all is said plainly."""
    world.delete(Family.LEADER, "lvm")
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")
    world.held("revoked")
    world.said("Released")
    text = world.ok("explain", "data")
    assert "no controller leads backend lvm: is one running, with lvm in its settings?" in text
    assert "controller (none leads at present): unmap it from web-1 (C5 terminate_connection)" in text


def test_what_is_settled_on_a_backend_that_nobody_leads(world: World) -> None:
    """F-S11: it works on, and nothing more can be done for it."""
    assert "no controller leads" not in world.ok("explain", "data")
    world.delete(Family.LEADER, "lvm")
    text = world.ok("explain", "web-1", "data")
    assert "no controller leads backend lvm: is one running, with lvm in its settings?" in block(text, "volume data")
    assert "attachment web-1/data: Attached" in text


def test_who_waits_behind_a_released_attachment_waits_for_the_backend(world: World) -> None:
    """F-S11: the controller's last word is older than the release, and blames the node."""
    world.node("web-2")
    world.wish("web-2")
    world.verdict(Family.DESIRED_ATTACHMENT, ("web-2", "data"), "Granted", "HeldBy", "held by web-1 (epoch 7, ready)")
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")
    world.delete(Family.LEADER, "lvm")
    world.said("Released")
    waiting = block(world.ok("explain", "web-2", "data"), "attachment web-2/data")
    assert "waits for:  controller\n" in waiting
    assert "no controller leads backend lvm" in waiting
    assert "nothing before node web-1 acts" not in waiting


def test_a_new_volume_on_a_backend_that_nobody_leads_any_more(world: World) -> None:
    """Its `backends/lvm` is left over, so no verdict comes: who asks is told all the same, of the volume and its attachment."""
    world.delete(Family.LEADER, "lvm")
    world.volume("logs")
    world.wish("web-1", "logs")
    text = world.ok("explain", "web-1", "logs")
    for head in ("volume logs", "attachment web-1/logs"):
        assert "no controller leads backend lvm: is one running, with lvm in its settings?" in block(text, head)


def test_what_the_controller_has_not_said_yet(world: World) -> None:
    """The planner knows the reason before any verdict is written."""
    world.wish("web-9")
    assert "note:       held by web-1 (epoch 7, ready) (HeldBy)" in world.ok("explain", "web-9", "data")


def test_paths_that_will_never_be_there_are_not_waited_for(world: World) -> None:
    """All paths that the connection has are live: nothing is taken up by itself."""
    world.wish(spec=b'{"min_paths": 3}')
    world.said("Attached")
    text = world.ok("explain", "web-1", "data")
    assert "Blocked (TooFewPaths)" in text
    assert "remedy:     to be content with what there is: brickctl attach web-1 data --min-paths 1" in text
    assert "by itself" not in text


def test_a_volume_is_not_moved_to_a_node_that_nobody_knows(world: World) -> None:
    """`brickctl detach` alone would leave the volume nowhere: what else is missing is told beside."""
    world.wish("web-9")
    world.verdict(Family.DESIRED_ATTACHMENT, ("web-9", "data"), "Granted", "HeldBy", "held by web-1 (epoch 7, ready)")
    text = world.ok("explain", "web-9", "data")
    assert "note:       web-9 has not published itself" in text
    assert "systemctl enable --now brickwork-node" in text


@pytest.mark.parametrize(
    ("spec", "reason", "remedy"),
    [
        (b"{", "Malformed", "put a right value: brickctl apply -f\n"),
        (b'{"backend": "nvm", "size_gib": 1}', "UnknownBackend", "is the name right? brickctl get backends"),
    ],
)
def test_a_wish_for_a_volume_that_is_wrong(world: World, spec: bytes, reason: str, remedy: str) -> None:
    """The remedy is one for volumes; a user has to act."""
    world.put(Family.LEADER, ("_cluster",), Leader(identity="ctl-1"))
    world.volume("odd", spec)
    world.verdict(Family.DESIRED_VOLUME, ("odd",), "Accepted", reason, "it is wrong")
    text = world.ok("explain", "odd")
    assert "waits for:  user, since 5m" in text
    assert remedy in text
    assert "brickctl attach" not in text


NEWER = "$.schema: version 2 is newer than this program knows (1); left alone"


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("family", [Family.DESIRED_VOLUME, Family.DESIRED_ATTACHMENT, Family.CLAIM, Family.VOLUME])
def test_what_a_newer_brickwork_wrote_is_not_to_be_overwritten(world: World, family: Family, told: bool) -> None:
    """F-S14: the remedy is an upgrade, whichever key it is, and whether the controller told of it or the client saw it."""
    names = ("web-1", "data") if len(family.names) == 2 else ("data",)
    if told and family in (Family.DESIRED_VOLUME, Family.DESIRED_ATTACHMENT):
        world.verdict(family, names, "Accepted", "Malformed", NEWER)
    else:
        world.put(family, names, b'{"schema": 2, "backend": "lvm", "size_gib": 10}')
    text = world.ok("explain", "web-1", "data")
    assert "a newer Brickwork wrote it. Upgrade" in text
    assert "put a right value" not in text
    assert "damaged" not in text


def test_a_refused_volume(world: World) -> None:
    """The driver's words, and what to correct."""
    world.volume("big", b'{"backend": "lvm", "size_gib": 900000}')
    world.verdict(Family.DESIRED_VOLUME, ("big",), "Accepted", "Refused", "volume group has 40 GiB left")
    text = world.ok("explain", "big")
    assert "volume big: Failed (Refused)" in text
    assert "why:        volume group has 40 GiB left" in text
    assert "remedy:     the driver refused for good" in text


def test_a_narrow_role(world: World) -> None:
    """Without the controller's private keys the daemons' own words remain, and that is said."""
    world.store.denied = tuple(KEYS.folder(family) for family in (Family.GRANT, Family.RECORD, Family.CONNECTION))
    text = world.ok("explain", "data")
    assert "next:       not known: your user may not read connections, grants, records" in text
    assert "attachment web-1/data: Attached" in text


def test_what_is_not_there(world: World) -> None:
    """Exit code 4 and the nearest name."""
    for arguments, hint in ((("dta",), "did you mean data?"), (("web1", "data"), "did you mean web-1/data?")):
        result = world.run("explain", *arguments)
        assert (result.exit_code, hint in result.stderr) == (4, True)
    assert world.run("explain", "a", "b", "c").exit_code == 2


def test_an_old_boot_is_named(world: World) -> None:
    """After a reboot the claim of the earlier boot is Uncertain, and the new boot's turn (A18)."""
    world.put(Family.NODE, ("web-1",), NodeRecord(boot="b2", connector={}))
    text = world.ok("explain", "web-1", "data")
    assert "attachment web-1/data: Uncertain (OldBoot)" in text
    assert "claimed by boot b1 of web-1, which is over" in text


SELF_EXPLAINED = {
    "Attached", "Detached", "Released", "Withdrawing",
    "Exporting", "Unmapping", "NotVerified", "Uncertain", "Blocked",
    "ClaimAfterRelease", "GrantMissing", "StatusMissing", "ClaimMissing", "KeysMissing",
}  # fmt: skip
"""On their way by themselves, or put right by the daemons."""


def test_another_host_that_takes_itself_for_the_node_is_told_of(world: World) -> None:
    """The attachment itself is as it should be."""
    world.put(Family.ALIVE, ("web-1",), Alive(boot="b1", since=world.stamp(60), rival="clone-7 (boot b9)"))
    text = world.ok("explain", "web-1", "data")
    assert "attachment web-1/data: Attached\n" in text
    assert "note:       another host takes itself for web-1: clone-7 (boot b9) (DuplicateNode)" in text
    assert "DuplicateNode" in world.ok("get", "nodes", "-o", "wide")


def test_every_reason_has_a_remedy_or_needs_none() -> None:
    """A51: no reason leaves the reader alone."""
    reasons = {rule.reason for rule in RULES} | set(MEANING)
    assert reasons - SELF_EXPLAINED - set(REMEDIES) == set()


def test_every_remedy_can_be_printed() -> None:
    """With all names filled in, and with none; what is JSON stays JSON."""
    full = Place(Keyspace().prefix, "web-1", "data", "lvm", "b1", "web-2")
    for reason in REMEDIES:
        for place in (full, Place("/p/")):
            for line in remedy(reason, place):
                assert "{{" not in line
                found = re.search(r"'(\{.*\})'", line)
                assert found is None or json.loads(found[1])
