"""`make drivers`: what is known of each of Cinder's drivers, by trying, into docs/DRIVERS.md.

Each driver is probed in a process of its own: does its class import, are its options known and mistakes in them refused, is a
missing SDK named, and what does a set-up without any options (hence without an array) say. Two drivers can be used on any
machine, and are: ours with files, and Cinder's NFS driver with a tmpfs in place of the server; their volumes are attached, written
to and detached. That part needs root, loop devices, and ``apt-get install qemu-utils nfs-common``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from reconciler.adapters.brick.connector import BrickConnector, ConnectorSettings
from reconciler.adapters.child import Child, serve
from reconciler.adapters.cinder import catalog
from reconciler.adapters.cinder.backend import BackendSettings, CinderBackend, Deadlines
from reconciler.runtime.ports import Export, PortError, Target, Terminal, VolumeData

ROOT = Path(__file__).parents[1]
FILE_DRIVER = "reconciler.adapters.cinder.file_driver.FileDriver"
NFS_DRIVER = f"{catalog.ROOT}nfs.NfsDriver"
SHARE = "127.0.0.1:/export"
PROBE_S = 60.0
SET_UP_S = 45.0
"""Seconds after which a driver that looks for its array is given up."""
TEXT_MAX = 160
HEADER = """# Drivers

Written by `make drivers`, with Cinder {version}: {imported} of {total} drivers import, {validated} have their options validated,
{sdk} need an SDK that `pip install cinder` does not bring (named before set-up where it is absent). Nothing here says that a
driver works with its array: nobody here had one. *Set up* and *attached* say yes only where it happened in this run.

`driver` takes any name that Cinder's documentation gives as `volume_driver`, also former names, and aliases such as
`dell_emc.unity.Driver`. NetApp's, `netapp.common.NetAppDriver`, becomes the driver that its option `netapp_storage_protocol`
names, and has its options.

Local storage may be another on another host. By which mark it is known: LVM by the group's uuid, RBD by fsid and pool, NFS and
all other shares by a file `.brickwork-storage`. Drivers of arrays do not tell: see `StorageDiffers` in [OPERATING](OPERATING.md).

The last column is what the backend's condition says when a driver is set up without any options, hence without an array.

