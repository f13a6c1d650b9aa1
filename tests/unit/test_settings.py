"""The daemons' settings: where they come from, what is refused and how it is told, and that no secret is shown."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from daemons.commandline import settings_from
from daemons.process import Exit, Refused
from daemons.settings import SETTINGS_OF, ControllerSettings, FenceAgentSettings, NodeSettings, SettingsError, load
from reconciler.adapters.brick.settings import ConnectorSettings
from reconciler.adapters.cinder.backend import BackendSettings
from tests.examples import examples

CANARY = "canary-5f3a"
LVM = "cinder.volume.drivers.lvm.LVMVolumeDriver"
BACKENDS = f"backends: {{lvm: {{driver: {LVM}}}}}\n"

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(text: str) -> Path:
        path = tmp_path / "settings.yaml"
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    return file


def faults(path: Path | None, environ: dict[str, str] | None = None, kind: Any = "node") -> list[str]:
    """What is told, without the path of the file."""
    with pytest.raises(SettingsError) as caught:
        load(kind, path, environ or {})
    return [fault.replace(f"{path}:", "") for fault in caught.value.faults]


# --- sources


def test_a_node_needs_no_settings_at_all() -> None:
    settings = load("node", None, {})
    assert settings.node is None
    assert settings.etcd.endpoints == ("http://127.0.0.1:2379",)
    assert (settings.state_folder, settings.run_folder) == (
        Path("/var/lib/brickwork/node"),
        Path("/run/brickwork/node"),
    )
    assert settings.http.listen == "127.0.0.1:9753"


def test_a_controller_is_called_as_its_host_unless_told_otherwise(write: Write) -> None:
    assert load("controller", write(BACKENDS), {}).name == socket.gethostname()
    assert load("controller", write(BACKENDS + "name: c1"), {}).name == "c1"


def test_the_environment_goes_before_the_file_and_the_file_before_the_defaults(write: Write) -> None:
    path = write("etcd: {endpoints: ['http://file:1'], timeout_s: 7}\nworkers: 3\n")
    settings = load("node", path, {"BRICKWORK_ETCD__ENDPOINTS": "http://a:1, http://b:2", "BRICKWORK_WORKERS": ""})
    assert settings.etcd.endpoints == ("http://a:1", "http://b:2")
    assert (settings.etcd.timeout_s, settings.etcd.attempt_timeout_s) == (7.0, 2.0)
    assert settings.workers == 3


@pytest.mark.parametrize(
    ("variable", "text", "read", "value"),
    [
        ("BRICKWORK_NODE", "007", lambda s: s.node, "007"),
        ("BRICKWORK_WORKERS", "4", lambda s: s.workers, 4),
        ("BRICKWORK_RETRY_CAP_S", "2.5", lambda s: s.retry_cap_s, 2.5),
        ("BRICKWORK_MULTIPATH", "true", lambda s: s.multipath, True),
        ("BRICKWORK_LINK_FOLDER", "/dev/b", lambda s: s.link_folder, Path("/dev/b")),
        ("BRICKWORK_LOG__LEVEL", "debug", lambda s: s.log.level, "debug"),
        ("BRICKWORK_HTTP__LISTEN", "none", lambda s: s.http.address, None),
        ("BRICKWORK_DEADLINES_S__CONNECT", "9", lambda s: s.deadlines_s.connect, 9.0),
        ("BRICKWORK_ETCD__ENDPOINTS", '["http://a:1"]', lambda s: s.etcd.endpoints, ("http://a:1",)),
    ],
)
def test_a_variable_means_what_its_field_is(
    variable: str, text: str, read: Callable[[NodeSettings], object], value: object
) -> None:
    assert read(load("node", None, {variable: text})) == value


def test_one_folder_for_everything_that_is_kept() -> None:
    settings = load("node", None, {"BRICKWORK_STATE": "/srv/state"})
    assert settings.state_folder == Path("/srv/state/node")
    assert settings.run_folder == Path("/srv/state/run/node")
    assert settings.mount_point_base == Path("/srv/state/mounts")
    elsewhere = load("node", None, {"BRICKWORK_STATE": "/srv/state", "BRICKWORK_STATE_FOLDER": "/other"})
    assert elsewhere.state_folder == Path("/other")


def test_variables_of_others_do_no_harm() -> None:
    others = {
        "BRICKWORK_ENDPOINTS": "x",
        "BRICKWORK_CHILD": "x",
        "BRICKWORK_STORAGE_LANS": "x",
        "BRICKWORK_CONCURRENCY": "2",
    }
    assert load("node", None, others).concurrency == 2


def test_numbers_and_dates_are_what_was_written(write: Write) -> None:
    """F-B3: YAML 1.1 made 8 of 010, and 45045 of 12:30:45."""
    assert load("node", write("workers: 010\nnode: 2026-11-23\n"), {}).workers == 10
    assert load("node", None, {"BRICKWORK_WORKERS": "010"}).workers == 10
    given = (
        "0123456",
        "12:30:45",
        "1_000",
        "0x1F",
        "1e3",
        "2026-11-23",
        "True",
        "~x",
        "yes",
        "007",
        "1.10",
        ".inf",
        "0o17",
    )
    options = "".join(f"      o{number}: {text}\n" for number, text in enumerate(given))
    path = write(f"backends:\n  a:\n    driver: x\n    options:\n{options}      many: [010, {{a: 1_0}}]\n")
    got = dict(load("controller", path, {}).backends["a"].options)
    assert got.pop("many") == ["010", {"a": "1_0"}]
    assert tuple(got.values()) == given


def test_yaml_anchors_and_merges_work(write: Write) -> None:
    text = f"backends:\n  a: &a {{driver: {LVM}, concurrency: 2}}\n  b: {{<<: *a, concurrency: 3}}\n"
    settings = load("controller", write(text), {})
    assert [(name, each.concurrency) for name, each in settings.backends.items()] == [("a", 2), ("b", 3)]


# --- what backends inherit


def test_what_a_backend_leaves_open_is_taken_from_the_controllers_settings(write: Write) -> None:
    settings = load(
        "controller",
        write(
            f"my_ip: 10.0.0.1\nconcurrency: 2\ndeadlines_s: {{connect: 33, open: 44}}\n"
            f"backends:\n  plain: {{driver: {LVM}}}\n"
            f"  own: {{driver: {LVM}, my_ip: 10.0.0.2, concurrency: 9, deadlines_s: {{open: 55}}}}\n"
        ),
        {},
    )
    plain, own = settings.backends["plain"], settings.backends["own"]
    assert (plain.name, plain.my_ip, plain.concurrency) == ("plain", "10.0.0.1", 2)
    assert (plain.deadlines_s.connect, plain.deadlines_s.open, plain.deadlines_s.create) == (33, 44, 900)
    assert (own.my_ip, own.concurrency, own.deadlines_s.connect, own.deadlines_s.open) == ("10.0.0.2", 9, 33, 55)


# --- refusals


def test_all_faults_are_told_at_once_with_their_lines(write: Write) -> None:
    path = write(
        "workers: '8'\n"
        "lease_ttl_s: 1\n"
        "multipth: true\n"
        "etcd:\n"
        "  timeout_s: [5]\n"
        "log: {level: loud}\n"
        "http: {listen: 9753}\n"
        "lock_path: locks\n"
        "deadlines_s:\n"
        "  conect: 3\n"
    )
    assert sorted(faults(path, {"BRICKWORK_CONCURRENCY": "many"})) == sorted(
        [
            "1: workers: must be a whole number, as in 8. Given was text (8)",
            "2: lease_ttl_s: must be greater than or equal to 2. Given was a whole number (1)",
            next(
                fault
                for fault in faults(path)
                if fault.startswith("3: multipth: no such setting; did you mean multipath?")
            ),
            "5: etcd.timeout_s: must be a number, as in 2.5. Given was a list",
            "6: log.level: must be 'debug', 'info', 'warning' or 'error'. Given was text (loud)",
            "7: http.listen: must be text: put it in quotes. Given was a whole number (9753)",
            "8: lock_path: write an absolute path: a daemon's working folder is not where you are",
            "10: deadlines_s.conect: no such setting; did you mean connect? "
            "(there are: connect, disconnect, extend, inspect, properties, start)",
            "environment: BRICKWORK_CONCURRENCY: must be a whole number, as in 8. Given was text (many)",
        ]
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("workers: 1\nworkers: 2\n", "2: workers: stands here a second time; keep one"),
        ("false: 1\n", "1: false: YAML takes this name for False; put it in quotes"),
        (
            "workers: 0x10\n",
            "1: workers: 0x10 is no plain decimal number (it would be read as 16); write it so, or quote",
        ),
        (
            "workers: 1_0\n",
            "1: workers: 1_0 is no plain decimal number (it would be read as 10); write it so, or quote",
        ),
        ("lease_ttl_s: 0:30\n", "1: lease_ttl_s: must be a whole number, as in 8. Given was text (0:30)"),
        ("node: 007\n", "1: node: must be text: put it in quotes. Given was a whole number (7)"),
        ("- a\n", " must be a mapping, as in `log: {level: info}`"),
        ("a: [\n", "2: not YAML: expected the node content, but found '<stream end>'"),
        ("a: !!python/name:os.system x\n", "1: not YAML: python/name:os.system is a tag that is not known here"),
        ("prefix: brickwork\n", "1: prefix: prefix 'brickwork': begin and end it with a slash, as in '/brickwork/v1/'"),
        ("http: {listen: '9753'}\n", "1: http.listen: write host:port (as in 127.0.0.1:9753), unix:/path, or none"),
        ("etcd: {endpoints: ['ftp://a']}\n", "1: etcd: 'ftp://a' is no endpoint; write https://host:port"),
        ("etcd: {endpoints: []}\n", "1: etcd: no endpoints given; write for instance https://etcd-1.example:2379"),
        ("etcd: {user: me}\n", "1: etcd: user and password_file go together"),
        ("etcd: {key_file: /k}\n", "1: etcd: a client certificate takes both cert_file and key_file"),
        (
            "etcd: {user: me, password_file: /p, endpoints: ['http://far:1']}\n",
            "1: etcd: the password would travel in clear text to http://far:1",
        ),
        ("etcd: {attempt_timeout_s: .inf}\n", "1: etcd.attempt_timeout_s: must be a finite number"),
        ("retry_base_s: 9\nretry_cap_s: 3\n", " retry_base_s must not be longer than retry_cap_s"),
        ("failpoint: GRANT:before\n", " failpoint makes the daemon kill itself: take it out"),
        ("storage_networks: [true]\n", "1: storage_networks.0: write a network, as in 10.1.0.0/24"),
        ("storage_networks: [10]\n", "1: storage_networks.0: write a network, as in 10.1.0.0/24"),
        ("etcd: 3\n", "1: etcd: must be a mapping of settings. Given was a whole number (3)"),
        (
            "node: a/b\n",
            "1: node: use letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 253 characters",
        ),
        ("multipath: maybe\n", "1: multipath: must be true or false. Given was text (maybe)"),
    ],
)
def test_what_is_refused_and_what_to_write_instead(write: Write, text: str, told: str) -> None:
    (fault,) = faults(write(text))
    assert fault.startswith(told)


def test_a_tag_that_says_what_a_value_is_anyway_is_taken(write: Write) -> None:
    settings = load("controller", write("backends: {a: &a {driver: !!str x, options: {o: !!str 007}}, b: *a}\n"), {})
    assert [dict(each.options) for each in settings.backends.values()] == [{"o": "007"}] * 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("workers: 3\n", " backends: is missing. Every backend under the name that users write"),
        ("backends: {}\n", "1: backends: "),
        ("backends: {a/b: {driver: x}}\n", "1: backends.a/b: can't be a name: use letters"),
        ("backends:\n  a: {driver: x, name: b}\n", "2: backends.a.name: the name is 'a' already; take it out"),
        ("backends:\n  a: {}\n", "2: backends.a: give either driver (with options) or cinder_conf (with section)"),
        ("backends:\n  a: {driver: x, secrets_file: s.yaml}\n", "2: backends.a: secrets_file: write an absolute path"),
        ("backends:\n  a:\n    drivr: x\n", "3: backends.a.drivr: no such setting; did you mean driver?"),
        (
            "backends:\n  a: {driver: x, options: {san_password: !vault x}}\n",
            "2: not YAML: !vault is a tag that is not",
        ),
        ("backends:\n  a: {driver: x, options: {san_password: !!binary eA==}}\n", "2: not YAML: binary is a tag"),
        ('backends:\n  a: {driver: x, options: {o: "\\ud800"}}\n', "2: not YAML: half a character"),
        (
            "backends:\n  a: {driver: x, deadlines_s: {open: .inf}}\n",
            "2: backends.a.deadlines_s.open: must be less than",
        ),
        ("backends:\n  a: {driver: x, concurrency: 1000}\n", "2: backends.a.concurrency: must be less than or equal"),
        ("backends:\n  a: lvm\n", "2: backends.a: must be a mapping of settings. Given was text (lvm)"),
    ],
)
def test_what_is_refused_of_backends(write: Write, text: str, told: str) -> None:
    assert any(fault.startswith(told) for fault in faults(write(text), kind="controller"))


def test_a_variable_with_a_section_that_nobody_has_is_told_the_nearest() -> None:
    assert faults(None, {"BRICKWORK_ETCD__USR": "x"}) == [
        "environment: BRICKWORK_ETCD__USR: no daemon has such a setting; did you mean BRICKWORK_ETCD__USER?"
    ]


def test_a_variable_that_is_almost_one_of_ours_is_refused() -> None:
    """F-B12: it was ignored."""
    assert faults(None, {"BRICKWORK_WORKRS": "3"}) == [
        "environment: BRICKWORK_WORKRS: no daemon has such a setting; did you mean BRICKWORK_WORKERS?"
    ]
    (fault,) = faults(None, {"BRICKWORK_ENDPOINT": "https://a:1"})
    assert fault.endswith("BRICKWORK_ENDPOINTS? Only brickctl reads that; daemons read BRICKWORK_ETCD__ENDPOINTS")
    assert load("node", None, {"BRICKWORK_FLEET": "x", "BRICKWORK_ENDPOINTS": "x", "BRICKWORK_NAME": "x"}).node is None


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert faults(tmp_path / "none.yaml") == [" no such file; name the settings file with --config"]


def test_what_is_wrong_is_never_shown_where_it_may_be_a_secret(write: Write) -> None:
    path = write(f"backends:\n  a: {{driver: 3, options: {CANARY}}}\n  b: {{driver: x, password: {CANARY}}}\n")
    assert CANARY not in "\n".join(faults(path, kind="controller"))


# --- the model


def models() -> list[type[BaseModel]]:
    """Our own settings classes; the adapters' document theirs themselves."""
    found: list[type[BaseModel]] = []
    for settings in SETTINGS_OF.values():
        found += [settings] + [
            info.annotation
            for info in settings.model_fields.values()
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        ]
    return [model for model in dict.fromkeys(found) if model.__module__.startswith("daemons.")]


