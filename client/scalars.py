"""Numbers, dates and words of YAML that may not be what their writer meant: `010`, `1_000`, `0x1f`, `2026-11-23`.

A reference to a volume on an array is text to its driver: `import: {id: 0123456}` must not become another volume's. What YAML
would write otherwise than it stands there is asked for in quotes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from client.documents import Document, Path

DECIMAL = re.compile(r"[-+]?[0-9]+")
FREE = ("spec", "import")
"""Below it users' own names and values, which go on to a driver as they are."""


def doubtful(document: Document) -> Iterator[tuple[Path, str]]:
    """The fields whose value is in doubt, and what to write instead."""
    for path, text in document.written.items():
        value = _at(document.body, path)
        if path[:1] == ("spec",) and (doubt := _doubt(value, text, free=path[:2] == FREE)):
            yield path, f"{text} {doubt}: quote it: '{text}'"


def quoted(document: Document, path: Path) -> str:
    """What to write where text is wanted, and a number or another word of YAML's stands there."""
    text = document.written.get(path)
    return "" if text is None else f"; quote it: '{text}'"


def _doubt(value: object, text: str, *, free: bool) -> str:
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int):
        if not DECIMAL.fullmatch(text) or int(text) != value:
            return f"is no plain decimal number (it would be read as {value}); write it so, or"
        return f"would become {value}" if free and text != str(value) else ""
    if isinstance(value, float):
        return f"would become {value}" if free and math.isfinite(value) and text != repr(value) else ""
    return "" if isinstance(value, str | Mapping | list) else "is a date or time to YAML"


def _at(body: Any, path: Path) -> object:
    for part in path:
        try:
            body = body[part]
        except (KeyError, IndexError, TypeError):
            return None  # merged from elsewhere, or a name that is no text
    found: object = body
    return found
