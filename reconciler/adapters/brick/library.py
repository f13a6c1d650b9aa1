"""os-brick as we call it: set up once, at the first need, without privsep daemon, eventlet, or a word about secrets.

The only module that imports os_brick and oslo. Loading it takes 0.4 s and 40 MB, which a worker that only makes loop devices is
spared. What was measured of os-brick 7.1.1, and why it is called this way:

* Both privilege contexts are set to run in this process: else each command starts ``sudo privsep-helper``, even as root.
* Eventlet is hidden from oslo, which then uses native threads; patched or not it would only cost 20 MB and surprise.
* Several calls change the dictionary that they are given: each gets a copy.
* Unknown keyword arguments are swallowed silently; those here are the ones it knows.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reconciler.adapters.brick import logins, sysfs, tools
from reconciler.adapters.brick.logins import Logins
from reconciler.adapters.brick.settings import ConnectorSettings
from reconciler.runtime.ports import PortError, Terminal

_LOG = logging.getLogger(__name__)
_BLOCK = Path("/sys/class/block")
_ROOT_HELPER = ""
"""Never used where the contexts run in this process, but asked for everywhere."""
ISCSI = {"iscsi", "iser"}
NVME = {"nvmeof", "nvme"}
REMOTE_FS = {"nfs", "glusterfs", "quobyte"}
"""Not vzstorage: its share names hold a password."""
_TOOLS = {
    "iscsi": ("iscsiadm", "open-iscsi"),
    "iser": ("iscsiadm", "open-iscsi"),
    "nvmeof": ("nvme", "nvme-cli"),
    "nvme": ("nvme", "nvme-cli"),
    "rbd": ("rbd", "ceph-common"),
}
"""Without its program a connect would fail after half a minute with "device not found"."""
_ASKS_LSSCSI = {"iscsi", "iser", "fibre_channel"}
"""To extend a device."""
_CLEAN_UP = {
    "iscsi": "_cleanup_connection",
    "iser": "_cleanup_connection",
    "nvmeof": "_try_disconnect_all",
    "nvme": "_try_disconnect_all",
}
"""What a connector's `connect_volume` calls when it fails."""
ADDRESSES_MAX = 256
"""Of a host, that arrays are told (`host_ips`)."""


