"""What both daemons stand on: folders, log, store, cache, telemetry, HTTP, and an end in order.

A daemon's own module builds its controllers on a `Shell` and calls `serve`; everything that was started is stopped here, the
last started first.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence

import structlog

from daemons.http import Http
from daemons.identity import Instance, private_folder
from daemons.logs import Logs
from daemons.process import Exit, Failpoint, Signals, Supervisor, end_with_any_thread
from daemons.settings import CommonSettings
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.etcd.store import EtcdStore
from reconciler.core.steps import Step
from reconciler.runtime.cache import Cache
from reconciler.runtime.index import Index
from reconciler.runtime.ports import Busy, Item, PortError, Retryable, Terminal
from reconciler.runtime.reflector import Reflector, ReflectorSettings
from reconciler.runtime.telemetry import Telemetry
from reconciler.runtime.workqueue import WorkQueue
from schema.codec import Malformed, decode_family
from schema.keys import Keyspace, Unparsable

STOP_BOUND_S = 10.0
"""So long the end of one part may take. What takes longer is resumed from the keys anyway."""
SILENT_S = 30.0
"""A reflector that heard nothing for so long makes the daemon unready."""

_log = structlog.get_logger("brickwork")


class Shell:
    """One daemon process, up to its controllers.

    Args:
        calls: the kinds of external calls, for the metrics.
        indexes: the cache's, given the key space.
    """

    def __init__(self, settings: CommonSettings, calls: Sequence[str], indexes: Sequence[Index] = ()) -> None:
        self.settings = settings
        self.logs = Logs(settings.log.format, settings.log.level)
        end_with_any_thread(last=self.logs.flush)
        private_folder(settings.state_folder)
        private_folder(settings.run_folder)
        self.instance = Instance(settings.state_folder)
        self.keyspace = Keyspace(settings.prefix)
        self.clock = SystemClock()
        self.rng = random.Random()
        self.store = EtcdStore(settings.etcd.store_settings())
        self.telemetry = Telemetry(calls)
        self.cache = Cache(self.clock, indexes=indexes, decode=self._decode, report=self._report_key)
        self.queue = WorkQueue(self.clock, self.rng, base_s=settings.retry_base_s, cap_s=settings.retry_cap_s)
        self.failpoint = Failpoint(settings.failpoint)
        self.telemetry.watch_queue("volumes", self.queue)
        self._reflectors: list[Reflector] = []
        self._stops: list[Callable[[], object]] = []
        self._resync = self.clock.signal()

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
            on_went_back=lambda listed, seen: _log.critical(
                "etcd went back in time: restored from a backup? Nothing more is done until this daemon is restarted",
                listed_revision=listed,
                seen_revision=seen,
            ),
        )
        self._reflectors.append(reflector)
        self.telemetry.watch_reflector(prefix, lambda: reflector.age_s)
        return reflector

    def at_stop(self, stop: Callable[[], object]) -> None:
        """Call this at the end, before what was given earlier."""
        self._stops.append(stop)

    def reporter(self, who: str) -> Callable[[PortError], None]:
        """Takes a store's errors: counted and logged."""

        def report(error: PortError) -> None:
            self.telemetry.store_failed(who)
            _log.warning("store trouble", who=who, kind=type(error).__name__, error=str(error))

        return report

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

    def serve(self, program: str, everything: Callable[[], None], stopping: Callable[[], None] = lambda: None) -> Exit:
        """Run until a signal, then end in order.

        Args:
            everything: enqueues every key there is: level-triggered insurance, called each `resync_s`.
            stopping: called at once when the end begins.
        """
        stop = self.clock.signal()
        supervisor = Supervisor(os.environ, lambda: True)  # a lost thread ends the process by itself
        http = self._http()
        for reflector in self._reflectors:
            reflector.start()
        self.clock.spawn("resync", lambda: self._resync_loop(everything))
        try:
            with Signals(stop.set):
                _log.info(f"{program} runs", etcd=list(self.settings.etcd.endpoints), prefix=self.keyspace.prefix)
                supervisor.ready()
                stop.wait()
                supervisor.stopping()
                stopping()
                self._end()
        finally:
            if http is not None:
                http.close()
            supervisor.close()
            _log.info(f"{program} ended; devices stay as they are")
            self.logs.close()
            self.instance.close()
        return Exit.OK

    def _end(self) -> None:
        self._resync.set()
        for stop in reversed(self._stops):
            stop()
        for reflector in self._reflectors:
            reflector.stop()
        self.store.close()

    def _resync_loop(self, everything: Callable[[], None]) -> None:
        while not self._resync.wait(self.settings.resync_s * self.rng.uniform(0.8, 1.2)):
            everything()

    def _http(self) -> Http | None:
        address = self.settings.http.address
        return None if address is None else Http(address, self.telemetry.registry, self._faults, self._unready)

    def _faults(self) -> Mapping[str, str]:
        """What a person has to decide about; a restart would only forget it."""
        return {r.prefix: "the store went back in time" for r in self._reflectors if r.went_back}

    def _unready(self) -> Mapping[str, str]:
        """Why the daemon does not do its work right now."""
        faults = dict(self._faults())
        for reflector in self._reflectors:
            if not reflector.synced.is_set():
                faults[reflector.prefix] = "not listed yet"
            elif reflector.age_s > SILENT_S:
                faults[reflector.prefix] = f"nothing heard for {reflector.age_s:.0f} s"
        return faults


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
