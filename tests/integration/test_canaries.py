"""Some twenty secrets, a driver that says all of them in every way, and a look wherever somebody could read them.

F-K1, F-K2, F-K3. Two families of keys hold them in clear until they are sealed: `connections/` (conn_info) and `records/`
(drivers' own data). Nodes and controllers alone may read these (deploy/etcd-roles.sh). The command lines of iscsiadm and
cinder-rtstool (F-K4) are not run here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schema.keys import Family, Keyspace
from tests.integration import fleets
from tools.fleet import VENV, Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root]

SEED = "c4nary7d1e"
ODD = """pä%ss "wör'd & <x> \\n$(y) 雪"""
PASSWORDS = {
    name: f"{SEED}-{name}" for name in ("option", "phrase's \"$x", ODD, "file", "in-url", "in-options", "etcd")
}
WORD = "volume"
"""A password that is an ordinary word: it is hidden wherever a driver says it, and nothing else suffers."""
CLEAR = (Family.CONNECTION, Family.RECORD)
STORED = ("admin", "chap", "mutual", "auth", "discovery", "ring", "nfs")
"""Canaries of drivers' data and conn_info, which etcd holds in these families until they are sealed."""
ENCODED = ("YzRuYXJ5N2Qx", "bmFyeTdk", "NG5hcnk3ZDFl")
"""The seed in base64, after a multiple of three bytes, one more, two more: the characters that depend on it alone."""
QUIET = {"log": {"level": "debug", "format": "json"}}


class CommandLines(threading.Thread):
    """Every command line and environment that there is, as often as possible."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found: set[str] = set()
        self.looks = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.005):
            self.looks += 1
            for path in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        if int(path.name) != os.getpid() and SEED.encode() in (text := (path / name).read_bytes()):
                            self.found.add(f"{name}: {text[:300]!r}")


@pytest.fixture(scope="module")
def lines() -> Iterator[CommandLines]:
    found = CommandLines()
    found.start()
    yield found
    found.ended.set()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, lines: CommandLines) -> Iterator[Fleet]:
    """A volume that was made, exported, attached, detached and is attached again, each with a failure before it went well."""
    assert lines.is_alive()
    folder = tmp_path_factory.mktemp("canaries")
    secrets_file, password_file = folder / "secrets.yaml", folder / "etcd-password"
    in_file = {
        "leak_chap_secret": PASSWORDS["file"],
        "leak_phrase": PASSWORDS["phrase's \"$x"],
        "leak_odd": PASSWORDS[ODD],
        "leak_word": WORD,
    }
    for file, text in ((secrets_file, json.dumps(in_file)), (password_file, PASSWORDS["etcd"])):
        file.touch(mode=0o600)
        file.write_text(text)
    options = {
        "leak_seed": SEED,
        "leak_password": PASSWORDS["option"],
        "leak_url": f"https://me:{PASSWORDS['in-url']}@array.example/api",
        "leak_mount_options": f"username=me,password={PASSWORDS['in-options']}",
    }
    backend: dict[str, Any] = {
        "driver": "leaking_driver.LeakingDriver",
        "options": options,
        "secrets_file": str(secrets_file),
    }
    backend["debug"] = True
    with pytest.MonkeyPatch.context() as patch, Fleet(folder, packages=fleets.STATE, backends={"l": backend}) as it:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        subprocess.run(
            [str(it.etcdctl), "--endpoints", it.etcd.endpoint, "user", "add", "root", "--interactive=false"],
            input=PASSWORDS["etcd"] + "\n", text=True, check=True, capture_output=True, env={**os.environ, "ETCDCTL_API": "3"},
        )  # fmt: skip
        it.etcdctl_run("user", "grant-role", "root", "root")
        it.etcdctl_run("auth", "enable")
        etcd = {"etcd": {"endpoints": [it.etcd.endpoint], "user": "root", "password_file": str(password_file)}}
        it.controller("ctl", {**fleets.QUICK, **QUIET, **etcd})
        it.node("n1", {**fleets.HASTY, **QUIET, **etcd, "allow_noop": True})
        it.root_password = PASSWORDS["etcd"]
        fleets.until_ready(it, "l")
        fleets.wish_volume(it, "v", "l")
        fleets.attach(it, "n1", "v")
        fleets.until_attached(it, "n1", "v")
        fleets.detach(it, "n1", "v")
        fleets.until_gone(it, "n1", "v")
        fleets.attach(it, "n1", "v")
        fleets.until_attached(it, "n1", "v")
        yield it


def holding(text: str) -> list[str]:
    """What holds a canary, or the end of one. The seed itself is an option of the driver, and none."""
    signs = (f"{SEED}-", *ENCODED, "wör'd", "%C3%A4%25ss", "phrase's", "phrase\\'s")
    return [line[:300] for line in text.splitlines() if any(sign in line for sign in signs)]


def test_no_log_holds_a_secret(fleet: Fleet) -> None:
    log = (fleet.folder / "ctl" / "log").read_text() + (fleet.folder / "n1" / "log").read_text()
    said = [f"{how} ***" for how in ("printed", "debugged", "from C:", "a tool says")] + ["KeyError: '***'"]
    assert [words for words in said if words not in log] == []
    assert all(f"{step} failed: " in log for step in ("export", "connect", "terminate"))
    assert holding(log) == []


def test_a_password_that_cinder_made_up_is_not_logged(fleet: Fleet) -> None:
    """The driver writes it backwards as well, by which it is known here."""
    log = (fleet.folder / "ctl" / "log").read_text()
    backwards = [part.split(" ")[0] for part in log.split("generated:")[1:]]
    assert backwards
    assert [each for each in backwards if each[::-1] in log] == []


def test_no_key_but_those_of_two_families_holds_a_secret(fleet: Fleet) -> None:
    keyspace, clear = Keyspace(), []
    for item in fleet.store.list("/").items:
        key = keyspace.parse(item.key)
        text = item.value.decode()
        if getattr(key, "family", None) in CLEAR:
            clear += holding(text)
        else:
            assert holding(text) == [], item.key
    assert len(clear) >= 2  # conn_info and the record: until they are sealed


def test_no_key_has_ever_held_one_but_those(fleet: Fleet) -> None:
    """etcd's history has every value there was: a message that was put right later, too."""
    keyspace, seen, stop = Keyspace(), 0, threading.Event()
    now = fleet.revision()
    for batch in fleet.store.watch("/", 0, stop):
        for event in batch.events:
            if event.item is not None and getattr(keyspace.parse(event.key), "family", None) not in CLEAR:
                seen += 1
                assert holding(event.item.value.decode()) == [], event.key
        if batch.revision >= now:
            stop.set()
            break
    assert seen > 20


