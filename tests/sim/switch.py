"""The command of the fence agents: it turns a host's power off, in a process of its own. Somebody turns it on again later."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.runtime.ports import FenceProof, FenceTarget, Retryable, Terminal, UnknownOutcome
from tests.fakes.child import FakeChild, Fault, Step
from tests.fakes.clock import Process


class Switch:
    """`ports.Fencer`.

    Args:
        clock: the agent's process; the command dies with it, and goes on while it is paused.
        power_off: does so, to a node's host.
    """

    def __init__(
        self, clock: Process, fault: Callable[[str], Fault | None], deadline_s: float, power_off: Callable[[str], None]
    ) -> None:
        self._child = FakeChild("switch", clock)
        self._child.fault = fault
        self._deadline_s = deadline_s
        self._power_off = power_off

    def fence(self, target: FenceTarget, still: Callable[[], bool]) -> FenceProof:
        if target.host != target.node:  # in the simulator a host's identity is its name
            raise Terminal(f"the switch of {target.node} is not that of {target.host}")

        def act(step: Step) -> FenceProof:
            if not step.lands:
                raise UnknownOutcome("the switch did not say what it did")
            self._power_off(target.node)
            step.between()
            return FenceProof(f"the switch of {target.node} says off", "powered_off")

        self._child.start()
        if not still():
            raise Retryable("another agent leads")
        return self._child.call("power off", act, self._deadline_s)

    def kill(self) -> None:
        self._child.kill()
