"""`brickctl` itself: settings, help, and how fast it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from client.exits import Misuse
from client.main import COMMANDS, MODULE_OF, cli
from client.settings import DEFAULT_ENDPOINT, Given, from_environment, from_file, settle


def test_help_imports_next_to_nothing() -> None:
    """No gRPC, no pydantic, no YAML for --help: it answers at once."""
    program = (
        "import sys\nfrom client.main import cli\n"
        "try:\n    cli(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'grpc', 'pydantic', 'yaml', 'rich', 'tenacity', 'jsonpath_ng', 'google'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "explain" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_under_its_summary(name: str) -> None:
    """The line in the list is the first line of the command's own help."""
    result = CliRunner().invoke(cli, [name, "--help"], prog_name="brickctl")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: brickctl {name}")
    assert COMMANDS[name] in result.output
    assert set(MODULE_OF) <= set(COMMANDS)


@pytest.mark.parametrize(
    ("redirect", "code", "told"),
    [
        (">/dev/full", 8, "Error: the answer can't be written: No space left on device"),
        (">/dev/full 2>&1", 8, ""),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        ("| true", 0, ""),
    ],
)
@pytest.mark.parametrize("asked", ["get --help", "--help"])
def test_an_answer_that_can_not_be_written_is_no_traceback(asked: str, redirect: str, code: int, told: str) -> None:
    """F-C3: a full disk has an exit code of its own; a reader who left, or a closed stdout, is nobody's fault."""
    command = f"{sys.executable} -m client.main {asked} {redirect}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, told in done.stderr) == (code, True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("asked", ["--help", "--version", "get --help"])
def test_a_reader_who_left_is_told_by_one_exit_code(asked: str) -> None:
    """As of a process that ended so; 1 would be "unmet"."""
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "client.main", *asked.split()], stdout=write, check=False, timeout=60
    )
    os.close(write)
    assert process.returncode == 141


@pytest.mark.parametrize("name", ["password_file", "key_file"])
def test_a_secret_that_others_can_read_is_refused(name: str, tmp_path: Path) -> None:
    """F-K9: as the daemons do with theirs; the file, and what to do."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    secret.chmod(0o644)
    given = Given(user="ann", password_file=str(secret)) if name == "password_file" else Given(key_file=str(secret))
    with pytest.raises(Misuse, match=f"{name} .*can be read by others .*chmod 600"):
        settle(given)
    secret.chmod(0o600)
    settle(given)


def test_ctrl_c_has_one_exit_code_wherever_it_comes() -> None:
    """130, also while modules are still being loaded; 1 would be "unmet"."""
    program = (
        "import sys, click\nfrom client.main import cli\n"
        "class Late:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == sys.argv[1]:\n            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Late())\ncli(['get', 'volumes'])\n"
    )
    for module in ("client.session", "client.get", "reconciler.runtime.ports"):
        done = subprocess.run([sys.executable, "-c", program, module], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (130, ""), module


def test_an_unknown_command_is_misuse() -> None:
    """Exit code 2."""
    result = CliRunner().invoke(cli, ["destroy"])
    assert (result.exit_code, "No such command 'destroy'" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["atach", "web-1", "data"], "Did you mean attach?"),
        (["descibe"], "Did you mean describe?"),
        (["get", "volmes"], "did you mean volume?"),
        (["get", "backed"], "did you mean backend?"),
        (["delete", "attachement", "a/b"], "did you mean attachment?"),
        (["wait", "vloume", "data", "--for=available"], "did you mean volume?"),
        (["describe", "nodse", "a"], "did you mean node?"),
    ],
)
def test_a_mistyped_word_has_a_nearest_one(words: list[str], hint: str) -> None:
    """F-C8: commands and kinds."""
    result = CliRunner().invoke(cli, words)
    assert (result.exit_code, hint in result.output) == (2, True)


def test_completion_is_clicks_own() -> None:
    """Subcommands and formats are completed."""
    environment = {
        **os.environ,
        "_BRICKCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "brickctl get volumes -o j",
        "COMP_CWORD": "4",
    }
    program = "from client.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["plain,json", "plain,jsonpath="]


# --- settings ------------------------------------------------------------------------------------------------------------


def test_the_default() -> None:
    """As etcdctl's."""
    assert settle(Given()).endpoints == (DEFAULT_ENDPOINT,)


