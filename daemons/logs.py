"""Logs: text on a terminal, one JSON object a line anywhere else; from structlog and from the standard library alike.

    event ─▶ context (volume, node, epoch, step …) ─▶ redaction ─▶ text or JSON ─▶ queue ─▶ stderr, or systemd's journal

The queue is there because stderr may be a pipe that nobody reads: a lease keeper that hangs in a log call could not give up
its lease. A full queue drops lines and says later how many.

Modules below `daemons` log with `structlog.get_logger(__name__)`; what a reconcile is about is bound once with `trace`, and
stands in every line that is logged under it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from daemons.journal import FIELDS, Journal
from daemons.redaction import redact
from schema.shown import shown, without_surrogates

Format = Literal["auto", "text", "json"]
Level = Literal["debug", "info", "warning", "error"]

_QUEUE_LINES = 10_000
_FLUSH_S = 2.0

_NOISY = {"urllib3": logging.WARNING, "grpc": logging.WARNING}


@contextlib.contextmanager
def trace(
    *,
    volume: str | None = None,
    node: str | None = None,
    backend: str | None = None,
    epoch: int | None = None,
    step: str | None = None,
) -> Iterator[None]:
    """Everything this thread logs inside is about these. What is None is left as it is outside."""
    given = {"volume": volume, "node": node, "backend": backend, "epoch": epoch, "step": step}
    with structlog.contextvars.bound_contextvars(**{name: value for name, value in given.items() if value is not None}):
        yield


def redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor: hides secrets in all that a line carries. Runs after exceptions have become text."""
    redacted: EventDict = redact(event)
    return redacted


def _steer_no_terminal(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor: a driver's words, and names of keys, may hold a terminal's escapes. JSON escapes them by itself."""
    return {name: shown(value) if isinstance(value, str) else value for name, value in event.items()}


class Logs:
    """The configured logging of this process, until `close`."""

    def __init__(self, form: Format, level: Level, stream: TextIO = sys.stderr, journal: Journal | None = None) -> None:
        as_text = form == "text" or (form == "auto" and stream.isatty())
        self._sink = _Sink(stream, journal)
        self._sink.setFormatter(_formatter(as_text, colors=stream.isatty()))
        logging.raiseExceptions = False
        root = logging.getLogger()
        self._before = root.handlers[:], root.level
        root.handlers[:] = [self._sink]
        root.setLevel(level.upper())
        for name, floor in _NOISY.items():
            logging.getLogger(name).setLevel(max(floor, root.level))
        structlog.configure(
            processors=[*_context(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
            wrapper_class=structlog.make_filtering_bound_logger(root.level),
            logger_factory=structlog.stdlib.LoggerFactory(),
        )

    def flush(self) -> None:
        """Wait a moment for what was logged to be written. For the last words before an abrupt end."""
        self._sink.flush()

    def close(self) -> None:
        """Write what is left, and put the logging of before back."""
        self._sink.close()
        root = logging.getLogger()
        root.handlers[:], level = self._before
        root.setLevel(level)
        structlog.reset_defaults()


def _context() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(as_text: bool, colors: bool) -> logging.Formatter:
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    if as_text:  # the plain traceback: the rich one shows local variables, and secrets with them
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_context(),
        processors=[
            _note_fields,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact_event,
            *((_steer_no_terminal,) if as_text else ()),
            renderer,
        ],
    )


def _note_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor: gives the sink what the journal can be searched by, besides the text."""
    given = {name: event[name] for name in FIELDS if event.get(name) is not None}
    event["_record"].fields.update({name: str(value) for name, value in redact(given).items()})
    return event


class _Line(NamedTuple):
    text: str
    level: int
    fields: Mapping[str, str]


class _Sink(logging.Handler):
    """Formats in the thread that logs, writes in a thread of its own."""

    def __init__(self, stream: TextIO, journal: Journal | None) -> None:
        super().__init__()
        self._stream = stream
        self._journal = journal
        self._lines: queue.Queue[_Line | threading.Event | None] = queue.Queue(_QUEUE_LINES)
        self._dropped = 0
        self._closed = False
        threading.Thread(target=self._write, name="logs", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, str] = {}
        record.__dict__["fields"] = fields  # the formatter's copy of the record shares it: `_note_fields` fills it
        try:
            self._lines.put_nowait(_Line(self.format(record), record.levelno, fields))
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """`logging.shutdown` calls this too, at the end of the process, and `close` once more: by then nobody writes."""
        if self._closed:
            return
        written = threading.Event()
        with contextlib.suppress(queue.Full):
            self._lines.put(written, timeout=_FLUSH_S)
            written.wait(_FLUSH_S)

    def close(self) -> None:
        self.flush()
        self._closed = True
        with contextlib.suppress(queue.Full):  # then the thread ends with the process
            self._lines.put_nowait(None)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            if isinstance(line, threading.Event):
                line.set()
                continue
            if self._dropped:
                told, self._dropped = f'{{"event": "{self._dropped} lines dropped: nobody read"}}', 0
                self._write_line(_Line(told, logging.WARNING, {}))
            self._write_line(line)
        if self._journal is not None:
            self._journal.close()

    def _write_line(self, line: _Line) -> None:
        text = without_surrogates(line.text)
        with contextlib.suppress(OSError, ValueError):  # a full disk, a closed terminal: nowhere to say so
            if self._journal is not None:
                self._journal.write(text, line.level, line.fields)
                return
            self._stream.write(text + "\n")
            self._stream.flush()
