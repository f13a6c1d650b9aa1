"""What the last value of a key was: told from the store's history, or not at all."""

from __future__ import annotations

import random

import pytest

from reconciler.controllers.last_wishes import LastWishes
from reconciler.core.views import RecordView, VolumeView
from reconciler.runtime.history import last_value
from reconciler.runtime.ports import Compacted, Event
from schema.keys import Keyspace
from schema.models import Intent
from tests.fakes.clock import VirtualClock
from tests.fakes.store import FakeEtcd

KEY = "/wish"


def noise(etcd: FakeEtcd, writes: int) -> None:
    for _ in range(writes):
        etcd.put("/other")


def test_values_that_nobody_watched_are_found() -> None:
    """However many lives the key had since it was last known, and however much else happened."""
    etcd = FakeEtcd(VirtualClock())
    noise(etcd, 5)
    known = etcd.put(KEY, b"1")
    noise(etcd, 500)
    etcd.put(KEY, b"2")
    etcd.delete(KEY)
    etcd.put(KEY, b"3")
    gone = etcd.delete(KEY)
    noise(etcd, 37)
    store = etcd.client()
    now = etcd.revision
    etcd.put(KEY, b"later")
    etcd.delete(KEY)
    assert last_value(store, KEY, known, now)[0].value == b"3"
    assert last_value(store, KEY, 0, now).revision == gone
    assert last_value(store, KEY, gone, now) == last_value(store, KEY, known, now)


def test_what_is_compacted_away_is_not_guessed() -> None:
    etcd = FakeEtcd(VirtualClock())
    known = etcd.put(KEY, b"1")
    gone = etcd.delete(KEY)
    noise(etcd, 10)
    etcd.compact(gone)
    for revision in (known, gone, 0):
        with pytest.raises(Compacted):
            last_value(etcd.client(), KEY, revision, etcd.revision)
    with pytest.raises(Compacted):
        last_value(etcd.client(), "/never", 0, etcd.revision)


@pytest.mark.parametrize("seed", range(300))
def test_the_last_value_or_none(seed: int) -> None:
    """Any order of puts and deletes, compacted anywhere: never a value that was not the last one, and always it where nothing is
    compacted after the key was last known."""
    rng = random.Random(seed)
    etcd = FakeEtcd(VirtualClock())
    last, marks = b"0", [etcd.put(KEY, b"0")]
    for number in range(1, rng.randrange(2, 30)):
        there = etcd.get(KEY) is not None
        match rng.randrange(3):
            case 0:
                last = b"%d" % number
                marks.append(etcd.put(KEY, last))
            case 1 if there:
                marks.append(etcd.delete(KEY))
            case _:
                noise(etcd, rng.choice((1, 2, 40)))
    if etcd.get(KEY) is not None:
        marks.append(etcd.delete(KEY))
    noise(etcd, rng.choice((0, 3, 100)))
    known = rng.choice(marks)
    compacted = rng.randrange(1, etcd.revision + 1) if rng.random() < 0.5 else 0
    etcd.compact(compacted)
    try:
        assert last_value(etcd.client(), KEY, known, etcd.revision).item.value == last
    except Compacted:
        assert compacted >= known


def test_a_wish_that_the_watch_brings_in_the_middle_of_a_look_leaves_nothing_proven() -> None:
    """F-D2: what is known up to a revision is looked at after the revision was read, or the two are of different moments."""
    etcd = FakeEtcd(VirtualClock())
    wishes = LastWishes(etcd.client(), Keyspace("/bw/"))
    wishes.listen(None, 5)

    class Heard(int):
        """Compared once what was heard of changes has been read."""

        def __ge__(self, other: int) -> bool:
            wishes.listen([Event("/bw/desired/volumes/v", None, 11)], 12)
            return int(self) >= other

    record = RecordView(
        "u", "b", 1, intent=Intent.DELETE, on_delete="delete", heard=Heard(7), ended=True, unproven=True
    )
    assert not wishes.complete(VolumeView("v", record=record), record_revision=10).proven
