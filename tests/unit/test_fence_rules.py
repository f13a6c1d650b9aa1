"""What a fence is enough for (docs/PROTOCOL.md, R12): the controller's planner on small views."""

from __future__ import annotations

import pytest

from reconciler.core.plan_volume import plan_volume
from reconciler.core.reading import Around, Memory, See, Seen, volume_view
from reconciler.core.steps import Do, Plan
from reconciler.core.views import (
    BackendView,
    ClaimView,
    ConnectionView,
    HolderView,
    NodeView,
    RecordView,
    SpecView,
    VolumeView,
    Wish,
)
from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import (
    AttachmentSpec,
    FenceStatement,
    Grant,
    HolderPhase,
    NodeRecord,
    Proof,
    Record,
    VolumePhase,
    VolumeSpec,
    VolumeStatus,
)

WEAK: dict[str, Proof] = {"b1": "statement"}
STRONG: dict[str, Proof] = {"b1": "powered_off"}


def plan(cuts_access: bool, node: NodeView, phase: HolderPhase = HolderPhase.READY, ready: bool = True) -> Plan:
    """One volume, held by a silent `web-1` in boot b1."""
    holders = (HolderView("web-1", 7, "b1", phase),)
    return plan_volume(
        VolumeView(
            volume="data",
            spec=SpecView("array", 1, generation=3),
            record=RecordView("u", "array", 1),
            holders=holders,
            mirror=holders,
            phase="Available",
            generation=3,
            nodes={"web-1": node, "web-2": NodeView(wish=Wish("rw", 5), boot="b1")},
            backend=BackendView(ready=ready, cuts_access=cuts_access),
            exported=frozenset({7}),
        )
    )


def silent(fences: dict[str, Proof], fenced: dict[str, Proof] | None = None) -> NodeView:
    return NodeView(
        wish=Wish("rw"),
        boot="b1",
        alive=False,
        fences=fences,
        fenced=fenced or {},
        claim=ClaimView(7, "b1"),
        connection=ConnectionView(7, "b1", HolderPhase.READY),
    )


@pytest.mark.parametrize("cuts_access", [True, False])
@pytest.mark.parametrize("fences", [WEAK, STRONG])
def test_which_fence_revokes(cuts_access: bool, fences: dict[str, Proof]) -> None:
    """Somebody's word, where the array cuts; else only that the boot is over."""
    step = plan(cuts_access, silent(fences)).step
    assert (step is not None and step.do is Do.REVOKE) == (cuts_access or fences is STRONG)


def test_what_is_too_weak_is_said() -> None:
    """On the volume, which others wait for, and on the attachment; and only where the array's answer is known."""
    said = [(saying.node, saying.reason) for saying in plan(False, silent(WEAK)).sayings]
    assert ("", "FenceTooWeak") in said
    assert ("web-1", "FenceTooWeak") in said
    assert ("web-2", "HeldBy") in said
    assert not [each for each in plan(False, silent(WEAK), ready=False).sayings if each.reason == "FenceTooWeak"]
    assert not [each for each in plan(False, silent({})).sayings if each.reason == "FenceTooWeak"]


def test_before_it_is_ready_any_fence_will_do() -> None:
    """Nothing was handed out yet, so no device can be there."""
    step = plan(False, silent(WEAK), HolderPhase.EXPORTING).step
    assert step is not None
    assert step.do is Do.REVOKE


def test_a_raised_fence_is_copied_anew() -> None:
    """The copy has to be as strong as what the revoke rests on: the operator's key may be gone the next moment."""
    copied_weak = plan(False, silent(STRONG, WEAK)).step
    assert copied_weak is not None
    assert copied_weak.copies_fence
    assert Key(Family.FENCE, ("web-1", "b1")) in copied_weak.commits
    copied_strong = plan(False, silent({}, STRONG)).step
    assert copied_strong is not None
    assert not copied_strong.copies_fence


@pytest.mark.parametrize("raised", [False, True])
@pytest.mark.parametrize("host", ["former", "web-1's", None])
def test_what_a_former_host_may_still_have_keeps_grants_from_its_name(host: str | None, raised: bool) -> None:
    """F-D1: it shares the node's initiator, and is cut off on somebody's word alone. A copy of an older version names no host."""
    weak = FenceStatement(who="ann", why="cut off", evidence="the port is shut", host_identity=host)
    strong = FenceStatement(who="ann", why="burnt", evidence="saw it", proof="powered_off")
    values = {
        Key(Family.NODE, ("web-1",)): NodeRecord(boot="b2", connector={}, host_identity="web-1's"),
        Key(Family.FENCED, ("web-1", "b1")): weak,
        **({Key(Family.FENCE, ("web-1", "b1")): strong} if raised else {}),
        Key(Family.DESIRED_ATTACHMENT, ("web-1", "data")): AttachmentSpec(),
        Key(Family.DESIRED_VOLUME, ("data",)): VolumeSpec(backend="array", size_gib=1),
        Key(Family.RECORD, ("data",)): Record(uid="u", backend="array", size_gib=1),
        Key(Family.GRANT, ("data",)): Grant(uid="u"),
        Key(Family.VOLUME, ("data",)): VolumeStatus(
            uid="u", backend="array", phase=VolumePhase.AVAILABLE, size_gib=1, generation=4
        ),
    }
    boots: dict[Family, frozenset[str]] = {
        Family.FENCED: frozenset({"b1"}),
        Family.FENCE: frozenset({"b1"} if raised else ()),
    }
    around = Around(["web-1"], lambda *_: None, lambda family, _: boots[family], lambda _: True)
    see: See = {key: Seen(value, 4, 4) for key, value in values.items()}.get
    planned = plan_volume(volume_view(see, "data", around, BackendView(ready=True), Memory()))
    if host == "former" and not raised:
        assert planned.step is None
        assert [each.reason for each in planned.sayings] == ["FormerHost"]
    else:
        assert planned.step is not None
        assert planned.step.do is Do.GRANT


def test_a_fence_that_cannot_be_read_counts_as_a_word() -> None:
    """It was meant as a fence; of a proof nothing is known."""
    key = Key(Family.FENCE, ("web-1", "b1"))
    strong = FenceStatement(who="ann", why="burnt", evidence="saw it", proof="powered_off")
    for value, proof in ((Malformed("$", "no JSON"), "statement"), (strong, "powered_off")):
        see: See = {key: Seen(value, 4, 4)}.get
        around = Around(
            ["web-1"],
            lambda _node, _backend: None,
            lambda family, _: frozenset({"b1"} if family is Family.FENCE else ()),
            bool,
        )
        view = volume_view(see, "data", around, BackendView(), Memory())
        assert view.nodes["web-1"].fences == {"b1": proof}
        assert not view.nodes["web-1"].fenced
