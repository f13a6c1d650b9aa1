"""Where a search may begin besides the idle world: states on the one undisturbed way from wish to attachment."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.core.steps import Do
from tests.model import checks
from tests.model.load import Kind, Load
from tests.model.moves import STEPS
from tests.model.state import (
    ABSENT,
    RELEASED,
    Array,
    Budget,
    State,
    VolumeKeys,
    first_state,
    with_array,
    with_budget,
    with_controller,
    with_host,
    with_node,
    with_volume,
)
from tests.model.world import World


def run(state: State, until: Callable[[State], bool]) -> State:
    """Undisturbed, always the first step that is enabled, until the state is as asked."""
    world = World(Load(crashes=False))
    undisturbed = with_budget(state, Budget())
    while not until(undisturbed):
        steps = (found for found in world.following(undisturbed) if found.kind in (Kind.STEP, Kind.GRANT, Kind.HEAL))
        undisturbed = next(steps).state
    return with_budget(undisturbed, state.budget)


def is_settled(state: State) -> bool:
    return checks.settled(state, healed=True)


def idle(load: Load) -> State:
    """Both nodes up and published, a volume that nobody wishes for on any of them."""
    return first_state(load.budget, restores=load.restores, cuts=load.cuts, online=load.online)


def wished(load: Load) -> State:
    """A wish for A, and nothing done about it yet."""
    state = idle(load)
    return with_node(state, 0, state.nodes[0]._replace(wish=1))


def attached(load: Load) -> State:
    """Settled, attached to A."""
    return run(wished(load), is_settled)


def with_late_export(load: Load) -> State:
    """The same, but an `initialize_connection` of a controller that died has not reached the array yet."""
    code = STEPS.index(Do.CONNECT_EXPORT)
    state = run(wished(load), lambda state: state.controller.op is not None and state.controller.op.do == code)
    op, controller = state.controller.op, state.controller._replace(op=None)
    assert op is not None
    return run(with_controller(state, controller), is_settled)._replace(late=(op,))


def republishing(load: Load) -> State:
    """Released by A, while the controller is still putting back a connection that was deleted by hand."""
    state = attached(load)
    state = with_node(state, 0, state.nodes[0]._replace(connection=None))
    state = run(state, lambda state: state.controller.op is not None and state.controller.op.landed)
    released = state.nodes[0]._replace(wish=0, claim=None, status=(RELEASED, state.hosts[0].device))
    gone = state.hosts[0]._replace(device=0, know=ABSENT)
    return with_host(with_node(state, 0, released), 0, gone)


def declined(load: Load) -> State:
    """A wish for A that was deleted and put again: what was granted at first was released meanwhile."""
    state = attached(load)
    state = with_node(state, 0, state.nodes[0]._replace(wish=0))
    state = run(state, lambda state: state.nodes[0].claim is None)
    return with_node(state, 0, state.nodes[0]._replace(wish=1))


def without_volume(load: Load) -> State:
    """Nobody ever wished for the volume."""
    state = idle(load)
    array = Array(data=0, room=load.room, online=load.online, cuts=load.cuts)
    return with_array(with_volume(state, VolumeKeys(None, None, None, None)), array)


STARTS = {
    "idle": idle,
    "wished": wished,
    "attached": attached,
    "attached, late export": with_late_export,
    "declined": declined,
    "republishing": republishing,
    "without volume": without_volume,
}
