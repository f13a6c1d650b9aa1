"""Values to bytes and back. A bad value is an answer (`Malformed`), never an exception: it concerns its own key alone.

Bytes are JSON with a `schema` version, at most `LIMIT_BYTES`. Decoding is strict where hands write: duplicate names, NaN,
wrong types, unknown fields and over-deep nesting are told with the JSON path of the fault.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schema import SCHEMA_VERSION, models
from schema.keys import Family

LIMIT_BYTES = 32 * 1024

NEWER = "is newer than this program knows"
"""How a value of a later schema is told of. Whoever meets it upgrades; overwriting it would lose what it says."""

MODEL_OF: dict[Family, type[BaseModel]] = {
    Family.DESIRED_VOLUME: models.VolumeSpec,
    Family.DESIRED_ATTACHMENT: models.AttachmentSpec,
    Family.DESIRED_NODE: models.NodeSpec,
    Family.DESIRED_DELETION: models.DeletionSpec,
    Family.FENCE: models.FenceStatement,
    Family.FENCED: models.FenceStatement,
    Family.NODE: models.NodeRecord,
    Family.ALIVE: models.Alive,
    Family.CLAIM: models.Claim,
    Family.ATTACHMENT: models.AttachmentStatus,
    Family.BACKEND: models.BackendStatus,
    Family.STORAGE: models.BackendStorage,
    Family.VOLUME: models.VolumeStatus,
    Family.GRANT: models.Grant,
    Family.CONNECTION: models.Connection,
    Family.RECORD: models.Record,
    Family.LEADER: models.Leader,
    Family.VERDICT_VOLUME: models.Verdict,
    Family.VERDICT_ATTACHMENT: models.Verdict,
    Family.VERDICT_NODE: models.Verdict,
    Family.VERDICT_UNPARSABLE: models.Verdict,
}

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A value that can't be read: where (a JSON path) and why, fit for a user's eyes."""

    path: str
    fault: str

    @property
    def newer(self) -> bool:
        """Nothing is wrong with it: this program is too old for it."""
        return NEWER in self.fault

    def __str__(self) -> str:
        return f"{self.path}: {self.fault}"


class Oversize(ValueError):
    """A value of ours beyond the limit. Named by its kind; the value itself may hold secrets and is not shown."""


class Unstorable(ValueError):
    """A value of ours that nobody could read again: nested too deeply, or with half a character, or a number that JSON lacks."""


class _Duplicate(ValueError):
    pass


def encode(value: BaseModel) -> bytes:
    """The stored form: compact JSON, `schema` first, fields that hold nothing left out.

    Raises Oversize, and Unstorable for what `decode` would not take: then a driver gave us something that is no JSON.
    """
    try:
        body = value.model_dump_json(by_alias=True, exclude_none=True).encode()
    except ValueError as error:  # pydantic's own
        raise Unstorable(f"{type(value).__name__}: {_unfit(value) or type(error).__name__}") from None
    if (_may_be_unfit(body) or _REPLACED in body) and (fault := _unfit(value)):
        raise Unstorable(f"{type(value).__name__}: {fault}")
    head = b'{"schema":%d' % SCHEMA_VERSION
    data = head + (b"}" if body == b"{}" else b"," + body[1:])
    if len(data) > LIMIT_BYTES:
        raise Oversize(f"{type(value).__name__} needs {len(data):,} bytes; a key holds at most {LIMIT_BYTES:,}")
    return data


def unknown_fields(model: type[BaseModel], data: bytes) -> dict[str, Any]:
    """What a newer program wrote into a value that this one can read. Whoever writes it anew puts that back (`with_unknown`)."""
    parsed = _load(data)
    if isinstance(parsed, Malformed):
        return {}
    known = {"schema", *model.model_fields, *(info.alias for info in model.model_fields.values())}
    return {name: value for name, value in parsed.items() if name not in known}


def with_unknown(data: bytes, unknown: Mapping[str, Any]) -> bytes:
    """A stored form with such fields as well. Raises Oversize."""
    if not unknown:
        return data
    more = json.dumps(unknown, separators=(",", ":"), ensure_ascii=False).encode()
    whole = data[:-1] + b"," + more[1:]
    if len(whole) > LIMIT_BYTES:
        raise Oversize(
            f"it needs {len(whole):,} bytes with what a newer program wrote; a key holds at most {LIMIT_BYTES:,}"
        )
    return whole


