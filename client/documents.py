"""The documents of a manifest file, with the line of each field, and how each number was written.

YAML 1.2, where `no` is a word and `010` is ten. Strict where YAML is lenient: a name twice is a fault.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.docinfo import DocInfo
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

T = TypeVar("T")
Path = tuple[str | int, ...]
Lines = dict[Path, int]
"""Line (from 1) of each field, by its path in the document."""
Written = dict[Path, str]
"""How each value that is no text was written."""
TEXT = "tag:yaml.org,2002:str"


@dataclass(frozen=True, slots=True)
class Document:
    """One document: where it is, what it says, and at which line it says it."""

    file: str
    number: int
    body: Any
    lines: Lines
    written: Written

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


class _Double(MarkedYAMLError):
    """A name twice in one mapping."""


def _yaml(name: str, text: str) -> tuple[list[Document], str]:
    found: list[Document] = []
    number = 0
    try:
        constructor = _reader(text)
        while constructor.composer.check_node():
            number += 1
            node = constructor.composer.get_node()
            if node is None:
                continue
            walk = _Walk()
            walk.over(node, ())
            body = constructor.construct_document(node)
            found += _items(name, number, body, walk)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return found, f"{name}: document {max(number, 1)}{line}: {error.problem or error}"
    except Exception as error:  # its reader knows more ways to fail than it has errors for
        fault = "nested too deeply" if isinstance(error, RecursionError) else f"no YAML: {error}".splitlines()[0]
        return found, f"{name}: document {max(number, 1)}: {fault}"
    return found, ""


def _reader(text: str) -> Any:
    warnings.simplefilter("ignore", ReusedAnchorWarning)
    yaml = YAML(typ="safe", pure=True)
    yaml.doc_infos.append(DocInfo())  # as its own load_all does: a %YAML line is noted there
    constructor, _ = yaml.get_constructor_parser(text)
    return constructor


class _Walk:
    """The line of every field, and how it was written. What an alias repeats is walked once: there may be circles, and towers
    of them."""

    def __init__(self) -> None:
        self.lines: Lines = {}
        self.written: Written = {}
        self._walked: set[int] = set()

    def over(self, node: Node, path: Path) -> None:
        self.lines[path] = node.start_mark.line + 1
        if id(node) in self._walked:
            return
        self._walked.add(id(node))
        if isinstance(node, MappingNode):
            self._over_names(node, path)
        elif isinstance(node, SequenceNode):
            for index, value in enumerate(node.value):
                self.over(value, (*path, index))
        elif isinstance(node, ScalarNode) and node.tag != TEXT and node.style is None:
            self.written[path] = node.value

    def _over_names(self, node: MappingNode, path: Path) -> None:
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if isinstance(key, ScalarNode) and name in seen:
                raise _Double(None, None, f"the name {name!r} appears twice in one mapping", key.start_mark)
            seen.add(name)
            self.over(value, (*path, name))
            self.lines[(*path, name)] = key.start_mark.line + 1


def _items(name: str, number: int, body: Any, walk: _Walk) -> list[Document]:
    """A document as it is; of a list (`get -o json`: `{"items": […]}`) each item as one."""
    if body is None:
        return []
    listed = body.get("items") if isinstance(body, dict) and "kind" not in body else body
    if not isinstance(listed, list):
        return [Document(name, number, body, walk.lines, walk.written)]
    start: Path = ("items",) if isinstance(body, dict) else ()
    lines, written = _by_item(walk.lines, start), _by_item(walk.written, start)
    return [
        Document(name, index + 1, each, lines.get(index, {}), written.get(index, {}))
        for index, each in enumerate(listed)
    ]


def _by_item(known: dict[Path, T], start: Path) -> dict[str | int, dict[Path, T]]:
    """What is known of each item of a list, with paths as they are in the item."""
    found: dict[str | int, dict[Path, T]] = {}
    for path, value in known.items():
        if len(path) > len(start) and path[: len(start)] == start:
            found.setdefault(path[len(start)], {})[path[len(start) + 1 :]] = value
    return found


def _json(name: str, text: str) -> list[Document] | None:
    """JSON proper, which YAML's reader would refuse for a tab: then without lines. None: it is none; YAML tells the fault."""
    try:
        body = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    walk = _Walk()
    try:
        constructor = _reader(text)
        if constructor.composer.check_node() and (node := constructor.composer.get_node()) is not None:
            walk.over(node, ())
    except Exception:  # as above
        walk = _Walk()
    walk.written.clear()  # JSON has one way to write a number
    return _items(name, 1, body, walk)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found
