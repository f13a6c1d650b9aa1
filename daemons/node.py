"""`brickwork-node`: keeps the volumes that belong on this host attached to it. Wiring only.

reflectors ──▶ cache ──▶ queue ──▶ NodeReconciler ──▶ store, and os-brick in its worker
(one for each prefix that this node may read)
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import structlog

from daemons import identity
from daemons.assembly import STOP_BOUND_S, Assembly
from daemons.commandline import settings_from
from daemons.host_identity import KeptIdentity, identity_of
from daemons.process import Exit, Refused, keep_to_itself, run
from daemons.settings import NodeSettings
from daemons.shell import Shell
from reconciler.adapters.brick.connector import BrickConnector
from reconciler.adapters.brick.loop import check_rights
from reconciler.adapters.child import level_of
from reconciler.adapters.notes import FileNotes
from reconciler.controllers.host import Host
from reconciler.controllers.node import NODE_KEY, NodeReconciler
from reconciler.controllers.sign_of_life import RETRY_S, SignOfLife
from reconciler.runtime.controller import After, Controller, Result
from reconciler.runtime.lease import LeaseSession
from reconciler.runtime.ports import Boot, Connector, HostIdentity, Notes, PortError
from schema.codec import Malformed
from schema.keys import Family, Key
from schema.models import NodeRecord

PROGRAM = "brickwork-node"
CALLS = ("connect", "disconnect", "inspect")
PROPERTIES_RETRY_S = 5.0

_FOLDERS = (Family.DESIRED_ATTACHMENT, Family.CONNECTION, Family.CLAIM, Family.ATTACHMENT, Family.FENCE)
"""What a node watches below its own name; besides, `desired/nodes/N` and `nodes/N`."""

_log = structlog.get_logger("brickwork")


class RunBoot:
    """`ports.Boot`: the id of this boot, kept in the run folder."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder
        self._kernel = identity.kernel_boot_id()
        self._current = identity.boot_id(run_folder, self._kernel)

    def current(self) -> str:
        return self._current

    def mint(self) -> str:
        self._current = identity.mint(self._folder, self._kernel)
        return self._current


@dataclass(frozen=True)
class ThisHost:
    """The ports on the host that a node daemon works on."""

    boot: Boot
    notes: Notes
    connector: Connector
    identity: HostIdentity


