"""Where etcd is and as whom the client speaks to it.

Each setting comes from the first of: the option, `BRICKWORK_…` in the environment, etcdctl's own variables, the settings file,
the default. A password is never an option: it would show in the process list.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from client.exits import Misuse
from schema.keys import DEFAULT_PREFIX

DEFAULT_ENDPOINT = "http://127.0.0.1:2379"
CONNECT_TIMEOUT_S = 5.0
LEAST_TIMEOUT_S = 0.1


def default_file(environment: Mapping[str, str] = os.environ) -> Path:
    """`~/.config/brickwork/client.yaml`, or where XDG_CONFIG_HOME says."""
    home = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(home) / "brickwork" / "client.yaml"


@dataclass(frozen=True, slots=True)
class Given:
    """What one source says. None: nothing."""

    endpoints: tuple[str, ...] | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    prefix: str | None = None
    http_proxy: bool | None = None
    connect_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds."""

    endpoints: tuple[str, ...] = (DEFAULT_ENDPOINT,)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = DEFAULT_PREFIX
    http_proxy: bool = False
    connect_timeout_s: float = CONNECT_TIMEOUT_S


_PREFIX = "BRICKWORK_"
_VARIABLES = [
    "ENDPOINTS",
    "CA_FILE",
    "CERT_FILE",
    "KEY_FILE",
    "USER",
    "PASSWORD",
    "PASSWORD_FILE",
    "PREFIX",
    "HTTP_PROXY",
]


def from_environment(environment: Mapping[str, str]) -> Given:
    """`BRICKWORK_…` before `ETCDCTL_…`, with etcdctl's `ETCDCTL_USER=name:password`."""

    def first(*names: str) -> str | None:
        return next((environment[name] for name in names if environment.get(name)), None)

    for variable in environment:
        if variable.startswith(_PREFIX) and variable.removeprefix(_PREFIX) not in _VARIABLES:
            # Others, with another name altogether, are the daemons' or a program's that runs us.
            near = get_close_matches(variable.removeprefix(_PREFIX), _VARIABLES, n=1, cutoff=0.85)
            if near and environment[variable]:
                raise Misuse(f"environment: {variable}: unknown; did you mean {_PREFIX}{near[0]}?")
    endpoints = first("BRICKWORK_ENDPOINTS", "ETCDCTL_ENDPOINTS")
    user, _, secret = (first("BRICKWORK_USER", "ETCDCTL_USER") or "").partition(":")
    return Given(
        endpoints=tuple(each.strip() for each in endpoints.split(",") if each.strip()) if endpoints else None,
        ca_file=first("BRICKWORK_CA_FILE", "ETCDCTL_CACERT"),
        cert_file=first("BRICKWORK_CERT_FILE", "ETCDCTL_CERT"),
        key_file=first("BRICKWORK_KEY_FILE", "ETCDCTL_KEY"),
        user=user or None,
        password=first("BRICKWORK_PASSWORD") or secret or first("ETCDCTL_PASSWORD"),
        password_file=first("BRICKWORK_PASSWORD_FILE"),
        prefix=first("BRICKWORK_PREFIX"),
        http_proxy=None if (proxy := first("BRICKWORK_HTTP_PROXY")) is None else proxy.lower() in ("1", "true", "yes"),
    )


FILE_FIELDS = (
    "endpoints",
    "ca_file",
    "cert_file",
    "key_file",
    "user",
    "password_file",
    "prefix",
    "http_proxy",
    "connect_timeout_s",
)


def from_file(path: Path, *, needed: bool) -> Given:
    """The settings file. One that nobody asked for may be missing."""
    from client.documents import parse

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if needed:
            raise Misuse(f"{path}: no such settings file") from None
        return Given()
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{path}: the settings file can't be read: {error}") from None
    documents, fault = parse(str(path), text)
    if fault:
        raise Misuse(f"{fault} (not YAML)")
    if len(documents) > 1:
        raise Misuse(f"{path}: must be one mapping, such as 'endpoints: [{DEFAULT_ENDPOINT}]'")
    return _checked(path, documents[0].body if documents else None)


