"""Foreign code in killable children: whatever it does, its calls end in time and nothing of it lands later.

This file is both sides: pytest imports it, and each child executes it as ``python -m test_child``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from reconciler.adapters.child import Child, end_survivors, level_of, levels, serve
from reconciler.runtime import ports
from schema.secrets import KnownSecrets

HERE = Path(__file__).parent
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878

# --- The child's handlers ------------------------------------------------------------------------------------------------


def spawn(params: Mapping[str, Any]) -> int:
    """Start a grandchild that would write a file far in the future, like an lvcreate under load."""
    daemonise = params.get("daemonise", False)
    script = f"sleep 600; echo landed > {params['file']}"
    return subprocess.Popen(["/bin/sh", "-c", script], start_new_session=daemonise).pid


def spawn_and_hang(params: Mapping[str, Any]) -> NoReturn:
    Path(params["pids"]).write_text(
        json.dumps({"worker": os.getpid(), "keeper": os.getppid(), "grandchild": spawn(params)})
    )
    while True:
        signal.pause()


def hold_the_gil(_: Mapping[str, Any]) -> None:
    """Hang in C without letting any other Python thread run."""
    ctypes.PyDLL(None).pause()


def write_frozen(params: Mapping[str, Any]) -> int:
    """A grandchild that the kernel keeps in state D."""
    return subprocess.Popen(["/bin/sh", "-c", f"echo x > {params['file']}"]).pid


def babble(_: Mapping[str, Any]) -> str:
    print("no JSON at all")
    os.write(1, b'{"id": 1, "ok": "forged"}\n')
    subprocess.run(["/bin/echo", "a library's tool speaks"], check=True)
    return "the real answer"


def fail(params: Mapping[str, Any]) -> NoReturn:
    kinds: dict[str, BaseException] = {
        "Busy": ports.Busy("in use", ["mounted at /srv"]),
        "IdentityMismatch": ports.IdentityMismatch("another disk"),
        "DuplicateIdentity": ports.DuplicateIdentity("two of one"),
        "ValueError": ValueError("seven"),
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
    }
    raise kinds[params["kind"]]


def read_fds(_: Mapping[str, Any]) -> dict[str, str]:
    return {
        fd: os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    }


CANARY = "c4nary-7d1e"


def leak(params: Mapping[str, Any]) -> dict[str, Any]:
    """Everything by which foreign code may say a secret, one that it was given or one that it makes up."""
    said = params.get("password") or "made-up-" + CANARY
    secrets.add(said)
    print("printed", said)
    print(f"options {{'san_password': {said!r}}}", file=sys.stderr)
    os.write(2, f"from C: {said}\n".encode())
    subprocess.run(["/bin/sh", "-c", f"echo a tool says {said}"], check=True)
    nothing: dict[str, str] = {}
    thread = threading.Thread(target=lambda: nothing[said])
    thread.start()
    thread.join()
    if params.get("raises"):
        raise ValueError(f"could not log in with {said} (attempt {said})")
    if params.get("busy"):
        raise ports.Busy(f"{said} is busy", [f"held by {said}"])
    return {"auth_password": "returned-" + CANARY}


def log_at_levels(_: Mapping[str, Any]) -> None:
    """As the workers do, whose formatters mark each line."""
    print(levels.mark("careful", logging.WARNING))
    print(levels.mark("it failed\nTraceback", logging.ERROR), flush=True)
    os._exit(1)


def print_what_was_returned(_: Mapping[str, Any]) -> None:
    print("later: returned-" + CANARY)


def forge(params: Mapping[str, Any]) -> NoReturn:
    """Bytes on the reply pipe that are no reply."""
    pipe = next(
        int(fd) for fd, to in read_fds({}).items() if to.startswith("pipe:") and int(fd) > 2 and writable(int(fd))
    )
    with contextlib.suppress(OSError):
        for _ in range(params.get("times", 1)):
            os.write(pipe, params["bytes"].encode())
    while True:
        signal.pause()


def writable(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY


secrets = KnownSecrets()
MEETING = threading.Barrier(8)

HANDLERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "echo": lambda params: params,
    "environment": lambda _: dict(os.environ),
    "pids": lambda _: {"worker": os.getpid(), "keeper": os.getppid()},
    "meet": lambda _: MEETING.wait(20) >= 0,
    "segfault": lambda _: ctypes.string_at(0),
    "unserialisable": lambda _: {1, 2},
    "spawn": spawn,
    "spawn_and_hang": spawn_and_hang,
    "hold_the_gil": hold_the_gil,
    "write_frozen": write_frozen,
    "babble": babble,
    "leak": leak,
    "print_what_was_returned": print_what_was_returned,
    "log_at_levels": log_at_levels,
    "forge": forge,
    "fail": fail,
    "fds": read_fds,
}


def start_badly() -> None:
    match sys.argv[1:]:
        case ["refuse"]:
            raise ports.Terminal("install py-pure-client")
        case ["crash"]:
            print("no such module: rados", file=sys.stderr)
            os._exit(7)
        case ["hang"]:
            signal.pause()


# --- The tests -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def child(tmp_path: Path, lines: list[str]) -> Iterator[Child]:
    child = make_child(tmp_path, log=lines.append)
    child.start(20)
    yield child
    child.kill()


def make_child(folder: Path, *argv: str, log: Callable[[str], None] | None = None) -> Child:
    here = {"PYTHONPATH": str(HERE)}
    return Child("test_child", name="test", state_folder=folder, environment=here, argv=argv, log=log)


def alive(pid: int) -> bool:
    """Whether a process can still do anything (a zombie can't)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def eventually(condition: Callable[[], Any], deadline_s: float = 20) -> Any:
    until = time.monotonic() + deadline_s
    while not (result := condition()):
        assert time.monotonic() < until, "the condition never held"
        threading.Event().wait(0.01)
    return result


def states(pid: int) -> set[str]:
    """The scheduler's states of a process's threads: ``{"T"}`` when all of it has stopped."""
    return {path.read_text().rpartition(") ")[2][0] for path in Path(f"/proc/{pid}/task").glob("*/stat")}


def read_pids(path: Path) -> dict[str, int]:
    eventually(lambda: path.exists() and path.stat().st_size)
    pids: dict[str, int] = json.loads(path.read_text())
    return pids


def test_a_call_returns_what_the_handler_returned(child: Child) -> None:
    assert child.call("echo", {"a": [1, None, "ü\n"]}, 20) == {"a": [1, None, "ü\n"]}


def test_requests_larger_than_a_pipe_arrive(child: Child) -> None:
    assert len(child.call("echo", {"a": "x" * 5_000_000}, 60)["a"]) == 5_000_000


def test_eight_calls_run_at_once(child: Child) -> None:
    """All eight handlers meet at a barrier: none of them waits for another's end."""
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: child.call("meet", {}, 30), range(8))) == [True] * 8


