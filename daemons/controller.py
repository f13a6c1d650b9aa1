"""`brickwork-controller`: grants volumes to nodes and drives the storage backends. Wiring only.

reflector ──▶ cache ──▶ queue ──▶ VolumeReconciler ──▶ store, and one Keeper (driver in its worker) per backend
                                  one election per backend, one for the cluster's own keys
"""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog

from daemons.assembly import STOP_BOUND_S, Assembly
from daemons.commandline import settings_from
from daemons.identity import private_folder
from daemons.process import Exit, Refused, keep_to_itself, run
from daemons.settings import ControllerSettings
from daemons.shell import Shell
from reconciler.adapters.child import end_survivors, level_of
from reconciler.adapters.cinder.backend import BackendSettings, CinderBackend
from reconciler.controllers import unserved
from reconciler.controllers.audit import Audit
from reconciler.controllers.keeper import Keeper
from reconciler.controllers.last_wishes import LastWishes
from reconciler.controllers.snapshot import Writer
from reconciler.controllers.strays import StrayReconciler
from reconciler.controllers.surroundings import (
    BY_BACKEND,
    BY_IDENTIFIER,
    BY_VOLUME,
    backend_of,
    identifiers_of,
    volume_of,
)
from reconciler.controllers.vanished import VanishedVolumes
from reconciler.controllers.volume import VolumeReconciler
from reconciler.controllers.wishes import WishTimes
from reconciler.runtime.controller import Controller, Result
from reconciler.runtime.election import Election
from reconciler.runtime.index import Index
from reconciler.runtime.lease import LeaseSession
from reconciler.runtime.ports import Backend, Compare, Item, PortError
from schema.codec import connector_in, decode
from schema.keys import CLUSTER, VERDICT_OF, Family, Key, Keyspace, Unparsable
from schema.models import Condition, Leader, Record

PROGRAM = "brickwork-controller"
SURVIVORS_S = 60.0
"""So long the calls of an earlier daemon, which was killed, may take to die."""
CALLS = ("create", "extend", "delete", "export", "connect_export", "terminate", "unexport")

_AROUND_NODE = (Family.NODE, Family.ALIVE, Family.DESIRED_NODE, Family.FENCE, Family.FENCED)
"""Families that say something of a node as a whole: all its volumes are looked at again."""

_log = structlog.get_logger("brickwork")