def _checked(path: Path, parsed: Any) -> Given:
    if parsed is None:
        return Given()
    if not isinstance(parsed, dict):
        raise Misuse(f"{path}: must be a mapping, such as 'endpoints: [{DEFAULT_ENDPOINT}]'")
    for name in parsed:
        if name == "password":
            raise Misuse(f"{path}: password: keep it in a file of its own and name that: password_file")
        if name not in FILE_FIELDS:
            raise Misuse(f"{path}: {name}: unknown setting{did_you_mean(str(name), FILE_FIELDS)}")
    values = dict(parsed)
    endpoints = values.get("endpoints")
    if isinstance(endpoints, str):
        endpoints = [endpoints]
    if endpoints is not None:
        if not endpoints or not isinstance(endpoints, list) or not all(isinstance(each, str) for each in endpoints):
            raise Misuse(f"{path}: endpoints: must be a list of URLs, such as [{DEFAULT_ENDPOINT}]")
        values["endpoints"] = tuple(endpoints)
    for name in FILE_FIELDS[1:-2]:
        if not isinstance(values.get(name), str | None):
            raise Misuse(f"{path}: {name}: must be text")
    if not isinstance(values.get("http_proxy"), bool | None):
        raise Misuse(f"{path}: http_proxy: must be true or false")
    timeout_s = values.get("connect_timeout_s")
    is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if timeout_s is not None and not (is_number and timeout_s >= LEAST_TIMEOUT_S):
        raise Misuse(f"{path}: connect_timeout_s: must be a number of seconds, at least {LEAST_TIMEOUT_S:g}")
    return Given(**values)


def did_you_mean(name: str, known: tuple[str, ...] | list[str]) -> str:
    """The nearest known name, and all of them: the end of a message about an unknown one."""
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{hint} (known: {', '.join(known)})"


def settle(*sources: Given) -> Settings:
    """The first source that says something, for each setting."""
    found: dict[str, Any] = {}
    for each in fields(Given):
        found[each.name] = next(
            (value for source in sources if (value := getattr(source, each.name)) is not None), None
        )
    secured = found["ca_file"] is not None or found["cert_file"] is not None
    endpoints = tuple(_with_scheme(each, secured) for each in found["endpoints"] or (DEFAULT_ENDPOINT,))
    if found["key_file"]:
        with suppress(OSError):  # told with its cause by who opens it
            _must_be_ours("key_file", Path(found["key_file"]).expanduser())
    prefix = found["prefix"] or DEFAULT_PREFIX
    if not (prefix.startswith("/") and prefix.endswith("/")):
        raise Misuse(f"prefix {prefix!r}: begin and end it with a slash, as in {DEFAULT_PREFIX!r}")
    return Settings(
        endpoints=endpoints,
        ca_file=_path(found["ca_file"]),
        cert_file=_path(found["cert_file"]),
        key_file=_path(found["key_file"]),
        user=found["user"],
        password=found["password"] or _read_password(found["user"], found["password_file"]),
        prefix=prefix,
        http_proxy=bool(found["http_proxy"]),
        connect_timeout_s=found["connect_timeout_s"] or CONNECT_TIMEOUT_S,
    )


def _with_scheme(endpoint: str, secured: bool) -> str:
    """etcdctl takes `host:port` too; certificates mean https."""
    if "://" in endpoint or endpoint.startswith("unix:"):
        return endpoint
    return f"{'https' if secured else 'http'}://{endpoint}"


def _path(name: str | None) -> Path | None:
    return Path(name).expanduser() if name else None


def _must_be_ours(name: str, path: Path) -> None:
    """As the daemons see to theirs. Raises Misuse, or OSError."""
    from reconciler.core.modes import exposes

    found = path.stat()
    if exposes(found.st_mode, found.st_uid):
        mode = stat.filemode(found.st_mode)
        raise Misuse(f"{name} {path}: is a secret and can be read by others ({mode}): chmod 600 {path}")


def _read_password(user: str | None, file: str | None) -> str | None:
    if user is None or file is None:
        return None
    try:
        _must_be_ours("password_file", path := Path(file).expanduser())
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"password_file {file}: can't be read: {error}") from None