@pytest.mark.parametrize("model", models())
def test_every_setting_has_a_reason_and_numbers_have_a_unit_or_are_counts(model: type[BaseModel]) -> None:
    for name, info in model.model_fields.items():
        if not issubclass(model, NodeSettings | ControllerSettings | FenceAgentSettings) or name != "http":
            assert info.description, name
        if info.annotation in (int, float):
            assert name.endswith("_s") or name in ("workers", "concurrency", "at_least", "share", "max_at_once"), name


def test_settings_can_not_be_changed() -> None:
    settings = load("node", None, {})
    with pytest.raises(ValueError, match="frozen"):
        settings.workers = 3  # type: ignore[misc]


def test_the_connector_gets_everything_that_it_knows() -> None:
    settings = load("node", None, {"BRICKWORK_MY_IP": "10.0.0.1", "BRICKWORK_MULTIPATH": "true"})
    connector = settings.connector_settings("web-1")
    assert connector == ConnectorSettings(
        node="web-1",
        state_folder=Path("/var/lib/brickwork/node/connector"),
        temporary_folder=Path("/run/brickwork/node/tmp"),
        my_ip="10.0.0.1",
        multipath=True,
        mount_link_folder=Path("/run/brickwork/volumes"),
    )
    assert ConnectorSettings.model_fields.keys() - {"temporary_folder"} <= NodeSettings.model_fields.keys()


