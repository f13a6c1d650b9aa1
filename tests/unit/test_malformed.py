"""What can't be read is not absent: neither daemon acts on it (DESIGN 2)."""

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


def steps(broken: Key | None, device: OnHost = OnHost.PRESENT) -> set[Do]:
    """What either daemon would do with this key unreadable."""

    def see(key: Key) -> Seen | None:
        if key == broken:
            return Seen(Malformed("$", "not JSON"), 3, 3)
        return Seen(KEYS[key], 3, 3) if key in KEYS else None

    around = Around(["web-1"], lambda *_: None, lambda *_: frozenset(), lambda _: True)
    by_node = plan_node(attachment_view(see, *PAIR, "b1", device))
    by_controller = plan_volume(volume_view(see, "data", around, BackendView(), Memory(exported={7}))).step
    return {step.do for step in (by_node, by_controller) if step is not None}


def test_what_can_be_read_is_settled() -> None:
    assert steps(None) == set()


@pytest.mark.parametrize("broken", [key for key in KEYS if key.family is not Family.NODE], ids=str)
def test_what_can_not_be_read_stays_as_it_is(broken: Key) -> None:
    assert steps(broken) == set()
