"""What the `Store` port promises, as tests. One suite for every implementation: a fake that drifts from etcd fails here.

A subclass's module provides three fixtures: `store`, `prefix` (a part of the key space of its own, ending in a slash) and
`compact` (a function that compacts the history up to a revision).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from reconciler.runtime.ports import (
    Batch,
    Compacted,
    Compare,
    Delete,
    Event,
    Put,
    Retryable,
    Store,
    Terminal,
    TooLarge,
)

BATCHES_MAX = 1000
"""A watch that brings nothing within so many (empty) batches is broken: they come every few seconds."""


class Flag:
    """A `Stop`."""

    def __init__(self) -> None:
        self.on = False

    def is_set(self) -> bool:
        return self.on


def put(store: Store, key: str, value: bytes = b"v") -> int:
    """Write a key unconditionally; the revision."""
    return store.txn([], [Put(key, value)]).revision


def present(store: Store) -> int:
    """The store's present revision."""
    return store.list("/nothing/here/").revision


def events_of(batches: Iterator[Batch], count: int) -> list[Event]:
    """The next `count` events or more (batches are taken whole)."""
    found: list[Event] = []
    for _ in range(BATCHES_MAX):
        found += next(batches).events
        if len(found) >= count:
            return found
    raise AssertionError(f"only {len(found)} of {count} events came")


class ReadContract:
    """get and list."""

    def test_absent_key_is_none(self, store: Store, prefix: str) -> None:
        """A key that was never written reads as None."""
        assert store.get(prefix + "a") is None

    def test_read_follows_write(self, store: Store, prefix: str) -> None:
        """A read shows the last write, with the revisions of the last change and of the creation."""
        first = put(store, prefix + "a", b"1")
        second = put(store, prefix + "a", b"2")
        item = store.get(prefix + "a")
        assert item is not None
        assert (item.key, item.value, item.mod_revision, item.create_revision, item.lease) == (
            prefix + "a",
            b"2",
            second,
            first,
            0,
        )

    def test_empty_value_is_a_value(self, store: Store, prefix: str) -> None:
        """A key with an empty value is there."""
        put(store, prefix + "a", b"")
        item = store.get(prefix + "a")
        assert item is not None
        assert item.value == b""

    def test_list_is_in_key_order_and_of_the_prefix_alone(self, store: Store, prefix: str) -> None:
        """A prefix that ends in a slash lists what is below it: neither its neighbours nor itself."""
        outside = [prefix + "b", prefix + "b0", prefix + "a/z", prefix + "c/a"]
        inside = [prefix + "b/2", prefix + "b/10", prefix + "b/ä", prefix + "b/1/x"]
        for key in outside + inside:
            put(store, key)
        listing = store.list(prefix + "b/")
        assert [item.key for item in listing.items] == sorted(inside, key=str.encode)

    def test_list_without_a_slash_is_the_one_key(self, store: Store, prefix: str) -> None:
        """Where the prefix does not end in a slash it is a key, and longer keys are others."""
        for key in ("n", "n1", "n/1"):
            put(store, prefix + key)
        assert [item.key for item in store.list(prefix + "n").items] == [prefix + "n"]
        assert store.list(prefix + "m").items == ()

    def test_list_tells_its_revision(self, store: Store, prefix: str) -> None:
        """A listing's revision is the store's, so that a watch can begin after it."""
        revision = put(store, prefix + "a")
        assert store.list(prefix).revision == revision
        revision = put(store, "/elsewhere" + prefix)
        assert store.list(prefix).revision == revision

    def test_long_list_is_complete(self, store: Store, prefix: str) -> None:
        """Thousands of keys arrive, each once, whatever the page size."""
        keys = [f"{prefix}{number:05d}" for number in range(2_001)]
        for start in range(0, len(keys), 100):
            store.txn([], [Put(key, key.encode()) for key in keys[start : start + 100]])
        assert [(item.key, item.value) for item in store.list(prefix).items] == [(key, key.encode()) for key in keys]


