"""The controller's half of the protocol, for one volume: a pure function from what is known to the next step.

Order matters only for readability: any enabled step may come next (docs/PROTOCOL.md, searched in tests/model). First what was
granted is carried on or taken back, holder by holder; then the volume itself is created, extended or deleted; then new grants.

What must never happen is kept by what each rule asks for:
* a grant needs the positive statement that nobody holds, never an absent key (R8);
* from `ready` on, only `Released(e)` or a fence of the grant's boot revokes (R1, R6); where the array can't cut a host's access,
  only a fence that says that the boot is over (R12);
* a driver call undoing something comes after the revoke, never before it (R10, S5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from reconciler.core.mass import DELETES_PAUSED
from reconciler.core.steps import Aspect, Do, Plan, Saying, Step
from reconciler.core.views import Bad, HolderView, NodeView, RecordView, SpecView, VolumeView, Wish
from reconciler.core.volume_wish import is_noted, last_word, refusal, unknown
from schema.bounds import several
from schema.keys import Family, Key
from schema.models import AttachmentPhase, HolderPhase, Intent, Proof, VolumePhase


def plan_volume(view: VolumeView) -> Plan:
    """At most one step for the volume, and what to tell the users of its keys."""
    doubt = _doubt(view)
    if doubt:
        return Plan(None, doubt)
    if view.record is not None and view.holders is None and view.mirror is None:
        return Plan(
            None, _everybody(view, "HoldersUnknown", f"both holder lists of {view.volume} are gone", "operator")
        )
    if view.record is not None and (view.holders is None or view.mirror is None):
        lost = "grants" if view.holders is None else "volumes"
        return Plan(
            Step(
                Do.RESTORE_HOLDERS, f"{lost}/{view.volume} is missing: put it back from its twin", commits=_lists(view)
            )
        )
    return _plan(view)


def _plan(view: VolumeView) -> Plan:
    """The first step that there is; and all there is to say, for the step may fail, and then it is told."""
    step = None
    sayings: list[Saying] = []
    for holder in _holders(view):
        node = view.nodes.get(holder.node, NodeView())
        step = step or _carry_on(view, node, holder)
        sayings += _about_holder(view, node, holder)
    for part in (_plan_existence, _plan_grants):
        further, more = part(view)
        step = step or further
        sayings += more
    return Plan(step, tuple(sayings))


# --- doubt ---------------------------------------------------------------------------------------------------------------


def _doubt(view: VolumeView) -> tuple[Saying, ...]:
    """A key of ours that can't be read or contradicts its twin stops everything that could undo or grant."""
    for name, value in (("records", view.record), ("grants", view.holders), ("volumes", view.mirror)):
        if isinstance(value, Bad):
            return _everybody(view, "Unreadable", f"{name}/{view.volume} can't be read: {value.fault}", "operator")
    if view.record is None and (view.holders is not None or view.mirror is not None):
        message = f"records/{view.volume} is missing, and the volume exists: restore it from a backup"
        return _everybody(view, "RecordMissing", message, "operator")
    if view.holders is not None and view.mirror is not None and view.holders != view.mirror:
        message = f"grants/{view.volume} and volumes/{view.volume} name different holders"
        return _everybody(view, "HoldersDiffer", message, "operator")
    return ()


def _everybody(view: VolumeView, reason: str, message: str, waits_for: str) -> tuple[Saying, ...]:
    about = [""] if view.spec is not None else []
    about += [name for name, node in view.nodes.items() if node.wish is not None]
    return tuple(
        Saying(name, Aspect.GRANTED if name else Aspect.AVAILABLE, reason, message, waits_for) for name in about
    )


# --- what was granted ----------------------------------------------------------------------------------------------------


def _carry_on(view: VolumeView, node: NodeView, holder: HolderView) -> Step | None:
    """The next step of one holder entry, through its three phases."""
    match holder.phase:
        case HolderPhase.REVOKED:
            return _undo(view, holder)
        case HolderPhase.EXPORTING:
            return _revoke_unused(view, node, holder) or _export(view, holder, _wishes(view, holder))
        case HolderPhase.READY:
            return _revoke_proven(view, node, holder) or _republish(view, node, holder)


