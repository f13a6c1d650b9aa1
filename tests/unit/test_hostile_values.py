"""Values written to do harm, or by a mistake of a driver: what can be read can be written again, the rest is named (F-K8)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.controllers.snapshot import stored
from reconciler.runtime.ports import PortError, TooLarge
from schema.codec import DEPTH_MAX, MODEL_OF, Malformed, Oversize, Unstorable, decode, decode_family, encode
from schema.keys import Family, Key, Keyspace, Unparsable
from schema.models import Condition, Connection, NodeRecord, Record, Stored, VolumeSpec
from tests.examples import examples


def nested(levels: int, opening: str = '{"a":', closing: str = "}") -> str:
    return opening * levels + "1" + closing * levels


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (nested(32), "nested too deeply"),
        (nested(255), "nested too deeply"),
        (nested(5000), "nested too deeply"),
        ('{"a":' + nested(40, "[", "]") + "}", "nested too deeply"),
        ('{"a":"\\ud800"}', r"\$\.import\.a: holds half a character"),
        ('{"a":[1,{"b":"x\\udfff"}]}', r"\$\.import\.a\[1\]\.b: holds half a character"),
        ('{"\\udc00":1}', r"\$\.import: a name holds half a character"),
        ('{"a":1e999}', "1e999 is too large a number"),
        ('{"a":NaN}', "NaN is no JSON number"),
        ('{"a":' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_what_could_not_be_written_again_is_malformed(text: str, words: str) -> None:
    found = decode(VolumeSpec, f'{{"backend":"b","import":{text}}}'.encode())
    assert isinstance(found, Malformed)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(str(found))


def test_a_whole_character_in_two_escapes_and_the_deepest_nesting_are_taken() -> None:
    deepest = nested(DEPTH_MAX - 1)
    found = decode(VolumeSpec, b'{"backend":"b","import":{"a":"\\ud83d\\ude00","b":1}}')
    assert isinstance(found, VolumeSpec)
    assert found.import_ == {"a": "\U0001f600", "b": 1}
    assert isinstance(decode(VolumeSpec, f'{{"backend":"b","import":{deepest}}}'.encode()), VolumeSpec)


def test_many_names_and_one_of_them_twice_take_no_time() -> None:
    names = ",".join(f'"{number}":1' for number in range(3500))
    before = time.process_time()
    found = decode(VolumeSpec, f'{{{names},"3499":2}}'.encode())
    assert isinstance(found, Malformed)
    assert "'3499' appears twice" in found.fault
    assert time.process_time() - before < 0.5


def _wrapped(inner: Any, levels: int) -> Any:
    for level in range(levels):
        inner = [inner] if level % 3 else {"x": inner}
    return inner


hostile_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | hostile_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile_text, inner, max_size=4),
    max_leaves=20,
)
deep = st.builds(_wrapped, hostile, st.integers(0, 300))
references = st.dictionaries(hostile_text, hostile | deep, min_size=1, max_size=4)


@given(references)
@examples(150)
def test_what_can_be_read_can_be_written_and_is_the_same_again(reference: dict[str, Any]) -> None:
    data = json.dumps({"backend": "b", "import": reference}).encode()
    found = decode(VolumeSpec, data)
    if not isinstance(found, Malformed):
        assert decode(VolumeSpec, encode(found)) == found
    str(found).encode()  # and what is said of it can be printed


@given(references)
@examples(150)
def test_what_a_driver_gave_is_stored_as_it_is_or_refused(given_model: dict[str, Any]) -> None:
    """Never as something else, and never so that the next reader can't read it."""
    values: list[Stored] = [
        Record(uid="u", backend="b", size_gib=1, model=given_model),
        Connection.model_validate({"uid": "u", "epoch": 1, "boot": "b", "phase": "ready", "conn_info": given_model}),
        NodeRecord(boot="b", connector=given_model),
    ]
    for value in values:
        try:
            data = stored(value)
        except PortError as error:
            str(error).encode()
            continue
        assert decode(type(value), data) == value


@given(st.binary(max_size=200) | hostile.map(lambda value: json.dumps(value).encode()), st.sampled_from(list(MODEL_OF)))
@examples(200)
def test_no_bytes_make_a_reader_raise(data: bytes, family: Family) -> None:
    found = decode_family(family, data)
    if isinstance(found, Malformed):
        str(found).encode()
    else:
        try:
            assert decode_family(family, encode(found)) == found
        except Oversize:
            assert len(data) > 30_000


def test_too_large_and_too_odd_are_errors_of_the_port() -> None:
    with pytest.raises(TooLarge):
        stored(Record(uid="u", backend="b", size_gib=1, model={"a": "x" * 40_000}))
    for odd in ({"a": "\ud800"}, {"\ud800": 1}, {"a": float("inf")}, {"a": _wrapped(1, 40)}, {"a": _wrapped(1, 400)}):
        with pytest.raises(PortError, match="can't be stored: Record"):
            stored(Record(uid="u", backend="b", size_gib=1, model=odd))
        with pytest.raises(Unstorable):
            encode(Record(uid="u", backend="b", size_gib=1, model=odd))


@given(st.binary(min_size=1, max_size=40))
@examples(200)
def test_a_key_that_is_no_text_has_a_place_for_its_answer(name: bytes) -> None:
    keyspace = Keyspace()
    path = keyspace.prefix + "desired/volumes/" + name.decode("utf-8", "surrogateescape")
    found = keyspace.parse(path)
    if isinstance(found, Unparsable):
        answer = keyspace.verdict_unparsable(path)
        answer.encode("ascii")
        parsed = keyspace.parse(answer)
        assert isinstance(parsed, Key)
        assert keyspace.unparsable_path(*parsed.names) == path
        encode(Condition(type="Accepted", status="False", reason="UnparsableKey", message=found.fault, since=""))


def test_half_a_character_in_a_message_is_written_out() -> None:
    condition = Condition(type="Accepted", status="False", reason="R", message="name \udcff", since="")
    assert condition.message == "name \\udcff"
