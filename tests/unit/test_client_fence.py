"""`brickctl fence`: who states what, what it frees, and what it refuses (A28, A29, A31)."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from client.exits import Exit
from client.main import cli
from client.session import Session
from client.settings import Settings
from schema.codec import decode
from schema.keys import Family
from schema.models import Alive, FenceStatement, NodeRecord
from tests.unit.client_world import World

DEAD = ("fence", "web-1", "--boot", "b1", "--why", "host is dead", "--evidence", "ports shut")
OFF = (*DEAD, "--powered-off")


@pytest.fixture
def world() -> World:
    """web-1 died with the volume data, which web-2 waits for."""
    world = World()
    world.attached()
    world.delete(Family.ALIVE, "web-1")
    world.wish("web-2")
    return world


def statement(world: World) -> FenceStatement:
    value = decode(FenceStatement, world.value(Family.FENCE, "web-1", "b1") or b"")
    assert isinstance(value, FenceStatement), value
    return value


def refused(world: World, exit_code: Exit, *arguments: str) -> str:
    """The command fails like this, says why, and writes nothing."""
    before = world.etcd.revision
    result = world.run(*arguments)
    assert (result.exit_code, world.etcd.revision) == (exit_code, before), result.output
    return result.stderr


def test_the_statement_is_written_with_a_name_to_it(world: World) -> None:
    """Who, why, evidence, when; and what is freed is told before."""
    result = world.run(*DEAD, "--yes", "--who", "ann")
    assert (result.exit_code, result.stdout) == (Exit.OK, "fence/web-1/b1 created\n")
    assert "data (on lvm): freed, and web-2 waits for it" in result.stderr
    said = statement(world)
    assert (said.who, said.why, said.evidence, said.proof) == ("ann", "host is dead", "ports shut", "statement")
    assert said.at == world.stamp(0)


def test_who_is_the_user_at_this_host(world: World) -> None:
    world.ok(*DEAD, "--yes")
    assert "@" in statement(world).who


@pytest.mark.parametrize(("answer", "exit_code"), [("y\n", Exit.OK), ("\n", Exit.UNMET), ("n\n", Exit.UNMET)])
def test_it_asks(world: World, answer: str, exit_code: Exit) -> None:
    """On a terminal, and no is the default."""
    world.terminal = True
    result = world.run(*DEAD, stdin=answer)
    assert result.exit_code == exit_code, result.output
    assert bool(world.value(Family.FENCE, "web-1", "b1")) == (exit_code is Exit.OK)


def test_a_script_has_to_say_yes(world: World) -> None:
    assert "--yes" in refused(world, Exit.USAGE, *DEAD)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (("fence", "web-7", *DEAD[2:]), Exit.NOT_FOUND, "did you mean web-2?"),
        (("fence", "web-1", "--boot", "b0", *DEAD[4:]), Exit.NOT_FOUND, "web-1 has no boot b0: it is in b1"),
        (("fence", "web-2", *DEAD[2:]), Exit.UNMET, "holds no volume"),
        (("fence", "web-1", "--boot", "b/1", *DEAD[4:]), Exit.USAGE, "boot 'b/1'"),
        ((*DEAD[:6], "--evidence", " "), Exit.USAGE, "--evidence is empty"),
        ((*DEAD[:6], "--evidence", "x" * 40_000), Exit.USAGE, "too long"),
    ],
)
def test_what_looks_like_a_mistake(world: World, arguments: tuple[str, ...], exit_code: Exit, says: str) -> None:
    """An unknown node or boot, and a fence that would free nothing."""
    world.node("web-2", boot="b1", alive=False)
    assert says in refused(world, exit_code, *arguments, "--yes")


def test_a_node_that_lives_is_not_fenced(world: World) -> None:
    """Unless that is said: a host may be healthy enough to say so, and its disks not."""
    world.node("web-1")
    assert "gives signs of life" in refused(world, Exit.CONFLICT, *DEAD, "--yes")
    world.ok(*DEAD, "--yes", "--although-alive")


def test_a_fence_is_never_changed(world: World) -> None:
    world.ok(*DEAD, "--yes", "--who", "ann")
    assert "fenced already, by ann" in refused(world, Exit.CONFLICT, *DEAD, "--yes", "--who", "bob")


def test_a_fence_may_be_raised_once(world: World) -> None:
    """What was said first is kept."""
    world.ok(*DEAD, "--yes", "--who", "ann")
    assert world.ok(*OFF, "--yes", "--who", "bob") == "fence/web-1/b1 raised\n"
    said = statement(world)
    assert (said.who, said.proof) == ("bob", "powered_off")
    assert said.earlier is not None
    assert (said.earlier.who, said.earlier.proof) == ("ann", "statement")
    for weaker in (DEAD, OFF):
        assert "A fence is never changed" in refused(world, Exit.CONFLICT, *weaker, "--yes")


def test_a_fence_whose_boot_nothing_speaks_of_any_more_may_be_raised(world: World) -> None:
    """What the former host had was taken back and its claim is gone: only so do grants to its successor go on (F-D1)."""
    world.ok(*DEAD, "--yes")
    world.node("web-1", boot="b2")
    world.available("data")
    world.delete(Family.CLAIM, "web-1", "data")
    assert world.ok(*OFF, "--yes", "--although-alive") == "fence/web-1/b1 raised\n"


def acted_upon(world: World) -> None:
    """The controller has copied a fence of b1 that stands no more."""
    world.put(Family.FENCED, ("web-1", "b1"), FenceStatement(who="ann", why="dead", evidence="saw it"))


def test_a_fence_that_was_acted_upon_and_withdrawn_may_be_stated_again(world: World) -> None:
    acted_upon(world)
    world.available("data")
    assert world.ok(*DEAD, "--yes") == "fence/web-1/b1 created\n"


def test_it_may_be_stated_again_though_nothing_but_the_copy_speaks_of_that_boot(world: World) -> None:
    """The copy of a weak one keeps grants from the former host's successor (`FormerHost`) until it is raised."""
    acted_upon(world)
    world.node("web-1", boot="b2")
    world.available("data")
    world.delete(Family.CLAIM, "web-1", "data")
    assert world.ok(*OFF, "--yes", "--although-alive") == "fence/web-1/b1 created\n"


