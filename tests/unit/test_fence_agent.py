"""The fence agent as a whole, on a fake etcd and virtual time: whom it fences, when, and when not (A28, A30)."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from daemons.assembly import Assembly
from daemons.fence_agent import FenceAgent
from daemons.process import Exit
from daemons.settings import FenceAgentSettings
from reconciler.core.plan_fence import Hold
from reconciler.runtime.ports import FenceProof, FenceTarget, Retryable, Terminal
from schema.codec import decode, encode
from schema.keys import Family, Keyspace
from schema.models import Alive, FenceStatement, Holder, HolderPhase, NodeRecord, VolumePhase, VolumeStatus
from tests.fakes.clock import Process, VirtualClock
from tests.fakes.store import FakeEtcd

KEYS = Keyspace()
AFTER_S, WINDOW_S = 30.0, 600.0
ELECTED_S = 10.0


class Shell(Assembly):
    """An agent's parts, run by the virtual clock."""

    def serve(self, program: str, everything: Callable[[], None]) -> Exit:
        self.begin(everything)
        return Exit.OK


class Switch:
    """The command: does as it is told to, and notes for whom it was run."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.asked: list[tuple[float, str]] = []
        self.act: Callable[[FenceTarget], FenceProof] = lambda target: FenceProof(
            f"{target.node} is off", "powered_off"
        )

    def fence(self, target: FenceTarget, still: Callable[[], bool]) -> FenceProof:
        assert still()
        self.asked.append((self.clock.now(), target.node))
        return self.act(target)

    def kill(self) -> None: ...


class World:
    """Nodes that each hold a volume which `z` waits for."""

    def __init__(self, *nodes: str) -> None:
        self.clock = VirtualClock()
        self.etcd = FakeEtcd(self.clock)
        self.switch = Switch(self.clock)
        for node in (*nodes, "z"):
            self.publish(node)
        for node in nodes:
            self.hold(node, f"of-{node}")

    def put(self, family: Family, *names: str, value: Any = None) -> None:
        self.etcd.put(KEYS.path(family, *names), b"{}" if value is None else encode(value))

    def publish(self, node: str, boot: str = "b1") -> None:
        self.put(Family.NODE, node, value=NodeRecord(boot=boot, connector={"initiator": f"iqn.{node}"}))
        self.put(Family.ALIVE, node, value=Alive(boot=boot, since=""))

    def hold(self, node: str, volume: str, boot: str = "b1", phase: HolderPhase = HolderPhase.READY) -> None:
        holder = Holder(node=node, epoch=7, boot=boot, phase=phase)
        status = VolumeStatus(uid="u", backend="array", phase=VolumePhase.AVAILABLE, size_gib=1, holders=(holder,))
        self.put(Family.VOLUME, volume, value=status)
        self.put(Family.DESIRED_ATTACHMENT, node, volume)
        self.put(Family.DESIRED_ATTACHMENT, "z", volume)

    def dies(self, *nodes: str) -> None:
        for node in nodes:
            self.etcd.delete(KEYS.path(Family.ALIVE, node))

    def agent(self, name: str = "agent", **settings: Any) -> Process:
        """Start one; its process."""
        given = FenceAgentSettings(
            name=name,
            state_folder=Path("/nowhere"),
            run_folder=Path("/nowhere"),
            fence_command=("/bin/fence",),
            after_s=AFTER_S,
            window_s=WINDOW_S,
            **settings,
        )
        process = self.clock.process(name)
        self.store = self.etcd.client(process)
        shell = Shell(given, process, random.Random(name), self.store, ())
        self.fencing = FenceAgent(given, shell, self.switch)
        self.fencing.serve()
        return process

    def leads(self) -> None:
        """Let whoever campaigns win."""
        self.clock.run_for(ELECTED_S)

    def fence(self, node: str, boot: str = "b1") -> FenceStatement | None:
        item = self.etcd.get(KEYS.path(Family.FENCE, node, boot))
        value = decode(FenceStatement, item.value) if item else None
        assert value is None or isinstance(value, FenceStatement)
        return value

    @property
    def asked(self) -> list[str]:
        return [node for _, node in self.switch.asked]


@pytest.fixture
def world() -> World:
    """Three nodes, `a` holding what `z` waits for; an agent that leads."""
    world = World("a", "b")
    world.agent()
    world.leads()
    return world


def test_a_silent_node_is_fenced(world: World) -> None:
    """After its time and not before; the statement says who, why and how it is known."""
    world.dies("a")
    died = world.clock.now()
    world.clock.run_until(lambda: world.fence("a") is not None, 60)
    assert AFTER_S <= world.switch.asked[0][0] - died <= AFTER_S + 3
    said = world.fence("a")
    assert said is not None
    assert (said.who, said.evidence, said.proof) == ("brickwork-fence-agent agent", "a is off", "powered_off")
    assert "of-a" in said.why
    world.clock.run_for(3600)
    assert world.asked == ["a"]


def test_the_command_is_told_which_host_it_is(world: World) -> None:
    """F-D1: the name may have moved to another host than the one whose switch the command knows."""
    told: list[str] = []

    def act(target: FenceTarget) -> FenceProof:
        told.append(target.host)
        raise Terminal("its switch is another host's")

    world.switch.act = act
    world.put(Family.NODE, "a", value=NodeRecord(boot="b1", connector={}, host_identity="machine=2"))
    world.dies("a")
    world.clock.run_for(AFTER_S + 2)
    assert told == ["machine=2"]
    assert world.fence("a") is None


def test_a_sign_of_life_begins_the_count_anew(world: World) -> None:
    for _ in range(5):
        world.dies("a")
        world.clock.run_for(AFTER_S - 5)
        world.publish("a")
        world.clock.run_for(3)
    assert world.asked == []


def test_nobody_is_fenced_for_nothing() -> None:
    """Only for a volume that another node waits for, that is ready, and of the boot that is published."""
    world = World("a", "b")
    world.etcd.delete(KEYS.path(Family.DESIRED_ATTACHMENT, "z", "of-a"))
    world.hold("a", "old", boot="b0")
    world.hold("a", "early", phase=HolderPhase.EXPORTING)
    world.agent()
    world.leads()
    world.dies("a")
    world.clock.run_for(300)
    assert world.asked == []
    world.put(Family.DESIRED_ATTACHMENT, "z", "of-a")
    world.clock.run_until(lambda: world.fence("a") is not None, 10)


def test_it_can_be_told_not_to_wait_for_who_waits() -> None:
    world = World("a", "b")
    world.etcd.delete(KEYS.path(Family.DESIRED_ATTACHMENT, "z", "of-a"))
    world.agent(only_awaited=False)
    world.leads()
    world.dies("a")
    world.clock.run_until(lambda: world.fence("a") is not None, 60)


def test_more_than_half_at_once_is_left_alone(world: World) -> None:
    """And told; when the others are back, the one that is not is fenced."""
    world.dies("a", "b")
    world.clock.run_for(300)
    assert world.asked == []
    assert world.fencing._fencing.held == {"a": Hold.MAJORITY, "b": Hold.MAJORITY}
    world.publish("b")
    world.clock.run_until(lambda: world.asked == ["a"], 60)


def test_one_node_in_a_window() -> None:
    """The second has to wait, however many agents there were in between."""
    world = World("a", "b", "c", "d")
    first = world.agent("first")
    world.leads()
    world.dies("a", "b")
    world.clock.run_until(lambda: world.fence("a") is not None, 60)
    first.kill()
    world.agent("second")
    world.clock.run_for(WINDOW_S - 60)
    assert len(world.asked) == 1
    world.clock.run_until(lambda: len(world.asked) == 2, 200)


def test_not_now_does_not_count_as_fenced() -> None:
    """Nothing was done, so another node may be."""
    world = World("a", "b", "c", "d")
    world.agent()
    world.leads()

    def busy_for_a(target: FenceTarget) -> FenceProof:
        if target.node == "a":
            raise Retryable("the switch is busy")
        return FenceProof("off", "powered_off")

    world.switch.act = busy_for_a
    world.dies("a", "b")
    world.clock.run_until(lambda: world.fence("b") is not None, 60)


def test_not_now_is_asked_again(world: World) -> None:
    """With growing pauses."""

    def busy(_: FenceTarget) -> FenceProof:
        raise Retryable("the switch is busy")

    world.switch.act, proven = busy, world.switch.act
    world.dies("a")
    world.clock.run_for(300)
    times = [when for when, _ in world.switch.asked]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert len(pauses) > 2
    assert pauses[0] >= 5
    assert pauses[-1] > pauses[0]
    assert world.fence("a") is None
    world.switch.act = proven
    world.clock.run_until(lambda: world.fence("a") is not None, 300)


def test_a_failure_may_have_done_something(world: World) -> None:
    """Nothing is written; and until the window is over no other node is touched."""

    def fails(_: FenceTarget) -> FenceProof:
        raise Terminal("no such host")

    world.switch.act = fails
    world.dies("a")
    world.clock.run_until(lambda: world.asked == ["a"], 60)
    world.publish("a")
    world.dies("b")
    world.clock.run_for(300)
    assert world.asked == ["a"]
    assert world.fence("a") is None


@pytest.mark.parametrize("boot", ["b1", "b2"])
def test_who_returns_while_the_command_runs_is_not_fenced(world: World, boot: str) -> None:
    """A sign of life, or a new boot: there is nothing left to fence, or something else."""

    def returns(target: FenceTarget) -> FenceProof:
        world.publish(target.node, boot)
        return FenceProof("it is off", "powered_off")

    world.switch.act = returns
    world.dies("a")
    world.clock.run_until(lambda: world.asked == ["a"], 60)
    world.clock.run_for(300)
    assert (world.fence("a"), world.fence("a", boot), world.asked) == (None, None, ["a"])


def test_one_of_two_agents_acts() -> None:
    """Also while its command runs, and nothing is written yet."""
    world = World("a", "b")

    def slowly(_: FenceTarget) -> FenceProof:
        world.clock.sleep(3)
        return FenceProof("off", "powered_off")

    world.switch.act = slowly
    for name in ("one", "two"):
        world.agent(name)
    world.leads()
    world.dies("a")
    world.clock.run_for(300)
    assert world.asked == ["a"]


def test_when_the_agent_that_acts_dies_another_does() -> None:
    """The others count along, so that a successor need not begin anew."""
    world = World("a", "b")
    processes = [world.agent(name) for name in ("one", "two")]
    world.leads()
    world.dies("a")
    world.clock.run_for(AFTER_S / 2)
    leader = world.etcd.get(KEYS.path(Family.LEADER, "_fence"))
    assert leader is not None
    processes[b'"two"' in leader.value].kill()
    world.clock.run_until(lambda: world.fence("a") is not None, AFTER_S / 2 + ELECTED_S)
    assert world.asked == ["a"]


def test_an_agent_that_was_stopped_begins_anew(world: World) -> None:
    """It has not seen what was in between: the node may have lived, and just have died again."""
    world.dies("a")
    world.clock.run_for(AFTER_S - 5)
    leader = world.fencing
    process = leader._shell.clock
    assert isinstance(process, Process)
    process.pause()
    world.clock.run_for(100)
    process.resume()
    resumed = world.clock.now()
    world.clock.run_until(lambda: world.fence("a") is not None, 200)
    assert world.switch.asked[0][0] - resumed >= AFTER_S


def test_an_agent_without_the_store_begins_anew() -> None:
    """The same when it was not stopped, but heard nothing."""
    world = World("a", "b")
    process = world.agent()
    world.leads()
    world.dies("a")
    world.clock.run_for(AFTER_S - 5)
    world.store.down = True
    world.clock.run_for(3)
    world.store.down = False
    back = world.clock.now()
    world.clock.run_until(lambda: world.fence("a") is not None, 200)
    assert world.switch.asked[0][0] - back >= AFTER_S - 1
    process.kill()