def test_the_password_of_etcd_is_read_when_it_is_needed_and_only_from_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    environ = {"BRICKWORK_ETCD__USER": "me", "BRICKWORK_ETCD__PASSWORD_FILE": str(file)}
    settings = load("node", None, environ)
    with pytest.raises(Refused, match=r"etcd.password_file: .* can't be read"):
        settings.etcd.store_settings()
    file.write_text(CANARY + "\n")
    file.chmod(0o644)
    with pytest.raises(Refused, match="can be read by others"):
        settings.etcd.store_settings()
    file.chmod(0o600)
    store = settings.etcd.store_settings()
    assert (store.user, store.password) == ("me", CANARY)
    assert CANARY not in repr(settings) + repr(store)


def test_no_representation_shows_a_secret(write: Write) -> None:
    path = write(
        f"backends: {{a: {{driver: x, options: {{san_password: {CANARY}, nested: [{{api_token: {CANARY}}}]}}}}}}\n"
    )
    settings = load("controller", path, {})
    assert settings.backends["a"].options["san_password"] == CANARY
    assert CANARY not in f"{settings!r} {settings} {settings.shown()}"
    backend = settings.backends["a"]
    assert CANARY not in f"{backend!r} {backend} {[backend]}"


def test_no_error_shows_a_secret() -> None:
    """Neither of a backend's settings by themselves, as its worker reads them, nor of a daemon's."""
    backend = {"name": "a", "options": {"san_password": CANARY}, "unknown": CANARY}
    for model, given in ((BackendSettings, backend), (ControllerSettings, {"name": "c", "backends": {"a": backend}})):
        with pytest.raises(ValidationError) as fault:
            model.model_validate(given)
        assert CANARY not in f"{fault.value} {fault.value!r}"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666, 0o660, 0o620])
