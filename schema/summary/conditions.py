"""The seven conditions of an attachment: always all of them, in one order (A53)."""

from __future__ import annotations

from schema.codec import Malformed
from schema.models import Condition, ConditionStatus, HolderPhase
from schema.summary.case import HAS_DEVICE, Case
from schema.summary.reasons import NO_CONTROLLER, complaint
from schema.summary.rules import Finding
from schema.summary.terms import State


def conditions(case: Case, finding: Finding) -> tuple[Condition, ...]:
    """Accepted, Exported, Connected, Verified, Ready, Degraded, Released."""
    return _Conditions(case, finding).all()


class _Conditions:
    def __init__(self, case: Case, finding: Finding) -> None:
        self.case = case
        self.finding = finding
        self.doubt = finding.state is State.UNCERTAIN
        self.attached = finding.state is State.ATTACHED
        self.waits_for_paths = finding.reason == "TooFewPaths"
        self.no_path = case.degraded and case.live == 0
        self.told = case.verdict.conditions if case.verdict else ()
        self.seen = case.status.conditions if case.status else ()
        self.answered = case.verdict.generation if case.verdict else case.facts.generation
        self.observed = case.status.generation if case.status else 0

    def all(self) -> tuple[Condition, ...]:
        case, status = self.case, self.case.status
        connected = bool(status and status.connected and case.claim)
        verified = bool(connected and status and status.attached)
        released = case.claim is None and case.said not in HAS_DEVICE
        return (
            self._accepted(),
            self._exported(),
            self._on_host("Connected", connected, "Connected", "NotConnected"),
            self._on_host("Verified", verified, "IdentityChecked", "NotVerified"),
            self._ready(),
            self._degraded(),
            self._on_host("Released", released, "NothingHeld", "InUse"),
            *self._not_resized(),
            *(each for each in self.seen if each.type == "HostLogsIn" and self.attached),
        )

    def _accepted(self) -> Condition:
        wish = self.case.facts.wish
        given = complaint(self.told, "Accepted")
        if wish is None:
            return self._make("Accepted", "Unknown", "NotWished", "there is no wish", 0)
        if given is not None:
            return given
        if isinstance(wish, Malformed):
            return self._make("Accepted", "False", "Malformed", str(wish), self.answered)
        if self.case.mode_differs and self.attached:
            message = f"attached as {self.case.mode}, wished for as {wish.mode}"
            return self._make("Accepted", "False", "ModeDiffers", message, self.answered)
        if self.finding.reason == NO_CONTROLLER and self.case.holder is None:
            return self._make("Accepted", "Unknown", NO_CONTROLLER, self.finding.message, self.observed)
        if self.case.set_aside:
            return self._make("Accepted", "True", "Drained", f"set aside: {self.case.set_aside}", self.answered)
        return self._make("Accepted", "True", "Accepted", "", self.answered)

    def _exported(self) -> Condition:
        holder = self.case.holder
        given = complaint(self.told, "Exported", "Granted", "Available")
        if self.case.phase is HolderPhase.READY and holder is not None:
            return self._make("Exported", "True", "Exported", f"epoch {holder.epoch}, {holder.mode}", self.answered)
        if given is not None:
            return given.model_copy(update={"type": "Exported"})
        if self.case.unreadable:
            return self._make("Exported", "Unknown", "Unreadable", self.case.unreadable, self.answered)
        reason = {HolderPhase.EXPORTING: "Exporting", HolderPhase.REVOKED: "Unmapping", None: "NotGranted"}
        return self._make("Exported", "False", reason[self.case.phase], "", self.answered)

    def _not_resized(self) -> tuple[Condition, ...]:
        """Told only while the device lags behind its volume."""
        given = complaint(self.seen, "Resized")
        return (given,) if given is not None and self.attached else ()

    def _on_host(self, kind: str, value: bool, yes: str, no: str) -> Condition:
        """What the node says of the device: its own words, where it complains."""
        given = complaint(self.seen, kind)
        if self.doubt:
            return self._make(kind, "Unknown", self.finding.reason, self.finding.message, self.observed)
        if given is not None and not value:
            return given
        told = self._make(kind, "True" if value else "False", yes if value else no, "", self.observed)
        began = self.case.since(State.ATTACHED) if self.attached else None
        return told.model_copy(update={"since": began}) if began else told

    def _ready(self) -> Condition:
        usable = self.attached and not self.no_path and self._accepted().status == "True"
        word: ConditionStatus = "Unknown" if self.doubt else "True" if usable else "False"
        newest = max(self.answered, self.observed)
        return self._make("Ready", word, self.finding.reason, self.finding.message, newest)

    def _degraded(self) -> Condition:
        if not self.attached and not self.waits_for_paths:
            word: ConditionStatus = "Unknown" if self.doubt else "False"
            return self._make("Degraded", word, "NotAttached", "", self.observed)
        if self.case.degraded:
            told = self.case.told_of_paths()
            reason, message = "NoPathLive" if self.no_path else "PathsMissing", f"{self.case.paths} paths are live"
            return told or self._make("Degraded", "True", reason, message, self.observed)
        return self._make("Degraded", "False", "AllPathsLive", "", self.observed)

    def _make(self, kind: str, word: ConditionStatus, reason: str, message: str, generation: int) -> Condition:
        since = self.finding.since or "" if reason == self.finding.reason else ""
        return Condition(
            type=kind, status=word, reason=reason, message=message, since=since, observed_generation=generation
        )
