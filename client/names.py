"""What users call things: `web-1/data`, `attachment/web-1/data`, `volume data`; and the nearest name, when there is none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import click

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


def _single(word: str) -> str:
    single = word.lower().removesuffix("s")
    return _SHORT.get(single, single)


def kind_of(word: str, allowed: tuple[str, ...] = KINDS) -> str:
    """`volumes`, `volume` or `vol` to `volume`."""
    kind = _single(word)
    if kind not in allowed:
        near = get_close_matches(kind, allowed, n=1)
        hint = f" did you mean {near[0]}?" if near else ""
        raise Misuse(f"{word!r} is no kind of object here;{hint} write one of {', '.join(allowed)}")
    return kind


def pair(words: Iterable[str], command: str) -> tuple[str, str]:
    """Node and volume of `web-1 data`, `web-1/data` and `attachment/web-1/data`: what commands take who need no kind."""
    text = "/".join(word for word in words if word)
    parts = text.split("/")
    if len(parts) == 3 and _single(parts[0]) in ("attachment", "node"):
        del parts[0]
    if len(parts) == 1:
        raise Misuse(f"which volume? Write brickctl {command} NODE VOLUME")
    if len(parts) != 2:
        raise Misuse(f"{text!r}: write NODE VOLUME, or NODE/VOLUME, such as web-1/data")
    return checked("node", parts[0]), checked("volume", parts[1])


def plain(kind: str, word: str) -> str:
    """The name in `web-1` and `node/web-1`."""
    head, slash, name = word.partition("/")
    return checked(kind, name if slash and _single(head) == kind else word)


node_argument = click.argument("node", callback=lambda _ctx, _param, word: plain("node", word))
"""The node that a command is about."""


def ref(kind: str, name: str) -> Ref:
    """The object of a kind with this name; `kind/name` is taken too, as `-o name` prints it."""
    head, slash, rest = name.partition("/")
    if slash and (kind != "attachment" or "/" in rest) and _single(head) == kind:
        name = rest
    parts = tuple(name.split("/"))
    roles = ("node", "volume") if kind == "attachment" else (kind,)
    if len(parts) != len(roles):
        wanted = "NODE/VOLUME, such as web-1/data" if kind == "attachment" else f"one {kind} name"
        raise Misuse(f"{name!r}: write {wanted}")
    for role, part in zip(roles, parts, strict=True):
        checked(role, part)
    return Ref(kind, parts)


def refs(words: Iterable[str], allowed: tuple[str, ...] = KINDS) -> list[Ref]:
    """`volume data logs`, `attachment web-1/data`, `attachment web-1 data`, or `volume/data attachment/web-1/data`."""
    given = list(words)
    if not given:
        raise Misuse(f"name an object: KIND NAME or KIND/NAME, with KIND one of {', '.join(allowed)}")
    if "/" in given[0] and _single(given[0].split("/")[0]) in allowed:
        return [ref(kind_of(word.split("/")[0], allowed), word) for word in given]
    kind = kind_of(given[0], allowed)
    if not given[1:]:
        raise Misuse(f"which {kind}? Write brickctl … {kind} {'NODE/VOLUME' if kind == 'attachment' else 'NAME'}")
    return [ref(kind, word) for word in (_pairs(given[1:]) if kind == "attachment" else given[1:])]


def _pairs(words: list[str]) -> list[str]:
    """`web-1 data` to `web-1/data`, where names are given without a slash: then they come two by two."""
    if any("/" in word for word in words):
        return words
    if len(words) % 2:
        raise Misuse(f"{' '.join(words)!r}: write NODE/VOLUME, or NODE VOLUME, such as web-1/data")
    return [f"{node}/{volume}" for node, volume in zip(words[::2], words[1::2], strict=True)]


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
