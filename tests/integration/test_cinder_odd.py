"""What Cinder's RPC would have made plain is plain (F-S12), and capacities in words count (F-B11)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.runtime.ports import Terminal
from tests.integration.cinder_backends import HOLDER, UID, Backends, backends, volume

__all__ = ["backends"]
ODD = "odd_driver.OddDriver"


@pytest.fixture(autouse=True)
def workers_find_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def connected(backends: Backends, case: str) -> Any:
    backend = backends.make(ODD, {"odd_case": case})
    backend.open([])
    reply = backend.create(volume())
    assert reply.model["provider_id"] == "00000000-0000-0000-0000-000000000007"
    held = volume(UID, reply, HOLDER)
    first, second = backend.connect(held, HOLDER), backend.connect(held, HOLDER)
    assert first == second
    assert first.conn_info is not None
    assert first.identity is None
    json.dumps(first.conn_info, allow_nan=False).encode()
    return first.conn_info["data"]["odd"]


@pytest.mark.parametrize(
    ("case", "arrives"),
    [
        ("uuid", "00000000-0000-0000-0000-000000000001"),
        ("set", ["10.0.0.1:3260", "10.0.0.2:3260", "10.0.0.3:3260"]),
        ("bytes", "abc"),
        ("date", "2026-01-01T00:00:00.000000"),
        ("netaddr", "10.0.0.1"),
        ("tuple", [1, "two"]),
        ("nan", None),
        ("surrogate", "half ? pair"),
        ("keys", {"00000000-0000-0000-0000-000000000001": {"1": [2]}}),
        ("address", "10.0.0.1"),
        ("decimal", "1.5"),
        ("word", "tcp"),
        ("function", "<function <lambda>>"),
    ],
)
def test_f_s12_a_connection_arrives_as_after_cinders_rpc(backends: Backends, case: str, arrives: object) -> None:
    assert connected(backends, case) == arrives


@pytest.mark.parametrize(("case", "kind"), [("object", "object"), ("no text", "bytes")])
def test_f_s12_what_cannot_be_sent_is_named_by_place_and_type(backends: Backends, case: str, kind: str) -> None:
    with pytest.raises(Terminal, match=rf"holds a {kind} at conn_info\.data\.odd, which can't be stored"):
        connected(backends, case)


@pytest.mark.parametrize(
    ("room", "told", "pool"),
    [("infinite", "infinite", "odd"), ("unknown", "unknown", "small"), ("4000", 4000, "odd"), ("0.5", 0.5, "small")],
)
def test_f_b11_room_in_words_is_told_and_chosen_by(backends: Backends, room: str, told: object, pool: str) -> None:
    backend = backends.make(ODD, {"odd_case": "uuid", "odd_room": room})
    pools = backend.open([]).info.capacity["pools"]
    assert [each["total_gib"] for each in pools] == [100, told]
    assert backend.create(volume()).model["host"].endswith(f"#{pool}")
