"""Each thing that can go wrong, at each point of a short story: it ends as the undisturbed one does (L2)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from schema.keys import Key, Keyspace
from tests.sim.disturbances import At, Disturbance, Point, disturbances
from tests.sim.exhaustive import FENCING, Played, Tale, meeting, play, survey
from tests.sim.story import Recorder

CHUNKS = 10


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def surveyed(recorder: Recorder) -> tuple[Played, list[Point]]:
    played, points = survey(recorder)
    assert not played.result.failure, played.result.failure
    return played, points


@pytest.fixture(scope="module")
def undisturbed(surveyed: tuple[Played, list[Point]]) -> Played:
    return surveyed[0]


@pytest.fixture(scope="module")
def everything(surveyed: tuple[Played, list[Point]]) -> list[Disturbance]:
    return list(disturbances(surveyed[1], Keyspace()))


@pytest.fixture(scope="module")
def first_of_each_kind(everything: list[Disturbance]) -> list[Disturbance]:
    return firsts(everything)


def firsts(found: list[Disturbance]) -> list[Disturbance]:
    """Of what goes wrong in the same way at points of the same kind, in a story that attaches four times: the first."""
    first: dict[tuple[object, ...], Disturbance] = {}
    for each in found:
        point, kinds = each.point, [_family(path) for path in (each.touched, *each.point.keys)]
        first.setdefault((point.daemon.split("/")[0], point.at, point.text, each.what, *kinds), each)
    return list(first.values())


def _family(path: str) -> object:
    key = Keyspace().parse(path)
    return key.family if isinstance(key, Key) else path


def test_an_attach_takes_four_writes_and_a_detach_four(undisturbed: Played) -> None:
    """A move takes both, and for its wish that has to wait a verdict, put and deleted. Here a path is told later, too."""
    counted = {stage: len(writes) for stage, writes in undisturbed.stages.items()}
    expected = {"attach": 4, "grow": 5, "move": 4 + 4 + 2 + 1, "again": 3 + 4, "detach": 4}
    assert {stage: counted[stage] for stage in expected} == expected, undisturbed.stages


def test_nothing_is_left_of_it_and_no_write_is_lost(undisturbed: Played) -> None:
    assert undisturbed.end.splitlines() == [
        "keys: backends/array1 nodes/n1 nodes/n2 storage/array1",
        "array1: volumes [], exports [], maps []",
        "n1: devices [], sessions [], links [], notes []",
        "n2: devices [], sessions [], links [], notes []",
    ]
    assert undisturbed.written == ["a token"]


def test_every_daemon_has_points_of_every_kind(everything: list[Disturbance]) -> None:
    met = {(each.point.daemon, each.point.at) for each in everything}
    busy = {(daemon, at) for daemon in ("node/n1", "node/n2") for at in At}
    assert busy <= met, busy - met
    assert {at for daemon, at in met if daemon.startswith("ctl/")} == set(At), "whoever leads"


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_it_ends_well_whatever_goes_wrong_once(
    chunk: int, undisturbed: Played, first_of_each_kind: list[Disturbance], recorder: Recorder
) -> None:
    for disturbance in first_of_each_kind[chunk::CHUNKS]:
        ends_as(undisturbed, disturbance, recorder)


@pytest.mark.long
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_it_ends_well_whatever_goes_wrong_later(
    chunk: int,
    undisturbed: Played,
    everything: list[Disturbance],
    first_of_each_kind: list[Disturbance],
    recorder: Recorder,
) -> None:
    done = set(first_of_each_kind)
    for disturbance in [each for each in everything if each not in done][chunk::CHUNKS]:
        ends_as(undisturbed, disturbance, recorder)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["first of each kind", pytest.param("the others", marks=pytest.mark.long)])
def test_a_fence_is_made_whatever_goes_wrong_once_with_an_agent(which: str, recorder: Recorder) -> None:
    undisturbed, points = survey(recorder, FENCING)
    assert not undisturbed.result.failure, undisturbed.result.failure
    assert [write for write in undisturbed.stages["move"] if write.startswith("fence/")]
    assert undisturbed.written == [], "what was not flushed went with the power"
    with_agents = [each for each in disturbances(points, Keyspace()) if each.point.daemon.startswith("fence/")]
    assert {each.point.at for each in with_agents} == set(At)
    first = firsts(with_agents)
    for disturbance in first if which == "first of each kind" else set(with_agents) - set(first):
        ends_as(undisturbed, disturbance, recorder, FENCING)


def ends_as(undisturbed: Played, disturbance: Disturbance, recorder: Recorder, tale: Tale | None = None) -> None:
    played = play(meeting(disturbance), recorder, tale)
    assert played.result.faults, f"{disturbance} was never met"
    assert not played.result.failure, f"{played.result.failure}\n{disturbance}\n{played.result.transcript(200)}"
    assert played.end == undisturbed.end, f"{disturbance}\n{played.end}\n{played.result.transcript(200)}"
    assert disturbance.what.fenced or played.written == undisturbed.written, f"{disturbance}: a write was lost"
