"""The sections that both daemons' settings have: etcd, http, log."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from daemons.http import Address, parse_listen
from daemons.logs import Format, Level
from daemons.process import Refused
from daemons.redaction import redact
from reconciler.adapters.etcd.settings import EtcdSettings
from reconciler.core.mass import MassRule
from reconciler.core.modes import exposes


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("write an absolute path: a daemon's working folder is not where you are")
    return path


def _listen(text: str) -> str:
    parse_listen(text)
    return text


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Section(BaseModel):
    """What all parts have in common. `repr` hides secrets, so that settings may be logged."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return list(self.shown().items())

    def shown(self) -> dict[str | None, Any]:
        """Everything, fit for anybody's eyes."""
        shown: dict[str | None, Any] = redact(self)
        return shown


class Etcd(Section):
    """How to reach etcd, and as whom. With client certificates etcd takes the certificate's common name as the user."""

    endpoints: tuple[str, ...] = ("http://127.0.0.1:2379",)
    """All members of one cluster: `https://host:port`, `http://host:port` or `unix:///path`. The default is where etcd listens when
    nobody told it otherwise; for anything that spans hosts give https."""
    ca_file: AbsolutePath | None = None
    """PEM with the authorities that signed etcd's certificates. Without it those of the system are trusted."""
    cert_file: AbsolutePath | None = None
    """PEM with this daemon's certificate: the way to log in that we recommend, as nothing has to be renewed while running."""
    key_file: AbsolutePath | None = None
    """PEM with that certificate's private key."""
    user: str | None = None
    """etcd's user, where no certificate names one. Takes `password_file`, and https (or this machine alone)."""
    password_file: AbsolutePath | None = None
    """Holds the user's password and nothing else, readable by this daemon only."""
    http_proxy: bool = False
    """Go through the proxy that `http_proxy`, `https_proxy` and `no_proxy` in the environment name. Else they are not looked at."""
    attempt_timeout_s: Seconds = 2.0
    """How long one member gets to answer one request, before the next is asked. Longer than an election of etcd (1 s) takes."""
    timeout_s: Seconds = 5.0
    """How long a request may take with all its attempts. Short, because everything that fails is tried again anyway."""

    @model_validator(mode="after")
    def _is_coherent(self) -> Self:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file go together")
        self._store_settings("" if self.user else None)
        return self

    def store_settings(self) -> EtcdSettings:
        """What the store takes, with the password read.

        Raises:
            Refused: the password can't be read, or others can read it or the key.
        """
        if self.key_file is not None:
            _refuse_exposed("etcd.key_file", self.key_file)
        return self._store_settings(_read_secret(self.password_file) if self.password_file else None)

    def tls_settings(self) -> EtcdSettings:
        """The same without a look at a password."""
        return self._store_settings("" if self.user else None)

    def _store_settings(self, password: str | None) -> EtcdSettings:
        try:
            return EtcdSettings(
                endpoints=self.endpoints,
                ca_file=self.ca_file,
                cert_file=self.cert_file,
                key_file=self.key_file,
                user=self.user,
                password=password,
                http_proxy=self.http_proxy,
                attempt_timeout_s=self.attempt_timeout_s,
                timeout_s=self.timeout_s,
            )
        except ValueError as error:
            raise ValueError(str(error).removeprefix("etcd: ")) from None


class Mass(Section):
    """From where on wishes that vanish at once count as an accident: nothing is done about them until they are back or their end is
    confirmed. Both must be exceeded. `share: 1` turns it off."""

    at_least: Annotated[int, Field(ge=1)] = 3
    """So many wishes are gone. With fewer nobody could tell a mistake from everyday work."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """More than this part of all is gone."""

    @property
    def rule(self) -> MassRule:
        return MassRule(self.at_least, self.share)


class Http(Section):
    """Where metrics and health are served."""

    listen: Annotated[str, AfterValidator(_listen)]
    """`host:port`, `unix:/path` or `none`. On loopback by default: the pages hold no secret, but they name volumes and hosts."""

    @property
    def address(self) -> Address:
        return parse_listen(self.listen)


class Log(Section):
    """What is logged, to stderr."""

    format: Format = "auto"
    """`text` for people, `json` (one object a line) for machines; `auto` is text on a terminal and JSON elsewhere."""
    level: Level = "info"
    """The least that is logged: debug, info, warning or error. At info an undisturbed attach takes a few lines."""


def exposure(file: Path) -> str:
    """How others could read a file, as in `-rw-r--r--`; empty: they can't. Raises OSError."""
    found = file.stat()
    return stat.filemode(found.st_mode) if exposes(found.st_mode, found.st_uid) else ""


def _refuse_exposed(name: str, file: Path) -> None:
    try:
        if mode := exposure(file):
            raise Refused(f"{name}: {file} is a secret and can be read by others ({mode}): chmod 600 {file}")
    except OSError as error:
        raise Refused(f"{name}: {file} can't be read: {error.strerror}") from error


def _read_secret(file: Path) -> str:
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):  # reading a fifo or a device may have no end
            raise Refused(f"etcd.password_file: {file} is no plain file")
        if mode & 0o077:
            raise Refused(
                f"{file} holds a password and can be read by others ({stat.filemode(mode)}): chmod 600 {file}"
            )
        text = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"etcd.password_file: {file} can't be read: {error}") from error
    if not text:
        raise Refused(f"etcd.password_file: {file} is empty")
    if not text.isprintable():
        raise Refused(f"etcd.password_file: {file} has to hold one line, the password, and nothing else")
    return text