@pytest.mark.parametrize("kind", [ports.Busy, ports.IdentityMismatch])
def test_port_errors_arrive_as_what_they_are(child: Child, kind: type[ports.PortError]) -> None:
    with pytest.raises(kind) as caught:
        child.call("fail", {"kind": kind.__name__}, 20)
    assert type(caught.value) is kind
    assert getattr(caught.value, "holders", ()) == (("mounted at /srv",) if kind is ports.Busy else ())


@pytest.mark.parametrize("kind", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_anything_else_that_is_raised_is_retryable_and_ends_nothing(child: Child, kind: str) -> None:
    with pytest.raises(ports.Retryable, match=kind) as caught:
        child.call("fail", {"kind": kind}, 20)
    assert type(caught.value) is ports.Retryable
    assert child.call("echo", {}, 20) == {}


def test_a_result_that_is_not_json_is_an_error(child: Child) -> None:
    with pytest.raises(ports.Retryable, match="TypeError"):
        child.call("unserialisable", {}, 20)


def test_prints_of_libraries_and_tools_do_not_disturb_the_protocol(child: Child, lines: list[str]) -> None:
    assert child.call("babble", {}, 20) == "the real answer"
    eventually(lambda: "a library's tool speaks" in lines)
    assert '{"id": 1, "ok": "forged"}' in lines


def test_what_a_child_logs_keeps_its_level(child: Child, lines: list[str]) -> None:
    """F-C21. Its last words are without the marks."""
    with pytest.raises(ports.UnknownOutcome, match=r"careful \| it failed \| Traceback$"):
        child.call("log_at_levels", {}, 20)
    logged = [(line, level_of(line)) for line in lines if line in ("careful", "it failed", "Traceback")]
    assert logged == [("careful", logging.WARNING), ("it failed", logging.ERROR), ("Traceback", logging.ERROR)]


@pytest.mark.parametrize("given", [CANARY, ""])
@pytest.mark.parametrize("how", ["raises", "busy", "returns"])
def test_nothing_that_foreign_code_says_holds_a_secret(child: Child, lines: list[str], how: str, given: str) -> None:
    """F-K1, F-K2: secrets of a call, those that it makes up, those that it returned; printed, raised, thrown in a thread."""
    error = ""
    try:
        child.call("leak", {"password": given, how: True}, 60)
    except ports.PortError as raised:
        error = f"{raised} {getattr(raised, 'holders', '')}"
    child.call("print_what_was_returned", {}, 60)
    child.kill()
    text = "\n".join(lines)
    words = ["printed ***", "from C: ***", "a tool says ***", "KeyError: '***'"] + ["later: ***"] * (how == "returns")
    assert [word for word in words if word not in text] == []
    assert CANARY not in (text + error).replace("later: returned-" + CANARY, "" if how != "returns" else "!" + CANARY)
    assert (error == "") == (how == "returns")


def test_last_words_hold_no_secret(child: Child) -> None:
    with pytest.raises(ports.UnknownOutcome, match=r"Its last words: .*KeyError: '\*\*\*'") as told:
        child.call("segfault", child.call("leak", {"password": CANARY}, 60), 60)
    assert CANARY not in str(told.value)


@pytest.mark.parametrize(
    "params",
    [
        {"bytes": "x" * 60_000, "times": 20},
        {"bytes": "+" + "x" * 60_000 + "\n", "times": 1200},
        {"bytes": '{"id": 1, "error": {"kind": "open", "message": "a name of the module, but no error"}}\n'},
        {"bytes": '{"id": 1, "error": {"kind": "PortError", "message": "too general"}}\n'},
        {"bytes": '{"id": 1, "error": "text"}\n'},
        {"bytes": '{"id": 1, "error": {"kind": ["Retryable"], "message": "m"}}\n'},
        {"bytes": '{"id": "1", "ok": 1}\n'},
        {"bytes": "[]\n"},
        {"bytes": "[" * 50_000 + "\n"},
        {"bytes": "\udcff\n".encode("utf-8", "surrogateescape").decode("latin-1")},
    ],
)
def test_what_is_no_reply_ends_the_child_and_leaves_the_outcome_open(child: Child, params: dict[str, Any]) -> None:
    with pytest.raises(ports.UnknownOutcome, match="its pipe could not be read: BadReply"):
        child.call("forge", params, 60)
    assert not child.running


def test_a_log_that_fails_ends_nothing(tmp_path: Path) -> None:
    def refuse(_line: str) -> NoReturn:
        raise OSError("no space left on device")

    child = make_child(tmp_path, log=refuse)
    child.start(20)
    assert [child.call("babble", {}, 20) for _ in range(3)] == ["the real answer"] * 3
    child.kill()


def test_a_hanging_call_is_killed_with_what_it_started(child: Child, tmp_path: Path) -> None:
    pids, landed = tmp_path / "pids", tmp_path / "landed"
    with pytest.raises(ports.UnknownOutcome, match="no answer to spawn_and_hang"):
        child.call("spawn_and_hang", {"pids": str(pids), "file": str(landed)}, 3)
    assert [pid for pid in read_pids(pids).values() if alive(pid)] == []
    assert not landed.exists()
    assert not child.running
    with pytest.raises(ports.Unavailable, match="spawn_and_hang took longer than 3 s"):
        child.call("echo", {}, 20)


def test_a_call_that_blocks_all_threads_is_killed_too(child: Child) -> None:
    """The pipe then fills up: neither writing nor waiting may go beyond the deadline."""
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(child.call, "hold_the_gil", {}, 2)]
        calls += [pool.submit(child.call, "echo", {"a": "x" * 1_000_000}, 2) for _ in range(3)]
    errors = [call.exception() for call in calls]
    assert any(isinstance(error, ports.UnknownOutcome) for error in errors)
    assert all(error is None or isinstance(error, ports.UnknownOutcome | ports.Unavailable) for error in errors)
    assert not child.running


