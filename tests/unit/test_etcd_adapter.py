"""The etcd adapter's parts that need no server: settings, the API definition, the judgement of versions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reconciler.adapters.etcd import rpc
from reconciler.adapters.etcd.settings import EtcdSettings
from reconciler.adapters.etcd.store import judge_version
from reconciler.runtime.ports import Unsupported


@pytest.mark.parametrize(
    ("url", "target", "secure", "local"),
    [
        ("https://etcd-1.example:2379", "etcd-1.example:2379", True, False),
        ("https://etcd-1.example", "etcd-1.example:2379", True, False),
        ("https://[2001:db8::1]:2379/", "[2001:db8::1]:2379", True, False),
        ("http://127.0.0.1:2379", "127.0.0.1:2379", False, True),
        ("http://localhost:2379", "localhost:2379", False, True),
        ("http://[::1]:2379", "[::1]:2379", False, True),
        ("http://10.0.0.1:2379", "10.0.0.1:2379", False, False),
        ("unix:///run/x/localhost:1", "unix:/run/x/localhost:1", False, True),
        ("unix:/run/x/localhost:1", "unix:/run/x/localhost:1", False, True),
    ],
)
def test_endpoints(url: str, target: str, secure: bool, local: bool) -> None:
    """Each spelling, as gRPC wants it."""
    (endpoint,) = EtcdSettings((url,)).parsed()
    assert (endpoint.target, endpoint.secure, endpoint.local) == (target, secure, local)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"endpoints": ()}, "no endpoints"),
        ({"endpoints": ("etcd-1:2379",)}, "is no endpoint"),
        ({"endpoints": ("https://",)}, "is no endpoint"),
        ({"endpoints": ("https://a:port",)}, "is no endpoint"),
        ({"endpoints": ("https://a:1/path",)}, "nothing more"),
        ({"endpoints": ("https://me:secret@a:1",)}, r"//\*\*\*@a:1.* nothing more"),
        ({"endpoints": ("https://:secret@a:1",)}, r"//\*\*\*@a:1.* nothing more"),
        ({"endpoints": ("https://secret@a:1",)}, r"//\*\*\*@a:1.* nothing more"),
        ({"endpoints": ("ftp://me:secret@a:1",)}, r"//\*\*\*@a:1.* is no endpoint"),
        ({"endpoints": ("https://me:secret@a:port",)}, r"//\*\*\*@a:port.* is no endpoint"),
        ({"endpoints": ("https://a:1#b",)}, "nothing more"),
        ({"endpoints": ("https://a:0",)}, "nothing more"),
        ({"endpoints": ("https://a b:1",)}, "nothing more"),
        ({"endpoints": ("unix://relative/s",)}, "absolute"),
        ({"endpoints": (f"unix:///{'x' * 107}",)}, "108 bytes long"),
        ({"endpoints": ("https://a:1",), "cert_file": Path("c")}, "both cert_file and key_file"),
        ({"endpoints": ("http://a:1",), "ca_file": Path("c")}, "is not https"),
        ({"endpoints": ("https://a:1",), "user": "u"}, "go together"),
        ({"endpoints": ("http://10.0.0.1:1",), "user": "u", "password": "p"}, "clear text"),
        ({"endpoints": ("https://a:1", "http://b:1"), "user": "u", "password": "p"}, "clear text to http://b:1"),
        ({"endpoints": ("https://a:1",), "timeout_s": 1.0}, "attempt_timeout_s"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], message: str) -> None:
    """Each with a message that says what to write instead."""
    with pytest.raises(ValueError, match=message) as caught:
        EtcdSettings(**settings)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_the_password_is_not_shown() -> None:
    """Settings are logged at the start of a daemon."""
    assert "hunter2" not in repr(EtcdSettings(("https://a:1",), user="u", password="hunter2"))


def test_a_password_may_go_to_this_machine() -> None:
    """A unix socket and loopback are private enough."""
    assert EtcdSettings(("unix:///s", "http://127.0.0.1:1"), user="u", password="p").user == "u"


def test_another_version_is_refused() -> None:
    """The package's files are read as text: only the known text will do."""
    with pytest.raises(rpc.ApiMissing, match=r"etcd3 0\.12\.0 is installed, and only 0\.13\.0"):
        rpc.locate(version="0.13.0")
    with pytest.raises(rpc.ApiMissing, match="is not installed"):
        rpc.locate("no-such-distribution")


def test_other_files_of_that_name_are_refused(tmp_path: Path) -> None:
    """Another distribution that overwrote the folder is noticed by the digest."""
    with pytest.raises(rpc.ApiMissing, match="not readable"):
        rpc.read(tmp_path)
    for file in rpc.locate().glob("*_pb2.py"):
        shutil.copy(file, tmp_path)
    assert rpc.read(tmp_path) == rpc.read(rpc.locate())
    changed = tmp_path / "kv_pb2.py"
    changed.write_text(changed.read_text().replace("mvccpb", "mvccqb"))
    with pytest.raises(rpc.ApiMissing, match=r"is not that of etcd3 0\.12\.0"):
        rpc.read(tmp_path)


def test_the_progress_request_reaches_the_wire() -> None:
    """The definition does not know it: it is kept as an unknown field."""
    assert rpc.PROGRESS_REQUEST.SerializeToString() == b"\x1a\x00"


@pytest.mark.parametrize(
    ("version", "good"),
    [
        *(
            ("3.4.23", False),
            ("3.5.16", False),
            ("3.5.32", False),
            ("3.5.33", True),
            ("3.6.13", False),
            ("3.6.14", True),
        ),
        *(("3.7.0", False), ("3.7.1", True), ("3.8.0-alpha.0", True), ("4.0.0", True), ("unknown", False)),
    ],
)
def test_versions(version: str, good: bool) -> None:
    """Those that let one user past another's role come with a warning."""
    assert (judge_version(version) is None) == good


def test_a_version_that_is_too_old() -> None:
    """etcd 3.3 does not answer progress requests, which the watch relies on."""
    with pytest.raises(Unsupported, match=r"3\.4 or later"):
        judge_version("3.3.27")