class ControllerDaemon:
    """One controller process.

    Args:
        shell: made with `CALLS` and `indexes`.
        backends: by name, one for each in the settings.
    """

    def __init__(self, settings: ControllerSettings, shell: Assembly, backends: Mapping[str, Backend]) -> None:
        self._settings = settings
        self._shell = shell
        keyspace = shell.keyspace
        self._reflector = shell.reflect(keyspace.prefix)
        self._session = LeaseSession(
            shell.store, shell.clock, shell.rng, ttl_s=settings.lease_ttl_s, report=shell.reporter("lease")
        )
        shell.needs_lease(self._session)
        shell.telemetry.watch_lease("controller", lambda: self._session.age_s)
        for each in backends.values():  # what a leader does ends with its lease, also while this process is stopped
            self._session.subscribe(trusted=each.permit)
        self._elections: list[Election] = []
        self._keepers: dict[str, Keeper] = {}
        for name, backend in settings.backends.items():
            self._keepers[name] = self._keeper(backend, backends[name])
        self._cluster = self._election(CLUSTER, self._everything, lambda: None)
        mass = shell.asking(settings.mass_delete.rule)
        last_wishes = LastWishes(shell.store, keyspace)
        self._reflector.follow(last_wishes.listen)
        self._volumes = VolumeReconciler(
            store=shell.store,
            cache=shell.cache,
            keyspace=keyspace,
            clock=shell.clock,
            keepers=self._keepers,
            cluster_guard=self._cluster_guard,
            mass=mass,
            last_wishes=last_wishes,
            mint_uid=lambda: str(uuid.UUID(int=shell.rng.getrandbits(128), version=4)),
            failpoint=shell.failpoint,
            observe_step=shell.observe_step,
            refused=_tell_refused,
        )
        self._strays = StrayReconciler(
            store=shell.store,
            cache=shell.cache,
            keyspace=keyspace,
            clock=shell.clock,
            guard=self._cluster_guard,
            refused=_tell_refused,
        )
        times = WishTimes(shell.cache, keyspace, shell.clock, shell.telemetry)
        shell.telemetry.watch_oldest_unsettled("volumes", times.oldest_s)
        shell.telemetry.watch_paused("deletions", VanishedVolumes(shell.cache, keyspace, mass).paused)
        shell.cache.subscribe(keyspace.prefix, self._changed)

    def serve(self) -> Exit:
        shell = self._shell
        controller = Controller(
            "volumes",
            shell.queue,
            self._reconcile,
            shell.clock,
            workers=self._settings.workers,
            needs=(self._reflector.synced,),
            observe=shell.telemetry.observer("volumes"),
            failed=self._failed,
        )
        shell.at_stop(lambda: self._session.close(STOP_BOUND_S))
        for election in self._elections:
            shell.at_stop(partial(election.resign, STOP_BOUND_S))
        for keeper in self._keepers.values():
            shell.at_stop(keeper.stop)
        shell.at_stop(lambda: controller.stop(STOP_BOUND_S))
        shell.clock.spawn("start", self._begin)
        controller.start()
        return shell.serve(PROGRAM, self._everything)

    def _begin(self) -> None:
        """Nobody campaigns before the first full list: a leader has to know all records."""
        self._session.start()
        self._reflector.synced.wait()
        for backend, sentence in unserved.told(self._shell.cache, self._shell.keyspace, self._keepers):
            _log.warning(sentence, backend=backend)
        for election in self._elections:
            self._tell_leader(election)
            election.start()
        for keeper in self._keepers.values():
            self._shell.clock.spawn(f"keeper {keeper.name}", keeper.run)

    # --- parts

    def _keeper(self, settings: BackendSettings, backend: Backend) -> Keeper:
        shell = self._shell
        audit = Audit(
            backend,
            cache=shell.cache,
            keyspace=shell.keyspace,
            clock=shell.clock,
            rng=shell.rng,
            every_s=self._settings.audit_s,
            enqueue=shell.queue.add,
        )
        shell.telemetry.watch_orphan_exports(settings.name, lambda: len(audit.orphans))
        keeper = Keeper(
            backend,
            driver=settings.driver or f"section {settings.section or settings.name} of {settings.cinder_conf}",
            controller=self._settings.name,
            leadership=_Later(lambda: self._election_of(settings.name)),
            cache=shell.cache,
            keyspace=shell.keyspace,
            writer=Writer(shell.store, shell.cache, shell.keyspace),
            clock=shell.clock,
            audit=audit,
            enqueue=shell.queue.add,
            report=lambda text, error: _log.info(text) if error is None else _log.warning(text),
        )
        self._election(settings.name, keeper.won, keeper.lost, near=keeper.near)
        return keeper

    def _election(
        self, name: str, won: Callable[[], None], lost: Callable[[], None], near: Callable[[], None] = lambda: None
    ) -> Election:
        shell = self._shell
        election = Election(
            shell.store,
            shell.cache,
            self._session,
            shell.keyspace.path(Family.LEADER, name),
            self._settings.name,
            shell.clock,
            shell.rng,
            host=socket.gethostname(),
            on_near=near,
            on_elected=lambda: self._told(name, "leads", won),
            on_lost=lambda: self._told(name, "leads no more", lost),
            report=shell.reporter(f"election {name}"),
        )
        self._elections.append(election)
        return election

    def _tell_leader(self, election: Election) -> None:
        """A standby has nothing else to say."""
        item = self._shell.cache.get(election.key)
        leader = None if item is None else decode(Leader, item.value)
        if isinstance(leader, Leader):
            name = election.key.rsplit("/", 1)[1]
            _log.info(f"stands by: {leader.identity} on {leader.host} leads {name}", backend=name)

    def _told(self, name: str, what: str, then: Callable[[], None]) -> None:
        then()
        _log.info(f"{what} {name}", backend=name, controller=self._settings.name)

    def _election_of(self, backend: str) -> Election | None:
        path = self._shell.keyspace.path(Family.LEADER, backend)
        return next((each for each in self._elections if each.key == path), None)

    def _guard_of(self, backend: str) -> Compare | None:
        election = self._election_of(backend)
        return election.guard if election is not None and election.elected.is_set() else None

    def _cluster_guard(self) -> Compare | None:
        return self._guard_of(CLUSTER)

    # --- what is looked at when

    def _reconcile(self, key: str) -> Result:
        return self._strays.reconcile(key) if key.startswith("/") else self._volumes.reconcile(key)

    def _failed(self, key: str, delay_s: float) -> None:
        if not key.startswith("/"):
            self._volumes.failed(key, delay_s)

    def _changed(self, path: str) -> None:
        """A key changed: which volumes, or which stray key, have to be looked at."""
        shell = self._shell
        key = shell.keyspace.parse(path)
        if isinstance(key, Key) and key.family in VERDICT_OF.values() and shell.cache.get(path) is not None:
            return  # our own words: acting on them at once would undo the back-off that they tell of
        if isinstance(key, Key) and key.volume is None and key.family in _AROUND_NODE:
            waiting = self._volumes.waiting_for(key.names[0]) if key.family is Family.NODE else ()
            for node in (key.names[0], *waiting):
                for family in (Family.DESIRED_ATTACHMENT, Family.CONNECTION):
                    for item in shell.cache.prefix(shell.keyspace.folder(family, node)):
                        shell.queue.add(item.key.rsplit("/", 1)[1])
        if isinstance(key, Key) and key.family is Family.BACKEND and shell.cache.get(path) is None:
            for item in shell.cache.prefix(shell.keyspace.folder(Family.DESIRED_VOLUME)):  # nobody serves it any more
                shell.queue.add(item.key.rsplit("/", 1)[1])
        if isinstance(key, Key) and key.family is Family.STORAGE:
            self._storage_noted(key.names[0])
        self._look_at(path, key)

    def _storage_noted(self, backend: str) -> None:
        """By a leader, or by a person who accepts another one: whoever stood aside for the sake of the old one may lead now."""
        keeper, election = self._keepers.get(backend), self._election_of(backend)
        if keeper is not None and election is not None:
            election.rejoin()
            keeper.look()

    def _look_at(self, path: str, key: Key | Unparsable) -> None:
        """Enqueue whatever reconciles this very key."""
        queue, keyspace = self._shell.queue, self._shell.keyspace
        match key:
            case Unparsable(desired=True) | Key(family=Family.DESIRED_NODE):
                queue.add(path)
            case Key(family=Family.VERDICT_NODE, names=(node,)):
                queue.add(keyspace.path(Family.DESIRED_NODE, node))
            case Key(family=Family.VERDICT_UNPARSABLE, names=(encoded,)):
                queue.add(keyspace.unparsable_path(encoded))
            case Key(volume=str(volume)):
                queue.add(volume)

    def _everything(self) -> None:
        """Each key is looked at, what we said too: the wish that it was about may have gone while nobody led."""
        keyspace = self._shell.keyspace
        for item in self._shell.cache.prefix(keyspace.prefix):
            self._look_at(item.key, keyspace.parse(item.key))