def test_a_crash_is_an_unknown_outcome_that_names_the_signal(child: Child) -> None:
    with pytest.raises(ports.UnknownOutcome, match="SIGSEGV"):
        child.call("segfault", {}, 20)
    child.start(20)
    assert child.call("echo", {}, 20) == {}


def test_an_end_that_nobody_asked_for_is_logged(tmp_path: Path) -> None:
    """The out-of-memory killer, say: between two calls there is nobody who would be told."""
    lines: list[str] = []
    child = make_child(tmp_path, log=lines.append)
    child.start(20)
    child.kill()
    assert [line for line in lines if "ended" in line] == []
    child.start(20)
    os.kill(child.call("pids", {}, 20)["worker"], signal.SIGKILL)
    ended = "the process ended: died of SIGKILL"
    eventually(lambda: ended in lines)
    assert level_of(lines[lines.index(ended)]) == logging.WARNING


def test_a_crash_ends_what_the_child_had_started(child: Child, tmp_path: Path) -> None:
    grandchild = child.call("spawn", {"file": str(tmp_path / "landed")}, 20)
    with pytest.raises(ports.UnknownOutcome):
        child.call("segfault", {}, 20)
    assert not alive(grandchild)


def test_killing_ends_the_calls_in_flight(child: Child, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(child.call, "spawn_and_hang", {"pids": str(pids), "file": str(tmp_path / "landed")}, 60)
        seen = read_pids(pids)
        child.kill()
        assert [pid for pid in seen.values() if alive(pid)] == []
        assert isinstance(call.exception(20), ports.UnknownOutcome)
    assert list(tmp_path.glob("child-*")) == []


def test_what_made_itself_a_daemon_is_left_alone(child: Child, tmp_path: Path) -> None:
    daemon = child.call("spawn", {"file": str(tmp_path / "landed"), "daemonise": True}, 20)
    child.kill()
    try:
        assert alive(daemon)
    finally:
        os.killpg(daemon, signal.SIGKILL)


def test_the_child_gets_no_descriptor_and_no_setting_of_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRICKWORK_ETCD_PASSWORD", "canary")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    child = make_child(tmp_path)
    with open(tmp_path / "secret", "w") as file:
        os.set_inheritable(file.fileno(), True)
        child.start(20)
        environment, fds = child.call("environment", {}, 20), child.call("fds", {}, 20)
    assert [name for name in environment if name.startswith(("BRICKWORK_", "NOTIFY"))] == ["BRICKWORK_CHILD"]
    assert sorted(map(int, fds))[:3] == [0, 1, 2]
    assert fds["0"] == os.devnull
    assert all(target.startswith(("pipe:", "/proc/", os.devnull)) for target in fds.values())
    child.kill()


def test_the_record_is_private_and_goes_with_the_child(child: Child, tmp_path: Path) -> None:
    (record,) = tmp_path.glob("child-*")
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    child.kill()
    assert not record.exists()


@pytest.mark.parametrize(
    ("argv", "kind", "text"),
    [
        ("refuse", ports.Terminal, "install py-pure-client"),
        ("crash", ports.Unavailable, "exit status 7.*no such module: rados"),
        ("hang", ports.Unavailable, "no answer within 2 s"),
    ],
)
def test_a_failing_start_says_why(tmp_path: Path, argv: str, kind: type[ports.PortError], text: str) -> None:
    child = make_child(tmp_path, argv)
    with pytest.raises(kind, match=text) as caught:
        child.start(2 if argv == "hang" else 20)
    assert type(caught.value) is kind
    assert not child.running


def test_a_state_folder_that_can_not_be_had_is_unavailable_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    child = make_child(tmp_path / "file" / "absent")
    with pytest.raises(ports.Unavailable, match="cannot write"):
        child.start(20)
    assert not child.running


# --- The daemon is killed ------------------------------------------------------------------------------------------------

DAEMON = """
import pathlib, sys, threading, time
import test_child
child = test_child.make_child(pathlib.Path(sys.argv[1]))
threading.Thread(target=child.start, args=(20,)).start()  # the thread that starts a child may end; the child stays
while not child.running: pass
child.call("spawn", {"file": sys.argv[1] + "/landed", "daemonise": True}, 20)
for permitted_s in sys.argv[2:]: child.permit(time.clock_gettime(time.CLOCK_BOOTTIME) + float(permitted_s))
child.call("spawn_and_hang", {"pids": sys.argv[1] + "/pids", "file": sys.argv[1] + "/landed"}, 600)
"""


@pytest.fixture(autouse=True)
def no_strays(tmp_path: Path) -> Iterator[None]:
    """Grandchildren that made themselves daemons outlive everything, as they should; not the test, though."""
    yield
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{tmp_path}/landed".encode() in (folder / "cmdline").read_bytes():
                os.killpg(os.getpgid(int(folder.name)), signal.SIGKILL)


@pytest.fixture
def daemon(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, int]]]:
    """A daemon with a call in hand. Parameters: the permissions that it gives its child, in seconds from then."""
    command = [sys.executable, "-c", DAEMON, str(tmp_path), *getattr(request, "param", ())]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(HERE)})
    pids = read_pids(tmp_path / "pids")
    yield process, pids
    process.kill()
    process.wait()
    end_survivors(tmp_path, 20)


