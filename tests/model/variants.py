"""The rules of docs/PROTOCOL.md with one taken away or replaced: its section 3, as subclasses of `Rules`.

Each overrides what the planners see, what they answer, or what a transaction writes, and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reconciler.core.plan_node import plan_boot, plan_node
from reconciler.core.plan_volume import plan_volume
from reconciler.core.steps import Do, Step
from reconciler.core.views import (
    AttachmentView,
    Bad,
    ClaimView,
    ConnectionView,
    HolderView,
    LastWish,
    NodeView,
    OnHost,
    RecordView,
    SpecView,
    StatusView,
    VolumeView,
)
from schema.keys import Family, Key
from schema.models import AttachmentPhase, HolderPhase, Intent
from tests.model.moves import Move
from tests.model.rules import Rules
from tests.model.state import NOTED, READY, State, with_node, with_volume
from tests.model.transactions import Outcome


def _node_replaced(view: VolumeView, name: str, **changes: Any) -> VolumeView:
    return replace(view, nodes={**view.nodes, name: replace(view.nodes[name], **changes)})


def _holder(view: VolumeView) -> HolderView | None:
    return view.holders[0] if view.holders and not isinstance(view.holders, Bad) else None


# --- what allows a revoke (R1, R3) ---------------------------------------------------------------------------------------


class RevokesWhenUnclaimed(Rules):
    """No claim is taken for proof that there never was one."""

    def never_claimed(self, holder: HolderView, node: NodeView) -> bool:
        return node.claim is None

    def plan_volume(self, view: VolumeView) -> Step | None:
        holder = _holder(view)
        if holder and holder.phase is HolderPhase.READY and self.never_claimed(holder, view.nodes[holder.node]):
            released = StatusView(AttachmentPhase.RELEASED, holder.epoch)
            view = _node_replaced(view, holder.node, status=released)
        return plan_volume(view).step


class RevokesWhenUnclaimedAndSilent(RevokesWhenUnclaimed):
    """... and the status shows no use either."""

    def never_claimed(self, holder: HolderView, node: NodeView) -> bool:
        in_use = (AttachmentPhase.ATTACHING, AttachmentPhase.ATTACHED)
        return node.claim is None and not (isinstance(node.status, StatusView) and node.status.phase in in_use)


class RevokesWhenNotNotedInUse(RevokesWhenUnclaimed):
    """... or the controller did not get round to noting a claim in the grant. The note is one more write."""

    def never_claimed(self, holder: HolderView, node: NodeView) -> bool:
        return node.claim is None and holder.mode != "in use"

    def plan_volume(self, view: VolumeView) -> Step | None:
        holder = _holder(view)
        unnoted = holder and holder.phase is HolderPhase.READY and holder.mode != "in use"
        if holder and unnoted and view.nodes[holder.node].claim:
            lists = (Key(Family.GRANT, (view.volume,)), Key(Family.VOLUME, (view.volume,)))
            return Step(Do.UPDATE_VOLUME, "note that it is in use", holder.node, holder.epoch, commits=lists)
        return super().plan_volume(view)

    def update_volume(self, state: State, seen: State, move: Move) -> Outcome:
        return self.write_lists(state, seen, self.with_phase(seen.volume.holders, move, NOTED)), ""


class RevokesOnTheStatusAlone(Rules):
    """`Released(e)` is enough, whatever is under the claim key."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        holder = _holder(view)
        if holder and view.nodes[holder.node].status == (AttachmentPhase.RELEASED, holder.epoch):
            view = _node_replaced(view, holder.node, claim=None)
        return plan_volume(view).step


class NeverDeclines(Rules):
    """No `Released(e)` for what was never claimed."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        step = plan_node(view)
        return None if step and step.do is Do.RELEASE and view.claim is None else step


class AddsPathsUnclaimed(Rules):
    """Paths are added wherever a connection is ready, whether the device is still here and claimed or not."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        connection = view.connection
        if view.paths_to_add and isinstance(connection, ConnectionView) and connection.phase is HolderPhase.READY:
            return Step(Do.ADD_PATHS, "paths are missing", epoch=connection.epoch)
        return plan_node(replace(view, paths_to_add=False))


