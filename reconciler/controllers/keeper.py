"""One backend in one controller: leading it, setting its driver up, saying how it is.

A keeper opens its backend once its election is won, publishes `backends/<backend>`, opens it again whenever the worker died, and
on the loss of leadership kills the worker before anything else: a call in flight must not land after a successor acts (R10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from pydantic import BaseModel

from reconciler.controllers.audit import Audit
from reconciler.controllers.snapshot import Conflict, Snapshot, Writer
from reconciler.controllers.verdicts import rfc3339
from reconciler.core.storage import covers
from reconciler.core.views import BackendView
from reconciler.runtime.cache import Cache
from reconciler.runtime.ports import (
    Backend,
    BackendInfo,
    Clock,
    Compare,
    Export,
    NotOpen,
    Opened,
    OtherStorage,
    PortError,
    Reply,
    Terminal,
    UnknownOutcome,
    VolumeData,
)
from schema.capacity import in_brief
from schema.keys import Family, Key, Keyspace
from schema.models import BackendStatus, BackendStorage, Record

OPEN_RETRY_S = (1.0, 60.0)
"""First and longest pause between tries to set a driver up."""
SILENT_RETRY_S = 5.0
"""Between two looks while the array does not answer; nothing new is asked of it meanwhile."""
STATS_S = 60.0
"""Between two looks at the driver's statistics."""
ASIDE_S = 60.0
"""So long a backend is left to other controllers by one that has not the storage that its volumes are on."""
KILL_AGAIN_S = 0.05
"""Between two kills of a worker that may only be about to start."""


class Leadership(Protocol):
    """What a keeper needs of an election."""

    @property
    def guard(self) -> Compare | None:
        """The compare that fences every write; None while another leads."""
        ...

    def step_aside(self, pause_s: float) -> None:
        """Leave the leading to others for so long."""
        ...


