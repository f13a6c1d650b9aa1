"""The table of `make mutants` fits the source. Whether each is caught, that command tells."""

from __future__ import annotations

import ast

import pytest

from tests.model.test_protocol import FAST, SLOW
from tools.mutants import ROOT, Mutant, read_table

TABLE = read_table()


@pytest.mark.parametrize("mutant", TABLE, ids=lambda mutant: mutant.name)
def test_what_it_takes_out_is_there(mutant: Mutant) -> None:
    sound = (ROOT / mutant.file).read_text()
    changed = mutant.applied(sound)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(sound))


@pytest.mark.parametrize("mutant", TABLE, ids=lambda mutant: mutant.name)
def test_whoever_is_asked_exists(mutant: Mutant) -> None:
    assert mutant.ask
    for layer in mutant.ask:
        file, _, test = layer.partition("::")
        _, _, load = test.partition("[")
        assert layer.startswith("sim ") or (ROOT / file).is_file()
        assert not load or load.removesuffix("]") in FAST | SLOW


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in TABLE}) == len(TABLE)
