"""Manifests: YAML or JSON, several documents to a file, to specs.

Everything is checked before anything is written. A fault says where it is (file, document, line, field) and what to write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click
from pydantic import ValidationError

from client.documents import Document, parse
from client.exits import Misuse
from client.scalars import doubtful, quoted
from client.settings import did_you_mean
from client.writing import label, unstorable
from schema.codec import words_of
from schema.keys import BadName, Family, Key, check_name
from schema.models import AttachmentSpec, NodeSpec, Spec, VolumeSpec

STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Wish:
    """One document, understood: the key and what is to be in it."""

    key: Key
    spec: Spec
    where: str
    generation: int = 0
    """Of the wish that `get` printed; 0: nobody printed it."""


@dataclass(frozen=True, slots=True)
class Manifests:
    """What was read. `unwished`: a line on each document that `get` printed of something that nobody wished for."""

    wishes: list[Wish]
    unwished: list[str]


class _Unwished(Exception):
    """A document of `get`'s that is no wish: being detached, retained, a backend. Applied, it would be a new one."""


@dataclass(frozen=True, slots=True)
class _Kind:
    family: Family
    model: type[Spec]
    names: tuple[str, ...]
    spec_needed: bool


KINDS = {
    "Volume": _Kind(Family.DESIRED_VOLUME, VolumeSpec, ("name",), spec_needed=True),
    "Attachment": _Kind(Family.DESIRED_ATTACHMENT, AttachmentSpec, ("node", "volume"), spec_needed=False),
    "Node": _Kind(Family.DESIRED_NODE, NodeSpec, ("name",), spec_needed=False),
}

PRINTED = ("status", "generation")
"""What `get -o yaml` adds."""


class _Fault(Exception):
    """One fault of a document: the field's path, and what is wrong with it."""

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


def read(sources: Iterable[str], stdin: TextIO) -> Manifests:
    """What all sources say.

    Args:
        sources: files, folders (their *.yaml, *.yml and *.json), or `-`.

    Raises:
        Misuse: with every fault there is, a line each.
    """
    wishes: list[Wish] = []
    unwished: list[str] = []
    faults: list[str] = []
    for name, text in _texts(sources, stdin):
        documents, fault = parse(name, text)
        faults += [fault] if fault else []
        for document in documents:
            try:
                wishes.append(understand(document))
            except _Unwished as skipped:
                unwished.append(f"{document.place()}: {skipped}")
            except ExceptionGroup as group:
                faults += [document.tell(each.path, str(each)) for each in group.exceptions if isinstance(each, _Fault)]
    faults += _doubles(wishes)
    if faults:
        raise Misuse("\n".join([*faults, "Nothing was written."]))
    if not wishes and not unwished:
        raise Misuse(f"no objects in {', '.join(sources)}")
    return Manifests(wishes, unwished)


def tell_unwished(manifests: Manifests) -> None:
    """Say what of an export was left out."""
    for line in manifests.unwished:
        click.echo(line, err=True)


def _texts(sources: Iterable[str], stdin: TextIO) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for source in sources:
        if source == STDIN:
            found.append(
                ("stdin", _decoded("stdin", stdin.buffer.read()) if hasattr(stdin, "buffer") else stdin.read())
            )
            continue
        try:
            files = list(_files(Path(source)))
        except OSError as error:
            raise Misuse(f"{source}: can't be read: {error.strerror}") from None
        for file in files:
            try:
                found.append((str(file), _decoded(str(file), file.read_bytes())))
            except OSError as error:
                raise Misuse(f"{file}: can't be read: {error.strerror}") from None
    return found


def _files(path: Path) -> Iterator[Path]:
    """The file, or a folder's manifests; what in it is not read is told."""
    if not path.is_dir():
        yield path
        return
    inside = sorted(path.iterdir())
    manifests = [each for each in inside if each.suffix.lower() in SUFFIXES and not each.is_dir()]
    for each in inside:
        if each.is_dir() and any(below.suffix.lower() in SUFFIXES for below in each.rglob("*")):
            click.echo(f"note: {each} is not read: a folder's folders are named one by one (-f {each})", err=True)
    if not manifests:
        raise Misuse(f"{path}: no {', '.join('*' + suffix for suffix in SUFFIXES)} in this folder")
    yield from manifests


