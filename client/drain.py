"""`brickctl drain` and `brickctl undrain`: everything off a node, and what is wished for back on it.

The drain is a key: it holds whatever becomes of this client, and goes on when daemons are started again.
"""

from __future__ import annotations

from collections.abc import Iterable

import click

from client import facts, node_labels
from client.asking import agree
from client.exits import Blocked, Conflict, Failure, TimedOut
from client.known import Known, Reader
from client.names import node_argument
from client.session import Session
from client.wait import seconds
from client.watching import Watching
from schema.keys import Family, Key
from schema.models import NodeSpec
from schema.summary import AttachmentSummary, State

NEEDED = (Family.DESIRED_NODE, Family.VOLUME, Family.CLAIM, Family.ATTACHMENT)
"""Who may not see these can't say that nothing is left."""


@click.command()
@node_argument
@click.option("--label", default=node_labels.DEFAULT, show_default=True, help="Whose drain; several may be there.")
@click.option("--reason", metavar="TEXT", help="Why, for those who meet it.")
@click.option(
    "--timeout", default="10m", callback=seconds, metavar="TIME", help="As in 60s, 5m; 0 looks once.  [default: 10m]"
)
@click.option("--no-wait", is_flag=True, help="Only state it; look at the node later, or run the same again.")
@click.option("--yes", is_flag=True, help="Do not ask before more than one is detached.")
@click.pass_obj
def drain(
    session: Session, node: str, label: str, reason: str | None, timeout: float, no_wait: bool, yes: bool
) -> None:
    """Detach everything from a node, and wait until nothing is left.

    The wishes stay and are set aside: brickctl undrain brings everything back. Nothing is forced: a device in use stays until
    nobody uses it. The drain holds until it is taken back, also when this command ends early. Before more than one
    device goes, it asks; in a script --yes has to say so.

    Exit codes: 0 nothing is left; 4 nobody knows such a node; 5 the time is over; 7 the time is over, and all that is left
    waits for somebody to act, as with devices in use.
    """
    _ask(session, node_labels.known_node(session, node), node, yes)
    node_labels.put(session, "drains", node, label, reason, "draining")
    if no_wait:
        return
    watching = Watching(session.store, session.clock, _paths(session, node))
    try:
        _Drain(session, node, label).wait(watching, timeout)
    finally:
        watching.end()
    click.echo(f"node/{node} drained")


@click.command()
@node_argument
@click.option("--label", default=node_labels.DEFAULT, show_default=True, help="Which drain.")
@click.pass_obj
def undrain(session: Session, node: str, label: str) -> None:
    """Take a drain back: what it set aside is attached again.

    Drains of other labels stay, and are told; while any is there, the node stays drained.
    """
    node_labels.take(session, "drains", node, label, "undrained")


def _ask(session: Session, known: Known, node: str, yes: bool) -> None:
    """Before more than one device goes. Where the node is drained already, nothing more goes by one more drain."""
    going = facts.ending(known, node)
    if len(going) > 1:
        agree(session, f"Detach {', '.join(going)} from {node}?", yes=yes)


def _paths(session: Session, node: str) -> list[str]:
    """The keys and folders that tell of a drain's progress."""
    keyspace = session.keyspace
    single = (Family.DESIRED_NODE, Family.NODE, Family.ALIVE)
    below = (Family.CLAIM, Family.ATTACHMENT, Family.FENCE)
    paths = [keyspace.path(family, node) for family in single]
    return [*paths, *(keyspace.folder(family, node) for family in below), keyspace.folder(Family.VOLUME)]


class _Drain:
    """The wait for one drain."""

    def __init__(self, session: Session, node: str, label: str) -> None:
        self.session = session
        self.reader = Reader(session.store, session.keyspace)
        self.node = node
        self.label = label
        self.told: dict[str, State] = {}

    def wait(self, watching: Watching, timeout_s: float) -> None:
        """Until nothing is left, telling what is. Raises TimedOut or Blocked with all that remains and why."""
        deadline, is_over = self.session.clock.now() + timeout_s, timeout_s == 0
        while left := self._left():
            while rows := self._rows(left):
                self._tell(rows)
                if is_over:
                    raise self._remaining(rows, timeout_s)
                is_over = not watching.news(deadline)  # what is told then is how it stands then
                left = tuple(row.volume for row in rows)

    def _left(self) -> tuple[str, ...]:
        """By a look at everything: only that proves that nothing is left."""
        known = facts.read_node(self.reader, self.node)
        known.must_see(*NEEDED)
        left = facts.left_on(known, self.node)
        self._must_hold(self.reader.together([Key(Family.DESIRED_NODE, (self.node,))]))
        return left

    def _rows(self, volumes: Iterable[str]) -> list[AttachmentSummary]:
        """Those of the volumes that are still not detached. New ones can't come: nothing is granted to a drained node."""
        around = [key for volume in volumes for key in facts.keys_around(self.node, volume)]
        known = self.reader.together(around)
        for family in (Family.FENCE, Family.FENCED):
            self.reader.more(known, family, self.node)
        for family in (Family.BACKEND, Family.LEADER):
            self.reader.more(known, family)
        self._must_hold(known)
        return [facts.attachment(known, self.node, volume) for volume in facts.left_on(known, self.node)]

    def _must_hold(self, known: Known) -> None:
        spec = known.value(Key(Family.DESIRED_NODE, (self.node,)), NodeSpec)
        if not isinstance(spec, NodeSpec) or self.label not in spec.drains:
            raise Conflict(f"node/{self.node}: the drain {self.label} was taken back meanwhile (brickctl get nodes)")

    def _tell(self, rows: list[AttachmentSummary]) -> None:
        """For whoever looks on: how many are left, and which of them wait for somebody to act.

        What failed on the way up has nothing to do with the way down: it is told at the end, where it is still there then.
        """
        if len(rows) != len(self.told):
            click.echo(f"node/{self.node}: {_count(rows)} left", err=True)
        for row in rows:
            if row.state is State.BLOCKED and self.told.get(row.volume) != row.state:
                click.echo(f"attachment/{self.node}/{row.volume}: {row.state} ({row.message})", err=True)
        self.told = {row.volume: row.state for row in rows}

    def _remaining(self, rows: list[AttachmentSummary], timeout_s: float) -> Failure:
        again = f"{self.node}" if self.label == node_labels.DEFAULT else f"{self.node} --label {self.label}"
        lines = [f"after {timeout_s:g} s: {_count(rows)} left on node {self.node}; nothing is forced"]
        lines += [
            f"  attachment/{row.node}/{row.volume} is {row.state}, waits for {row.waits_for}: {row.message}"
            for row in rows
        ]
        lines.append(f"The drain holds: wait on (brickctl drain {again}), or take it back (brickctl undrain {again})")
        stuck = all(row.state in (State.BLOCKED, State.FAILED) for row in rows)
        return (Blocked if stuck else TimedOut)("\n".join(lines))


def _count(rows: list[AttachmentSummary]) -> str:
    return f"{len(rows)} attachment{'' if len(rows) == 1 else 's'}"