| driver | protocols | imports | options validated | SDK | set up here | attached here | without its array |
|---|---|---|---|---|---|---|---|
"""


@dataclass
class Row:
    """What was found out about a driver."""

    name: str
    protocols: str
    imports: str = "no"
    options: str = "no"
    sdk: str = "none needed"
    set_up: str = "-"
    attached: str = "-"
    says: str = ""

    def __str__(self) -> str:
        cells = (self.name, self.protocols, self.imports, self.options, self.sdk, self.set_up, self.attached, self.says)
        return f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in cells)} |"


# --- In the probed process -----------------------------------------------------------------------------------------------


def probe(params: Mapping[str, Any]) -> dict[str, str]:
    """Runs in a process of its own, with Cinder."""
    import importlib

    from reconciler.adapters.cinder import classes, options

    module, _, name = params["path"].rpartition(".")
    found = {}
    try:
        driver = getattr(importlib.import_module(module), name)
        if params["path"] == catalog.NETAPP_PROXY:
            driver = classes.load(params["path"], {"netapp_storage_protocol": "iscsi"}).serving
    except Exception as error:
        return {"imports": f"no: {type(error).__name__}: {error}"}
    found["imports"] = "yes" if driver.SUPPORTED else "yes (unsupported by Cinder)"
    known, own = options.declared(driver), options.own(driver)
    found["options"] = _validate(options, driver, known, own)
    try:
        classes.load(params["path"], {"netapp_storage_protocol": "iscsi"})
    except Terminal as error:
        found["sdk"] = f"named: {error}"
    return found


def _validate(options: Any, driver: Any, known: Any, own: list[Any]) -> str:
    """That its options are known and their defaults accepted, a misspelt one refused, and a wrong type refused."""
    mistakes: list[Callable[[], object]] = [lambda: options.refuse_unknown(["no_such_option"], known, driver)]
    for option in own:
        if option.dest not in known:
            return f"no: {option.dest} is not known"
        if type(option).__name__ in ("IntOpt", "BoolOpt", "PortOpt", "FloatOpt"):
            mistakes.append(partial(options.section, "x", {option.dest: "wrong"}, known, secret=()))
        elif option.default is not None and "$" not in str(option.default):
            options.section("x", {option.dest: option.default}, known, secret=())
    refused = sum(_refuses(mistake) for mistake in mistakes)
    return f"{len(own)} of its own" if refused == len(mistakes) else "no: a mistake was accepted"


def _refuses(mistake: Callable[[], object]) -> bool:
    try:
        mistake()
    except Terminal:
        return True
    return False


# --- Here ----------------------------------------------------------------------------------------------------------------


def examine(driver: catalog.Driver, folder: Path) -> Row:
    """A driver's row. Whatever it does is bounded by deadlines."""
    path = f"{catalog.ROOT}{driver.name}"
    row = Row(driver.name, ", ".join(driver.protocols) or "-")
    environment = {"PYTHONPATH": str(ROOT)}
    child = Child(
        "tools.drivers", name=driver.name, state_folder=folder, environment=environment, argv=["--probed"], log=_quiet
    )
    try:
        child.start(PROBE_S)
        found = child.call("probe", {"path": path}, PROBE_S)
    except PortError as error:
        found = {"imports": f"no: {error}"}
    finally:
        child.kill()
    row.imports, row.options = found["imports"], found.get("options", "no")
    if driver.sdk:
        row.sdk = found.get("sdk", "installed").replace(f"driver {driver.name} needs ", "")
    row.says = "see SDK" if row.sdk.startswith("named") else _without_array(path, folder)
    return row


def _without_array(path: str, folder: Path) -> str:
    deadlines = Deadlines(open=SET_UP_S)
    settings = BackendSettings(name="probed", driver=path, enable_unsupported=True, deadlines_s=deadlines)
    backend = CinderBackend(settings, folder, log=_quiet)
    try:
        backend.open([])
    except PortError as error:
        text = str(error).replace(str(folder), "<state>").replace(sys.prefix, "<environment>")
        return f"{type(error).__name__}: {text[:TEXT_MAX]}{'…' if len(text) > TEXT_MAX else ''}"
    else:
        return "**nothing: its set-up succeeds without an array**"
    finally:
        backend.kill()


def _quiet(_line: str) -> None:
    """Drivers that are probed without an array complain a lot."""


# --- Two drivers in earnest ----------------------------------------------------------------------------------------------


def use_files(folder: Path) -> Row:
    """Our own driver, on files in a folder."""
    files = folder / "files"
    files.mkdir()
    row = Row("Brickwork's FileDriver", "local", "yes", "yes")
    _use(row, FILE_DRIVER, {"file_driver_folder": str(files)}, folder, folder / "mounts")
    return row


def use_nfs(row: Row, folder: Path) -> None:
    """Cinder's NFS driver: for it, and for os-brick, a tmpfs of that name is the mounted share."""
    name = hashlib.md5(SHARE.encode(), usedforsecurity=False).hexdigest()
    controller, node = folder / "controller" / name, folder / "node" / name
    options = {
        "nas_host": "127.0.0.1",
        "nas_share_path": "/export",
        "nfs_mount_point_base": str(controller.parent),
        "nas_secure_file_operations": "false",
        "nas_secure_file_permissions": "false",
    }
    with _mounted("-t", "tmpfs", "-o", "size=8G", SHARE, controller), _mounted("--bind", str(controller), node):
        _use(row, NFS_DRIVER, options, folder, node.parent)