def _decoded(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Misuse(
            f"{name}: line {line}: not UTF-8 (byte 0x{data[error.start]:02x}); save it as UTF-8, for instance: "
            f"iconv -f LATIN1 -t UTF-8 {name}\nNothing was written."
        ) from None


def understand(document: Document) -> Wish:
    """The wish of a document. Raises a group of its faults, or what says that it is none."""
    body = document.body
    if not isinstance(body, dict):
        raise ExceptionGroup("", [_Fault((), "must be a mapping with kind and spec")])
    name = body.get("kind")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if name == "Backend" and "status" in body:
        raise _Unwished("skipped: backends are defined in the controller's settings, not in etcd")
    if kind is None:
        raise ExceptionGroup("", [_Fault(("kind",), _kind_fault(name))])
    faults: list[_Fault] = []
    fields = ("kind", *kind.names, "spec")
    for field in body:
        if field not in fields and field not in PRINTED:
            faults.append(_Fault((str(field),), _unknown(kind.model, str(field), fields)))
    names = tuple(_name(document, field, faults) for field in kind.names)
    faults += [_Fault(path, message) for path, message in doubtful(document)]
    printed = any(field in body for field in PRINTED)
    if printed and body.get("spec") is None and not faults:
        raise _Unwished(_unwished_words(label(Key(kind.family, names)), body))
    spec = _spec(kind, document, faults)
    generation = _generation(body, faults)
    if faults or spec is None:
        raise ExceptionGroup("", faults)
    return Wish(Key(kind.family, names), spec, document.place(), generation)


def _unwished_words(name: str, body: dict[str, Any]) -> str:
    """Why it is skipped: its wish was gone, or could not be read, when it was printed."""
    why = "its wish could not be read" if body.get("generation") else "nobody wished for it"
    return f"{name} skipped: {why} when this was printed; to wish for it, write its spec"


def _generation(body: dict[str, Any], faults: list[_Fault]) -> int:
    value = body.get("generation", 0)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    faults.append(_Fault(("generation",), "must be the whole number that get printed; or leave it out"))
    return 0


def _unknown(model: type[Spec], field: str, known: tuple[str, ...]) -> str:
    if field in fields_of(model):
        return f"belongs into the spec: write spec: {{{field}: …}}"
    return f"unknown field{did_you_mean(field, known)}"


def fields_of(model: type[Spec]) -> list[str]:
    """The fields as users write them."""
    return sorted(info.alias or name for name, info in model.model_fields.items())


def _kind_fault(name: object) -> str:
    if name is None:
        return f"is missing; write one of {', '.join(KINDS)}"
    if name == "Backend":
        return "backends are defined in the controller's settings, not in etcd"
    return f"{name!r} is no kind{did_you_mean(str(name), tuple(KINDS))}"


def _name(document: Document, field: str, faults: list[_Fault]) -> str:
    value = document.body.get(field)
    if value is None:
        faults.append(_Fault((field,), "is missing"))
    elif not isinstance(value, str):
        faults.append(_Fault((field,), f"must be text: write {field}: '{document.written.get((field,), value)}'"))
    else:
        try:
            return check_name(field, value)
        except BadName as error:
            faults.append(_Fault((field,), str(error).removeprefix(f"{field} ")))
    return ""


def _spec(kind: _Kind, document: Document, faults: list[_Fault]) -> Spec | None:
    given = document.body.get("spec")
    if given is None:
        if kind.spec_needed:
            faults.append(_Fault(("spec",), "is missing"))
        given = {} if not kind.spec_needed else None
    elif not isinstance(given, dict):
        faults.append(_Fault(("spec",), "must be a mapping"))
        given = None
    if given is None:
        return None
    try:
        spec = kind.model.model_validate(given)
    except ValidationError as error:
        faults += [_field_fault(kind.model, document, each) for each in error.errors(include_url=False)]
        return None
    fault = unstorable(spec)
    if fault and not faults:
        faults.append(_Fault(("spec",), fault))
    return spec


def _field_fault(model: type[Spec], document: Document, fault: Any) -> _Fault:
    path = ("spec", *fault["loc"])
    if fault["type"] == "extra_forbidden":
        return _Fault(path, f"unknown field{did_you_mean(str(fault['loc'][-1]), fields_of(model))}")
    remedy = quoted(document, path) if fault["type"] == "string_type" else _number_in(fault)
    return _Fault(path, f"{words_of(fault)}{remedy}")


def _number_in(fault: Any) -> str:
    """`"10"` and `10G` where a number is wanted: what to write."""
    if fault["type"] != "int_type" or not isinstance(fault["input"], str):
        return ""
    match = re.fullmatch(r"\s*([0-9]{1,18})\s*([GT]?)(?:i?B)?\s*", fault["input"], re.IGNORECASE)
    if match is None:
        return ""
    return f"; write {int(match[1]) * (1024 if match[2].upper() == 'T' else 1)}, without quotes and unit"


def _doubles(wishes: list[Wish]) -> list[str]:
    """The same object twice: which of the two is meant?"""
    first: dict[Key, Wish] = {}
    found = []
    for wish in wishes:
        other = first.setdefault(wish.key, wish)
        if other is not wish:
            found.append(f"{wish.where}: {label(wish.key)} is in {other.where} already")
    return found