class PastContract:
    """past and history."""

    def test_a_key_as_it_was(self, store: Store, prefix: str) -> None:
        """Between its changes it is as the last one left it."""
        first = put(store, prefix + "a", b"1")
        second = put(store, prefix + "a", b"2")
        gone = store.txn([], [Delete(prefix + "a")]).revision
        later = put(store, prefix + "b")
        found = [store.past(prefix + "a", at) for at in (first - 1, first, second, gone, later)]
        values = [item and (item.value, item.mod_revision, item.create_revision) for item in found]
        assert values == [None, (b"1", first, first), (b"2", second, first), None, None]

    def test_all_changes_of_one_key(self, store: Store, prefix: str) -> None:
        """From a revision on, that one's included; others' keys are left out."""
        first = put(store, prefix + "a", b"1")
        put(store, prefix + "ab")
        gone = store.txn([], [Delete(prefix + "a")]).revision
        back = put(store, prefix + "a", b"3")
        put(store, prefix + "a/b")
        told = [(each.revision, each.item and each.item.value) for each in store.history(prefix + "a", first)]
        assert told == [(first, b"1"), (gone, None), (back, b"3")]
        assert [each.revision for each in store.history(prefix + "a", gone)] == [gone, back]

    def test_a_long_history_is_complete(self, store: Store, prefix: str) -> None:
        """Also where it does not fit into one answer."""
        revisions = [put(store, prefix + "a", b"%d" % number) for number in range(1_050)]
        assert [each.revision for each in store.history(prefix + "a", revisions[0])] == revisions

    def test_the_past_is_compacted(self, store: Store, prefix: str, compact: Callable[[int], None]) -> None:
        """What is gone is told as gone, never as absent; the revision compacted to is still there."""
        first = put(store, prefix + "a", b"1")
        second = put(store, prefix + "a", b"2")
        put(store, prefix + "a", b"3")
        compact(second)
        for ask in (store.past, store.history):
            with pytest.raises(Compacted):
                ask(prefix + "a", first)
        item = store.past(prefix + "a", second)
        assert item is not None
        assert item.value == b"2"
        assert [each.item and each.item.value for each in store.history(prefix + "a", second + 1)] == [b"3"]


