"""`ports.Fencer` over a user's command. The contract is documented in docs/OPERATING.md, "The fence agent".

The command runs in a session of its own. When it takes too long, or leadership is lost, the whole process group is killed; so it is
after it ended, that nothing which it left behind acts later. Its output goes to files, not pipes: what it starts in the background
can't hold us up by keeping them open.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reconciler.runtime.ports import FenceProof, FenceTarget, Retryable, Terminal, UnknownOutcome
from schema.models import Proof
from schema.secrets import redact_text

NOT_NOW = os.EX_TEMPFAIL
"""The exit status that says: nothing was done, ask again later."""
OUTPUT_MAX = 16 * 1024
"""Bytes of what the command says that are read."""
SHOWN_MAX = 500
"""Characters of it that are told."""


class _Answer(BaseModel):
    """What the command prints when it exits with 0. Nothing is assumed where it says nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    evidence: str = Field(min_length=1, max_length=4000)
    proof: Proof


class FenceCommand:
    """Runs the command for one boot at a time.

    Args:
        command: the program and its first arguments; node and boot follow.
        deadline_s: so long it may take, in seconds.
        environ: what it inherits, but for `BRICKWORK_…`.
        log: gets the lines that it writes to stderr.
    """

    def __init__(
        self, command: Sequence[str], *, deadline_s: float, environ: Mapping[str, str], log: Callable[[str], None]
    ) -> None:
        self._command = tuple(command)
        self._deadline_s = deadline_s
        self._environ = {name: text for name, text in environ.items() if not name.startswith("BRICKWORK_")}
        self._log = log
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._idle = threading.Event()
        self._idle.set()

    def fence(self, target: FenceTarget, still: Callable[[], bool]) -> FenceProof:
        with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            told.write(_told(target))
            told.seek(0)
            status = self._run(target, still, told, out, errors)
            for line in _text(errors).splitlines():
                self._log(line)
            said = _text(errors) or _text(out)
            if status is None:
                raise UnknownOutcome(f"{self._command[0]} took longer than {self._deadline_s:.0f} s and was killed")
            if status == NOT_NOW:
                raise Retryable(f"{self._command[0]} says: not now. {_short(said)}")
            if status != 0:
                how = f"exit status {status}" if status > 0 else f"killed by {signal.Signals(-status).name}"
                raise Terminal(f"{self._command[0]} failed ({how}): {_short(said) or 'it said nothing'}")
            return _proof(self._command[0], _text(out))

    def kill(self) -> None:
        with self._lock:
            if self._running is not None:
                _kill_group(self._running)
        self._idle.wait()

    def _run(
        self, target: FenceTarget, still: Callable[[], bool], told: IO[bytes], out: IO[bytes], errors: IO[bytes]
    ) -> int | None:
        """The exit status; None: the deadline passed."""
        with self._lock:  # whoever kills finds the process, or comes before it: then it is not started
            if not still():
                raise Retryable("this agent leads no more; the command was not started")
            process = self._started(target, told, out, errors)
            self._running = process
            self._idle.clear()
        try:
            ended = _ends_within(process, self._deadline_s)
        finally:
            with self._lock:  # the group's number is not used again before its first process was waited for
                _kill_group(process)
                self._running = None
            process.wait()
            self._idle.set()
        return process.returncode if ended else None

    def _started(
        self, target: FenceTarget, told: IO[bytes], out: IO[bytes], errors: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        own = {"BRICKWORK_NODE": target.node, "BRICKWORK_BOOT": target.boot, "BRICKWORK_HOST": target.host}
        own |= {"BRICKWORK_VOLUMES": " ".join(target.volumes), "BRICKWORK_SILENT_S": f"{target.silent_s:.0f}"}
        try:
            return subprocess.Popen(
                [*self._command, target.node, target.boot],
                stdin=told,
                stdout=out,
                stderr=errors,
                env={**self._environ, **own},
                start_new_session=True,
            )
        except OSError as error:
            raise Terminal(f"{self._command[0]} can't be run: {error.strerror}") from error


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for the end without taking notice of it."""
    handle = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(handle)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """The command, if it still runs, and whatever it left behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _told(target: FenceTarget) -> bytes:
    """What the command reads. What the node says of itself is kept apart from what is known of it: another node's initiator, or
    power switch, must not be taken for its own. There is no secret in it."""
    known = {"node": target.node, "boot": target.boot, "host": target.host, "volumes": list(target.volumes)}
    return json.dumps({**known, "claimed_by_node": dict(target.connector)}).encode() + b"\n"


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read(OUTPUT_MAX).decode(errors="replace").strip()


def _short(text: str) -> str:
    line = " ".join(redact_text(text).split())
    return line if len(line) <= SHOWN_MAX else line[:SHOWN_MAX] + "…"


def _proof(command: str, text: str) -> FenceProof:
    try:
        answer = _Answer.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "output"
        raise Terminal(
            f"{command} exited with 0, but proved nothing: {where}: {fault['msg']}. It has to print one JSON object such as "
            '{"evidence": "chassis power is off", "proof": "powered_off"}'
        ) from None
    return FenceProof(redact_text(answer.evidence), answer.proof)
