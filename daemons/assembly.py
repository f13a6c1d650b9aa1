"""What both daemons are made of, over the ports alone: store, cache, queue, reflectors, telemetry.

Nothing here starts a thread, opens a file or asks the time but through a port, so the simulator runs the daemons on parts of
its own choice. What makes a process of them (folders, signals, HTTP) is in `daemons.shell`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import structlog

from daemons.process import Exit, Refused
from daemons.settings import CommonSettings
from reconciler.core.mass import ASK_ALWAYS, MassRule
from reconciler.core.steps import Step
from reconciler.runtime.cache import Cache
from reconciler.runtime.index import Index
from reconciler.runtime.lease import LeaseSession
from reconciler.runtime.lineage import KnownStore
from reconciler.runtime.ports import (
    Busy,
    Clock,
    Item,
    PortError,
    Replaced,
    Retryable,
    Signal,
    Store,
    StoreMemory,
    Terminal,
)
from reconciler.runtime.reflector import Reflector, ReflectorSettings
from reconciler.runtime.telemetry import Telemetry
from reconciler.runtime.workqueue import WorkQueue
from schema.codec import Malformed, decode_family
from schema.keys import Keyspace, Unparsable

STOP_BOUND_S = 10.0
"""So long the end of one part may take. What takes longer is resumed from the keys anyway."""

MEMORY_S = 5.0
"""Between two notes of how far the store has come."""

_log = structlog.get_logger("brickwork")


class Assembly(ABC):
    """The parts of one daemon, up to its controllers.

    Args:
        calls: the kinds of external calls, for the metrics.
        indexes: the cache's.
        failpoint: called at each numbered point; may end the process.
        memory: what is remembered of the store across restarts.
        place: the store's endpoint, for messages.
    """

    def __init__(
        self,
        settings: CommonSettings,
        clock: Clock,
        rng: random.Random,
        store: Store,
        calls: Sequence[str],
        indexes: Sequence[Index] = (),
        failpoint: Callable[[str], None] = lambda _: None,
        memory: StoreMemory | None = None,
        place: Callable[[], str] = str,
    ) -> None:
        self.settings = settings
        self.keyspace = Keyspace(settings.prefix)
        self.clock = clock
        self.rng = rng
        self.store = KnownStore(
            store, memory, clock, lambda why: _log.critical("the store is not the same", why=why), place
        )
        self.failpoint = failpoint
        self.telemetry = Telemetry(calls)
        self.cache = Cache(clock, indexes=indexes, decode=self._decode, report=self._report_key)
        self.telemetry.watch_store(lambda: float(bool(self.store.fault)))
        self.queue = WorkQueue(clock, rng, base_s=settings.retry_base_s, cap_s=settings.retry_cap_s)
        self.telemetry.watch_queue("volumes", self.queue)
        self.reflectors: list[Reflector] = []
        self.hindrances: dict[str, Callable[[], str]] = {"etcd": lambda: self.store.fault or self.store.refusal}
        """What besides silence keeps the daemon from its work: by a name, a sentence or an empty one."""
        self.working: list[Signal] = []
        """Set once the daemon has got so far that units which wait for it may start."""
        self._unsaved = ""
        self.hindrances["state folder"] = lambda: self._unsaved
        self._stops: list[Callable[[], object]] = []
        self._resync = clock.signal()

    # --- parts

    def reflect(self, prefix: str) -> Reflector:
        """Mirror one prefix."""
        settings = ReflectorSettings(relist_s=self.settings.resync_s)
        report = self.reporter(f"reflector {prefix}")
        reflector = Reflector(
            self.store,
            self.cache,
            prefix,
            self.clock,
            self.rng,
            settings=settings,
            report=report,
        )
        self.reflectors.append(reflector)
        self.telemetry.watch_reflector(prefix, lambda: reflector.age_s)
        return reflector

    def needs_lease(self, session: LeaseSession) -> None:
        """Without a lease nothing is led, and nobody sees a sign of life."""
        lost = "no lease: etcd has confirmed none for {:.0f} s"
        self.hindrances["lease"] = lambda: "" if session.alive() else lost.format(session.age_s)

    def at_stop(self, stop: Callable[[], object]) -> None:
        """Call this at the end, before what was given earlier."""
        self._stops.append(stop)

    def reporter(self, who: str) -> Callable[[PortError], None]:
        """Takes a store's errors: counted and logged."""

        def report(error: PortError) -> None:
            self.telemetry.store_failed(who)
            if isinstance(error, Replaced):
                return  # told once, by itself
            _log.warning("store trouble", who=who, kind=type(error).__name__, error=str(error))

        return report

    def asking(self, rule: MassRule) -> Callable[[], MassRule]:
        """The rule for ends of wishes at present: stricter while a store that a person just accepted is new here."""
        return lambda: ASK_ALWAYS if self.store.newly_accepted else rule

    def observe_step(self, volume: str, step: Step, duration_s: float, error: BaseException | None) -> None:
        """Every step leaves one line, and every external call its time."""
        outcome = outcome_of(error)
        if step.confirms:
            self.telemetry.called(step.do.name.lower(), outcome, duration_s)
        else:
            self.telemetry.transacted(
                "succeeded" if error is None else "refused" if outcome == "retryable" else "failed"
            )
        fields = {"volume": volume, "step": step.do.name, "why": step.why, "ms": round(duration_s * 1000, 1)}
        fields |= {"node": step.node} if step.node else {}
        fields |= {"epoch": step.epoch} if step.epoch else {}
        if error is None:
            _log.info(step.do.value, **fields)
        else:
            _log.warning(step.do.value, outcome=outcome, error=str(error), **fields)

    def _decode(self, item: Item) -> object:
        key = self.keyspace.parse(item.key)
        if isinstance(key, Unparsable):
            return Malformed("$", key.fault)
        return decode_family(key.family, item.value)

    def _report_key(self, key: str, error: Exception) -> None:
        _log.error("a subscriber failed on a key", key=key, error=repr(error))

    # --- life

    @abstractmethod
    def serve(self, program: str, everything: Callable[[], None]) -> Exit:
        """Run until told to stop, between `begin` and `end`."""

    def begin(self, everything: Callable[[], None]) -> None:
        """Start mirroring.

        Args:
            everything: enqueues every key there is: level-triggered insurance, called each `resync_s`.
        """
        for reflector in self.reflectors:
            reflector.start()
        self.clock.spawn("resync", lambda: self._resync_loop(everything))
        self.clock.spawn("store memory", self._remember_loop)

    def end(self) -> None:
        """Stop what was started, the last started first."""
        self._resync.set()
        for stop in reversed(self._stops):
            stop()
        for reflector in self.reflectors:
            reflector.stop()

    def _resync_loop(self, everything: Callable[[], None]) -> None:
        while not self._resync.wait(self.settings.resync_s * self.rng.uniform(0.8, 1.2)):
            everything()

    def _remember_loop(self) -> None:
        """Backups are older than this pause."""
        while not self._resync.wait(MEMORY_S):
            self._remember()
        self._remember()

    def _remember(self) -> None:
        """A full disk is no reason to stop: what was saved last still tells most backups from the store as it is."""
        before, self._unsaved = self._unsaved, ""
        try:
            self.store.save()
        except Refused as refusal:
            self._unsaved = str(refusal)
        if self._unsaved and not before:
            _log.error("the state folder can't be written", why=self._unsaved)


def outcome_of(error: BaseException | None) -> str:
    """An error in the words of the metrics."""
    match error:
        case None:
            return "ok"
        case Busy():
            return "busy"
        case Retryable():
            return "retryable"
        case Terminal():
            return "terminal"
    return "unknown"
