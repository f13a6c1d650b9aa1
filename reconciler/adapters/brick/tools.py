"""Programs of the host that we run ourselves, and what foreign errors mean in the port's words, with secrets taken out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from reconciler.runtime.ports import PortError, Retryable, Terminal, Unsupported
from schema.secrets import KnownSecrets

_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
_COMPLAINT = re.compile(r"""Stderr: \\?(['"])(.*?)\\?\1""", re.DOTALL)
_ESCAPED_LINE_END = re.compile(r"\\+n")
_MOST_CHARACTERS = 500


def run(*command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a program of the host; never with a secret among its arguments.

    Raises Terminal when it is not installed, Retryable when it hangs.
    """
    program = require(command[0], command[0])
    try:
        return subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise Retryable(f"{' '.join(command[:3])}… gave no answer within {timeout_s:g} s") from None


def find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SYSTEM}")


def require(program: str, package: str) -> str:
    """Where a program is. Raises Terminal, naming the package that has it."""
    if found := find(program):
        return found
    raise Terminal(f"{program} is missing on this host: install {package}")


class Redactor:
    """Knows the secrets that connections brought, and takes them out of every text that leaves the worker."""

    def __init__(self, known: KnownSecrets | None = None) -> None:
        self._known = known or KnownSecrets()

    def learn(self, conn_info: Mapping[str, Any]) -> None:
        """Remember the secrets for good: a late log line may hold them long after the call."""
        self._known.learn(conn_info)

    def clean(self, text: str) -> str:
        return self._known.mask(text)

    def translate(self, error: Exception) -> PortError:
        """The port error that tells the caller what to do about a foreign one."""
        if isinstance(error, PortError):
            error.args = (self.clean(str(error)), *error.args[1:])
            return error
        kind, text = _meaning(error)
        return kind(self.clean(text)[:_MOST_CHARACTERS])


def _meaning(error: Exception) -> tuple[type[PortError], str]:
    """Foreign classes are told by name: this module must load without os-brick."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if "ProcessExecutionError" in names:
        return _command_failed(error)
    text = f"{type(error).__name__}: {_summary(error)}"
    if "InvalidConnectorProtocol" in names or isinstance(error, NotImplementedError):
        return Unsupported, f"os-brick can't do that: {text}"
    if isinstance(error, PermissionError):
        return Terminal, f"no permission: {error.strerror} ({error.filename or 'root and CAP_SYS_ADMIN are needed'})"
    if isinstance(error, OSError):
        return Retryable, f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    if isinstance(error, KeyError | ValueError | TypeError):
        return Terminal, f"the connection's data are not as os-brick wants them: {text}"
    return Retryable, text


def _command_failed(error: Exception) -> tuple[type[PortError], str]:
    """oslo's text holds the whole command line: only the program and what it complained of are passed on."""
    program = (str(getattr(error, "cmd", "") or "a command").split() or ["a command"])[0]
    description = str(getattr(error, "description", "") or "")
    if "No such file or directory" in description:
        return Terminal, f"{program} is missing on this host: install it"
    complaint = _lines(str(getattr(error, "stderr", "") or description or "no message"))
    return Retryable, f"{program} failed (exit code {getattr(error, 'exit_code', '?')}): {complaint}"


def _summary(error: Exception) -> str:
    """One line. os-brick's chains of errors print whole tracebacks, of which the last line tells; others quote failed commands."""
    text = str(error)
    if "Traceback" in text:
        return _last_line(text)
    if complaints := _COMPLAINT.findall(text):
        head = text.partition("Unexpected error")[0].partition(" - {")[0]
        return f"{head}: {_lines(_ESCAPED_LINE_END.sub(chr(10), complaints[-1][1]))}"
    return " ".join(text.split())


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else text


def _lines(text: str) -> str:
    """A program's complaint in one line, without mount's advice to read the kernel's log."""
    lines = (line.strip(" \\'\"") for line in text.splitlines())
    return "; ".join(line for line in lines if line and not line.startswith("dmesg(1)"))
