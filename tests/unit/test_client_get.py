"""`brickctl get` and `describe`: what is shown, in every format; and what never is (A46, A54)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
import yaml

from schema.codec import encode
from schema.keys import Family
from schema.models import (
    BackendStatus,
    FenceStatement,
    Leader,
    NodeRecord,
    Verdict,
)
from tests.unit.client_world import KEYS, World


@pytest.fixture
def world() -> World:
    """web-1 has the volume, web-2 waits for it."""
    world = World()
    world.attached()
    world.node("web-2")
    world.wish("web-2")
    message = "held by web-1 (epoch 7, ready)"
    world.verdict(Family.DESIRED_ATTACHMENT, ("web-2", "data"), "Granted", "HeldBy", message, next_try=world.stamp(-20))
    return world


def test_tables_are_plain(world: World) -> None:
    """Aligned columns, one line a row, no trailing blanks, no colour; times as ages."""
    assert world.ok("get", "attachments") == (
        "NODE   VOLUME  STATE     REASON    SINCE  PATH\n"
        "web-1  data    Attached  Attached  20m    /dev/brickwork/data\n"
        "web-2  data    Pending   HeldBy    5m     -\n"
    )


def test_wide_says_why(world: World) -> None:
    """Every unsettled row names who is waited for, the next try, and the reason in one line."""
    row = world.ok("get", "attachments", "-o", "wide").splitlines()[2]
    assert row.endswith("node web-1  in 20s    held by web-1 (epoch 7, ready)")


def test_a_message_of_several_lines_is_one_row(world: World) -> None:
    """Drivers say what they like."""
    message = "\x1b[31mcannot\nreach\t\x00" + "it " * 200
    world.verdict(Family.DESIRED_ATTACHMENT, ("web-2", "data"), "Granted", "BackendNotReady", message)
    assert len(world.ok("get", "attachments", "-o", "wide").splitlines()) == 3
    for command in (("get", "attachments", "-o", "wide"), ("describe", "volume", "data"), ("explain", "web-2", "data")):
        assert "\x1b" not in world.ok(*command)


def test_other_kinds(world: World) -> None:
    """Volumes, nodes and backends have tables too."""
    assert "data  Available  Available  20m    10   lvm      web-1" in world.ok("get", "volumes")
    assert "web-1  Ready  Ready   60m    1" in world.ok("get", "nodes")
    assert "lvm   Ready  Ready   10m    iSCSI" in world.ok("get", "backends")


def test_json_and_yaml_hold_spec_and_status(world: World) -> None:
    """One object stands alone; several are a list, in YAML documents that can be applied."""
    one = json.loads(world.ok("get", "attachment", "web-1/data", "-o", "json"))
    assert (one["kind"], one["spec"], one["status"]["state"]) == (
        "Attachment",
        {"mode": "rw", "min_paths": 1, "labels": {}},
        "Attached",
    )
    assert one["status"]["conditions"][0]["type"] == "Accepted"
    several = json.loads(world.ok("get", "attachments", "-o", "json"))
    assert [each["node"] for each in several["items"]] == ["web-1", "web-2"]
    documents = list(yaml.safe_load_all(world.ok("get", "attachments", "-o", "yaml")))
    assert documents == several["items"]


def test_names_can_be_used_again(world: World) -> None:
    """What `-o name` prints is taken by get, describe, wait and delete."""
    names = world.ok("get", "attachments", "-o", "name").split()
    assert names == ["attachment/web-1/data", "attachment/web-2/data"]
    assert "web-1" in world.ok("get", names[0])
    assert world.ok("describe", *names).count("Attachment web-") == 2
    assert world.run("delete", *names, "--yes").exit_code == 0


def test_jsonpath(world: World) -> None:
    """Text as it is, the rest as JSON, with or without kubectl's braces; nothing found: exit code 1."""
    path = "jsonpath=.status.path"
    assert world.ok("get", "attachment", "web-1/data", "-o", path) == "/dev/brickwork/data\n"
    assert world.ok("get", "attachments", "-o", "jsonpath={.items[*].status.state}") == "Attached\nPending\n"
    assert (
        world.ok("get", "attachments", "-o", "jsonpath=$.items[?(@.node=='web-2')].spec")
        == '{"mode": "rw", "min_paths": 1, "labels": {}}\n'
    )
    assert world.run("get", "attachment", "web-2/data", "-o", path).exit_code == 1
    assert world.run("get", "attachments", "-o", "jsonpath=.items[").exit_code == 2
    assert "write one of table, wide" in world.run("get", "attachments", "-o", "xml").stderr


def test_attachments_can_be_chosen(world: World) -> None:
    """By node, and by volume."""
    assert world.ok("get", "attachments", "--node", "web-2", "-o", "name") == "attachment/web-2/data\n"
    world.volume("logs")
    assert world.ok("get", "attachments", "--volume", "logs", "-o", "name") == ""
    world.node("web-3")
    assert world.run("get", "attachments", "--node", "web-3").stderr == "no attachments\n"
    assert world.run("get", "volumes", "--node", "web-2").exit_code == 2


