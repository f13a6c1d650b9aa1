"""Where etcd is and as whom we speak to it; everything that can be refused without asking a server is refused here."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

LONGEST_SOCKET_PATH = 107
"""Bytes that fit into `sockaddr_un.sun_path`, less the closing zero. gRPC fails on longer ones with a bare UNKNOWN."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One etcd member as gRPC wants it. `url` is the user's spelling, for messages."""

    url: str
    target: str
    secure: bool
    local: bool


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """How to reach etcd.

    Args:
        endpoints: ``https://host:port``, ``http://host:port`` or ``unix:///absolute/path``; at least one, all of one cluster.
        ca_file: PEM with the certificate authorities to trust for ``https``; None: the system's.
        cert_file: PEM with our certificate (etcd takes its common name as the user); needs `key_file`.
        key_file: PEM with the certificate's private key.
        user: etcd's user, where no client certificate names one; needs `password`.
        password: the user's. Never leaves this machine in clear text: refused with ``http`` endpoints elsewhere.
        http_proxy: go through the proxy that ``http_proxy`` and its like in the environment name. Else etcd is spoken to directly,
            whatever they say: a proxy sees all that is not https, and loopback is none of its business.
        attempt_timeout_s: seconds one endpoint gets to answer one request.
        timeout_s: seconds a call may take with all its repetitions. A watch asks for a sign of life after four times this
            silence, and gives up after six times (`watching`).

    Raises:
        ValueError: with what is wrong and what to write instead.
    """

    endpoints: tuple[str, ...]
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    http_proxy: bool = False
    attempt_timeout_s: float = 2.0
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ValueError("etcd: no endpoints given; write for instance https://etcd-1.example:2379")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("etcd: a client certificate takes both cert_file and key_file")
        if (self.user is None) != (self.password is None):
            raise ValueError("etcd: user and password go together")
        if not 0 < self.attempt_timeout_s <= self.timeout_s:
            raise ValueError("etcd: attempt_timeout_s must be above 0 and at most timeout_s")
        for endpoint in self.parsed():
            if self.user is not None and self.http_proxy and not endpoint.secure:
                raise ValueError(
                    f"etcd: the password for {endpoint.url} would travel in clear text to a proxy; use https"
                )
            if self.user is not None and not (endpoint.secure or endpoint.local):
                raise ValueError(
                    f"etcd: the password would travel in clear text to {endpoint.url}; use https, or a unix socket or loopback"
                )
            if not endpoint.secure and (self.ca_file or self.cert_file):
                raise ValueError(f"etcd: {endpoint.url} is not https, so ca_file and cert_file would not be used")

    def parsed(self) -> tuple[Endpoint, ...]:
        """The endpoints as gRPC wants them."""
        return tuple(_parse(url) for url in self.endpoints)


def _parse(url: str) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _unix(url)
    shown = repr(re.sub("//.*@", "//***@", url))  # it may be a password
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"etcd: {shown} is no endpoint; write https://host:port, http://host:port or unix:///path")
    try:
        host, port = parts.hostname, 2379 if parts.port is None else parts.port
    except ValueError as error:
        raise ValueError(f"etcd: {shown} is no endpoint: {error}") from None
    more = parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc
    if not host or not port or more or " " in host:
        raise ValueError(f"etcd: {shown} is no endpoint; write {parts.scheme}://host:port and nothing more")
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Endpoint(url, target, secure=parts.scheme == "https", local=_loopback(host))


def _unix(url: str) -> Endpoint:
    path = url.removeprefix("unix:").removeprefix("//")
    if not path.startswith("/"):
        raise ValueError(f"etcd: {url!r} is no endpoint; write unix:///absolute/path")
    if len(path.encode()) > LONGEST_SOCKET_PATH:
        raise ValueError(
            f"etcd: the socket path {path} is {len(path.encode())} bytes long, and unix sockets allow "
            f"{LONGEST_SOCKET_PATH}; use a folder nearer to the root"
        )
    return Endpoint(url, f"unix:{path}", secure=False, local=True)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
