"""`brickctl` as installed, against a real etcd: what the fake can't prove."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from client.main import cli
from client.session import Session
from client.settings import Settings
from reconciler.adapters.etcd.embedded import find_binary
from reconciler.adapters.etcd.store import EtcdStore
from reconciler.runtime.ports import Batch, Put, Stop
from schema.codec import encode
from schema.keys import Family, Keyspace
from schema.models import (
    Alive,
    AttachmentPhase,
    AttachmentStatus,
    Claim,
    Grant,
    Holder,
    HolderPhase,
    NodeRecord,
    VolumePhase,
    VolumeStatus,
)
from tests.integration.etcd_fixture import DEADLINE_S, STATE, Server

pytestmark = pytest.mark.etcd

ROLES = Path(__file__).parents[2] / "deploy" / "etcd-roles.sh"

MANIFEST = (
    "kind: Volume\nname: data\nspec: {backend: lvm, size_gib: 10}\n---\nkind: Attachment\nnode: web-1\nvolume: data\n"
)


class Terminal:
    """Runs the program in a process of its own."""

    def __init__(self, server: Server, prefix: str, home: Path) -> None:
        self.server, self.prefix, self.home = server, prefix, home

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            "PATH": os.environ["PATH"],
            "XDG_CONFIG_HOME": str(self.home),
            "BRICKWORK_ENDPOINTS": self.server.endpoint,
            "BRICKWORK_PREFIX": self.prefix,
            **environment,
        }
        command = [sys.executable, "-m", "client.main", *arguments]
        return subprocess.run(
            command, input=stdin, env=given, capture_output=True, text=True, check=False, timeout=DEADLINE_S
        )

    def ok(self, *arguments: str, **more: Any) -> str:
        done = self.run(*arguments, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def terminal(etcd: Server, prefix: str, tmp_path: Path) -> Terminal:
    return Terminal(etcd, prefix, tmp_path)


def test_wishes_from_manifest_and_etcdctl_are_one(terminal: Terminal, etcd: Server, prefix: str) -> None:
    """A1: the same spec and hash, whoever wrote it; apply finds nothing to change."""
    terminal.ok("apply", "-f", "-", stdin=MANIFEST)
    applied = json.loads(terminal.ok("get", "volume", "data", "-o", "json"))
    etcd.ctl("put", f"{prefix}desired/volumes/data", '{"size_gib": 10, "on_delete": "retain", "backend": "lvm"}')
    by_hand = json.loads(terminal.ok("get", "volume", "data", "-o", "json"))
    assert applied["spec"] == by_hand["spec"]
    assert applied["status"]["spec_hash"] == by_hand["status"]["spec_hash"]
    assert terminal.ok("apply", "-f", "-", stdin=MANIFEST) == "volume/data unchanged\nattachment/web-1/data unchanged\n"
    etcd.ctl("put", f"{prefix}desired/attachments/web-2/data", "{}")
    assert "web-2  data    Pending" in terminal.ok("get", "attachments")


def test_a_round_of_everything(terminal: Terminal, store: EtcdStore, prefix: str) -> None:
    """attach, get, describe, explain, wait, detach, delete: on real transactions and lists."""
    terminal.ok("apply", "-f", "-", stdin=MANIFEST)
    put_attached(store, Keyspace(prefix))
    assert terminal.ok("wait", "attachment/web-1/data", "--for=attached") == "attachment/web-1/data attached\n"
    path = terminal.ok("get", "attachment", "web-1/data", "-o", "jsonpath=.status.path")
    assert path == "/dev/brickwork/data\n"
    assert "nothing: settled" in terminal.ok("explain", "web-1", "data")
    assert "Attached" in terminal.ok("describe", "attachment", "web-1/data")
    assert terminal.ok("detach", "web-1", "data") == "attachment/web-1/data deleted\n"
    still = terminal.run("wait", "attachment/web-1/data", "--for=detached", "--timeout", "0.2s")
    assert (still.returncode, "is Detaching, not detached" in still.stderr) == (5, True)
    assert "its data is retained" in terminal.run("delete", "volume", "data").stderr
    assert terminal.run("get", "volume", "logs").returncode == 4


def put_attached(store: EtcdStore, keys: Keyspace, phase: str = "Attached") -> None:
    """What the daemons write."""
    holder = Holder(node="web-1", epoch=7, boot="b1", phase=HolderPhase.READY)
    there = phase == "Attached"
    status = AttachmentStatus(
        phase=AttachmentPhase(phase),
        uid="u",
        epoch=7,
        boot="b1",
        connected=there,
        attached=there,
        path="/dev/brickwork/data",
    )
    volume = VolumeStatus(uid="u", backend="lvm", phase=VolumePhase.AVAILABLE, size_gib=10, holders=(holder,))
    values = {
        keys.path(Family.NODE, "web-1"): NodeRecord(boot="b1", connector={}),
        keys.path(Family.ALIVE, "web-1"): Alive(boot="b1", since=""),
        keys.path(Family.VOLUME, "data"): volume,
        keys.path(Family.GRANT, "data"): Grant(uid="u", holders=(holder,)),
        keys.path(Family.CLAIM, "web-1", "data"): Claim(uid="u", epoch=7, boot="b1"),
        keys.path(Family.ATTACHMENT, "web-1", "data"): status,
    }
    store.txn([], [Put(key, encode(value)) for key, value in values.items()])


class Telling:
    """A store that tells when a watch is asked for."""

    def __init__(self, store: EtcdStore) -> None:
        self.get, self.list, self.txn = store.get, store.list, store.txn
        self.past, self.history = store.past, store.history
        self.grant_lease, self.keep_lease, self.revoke_lease = store.grant_lease, store.keep_lease, store.revoke_lease
        self.asked = threading.Event()
        self._store = store

    def watch(self, prefix: str, after_revision: int, stop: Stop) -> Iterator[Batch]:
        self.asked.set()
        return self._store.watch(prefix, after_revision, stop)


def test_wait_is_woken_by_the_watch(etcd: Server, prefix: str) -> None:
    """The change ends the wait; before it nothing is asked."""
    keys = Keyspace(prefix)
    with etcd.open() as store:
        store.txn([], [Put(keys.path(Family.DESIRED_ATTACHMENT, "web-1", "data"), b"{}")])
        put_attached(store, keys, "Attaching")
        telling = Telling(store)
        done: list[Any] = []

        def wait() -> None:
            session = Session(Settings(prefix=prefix), telling)
            arguments = ["wait", "attachment", "web-1/data", "--for=attached", "--timeout", f"{DEADLINE_S}s"]
            done.append(CliRunner().invoke(cli, arguments, obj=session))

        thread = threading.Thread(target=wait)
        thread.start()
        assert telling.asked.wait(DEADLINE_S)
        put_attached(store, keys)
        thread.join(DEADLINE_S)
        assert done[0].exit_code == 0, done[0].output


def guarded(start_etcd: Callable[..., Server], folder: Path, *roles: str) -> tuple[Server, Path]:
    """An etcd with authentication and these roles; the file with everybody's password."""
    server = start_etcd()
    password = folder / "password"
    password.touch(0o600)
    password.write_text("s3cret\n")
    etcdctl = find_binary("etcdctl", STATE)
    environment = {"PATH": os.environ["PATH"], "ETCDCTL": str(etcdctl), "ETCDCTL_ENDPOINTS": server.endpoint}
    for role in roles:
        arguments = ["--password-file", str(password), *role.split()]
        subprocess.run([ROLES, *arguments], env=environment, check=True, capture_output=True, timeout=DEADLINE_S)
    server.ctl("user", "add", "root:root")
    server.ctl("user", "grant-role", "root", "root")
    server.ctl("auth", "enable")
    return server, password


