"""One life of a watch's stream, read with a time limit.

gRPC's iterator blocks for as long as the server is silent, so a thread of its own moves answers into a queue. It does
nothing else: what an answer means is decided by the thread that receives it.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import Any

import grpc

from reconciler.adapters.etcd.faults import LOST, Failed

_UNREAD_MAX = 256
"""Answers that may wait for their reader; beyond, flow control holds the server back instead of filling our memory."""

# gRPC wakes each thread that waits for an answer ten times a second, for the sake of signal handlers in the main thread. Our
# answers are awaited in threads of their own, and a node holds seven watches: without this they take 0.4 % of a core for
# nothing happening. A private name: where a version of gRPC has it no more, setting it does nothing.
with suppress(ImportError):
    from grpc import _common

    _common.MAXIMUM_WAIT_TIMEOUT = 3600.0


class Stream:
    """Requests go in with `send`, answers come out of `receive`; `close` always ends both."""

    def __init__(self, method: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self.metadata = metadata
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._room = threading.Semaphore(_UNREAD_MAX)
        self._closed = False
        self._call = method(iter(self._requests.get, None), metadata=metadata)
        try:
            threading.Thread(target=self._pump, name="etcd-stream", daemon=True).start()
        except RuntimeError:
            self.close()
            raise

    def send(self, request: Any) -> None:
        """Hand a request over; it is sent at once and in order."""
        self._requests.put(request)

    def receive(self, timeout_s: float) -> Any:
        """The next answer, or None when none came in time.

        Raises:
            Failed: the stream broke, or the server ended it.
        """
        try:
            answer = self._answers.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None
        self._room.release()
        if isinstance(answer, Failed):
            raise answer
        return answer

    def close(self) -> None:
        """End the stream; returns at once, and may be repeated."""
        self._closed = True
        self._requests.put(None)
        self._call.cancel()
        self._room.release()

    def _pump(self) -> None:
        try:
            for answer in self._call:
                self._answers.put(answer)
                self._room.acquire()
                if self._closed:
                    return
        except grpc.RpcError as error:
            self._answers.put(Failed.by(error))
        else:
            self._answers.put(Failed(LOST, "the server ended the stream"))