class EpochsStartAnew(Rules):
    """The counter is in the grant, and goes with the last holder (R2)."""

    def new_epoch(self, state: State) -> int:
        return 1 + max((holder.epoch for holder in state.volume.holders), default=0)


class ClaimsAgain(Rules):
    """After `Released(e)` a node may claim e once more."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        step = plan_node(view)
        connection = view.connection
        if step is None and view.wish and isinstance(connection, ConnectionView) and view.claim is None:
            return plan_node(replace(view, status=None))
        return step


class ClaimsAgainSilently(ClaimsAgain):
    """... and the claim leaves the status as it was."""

    def claim(self, state: State, seen: State, move: Move) -> Outcome:
        after, broken = super().claim(state, seen, move)
        keys = after.nodes[move.node]._replace(status=state.nodes[move.node].status)
        return with_node(after, move.node, keys), broken


# --- missing keys (R8, R9) -----------------------------------------------------------------------------------------------


class MissingGrantIsFree(Rules):
    """No grant key: nobody holds the volume. (Neither its copy in `volumes/` nor the export intents are asked.)"""

    def plan_volume(self, view: VolumeView) -> Step | None:
        if view.holders is None and isinstance(view.record, RecordView):
            view = replace(view, holders=(), mirror=(), record=replace(view.record, orphans=()))
        return plan_volume(view).step

    def grant(self, state: State, seen: State, move: Move) -> Outcome:
        volume = seen.volume
        if volume.grant is None and volume.record is not None:
            volume = volume._replace(grant=(), record=volume.record._replace(exports=()))
        return super().grant(state, seen._replace(volume=volume), move)


class RebuildsTheGrant(Rules):
    """A missing grant is made up from claims and connections."""

    def restore_holders(self, state: State, seen: State, move: Move) -> Outcome:
        found = []
        for holder in seen.volume.holders:
            keys = seen.nodes[holder.node]
            if keys.claim or keys.connection:
                found.append(holder._replace(phase=keys.connection[2] if keys.connection else READY))
        record = seen.volume.record
        assert record is not None
        state = self.write_lists(state, seen, tuple(found))
        exports = tuple((holder.node, holder.epoch) for holder in found)
        return with_volume(state, state.volume._replace(record=record._replace(exports=exports))), ""


class DropsTheUnexplained(Rules):
    """A device without a connection key is "connected otherwise", and removed."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        if view.device is OnHost.PRESENT and view.connection is None and view.published and not view.fenced:
            keys = tuple(Key(family, (view.node, view.volume)) for family in (Family.CONNECTION, Family.CLAIM))
            return Step(Do.DISCONNECT, "connected otherwise", confirms=keys)
        return plan_node(view)


class LeavesTheClaimMissing(Rules):
    """A claim that was deleted by hand is not put back while the device is there."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        step = plan_node(view)
        return None if step and step.do is Do.CLAIM and view.device is OnHost.PRESENT else step


# --- boots and fences (R4 to R7) -----------------------------------------------------------------------------------------


def _as_own(view: AttachmentView) -> AttachmentView:
    """Whatever says another boot is shown as if it said this one."""
    claim, connection = view.claim, view.connection
    if isinstance(claim, ClaimView):
        view = replace(view, claim=claim._replace(boot=view.boot))
    if isinstance(connection, ConnectionView):
        view = replace(view, connection=connection._replace(boot=view.boot))
    return view


class UsesOldClaims(Rules):
    """A claim of an earlier boot counts as one's own."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        return plan_node(_as_own(view) if view.published else view)


class TakesOldClaimsOver(Rules):
    """A claim of an earlier boot is rewritten for this one, in the same epoch."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        claim = view.claim
        step = plan_node(_as_own(view) if view.published else view)
        if step and step.do is Do.CONNECT and isinstance(claim, ClaimView) and claim.boot != view.boot:
            return Step(Do.CLAIM, "take the claim over", epoch=step.epoch, commits=step.confirms)
        return step


class LiftsByNode(Rules):
    """A fence of any boot of the node allows the revoke."""

    remembers_fences = True

    def plan_volume(self, view: VolumeView) -> Step | None:
        holder = _holder(view)
        if holder and holder.phase is HolderPhase.READY and view.nodes[holder.node].fences:
            view = _node_replaced(view, holder.node, fences={holder.boot: "statement"})
        return plan_volume(view).step

    def revoke(self, state: State, seen: State, move: Move) -> Outcome:
        named = move.boot in seen.nodes[move.node].fences
        return super().revoke(state, seen, move if named else move._replace(copies_fence=False))


class TakesAnyFence(Rules):
    """Somebody's word is enough, whether the array can cut off the host or not (R12)."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        return plan_volume(replace(view, backend=view.backend._replace(cuts_access=True))).step


