"""Does to a fleet what `faults` drew, and undoes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from random import Random

from reconciler.runtime.ports import Batch, Retryable
from schema.keys import Family, Key
from schema.models import Proof
from tests.fakes.child import FOREVER
from tests.fakes.child import Fault as CallFault
from tests.fakes.store import Fault as StoreFault
from tests.sim.faults import DAEMON, Fault
from tests.sim.fleet import Daemon, Fleet

Undo = Callable[[], None]

BY_HAND = (
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
    """One run's."""

    def __init__(self, fleet: Fleet, rng: Random) -> None:
        self._fleet = fleet
        self._rng = rng
        self._call_faults: dict[str, Callable[[str], CallFault | None]] = {}
        """By the array or the host that is called."""
        self._stalling: dict[str, Callable[[], CallFault]] = {}
        self._undo: dict[Fault, Undo] = {}
        fleet.call_fault = self._call_fault

    def strike(self, fault: Fault) -> None:
        self._fleet.story.fault(str(fault))
        strike = getattr(self, f"_{fault.kind.name.lower()}")
        target = self._fleet.daemons[fault.target] if fault.kind in DAEMON else fault.target
        undo = strike(target)
        if undo is not None:
            self._undo[fault] = undo

    def relent(self, fault: Fault) -> None:
        """The fault's time is over."""
        undo = self._undo.pop(fault, None)
        if undo is not None:
            self._fleet.story.tell("FAULT", f"over: {fault}")
            undo()

    def heal(self) -> None:
        """Everything is as it should be from now on, and everybody runs."""
        self._stalling.clear()
        for fault in list(self._undo):
            self.relent(fault)
        for host in self._fleet.hosts.values():
            if not host.up:
                host.reboot()
        self._fleet.start()

    # --- a daemon

    def _kill(self, daemon: Daemon) -> Undo:
        daemon.kill()
        return lambda: self._start(daemon)

    def _start(self, daemon: Daemon) -> None:
        host = self._fleet.hosts.get(daemon.name.removeprefix("node/"))
        if host is None or host.up:
            daemon.start()

    def _stop(self, daemon: Daemon) -> Undo:
        daemon.stop()

        def undo() -> None:
            daemon.kill()
            self._start(daemon)

        return undo

    def _pause(self, daemon: Daemon) -> Undo | None:
        process = daemon.process
        if process is None or process.dead or process.paused:
            return None
        process.pause()
        return lambda: None if process.dead else process.resume()

    def _stall(self, daemon: Daemon) -> None:
        """Its next call takes long, and it is paused while the call is under way; until healed, or a while later."""
        clock, takes_s, paused_s = self._fleet.clock, self._rng.uniform(0.5, 20.0), self._rng.choice((1.0, 8.0, 25.0))

        def pause() -> None:
            clock.sleep(0.01)
            self._fleet.story.fault(f"{daemon.name} is paused in a call of {takes_s:.1f} s for {paused_s:.0f} s")
            undo = self._pause(daemon)
            clock.sleep(paused_s)
            if undo is not None:
                undo()

        def stall() -> CallFault:
            clock.spawn("stall", pause)
            return CallFault(before_s=takes_s)

        self._stalling[daemon.name] = stall

    def _cut(self, daemon: Daemon) -> Undo:
        return self._flag(daemon, "down")

    def _silent(self, daemon: Daemon) -> Undo:
        return self._flag(daemon, "silent")

    def _frozen(self, daemon: Daemon) -> Undo:
        return self._flag(daemon, "frozen")

    def _flag(self, daemon: Daemon, name: str) -> Undo:
        store = daemon.store
        setattr(store, name, True)

        def undo() -> None:
            setattr(store, name, False)

        return undo

    def _lossy(self, daemon: Daemon) -> Undo:
        store, share = daemon.store, self._rng.choice((0.05, 0.3))
        kinds = tuple(StoreFault)

        def lose(_call: str) -> StoreFault | None:
            return self._rng.choice(kinds) if self._rng.random() < share else None

        store.fault = lose

        def undo() -> None:
            store.fault = lambda _: None

        return undo

    def _twice(self, daemon: Daemon) -> Undo:
        store = daemon.store
        store.deliver = lambda batch: (batch, Batch(batch.revision, batch.events))

        def undo() -> None:
            store.deliver = lambda batch: (batch,)

        return undo

    # --- a host

    def _power(self, node: str) -> Undo:
        by_itself = self._rng.random() < 0.3 and self._fleet.shape.cuts
        # A copy that logs in by itself with the node's own initiator is beyond any rule (docs/OPERATING.md, Clones).
        self._fleet.hosts[node].restores_sessions = by_itself and not self._fleet.copies
        self._fleet.turn_off(node)
        return partial(self._fleet.turn_on, node)

    def _copy(self, node: str) -> None:
        """As a host that was cloned: the copy is off while that is done, and has nothing of its own left."""
        for copy in [copy for copy, of in self._fleet.copies.items() if of == node]:
            self._fleet.turn_off(copy)
            self._fleet.copy_disk(node, copy)
            self._fleet.turn_on(copy)

    def _busy(self, node: str) -> Undo:
        devices = list(self._fleet.hosts[node].devices.values())
        for device in devices:
            device.holders.append("mounted at /srv")

        def undo() -> None:
            for device in devices:
                device.holders.clear()

        return undo

    def _path(self, node: str) -> Undo:
        host = self._fleet.hosts[node]
        network = self._rng.randrange(host.paths_total)
        host.paths_down.add(network)

        def undo() -> None:
            host.paths_down.discard(network)

        return undo

    def _fence(self, node: str) -> Undo:
        undo = self._power(node)
        self._state_fence(node, self._published(node), "statement" if self._fleet.shape.cuts else "powered_off")
        return undo

    def _split(self, node: str) -> Undo:
        """The daemon is alone with its devices; the operator says that it can no longer write. Where that is not enough, the
        host may be switched off later, and the word raised."""
        undo, boot = self._cut(self._fleet.daemons[f"node/{node}"]), self._published(node)
        self._state_fence(node, boot, "statement")

        def switch_off() -> None:
            self._fleet.power_off(node)
            self._state_fence(node, boot, "powered_off")
            undo()

        return undo if self._fleet.shape.cuts or self._rng.random() < 0.5 else switch_off

    def _published(self, node: str) -> str:
        """The boot that the node says it is in, empty if it says none."""
        return getattr(self._fleet.invariants.values.get(Key(Family.NODE, (node,))), "boot", "")

    def _state_fence(self, node: str, boot: str, proof: Proof) -> None:
        if boot:
            said = {"who": "the operator", "why": "it is quiet", "evidence": "its power is off", "proof": proof}
            self._fleet.by_hand(self._fleet.keyspace.path(Family.FENCE, node, boot), json.dumps(said).encode())

    # --- an array, and calls

    def _call_fault(self, by: str, where: str, call: str) -> CallFault | None:
        if by in self._stalling:
            return self._stalling.pop(by)()
        draw = self._call_faults.get(where)
        return draw(call) if draw else None

    def _called(self, where: str, draw: Callable[[str], CallFault | None]) -> Undo:
        self._call_faults[where] = draw

        def undo() -> None:
            self._call_faults.pop(where, None)

        return undo

    def _away(self, array: str) -> Undo:
        self._fleet.arrays[array].away = True

        def undo() -> None:
            self._fleet.arrays[array].away = False

        return undo

    def _slow(self, where: str) -> Undo:
        return self._called(
            where,
            lambda _: CallFault(
                before_s=self._rng.uniform(0, 6), between_s=self._rng.uniform(0, 2), after_s=self._rng.uniform(0, 3)
            ),
        )

    def _hangs(self, where: str) -> Undo:
        """Each way ends a worker, with all that it has in hand."""
        ways = (
            CallFault(before_s=FOREVER),
            CallFault(between_s=FOREVER),
            CallFault(after_s=FOREVER),
            CallFault(dies=True),
            CallFault(breaks=True),
            CallFault(lands=False, dies=True),
        )
        return self._called(where, lambda _: self._rng.choice(ways) if self._rng.random() < 0.4 else None)

    def _fails(self, where: str) -> Undo:
        ways = (
            CallFault(lands=False, raises=Retryable("not now")),
            CallFault(raises=Retryable("it was done, and an error came all the same")),
        )
        return self._called(where, lambda _: self._rng.choice(ways) if self._rng.random() < 0.4 else None)

    # --- etcd

    def _down(self, _: str) -> Undo:
        undos = [self._cut(daemon) for daemon in self._fleet.daemons.values() if daemon.running]

        def undo() -> None:
            for each in undos:
                each()

        return undo

    def _compact(self, _: str) -> None:
        self._fleet.etcd.compact()

    def _full(self, _: str) -> Undo:
        self._fleet.etcd.no_space = True

        def undo() -> None:
            self._fleet.etcd.no_space = False

        return undo

    def _leases(self, _: str) -> None:
        self._fleet.etcd.revoke(*self._fleet.etcd.leases())

    def _hand(self, _: str) -> None:
        """A key of ours is deleted. Of the two holder lists only one."""
        fleet = self._fleet
        values = fleet.invariants.values
        whole = {
            name
            for name in {key.names[0] for key in values}
            if all(Key(family, (name,)) in values for family in (Family.GRANT, Family.VOLUME))
        }
        keys = [
            key
            for key in values
            if key.family in BY_HAND and (key.family not in (Family.GRANT, Family.VOLUME) or key.names[0] in whole)
        ]
        if keys:
            chosen = self._rng.choice(keys)
            path = fleet.keyspace.path(chosen.family, *chosen.names)
            fleet.story.fault(f"etcdctl del {path}")
            fleet.by_hand(path, None)