def _revoke_unused(view: VolumeView, node: NodeView, holder: HolderView) -> Step | None:
    """C4a: nothing is out yet, so nobody has to prove anything."""
    facts = *_wishes(view, holder), Key(Family.NODE, (holder.node,))
    if node.is_fenced(holder.boot):
        return _revoke_fenced(view, node, holder)
    if not node.wished:
        gone = f"set aside ({holder.node} is drained)" if node.wish else "gone"
        return _revoke(view, holder, f"the wish is {gone} and nothing was handed out yet", *facts)
    if node.boot != holder.boot and not isinstance(node.boot, Bad):
        return _revoke(view, holder, f"{holder.node} is no longer in the boot this was granted to", *facts)
    return None


def _revoke_proven(view: VolumeView, node: NodeView, holder: HolderView) -> Step | None:
    """C4b, C4c: from `ready` on it takes the node's word, or a fence. Silence and missing keys prove nothing (R1)."""
    if isinstance(node.claim, Bad):
        return None
    claim = Key(Family.CLAIM, (holder.node, view.volume))
    proven = _is_enough(view, holder, node.fences) or _is_enough(view, holder, node.fenced)
    if proven and (node.claim is None or node.claim.boot == holder.boot):
        return _revoke_fenced(view, node, holder, claim)
    if node.status == (AttachmentPhase.RELEASED, holder.epoch) and node.claim is None:
        status = Key(Family.ATTACHMENT, (holder.node, view.volume))
        return _revoke(view, holder, f"{holder.node} released epoch {holder.epoch}", status, claim)
    return None


def _is_enough(view: VolumeView, holder: HolderView, fences: Mapping[str, Proof]) -> bool:
    """R12: where the array can't cut off a host that still has the device, the boot has to be over. Before `ready` no boot can
    have one."""
    proof = fences.get(holder.boot)
    cut = view.backend.cuts_access or holder.phase is HolderPhase.EXPORTING
    return proof == "powered_off" or (proof is not None and cut)


def _revoke(view: VolumeView, holder: HolderView, why: str, *proof: Key) -> Step:
    connection = Key(Family.CONNECTION, (holder.node, view.volume))
    return Step(Do.REVOKE, why, holder.node, holder.epoch, commits=(*_lists(view), connection, *proof))


def _revoke_fenced(view: VolumeView, node: NodeView, holder: HolderView, *proof: Key) -> Step:
    """The statement must still be there, or our own copy of it; the first time it is copied (R6)."""
    names = (holder.node, holder.boot)
    copied = _is_enough(view, holder, node.fenced)
    statement = (Key(Family.FENCED, names),) if copied else (Key(Family.FENCE, names), Key(Family.FENCED, names))
    why = f"boot {holder.boot} of {holder.node} is fenced"
    return replace(_revoke(view, holder, why, *proof, *statement), copies_fence=not copied)


def _republish(view: VolumeView, node: NodeView, holder: HolderView) -> Step | None:
    """C7: a connection that went missing, an export that the driver lost, a volume that grew, or a node that says that what it was
    given does not answer: ask the driver again."""
    connection, record = node.connection, view.record
    if isinstance(connection, Bad) or not isinstance(record, RecordView):
        return None
    granted = (holder.epoch, holder.boot, HolderPhase.READY)
    if connection is not None and connection[:3] == granted and holder.epoch not in view.lost:
        told = connection.size_gib
        if told is None or told >= record.size_gib:
            return None
    said = (Key(Family.ATTACHMENT, (holder.node, view.volume)),) if node.unreached == holder.epoch else ()
    return _export(view, holder, said)


