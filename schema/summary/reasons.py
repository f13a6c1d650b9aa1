"""What a reason given by the controller means for the one who reads it: the state it leads to, and who has to act.

A reason that is not listed is told as it is, and the state's own table says who is waited for.
"""

from __future__ import annotations

from typing import NamedTuple

from schema.codec import Malformed
from schema.models import Condition, Verdict

NO_CONTROLLER = "NoController"
"""The reason where the controller has to act and none leads."""


class Meaning(NamedTuple):
    """`state`: the state of an attachment or volume that has nothing yet. `waits_for`: a template."""

    state: str
    waits_for: str


_USER, _OPERATOR, _NODE, _BACKEND = "user", "operator", "node {node}", "backend {backend}"

MEANING: dict[str, Meaning] = {
    # waiting as designed
    "HeldBy": Meaning("Pending", "node {other}"),
    "VolumeNotFound": Meaning("Pending", _USER),
    "UnknownBackend": Meaning("Pending", _USER),
    "VolumeNotReady": Meaning("Pending", "volume {volume}"),
    "VolumeNotWanted": Meaning("Pending", _USER),
    "VolumeRefused": Meaning("Pending", _USER),
    "BackendNotReady": Meaning("Pending", _BACKEND),
    "NodeUnknown": Meaning("Pending", _NODE),
    "NodeSilent": Meaning("Pending", _NODE),
    "NodeFenced": Meaning("Pending", _NODE),
    "Cordoned": Meaning("Pending", _OPERATOR),
    "Drained": Meaning("Pending", _OPERATOR),
    "OldBoot": Meaning("Pending", _NODE),
    "ExtendWaitsForDetach": Meaning("Pending", "node {other}"),
    # a call that failed, and is tried again
    "ExportFailed": Meaning("Pending", _BACKEND),
    "ConnectExportFailed": Meaning("Pending", _BACKEND),
    "TerminateFailed": Meaning("Pending", _BACKEND),
    "UnexportFailed": Meaning("Pending", _BACKEND),
    "CreateFailed": Meaning("Pending", _BACKEND),
    "ExtendFailed": Meaning("Pending", _BACKEND),
    "DeleteFailed": Meaning("Pending", _BACKEND),
    "UnknownOutcome": Meaning("Pending", _BACKEND),
    # refused
    "Malformed": Meaning("Failed", _USER),
    "ModeDiffers": Meaning("Failed", _USER),
    "NameTaken": Meaning("Failed", _USER),
    "BackendDiffers": Meaning("Failed", _USER),
    "SizeSmaller": Meaning("Failed", _USER),
    "Refused": Meaning("Failed", _USER),
    "ImportUnsupported": Meaning("Failed", _USER),
    "ExtendUnsupported": Meaning("Failed", _USER),
    "ExtendRefused": Meaning("Failed", _USER),
    # somebody outside has to put it right
    "DuplicateInitiator": Meaning("Blocked", _OPERATOR),
    "FenceTooWeak": Meaning("Blocked", _OPERATOR),
    "FenceWithdrawn": Meaning("Blocked", _OPERATOR),
    "FormerHost": Meaning("Blocked", _OPERATOR),
    "OrphanExport": Meaning("Blocked", _OPERATOR),
    "DeletesPaused": Meaning("Blocked", _OPERATOR),
    "LastWishUnknown": Meaning("Blocked", _OPERATOR),
    # doubt
    "Unreadable": Meaning("Uncertain", _OPERATOR),
    "HoldersUnknown": Meaning("Uncertain", _OPERATOR),
    "HoldersDiffer": Meaning("Uncertain", _OPERATOR),
    "RecordMissing": Meaning("Uncertain", _OPERATOR),
}


def complaint(conditions: tuple[Condition, ...], *types: str) -> Condition | None:
    """The first condition that says no, or does not know; of the given types, where any are given."""
    for condition in conditions:
        if condition.status != "True" and (not types or condition.type in types):
            return condition
    return None


def nobody_leads(backend: str, last: Condition | None) -> str:
    """That the controller has to act, and none is there; with what the last one said."""
    who = (
        f"backend {backend}: is one running, with {backend} in its settings?"
        if backend
        else "the cluster: is one running?"
    )
    said = f" (the last one said: {last.reason}: {last.message})" if last else ""
    return f"no controller leads {who}{said}"


def verdict_on(verdict: Verdict | Malformed | None, generation: int) -> Verdict | None:
    """The controller's answer, where it answers the wish as it stands (0: its absence). One to an older wish is none."""
    return verdict if isinstance(verdict, Verdict) and verdict.generation == generation else None
