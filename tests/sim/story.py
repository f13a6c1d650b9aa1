"""What happened, in order: the transcript of a run, made into text only when somebody reads it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any, NamedTuple

import structlog

KEPT = 4000
"""So many of the last lines are kept."""


class Line(NamedTuple):
    at_s: float
    who: str
    what: str


class Story:
    """The lines of one run."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began_s = now()
        self._lines: deque[Line] = deque(maxlen=KEPT)
        self.steps = 0
        self.faults: list[str] = []
        """What was done to the fleet, one line each."""

    def tell(self, who: str, what: str) -> None:
        self._lines.append(Line(self._now() - self._began_s, who, what))

    def fault(self, what: str) -> None:
        self.faults.append(f"{self._now() - self._began_s:8.3f}  {what}")
        self.tell("FAULT", what)

    def text(self, last: int = KEPT) -> str:
        lines = list(self._lines)[-last:]
        return "\n".join(f"{line.at_s:9.3f}  {line.who:8}  {line.what}" for line in lines)


class Recorder:
    """Turns the daemons' log into lines of the present run's story.

    Structured logging is configured once for a whole process; runs follow one another, until `close`.
    """

    def __init__(self) -> None:
        self.story: Story | None = None
        self.who: Callable[[], str] = lambda: "?"
        structlog.configure(processors=[self._record], cache_logger_on_first_use=False)

    def attach(self, story: Story, who: Callable[[], str]) -> None:
        self.story, self.who = story, who

    def close(self) -> None:
        structlog.reset_defaults()

    def _record(self, _logger: object, level: str, event: MutableMapping[str, Any]) -> str:
        if self.story is not None:
            text = str(event.pop("event"))
            rest = ", ".join(f"{key}={value}" for key, value in event.items() if key != "ms")
            self.story.tell(self.who(), f"{'! ' if level not in ('info', 'debug') else ''}{text}  {rest}".rstrip())
        raise structlog.DropEvent
