"""R17: `nodes/N` names the host, and only that host speaks for an older boot (F-D1)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import BaseModel

from reconciler.core.ownership import ThisHost, others, ownership
from reconciler.core.plan_node import plan_boot, plan_node, waiting
from reconciler.core.reading import Seen, attachment_view
from reconciler.core.steps import Do
from reconciler.core.views import AttachmentView, OnHost
from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import (
    AttachmentPhase,
    AttachmentSpec,
    AttachmentStatus,
    Claim,
    Connection,
    FenceStatement,
    HolderPhase,
    NodeRecord,
    Proof,
)

PAIR = ("web-1", "data")
NODE = Key(Family.NODE, ("web-1",))
CLAIM, CONNECTION = Key(Family.CLAIM, PAIR), Key(Family.CONNECTION, PAIR)
STATUS, WISH = Key(Family.ATTACHMENT, PAIR), Key(Family.DESIRED_ATTACHMENT, PAIR)
ME = ThisHost("me", frozenset({"b2"}))

Keys = dict[Key, BaseModel | Malformed]


def node(boot: str, identity: str | None) -> Keys:
    return {NODE: NodeRecord(boot=boot, connector={}, host_identity=identity)}


def fence(boot: str, proof: Proof) -> Keys:
    return {Key(Family.FENCE, ("web-1", boot)): FenceStatement(who="ana", why="w", evidence="e", proof=proof)}


def claim(boot: str, identity: str | None) -> Keys:
    return {CLAIM: Claim(uid="u", epoch=7, boot=boot, host_identity=identity)}


def connection(boot: str, identity: str | None) -> Keys:
    value = Connection(uid="u", epoch=7, boot=boot, host_identity=identity, phase=HolderPhase.READY, conn_info={})
    return {CONNECTION: value}


def status(boot: str, identity: str | None) -> Keys:
    value = AttachmentStatus(
        phase=AttachmentPhase.ATTACHED, uid="u", epoch=7, boot=boot, host_identity=identity, generation=3
    )
    return {STATUS: value}


@pytest.mark.parametrize(
    ("keys", "this", "told", "acts"),
    [
        ({}, ME, None, True),
        (node("b1", "me"), ME, None, True),
        (node("b1", "other"), ME, None, False),
        (node("b1", "other") | fence("b1", "powered_off"), ME, None, False),
        (node("b1", "other"), ME._replace(word=True), None, False),
        (node("b1", "other") | fence("b1", "statement"), ME._replace(word=True), None, False),
        (node("b1", "other") | fence("b0", "powered_off"), ME._replace(word=True), None, False),
        (node("b1", "other") | fence("b1", "powered_off"), ME._replace(word=True), None, True),
        # written by a version that knew no identity
        (node("b2", None), ME, None, True),
        (node("b1", None), ME, None, False),
        # that can't be read
        ({NODE: Malformed("$.schema", "newer")}, ME, "me", True),
        ({NODE: Malformed("$.schema", "newer")}, ME._replace(was_node=True), "other", False),
        ({NODE: Malformed("$", "not JSON")}, ME, None, False),
        ({NODE: Malformed("$", "not JSON")}, ME._replace(was_node=True), None, True),
    ],
)
def test_who_may_be_the_node(keys: Keys, this: ThisHost, told: str | None, acts: bool) -> None:
    """The host that `nodes/N` names, or a person's word. However silent the other host is: that is not asked."""
    own = ownership(keys.get, "web-1", this, told)
    assert (own.fault == "") == acts, own.fault
    if not acts:
        assert own.fault.startswith("DuplicateNode: ")
        assert "me" in own.fault
    if acts and this.word:
        assert own.fence == Key(Family.FENCE, ("web-1", "b1")), "the transaction rests on it"