@pytest.mark.parametrize(
    "options", [f"san_password: {CANARY}", f"outer: [{{api_token: {CANARY}}}]", f"san_url: 'https://me:{CANARY}@array'"]
)
def test_settings_with_a_secret_that_others_can_read_are_refused(write: Write, options: str, mode: int) -> None:
    """F-K9."""
    path = write(f"backends: {{a: {{driver: x, options: {{{options}}}}}}}\n")
    path.chmod(mode)
    with pytest.raises(SettingsError) as caught:
        load("controller", path, {})
    assert f"chmod 600 {path}" in str(caught.value)
    assert "backends.a.options." in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "mode"),
    [(f"san_password: {CANARY}", 0o600), (f"san_password: {CANARY}", 0o640), ("san_ip: 10.0.0.1", 0o644)],
)
def test_settings_that_their_owner_keeps_to_itself_or_that_hold_no_secret_are_taken(
    write: Write, options: str, mode: int
) -> None:
    """0640: a group that root chose, as for a daemon that runs as a user of its own."""
    path = write(f"backends: {{a: {{driver: x, options: {{{options}}}}}}}\n")
    path.chmod(mode)
    os.chown(path, 0, 0) if os.geteuid() == 0 else path.chmod(mode & 0o704)
    assert load("controller", path, {}).backends["a"].options