def test_it_may_be_stated_again_though_the_boot_holds_what_no_array_can_cut(world: World) -> None:
    acted_upon(world)
    world.cuts_access = False
    world.backend()
    assert world.ok(*DEAD, "--yes") == "fence/web-1/b1 created\n"


def test_a_word_is_not_enough_where_the_array_does_not_cut(world: World) -> None:
    """All volumes on such arrays: refused. Some of them: told which are not freed."""
    world.cuts_access = False
    world.backend()
    assert "would free nothing" in refused(world, Exit.CONFLICT, *DEAD, "--yes")
    world.ok(*OFF, "--yes")


@pytest.mark.parametrize(
    ("family", "value"),
    [(Family.ALIVE, Alive(boot="b1", since="")), (Family.NODE, NodeRecord(boot="b2", connector={}))],
)
def test_a_host_that_comes_back_meanwhile_wins(world: World, family: Family, value: Alive | NodeRecord) -> None:
    """Nothing is written when it gave a sign of life, or published a boot, while the user was being asked."""

    def is_somebody_there() -> bool:
        world.put(family, ("web-1",), value)
        return True

    session = Session(Settings(), world.store, world.clock, is_somebody_there)
    result = CliRunner().invoke(cli, DEAD, obj=session, input="y\n")
    assert (result.exit_code, world.value(Family.FENCE, "web-1", "b1")) == (Exit.CONFLICT, None), result.output
    assert "changed meanwhile" in result.stderr


def test_the_boot_of_a_host_that_is_replaced_may_be_fenced_with_nothing_held(world: World) -> None:
    """F-D1: another host may be the node only when that boot is stated to be over."""
    world.node("web-2", boot="b1", alive=False)
    arguments = ("fence", "web-2", *OFF[2:])
    result = world.run(*arguments, "--yes")
    assert (result.exit_code, result.stdout) == (Exit.OK, "fence/web-2/b1 created\n")
    assert "It holds nothing." in result.stderr
