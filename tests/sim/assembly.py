"""A daemon's parts in the simulator: the production assembly on a fake store and a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from daemons.assembly import Assembly
from daemons.process import Exit
from daemons.settings import CommonSettings
from reconciler.runtime.controller import Observer, Outcome
from reconciler.runtime.index import Index
from reconciler.runtime.ports import Clock, Store
from reconciler.runtime.telemetry import Telemetry


class SimulatedAssembly(Assembly):
    """Serves until `stop` is set, as a process does until SIGTERM.

    Args:
        panicked: told what a reconcile raised that is no port's error. Production counts it and tries again; here it is a bug.
    """

    def __init__(
        self,
        settings: CommonSettings,
        clock: Clock,
        rng: random.Random,
        store: Store,
        calls: Sequence[str],
        indexes: Sequence[Index],
        panicked: Callable[[BaseException], None],
    ) -> None:
        super().__init__(settings, clock, rng, store, calls, indexes)
        self.stop = clock.signal()
        self.telemetry = _Watched(calls, panicked)

    def serve(self, program: str, everything: Callable[[], None]) -> Exit:
        self.begin(everything)
        self.stop.wait()
        self.end()
        return Exit.OK


class _Watched(Telemetry):
    def __init__(self, calls: Sequence[str], panicked: Callable[[BaseException], None]) -> None:
        super().__init__(calls)
        self._panicked = panicked

    def observer(self, controller: str) -> Observer:
        def observe(_key: str, outcome: Outcome, _duration_s: float, error: BaseException | None) -> None:
            if outcome is Outcome.PANIC and error is not None:
                self._panicked(error)

        return observe