def test_a_key_that_others_can_read_is_refused(write: Write, tmp_path: Path) -> None:
    """F-K9."""
    key = tmp_path / "node.key"
    key.write_text("…")
    key.chmod(0o644)
    settings = load("node", write(f"etcd: {{endpoints: ['https://a:1'], cert_file: /c, key_file: {key}}}\n"), {})
    with pytest.raises(Refused, match=r"etcd\.key_file: .*\(-rw-r--r--\): chmod 600"):
        settings.etcd.store_settings()
    key.chmod(0o600)
    assert settings.etcd.store_settings().key_file == key


# --- the command line


def test_check_config_prints_what_holds_and_that_can_be_loaded_again(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(BACKENDS.replace("}}", f", options: {{san_password: {CANARY}}}, secrets_file: /nowhere/s.yaml}}}}"))
    with pytest.raises(SystemExit) as ended:
        settings_from(
            "controller", ["--config", str(path), "--check-config", "--elsewhere"], {"BRICKWORK_WORKERS": "3"}
        )
    assert ended.value.code == Exit.OK
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out)["workers"] == 3
    assert CANARY not in printed.out
    assert printed.err == "note: backends.lvm.secrets_file: /nowhere/s.yaml does not exist on this machine\n"
    assert load("controller", write(printed.out), {}).workers == 3


