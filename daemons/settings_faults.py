"""What is wrong with settings, in words: where it stands, what was given, what to write instead.

pydantic finds the faults and knows their kind; here each becomes one line that an operator can act on. Values are shown only
where they can't be secrets.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from daemons.process import Exit, Refused
from daemons.redaction import is_secret
from schema.keys import NAME_PATTERN, NAME_RULE

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from daemons.settings_source import Source

Location = tuple[int | str, ...]


class SettingsError(Refused):
    """The settings are wrong. `faults`: one line each."""

    exit = Exit.SETTINGS

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n  ".join(["the settings are wrong:", *faults]) if len(faults) > 1 else faults[0])
        self.faults = tuple(faults)


_REMEDIES = {
    "int_type": "must be a whole number, as in 8",
    "int_from_float": "must be a whole number, as in 8",
    "float_type": "must be a number, as in 2.5",
    "string_type": "must be text: put it in quotes",
    "bool_type": "must be true or false",
    "path_type": "must be a path: put it in quotes",
    "tuple_type": "must be a list, as in [a, b]",
    "model_type": "must be a mapping of settings",
    "model_attributes_type": "must be a mapping of settings",
    "mapping_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "finite_number": "must be a finite number",
    "too_short": "needs at least one entry",
}
_KINDS: Mapping[type, str] = {
    str: "text",
    bool: "a truth value",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}


def explain(model: type[BaseModel], error: ValidationError, source: Source) -> list[str]:
    """One line for each fault."""
    return [_explain_one(model, fault, source) for fault in error.errors(include_url=False)]


def _explain_one(model: type[BaseModel], fault: ErrorDetails, source: Source) -> str:
    location = tuple(part for part in fault["loc"] if part != "[key]")
    where = source.where(location)
    if fault["type"] == "missing":
        return f"{where}: is missing. {_reason(model, location)}"
    if fault["type"] == "extra_forbidden":
        return f"{where}: no such setting{_nearest(str(location[-1]), _fields(model, location[:-1]))}"
    if fault["type"] == "value_error":
        return f"{where}: {fault['ctx']['error']}"
    if fault["loc"] and fault["loc"][-1] == "[key]":
        return f"{where}: can't be a name: use {NAME_RULE}"
    if fault["type"] == "string_pattern_mismatch" and NAME_PATTERN.pattern in fault["ctx"]["pattern"]:
        return f"{where}: use {NAME_RULE}. Given was {_given(fault['input'], location)}"
    wanted = _REMEDIES.get(fault["type"]) or fault["msg"].replace("Input should", "must", 1)
    return f"{where}: {wanted}. Given was {_given(fault['input'], location)}"


def _given(value: Any, location: Location) -> str:
    kind = _KINDS.get(type(value), type(value).__name__)
    shown = isinstance(value, str | int | float) and not isinstance(value, bool)
    if not shown or "options" in location or any(is_secret(part) for part in location):
        return kind if not isinstance(value, bool) else f"{kind} ({str(value).lower()})"
    text = str(value)
    return f"{kind} ({text if len(text) <= 60 else text[:57] + '...'})"


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{hint} (there are: {', '.join(known)})" if known else hint


def _reason(model: type[BaseModel], location: Location) -> str:
    """What the missing field is for, from its own description."""
    owner = _model_at(model, location[:-1])
    info = owner.model_fields.get(str(location[-1])) if owner else None
    return " ".join(info.description.split()) if info and info.description else ""


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    owner = _model_at(model, location)
    return sorted(owner.model_fields) if owner else []


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The model that describes this part: through sections, and through mappings from names to models."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            info = current.model_fields.get(str(part))
            current = info.annotation if info else None
        else:
            current = _value_type(current)
        current = _unwrapped(current)
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _value_type(mapping: Any) -> Any:
    arguments = typing.get_args(mapping)
    return arguments[-1] if arguments else None


def _unwrapped(kind: Any) -> Any:
    """Without `| None` and `Annotated`."""
    while True:
        origin = typing.get_origin(kind)
        if origin is typing.Annotated:
            kind = typing.get_args(kind)[0]
        elif origin in (typing.Union, types.UnionType):
            kind = next(argument for argument in typing.get_args(kind) if argument is not type(None))
        else:
            return kind
