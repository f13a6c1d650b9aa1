"""The contract with the fence command: what it is told, what its exit means, and that nothing of it lives on."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from reconciler.adapters.fence_command import FenceCommand
from reconciler.runtime.ports import FenceProof, FenceTarget, PortError, Retryable, Terminal, UnknownOutcome
from tools.fleet import wait_until

TARGET = FenceTarget("web-1", "b1", {"initiator": "iqn.a"}, ("data", "logs"), 31.4, "machine=1")
PROVEN = """echo '{"evidence": "chassis power is off", "proof": "powered_off"}'"""
DEADLINE_S = 60.0


def leads() -> bool:
    return True


def command(folder: Path, script: str, deadline_s: float = DEADLINE_S, log: list[str] | None = None) -> FenceCommand:
    program = folder / "fence"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "BRICKWORK_ETCD__USER": "secret", "SITE": "x"}
    lines = log if log is not None else []
    return FenceCommand([str(program), "--first"], deadline_s=deadline_s, environ=environ, log=lines.append)


def test_what_it_is_told(tmp_path: Path) -> None:
    """Arguments, environment, and the node's identifiers on stdin; nothing of the agent's own settings."""
    log: list[str] = []
    script = f'cat > {tmp_path}/stdin; echo "$@" > {tmp_path}/args; env > {tmp_path}/env; echo hello >&2; {PROVEN}'
    proof = command(tmp_path, script, log=log).fence(TARGET, leads)
    assert proof == FenceProof("chassis power is off", "powered_off")
    assert (tmp_path / "args").read_text() == "--first web-1 b1\n"
    told = json.loads((tmp_path / "stdin").read_text())
    assert told == {
        "node": "web-1",
        "boot": "b1",
        "host": "machine=1",
        "volumes": ["data", "logs"],
        "claimed_by_node": {"initiator": "iqn.a"},
    }
    environ = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    ours = {name: text for name, text in environ.items() if name.startswith("BRICKWORK_")}
    assert ours == {
        "BRICKWORK_NODE": "web-1",
        "BRICKWORK_BOOT": "b1",
        "BRICKWORK_HOST": "machine=1",
        "BRICKWORK_VOLUMES": "data logs",
        "BRICKWORK_SILENT_S": "31",
    }
    assert environ["SITE"] == "x"
    assert log == ["hello"]


@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        ("echo 'the switch is busy' >&2; exit 75", Retryable, "not now. the switch is busy"),
        ("echo 'no such host' >&2; exit 1", Terminal, r"failed \(exit status 1\): no such host"),
        ("exit 3", Terminal, r"failed \(exit status 3\): it said nothing"),
        ("kill -9 $$", Terminal, "killed by SIGKILL"),
        ("exit 0", Terminal, "proved nothing"),
        ("echo off", Terminal, "proved nothing"),
        ("""echo '{"evidence": "off"}'""", Terminal, "proof: Field required"),
        ("""echo '{"evidence": "", "proof": "powered_off"}'""", Terminal, "evidence"),
        ("""echo '{"evidence": "off", "proof": "probably"}'""", Terminal, "proof"),
        ("""echo '{"evidence": "off", "proof": "statement", "x": 1}'""", Terminal, "x: Extra"),
        ("head -c 100000 /dev/zero", Terminal, "proved nothing"),
    ],
)
def test_anything_else_is_no_proof(tmp_path: Path, script: str, error: type[PortError], says: str) -> None:
    """75: nothing was done. All the rest: nobody knows."""
    with pytest.raises(error, match=says):
        command(tmp_path, script).fence(TARGET, leads)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Terminal, match="can't be run"):
        FenceCommand([str(tmp_path / "none")], deadline_s=DEADLINE_S, environ={}, log=print).fence(TARGET, leads)


def is_held(lock: Path) -> bool:
    """Somebody who has the pipe open for writing is still there."""
    handle = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(handle, 1) != b""
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


def test_the_deadline_kills_the_whole_group(tmp_path: Path) -> None:
    """The children as well: what comes late could shoot a host that was started again meanwhile."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    script = f"(exec 3<>{pipe}; sleep 90) & exec 3<>{pipe}; sleep 600"
    with pytest.raises(UnknownOutcome, match="took longer than"):
        command(tmp_path, script, deadline_s=0.3).fence(TARGET, leads)
    wait_until("nobody has the pipe any more", lambda: not is_held(pipe))


def test_what_it_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    """A background process holds nothing up, and does nothing later."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert command(tmp_path, f"(exec 3<>{pipe}; sleep 90) & {PROVEN}").fence(TARGET, leads).proof == "powered_off"
    wait_until("nobody has the pipe any more", lambda: not is_held(pipe))


def test_it_is_killed_from_outside(tmp_path: Path) -> None:
    """When leadership is lost, or the agent stops: `kill` returns when it is dead."""
    pipe = tmp_path / "begun"
    os.mkfifo(pipe)
    running = command(tmp_path, f"echo > {pipe}; sleep 600")
    failed: list[PortError] = []

    def fence() -> None:
        try:
            running.fence(TARGET, leads)
        except PortError as error:
            failed.append(error)

    thread = threading.Thread(target=fence)
    thread.start()
    pipe.read_text()
    running.kill()
    thread.join()
    assert "killed by SIGKILL" in str(failed[0])
    running.kill()


def test_it_is_not_started_when_leadership_is_lost_meanwhile(tmp_path: Path) -> None:
    """Between the confirmation and the start, too: `kill` finds the command, or it never begins."""
    with pytest.raises(Retryable, match="was not started"):
        command(tmp_path, f"touch {tmp_path}/begun").fence(TARGET, lambda: False)
    assert not (tmp_path / "begun").exists()


def test_a_kill_waits_for_a_command_that_is_about_to_start(tmp_path: Path) -> None:
    """It comes while the last question is asked, which is still answered with yes."""
    running = command(tmp_path, "sleep 600")
    killers: list[threading.Thread] = []

    def still() -> bool:
        killers.append(threading.Thread(target=running.kill))
        killers[0].start()
        killers[0].join(0.2)
        assert killers[0].is_alive(), "kill returned, and the command begins"
        return True

    with pytest.raises(Terminal, match="killed by SIGKILL"):
        running.fence(TARGET, still)
    killers[0].join()
