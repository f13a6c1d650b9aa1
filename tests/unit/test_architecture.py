"""Rules of the architecture that import-linter (.importlinter) can't express."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = sorted(path for top in ("schema", "reconciler", "client", "daemons") for path in (ROOT / top).rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py"))
FOREIGN = ("cinder", "eventlet", "os_brick", "oslo_", "etcd3", "grpc")

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 400
LONGER_FILES = {
    "reconciler/runtime/ports.py": "the contract with the world, on one page",
    "reconciler/core/plan_volume.py": "all rules of the controller, in the order in which they are tried",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def below(folder: str) -> list[Path]:
    return [path for path in PRODUCT if name_of(path).startswith(folder + "/")]


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression that is nothing more, else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_foreign_libraries_are_not_imported_by_name_behind_the_linters_back() -> None:
    found = [
        f"{name_of(path)}:{call.lineno}"
        for path in PRODUCT
        if not name_of(path).startswith("reconciler/adapters/")
        for function, call in calls(parse(path))
        if function.split(".")[-1] in ("import_module", "__import__")
        for argument in call.args
        if isinstance(argument, ast.Constant) and str(argument.value).startswith(FOREIGN)
    ]
    assert found == []


@pytest.mark.parametrize("path", below("reconciler/core") + below("schema"), ids=name_of)
def test_decisions_ask_for_nothing_and_remember_nothing(path: Path) -> None:
    tree = parse(path)
    impure = {"open", "print", "input", "datetime.now", "datetime.utcnow", "datetime.today", "datetime.datetime.now"}
    assert [function for function, _ in calls(tree) if function in impure] == []
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Global | ast.Nonlocal)] == []


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_functions_fit_a_screen(path: Path) -> None:
    long = [
        f"{node.name}: {lines} lines"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_files_stay_short_or_say_why_not() -> None:
    long = {name_of(path) for path in PRODUCT if len(path.read_text().splitlines()) > FILE_LINES_MAX}
    assert long == set(LONGER_FILES)


def test_no_file_is_called_after_nothing() -> None:
    nothing = {"utils", "util", "common", "helpers", "misc"}
    assert [name_of(path) for path in PRODUCT + TESTS if path.stem in nothing] == []


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_every_module_tells_its_story(path: Path) -> None:
    assert ast.get_docstring(parse(path)) or not path.read_text().strip()


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_tests_replace_no_part_of_a_module(path: Path) -> None:
    """A test that has to patch tells of a missing seam."""
    assert not {"mock", "unittest.mock", "pytest_mock"} & set(imports(parse(path)))


@pytest.mark.parametrize(
    "path", [path for path in TESTS if name_of(path).split("/")[1] in ("unit", "contract", "model")], ids=name_of
)
def test_unit_tests_do_not_sleep(path: Path) -> None:
    assert [call.lineno for function, call in calls(parse(path)) if function in ("time.sleep", "sleep")] == []


@pytest.mark.parametrize("path", [path for path in TESTS if path.parent.name == "fakes"], ids=name_of)
def test_fakes_know_the_ports_alone(path: Path) -> None:
    ours = {name for name in imports(parse(path)) if name.split(".")[0] in ("reconciler", "client", "daemons")}
    assert ours <= {"reconciler.runtime.ports", "reconciler.runtime"}


def test_a_daemon_never_loads_what_belongs_into_its_workers() -> None:
    """In truth, not as the sources look: Cinder and os-brick would bring 100 MB, and eventlet."""
    modules = ", ".join(f"daemons.{path.stem}" for path in below("daemons") if path.stem != "__init__")
    script = f"import sys, {modules}; print(*(each.split('.')[0] for each in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {each for each in loaded if each.startswith(("cinder", "eventlet", "os_brick", "oslo_"))}
