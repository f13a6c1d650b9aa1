"""The daemons' three pages."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import structlog.testing
from prometheus_client import CollectorRegistry, Counter

from daemons.http import Http, TcpAddress, parse_listen
from daemons.process import Refused

Start = Callable[..., Http]
LOOPBACK = TcpAddress("127.0.0.1", 0)


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers and stops them after the test."""
    running: list[Http] = []

    def begin(
        address: TcpAddress | Path = LOOPBACK,
        registry: CollectorRegistry | None = None,
        healthy: Callable[[], Mapping[str, str]] = dict,
        ready: Callable[[], Mapping[str, str]] = dict,
    ) -> Http:
        running.append(Http(address, registry or CollectorRegistry(), healthy, ready))
        return running[-1]

    yield begin
    for server in running:
        server.close()


def connection(server: Http) -> http.client.HTTPConnection:
    assert isinstance(server.address, TcpAddress)
    return http.client.HTTPConnection(server.address.host, server.address.port, timeout=10)


def get(server: Http, path: str, method: str = "GET") -> tuple[int, bytes]:
    client = connection(server)
    client.request(method, path)
    answer = client.getresponse()
    body = answer.read()
    client.close()
    return answer.status, body


def test_metrics_are_those_of_the_registry(start: Start) -> None:
    registry = CollectorRegistry()
    Counter("brickwork_attaches", "Attaches.", registry=registry).inc(3)
    status, body = get(start(registry=registry), "/metrics")
    assert status == 200
    assert b"brickwork_attaches_total 3.0" in body


def test_health_says_ok_when_nothing_is_wrong(start: Start) -> None:
    assert get(start(), "/healthz") == (200, b'{\n  "ok": true,\n  "reasons": {}\n}\n')


def test_not_ready_is_503_with_the_reasons(start: Start) -> None:
    status, body = get(start(ready=lambda: {"etcd": "no answer for 12 s"}), "/readyz?verbose")
    assert (status, json.loads(body)) == (503, {"ok": False, "reasons": {"etcd": "no answer for 12 s"}})


def test_a_check_that_fails_is_a_reason_and_shows_no_details(start: Start) -> None:
    def check() -> Mapping[str, str]:
        raise RuntimeError("password=canary")

    status, body = get(start(healthy=check), "/healthz")
    assert status == 503
    assert json.loads(body)["reasons"] == {"check": "the check itself failed: RuntimeError"}


def test_an_unknown_page_is_told_the_known_ones(start: Start) -> None:
    status, body = get(start(), "/")
    assert (status, json.loads(body)) == (404, {"pages": ["/healthz", "/metrics", "/readyz"]})


def test_nothing_but_reading_is_served(start: Start) -> None:
    server = start()
    assert get(server, "/metrics", "POST")[0] == 501
    assert get(server, "/healthz", "HEAD") == (200, b"")


def test_a_taken_port_is_refused_with_the_setting_to_change(start: Start) -> None:
    taken = start().address
    with pytest.raises(Refused, match=rf"http.listen: cannot listen on {taken}: Address already in use.*LISTEN"):
        start(taken)


def test_an_address_of_another_machine_is_refused(start: Start) -> None:
    with pytest.raises(Refused, match=r"cannot listen on 192\.0\.2\.1:9753: Cannot assign requested address"):
        start(TcpAddress("192.0.2.1", 9753))


def test_requests_beyond_the_limit_are_turned_away_and_the_others_served(start: Start) -> None:
    server = start()
    assert isinstance(server.address, TcpAddress)
    where = (server.address.host, server.address.port)
    silent = [socket.create_connection(where, timeout=10) for _ in range(16)]
    with socket.create_connection(where, timeout=10) as turned_away:
        assert turned_away.recv(1) == b""
    for client in silent:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.0 200"
        client.close()


@pytest.mark.parametrize("slow", [16, 60])
def test_slow_clients_keep_no_page_from_others_and_get_one_deadline(start: Start, slow: int) -> None:
    """F-K12: each byte kept a place for another five seconds."""
    server = start()
    assert isinstance(server.address, TcpAddress)
    where = (server.address.host, server.address.port)
    clients = [socket.create_connection(where, timeout=30) for _ in range(slow)]
    assert get(server, "/healthz")[0] == 200
    assert [client for client in clients[:16] if hung_up(client)] == [], "it waited for somebody else's time to be over"
    while clients:
        for client in clients:
            with contextlib.suppress(ConnectionError):
                client.sendall(b"G")  # a byte now and then, never a whole request
        select.select(clients, [], [], 0.2)
        clients = [client for client in clients if not hung_up(client)]
        assert get(server, "/healthz")[0] == 200


def test_a_client_that_breaks_off_is_no_news(start: Start) -> None:
    """Balancers and port scanners do, every few seconds: each was a warning with a traceback."""
    server = start()
    assert isinstance(server.address, TcpAddress)
    with structlog.testing.capture_logs() as told:
        for _ in range(5):
            with socket.create_connection((server.address.host, server.address.port), timeout=10) as client:
                client.sendall(b"GET /heal")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
        assert get(server, "/healthz")[0] == 200
        server.close()
        for thread in threading.enumerate():
            if "process_request_thread" in thread.name:
                thread.join(10)
    structlog.reset_defaults()
    assert told == []


def hung_up(client: socket.socket) -> bool:
    """It takes nobody's time to ask."""
    client.setblocking(False)
    try:
        gone = client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        gone = True
    client.close()
    return gone


def test_a_unix_socket_serves_and_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    server = Http(path, CollectorRegistry(), dict, dict)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.0 200"
    server.close()
    assert not path.exists()


def test_a_dead_socket_is_replaced_and_a_live_one_or_a_file_is_not(tmp_path: Path, start: Start) -> None:
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(dead))
    start(dead)
    with pytest.raises(Refused, match="Address already in use"):
        start(dead)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Refused, match="Address already in use"):
        start(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9753", TcpAddress("127.0.0.1", 9753)),
        ("[::1]:0", TcpAddress("::1", 0)),
        ("unix:/run/b.sock", Path("/run/b.sock")),
        ("none", None),
    ],
)
def test_what_may_be_listened_on(text: str, address: object) -> None:
    assert parse_listen(text) == address
    if address is not None:
        assert text in (str(address), f"unix:{address}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9753",
        ":9753",
        "host",
        "host:",
        "host:70000",
        "host:1/x",
        "u@host:1",
        "::1:9753",
        "unix:b",
        "unix:/" + "x" * 107,
    ],
)
def test_anything_else_is_told_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"write host:port|unix"):
        parse_listen(text)
