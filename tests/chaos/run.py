"""One run: the user's script and the faults in real time, then peace; then the checks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from pydantic import BaseModel

from reconciler.adapters.etcd.store import EtcdStore
from reconciler.runtime.ports import Delete, PortError, Put
from schema.codec import decode_family
from schema.keys import DEFAULT_PREFIX, Family, Key, Keyspace
from schema.models import Record
from tests.chaos.faults import Fault, draw
from tests.chaos.history import History, Looker, Watcher
from tests.chaos.nemesis import Nemesis
from tests.chaos.replay import Replay
from tests.chaos.scribe import Scribe
from tests.chaos.world import BACKEND, CONTROLLERS, MEMBERS, NODES, World
from tests.sim.picture import Values, unsettled
from tests.sim.script import Act, Author

FAULTS_A_MINUTE = 20
ACTS_A_MINUTE = 90
VOLUMES = 4
BEGIN_S = 10.0
"""So long nothing goes wrong at first."""
SETTLE_S = 600.0
"""So long after the last fault the fleet may take, on a machine that is busy with other things."""
QUIET_S = 45.0
"""So long nothing may be written then: longer than every period of the daemons (`world`)."""
_TICK_S = 0.2


@dataclass
class Report:
    """How a run ended. No violations: well."""

    seed: int
    violations: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    figures: list[str] = field(default_factory=list)

    def text(self) -> str:
        lines = [f"seed {self.seed}: {len(self.violations)} violations", *(f"  {line}" for line in self.violations)]
        lines += [f"{sum(self.faults.values())} faults", *(f"  {n:4}  {kind}" for kind, n in self.faults.most_common())]
        return "\n".join(lines + self.figures)


class Run:
    """A seed, played once, in `folder`."""

    def __init__(self, seed: int, lasts_s: float, folder: Path, packages: Path) -> None:
        rng = Random(seed)
        self._keyspace = Keyspace()
        author = Author(rng, self._keyspace, NODES, [BACKEND], VOLUMES, lasts_s)
        minutes = lasts_s / 60
        self._acts = author.write(round(ACTS_A_MINUTE * minutes))
        self._faults = draw(rng, round(FAULTS_A_MINUTE * minutes), CONTROLLERS, NODES, MEMBERS, lasts_s)
        self._rng = rng
        self.world = World(folder, packages)
        self.history = History(folder / "history.jsonl")
        self.report = Report(seed)

    def play(self, tell: Callable[[str], None]) -> Report:
        """From the start of the processes to their end, whatever happens."""
        try:
            self.world.start()
            with self.world.store() as store:
                self._play(store, tell)
        finally:
            left = self.world.close()
            self.history.close()
        self.report.violations += [f"left behind: {what}" for what in left]
        return self.report

    def _play(self, store: EtcdStore, tell: Callable[[str], None]) -> None:
        watcher = Watcher(self.history, store)
        world, files = self.world, self.world.fleet.files
        owners, boots = {n: world.owner(n) for n in NODES}, {n: world.boot_file(n) for n in NODES}
        looker = Looker(self.history, files, owners, [f"v{number}" for number in range(VOLUMES)], boots)
        scribe = Scribe(self.history, [world.fleet.folder / n / "dev" for n in NODES], files, Random(self.report.seed))
        nemesis = Nemesis(world, self.history, watcher, self._rng)
        try:
            tell(f"seed {self.report.seed}: {len(self._acts)} acts of the user, {len(self._faults)} faults")
            self._go_through(store, nemesis, tell)
            nemesis.heal()
            tell("the faults are over")
            self._settle(store, watcher, looker)
            scribe.stop()
            self._check(store, watcher, looker, scribe)
        finally:
            for part in (nemesis.close, scribe.stop, looker.stop, watcher.stop):
                part()

    def _go_through(self, store: EtcdStore, nemesis: Nemesis, tell: Callable[[str], None]) -> None:
        began = time.monotonic() + BEGIN_S
        moments: list[tuple[float, Callable[[], None]]] = [
            (act.at_s, partial(self._act, store, act)) for act in self._acts
        ]
        for fault in self._faults:
            moments.append((fault.at_s, partial(self._strike, nemesis, fault, tell)))
            moments.append((fault.ends_s, partial(nemesis.relent, fault)))
        for at_s, happen in sorted(moments, key=lambda moment: moment[0]):
            self._pass(began + at_s)
            happen()

    def _pass(self, until: float) -> None:
        self.world.supervise()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(_TICK_S, left))
            self.world.supervise()

    def _strike(self, nemesis: Nemesis, fault: Fault, tell: Callable[[str], None]) -> None:
        tell(f"{fault.at_s:6.1f} s  {fault}")
        self.report.faults[fault.kind.name.lower().replace("_", " ")] += 1
        nemesis.strike(fault)

    def _act(self, store: EtcdStore, act: Act) -> None:
        """The user does it until etcd has it: doing it twice is the same."""
        self.history.note("act", text=str(act))
        op = Delete(act.path) if act.value is None else Put(act.path, act.value)
        until = time.monotonic() + SETTLE_S
        while True:
            try:
                store.txn((), (op,))
                return
            except PortError:
                if time.monotonic() > until:
                    raise

    # --- the end

    def _settle(self, store: EtcdStore, watcher: Watcher, looker: Looker) -> None:
        """As it should be, and nothing written for long."""
        began, settled_s = time.monotonic(), 0.0
        faults = ["not looked at yet"]
        while time.monotonic() - began < SETTLE_S:
            self._pass(time.monotonic() + 1.0)
            faults = unsettled(self._values(store), looker, NODES, [BACKEND])
            if faults:
                settled_s = 0.0
                continue
            settled_s = settled_s or time.monotonic() - began
            if time.monotonic() - watcher.last_work_s >= QUIET_S:
                self.report.figures.append(
                    f"settled {settled_s:.0f} s after the last fault, then quiet for {QUIET_S:.0f} s"
                )
                return
        self.report.violations.append(f"L1: not settled and quiet within {SETTLE_S:.0f} s: {'; '.join(faults)}")

    def _values(self, store: EtcdStore) -> Values:
        values: dict[Key, BaseModel] = {}
        for item in store.list(DEFAULT_PREFIX).items:
            key = self._keyspace.parse(item.key)
            value = decode_family(key.family, item.value) if isinstance(key, Key) else None
            if isinstance(key, Key) and isinstance(value, BaseModel):
                values[key] = value
        return values

    def _check(self, store: EtcdStore, watcher: Watcher, looker: Looker, scribe: Scribe) -> None:
        report, world = self.report, self.world
        good = scribe.check_files()
        lines = History.lines(self.history.path)
        replay = Replay(lines)
        report.violations += replay.play() + scribe.violations
        report.violations += self._check_record(replay, store)
        report.violations += [f"a daemon ended by a fault of its own: {text}" for text in world.crashes]
        devices = {f"{kind} {node} {uid}" for kind, node, uid in replay.facts if kind == "device"}
        if len(world.fleet.loop_devices()) != len(devices):
            report.violations.append(f"losetup says {world.fleet.loop_devices()}, the history {sorted(devices)}")
        seen = Counter(
            f"{change[1]} {'came' if change[0] == '+' else 'went'}"
            for line in lines
            if line["what"] == "saw"
            for change in line["changes"]
        )
        report.figures += [
            f"{watcher.writes} keys written, up to revision {watcher.revision}; seen: "
            + ", ".join(f"{number} {what}" for what, number in sorted(seen.items())),
            f"{looker.looks} looks, the longest {looker.longest_s:.2f} s after the one before",
            f"{scribe.blocks} blocks written through devices; {good} files hold what they should at the end",
            "daemons that ended without being told to: "
            + (", ".join(f"{text} ({number}x)" for text, number in sorted(world.ended.items())) or "none"),
        ]

    def _check_record(self, replay: Replay, store: EtcdStore) -> list[str]:
        """The recorded history leads to what is in etcd now: nothing was missed."""
        now = {key: value for key, value in self._values(store).items() if key.family in (Family.RECORD, Family.GRANT)}
        recorded = {
            key: value for key, value in replay.invariants.values.items() if key in now or isinstance(value, Record)
        }
        return (
            []
            if now == recorded
            else ["the history is not complete: it does not lead to the records and grants that are in etcd"]
        )
