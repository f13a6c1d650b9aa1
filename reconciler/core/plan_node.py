"""The node's half of the protocol: pure functions from what is known to the next step.

`plan_node` is for one attachment, `plan_boot` for the node as a whole. What must never happen is kept by what each rule asks for:
* a claim comes before the connect, and outlives the device (S2);
* a device goes only for a positive reason; a missing key is none (R9);
* what a connect was begun for is released only after a disconnect, even where no device is seen (R14);
* `Released(e)` is said only without a device, and is final: e is never claimed again (R3);
* nothing is said before this boot is published, and nothing of a fenced boot is flushed (R4, R7);
* nothing is done as a node that another host is, and nobody speaks for another host's boot before it is over (R17).
"""

from __future__ import annotations

from reconciler.core.steps import Do, Step
from reconciler.core.views import AttachmentView, Bad, ClaimView, ConnectionView, OnHost, StatusView
from schema.keys import Family, Key
from schema.models import AttachmentPhase, HolderPhase


def plan_node(view: AttachmentView) -> Step | None:
    """The next step for one attachment, or None: settled, or waiting (`waiting` says for whom)."""
    if view.note_fault:
        return None
    rules = _Rules(view)
    if view.device is OnHost.UNKNOWN:
        return Step(Do.INSPECT, "what is on the host is not known yet: look")
    if view.foreign:
        return rules.drop_fenced() if view.fenced else None
    if view.unreadable:
        return rules.despite_unreadable()
    if view.fenced:
        return rules.clean_fenced()
    if not view.published:
        return rules.clean_unexplained()
    if view.device is OnHost.PRESENT:
        return rules.with_device()
    return rules.without_device()


def waiting(view: AttachmentView) -> str:
    """In a sentence, why `plan_node` has no step where the attachment is not settled. Empty: it is."""
    if view.note_fault:
        return f"its note on the node's disk can't be read: {view.note_fault}"
    for name, key in (("connections", view.connection), ("claims", view.claim), ("attachments", view.status)):
        if isinstance(key, Bad):
            return f"{name}/{view.node}/{view.volume} can't be read: {key.fault}"
    if isinstance(view.claim, ClaimView) and Family.CLAIM in view.theirs:
        return f"claimed by another host, in boot {view.claim.boot}: only that host gives it back, or a fence --powered-off"
    if view.wished and view.connection is None:
        if view.claim is not None:
            return "the connection key is missing while this node uses the volume; the controller puts it back"
        return "the controller has not exported it to this node yet"
    return ""


