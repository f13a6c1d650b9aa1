"""Does to the processes what `faults` drew, and undoes it."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable
from random import Random

from reconciler.runtime.ports import Delete, PortError, UnknownOutcome
from schema.keys import DEFAULT_PREFIX, Family, Key, Keyspace
from tests.chaos.faults import NETWORK, Fault, Kind
from tests.chaos.history import History, Watcher
from tests.chaos.proxy import Mode
from tests.chaos.world import World

Undo = Callable[[], object]

_MODES: dict[Kind, Mode] = {kind: Mode[kind.name] for kind in NETWORK if kind is not Kind.RESET}
_ETCDCTL_S = 8.0
"""A stopped member takes connections and says nothing, and then etcdctl waits longer than it was told to."""
_BY_HAND = (
    Family.CLAIM,
    Family.CONNECTION,
    Family.GRANT,
    Family.VOLUME,
    Family.ATTACHMENT,
    Family.NODE,
    Family.BACKEND,
)
"""Families of which a careless hand deletes a key. Not both copies of a holder list, and no record: those take a backup."""


class Nemesis:
    """One run's.

    Args:
        watcher: history is compacted up to where it is recorded, no further.
    """

    def __init__(self, world: World, history: History, watcher: Watcher, rng: Random) -> None:
        self._world, self._history, self._watcher, self._rng = world, history, watcher, rng
        self._store = world.store()
        self._keyspace = Keyspace()
        self._undo: dict[Fault, Undo] = {}
        self._starting: list[threading.Thread] = []

    def strike(self, fault: Fault) -> None:
        self._history.note("fault", text=str(fault))
        if fault.kind in _MODES:
            undo: Undo | None = self._proxies(fault)
        else:
            undo = getattr(self, f"_{fault.kind.name.lower()}")(fault)
        if undo is not None:
            self._undo[fault] = undo

    def relent(self, fault: Fault) -> None:
        """The fault's time is over."""
        undo = self._undo.pop(fault, None)
        if undo is not None:
            self._history.note("over", text=str(fault))
            undo()

    def heal(self) -> None:
        """Nothing is wrong from now on."""
        for fault in list(self._undo):
            self.relent(fault)
        for thread in self._starting:
            thread.join()
        self._world.supervise()

    def close(self) -> None:
        for thread in self._starting:
            thread.join()
        self._store.close()

    # --- a daemon

    def _down(self, name: str, number: signal.Signals) -> Undo | None:
        """Ended by this signal, and started again later, at once after it ended."""
        world = self._world
        if name in world.down:
            return None
        world.down.add(name)
        world.signal(world.fleet.daemon(name).pid, number)

        def undo() -> None:
            world.fleet.daemon(name).kill()
            world.start_daemon(name)
            world.down.discard(name)

        return undo

    def _kill(self, fault: Fault) -> Undo | None:
        return self._down(fault.target, signal.SIGKILL)

    def _stop(self, fault: Fault) -> Undo | None:
        return self._down(fault.target, signal.SIGTERM)

    def _reboot(self, fault: Fault) -> Undo | None:
        """Its devices stay, as where the host logs in again by itself."""
        restart = self._down(fault.target, signal.SIGKILL)

        def undo() -> None:
            assert restart is not None
            self._world.fleet.daemon(fault.target).kill()
            self._world.fleet.end_children(fault.target)
            self._world.fleet.reboot(fault.target)
            restart()

        return restart and undo

    def _pause(self, fault: Fault) -> Undo | None:
        world = self._world
        if fault.target in world.down:
            return None
        world.down.add(fault.target)
        pid = world.fleet.daemon(fault.target).pid
        world.signal(pid, signal.SIGSTOP)

        def undo() -> None:
            world.signal(pid, signal.SIGCONT)
            world.down.discard(fault.target)

        return undo

    def _worker(self, fault: Fault) -> None:
        workers = self._world.fleet.workers(fault.target)
        self._history.note("fault", text=f"SIGKILL of {workers}")
        for pid in workers:
            self._world.signal(pid, signal.SIGKILL)

    def _hang(self, fault: Fault) -> Undo:
        """The calls in flight take so much longer; or are killed by whoever waits for them."""
        workers = self._world.fleet.workers(fault.target)
        for pid in workers:
            self._world.signal(pid, signal.SIGSTOP)

        def undo() -> None:
            for pid in workers:
                self._world.signal(pid, signal.SIGCONT)

        return undo

    # --- the network

    def _proxies(self, fault: Fault) -> Undo:
        proxies = [self._world.proxies[fault.target][number] for number in fault.members]
        for proxy in proxies:
            proxy.set(_MODES[fault.kind])

        def undo() -> None:
            for proxy in proxies:
                proxy.set(Mode.PASS)

        return undo

    def _reset(self, fault: Fault) -> None:
        for number in fault.members:
            self._world.proxies[fault.target][number].reset()

    # --- etcd

    def _member_kill(self, fault: Fault) -> Undo | None:
        if self._is_one_starting():
            return None
        number = int(fault.target[1:])
        member = self._world.members[number]
        self._world.signal(member.pid, signal.SIGKILL)

        def undo() -> None:
            """Beside the run: it is ready only when it has caught up."""
            thread = threading.Thread(target=self._world.start_member, args=(number,))
            self._starting.append(thread)
            thread.start()

        return undo

    def _member_pause(self, fault: Fault) -> Undo | None:
        if self._is_one_starting():
            return None
        pid = self._world.members[int(fault.target[1:])].pid
        self._world.signal(pid, signal.SIGSTOP)
        return lambda: self._world.signal(pid, signal.SIGCONT)

    def _is_one_starting(self) -> bool:
        """Then another member's end would take the quorum away."""
        return any(thread.is_alive() for thread in self._starting)

    def _compact(self, fault: Fault) -> None:
        self._etcdctl("compaction", str(self._watcher.revision))
        self._etcdctl("defrag")

    def _lease(self, fault: Fault) -> None:
        leases = self._etcdctl("lease", "list").split()[3:]  # "found N leases", then one each line
        if leases:
            lease = self._rng.choice(leases)
            self._etcdctl("lease", "revoke", lease)

    def _hand(self, fault: Fault) -> None:
        """A key of ours is deleted. Of the two holder lists only one."""
        try:
            keys = [self._keyspace.parse(item.key) for item in self._store.list(DEFAULT_PREFIX).items]
            known = [key for key in keys if isinstance(key, Key)]
            candidates = [key for key in known if key.family in _BY_HAND and self._is_fit(key, known)]
            if candidates:
                key = self._rng.choice(candidates)
                self._delete(self._keyspace.path(key.family, *key.names))
        except PortError as error:
            self._history.note("nothing", text=f"by hand: {error}")

    def _is_fit(self, key: Key, known: list[Key]) -> bool:
        if key.family in (Family.GRANT, Family.VOLUME):
            return all(Key(family, key.names) in known for family in (Family.GRANT, Family.VOLUME))
        return True

    def _delete(self, path: str) -> None:
        self._history.note("fault", text=f"etcdctl del {path}")
        try:
            done = self._store.txn((), (Delete(path),))
            self._history.note("hand", rev=done.revision, key=path)
        except UnknownOutcome:
            self._history.note("hand, unknown", key=path)

    def _etcdctl(self, *arguments: str) -> str:
        """With whichever member answers: one may be away."""
        fault = ""
        for member in self._world.members:
            command = [
                str(self._world.fleet.etcdctl),
                "--endpoints",
                member.endpoint,
                "--command-timeout=5s",
                *arguments,
            ]
            try:
                return subprocess.run(
                    command, env={"ETCDCTL_API": "3"}, capture_output=True, text=True, check=True, timeout=_ETCDCTL_S
                ).stdout
            except subprocess.SubprocessError as error:
                fault = str(error)
        self._history.note("nothing", text=f"etcdctl {' '.join(arguments)}: {fault}")
        return ""
