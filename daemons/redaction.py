"""Taking secrets out of anything that is about to be shown: logs, `--check-config`.

A second line of defence. The first is not to log values of `conn_info`, `provider_auth` and settings at all; this one catches
what slips through, by the names under which Cinder's drivers, os-brick and etcd keep secrets, at any depth, and by
`name: value` inside texts such as exception messages.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

HIDDEN = "***"

_SECRET_WORDS = (
    "password|passwd|passphrase|secret|token|keyring|credential|private_?key|api_?key|access_?key|chap_?key|"
    "provider_auth|conn_info|connection_info|auth_?key"
)
_SECRET_NAME = re.compile(rf"{_SECRET_WORDS}|^auth$|_auth$|^pass$|_pass$", re.IGNORECASE)
_HARMLESS_NAME = re.compile(r"_(file|path|folder|s|method|type)$", re.IGNORECASE)
"""`password_file` is where a secret lies, not the secret."""

_NAME = rf"(?P<name>(?<![\w-])[\w-]*(?:{_SECRET_WORDS})[\w-]*)"  # from a word's beginning: else quadratic in its length
_QUOTED = r"""\\*b?'(?:[^'\\]|\\.)*'|b?"(?:[^"\\]|\\.)*"|\\+".*?\\+\""""
_VALUE = rf"(?:{_QUOTED}|CHAP\s+\S+\s+\S+|\{{[^{{}}]*\}}|\([^()]*\)|\[[^\[\]]*\]|[^\s,;)}}\]]+)"
_IN_TEXT = (
    re.compile(rf"""(?P<before>{_NAME}(?:\\*['"])?\s*[:=]\s*){_VALUE}(?P<after>)""", re.IGNORECASE),
    re.compile(rf"(?P<before>(?<=\s)(?=-){_NAME}\s+)\S+(?P<after>)", re.IGNORECASE),  # a command line
    re.compile(r"(?P<name>)(?P<before>auth\.password(?:_in)?\s+-v\s+)\S+(?P<after>)"),  # iscsiadm's
    re.compile(r"(?P<name>)(?P<before>://[^/\s:@]+:)[^/\s@]+(?P<after>@)"),  # a URL's
)
_MAY_MATCH = re.compile(rf"{_SECRET_WORDS}|://", re.IGNORECASE)
"""Cheap, and true of few texts."""
_DEEPEST = 20


def is_secret(name: object) -> bool:
    """Whether a value of this name is to be hidden."""
    text = name if isinstance(name, str) else str(name)
    return bool(_SECRET_NAME.search(text)) and not _HARMLESS_NAME.search(text)


def holds_secret(name: object, value: object) -> bool:
    """Whether something of it would be hidden."""
    if isinstance(value, Mapping):
        return any(holds_secret(inner, item) for inner, item in value.items())
    if isinstance(value, list | tuple):
        return any(holds_secret(name, item) for item in value)
    if value is None or isinstance(value, bool):
        return False
    return is_secret(name) or redact_text(str(value)) != str(value)


def redact(value: Any, depth: int = 0) -> Any:
    """The value with every secret in it hidden; plain dicts, lists and texts."""
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"  # stored values; they may be anything
    if isinstance(value, BaseModel):
        value = dict(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.repr}
    if isinstance(value, Mapping):
        return {name: _hide(item) if is_secret(name) else redact(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth + 1) for item in value]
    if isinstance(value, BaseException):
        return redact_text(f"{type(value).__name__}: {value}")
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_text(str(value))


def redact_text(text: str) -> str:
    """The text with what follows a secret's name hidden: `password=x`, `'auth_password': 'x'`."""
    if not _MAY_MATCH.search(text):
        return text
    for pattern in _IN_TEXT:
        text = pattern.sub(_replace, text)
    return text


def _replace(found: re.Match[str]) -> str:
    if _HARMLESS_NAME.search(found["name"]):
        return found[0]
    return found["before"] + HIDDEN + found["after"]


def _hide(value: object) -> object:
    """Whether something is set is no secret."""
    return value if value is None or isinstance(value, bool) else HIDDEN
