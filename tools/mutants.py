"""``make mutants``: take out one guard after the other, and see which test misses it.

The mutants are data (`mutants.toml`). Each is applied to a copy of the source tree, the given tests are asked in their order until
one fails, and a row of the table in docs/MUTANTS.md is printed. A mutant that nobody misses is a hole in the net.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "tools" / "mutants.toml"
STATE = ROOT / ".state"
BOUND_S = 3600.0
"""What has given no answer by then has not caught anything."""
SAID = re.compile(
    r"(Broken: [A-Z]\d+|AssertionError: L\d|Stuck|HYPOTHESIS|^E +[A-Za-z]*(?:Error|Exception|Broken)?)[^\n]*", re.M
)


@dataclass(frozen=True)
class Mutant:
    """A guard that is taken out. `changes`: (old text, new text), each old text once in `file`. `ask`: who is to miss it.

    `redundant`: why nobody need miss it.
    """

    name: str
    rule: str
    file: str
    changes: tuple[tuple[str, str], ...]
    ask: tuple[str, ...]
    redundant: str = ""

    def applied(self, text: str) -> str:
        """Raises ValueError when an old text is not there exactly once."""
        for old, new in self.changes:
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {self.file} has {text.count(old)} times, not once:\n{old}")
            text = text.replace(old, new)
        return text


@dataclass(frozen=True)
class Caught:
    by: str
    after_s: float
    said: str


def read_table() -> list[Mutant]:
    """All mutants."""
    rows = tomllib.loads(TABLE.read_text())["mutant"]
    return [Mutant(**row | {"changes": tuple(map(tuple, row["changes"])), "ask": tuple(row["ask"])}) for row in rows]


def command(layer: str) -> list[str]:
    """What asks a layer: ``sim N`` plays N seeds, everything else is for pytest."""
    if layer.startswith("sim "):
        return ["-m", "tests.sim", "--seeds", layer.removeprefix("sim "), "--jobs", "1", "--stop"]
    return ["-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", layer]


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of all files that git knows or would take, in the state folder."""
    STATE.mkdir(exist_ok=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    with tempfile.TemporaryDirectory(prefix="mutants-", dir=STATE) as folder:
        for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.splitlines()):
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, Path(folder) / name)
        yield Path(folder)


def write(path: Path, text: str) -> None:
    """Change a module; what was compiled of it within the same second must not be taken for the new text."""
    path.write_text(text)
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def hunt(mutant: Mutant, folder: Path) -> Caught | None:
    """Ask each layer until one fails."""
    path = folder / mutant.file
    sound = path.read_text()
    write(path, mutant.applied(sound))
    began_s = time.monotonic()
    try:
        for layer in mutant.ask:
            if (said := failure(layer, folder)) is not None:
                return Caught(layer, time.monotonic() - began_s, said)
    finally:
        write(path, sound)
    return None


def failure(layer: str, folder: Path) -> str | None:
    """What the layer has to complain of, in a line. None: nothing."""
    try:
        asked = subprocess.run(
            [sys.executable, *command(layer)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    if asked.returncode == 0:
        return None
    if asked.returncode != 1:
        raise click.ClickException(f"{layer} could not be asked:\n{asked.stdout[-2000:]}{asked.stderr[-2000:]}")
    found = SAID.search(asked.stdout)
    return (
        found[0].removeprefix("E ").strip().removeprefix("AssertionError: ")
        if found
        else f"exit status {asked.returncode}"
    )


def row(mutant: Mutant, caught: Caught | None) -> str:
    if caught is None:
        return f"| {mutant.name} | {mutant.rule} | {'nobody' if mutant.redundant else '**nobody**'} | | {mutant.redundant} |"
    said = caught.said.replace("|", "\\|")[:110]
    return f"| {mutant.name} | {mutant.rule} | `{caught.by}` | {caught.after_s:.0f} s | {said} |"


@click.command()
@click.argument("names", nargs=-1)
def main(names: Sequence[str]) -> None:
    """All mutants, or those with one of NAMES in their name. Exit status 1 when one survives."""
    survived = 0
    with copied() as folder:
        click.echo("| without | rule | caught by | after | which says |\n|---|---|---|---|---|")
        for mutant in read_table():
            if not names or any(name in mutant.name for name in names):
                caught = hunt(mutant, folder)
                survived += caught is None and not mutant.redundant
                click.echo(row(mutant, caught))
    raise SystemExit(1 if survived else 0)


if __name__ == "__main__":
    main()
