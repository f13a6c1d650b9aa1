"""What is recorded of a chaos run is judged rightly: what may be innocent is, what can't be is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from schema.codec import encode
from schema.keys import Family, Keyspace
from schema.models import (
    AttachmentPhase,
    AttachmentStatus,
    Claim,
    Connection,
    ExportIntent,
    Grant,
    Holder,
    HolderPhase,
    Record,
    VolumePhase,
    VolumeStatus,
)
from tests.chaos.replay import Order, Replay

UID = "u1"


class Story:
    """A history, told step by step: each write one second after the one before, each known to half a second."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.now = 0.0
        self.revision = 0

    def wrote(self, values: Mapping[tuple[Family, tuple[str, ...]], BaseModel | None]) -> None:
        self.now += 1.0
        self.revision += 1
        self.lines.append({"what": "read", "rev": self.revision - 1, "began": self.now - 0.25, "ended": self.now - 0.2})
        for (family, names), value in values.items():
            text = None if value is None else encode(value).decode("latin-1")
            key = Keyspace().path(family, *names)
            self.lines.append(
                {"what": "wrote", "at": self.now + 0.25, "rev": self.revision, "key": key, "value": text, "lease": 0}
            )

    def saw(self, sign: str, kind: str, node: str, began: float = 0.3, ended: float = 0.6) -> None:
        """Some time after the last write, by default before the next."""
        change = [sign, kind, node, "data" if kind == "device" else "", UID]
        self.lines.append({"what": "saw", "began": self.now + began, "ended": self.now + ended, "changes": [change]})

    # --- the steps of an attachment

    def holder(self, node: str, phase: HolderPhase | None, epoch: int, exports: bool = True) -> None:
        holders = () if phase is None else (Holder(node=node, epoch=epoch, boot="b", phase=phase),)
        intents = (ExportIntent(node=node, epoch=epoch),) if exports else ()
        status = VolumeStatus(
            uid=UID, backend="files", phase=VolumePhase.AVAILABLE, size_gib=1, generation=1, holders=holders
        )
        values: dict[tuple[Family, tuple[str, ...]], BaseModel | None] = {
            (Family.GRANT, ("data",)): Grant(uid=UID, holders=holders),
            (Family.VOLUME, ("data",)): status,
            (Family.RECORD, ("data",)): Record(uid=UID, backend="files", size_gib=1, exports=intents),
        }
        if phase in (HolderPhase.READY, HolderPhase.REVOKED):
            values[Family.CONNECTION, (node, "data")] = Connection(uid=UID, epoch=epoch, boot="b", phase=phase)
        elif phase is None:
            values[Family.CONNECTION, (node, "data")] = None
        self.wrote(values)

    def claim(self, node: str, epoch: int) -> None:
        self.wrote(
            {
                (Family.CLAIM, (node, "data")): Claim(uid=UID, epoch=epoch, boot="b"),
                (Family.ATTACHMENT, (node, "data")): said(AttachmentPhase.ATTACHING, epoch),
            }
        )

    def attached(self, node: str, epoch: int) -> None:
        self.wrote({(Family.ATTACHMENT, (node, "data")): said(AttachmentPhase.ATTACHED, epoch)})

    def released(self, node: str, epoch: int) -> None:
        self.wrote(
            {
                (Family.CLAIM, (node, "data")): None,
                (Family.ATTACHMENT, (node, "data")): said(AttachmentPhase.RELEASED, epoch),
            }
        )

    def granted(self, node: str, epoch: int) -> None:
        self.holder(node, HolderPhase.EXPORTING, epoch)
        self.saw("+", "mapped", node)
        self.holder(node, HolderPhase.READY, epoch)

    def attach(self, node: str, epoch: int) -> None:
        self.granted(node, epoch)
        self.claim(node, epoch)
        self.saw("+", "device", node)
        self.attached(node, epoch)

    def detach(self, node: str, epoch: int) -> None:
        self.saw("-", "device", node)
        self.released(node, epoch)
        self.revoke(node, epoch)

    def revoke(self, node: str, epoch: int) -> None:
        self.holder(node, HolderPhase.REVOKED, epoch)
        self.saw("-", "mapped", node)
        self.holder(node, None, epoch, exports=False)

    def violations(self) -> list[str]:
        return Replay(self.lines).play()


