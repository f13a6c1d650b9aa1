"""etcd's roles as `deploy/etcd-roles.sh` makes them: every family of keys has the readers and the writer it should have (A48)."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons.fence_agent import WATCHED
from reconciler.adapters.etcd.embedded import find_binary
from reconciler.adapters.etcd.store import EtcdStore
from reconciler.runtime.ports import Compare, Delete, Denied, Put
from schema.keys import FENCE_AGENT, Family, Keyspace, Writer
from tests.integration.etcd_fixture import STATE, Server, Start

pytestmark = pytest.mark.etcd

SCRIPT = Path(__file__).parents[2] / "deploy" / "etcd-roles.sh"
KEYS = Keyspace()
PASSWORD = "correct-horse"
OWN, FOREIGN = "web-1", "web-10"
"""The second one's keys begin with the first one's."""

NODE_READS = {
    Family.DESIRED_ATTACHMENT, Family.DESIRED_NODE, Family.CONNECTION, Family.FENCE,
    Family.CLAIM, Family.ATTACHMENT, Family.NODE, Family.ALIVE,
}  # fmt: skip
SECRET = {Family.CONNECTION, Family.RECORD}


def run(server: Server, *arguments: str, user: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "ETCDCTL": str(find_binary("etcdctl", STATE)),
        "ETCDCTL_ENDPOINTS": server.endpoint,
    }
    if user:
        environment["ETCDCTL_USER"] = user
    return subprocess.run([str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, check=False)


def make(server: Server, *arguments: str, user: str = "") -> str:
    done = run(server, *arguments, user=user)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An etcd with all roles, and authentication on."""
    password = tmp_path_factory.mktemp("password") / "password"
    password.write_text(PASSWORD + "\n")
    with Server(tmp_path_factory.mktemp("etcd")) as server:
        for role in ("controller", f"node {OWN}", f"node {FOREIGN}", "user", "operator", "fence-agent"):
            make(server, *role.split(), "--password-file", str(password))
        for line in ("user add root:r", "role add root", "user grant-role root root", "auth enable"):
            server.ctl(*line.split())
        yield server


def as_user(server: Server, user: str) -> EtcdStore:
    return server.open(user=user, password=PASSWORD)


@pytest.fixture(scope="module", params=["controller", f"node-{OWN}", "user", "operator", "fence-agent"])
def role(request: pytest.FixtureRequest, guarded: Server) -> Iterator[tuple[str, EtcdStore]]:
    with as_user(guarded, f"brickwork-{request.param}") as store:
        yield request.param, store


def path(family: Family, node: str) -> str:
    sample = {"node": node, "volume": "data", "boot": "b1", "backend": "lvm", "encoded": "x"}
    return KEYS.path(family, *(sample[name] for name in family.names))


def may_read(role: str, family: Family, node: str) -> bool:
    match role:
        case "controller":
            return True
        case "user" | "operator":
            return family not in SECRET
        case "fence-agent":
            return family in WATCHED
    return family in NODE_READS and node == OWN


def may_write(role: str, family: Family, node: str) -> bool:
    match role:
        case "controller":
            return family.writer is Writer.CONTROLLER
        case "user":
            return family.writer is Writer.USER
        case "operator":
            forgets = (Family.NODE, Family.BACKEND, Family.STORAGE)
            return family.writer in (Writer.USER, Writer.OPERATOR) or family in forgets
        case "fence-agent":
            return family.writer is Writer.OPERATOR
    return family.writer is Writer.NODE and node == OWN


@pytest.mark.parametrize("node", [OWN, FOREIGN])
@pytest.mark.parametrize("family", Family, ids=lambda family: family.name.lower())
def test_every_family_is_read_and_written_by_whom_it_should_be(
    role: tuple[str, EtcdStore], family: Family, node: str
) -> None:
    name, store = role
    key = path(family, node)
    reads = (lambda: store.get(key), lambda: store.txn([Compare(key, mod_revision=0)]))
    writes = (lambda: store.txn([], [Put(key, b"{}")]), lambda: store.txn([], [Delete(key)]))
    for attempts, allowed in ((reads, may_read(name, family, node)), (writes, may_write(name, family, node))):
        for attempt in attempts:
            if allowed:
                attempt()
            else:
                with pytest.raises(Denied):
                    attempt()


def test_a_node_lists_and_watches_all_that_it_needs_and_nothing_around_it(guarded: Server) -> None:
    folders = [family for family in NODE_READS if family.names[1:]]
    with guarded.open(user="root", password="r") as root:
        before = root.list(KEYS.prefix).revision
        root.txn([], [Put(path(family, node), b"{}") for family in folders for node in (OWN, FOREIGN)])
    with as_user(guarded, f"brickwork-node-{OWN}") as store:
        for family in folders:
            own = KEYS.folder(family, OWN)
            assert [item.key for item in store.list(own).items] == [path(family, OWN)]
            batch = next(store.watch(own, before, threading.Event()))
            assert [event.key for event in batch.events] == [path(family, OWN)]
            for around in (KEYS.folder(family, FOREIGN), KEYS.folder(family), KEYS.prefix, "/"):
                with pytest.raises(Denied):
                    store.list(around)
                with pytest.raises(Denied):
                    next(store.watch(around, before, threading.Event()))