@contextlib.contextmanager
def _mounted(*arguments: str | Path) -> Iterator[None]:
    point = Path(arguments[-1])
    point.mkdir(parents=True)
    subprocess.run(["mount", *arguments], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", point], check=False, capture_output=True)  # the node may have done it


def _use(row: Row, driver: str, options: dict[str, Any], folder: Path, mounts: Path) -> None:
    backend = CinderBackend(BackendSettings(name="used", driver=driver, options=options), folder, log=_quiet)
    home = folder / f"node-{row.name.split()[0]}"
    connector = BrickConnector(
        ConnectorSettings(
            node="probed",
            state_folder=home,
            my_ip="127.0.0.1",
            link_folder=home / "links",
            lock_path=home / "locks",
            mount_point_base=mounts,
        ),
        log=_quiet,
    )
    try:
        backend.open([])
        row.set_up = "**yes**"
        _attach(backend, connector)
        row.attached = "**yes**"
    except (PortError, OSError, AssertionError) as error:
        setattr(row, "attached" if "yes" in row.set_up else "set_up", f"no: {error}"[:TEXT_MAX])
    finally:
        connector.kill()
        backend.kill()


def _attach(backend: CinderBackend, connector: BrickConnector) -> None:
    """A whole life: create, attach, write and read, detach, delete."""
    holder = Export("probed", 1, "rw", connector.properties())
    reply = backend.create(VolumeData("vol-1", "5b7a3c3e-6f0e-4d5b-8a51-9b0c6d7e8f01", 1, {}))
    free = VolumeData("vol-1", "5b7a3c3e-6f0e-4d5b-8a51-9b0c6d7e8f01", 1, reply.model)
    held = VolumeData(free.volume, free.uid, 1, reply.model, (holder,))
    backend.export(held, holder)
    connected = backend.connect(held, holder)
    assert connected.conn_info is not None
    target = Target(free.volume, connected.conn_info, False, connected.size_bytes, connected.identity)
    device = connector.connect(target)
    try:
        with open(device.path, "r+b", buffering=0) as file:
            file.write(b"brickwork" * 512)
            os.fsync(file.fileno())
            file.seek(0)
            assert file.read(9) == b"brickwork", "what was written did not come back"
    finally:
        connector.disconnect(target, device.details)
    backend.terminate(held, holder)
    backend.unexport(free)
    backend.delete(free)


@click.command()
@click.option("--jobs", default=os.cpu_count() or 2, help="Drivers at a time.")
@click.option("--only", default="", help="Only drivers whose name contains this; nothing is written.")
@click.option("--output", type=click.Path(path_type=Path), default=ROOT / "docs" / "DRIVERS.md")
@click.option("--probed", is_flag=True, hidden=True, help="Be the probed process.")
def main(jobs: int, only: str, output: Path, probed: bool) -> None:
    """Try all drivers and write down what happened."""
    if probed:
        from reconciler.adapters.cinder import library

        serve({"probe": probe}, concurrency=1, on_start=library.prepare)
    drivers = [driver for driver in catalog.DRIVERS.values() if only in driver.name]
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(jobs) as pool:
        folder = Path(name)
        rows = list(pool.map(lambda driver: _told(examine(driver, folder)), drivers))
        for row in rows:
            if row.name == "nfs.NfsDriver":
                use_nfs(row, folder)
        rows.insert(0, use_files(folder))
    if only:
        click.echo("\n".join(map(str, rows)))
    else:
        output.write_text(_page(rows[1:], rows))


def _told(row: Row) -> Row:
    click.echo(f"{row.name}: imports {row.imports}, options {row.options}, SDK {row.sdk[:60]}")
    return row


def _page(cinder: list[Row], rows: list[Row]) -> str:
    from importlib.metadata import version

    header = HEADER.format(
        version=version("cinder"),
        total=len(cinder),
        imported=sum(row.imports.startswith("yes") for row in cinder),
        validated=sum(not row.options.startswith("no") for row in cinder),
        sdk=sum(row.sdk != "none needed" for row in cinder),
    )
    return header + "\n".join(map(str, rows)) + "\n"


if __name__ == "__main__":
    main()
