"""A TCP proxy that misbehaves: between one daemon and one member of etcd.

All proxies of a run live on one event loop in one thread. They listen on loopback, on ports that the kernel chooses.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from enum import Enum

_CHUNK = 65536
_LATENCY_S = 1.0
_TRICKLE_S = 1.0
_LISTEN = "127.0.0.1"


class Mode(Enum):
    """What the proxy does with its connections, those it has and those that come."""

    PASS = "passes everything on"
    CUT = "resets every connection, and refuses new ones"
    DELAY = "is a second late in each direction"
    HALF_OPEN = "takes connections and bytes, and passes nothing on"
    DEAF = "passes requests on, and no reply"
    TRICKLE = "passes one byte each second"


class Proxy:
    """One port here, one there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, upstream: tuple[str, int]) -> None:
        self._loop = loop
        self._upstream = upstream
        self._mode = Mode.PASS
        self._changed = asyncio.Event()
        """Set and replaced at each change of mode: who waits looks again."""
        self._server: asyncio.Server
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, _LISTEN)
        self.port = self._server.sockets[0].getsockname()[1]

    # --- from other threads

    def set(self, mode: Mode) -> None:
        """From now on. Bytes that were held back while nothing was passed on go on after that."""
        self._loop.call_soon_threadsafe(self._set, mode)

    def reset(self) -> None:
        """RST on every connection, once, in the middle of whatever is said."""
        self._loop.call_soon_threadsafe(self._reset)

    # --- on the loop

    async def close(self) -> None:
        self._server.close()
        self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _set(self, mode: Mode) -> None:
        self._mode = mode
        self._changed.set()
        self._changed = asyncio.Event()
        if mode is Mode.CUT:
            self._reset()

    def _reset(self) -> None:
        for writer in self._writers:
            _abort(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except OSError:  # one of the two ends went; or etcd is not there
            pass
        finally:
            _abort(writer)
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode is Mode.CUT:
            return
        await self._until(lambda: self._mode is not Mode.HALF_OPEN)
        there_reader, there = await asyncio.open_connection(*self._upstream)
        self._writers.add(there)
        try:
            pumps = [
                asyncio.ensure_future(self._pump(reader, there, lambda: self._mode is not Mode.HALF_OPEN)),
                asyncio.ensure_future(
                    self._pump(there_reader, writer, lambda: self._mode not in (Mode.HALF_OPEN, Mode.DEAF))
                ),
            ]
            try:  # either side's end ends both, as a proxy that died would
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            _abort(there)
            self._writers.discard(there)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[], bool]
    ) -> None:
        while data := await reader.read(_CHUNK):
            await self._until(passes)
            if self._mode is Mode.DELAY:
                await asyncio.sleep(_LATENCY_S)
            while data and self._mode is Mode.TRICKLE:
                writer.write(data[:1])
                data = data[1:]
                await self._pause(_TRICKLE_S)
            writer.write(data)
            await writer.drain()

    async def _pause(self, seconds: float) -> None:
        """So long, or until the mode changes."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._changed.wait()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN, whatever is still to be sent."""
    end = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        if end is not None and end.fileno() >= 0:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxies:
    """The thread and the loop of all proxies, until `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._all: list[Proxy] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def open(self, host: str, port: int) -> Proxy:
        """A new proxy in front of that port; it listens when this returns."""
        return asyncio.run_coroutine_threadsafe(self._open((host, port)), self._loop).result()

    async def _open(self, upstream: tuple[str, int]) -> Proxy:
        proxy = Proxy(self._loop, upstream)
        await proxy.listen()
        self._all.append(proxy)
        return proxy

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        for proxy in self._all:
            await proxy.close()
