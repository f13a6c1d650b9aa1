"""A drained node as the planners see it: wishes stay in etcd, and count as if they were gone (PROTOCOL R13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from daemons.assembly import Assembly
from daemons.node import CALLS, NodeDaemon, ThisHost
from daemons.process import Exit
from daemons.settings import NodeSettings
from reconciler.adapters.brick.connector import BrickConnector
from reconciler.controllers.host import Host
from reconciler.controllers.node import NODE_KEY
from reconciler.controllers.snapshot import Snapshot
from reconciler.controllers.wishes import WishTimes
from reconciler.core.plan_node import plan_node
from reconciler.core.plan_volume import plan_volume
from reconciler.core.reading import Around, Memory, Seen, attachment_view, volume_view
from reconciler.core.steps import Do, Plan, Step
from reconciler.core.views import BackendView, OnHost
from reconciler.runtime.cache import Cache
from reconciler.runtime.ports import Item, Note
from schema.codec import Malformed, decode_family, encode
from schema.keys import Family, Key, Keyspace
from schema.models import (
    AttachmentPhase,
    AttachmentSpec,
    AttachmentStatus,
    Claim,
    Connection,
    Grant,
    Holder,
    HolderPhase,
    NodeRecord,
    NodeSpec,
    Record,
    VolumePhase,
    VolumeSpec,
    VolumeStatus,
)
from tests.fakes.clock import VirtualClock
from tests.fakes.host import an_identity
from tests.fakes.store import FakeEtcd

PAIR, NODE, VOLUME = ("web-1", "data"), ("web-1",), ("data",)
INTENT = Key(Family.DESIRED_NODE, NODE)
DRAINED = NodeSpec(drains={"ana": "new kernel"})
UNREADABLE = Malformed("$.drains", "must be a mapping")
READY = Connection(uid="u", epoch=7, boot="b1", phase=HolderPhase.READY, conn_info={})


def said(phase: AttachmentPhase) -> AttachmentStatus:
    return AttachmentStatus(phase=phase, uid="u", epoch=7, boot="b1")


ATTACHED: dict[Family, Any] = {
    Family.CONNECTION: READY,
    Family.CLAIM: Claim(uid="u", epoch=7, boot="b1"),
    Family.ATTACHMENT: said(AttachmentPhase.ATTACHED),
}


def node_step(
    intent: NodeSpec | Malformed | None, device: OnHost, keys: dict[Family, Any], *, paused: str = ""
) -> Step | None:
    """What web-1 does next with a volume that is wished for there; `paused`: that was, and so were many others."""
    values = {
        Key(Family.NODE, NODE): NodeRecord(boot="b1", connector={}),
        **({} if paused else {Key(Family.DESIRED_ATTACHMENT, PAIR): AttachmentSpec()}),
        **{Key(family, PAIR): value for family, value in keys.items()},
        **({} if intent is None else {INTENT: intent}),
    }

    def see(key: Key) -> Seen | None:
        return Seen(values[key], 1, 1) if key in values else None

    return plan_node(replace(attachment_view(see, "web-1", "data", "b1", device), paused=paused))


@pytest.mark.parametrize(
    ("do", "device", "keys"),
    [
        (Do.DISCONNECT, OnHost.PRESENT, ATTACHED),
        (Do.RELEASE, OnHost.ABSENT, ATTACHED),
        (Do.RELEASE, OnHost.ABSENT, {Family.CONNECTION: READY}),
        (Do.WITHDRAW, OnHost.ABSENT, {Family.ATTACHMENT: said(AttachmentPhase.RELEASED)}),
        (None, OnHost.ABSENT, {}),
    ],
)
def test_a_drained_node_gives_everything_back(do: Do | None, device: OnHost, keys: dict[Family, Any]) -> None:
    """Step by step, as for a wish that is gone; each step rests on the key that says so."""
    step = node_step(DRAINED, device, keys)
    assert (step and step.do) == do
    if step is not None:
        assert INTENT in (*step.confirms, *step.commits)


@pytest.mark.parametrize(
    ("do", "device", "keys"),
    [
        (None, OnHost.PRESENT, ATTACHED),
        (Do.CONNECT, OnHost.ABSENT, ATTACHED),
        (Do.CLAIM, OnHost.ABSENT, {Family.CONNECTION: READY}),
        (None, OnHost.ABSENT, {Family.ATTACHMENT: said(AttachmentPhase.RELEASED)}),
    ],
)
@pytest.mark.parametrize("intent", [None, NodeSpec(), NodeSpec(cordons={"ana": ""}), UNREADABLE])
def test_anything_else_detaches_nothing(
    do: Do | None, device: OnHost, keys: dict[Family, Any], intent: NodeSpec | Malformed | None
) -> None:
    """A cordon, and a key that can't be read, leave alone what was granted (S13)."""
    step = node_step(intent, device, keys)
    assert (step and step.do) == do
    if step is not None:
        assert INTENT in (*step.confirms, *step.commits)


