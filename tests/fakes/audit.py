"""What happened to the fake arrays and hosts of a world: for checks of what must never happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an array or a host.

    `kind`: at an array ``created``, ``deleted``, ``exported``, ``unexported``, ``mapped``, ``unmapped``; at a host
    ``connected``, ``disconnected``, ``written``, ``refused`` (a write that did not land), ``rebooted``.
    `where`: the array's or the host's name. `uid`: of the volume whose data is concerned. `who`: the initiator; for writes
    the token. `conn_info`: by which it was connected.
    """

    at_s: float
    kind: str
    where: str
    uid: str
    who: str = ""
    conn_info: Mapping[str, Any] | None = None


class Audit:
    """What happened in the world, in order.

    Args:
        now: the world's time.
        heard: told each event at once, for checks that must hold at every moment.
    """

    def __init__(self, now: Callable[[], float] = lambda: 0.0, heard: Callable[[Event], None] = lambda _: None) -> None:
        self.events: list[Event] = []
        self.heard = heard
        self.now = now

    def note(self, kind: str, where: str, uid: str, who: str = "", conn_info: Mapping[str, Any] | None = None) -> None:
        event = Event(self.now(), kind, where, uid, who, conn_info)
        self.events.append(event)
        self.heard(event)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]