def _export(view: VolumeView, holder: HolderView, wish: tuple[Key, ...]) -> Step | None:
    """C2 and C3: `create_export`, then `initialize_connection`, each a step of its own."""
    if not view.backend.ready:
        return None
    confirms = (*_lists(view), Key(Family.RECORD, (view.volume,)), *wish)
    commits = (*_lists(view), Key(Family.RECORD, (view.volume,)), Key(Family.CONNECTION, (holder.node, view.volume)))
    if holder.epoch not in view.exported:
        return Step(Do.EXPORT, f"export it for {holder.node}", holder.node, holder.epoch, confirms, commits)
    return Step(Do.CONNECT_EXPORT, f"map it to {holder.node}", holder.node, holder.epoch, confirms, commits)


def _undo(view: VolumeView, holder: HolderView) -> Step | None:
    """C5 and C6: terminate with the connector that was used; remove the export when no entry of any phase is left."""
    confirms = (*_lists(view), Key(Family.RECORD, (view.volume,)))
    if holder.epoch not in view.terminated:
        if not view.backend.ready:
            return None
        return Step(Do.TERMINATE, f"unmap it from {holder.node}", holder.node, holder.epoch, confirms, confirms)
    if len(_holders(view)) == 1 and holder.epoch not in view.unexported:
        if not view.backend.ready:
            return None
        return Step(
            Do.UNEXPORT, "nobody else holds it: remove the export", holder.node, holder.epoch, confirms, confirms
        )
    connection = Key(Family.CONNECTION, (holder.node, view.volume))
    why = f"{holder.node} is unmapped: forget epoch {holder.epoch}"
    return Step(Do.FORGET, why, holder.node, holder.epoch, commits=(*confirms, connection))


def _about_holder(view: VolumeView, node: NodeView, holder: HolderView) -> Iterator[Saying]:
    """Why a holder entry does not move on, where that is not the ordinary course."""
    wished = node.wished
    if isinstance(node.claim, Bad) or isinstance(node.status, Bad) or isinstance(node.connection, Bad):
        message = f"a key of {holder.node} on this volume can't be read"
        yield Saying(holder.node, Aspect.GRANTED, "Unreadable", message, "operator")
    if holder.phase is not HolderPhase.READY and not view.backend.ready and wished:
        yield _backend_saying(view, holder.node, Aspect.EXPORTED)
    if isinstance(node.wish, Bad):
        yield Saying(holder.node, Aspect.ACCEPTED, "Malformed", f"{node.wish.fault}; what is attached stays", "user")
    elif node.wish is not None and node.wish.mode != holder.mode:
        message = f"granted {holder.mode}; to change to {node.wish.mode}, delete the attachment and put it again"
        yield Saying(holder.node, Aspect.ACCEPTED, "ModeDiffers", message, "user")
    if wished and holder.phase is HolderPhase.READY and node.boot != holder.boot:
        yield _about_boot(node, holder)
    if holder.phase is HolderPhase.READY and node.is_fenced(holder.boot) and view.backend.ready:
        yield from _too_weak(view, node, holder)


def _about_boot(node: NodeView, holder: HolderView) -> Saying:
    """Only another boot says that this one is over: a key that is missing, or can't be read, does not."""
    name, waits_for = holder.node, f"node {holder.node}"
    if isinstance(node.boot, str):
        message = f"granted to boot {holder.boot}; {name} has to release it, or that boot has to be fenced"
        return Saying(name, Aspect.GRANTED, "OldBoot", message, waits_for)
    what = f"can't be read ({node.boot.fault})" if node.boot else "is missing"
    message = f"nodes/{name} {what}: what is attached stays, and brickwork-node on {name} puts the key right"
    return Saying(name, Aspect.GRANTED, "NodeUnknown", message, waits_for)


def _too_weak(view: VolumeView, node: NodeView, holder: HolderView) -> Iterator[Saying]:
    """There is a fence, and it is not enough here: told on the volume, which others wait for, and on the attachment."""
    if not (_is_enough(view, holder, node.fences) or _is_enough(view, holder, node.fenced)):
        message = (
            f"boot {holder.boot} of {holder.node} is fenced on somebody's word alone, and this array can't cut its access; "
            f"{holder.node} has to return, or to be stated powered off"
        )
        about = [("", Aspect.AVAILABLE)] if view.spec is not None else []
        for name, aspect in (*about, (holder.node, Aspect.GRANTED)):
            yield Saying(name, aspect, "FenceTooWeak", message, "operator")