def said(phase: AttachmentPhase, epoch: int) -> AttachmentStatus:
    return AttachmentStatus(phase=phase, uid=UID, epoch=epoch, boot="b")


@pytest.fixture
def story() -> Story:
    told = Story()
    told.holder("", None, 0, exports=False)
    return told


def test_a_move_as_it_should_be(story: Story) -> None:
    story.attach("a", 1)
    story.detach("a", 1)
    story.attach("b", 2)
    story.detach("b", 2)
    assert story.violations() == []


@pytest.mark.parametrize("blur_s", [0.5, 1.5, 2.5, 4.5])
def test_a_move_that_was_seen_badly_is_innocent(story: Story, blur_s: float) -> None:
    """Each look took from long before to long after: every change has a place where it is right."""
    story.attach("a", 1)
    story.detach("a", 1)
    story.attach("b", 2)
    story.detach("b", 2)
    for line in story.lines:
        if line["what"] == "saw":
            line["began"] -= blur_s
            line["ended"] += blur_s
    assert story.violations() == []


def test_a_claim_that_went_under_a_device(story: Story) -> None:
    story.attach("a", 1)
    story.released("a", 1)
    story.saw("-", "device", "a")
    found = story.violations()
    assert any("S2: a gave back its claim" in each for each in found)


def test_a_mapping_that_went_under_a_device(story: Story) -> None:
    story.attach("a", 1)
    story.saw("-", "mapped", "a")
    story.attached("a", 1)
    assert ["S4" in each for each in story.violations()] == [True]


def test_two_who_can_write(story: Story) -> None:
    story.attach("a", 1)
    story.attach("b", 2)
    assert any("S1: data was granted to b while a can write" in each for each in story.violations())


def test_a_device_without_a_claim(story: Story) -> None:
    story.granted("a", 1)
    story.saw("+", "device", "a")
    story.claim("a", 1)
    assert ["S2: a connected data without a claim" in each for each in story.violations()] == [True]


def test_a_revocation_without_a_release(story: Story) -> None:
    story.attach("a", 1)
    story.revoke("a", 1)
    assert any("S4: data was revoked from a" in each for each in story.violations())


def test_a_hand_may_do_what_a_daemon_may_not(story: Story) -> None:
    story.attach("a", 1)
    story.wrote({(Family.CLAIM, ("a", "data")): None})
    assert any("S2" in each for each in story.violations())
    story.lines.append({"what": "hand", "rev": story.revision, "key": Keyspace().path(Family.CLAIM, "a", "data")})
    assert story.violations() == []


def test_an_attached_before_the_device(story: Story) -> None:
    story.granted("a", 1)
    story.claim("a", 1)
    story.attached("a", 1)
    story.saw("+", "device", "a")
    assert ["S15" in each for each in story.violations()] == [True]


def test_a_volume_that_went_without_that_intent(story: Story) -> None:
    story.saw("+", "file", "")
    story.attach("a", 1)
    story.saw("-", "file", "")
    assert any("D1" in each for each in story.violations())


def test_reads_tell_when_a_revision_was_committed() -> None:
    """The watch was late: a read knew of the revision before."""
    order = Order(
        [
            {"what": "read", "rev": 1, "began": 1.0, "ended": 1.1},
            {"what": "read", "rev": 3, "began": 2.0, "ended": 2.1},
            {"what": "wrote", "rev": 2, "at": 9.0},
            {"what": "wrote", "rev": 3, "at": 9.0},
            {"what": "wrote", "rev": 4, "at": 9.5},
        ]
    )
    assert order.window(0.0, 1.0) == (0, 0)
    assert order.window(0.5, 1.5) == (0, 3)
    assert order.window(2.1, 2.2) == (3, 4)