def test_the_environment_of_ours_and_of_etcdctl() -> None:
    """Ours first; etcdctl's `name:password` and schemeless endpoints are understood."""
    theirs = {"ETCDCTL_ENDPOINTS": "a:2379,b:2379", "ETCDCTL_USER": "ann:s3cret", "ETCDCTL_CACERT": "/ca.pem"}
    settings = settle(from_environment(theirs))
    assert settings.endpoints == ("https://a:2379", "https://b:2379")
    assert (settings.user, settings.password) == ("ann", "s3cret")
    ours = {**theirs, "BRICKWORK_ENDPOINTS": "http://c:2379", "BRICKWORK_PASSWORD": "other", "BRICKWORK_PREFIX": "/x/"}
    settings = settle(Given(user="bob"), from_environment(ours))
    assert (settings.endpoints, settings.user, settings.password, settings.prefix) == (
        ("http://c:2379",),
        "bob",
        "other",
        "/x/",
    )
    assert "s3cret" not in repr(from_environment(theirs))
    assert "other" not in repr(settings)


def test_a_variable_that_is_almost_one_of_ours_is_refused() -> None:
    """F-B12: BRICKWORK_ENDPOINT was ignored, and another etcd asked."""
    with pytest.raises(Misuse, match="BRICKWORK_ENDPOINT: unknown; did you mean BRICKWORK_ENDPOINTS"):
        from_environment({"BRICKWORK_ENDPOINT": "https://a:1"})
    assert from_environment({"BRICKWORK_WORKERS": "3", "BRICKWORK_STATE": "/x", "BRICKWORK_NODE": "n"}) == Given()


def test_the_settings_file(tmp_path: Path) -> None:
    """Options come before the environment, that before the file."""
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    password.chmod(0o600)
    file = tmp_path / "client.yaml"
    file.write_text(f"endpoints: [http://f:2379]\nuser: ann\npassword_file: {password}\nconnect_timeout_s: 9\n")
    settings = settle(Given(prefix="/o/"), from_environment({}), from_file(file, needed=True))
    assert (settings.endpoints, settings.user, settings.password) == (("http://f:2379",), "ann", "s3cret")
    assert (settings.prefix, settings.connect_timeout_s) == ("/o/", 9)
    assert from_file(tmp_path / "none", needed=False) == Given()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("endpoint: x", "endpoint: unknown setting; did you mean endpoints?"),
        ("password: x", "password: keep it in a file of its own and name that: password_file"),
        ("endpoints: [7]", "endpoints: must be a list of URLs"),
        ("endpoints: []", "endpoints: must be a list of URLs"),
        ("connect_timeout_s: -3", "connect_timeout_s: must be a number of seconds, at least 0.1"),
        ("- x", "must be a mapping"),
        ("user: 7", "user: must be text"),
        ("connect_timeout_s: soon", "connect_timeout_s: must be a number of seconds"),
        ("a: [", "not YAML"),
    ],
)
def test_faults_of_the_settings_file(tmp_path: Path, text: str, message: str) -> None:
    """The file, the field, and the remedy."""
    file = tmp_path / "client.yaml"
    file.write_text(text)
    with pytest.raises(Misuse, match=message.replace("?", "[?]")) as caught:
        from_file(file, needed=True)
    assert str(file) in caught.value.message


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--prefix", "x", "get", "volumes"], {}, "prefix 'x': begin and end it with a slash"),
        (["-e", "ftp://x", "get", "volumes"], {}, "'ftp://x' is no endpoint"),
        (["--config", "/none.yaml", "get", "volumes"], {}, "/none.yaml: no such settings file"),
        (["--user", "ann", "get", "volumes"], {}, "user ann: set BRICKWORK_PASSWORD, or password_file"),
        (["--user", "ann", "-e", "http://10.0.0.1:1", "get", "volumes"], {"BRICKWORK_PASSWORD": "x"}, "in clear text"),
        (["--cert", "/c.pem", "get", "volumes"], {}, "takes both cert_file and key_file"),
    ],
)
def test_settings_that_cannot_be(
    arguments: list[str], environment: dict[str, str], message: str, tmp_path: Path
) -> None:
    """Told before anything is tried; exit code 2."""
    result = CliRunner().invoke(cli, arguments, env={"XDG_CONFIG_HOME": str(tmp_path), **environment})
    assert (result.exit_code, message in result.stderr) == (2, True), result.output


def test_nobody_answers(tmp_path: Path) -> None:
    """Exit code 6, with the endpoint, within the time given."""
    arguments = ["-e", "http://127.0.0.1:9", "--connect-timeout", "0.2", "get", "volumes"]
    result = CliRunner().invoke(cli, arguments, env={"XDG_CONFIG_HOME": str(tmp_path)})
    assert result.exit_code == 6
    assert "http://127.0.0.1:9" in result.stderr
    assert "check that etcd runs" in result.stderr
