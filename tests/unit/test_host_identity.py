"""A host's identity: what a copy of its disk does not share, kept in the state folder, moved only by a person's word (F-D1)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from daemons.commandline import settings_from
from daemons.host_identity import KeptIdentity, identity_of, say_the_word
from daemons.process import Exit, Refused

PRODUCT, MACHINE = "4C4C4544-0042-3510-8054-C2C04F4D5731\n", "b08dfa6083e7567a1921a715000001fb\n"


NO_CONTAINER = Path("/nowhere")


@pytest.fixture
def firmware(tmp_path: Path) -> tuple[Path, Path]:
    product, machine = tmp_path / "product_uuid", tmp_path / "machine-id"
    product.write_text(PRODUCT)
    machine.write_text(MACHINE)
    return product, machine


def test_it_is_made_of_board_and_system(firmware: tuple[Path, Path]) -> None:
    """Either one changes it. It tells neither: `nodes/N` is read by all."""
    product, machine = firmware
    seen = [identity_of(None, (product,), machine, NO_CONTAINER)]
    product.write_text(PRODUCT.lower())
    assert identity_of(None, (product,), machine, NO_CONTAINER) == seen[0], (
        "one firmware writes it so, the next otherwise"
    )
    product.write_text(PRODUCT.replace("31", "32"))
    seen.append(identity_of(None, (product,), machine, NO_CONTAINER))
    machine.write_text(MACHINE.replace("fb", "fc"))
    seen.append(identity_of(None, (product,), machine, NO_CONTAINER))
    assert len(set(seen)) == 3
    assert not any(MACHINE.strip() in each for each in seen)


@pytest.mark.parametrize(
    ("product", "machine", "names"),
    [
        (None, MACHINE, "product uuid"),
        (PRODUCT, None, "machine id"),
        ("", MACHINE, "product uuid"),
        ("00000000-0000-0000-0000-000000000000", MACHINE, "product uuid"),
        ("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", MACHINE, "product uuid"),
        ("03000200-0400-0500-0006-000700080009", MACHINE, "product uuid"),
        ("To Be Filled By O.E.M.", MACHINE, "product uuid"),
        (PRODUCT, "uninitialized\n", "machine id"),
    ],
)
def test_a_host_without_one_is_refused(
    firmware: tuple[Path, Path], product: str | None, machine: str | None, names: str
) -> None:
    """A copy could not be told from it. A setting takes the responsibility."""
    for file, value in zip(firmware, (product, machine), strict=True):
        file.unlink() if value is None else file.write_text(value)
    with pytest.raises(Refused, match=f"no {names}.*`host_identity: "):
        identity_of(None, (firmware[0],), firmware[1], NO_CONTAINER)
    assert identity_of("rack7", (firmware[0],), firmware[1]) == "setting=rack7"


def test_a_container_is_refused(firmware: tuple[Path, Path], tmp_path: Path) -> None:
    """Its firmware is its host's, and its machine id its image's: two from one image bear one identity."""
    namespace = tmp_path / "another one"
    namespace.touch()
    product, machine = firmware
    with pytest.raises(Refused, match=r"is a container.*`host_identity: "):
        identity_of(None, (product,), machine, namespace)
    assert identity_of("web-1", (product,), machine, namespace) == "setting=web-1"


def test_a_host_that_another_one_replaced_does_not_take_itself_for_the_node(tmp_path: Path) -> None:
    kept = KeptIdentity(tmp_path, "web-1", "a=1", "b1")
    kept.published("b1")
    kept.replaced()
    assert not kept.was_node()
    again = KeptIdentity(tmp_path, "web-1", "a=1", "b2")
    assert (again.was_node(), sorted(again.boots())) == (False, ["b1", "b2"])


def test_a_board_without_dmi_tells_a_serial_number(firmware: tuple[Path, Path], tmp_path: Path) -> None:
    product, machine = firmware
    serial = tmp_path / "serial-number"
    serial.write_text("100000003d1d1c36\0")
    assert identity_of(None, (tmp_path / "none", serial), machine, NO_CONTAINER) != identity_of(
        None, (product, serial), machine, NO_CONTAINER
    )


def test_boots_are_remembered_under_it(tmp_path: Path) -> None:
    """Values of older versions name nothing else."""
    KeptIdentity(tmp_path, "web-1", "a=1", "b1").published("b1")
    kept = KeptIdentity(tmp_path, "web-1", "a=1", "b2")
    assert (sorted(kept.boots()), kept.was_node()) == (["b1", "b2"], True)
    for number in range(100):
        kept.published(f"c{number}")
    assert len(KeptIdentity(tmp_path, "web-1", "a=1", "c99").boots()) == 64


def test_a_folder_that_meets_another_host_stops_it_before_anything_is_written(tmp_path: Path) -> None:
    """Both identities, what is not the same, and what to do."""
    first, copy = tmp_path / "first", tmp_path / "copy"
    first.mkdir()
    KeptIdentity(first, "web-1", "product=1,machine=1", "b1").published("b1")
    shutil.copytree(first, copy)
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    with pytest.raises(Refused) as refused:
        KeptIdentity(copy, "web-1", "product=2,machine=1", "b2")
    told = str(refused.value)
    assert all(each in told for each in ("product=1,machine=1", "product=2,machine=1", "--this-host-is web-1", "board"))
    assert "installed system" not in told, "that is the same"
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before


def test_a_word_moves_the_folder_and_is_used_up(tmp_path: Path) -> None:
    """Nothing that the former host was is this host's. A word holds for the identity that it was said of, and can be said anew."""
    KeptIdentity(tmp_path, "web-1", "a=1", "b1").published("b1")
    say_the_word(tmp_path, "web-1", "a=3")
    with pytest.raises(Refused):
        KeptIdentity(tmp_path, "web-1", "a=2", "b2")
    say_the_word(tmp_path, "web-1", "a=2")
    moved = KeptIdentity(tmp_path, "web-1", "a=2", "b2")
    assert (sorted(moved.boots()), moved.was_node(), moved.word()) == (["b2"], False, True)
    assert KeptIdentity(tmp_path, "web-1", "a=2", "b2").word(), "a restart does not use it up"
    moved.published("b2")
    assert not moved.word()
    with pytest.raises(Refused):
        KeptIdentity(tmp_path, "web-1", "a=1", "b3")


