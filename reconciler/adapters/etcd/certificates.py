"""Whether TLS files can work, in words that name the field: gRPC says "Failed to create security handshaker" to all of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.adapters.etcd.settings import EtcdSettings

if TYPE_CHECKING:  # imported when there are files to look at
    from cryptography import x509

_OF_SYSTEMS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
"""Debian's and its like, Red Hat's, SUSE's: where OpenSSL was built for another place."""
_PRIVATE = b"PRIVATE KEY-----"
_DER = b"\x30"


def unusable(settings: EtcdSettings) -> Iterator[str]:
    """One line for each file that no connection can be made with."""
    ca, cert = settings.ca_file, settings.cert_file
    for name, file in (("ca_file", ca), ("cert_file", cert)):
        if file is not None and isinstance(found := _certificates(file), str):
            yield f"{name}: {file} {found}"
    if settings.key_file is None or cert is None:
        return
    if isinstance(key := _public_half(settings.key_file), str):
        yield f"key_file: {settings.key_file} {key}"
    elif not isinstance(mine := _certificates(cert), str) and _spki(mine[0].public_key()) != key:
        yield f"key_file: {settings.key_file} is not the key of the certificate in {cert}"


def outdated(settings: EtcdSettings, now: datetime.datetime) -> Iterator[str]:
    """One line for each certificate that nobody accepts now, or not as a client's."""
    for name, file in (("ca_file", settings.ca_file), ("cert_file", settings.cert_file)):
        if file is None or isinstance(found := _certificates(file), str):
            continue
        if all(each.not_valid_after_utc < now for each in (found if name == "ca_file" else found[:1])):
            yield f"{name}: the certificate in {file} expired on {found[0].not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        elif all(each.not_valid_before_utc > now for each in (found if name == "ca_file" else found[:1])):
            yield f"{name}: the certificate in {file} is valid from {found[0].not_valid_before_utc:%Y-%m-%d %H:%M} UTC on"
        elif name == "cert_file" and not _is_for_clients(found[0]):
            yield f"{name}: the certificate in {file} is for servers only: etcd wants one with clientAuth"


def trusted_by_system() -> Path | None:
    """The authorities that this host trusts: gRPC in Python would take a list of its own. None: there are none."""
    import ssl

    places = (ssl.get_default_verify_paths().cafile, *_OF_SYSTEMS)  # the first may be named by SSL_CERT_FILE
    return next((Path(place) for place in places if place is not None and Path(place).is_file()), None)


def _certificates(file: Path) -> list[x509.Certificate] | str:
    """What is in it, or what is wrong with it."""
    from cryptography import x509

    try:
        content = file.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        if _PRIVATE in content:
            return "holds a private key where a certificate is wanted"
        if content.startswith(_DER):
            return "is DER where PEM is wanted: openssl x509 -inform der"
        return "holds no certificate in PEM form"


def _public_half(file: Path) -> bytes | str:
    from cryptography.hazmat.primitives import serialization

    try:
        content = file.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    try:
        return _spki(serialization.load_pem_private_key(content, password=None).public_key())
    except TypeError:
        return "is encrypted, and nobody is there to ask for its passphrase: openssl pkey -in OLD -out NEW"
    except Exception:  # ValueError, and an exception of its own for what it does not know
        if b"-----BEGIN CERTIFICATE" in content:
            return "holds a certificate where its private key is wanted"
        return (
            "is DER where PEM is wanted: openssl pkey -inform der"
            if content.startswith(_DER)
            else "holds no private key"
        )


def _spki(key: object) -> bytes:
    from cryptography.hazmat.primitives import serialization

    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _is_for_clients(certificate: x509.Certificate) -> bool:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return True
    return bool({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage))
