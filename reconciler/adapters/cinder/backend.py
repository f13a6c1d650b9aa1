"""The daemon's side of a storage backend: the `Backend` port over a worker process. Knows nothing of Cinder.

Each call has a deadline; when it passes, the worker is killed with everything that it started, and the outcome is unknown. So
a call that was given up can never land later. `open` starts a new worker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reconciler.adapters.child import Child
from reconciler.runtime.ports import (
    BackendInfo,
    Export,
    Exposure,
    Opened,
    PortError,
    Reply,
    Unavailable,
    UnknownOutcome,
    VolumeData,
)

Seconds = Annotated[float, Field(gt=0, le=7 * 86_400)]
"""No wait of the system's is endless."""


class Deadlines(BaseModel):
    """Seconds that each kind of call may take. Generous: a deadline that passes kills all calls of this backend.

    Arrays that are switched off keep many drivers busy for half a minute; wiping a thick volume on delete takes as long as
    writing it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Seconds = 60
    """Until the worker has imported Cinder."""
    open: Seconds = 900
    """Until the driver is set up and the exports of all volumes in use are made sure of, one after another."""
    describe: Seconds = 120
    create: Seconds = 900
    extend: Seconds = 900
    delete: Seconds = 7200
    adopt: Seconds = 900
    export: Seconds = 180
    connect: Seconds = 180
    terminate: Seconds = 180
    unexport: Seconds = 180
    exports: Seconds = 120


class BackendSettings(BaseModel):
    """One backend: a driver with its options, or a section of a cinder.conf that exists already."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$")
    driver: str | None = None
    """Class path, as in Cinder's `volume_driver`."""
    options: Mapping[str, Any] = Field(default={}, repr=False)
    """The driver's options as in cinder.conf, lists and mappings as such. `$name` refers to another option. May hold passwords, so
    it is left out wherever settings are shown."""
    cinder_conf: Path | None = None
    section: str | None = None
    """In `cinder_conf`; else the backend's name."""
    secrets_file: Path | None = None
    """YAML mapping of further options (passwords…), taken literally. Nobody but its owner may be able to read it."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Driver calls at a time. Cinder's drivers were written for greenthreads: 1 for one that does not bear threads."""
    deadlines_s: Deadlines = Deadlines()
    my_ip: str | None = None
    """The controller's address for drivers that export from this host; else that of the default route."""
    enable_unsupported: bool = False
    """Use a driver even if Cinder has declared it unsupported."""
    cuts_access: bool | None = None
    """Whether `terminate_connection` cuts off a host that still has the device, so that a fence on somebody's word is enough.
    Default: what is known of the driver. Say true only after having seen it."""
    debug: bool = False
    """Cinder's debug messages in the log."""

    @model_validator(mode="after")
    def _one_source(self) -> BackendSettings:
        if (self.driver is None) == (self.cinder_conf is None):
            raise ValueError("give either driver (with options) or cinder_conf (with section)")
        if self.cinder_conf is not None and self.options:
            raise ValueError("options belong to driver; with cinder_conf they are in its section")
        if self.driver is not None and self.section is not None:
            raise ValueError("section belongs to cinder_conf")
        return self


