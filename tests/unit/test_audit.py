"""The audit: what a driver lists against the records. It tells and enqueues; it undoes nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from reconciler.controllers.audit import Audit
from reconciler.core.audit import Exported, Findings, Recorded, clients_of, compare
from reconciler.runtime.cache import Cache
from reconciler.runtime.ports import Exposure, Item, Unavailable
from schema.codec import decode_family, encode
from schema.keys import Family, Key, Keyspace
from schema.models import ExportIntent, Grant, Holder, HolderPhase, Orphan, Record
from tests.fakes.clock import VirtualClock

KEYSPACE = Keyspace()
NODE_A = {"host": "a", "initiator": "iqn.a", "wwpns": ["5001"], "multipath": True}
MINE = Recorded("data", "uid", 5, frozenset({"a", "iqn.a"}), True)
UNREADY = MINE._replace(ready=False)
NOTHING = Findings(frozenset(), ())


@pytest.mark.parametrize("client", ["a", "iqn.a", None], ids=["by host", "by initiator", "whomever"])
def test_what_is_recorded_and_there_is_no_news(client: str | None) -> None:
    assert compare([MINE], [Exported("uid", client)], [MINE]) == NOTHING


def test_an_export_that_a_holder_may_use_and_that_is_not_there_is_lost() -> None:
    assert compare([MINE], [], [MINE]).lost == {("data", 5)}
    assert compare([MINE], [Exported("uid", "b")], [MINE]).lost == {("data", 5)}


@pytest.mark.parametrize(
    ("before", "after"),
    [([UNREADY], [UNREADY]), ([UNREADY], [MINE]), ([], [MINE]), ([MINE], []), ([MINE._replace(epoch=4)], [MINE])],
    ids=["not out yet", "came out meanwhile", "granted meanwhile", "forgotten meanwhile", "granted anew meanwhile"],
)
def test_what_changes_under_the_listing_is_not_lost(before: list[Recorded], after: list[Recorded]) -> None:
    assert not compare(before, [], after).lost


@pytest.mark.parametrize(
    ("before", "after"), [([UNREADY], []), ([], [UNREADY])], ids=["undone meanwhile", "made meanwhile"]
)
def test_what_either_picture_names_is_no_orphan(before: list[Recorded], after: list[Recorded]) -> None:
    assert not compare(before, [Exported("uid", "a")], after).orphans


def test_what_no_record_explains_is_an_orphan() -> None:
    strangers = [Exported("uid", "b"), Exported("other", None)]
    assert compare([MINE], [Exported("uid", "a"), *strangers], [MINE]) == Findings(
        frozenset(), (Exported("other", None), Exported("uid", "b"))
    )


def test_a_node_is_known_by_whatever_drivers_use() -> None:
    assert clients_of(NODE_A) == {"a", "iqn.a", "5001"}
    assert clients_of({"wwpns": None, "nqn": 3}) == frozenset()


# --- one backend's audits ------------------------------------------------------------------------------------------------


class Listing:
    """A backend that lists."""

    name = "array"

    def __init__(self) -> None:
        self.listed: list[Exposure] = []
        self.asked = 0
        self.fault: Unavailable | None = None

    def exports(self) -> Sequence[Exposure]:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self.listed


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock(now=1000.0)
        self.cache = Cache(self.clock, decode=lambda item: decode_family(self.family(item), item.value))
        self.backend = Listing()
        self.enqueued: list[str] = []
        self.revision = 0
        self.audit = Audit(
            self.backend,
            cache=self.cache,
            keyspace=KEYSPACE,
            clock=self.clock,
            rng=random.Random(1),
            every_s=300.0,
            enqueue=self.enqueued.append,
        )

    def family(self, item: Item) -> Family:
        key = KEYSPACE.parse(item.key)
        assert isinstance(key, Key)
        return key.family

    def put(self, family: Family, name: str, value: bytes) -> None:
        self.revision += 1
        self.cache.observe(Item(KEYSPACE.path(family, name), value, self.revision, 1))

    def volume(self, name: str, uid: str, backend: str = "array") -> None:
        """Held by a, with epoch 5."""
        intent = ExportIntent(node="a", epoch=5, connector=NODE_A)
        record = Record(uid=uid, backend=backend, size_gib=1, exports=(intent,))
        holder = Holder(node="a", epoch=5, boot="b", phase=HolderPhase.READY, connector=NODE_A)
        self.put(Family.RECORD, name, encode(record))
        self.put(Family.GRANT, name, encode(Grant(uid=uid, holders=(holder,))))


def test_a_volume_whose_export_is_lost_is_looked_at_and_told_once() -> None:
    world = World()
    world.volume("data", "uid")
    world.volume("well", "uid-2")
    world.volume("elsewhere", "uid-3", backend="other")
    world.backend.listed = [Exposure("uid-2", "iqn.a")]
    world.audit.run_if_due()
    assert world.enqueued == ["data"]
    assert world.audit.take_lost("data") == {5}
    assert world.audit.take_lost("data") == world.audit.take_lost("well") == frozenset()


def test_orphans_are_told_with_the_volume_where_that_is_known() -> None:
    world = World()
    world.volume("data", "uid")
    world.backend.listed = [Exposure("uid", "a"), Exposure("uid", "x"), Exposure("zzz", None)]
    world.audit.run_if_due()
    assert world.audit.told() == (Orphan(uid="uid", client="x", volume="data"), Orphan(uid="zzz"))
    assert world.enqueued == []


def test_a_record_that_cannot_be_read_may_explain_anything() -> None:
    world = World()
    world.put(Family.RECORD, "broken", b"{")
    world.backend.listed = [Exposure("uid", "x")]
    world.audit.run_if_due()
    assert world.audit.orphans == ()


def test_it_is_done_once_in_its_time() -> None:
    world = World()
    world.audit.run_if_due()
    world.audit.run_if_due()
    assert world.backend.asked == 1
    assert 240 <= world.audit.wait_s <= 360
    world.clock.run_for(world.audit.wait_s)
    world.audit.run_if_due()
    assert world.backend.asked == 2


def test_a_listing_that_fails_leaves_what_is_known() -> None:
    world = World()
    world.backend.listed = [Exposure("uid", "x")]
    world.audit.run_if_due()
    world.backend.fault = Unavailable("the array is away")
    world.clock.run_for(400)
    with pytest.raises(Unavailable):
        world.audit.run_if_due()
    assert list(world.audit.orphans) == [Exported("uid", "x")]
    world.audit.forget()
    assert list(world.audit.orphans) == []
    assert world.audit.wait_s == 0