def decode(model: type[M], data: bytes) -> M | Malformed:
    """The value, or what is wrong with it."""
    parsed = _load(data)
    if isinstance(parsed, Malformed):
        return parsed
    version = parsed.pop("schema", SCHEMA_VERSION)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        return Malformed("$.schema", "must be a whole number from 1 on")
    if version > SCHEMA_VERSION:
        return Malformed("$.schema", f"version {version} {NEWER} ({SCHEMA_VERSION}); left alone")
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        return _first_fault(model, error)


def decode_family(family: Family, data: bytes) -> BaseModel | Malformed:
    """`decode` with the model of the family."""
    return decode(MODEL_OF[family], data)


DEPTH_MAX = 32
"""Objects and lists within each other. Ten are more than any driver has; some hundreds break those who write JSON."""
_REPLACED = "\ufffd".encode()
"""What stands where a name held half a character."""


def _may_be_unfit(data: bytes) -> bool:
    """Cheap, and false of nearly all values."""
    return b"\\u" in data or b"NaN" in data or b"Infinity" in data or data.count(b"{") + data.count(b"[") > DEPTH_MAX


def _unfit(value: object) -> Malformed | None:
    """What of a parsed value could not be written again."""
    todo: list[tuple[object, str, int]] = [(value, "$", 1)]
    while todo:
        item, path, depth = todo.pop()
        item = dict(item) if isinstance(item, BaseModel) else item
        if isinstance(item, dict | list | tuple) and depth > DEPTH_MAX:
            return Malformed(
                path[:_PATH_MAX], f"nested too deeply: at most {DEPTH_MAX} objects and lists within each other"
            )
        if isinstance(item, dict):
            for name, inner in item.items():
                if _half_a_character(name):
                    return Malformed(path[:_PATH_MAX], "a name holds half a character (an unpaired \\ud800 to \\udfff)")
                todo.append((inner, f"{path}.{name}", depth + 1))
        elif isinstance(item, list | tuple):
            todo += [(inner, f"{path}[{number}]", depth + 1) for number, inner in enumerate(item)]
        elif isinstance(item, str) and _half_a_character(item):
            return Malformed(path[:_PATH_MAX], "holds half a character (an unpaired \\ud800 to \\udfff)")
        elif isinstance(item, float) and not math.isfinite(item):
            return Malformed(path[:_PATH_MAX], f"{item} is no JSON number")
    return None


_PATH_MAX = 200


def _half_a_character(text: object) -> bool:
    return isinstance(text, str) and not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text)


def host_identity_in(data: bytes) -> str | None:
    """Whose it is, of a `nodes/N` that can't be read as a whole: of a newer schema, or with one bad field."""
    told = _field_in(data, "host_identity")
    return told if isinstance(told, str) else None


def connector_in(data: bytes) -> dict[str, Any]:
    """How storage reaches it, likewise."""
    told = _field_in(data, "connector")
    return told if isinstance(told, dict) else {}


def _field_in(data: bytes, name: str) -> object:
    parsed = _load(data)
    return parsed.get(name) if isinstance(parsed, dict) else None


def _load(data: bytes) -> dict[str, Any] | Malformed:
    if len(data) > LIMIT_BYTES:
        return Malformed("$", f"{len(data):,} bytes; a value may have at most {LIMIT_BYTES:,}")
    try:
        parsed = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        return Malformed("$", f"not UTF-8 at byte {error.start}")
    except _Duplicate as error:
        return Malformed("$", f"the name {error} appears twice in one object")
    except json.JSONDecodeError as error:
        if not data.strip():
            return Malformed("$", "empty; it must be a JSON object, such as {}")
        return Malformed("$", f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
    except (RecursionError, ValueError) as error:
        return Malformed("$", "nested too deeply" if isinstance(error, RecursionError) else f"not JSON: {error}")
    if not isinstance(parsed, dict):
        return Malformed("$", "must be a JSON object, such as {}")
    return (_unfit(parsed) if _may_be_unfit(data) else None) or parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        often = Counter(name for name, _ in pairs)
        raise _Duplicate(repr(next(name for name in often if often[name] > 1))[:_PATH_MAX])
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _first_fault(model: type[BaseModel], error: ValidationError) -> Malformed:
    fault = error.errors(include_url=False, include_input=False)[0]
    path = "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        names = sorted((info.alias or name) for name, info in model.model_fields.items())
        return Malformed(path, f"unknown field; known are {', '.join(names)}")
    return Malformed(path, words_of(fault))


def words_of(fault: Mapping[str, Any]) -> str:
    """One of pydantic's faults in plain words, as the end of a sentence that begins with the field's name."""
    if fault["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return 'must be an object, such as {"name": "value"}'
    message = fault["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
    return str(message[:1].lower() + message[1:])
