"""The one etcd of the topology, on the management network but on no guest: it outlives each of them."""

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from harness import layout
from harness.logs import LogFolder
from harness.network import Lan, Network
from harness.place import Place
from harness.waiting import wait_until

START_TIMEOUT_S = 60


class EtcdServer:
    """A single member, with its data in its place."""

    def __init__(self, place: Place, network: Network, logs: LogFolder) -> None:
        self.endpoint = f"{Lan.MANAGEMENT.address(1)}:2379"
        self._data = place.etcd_data
        self._network = network
        self._logs = logs
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Start with an empty store."""
        shutil.rmtree(self._data, ignore_errors=True)
        self.start()

    def start(self) -> None:
        """Start with the data that is there, and wait until it answers."""
        argv: list[str | Path] = [
            layout.ETCD_BINARIES / "etcd",
            "--name=e2e",
            f"--data-dir={self._data}",
            f"--listen-client-urls=http://{self.endpoint}",
            f"--advertise-client-urls=http://{self.endpoint}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=e2e=http://127.0.0.1:2380",
            "--logger=zap",
        ]
        with self._logs.file("etcd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._network.command(argv)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self.healthy, START_TIMEOUT_S, "etcd answers")

    def healthy(self) -> bool:
        """Say whether it answers a read."""
        try:
            self.etcdctl("endpoint", "health", timeout_s=10)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False
        return True

    def kill(self) -> None:
        """End it with SIGKILL; its data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop it without closing a connection: a stall, not an outage."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def ensure_running(self) -> None:
        """Undo whatever a test did to it."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        else:
            self.resume()

    def etcdctl(self, *arguments: str, timeout_s: float = 30) -> str:
        """Run etcdctl and return its output."""
        return self._network.run(
            [layout.ETCD_BINARIES / "etcdctl", *arguments], timeout_s, env={"ETCDCTL_ENDPOINTS": self.endpoint}
        ).stdout

    def put(self, key: str, value: Any) -> None:
        """Store a value as JSON."""
        self.etcdctl("put", "--", key, json.dumps(value))

    def wipe(self) -> None:
        """Delete every key."""
        self.etcdctl("del", "--prefix", "")
