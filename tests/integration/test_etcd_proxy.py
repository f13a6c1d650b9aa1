"""etcd is reached directly whatever the environment says of proxies, unless the settings ask for one (F-K5)."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.adapters.etcd.settings import EtcdSettings
from reconciler.adapters.etcd.store import EtcdStore
from reconciler.runtime.ports import PortError
from tools.fleet import VENV

VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Listener:
    """Listens, hangs up, and remembers what was asked."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                with self._listener.accept()[0] as client:
                    self.asked.append(client.recv(4096))

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    found = Listener()
    for name in VARIABLES:
        monkeypatch.setenv(name, found.url)
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield found
    found.close()


@pytest.fixture
def server() -> Iterator[Listener]:
    """Where etcd would be."""
    found = Listener()
    yield found
    found.close()


def ask(server: Listener, *, http_proxy: bool) -> None:
    settings = EtcdSettings(endpoints=(server.url,), http_proxy=http_proxy, timeout_s=1.0, attempt_timeout_s=1.0)
    with EtcdStore(settings) as store, contextlib.suppress(PortError):
        store.get("/a")


def test_no_proxy_is_used_unless_asked_for(server: Listener, proxy: Listener) -> None:
    ask(server, http_proxy=False)
    assert server.asked
    assert proxy.asked == []
    ask(server, http_proxy=True)
    assert proxy.asked[0].startswith(b"CONNECT ")


def test_the_client_uses_none_either(server: Listener, proxy: Listener, tmp_path: Path) -> None:
    environment = {**os.environ, "BRICKWORK_ENDPOINTS": server.url, "XDG_CONFIG_HOME": str(tmp_path)}
    environment |= {"BRICKWORK_USER": "root", "BRICKWORK_PASSWORD": "correct-horse"}
    command = [str(VENV / "brickctl"), "--connect-timeout", "1", "get", "nodes"]
    subprocess.run(command, env=environment, check=False, capture_output=True, timeout=60)
    assert server.asked
    assert proxy.asked == []
    environment |= {"BRICKWORK_HTTP_PROXY": "true"}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert "clear text to a proxy" in done.stderr
    assert proxy.asked == []
    del environment["BRICKWORK_USER"], environment["BRICKWORK_PASSWORD"]
    subprocess.run(command, env=environment, check=False, capture_output=True, timeout=60)
    assert proxy.asked


def test_a_password_never_goes_to_a_proxy_in_clear_text() -> None:
    with pytest.raises(ValueError, match="clear text to a proxy"):
        EtcdSettings(endpoints=("http://127.0.0.1:2379",), user="a", password="b", http_proxy=True)