class OsBrick:
    """os-brick's connectors. Errors are os-brick's own; the caller translates them. Thread-safe."""

    def __init__(self, settings: ConnectorSettings, records: tuple[Path, ...] = logins.RECORDS) -> None:
        self._settings = settings
        self._logins = Logins(settings.state_folder / "logins", records)
        self._setting_up = threading.Lock()
        self._ready = False

    # --- calls

    def properties(self) -> dict[str, Any]:
        """What arrays want to know of this host. Makes /etc/nvme/hostnqn and hostid where they are missing (os-brick's doing)."""
        self._set_up()
        from os_brick.initiator import connector

        settings = self._settings
        multipath = self.use_multipath()
        found = connector.get_connector_properties(
            _ROOT_HELPER, settings.my_ip, multipath, settings.enforce_multipath, host=settings.node
        )
        return within_bounds(_plain(found))

    def connect(
        self, protocol: str, data: Mapping[str, Any], *, multipath: bool, present: bool = False
    ) -> dict[str, Any]:
        """`connect_volume`. Returns ``{"type": "block", "path": …}`` and more. Takes minutes when portals are silent.

        Args:
            present: the device is there already, perhaps in use: only paths are to be added. os-brick, when it fails, removes all
                that belongs to the connection, by force; here it is kept from that.
        """
        if protocol in _TOOLS:
            tools.require(*_TOOLS[protocol])
        if self._settings.temporary_folder is not None:  # somebody may have removed it
            self._settings.temporary_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        extra = {"enforce_multipath": self._settings.enforce_multipath}
        with self._logging_in(protocol, data, multipath):
            connector = self._connector(protocol, data, multipath)
            if present and protocol in _CLEAN_UP:
                _disable(connector, _CLEAN_UP[protocol])
            self._keep_sessions(connector, protocol, data)
            if protocol in ISCSI:
                before = set(sysfs.names(_BLOCK))
                _take_only(connector, lambda name: name not in before)
            return _plain(connector.connect_volume({**copy.deepcopy(dict(data)), **extra}))

    @contextlib.contextmanager
    def _logging_in(self, protocol: str, data: Mapping[str, Any], multipath: bool) -> Iterator[None]:
        """Whatever comes of it, no record of ours says afterwards that the host logs in by itself. With several paths and one
        portal os-brick asks the storage for all its targets, and each gets a record, with open-iscsi's default."""
        if protocol not in ISCSI:
            yield
            return
        iqns, asks = logins.of(data), multipath and "target_portals" not in data
        before = self._logins.targets() if asks else set()
        with self._logins.login(iqns):
            try:
                yield
            finally:
                found = self._logins.targets() - before if asks else set()
                with contextlib.suppress(PortError):  # what went wrong before is the reason to tell
                    self.set_manual_startup({*iqns, *found})

    def _keep_sessions(self, connector: Any, protocol: str, data: Mapping[str, Any]) -> None:
        """Those of the host's own logins outlive our volumes. Only their disks go."""
        if protocol in ISCSI and (own := self._logins.own(logins.of(data))):
            leave = _method(connector, "_disconnect_connection")

            def leave_ours(properties: Any, sessions: Iterable[Any], *rest: Any) -> None:
                leave(properties, [session for session in sessions if tuple(session) not in own], *rest)

            connector._disconnect_connection = leave_ours

    def extend(self, protocol: str, data: Mapping[str, Any], *, multipath: bool) -> None:
        """`extend_volume`: the host looks how big the device is now."""
        if protocol in _ASKS_LSSCSI:
            tools.require("lsscsi", "lsscsi")
        self._connector(protocol, data, multipath).extend_volume(copy.deepcopy(dict(data)))

    def disconnect(
        self,
        protocol: str,
        data: Mapping[str, Any],
        device_info: Mapping[str, Any],
        *,
        devices: Collection[str],
        multipath: bool,
        force: bool,
    ) -> None:
        """`disconnect_volume`. `device_info` must hold a path, or os-brick does not flush. An RBD goes by this path alone.

        `devices` are the volume's: other disks stay, whatever os-brick takes for its own. `force` goes on when a flush fails, and
        reports no error: only for a device whose writes can't land, or must not.
        """
        connector = self._connector(protocol, data, multipath)
        self._keep_sessions(connector, protocol, data)
        if protocol in ISCSI:
            _take_only(connector, lambda name: name in devices)
        path = str(device_info["path"])
        if protocol == "rbd":  # it looks for an image of that name in any pool, of any cluster
            _method(connector, "_find_root_device")
            connector._find_root_device = lambda *_: path
        connector.disconnect_volume(copy.deepcopy(dict(data)), dict(device_info), force=force, ignore_errors=force)
        if protocol in NVME and not Path(path).exists():
            _end_controllers(connector, data)
        if protocol in ISCSI:
            self._logins.left(logins.of(data))

    def lacks_program(self, protocol: str) -> bool:
        """Whether this host has no program to connect with: `connect` refuses then."""
        return protocol in _TOOLS and not tools.find(_TOOLS[protocol][0])

    def use_multipath(self) -> bool:
        """Whether several paths to a SCSI volume can be used: wished, and multipathd answers.

        os-brick says yes without asking, and without multipathd would hand out one path of many as if it were the volume.
        Raises Terminal when multipath is enforced and multipathd does not run.
        """
        if not self._settings.multipath:
            return False
        self._set_up()
        from os_brick.initiator import linuxscsi

        if linuxscsi.LinuxSCSI.is_multipath_running(root_helper=_ROOT_HELPER):
            return True
        if self._settings.enforce_multipath:
            raise Terminal("enforce_multipath is set, but multipathd does not answer: start multipathd on this host")
        _LOG.warning("multipath is wished for, but multipathd does not answer: using one path")
        return False

    # --- shares

    def mount_point(self, export: str) -> Path:
        """Where a share is mounted, or would be: the rule of os-brick's `get_mount_point`, so that looking needs no os-brick."""
        return self._settings.mount_point_base / hashlib.md5(export.encode(), usedforsecurity=False).hexdigest()

    def mount(self, protocol: str, data: Mapping[str, Any]) -> Path:
        """Mount a share, if it is not, and return the volume's file on it."""
        path = Path(self.connect(protocol, data, multipath=False)["path"])
        expected = self.mount_point(str(data["export"]))
        if path.parent != expected:
            raise Terminal(
                f"os-brick mounted the share at {path.parent}, not at {expected}: this version of os-brick is not supported"
            )
        return path

    # --- iSCSI

    def set_manual_startup(self, iqns: Iterable[str]) -> None:
        """Keep the host from logging in by itself after a reboot: a device that no grant explains could write (PROTOCOL R11).

        os-brick has just said the opposite (``node.startup = automatic``). What the host had for itself stays as it was
        (`Logins`). Failure is worth a warning only: at its start a node removes such devices before it publishes its boot.
        """
        for iqn, portal, value in self._logins.after(iqns):
            record = ("iscsiadm", "-m", "node", "-T", iqn, "-p", portal)
            done = tools.run(*record, "--op", "update", "-n", "node.startup", "-v", value)
            if done.returncode != 0:
                _LOG.warning("could not set node.startup of %s to %s: %s", iqn, value, done.stderr.strip())

    # --- set-up

    def _connector(self, protocol: str, data: Mapping[str, Any], multipath: bool) -> Any:
        self._set_up()
        from os_brick.initiator import connector

        # The connection names the controller's mount point base; ours is another host.
        base = {"mount_point_base": str(self._settings.mount_point_base)}
        return connector.InitiatorConnector.factory(
            protocol, _ROOT_HELPER, use_multipath=multipath, conn=base, do_local_attach=True
        )

    def _set_up(self) -> None:
        with self._setting_up:
            if not self._ready:
                _load(self._settings.lock_path)
                self._ready = True