class Keeper:
    """Owns one backend while this controller leads it."""

    def __init__(
        self,
        backend: Backend,
        *,
        driver: str,
        controller: str,
        leadership: Leadership,
        cache: Cache,
        keyspace: Keyspace,
        writer: Writer,
        clock: Clock,
        audit: Audit,
        enqueue: Callable[[str], None],
        report: Callable[[str, BaseException | None], None],
    ) -> None:
        self.backend = backend
        self.audit = audit
        self.info: BackendInfo | None = None
        self.life = 0
        """Counts the openings: what was remembered of an earlier worker's calls is void."""
        self._driver = driver
        self._controller = controller
        self._leadership = leadership
        self._cache = cache
        self._keyspace = keyspace
        self._writer = writer
        self._clock = clock
        self._enqueue = enqueue
        self._report = report
        self._fault = "not set up yet"
        self._storage_key = Key(Family.STORAGE, (backend.name,))
        self._wake = clock.signal()
        self._stopping = False
        self._near = False
        self._silent = ""
        self._pause_s = OPEN_RETRY_S[0]
        self._not_opening = clock.signal()
        self._not_opening.set()

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def guard(self) -> Compare | None:
        return self._leadership.guard

    def view(self) -> BackendView:
        """How the planner sees it."""
        info = self.info
        if info is None or self._silent:
            return BackendView(ready=False, fault=self._silent or self._fault)
        capabilities = info.capabilities
        return BackendView(
            extends=bool(capabilities.get("extend", True)),
            extends_online=bool(capabilities.get("extend_online", False)),
            imports=bool(capabilities.get("manage_existing", False)),
            cuts_access=capabilities.get("cuts_access") is True,
        )

    # --- what others tell it

    def near(self) -> None:
        """Leadership will be here in some seconds: enough to import Cinder."""
        self._near = True
        self._wake.set()

    def won(self) -> None:
        """Leadership is here: the loop may open."""
        self._near = False
        self._wake.set()

    def lost(self) -> None:
        """Leadership is gone: kill first, then note it. An `open` that was just about to start a worker is waited for."""
        while not self._not_opening.is_set():
            self.backend.kill()
            self._not_opening.wait(KILL_AGAIN_S)
        self.backend.kill()
        self._closed("another controller leads this backend")
        self._wake.set()

    def failed(self, error: PortError) -> None:
        """A call went wrong in a way that may have cost the worker: look at once whether it has to be opened again."""
        if isinstance(error, UnknownOutcome | NotOpen):
            self._closed(str(error))
            self._wake.set()

    def look(self) -> None:
        """What is noted of the storage has changed."""
        self._wake.set()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()

    # --- its own loop

    def run(self) -> None:
        """Open while leading, look at the statistics now and then, until stopped."""
        while not self._stopping:
            self._wake.wait(self._pass())
            self._wake.clear()
        self.backend.kill()

    def _pass(self) -> float | None:
        """One look; returns how long to wait (seconds; None: until told)."""
        if self._leadership.guard is None:
            self._prepare()
            return None
        if self.info is None:
            return self._open()
        try:
            info = self.backend.describe()
            if not self._is_noted(info.storage):
                self.backend.kill()
                self._closed("its storage is no longer the one that was noted")
                return 0.0
            self.info = info
            self._publish()
            if self._silent:
                self._silent = ""
                self._everything_again()
        except (UnknownOutcome, NotOpen) as error:
            self.failed(error)
            return 0.0
        except PortError as error:
            self._silent = self._fault = str(error)
            self._publish(error)
            return SILENT_RETRY_S
        return min(STATS_S, self._audit())

    def _prepare(self) -> None:
        if self._near:
            self._near = False
            try:
                self.backend.prepare()
            except PortError as error:
                self._report(f"backend {self.name} could not be prepared: {error}", error)

    def _open(self) -> float:
        """Set the driver up; returns the pause before the next look."""
        try:
            opened = self._opened()
            self._save(opened.changed.items())
        except OtherStorage as error:
            self._refused(error)
            self._leadership.step_aside(ASIDE_S)
            return ASIDE_S
        except Conflict as error:
            self._fault = str(error)
            self.backend.kill()
            return OPEN_RETRY_S[0]
        except PortError as error:
            self._refused(error)
            pause_s = self._pause_s
            self._pause_s = min(pause_s * 2, OPEN_RETRY_S[1])
            return pause_s
        self.life += 1
        self._pause_s = OPEN_RETRY_S[0]
        self.info = opened.info
        self._silent = ""
        self._publish()
        self._report(f"backend {self.name} is ready ({opened.info.driver}, {opened.info.protocol})", None)
        self._everything_again()
        return min(STATS_S, self._audit())

    def _refused(self, error: PortError) -> None:
        self._fault = str(error)
        self._report(f"backend {self.name} is not ready: {error}", error)
        self.backend.kill()
        self._publish(error)

    def _opened(self) -> Opened:
        """With the records as they are: drivers bring back what these say is exported, and a cache may be old. Nobody else
        changes them while we lead. Raises Conflict when we do not: whoever ends that sees us here, or we see that it has ended.
        """
        self._not_opening.clear()
        try:
            volumes = self._volumes()
            self._restore_mark()
            snapshot = Snapshot(self._cache, self._keyspace)
            noted = self._noted(snapshot)
            self._writer.confirm(snapshot, (self._storage_key,), self._guards())
            opened = self.backend.open(volumes, noted)
            self._note(snapshot, noted, opened.info.storage)
            return opened
        finally:
            self._not_opening.set()

    def _noted(self, snapshot: Snapshot) -> str:
        """The mark of the storage that this backend's volumes are on; empty: none was noted. Raises Terminal: can't be read."""
        noted = snapshot.value(self._storage_key, BackendStorage)
        if noted is None and snapshot.see(self._storage_key) is not None:
            raise Terminal(
                f"storage/{self.name} can't be read: put it right by hand, or accept the storage anew (brickctl accept)"
            )
        return noted.mark if noted is not None else ""

    def _restore_mark(self) -> None:
        """A mark that was deleted by hand comes back from the status of the last leader, which found the same."""
        snapshot, own = Snapshot(self._cache, self._keyspace), Key(Family.BACKEND, (self.name,))
        status = snapshot.value(own, BackendStatus)
        if snapshot.see(self._storage_key) is None and status is not None and status.ready and status.storage:
            self._note(snapshot, "", status.storage, own)

    def _note(self, snapshot: Snapshot, noted: str, found: str, *facts: Key) -> None:
        """Durable before anything is created there: from now on no controller takes another storage for this one."""
        if found != noted:
            storage = BackendStorage(mark=found, noted_by=self._controller, at=rfc3339(self._clock.wall()))
            puts: list[tuple[Key, BaseModel]] = [(self._storage_key, storage)]
            self._writer.commit(snapshot, (self._storage_key, *facts), puts, guard=self._guards())

    def _is_noted(self, found: str) -> bool:
        """Whether the driver still has the storage that it was opened with: shares are unmounted, addresses move."""
        return covers(found, self._noted(Snapshot(self._cache, self._keyspace)))

    def _audit(self) -> float:
        """One audit, if it is due and the driver can tell what it exports; returns the seconds until the next one.

        An audit that fails leaves the backend as it is.
        """
        if self.info is None or not self.info.capabilities.get("list_exports"):
            return STATS_S
        try:
            self.audit.run_if_due()
            self._publish()
        except PortError as error:
            self._report(f"backend {self.name} did not list its exports: {error}", error)
            self.failed(error)
        return self.audit.wait_s

    def _closed(self, fault: str) -> None:
        self.info = None
        self._fault = fault
        self.audit.forget()

    def _volumes(self) -> list[VolumeData]:
        """All volumes of this backend, as recorded now: drivers look at them in their set-up."""
        found = []
        for item in self._writer.listed(Family.RECORD):
            record = self._cache.decoded(item)
            key = self._keyspace.parse(item.key)
            if isinstance(record, Record) and record.backend == self.name and isinstance(key, Key):
                found.append(volume_data(key.names[0], record))
        return found

    def _save(self, changed: Iterable[tuple[str, Reply]]) -> None:
        """The set-up may have changed a driver's own data: save it before anything else is done with the volume."""
        for volume, reply in changed:
            snapshot = Snapshot(self._cache, self._keyspace)
            key = Key(Family.RECORD, (volume,))
            record = snapshot.value(key, Record)
            if record is not None and record.model != reply.model:
                saved = record.model_copy(update={"model": dict(reply.model)})
                self._writer.commit(snapshot, (key,), [(key, saved)], guard=self._guards())

    def _publish(self, error: PortError | None = None) -> None:
        """`backends/<backend>`, when what it says changed."""
        snapshot = Snapshot(self._cache, self._keyspace)
        key = Key(Family.BACKEND, (self.name,))
        present = snapshot.value(key, BackendStatus)
        status = self._status(error)
        if present is not None:
            same = (present.ready, present.reason) == (status.ready, status.reason)
            status = status.model_copy(update={"since": present.since}) if same else status
        if present == status:
            return
        puts: list[tuple[Key, BaseModel]] = [(key, status)]
        try:
            self._writer.commit(snapshot, (key,), puts, guard=self._guards())
        except Conflict:
            self._wake.set()
        except PortError as fault:
            self._report(f"backends/{self.name} could not be written: {fault}", fault)

    def _status(self, error: PortError | None) -> BackendStatus:
        since = rfc3339(self._clock.wall())
        info = self.info
        if info is None or error is not None:
            reason = "SetupRefused" if isinstance(error, Terminal) else "NotReady"
            reason = "StorageDiffers" if isinstance(error, OtherStorage) else reason
            return BackendStatus(
                ready=False,
                reason=reason,
                message=self._fault,
                driver=self._driver,
                storage=error.found if isinstance(error, OtherStorage) else "",
                controller=self._controller,
                since=since,
            )
        return BackendStatus(
            ready=True,
            driver=info.driver,
            protocol=info.protocol,
            capabilities=dict(info.capabilities),
            capacity=in_brief(info.capacity),
            storage=info.storage,
            orphan_exports=len(self.audit.orphans),
            orphans=self.audit.told(),
            controller=self._controller,
            since=since,
        )

    def _guards(self) -> tuple[Compare, ...]:
        guard = self._leadership.guard
        if guard is None:
            raise Conflict("this controller no longer leads the backend")
        return (guard,)

    def _everything_again(self) -> None:
        """Readiness is a fact that every volume of this backend may have waited for."""
        for family in (Family.DESIRED_VOLUME, Family.GRANT):
            for item in self._cache.prefix(self._keyspace.folder(family)):
                key = self._keyspace.parse(item.key)
                if isinstance(key, Key):
                    self._enqueue(key.names[0])


def volume_data(volume: str, record: Record) -> VolumeData:
    """A record as drivers need it. Its export intents are all there may be on the array, known undone or not."""
    exports = tuple(Export(e.node, e.epoch, e.mode, e.connector) for e in record.exports)
    return VolumeData(volume, record.uid, record.size_gib, record.model, exports)
