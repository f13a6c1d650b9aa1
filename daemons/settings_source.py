"""Where settings come from: a YAML file, then environment variables over it.

`BRICKWORK_<FIELD>` and `BRICKWORK_<SECTION>__<FIELD>` (two underscores) set what is no mapping of names: `BRICKWORK_PREFIX`,
`BRICKWORK_ETCD__ENDPOINTS`. Lists are separated by commas. An empty variable counts as none. A variable with a section that no
daemon has is refused, and one that is almost a variable of ours; other `BRICKWORK_…` variables are somebody else's (the tests').

`BRICKWORK_STATE` names one folder for everything that a daemon keeps: for development, and for machines where /var and /run
are not ours.

Lines and variables are remembered for each value, so that a fault can say where to mend it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from daemons.settings_faults import Location, SettingsError
from reconciler.adapters.cinder.written import NotYaml, Reader, own_names

_PREFIX = "BRICKWORK_"
_OF_ETCD = ("ENDPOINTS", "CA_FILE", "CERT_FILE", "KEY_FILE", "USER", "PASSWORD_FILE", "HTTP_PROXY")
_OTHERS = (*(f"{_PREFIX}{name}" for name in _OF_ETCD), f"{_PREFIX}PASSWORD", f"{_PREFIX}STATE")
"""brickctl's variables, and the one that no daemon has as a setting."""

Kind = Literal["controller", "node", "fence-agent"]