def _load(lock_path: Path) -> None:
    """Set oslo up for this process. The order matters: locks are looked up when os_brick.setup runs."""
    sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]  # importing it now says ImportError, which oslo expects
    from oslo_service import backend  # type: ignore[import-untyped]

    backend.init_backend(backend.BackendType.THREADING)
    import os_brick
    from os_brick import privileged
    from oslo_concurrency import lockutils
    from oslo_config import cfg

    lock_path.mkdir(mode=0o755, parents=True, exist_ok=True)
    cfg.CONF([], project="brickwork", default_config_files=[], default_config_dirs=[])
    lockutils.set_defaults(str(lock_path))
    os_brick.setup(cfg.CONF)
    for context in (privileged.default, privileged.brick_privsep_hide_output):
        context.set_client_mode(False)


def _end_controllers(connector: Any, data: Mapping[str, Any]) -> None:
    """Those of these portals that no other volume needs. Where it finds no device, os-brick leaves them for ever."""
    from os_brick.initiator.connectors.nvmeof import NVMeOFConnProps

    _method(connector, "_try_disconnect_all")(NVMeOFConnProps(copy.deepcopy(dict(data))))


def _take_only(connector: Any, is_ours: Callable[[str], bool]) -> None:
    """Of a connection with one portal, os-brick takes for its own whatever has the same LUN at any target that was ever discovered
    there, if its own target was not among these: with a target for each volume, that is other volumes' disks."""
    look = _method(connector, "_get_connection_devices")

    def ours(*args: Any, **more: Any) -> dict[Any, tuple[set[str], set[str]]]:
        found = look(*args, **more).items()
        return {
            session: ({name for name in mine if is_ours(name)}, others | {name for name in mine if not is_ours(name)})
            for session, (mine, others) in found
        }

    connector._get_connection_devices = ours


def _disable(connector: Any, method: str) -> None:
    """Let one object's method do nothing."""
    _method(connector, method)
    setattr(connector, method, lambda *_, **__: None)


def _method(connector: Any, name: str) -> Any:
    """Raises Terminal when this os-brick has none of that name: it would clean up by another one."""
    if not callable(found := getattr(connector, name, None)):
        raise Terminal(f"this version of os-brick is not supported: {type(connector).__name__} has no {name}")
    return found


def within_bounds(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Connector properties that fit into a key: a host with thousands of addresses (Kubernetes' IPVS puts every service on one)
    tells the first, and how many more it has."""
    told = dict(properties)
    addresses = told.get("host_ips")
    if isinstance(addresses, list) and len(addresses) > ADDRESSES_MAX:
        told |= {"host_ips": addresses[:ADDRESSES_MAX], "host_ips_left_out": len(addresses) - ADDRESSES_MAX}
    return told


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Only what JSON can say: it goes over a pipe and into a file."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(value), default=str))
    return plain