def test_a_drain_is_meant_even_where_many_wishes_are_gone() -> None:
    """What waits for a confirmation of many ends of wishes need not wait for it on a drained node."""
    assert node_step(None, OnHost.PRESENT, ATTACHED, paused="3 of 3 are gone") is None
    step = node_step(DRAINED, OnHost.PRESENT, ATTACHED, paused="3 of 3 are gone")
    assert step is not None
    assert step.do is Do.DISCONNECT


def controller_plan(intents: dict[str, NodeSpec | Malformed], *holders: Holder) -> Plan:
    """What the controller does next with a volume that web-1 and web-2 are wished to have, in this order."""
    values: dict[Key, Any] = {
        Key(Family.DESIRED_VOLUME, VOLUME): VolumeSpec(backend="lvm", size_gib=1),
        Key(Family.RECORD, VOLUME): Record(uid="u", backend="lvm", size_gib=1),
        Key(Family.GRANT, VOLUME): Grant(uid="u", holders=holders),
        Key(Family.VOLUME, VOLUME): VolumeStatus(
            uid="u", backend="lvm", phase=VolumePhase.AVAILABLE, size_gib=1, generation=1, holders=holders
        ),
    }
    for node in ("web-1", "web-2"):
        values[Key(Family.NODE, (node,))] = NodeRecord(boot="b1", connector={})
        values[Key(Family.DESIRED_ATTACHMENT, (node, "data"))] = AttachmentSpec()
    values |= {Key(Family.DESIRED_NODE, (node,)): intent for node, intent in intents.items()}

    def see(key: Key) -> Seen | None:
        return Seen(values[key], 1, 1 if key.names[0] == "web-1" else 2) if key in values else None

    around = Around(("web-1", "web-2"), lambda *_: None, lambda *_: frozenset(), lambda _: True)
    return plan_volume(volume_view(see, "data", around, BackendView(), Memory()))


def test_a_drained_node_is_granted_nothing_and_is_in_nobodys_way() -> None:
    """Its wish came first, and waits; the other one is served (A25)."""
    plan = controller_plan({"web-1": DRAINED})
    assert plan.step is not None
    assert (plan.step.do, plan.step.node) == (Do.GRANT, "web-2")
    told = {each.node: (each.reason, each.message) for each in plan.sayings}
    assert told == {"web-1": ("Drained", "set aside: web-1 is drained (ana: new kernel)")}


def test_every_label_counts() -> None:
    """A25, A27: open only when all are gone, cordons and drains alike."""
    both = NodeSpec(cordons={"bob": ""}, drains={"ana": "", "eve": ""})
    closed = {"web-2": NodeSpec(cordons={"x": ""})}
    for intent, reason in (
        (both, "Drained"),
        (both.model_copy(update={"drains": {"eve": ""}}), "Drained"),
        (both.model_copy(update={"drains": {}}), "Cordoned"),
        (UNREADABLE, "Cordoned"),
    ):
        plan = controller_plan({"web-1": intent, **closed})
        assert plan.step is None
        assert {each.node: each.reason for each in plan.sayings} == {"web-1": reason, "web-2": "Cordoned"}
    opened = controller_plan({"web-1": both.model_copy(update={"drains": {}, "cordons": {}}), **closed}).step
    assert opened is not None
    assert (opened.do, opened.node) == (Do.GRANT, "web-1")


def test_an_export_that_was_begun_is_taken_back() -> None:
    """Nothing was handed out yet, so nobody has to say anything; and nothing else is begun on a key that may change."""
    begun = Holder(node="web-1", epoch=7, boot="b1", phase=HolderPhase.EXPORTING)
    revoke = controller_plan({"web-1": DRAINED}, begun).step
    assert revoke is not None
    assert (revoke.do, INTENT in revoke.commits) == (Do.REVOKE, True)
    export = controller_plan({}, begun).step
    assert export is not None
    assert (export.do, INTENT in export.confirms) == (Do.EXPORT, True)
    cordoned = controller_plan({"web-1": UNREADABLE}, begun).step
    assert cordoned is not None
    assert cordoned.do is Do.EXPORT


