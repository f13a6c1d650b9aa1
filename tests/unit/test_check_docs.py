"""The documentation's links and commands are checked, and so are the numbers and tests of docs/BEHAVIOUR.md: the checks find what
they are there for."""

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


TEST = "[`test_a.py::test_it`](../tests/test_a.py)"
SOUND = "def test_it(): ..."


def broken(check_docs: ModuleType, root: Path, page: str, test: str = SOUND, code: str = "") -> list[str]:
    for path, text in {
        "docs/BEHAVIOUR.md": page,
        "tests/test_a.py": f"def it(): ...\n{test}",
        "tests/a.py": test,
        "tools/code.py": code,
    }.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text)
    return list(check_docs.broken_promises(root))


@pytest.mark.parametrize(
    ("page", "test", "code"),
    [
        (f"Before.\n\n**A1** It does. {TEST}\n\n**A2** Not yet.", SOUND, "# A1, and F-S4 is a fault's letter"),
        (f"**A1** {TEST}", f"@pytest.mark.skipif(no_root)\n{SOUND}", ""),
        (f"**A1** {TEST}", "def test_it():\n    if no_root:\n        pytest.skip('root')", ""),
        (f"**A1** {TEST.replace('::', '::TestAll::')}", f"class TestAll:\n    {SOUND}", ""),
    ],
)
def test_promises_that_are_kept(check_docs: ModuleType, tmp_path: Path, page: str, test: str, code: str) -> None:
    assert broken(check_docs, tmp_path, page, test, code) == []


@pytest.mark.parametrize(
    ("test", "fault"),
    [
        ("def test_that(): ...", "no such test"),
        ("def it(): ...\ntest_it = 1", "no such test"),
        ("class TestAll:\n    def test_it(self): ...", "no such test"),
        ("class test_it: ...", "no such test"),
        (f"@pytest.mark.skip\n{SOUND}", "it is skipped"),
        (f"@pytest.mark.skip(reason='x')\n{SOUND}", "it is skipped"),
        (f"@pytest.mark.skipif(True, reason='x')\n{SOUND}", "it is skipped"),
        ("def test_it():\n    pytest.skip('x')", "it is skipped"),
        (f"pytestmark = pytest.mark.skip\n{SOUND}", "it is skipped"),
        (f"pytestmark = [pytest.mark.slow, pytest.mark.skip('x')]\n{SOUND}", "it is skipped"),
        (f"pytest.skip('x', allow_module_level=True)\n{SOUND}", "it is skipped"),
    ],
)
def test_a_test_that_does_not_run_is_told(check_docs: ModuleType, tmp_path: Path, test: str, fault: str) -> None:
    assert broken(check_docs, tmp_path, f"**A1** {TEST}", test) == [
        f"docs/BEHAVIOUR.md: A1: test_a.py::test_it: {fault}"
    ]


def test_a_method_of_a_class_that_is_skipped_is_told(check_docs: ModuleType, tmp_path: Path) -> None:
    page = f"**A1** {TEST.replace('::', '::TestAll::')}"
    test = "@pytest.mark.skip\nclass TestAll:\n    def test_it(self): ..."
    assert broken(check_docs, tmp_path, page, test) == [
        "docs/BEHAVIOUR.md: A1: test_a.py::TestAll::test_it: it is skipped"
    ]


NINE = "A" + "9"


@pytest.mark.parametrize(
    ("page", "code", "told"),
    [
        ("**A1** Not yet.\n\n**A1** Not yet.", "", "docs/BEHAVIOUR.md: A1: defined 2 times"),
        ("**A1** Not yet.\n\n**A3** Not yet.", "", "docs/BEHAVIOUR.md: A3: the number before it is not defined"),
        ("**A1** It does.", "", "docs/BEHAVIOUR.md: A1: no test, and no word that it is not so yet"),
        ("**A1** Not yet.", f'"""Shown ({NINE})."""', f"tools/code.py: {NINE}: docs/BEHAVIOUR.md does not define it"),
        (f"**A1** Not yet, see {NINE}.", "", f"docs/BEHAVIOUR.md: {NINE}: docs/BEHAVIOUR.md does not define it"),
        (
            f"**A1** {TEST.replace('_a.py)', '_b.py)')}",
            "",
            "docs/BEHAVIOUR.md: A1: test_a.py::test_it: the link leads to test_b.py",
        ),
        (f"**A1** {TEST.replace('test_a', 'test_b')}", "", "docs/BEHAVIOUR.md: A1: test_b.py::test_it: no such file"),
        (f"**A1** {TEST.replace('test_a', 'a')}", "", "docs/BEHAVIOUR.md: A1: a.py::test_it: the link leads to a.py"),
        (f"**A1** {TEST.replace('::test_it', '::it')}", "", "docs/BEHAVIOUR.md: A1: test_a.py::it: no such test"),
    ],
)
def test_a_promise_that_is_broken_is_told(
    check_docs: ModuleType, tmp_path: Path, page: str, code: str, told: str
) -> None:
    assert broken(check_docs, tmp_path, page, code=code) == [told]


def test_our_own_promises_are_kept(check_docs: ModuleType) -> None:
    assert list(check_docs.broken_promises(ROOT)) == []
