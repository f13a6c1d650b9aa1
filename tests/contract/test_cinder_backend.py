"""The backend's contract on Cinder drivers in real worker processes: one that does nothing, and one with files."""

from __future__ import annotations

import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

pytest.register_assert_rewrite("tests.contract.backend_contract")

from reconciler.adapters.cinder.backend import BackendSettings, CinderBackend, Deadlines  # noqa: E402
from reconciler.runtime.ports import Export, Terminal, Unavailable, VolumeData  # noqa: E402
from tests.contract import backend_contract  # noqa: E402
from tests.contract.backend_contract import BackendContract, Call, FailingBackendContract  # noqa: E402

GIB = 1 << 30
DRIVERS = "reconciler.adapters.cinder"
METHODS: dict[Call, str] = {
    "describe": "get_volume_stats",
    "create": "create_volume",
    "extend": "extend_volume",
    "delete": "delete_volume",
    "export": "create_export",
    "connect": "initialize_connection",
    "terminate": "terminate_connection",
    "unexport": "remove_export",
    "exports": "list_exports",
}


def eventually(condition: Callable[[], bool], deadline_s: float = 30) -> None:
    """Wait for a condition; fail when it does not come true."""
    beat = threading.Event()
    for _ in range(int(deadline_s * 100)):
        if condition():
            return
        beat.wait(0.01)
    raise AssertionError("the condition never held")


class CinderRig(ABC):
    """Backends over real workers; starting one takes a second, so the tests of a class share one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._backends: list[CinderBackend] = []
        self._shared: CinderBackend | None = None

    @abstractmethod
    def backend(self) -> CinderBackend: ...

    def make(self, driver: str, options: dict[str, Any], deadlines: Deadlines | None = None) -> CinderBackend:
        settings = BackendSettings(
            name="tested", driver=f"{DRIVERS}.{driver}", options=options, deadlines_s=deadlines or Deadlines()
        )
        self._backends.append(CinderBackend(settings, self.folder))
        return self._backends[-1]

    def opened(self) -> CinderBackend:
        if self._shared is None:
            self._shared = self.backend()
        try:
            self._shared.describe()
        except Unavailable:  # a test killed it
            self._shared.open([])
        return self._shared

    def during(self, call: Callable[[], object], when: Callable[[], bool], act: Callable[[], None]) -> Exception | None:
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(call)
            eventually(when)
            act()
            error = future.exception(30)
            assert error is None or isinstance(error, Exception)
            return error

    def tidy(self) -> None:
        """After each test: a worker takes 100 MB."""
        for backend in self._backends:
            if backend is not self._shared:
                backend.kill()

    def close(self) -> None:
        self._shared = None
        self.tidy()


class NoopRig(CinderRig):
    """Backends whose driver does nothing but keep a journal."""

    OPTIONS: ClassVar[dict[str, Any]] = {}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.journal = folder / "journal"

    def noop(self, deadlines: Deadlines | None = None, **options: Any) -> CinderBackend:
        options = {"noop_journal": str(self.journal), **self.OPTIONS, **options}
        return self.make("noop_driver.NoopDriver", options, deadlines)

    def backend(self) -> CinderBackend:
        return self.noop()

    def adoptable(self) -> None:
        return None

    def failing(self, call: Call, how: Literal["hang", "fail", "die"]) -> CinderBackend:
        method = METHODS[call]
        point = f"{method}:{how}:2" if call == "describe" else f"{method}:{how}"  # the set-up asks for statistics, too
        deadlines = Deadlines(**{call: 0.5}) if how == "hang" else Deadlines()
        self.journal.unlink(missing_ok=True)
        return self.noop(deadlines, noop_failpoints=[point])

    def under_way(self, call: Call) -> bool:
        return METHODS[call] in self.calls()

    def calls(self) -> list[str]:
        """Which methods of the driver were called so far."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [json.loads(line)["method"] for line in lines]


class DatabaseRig(NoopRig):
    """The same with a driver that looks into the shadow database in every call, and keeps a password in the volume."""

    OPTIONS: ClassVar[dict[str, Any]] = {"noop_reads_database": True, "noop_chap": True}


