"""The facts of one attachment, asked the way its rules ask."""

from __future__ import annotations

from schema.codec import Malformed
from schema.models import (
    Alive,
    AttachmentPhase,
    AttachmentSpec,
    AttachmentStatus,
    BackendStatus,
    Claim,
    Condition,
    HolderPhase,
    NodeRecord,
    NodeSpec,
    labelled,
)
from schema.summary.reasons import MEANING, complaint, verdict_on
from schema.summary.terms import AttachmentFacts, State

HAS_DEVICE = (AttachmentPhase.ATTACHING, AttachmentPhase.ATTACHED)
"""What a node says while there may be a device."""


class Case:
    """The facts, asked the way the rules ask."""

    def __init__(self, facts: AttachmentFacts) -> None:
        self.facts = facts
        drains = facts.intent.drains if isinstance(facts.intent, NodeSpec) else {}
        self.drained = bool(drains)
        self.wished = facts.wish is not None and not drains
        self.set_aside = f"{facts.node} is drained ({labelled(drains)})" if drains and facts.wish is not None else ""
        self.holders = facts.holders if isinstance(facts.holders, tuple) else ()
        self.holder = next((holder for holder in self.holders if holder.node == facts.node), None)
        self.phase = self.holder.phase if self.holder else None
        self.claim = facts.claim if isinstance(facts.claim, Claim) else None
        self.status = facts.status if isinstance(facts.status, AttachmentStatus) else None
        self.said = self.status.phase if self.status else None
        self.boot = facts.record.boot if isinstance(facts.record, NodeRecord) else None
        self.silent = facts.alive is None
        self.living = facts.alive.boot if isinstance(facts.alive, Alive) else self.boot
        """The boot of the daemon that gives signs of life: it may not have looked at its host, and published itself, yet."""
        self.verdict = verdict_on(facts.verdict, facts.generation)
        self.verdict_says = complaint(self.verdict.conditions) if self.verdict else None
        meaning = MEANING.get(self.verdict_says.reason) if self.verdict_says else None
        self.means = meaning.state if meaning else ""
        self.last_word: Condition | None = None
        if not facts.led and self.means != "Uncertain":  # a doubt stays until somebody takes it back
            self.last_word, self.verdict_says, self.verdict, self.means = self.verdict_says, None, None, ""
            if self.last_word is None and isinstance(facts.backend, BackendStatus) and not facts.backend.ready:
                why = facts.backend  # of a controller that stands aside, perhaps
                self.last_word = Condition(
                    type="Ready", status="False", reason=why.reason, message=why.message, since=""
                )
        self.mine = self._claim_is_current()
        self.says_this_epoch = bool(self.holder and self.status and self.status.epoch == self.holder.epoch)
        self.unreadable = self._unreadable()

    def _claim_is_current(self) -> bool:
        """The claim is of the grant as it stands."""
        claim, holder = self.claim, self.holder
        granted = holder is not None and holder.phase is HolderPhase.READY
        return bool(claim and holder and granted and (claim.epoch, claim.boot) == (holder.epoch, holder.boot))

    @property
    def fenced(self) -> bool:
        """The boot that claimed it is stated to be over."""
        return self.claim is not None and self.claim.boot in self.facts.fenced

    @property
    def of_another_host(self) -> bool:
        """Two hosts bore the name, and the one that uses the volume is not the one that is the node now."""
        record, claim = self.facts.record, self.claim
        now = record.host_identity if isinstance(record, NodeRecord) else None
        return bool(claim and now and claim.host_identity and claim.host_identity != now)

    @property
    def is_over(self) -> bool:
        """What the node said last is not what is so: it is silent, or the boot that said so is over."""
        return self.is_gone or (self.status is not None and self.status.boot != self.living)

    @property
    def is_gone(self) -> bool:
        return self.silent or self.fenced

    @property
    def is_given_back(self) -> bool:
        """The other node that the volume is waited for has done its part."""
        others = [holder.phase for holder in self.holders if holder.node != self.facts.node]
        return bool(others) and all(phase is HolderPhase.REVOKED for phase in others)

    def _unreadable(self) -> str:
        facts, where = self.facts, f"{self.facts.node}/{self.facts.volume}"
        for name, value in (
            (f"volumes/{facts.volume}", facts.holders),
            (f"connections/{where}", facts.connection),
            (f"claims/{where}", facts.claim),
            (f"attachments/{where}", facts.status),
        ):
            if isinstance(value, Malformed):
                return f"{name} can't be read: {value}"
        return ""

    @property
    def device_says(self) -> Condition | None:
        """What the node complains of on its way, up or down, while there may be a device."""
        if self.status is None or self.said not in HAS_DEVICE:
            return None
        towards = ("Connected", "Verified") if self.wished and self.mine else ("Released",)
        return complaint(self.status.conditions, *towards)

    def complains_of(self, reason: str, *, of_any_boot: bool = False) -> Condition | None:
        over = self.is_gone if of_any_boot else self.is_over
        if self.status is None or self.said not in HAS_DEVICE or over:
            return None
        found = (each for each in self.status.conditions if each.reason == reason and each.status != "True")
        return next(found, None)

    @property
    def busy(self) -> bool:
        """The node wants to detach and can't. While the attachment is wanted and granted, a user of the device is welcome."""
        return self.complains_of("DeviceBusy") is not None and not (self.wished and self.mine)

    @property
    def paused(self) -> bool:
        """Its wish is gone along with many others, and the node waits for a confirmation."""
        return not self.wished and not self.drained and self.complains_of("DetachesPaused") is not None

    @property
    def doubted(self) -> bool:
        """The node, started anew, has not looked at the device yet."""
        verified = complaint(self.status.conditions, "Verified") if self.status else None
        return verified is not None and verified.status == "Unknown" and self.claim is not None

    @property
    def gave_up(self) -> bool:
        """The node says it can't connect, and names no next try."""
        failed = complaint(self.status.conditions, "Connected") if self.status else None
        waits = failed is None or failed.status == "Unknown" or failed.reason == "WaitingForController"
        return not waits and self.status is not None and not self.status.next_try

    @property
    def export_gave_up(self) -> bool:
        """The driver refused, and the controller names no next try."""
        says, exporting = self.verdict_says, self.phase is HolderPhase.EXPORTING
        failed = exporting and says is not None and says.reason in ("ExportFailed", "ConnectExportFailed")
        return failed and self.verdict is not None and not self.verdict.next_try

    @property
    def unmapping(self) -> bool:
        """The controller takes the export back; nobody is asked any more."""
        return self.phase is HolderPhase.REVOKED or (self.phase is HolderPhase.EXPORTING and not self.wished)

    @property
    def backend_fault(self) -> str:
        backend, led = self.facts.backend, self.facts.led
        unready = led and isinstance(backend, BackendStatus) and not backend.ready
        return (backend.message or backend.reason) if unready and isinstance(backend, BackendStatus) else ""

    @property
    def mode(self) -> str | None:
        if self.holder:
            return self.holder.mode
        return self.facts.wish.mode if isinstance(self.facts.wish, AttachmentSpec) else None

    def since(self, state: State) -> str | None:
        """When this state began, where the node told of its phase."""
        same = self.status is not None and self.said is not None and self.said.value == state.value
        return (self.status.since or None) if self.status is not None and same else None

    @property
    def mode_differs(self) -> bool:
        """It was granted in another mode than is wished for now; a mode is not changed under a device in use."""
        wish = self.facts.wish
        return isinstance(wish, AttachmentSpec) and self.holder is not None and wish.mode != self.holder.mode

    @property
    def paths(self) -> str | None:
        status = self.status
        known = status is not None and status.paths_live is not None and status.paths_total is not None
        return f"{status.paths_live}/{status.paths_total}" if status and known else None

    @property
    def attached(self) -> bool:
        """Wanted, granted, and the node says that the device is there and verified."""
        return self.wished and self.mine and self.said is AttachmentPhase.ATTACHED

    @property
    def live(self) -> int | None:
        return self.status.paths_live if self.status else None

    @property
    def total(self) -> int:
        return (self.status.paths_total or 0) if self.status else 0

    @property
    def degraded(self) -> bool:
        return self.live is not None and self.live < self.total

    @property
    def min_paths(self) -> int:
        return self.facts.wish.min_paths if isinstance(self.facts.wish, AttachmentSpec) else 1

    @property
    def too_few_paths(self) -> bool:
        """Attached, and there were never as many live paths as the wish asks for. Fewer than that later only degrade it."""
        reached = self.status is not None and self.status.min_paths_reached
        return self.attached and not reached and self.live is not None and self.live < self.min_paths

    def told_of_paths(self, reason: str = "") -> Condition | None:
        """What the node says about missing paths; under another reason, where the row knows better."""
        told = next((each for each in self.status.conditions if each.type == "Degraded"), None) if self.status else None
        return told.model_copy(update={"reason": reason, "message": ""}) if told and reason else told

    def fill(self, template: str) -> str:
        """A template with this attachment's names."""
        facts, other = self.facts, next((each.node for each in self.holders if each.node != self.facts.node), "")
        return template.format(
            node=facts.node,
            volume=facts.volume,
            backend=facts.backend_name or "of the volume",
            other=other or "that asked first",
            unreadable=self.unreadable,
            fault=self.backend_fault,
            set_aside=self.set_aside,
            wish=facts.wish if isinstance(facts.wish, Malformed) else "",
            said=self.said or "nothing",
            mode=self.mode,
            live=self.live,
            total=self.total,
            min_paths=self.min_paths,
            epoch=self.holder.epoch if self.holder else self.claim.epoch if self.claim else "",
            boot=self.claim.boot if self.claim else self.holder.boot if self.holder else "",
        )
