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

from reconciler.adapters.child.lines import CONTINUED, PIECE_MAX
from reconciler.runtime import ports
from schema.secrets import KnownSecrets

PIPES = "BRICKWORK_PIPES"
"""The environment variable with both file descriptors and the keeper's pid; gone before anything foreign runs."""
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4

Handlers = Mapping[str, Callable[[Mapping[str, Any]], Any]]


def serve(
    handlers: Handlers,
    *,
    concurrency: int,
    on_start: Callable[[], None] | None = None,
    secrets: KnownSecrets | None = None,
) -> NoReturn:
    """Be a child: answer requests in `concurrency` native threads until the daemon is gone. Ends the process.

    `on_start` (heavy imports belong there) runs in the main thread; a port error that it raises is what `Child.start` raises.
    A handler takes the request's params and returns JSON. What has a secret's name in either is kept out of every error, and of all
    that this process and those below it print; so is what is added to `secrets`.
    """
    known = KnownSecrets() if secrets is None else secrets
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
        pieces = [reply[start : start + PIECE_MAX] for start in range(0, len(reply), PIECE_MAX)]
        rest = memoryview(b"".join(CONTINUED + piece + b"\n" for piece in pieces[:-1]) + pieces[-1] + b"\n")
        with writing:
            while rest:
                rest = rest[os.write(replies, rest) :]

    def work() -> None:
        while True:
            send(_answer(handlers, todo.get(), known))

    known.on_new(lambda secret: send(json.dumps({"secret": secret}).encode()))
    try:
        if on_start:
            on_start()
    except BaseException as error:
        send(_failure(0, error, known))
        os._exit(1)
    for index in range(concurrency):
        threading.Thread(target=work, name=f"handler-{index}", daemon=True).start()
    send(b'{"id":0,"ok":null}')
    with open(requests, "rb") as lines:
        for line in lines:
            todo.put(line)
    os._exit(0)  # The daemon is gone.


def _answer(handlers: Handlers, line: bytes, known: KnownSecrets) -> bytes:
    request = json.loads(line)
    try:
        known.learn(request["params"], quietly=True)  # the other end of the pipe knows them
        result = handlers[request["method"]](request["params"])
        known.learn(result)  # before it is on its way: what is printed meanwhile may hold them
        return json.dumps({"id": request["id"], "ok": result}, separators=(",", ":")).encode()
    except BaseException as error:  # SystemExit too: it must neither pass for an answer nor end the calls beside it
        return _failure(request["id"], error, known)


def _failure(number: int, error: BaseException, known: KnownSecrets) -> bytes:
    message: dict[str, Any] = {"holders": [], "found": ""}
    if isinstance(error, ports.PortError):
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == ports.__name__)
        message |= {"kind": kind.__name__, "message": known.mask(str(error)), "found": getattr(error, "found", "")}
        message["holders"] = [known.mask(str(holder)) for holder in getattr(error, "holders", ())]
    else:
        message |= {"kind": "Retryable", "message": known.mask(f"{type(error).__name__}: {error}")}
        traceback.print_exception(error)
    return json.dumps({"id": number, "error": message}).encode()
