"""What makes a process of an assembly: folders, log, a real store and clock, HTTP, signals, and an end in order."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence

import structlog

from daemons.assembly import Assembly
from daemons.http import Http
from daemons.identity import FileStoreMemory, Instance, private_folder
from daemons.journal import behind_stderr
from daemons.logs import Logs
from daemons.process import Exit, Failpoint, Signals, Supervisor, end_with_any_thread
from daemons.settings import CommonSettings
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.etcd.store import EtcdStore
from reconciler.runtime.index import Index

SILENT_S = 30.0
"""A reflector that heard nothing for so long makes the daemon unready."""

_log = structlog.get_logger("brickwork")


class Shell(Assembly):
    """One daemon process, up to its controllers.

    Args:
        calls: the kinds of external calls, for the metrics.
        indexes: the cache's.
    """

    def __init__(self, settings: CommonSettings, calls: Sequence[str], indexes: Sequence[Index] = ()) -> None:
        self._logs = Logs(settings.log.format, settings.log.level, journal=behind_stderr())
        end_with_any_thread(last=self._logs.flush)
        private_folder(settings.state_folder)
        private_folder(settings.run_folder)
        self._instance = Instance(settings.state_folder)
        store = EtcdStore(settings.etcd.store_settings())
        failpoint = Failpoint(settings.failpoint)
        memory = FileStoreMemory(settings.state_folder)
        clock, rng = SystemClock(), random.Random()
        super().__init__(settings, clock, rng, store, calls, indexes, failpoint, memory, place=lambda: store.endpoint)
        self._etcd = store

    # --- life

    def serve(self, program: str, everything: Callable[[], None]) -> Exit:
        """Run until a signal, then end in order."""
        stop = self.clock.signal()
        supervisor = Supervisor(os.environ, lambda: True)  # a lost thread ends the process by itself
        http = self._http()
        self.begin(everything)
        try:
            with Signals(stop.set):
                _log.info(f"{program} runs", etcd=list(self.settings.etcd.endpoints), prefix=self.keyspace.prefix)
                self.clock.spawn("ready", lambda: self._tell_ready(supervisor))
                stop.wait()
                supervisor.stopping()
                self.end()
                self._etcd.close()
        finally:
            if http is not None:
                http.close()
            supervisor.close()
            _log.info(f"{program} ended; devices stay as they are")
            self._logs.close()
            self._instance.close()
        return Exit.OK

    def _tell_ready(self, supervisor: Supervisor) -> None:
        for each in self.working:
            supervisor.status("starts: has not looked at everything yet")
            each.wait()
        supervisor.status("works")
        supervisor.ready()

    def _http(self) -> Http | None:
        address = self.settings.http.address
        return None if address is None else Http(address, self.telemetry.registry, self._faults, self._unready)

    def _faults(self) -> Mapping[str, str]:
        """What a person has to decide about. A restart helps once the right store is back."""
        return {"etcd": self.store.fault} if self.store.fault else {}

    def _unready(self) -> Mapping[str, str]:
        """Why the daemon does not do its work right now."""
        faults = {name: why for name, look in self.hindrances.items() if (why := look())}
        for reflector in self.reflectors:
            if self.store.fault:
                break
            if not reflector.synced.is_set():
                faults[reflector.prefix] = "not listed yet"
            elif reflector.age_s > SILENT_S:
                faults[reflector.prefix] = f"nothing heard for {reflector.age_s:.0f} s"
        return faults
