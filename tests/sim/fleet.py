"""Controllers, nodes, arrays, hosts and one etcd: what a run plays with, and what its checks look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy as copy_of
from dataclasses import dataclass, field
from random import Random

from daemons import controller, node
from daemons.controller import ControllerDaemon
from daemons.fence_agent import FenceAgent
from daemons.node import NodeDaemon, ThisHost
from daemons.settings import CommonSettings, ControllerSettings, FenceAgentSettings, NodeSettings
from reconciler.runtime.index import Index
from reconciler.runtime.ports import Compare, Event
from schema.keys import Keyspace
from schema.models import Record
from tests.fakes.array import FakeArray
from tests.fakes.audit import Audit
from tests.fakes.audit import Event as Happening
from tests.fakes.backend import FakeBackend
from tests.fakes.child import Fault as CallFault
from tests.fakes.clock import Process, VirtualClock, VirtualTask
from tests.fakes.connector import FakeConnector
from tests.fakes.host import FakeBoot, FakeHost, FakeIdentity, FakeNotes
from tests.fakes.store import FakeEtcd, FakeStore
from tests.sim.assembly import SimulatedAssembly
from tests.sim.invariants import Broken, Invariants, with_access
from tests.sim.story import Story
from tests.sim.switch import Switch

SETTINGS = {
    "state_folder": "/var/lib/brickwork",
    "run_folder": "/run/brickwork",
    "workers": 3,
    "retry_base_s": 0.5,
    "retry_cap_s": 20.0,
    "resync_s": 60.0,
}
AGENTS = {
    "fence_command": ("/bin/fence",),
    "after_s": 8.0,
    "window_s": 30.0,
    "retry_base_s": 1.0,
    "only_awaited": False,
}
OFF_S = (1.0, 15.0)
"""So long a host is off."""
EFFECTS = (
    "create",
    "extend",
    "delete",
    "adopt",
    "export",
    "connect",
    "terminate",
    "unexport",
    "disconnect",
    "add_paths",
    "power off",
)
"""Calls that change something."""
LATENCY_S = 0.001
SCAN_S = 3.0
"""So long after a login the kernel finds a device that its caller did not wait for."""
DEADLINE_S = 30.0
"""For every call to a driver or to os-brick: shorter than in production, so that a hang fits into a run."""


@dataclass(frozen=True)
class Shape:
    """How large a fleet is."""

    controllers: int = 2
    nodes: int = 3
    arrays: int = 2
    extends_online: bool = False
    """Whether the arrays extend what is attached."""
    paths: int = 1
    """Storage networks between each host and the arrays."""
    agents: int = 0
    """Fence agents; each host has a power switch."""
    cuts: bool = True
    """Whether the arrays cut off whom they no longer map."""
    clone: bool = False
    """Whether the first node's host has a copy: with its node id and its initiator, but not its identity."""


class Daemon:
    """One daemon, life after life."""

    def __init__(self, name: str, clock: VirtualClock, etcd: FakeEtcd, program: Callable[[Daemon], None]) -> None:
        self.name = name
        self.process: Process | None = None
        self.store: FakeStore
        self.assembly: SimulatedAssembly | None = None
        self.backends: dict[str, FakeBackend] = {}
        self.connector: FakeConnector | None = None
        self._clock = clock
        self._etcd = etcd
        self._program = program

    @property
    def running(self) -> bool:
        return self.process is not None and not self.process.dead

    def start(self) -> None:
        if self.running:
            return
        process = self.process = self._clock.process(self.name)
        self.store = self._etcd.client(process, self.name)
        self.store.latency_s = LATENCY_S
        process.spawn("main", lambda: self._run(process))

    def _run(self, process: Process) -> None:
        self._program(self)
        process.dead = True

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def stop(self) -> None:
        if self.running and self.assembly is not None:
            self.assembly.stop.set()


CallFaults = Callable[[str, str, str], CallFault | None]
"""(daemon, array or host, call) -> what goes wrong with it."""


