"""The store's contract on the fake, so that it does not drift from etcd."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.register_assert_rewrite("tests.contract.store_contract")

from tests.contract.store_contract import StoreContract  # noqa: E402
from tests.fakes.clock import VirtualClock  # noqa: E402
from tests.fakes.store import FakeEtcd, FakeStore  # noqa: E402


@pytest.fixture
def etcd() -> FakeEtcd:
    """A server in virtual time."""
    return FakeEtcd(VirtualClock())


@pytest.fixture
def store(etcd: FakeEtcd) -> FakeStore:
    """A client of it."""
    return etcd.client()


@pytest.fixture
def prefix() -> str:
    """A part of its key space."""
    return "/test/"


@pytest.fixture
def compact(etcd: FakeEtcd) -> Callable[[int], None]:
    """Compacts it."""
    return etcd.compact


class TestFakeStore(StoreContract):
    """Every promise of the port."""