@pytest.mark.parametrize("name", ["token-db", "password", "auth", "conn_info"])
def test_a_backend_may_be_called_like_a_secret(name: str, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    """F-B4: its settings were hidden as a whole, and --check-config ended with a traceback."""
    path = write(f"backends: {{{name}: {{driver: {LVM}, options: {{san_password: {CANARY}}}}}}}\n")
    with pytest.raises(SystemExit) as ended:
        settings_from("controller", ["--config", str(path), "--check-config", "--elsewhere"], {})
    assert ended.value.code == Exit.OK
    shown = capsys.readouterr().out
    assert yaml.safe_load(shown)["backends"][name]["driver"] == LVM
    assert CANARY not in shown


BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.mark.parametrize(("fault", "code"), [(">/dev/full", 3), (">/dev/full 2>&1", 3)])
@pytest.mark.parametrize("asked", ["--check-config --elsewhere", "--help"])
def test_an_answer_that_can_not_be_written_is_no_traceback(asked: str, fault: str, code: int, tmp_path: Path) -> None:
    """F-C3, of the daemons."""
    (tmp_path / "node.yaml").write_text("node: web-1\n")
    command = f"{sys.executable} -m daemons.node --config {tmp_path}/node.yaml {asked} {fault}"
    done = subprocess.run(["sh", "-c", command], env=BUFFERED, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if fault == ">/dev/full":
        assert "brickwork-node: the answer can't be written: No space left on device" in done.stderr


@pytest.mark.parametrize("asked", ["--check-config --elsewhere", "--help"])
def test_a_reader_who_left_is_nobodys_fault(asked: str, tmp_path: Path) -> None:
    """Quiet, with a shell's code for it."""
    (tmp_path / "node.yaml").write_text("node: web-1\n")
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "daemons.node", "--config", str(tmp_path / "node.yaml"), *asked.split()]
    done = subprocess.run(
        command, env=BUFFERED, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_faults_end_with_their_own_exit_code(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("a: 1\nb: 2\n")
    with pytest.raises(SystemExit) as ended:
        settings_from("node", ["--config", str(path)], {})
    assert ended.value.code == Exit.SETTINGS
    told = capsys.readouterr().err
    assert told.startswith("brickwork-node: the settings are wrong:\n")
    assert [line.split(": no such")[0] for line in told.splitlines()[1:]] == [f"  {path}:1: a", f"  {path}:2: b"]


def test_without_check_config_the_settings_are_returned(write: Write) -> None:
    assert settings_from("node", ["--config", str(write("node: web-1"))], {}).node == "web-1"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"one\ntwo\n", "one line"),
        (b"a\0b", "one line"),
        (b"\xff", "can't be read"),
    ],
)
def test_a_password_file_that_can_not_be_one_is_told_before_the_daemon_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    """F-B6, F-K9: --check-config said ok to all of it, and to one that others can read."""
    file = tmp_path / "password"
    file.touch(mode=0o600)
    file.write_bytes(content)
    assert words in told_by_check(file, capsys)


def test_a_password_file_that_is_exposed_or_no_file_is_told_and_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (exposed := tmp_path / "exposed").write_text("s3cret")
    exposed.chmod(0o644)
    os.mkfifo(fifo := tmp_path / "fifo", 0o600)
    assert "can be read by others" in told_by_check(exposed, capsys)
    for other in (tmp_path, fifo, Path("/dev/zero")):
        assert "is no plain file" in told_by_check(other, capsys)


def told_by_check(password_file: Path, capsys: pytest.CaptureFixture[str]) -> str:
    environ = {"BRICKWORK_ETCD__USER": "me", "BRICKWORK_ETCD__PASSWORD_FILE": str(password_file)}
    with pytest.raises(SystemExit) as caught:
        settings_from("node", ["--check-config"], environ)
    told = capsys.readouterr().err
    assert caught.value.code == Exit.SETTINGS, told
    return told


# --- anything at all

ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
NAMES = sorted({name for model in SETTINGS_OF.values() for name in model.model_fields})
TEXTS = st.lists(
    st.sampled_from(["etcd: ", "{", "}", "[", "]", "- ", "\n", "  ", "backends:\n  a: ", "driver: x", "&a ", "*a", "<<: ", "!!set ",
                     "1e999", "---\n", "%YAML 9.9\n", "'", '"', "\t", ": ", "? ", "\x00", "\x85", "\ud7ff"])
    | st.sampled_from(NAMES) | st.text(max_size=4), max_size=25,
).map("".join)  # fmt: skip
FILES = TEXTS.map(str.encode) | st.binary(max_size=60) | st.dictionaries(
    st.sampled_from(NAMES) | st.text(max_size=4), ODD, max_size=4
).map(lambda given: yaml.safe_dump(given, allow_unicode=True).encode())  # fmt: skip


@hypothesis.given(
    FILES,
    st.dictionaries(st.sampled_from([f"BRICKWORK_{name.upper()}" for name in NAMES]), st.text(max_size=8), max_size=2),
    st.sampled_from(list(SETTINGS_OF)),
)
@examples(40)
def test_whatever_settings_say_the_answer_is_one_of_ours(text: bytes, environ: dict[str, str], kind: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.yaml"
        path.touch(mode=0o600)
        path.write_bytes(text)
        try:
            load(kind, path, environ)
        except SettingsError as error:
            str(error).encode()
