"""How fast wishes become devices, where the CPU goes, and what the processes weigh. `make bench`.

One controller, one node, an etcd with fsync, all on this machine; wishes are put by threads that wait for their own status. First
with a driver and a connector that do nothing, through the real workers: that is the control plane alone. Then the file backend
with real loop devices, in the same run. Compare ratios of one run; absolute figures belong to the machine and its moment.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from schema.keys import Family
from schema.models import AttachmentPhase
from tests.integration import fleets
from tools.fleet import FILE_DRIVER, Fleet, wait_until
from tools.janitor import Janitor

NOOP = "reconciler.adapters.cinder.noop_driver.NoopDriver"
TICK = os.sysconf("SC_CLK_TCK")


class Arrivals:
    """One watch on all statuses; whoever waits is woken when its attachment is Attached, or gone."""

    def __init__(self, fleet: Fleet, node: str) -> None:
        self._folder = fleets.KEYSPACE.folder(Family.ATTACHMENT, node)
        self._waiting: dict[tuple[str, bool], threading.Event] = {}
        self._stop = threading.Event()
        listing = fleet.store.list(self._folder)
        self._batches = fleet.store.watch(self._folder, listing.revision, self._stop)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def expect(self, volume: str, *, attached: bool) -> threading.Event:
        return self._waiting.setdefault((volume, attached), threading.Event())

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for batch in self._batches:
            for event in batch.events:
                volume = event.key.removeprefix(self._folder)
                if event.item is None or f'"phase":"{AttachmentPhase.ATTACHED}"'.encode() in event.item.value:
                    found = self._waiting.get((volume, event.item is not None))
                    if found is not None:
                        found.set()


class Round:
    """`count` attachments on one backend, `at_once` of them under way: attached, then detached."""

    def __init__(self, fleet: Fleet, backend: str, count: int, at_once: int) -> None:
        self.fleet = fleet
        self.node = "bench"
        self.at_once = at_once
        self.volumes = [f"{backend}-{at_once}-{number}" for number in range(count)]
        for volume in self.volumes:
            fleets.wish_volume(fleet, volume, backend=backend)
        wait_until("the volumes are there", self._made, 300)

    def _made(self) -> bool:
        found = self.fleet.store.list(fleets.KEYSPACE.folder(Family.VOLUME)).items
        made = {item.key.rsplit("/", 1)[1] for item in found if b'"phase":"Available"' in item.value}
        return made.issuperset(self.volumes)

    def run(self, title: str) -> float:
        """Prints the figures; returns attachments per second."""
        arrivals = Arrivals(self.fleet, self.node)
        rates = {}
        for what, act, attached in (("attach", fleets.attach, True), ("detach", fleets.detach, False)):
            before, started = cpu_s(self.fleet), time.perf_counter()
            writes = self.fleet.revision()
            latencies = self._all(act, arrivals, attached)
            wall = time.perf_counter() - started
            spent = {
                name: 1000 * (now - before.get(name, 0)) / len(self.volumes) for name, now in cpu_s(self.fleet).items()
            }
            per_wish = (self.fleet.revision() - writes) / len(self.volumes) - 1
            rates[what] = len(self.volumes) / wall
            where = ", ".join(f"{name} {ms:.1f}" for name, ms in spent.items() if ms >= 0.05)
            print(
                f"{title}, {self.at_once} at once: {what} {rates[what]:7.1f}/s   "
                f"p50 {1000 * statistics.median(latencies):6.1f} ms   p99 {1000 * quantile(latencies, 0.99):6.1f} ms   "
                f"writes {per_wish:.2f}   CPU ms each: {where} = {sum(spent.values()):.1f}",
                flush=True,
            )
        arrivals.close()
        wait_until("all is undone", lambda: not self.fleet.keys(fleets.KEYSPACE.folder(Family.CONNECTION)), 120)
        return rates["attach"]

    def _all(self, act: Callable[[Fleet, str, str], None], arrivals: Arrivals, attached: bool) -> list[float]:
        def one(volume: str) -> float:
            arrived = arrivals.expect(volume, attached=attached)
            started = time.perf_counter()
            act(self.fleet, self.node, volume)
            if not arrived.wait(300):
                raise TimeoutError(volume)
            return time.perf_counter() - started

        with ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(one, self.volumes))


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def processes(fleet: Fleet) -> dict[str, int]:
    """Name -> pid of every process that matters: daemons, their workers, etcd."""
    found = {"etcd": fleet.etcd.pid}
    for name in ("ctl", "bench"):
        daemon = fleet.daemon(name)
        found["controller" if name == "ctl" else "node"] = daemon.pid
        for pid in _descendants(daemon.pid):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if "keeper.py" in line:
                continue
            if "adapters.brick.worker" in line:
                found["os-brick worker"] = pid
            elif "adapters.cinder.worker" in line:
                found[f"cinder worker {len([n for n in found if n.startswith('cinder')])}"] = pid
    return found


def _descendants(pid: int) -> list[int]:
    below = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return below + [deeper for child in below for deeper in _descendants(child)]


def cpu_s(fleet: Fleet) -> dict[str, float]:
    """CPU seconds, user and system, of each process so far; `load` is this benchmark itself."""
    spent = {name: _cpu_s(pid) for name, pid in processes(fleet).items()}
    return {**spent, "load": sum(os.times()[:2])}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def weigh(fleet: Fleet) -> None:
    """Memory of each process, as resident and as its own share."""
    for name, pid in processes(fleet).items():
        rollup = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
        rss, pss = (int(rollup[key].split()[0]) / 1024 for key in ("Rss", "Pss"))
        print(f"{name:18} RSS {rss:6.1f} MiB   PSS {pss:6.1f} MiB")


def start_up(fleet: Fleet) -> None:
    """From the start of a process to its being of use."""
    started = time.perf_counter()
    fleet.node("bench", {"allow_noop": True, "mass_detach": {"share": 1.0}})
    wait_until("the node is published", lambda: fleets.value(fleet, Family.NODE, "bench"))
    node_s = time.perf_counter() - started
    started = time.perf_counter()
    fleet.controller()
    wait_until("it runs", lambda: b"brickwork-controller runs" in fleet.daemon("ctl").log.read_bytes())
    runs_s = time.perf_counter() - started
    fleets.until_ready(fleet, "noop", "files")
    ready_s = time.perf_counter() - started
    print(
        f"start-up: node published {node_s:.2f} s; controller watching {runs_s:.2f} s, both backends ready {ready_s:.2f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="attachments a round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=fleets.STATE) as folder:
        files = Path(folder) / "files"
        files.mkdir(mode=0o700)
        backends: dict[str, Any] = {
            "noop": {"driver": NOOP, "options": {"noop_protocol": "noop"}},
            "files": {"driver": FILE_DRIVER, "options": {"file_driver_folder": str(files)}},
        }
        with Janitor(Path(folder)), Fleet(Path(folder), packages=fleets.STATE, backends=backends) as fleet:
            start_up(fleet)
            nothing = Round(fleet, "noop", options.count, 64).run("no-op driver ")
            Round(fleet, "noop", max(20, options.count // 8), 1).run("no-op driver ")
            files_rate = Round(fleet, "files", max(20, options.count // 4), 64).run("file backend ")
            Round(fleet, "files", max(10, options.count // 16), 1).run("file backend ")
            print(f"file backend / no-op: {files_rate / nothing:.2f}")
            weigh(fleet)
            fleet.daemon("ctl").kill(signal.SIGTERM)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