def test_a_killed_daemon_takes_its_child_and_grandchildren_along(
    daemon: tuple[subprocess.Popen[bytes], dict[str, int]], tmp_path: Path
) -> None:
    process, pids = daemon
    process.kill()
    eventually(lambda: not any(alive(pid) for pid in pids.values()))
    end_survivors(tmp_path, 20)
    assert list(tmp_path.glob("child-*")) == []


@pytest.mark.parametrize("daemon", [("2",), ("3600", "2")], indirect=True, ids=["one", "the last counts"])
def test_a_stopped_daemon_has_no_calls_beyond_its_permission(
    daemon: tuple[subprocess.Popen[bytes], dict[str, int]],
) -> None:
    """Its successor may act soon, and nobody in a stopped process can end anything."""
    process, pids = daemon
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: states(process.pid) == {"T"})
    eventually(lambda: not any(alive(pid) for pid in pids.values()))
    assert process.poll() is None


def test_a_permission_that_is_renewed_ends_nothing(child: Child) -> None:
    for ahead_s in (0.5, 0.6, 3600.0):
        child.permit(time.clock_gettime(time.CLOCK_BOOTTIME) + ahead_s)
    first = time.clock_gettime(time.CLOCK_BOOTTIME) + 0.7
    eventually(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > first)
    assert child.call("echo", {"a": 1}, 20) == {"a": 1}


