"""Values that grow with what users have many of stay small enough for a key (F-S5); words for capacities (F-B11)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from reconciler.adapters.brick.library import within_bounds
from reconciler.controllers.audit import TOLD_MAX
from reconciler.controllers.conditions import why_not
from reconciler.runtime.ports import Busy
from schema.bounds import clipped, several
from schema.capacity import amount, in_brief, sums
from schema.codec import encode
from schema.models import AttachmentPhase, AttachmentStatus, BackendStatus, NodeRecord, Orphan


def pool(name: str, total: object = 1, free: object = 1) -> dict[str, Any]:
    return {"name": name, "total_gib": total, "free_gib": free}


def test_the_largest_status_of_a_backend_fits() -> None:
    long = "x" * 50_000
    status = BackendStatus(
        ready=True,
        driver="d" * 200,
        message=long,
        capacity=in_brief({"pools": [pool(f"{n}{long}") for n in range(2000)]}),
        orphans=tuple(Orphan(uid=long, client=long, volume="v" * 253) for _ in range(TOLD_MAX)),
        controller="c" * 253,
    )
    assert BackendStatus.model_validate_json(encode(status)) == status


def test_pools_that_are_left_out_are_counted_and_summed_up() -> None:
    told = in_brief({"pools": [pool(f"p{n}", 10, 4) for n in range(500)]})
    assert (len(told["pools"]), told["pools_left_out"]) == (20, 480)
    assert sums(told) == {"total_gib": 5000, "free_gib": 2000}
    assert "pools_left_out" not in in_brief({"pools": [pool("p")]})


def test_a_thousand_holders_of_a_device_are_one_short_sentence() -> None:
    busy = Busy("in use", [f"opened by qemu (pid {n})" for n in range(5000)])
    status = AttachmentStatus(phase=AttachmentPhase.ATTACHED, uid="u", epoch=1, boot="b")
    assert "(pid 9) and 4,990 others" in why_not(busy, status, "").message


def test_a_host_with_thousands_of_addresses_can_publish_itself() -> None:
    properties = {"host": "n", "host_ips": [f"10.0.{n // 256}.{n % 256}" for n in range(5000)]}
    told = within_bounds(properties)
    encode(NodeRecord(boot="b", connector=told))
    assert (told["host"], told["host_ips"][0], told["host_ips_left_out"]) == ("n", "10.0.0.0", 4744)
    assert within_bounds({"host_ips": ["10.0.0.1"]}) == {"host_ips": ["10.0.0.1"]}


def test_what_is_cut_says_so() -> None:
    assert clipped("short") == "short"
    assert clipped("x" * 2000) == "x" * 960 + "… (1,040 more characters)"
    assert several(["a", "b"]) == "a, b"
    assert several(list("abcd"), 3) == "a, b, c and 1 other"


@pytest.mark.parametrize(
    ("told", "understood"),
    [
        (10, 10), (10.5, 10.5), ("1024", 1024), (" 10.50 ", 10.5), (Decimal("3.25"), 3.25), ("1e3", 1000), (0, 0), ("0", 0),
        ("infinite", "infinite"), ("Infinite", "infinite"), (float("inf"), "infinite"),
        ("unknown", "unknown"), (None, "unknown"), (float("nan"), "unknown"), ("a lot", "unknown"), (True, "unknown"),
        ([], "unknown"),
    ],
)  # fmt: skip
def test_f_b11_a_capacity_in_whatever_shape(told: object, understood: object) -> None:
    assert amount(told) == understood


@pytest.mark.parametrize(
    ("totals", "together"),
    [
        ([1, "2"], 3), ([1, "infinite"], "infinite"), ([1, "unknown"], 1),
        (["unknown", None], "unknown"), (["unknown", "infinite"], "infinite"),
    ],
)  # fmt: skip
def test_f_b11_capacities_together(totals: list[object], together: object) -> None:
    assert sums({"pools": [pool("p", total) for total in totals]})["total_gib"] == together
