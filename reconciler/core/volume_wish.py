"""What a wish for a volume says of the volume that there is: whether it is one for this volume, and what becomes of the data later.

What the last value of a wish said holds, also where nobody who acts saw that value: it is asked of the store's history
(docs/decisions/0012). Where history does not tell it any more, the data stays and a person is asked.
"""

from __future__ import annotations

from typing import Final

from reconciler.core.steps import Aspect, Saying
from reconciler.core.views import Bad, RecordView, SpecView, VolumeView
from schema.models import Intent, VolumePhase

LAST_WISH_UNKNOWN: Final = "LastWishUnknown"
"""Reason of the condition on a volume whose wish is gone while it isn't known what it said last."""

RECENT: Final = 10_000
"""Revisions. A controller that begins to lead looks so far back for wishes that came and went while nobody led, for volumes whose
data it would keep anyhow: reading history costs the store as much as happened in it."""


def refusal(view: VolumeView, record: RecordView, spec: SpecView | Bad) -> Saying | None:
    """A wish that this volume can't become. Nothing happens then (A1): nobody is granted it either."""
    taken = view.phase == VolumePhase.RETAINED
    if isinstance(spec, Bad):
        return Saying("", Aspect.ACCEPTED, "Malformed", f"{spec.fault}; the volume stays as it is", "user")
    if spec.backend != record.backend:
        reason = "NameTaken" if taken else "BackendDiffers"
        message = f"{view.volume} is on backend {record.backend}; it can't move to {spec.backend}"
        return Saying("", Aspect.ACCEPTED, reason, message, "user")
    if spec.size_gib is not None and spec.size_gib < record.size_gib and not _was_asked_for(view, record, spec):
        reason = "NameTaken" if taken else "SizeSmaller"
        message = f"{view.volume} has {record.size_gib} GiB; it can't shrink to {spec.size_gib}"
        return Saying("", Aspect.ACCEPTED, reason, message, "user")
    if spec.imports is not None and spec.imports != record.imports:
        message = f"{view.volume} exists and is not an import of {spec.imports}"
        return Saying("", Aspect.ACCEPTED, "NameTaken", message, "user")
    return None


def _was_asked_for(view: VolumeView, record: RecordView, spec: SpecView) -> bool:
    """The array made it larger than asked for, and nothing less is wished now than was asked. An older controller did not note
    what was; but the wish that the volume answers was one for it."""
    if record.asked_gib is None:
        return spec.generation == view.generation
    return spec.size_gib is not None and spec.size_gib >= record.asked_gib


def is_noted(view: VolumeView, record: RecordView) -> bool:
    """Whether the end of the last wish that is known of is in the record. An older controller noted it in the phase alone."""
    return record.ended or (view.phase == VolumePhase.RETAINED and record.on_delete != "delete")


def asks_for_history(view: VolumeView, *, quiet: bool) -> bool:
    """Whether the next step rests on what a wish that is gone said last. `quiet`: the wish is known not to have changed since the
    record's word on it."""
    record = view.record
    if not isinstance(record, RecordView) or record.imported:
        return False
    if record.intent is Intent.DELETE:
        return record.unproven and not quiet
    return view.spec is None and record.intent is None and not (quiet and is_noted(view, record))


def waits_for_proof(view: VolumeView) -> bool:
    """Whether the watch has still to bring what happened before the deletion was intended."""
    record = view.record
    return isinstance(record, RecordView) and record.unproven and not view.proven and view.last is None


def last_word(view: VolumeView, record: RecordView) -> str | None:
    """What becomes of the data, by the last value of a wish that is gone. None: it can't be known, so the data stays.

    What was refused did not change what was noted; but data that its last wish wanted kept is kept.
    """
    last = view.last
    if last is None or last.spec is None:
        return None
    noted, spec = record.on_delete, last.spec
    if isinstance(spec, Bad):
        return None if noted == "delete" else noted
    if refusal(view, record, spec) is not None:
        return "delete" if noted == spec.on_delete == "delete" else "retain"
    return spec.on_delete


def unknown(view: VolumeView) -> Saying:
    message = (
        f"the wish for {view.volume} is gone, and what it said last about the data can't be read any more; the data stays until it "
        f"is wished for again, or its deletion is confirmed"
    )
    return Saying("", Aspect.AVAILABLE, LAST_WISH_UNKNOWN, message, "operator")
