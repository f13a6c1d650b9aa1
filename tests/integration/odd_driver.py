"""A Cinder driver with the manners of real ones: what it hands out is no JSON until somebody makes it so.

Loaded by workers as `odd_driver.OddDriver`, with the case in its options.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import ipaddress
import uuid
from typing import Any

import netaddr  # type: ignore[import-untyped]
from cinder.volume import configuration
from oslo_config import cfg

from reconciler.adapters.cinder.noop_driver import NoopDriver

OWN: list[cfg.Opt] = [cfg.StrOpt("odd_case", help="A name in ANSWERS"), cfg.StrOpt("odd_room", default="10")]
cfg.CONF.register_opts(OWN, group=configuration.SHARED_CONF_GROUP)


class Word(str, enum.Enum):  # noqa: UP042  # as drivers write it, whose str() is another
    TCP = "tcp"


ANSWERS: dict[str, Any] = {
    "uuid": uuid.UUID(int=1),
    "set": {"10.0.0.2:3260", "10.0.0.1:3260", "10.0.0.3:3260"},
    "bytes": b"abc",
    "date": datetime.datetime(2026, 1, 1),
    "netaddr": netaddr.IPAddress("10.0.0.1"),
    "tuple": (1, "two"),
    "nan": float("nan"),
    "surrogate": "half \ud800 pair",
    "keys": {uuid.UUID(int=1): {1: frozenset({2})}},
    "no text": b"\xff\xfe",
    "object": object(),
    "decimal": decimal.Decimal("1.5"),
    "address": ipaddress.ip_address("10.0.0.1"),
    "word": Word.TCP,
    "function": (lambda: None),
}


class OddDriver(NoopDriver):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OWN)

    @staticmethod
    def get_driver_options() -> list[cfg.Opt]:
        return [*NoopDriver.get_driver_options(), *OWN]

    def get_volume_stats(self, refresh: bool = False) -> dict[str, Any]:
        stats = super().get_volume_stats(refresh)
        room = self.configuration.odd_room
        small = {"pool_name": b"small", "total_capacity_gb": "100", "free_capacity_gb": 1}
        odd = {"pool_name": "odd", "total_capacity_gb": room, "free_capacity_gb": room}
        stats["pools"] = (pool for pool in (small, odd))
        return stats

    def create_volume(self, volume: Any) -> dict[str, Any]:
        return {"provider_id": uuid.UUID(int=7), **super().create_volume(volume)}

    def initialize_connection(self, volume: Any, connector: Any) -> dict[str, Any]:
        answer = super().initialize_connection(volume, connector)
        answer["data"] |= {"wwn": 0x6000, "vol_uuid": []}
        answer["data"]["odd"] = ANSWERS[self.configuration.odd_case]
        return answer