@dataclass
class Source:
    """What was given, and where each value came from."""

    file: Path | None
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Location, int] = field(default_factory=dict)
    variables: dict[Location, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def where(self, location: Location) -> str:
        """`file:12: etcd.timeout_s`, or the variable that it came from."""
        dotted = ".".join(str(part) for part in location)
        for length in range(len(location), 0, -1):
            if variable := self.variables.get(location[:length]):
                return f"environment: {variable}"
            if line := self.lines.get(location[:length]):
                return f"{self.file}:{line}: {dotted}"
        file = self.file or "no settings file given"
        return f"{file}: {dotted}" if dotted else str(file)

    def default(self, location: Location, value: Any) -> None:
        """Set what nobody has set."""
        if location[0] not in self.values:
            self.values[str(location[0])] = value

    def as_json(self) -> str:
        return json.dumps(self.values, default=str)


def read(kind: Kind, path: Path | None, environ: Mapping[str, str], models: Mapping[Kind, type[BaseModel]]) -> Source:
    """Everything that was given for this kind of daemon, not yet checked.

    Raises:
        SettingsError: the file can't be read, or is no YAML mapping.
    """
    source = Source(path)
    if path is not None:
        _read_file(path, source)
    _read_environment(source, environ, models[kind], {name for model in models.values() for name in _table(model)})
    state = environ.get("BRICKWORK_STATE")
    base = Path(state).absolute() if state else None
    source.default(("state_folder",), str(base / kind if base else Path("/var/lib/brickwork") / kind))
    source.default(("run_folder",), str(base / "run" / kind if base else Path("/run/brickwork") / kind))
    if base and "mount_point_base" in models[kind].model_fields:
        source.default(("mount_point_base",), str(base / "mounts"))
    return source


# --- the file ------------------------------------------------------------------------------------------------------------


def _read_file(path: Path, source: Source) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError([f"{path}: no such file; name the settings file with --config"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: can't be read: {error}"]) from None
    try:
        reader = Reader(text)
        if reader.root is None:
            return
        if not isinstance(reader.root, MappingNode):
            raise SettingsError([f"{path}: must be a mapping, as in `log: {{level: info}}`"])
        source.values = _build(reader, reader.root, (), source)
    except NotYaml as error:
        line = f":{error.line}" if error.line else ""
        raise SettingsError([f"{path}{line}: not YAML: {error}"]) from None
    except RecursionError:
        raise SettingsError([f"{path}: not YAML: nested too deeply"]) from None


def _build(reader: Reader, node: Node, location: Location, source: Source) -> Any:
    """The node's value. YAML itself lets the last of two equal names win without a word."""
    source.lines[location] = line = node.start_mark.line + 1
    if isinstance(node, SequenceNode):
        return [_build(reader, item, (*location, number), source) for number, item in enumerate(node.value)]
    if not isinstance(node, MappingNode):
        if _is_for_a_driver(location):
            return reader.as_written(node)
        if doubt := reader.doubt(node):
            source.faults.append(f"{source.file}:{line}: {'.'.join(map(str, location))}: {doubt}")
        return reader.value(node)
    own = own_names(node)
    found: dict[str, Any] = {}
    for name_node, value_node in reader.entries(node):
        name = reader.value(name_node)
        where = f"{source.file}:{name_node.start_mark.line + 1}: {'.'.join(map(str, (*location, name_node.value)))}"
        if not isinstance(name, str):
            source.faults.append(f"{where}: YAML takes this name for {name!r}; put it in quotes")
        elif own.count(name) > 1 and name in found:
            source.faults.append(f"{where}: stands here a second time; keep one")
        else:
            found[name] = _build(reader, value_node, (*location, name), source)
            source.lines[(*location, name)] = name_node.start_mark.line + 1
    return found


def _is_for_a_driver(location: Location) -> bool:
    """A driver's options are text, as in a cinder.conf."""
    return location[:1] == ("backends",) and location[2:3] == ("options",)


# --- the environment -----------------------------------------------------------------------------------------------------


def _table(model: type[BaseModel]) -> dict[str, tuple[Location, FieldInfo]]:
    """Every variable that this kind of daemon knows."""
    return {f"BRICKWORK_{'__'.join(map(str, where)).upper()}": (where, info) for where, info in _leaves(model)}


def _leaves(model: type[BaseModel]) -> Iterator[tuple[Location, FieldInfo]]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from (((name, *rest), leaf) for rest, leaf in _leaves(kind))
        elif "Mapping" not in str(kind):
            yield (name,), info


def _read_environment(source: Source, environ: Mapping[str, str], model: type[BaseModel], known: set[str]) -> None:
    table = _table(model)
    for variable, text in sorted(environ.items()):
        if not variable.startswith("BRICKWORK_") or not text:
            continue
        if variable in table:
            location, info = table[variable]
            _put(source, location, _from_text(info, text), variable)
        elif variable not in known and variable not in _OTHERS and (fault := _unknown(variable, known)):
            source.faults.append(f"environment: {variable}: no daemon has such a setting{fault}")


def _unknown(variable: str, known: set[str]) -> str:
    """What to say of a variable that is none of ours; empty: it may well be somebody else's."""
    names = [each.removeprefix(_PREFIX) for each in (*sorted(known), *_OTHERS)]
    # With a section it is meant for us. Else it is if it looks like one of ours, what they all begin with left aside.
    near = difflib.get_close_matches(
        variable.removeprefix(_PREFIX), names, n=1, cutoff=0.6 if "__" in variable else 0.85
    )
    if not near:
        return "." if "__" in variable else ""
    meant = f"{_PREFIX}{near[0]}"
    remark = "" if meant in known else f" Only brickctl reads that; daemons read {_PREFIX}ETCD__{near[0]}"
    return f"; did you mean {meant}?{remark}"


def _put(source: Source, location: Location, value: Any, variable: str) -> None:
    *sections, name = (str(part) for part in location)
    target = source.values
    for section in sections:
        inner = target.setdefault(section, {})
        if not isinstance(inner, dict):
            return  # the file's fault is told; it comes first
        target = inner
    target[name] = value
    source.variables[location] = variable


def _from_text(info: FieldInfo, text: str) -> Any:
    """What a variable's text means for this field: itself where a text is wanted, else what YAML makes of it."""
    annotation: Any = info.annotation
    kind: TypeAdapter[Any] = TypeAdapter(Annotated[annotation, *info.metadata] if info.metadata else annotation)
    if "tuple" in str(info.annotation) and not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        kind.validate_json(json.dumps(text), strict=True)
        return text
    except ValidationError:
        pass
    try:
        reader = Reader(text)
        if reader.root is None or reader.doubt(reader.root):
            return text
        return reader.value(reader.root) if isinstance(reader.root, ScalarNode) else reader.as_written(reader.root)
    except NotYaml:
        return text
