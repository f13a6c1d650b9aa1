"""A daemon's parts in the simulator: the production assembly on a fake store and a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from daemons.assembly import Assembly
from daemons.process import Exit
from daemons.settings import CommonSettings
from reconciler.runtime.index import Index
from reconciler.runtime.ports import Clock, Store


class SimulatedAssembly(Assembly):
    """Serves until `stop` is set, as a process does until SIGTERM."""

    def __init__(
        self,
        settings: CommonSettings,
        clock: Clock,
        rng: random.Random,
        store: Store,
        calls: Sequence[str],
        indexes: Sequence[Index] = (),
        failpoint: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(settings, clock, rng, store, calls, indexes, failpoint)
        self.stop = clock.signal()

    def serve(self, program: str, everything: Callable[[], None]) -> Exit:
        self.begin(everything)
        self.stop.wait()
        self.end()
        return Exit.OK
