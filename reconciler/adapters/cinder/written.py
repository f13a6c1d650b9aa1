"""YAML 1.2 as it was written: `0123456` as an option of a driver is the text 0123456, however YAML would read it.

All options are text in the end, as in a cinder.conf; a password of digits, a colon or a date must reach the array as it stands
there. Knows nothing of Cinder, because daemons read their settings with it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_SURROGATE = re.compile("[\ud800-\udfff]")
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_YAML = "tag:yaml.org,2002:"
_MERGE = f"{_YAML}merge"
_TAGS = {
    f"{_YAML}{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
}
"""What a value may be. `!vault`, `!!binary` and others ask for something to be made of it, which nobody here does."""


class NotYaml(ValueError):
    """`line`: where, 0 if unknown. The text may quote what was written."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


class Reader:
    """One document. `root` is None when there is nothing in it.

    Raises:
        NotYaml: here and in all methods.
    """

    def __init__(self, text: str) -> None:
        self._yaml = YAML(typ="safe", pure=True)
        with _faults():
            self.root: Node | None = self._yaml.compose(text)
        if self.root is not None:
            _refuse_strange(self.root)

    def entries(self, mapping: MappingNode) -> list[tuple[Node, Node]]:
        """Names and values, those that are merged in first."""
        with _faults():
            self._yaml.constructor.flatten_mapping(mapping)
            return list(mapping.value)

    def value(self, scalar: Node) -> Any:
        """What YAML 1.2 takes it for; a date, which no setting is, as it was written."""
        with _faults():
            value = self._yaml.constructor.construct_object(scalar, deep=True)
        return value if value is None or isinstance(value, str | bool | int | float) else _text(scalar)

    def as_written(self, node: Node) -> Any:
        """With all below it, and texts for numbers and words that YAML would write otherwise."""
        if isinstance(node, MappingNode):
            return {self.value(name): self.as_written(value) for name, value in self.entries(node)}
        if isinstance(node, SequenceNode):
            return [self.as_written(item) for item in node.value]
        value = self.value(node)
        if value is None or isinstance(value, str):
            return value
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        return value if shown == _text(node) else _text(node)

    def doubt(self, scalar: Node) -> str:
        """Why a number may not be the one that its writer meant; empty, if it is."""
        value, text = self.value(scalar), _text(scalar)
        if isinstance(value, bool) or not isinstance(value, int) or (_DECIMAL.fullmatch(text) and int(text) == value):
            return ""
        return f"{text} is no plain decimal number (it would be read as {value}); write it so, or quote it: '{text}'"


def own_names(mapping: MappingNode) -> list[str]:
    """As they stand there, without those that are merged in. To be asked before `entries`."""
    return [str(name.value) for name, _ in mapping.value if name.tag != _MERGE]


def _refuse_strange(root: Node) -> None:
    """Raises NotYaml for a tag that means something, and for text that no file or store can hold."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        line = node.start_mark.line + 1
        if str(node.tag) not in _TAGS:
            raise NotYaml(f"{str(node.tag).removeprefix(_YAML)} is a tag that is not known here", line)
        if isinstance(node, MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, SequenceNode):
            waiting += node.value
        elif _SURROGATE.search(_text(node)):
            raise NotYaml("half a character (a surrogate) is no text", line)


def _text(scalar: Node) -> str:
    return str(scalar.value) if isinstance(scalar, ScalarNode) else ""


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """The reader's many ways to fail, as one."""
    try:
        yield
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYaml(str(error.problem or error.context), mark.line + 1 if mark else 0) from None
    except (YAMLError, ValueError, RecursionError, LookupError, TypeError) as error:
        raise NotYaml(f"{error}".partition("\n")[0], 0) from None


def read(text: str) -> Any:
    """A whole document as it was written; names that YAML takes for something else stay that."""
    reader = Reader(text)
    try:
        return None if reader.root is None else reader.as_written(reader.root)
    except RecursionError:
        raise NotYaml("nested too deeply", 0) from None
