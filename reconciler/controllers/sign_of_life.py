"""`alive/<node>`: a leased key that says the daemon lives. A hint for grants and for people, never a reason to undo anything.

Only a host that may be the node puts it (`core.ownership`), and gives it back when `nodes/N` names another: a copy of the node's
host would else keep the true one out. It leaves its name in the key of the true one, for people, who takes it out again at each
look, so that it stands there as long as the copy runs.

Who may be the node, and finds the key held by another boot, waits until that is gone. That is its own former boot, for some
seconds; or a host that bears the very same identity, against which nothing but this helps, and only while the other lives.
"""

from __future__ import annotations

from collections.abc import Callable

from reconciler.controllers.verdicts import rfc3339
from reconciler.runtime.lease import LeaseSession
from reconciler.runtime.ports import Clock, Compare, Delete, Item, PortError, Put, Store
from schema.codec import decode, encode
from schema.models import Alive

RETRY_S = 1.0
LOOK_S = 10.0
"""Between two looks whether the key is still there: nobody watches it, and it may be deleted by hand."""


class SignOfLife:
    """Puts the key for each lease, and again when it is gone; the lease's renewals keep it.

    Args:
        host: what this host is called.
        denied: why this host is not the node; empty: it may be.
        duplicate: called once for each time that another host is found to be this node, with a sentence for a person.
    """

    def __init__(
        self,
        store: Store,
        session: LeaseSession,
        clock: Clock,
        key: str,
        boot: Callable[[], str],
        host: Callable[[], str],
        denied: Callable[[], str],
        duplicate: Callable[[str], None],
    ) -> None:
        self._store = store
        self._session = session
        self._clock = clock
        self._key = key
        self._boot = boot
        self._host = host
        self._denied = denied
        self._duplicate = duplicate
        self._wake = clock.signal()
        self._stopping = False
        self.given = clock.signal()
        """Set once the key is ours: from then on this host may act as the node."""
        self.decided = clock.signal()
        """Set once it is known whether this host may be the node, and if it may, the key is ours."""
        self.fault = ""
        """Who else is this node at present."""
        session.subscribe(granted=lambda _: self._wake.set())

    def run(self) -> None:
        """Until `stop`. An unknown outcome is repeated: putting it twice does no harm."""
        while not self._stopping:
            lease = self._session.lease
            denied = self._denied()
            if denied:
                self._stand_back(denied, lease)
            told = bool(lease) and not denied and self._put(lease)
            if told:
                self.fault = ""
                self.given.set()
                self.decided.set()
            self._wake.wait(LOOK_S if told else RETRY_S)
            self._wake.clear()

    def look(self) -> None:
        """Something changed that the key may depend on."""
        self._wake.set()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def _stand_back(self, denied: str, lease: int) -> None:
        """Another host is the node. What people are told about it changes with the devices that are found here."""
        if denied != self.fault:
            self.fault = denied
            self._duplicate(denied)
        self.decided.set()
        try:
            found = self._store.get(self._key)
            there = decode(Alive, found.value) if found is not None else None
            if found is None or not isinstance(there, Alive):
                return
            if lease and found.lease == lease:
                self._store.txn((Compare(self._key, mod_revision=found.mod_revision),), (Delete(self._key),))
            elif found.lease:
                self._leave_name(found, there)
        except PortError:
            return

    def _leave_name(self, found: Item, there: Alive) -> None:
        told = there.model_copy(update={"rival": f"{self._host()} (boot {self._boot()})"})
        if there != told:
            self._replace(found, told, found.lease)

    def _put(self, lease: int) -> bool:
        """Make the key say that we live by this lease. False: not now."""
        mine = Alive(boot=self._boot(), since=rfc3339(self._clock.wall()))
        try:
            result = self._store.txn((Compare(self._key, mod_revision=0),), (Put(self._key, encode(mine), lease),))
            found = result.found.get(self._key)
            if result.succeeded or found is None:
                return result.succeeded
            there = decode(Alive, found.value)
            if isinstance(there, Alive) and there.boot != mine.boot and found.lease not in (0, lease):
                self._tell(there)
                self._leave_name(found, there)
                return False
            if not isinstance(there, Alive) and found.lease not in (0, lease):
                return False  # somebody's, of a newer version perhaps: it runs out when that one is gone
            if isinstance(there, Alive) and found.lease == lease:
                mine = mine.model_copy(update={"since": there.since})
                if there == mine:
                    return True
            return self._replace(found, mine, lease)
        except PortError:
            return False

    def _replace(self, found: Item, alive: Alive, lease: int) -> bool:
        put = Put(self._key, encode(alive), lease)
        return self._store.txn((Compare(self._key, mod_revision=found.mod_revision),), (put,)).succeeded

    def _tell(self, other: Alive) -> None:
        """A key of the boot before runs out by itself; one that stays is somebody's."""
        first = not self.fault
        self.fault = (
            f"DuplicateNode: another host lives as this node (boot {other.boot}, since {other.since}; this is boot "
            f"{self._boot()}). Nothing is done here before it is gone. Is this host a clone, with the same product uuid and "
            f"machine id, or the same `host_identity` in its settings? Then give it its own, and remove its state folder, so that "
            f"it becomes a node of its own. Or do its settings name another host's `node`?"
        )
        if first:
            self._duplicate(self.fault)