class TxnContract:
    """txn: compares, operations, results."""

    def test_create_only_when_absent(self, store: Store, prefix: str) -> None:
        """mod_revision 0 means absent; whoever comes second is told what is there."""
        first = store.txn([Compare(prefix + "a", mod_revision=0)], [Put(prefix + "a", b"1")])
        second = store.txn([Compare(prefix + "a", mod_revision=0)], [Put(prefix + "a", b"2")])
        assert first.succeeded
        assert not first.found
        assert not second.succeeded
        assert second.found == {prefix + "a": store.get(prefix + "a")}
        assert second.found[prefix + "a"].value == b"1"

    def test_update_only_what_was_read(self, store: Store, prefix: str) -> None:
        """A write on an old revision changes nothing."""
        old = put(store, prefix + "a", b"1")
        new = store.txn([Compare(prefix + "a", mod_revision=old)], [Put(prefix + "a", b"2")])
        stale = store.txn([Compare(prefix + "a", mod_revision=old)], [Put(prefix + "a", b"3")])
        assert (new.succeeded, stale.succeeded) == (True, False)
        item = store.get(prefix + "a")
        assert item is not None
        assert (item.value, item.mod_revision) == (b"2", new.revision)
        assert stale.found[prefix + "a"] == item

    def test_present_holds_whatever_the_revision(self, store: Store, prefix: str) -> None:
        """`present` asks for the key alone; for an absent one, `found` has nothing."""
        assert not store.txn([Compare(prefix + "a", present=True)]).succeeded
        assert store.txn([Compare(prefix + "a", present=True)]).found == {}
        put(store, prefix + "a")
        put(store, prefix + "a")
        assert store.txn([Compare(prefix + "a", present=True)]).succeeded

    def test_create_revision_names_one_life(self, store: Store, prefix: str) -> None:
        """A key that was deleted and made again is another one."""
        born = put(store, prefix + "a")
        put(store, prefix + "a")
        alive = Compare(prefix + "a", create_revision=born)
        assert store.txn([alive]).succeeded
        store.txn([], [Delete(prefix + "a")])
        put(store, prefix + "a")
        assert not store.txn([alive]).succeeded

    def test_all_or_nothing(self, store: Store, prefix: str) -> None:
        """One compare that fails keeps every operation from happening; `found` has all compared keys that exist."""
        put(store, prefix + "a", b"a")
        put(store, prefix + "b", b"b")
        result = store.txn(
            [
                Compare(prefix + "a", present=True),
                Compare(prefix + "b", mod_revision=0),
                Compare(prefix + "c", mod_revision=0),
            ],
            [Put(prefix + "c", b"c"), Delete(prefix + "a")],
        )
        assert not result.succeeded
        assert {key: item.value for key, item in result.found.items()} == {prefix + "a": b"a", prefix + "b": b"b"}
        assert store.get(prefix + "c") is None
        assert store.get(prefix + "a") is not None

    def test_a_key_may_be_compared_twice(self, store: Store, prefix: str) -> None:
        """Two facts of one key are two compares, and one item in `found`."""
        revision = put(store, prefix + "a")
        both = [Compare(prefix + "a", create_revision=revision), Compare(prefix + "a", mod_revision=revision)]
        assert store.txn(both).succeeded
        put(store, prefix + "a")
        assert list(store.txn(both).found) == [prefix + "a"]

    def test_one_revision_for_all_operations(self, store: Store, prefix: str) -> None:
        """The result's revision is the mod revision of every key put."""
        put(store, prefix + "c")
        result = store.txn([], [Put(prefix + "a", b"1"), Put(prefix + "b", b"2"), Delete(prefix + "c")])
        listing = store.list(prefix)
        assert [(item.key, item.mod_revision) for item in listing.items] == [
            (prefix + "a", result.revision),
            (prefix + "b", result.revision),
        ]
        assert listing.revision == result.revision

    def test_confirming_read_writes_nothing(self, store: Store, prefix: str) -> None:
        """An empty `then` leaves the revision alone and tells it."""
        revision = put(store, prefix + "a")
        assert store.txn([Compare(prefix + "a", mod_revision=revision)]) == store.txn(
            [Compare(prefix + "a", present=True)]
        )
        assert store.txn([Compare(prefix + "a", present=True)]).revision == revision
        assert present(store) == revision

    def test_deleting_the_absent_succeeds(self, store: Store, prefix: str) -> None:
        """It changes nothing, not even the revision."""
        revision = put(store, prefix + "a")
        result = store.txn([Compare(prefix + "b", mod_revision=0)], [Delete(prefix + "b")])
        assert (result.succeeded, result.revision) == (True, revision)

    def test_a_hundred_and_twenty_eight_operations(self, store: Store, prefix: str) -> None:
        """128 operations go; one more is refused before anything is written."""
        operations = [Put(f"{prefix}{number}", b"") for number in range(129)]
        with pytest.raises(TooLarge):
            store.txn([], operations)
        assert store.list(prefix).items == ()
        assert store.txn([], operations[:128]).succeeded
        assert len(store.list(prefix).items) == 128

    def test_a_key_is_put_once(self, store: Store, prefix: str) -> None:
        """Two operations on one key are refused, and nothing is written."""
        with pytest.raises(Terminal):
            store.txn([], [Put(prefix + "a", b"1"), Put(prefix + "a", b"2")])
        assert store.get(prefix + "a") is None

    @pytest.mark.parametrize("mebibytes", [1.6, 3])
    def test_a_value_that_does_not_fit(self, store: Store, prefix: str, mebibytes: float) -> None:
        """Refused as TooLarge; just below etcd's 1.5 MiB it goes."""
        with pytest.raises(TooLarge):
            put(store, prefix + "a", b"x" * int(mebibytes * 2**20))
        assert store.get(prefix + "a") is None
        put(store, prefix + "a", b"x" * int(1.4 * 2**20))

    def test_meaningless_transactions(self, store: Store, prefix: str) -> None:
        """What says nothing, or nothing definite, is the caller's mistake."""
        with pytest.raises(ValueError, match="confirms nothing"):
            store.txn([])
        for compare in (Compare(prefix), Compare(prefix, mod_revision=1, present=True)):
            with pytest.raises(ValueError, match="exactly one"):
                store.txn([compare], [Put(prefix + "a", b"")])