# --- the volume itself ---------------------------------------------------------------------------------------------------


def _plan_existence(view: VolumeView) -> tuple[Step | None, list[Saying]]:
    """Create, import, extend, retain, delete: what becomes of the volume apart from who holds it."""
    record = view.record
    assert not isinstance(record, Bad)
    if record is None:
        return _plan_new(view)
    own = _Existence(view, record)
    match record.intent:
        case Intent.CREATE | Intent.IMPORT:
            return own.finish_creation()
        case Intent.DELETE:
            return own.finish_deletion()
        case Intent.EXTEND:
            return own.finish_extension()
        case None:
            return own.follow_spec()


def _plan_new(view: VolumeView) -> tuple[Step | None, list[Saying]]:
    spec = view.spec
    if spec is None:
        return None, []
    if isinstance(spec, Bad):
        return None, [Saying("", Aspect.ACCEPTED, "Malformed", spec.fault, "user")]
    if view.refused:
        return None, [Saying("", Aspect.ACCEPTED, "Refused", view.refused, "user")]
    if not view.backend.ready:
        return None, [_backend_saying(view, "", Aspect.AVAILABLE)]
    if spec.imports and not view.backend.imports:
        message = f"the driver of backend {spec.backend} can't import volumes"
        return None, [Saying("", Aspect.ACCEPTED, "ImportUnsupported", message, "user")]
    users = [name for name, node in view.nodes.items() if _tells_of_use(node)]
    if users:
        message = f"a former volume of this name is still in use on {several(users)}"
        return None, [Saying("", Aspect.AVAILABLE, "HeldBy", message, f"node {users[0]}")]
    why = "import it" if spec.imports else f"create it on {spec.backend}"
    keys = (*_lists(view), Key(Family.RECORD, (view.volume,)), Key(Family.DESIRED_VOLUME, (view.volume,)))
    return Step(Do.INTEND_CREATE, f"wished for: {why}", commits=keys), []


def _tells_of_use(node: NodeView) -> bool:
    """With all of our own keys on a volume lost, its nodes still say that they have it. A fenced one may never answer again."""
    if node.claim is not None or isinstance(node.status, Bad):
        return True
    attached = node.status is not None and node.status.phase is not AttachmentPhase.RELEASED
    return not (node.fences or node.fenced) and (attached or node.connection is not None)