def test_passwords_and_the_users_role(start_etcd: Callable[..., Server], tmp_path: Path) -> None:
    """The role that deploy/etcd-roles.sh makes for people is enough for every command, and hides what is secret (A48)."""
    server, password = guarded(start_etcd, tmp_path, "--user ann user")
    terminal = Terminal(server, "/brickwork/v1/", tmp_path)
    ann = {"BRICKWORK_USER": "ann", "BRICKWORK_PASSWORD_FILE": str(password)}
    terminal.ok("apply", "-f", "-", stdin=MANIFEST, **ann)
    assert "Pending" in terminal.ok("get", "attachments", **ann)
    assert "note:" not in terminal.run("get", "nodes", **ann).stderr
    assert "your user may not read connections, records" in terminal.ok("explain", "data", **ann)
    assert terminal.run("wait", "volume", "data", "--for=available", "--timeout", "0.2s", **ann).returncode == 5
    assert terminal.run("describe", "volume", "data", **ann).returncode == 0
    terminal.ok("detach", "web-1", "data", **ann)
    terminal.ok("delete", "volume", "data", **ann)
    strangers = [{"BRICKWORK_USER": "ann", "BRICKWORK_PASSWORD": "gu3ss"}, {}]
    for stranger in strangers:
        refused = terminal.run("get", "volumes", **stranger)
        assert (refused.returncode, refused.stdout, "gu3ss" in refused.stderr) == (6, "", False), refused.stderr


def test_doctor_asks_as_the_node_and_what_a_node_may_not_read_as_the_user(
    start_etcd: Callable[..., Server], tmp_path: Path
) -> None:
    """With the daemon's own log-in; other nodes' names are seen with a user's rights only, and nobody's are guessed."""
    server, password = guarded(start_etcd, tmp_path, "node web-1", "--user ann user")
    etcd = {"endpoints": [server.endpoint], "user": "brickwork-node-web-1", "password_file": str(password)}
    settings = {"node": "web-1", "etcd": etcd, "state_folder": str(tmp_path), "run_folder": str(tmp_path)}
    config = tmp_path / "node.yaml"
    config.write_text(json.dumps(settings))
    terminal = Terminal(server, "/brickwork/v1/", tmp_path)

    def severities(**environment: str) -> dict[str, str]:
        done = terminal.run(
            "doctor", "--config", str(config), "--protocol", "iscsi", "-o", "json",
            **environment,
        )  # fmt: skip
        assert "s3cret" not in done.stdout + done.stderr
        return {each["id"]: each["severity"] for each in json.loads(done.stdout)["findings"]}

    as_node = severities()
    assert (as_node["settings"], as_node["etcd"], as_node["node-clash"]) == ("ok", "ok", "ok")
    assert as_node["iscsi-initiator-shared"] == "unknown"
    as_both = severities(BRICKWORK_USER="ann", BRICKWORK_PASSWORD_FILE=str(password))
    assert (as_both["etcd"], as_both["iscsi-initiator-shared"]) == ("ok", "ok")
    config.write_text(json.dumps(settings | {"etcd": etcd | {"user": "nobody"}}))
    assert severities()["etcd"] == "error"
