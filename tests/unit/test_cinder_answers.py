"""What drivers answer in types that nobody expects, where Brickwork itself reads it (F-S12, F-S5, F-B11)."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest

from reconciler.adapters.cinder import answers
from reconciler.runtime.ports import Retryable
from schema.capacity import amount
from schema.models import BackendStatus

POOL = {"total_capacity_gb": 100}


@pytest.mark.parametrize(
    ("pools", "names"),
    [
        ([{**POOL, "pool_name": uuid.UUID(int=1)}], ["00000000-0000-0000-0000-000000000001"]),
        ([{**POOL, "pool_name": b"p"}], ["p"]),
        ([{**POOL, "pool_name": object()}, POOL, {**POOL, "pool_name": None}], ["", "", ""]),
        ({"p": {**POOL, "pool_name": "p"}}, ["p"]),
        (({**POOL, "pool_name": name} for name in "pq"), ["p", "q"]),
        (["p", None, {**POOL, "pool_name": "p"}], ["p"]),
        (None, []),
        ("pool", []),
        (7, []),
    ],
)
def test_pools_have_names_that_can_be_told(pools: object, names: list[str]) -> None:
    told = answers.statistics({"pools": pools, "free_capacity_gb": 1})
    assert [pool["pool_name"] for pool in told["pools"]] == names
    assert told["free_capacity_gb"] == 1


@pytest.mark.parametrize(
    ("told", "protocol"),
    [
        ("iSCSI", "iSCSI"),
        (("iSCSI", "iser"), "iSCSI"),
        ({"iSCSI"}, "iSCSI"),
        ([], ""),
        (None, ""),
        (object(), ""),
        (b"FC", "FC"),
    ],
)
def test_the_protocol_is_a_text(told: object, protocol: str) -> None:
    assert answers.statistics({"storage_protocol": told})["storage_protocol"] == protocol


def test_a_long_protocol_is_cut_in_the_status() -> None:
    assert len(BackendStatus(ready=True, driver="d", protocol="x" * 100_000).protocol or "") <= 256


@pytest.mark.parametrize(
    "told",
    [
        None,
        "connect yourself",
        [],
        {"data": {}},
        {"driver_volume_type": None},
        {"driver_volume_type": "x", "data": [1]},
    ],
)
def test_what_is_no_connection_is_told_as_that(told: object) -> None:
    with pytest.raises(Retryable, match="no connection"):
        answers.connection(told)


@pytest.mark.parametrize(
    ("data", "identity"),
    [
        ({"wwn": 0x6000, "vol_uuid": []}, None),
        ({"wwn": ["a", "b"], "wwid": "c"}, "c"),
        ({"volume_nguid": uuid.UUID(int=1)}, "00000000-0000-0000-0000-000000000001"),
        (None, None),
    ],
)
def test_only_a_text_is_an_identity(data: dict[str, Any] | None, identity: str | None) -> None:
    assert answers.identity(answers.connection({"driver_volume_type": "iscsi", "data": data})) == identity


@pytest.mark.parametrize(
    ("size", "told"),
    [("1073741824", 1 << 30), (Decimal(1 << 30), 1 << 30), (1024.0, 1024), ("much", None), (True, None)],
)
def test_the_size_of_a_local_device_is_a_number(size: object, told: int | None) -> None:
    conn_info = {"driver_volume_type": "local", "data": {"device_path": "/dev/x", "size": size}}
    assert answers.size_bytes(answers.connection(conn_info)) == told


def test_room_in_bytes_counts() -> None:
    assert (amount(b"10"), amount(b"infinite"), amount(b"\xff")) == (10, "infinite", "unknown")