class _Existence:
    """The rules for a volume that has a record."""

    def __init__(self, view: VolumeView, record: RecordView) -> None:
        self.view = view
        self.record = record
        self.keys = (*_lists(view), Key(Family.RECORD, (view.volume,)))
        self.wish_key = Key(Family.DESIRED_VOLUME, (view.volume,))

    def finish_creation(self) -> tuple[Step | None, list[Saying]]:
        """A volume in creation was never granted: when something else is wished, what there may be of it is taken away again."""
        if self.record.intent is Intent.CREATE and not self._still_wished():
            why = "no longer wished for like this while being created"
            return Step(Do.INTEND_DELETE, why, commits=(*self.keys, self.wish_key)), []
        if self.view.refused:
            if self.record.intent is Intent.IMPORT or self.view.spec is None:
                return Step(
                    Do.FORGET_VOLUME, "the driver refused the import; nothing was taken over", commits=self.keys
                ), []
            return None, [Saying("", Aspect.AVAILABLE, "Refused", self.view.refused, "user")]
        return self._call(Do.CREATE, "create it" if self.record.intent is Intent.CREATE else "import it")

    def _still_wished(self) -> bool:
        spec = self.view.spec
        if isinstance(spec, Bad):
            return True  # nothing is taken away on doubt
        begun = (self.record.backend, self.record.size_gib, None)
        return spec is not None and (spec.backend, spec.size_gib, spec.imports) == begun

    def finish_extension(self) -> tuple[Step | None, list[Saying]]:
        """A driver that refused for good is not asked again, and the volume goes on with the size it has."""
        target = self.record.target_gib
        if target and target == self.view.refused_gib:
            why = f"the driver refused {target} GiB for good: it keeps {self.record.size_gib} GiB"
            return Step(Do.GIVE_UP_EXTEND, why, commits=self.keys), []
        return self._call(Do.EXTEND, f"extend it to {target} GiB")

    def finish_deletion(self) -> tuple[Step | None, list[Saying]]:
        """A wish may have come and gone right before the deletion was intended: no compare of an absent key can tell. So it is
        looked at once more, up to the intent. Whatever is wished from there on is for a new volume."""
        if self.record.unproven and not self.view.proven:
            last = self.view.last
            if last is None:
                return None, []
            if last_word(self.view, self.record) != "delete":
                return Step(Do.SPARE, "its last wish may have said otherwise: it is not deleted", commits=self.keys), []
        if self.record.unproven:
            return Step(Do.PROVE_DELETE, "its last wish said on_delete: delete, to the end", commits=self.keys), []
        return self._call(Do.DELETE, "delete it on the backend")

    def _call(self, do: Do, why: str) -> tuple[Step | None, list[Saying]]:
        if not self.view.backend.ready:
            return None, [_backend_saying(self.view, "", Aspect.AVAILABLE)]
        return Step(do, why, confirms=self.keys, commits=self.keys), []

    def follow_spec(self) -> tuple[Step | None, list[Saying]]:
        spec = self.view.spec
        if spec is None:
            return self._without_wish()
        fault = refusal(self.view, self.record, spec)
        if fault is not None or isinstance(spec, Bad):
            return None, [fault] if fault else []
        if self.view.phase != VolumePhase.AVAILABLE or self.view.generation != spec.generation:
            commits = (*self.keys, self.wish_key)
            return Step(Do.UPDATE_VOLUME, "its wish is new: note it", commits=commits), []
        if spec.size_gib is not None and spec.size_gib > self.record.size_gib:
            return self._extend(spec)
        return None, self._orphans()

    def _without_wish(self) -> tuple[Step | None, list[Saying]]:
        """What the last wish said, once that is noted; and what was imported is always retained."""
        if self.record.imported:
            if self.view.phase != VolumePhase.RETAINED:
                return self._note_end("retain"), []
            return None, []
        if not is_noted(self.view, self.record) or self._missed_a_wish():
            word = last_word(self.view, self.record) or ("delete" if self.view.deletion_confirmed else None)
            return (None, [unknown(self.view)]) if word is None else (self._note_end(word), [])
        if self.record.on_delete != "delete":
            return None, []
        if self.view.deletion_paused:
            return None, [Saying("", Aspect.AVAILABLE, DELETES_PAUSED, self.view.deletion_paused, "operator")]
        users = [holder.node for holder in _holders(self.view)]
        users += [name for name, node in self.view.nodes.items() if node.claim is not None and name not in users]
        if users or self.record.orphans:
            return None, []
        return Step(
            Do.INTEND_DELETE, "no longer wished for, on_delete: delete", commits=(*self.keys, self.wish_key)
        ), []

    def _missed_a_wish(self) -> bool:
        """One came and went after the end that is noted."""
        last = self.view.last
        return last is not None and (last.spec is None or last.revision > self.record.heard)

    def _note_end(self, word: str) -> Step:
        """V8. Its own step, before anything else that rests on it: the store does not keep what wishes said."""
        last = self.view.last
        why = f"no longer wished for; note what its last wish said (on_delete: {word})"
        commits = (*self.keys, self.wish_key)
        return Step(Do.UPDATE_VOLUME, why, commits=commits, on_delete=word, heard=last.revision if last else 0)

    def _extend(self, spec: SpecView) -> tuple[Step | None, list[Saying]]:
        assert spec.size_gib is not None
        if self.view.refused and self.view.refused_gib == spec.size_gib:
            return None, [Saying("", Aspect.AVAILABLE, "ExtendRefused", self.view.refused, "user")]
        if not self.view.backend.extends:
            message = f"the driver of backend {spec.backend} can't extend volumes"
            return None, [Saying("", Aspect.ACCEPTED, "ExtendUnsupported", message, "user")]
        holders = [holder.node for holder in _holders(self.view)]
        if holders and not self.view.backend.extends_online:
            message = f"held by {several(holders)}; it grows to {spec.size_gib} GiB once detached"
            return None, [Saying("", Aspect.AVAILABLE, "ExtendWaitsForDetach", message, f"node {holders[0]}")]
        why = f"grow from {self.record.size_gib} to {spec.size_gib} GiB"
        return Step(Do.INTEND_EXTEND, why, commits=(*self.keys, self.wish_key)), []

    def _orphans(self) -> list[Saying]:
        if not self.record.orphans:
            return []
        message = f"exported to {several(self.record.orphans)} without a holder entry; nothing is done about it"
        return [Saying("", Aspect.AVAILABLE, "OrphanExport", message, "operator")]


