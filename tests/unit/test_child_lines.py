"""Whatever a worker writes on its pipe: replies, or one error that ends it; never an exception of another kind."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters.child.lines import ERRORS, BadReply, Replies, to_exception
from reconciler.runtime.ports import PortError
from tests.examples import examples

odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
errors = st.fixed_dictionaries(
    {}, optional={"kind": st.sampled_from(sorted(ERRORS)) | odd, "message": odd, "holders": odd, "found": odd}
)
replies = st.fixed_dictionaries({}, optional={"id": odd, "ok": odd, "secret": odd, "error": errors | odd})
lines = replies.map(lambda reply: json.dumps(reply).encode()) | st.binary(max_size=40) | st.just(b"[" * 50_000)


@given(st.lists(st.tuples(st.sampled_from([b"", b"+"]), lines), max_size=6), st.integers(1, 60))
@examples(40)
def test_any_bytes_are_replies_or_end_the_child(given: list[tuple[bytes, bytes]], size: int) -> None:
    data = b"".join(mark + line + b"\n" for mark, line in given)
    reader = Replies()
    with contextlib.suppress(BadReply):
        for start in range(0, len(data), size):
            for reply in reader.feed(data[start : start + size]):
                assert_usable(reply)


def assert_usable(reply: dict[str, Any]) -> None:
    """As the daemon uses it."""
    if "secret" in reply:
        assert isinstance(reply["secret"], str)
    else:
        assert isinstance(reply["id"], int)
        if "ok" not in reply:
            assert isinstance(to_exception(reply["error"]), PortError)
