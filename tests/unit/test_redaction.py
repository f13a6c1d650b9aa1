"""Secrets are hidden by the names under which Cinder, os-brick and etcd keep them; everything else stays readable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from daemons.redaction import is_secret, redact, redact_text
from schema.models import Connection

CANARY = "canary-5f3a"


@pytest.mark.parametrize(
    "name",
    [
        "password", "auth_password", "discovery_auth_password", "san_password", "sf_password", "PASSWORD", "secret",
        "auth_secret", "pure_api_token", "token", "keyring", "keyring_data", "provider_auth", "conn_info", "provider_credential",
        "private_key", "san_private_key", "chap_key", "encryption_passphrase", "backend_pass", "access_key", "hpe3par_api_key",
    ],
)  # fmt: skip
def test_secret_names(name: str) -> None:
    assert is_secret(name)
    assert redact({"outer": [{name: CANARY}]}) == {"outer": [{name: "***"}]}


@pytest.mark.parametrize(
    "name",
    [
        "key",
        "volume",
        "auth_method",
        "password_file",
        "secrets_file",
        "token_ttl_s",
        "san_login",
        "auth_username",
        "author",
    ],
)
def test_harmless_names(name: str) -> None:
    assert not is_secret(name)
    assert redact({name: "visible"}) == {name: "visible"}


@pytest.mark.parametrize(
    "text",
    [
        f"auth_password={CANARY} next",
        f"{{'auth_password': '{CANARY}', 'lun': 1}}",
        f'{{"auth_password": "{CANARY}", "lun": 1}}',
        f'"{{\\"auth_password\\": \\"{CANARY}\\"}}"',
        f"{{'auth_password': 'it\\'s {CANARY}'}}",
        f"provider_auth: CHAP someone {CANARY}",
        f"iscsiadm --op update -n node.session.auth.password -v {CANARY}",
        f"mount --password {CANARY} /mnt",
        f"https://someone:{CANARY}@array.example/api",
        f"keyring = b'{CANARY}'",
        f"conn_info={{'a': 1, 'b': '{CANARY}'}}",
    ],
)
def test_secrets_inside_texts(text: str) -> None:
    assert CANARY in text
    assert CANARY not in redact_text(text)
    assert "***" in redact_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "volume data: exported to web-1 with epoch 7",
        "password_file: /etc/brickwork/password can't be read",
        "https://array.example:8443/api answered 503",
        "etcdserver: invalid auth token",
        "key /brickwork/v1/grants/data is missing",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert redact_text(text) == text


@dataclass
class Options:
    user: str
    password: str
    hidden: str = field(repr=False, default=CANARY)


def test_models_dataclasses_and_exceptions_are_looked_into() -> None:
    connection = Connection(uid="u", epoch=1, boot="b", phase="ready", conn_info={"data": CANARY})
    assert redact({"got": connection})["got"]["conn_info"] == "***"
    assert redact(Options("someone", CANARY)) == {"user": "someone", "password": "***"}
    assert redact(ValueError(f"token={CANARY}")) == "ValueError: token=***"


def test_stored_bytes_are_never_shown() -> None:
    assert redact({"value": CANARY.encode()}) == {"value": "<11 bytes>"}


def test_whether_something_is_set_is_no_secret() -> None:
    assert redact({"password": None, "use_chap_auth": True, "token": False}) == {
        "password": None,
        "use_chap_auth": True,
        "token": False,
    }


def test_what_contains_itself_has_an_end() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    assert "…" in str(redact(loop))


def test_a_long_word_costs_no_more_than_its_length() -> None:
    """Quadratic, this would take minutes; the suite's own patience is the limit."""
    for text in ("x" * 200_000, "x" * 200_000 + "password", "password=" + "x" * 200_000, '\\"' * 50_000 + "password"):
        assert "x" * 10 + "=" not in redact_text(text)