class _Notes:
    """One volume that was being connected when the daemon was killed."""

    def all(self) -> dict[str, Note]:
        return {"data": Note("data", "u", 7, "b1", "rw", {}, None, None)}

    def unreadable(self) -> dict[str, str]:
        return {}

    def save(self, note: Note) -> None: ...

    def drop(self, volume: str) -> None: ...


KEYS = Keyspace()


def decoded(item: Item) -> object:
    key = KEYS.parse(item.key)
    assert isinstance(key, Key)
    return decode_family(key.family, item.value)


def cache_of(etcd: FakeEtcd) -> Cache:
    """A daemon's cache, filled by one list."""
    cache = Cache(VirtualClock(), decode=decoded)
    cache.replace(KEYS.prefix, etcd.client().list(KEYS.prefix))
    return cache


class _Boot:
    """The same boot all along."""

    def current(self) -> str:
        return "b1"

    def mint(self) -> str:
        return "b1"


def test_what_a_killed_connect_left_is_removed_on_a_drained_node() -> None:
    """While the wish counts, the connect is simply done again. Set aside, it has to be proven that nothing is left."""
    etcd = FakeEtcd(VirtualClock())
    etcd.put(KEYS.path(Family.DESIRED_ATTACHMENT, *PAIR), b"{}")
    etcd.put(KEYS.path(Family.CLAIM, *PAIR), encode(Claim(uid="u", epoch=7, boot="b1")))
    host = Host("web-1", _Notes())
    assert host.explained("data", Snapshot(cache_of(etcd), KEYS), "b1")
    etcd.put(KEYS.path(Family.DESIRED_NODE, "web-1"), encode(DRAINED))
    assert not host.explained("data", Snapshot(cache_of(etcd), KEYS), "b1")


class _Parts(Assembly):
    """A daemon's parts that nobody has started."""

    def serve(self, program: str, everything: Callable[[], None]) -> Exit:
        raise NotImplementedError


def test_a_change_of_the_nodes_key_wakes_all_its_volumes(tmp_path: Path) -> None:
    """A drain begins at once, not at the next look by chance."""
    clock, etcd = VirtualClock(), FakeEtcd(VirtualClock())
    settings = NodeSettings(state_folder=tmp_path, run_folder=tmp_path, my_ip="127.0.0.1")
    connector = BrickConnector(settings.connector_settings("web-1"))
    parts = _Parts(settings, clock, Random(7), etcd.client(), CALLS)
    NodeDaemon(settings, parts, "web-1", ThisHost(_Boot(), _Notes(), connector, an_identity()))
    for key, woken in (((Family.DESIRED_NODE, *NODE), {"data", NODE_KEY}), ((Family.DESIRED_NODE, "web-2"), set())):
        etcd.put(KEYS.path(*key), encode(DRAINED))
        parts.cache.replace(KEYS.prefix, etcd.client().list(KEYS.prefix))
        queued = {parts.queue.get() for _ in range(parts.queue.stats().depth)}
        assert queued == woken


class _Durations:
    """Notes what is timed."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def attached(self, since_wish_s: float) -> None:
        self.told.append(("attached", since_wish_s))

    def detached(self, since_wish_s: float) -> None:
        self.told.append(("detached", since_wish_s))


def test_a_wish_that_is_set_aside_is_no_unsettled_one() -> None:
    """Nobody is woken for what waits on a drained node; how long the drain took is told as a detach."""
    clock, durations = VirtualClock(), _Durations()
    cache = Cache(clock, decode=decoded)
    times = WishTimes(cache, KEYS, clock, durations)
    etcd = FakeEtcd(clock)

    def see(family: Family, names: tuple[str, ...], value: bytes | None) -> float:
        """The key changes, and the cache sees it; the age of the oldest unsettled wish 5 s later."""
        path = KEYS.path(family, *names)
        _ = etcd.delete(path) if value is None else etcd.put(path, value)
        cache.replace(KEYS.prefix, etcd.client().list(KEYS.prefix))
        clock.sleep(5)
        return times.oldest_s()

    assert see(Family.DESIRED_ATTACHMENT, PAIR, b"{}") == 5
    assert see(Family.ATTACHMENT, PAIR, encode(said(AttachmentPhase.ATTACHED))) == 0
    assert see(Family.DESIRED_NODE, NODE, encode(DRAINED)) == 5
    assert see(Family.ATTACHMENT, PAIR, None) == 0
    assert see(Family.DESIRED_NODE, NODE, None) == 5
    assert durations.told == [("attached", 5), ("detached", 5)]
