"""The rules in force. As they stand here: the production planners, and the executors' transactions and calls.

A must-fail variant is a subclass that overrides one of these methods (variants.py).
"""

from __future__ import annotations

from reconciler.core.plan_node import leaves_trace, plan_boot, plan_node
from reconciler.core.plan_volume import plan_volume
from reconciler.core.steps import Step
from reconciler.core.views import AttachmentView, VolumeView
from tests.model.calls import Calls
from tests.model.canonical import fresh_epoch
from tests.model.state import State


class Rules(Calls):
    """Who decides what, and what becomes of it."""

    remembers_fences = False
    """Fences of forgotten boots matter to somebody, so the search has to keep them apart."""

    highest_epoch = 0
    """Set when a trace is told, so that no epoch is named twice in it."""

    def new_epoch(self, state: State) -> int:
        """One that nothing bears. In production: one that never was (docs/decisions)."""
        return self.highest_epoch + 1 if self.highest_epoch else fresh_epoch(state)

    def plan_volume(self, view: VolumeView) -> Step | None:
        return plan_volume(view).step

    def plan_node(self, view: AttachmentView) -> Step | None:
        return plan_node(view)

    def plan_boot(self, *, published: bool, fenced: bool, traces: int, claims: int) -> Step | None:
        return plan_boot(published=published, fenced=fenced, traces=traces, claims=claims)

    def traces(self, view: AttachmentView) -> int:
        """What counts as a trace for `plan_boot`."""
        return int(leaves_trace(view))

    def fence_overwritten(self, state: State, node: int) -> State | None:
        """An operator's tool writes over a statement. Only its being there counts, so nothing changes."""
        return None
