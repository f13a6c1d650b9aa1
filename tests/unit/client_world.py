"""A world for the tests of `brickctl`: a fake etcd, keys put as their owners would, and commands run on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from click.testing import CliRunner, Result
from pydantic import BaseModel

from client.main import cli
from client.session import Session
from client.settings import Settings
from schema.codec import encode
from schema.keys import VERDICT_OF, Family, Key, Keyspace
from schema.models import (
    Alive,
    AttachmentPhase,
    AttachmentStatus,
    BackendStatus,
    Claim,
    Condition,
    Connection,
    Grant,
    Holder,
    HolderPhase,
    Leader,
    NodeRecord,
    Record,
    Verdict,
    VolumePhase,
    VolumeStatus,
)
from tests.fakes.clock import VirtualClock
from tests.fakes.store import FakeEtcd

KEYS = Keyspace()
INITIATOR = "iqn.2026-11.example:web"


class World:
    """A cluster seen from a user's terminal."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.etcd = FakeEtcd(self.clock)
        self.store = self.etcd.client()
        self.cuts_access = True
        """What the backend says of its array."""
        self.terminal = False
        """Somebody sits there and may be asked."""

    # --- the user

    def run(self, *arguments: str, stdin: str | bytes = "") -> Result:
        """Run `brickctl`."""
        session = Session(Settings(), self.store, self.clock, lambda: self.terminal)
        return CliRunner().invoke(cli, list(arguments), obj=session, input=stdin, prog_name="brickctl")

    def ok(self, *arguments: str, stdin: str = "") -> str:
        """Run `brickctl`, which must succeed; its stdout."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Something that happens while a command runs."""

        def wait() -> None:
            self.clock.sleep(seconds)
            act()

        self.clock.spawn("later", wait)

    def value(self, family: Family, *names: str) -> bytes | None:
        item = self.etcd.get(KEYS.path(family, *names))
        return item.value if item else None

    # --- those who write keys

    def put(self, family: Family, names: tuple[str, ...], value: BaseModel | bytes) -> int:
        data = value if isinstance(value, bytes) else encode(value)
        return self.etcd.put(KEYS.path(family, *names), data)

    def delete(self, family: Family, *names: str) -> None:
        self.etcd.delete(KEYS.path(family, *names))

    def wish(self, node: str = "web-1", volume: str = "data", spec: bytes = b"{}") -> int:
        return self.put(Family.DESIRED_ATTACHMENT, (node, volume), spec)

    def volume(self, name: str = "data", spec: bytes = b'{"backend": "lvm", "size_gib": 10}') -> int:
        return self.put(Family.DESIRED_VOLUME, (name,), spec)

    def stamp(self, seconds_ago: float) -> str:
        when = datetime.fromtimestamp(self.clock.wall() - seconds_ago, UTC)
        return when.strftime("%Y-%m-%dT%H:%M:%SZ")

    def node(self, name: str = "web-1", *, boot: str = "b1", alive: bool = True, **connector: Any) -> None:
        known = {"initiator": f"{INITIATOR}-{name}", "host": name, **connector}
        record = NodeRecord(boot=boot, connector=known, versions={"brickwork": "0.1.0"})
        self.put(Family.NODE, (name,), record)
        if alive:
            self.put(Family.ALIVE, (name,), Alive(boot=boot, since=self.stamp(3600)))

    def backend(self, name: str = "lvm", *, ready: bool = True, message: str = "") -> None:
        reason = "Ready" if ready else "NotReady"
        status = BackendStatus(
            ready=ready,
            reason=reason,
            message=message,
            driver="LVMVolumeDriver",
            protocol="iSCSI",
            capabilities={"cuts_access": self.cuts_access},
            since=self.stamp(600),
        )
        self.put(Family.BACKEND, (name,), status)
        self.put(Family.LEADER, (name,), Leader(identity="ctl-1", host="storage-1", since=self.clock.wall() - 600))

    def held(
        self, phase: str = "ready", node: str = "web-1", volume: str = "data", epoch: int = 7, mode: Any = "rw"
    ) -> None:
        """The controller granted it: both holder lists, the record, and the connection."""
        holder = Holder(
            node=node,
            epoch=epoch,
            boot="b1",
            phase=HolderPhase(phase),
            mode=mode,
            connector={"initiator": INITIATOR, "auth_password": "CANARY-holder"},
        )
        self.available(volume, holder)
        if phase != "exporting":
            conn_info = {"driver_volume_type": "iscsi", "data": {"auth_password": "CANARY-conn"}}
            connection = Connection(uid="u-1", epoch=epoch, boot="b1", phase=HolderPhase(phase), conn_info=conn_info)
            self.put(Family.CONNECTION, (node, volume), connection)

    def available(self, volume: str = "data", *holders: Holder) -> None:
        wish = self.etcd.get(KEYS.path(Family.DESIRED_VOLUME, volume))
        status = VolumeStatus(
            uid="u-1",
            backend="lvm",
            phase=VolumePhase.AVAILABLE,
            since=self.stamp(1200),
            size_gib=10,
            generation=wish.mod_revision if wish else 0,
            holders=holders,
        )
        record = Record(uid="u-1", backend="lvm", size_gib=10, model={"provider_auth": "CHAP CANARY-model CANARY-auth"})
        self.put(Family.VOLUME, (volume,), status)
        self.put(Family.GRANT, (volume,), Grant(uid="u-1", holders=holders))
        self.put(Family.RECORD, (volume,), record)

    def said(self, phase: str, *conditions: Condition, node: str = "web-1", volume: str = "data", **more: Any) -> None:
        """The node claimed it and tells of it."""
        there = phase == "Attached"
        wish = self.etcd.get(KEYS.path(Family.DESIRED_ATTACHMENT, node, volume))
        generation = wish.mod_revision if wish else 0
        given: dict[str, Any] = {
            "connected": there,
            "attached": there,
            "protocol": "iscsi",
            "generation": generation,
            "since": self.stamp(1200),
            **more,
        }
        if there:
            given = {
                "path": f"/dev/brickwork/{volume}",
                "device": "/dev/sdb",
                "identity": "360014051e240ac5d",
                "paths_live": 2,
                "paths_total": 2,
                **given,
            }
        status = AttachmentStatus(
            phase=AttachmentPhase(phase), uid="u-1", epoch=7, boot="b1", conditions=conditions, **given
        )
        self.put(Family.ATTACHMENT, (node, volume), status)
        if phase == "Released":
            self.delete(Family.CLAIM, node, volume)
        else:
            self.put(Family.CLAIM, (node, volume), Claim(uid="u-1", epoch=7, boot="b1"))

    def verdict(
        self, family: Family, names: tuple[str, ...], kind: str, reason: str, message: str, **more: Any
    ) -> None:
        """The controller's answer to the wish as it stands."""
        wish = self.etcd.get(KEYS.path(family, *names))
        generation = wish.mod_revision if wish else 0
        condition = self.condition(kind, reason, message)
        key = Key(VERDICT_OF[family], names)
        self.put(key.family, key.names, Verdict(generation=generation, conditions=(condition,), **more))

    def condition(self, kind: str, reason: str, message: str) -> Condition:
        return Condition(type=kind, status="False", reason=reason, message=message, since=self.stamp(300))

    # --- stories

    def attached(self, node: str = "web-1", volume: str = "data") -> None:
        """A volume that is attached, with everything that belongs to it."""
        self.node(node)
        self.backend()
        self.volume(volume)
        self.wish(node, volume)
        self.held("ready", node, volume)
        self.said("Attached", node=node, volume=volume)