class GrantsToFenced(Rules):
    """A new grant does not ask for fences."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        if _holder(view) is None:
            for name in view.nodes:
                view = _node_replaced(view, name, fences={}, fenced={})
        return plan_volume(view).step


class NoDutyOnReturn(Rules):
    """A node takes no notice of its own fence."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        return plan_node(replace(view, fenced=False))

    def plan_boot(self, *, published: bool, fenced: bool, traces: int, claims: int) -> Step | None:
        return plan_boot(published=published, fenced=False, traces=traces, claims=claims)


class NoDutyAndGrantsToFenced(NoDutyOnReturn, GrantsToFenced):
    """Both."""


class NewBootFirst(Rules):
    """A returning node takes a new boot at once, and cleans up later."""

    def plan_boot(self, *, published: bool, fenced: bool, traces: int, claims: int) -> Step | None:
        return plan_boot(published=published, fenced=fenced, traces=0, claims=0)

    def plan_node(self, view: AttachmentView) -> Step | None:
        return plan_node(replace(view, fenced=False))


class FenceInTheUsersKey(Rules):
    """The statement stands in a key that users write as well, and the controller keeps no copy."""

    def fence_overwritten(self, state: State, node: int) -> State | None:
        keys = state.nodes[node]
        return with_node(state, node, keys._replace(fences=(), fenced=())) if keys.fences else None


class AnswersBeforePublishing(Rules):
    """A daemon claims, releases and declines before its boot is published."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        return plan_node(replace(view, published=True))


class PublishesBeforeCleaning(Rules):
    """A new boot is published while devices of an earlier one are still there (R5, R11)."""

    def traces(self, view: AttachmentView) -> int:
        return 0

    def plan_node(self, view: AttachmentView) -> Step | None:
        return plan_node(view) if view.published else None


# --- connects that were broken off (R14) ----------------------------------------------------------------------------------


class ReleasesTheUnseen(Rules):
    """No device is seen, so nothing is left: the note of a connect is not asked."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        return plan_node(replace(view, noted=None) if view.device is OnHost.ABSENT else view)


class LeavesTheUnseenInFencedBoots(Rules):
    """The note is asked before a release only: a fenced boot that has nothing to release is over."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        unnoted = plan_node(replace(view, noted=None))
        return None if view.fenced and unnoted is None else plan_node(view)


# --- drains (R13) --------------------------------------------------------------------------------------------------------


class GrantsToDrained(Rules):
    """Only the node sets wishes aside; the controller grants all the same."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        for name in view.nodes:
            view = _node_replaced(view, name, drain="")
        return plan_volume(view).step


class DropsOnAnOldDrain(Rules):
    """A disconnect confirms the wish alone, not the key that sets it aside."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        step = plan_node(view)
        if step is None or step.do is not Do.DISCONNECT:
            return step
        return replace(step, confirms=tuple(key for key in step.confirms if key.family is not Family.DESIRED_NODE))


# --- what may be done otherwise ------------------------------------------------------------------------------------------


class NeedsTheConnection(Rules):
    """A node keeps no copy of conn_info: while the connection key is missing it can't disconnect."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        step = plan_node(view)
        return None if step and step.do is Do.DISCONNECT and view.connection is None else step


class ForgetsInTwoTransactions(Rules):
    """The connection goes first, the holder entry later."""

    def forget(self, state: State, seen: State, move: Move) -> Outcome:
        if seen.nodes[move.node].connection:
            return with_node(state, move.node, state.nodes[move.node]._replace(connection=None)), ""
        return super().forget(state, seen, move)


