"""The daemon as a process: signals, systemd, exit codes, failpoints."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemons.process import Exit, Failpoint, Refused, Signals, Supervisor, end_with_any_thread, run

PATIENCE_S = 10


def test_a_daemon_writes_for_itself_and_its_memory_is_nobodys(tmp_path: Path) -> None:
    """F-K13."""
    script = (
        "import ctypes, sys; from daemons.process import keep_to_itself; keep_to_itself();"
        "open(sys.argv[1], 'w'); print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "file")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


@pytest.fixture
def notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd would receive."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def test_the_first_signal_asks_to_stop_and_the_second_ends_at_once() -> None:
    stops: queue.SimpleQueue[str] = queue.SimpleQueue()
    ends: queue.SimpleQueue[int] = queue.SimpleQueue()
    with Signals(lambda: stops.put("stop"), end_at_once=ends.put) as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stops.get(timeout=PATIENCE_S) == "stop"
        assert signals.stopping.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert ends.get(timeout=PATIENCE_S) == Exit.AT_ONCE
    assert stops.empty()


def test_sighup_stops_nothing() -> None:
    stops: queue.SimpleQueue[str] = queue.SimpleQueue()
    with Signals(lambda: stops.put("stop"), end_at_once=lambda _: None) as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)  # handled after it, in order
        assert stops.get(timeout=PATIENCE_S) == "stop"
        assert signals.stopping.is_set()


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    with Signals(lambda: None):
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


STUCK = """
import ctypes
from daemons.logs import Logs
from daemons.process import Signals

logs = Logs("json", "info")
with Signals(lambda: print("stopping", flush=True)):
    print("ready", flush=True)
    mutex = ctypes.create_string_buffer(64)
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
    ctypes.CDLL(None).pthread_mutex_lock(mutex)  # for ever, whatever signals come
"""


def test_a_second_signal_ends_a_process_whose_main_thread_is_stuck_in_foreign_code() -> None:
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            assert process.stdout.readline() == "stopping\n"
            process.terminate()
            assert process.wait(PATIENCE_S) == Exit.AT_ONCE
        finally:
            process.kill()


def test_systemd_hears_ready_status_and_stopping(notifications: socket.socket) -> None:
    supervisor = Supervisor({}, alive=lambda: True)
    supervisor.ready()
    supervisor.status("3 attachments")
    supervisor.stopping()
    supervisor.close()
    assert [notifications.recv(100) for _ in range(3)] == [b"READY=1", b"STATUS=3 attachments", b"STOPPING=1"]


def test_the_watchdog_is_fed_while_the_daemon_is_alive(notifications: socket.socket) -> None:
    supervisor = Supervisor({"WATCHDOG_USEC": "3000"}, alive=lambda: True)
    supervisor.ready()
    assert [notifications.recv(100) for _ in range(4)] == [b"READY=1"] + 3 * [b"WATCHDOG=1"]
    supervisor.close()


def test_the_watchdog_is_not_fed_when_the_daemon_is_not_alive(notifications: socket.socket) -> None:
    asked = threading.Semaphore(0)

    def alive() -> bool:
        asked.release()
        return False

    supervisor = Supervisor({"WATCHDOG_USEC": "3000"}, alive=alive)
    supervisor.ready()
    for _ in range(3):
        assert asked.acquire(timeout=PATIENCE_S)
    supervisor.close()
    assert notifications.recv(100) == b"READY=1"
    notifications.setblocking(False)
    with pytest.raises(BlockingIOError):
        notifications.recv(100)


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "3000", "WATCHDOG_PID": "1"}])
def test_without_a_watchdog_for_this_process_nobody_asks(environ: dict[str, str]) -> None:
    def alive() -> bool:
        raise AssertionError("asked")

    supervisor = Supervisor(environ, alive=alive)
    supervisor.ready()
    supervisor.close()


def test_a_refusal_ends_with_its_message_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> Exit:
        raise Refused("the port is taken. Choose another")

    assert run("brickwork-node", body) is Exit.REFUSED
    assert capsys.readouterr().err == "brickwork-node: the port is taken. Choose another\n"


def test_a_fault_of_our_own_is_a_crash_and_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> Exit:
        raise KeyError("password=canary-5f3a")

    assert run("brickwork-node", body) is Exit.CRASHED
    told = capsys.readouterr().err
    assert "KeyError: 'password=***" in told
    assert "canary" not in told
    assert run("brickwork-node", lambda: Exit.OK) is Exit.OK


def test_a_fault_in_any_thread_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # put back afterwards
    ends: list[object] = []
    end_with_any_thread(end=ends.append, last=lambda: ends.append("flushed"))
    thread = threading.Thread(target=lambda: 1 // 0)
    thread.start()
    thread.join()
    assert ends == ["flushed", Exit.CRASHED]


def test_a_failpoint_kills_at_its_point_alone() -> None:
    deaths: list[str] = []
    failpoint = Failpoint("GRANT:before", die=lambda: deaths.append("dead"))
    failpoint("EXPORT:before")
    failpoint("GRANT:after")
    assert deaths == []
    failpoint("GRANT:before")
    assert deaths == ["dead"]
    Failpoint(None, die=lambda: deaths.append("dead again"))("GRANT:before")
    assert deaths == ["dead"]


def test_a_failpoint_is_a_sigkill() -> None:
    script = "from daemons.process import Failpoint; Failpoint('CLAIM:after')('CLAIM:after')"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL


def test_no_room_for_a_thread_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """F-B13."""

    def body() -> Exit:
        raise RuntimeError("can't start new thread")

    assert run("brickwork-node", body) is Exit.REFUSED
    told = capsys.readouterr().err
    assert "no room for a thread" in told
    assert "Traceback" not in told