class WatchContract:
    """watch."""

    def test_everything_after_a_revision(self, store: Store, prefix: str) -> None:
        """What changed after the revision, and nothing before it, once and in order: puts, deletions, new lives."""
        put(store, prefix + "a", b"0")
        after = store.list(prefix).revision
        made = put(store, prefix + "a", b"1")
        gone = store.txn([], [Delete(prefix + "a")]).revision
        again = put(store, prefix + "a", b"2")
        same = put(store, prefix + "a", b"2")
        events = events_of(store.watch(prefix, after, Flag()), 4)
        assert [(event.revision, event.item and event.item.value) for event in events] == [
            (made, b"1"),
            (gone, None),
            (again, b"2"),
            (same, b"2"),
        ]
        last = events[-1].item
        assert last is not None
        assert (last.mod_revision, last.create_revision, last.key) == (same, again, prefix + "a")

    def test_a_transaction_arrives_whole(self, store: Store, prefix: str) -> None:
        """All events of a revision come in one batch, which brings the watcher to that revision."""
        after = put(store, prefix + "c")
        store.txn([], [Put(prefix + "a", b"1"), Put(prefix + "b", b"2"), Delete(prefix + "c")])
        revision = put(store, prefix + "z")
        batches = store.watch(prefix, after, Flag())
        seen: dict[int, set[str]] = {}
        while max(seen, default=0) < revision:
            batch = next(batches)
            revisions = {event.revision for event in batch.events}
            assert not revisions & set(seen)
            assert all(event.revision <= batch.revision for event in batch.events)
            for event in batch.events:
                seen.setdefault(event.revision, set()).add(event.key)
        assert list(seen.values()) == [{prefix + "a", prefix + "b", prefix + "c"}, {prefix + "z"}]

    def test_prefix_and_single_key(self, store: Store, prefix: str) -> None:
        """With a slash at its end it is a prefix, without one it is a key."""
        after = present(store)
        for key in ("n", "n/1", "n1", "m", "n"):
            put(store, prefix + key)
        single = events_of(store.watch(prefix + "n", after, Flag()), 2)
        below = events_of(store.watch(prefix + "n/", after, Flag()), 1)
        assert [event.key for event in single] == [prefix + "n", prefix + "n"]
        assert [event.key for event in below] == [prefix + "n/1"]

    def test_live_changes_and_silence(self, store: Store, prefix: str) -> None:
        """A watch that is up to date says so with empty batches, and goes on with what comes; it never goes back."""
        batches = store.watch(prefix, present(store), Flag())
        idle = next(batches)
        assert idle.events == ()
        revisions = [idle.revision]
        for number in range(3):
            written = put(store, f"{prefix}{number}")
            events = events_of(batches, 1)
            assert [(event.key, event.revision) for event in events] == [(f"{prefix}{number}", written)]
            revisions.append(written)
        assert revisions == sorted(revisions)

    def test_stop_ends_it(self, store: Store, prefix: str) -> None:
        """A stop that is set, before or later, ends the iteration."""
        stop = Flag()
        batches = store.watch(prefix, present(store), stop)
        next(batches)
        stop.on = True
        assert list(batches) == []
        assert list(store.watch(prefix, present(store), stop)) == []

    def test_compacted_history(self, store: Store, prefix: str, compact: Callable[[int], None]) -> None:
        """A watch from before the compaction is refused; one from after it works."""
        first = put(store, prefix + "a", b"1")
        last = put(store, prefix + "a", b"2")
        compact(last)
        with pytest.raises(Compacted):
            next(store.watch(prefix, first - 1, Flag()))
        revision = put(store, prefix + "a", b"3")
        assert [event.revision for event in events_of(store.watch(prefix, last, Flag()), 1)] == [revision]

    def test_reads_survive_compaction(self, store: Store, prefix: str, compact: Callable[[int], None]) -> None:
        """Compaction takes history, never what is."""
        revision = put(store, prefix + "a", b"1")
        compact(put(store, prefix + "b", b"2"))
        item = store.get(prefix + "a")
        assert item is not None
        assert item.mod_revision == revision
        assert len(store.list(prefix).items) == 2


