"""The cache: what it takes, what it refuses, and how it is found again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.runtime.cache import Cache
from reconciler.runtime.index import Index
from reconciler.runtime.ports import Batch, Compare, Delete, Event, Item, Listing, Put, TxnResult
from tests.examples import examples
from tests.fakes.clock import VirtualClock


def item(key: str, revision: int, value: bytes = b"{}", created: int | None = None) -> Item:
    return Item(key, value, revision, created or revision)


def last_segment(key: str, _item: Item) -> list[str]:
    return [key.rsplit("/", 1)[-1]]


@pytest.fixture
def cache() -> Cache:
    """An empty one, fed under `/a/`, indexed by last path segment."""
    cache = Cache(VirtualClock(), indexes=[Index("name", last_segment)], decode=lambda item: json.loads(item.value))
    cache.feed("/a/")
    return cache


class TestNeverBack:
    """What a key's history can do to it, in which order ever."""

    def test_a_newer_item_replaces_an_older_one_and_not_the_reverse(self, cache: Cache) -> None:
        """Only a higher mod revision is news."""
        assert cache.observe(item("/a/x", 5))
        assert not cache.observe(item("/a/x", 5))
        assert not cache.observe(item("/a/x", 4))
        assert cache.get("/a/x") == item("/a/x", 5)

    def test_a_deletion_outlives_the_item_it_deleted(self, cache: Cache) -> None:
        """An old item that is brought after the deletion stays away; a new life of the key does not."""
        cache.observe(item("/a/x", 5))
        assert cache.forget("/a/x", 7)
        assert not cache.observe(item("/a/x", 6))
        assert cache.get("/a/x") is None
        assert cache.observe(item("/a/x", 8))

    def test_an_old_deletion_does_not_touch_a_new_item(self, cache: Cache) -> None:
        """A deletion at a lower revision is outdated."""
        cache.observe(item("/a/x", 8))
        assert not cache.forget("/a/x", 7)
        assert cache.get("/a/x") is not None

    def test_a_reflector_that_passed_a_deletion_vouches_for_it(self, cache: Cache) -> None:
        """The tombstone is dropped then, and old answers still bring nothing back."""
        cache.observe(item("/a/x", 5))
        cache.forget("/a/x", 7)
        cache.apply("/a/", Batch(9))
        assert not cache.observe(item("/a/x", 5))
        assert not cache.observe(item("/a/never-seen", 9))
        assert cache.observe(item("/a/x", 10))

    def test_a_reflector_vouches_for_its_own_prefix_only(self, cache: Cache) -> None:
        """Neither for a neighbour, nor, fed by a single key, for longer keys."""
        cache.feed("/b")
        cache.apply("/a/", Batch(9))
        cache.apply("/b", Batch(9))
        assert cache.observe(item("/c/x", 5))
        assert cache.observe(item("/b2", 5))
        assert not cache.observe(item("/b", 5))

    def test_a_deletion_that_the_reflector_has_not_reached_is_kept(self, cache: Cache) -> None:
        """It brings earlier events first, and others bring older items."""
        cache.observe(item("/a/x", 5))
        cache.forget("/a/x", 12)
        cache.apply("/a/", Batch(9, (Event("/a/x", item("/a/x", 9), 9),)))
        assert not cache.observe(item("/a/x", 10))
        assert cache.get("/a/x") is None

    def test_tombstones_of_keys_that_nobody_feeds_yet_are_kept(self) -> None:
        """They go over to the reflector that comes to feed them."""
        cache = Cache(VirtualClock())
        cache.forget("/a/x", 7)
        assert not cache.observe(item("/a/x", 6))
        cache.feed("/a/")
        assert not cache.observe(item("/a/x", 6))
        cache.apply("/a/", Batch(7))
        assert not cache.observe(item("/a/x", 6))

    def test_a_list_deletes_what_it_does_not_show(self, cache: Cache) -> None:
        """But for what was made after it."""
        cache.apply("/a/", Batch(5, (Event("/a/old", item("/a/old", 4), 4), Event("/a/x", item("/a/x", 5), 5))))
        cache.observe(item("/a/own", 12))
        assert cache.replace("/a/", Listing((item("/a/x", 9),), 10))
        assert cache.prefix("/a/") == (item("/a/own", 12), item("/a/x", 9))
        assert not cache.observe(item("/a/old", 4))

    def test_a_list_shows_what_the_watch_left_out(self, cache: Cache) -> None:
        """A key that the reflector has passed without seeing it comes back with the next list."""
        cache.apply("/a/", Batch(9))
        assert cache.replace("/a/", Listing((item("/a/lost", 7),), 10))
        assert cache.get("/a/lost") == item("/a/lost", 7)

    def test_a_list_does_not_bring_back_what_was_deleted_after_it(self, cache: Cache) -> None:
        """Our own deletion, while the list was on its way."""
        cache.observe(item("/a/x", 5))
        cache.forget("/a/x", 12)
        assert cache.replace("/a/", Listing((item("/a/x", 5),), 10))
        assert cache.get("/a/x") is None

    def test_a_list_from_before_the_last_is_refused(self, cache: Cache) -> None:
        """Nothing of it is entered."""
        cache.replace("/a/", Listing((item("/a/x", 9),), 10))
        assert not cache.replace("/a/", Listing((item("/a/y", 3),), 9))
        assert cache.prefix("/a/") == (item("/a/x", 9),)

    def test_the_highest_revision_is_remembered(self, cache: Cache) -> None:
        """From whatever it was learnt."""
        cache.observe(item("/a/x", 5))
        assert cache.revision == 5
        cache.forget("/a/x", 7)
        assert cache.revision == 7
        cache.apply("/a/", Batch(9))
        assert cache.revision == 9
        cache.settle([Compare("/a/x", mod_revision=1)], [], TxnResult(False, 11))
        assert cache.revision == 11
        assert Cache(VirtualClock(), revision=40).revision == 40


