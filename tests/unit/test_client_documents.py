"""Manifests of any kind: an answer with a place, never a traceback."""

from __future__ import annotations

import io
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from client.documents import parse
from client.exits import Misuse
from client.manifests import read
from client.writing import stored
from schema.codec import decode
from schema.models import VolumeSpec
from tests.examples import examples

PIECES = (
    st.sampled_from(
        ["kind", "Volume", "name", "spec", "backend", "a", ":", "{", "}", "[", "]", ",", "'", '"', "~", "#", "<<"]
    )
    | st.sampled_from(["0x", "1e400", "2026-99-99", "?", "|", "...", "é", "\x00", " ", "\n", "  ", "\t", "- ", ": "])
    | st.sampled_from(["&a ", "*a ", "!!binary ", "!!set ", "---\n", "%YAML 9.9\n"])
)
WEIRD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def attempt(text: str) -> None:
    """Either wishes, or a Misuse that names the place; anything else is raised on."""
    with suppress(Misuse):
        assert all(stored(wish.spec) for wish in read(["-"], io.StringIO(text)).wishes)


@given(st.lists(PIECES, max_size=25).map("".join))
@examples(300)
def test_anything_that_looks_like_yaml(text: str) -> None:
    """Broken, odd and hostile YAML."""
    attempt(text)


@given(st.fixed_dictionaries({"kind": st.sampled_from(["Volume", "Attachment", "Node"])}, optional={
    "name": WEIRD | st.just("a"), "node": WEIRD | st.just("a"), "volume": WEIRD | st.just("a"),
    "spec": WEIRD | st.fixed_dictionaries({}, optional={
        "backend": WEIRD | st.just("lvm"), "size_gib": WEIRD | st.just(1), "import": st.dictionaries(st.text(), WEIRD, min_size=1),
        "labels": st.dictionaries(st.text(), WEIRD), "cordons": st.dictionaries(st.just("a"), WEIRD), "mode": WEIRD,
    }),
}))  # fmt: skip
@examples(300)
def test_anything_in_any_field(document: dict[str, object]) -> None:
    """Right in form, anything in the fields."""
    attempt(yaml.safe_dump(document))


@given(
    st.builds(
        VolumeSpec,
        backend=st.just("lvm"),
        size_gib=st.integers(1, 9),
        **{
            "import": st.dictionaries(
                st.text(max_size=5), st.none() | st.text() | st.integers() | st.booleans(), min_size=1
            )
        },
    )
)
def test_what_is_stored_is_what_was_meant(spec: VolumeSpec) -> None:
    """Written and read back, a spec is the same."""
    assert decode(VolumeSpec, stored(spec)) == spec


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("---\n---\n", 0),
        ("a: 1\n---\n\n---\nb: 2\n", 2),
        ('[{"a": 1}, {"b": 2}]', 2),
        ("items: [{a: 1}]", 1),
        ("items: 7", 1),
    ],
)
def test_documents_are_counted_as_people_count(text: str, count: int) -> None:
    """Empty ones do not count; lists do, item by item."""
    assert (len(parse("f", text)[0]), parse("f", text)[1]) == (count, "")