class NodeDaemon:
    """One node process.

    Args:
        shell: made with `CALLS`.
        node: this node's id.

    Raises PortError when the notes can't be read.
    """

    def __init__(self, settings: NodeSettings, shell: Assembly, node: str, this: ThisHost) -> None:
        self._settings = settings
        self._shell = shell
        self._node = node
        self._boot = this.boot
        self._identity = this.identity
        self._connector = this.connector
        self._host = Host(node, this.notes)
        self._properties: dict[str, object] = {}
        keyspace = shell.keyspace
        prefixes = [keyspace.folder(family, self._node) for family in _FOLDERS]
        prefixes += [keyspace.path(family, self._node) for family in (Family.DESIRED_NODE, Family.NODE)]
        self._reflectors = [shell.reflect(prefix) for prefix in prefixes]
        self._session = LeaseSession(
            shell.store, shell.clock, shell.rng, ttl_s=settings.lease_ttl_s, report=shell.reporter("lease")
        )
        shell.telemetry.watch_lease("node", lambda: self._session.age_s)
        self._life = SignOfLife(
            shell.store,
            self._session,
            shell.clock,
            keyspace.path(Family.ALIVE, self._node),
            self._boot.current,
            lambda: str(self._properties.get("host", "")),
            denied=self._not_the_node,
            duplicate=lambda why: _log.critical("another host is this node", why=why),
        )
        shell.needs_lease(self._session)
        shell.hindrances["node"] = lambda: self._life.fault
        shell.hindrances["keys and notes"] = lambda: "; ".join(self._reconciler.unreadable())
        self._unreadable: set[str] = set()
        self._working = shell.clock.signal()
        self._unseen: set[str] | None = None
        """What has not been looked at since the start; None: not known yet."""
        shell.working.append(self._working)
        starting = "it has not looked at its host yet, or has not published its boot"
        shell.hindrances["boot"] = lambda: "" if self._working.is_set() else starting
        self._reconciler = NodeReconciler(
            node=self._node,
            store=shell.store,
            cache=shell.cache,
            keyspace=keyspace,
            clock=shell.clock,
            connector=self._connector,
            host=self._host,
            boot=self._boot,
            this=self._identity,
            record=self._record,
            enqueue=shell.queue.add,
            failpoint=shell.failpoint,
            observe_step=shell.observe_step,
            mass=shell.asking(settings.mass_detach.rule),
            tell_paused=self._tell_paused,
            tell_device=self._tell_device,
        )
        shell.telemetry.watch_paused("detaches", self._reconciler.paused)
        shell.cache.subscribe(keyspace.prefix, self._changed)

    def serve(self) -> Exit:
        shell = self._shell
        controller = Controller(
            "attachments",
            shell.queue,
            self._reconcile,
            shell.clock,
            workers=self._settings.workers,
            needs=tuple(reflector.synced for reflector in self._reflectors),
            observe=shell.telemetry.observer("attachments"),
            failed=self._reconciler.failed,
        )
        shell.at_stop(lambda: self._session.close(STOP_BOUND_S))
        shell.at_stop(self._connector.kill)
        shell.at_stop(self._life.stop)
        shell.at_stop(lambda: controller.stop(STOP_BOUND_S))
        shell.clock.spawn("start", lambda: self._begin(controller))
        return shell.serve(PROGRAM, self._everything)

    def _begin(self, controller: Controller) -> None:
        """First what this host is called by storage; then everything that left a trace is looked at."""
        while not self._properties:
            try:
                self._properties = dict(self._connector.properties())
            except PortError as error:
                _log.error("os-brick can't tell this host's connector properties", error=str(error))
                self._shell.clock.sleep(PROPERTIES_RETRY_S)
        for reflector in self._reflectors:
            reflector.synced.wait()  # which host is the node stands in `nodes/N`
        self._session.start()
        self._shell.clock.spawn("sign of life", self._life.run)
        self._life.decided.wait()  # a copy of another host must not act as the node that it is a copy of
        unseen = self._reconciler.volumes()
        self._unseen = set(unseen)
        self._everything()
        for volume in unseen:
            self._shell.queue.add(volume)
        controller.start()

    def _reconcile(self, key: str) -> Result:
        """Nothing while another host lives as this node; and where `nodes/N` names another, its planner wants hardly anything."""
        waits = not self._life.given.is_set() or bool(self._life.fault)
        if waits and not self._reconciler.not_the_node():
            return After(RETRY_S)
        try:
            return self._reconciler.reconcile(key)
        finally:
            self._note_seen(key)

    def _not_the_node(self) -> str:
        return self._reconciler.not_the_node()

    def _note_seen(self, key: str) -> None:
        """Told to systemd: units that wait for us want what is attached in *this* boot. All devices were looked at, or tried to."""
        if self._unseen is not None and not self._working.is_set():
            self._unseen.discard(key)
            if not self._unseen and self._reconciler.published:
                self._working.set()

    def _record(self) -> NodeRecord:
        return NodeRecord(
            boot=self._boot.current(),
            host_identity=self._identity.identity(),
            connector=self._properties,
            multipath=self._settings.multipath,
            versions={"brickwork": version("brickwork"), "os-brick": version("os-brick")},
        )

    def _changed(self, path: str) -> None:
        key = self._shell.keyspace.parse(path)
        if not isinstance(key, Key):
            return
        odd = self._is_unreadable(path)
        if key.family is Family.ATTACHMENT and self._shell.cache.get(path) is not None and not odd:
            return  # our own words: acting on them at once would undo the back-off that they tell of
        if key.volume is not None:
            self._shell.queue.add(key.volume)
        elif key.family in (Family.NODE, Family.FENCE, Family.DESIRED_NODE):
            self._everything()
            self._life.look()

    def _is_unreadable(self, path: str) -> bool:
        """Whether the key can't be read, or could not before. Told once."""
        item = self._shell.cache.get(path)
        fault = self._shell.cache.decoded(item) if item is not None else None
        before = path in self._unreadable
        if isinstance(fault, Malformed):
            self._unreadable.add(path)
            if not before:
                _log.error("a key can't be read; its volume stays as it is", key=path, why=str(fault))
        else:
            self._unreadable.discard(path)
        return before or isinstance(fault, Malformed)

    def _tell_paused(self, volume: str, why: str) -> None:
        if why:
            _log.error("its wish is gone, and it stays", volume=volume, why=why)
        else:
            _log.info("no longer held for want of a wish", volume=volume)

    def _tell_device(self, volume: str, seen: str, well: bool) -> None:
        (_log.info if well else _log.warning)("its device is not as it was", volume=volume, seen=seen)

    def _everything(self) -> None:
        self._shell.queue.add(NODE_KEY)
        for volume in self._reconciler.volumes():
            self._shell.queue.add(volume)


def start(settings: NodeSettings) -> NodeDaemon:
    """The daemon on this machine: real store, real clock, os-brick in a worker. Raises Refused."""
    shell = Shell(settings, CALLS)
    node = identity.node_id(settings.state_folder, settings.node, socket.gethostname())
    boot = RunBoot(settings.run_folder)
    kept = KeptIdentity(settings.state_folder, node, identity_of(settings.host_identity), boot.current())
    connector_settings = settings.connector_settings(node)
    for name in ("lock_path", "link_folder", "mount_link_folder", "mount_point_base"):
        if (folder := getattr(settings, name)) is not None:
            identity.trusted_folder(name, folder)
    if connector_settings.temporary_folder is not None:
        identity.private_folder(connector_settings.temporary_folder)
    try:
        check_rights()
        connector = BrickConnector(
            connector_settings, log=lambda line: _log.log(level_of(line), line, worker="os-brick")
        )
        this = ThisHost(boot, FileNotes(settings.state_folder / "notes"), connector, kept)
        return NodeDaemon(settings, shell, node, this)
    except PortError as error:
        raise Refused(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script."""
    keep_to_itself()
    settings = settings_from("node", sys.argv[1:] if arguments is None else arguments, os.environ)
    return run(PROGRAM, lambda: start(settings).serve())


if __name__ == "__main__":
    raise SystemExit(main())
