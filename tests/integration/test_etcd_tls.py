"""The store over TLS: certificates of our own making, checked in both directions."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from reconciler.adapters.etcd import certificates
from reconciler.adapters.etcd.settings import EtcdSettings
from reconciler.adapters.etcd.store import EtcdStore
from reconciler.runtime.ports import Denied, Put, Unavailable
from tests.integration.etcd_fixture import Server, Start, eventually, reachable

pytestmark = pytest.mark.etcd


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority that lives as long as a test."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.cert = folder / f"{name}.pem"
        self._write(self.cert, self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None)))

    def issue(self, common_name: str) -> Pair:
        """A certificate for a client or for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        pair = Pair(self._folder / f"{common_name}.pem", self._folder / f"{common_name}.key")
        self._write(
            pair.cert,
            self._sign(
                subject,
                key,
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            ),
        )
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair

    def _sign(self, subject: x509.Name, key: Any, *extensions: x509.ExtensionType) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())

    @staticmethod
    def _write(path: Path, cert: x509.Certificate) -> None:
        path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))


@dataclass(frozen=True)
class Secure:
    """An etcd that takes only clients with a certificate of `authority`."""

    server: Server
    url: str
    authority: Authority

    def settings(self, pair: Pair | None, **more: Any) -> EtcdSettings:
        """Settings of a client with that certificate."""
        files = {} if pair is None else {"cert_file": pair.cert, "key_file": pair.key}
        return EtcdSettings((self.url,), **{"ca_file": self.authority.cert, **files, **more})


@pytest.fixture
def secure(start_etcd: Start, tmp_path: Path) -> Secure:
    """An etcd with TLS on a free port of 127.0.0.1, and its authority."""
    authority = Authority(tmp_path, "authority")
    own = authority.issue("etcd-server")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"https://127.0.0.1:{probe.getsockname()[1]}"
    server = start_etcd(
        f"--listen-client-urls=unix://localhost:1,{url}",
        f"--advertise-client-urls={url}",
        f"--cert-file={own.cert}",
        f"--key-file={own.key}",
        f"--trusted-ca-file={authority.cert}",
        "--client-cert-auth",
    )
    return Secure(server, url, authority)


def add_user(server: Server) -> None:
    """The user web-1 without a password, with the prefix /web-1/."""
    for line in (
        "user add root:r",
        "role add root",
        "user grant-role root root",
        "user add web-1 --no-password",
        "role add web-1",
        "role grant-permission web-1 readwrite --prefix=true /web-1/",
        "user grant-role web-1 web-1",
        "auth enable",
    ):
        server.ctl(*line.split())


def test_the_certificate_is_the_user(secure: Secure) -> None:
    """etcd takes the certificate's common name as the user: no password, and no log-in to repeat."""
    pair = secure.authority.issue("web-1")
    with EtcdStore(secure.settings(pair)) as store:
        store.txn([], [Put("/web-1/a", b"1")])
        store.txn([], [Put("/web-2/a", b"1")])
        add_user(secure.server)
        assert store.get("/web-1/a") is not None
        with pytest.raises(Denied):
            store.get("/web-2/a")


def test_a_password_over_tls(secure: Secure) -> None:
    """User and password work where the connection is private, and stand above the certificate's name."""
    pair = secure.authority.issue("web-1")
    add_user(secure.server)
    with EtcdStore(secure.settings(pair, user="root", password="r")) as store:
        store.txn([], [Put("/web-2/a", b"1")])
    with pytest.raises(ValueError, match="clear text"):
        EtcdSettings(("http://etcd.example:2379",), user="root", password="r")


def test_strangers_do_not_connect(secure: Secure, tmp_path: Path) -> None:
    """No certificate, another authority's, or a server that we do not trust: Unavailable."""
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "authority")
    mine = secure.authority.issue("web-1")
    hasty = {"timeout_s": 1.0, "attempt_timeout_s": 1.0}
    for settings, words in (
        (secure.settings(None, **hasty), "etcd does not take our certificate"),
        (secure.settings(other.issue("web-1"), **hasty), "etcd does not take our certificate"),
        (secure.settings(mine, ca_file=other.cert, **hasty), "no authority in ca_file .* has signed"),
    ):
        with EtcdStore(settings) as store, pytest.raises(Unavailable, match=words):
            store.get("/a")


def test_without_a_ca_file_the_systems_authorities_are_trusted(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    """As curl and etcdctl do, a company's own in its store among them. gRPC would take a list that it brings along."""
    settings = secure.settings(secure.authority.issue("web-1"), ca_file=None, timeout_s=1.0, attempt_timeout_s=1.0)
    with EtcdStore(settings) as store, pytest.raises(Unavailable, match="this system trusts"):
        store.get("/a")
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.authority.cert))
    with EtcdStore(settings) as store:
        assert store.get("/a") is None


def test_replaced_certificates_are_taken_up(secure: Secure, tmp_path: Path) -> None:
    """A daemon whose certificate was refused serves again once the files are replaced, without a restart."""
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "authority")
    mine = other.issue("web-1")
    good = secure.authority.issue("web-1")
    with EtcdStore(secure.settings(mine, timeout_s=0.5, attempt_timeout_s=0.5)) as store:
        with pytest.raises(Unavailable):
            store.get("/a")
        shutil.copy(good.key, mine.key)
        shutil.copy(good.cert, mine.cert)
        eventually(lambda: reachable(store))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that is wrong is an error of the settings, at the start."""
    with pytest.raises(ValueError, match=r"ca_file: .*nowhere\.pem cannot be read"):
        EtcdStore(EtcdSettings(("https://127.0.0.1:1",), ca_file=tmp_path / "nowhere.pem"))


def test_files_that_cannot_work_are_told_in_words(tmp_path: Path) -> None:
    """F-B6: gRPC says "Failed to create security handshaker" to all of these, and --check-config said nothing."""
    authority = Authority(tmp_path, "authority")
    mine, other = authority.issue("web-1"), authority.issue("web-2")
    locked = tmp_path / "locked.key"
    secret = serialization.load_pem_private_key(mine.key.read_bytes(), None)
    locked.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    for ca, cert, key, words in (
        (
            authority.cert,
            mine.cert,
            other.key,
            "key_file: .*web-2.key is not the key of the certificate in .*web-1.pem",
        ),
        (authority.cert, mine.cert, locked, "key_file: .* is encrypted, and nobody is there to ask"),
        (authority.cert, mine.cert, mine.cert, "key_file: .* holds a certificate where its private key is wanted"),
        (authority.cert, mine.key, mine.key, "cert_file: .* holds a private key where a certificate is wanted"),
        (mine.key, mine.cert, mine.key, "ca_file: .* holds a private key where a certificate is wanted"),
        (locked.with_suffix(".none"), mine.cert, mine.key, "ca_file: .* cannot be read: No such file"),
    ):
        with pytest.raises(ValueError, match=f"etcd: {words}"):
            EtcdStore(EtcdSettings(("https://127.0.0.1:1",), ca_file=ca, cert_file=cert, key_file=key))


def test_certificates_out_of_their_time_are_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    mine = authority.issue("web-1")
    settings = EtcdSettings(("https://127.0.0.1:1",), ca_file=authority.cert, cert_file=mine.cert, key_file=mine.key)
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    assert list(certificates.outdated(settings, now)) == []
    assert ["expired on" in told for told in certificates.outdated(settings, now + day)] == [True, True]
    assert ["is valid from" in told for told in certificates.outdated(settings, now - day)] == [True, True]
