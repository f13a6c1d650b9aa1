"""`brickctl wait`: until an object is as asked for. Watches the keys concerned; between two changes nothing is asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import click

from client import facts, get, shapes
from client.exits import Blocked, Failure, Misuse, TimedOut, Unmet
from client.known import Reader
from client.names import Ref, not_found, refs
from client.session import Session
from client.watching import Watching, paths
from schema.summary import State, VolumeState

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
GONE = ("Absent", "Detached")


def seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """`60s`, `5m`, `1h` as seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value)
    if match is None:
        raise click.BadParameter(f"{value!r}: write for instance 60s, 5m or 1h", ctx, param)
    return float(match[1]) * _UNITS[match[2]]


@click.command()
@click.argument("objects", nargs=-1, required=True, metavar="KIND NAME...")
@click.option(
    "--for",
    "goal",
    required=True,
    metavar="GOAL",
    help="attached, detached, available, deleted, or condition=TYPE[=STATUS].",
)
@click.option(
    "--timeout", default="60s", callback=seconds, metavar="TIME", help="As in 60s, 5m; 0 looks once.  [default: 60s]"
)
@click.pass_obj
def wait(session: Session, objects: tuple[str, ...], goal: str, timeout: float) -> None:
    """Wait until an object is as asked for.

    \b
    brickctl wait attachment web-1/data --for=attached
    brickctl wait attachment web-1/data --for=detached --timeout 10m
    brickctl wait volume data --for=available
    brickctl wait attachment web-1/data --for=condition=Degraded=False

    Exit codes: 0 it is so; 1 it is not, and --timeout 0 asked to look only once; 4 there is no such object; 5 the time is
    over; 7 the time is over, and it is Blocked, Failed or refused: it will not go on by itself. A volume counts as deleted too when
    its data is retained.
    """
    meant = refs(objects, ("volume", "attachment", "node"))
    met = Goal.parse(goal, meant)
    reader = Reader(session.store, session.keyspace)
    watching = Watching(session.store, session.clock, [path for each in meant for path in paths(session, reader, each)])
    deadline = session.clock.now() + timeout
    waiting, is_over = meant, timeout == 0
    seen: dict[Ref, str] = {}
    try:
        while True:
            stands = {each: look(reader, each) for each in waiting}
            _tell_changes(session, seen, {each: stand for each, stand in stands.items() if not met.holds(stand)})
            for each, stand in stands.items():
                if met.holds(stand):
                    click.echo(f"{each} {goal}")
                elif met.needs_object and stand.state in GONE:
                    raise not_found(each, _present(reader, each))
            waiting = [each for each, stand in stands.items() if not met.holds(stand)]
            if not waiting:
                return
            if is_over:
                raise _unmet([(each, stands[each]) for each in waiting], goal, timeout)
            is_over = not watching.news(deadline)  # what is told then is how it stands then
    finally:
        watching.end()


def _present(reader: Reader, meant: Ref) -> list[str]:
    """What there is of the kind, for the nearest name."""
    return [shapes.name(found.shape).partition("/")[2] for found in get.everything(reader, meant.kind)[1]]


# --- goals ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stand:
    """How an object stands now."""

    state: str
    reason: str
    message: str
    waits_for: str
    wished: bool
    conditions: dict[str, str]
    settled: bool
    """The newest wish has been answered."""
    as_wished: bool
    """What is there is what the newest wish says: its mode, its size."""


def look(reader: Reader, meant: Ref) -> Stand:
    """One look at one object."""
    if meant.kind == "attachment":
        node, volume = meant.names
        known = facts.read_attachment(reader, node, volume)
        told: get.Summary = facts.attachment(known, node, volume)
        settled, fits = True, True
    elif meant.kind == "volume":
        volume_told = facts.volume(facts.read_volume(reader, meant.names[0]), meant.names[0])
        told, settled = volume_told, volume_told.observed_generation == volume_told.generation
        fits = (volume_told.size_gib or 0) >= (volume_told.wanted_gib or 0)
    else:
        told, settled, fits = facts.node(facts.read_node(reader, meant.names[0]), meant.names[0]), True, True
    conditions = {each.type: each.status for each in getattr(told, "conditions", ())}
    wished = bool(getattr(told, "generation", 0))
    as_wished = fits and conditions.get("Accepted") == "True"
    return Stand(told.state, told.reason, told.message, told.waits_for, wished, conditions, settled, as_wished)