def _tell_refused(key: Key, condition: Condition) -> None:
    """A wish that can't be taken as it stands, once; its verdict has the same words."""
    fields = dict(zip(key.family.names, key.names, strict=True))
    _log.warning("a wish can't be met as it stands", reason=condition.reason, why=condition.message, **fields)


class _Later:
    """A keeper's view of an election that is made after it."""

    def __init__(self, election: Callable[[], Election | None]) -> None:
        self._election = election

    @property
    def guard(self) -> Compare | None:
        election = self._election()
        return election.guard if election is not None and election.elected.is_set() else None

    def step_aside(self, pause_s: float) -> None:
        if (election := self._election()) is not None:
            election.step_aside(pause_s)


def indexes(keyspace: Keyspace) -> tuple[Index, ...]:
    nodes, records = keyspace.folder(Family.NODE), keyspace.folder(Family.RECORD)

    def identifiers(path: str, item: Item) -> Sequence[str]:
        # also of a record that can't be read as a whole: what it names is no less its own
        return tuple(identifiers_of(connector_in(item.value))) if path.startswith(nodes) else ()

    def backends(path: str, item: Item) -> Sequence[str]:
        record = decode(Record, item.value) if path.startswith(records) else None
        return backend_of(record) if isinstance(record, Record) else ()

    by_volume = Index(BY_VOLUME, lambda path, _: volume_of(keyspace, path))
    return by_volume, Index(BY_IDENTIFIER, identifiers), Index(BY_BACKEND, backends)


def start(settings: ControllerSettings) -> ControllerDaemon:
    """The daemon on this machine: real store, real clock, Cinder in workers. Raises Refused."""
    shell = Shell(settings, CALLS, indexes(Keyspace(settings.prefix)))
    private_folder(_temporary_folder(settings))
    try:
        end_survivors(settings.state_folder, SURVIVORS_S)
    except PortError as error:
        raise Refused(str(error)) from error
    return ControllerDaemon(
        settings, shell, {each.name: _cinder(each, settings) for each in settings.backends.values()}
    )


def _temporary_folder(settings: ControllerSettings) -> Path:
    return settings.run_folder / "tmp"


def _cinder(backend: BackendSettings, settings: ControllerSettings) -> Backend:
    return CinderBackend(
        backend,
        settings.state_folder,
        _temporary_folder(settings),
        log=lambda line: _log.log(level_of(line), line, backend=backend.name),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script."""
    keep_to_itself()
    settings = settings_from("controller", sys.argv[1:] if arguments is None else arguments, os.environ)
    return run(PROGRAM, lambda: start(settings).serve())


if __name__ == "__main__":
    raise SystemExit(main())
