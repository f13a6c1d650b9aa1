"""The worker's side of the pipe: `serve`."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from reconciler.runtime import ports

PIPES = "BRICKWORK_PIPES"
"""The environment variable with both file descriptors and the keeper's pid; gone before anything foreign runs."""
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4

Handlers = Mapping[str, Callable[[Mapping[str, Any]], Any]]


def serve(handlers: Handlers, *, concurrency: int, on_start: Callable[[], None] | None = None) -> NoReturn:
    """Be a child: answer requests in `concurrency` native threads until the daemon is gone. Ends the process.

    `on_start` (heavy imports belong there) runs in the main thread; a port error that it raises is what `Child.start` raises.
    A handler takes the request's params and returns JSON.
    """
    requests, replies, keeper = (int(number) for number in os.environ.pop(PIPES).split(","))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # its memory holds passwords; no core of it
    if os.getppid() != keeper:  # it died before the kernel knew of our wish
        os._exit(1)
    for fd in (requests, replies):
        os.set_inheritable(fd, False)
    for number in (signal.SIGTERM, signal.SIGINT):  # systemd tells the whole group; the daemon decides when we end
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which lvcreate and others would inherit
    writing = threading.Lock()
    todo: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def send(reply: bytes) -> None:
        rest = memoryview(reply + b"\n")
        with writing:
            while rest:
                rest = rest[os.write(replies, rest) :]

    def work() -> None:
        while True:
            send(_answer(handlers, todo.get()))

    try:
        if on_start:
            on_start()
    except BaseException as error:
        send(_failure(0, error))
        os._exit(1)
    for index in range(concurrency):
        threading.Thread(target=work, name=f"handler-{index}", daemon=True).start()
    send(b'{"id":0,"ok":null}')
    with open(requests, "rb") as lines:
        for line in lines:
            todo.put(line)
    os._exit(0)  # The daemon is gone.


def _answer(handlers: Handlers, line: bytes) -> bytes:
    request = json.loads(line)
    try:
        reply = {"id": request["id"], "ok": handlers[request["method"]](request["params"])}
        return json.dumps(reply, separators=(",", ":")).encode()
    except BaseException as error:  # SystemExit too: it must neither pass for an answer nor end the calls beside it
        return _failure(request["id"], error)


def _failure(number: int, error: BaseException) -> bytes:
    message: dict[str, Any] = {"kind": "Retryable", "message": f"{type(error).__name__}: {error}"}
    if isinstance(error, ports.PortError):
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == ports.__name__)
        message = {"kind": kind.__name__, "message": str(error), "holders": list(getattr(error, "holders", ()))}
    else:
        traceback.print_exception(error)
    return json.dumps({"id": number, "error": message}).encode()
