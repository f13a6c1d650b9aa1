"""One attachment: state, conditions, and who is waited for."""

from __future__ import annotations

from schema.models import AttachmentPhase
from schema.summary.case import Case
from schema.summary.conditions import conditions
from schema.summary.rules import find
from schema.summary.terms import AttachmentFacts, AttachmentSummary, State


def summarise_attachment(facts: AttachmentFacts) -> AttachmentSummary:
    """What to tell of an attachment. Total: it has an answer to everything that can be in the keys."""
    case = Case(facts)
    finding = find(case)
    status, holder = case.status, case.holder
    with_device = status is not None and status.phase is AttachmentPhase.ATTACHED
    measured = with_device and finding.state is not State.UNCERTAIN
    epochs = [known.epoch for known in (holder, case.claim, status) if known is not None]
    return AttachmentSummary(
        node=facts.node,
        volume=facts.volume,
        state=finding.state,
        reason=finding.reason,
        message=finding.message,
        waits_for=finding.waits_for,
        set_aside=case.set_aside or None,
        since=finding.since,
        next_try=finding.next_try,
        path=status.path if status and with_device else None,
        device=status.device if status and measured else None,
        identity=status.identity if status and with_device else None,
        paths=case.paths if measured else None,
        size_bytes=status.size_bytes if status and with_device else None,
        mode=case.mode,
        protocol=status.protocol if status else None,
        epoch=epochs[0] if epochs else None,
        generation=facts.generation,
        observed_generation=max(status.generation if status else 0, case.verdict.generation if case.verdict else 0),
        conditions=conditions(case, finding),
    )
