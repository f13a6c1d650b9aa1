"""What can't be read is not absent: neither daemon acts on it (S13)."""

from __future__ import annotations

import pytest

from reconciler.core.plan_node import plan_node
from reconciler.core.plan_volume import plan_volume
from reconciler.core.reading import Around, Memory, Seen, attachment_view, volume_view
from reconciler.core.steps import Do
from reconciler.core.views import BackendView, OnHost
from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import (
    AttachmentPhase,
    AttachmentSpec,
    AttachmentStatus,
    Claim,
    Connection,
    Grant,
    Holder,
    HolderPhase,
    NodeRecord,
    Record,
    VolumePhase,
    VolumeSpec,
    VolumeStatus,
)

PAIR = ("web-1", "data")
HOLDER = Holder(node="web-1", epoch=7, boot="b1", phase=HolderPhase.READY, mode="rw", connector={})
WISH = Key(Family.DESIRED_ATTACHMENT, PAIR)
KEYS = {
    WISH: AttachmentSpec(),
    Key(Family.DESIRED_VOLUME, ("data",)): VolumeSpec(backend="array", size_gib=1, on_delete="delete"),
    Key(Family.NODE, ("web-1",)): NodeRecord(boot="b1", connector={}),
    Key(Family.RECORD, ("data",)): Record(uid="u", backend="array", size_gib=1, on_delete="delete"),
    Key(Family.GRANT, ("data",)): Grant(uid="u", holders=(HOLDER,)),
    Key(Family.VOLUME, ("data",)): VolumeStatus(
        uid="u", backend="array", phase=VolumePhase.AVAILABLE, size_gib=1, generation=3, holders=(HOLDER,)
    ),
    Key(Family.CONNECTION, PAIR): Connection(uid="u", epoch=7, boot="b1", phase=HolderPhase.READY, conn_info={}),
    Key(Family.CLAIM, PAIR): Claim(uid="u", epoch=7, boot="b1"),
    Key(Family.ATTACHMENT, PAIR): AttachmentStatus(
        phase=AttachmentPhase.ATTACHED, uid="u", epoch=7, boot="b1", generation=3
    ),
}
"""A volume that is attached, and settled."""
AROUND = Around(["web-1"], lambda *_: None, lambda *_: frozenset(), lambda _: True)


def steps(broken: Key | None, device: OnHost = OnHost.PRESENT) -> set[Do]:
    """What either daemon would do with this key unreadable."""

    def see(key: Key) -> Seen | None:
        if key == broken:
            return Seen(Malformed("$", "not JSON"), 3, 3)
        return Seen(KEYS[key], 3, 3) if key in KEYS else None

    by_node = plan_node(attachment_view(see, *PAIR, "b1", device))
    by_controller = plan_volume(volume_view(see, "data", AROUND, BackendView(), Memory(exported={7}))).step
    return {step.do for step in (by_node, by_controller) if step is not None}


def test_what_can_be_read_is_settled() -> None:
    assert steps(None) == set()


@pytest.mark.parametrize("broken", KEYS, ids=str)
def test_what_can_not_be_read_stays_as_it_is(broken: Key) -> None:
    assert steps(broken) == set()


NODE = Key(Family.NODE, ("web-1",))


@pytest.mark.parametrize("node", [Malformed("$.schema", "version 9 is newer"), None], ids=["unreadable", "deleted"])
def test_only_another_boot_says_that_a_boot_is_over(node: Malformed | None) -> None:
    """F-S8: of a healthy node whose `nodes/N` can't be read nobody is told to fence it."""

    def see(key: Key) -> Seen | None:
        if key == NODE:
            return None if node is None else Seen(node, 3, 3)
        return Seen(KEYS[key], 3, 3) if key in KEYS else None

    plan = plan_volume(volume_view(see, "data", AROUND, BackendView(), Memory(exported={7})))
    assert [saying.reason for saying in plan.sayings] == ["NodeUnknown"]
    assert "fence" not in plan.sayings[0].message
    assert plan.step is None


def test_a_grant_in_the_making_outlives_an_unreadable_node() -> None:
    """F-S8: unreadable is not absent, and no proof that its boot is over."""
    exporting = HOLDER.model_copy(update={"phase": HolderPhase.EXPORTING})
    lists = {
        Key(Family.GRANT, ("data",)): Grant(uid="u", holders=(exporting,)),
        Key(Family.VOLUME, ("data",)): KEYS[Key(Family.VOLUME, ("data",))].model_copy(update={"holders": (exporting,)}),
    }

    def see(key: Key) -> Seen | None:
        value = Malformed("$", "not JSON") if key == NODE else (KEYS | lists).get(key)
        unused = key.family in (Family.CONNECTION, Family.CLAIM, Family.ATTACHMENT)
        return None if value is None or unused else Seen(value, 3, 3)

    step = plan_volume(volume_view(see, "data", AROUND, BackendView(), Memory())).step
    assert step is not None
    assert step.do is Do.EXPORT