class CinderBackend:
    """`ports.Backend` over a Cinder driver in a worker process. Thread-safe.

    Args:
        state_folder: of the controller: records of child processes, Cinder's locks and mount points.
        temporary_folder: for what drivers put into files for a moment, keyrings of RBD among them. Default: the system's.
        log: gets the lines that the worker writes to stderr.
    """

    def __init__(
        self,
        settings: BackendSettings,
        state_folder: Path,
        temporary_folder: Path | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._state_folder = state_folder
        self._opening = threading.Lock()
        self._kills = 0
        self._unused = False
        """The worker has done nothing yet but import Cinder."""
        self._child = Child(
            "reconciler.adapters.cinder.worker",
            name=f"backend {settings.name}",
            state_folder=state_folder,
            argv=["debug" if settings.debug else "quiet", str(settings.concurrency)],
            environment={"TMPDIR": str(temporary_folder)} if temporary_folder else None,
            log=log,
        )

    def prepare(self) -> None:
        with self._opening:
            self._start_anew()

    def open(self, volumes: Sequence[VolumeData], storage: str = "") -> Opened:
        with self._opening:
            self._start_anew()
            self._unused = False
            params = {**self._place(), "volumes": [_to_json(volume) for volume in volumes], "storage": storage}
            try:
                result = self._child.call("open", params, self._settings.deadlines_s.open)
            except UnknownOutcome as error:
                raise Unavailable(f"the set-up did not end: {error}") from error
            except PortError:
                self._child.kill()
                raise
        changed = {volume: _to_reply(reply) for volume, reply in result["changed"].items()}
        return Opened(_to_info(result["info"]), changed)

    def check(self, *, set_up: bool) -> Sequence[str]:
        """What hinders the backend on this host, one line each: programs and files that are missing. No other call may be under
        way; the worker ends with it.

        Args:
            set_up: set the driver up, too, which asks the array.

        Raises PortError with what is wrong with class, options, SDK or secrets, or with what the set-up said.
        """
        with self._opening:
            try:
                self._start_anew()
                self._unused = False
                found = self._child.call("check", {**self._place(), "set_up": set_up}, self._settings.deadlines_s.open)
            finally:
                self._child.kill()
        return tuple(found)

    def _place(self) -> dict[str, Any]:
        return {
            "settings": self._settings.model_dump(mode="json", exclude={"deadlines_s"}),
            "state_folder": str(self._state_folder.absolute()),
        }

    def _start_anew(self) -> None:
        """See to it that there is a worker that has done nothing yet."""
        if self._unused and self._child.running:
            return
        kills = self._kills
        self._child.kill()
        self._child.start(self._settings.deadlines_s.start)
        if kills != self._kills:  # `kill` came before there was a process, and means this one too
            self._child.kill()
        self._unused = True

    def describe(self) -> BackendInfo:
        try:
            return _to_info(self._call("describe", {}))
        except UnknownOutcome as error:  # it only reads
            raise Unavailable(str(error)) from error

    def create(self, volume: VolumeData) -> Reply:
        return _to_reply(self._call("create", {"volume": _to_json(volume)}))

    def extend(self, volume: VolumeData, size_gib: int) -> Reply:
        return _to_reply(self._call("extend", {"volume": _to_json(volume), "size_gib": size_gib}))

    def delete(self, volume: VolumeData, others: Sequence[VolumeData] = (), *, gone: bool = False) -> None:
        self._call("delete", {"volume": _to_json(volume), "others": [_to_json(each) for each in others], "gone": gone})

    def adopt(self, volume: VolumeData, reference: Mapping[str, Any]) -> Reply:
        return _to_reply(self._call("adopt", {"volume": _to_json(volume), "reference": dict(reference)}))

    def export(self, volume: VolumeData, export: Export) -> Reply:
        return _to_reply(self._call("export", {"volume": _to_json(volume), "export": _export_to_json(export)}))

    def connect(self, volume: VolumeData, export: Export) -> Reply:
        return _to_reply(self._call("connect", {"volume": _to_json(volume), "export": _export_to_json(export)}))

    def terminate(self, volume: VolumeData, export: Export) -> Reply:
        return _to_reply(self._call("terminate", {"volume": _to_json(volume), "export": _export_to_json(export)}))

    def unexport(self, volume: VolumeData) -> Reply:
        return _to_reply(self._call("unexport", {"volume": _to_json(volume)}))

    def exports(self) -> Sequence[Exposure]:
        try:
            return tuple(Exposure(uid, client) for uid, client in self._call("exports", {}))
        except UnknownOutcome as error:  # it only reads
            raise Unavailable(str(error)) from error

    def permit(self, until_s: float) -> None:
        self._child.permit(until_s)

    def kill(self) -> None:
        self._kills += 1
        self._child.kill()

    def _call(self, method: str, params: Mapping[str, Any]) -> Any:
        return self._child.call(method, params, getattr(self._settings.deadlines_s, method))


def _export_to_json(export: Export) -> dict[str, Any]:
    return {"node": export.node, "epoch": export.epoch, "mode": export.mode, "connector": dict(export.connector)}


def _to_json(volume: VolumeData) -> dict[str, Any]:
    return {
        "volume": volume.volume,
        "uid": volume.uid,
        "size_gib": volume.size_gib,
        "model": dict(volume.model),
        "exports": [_export_to_json(export) for export in volume.exports],
    }


def _to_reply(reply: Mapping[str, Any]) -> Reply:
    return Reply(**reply)


def _to_info(info: Mapping[str, Any]) -> BackendInfo:
    return BackendInfo(**{**info, "identifiers": tuple(info["identifiers"])})