# --- new grants ----------------------------------------------------------------------------------------------------------


def _plan_grants(view: VolumeView) -> tuple[Step | None, list[Saying]]:
    """C1 for the first wish that nothing stands against; a saying for each of the others."""
    holding = {holder.node for holder in _holders(view)}
    waiting = [(name, node) for name, node in view.nodes.items() if node.wish is not None and name not in holding]
    waiting.sort(key=lambda pair: (pair[1].wish.order if isinstance(pair[1].wish, Wish) else 0, pair[0]))
    step = None
    sayings = []
    for name, node in waiting:
        saying = _against(view, name, node, step.node if step else "")
        if saying is not None:
            sayings.append(saying)
        elif step is None:
            assert isinstance(node.boot, str)
            step = Step(
                Do.GRANT, f"nobody holds it: grant it to {name}", name, commits=_grant_keys(view, name, node.boot)
            )
    return step, sayings


def _grant_keys(view: VolumeView, name: str, boot: str) -> tuple[Key, ...]:
    return (
        *_lists(view),
        Key(Family.RECORD, (view.volume,)),
        Key(Family.DESIRED_VOLUME, (view.volume,)),
        Key(Family.DESIRED_ATTACHMENT, (name, view.volume)),
        Key(Family.DESIRED_NODE, (name,)),
        Key(Family.NODE, (name,)),
        Key(Family.FENCE, (name, boot)),
        Key(Family.FENCED, (name, boot)),
    )


def _against(view: VolumeView, name: str, node: NodeView, chosen: str) -> Saying | None:
    """What stands against a grant, the user's own part first."""
    if isinstance(node.wish, Bad):
        return Saying(name, Aspect.ACCEPTED, "Malformed", node.wish.fault, "user")
    if node.drain:
        return Saying(name, Aspect.GRANTED, "Drained", f"set aside: {name} is drained ({node.drain})", "operator")
    return _against_volume(view, name) or _against_holders(view, name, chosen) or _against_node(name, node)


def _against_volume(view: VolumeView, name: str) -> Saying | None:
    record = view.record
    assert not isinstance(record, Bad)
    if record is None and view.spec is None:
        message = f"no volume {view.volume}: put desired/volumes/{view.volume}"
        return Saying(name, Aspect.GRANTED, "VolumeNotFound", message, "user")
    if record is None or record.intent is not None:
        doing = record.intent.value if record and record.intent else "create"
        message = f"volume {view.volume} is not ready yet ({doing})"
        return Saying(name, Aspect.GRANTED, "VolumeNotReady", message, f"volume {view.volume}")
    if view.spec is None:
        message = f"volume {view.volume} is no longer wished for: put desired/volumes/{view.volume} again"
        return Saying(name, Aspect.GRANTED, "VolumeNotWanted", message, "user")
    refused = refusal(view, record, view.spec)
    if refused is not None:
        message = f"the wish for volume {view.volume} is not one for the volume that there is: {refused.message}"
        return Saying(name, Aspect.GRANTED, "VolumeRefused", message, "user")
    if record.orphans:
        message = f"{view.volume} is exported to {several(record.orphans)} without a holder entry"
        return Saying(name, Aspect.GRANTED, "OrphanExport", message, "operator")
    if not view.backend.ready:
        return _backend_saying(view, name, Aspect.GRANTED)
    return None


