"""Taking secrets out of anything that is about to be shown: logs, `--check-config`, pages.

A second line of defence. The first is not to log values of `conn_info`, `provider_auth` and settings at all; this one catches
what slips through, by the names under which Cinder's drivers, os-brick and etcd keep secrets, at any depth, and by
`name: value` inside texts such as exception messages (`schema.secrets`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from schema.secrets import HIDDEN, is_secret, redact_text

__all__ = ["HIDDEN", "holds_secret", "is_secret", "redact", "redact_text"]

_DEEPEST = 20


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
        return {
            name: _hide(item) if _is_hidden(name, item) else redact(item, depth + 1) for name, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth + 1) for item in value]
    if isinstance(value, BaseException):
        return redact_text(f"{type(value).__name__}: {value}")
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_text(str(value))


def _is_hidden(name: object, item: object) -> bool:
    """A model's name, as in `backends: {token-db: …}`, is a user's; what is secret of it, its own fields say."""
    return is_secret(name) and not isinstance(item, BaseModel)


def _hide(value: object) -> object:
    """Whether something is set is no secret."""
    return value if value is None or isinstance(value, bool) else HIDDEN
