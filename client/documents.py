"""The documents of a manifest file, with the line of each field. Strict where YAML is lenient: a name twice is a fault."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import yaml

Path = tuple[str | int, ...]
Lines = dict[Path, int]
"""Line (from 1) of each field, by its path in the document."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document: where it is, what it says, and at which line it says it."""

    file: str
    number: int
    body: Any
    lines: Lines

    def place(self, path: Path = ()) -> str:
        """`volumes.yaml: document 2, line 7`; of a field that is missing, the line of what it is missing from."""
        while path and path not in self.lines:
            path = path[:-1]
        line = f", line {self.lines[path]}" if path in self.lines else ""
        return f"{self.file}: document {self.number}{line}"

    def tell(self, path: Path, message: str) -> str:
        """A fault, for the user."""
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        return f"{self.place(path)}: {field}: {message}" if field else f"{self.place(path)}: {message}"


def parse(name: str, text: str) -> tuple[list[Document], str]:
    """The documents of a file (empty ones left out), and what is wrong with it as a whole: empty, if nothing."""
    if text.lstrip()[:1] in ("{", "["):
        documents = _json(name, text)
        if documents is not None:
            return documents, ""
    return _yaml(name, text)


class _Double(yaml.MarkedYAMLError):
    """A name twice in one mapping."""


def _yaml(name: str, text: str) -> tuple[list[Document], str]:
    found: list[Document] = []
    number = 0
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node():
            number += 1
            node = loader.get_node()
            if node is None:
                continue
            lines: Lines = {}
            _walk(node, (), lines, set())
            body = loader.construct_document(node)
            found += _items(name, number, body, lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return found, f"{name}: document {max(number, 1)}{line}: {error.problem or error}"
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        fault = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        return found, f"{name}: document {max(number, 1)}: {fault}"
    return found, ""


def _walk(node: yaml.Node, path: Path, lines: Lines, walked: set[int]) -> None:
    """Note the line of every field. What an alias repeats is walked once: there may be circles, and towers of them."""
    lines[path] = node.start_mark.line + 1
    if id(node) in walked:
        return
    walked.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if isinstance(key, yaml.ScalarNode) and name in seen:
                raise _Double(None, None, f"the name {name!r} appears twice in one mapping", key.start_mark)
            seen.add(name)
            _walk(value, (*path, name), lines, walked)
            lines[(*path, name)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, index), lines, walked)


def _items(name: str, number: int, body: Any, lines: Lines) -> list[Document]:
    """A document as it is; of a list (`get -o json`: `{"items": […]}`) each item as one."""
    if body is None:
        return []
    listed = body.get("items") if isinstance(body, dict) and "kind" not in body else body
    if not isinstance(listed, list):
        return [Document(name, number, body, lines)]
    start: Path = ("items",) if isinstance(body, dict) else ()
    return [Document(name, index + 1, each, _below(lines, (*start, index))) for index, each in enumerate(listed)]


def _below(lines: Lines, start: Path) -> Lines:
    return {path[len(start) :]: line for path, line in lines.items() if path[: len(start)] == start}


def _json(name: str, text: str) -> list[Document] | None:
    """JSON proper, which YAML's reader would refuse for a tab: then without lines. None: it is none; YAML tells the fault."""
    try:
        body = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    lines: Lines = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _walk(node, (), lines, set())
    except yaml.YAMLError:
        lines = {}
    return _items(name, 1, body, lines)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found
