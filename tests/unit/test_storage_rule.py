"""Whether a backend's storage is the one that its volumes are on (F-D6): the rule, and the marks of LVM and Ceph."""

from __future__ import annotations

import pytest

from reconciler.core.storage import covers, difference, mark_of


@pytest.mark.parametrize(
    ("noted", "found", "recorded", "seen", "words"),
    [
        ("a", "a", 3, True, ""),
        ("a", "a,b", 3, True, ""),  # a share was added
        ("", "a", 0, True, ""),
        ("", "a", 3, True, ""),  # an older version noted nothing
        ("", "", 3, True, ""),  # an array that does not tell
        ("a", "b", 0, True, ""),  # nothing is recorded, so nothing can be lost
        ("a", "b", 1, True, "storage is b, and 1 volume is recorded on a"),
        ("a,b", "b", 2, True, "storage is b, and 2 volumes are recorded on a,b"),  # a share went
        ("a", "", 2, True, "no mark that it is known by, and 2 volumes are recorded on a"),
        ("", "b", 2, False, "storage (b) has none of them"),
    ],
)
def test_f_d6_the_rule(noted: str, found: str, recorded: int, seen: bool, words: str) -> None:
    fault = difference(noted, found, recorded, volumes_seen=seen)
    assert words in fault
    assert bool(fault) == bool(words)


def test_f_d6_a_mark_is_a_set_of_ids() -> None:
    assert mark_of(["b", "a", "b"]) == "a,b"
    assert mark_of([]) == ""
    assert covers("a,b", "b,a")
    assert covers("", "")