def test_a_node_keeps_its_heartbeat_on_a_lease(guarded: Server) -> None:
    with as_user(guarded, f"brickwork-node-{OWN}") as store:
        lease = store.grant_lease(5)
        assert store.txn([], [Put(path(Family.ALIVE, OWN), b"{}", lease)]).succeeded
        assert store.keep_lease(lease) > 0
        store.revoke_lease(lease)
        assert store.get(path(Family.ALIVE, OWN)) is None


def test_the_controller_and_the_user_list_everything_that_is_theirs(guarded: Server) -> None:
    with as_user(guarded, "brickwork-controller") as store:
        store.list(KEYS.prefix)
    with as_user(guarded, "brickwork-user") as store:
        store.list(f"{KEYS.prefix}desired/")
        with pytest.raises(Denied):
            store.list(KEYS.prefix)


def test_a_fence_agent_lists_all_that_it_watches_and_stands_for_election(guarded: Server) -> None:
    leader = KEYS.path(Family.LEADER, FENCE_AGENT)
    with as_user(guarded, "brickwork-fence-agent") as store:
        for family in WATCHED:
            store.list(KEYS.folder(family))
        for key in (leader, f"{leader}/resigned"):
            assert store.txn([Compare(key, mod_revision=0)], [Put(key, b"{}", store.grant_lease(5))]).succeeded


def test_running_it_again_changes_nothing_and_takes_away_what_is_too_much(guarded: Server) -> None:
    credentials = {"ETCDCTL_USER": "root:r"}
    role = f"brickwork-node-{OWN}"
    before = guarded.ctl("role", "get", role, **credentials)
    for extra in (
        ["--prefix", role, "readwrite", "/brickwork/v1/claims/"],
        [role, "read", "/a"],
        [role, "write", "/b", "/c"],
    ):
        guarded.ctl("role", "grant-permission", *extra, **credentials)
    guarded.ctl("role", "grant-permission", role, "readwrite", f"/brickwork/v1/desired/nodes/{OWN}", **credentials)
    assert guarded.ctl("role", "get", role, **credentials) != before
    assert make(guarded, "node", OWN, user="root:r") == f"{role}: user {role}\n"
    assert guarded.ctl("role", "get", role, **credentials) == before
    make(guarded, "node", OWN, user="root:r")
    assert guarded.ctl("role", "get", role, **credentials) == before


def test_another_prefix_and_user_and_no_password(guarded: Server) -> None:
    arguments = ["--prefix", "/other/", "--user", "web-7.example", "node", "web-7"]
    assert make(guarded, *arguments, user="root:r") == "brickwork-node-web-7: user web-7.example\n"
    shown = guarded.ctl("role", "get", "brickwork-node-web-7", ETCDCTL_USER="root:r")
    assert "/other/nodes/web-7" in shown
    assert "/brickwork/" not in shown
    assert "brickwork-node-web-7" in guarded.ctl("user", "get", "web-7.example", ETCDCTL_USER="root:r")


@pytest.mark.parametrize(
    "arguments",
    ["", "nobody", "node", "node a/b", "node a b", "controller c1", "--prefix x controller", "--user", "-x controller"],
)
def test_wrong_arguments_are_told_and_change_nothing(guarded: Server, arguments: str) -> None:
    before = guarded.ctl("role", "list", ETCDCTL_USER="root:r")
    done = run(guarded, *arguments.split(), user="root:r")
    assert done.returncode == 2
    assert "etcd-roles" in done.stderr
    assert guarded.ctl("role", "list", ETCDCTL_USER="root:r") == before


def test_without_the_right_to_do_so_nothing_is_changed_and_the_exit_code_says_so(guarded: Server) -> None:
    done = run(guarded, "node", "web-9", user=f"brickwork-node-{OWN}:{PASSWORD}")
    assert done.returncode not in (0, 2)
    assert "permission denied" in done.stderr


def test_an_etcd_that_does_not_answer_ends_it(start_etcd: Start) -> None:
    """F-B14: it waited for ever."""
    server = start_etcd()
    os.kill(server.pid, signal.SIGSTOP)
    environment = {
        "PATH": os.environ["PATH"],
        "ETCDCTL": str(find_binary("etcdctl", STATE)),
        "ETCD_ROLES_ANSWER_S": "1",
    }
    environment["ETCDCTL_ENDPOINTS"] = server.endpoint
    done = subprocess.run(
        [SCRIPT, "controller"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode not in (0, 2)
    assert f"no answer within 1 s from {server.endpoint}" in done.stderr
