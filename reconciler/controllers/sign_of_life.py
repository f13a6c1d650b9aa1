"""`alive/<node>`: a leased key that says the daemon lives. A hint for grants and for people, never an argument for anything."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.controllers.verdicts import rfc3339
from reconciler.runtime.lease import LeaseSession
from reconciler.runtime.ports import Clock, PortError, Put, Store
from schema.codec import encode
from schema.models import Alive

RETRY_S = 1.0


class SignOfLife:
    """Puts the key once for each lease; the lease's renewals keep it."""

    def __init__(self, store: Store, session: LeaseSession, clock: Clock, key: str, boot: Callable[[], str]) -> None:
        self._store = store
        self._session = session
        self._clock = clock
        self._key = key
        self._boot = boot
        self._wake = clock.signal()
        self._stopping = False
        session.subscribe(granted=lambda _: self._wake.set())

    def run(self) -> None:
        """Until `stop`. An unknown outcome is repeated: putting it twice does no harm."""
        put_for = 0
        while not self._stopping:
            lease = self._session.lease
            if lease and lease != put_for:
                put_for = lease if self._put(lease) else 0
            self._wake.wait(RETRY_S if put_for != self._session.lease else None)
            self._wake.clear()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def _put(self, lease: int) -> bool:
        alive = Alive(boot=self._boot(), since=rfc3339(self._clock.wall()))
        try:
            return self._store.txn((), (Put(self._key, encode(alive), lease),)).succeeded
        except PortError:
            return False