GOALS: dict[str, tuple[tuple[str, ...], Callable[[Stand], bool]]] = {
    "attached": (("attachment",), lambda stand: stand.wished and stand.as_wished and stand.state == State.ATTACHED),
    "detached": (("attachment",), lambda stand: stand.state == State.DETACHED),
    "available": (
        ("volume",),
        lambda stand: stand.wished and stand.settled and stand.as_wished and stand.state == VolumeState.AVAILABLE,
    ),
    "deleted": (
        ("attachment", "volume", "node"),
        lambda stand: not stand.wished and stand.state in (*GONE, VolumeState.RETAINED, "Unknown"),
    ),
}


@dataclass(frozen=True, slots=True)
class Goal:
    """What is waited for."""

    holds: Callable[[Stand], bool]
    needs_object: bool

    @staticmethod
    def parse(text: str, meant: Iterable[Ref]) -> Goal:
        if text.startswith("condition="):
            kind, _, status = text.removeprefix("condition=").partition("=")
            return _condition(kind, status or "True", {each.kind for each in meant})
        if text not in GOALS:
            near = get_close_matches(text, GOALS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise Misuse(f"--for={text}: {hint}write one of {', '.join(GOALS)}, condition=TYPE[=STATUS]")
        kinds, holds = GOALS[text]
        wrong = [str(each) for each in meant if each.kind not in kinds]
        if wrong:
            raise Misuse(f"--for={text} is for {' and '.join(kinds)}, not for {', '.join(wrong)}")
        return Goal(holds, needs_object=text in ("attached", "available"))


CONDITIONS = {
    "attachment": ("Accepted", "Exported", "Connected", "Verified", "Ready", "Degraded", "Released"),
    "volume": ("Accepted", "Available"),
}


def _condition(kind: str, status: str, objects: set[str]) -> Goal:
    for each in objects:
        known = CONDITIONS.get(each, ())
        if kind not in known:
            raise Misuse(f"--for=condition={kind}: the conditions of {each}s are {', '.join(known) or 'none'}")
    if status not in ("True", "False", "Unknown"):
        raise Misuse(f"--for=condition={kind}={status}: write True, False or Unknown")
    return Goal(lambda stand: stand.settled and stand.conditions.get(kind) == status, needs_object=True)


def _unmet(waiting: list[tuple[Ref, Stand]], goal: str, timeout: float) -> Failure:
    lines = []
    for each, stand in waiting:
        on = f", waits for {stand.waits_for}" if stand.waits_for else ""
        so = ", but not as wished" if stand.state.lower() == goal else f", not {goal}"
        lines.append(f"{each} is {stand.state}{so}{on}: {stand.message or stand.reason}")
        if goal == "detached" and stand.wished:
            lines[-1] += f"; it is still wished for: brickctl detach {' '.join(each.names)}"
    text = "\n".join(lines)
    if timeout == 0:
        return Unmet(text)
    stuck = any(stand.state in (State.BLOCKED, State.FAILED) for _, stand in waiting)
    if goal not in (
        "detached",
        "deleted",
    ):  # what is refused, as another mode under a device in use, does not become so
        stuck = stuck or any(stand.conditions.get("Accepted") == "False" for _, stand in waiting)
    return (Blocked if stuck else TimedOut)(f"after {timeout:g} s: {text}")


def _tell_changes(session: Session, seen: dict[Ref, str], stands: dict[Ref, Stand]) -> None:
    """For whoever looks on: how it stands, and each change of that."""
    for each, stand in stands.items():
        on = f", waits for {stand.waits_for}" if stand.waits_for else ""
        text = f"{each}: {stand.state}{on}: {stand.message or stand.reason}"
        if session.interactive() and seen.get(each) != text:
            click.echo(text, err=True)
        seen[each] = text