def test_what_is_not_there(world: World) -> None:
    """An object: exit code 4 and the nearest name. An empty list is a list."""
    for kind, name, hint in (
        ("volume", "dta", "did you mean data?"),
        ("attachment", "web-1/dat", "did you mean web-1/data?"),
        ("node", "web1", "did you mean web-1?"),
        ("backend", "lvn", "did you mean lvm?"),
    ):
        result = world.run("get", kind, name)
        assert (result.exit_code, hint in result.stderr) == (4, True)
    empty = World().run("get", "volumes")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert empty.stderr.startswith("no volumes\n")


@pytest.mark.parametrize("form", ["table", "json", "name"])
def test_a_typo_is_no_empty_node(world: World, form: str) -> None:
    """F-C8: what no key speaks of is not found, with the nearest name."""
    for option, name, hint in (("--node", "web2", "did you mean web-"), ("--volume", "dta", "did you mean data?")):
        result = world.run("get", "attachments", option, name, "-o", form)
        assert (result.exit_code, hint in result.stderr) == (4, True)


@pytest.mark.parametrize(
    "command",
    [
        ("get", "volumes"),
        ("get", "volume", "data"),
        ("explain", "data"),
        ("wait", "volume", "data", "--for=available"),
        ("delete", "volume", "data"),
        ("cordon", "web-1"),
        ("drain", "web-1"),
        ("attach", "web-1", "data"),
    ],
)
def test_a_prefix_where_nobody_writes_is_told(world: World, command: tuple[str, ...]) -> None:
    """F-C9: a wrong prefix is no empty cluster; where a daemon has ever written, nothing is said."""
    note = "note: no daemon has written anything below /brickwork/v1/: is the prefix right (--prefix)?"
    assert World().run(*command).stderr.count(note) == 1
    assert note not in world.run(*command[:1], "--help").stderr
    world.delete(Family.ATTACHMENT, "web-1", "data")
    assert note not in world.run(*command, "--timeout=0" if command[0] in ("wait", "drain") else "--help").stderr


def test_keys_that_mean_nothing_are_told(world: World) -> None:
    """A key under desired/ with a bad name, and a value that can't be read, are shown, not hidden."""
    world.etcd.put("/brickwork/v1/desired/attachments/web-1/a/b", b"{}")
    world.wish("web-3", "data", b'{"mode": "rx"}')
    result = world.run("get", "attachments", "-o", "wide")
    assert "note: /brickwork/v1/desired/attachments/web-1/a/b means nothing: a key of this family is" in result.stderr
    assert "web-3  data    Failed    Malformed" in result.stdout
    assert "$.mode: must be 'rw' or 'ro'" in result.stdout


def test_a_wish_in_a_family_that_is_none_is_told(world: World) -> None:
    """`desired/volume/x`, a slip of the pen: `get` does not list it, the controller told of it."""
    path = "/brickwork/v1/desired/volume/x"
    verdict = Verdict(generation=1, conditions=(world.condition("Accepted", "UnparsableKey", "no such family"),))
    world.etcd.put(KEYS.verdict_unparsable(path), encode(verdict))
    told = world.run("get", "volumes").stderr
    assert f"note: {path} means nothing: no such family of keys; wishes are desired/volumes/V" in told
    assert f"take it away: etcdctl del {path}" in told


def test_a_backend_without_a_controller_is_not_ready(world: World) -> None:
    """In the list and alone."""
    world.delete(Family.LEADER, "lvm")
    assert "lvm   NotReady  NoController" in world.ok("get", "backends")
    assert "no controller leads it: is one running?" in world.ok("describe", "backend", "lvm")


def test_a_node_that_nobody_knows_has_no_multipath_setting(world: World) -> None:
    """What it never said is not told."""
    world.wish("web-9")
    assert "multipath" not in world.ok("describe", "node", "web-9")


def test_describe_tells_what_stands_around(world: World) -> None:
    """A node's fences and attachments, a volume's attachments, a backend's volumes."""
    statement = FenceStatement(who="ann", why="burnt", evidence="saw it")
    world.put(Family.FENCE, ("web-1", "b0"), statement)
    world.put(Family.FENCED, ("web-1", "b0"), statement)
    text = world.ok("describe", "node", "web-1")
    assert "fenced boot:          b0 by ann: burnt (saw it) (noted by the controller)" in text
    assert "initiator=iqn.2026-11.example:web-web-1" in text
    assert "web-2  data    Pending" in world.ok("describe", "volume", "data")
    assert "data  Available" in world.ok("describe", "backend", "lvm")
    assert "Ready      False   HeldBy        5m     held by web-1" in world.ok("describe", "attachment", "web-2/data")