def test_a_permission_given_while_the_child_is_being_started_counts(tmp_path: Path) -> None:
    """The lease is renewed by another thread, and a start takes its time on a busy host: one renewal lost is one too many."""
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)

    class Busy(type(tmp_path)):  # type: ignore[misc]  # the state folder is written to in the middle of a start
        def __fspath__(self) -> str:
            starting.permit(now_s + 3600.0)
            return str(self)

    starting = Child("test_child", name="test", state_folder=Busy(tmp_path), environment={"PYTHONPATH": str(HERE)})
    starting.permit(now_s + 0.5)
    starting.start(20)
    try:
        eventually(lambda: time.clock_gettime(time.CLOCK_BOOTTIME) > now_s + 1.0)
        assert starting.call("echo", {"a": 1}, 20) == {"a": 1}
    finally:
        starting.kill()


def test_survivors_of_daemon_and_keeper_are_ended_before_the_next_start(
    daemon: tuple[subprocess.Popen[bytes], dict[str, int]], tmp_path: Path
) -> None:
    process, pids = daemon
    process.send_signal(signal.SIGSTOP)  # or it would sweep up itself
    eventually(lambda: states(process.pid) == {"T"})  # a thread that has not stopped yet would still do it
    os.kill(pids["keeper"], signal.SIGKILL)
    eventually(lambda: not alive(pids["worker"]))  # by its parent-death signal
    process.kill()
    assert alive(pids["grandchild"])
    end_survivors(tmp_path, 20)
    assert not alive(pids["grandchild"])
    assert list(tmp_path.glob("child-*")) == []


