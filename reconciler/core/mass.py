"""When many wishes vanish at once: rather an accident than a will (A33).

A wish that is gone is the one absent key that daemons act upon. A prefix deleted by mistake, an empty desired state written by a
tool, must not take a host's devices away, nor a backend's data. So beyond a threshold an absent wish counts for nothing until
it is back, or somebody confirms that its end is meant. The threshold is a function of the keys as they are, not of time: a
restart forgets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

DETACHES_PAUSED = "DetachesPaused"
"""Reason of the condition on each attachment that stays for this alone. It holds that one until its wish is back or its end is
confirmed, however many others came back meanwhile: else putting wishes back one by one would detach the last ones."""
DELETES_PAUSED = "DeletesPaused"
"""The same, of volumes whose data would be deleted."""


@dataclass(frozen=True, slots=True)
class MassRule:
    """From where on an end of wishes has to be confirmed: so many, *and* more than this share of all there are."""

    at_least: int = 3
    share: float = 0.5

    def met(self, gone: int, held: int) -> bool:
        return gone >= self.at_least and gone > self.share * held


ASK_ALWAYS = MassRule(at_least=1, share=0.0)
"""Each one: while it is not known what the store forgot."""


def paused_detaches(gone: int, held: int) -> str:
    """In a sentence, for the condition."""
    return (
        f"{gone} of {held} wishes for volumes on this node are gone at once; nothing is detached for that until they are put "
        f"back, or their end is confirmed"
    )


UNKNOWN_TO_THE_STORE = (
    "its wish is gone, and so is every other key that told of it; it stays until it is wished for again, or its end is "
    "confirmed"
)
"""One by itself: whoever takes back a wish leaves the daemons' own keys alone."""


def paused_deletes(gone: int, held: int) -> str:
    return (
        f"the wishes for {gone} of {held} volumes with on_delete: delete are gone at once; no data is deleted until they are "
        f"put back, or the deletion is confirmed"
    )
