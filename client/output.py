"""The formats of `-o`, tables and ages. Plain when piped: no colour, nothing cut, one line for each row."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import click
from click.shell_completion import CompletionItem

from client import shapes
from client.exits import Misuse, Unmet
from client.streams import trusted_stdout
from schema.shown import shown

FORMATS = ("table", "wide", "json", "yaml", "name", "jsonpath=")

Table = tuple[Sequence[str], Iterable[Sequence[str]]]
"""Column heads, rows."""


def _check(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value in FORMATS[:-1] or (value.startswith("jsonpath=") and value != "jsonpath="):
        return value
    raise click.BadParameter(f"{value!r}: write one of table, wide, json, yaml, name, jsonpath=EXPRESSION", ctx, param)


def _complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(each) for each in FORMATS if each.startswith(incomplete)]


option = click.option(
    "-o",
    "--output",
    "form",
    metavar="FORMAT",
    default="table",
    callback=_check,
    shell_complete=_complete,
    help="table, wide, json, yaml, name, or jsonpath=EXPRESSION.  [default: table]",
)
"""The `-o` option."""


def show(form: str, found: list[shapes.Shape], *, single: bool, table: Callable[[bool], Table]) -> None:
    """Print objects in a format. `single`: one was asked for by name, so it stands alone rather than in a list."""
    if form in ("table", "wide"):
        print_table(*table(form == "wide"))
    elif form == "name":
        for shape in found:
            click.echo(shapes.name(shape))
    elif form == "json":
        click.echo(json.dumps(found[0] if single else {"items": found}, indent=2))
    elif form == "yaml":
        _print_yaml(found)
    else:
        _print_path(form.removeprefix("jsonpath="), found[0] if single else {"items": found})


def _print_yaml(found: list[shapes.Shape]) -> None:
    """One document for each object, to be applied again. Text that YAML 1.1 or 1.2 would take for a number is quoted."""
    import re

    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    numbers = re.compile(
        r"[-+]?(0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9_]+|([0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)([eE][-+]?[0-9]+)?)$"
    )
    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", numbers, list("-+.0123456789"))

    def text(*, plain: bool) -> str:
        return yaml.dump_all(found, Dumper=Dumper, sort_keys=False, allow_unicode=plain, width=4096)

    plain = text(plain=True)
    escaped = sys.stdout.isatty() or shown(plain) != plain
    click.echo(text(plain=False) if escaped else plain, nl=False)


def _print_path(expression: str, body: object) -> None:
    """Each value on a line: text as it is, anything else as JSON. Nothing found: exit code 1."""
    from jsonpath_ng.ext.parser import parse

    path = expression.removeprefix("{").removesuffix("}")
    path = path if path.startswith("$") else f"${path}" if path.startswith((".", "[")) else f"$.{path}"
    try:
        parsed = parse(path)
    except Exception as error:  # its lexer and its parser each raise their own
        raise Misuse(f"jsonpath {expression!r}: {error}; write for instance jsonpath=.status.path") from None
    values = [match.value for match in parsed.find(body)]
    if not values:
        raise Unmet(f"jsonpath {expression!r}: nothing found")
    for value in values:
        click.echo(value if isinstance(value, str) else json.dumps(value))


# --- tables --------------------------------------------------------------------------------------------------------------

COLOURS = {
    "Attached": "green",
    "Available": "green",
    "Ready": "green",
    "Blocked": "red",
    "Failed": "red",
    "Uncertain": "yellow",
    "Silent": "yellow",
    "Fenced": "yellow",
    "NotReady": "yellow",
}


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns without a frame, a line for each row: a line that is too long is the terminal's to wrap, so that what is
    copied from it is whole. Only a terminal gets colour."""
    cells = [[one_line(cell) or "-" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for row in (heads, *cells):
        padded = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)] + [row[-1]]
        click.echo("  ".join(_coloured(cell, bold=row is heads) for cell in padded), file=trusted_stdout())


def _coloured(cell: str, *, bold: bool) -> str:
    """`echo` takes it off again where nobody sees it."""
    colour = None if bold else COLOURS.get(cell.rstrip())
    return click.style(cell, fg=colour, bold=bold or None) if bold or colour else cell


def one_line(text: str) -> str:
    """As one line of printable text, whatever a driver put into its message."""
    return shown(" ".join(text.split()), keep="")


def age(stamp: str | None, now: float) -> str:
    """How long ago (`5m`), or how soon (`in 5m`). As it is, where it is no time."""
    if not stamp:
        return "-"
    try:
        when = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    seconds = now - (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    text = _span(abs(seconds))
    return f"in {text}" if seconds <= -1 else text


def _span(seconds: float) -> str:
    whole = int(seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if whole >= 2 * size:
            return f"{whole // size}{unit}"
    return f"{whole}s"
