"""`brickctl explain`: what happens next, who waits for whom, since when, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from client import facts, planning
from client.known import Known, Reader
from client.names import Ref, checked, not_found, pair
from client.output import age, one_line
from client.remedies import Place, remedy
from client.session import Session
from reconciler.core.steps import Plan
from schema.codec import NEWER
from schema.keys import Family, Key
from schema.models import Alive, Claim, Holder, NodeRecord, VolumeStatus
from schema.summary import AttachmentSummary, State, VolumeState, VolumeSummary, nobody_leads

SETTLED = (State.ATTACHED, State.DETACHED, VolumeState.AVAILABLE, VolumeState.RETAINED, VolumeState.ABSENT)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="[NODE] VOLUME")
@click.pass_obj
def explain(session: Session, names: tuple[str, ...]) -> None:
    """Say what happens next, who waits for whom, and what to do.

    \b
    brickctl explain data
    brickctl explain web-1 data

    Runs the daemons' own planners on the keys as they are now. Changes nothing.
    """
    node, volume = _names(names)
    reader = Reader(session.store, session.keyspace)
    known, nodes = planning.read_volume(reader, volume)
    told = facts.volume(known, volume)
    if (told.state is VolumeState.ABSENT and not nodes) or (node and node not in nodes):
        raise _unknown(reader, node, volume)
    if session.is_full():
        _tell_full()
    explaining = _Explaining(session, known, volume, nodes)
    explaining.volume(told)
    for each in _concerned(node, nodes, told.holders):
        click.echo()
        explaining.attachment(each)


def _names(given: tuple[str, ...]) -> tuple[str, str]:
    """All spellings: `data`, `volume/data`, `volume data`, `web-1 data`, `web-1/data`, `attachment/web-1/data` and so on."""
    parts = "/".join(given).split("/")
    if len(parts) == 2 and parts[0] in ("volume", "volumes", "vol"):
        del parts[0]
    return pair(given, "explain") if len(parts) > 1 else ("", checked("volume", parts[0]))


def _concerned(node: str, nodes: list[str], holders: tuple[str, ...]) -> list[str]:
    """The node that was asked for, and whoever it may wait for; or all."""
    return [each for each in nodes if not node or each == node or each in holders]


def _unknown(reader: Reader, node: str, volume: str) -> Exception:
    known = reader.families(*facts.PAIR_FAMILIES, Family.DESIRED_VOLUME, Family.VOLUME)
    if node:
        return not_found(Ref("attachment", (node, volume)), ("/".join(pair) for pair in facts.pairs(known)))
    volumes = {key.names[0] for key in known.keys(Family.DESIRED_VOLUME, Family.VOLUME)}
    return not_found(Ref("volume", (volume,)), volumes | {pair[1] for pair in facts.pairs(known)})


class _Explaining:
    """One volume and its attachments, in words."""

    def __init__(self, session: Session, known: Known, volume: str, nodes: list[str]) -> None:
        self.known = known
        self.name = volume
        self.now = session.clock.wall()
        self.prefix = session.settings.prefix
        self.backend = facts.backend_of(known, volume)
        hidden = known.denied.intersection(planning.PRIVATE)
        self.hidden = ", ".join(sorted(family.path for family in hidden))
        self.plan = Plan(None) if hidden else planning.controller_plan(known, volume, nodes)

    def volume(self, told: VolumeSummary) -> None:
        size = f", {told.size_gib} GiB on {told.backend}" if told.size_gib is not None else ""
        click.echo(f"volume {self.name}: {told.state}{_reason(told)}{size}")
        if told.holders:
            _line("held by", ", ".join(told.holders))
        self._why(told)
        if not told.waits_for and not facts.is_led(self.known, self.name):
            nobody = nobody_leads(self.backend, None)
            _line("note", f"{nobody} Until then nothing is done for this volume, and no detach ends.")
        step = self.plan.step
        if self.hidden:
            _line("next", f"not known: your user may not read {self.hidden}; what follows is what the daemons told")
        elif step is not None:
            _line("next", f"{self._controller()}: {step.why} ({step.do.value})")
        elif told.state in SETTLED:
            _line("next", "nothing: settled")
        else:
            _line("next", "nothing before that changes")
        self._advise("", told)

    def attachment(self, node: str) -> None:
        told = facts.attachment(self.known, node, self.name)
        click.echo(f"attachment {node}/{self.name}: {told.state}{_reason(told)}")
        if told.path:
            _line("path", told.path)
        self._why(told)
        for text in self._next(node, told):
            _line("next", text)
        self._advise(node, told)

    def _why(self, told: VolumeSummary | AttachmentSummary) -> None:
        if isinstance(told, AttachmentSummary) and told.set_aside and told.reason != "Drained":
            _line("set aside", told.set_aside)
        if told.waits_for or told.state not in SETTLED:
            _line("why", told.message)
            when = f", since {age(told.since, self.now)}" if told.since else ""
            again = f", next try {age(told.next_try, self.now)}" if told.next_try else ""
            _line("waits for", f"{told.waits_for}{when}{again}")

    def _next(self, node: str, told: AttachmentSummary) -> Iterator[str]:
        """Whose turn it is, as the planners decide it."""
        step = self.plan.step
        if step is not None and step.node == node:
            yield f"{self._controller()}: {step.why} ({step.do.value})"
        if Family.CONNECTION in self.known.denied:
            return
        own = planning.node_step(self.known, node, self.name)
        if own is not None:
            away = "" if self.known.see(Key(Family.ALIVE, (node,))) else ", once it is back"
            yield f"node {node}{away}: {own.why} ({own.do.value})"
        elif (step is None or step.node != node) and told.state in SETTLED:
            yield "nothing: settled"
        elif step is None or step.node != node:
            yield f"nothing before {told.waits_for or 'the controller'} acts"

    def _advise(self, node: str, told: VolumeSummary | AttachmentSummary) -> None:
        """What to do about it; and about what the controller would say and has not yet."""
        unsaid = [each for each in self.plan.sayings if each.node == node and each.reason != told.reason]
        for saying in unsaid:
            _line("note", f"{saying.message} ({saying.reason})")
        reasons = dict.fromkeys([told.reason, *(each.reason for each in unsaid)])
        if told.reason == "HeldBy" and self.known.see(Key(Family.NODE, (node,))) is None and node:
            _line("note", f"{node} has not published itself, and gets no volume before it has (NodeUnknown)")
            reasons["NodeUnknown"] = None
        if rival := self._rival(node):
            _line("note", f"another host takes itself for {node}: {rival} (DuplicateNode)")
            reasons["DuplicateNode"] = None
        other = next((holder.node for holder in self._holders() if holder.node != node), "")
        place = Place(
            self.prefix,
            node,
            self.name,
            self.backend,
            self._boot(node),
            other,
            str(getattr(told, "size_gib", None) or ""),
        )
        closer = {} if node else {"Malformed": "MalformedVolume"}
        leaving = other and self.known.see(Key(Family.DESIRED_ATTACHMENT, (other, self.name))) is None
        if leaving:
            closer["HeldBy"] = "HeldByLeaving"
        if not planning.cuts_access(self.known, self.backend):
            closer["NodeSilent"] = "NodeSilentUncut"
        if told.state is VolumeState.RETAINED:
            closer["Retained"] = "RetainedData"
        if told.state is State.BLOCKED:
            closer["TooFewPaths"] = "TooFewPathsEver"
        if isinstance(told, AttachmentSummary) and told.set_aside:
            closer["DeviceBusy"] = "DeviceBusyDrained"
        if any(NEWER in text for text in (told.message, *(each.message for each in unsaid))):
            closer |= dict.fromkeys(("Malformed", "Unreadable"), "NewerSchema")
        fitting = [closer.get(each, each) for each in reasons]
        advice = [line for reason in fitting for line in remedy(reason, place)]
        for index, text in enumerate(advice):
            _line("remedy" if index == 0 else "", text)

    def _controller(self) -> str:
        lead = planning.leader(self.known, self.backend)
        return f"controller {lead.identity} on {lead.host}" if lead else "controller (none leads at present)"

    def _boot(self, node: str) -> str:
        """The boot that a fence would have to name: the one that may still hold the device."""
        claim = self.known.value(Key(Family.CLAIM, (node, self.name)), Claim)
        held = next((holder.boot for holder in self._holders() if holder.node == node), "")
        record = self.known.value(Key(Family.NODE, (node,)), NodeRecord)
        if isinstance(claim, Claim):
            return claim.boot
        return held or (record.boot if isinstance(record, NodeRecord) else "")

    def _rival(self, node: str) -> str:
        alive = self.known.value(Key(Family.ALIVE, (node,)), Alive) if node else None
        return alive.rival if isinstance(alive, Alive) else ""

    def _holders(self) -> tuple[Holder, ...]:
        status = self.known.value(Key(Family.VOLUME, (self.name,)), VolumeStatus)
        return status.holders if isinstance(status, VolumeStatus) else ()


def _tell_full() -> None:
    """No key can tell of it: not even the daemons can write."""
    click.echo("etcd: full (NoSpace)")
    _line(
        "why",
        "it takes no writes, so what follows may be behind: daemons can't say what they did, and begin nothing new",
    )
    for index, text in enumerate(remedy("NoSpace", Place(""))):
        _line("" if index else "remedy", text)
    click.echo()


def _reason(told: VolumeSummary | AttachmentSummary) -> str:
    return f" ({told.reason})" if told.reason != told.state else ""


def _line(head: str, text: str) -> None:
    indent = len(text) - len(text.lstrip())
    click.echo(f"  {f'{head}:' if head else '':<11} {' ' * indent}{one_line(text)}")
