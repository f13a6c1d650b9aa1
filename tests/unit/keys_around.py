"""Small values of every key around an attachment, and strategies that make many: for the tests of summaries and client."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from schema.codec import Malformed
from schema.models import (
    AttachmentPhase,
    AttachmentStatus,
    BackendStatus,
    Claim,
    Condition,
    Holder,
    HolderPhase,
    Verdict,
)
from schema.summary.reasons import MEANING

SINCE = "2026-11-23T10:00:00Z"
GENERATION = 40
BAD = Malformed("$.epoch", "input should be a valid integer")
DOWN = BackendStatus(ready=False, reason="Unavailable", message="no route to 10.0.0.9", driver="x")


def holder(phase: str, node: str = "web-1", epoch: int = 5, boot: str = "b1") -> Holder:
    return Holder(node=node, epoch=epoch, boot=boot, phase=HolderPhase(phase), connector={"initiator": "iqn.x"})


def claim(epoch: int = 5, boot: str = "b1") -> Claim:
    return Claim(uid="u", epoch=epoch, boot=boot)


def status(phase: str, *conditions: Condition, epoch: int = 5, **more: Any) -> AttachmentStatus:
    there = phase == "Attached"
    path = {"path": "/dev/brickwork/data", "device": "/dev/sdb"} if there else {}
    given: dict[str, Any] = {"connected": there, "attached": there, **path, **more}
    return AttachmentStatus(
        phase=AttachmentPhase(phase),
        uid="u",
        epoch=epoch,
        boot="b1",
        generation=GENERATION,
        conditions=conditions,
        **given,
    )


def condition(kind: str, reason: str, message: str = "told", word: Any = "False") -> Condition:
    return Condition(
        type=kind, status=word, reason=reason, message=message, since=SINCE, observed_generation=GENERATION
    )


def verdict(kind: str, reason: str, *, generation: int = GENERATION, next_try: str | None = None) -> Verdict:
    return Verdict(generation=generation, conditions=(condition(kind, reason),), next_try=next_try)


EPOCHS, BOOTS = st.sampled_from([4, 5]), st.sampled_from(["b1", "b2"])
REASONS = st.sampled_from([*MEANING, "DeviceBusy", "ConnectFailed", "IdentityMismatch", "WaitingForController", "Odd"])
CONDITIONS = st.lists(
    st.builds(
        condition,
        st.sampled_from(["Accepted", "Available", "Granted", "Exported", "Connected", "Verified", "Released"]),
        REASONS,
        st.sampled_from(["", "told", "{braces}"]),
        st.sampled_from(["True", "False", "Unknown"]),
    ),
    max_size=3,
).map(tuple)
TRIES = st.sampled_from([None, SINCE])
VERDICTS = st.builds(Verdict, generation=st.sampled_from([0, 39, GENERATION]), conditions=CONDITIONS, next_try=TRIES)
HOLDER = st.builds(
    holder, st.sampled_from(["exporting", "ready", "revoked"]), st.sampled_from(["web-1", "web-2"]), EPOCHS, BOOTS
)
