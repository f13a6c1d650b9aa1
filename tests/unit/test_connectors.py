"""What a node says of itself reaches no driver but in known fields that follow their grammar (F-K11)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.controllers.surroundings import identifiers_of
from reconciler.core.connectors import fit_for_drivers
from tests.examples import examples

OS_BRICKS: dict[str, Any] = {
    "platform": "x86_64", "os_type": "linux", "ip": "fd00::9", "host": "web-1", "multipath": True, "enforce_multipath": False,
    "initiator": "iqn.1993-08.org.debian:01:4a5b", "do_local_attach": False,
    "wwpns": ["10000090fa0d6754"], "wwnns": ["20000090fa0d6754"],
    "nvme_hostid": "0a-1", "system uuid": "a-b", "nqn": "nqn.2014-08.org.nvmexpress:uuid:1-2", "nvme_native_multipath": True,
    "found_dsc": "", "host_ips": ["10.0.0.9", "fd00::9"], "uuid": "c-d",
}  # fmt: skip


def test_what_os_brick_tells_is_passed_on() -> None:
    assert fit_for_drivers("web-1", OS_BRICKS) == OS_BRICKS


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("initiator", "iqn.2026-01.x:a; rm -rf /"), ("initiator", "*"), ("initiator", ["iqn.2026-01.x:a"]),
        ("initiator", "iqn.2026-01.x:a\n"),
        ("wwpns", ["10000090fa0d6754", "ALL"]), ("wwpns", "10000090fa0d6754"), ("wwpns", []), ("wwpns", ["10000090fa0d6754"] * 300),
        ("nqn", "nqn.2014-08.org*"), ("ip", "0.0.0.0/0"), ("ip", "nas"), ("ip", "fe80::1%eth0;x"), ("ip", 5), ("multipath", "yes"),
        ("uuid", "' OR 1=1"), ("system uuid", "$(x)"), ("os_type", "a b"), ("nvme_hostid", {"a": 1}),
        ("host_ips", ["10.0.0.9", None]),
    ],
)  # fmt: skip
def test_what_breaks_the_grammar_is_left_out(field: str, value: Any) -> None:
    fit = fit_for_drivers("web-1", OS_BRICKS | {field: value})
    assert fit == {name: known for name, known in OS_BRICKS.items() if name != field}


def test_unknown_fields_go_and_the_host_is_the_node_whatever_it_says() -> None:
    told = {
        "host": "db-1",
        "initiator": "iqn.2026-01.x:a",
        "mountpoint": "/",
        "auth_password": "c4nary",
        "deep": {"a": [1]},
    }
    assert fit_for_drivers("web-1", told) == {"host": "web-1", "initiator": "iqn.2026-01.x:a"}
    assert fit_for_drivers("web-1", {}) == {}


def test_upper_and_lower_case_are_one_initiator() -> None:
    upper = set(identifiers_of({"initiator": "IQN.2026-01.x:A", "wwpns": ["10000090FA0D6754"]}))
    assert upper == set(identifiers_of({"initiator": "iqn.2026-01.x:a", "wwpns": ["10000090fa0d6754"]}))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*OS_BRICKS, "x"]) | st.text(max_size=5), anything, max_size=8))
@examples(150)
def test_whatever_it_is_the_result_is_flat_and_plain(connector: dict[str, Any]) -> None:
    fit = fit_for_drivers("web-1", connector)
    assert set(fit) <= set(OS_BRICKS)
    for value in fit.values():
        for each in value if isinstance(value, list) else [value]:
            assert isinstance(each, bool) or (isinstance(each, str) and each.isprintable())
    list(identifiers_of(connector))
