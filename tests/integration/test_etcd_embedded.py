"""The embedded etcd: private, one to a folder, never left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reconciler.adapters.etcd.embedded import EmbeddedError, EmbeddedEtcd, find_binary
from reconciler.runtime.ports import Put
from tests.integration.etcd_fixture import DEADLINE_S, STATE, Server, Start, eventually, reachable

pytestmark = pytest.mark.etcd


def gone(pid: int) -> bool:
    """Is there no such process any more (nor its zombie)?"""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def children(pid: int) -> list[int]:
    """The processes that any thread of the process has started."""
    lists = [file.read_text().split() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for found in lists for child in found]


def tcp_sockets(pid: int) -> set[str]:
    """The inodes of the process's TCP sockets."""
    tables = [Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    inodes = {line.split()[9] for table in tables for line in table}
    files = {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}
    assert any(file.startswith("socket:") for file in files)
    return {inode for inode in inodes if f"socket:[{inode}]" in files}


def test_nothing_is_open_to_others(start_etcd: Start) -> None:
    """No TCP port; the sockets lie in a folder that is ours alone."""
    server = start_etcd()
    assert tcp_sockets(server.pid) == set()
    assert stat.S_IMODE(server.sockets.stat().st_mode) == 0o700


def test_data_outlive_a_restart(tmp_path: Path) -> None:
    """Stopped and started again, it has what it had; also after SIGKILL, and with fsync as in the demo."""
    server, reader = EmbeddedEtcd(tmp_path, find_binary("etcd", STATE)), Server(tmp_path)

    def kill() -> None:
        os.kill(server.pid, signal.SIGKILL)
        server.wait()

    with reader.open() as store:
        for number, ending in enumerate((server.stop, kill, server.stop)):
            server.start()
            eventually(lambda: reachable(store))
            assert len(store.list("/a/").items) == number
            store.txn([], [Put(f"/a/{number}", b"")])
            ending()


def test_one_to_a_folder(start_etcd: Start) -> None:
    """A second one on the same folder is refused, and the first not disturbed."""
    server = start_etcd()
    with pytest.raises(EmbeddedError, match="another process"):
        Server(server.folder.parent).start()
    with pytest.raises(EmbeddedError, match="already"):
        server.start()
    with server.open() as store:
        store.get("/a")


def test_a_deep_folder_gets_short_sockets(tmp_path: Path) -> None:
    """Where a socket's path would not fit, the sockets go to a short private folder; the data stay."""
    server = Server(tmp_path / ("deep" * 25))
    with server:
        assert server.sockets != server.folder
        assert stat.S_IMODE(server.sockets.stat().st_mode) == 0o700
        assert (server.folder / "data").is_dir()
        with server.open() as store:
            store.get("/a")
    assert not server.sockets.exists()


def test_a_foreign_socket_folder_is_refused(tmp_path: Path) -> None:
    """In a folder open to others somebody may have been there first."""
    server = Server(tmp_path / ("deep" * 25))
    server.sockets.symlink_to(tmp_path)
    try:
        with pytest.raises(EmbeddedError, match="not a folder of ours"):
            server.start()
    finally:
        server.sockets.unlink()


def test_it_outlives_the_thread_that_started_it(start_etcd: Start) -> None:
    """The parent-death signal is the thread's, not the process's: that must not show."""
    servers: list[Server] = []
    thread = threading.Thread(target=lambda: servers.append(start_etcd()))
    thread.start()
    thread.join()
    with servers[0].open() as store:
        store.txn([], [Put("/a", b"")])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_dies_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    """However the process that runs it ends; and the program prints where it is."""
    command = [sys.executable, "-m", "reconciler.adapters.etcd.embedded", "--state", str(tmp_path), "--unsafe-no-fsync"]
    binary = find_binary("etcd", STATE)
    environment = {**os.environ, "PATH": f"{binary.parent}:{find_binary('etcdctl', STATE).parent}:{os.environ['PATH']}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        endpoint, control = parent.stdout.readline().split(), parent.stdout.readline().split()
        assert endpoint[0] == "endpoint"
        done = subprocess.run(
            [control[1], "--endpoints", endpoint[1], "put", "a", "b"], check=True, env={"ETCDCTL_API": "3"}
        )
        assert done.returncode == 0
        (child,) = children(parent.pid)
        parent.send_signal(number)
        assert parent.wait(DEADLINE_S) == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    eventually(lambda: gone(child))


def test_why_it_did_not_start(tmp_path: Path) -> None:
    """The message has the end of etcd's own log, or the file that is wrong."""
    with pytest.raises(EmbeddedError, match="no-such-flag"):
        Server(tmp_path, "--no-such-flag").start()
    with pytest.raises(EmbeddedError, match="not an executable"):
        find_binary("etcd", tmp_path, tmp_path / "etcd")


def test_a_download_that_fails_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without etcd on PATH the package is fetched; what to do when that fails is in the message."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(EmbeddedError, match="no apt-get"):
        find_binary("etcd", tmp_path)
    for name in ("apt-get", "dpkg-deb"):
        (tools / name).write_text("#!/bin/sh\necho E: Unable to locate package >&2\nexit 100\n")
        (tools / name).chmod(0o755)
    with pytest.raises(EmbeddedError, match=r"apt-get update(.|\n)*Unable to locate"):
        find_binary("etcd", tmp_path)
