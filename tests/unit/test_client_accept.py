"""`brickctl accept`: another storage for a backend, on a person's word (F-D6)."""

from __future__ import annotations

import pytest

from client.exits import Exit
from schema.codec import decode
from schema.keys import Family
from schema.models import BackendStatus, BackendStorage
from tests.unit.client_world import World


@pytest.fixture
def world() -> World:
    """Backend lvm with a volume on one storage; its controller finds another."""
    world = World()
    world.available()
    status = BackendStatus(ready=False, reason="StorageDiffers", driver="d", storage="lvm-new", controller="ctl-2")
    world.put(Family.BACKEND, ("lvm",), status)
    world.put(Family.STORAGE, ("lvm",), BackendStorage(mark="lvm-old"))
    return world


def noted(world: World) -> str:
    said = decode(BackendStorage, world.value(Family.STORAGE, "lvm") or b"")
    assert isinstance(said, BackendStorage)
    return said.mark


def test_f_d6_what_a_controller_finds_is_accepted_and_both_marks_are_shown(world: World) -> None:
    result = world.run("accept", "lvm", "--yes")
    assert (result.exit_code, result.stdout) == (Exit.OK, "backend/lvm accepted\n")
    assert "noted is lvm-old; controller ctl-2 finds lvm-new. 1 volumes are recorded" in result.stderr
    assert noted(world) == "lvm-new"


def test_f_d6_nobody_is_taken_for_a_yes(world: World) -> None:
    assert world.run("accept", "lvm").exit_code == Exit.USAGE
    assert noted(world) == "lvm-old"


@pytest.mark.parametrize(("found", "words"), [("", "no controller has told"), ("lvm-old", "nothing to accept")])
def test_f_d6_there_has_to_be_another_storage(world: World, found: str, words: str) -> None:
    world.put(Family.BACKEND, ("lvm",), BackendStatus(ready=True, driver="d", storage=found))
    result = world.run("accept", "lvm", "--yes")
    assert result.exit_code == Exit.UNMET
    assert words in result.stderr
    assert noted(world) == "lvm-old"


def test_f_d6_a_backend_that_nobody_knows(world: World) -> None:
    assert world.run("accept", "lvn", "--yes").exit_code == Exit.NOT_FOUND
