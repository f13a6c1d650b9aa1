"""The documentation's links and commands are checked, and the check finds what it is there for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def check_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_docs", ROOT / "tools" / "check_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def found(check_docs: ModuleType, root: Path, text: str) -> list[str]:
    (root / "Makefile").write_text("test: setup ## all\n\techo\n")
    (root / "README.md").write_text(text)
    return list(check_docs.dead_ends(root))


@pytest.mark.parametrize(
    "text",
    [
        "[here](README.md) [site](https://example.org/x) [mail](mailto:a@example.org)",
        "# A `heading`, twice\n# A heading twice\n[one](#a-heading-twice) [two](README.md#a-heading-twice-1)",
        "```\n[not](a-link.md)\n```",
        "Run `make test`, and make sure that it passes.",
    ],
)
def test_what_is_there_is_not_told(check_docs: ModuleType, tmp_path: Path, text: str) -> None:
    assert found(check_docs, tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[gone](docs/GONE.md)", "README.md: docs/GONE.md: no such file"),
        ("[gone](README.md#gone)", "README.md: README.md#gone: no such heading"),
        ("Run `make tests`.", "README.md: make tests: the Makefile has no such target"),
        ("```\n$ make tests\n```", "README.md: make tests: the Makefile has no such target"),
        ("    make tests   # all", "README.md: make tests: the Makefile has no such target"),
    ],
)
def test_what_is_missing_is_told(check_docs: ModuleType, tmp_path: Path, text: str, told: str) -> None:
    assert found(check_docs, tmp_path, text) == [told]


def test_our_own_documentation_has_no_dead_ends(check_docs: ModuleType) -> None:
    assert list(check_docs.dead_ends(ROOT)) == []
