"""Checks that what the documentation points to exists: files behind relative links, headings behind anchors, make targets.

.venv/bin/python tools/check_docs.py     exit 0, or 1 with one line for each dead end
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SKIPPED = {".venv", ".state", ".git", "build"}

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^#+\s+(.*?)\s*#*$", re.MULTILINE)
_MAKE = re.compile(r"(?:^|`|\s{2}|\$ |&& )make ([a-z][a-z0-9-]*)", re.MULTILINE)
_TARGET = re.compile(r"^([a-z][a-z0-9-]*):", re.MULTILINE)


def documents(root: Path) -> list[Path]:
    """Every Markdown file that is ours."""
    tops = [top for top in root.iterdir() if top.name not in SKIPPED]  # not even looked into: they are large
    return sorted(
        path for top in tops for path in ([top] if top.is_file() else top.rglob("*.md")) if path.suffix == ".md"
    )


def dead_ends(root: Path) -> Iterator[str]:
    """One line for each thing that a document points to and that is not there."""
    targets = set(_TARGET.findall((root / "Makefile").read_text()))
    for path in documents(root):
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


def main() -> int:
    found = list(dead_ends(ROOT))
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
