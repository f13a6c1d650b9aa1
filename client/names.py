"""What users call things: `web-1/data`, `attachment/web-1/data`, `volume data`; and the nearest name, when there is none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from client.exits import Misuse, NotFound
from schema.keys import BadName, check_name

KINDS = ("volume", "attachment", "node", "backend")
_SHORT = {"vol": "volume", "att": "attachment"}


@dataclass(frozen=True, slots=True)
class Ref:
    """An object that a user means: its kind, and its one or two names."""

    kind: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}/{'/'.join(self.names)}"


def kind_of(word: str, allowed: tuple[str, ...] = KINDS) -> str:
    """`volumes`, `volume` or `vol` to `volume`."""
    single = word.lower().removesuffix("s")
    kind = _SHORT.get(single, single)
    if kind not in allowed:
        raise Misuse(f"{word!r} is no kind of object here; write one of {', '.join(allowed)}")
    return kind


def ref(kind: str, name: str) -> Ref:
    """The object of a kind with this name; `kind/name` is taken too, as `-o name` prints it."""
    name = name.removeprefix(f"{kind}/")
    parts = tuple(name.split("/"))
    roles = ("node", "volume") if kind == "attachment" else (kind,)
    if len(parts) != len(roles):
        wanted = "NODE/VOLUME, such as web-1/data" if kind == "attachment" else f"one {kind} name"
        raise Misuse(f"{name!r}: write {wanted}")
    for role, part in zip(roles, parts, strict=True):
        checked(role, part)
    return Ref(kind, parts)


def refs(words: Iterable[str], allowed: tuple[str, ...] = KINDS) -> list[Ref]:
    """`volume data logs`, `attachment web-1/data`, or `volume/data attachment/web-1/data`."""
    given = list(words)
    if not given:
        raise Misuse(f"name an object: KIND NAME or KIND/NAME, with KIND one of {', '.join(allowed)}")
    if "/" in given[0] and given[0].split("/")[0] in allowed:
        return [ref(kind_of(word.split("/")[0], allowed), word) for word in given]
    kind = kind_of(given[0], allowed)
    if not given[1:]:
        raise Misuse(f"which {kind}? Write brickctl … {kind} {'NODE/VOLUME' if kind == 'attachment' else 'NAME'}")
    return [ref(kind, word) for word in given[1:]]


def checked(role: str, name: str) -> str:
    try:
        return check_name(role, name)
    except BadName as error:
        raise Misuse(str(error)) from None


def not_found(meant: Ref, present: Iterable[str]) -> NotFound:
    """There is no such thing; is there one with nearly this name?"""
    near = get_close_matches("/".join(meant.names), list(present), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return NotFound(f"no {meant.kind} {'/'.join(meant.names)}{hint}")
