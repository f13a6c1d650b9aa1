"""Whether settings can work on this host: for `--check-config`, before a daemon runs with them."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from daemons.process import Refused
from daemons.redaction import redact_text
from daemons.settings import CommonSettings, ControllerSettings
from reconciler.adapters.cinder.backend import BackendSettings, CinderBackend
from reconciler.adapters.etcd import certificates
from reconciler.runtime.ports import PortError


def files_missing(settings: CommonSettings) -> Iterator[str]:
    """Every file that the settings name and that is not here; folders are made when needed."""
    for name, path in _files(settings.model_dump(), ""):
        if not path.exists():
            yield f"{name}: {path} does not exist on this machine"


def useless_certificates(settings: CommonSettings) -> Iterator[str]:
    """What of etcd's TLS files can't work. Those that are missing are told by `files_missing`."""
    store = settings.etcd.tls_settings()
    now = datetime.datetime.now(datetime.UTC)
    missing = {path for path in (store.ca_file, store.cert_file, store.key_file) if path and not path.exists()}
    for fault in (*certificates.unusable(store), *certificates.outdated(store, now)):
        if not any(str(path) in fault for path in missing):
            yield f"etcd.{fault}"


def unusable_secrets(settings: CommonSettings) -> Iterator[str]:
    """What the daemon would refuse at its start of the files with etcd's password and key. As above of those that are missing."""
    files = (settings.etcd.password_file, settings.etcd.key_file)
    if all(path.exists() for path in files if path is not None):
        try:
            settings.etcd.store_settings()
        except Refused as refusal:
            yield str(refusal)


def _files(values: Mapping[str, object], before: str) -> Iterator[tuple[str, Path]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _files(value, f"{before}{name}.")
        elif isinstance(value, Path) and (name.endswith("_file") or name == "cinder_conf"):
            yield f"{before}{name}", value


def unusable_backends(settings: ControllerSettings, *, set_up: bool) -> Iterator[str]:
    """One line for each thing that hinders a backend here, found as the running controller finds it.

    Args:
        set_up: have each driver set up, too, which asks its array. It then works in the controller's own state folder, as its
            shares are mounted there.
    """
    if set_up:
        settings.state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="brickwork-check-") as folder:
        state = settings.state_folder if set_up else Path(folder)
        for name, backend in settings.backends.items():
            yield from (
                f"backends.{name}: {redact_text(fault)}"
                for fault in _tried(backend, state, Path(folder), set_up=set_up)
            )


def _tried(backend: BackendSettings, state: Path, temporary: Path, *, set_up: bool) -> list[str]:
    try:
        return list(CinderBackend(backend, state, temporary, log=lambda _: None).check(set_up=set_up))
    except PortError as error:
        return [str(error)]
