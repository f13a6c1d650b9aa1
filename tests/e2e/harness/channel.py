"""The harness's side of the command channel; the guest's side is `guest/agent.py`, which describes the messages."""

import base64
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.waiting import wait_until

AGENT_PORT = 5555
# What the agent may need on top of a command's own time before it answers, in a guest that is short of processor.
ANSWER_GRACE_S = 30

Connect = Callable[[], socket.socket]


class CommandFailed(AssertionError):
    """A command ended with another exit code than 0."""


class CommandTimedOut(AssertionError):
    """A command did not end in time; the agent has killed it, unless the kernel holds it in an endless wait."""


class GuestUnreachable(AssertionError):
    """The agent does not answer: the guest is down, or hangs."""


@dataclass(frozen=True)
class CommandResult:
    """How a command ended, and what it wrote."""

    command: str
    exit_code: int
    stdout_bytes: bytes
    stderr_bytes: bytes

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode(errors="replace")

    def __str__(self) -> str:
        return f"$ {self.command}\n{self.stdout}{self.stderr}exit code {self.exit_code}"


def argv_of(command: str | Sequence[str | Path]) -> list[str]:
    """A string is a shell script, a sequence is a command line."""
    return ["bash", "-c", command] if isinstance(command, str) else [str(word) for word in command]


def request(
    connect: Connect, argv: list[str], env: Mapping[str, str], content: bytes, timeout_s: float | None, merge: bool
) -> socket.socket:
    """Start a command in the guest and return the connection that it reports on."""
    try:
        connection = connect()
        connection.settimeout(None if timeout_s is None else timeout_s + ANSWER_GRACE_S)
        message = {
            "argv": argv,
            "env": dict(env),
            "input": base64.b64encode(content).decode(),
            "timeout_s": timeout_s,
            "merge_output": merge,
        }
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError as error:
        raise GuestUnreachable(f"cannot start {argv}: {error}") from error
    return connection


def messages(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Yield what the agent reports, until it ends or the guest is gone."""
    with connection, connection.makefile("rb") as lines:
        for line in lines:
            yield json.loads(line)


def run(
    connect: Connect, command: str | Sequence[str | Path], env: Mapping[str, str], content: bytes, timeout_s: float
) -> CommandResult:
    """Run a command to its end."""
    argv = argv_of(command)
    shown = argv[-1] if isinstance(command, str) else " ".join(argv)
    output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    connection = request(connect, argv, env, content, timeout_s, merge=False)
    try:
        for message in messages(connection):
            for name, parts in output.items():
                if name in message:
                    parts.append(base64.b64decode(message[name]))
            if "exit_code" in message:
                stdout, stderr = (b"".join(parts) for parts in output.values())
                return CommandResult(shown, message["exit_code"], stdout, stderr)
            if "timed_out" in message:
                written = b"".join(output["stdout"] + output["stderr"]).decode(errors="replace")
                raise CommandTimedOut(f"not within {timeout_s:.0f} s: {shown}\n{written}")
    except OSError as error:
        raise GuestUnreachable(f"no answer to: {shown} ({error})") from error
    raise GuestUnreachable(f"the guest went away during: {shown}")


class Daemon:
    """A long-running process in a guest, as the harness sees it: its output, and whether it still runs."""

    def __init__(self, name: str, connection: socket.socket, log_file: Callable[[], Path]) -> None:
        self.name = name
        self.exit_code: int | None = None
        self.pid = 0
        self._connection = connection
        self._log_file = log_file
        self._output: list[bytes] = []
        self._started = threading.Event()
        self._ended = threading.Event()
        threading.Thread(target=self._follow, name=f"daemon {name}", daemon=True).start()
        if not self._started.wait(ANSWER_GRACE_S) or not self.pid:
            raise CommandFailed(f"{name} did not start: {self.output()}")

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def output(self) -> str:
        """Return all that it wrote so far; the same is in its log file."""
        return b"".join(self._output).decode(errors="replace")

    def wait_for_output(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """Wait until its output matches a regular expression."""
        return wait_until(
            lambda: re.search(pattern, self.output()), timeout_s, f"{self.name} writes {pattern!r}: {self.output()}"
        )

    def wait(self, timeout_s: float) -> int | None:
        """Wait until it ended and return its exit code: minus the signal's number if killed, None with its guest."""
        if not self._ended.wait(timeout_s):
            raise CommandTimedOut(f"{self.name} still runs after {timeout_s:.0f} s")
        return self.exit_code

    def _follow(self) -> None:
        with suppress(OSError):
            for message in messages(self._connection):
                self._note(message)
        self._ended.set()
        self._started.set()

    def _note(self, message: dict[str, Any]) -> None:
        if "pid" in message:
            self.pid = message["pid"]
            self._started.set()
        for stream in ("stdout", "stderr"):
            if stream in message:
                content = base64.b64decode(message[stream])
                self._output.append(content)
                with self._log_file().open("ab") as log:
                    log.write(content)
        if "exit_code" in message:
            self.exit_code = message["exit_code"]