def test_a_running_daemon_hears_of_a_word(tmp_path: Path) -> None:
    kept = KeptIdentity(tmp_path, "web-1", "a=1", "b1")
    assert not kept.word()
    say_the_word(tmp_path, "web-1", "a=1")
    assert kept.word()


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_what_can_not_be_understood_stops_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "host.json").write_text(text)
    with pytest.raises(Refused, match=r"host\.json can't be understood"):
        KeptIdentity(tmp_path, "web-1", "a=1", "b1")


def command(tmp_path: Path, *arguments: str, **more: str) -> int:
    environ = {"BRICKWORK_STATE_FOLDER": str(tmp_path), "BRICKWORK_NODE": "web-1", **more}
    with pytest.raises(SystemExit) as ended:
        settings_from("node", arguments, environ)
    return int(str(ended.value.code))


def test_the_command_on_the_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the identity that it takes, what is still to be done, and refuses another node's name."""
    assert command(tmp_path, "--this-host-is", "web-1", BRICKWORK_HOST_IDENTITY="me") == Exit.OK
    said = capsys.readouterr().out
    assert "(setting=me) is web-1" in said
    assert "brickctl fence web-1 --boot BOOT" in said
    assert json.loads((tmp_path / "this-host-is.json").read_text()) == {"node": "web-1", "identity": "setting=me"}
    assert command(tmp_path, "--this-host-is", "web-2", BRICKWORK_HOST_IDENTITY="me") == Exit.REFUSED
    assert "bears the node id 'web-1', not 'web-2'" in capsys.readouterr().err
