"""The daemon as a process: exit codes, signals, systemd, failpoints.

Stopping never touches a device. The first SIGTERM or SIGINT asks for a graceful end (finish or kill the calls in flight, give
up the leases), the second one ends the process at once. That is safe too, only slower to be noticed by others: children die
with their daemon, and every step is resumed from the keys.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Mapping
from enum import IntEnum
from types import FrameType, TracebackType

import sdnotify
import structlog

from daemons.journal import complain
from daemons.redaction import redact_text

_log = structlog.get_logger(__name__)


_PR_SET_DUMPABLE = 4


def keep_to_itself() -> None:
    """First thing in a daemon: what it writes is for its owner alone, and its memory, which holds passwords, for nobody.

    No core is dumped, and only root may look into the process. What others must read is given its mode where it is made.
    """
    os.umask(0o077)
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


class Exit(IntEnum):
    """Why a daemon ended. systemd restarts it after all of them but `SETTINGS`, which only an edited file can mend."""

    OK = 0
    CRASHED = 1
    """A fault of ours; the traceback is in the log."""
    SETTINGS = 2
    """The settings (or the command line) are wrong; every fault was printed."""
    REFUSED = 3
    """Something about this host or installation: another instance runs, no rights, a taken port, a foreign package."""
    AT_ONCE = 5
    """Asked to stop a second time."""


class Refused(Exception):
    """The daemon does not start, or not further, as things are. `str()` says what is in the way, and the remedy."""

    exit: Exit = Exit.REFUSED


def run(program: str, body: Callable[[], Exit]) -> Exit:
    """The outermost frame of a daemon: from whatever ended `body` to the exit code, with a last word on stderr or in the log."""
    try:
        return body()
    except Refused as refusal:
        complain(f"{program}: {refusal}")
        return refusal.exit
    except Exception as error:
        if isinstance(error, RuntimeError) and "start new thread" in str(error):
            complain(f"{program}: no room for a thread on this host: see TasksMax, pids.max, ulimit -u")
            return Exit.REFUSED
        if structlog.is_configured():
            _log.critical("ended by a fault of our own", exc_info=True)
        else:  # before the log was opened, or after it was closed
            complain(f"{program}: ended by a fault of our own:\n{redact_text(traceback.format_exc())}")
        return Exit.CRASHED


def end_with_any_thread(*, end: Callable[[int], None] = os._exit, last: Callable[[], None] = lambda: None) -> None:
    """From now on, an exception that nobody caught in any thread ends the process: half a daemon looks healthy and is not.

    Args:
        last: called before the end, to flush the log.
    """

    def hook(fault: threading.ExceptHookArgs) -> None:
        if fault.exc_type is not SystemExit:
            name = fault.thread.name if fault.thread else "?"
            _log.critical("a thread ended by a fault of our own", thread=name, exc_info=fault.exc_value)
            last()
            end(Exit.CRASHED)

    threading.excepthook = hook


class Signals:
    """SIGTERM and SIGINT as a flag that can be waited for; SIGHUP without consequence.

    Python runs signal handlers on the main thread, between two instructions of whatever holds a lock there, so that a handler
    may neither log nor wait. Ours do nothing: the kernel's wake-up byte is read by a thread of its own, which also works
    while the main thread is stuck in foreign code.

    Use it as a context on the main thread. `on_stop` is called once, on the signals' thread.
    """

    def __init__(self, on_stop: Callable[[], None], *, end_at_once: Callable[[int], None] = os._exit) -> None:
        self.stopping = threading.Event()
        self._on_stop = on_stop
        self._end_at_once = end_at_once
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Signals:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._before[number] = signal.signal(number, lambda _number, _frame: None)
        self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._writer.close()
        self._thread.join()
        self._reader.close()

    def _listen(self) -> None:
        while numbers := self._reader.recv(64):
            for number in numbers:
                self._receive(signal.Signals(number))

    def _receive(self, number: signal.Signals) -> None:
        if number is signal.SIGHUP:
            _log.info("SIGHUP has no effect: settings are read at start, so restart the daemon to change them")
        elif number not in (signal.SIGTERM, signal.SIGINT):
            return
        elif not self.stopping.is_set():
            _log.info("stopping; a second signal ends the process at once", signal=number.name)
            self.stopping.set()
            self._on_stop()
        else:
            self._end_at_once(Exit.AT_ONCE)


class Supervisor:
    """What systemd is told. Without systemd (no NOTIFY_SOCKET) everything here is silent.

    Args:
        environ: the daemon's environment, for `WATCHDOG_USEC`.
        alive: asked before each sign of life. False: none is sent, and systemd kills and restarts the daemon.
    """

    def __init__(self, environ: Mapping[str, str], alive: Callable[[], bool]) -> None:
        self._notifier = sdnotify.SystemdNotifier()
        self._alive = alive
        self._period_s = _watchdog_period_s(environ)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def ready(self) -> None:
        """Start-up is done: units that wait for us may start. The watchdog runs from now on."""
        self._notifier.notify("READY=1")
        if self._period_s is not None and self._thread is None:
            self._thread = threading.Thread(target=self._feed, name="watchdog", daemon=True)
            self._thread.start()

    def status(self, sentence: str) -> None:
        """The line that `systemctl status` shows."""
        self._notifier.notify(f"STATUS={sentence}")

    def stopping(self) -> None:
        """The end has begun. The watchdog is fed until `close`."""
        self._notifier.notify("STOPPING=1")

    def close(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _feed(self) -> None:
        while True:
            if self._alive():
                self._notifier.notify("WATCHDOG=1")
            if self._ended.wait(self._period_s):
                return


def _watchdog_period_s(environ: Mapping[str, str]) -> float | None:
    """A third of what systemd allows, so that one late feed kills nobody. None: no watchdog for this process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 3e6 if microseconds.isdigit() and int(microseconds) > 0 else None


class Failpoint:
    """Crash tests: the process SIGKILLs itself when it reaches the named point, such as `GRANT:before` or `CONNECT:called`.

    The controllers announce the points; by hand one is set with `failpoint` and `allow_failpoints` in the settings.
    """

    def __init__(
        self, name: str | None, *, die: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL)
    ) -> None:
        self._name = name
        self._die = die

    def __call__(self, point: str) -> None:
        if point == self._name:
            self._die()