@pytest.mark.parametrize("values", [claim, connection, status])
@pytest.mark.parametrize(
    ("boot", "identity", "fences", "theirs"),
    [
        ("b1", "me", {}, False),
        ("b1", "other", {}, True),
        ("b1", "other", fence("b1", "statement"), True),
        ("b1", "other", fence("b1", "powered_off"), False),
        ("b2", None, {}, False),
        ("b1", None, {}, True),
    ],
)
def test_whose_boots_a_host_speaks_for(
    values: object, boot: str, identity: str | None, fences: Keys, theirs: bool
) -> None:
    """Its own, or one that is known to be over; then whoever speaks for it compares the fence."""
    assert callable(values)
    keys: Keys = values(boot, identity) | fences
    found = others(keys.get, *PAIR, "b2", ME)
    assert bool(found.families) == theirs
    assert found.fences == ((Key(Family.FENCE, ("web-1", boot)),) if fences and not theirs else ())


def view(keys: Keys, device: OnHost = OnHost.ABSENT, this: ThisHost = ME) -> AttachmentView:
    """As this host sees it, in boot b2."""
    return attachment_view(lambda key: Seen(keys[key], 3, 3) if key in keys else None, *PAIR, "b2", device, this=this)


WISHED: Keys = {WISH: AttachmentSpec()}


def test_a_host_that_is_not_the_node_looks_and_does_nothing_else() -> None:
    keys = WISHED | node("b1", "other") | claim("b1", "other") | connection("b1", "other") | status("b1", "other")
    for unwished in (keys, {key: value for key, value in keys.items() if key != WISH}):
        for device in (OnHost.ABSENT, OnHost.PRESENT):
            assert plan_node(view(unwished, device)) is None
    look = plan_node(view(keys, OnHost.UNKNOWN))
    assert look is not None
    assert look.do is Do.INSPECT
    assert plan_boot(published=False, fenced=False, traces=0, claims=0, foreign=True) is None


def test_the_former_host_drops_its_devices_and_is_silent() -> None:
    """It comes back in its fenced boot after it was replaced: nothing is said as the node, and no boot begun."""
    keys = WISHED | node("b3", "other") | claim("b2", "me") | fence("b2", "powered_off")
    step = plan_node(view(keys, OnHost.PRESENT))
    assert step is not None
    assert (step.do, step.flush) == (Do.DISCONNECT, False)
    assert plan_node(view(keys)) is None
    assert plan_boot(published=False, fenced=True, traces=0, claims=0, foreign=True) is None


@pytest.mark.parametrize("wished", [True, False])
@pytest.mark.parametrize("family", ["claim", "connection", "status"])
def test_nobody_releases_for_another_host(wished: bool, family: str) -> None:
    """This host is the node now, say because somebody deleted `nodes/N`. The other may still have its device."""
    told = {"claim": claim("b1", "other") | connection("b1", "other"), "connection": connection("b1", "other")}
    keys = (WISHED if wished else {}) | node("b2", "me") | told.get(family, status("b1", "other"))
    assert plan_node(view(keys)) is None
    assert family != "claim" or "claimed by another host, in boot b1" in waiting(view(keys))
    over = keys | fence("b1", "powered_off")
    step = plan_node(view(over))
    assert step is not None
    assert step.do is Do.RELEASE
    assert Key(Family.FENCE, ("web-1", "b1")) in step.commits


def test_a_fenced_node_gives_back_only_what_is_its_own() -> None:
    keys = node("b2", "me") | fence("b2", "statement")
    for theirs in (claim("b1", "other"), connection("b1", "other")):
        assert plan_node(view(keys | theirs)) is None
    for own in (claim("b1", "me"), connection("b1", "me")):
        step = plan_node(view(keys | own))
        assert step is not None
        assert step.do is Do.RELEASE


def test_who_looks_from_elsewhere_sees_no_other_host() -> None:
    """`brickctl explain` with no identity in `nodes/N`: as before."""
    keys = node("b2", None) | claim("b1", None)
    seen = attachment_view(lambda key: Seen(keys[key], 3, 3) if key in keys else None, *PAIR, "b2", OnHost.ABSENT)
    assert (seen.foreign, seen.theirs) == (False, frozenset())
    assert plan_node(replace(seen, theirs=frozenset({Family.CLAIM}))) is None
