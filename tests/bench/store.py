"""How fast the store is, and what it costs: ``python -m tests.bench.store [--endpoint URL]``.

Each transaction is an attach's typical one: two compares, two puts of 256 bytes, on keys of its own. Prints transactions per
second and the client's CPU time for each; without an endpoint, on an embedded etcd that does not fsync.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from reconciler.adapters.etcd.embedded import EmbeddedEtcd, find_binary
from reconciler.adapters.etcd.settings import EtcdSettings
from reconciler.adapters.etcd.store import EtcdStore
from reconciler.runtime.ports import Compare, Put

STATE = Path(__file__).parents[2] / ".state"
VALUE = b"x" * 256


def measure(name: str, threads: int, count: int, work: Callable[[int, int], object]) -> None:
    """Call `work(thread, number)` `count` times in each of `threads` threads, and print what that took."""

    def run(thread: int) -> None:
        for number in range(count):
            work(thread, number)

    workers = [threading.Thread(target=run, args=(thread,)) for thread in range(threads)]
    cpu, wall = time.process_time(), time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    total = threads * count
    print(f"{name:34} {total / wall:8,.0f} /s   {cpu / total * 1e3:6.3f} ms CPU each")


def bench(store: EtcdStore) -> None:
    """All rows."""
    prefix = f"/bench/{uuid.uuid4().hex[:8]}"

    def write(thread: int, number: int) -> None:
        one, two = f"{prefix}/{thread}/{number}/a", f"{prefix}/{thread}/{number}/b"
        store.txn([Compare(one, mod_revision=0), Compare(two, mod_revision=0)], [Put(one, VALUE), Put(two, VALUE)])

    def confirm(*_: int) -> None:
        store.txn([Compare(f"{prefix}/0/0/a", present=True), Compare(f"{prefix}/0/0/b", present=True)])

    lease = store.grant_lease(600)
    write(0, 0)  # connects
    for threads, count in ((1, 3000), (64, 150)):
        label = "in sequence" if threads == 1 else f"{threads} threads"
        prefix += f"/{threads}"
        measure(f"write transactions, {label}", threads, count, write)
        measure(f"confirming reads, {label}", threads, count, confirm)
    measure("lease renewals", 1, 2000, lambda *_: store.keep_lease(lease))
    size = len(store.list("/bench/").items)
    measure(f"lists of {size:,} keys", 1, 5, lambda *_: store.list("/bench/"))
    store.revoke_lease(lease)


def main() -> None:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", metavar="URL", help="an etcd to use, instead of an embedded one")
    options = parser.parse_args()
    if options.endpoint:
        with EtcdStore(EtcdSettings((options.endpoint,))) as store:
            bench(store)
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedEtcd(Path(folder), find_binary("etcd", STATE), fsync=False) as server,
        EtcdStore(EtcdSettings((server.endpoint,))) as store,
    ):
        bench(store)


if __name__ == "__main__":
    main()