def _against_holders(view: VolumeView, name: str, chosen: str) -> Saying | None:
    for holder in _holders(view):
        message = f"held by {holder.node} (epoch {holder.epoch}, {holder.phase.value})"
        return Saying(name, Aspect.GRANTED, "HeldBy", message, f"node {holder.node}")
    if chosen:
        return Saying(name, Aspect.GRANTED, "HeldBy", f"{chosen} asked first", f"node {chosen}")
    return None


def _against_node(name: str, node: NodeView) -> Saying | None:
    waits_for = f"node {name}"
    if node.boot is None:
        message = f"node {name} has not published itself: is brickwork-node running there?"
        return Saying(name, Aspect.GRANTED, "NodeUnknown", message, waits_for)
    if isinstance(node.boot, Bad):
        message = f"nodes/{name} can't be read ({node.boot.fault}); brickwork-node on {name} puts it right"
        return Saying(name, Aspect.GRANTED, "NodeUnknown", message, waits_for)
    if node.boot in node.fenced and node.boot not in node.fences:
        message = f"boot {node.boot} of {name} was fenced, and {name} can't know: fences/{name}/{node.boot} is gone; put it again"
        return Saying(name, Aspect.GRANTED, "FenceWithdrawn", message, "operator")
    if node.is_fenced(node.boot):
        message = f"boot {node.boot} of {name} is fenced; it has to clean up and return with a new one"
        return Saying(name, Aspect.GRANTED, "NodeFenced", message, waits_for)
    if node.reviving:
        message = (
            f"boot {node.reviving[0]} was another host's that shares {name}'s name and initiator, and is fenced on somebody's word "
            f"alone: what is exported to {name} would be open to that host again, before it is stated to be powered off"
        )
        return Saying(name, Aspect.GRANTED, "FormerHost", message, "operator")
    if node.cordon is not None:
        return Saying(name, Aspect.GRANTED, "Cordoned", f"node {name} is cordoned: {node.cordon}", "operator")
    if node.twin is not None:
        message = f"{name} publishes the same identifier as {node.twin}: give it one of its own"
        return Saying(name, Aspect.GRANTED, "DuplicateInitiator", message, "operator")
    if not node.alive:
        message = f"node {name} gives no sign of life; nothing new is granted to it"
        return Saying(name, Aspect.GRANTED, "NodeSilent", message, waits_for)
    if isinstance(node.claim, Bad) or isinstance(node.status, Bad):
        return Saying(name, Aspect.GRANTED, "Unreadable", f"a key of {name} on this volume can't be read", "operator")
    return None


# --- small words ---------------------------------------------------------------------------------------------------------


def _holders(view: VolumeView) -> tuple[HolderView, ...]:
    return view.holders if isinstance(view.holders, tuple) and not isinstance(view.holders, Bad) else ()


def _lists(view: VolumeView) -> tuple[Key, Key]:
    return Key(Family.GRANT, (view.volume,)), Key(Family.VOLUME, (view.volume,))


def _wishes(view: VolumeView, holder: HolderView) -> tuple[Key, Key]:
    """The wish, and the key that may set it aside."""
    return Key(Family.DESIRED_ATTACHMENT, (holder.node, view.volume)), Key(Family.DESIRED_NODE, (holder.node,))


def _backend_saying(view: VolumeView, name: str, aspect: Aspect) -> Saying:
    record = view.record
    backend = record.backend if isinstance(record, RecordView) else ""
    if not backend and isinstance(view.spec, SpecView):
        backend = view.spec.backend
    if not view.backend.known:
        message = f"no controller serves backend {backend!r}; {view.backend.fault}"
        return Saying(name, Aspect.GRANTED if name else Aspect.ACCEPTED, "UnknownBackend", message, "user")
    message = f"backend {backend} is not ready: {view.backend.fault or 'not set up yet'}"
    return Saying(name, aspect, "BackendNotReady", message, f"backend {backend}")
