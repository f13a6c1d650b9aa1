"""The real clock: the `Clock` port over CLOCK_BOOTTIME and threads.

CLOCK_BOOTTIME goes on while the machine is suspended, as the leases in the store do. Waits do not: the kernel's
time-outs stand still meanwhile, so a wait may end late by the length of a suspend, never early. Nothing may therefore
conclude from a wait alone that a time has (not) come; the runtime always asks `now()`.

Threads are daemons: they do not hold up the end of the process. What is to be ended in order is stopped and joined.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from reconciler.runtime.ports import Signal, Task

_log = logging.getLogger(__name__)
_ROOM_S = 1.0
"""Between two tries to make a thread on a host that has no room for one."""


class _Event(threading.Event):
    """`threading.Event` with the port's parameter name."""

    def wait(self, timeout_s: float | None = None) -> bool:
        return super().wait(timeout_s)


class _Thread:
    """A started thread."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    def join(self, timeout_s: float | None = None) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


class SystemClock:
    """Time and threads of this machine.

    Args:
        failed: called, in the failing thread, with a task's name and what it raised. A task of the runtime raises only
            what it was not built for, and is then missing; a daemon should say so and exit, so that its supervisor
            starts it anew. By default the interpreter prints the traceback and goes on without the task.
    """

    def __init__(self, failed: Callable[[str, BaseException], None] | None = None) -> None:
        self._failed = failed

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.time()

    def signal(self) -> Signal:
        return _Event()

    def lock(self) -> AbstractContextManager[Any]:
        return threading.Lock()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))

    def spawn(self, name: str, target: Callable[[], None]) -> Task:
        """Waits for room, if need be: a host that has no thread to give now has one later, and nobody can work without."""
        while True:
            thread = threading.Thread(target=self._run, args=(name, target), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                _log.error("no room for the thread %r: waiting for one (TasksMax, pids.max, ulimit -u)", name)
                time.sleep(_ROOM_S)
            else:
                return _Thread(thread)

    def _run(self, name: str, target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException as error:
            if self._failed is None:
                raise
            self._failed(name, error)