def test_etcds_files_hold_none_but_those(fleet: Fleet) -> None:
    """Its database and its log, where removed values stay: no option of a backend. etcd logs its own users' passwords."""
    held: set[str] = set()
    files = [path for path in (fleet.etcd.folder / "data").rglob("*") if path.is_file()]
    for path in files:
        held |= {found.decode() for found in re.findall(rf"{SEED}-([\w-]+)".encode(), path.read_bytes())}
    assert {path.suffix for path in files} >= {".wal"}
    assert held <= {*STORED, "etcd"}, held


def test_an_ordinary_word_as_a_password_harms_nothing(fleet: Fleet) -> None:
    log = (fleet.folder / "ctl" / "log").read_text()
    assert "printed ***" in log
    assert f"printed {WORD}" not in log
    assert '"volume": "v"' in log


def test_no_page_holds_a_secret(fleet: Fleet) -> None:
    for daemon in ("ctl", "n1"):
        for path in ("/metrics", "/healthz", "/readyz", "/x"):
            assert holding(fleets.page(fleet, daemon, path)) == []


@pytest.mark.parametrize("form", ["table", "wide", "json", "yaml", "name", "jsonpath=$"])
def test_brickctl_shows_none_in_any_format(fleet: Fleet, form: str) -> None:
    kinds = ("volumes", "attachments", "nodes", "backends") if form == "json" else ("attachments", "backends")
    for kind in kinds:
        assert holding(fleet.brickctl("get", kind, "-o", form)) == []
    if form == "table":
        for words in (("describe", "volume", "v"), ("describe", "attachment", "n1", "v"), ("explain", "n1", "v")):
            said = fleet.brickctl(*words)
            assert said
            assert holding(said) == []


def test_the_settings_are_shown_without_them(fleet: Fleet) -> None:
    for name, program in (("ctl", "brickwork-controller"), ("n1", "brickwork-node")):
        command = [str(VENV / program), "--config", str(fleet.folder / name / "settings.yaml"), "--check-config"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout
        assert holding(done.stdout + done.stderr) == []


def test_no_file_that_others_can_read_holds_one(fleet: Fleet) -> None:
    files = [path for name in ("ctl", "n1") for path in (fleet.folder / name).rglob("*") if path.is_file()]
    wide = [path for path in files if path.stat().st_mode & 0o077]
    assert [path for path in wide if f"{SEED}-".encode() in path.read_bytes()] == []


def test_no_temporary_file_is_left_that_holds_one(fleet: Fleet) -> None:
    began = fleet.folder.stat().st_ctime - 3600
    for path in Path(tempfile.gettempdir()).iterdir():
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_mtime > began:
                assert SEED.encode() not in path.read_bytes(), path


def test_a_crash_tells_none(fleet: Fleet) -> None:
    """A worker that is aborted in the middle, then the daemon itself: no core, and nothing but `***` in the log."""
    (worker,) = fleet.workers("ctl")
    os.kill(worker, signal.SIGABRT)
    wait_until("it was noticed", lambda: "died of SIGABRT" in (fleet.folder / "ctl" / "log").read_text())
    fleets.until_ready(fleet, "l")
    fleet.daemon("ctl").kill(signal.SIGABRT)
    log = (fleet.folder / "ctl" / "log").read_text()
    assert holding(log) == []
    assert [path for folder in (fleet.folder, Path("/"), Path.cwd()) for path in folder.glob("core*")] == []


def test_no_command_line_and_no_environment_holds_one(fleet: Fleet, lines: CommandLines) -> None:
    """Last: it has looked all the while. `brickctl` gets etcd's password in its environment, as it is documented."""
    assert fleet.folder.is_dir()
    wait_until("many looks", lambda: lines.looks > 50)
    documented = (
        "BRICKWORK_PASSWORD",
        f"root:{PASSWORDS['etcd']}",
    )  # brickctl's, and etcdctl's as the test itself runs it
    assert {
        each for each in lines.found if f"{SEED}-" in each and not any(word in each for word in documented)
    } == set()