class _Rules:
    """The rules for a view in which everything can be read."""

    def __init__(self, view: AttachmentView) -> None:
        self.view = view
        self.wished = view.wished
        set_aside = f"set aside while the node is drained ({view.drain})"
        self.unwished = set_aside if view.wish else "no longer wished for here"
        self.connection = view.connection if isinstance(view.connection, ConnectionView) else None
        self.claim = view.claim if isinstance(view.claim, ClaimView) else None
        self.status = view.status if isinstance(view.status, StatusView) else None

    @property
    def granted(self) -> ConnectionView | None:
        """The connection, when it grants this boot."""
        connection = self.connection
        if connection and connection.phase is HolderPhase.READY and connection.boot == self.view.boot:
            return connection
        return None

    @property
    def released(self) -> int | None:
        """The epoch that this node said it is done with."""
        return self.status.epoch if self.status and self.status.phase is AttachmentPhase.RELEASED else None

    # --- a device is on the host

    def with_device(self) -> Step | None:
        reason = self._reason_to_detach()
        if reason:
            return self._disconnect(reason)
        granted = self.granted
        if granted is None:
            return None
        if self.claim is None:
            return self._claim(granted.epoch, "the claim is missing while the device is here: put it back")
        if self.status != (AttachmentPhase.ATTACHED, granted.epoch):
            return self._report(granted.epoch)
        if self.view.paths_to_add:
            return self._add_paths(granted.epoch)
        return self._grow(granted)

    def _grow(self, granted: ConnectionView) -> Step | None:
        """N12: the volume grew while it is attached; nobody tells the device but we."""
        known, wanted = self.view.size_gib, granted.size_gib
        if known is None or wanted is None or wanted <= known:
            return None
        confirms = (*self._facts, self._fence, *self._wishes)
        why = f"the volume grew from {known} to {wanted} GiB: tell the device"
        return Step(Do.EXTEND_DEVICE, why, epoch=granted.epoch, confirms=confirms, commits=self._facts)

    def _reason_to_detach(self) -> str:
        """R9: each is a fact that somebody stated. Empty: there is none."""
        connection, claim = self.connection, self.claim
        if not self.wished and (self.view.drain or not self.view.paused):
            return f"it is {self.unwished}"
        if claim and claim.boot != self.view.boot:
            return f"it belongs to boot {claim.boot}, which is over"
        if connection is None:
            return ""
        if self.granted is None:
            return "the grant was revoked or belongs to another boot"
        if claim and claim.epoch != connection.epoch:
            return f"the grant is of epoch {connection.epoch}, the device of {claim.epoch}"
        if claim is None and self.view.noted and self.view.noted.epoch != connection.epoch:
            return f"the grant is of epoch {connection.epoch}, the device of {self.view.noted.epoch}"
        if claim is None and self.released == connection.epoch:
            return f"epoch {connection.epoch} was released"
        return ""

    # --- no device is on the host

    def without_device(self) -> Step | None:
        granted, claim = self.granted, self.claim
        if claim:
            if self.wished and granted and (claim.epoch, claim.boot) == (granted.epoch, self.view.boot):
                return self._connect(granted.epoch)
            return self._release_claim(claim)
        if self.wished and granted and self.released != granted.epoch:
            return self._claim(granted.epoch, "granted: claim it")
        return self._decline() or self._withdraw()

    def _release_claim(self, claim: ClaimView) -> Step | None:
        """N5 with a claim: it is given back for a positive reason only."""
        connection = self.connection
        if Family.CLAIM in self.view.theirs:
            return None
        if not self.wished:
            return self._release(claim.epoch, f"{self.unwished}, and no device is left")
        if claim.boot != self.view.boot:
            return self._release(claim.epoch, f"boot {claim.boot} is over")
        if connection and (self.granted is None or connection.epoch != claim.epoch):
            return self._release(claim.epoch, "the grant is no longer the one that was claimed")
        return None

    def _decline(self) -> Step | None:
        """N5 without a claim: an epoch that won't be used is given back, else the controller would wait for ever (R1)."""
        connection = self.connection
        if not connection or connection.phase is not HolderPhase.READY or self.released == connection.epoch:
            return None
        if Family.CONNECTION in self.view.theirs:
            return None
        if not self.wished:
            return self._release(connection.epoch, f"{self.unwished}; it was never claimed")
        if connection.boot != self.view.boot:
            return self._release(connection.epoch, f"granted to boot {connection.boot}, which is over")
        return None

    def _withdraw(self) -> Step | None:
        """N6: the last trace goes when the controller has forgotten the grant, and nobody wishes for another."""
        if self.connection is not None or self.status is None or Family.ATTACHMENT in self.view.theirs:
            return None
        if self.released is None:
            return self._release(self.status.epoch, "nothing of it is left here")
        if self.wished:
            return None
        keys = (self._key(Family.ATTACHMENT), self._key(Family.CONNECTION), self._key(Family.CLAIM), *self._wishes)
        return Step(Do.WITHDRAW, "detached: nothing is left", epoch=self.status.epoch, commits=keys)

    # --- special times

    def despite_unreadable(self) -> Step | None:
        """Looking at the host, and removing what nothing explains, need no key of ours; all else waits (F-S4). A claim that
        can't be read explains nothing: the note is there from before the connect, and is of the boot that connected."""
        if self.view.fenced:
            return self.drop_fenced()
        return None if self.view.published else self.clean_unexplained()

    def drop_fenced(self) -> Step | None:
        """N10: without flushing and without asking. Whoever fenced us may have given the volume away."""
        if self.view.device is OnHost.PRESENT or self.view.noted:
            return Step(Do.DISCONNECT, f"boot {self.view.boot} is fenced: drop it unflushed", flush=False)
        return None

    def clean_fenced(self) -> Step | None:
        """N10: drop, then say so."""
        if step := self.drop_fenced():
            return step
        if self.claim:
            theirs = Family.CLAIM in self.view.theirs
            return None if theirs else self._release(self.claim.epoch, "this boot is fenced", self._fence)
        connection = self.connection
        if connection and connection.phase is HolderPhase.READY and self.released != connection.epoch:
            theirs = Family.CONNECTION in self.view.theirs
            return None if theirs else self._release(connection.epoch, "this boot is fenced", self._fence)
        return None

    @property
    def explained(self) -> bool:
        """R5: a claim or a grant of this boot speaks of the device, or, should they be lost, the node's own note."""
        told = (self.claim, self.view.noted)
        return self.granted is not None or any(each is not None and each.boot == self.view.boot for each in told)

    def clean_unexplained(self) -> Step | None:
        """R5: before a new boot is published, no device may be left that only an older boot could explain."""
        if self.view.device is OnHost.PRESENT and not self.explained:
            return self._disconnect("a device of an earlier boot: remove it before this boot is published")
        return None

    # --- steps

    def _key(self, family: Family) -> Key:
        return Key(family, (self.view.node, self.view.volume))

    @property
    def _wishes(self) -> tuple[Key, Key]:
        """The wish, and the key that may set it aside."""
        return self._key(Family.DESIRED_ATTACHMENT), Key(Family.DESIRED_NODE, (self.view.node,))

    @property
    def _fence(self) -> Key:
        return Key(Family.FENCE, (self.view.node, self.view.boot))

    @property
    def _facts(self) -> tuple[Key, Key, Key]:
        return self._key(Family.CONNECTION), self._key(Family.CLAIM), self._key(Family.ATTACHMENT)

    def _claim(self, epoch: int, why: str) -> Step:
        return Step(Do.CLAIM, why, epoch=epoch, commits=(*self._facts, self._fence, *self._wishes))

    def _connect(self, epoch: int) -> Step:
        confirms = (*self._facts, self._fence, *self._wishes)
        return Step(Do.CONNECT, "claimed: connect it", epoch=epoch, confirms=confirms, commits=self._facts)

    def _add_paths(self, epoch: int) -> Step:
        """N11. Only under a claim and a grant of this boot, confirmed like a connect: it logs in as that does."""
        confirms = (*self._facts, self._fence, *self._wishes)
        why = "paths are missing, and their portals answer: add them"
        return Step(Do.ADD_PATHS, why, epoch=epoch, confirms=confirms, commits=(self._key(Family.ATTACHMENT),))

    def _report(self, epoch: int) -> Step:
        return Step(Do.REPORT, "connected and verified: say so", epoch=epoch, commits=self._facts)

    def _disconnect(self, why: str) -> Step:
        """With a flush, so not in a boot that is fenced, whatever was heard of first."""
        epoch = self.claim.epoch if self.claim else 0
        return Step(Do.DISCONNECT, why, epoch=epoch, confirms=(*self._facts, *self._wishes, self._fence))

    def _release(self, epoch: int, why: str, *also: Key) -> Step:
        """R14: a connect that was broken off may have left a session, whose device comes by itself. The note is there from
        before the connect until a disconnect ran to its end."""
        if self.view.noted:
            return self._disconnect(f"{why}; a connect was begun: prove that nothing of it is left")
        commits = (*self._facts, *self._wishes, *self.view.fences, *also)
        return Step(Do.RELEASE, why, epoch=epoch, commits=commits)


def leaves_trace(view: AttachmentView) -> bool:
    """Whether something is, or may be, on the host that this boot does not explain. Nothing explains what a fenced boot has.

    What nobody can find out (its note can't be read) is no trace: it holds up its own volume, neither claimed nor released.
    """
    if view.note_fault:
        return False
    if view.device is OnHost.PRESENT:
        return view.fenced or not _Rules(view).explained
    return view.device is OnHost.UNKNOWN


def plan_boot(*, published: bool, fenced: bool, traces: int, claims: int, foreign: bool = False) -> Step | None:
    """The node's own next step.

    Args:
        foreign: another host is the node, and no person's word moves it here.
        published: `nodes/N` says this boot and the present connector properties.
        fenced: this boot has an operator's statement against it.
        traces: attachments of which `leaves_trace`.
        claims: attachments of a fenced boot whose claim or unanswered grant is still there.
    """
    if foreign:
        return None
    if fenced:
        if traces or claims:
            return None
        return Step(Do.MINT_BOOT, "the fenced boot is cleaned: begin a new one")
    if published or traces:
        return None
    return Step(Do.PUBLISH, "nothing of an earlier boot is left: publish this one")
