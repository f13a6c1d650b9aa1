"""Calls to whichever endpoint answers: deadlines, repetition, log-in.

Each endpoint has a channel of its own. A call goes to the current one; a lost answer or a refused connection moves on to
the next (measured: the same gaps as gRPC's own balancing after a kill, and fewer lost calls when a member hangs; and names,
TLS and IPv6 stay simple). An attempt ends after `attempt_timeout_s`, a call after `timeout_s`; between attempts there is a
growing pause with jitter. What may be repeated is decided by the table in `faults` alone.

Token log-in costs the server 60 to 80 ms (bcrypt): it is done once, by one thread, and again when a token is refused.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc

from reconciler.adapters.etcd import certificates, rpc
from reconciler.adapters.etcd.faults import LOST, Again, Failed
from reconciler.adapters.etcd.settings import Endpoint, EtcdSettings
from reconciler.adapters.etcd.streams import Stream
from reconciler.runtime.ports import PortError, Unavailable

Metadata = tuple[tuple[str, str], ...]

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # gRPC's 4 MiB default would refuse a long list
    # A dead peer under a live stream is found in 14 s. Without calls no pings: etcd counts those as abuse and hangs up.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own reconnect pause grows to minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),  # a replaced channel must not share the old one's connection
)
_REQUIRE_LEADER: Metadata = (("hasleader", "true"),)  # a member that lost its leader says so instead of staying silent
_UNARY = (
    *(rpc.RANGE, rpc.TXN, rpc.AUTHENTICATE, rpc.STATUS, rpc.ALARM, rpc.LEASE_GRANT, rpc.LEASE_REVOKE),
    # A two-way stream by its definition. Sent as one request that ends our side, it gets one answer and a good end: a single
    # call, with a deadline and without threads, and cheaper (0.12 ms) than a stream kept open (0.17) or made anew (0.8).
    rpc.LEASE_KEEP_ALIVE,
)
_STREAMS = (rpc.WATCH,)
_SHORTEST_ATTEMPT_S = 0.05


class Pause:
    """Growing pauses with jitter, so that a fleet does not come back in step."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def reset(self) -> None:
        self._next_s = self._first_s

    def next_s(self) -> float:
        """Seconds to wait now."""
        pause_s = self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(self._next_s * 2, self._longest_s)
        return pause_s


class Link:
    """One endpoint: its channel, and the calls on it."""

    def __init__(self, endpoint: Endpoint, settings: EtcdSettings) -> None:
        self.url = endpoint.url
        self._endpoint = endpoint
        self._settings = settings
        self._open()

    def _open(self) -> None:
        stamps, target = _stamps(self._settings), self._endpoint.target
        options = (*_OPTIONS, ("grpc.enable_http_proxy", int(self._settings.http_proxy)))
        if self._endpoint.secure:
            self._channel = grpc.secure_channel(target, _credentials(self._settings), options=options)
        else:
            self._channel = grpc.insecure_channel(target, options=options)
        self.methods: dict[str, Any] = {
            call.path: kind(call.path, request_serializer=call.serialize, response_deserializer=call.parse)
            for kind, calls in ((self._channel.unary_unary, _UNARY), (self._channel.stream_stream, _STREAMS))
            for call in calls
        }
        self._opened_with = stamps

    def refresh(self) -> None:
        """Open anew when certificate files were replaced. Calls on the old channel keep it alive until they end."""
        if self._endpoint.secure and _stamps(self._settings) != self._opened_with:
            with suppress(ValueError, OSError):  # being replaced right now: the next failure looks again
                self._open()

    def close(self) -> None:
        self._channel.close()