def test_a_session_number_in_use_by_somebody_else_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    eventually(Path(f"/proc/{stranger.pid}/environ").read_bytes)  # in the middle of exec it has none yet
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (tmp_path / "child-1.json").write_text(json.dumps({"token": "t", "session": stranger.pid, "boot": boot}))
    (tmp_path / "child-2.json").write_text('{"tok')
    end_survivors(tmp_path, 20)
    assert stranger.poll() is None
    assert list(tmp_path.glob("child-*")) == []
    stranger.kill()
    stranger.wait()


# --- State D -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A file system on which writing hangs in state D, and what thaws it."""
    image, mount = tmp_path / "image", tmp_path / "mount"
    mount.mkdir()
    image.touch()
    os.truncate(image, 16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    folder = os.open(mount, os.O_RDONLY)
    fcntl.ioctl(folder, FIFREEZE, 0)
    thawed = threading.Event()

    def thaw() -> None:
        if not thawed.is_set():
            fcntl.ioctl(folder, FITHAW, 0)
            thawed.set()

    yield mount, thaw
    thaw()
    os.close(folder)
    subprocess.run(["umount", mount], check=True)


@pytest.mark.root
def test_kill_returns_only_when_the_kernel_has_let_go(
    child: Child, frozen: tuple[Path, Callable[[], None]], lines: list[str]
) -> None:
    mount, thaw = frozen
    stuck = child.call("write_frozen", {"file": str(mount / "late")}, 20)
    eventually(lambda: Path(f"/proc/{stuck}/stat").read_text().rpartition(") ")[2][0] == "D")
    killing = threading.Thread(target=child.kill)
    killing.start()
    eventually(lambda: any(f"pid {stuck} (sh, state D)" in line for line in lines))
    assert killing.is_alive()
    with pytest.raises(ports.Unavailable, match=f"pid {stuck} .*state D"):
        child.start(1)
    thaw()
    killing.join(20)
    assert not killing.is_alive()
    assert not alive(stuck)
    assert not (mount / "late").exists() or (mount / "late").stat().st_size == 0


if __name__ == "__main__":
    serve(HANDLERS, secrets=secrets, concurrency=8, on_start=start_badly)