@dataclass
class Fleet:
    """A world. Nothing runs before `start`.

    Args:
        clock: decides in what order things happen.
    """

    clock: VirtualClock
    shape: Shape
    rng: Random
    keyspace: Keyspace = field(default_factory=Keyspace)
    broken: BaseException | None = None
    """The first invariant that did not hold."""

    def __post_init__(self) -> None:
        self.story = Story(self.clock.now)
        self.etcd = FakeEtcd(self.clock)
        self.audit = Audit(self.clock.now, self._happened)
        self.arrays = {name: FakeArray(name, self.audit) for name in _names("array", self.shape.arrays)}
        for array in self.arrays.values():
            array.extends_online, array.cuts_access = self.shape.extends_online, self.shape.cuts
        self.hosts = {
            name: FakeHost(name, [*self.arrays.values()], self.audit) for name in _names("n", self.shape.nodes)
        }
        self.copies = {"n1-copy": "n1"} if self.shape.clone else {}
        """Hosts that bear a node's id besides the one that is it."""
        for name, original in self.copies.items():
            self.hosts[name] = FakeHost(name, [*self.arrays.values()], self.audit)
            self.hosts[name].initiator = self.hosts[original].initiator
        for host in self.hosts.values():
            host.paths_total = self.shape.paths
        self.local: dict[tuple[str, str], FakeArray] = {}
        """(controller, backend) -> storage of its own behind the same settings, as of a volume group on its host."""
        self.invariants = Invariants(self.keyspace, self)
        self.call_fault: CallFaults = lambda _by, _where, _call: None
        self.acting: dict[str, str] = {}
        """Array -> the controller that last began a call on it: nobody else's may land."""
        self._confirmed: set[VirtualTask] = set()
        """Tasks whose last transaction was a confirmation."""
        self.etcd.observe = self._wrote
        self.daemons: dict[str, Daemon] = {}
        for name in _names("ctl/c", self.shape.controllers):
            self.daemons[name] = Daemon(name, self.clock, self.etcd, self._run_controller)
        for name in self.hosts:
            self.daemons[f"node/{name}"] = Daemon(f"node/{name}", self.clock, self.etcd, self._run_node)
        for name in _names("fence/f", self.shape.agents):
            self.daemons[name] = Daemon(name, self.clock, self.etcd, self._run_agent)

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(name for name in self.hosts if name not in self.copies)

    def node_of(self, host: str) -> str:
        """Whose id the host bears."""
        return self.copies.get(host, host)

    def host_of(self, node: str, boot: str) -> str:
        """The host whose boot this is, or was: a fake host's are named after it."""
        host = boot.rpartition("-boot-")[0]
        return host if self.copies.get(host) == node else node

    def copy_disk(self, node: str, copy: str) -> None:
        """What is on it now, the state folder and all."""
        self.hosts[copy].disk = dict(self.hosts[node].disk)
        self.hosts[copy].state = copy_of(self.hosts[node].state)

    def start(self) -> None:
        for daemon in self.daemons.values():
            daemon.start()

    def by_hand(self, path: str, value: bytes | None) -> None:
        """What a person does with etcdctl; whoever has no space tries until there is some."""
        full, self.etcd.no_space = self.etcd.no_space, False
        if value is None:
            self.etcd.delete(path)
        else:
            self.etcd.put(path, value)
        self.etcd.no_space = full

    def power_off(self, node: str) -> None:
        """Somebody turns it on again later."""

        def turn_on() -> None:
            self.clock.sleep(self.rng.uniform(*OFF_S))
            self.turn_on(node)

        self.turn_off(node)
        self.invariants.halted(node)
        self.clock.spawn("power on", turn_on)

    def turn_off(self, node: str) -> None:
        self.daemons[f"node/{node}"].kill()
        self.hosts[node].halt()

    def turn_on(self, node: str) -> None:
        """Unless somebody else did."""
        if not self.hosts[node].up:
            self.hosts[node].reboot()
            self.daemons[f"node/{node}"].start()

    def end(self) -> None:
        """Let go of everything, so that the next run has the memory."""
        self.etcd.observe = lambda *_: None
        self.audit.heard = lambda _: None
        for daemon in self.daemons.values():
            daemon.kill()
        self.clock.run_for(0)

    # --- What the checks look at

    def devices(self, uid: str) -> Sequence[str]:
        return [
            name
            for name, host in self.hosts.items()
            if uid and any(device.uid == uid for device in host.devices.values())
        ]

    def mapped(self, uid: str) -> Sequence[str]:
        reach = {initiator for array in self.arrays.values() for each, initiator in array.exposures() if each == uid}
        return [name for name, host in self.hosts.items() if host.initiator in reach]

    def writers(self, uid: str) -> Sequence[str]:
        if self.shape.cuts:
            return [name for name in with_access(self, uid) if self.hosts[name].up or not self._replaced(name)]
        return [
            name
            for name, host in self.hosts.items()
            if host.up and any(device.uid == uid and host.is_let_in(device) for device in host.devices.values())
        ]

    def _replaced(self, host: str) -> bool:
        """It is off, and somebody said so, that another host may take its place. What it has is gone when it comes back."""
        return bool(self.copies) and self.invariants.is_over(self.node_of(host), self.boot(host))

    def size_gib(self, node: str, uid: str) -> int:
        return next((device.size_gib for device in self.hosts[node].devices.values() if device.uid == uid), 0)

    def extends_online(self) -> bool:
        return self.shape.extends_online

    def boot(self, node: str) -> str:
        return self.hosts[node].tmpfs.get("boot", "")

    def uids(self) -> Mapping[str, str]:
        """uid -> volume, of all records."""
        values = self.invariants.values
        return {value.uid: key.names[0] for key, value in values.items() if isinstance(value, Record)}

    def whose(self) -> str:
        """The daemon whose task, or whose worker's, runs now."""
        task = self.clock.scheduler.current
        return "" if task is None else task.process.name.partition(".")[0]

    # --- The daemons

    def _run_controller(self, daemon: Daemon) -> None:
        process = _of(daemon)
        settings = ControllerSettings.model_validate(
            SETTINGS | {"name": daemon.name.removeprefix("ctl/"), "backends": {n: _driver(n) for n in self.arrays}}
        )
        own = {name: self.local.get((daemon.name, name), array) for name, array in self.arrays.items()}
        daemon.backends = {name: FakeBackend(array, process) for name, array in own.items()}
        for name, backend in daemon.backends.items():
            backend.deadline_s = backend.open_deadline_s = DEADLINE_S
            backend.fault = self._call_faults(daemon.name, name)
        assembly = self._assemble(daemon, settings, controller.CALLS, controller.indexes(self.keyspace))
        ControllerDaemon(settings, assembly, daemon.backends).serve()

    def _run_node(self, daemon: Daemon) -> None:
        process, host = _of(daemon), self.hosts[daemon.name.removeprefix("node/")]
        node_id = self.node_of(host.name)
        settings = NodeSettings.model_validate(SETTINGS | {"node": node_id})
        connector = daemon.connector = FakeConnector(host, process)
        connector.deadline_s = DEADLINE_S
        connector.fault = lambda call: self._begun(daemon.name, host.name, call)
        connector.landing = lambda call, _: self._scan_later(host) if call == "connect" else None
        assembly = self._assemble(daemon, settings, node.CALLS, ())
        this = ThisHost(FakeBoot(host), FakeNotes(host, process), connector, FakeIdentity(host))
        NodeDaemon(settings, assembly, node_id, this).serve()

    def _run_agent(self, daemon: Daemon) -> None:
        settings = FenceAgentSettings.model_validate(SETTINGS | AGENTS | {"name": daemon.name.removeprefix("fence/")})
        assembly = self._assemble(daemon, settings, (), ())
        switch = Switch(_of(daemon), lambda call: self._begun(daemon.name, "switch", call), DEADLINE_S, self.power_off)
        FenceAgent(settings, assembly, switch).serve()

    def _scan_later(self, host: FakeHost) -> None:
        """Who called may be dead by then: what a login brings is the kernel's doing."""

        def scan() -> None:
            kernel.sleep(SCAN_S)
            host.scan()

        kernel = self.clock.process(host.name)
        kernel.spawn("scan", scan)

    def _assemble(
        self,
        daemon: Daemon,
        settings: CommonSettings,
        calls: Sequence[str],
        indexes: Sequence[Index],
    ) -> SimulatedAssembly:
        rng = Random(self.rng.random())
        process = _of(daemon)
        daemon.assembly = SimulatedAssembly(settings, process, rng, daemon.store, calls, indexes, self.breaks)
        return daemon.assembly

    def _call_faults(self, by: str, array: str) -> Callable[[str], CallFault | None]:
        def fault(call: str) -> CallFault | None:
            self.acting[array] = by
            return self._begun(by, array, call)

        return fault

    def _begun(self, by: str, where: str, call: str) -> CallFault | None:
        """A call was made. One that changes something comes right after a confirmation by the same task; but a fenced host
        drops its devices at once."""
        task = self.clock.scheduler.current
        confirmed = task in self._confirmed or (
            call == "disconnect" and self.invariants.fenced(self.node_of(where), self.boot(where))
        )
        if call in EFFECTS and not confirmed:
            self.breaks(Broken(f"S9: {by} asked {where} to {call} without confirming the facts"))
        if task is not None:
            self._confirmed.discard(task)
        return self.call_fault(by, where, call)

    # --- What happens

    def breaks(self, error: BaseException) -> None:
        """Whoever is in the middle of something would swallow the error: keep the first."""
        if self.broken is None:
            self.broken = error
            self.story.tell("BROKEN", f"{type(error).__name__}: {error}")

    def _wrote(self, by: str, compares: Sequence[Compare], events: Sequence[Event]) -> None:
        if (task := self.clock.scheduler.current) is not None:
            (self._confirmed.discard if events else self._confirmed.add)(task)
        for event in events:
            if "/alive/" not in event.key:
                value = "deleted" if event.item is None else event.item.value.decode(errors="replace")
                self.story.tell(by or "a hand", f"etcd {event.revision}: {self._short(event.key)} {value[:160]}")
        try:
            self.invariants.wrote(by, compares, events)
        except AssertionError as error:
            self.breaks(error)

    def _happened(self, event: Happening) -> None:
        self.story.tell(event.where, f"{event.kind} {event.uid[:8]} {event.who}")
        try:
            self._check(event)
        except AssertionError as error:
            self.breaks(error)

    def _check(self, event: Happening) -> None:
        by = self.whose()
        reached = [name for name, host in self.hosts.items() if host.initiator == event.who]
        node = reached[0] if reached else ""
        match event.kind:
            case "exported":
                self.invariants.exported(by, self.acting.get(event.where, ""), event.uid)
            case "mapped":
                self.invariants.mapped(by, self.acting.get(event.where, ""), node, event.uid)
            case "unmapped":
                for each in reached:
                    self.invariants.unmapped(by, self.acting.get(event.where, ""), each, event.uid)
            case "deleted":
                self.invariants.deleted(by, self.acting.get(event.where, ""), event.uid)
            case "connected" if by:
                self.invariants.connected(event.where, self.uids().get(event.uid, "?"), event.uid)
            case "joined":
                self.invariants.joined(event.where, self.uids().get(event.uid, "?"), event.uid)
            case "connected":
                self.invariants.came_back(event.where, event.uid)
            case "disconnected":
                self.invariants.disconnected(event.where, event.uid)

    def _short(self, path: str) -> str:
        return path.removeprefix(self.keyspace.prefix)


def _names(stem: str, number: int) -> list[str]:
    return [f"{stem}{index + 1}" for index in range(number)]


def _of(daemon: Daemon) -> Process:
    assert daemon.process is not None
    return daemon.process


def _driver(name: str) -> dict[str, str]:
    return {"name": name, "driver": "tests.fakes.FakeDriver"}
