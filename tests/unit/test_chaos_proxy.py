"""The proxy that `make chaos` puts between daemons and etcd does what its modes say."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Mode, Proxies, Proxy

SOON_S = 30.0
SILENT_S = 0.3
"""A reply that is to stay away is waited for so long."""


class Echo:
    """Sends everything back, and remembers it."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.heard = threading.Condition()
        self.bytes = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                end, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(end,), daemon=True).start()

    def _serve(self, end: socket.socket) -> None:
        try:
            while data := end.recv(4096):
                with self.heard:
                    self.bytes += data
                    self.heard.notify_all()
                end.sendall(data)
        except OSError:
            pass
        finally:
            end.close()

    def until(self, data: bytes) -> bool:
        with self.heard:
            return self.heard.wait_for(lambda: data in self.bytes, SOON_S)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # a close alone leaves the thread in accept() listening
        self._server.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    proxies = Proxies()
    yield proxies.open("127.0.0.1", echo.port)
    proxies.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with dial(proxy) as end:
        end.sendall(b"hello")
        assert end.recv(5, socket.MSG_WAITALL) == b"hello"
        yield end


def dial(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), SOON_S)


def is_silent(end: socket.socket) -> bool:
    end.settimeout(SILENT_S)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(SOON_S)
    return False


def test_a_cut_resets_and_refuses_until_it_is_over(proxy: Proxy, client: socket.socket) -> None:
    proxy.set(Mode.CUT)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionResetError), dial(proxy) as other:
        other.recv(1)
    proxy.set(Mode.PASS)
    with dial(proxy) as again:
        again.sendall(b"x")
        assert again.recv(1) == b"x"


def test_a_reset_hits_what_there_is_and_nothing_later(proxy: Proxy, client: socket.socket) -> None:
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with dial(proxy) as again:
        again.sendall(b"x")
        assert again.recv(1) == b"x"


def test_half_open_takes_connections_and_says_nothing(proxy: Proxy, client: socket.socket, echo: Echo) -> None:
    proxy.set(Mode.HALF_OPEN)
    with dial(proxy) as other:
        other.sendall(b"new")
        client.sendall(b"old")
        assert is_silent(other)
        assert is_silent(client)
        assert echo.bytes == b"hello"
        proxy.set(Mode.PASS)
        assert (other.recv(3), client.recv(3)) == (b"new", b"old")


def test_deaf_passes_requests_and_keeps_replies(proxy: Proxy, client: socket.socket, echo: Echo) -> None:
    proxy.set(Mode.DEAF)
    client.sendall(b"done")
    assert echo.until(b"done")
    assert is_silent(client)


def test_a_trickle_is_slow_and_complete(proxy: Proxy, client: socket.socket, echo: Echo) -> None:
    proxy.set(Mode.TRICKLE)
    client.sendall(b"slow")
    assert client.recv(1) == b"s"
    assert b"slow" not in echo.bytes
    proxy.set(Mode.PASS)
    assert client.recv(3, socket.MSG_WAITALL) == b"low"


def test_a_delay_loses_nothing(proxy: Proxy, client: socket.socket) -> None:
    proxy.set(Mode.DELAY)
    client.sendall(b"late")
    assert is_silent(client)
    assert client.recv(4, socket.MSG_WAITALL) == b"late"


def test_a_dead_member_looks_like_one(proxy: Proxy, echo: Echo) -> None:
    echo.close()
    with pytest.raises(ConnectionResetError), dial(proxy) as other:
        other.recv(1)
