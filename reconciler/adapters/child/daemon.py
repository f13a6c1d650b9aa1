"""The daemon's side: `Child`."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import queue
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reconciler.adapters.child import keeper, levels, sessions
from reconciler.adapters.child.lines import Lines, Replies, to_exception
from reconciler.runtime import ports
from schema.secrets import KnownSecrets

_NOT_INHERITED = ("BRICKWORK_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
"""What of the daemon's environment is none of a child's business: our settings, and systemd's ways to talk to the daemon."""
_CHUNK = 1 << 16
_PATIENCE_S = 5.0
"""How long a call waits for the death of the process that it had killed, before it says which pid does not die."""


class Child:
    """One child process at a time, called like a table of functions. Thread-safe.

    Args:
        module: what is exec'ed (``python -m module``); it calls `serve`.
        name: for messages and logs.
        state_folder: where the record is kept by which `end_survivors` finds this child after a crash of the daemon.
        environment: added to what the child inherits. Never secrets: they go over the pipe.
        log: gets each line that the child, or anything below it, writes to stdout or stderr, without the secrets that it was
            given or has told of; `level_of` tells the line's level.
    """

    def __init__(
        self,
        module: str,
        *,
        name: str,
        state_folder: Path,
        environment: Mapping[str, str] | None = None,
        argv: Sequence[str] = (),
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self._command = [
            sys.executable,
            "-P",
            "-u",
            "-m",
            module,
            *argv,
        ]  # -P: nothing is imported from the current folder
        self._environment = dict(environment or {})
        self._state_folder = state_folder
        self._log = log or logging.getLogger(f"{__name__}.{name}").info
        self._spawning = threading.Lock()
        self._permission: float | None = None
        self._secrets = KnownSecrets()
        self._life: _Life | None = None

    @property
    def running(self) -> bool:
        return self._life is not None and self._life.ended_by is None

    def start(self, deadline_s: float) -> None:
        """Start the child and wait until it says that it is ready. Nothing happens when it runs already.

        Raises what the child's `on_start` raised; Unavailable with its last words when it ended or stayed silent beyond
        the deadline, or when its predecessor can't be killed (a process in state D).
        """
        until = time.monotonic() + deadline_s
        with self._spawning:
            if self.running:
                return
            if self._life is not None and (left := self._life.end("restarted", deadline_s)):
                raise ports.Unavailable(f"{self.name}: the former process does not die: {sessions.describe(left)}")
            life = self._life = self._spawn()
        if self._permission is not None:  # it may have moved while `permit` did not know this life
            life.permit(self._permission)
        try:
            life.wait(0, until)
        except (TimeoutError, _Ended) as error:
            life.end("it was not ready in time", _PATIENCE_S)
            reason = str(error) or f"no answer within {deadline_s:g} s"
            raise ports.Unavailable(f"{self.name} did not start: {reason}{life.last_words()}") from None
        except ports.PortError:
            life.end("it refused to start", _PATIENCE_S)
            raise

    def call(self, method: str, params: Mapping[str, Any], deadline_s: float) -> Any:
        """Call a handler of the child; any number of calls may be under way at once.

        Raises what the handler raised (a port error; anything else as Retryable), Unavailable when the child does not run,
        and UnknownOutcome when it died under the call or the deadline passed. In the latter case the child is killed first,
        with all that it started, so the call can't land later.
        """
        life = self._life
        if life is None or life.ended_by is not None:
            raise ports.NotOpen(f"{self.name} is not running" + (f": {life.ended_by}" if life else ""))
        try:
            return life.call(method, params, time.monotonic() + deadline_s)
        except TimeoutError:
            left = life.end(f"killed, because {method} took longer than {deadline_s:g} s", _PATIENCE_S)
            alive = f" It is not dead yet: {sessions.describe(left)}." if left else ""
            message = f"{self.name}: no answer to {method} within {deadline_s:g} s; killed.{alive}"
            raise ports.UnknownOutcome(message) from None
        except _Ended as error:
            message = f"{self.name}: the process ended during {method}: {error}{life.last_words()}"
            raise ports.UnknownOutcome(message) from None

    def permit(self, until_s: float) -> None:
        """The child, present or future, is killed at this moment of CLOCK_BOOTTIME, even if this process is stopped then.
        A later permission puts that off."""
        self._permission = until_s
        if self._life is not None:
            self._life.permit(until_s)

    def kill(self) -> None:
        """SIGKILL everything of the child. Returns only when nothing of it can land any more, however long that takes."""
        with self._spawning:
            life = self._life
        while life is not None and (left := life.end("killed", _PATIENCE_S)):
            self._log(levels.at(logging.WARNING, f"waiting for the death of {sessions.describe(left)}"))

    def _spawn(self) -> _Life:
        token = secrets.token_hex(16)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        requests_in, requests_out = os.pipe()
        replies_in, replies_out = os.pipe()
        permits_in, permits_out = os.pipe()
        keepers = (requests_in, replies_out, permits_in)
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__, *map(str, keepers), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=inherited | self._environment | {sessions.MARKER: token},
                pass_fds=keepers,
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            for fd in (requests_out, replies_in, permits_out):
                os.close(fd)
            raise ports.Unavailable(f"{self.name}: cannot start {self._command[0]}: {error}") from error
        finally:
            for fd in keepers:
                os.close(fd)
        record = self._state_folder / f"child-{token}.json"
        life = _Life(process, requests_out, replies_in, permits_out, record, self._log, self._secrets)
        if self._permission is not None:
            life.permit(self._permission)
        try:  # The child does nothing before its first request, so a record written now is early enough.
            record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # somebody may have removed it (F-S15)
            sessions.write_record(record, token, process.pid)
        except OSError as error:
            life.end("no record of it could be kept", _PATIENCE_S)
            raise ports.Unavailable(f"{self.name}: cannot write {record}: {error}") from error
        return life


class _Ended(Exception):
    """The child ended before it answered; `str()` says why."""


class _Life:
    """One run of a child, from its start until nothing of it is left."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        requests: int,
        replies: int,
        permits: int,
        record: Path,
        log: Callable[[str], None],
        secrets: KnownSecrets,
    ) -> None:
        self.ended_by: str | None = None
        self._process, self._requests, self._replies, self._permits = process, requests, replies, permits
        self._record, self._log, self._secrets = record, log, secrets
        self._ids = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[Any]] = {0: queue.SimpleQueue()}  # 0: the child's "ready"
        self._state, self._writing, self._ending = threading.Lock(), threading.Lock(), threading.Lock()
        self._permitting = threading.Lock()
        self._gone = False
        self._words: deque[str] = deque(maxlen=8)
        os.set_blocking(requests, False)
        os.set_blocking(permits, False)
        self._pump = threading.Thread(target=self._run_pump, name=f"child-{process.pid}", daemon=True)
        try:
            self._pump.start()
        except RuntimeError as error:
            process.kill()  # it has not been given anything to do
            for fd in (requests, replies, permits):
                os.close(fd)
            raise ports.Unavailable(f"no room for a thread ({error})") from error

    def last_words(self) -> str:
        """The last lines of the child's stderr, as the end of a sentence."""
        self._pump.join(1.0)  # it reads them when the child has ended
        return f". Its last words: {' | '.join(self._words)}" if self._words else ""

    def call(self, method: str, params: Mapping[str, Any], until: float) -> Any:
        """Raises TimeoutError, _Ended and the child's own error."""
        number = next(self._ids)
        self._secrets.learn(params)  # before the child can say them
        line = json.dumps({"id": number, "method": method, "params": params}, separators=(",", ":")).encode() + b"\n"
        with self._state:
            if self.ended_by is not None:
                raise ports.NotOpen(f"the process has ended: {self.ended_by}")
            self._waiting[number] = queue.SimpleQueue()
        self._send(line, until)
        return self.wait(number, until)

    def permit(self, until_s: float) -> None:
        with self._permitting, contextlib.suppress(OSError):  # it has ended, or does not read: then it ends early
            os.write(self._permits, f"{until_s:.3f}\n".encode())

    def wait(self, number: int, until: float) -> Any:
        """The reply to a request. Raises like `call`."""
        try:
            reply = self._waiting[number].get(timeout=_left_s(until))
        except queue.Empty:
            raise TimeoutError from None
        finally:
            with self._state:
                del self._waiting[number]
        if reply is None:
            raise _Ended(self.ended_by)
        if "error" in reply:
            raise to_exception(reply["error"])
        return reply["ok"]

    def _send(self, line: bytes, until: float) -> None:
        """Write a request, but not beyond the deadline: a child that hangs does not read. `wait` tells what came of it."""
        if not self._writing.acquire(timeout=_left_s(until)):
            return
        try:
            rest = memoryview(line)
            while rest:
                try:
                    rest = rest[os.write(self._requests, rest) :]
                except BlockingIOError:
                    if not keeper.ready(self._requests, select.POLLOUT, until):
                        return
        except OSError:
            return  # the child is ending
        finally:
            self._writing.release()

    def _run_pump(self) -> None:
        """Deliver replies and forward stderr until the child has ended; then see to it that all of it has."""
        assert self._process.stdout is not None
        stderr, words, why = self._process.stdout.fileno(), Lines(_CHUNK), ""
        leader = os.pidfd_open(self._process.pid)
        try:
            self._deliver_all(stderr, words)
            keeper.ready(leader, select.POLLIN, time.monotonic() + 1.0)  # its status tells more than our SIGKILL would
        except Exception as error:  # no JSON on the reply pipe: this child is of no use any more
            why = f"its pipe could not be read: {type(error).__name__}: {error}"
        unasked = self.ended_by is None
        self.end(why, _PATIENCE_S)
        if unasked:
            with contextlib.suppress(Exception):
                self._log(levels.at(logging.WARNING, f"the process ended: {self.ended_by}"))
        os.set_blocking(stderr, False)  # a descendant that became a daemon may hold the other end for ever
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(stderr, _CHUNK):
                self._forward(words.feed(chunk))
        self._release_waiters()
        os.close(leader)
        os.close(self._replies)
        self._process.stdout.close()

    def _deliver_all(self, stderr: int, words: Lines) -> None:
        """Replies first: a secret that the child told of is known before what it printed later is passed on."""
        replies, poll = Replies(), select.poll()
        poll.register(self._replies, select.POLLIN)
        poll.register(stderr, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._replies in ready:
                chunk = os.read(self._replies, _CHUNK)
                if not chunk:
                    return
                for reply in replies.feed(chunk):
                    self._deliver(reply)
            if stderr in ready:
                chunk = os.read(stderr, _CHUNK)
                self._forward(words.feed(chunk))
                if not chunk:
                    poll.unregister(stderr)

    def _deliver(self, reply: dict[str, Any]) -> None:
        if "secret" in reply:
            self._secrets.add(reply["secret"])
            return
        with self._state:
            if waiting := self._waiting.get(reply["id"]):
                waiting.put(reply)

    def _forward(self, lines: list[bytes]) -> None:
        for line in lines:
            text = levels.read(self._secrets.mask(line.decode(errors="replace").rstrip()))
            self._words.append(text[:300])
            with contextlib.suppress(Exception):  # a full disk under the log is no reason to end calls
                self._log(text)

    def _release_waiters(self) -> None:
        with self._state:
            for waiting in self._waiting.values():
                waiting.put(None)

    def end(self, why: str, patience_s: float) -> list[int]:
        """Kill everything of this life and wait; returns the pids that did not die in time. The first `why` is kept."""
        with self._state:
            self.ended_by = why if self.ended_by is None else self.ended_by
        if not self._ending.acquire(timeout=patience_s):
            # Another thread is at it, and fared no better.
            return sessions.members(self._process.pid) or [self._process.pid]
        try:
            if self._gone:
                return []
            # The keeper is reaped last: until then nobody else can get the session's number.
            if left := keeper.end_session(self._process.pid, time.monotonic() + patience_s):
                self._release_waiters()
                return left
            status = self._process.wait()
            self.ended_by = self.ended_by or _tell(status)
            with contextlib.suppress(OSError):  # it names what is dead: whoever finds it later sees that
                self._record.unlink()
            with self._writing:
                os.close(self._requests)
                self._requests = -1
            with self._permitting:
                os.close(self._permits)
                self._permits = -1
            self._gone = True
            return []
        finally:
            self._ending.release()


def _tell(status: int) -> str:
    """An exit status of the keeper (the worker's, or 128 + its signal) in words."""
    number = -status if status < 0 else status - 128
    return f"died of {signal.Signals(number).name}" if 0 < number < signal.NSIG else f"exit status {status}"


def _left_s(until: float) -> float:
    return max(0.0, until - time.monotonic())