class FileRig(CinderRig):
    """Backends over one folder of files."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.files = folder / "files"
        self.files.mkdir()

    def backend(self) -> CinderBackend:
        return self.make("file_driver.FileDriver", {"file_driver_folder": str(self.files)})

    def adoptable(self) -> dict[str, Any]:
        (self.files / "disk.img").touch()
        os.truncate(self.files / "disk.img", GIB)
        return {"source-name": "disk.img"}


@pytest.fixture(scope="class")
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CinderRig]:
    """One for all tests of a class, of the kind that it names."""
    rig = request.cls.RIG(tmp_path_factory.mktemp("rig"))
    yield rig
    rig.close()


@pytest.fixture(autouse=True)
def _tidy(rig: CinderRig) -> Iterator[None]:
    yield
    rig.tidy()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[NoopRig]:
    """One with an empty journal."""
    rig = NoopRig(tmp_path)
    yield rig
    rig.close()


class TestNoop(BackendContract, FailingBackendContract):
    """Every promise of the port."""

    RIG = NoopRig

    def test_the_driver_is_called_as_cinder_would(self, fresh: NoopRig) -> None:
        backend = fresh.backend()
        backend.open([])
        volume, _ = backend_contract.attached(backend, backend_contract.made(backend), "a")
        backend.terminate(volume, volume.exports[0])
        backend.unexport(backend_contract.held(volume))
        backend.delete(backend_contract.held(volume))
        assert fresh.calls() == [
            *("__init__", "do_setup", "check_for_setup_error", "get_volume_stats"),
            *("create_volume", "create_export", "initialize_connection", "terminate_connection", "remove_export"),
            *("remove_export", "delete_volume"),
        ]

    def test_the_export_of_a_held_volume_is_made_sure_of_at_set_up(self, fresh: NoopRig) -> None:
        free, held = backend_contract.new_volume(), backend_contract.held(backend_contract.new_volume(), "a")
        fresh.backend().open([free, held])
        ensured = [json.loads(line) for line in fresh.journal.read_text().splitlines() if "ensure_export" in line]
        assert [entry["volume"] for entry in ensured] == [held.uid]

    def test_a_driver_sees_all_attachments_at_the_terminate(self, fresh: NoopRig) -> None:
        backend = fresh.backend()
        backend.open([])
        volume, _ = backend_contract.attached(backend, backend_contract.made(backend), "a", "b")
        backend.terminate(volume, volume.exports[0])
        last = json.loads(fresh.journal.read_text().splitlines()[-1])
        assert (last["host"], last["attached"]) == ("a", 2)

    def test_other_attachments_of_the_host_mean_a_shared_export(self, fresh: NoopRig) -> None:
        backend = fresh.backend()
        backend.open([])
        volume = backend_contract.held(backend_contract.made(backend), "a", "b")
        same_host = Export("b", 99, "rw", volume.exports[0].connector)
        volume = VolumeData(volume.volume, volume.uid, 1, volume.model, (volume.exports[0], same_host))
        assert backend.terminate(volume, same_host).shared

    def test_a_node_without_the_initiator_that_the_driver_needs_is_refused(self, fresh: NoopRig) -> None:
        backend = fresh.backend()
        backend.open([])
        for connector in ({"host": "a"}, {}):
            one = Export("a", 1, "rw", connector)
            volume = VolumeData("v", backend_contract.new_volume().uid, 1, {}, (one,))
            with pytest.raises(Terminal):
                backend.export(volume, one)


class TestNoopOnTheDatabase(BackendContract):
    """Every promise of the port, through the shadow database."""

    RIG = DatabaseRig

    def test_a_volume_type_is_there_for_the_driver_and_for_the_node(self, rig: DatabaseRig) -> None:
        backend = rig.opened()
        qos = {
            "consumer": "both",
            "specs": {"read_iops_sec_per_gb": "10", "read_iops_sec_per_gb_min": "25", "vendor": "x"},
        }
        kind = {"extra_specs": {"cacheable": "<is> True", "tier": "gold"}, "qos": qos}
        volume = replace(backend_contract.new_volume(), model={"type": kind})
        volume = backend_contract.after(volume, backend.create(volume))
        assert volume.model["type"] == kind
        volume = backend_contract.after(volume, backend.extend(volume, 3))
        _, replies = backend_contract.attached(backend, volume, "a")
        assert replies["a"].conn_info is not None
        data = replies["a"].conn_info["data"]
        assert data["qos_specs"] == {"read_iops_sec": 30, "vendor": "x"}
        assert data["cacheable"] is True

    def test_a_password_made_at_the_first_export_is_kept(self, rig: DatabaseRig) -> None:
        backend = rig.opened()
        volume, _ = backend_contract.attached(backend, backend_contract.made(backend), "a")
        backend.open([volume])
        again, _ = backend_contract.attached(backend, volume, "a", "b")
        assert again.model["provider_auth"] == volume.model["provider_auth"]


class TestFiles(BackendContract):
    """Every promise of the port, with real storage."""

    RIG = FileRig