class TestOwnWrites:
    """`settle`: a writer reads its own writes."""

    def test_a_created_key_is_there_at_once(self, cache: Cache) -> None:
        """With the revisions that the store gave it; the event that follows is no news."""
        heard: list[str] = []
        cache.subscribe("", heard.append)
        cache.settle([Compare("/a/x", mod_revision=0)], [Put("/a/x", b"1", 77)], TxnResult(True, 5))
        assert cache.get("/a/x") == Item("/a/x", b"1", 5, 5, 77)
        cache.apply("/a/", Batch(5, (Event("/a/x", Item("/a/x", b"1", 5, 5, 77), 5),)))
        assert heard == ["/a/x"]

    def test_a_changed_key_keeps_its_creation(self, cache: Cache) -> None:
        """Known from the item that the transaction compared."""
        cache.observe(item("/a/x", 5, created=3))
        cache.settle([Compare("/a/x", mod_revision=5)], [Put("/a/x", b"2")], TxnResult(True, 8))
        assert cache.get("/a/x") == Item("/a/x", b"2", 8, 3)
        cache.settle([Compare("/a/x", create_revision=3)], [Put("/a/x", b"3")], TxnResult(True, 9))
        assert cache.get("/a/x") == Item("/a/x", b"3", 9, 3)

    def test_a_life_that_the_cache_has_not_seen_is_not_mixed_up_with_the_last(self, cache: Cache) -> None:
        """The compared item was read past the cache: its creation is not the cached item's."""
        cache.observe(item("/a/x", 5, created=3))
        cache.settle([Compare("/a/x", mod_revision=7)], [Put("/a/x", b"2")], TxnResult(True, 8))
        assert cache.get("/a/x") == item("/a/x", 5, created=3)

    def test_a_put_of_unknown_creation_is_left_to_the_reflector(self, cache: Cache) -> None:
        """An item in the cache is exact or not there."""
        cache.settle([Compare("/a/y", present=True)], [Put("/a/x", b"2"), Put("/a/y", b"2")], TxnResult(True, 8))
        assert (cache.get("/a/x"), cache.get("/a/y")) == (None, None)

    def test_a_deleted_key_is_gone_at_once(self, cache: Cache) -> None:
        """And does not come back with an event from before."""
        cache.observe(item("/a/x", 5))
        cache.settle([Compare("/a/x", mod_revision=6)], [Delete("/a/x")], TxnResult(True, 8))
        cache.apply("/a/", Batch(6, (Event("/a/x", item("/a/x", 6), 6),)))
        assert cache.get("/a/x") is None

    def test_a_refused_transaction_teaches_what_is_there(self, cache: Cache) -> None:
        """The compared keys as they are, and that the others are absent."""
        cache.observe(item("/a/x", 5))
        cache.observe(item("/a/gone", 5))
        compares = [Compare("/a/x", mod_revision=5), Compare("/a/gone", mod_revision=5)]
        cache.settle(compares, [Put("/a/x", b"2")], TxnResult(False, 8, {"/a/x": item("/a/x", 7)}))
        assert cache.get("/a/x") == item("/a/x", 7)
        assert cache.get("/a/gone") is None

    def test_a_refused_transaction_shows_what_the_watch_left_out(self, cache: Cache) -> None:
        """It read the store after the reflector got where it is; one that read it before does not count."""
        cache.apply("/a/", Batch(9))
        compares = [Compare("/a/lost", mod_revision=0)]
        cache.settle(compares, [], TxnResult(False, 8, {"/a/lost": item("/a/lost", 7)}))
        assert cache.get("/a/lost") is None
        cache.settle(compares, [], TxnResult(False, 9, {"/a/lost": item("/a/lost", 7)}))
        assert cache.get("/a/lost") == item("/a/lost", 7)
        cache.forget("/a/lost", 12)
        cache.settle(compares, [], TxnResult(False, 11, {"/a/lost": item("/a/lost", 7)}))
        assert cache.get("/a/lost") is None


