"""Seeds that always run: a fixed set, and those that found something."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sim.regressions import FOUND
from tests.sim.run import Run, scenario_of
from tests.sim.story import Recorder

FIXED = range(120)
CHUNK = 10


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


def played(seed: int, recorder: Recorder) -> str:
    """The transcript of a run that has to end well."""
    result = Run(scenario_of(seed), recorder).play()
    assert not result.failure, f"{result.transcript(200)}\n{result.failure}\nmake sim SEED={seed}"
    return result.transcript()


@pytest.mark.slow
@pytest.mark.parametrize("first", FIXED[::CHUNK])
def test_the_fleet_survives(first: int, recorder: Recorder) -> None:
    for seed in range(first, first + CHUNK):
        played(seed, recorder)


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_stays_mended(seed: int, recorder: Recorder) -> None:
    played(seed, recorder)


def test_a_seed_always_tells_the_same_story(recorder: Recorder) -> None:
    assert played(7, recorder) == played(7, recorder)