@pytest.mark.parametrize("position", range(1, 13))
def test_a_row_is_not_doubted_for_being_read_in_pieces(world: World, position: int) -> None:
    """Families are listed one after another; a row that looks doubtful for that is read again, at one revision."""

    def fault(name: str) -> None:
        if name == "list" and world.store.calls["list"] == position:
            world.said("Released")
            world.held("revoked")

    world.store.fault = fault
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")
    row = world.ok("get", "attachments").splitlines()[1]
    assert row.split()[2] in ("Detaching", "Released", "Unexporting")


def test_what_the_roles_hide_is_said(world: World) -> None:
    """A narrower role sees less, and is told so; nothing is called absent for that."""
    world.store.denied = (KEYS.folder(Family.CLAIM),)
    result = world.run("get", "attachments")
    assert "note: your user may not read claims" in result.stderr
    assert "web-1  data    Uncertain" in result.stdout
    assert "Uncertain" in world.ok("get", "attachment", "web-1/data")


def test_a_stranger_sees_an_error_not_an_empty_list(world: World) -> None:
    """A wrong password must not look like an empty cluster."""
    world.store.denied = ("/",)
    for command in (("get", "volumes"), ("get", "volume", "data"), ("explain", "data")):
        assert world.run(*command).exit_code == 6


def test_a_store_that_is_away(world: World) -> None:
    """Exit code 6, with the store's own words."""
    world.store.down = True
    result = world.run("get", "attachments")
    assert (result.exit_code, result.stderr) == (6, "Error: etcd is down\n")


KINDS = ("attachments", "volumes", "nodes", "backends")
FORMS = ("wide", "json", "yaml", "jsonpath=$..*")
COMMANDS = [
    *(("get", kind, "-o", form) for kind in KINDS for form in FORMS),
    ("get", "attachment", "web-1/data", "-o", "yaml"),
    ("describe", "attachment", "web-1/data"),
    ("describe", "volume", "data"),
    ("describe", "node", "web-1"),
    ("describe", "backend", "lvm"),
    ("explain", "data"),
    ("explain", "web-1", "data"),
    ("wait", "attachment", "web-1/data", "--for=attached"),
    ("detach", "web-1", "data"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_secret_is_ever_shown(world: World, command: tuple[str, ...]) -> None:
    """conn_info, drivers' data, connectors and whatever a driver reports may hold secrets: canaries in all of them (A46)."""
    world.node("web-1", auth_password="CANARY-connector", nested={"password": "CANARY-nested"}, wwpns=["50"])
    capacity = {"free_capacity_gb": 7, "san_password": "CANARY-capacity"}
    capabilities = {"extend": True, "secret": "CANARY-capability"}
    status = BackendStatus(ready=True, driver="d", capacity=capacity, capabilities=capabilities)
    world.put(Family.BACKEND, ("lvm",), status)
    world.put(Family.LEADER, ("lvm",), Leader(identity="ctl-1", host="storage-1"))
    for family in (Family.CONNECTION, Family.RECORD, Family.GRANT):
        names = ("web-3", "data") if family is Family.CONNECTION else ("other",)
        world.put(family, names, b'{"uid": 1, "conn_info": "CANARY-malformed", "CANARY-field": "CANARY-value"}')
    result = world.run(*command)
    assert result.exit_code == 0, result.output
    assert "CANARY" not in result.output


def test_a_nodes_record_is_kept_for_the_identifiers(world: World) -> None:
    """What storage knows a host by is shown; lists too."""
    world.put(
        Family.NODE, ("web-1",), NodeRecord(boot="b1", connector={"wwpns": ["50", "51"], "nqn": "", "ip": "10.0.0.1"})
    )
    assert "connector:            ip=10.0.0.1, wwpns=50, 51" in world.ok("describe", "node", "web-1")


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_a_row_is_one_line_on_a_terminal_too(world: World, columns: int) -> None:
    """F-C6: however narrow, nothing is folded or cut: a path that is copied is whole."""
    path = "/dev/brickwork/" + "long-" * 12 + "name"
    world.said("Attached", path=path)
    answer = on_a_terminal(columns, ["NAME", "PATH"], [["data", path], ["Attached", "because " * 20]])
    lines = answer.splitlines()
    assert len(lines) == 3
    assert path in lines[1]
    assert lines[2].count("because") == 20
    assert "\x1b[32mAttached" in lines[2]


def on_a_terminal(columns: int, heads: list[str], rows: list[list[str]]) -> str:
    """What a terminal of that width is sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    program = f"from client.output import print_table\nprint_table({heads!r}, {rows!r})"
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    subprocess.run([sys.executable, "-c", program], stdout=theirs, stderr=theirs, env=environment, check=True)
    os.close(theirs)
    answer = b""
    with contextlib.suppress(OSError):  # the end of it
        while more := os.read(ours, 65536):
            answer += more
    os.close(ours)
    return answer.decode()
