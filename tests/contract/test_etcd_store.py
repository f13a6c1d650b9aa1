"""The store's contract on a real etcd."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.register_assert_rewrite("tests.contract.store_contract")

from tests.contract.store_contract import StoreContract  # noqa: E402
from tests.integration.etcd_fixture import Server  # noqa: E402


@pytest.fixture
def compact(etcd: Server) -> Callable[[int], None]:
    """Compacts the session's etcd."""
    return lambda revision: print(etcd.ctl("compact", str(revision)))


@pytest.mark.etcd
class TestEtcdStore(StoreContract):
    """Every promise of the port."""