class Caller:
    """The endpoints of one cluster. Threads share it."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Opens no connection yet.

        Raises:
            ValueError: a certificate file cannot be read or used.
            RuntimeError: `threading` was patched in this process, where gRPC's streams hang.
        """
        patcher = sys.modules.get("eventlet.patcher")
        if patcher is not None and patcher.is_monkey_patched("thread"):
            raise RuntimeError(
                "etcd cannot be used in a process whose threads eventlet has patched: use a child process"
            )
        self.settings = settings
        self.closed = threading.Event()
        self._links = [Link(endpoint, settings) for endpoint in settings.parsed()]
        self._current = random.randrange(len(self._links))
        self._login_lock = threading.Lock()
        self._metadata: Metadata | None = None if settings.user else _REQUIRE_LEADER

    @property
    def url(self) -> str:
        """The endpoint that the next call goes to."""
        return self._links[self._current].url

    def unary(
        self,
        call: rpc.Call,
        request: Any,
        *,
        write: bool = False,
        attempt_s: float | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """The answer to one request: attempts until one succeeds, the answer is final, or the time is up.

        Args:
            write: the request may change something, so an answer lost on the way is an unknown outcome.
            attempt_s, timeout_s: other limits than the settings'.

        Raises:
            PortError: as the table in `faults` has it.
        """
        end = time.monotonic() + (timeout_s or self.settings.timeout_s)
        attempt_s = attempt_s or self.settings.attempt_timeout_s
        pause: Pause | None = None
        login = call is not rpc.AUTHENTICATE
        may_login = login and self.settings.user is not None
        while True:
            link = self._links[self._current]
            metadata = (self._metadata or self._login(None)) if login else _REQUIRE_LEADER
            try:
                return link.methods[call.path](request, timeout=attempt_s, metadata=metadata)
            except grpc.RpcError as error:
                failed = Failed.by(error)
            except ValueError as error:  # what gRPC raises on a closed channel
                raise self._after_close(error) from error
            except RuntimeError as error:  # gRPC waits in a thread of its own
                failed = Failed(LOST, f"no room for a thread ({error})")
            again = failed.fault.again
            if again is Again.LOGIN and may_login:
                may_login = False
                self._login(metadata)
                continue
            if again in (Again.READS, Again.SURE):
                self.rotate(link)
                pause = pause or Pause(0.05, 1.0)
                pause_s = pause.next_s()
                left_s = end - time.monotonic() - pause_s
                repeatable = again is Again.SURE or not write
                if repeatable and left_s > _SHORTEST_ATTEMPT_S and not self.closed.wait(pause_s):
                    attempt_s = min(attempt_s, left_s)
                    continue
            raise failed.translated(f"etcd at {link.url}, {_subject(call, request)}", write)

    def watch(self) -> tuple[Link, Stream]:
        """A new watch stream on the current endpoint. Not yet connected."""
        link = self._links[self._current]
        metadata = self._metadata or self._login(None)
        try:
            return link, Stream(link.methods[rpc.WATCH.path], metadata)
        except ValueError as error:
            raise self._after_close(error) from error
        except RuntimeError as error:
            raise Failed(LOST, f"no room for a thread ({error})") from error

    def rotate(self, link: Link) -> None:
        """The endpoint did not serve: move on to the next, unless somebody did already."""
        current = self._current
        if self._links[current] is link:
            self._current = (current + 1) % len(self._links)
            link.refresh()

    def login_again(self, refused: Metadata) -> bool:
        """Log in anew because a stream with this metadata was refused. False: there is no password to log in with."""
        if not self.settings.user:
            return False
        self._login(refused)
        return True

    def _login(self, refused: Metadata | None) -> Metadata:
        """Metadata with a token that is not the refused one. Of several threads refused together, one asks."""
        with self._login_lock:
            if self._metadata is not None and self._metadata is not refused:
                return self._metadata
            request = rpc.AuthenticateRequest(name=self.settings.user, password=self.settings.password)
            try:
                token = self.unary(rpc.AUTHENTICATE, request).token
            except PortError as error:
                if "authentication is not enabled" not in str(error):
                    raise
                metadata = _REQUIRE_LEADER  # the server wants no log-in, as etcd's own client sees it too
            else:
                metadata = (*_REQUIRE_LEADER, ("token", token))
            self._metadata = metadata
            return metadata

    def _after_close(self, error: ValueError) -> Exception:
        return Unavailable("this etcd store was closed") if self.closed.is_set() else error

    def close(self) -> None:
        """End every call and stream; later calls raise Unavailable."""
        self.closed.set()
        for link in self._links:
            link.close()


def _credentials(settings: EtcdSettings) -> Any:
    """Raises ValueError: files that no connection can be made with."""
    for fault in certificates.unusable(settings):
        raise ValueError(f"etcd: {fault}")
    return grpc.ssl_channel_credentials(
        root_certificates=_pem(settings.ca_file or certificates.trusted_by_system()),
        private_key=_pem(settings.key_file),
        certificate_chain=_pem(settings.cert_file),
    )


def _pem(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _stamps(settings: EtcdSettings) -> tuple[int, ...]:
    """Changes when a certificate file is replaced."""
    files = (settings.ca_file, settings.cert_file, settings.key_file)
    try:
        return tuple(file.stat().st_mtime_ns for file in files if file is not None)
    except OSError:
        return ()


def _subject(call: rpc.Call, request: Any) -> str:
    """The method and the first key it is about, for a message."""
    method = call.path.rpartition("/")[2].lower()
    key = getattr(request, "key", b"")
    if call is rpc.TXN:
        key = request.compare[0].key if request.compare else request.success[0].request_put.key
    return f"{method} {key.decode(errors='replace')}" if key else method