class TestFinding:
    """Prefixes, indexes, decoded values, subscribers."""

    def test_prefixes_are_in_key_order(self, cache: Cache) -> None:
        """A slash at the end means what is below, none means the key, nothing means everything."""
        for key in ("/a/b/2", "/a/b/10", "/a/b", "/a/b0", "/a/c/1"):
            cache.observe(item(key, 5))
        assert [each.key for each in cache.prefix("/a/b/")] == ["/a/b/10", "/a/b/2"]
        assert [each.key for each in cache.prefix("/a/b")] == ["/a/b"]
        assert [each.key for each in cache.prefix("")] == ["/a/b", "/a/b/10", "/a/b/2", "/a/b0", "/a/c/1"]
        assert cache.prefix("/z") == cache.prefix("/z/") == ()
        assert len(cache) == 5

    @pytest.mark.parametrize("count", [3, 2000])
    def test_long_and_short_lists_are_sorted_in(self, cache: Cache, count: int) -> None:
        """Among what is there already."""
        cache.observe(item("/a/k00000x", 1))
        keys = [f"/a/k{number:05d}" for number in range(count)]
        cache.replace("/a/", Listing(tuple(item(key, 2) for key in keys), 3))
        assert [each.key for each in cache.prefix("/a/")] == keys
        cache.replace("/a/", Listing((), 4))
        assert cache.prefix("/a/") == ()
        assert cache.select("name", "k00001") == ()

    def test_an_index_finds_across_families(self, cache: Cache) -> None:
        """In key order, and only while the item is there."""
        for key in ("/a/two/v", "/a/one/v", "/a/one/w"):
            cache.observe(item(key, 5))
        assert [each.key for each in cache.select("name", "v")] == ["/a/one/v", "/a/two/v"]
        cache.forget("/a/one/v", 6)
        assert [each.key for each in cache.select("name", "v")] == ["/a/two/v"]
        assert cache.select("name", "none") == ()

    def test_an_index_of_the_value_follows_it(self) -> None:
        """An item moves when its value does; several values are several places."""
        cache = Cache(VirtualClock(), indexes=[Index("words", lambda _, item: item.value.decode().split())])
        cache.observe(item("/x", 1, b"red red blue"))
        assert cache.select("words", "red") == cache.select("words", "blue") != ()
        cache.observe(item("/x", 2, b"blue green"))
        assert cache.select("words", "red") == ()
        assert cache.select("words", "green") == cache.select("words", "blue") == (item("/x", 2, b"blue green"),)

    def test_an_index_that_raises_costs_its_own_item_only(self) -> None:
        """It is found by key, under no value, and the fault is reported."""
        faults: list[str] = []
        index = Index("number", lambda _, item: [str(int(item.value))])
        cache = Cache(VirtualClock(), indexes=[index], report=lambda key, _: faults.append(key))
        cache.observe(item("/bad", 1, b"x"))
        cache.observe(item("/good", 2, b"7"))
        assert faults == ["/bad"]
        assert cache.get("/bad") is not None
        assert cache.select("number", "7") == (item("/good", 2, b"7"),)
        cache.observe(item("/good", 3, b"y"))
        assert cache.select("number", "7") == ()

    def test_a_value_is_decoded_once_per_revision(self) -> None:
        """Whichever copy of the item is shown; an outdated copy decodes to its own value."""
        decoded: list[int] = []

        def decode(item: Item) -> int:
            decoded.append(item.mod_revision)
            return item.mod_revision

        cache = Cache(VirtualClock(), decode=decode)
        first, second = item("/x", 1), item("/x", 2)
        cache.observe(first)
        assert [cache.decoded(first), cache.decoded(item("/x", 1))] == [1, 1]
        cache.observe(second)
        assert [cache.decoded(second), cache.decoded(first), cache.decoded(second)] == [2, 1, 2]
        assert decoded == [1, 2, 1]

    def test_what_decode_raises_goes_to_who_asked(self, cache: Cache) -> None:
        """A malformed value disturbs nobody else."""
        cache.observe(item("/a/x", 1, b"{"))
        with pytest.raises(json.JSONDecodeError):
            cache.decoded(item("/a/x", 1, b"{"))

    def test_subscribers_see_the_change_they_are_told_of(self, cache: Cache) -> None:
        """They are told the key, of their own prefix, without a lock held, and once per change."""
        seen: list[tuple[str, int]] = []
        cache.subscribe("/a/", lambda key: seen.append((key, len(cache.prefix("/a/")))))
        cache.observe(item("/b/x", 1))
        cache.apply("/a/", Batch(3, (Event("/a/x", item("/a/x", 2), 2), Event("/a/y", item("/a/y", 3), 3))))
        cache.forget("/a/x", 4)
        cache.forget("/a/x", 5)
        assert seen == [("/a/x", 2), ("/a/y", 2), ("/a/x", 1)]

    def test_a_subscriber_that_raises_disturbs_no_other(self) -> None:
        """The fault is reported, the next is told."""
        faults: list[str] = []
        seen: list[str] = []
        cache = Cache(VirtualClock(), report=lambda _, error: faults.append(type(error).__name__))

        def fail(key: str) -> None:
            raise ZeroDivisionError(key)

        cache.subscribe("", fail)
        cache.subscribe("", seen.append)
        cache.observe(item("/x", 1))
        assert (faults, seen) == (["ZeroDivisionError"], ["/x"])