class DeletesLiftedClaims(Rules):
    """The controller deletes the claim together with the revoke that a fence allows."""

    def revoke(self, state: State, seen: State, move: Move) -> Outcome:
        state, broken = super().revoke(state, seen, move)
        if move.copies_fence:
            state = with_node(state, move.node, state.nodes[move.node]._replace(claim=None))
        return state, broken


# --- the volume's own life -----------------------------------------------------------------------------------------------


class DeletesClaimed(Rules):
    """Deletion looks at the holder lists only, not at claims."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        if view.spec is None:
            for name in view.nodes:
                view = _node_replaced(view, name, claim=None)
        return plan_volume(view).step


class DoesNotAudit(Rules):
    """What the audit finds missing is not asked for again."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        return plan_volume(replace(view, lost=frozenset())).step


class DeletesHeld(Rules):
    """Deletion looks at claims only, not at the holder lists."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        step = plan_volume(view).step
        if step is None and view.spec is None:
            return plan_volume(replace(view, holders=(), mirror=())).step
        return step


class ForgetsOnDelete(Rules):
    """What the last wish said about deletion is not noted in the record: `delete` is taken for granted."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        if isinstance(view.record, RecordView):
            view = replace(view, record=replace(view.record, on_delete="delete"))
        return plan_volume(view).step


class AsksNoHistory(Rules):
    """What is noted of a wish that is gone holds, whatever it said last."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        if isinstance(view.record, RecordView) and view.spec is None:
            noted = LastWish(SpecView("array", view.record.size_gib, view.record.on_delete), 1)
            view = replace(view, last=view.last and noted)
        return plan_volume(view).step


class TakesTheUnknownAsNoted(Rules):
    """Where history is compacted away, what is noted holds."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        if isinstance(view.record, RecordView) and view.last is not None and view.last.spec is None:
            noted = LastWish(SpecView("array", view.record.size_gib, view.record.on_delete), 1)
            view = replace(view, last=noted)
        return plan_volume(view).step


class DoesNotLookAgain(Rules):
    """A deletion that is intended is carried out: an absent wish was compared."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        return plan_volume(replace(view, proven=True)).step


class GrantsWhateverIsWished(Rules):
    """Any wish of the volume's name will do, also one that was refused."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        step = plan_volume(view).step
        spec, record = view.spec, view.record
        if step is None and isinstance(spec, SpecView) and isinstance(record, RecordView):
            fitting = replace(spec, size_gib=record.size_gib, generation=view.generation)
            return plan_volume(replace(view, spec=fitting)).step
        return step


class ExtendsHeld(Rules):
    """A volume is extended while a node holds it."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        step = plan_volume(view).step
        if step is None and view.spec is not None:
            return plan_volume(replace(view, holders=(), mirror=(), nodes={})).step
        return step


class NeverTellsOfGrowth(Rules):
    """The connection of a volume that grew stays as it was."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        nodes = {
            name: replace(node, connection=node.connection._replace(size_gib=None))
            if isinstance(node.connection, ConnectionView)
            else node
            for name, node in view.nodes.items()
        }
        return plan_volume(replace(view, nodes=nodes)).step


class NeverLooksAtTheSize(Rules):
    """The node does not tell its device that the volume grew."""

    def plan_node(self, view: AttachmentView) -> Step | None:
        return plan_node(replace(view, size_gib=None))


class KeepsRefusedExtensions(Rules):
    """An extension that the driver refused stays in the record, and is tried again with each new wish."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        record = view.record
        if isinstance(record, RecordView) and record.intent is Intent.EXTEND:
            return None if view.refused else plan_volume(replace(view, refused_gib=0)).step
        return plan_volume(view).step


class RefusesWhateverIsWished(Rules):
    """The size that was refused is not looked at: a wish that came meanwhile counts as refused too."""

    def plan_volume(self, view: VolumeView) -> Step | None:
        spec, record = view.spec, view.record
        extending = isinstance(record, RecordView) and record.intent is Intent.EXTEND
        if isinstance(spec, SpecView) and view.refused_gib and not extending:
            view = replace(view, refused_gib=spec.size_gib or 0)
        return plan_volume(view).step