class LeaseContract:
    """Leases."""

    def test_revoking_deletes_the_keys(self, store: Store, prefix: str) -> None:
        """A key names its lease, goes with it, and a watch sees it go."""
        lease = store.grant_lease(60)
        made = store.txn([], [Put(prefix + "a", b"1", lease)]).revision
        item = store.get(prefix + "a")
        assert item is not None
        assert item.lease == lease
        store.revoke_lease(lease)
        assert store.get(prefix + "a") is None
        assert [event.item for event in events_of(store.watch(prefix, made, Flag()), 1)] == [None]

    def test_renewal_tells_the_seconds(self, store: Store) -> None:
        """A lease that lives is granted its time again; one that is gone, or never was, gets 0."""
        lease = store.grant_lease(60)
        assert store.keep_lease(lease) == 60
        assert store.keep_lease(lease) == 60
        store.revoke_lease(lease)
        assert store.keep_lease(lease) == 0
        assert store.keep_lease(12345) == 0

    def test_leases_differ(self, store: Store, prefix: str) -> None:
        """Each grant is a lease of its own."""
        one, other = store.grant_lease(60), store.grant_lease(60)
        store.txn([], [Put(prefix + "a", b"", one), Put(prefix + "b", b"", other)])
        store.revoke_lease(one)
        assert [item.key for item in store.list(prefix).items] == [prefix + "b"]
        assert store.keep_lease(other) == 60
        store.revoke_lease(other)

    def test_revoking_what_is_gone_succeeds(self, store: Store) -> None:
        """Revoke may be repeated."""
        lease = store.grant_lease(60)
        store.revoke_lease(lease)
        store.revoke_lease(lease)

    def test_a_dead_lease_takes_no_key(self, store: Store, prefix: str) -> None:
        """Nothing happened; the caller takes a new lease."""
        lease = store.grant_lease(60)
        store.revoke_lease(lease)
        with pytest.raises(Retryable):
            store.txn([], [Put(prefix + "a", b"", lease)])
        assert store.get(prefix + "a") is None

    def test_a_put_without_the_lease_frees_the_key(self, store: Store, prefix: str) -> None:
        """A key belongs to the lease of its last put."""
        lease = store.grant_lease(60)
        store.txn([], [Put(prefix + "a", b"1", lease)])
        put(store, prefix + "a", b"2")
        store.revoke_lease(lease)
        assert store.get(prefix + "a") is not None

    def test_nobody_renews(self, store: Store, prefix: str) -> None:
        """A lease that is not renewed runs out and takes its keys along."""
        lease = store.grant_lease(2)
        made = store.txn([], [Put(prefix + "a", b"", lease)]).revision
        events = events_of(store.watch(prefix, made, Flag()), 1)
        assert [event.item for event in events] == [None]
        assert store.keep_lease(lease) == 0


class StoreContract(ReadContract, PastContract, TxnContract, WatchContract, LeaseContract):
    """All of it."""