# --- The whole promise, under any interleaving

KEYS = ("/a/x", "/a/y", "/a/z")


@dataclass
class History:
    """A store's true history: what each key was at each revision."""

    states: list[dict[str, Item]] = field(default_factory=lambda: [{}])
    events: list[tuple[Event, ...]] = field(default_factory=lambda: [()])

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    def write(self, puts: dict[str, bool]) -> None:
        """One transaction: puts (True) and deletions (False)."""
        revision, state = self.revision + 1, dict(self.states[-1])
        events = []
        for key, put in puts.items():
            if put:
                created = state[key].create_revision if key in state else revision
                state[key] = Item(key, b"", revision, created)
            elif state.pop(key, None) is None:
                continue
            events.append(Event(key, state.get(key), revision))
        if events:
            self.states.append(state)
            self.events.append(tuple(events))


steps = st.one_of(
    st.tuples(st.just("write"), st.dictionaries(st.sampled_from(KEYS), st.booleans(), min_size=1)),
    st.tuples(st.sampled_from(["watch", "again", "own", "old item", "old deletion"]), st.integers(0, 50)),
    st.tuples(st.sampled_from(["ask", "answer", "refuse", "refused"]), st.integers(0, 2)),
)


class Feeder:
    """A reflector and the others who bring the cache what they know, driven step by step."""

    def __init__(self) -> None:
        self.history = History()
        self.cache = Cache(VirtualClock())
        self.cache.feed("/a/")
        self.position = 0
        self.listing: Listing | None = None
        self.refusal: tuple[str, TxnResult] | None = None

    def step(self, name: str, number: int) -> None:
        """One thing happens; `number` says which or how much of it."""
        history, last = self.history, self.history.revision
        match name:
            case "watch" if self.listing is None:
                start, self.position = self.position + 1, min(last, self.position + 1 + number % 4)
                self.apply(start)
            case "again" if self.listing is None:
                self.apply(max(1, self.position - number % 6))
            case "own":
                self.bring(history.events[max(0, last - number % 4)])
            case "old item" | "old deletion":
                old = [e for each in history.events for e in each if (e.item is None) == (name == "old deletion")]
                self.bring(old[number % len(old) :][:1] if old else ())
            case "ask" if self.listing is None:
                self.listing = Listing(tuple(history.states[-1].values()), last)
            case "answer" if self.listing is not None:
                assert self.cache.replace("/a/", self.listing)
                self.position, self.listing = self.listing.revision, None

            case "refuse":
                key = KEYS[number]
                found = history.states[-1].get(key)
                self.refusal = (key, TxnResult(False, last, {key: found} if found else {}))
            case "refused" if self.refusal is not None:
                self.cache.settle([Compare(self.refusal[0], mod_revision=99)], [], self.refusal[1])
                self.refusal = None

    def apply(self, start: int) -> None:
        events = [event for r in range(start, self.position + 1) for event in self.history.events[r]]
        self.cache.apply("/a/", Batch(self.position, tuple(events)))

    def bring(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.item is None:
                self.cache.forget(event.key, event.revision)
            else:
                self.cache.observe(event.item)


@examples(300)
@given(st.lists(steps, max_size=60))
def test_no_key_ever_goes_back(script: list[tuple[str, dict[str, bool] | int]]) -> None:
    """Watch, lists, our own writes, old answers and doubled events, in any order: each key only moves on in its history,
    and after the next list it is at the end of it."""
    feeder = Feeder()
    history, cache = feeder.history, feeder.cache
    at_least = dict.fromkeys(KEYS, 0)
    for name, argument in script:
        if isinstance(argument, dict):
            history.write(argument)
        else:
            feeder.step(name, argument)
        for key in KEYS:
            shown = cache.get(key)
            possible = [r for r in range(at_least[key], history.revision + 1) if history.states[r].get(key) == shown]
            assert possible, f"{key} went back to {shown}"
            at_least[key] = possible[0]
    for name in ("answer", "ask", "answer"):
        feeder.step(name, 0)
    assert {each.key: each for each in cache.prefix("")} == history.states[-1]
