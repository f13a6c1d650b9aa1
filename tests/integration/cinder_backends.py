"""Backends over Cinder drivers for tests: made, opened, and killed in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.cinder.backend import BackendSettings, CinderBackend
from reconciler.runtime.ports import Export, Reply, VolumeData

UID = "3c8e2a54-7d7a-4b5e-9d39-1c1f5e7b0a01"
OTHER_UID = "3c8e2a54-7d7a-4b5e-9d39-1c1f5e7b0a02"
CONNECTOR = {"host": "web-1", "ip": "192.0.2.1", "initiator": "iqn.1994-05.com.example:web-1", "multipath": False}
HOLDER = Export("web-1", 7, "rw", CONNECTOR)


class Backends:
    """Makes backends that share a state folder, and remembers what their workers logged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log: list[str] = []
        self._all: list[CinderBackend] = []

    def make(self, driver: str | None = None, options: dict[str, Any] | None = None, **settings: Any) -> CinderBackend:
        chosen = BackendSettings(name="tested", driver=driver, options=options or {}, **settings)
        self._all.append(CinderBackend(chosen, self.folder, log=self.log.append))
        return self._all[-1]

    def close(self) -> None:
        for backend in self._all:
            backend.kill()


@pytest.fixture
def backends(tmp_path: Path) -> Iterator[Backends]:
    backends = Backends(tmp_path)
    yield backends
    backends.close()


def volume(uid: str = UID, reply: Reply | None = None, *exports: Export) -> VolumeData:
    """A volume of this id, as the last reply left it."""
    model, size = (reply.model, reply.size_gib) if reply else ({}, 1)
    return VolumeData(f"vol-{uid[-2:]}", uid, size, model, exports)
