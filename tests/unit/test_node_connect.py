"""A node that connects again what was attached before: what it knows of the device outlives whatever comes of that."""

from __future__ import annotations

import pytest

from reconciler.runtime.ports import DuplicateIdentity, PortError, Retryable, UnknownOutcome, Unsupported
from schema.keys import Family
from tests.fakes.child import Fault
from tests.unit.fake_world import on
from tests.unit.test_node_extend import KEYSPACE, Node


def lost(fault: PortError) -> Node:
    """Its device went away for a moment, and the connect that followed failed."""
    node = Node()
    node.settle()
    (device,) = node.physical.devices.values()
    node.physical.detach(device)
    node.start()
    node.connector.fault = on("connect", Fault(raises=fault, lands=False))
    with pytest.raises(type(fault)):
        node.settle()
    return node


@pytest.mark.parametrize("fault", [Unsupported("not any more"), Retryable("it does not answer")])
def test_a_connect_that_fails_leaves_what_is_known_of_an_earlier_device(fault: PortError) -> None:
    """Without it a connection that is refused now counts as never begun, and its session and disk stay after the detach."""
    details = lost(fault).physical.disk["v"].details
    assert details is not None
    assert details["identity"]


def test_what_turned_out_to_be_another_volumes_is_not_known_as_ones_own() -> None:
    assert lost(DuplicateIdentity("it is another's")).physical.disk["v"].details is None


def test_a_connection_that_is_refused_does_not_replace_the_one_that_was_connected() -> None:
    """The detach needs that one."""
    node = lost(Retryable("it does not answer"))
    before = node.physical.disk["v"].conn_info
    item = node.cache.get(KEYSPACE.path(Family.CONNECTION, "n1", "v"))
    assert item is not None
    changed = node.cache.decoded(item).model_copy(update={"conn_info": {**before, "driver_volume_type": "other"}})
    node.put(Family.CONNECTION, ("n1", "v"), changed)
    node.connector.fault = lambda _: None
    with pytest.raises(Unsupported):
        node.settle()
    assert node.physical.disk["v"].conn_info == before


def test_what_a_crash_left_unnoted_is_noted_before_it_is_called_attached() -> None:
    node = Node()
    node.connector.fault = on("connect", Fault(raises=UnknownOutcome("the worker died")))
    with pytest.raises(UnknownOutcome):
        node.settle()
    assert node.physical.disk["v"].details is None
    node.connector.fault = lambda _: None
    node.start()
    assert node.settle().attached
    details = node.physical.disk["v"].details
    assert details is not None
    assert details["identity"]
