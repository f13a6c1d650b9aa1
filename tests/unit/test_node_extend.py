"""A node whose volume grows under it: the device is told, whatever goes wrong on the way, and never taken for another one."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.controllers.host import Host
from reconciler.controllers.node import NodeReconciler
from reconciler.core.mass import MassRule
from reconciler.runtime.cache import Cache
from reconciler.runtime.controller import Again
from reconciler.runtime.ports import IdentityMismatch, PortError, Retryable, UnknownOutcome
from schema.codec import decode_family, encode
from schema.keys import Family, Key, Keyspace
from schema.models import AttachmentSpec, Connection, HolderPhase, NodeRecord
from tests.fakes.child import Fault
from tests.fakes.host import FakeBoot, FakeIdentity, FakeNotes
from tests.fakes.store import FakeEtcd
from tests.unit.fake_world import World, on

GIB = 1 << 30
KEYSPACE = Keyspace()


class Node:
    """A node's reconciler on a fake host, with volume v granted to it."""

    def __init__(self) -> None:
        self.world = World()
        self.physical, self.connector, self.process = self.world.host("n1")
        self.etcd = FakeEtcd(self.world.clock)
        self.cache = Cache(self.world.clock, decode=lambda item: decode_family(family(item.key), item.value))
        self.volume, _ = self.world.exported("v", self.physical)
        self.boot = FakeBoot(self.physical)
        self.record = NodeRecord(boot=self.boot.current(), connector={})
        self.put(Family.NODE, ("n1",), self.record)
        self.put(Family.DESIRED_ATTACHMENT, ("n1", "v"), AttachmentSpec())
        self.connected()
        self.start()

    def start(self) -> None:
        """A daemon that knows nothing but its notes."""
        notes = FakeNotes(self.physical, self.process)
        self.reconciler = NodeReconciler(
            node="n1",
            store=self.etcd.client(self.process),
            cache=self.cache,
            keyspace=KEYSPACE,
            clock=self.world.clock,
            connector=self.connector,
            host=Host("n1", notes),
            boot=self.boot,
            this=FakeIdentity(self.physical),
            record=lambda: self.record,
            enqueue=lambda _: None,
            failpoint=lambda _: None,
            observe_step=lambda *_: None,
            mass=MassRule,
            tell_paused=lambda *_: None,
            tell_device=lambda *_: None,
        )

    def put(self, kind: Family, names: tuple[str, ...], value: Any) -> None:
        path = KEYSPACE.path(kind, *names)
        self.etcd.put(path, encode(value))
        item = self.etcd.client(self.process).get(path)
        assert item is not None
        self.cache.observe(item)

    def connected(self) -> None:
        """The connection as the controller writes it now."""
        target = self.world.target(self.volume)
        size_gib = self.world.array.volume(self.volume.uid).size_gib
        promised = {"size_bytes": target.size_bytes, "size_gib": size_gib, "identity": target.identity}
        connection = Connection(
            uid=self.volume.uid,
            epoch=5,
            boot=self.boot.current(),
            phase=HolderPhase.READY,
            conn_info=dict(target.conn_info),
            **promised,
        )
        self.put(Family.CONNECTION, ("n1", "v"), connection)

    def grow(self) -> None:
        self.world.array.extend(self.volume.uid, 2)
        self.connected()

    def settle(self) -> Any:
        """Reconcile until nothing is left to do; the status."""
        while isinstance(self.reconciler.reconcile("v"), Again):
            pass
        return self.status()

    def status(self) -> Any:
        item = self.cache.get(KEYSPACE.path(Family.ATTACHMENT, "n1", "v"))
        return item and self.cache.decoded(item)


def family(path: str) -> Family:
    key = KEYSPACE.parse(path)
    assert isinstance(key, Key)
    return key.family


def test_the_device_follows_its_volume() -> None:
    node = Node()
    before = node.settle()
    assert (before.attached, before.size_bytes) == (True, GIB)
    node.grow()
    after = node.settle()
    assert after == before.model_copy(update={"size_bytes": 2 * GIB})
    assert (node.physical.disk["v"].size_gib, node.physical.disk["v"].size_bytes) == (2, 2 * GIB)


@pytest.mark.parametrize(
    "fault",
    [Fault(raises=Retryable("a path is down"), lands=False), Fault(raises=UnknownOutcome("the worker died"))],
    ids=["refused", "done, and nobody heard of it"],
)
def test_an_extension_that_went_wrong_is_told_and_repeated_by_whoever_comes(fault: Fault) -> None:
    """The next daemon finds the device with either size, and takes it for what it is."""
    node = Node()
    before = node.settle()
    node.grow()
    node.connector.fault = on("extend", fault)
    with pytest.raises(PortError, match="did not yet"):
        node.settle()
    node.reconciler.failed("v", 1.0)
    (told,) = node.status().conditions
    assert (told.type, told.reason) == ("Resized", "ResizeFailed")
    node.connector.fault = lambda _: None
    node.start()
    after = node.settle()
    assert (after.size_bytes, after.device, after.conditions) == (2 * GIB, before.device, ())
    assert node.physical.links


def test_an_array_that_has_not_grown_yet_is_asked_again() -> None:
    """The connection came first; the device keeps its size until there is more to have."""
    node = Node()
    node.settle()
    node.grow()
    node.world.array.volume(node.volume.uid).size_gib = 1
    with pytest.raises(PortError):
        node.settle()
    node.world.array.extend(node.volume.uid, 2)
    assert node.settle().size_bytes == 2 * GIB


def test_a_volume_that_grew_while_it_was_connected_is_attached_once_its_connection_tells() -> None:
    """The device is larger than it was said to be, which alone would be another volume's."""
    node = Node()
    node.world.array.extend(node.volume.uid, 2)
    with pytest.raises(IdentityMismatch):
        node.settle()
    with pytest.raises(IdentityMismatch):
        node.settle()
    node.connected()
    after = node.settle()
    assert (after.attached, after.size_bytes) == (True, 2 * GIB)
    assert node.physical.disk["v"].size_bytes == 2 * GIB
