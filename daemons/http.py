"""What a daemon serves: `/metrics` for Prometheus, `/healthz` and `/readyz` for supervisors and people.

Read-only and tiny, on the standard library. By default on loopback: the pages hold no secrets, but they name volumes and
hosts. An answer is JSON with the reasons, and 503 when there are any: *healthy* means that a restart would not help, *ready*
that the daemon does its work right now.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from daemons.process import Refused
from daemons.redaction import redact

Check = Callable[[], Mapping[str, str]]
"""What is wrong, by subject: `{"etcd": "no answer for 12 s"}`. Empty: nothing."""

_log = structlog.get_logger(__name__)

_REQUEST_TIMEOUT_S = 5
_REQUESTS_AT_ONCE = 16
_QUICK_S = 1
"""For whole requests beyond those: a supervisor sends its few bytes at once."""
_THREADS_MAX = 3 * _REQUESTS_AT_ONCE
_LONGEST_SOCKET_PATH = 107


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """`127.0.0.1:9753`, `[::1]:9753`. Port 0: any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Address = TcpAddress | Path | None


def parse_listen(text: str) -> Address:
    """`host:port`, `unix:/path`, or `none`. Raises ValueError with what to write instead."""
    if text == "none":
        return None
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:"))
        if not path.is_absolute():
            raise ValueError("after unix: comes an absolute path, as in unix:/run/brickwork/node.sock")
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            raise ValueError(f"unix sockets allow paths of at most {_LONGEST_SOCKET_PATH} bytes")
        return path
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port is None or parts.netloc != text or parts.username is not None:
        raise ValueError("write host:port (as in 127.0.0.1:9753), unix:/path, or none")
    return TcpAddress(host, port)


class _Server(ThreadingHTTPServer):
    """At most so many requests at once, each with one deadline for all of it: a stuck or slow client neither fills the daemon
    with threads nor keeps others from an answer. Where many are slow, who comes then has to be quick, and the next one takes its
    place."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = _REQUESTS_AT_ONCE
    allow_reuse_address = True

    def __init__(self, address: TcpAddress | Path, pages: Mapping[str, Page]) -> None:
        self.pages = pages
        self._under_way: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        where: Any
        if isinstance(address, Path):
            self.address_family, where = socket.AF_UNIX, str(address)
        else:
            family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
            self.address_family = family
        super().__init__(where, _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks the DNS for the host's name, which can take a minute
        self.server_name, self.server_port = "brickwork", 0

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            many = len(self._under_way)
            if many >= 2 * _REQUESTS_AT_ONCE:
                _hang_up(min(self._under_way, key=self._under_way.__getitem__))
            if many < _THREADS_MAX:
                given_s = _REQUEST_TIMEOUT_S if many < _REQUESTS_AT_ONCE else _QUICK_S
                self._under_way[request] = time.monotonic() + given_s
        if many >= _THREADS_MAX:  # those who were hung up on are not gone yet
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no room for a thread
            with self._lock:
                self._under_way.pop(request, None)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._under_way.pop(request, None)

    def service_actions(self) -> None:
        """Called some times a second: whoever has had the time for a whole request is hung up on."""
        now = time.monotonic()
        with self._lock:
            for request, until in self._under_way.items():
                if until < now:
                    _hang_up(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if isinstance(sys.exception(), ConnectionError):
            return  # the client has gone, or was hung up on
        _log.warning("a request for metrics or health failed", exc_info=True)


def _hang_up(request: socket.socket) -> None:
    """Its thread ends by itself."""
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    content_type: str
    body: bytes


Page = Callable[[str], _Answer]
"""From the request's Accept header to the answer."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_TIMEOUT_S
    server_version = "brickwork"
    sys_version = ""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        page = self.server.pages.get(path, self._no_such_page)
        answer = page(self.headers.get("Accept", ""))
        with contextlib.suppress(ConnectionError):
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(answer.body)

    do_HEAD = do_GET

    def _no_such_page(self, _accept: str) -> _Answer:
        return _json(HTTPStatus.NOT_FOUND, {"pages": sorted(self.server.pages)})

    def address_string(self) -> str:
        return "unix" if isinstance(self.client_address, str | bytes) else str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape every few seconds is no news."""


def _json(status: HTTPStatus, value: object) -> _Answer:
    return _Answer(status, "application/json", json.dumps(value, indent=2).encode() + b"\n")


def _metrics_page(registry: CollectorRegistry) -> Page:
    def page(accept: str) -> _Answer:
        encode, content_type = choose_encoder(accept)
        return _Answer(HTTPStatus.OK, content_type, encode(registry))

    return page


def _check_page(check: Check) -> Page:
    def page(_accept: str) -> _Answer:
        try:
            reasons = dict(check())
        except Exception as error:  # a check that can't say is not fine
            _log.warning("a health check failed", exc_info=True)
            reasons = {"check": f"the check itself failed: {type(error).__name__}"}
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return _json(status, {"ok": not reasons, "reasons": redact(reasons)})

    return page


class Http:
    """The running server. `address` is where it listens, with the port that it got."""

    def __init__(self, address: TcpAddress | Path, registry: CollectorRegistry, healthy: Check, ready: Check) -> None:
        """Listens from now on.

        Raises:
            Refused: the address can't be listened on; says why, and which setting to change.
        """
        pages = {
            "/metrics": _metrics_page(registry),
            "/healthz": _check_page(healthy),
            "/readyz": _check_page(ready),
        }
        try:
            if isinstance(address, Path):
                _remove_dead_socket(address)
            self._server = _Server(address, pages)
            if isinstance(address, Path):
                address.chmod(0o660)
        except OSError as error:
            raise Refused(
                f"http.listen: cannot listen on {address}: {error.strerror or error}. Choose another address, "
                "unix:/path, or none (environment: BRICKWORK_HTTP__LISTEN)"
            ) from error
        self.address = address
        if isinstance(address, TcpAddress):
            self.address = TcpAddress(address.host, int(self._server.server_address[1]))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening. Requests under way may still end."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if isinstance(self.address, Path):
            self.address.unlink(missing_ok=True)


def _remove_dead_socket(path: Path) -> None:
    """Remove what a killed predecessor left; never anything that answers, or that is no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(path)) != 0:
            path.unlink(missing_ok=True)
