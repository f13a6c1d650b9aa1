"""Checks that what the documentation points to exists: files behind relative links, headings behind anchors, make targets, and
for docs/BEHAVIOUR.md its tests. A number that code or pages cite (A14, S6) is defined there.

.venv/bin/python tools/check_docs.py     exit 0, or 1 with one line for each dead end
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SKIPPED = {".venv", ".state", ".git", "build"}

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^#+\s+(.*?)\s*#*$", re.MULTILINE)
_MAKE = re.compile(r"(?:^|`|\s{2}|\$ |&& )make ([a-z][a-z0-9-]*)", re.MULTILINE)
_TARGET = re.compile(r"^([a-z][a-z0-9-]*):", re.MULTILINE)

BEHAVIOUR = Path("docs/BEHAVIOUR.md")
CITING = {".md", ".py", ".sh", ".toml", ".yaml", ".service"}
_DEFINED = re.compile(r"^\*\*([ASLH]\d{1,2})\*\* ", re.MULTILINE)
_CITED = re.compile(r"(?<![\w-])[ASLH]\d{1,2}\b")  # not F-S4: the letters of faults are others
_TEST = re.compile(r"\[`([^`]+::[^`]+)`\]\(([^)\s]+)\)")
_SKIP = re.compile(r"pytest\.(mark\.skip\b|mark\.skipif\(True\b|skip\()")


def files(root: Path, suffixes: set[str]) -> list[Path]:
    """Every file that is ours and ends so."""
    tops = [top for top in root.iterdir() if top.name not in SKIPPED]  # not even looked into: they are large
    return sorted(
        path for top in tops for path in ([top] if top.is_file() else top.rglob("*")) if path.suffix in suffixes
    )


def dead_ends(root: Path) -> Iterator[str]:
    """One line for each thing that a document points to and that is not there."""
    targets = set(_TARGET.findall((root / "Makefile").read_text()))
    for path in files(root, {".md"}):
        text = path.read_text()
        where = path.relative_to(root)
        for link in _LINK.findall(_FENCE.sub("", text)):
            if fault := _dead_link(path, link):
                yield f"{where}: {link}: {fault}"
        for target in _MAKE.findall(text):
            if target not in targets:
                yield f"{where}: make {target}: the Makefile has no such target"


def _dead_link(document: Path, link: str) -> str | None:
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return None  # another site's business
    name, _, anchor = link.partition("#")
    aim = (document.parent / name) if name else document
    if not aim.exists():
        return "no such file"
    if anchor and aim.suffix == ".md" and anchor not in anchors(aim.read_text()):
        return "no such heading"
    return None


def anchors(text: str) -> set[str]:
    """The anchors that a Markdown page has by its headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
        number = 0
        while (name := f"{plain}-{number}" if number else plain) in found:
            number += 1
        found.add(name)
    return found


def broken_promises(root: Path) -> Iterator[str]:
    """One line for each number that is not defined once, by a test or an admission, and for each test that does not run."""
    page = root / BEHAVIOUR
    _, *parts = _DEFINED.split(page.read_text())
    numbers, texts = parts[::2], parts[1::2]
    for number, times in Counter(numbers).items():
        if times > 1:
            yield f"{BEHAVIOUR}: {number}: defined {times} times"
        if number[1:] != "1" and f"{number[0]}{int(number[1:]) - 1}" not in numbers:
            yield f"{BEHAVIOUR}: {number}: the number before it is not defined"
    for number, text in zip(numbers, texts, strict=True):
        if not _TEST.search(text) and "Not yet" not in text:
            yield f"{BEHAVIOUR}: {number}: no test, and no word that it is not so yet"
        for name, link in _TEST.findall(text):
            if fault := _no_test(page.parent / link, name):
                yield f"{BEHAVIOUR}: {number}: {name}: {fault}"
    for path in files(root, CITING):
        for number in sorted(set(_CITED.findall(path.read_text())) - set(numbers)):
            yield f"{path.relative_to(root)}: {number}: {BEHAVIOUR} does not define it"


def _no_test(file: Path, name: str) -> str | None:
    first, *steps = name.split("::")
    if file.name != first or not first.startswith("test_"):
        return f"the link leads to {file.name}"
    if not file.is_file():
        return "no such file"
    node: ast.Module | ast.ClassDef | ast.FunctionDef = ast.parse(file.read_text())
    for step in (*steps, None):
        if any(_SKIP.match(ast.unparse(mark)) for mark in _marks(node)):
            return "it is skipped"
        if step is not None:
            known = {each.name: each for each in node.body if isinstance(each, ast.ClassDef | ast.FunctionDef)}
            if step not in known or not step.lower().startswith("test"):
                return "no such test"
            node = known[step]
    return None if isinstance(node, ast.FunctionDef) else "no such test"


def _marks(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> Iterator[ast.expr]:
    """What may skip it whatever the case: its decorators, its `pytestmark`, and what it says before any condition."""
    if not isinstance(node, ast.Module):
        yield from node.decorator_list
    for each in node.body:
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "pytestmark":
            yield from each.value.elts if isinstance(each.value, ast.List | ast.Tuple) else [each.value]
        elif isinstance(each, ast.Expr):
            yield each.value


def main() -> int:
    found = [*dead_ends(ROOT), *broken_promises(ROOT)]
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
