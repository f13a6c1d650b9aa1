"""One run of the client: the store it speaks to, the key space, and the time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import click

from client.exits import Misuse, Unreachable
from client.settings import Settings
from reconciler.adapters.clock import SystemClock
from reconciler.runtime.ports import Clock, Denied, PortError, Store, Unavailable
from schema.keys import Family, Keyspace


def _somebody_is_there() -> bool:
    return sys.stdin.isatty()


@dataclass(slots=True)
class Session:
    """What every command gets. Tests hand in a store and a time of their own."""

    settings: Settings = field(default_factory=Settings)
    given_store: Store | None = None
    clock: Clock = field(default_factory=SystemClock)
    interactive: Callable[[], bool] = _somebody_is_there
    """Whether somebody is there to be asked."""
    is_full: Callable[[], bool] = lambda: False
    """Whether the store takes no more writes for want of space."""
    _end: Callable[[], None] | None = None

    @property
    def keyspace(self) -> Keyspace:
        return Keyspace(self.settings.prefix)

    @property
    def store(self) -> Store:
        """The store, dialled at first use, so that `--help` and faults in a manifest need none."""
        if self.given_store is None:
            self.given_store, self.is_full, self._end = dial(self.settings, self.interactive)
        return self.given_store

    def deserted(self) -> str:
        """A note where no daemon has ever written below the prefix: then it is a wrong one, or all is very new."""
        for family in (Family.BACKEND, Family.LEADER, Family.NODE):
            try:
                if self.store.list(self.keyspace.folder(family)).items:
                    return ""
            except PortError:  # a note is not worth a failure
                return ""
        return f"note: no daemon has written anything below {self.settings.prefix}: is the prefix right (--prefix)?"

    def close(self) -> None:
        """Hang up, if this session dialled."""
        if self._end is not None:
            self._end()


Dialled = tuple[Store, Callable[[], bool], Callable[[], None]]


def dial(settings: Settings, interactive: Callable[[], bool]) -> Dialled:
    """Connect; the store, which itself tries again until `connect_timeout_s` is over, whether it is full, and how to close
    it."""
    from reconciler.adapters.etcd.settings import EtcdSettings
    from reconciler.adapters.etcd.store import EtcdStore

    try:
        store = EtcdStore(
            EtcdSettings(
                endpoints=settings.endpoints,
                ca_file=settings.ca_file,
                cert_file=settings.cert_file,
                key_file=settings.key_file,
                user=settings.user,
                password=_password(settings, interactive),
                http_proxy=settings.http_proxy,
                attempt_timeout_s=min(2.0, settings.connect_timeout_s),
                timeout_s=settings.connect_timeout_s,
            )
        )
    except ValueError as error:
        raise Misuse(str(error)) from None
    try:
        _probe(store, settings.prefix)
    except Unavailable as error:
        store.close()
        raise Unreachable(str(error)) from None
    return store, store.is_full, store.close


def _probe(store: Store, prefix: str) -> None:
    """Any answer will do: being refused is being heard."""
    try:
        store.get(f"{prefix}desired/")
    except Denied:
        return


def _password(settings: Settings, interactive: Callable[[], bool]) -> str | None:
    if settings.user is None or settings.password is not None:
        return settings.password
    if not interactive():
        raise Misuse(f"user {settings.user}: set BRICKWORK_PASSWORD, or password_file in the settings file")
    return str(click.prompt(f"Password of {settings.user}", hide_input=True, err=True))
