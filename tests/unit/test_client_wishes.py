"""`brickctl attach`, `detach` and `delete`: wishes made and taken back."""

from __future__ import annotations

import pytest

from schema.keys import Family
from schema.models import Condition, Verdict, VolumePhase, VolumeStatus
from tests.unit.client_world import KEYS, World


def stored(world: World, node: str = "web-1", volume: str = "data") -> bytes | None:
    return world.value(Family.DESIRED_ATTACHMENT, node, volume)


def test_attach_puts_a_wish() -> None:
    """`{}` is enough; mode and labels are added when said."""
    world = World()
    assert world.ok("attach", "web-1", "data") == "attachment/web-1/data created\n"
    assert stored(world) == b'{"schema":1}'
    world.ok("attach", "web-2", "logs", "--mode", "ro", "--label", "app=db", "--label", "team=ünï")
    assert stored(world, "web-2", "logs") == '{"schema":1,"mode":"ro","labels":{"app":"db","team":"ünï"}}'.encode()


def test_attach_again_keeps_what_is_there() -> None:
    """Labels are added, nothing else changes; an equal wish is not written again."""
    world = World()
    world.wish(spec=b'{"mode": "ro", "labels": {"app": "db"}}')
    assert world.ok("attach", "web-1", "data") == "attachment/web-1/data unchanged\n"
    assert world.ok("attach", "web-1", "data", "--label", "a=b") == "attachment/web-1/data configured\n"
    assert stored(world) == b'{"schema":1,"mode":"ro","labels":{"app":"db","a":"b"}}'


def test_attach_tells_of_a_mode_that_stays() -> None:
    """F-C2: what no option names stays; where that is not what a new wish would get, it is told."""
    world = World()
    world.node()
    world.volume()
    world.wish(spec=b'{"mode": "ro"}')
    result = world.run("attach", "web-1", "data")
    assert (result.exit_code, result.stdout) == (0, "attachment/web-1/data unchanged\n")
    assert result.stderr == "note: it was wished for as ro already, and that stays\n"
    assert world.run("attach", "web-1", "data", "--mode", "ro").stderr == ""
    assert "[default: as it is, else rw]" in " ".join(world.ok("attach", "--help").split())


def test_attach_does_not_change_a_mode() -> None:
    """A device in use keeps its mode: exit code 3, and the way to change it."""
    world = World()
    world.wish(spec=b'{"mode": "rw"}')
    result = world.run("attach", "web-1", "data", "--mode", "ro")
    assert result.exit_code == 3
    assert "is wished for as rw; to change that detach it, wait, and attach it as ro" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attach", "web/1", "data"), "'web/1/data': write NODE VOLUME, or NODE/VOLUME"),
        (("attach", "web-1", "-x"), "No such option"),
        (("attach", "web-1", "data", "--label", "x"), "--label 'x': write NAME=VALUE"),
        (("attach", "web-1"), "which volume? Write brickctl attach NODE VOLUME"),
        (("delete", "volume"), "which volume?"),
        (("delete", "pool", "lvm"), "'pool' is no kind of object here; write one of volume, attachment, node, backend"),
        (("delete", "attachment", "web-1"), "write NODE/VOLUME, or NODE VOLUME, such as web-1/data"),
        (("delete",), "say what to delete"),
        (("delete", "volume", "a", "-f", "x"), "say what to delete"),
    ],
)
def test_misuse_names_the_fault(arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2, and what to write instead."""
    result = World().run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_detach_deletes_the_wish_alone() -> None:
    """The node and the controller do the rest."""
    world = World()
    world.attached()
    assert world.ok("detach", "web-1", "data") == "attachment/web-1/data deleted\n"
    assert stored(world) is None
    assert world.value(Family.CLAIM, "web-1", "data") is not None
    again = world.ok("detach", "web-1", "data")
    assert again.startswith("attachment/web-1/data unchanged: Detaching, ")


def test_detaching_what_nobody_knows_is_told() -> None:
    """A typo is not a success: exit code 4, and the nearest name."""
    world = World()
    world.attached()
    result = world.run("detach", "web-1", "dta")
    assert result.exit_code == 4
    assert "no attachment web-1/dta; did you mean web-1/data?" in result.stderr


def test_delete_says_what_becomes_of_the_data() -> None:
    """Before it is done: retained, or deleted once it is detached."""
    world = World()
    world.attached()
    result = world.run("delete", "volume", "data")
    assert result.stdout == "volume/data deleted\n"
    assert "volume data (10 GiB on lvm): its data is retained (on_delete: retain)" in result.stderr
    world.volume(spec=b'{"backend": "lvm", "size_gib": 10, "on_delete": "delete"}')
    result = world.run("delete", "volume/data")
    assert "its data WILL BE DELETED once it is detached from web-1 (on_delete: delete)" in result.stderr


def test_delete_says_what_is_noted() -> None:
    """F-D2: of a wish that no controller has noted it is said so, and what is noted instead."""
    world = World()
    world.volume(spec=b'{"backend": "lvm", "size_gib": 10, "on_delete": "delete"}')
    world.available()
    noted = world.run("delete", "volume", "data", "--yes")
    assert "its data WILL BE DELETED (on_delete: delete)\n" in noted.stderr
    world.volume(spec=b'{"backend": "lvm", "size_gib": 10, "on_delete": "delete"}')
    world.available()
    world.volume(spec=b'{"backend": "lvm", "size_gib": 10, "on_delete": "retain"}')
    hoped = world.run("delete", "volume", "data")
    assert "its data is retained (on_delete: retain), but no controller has noted this wish yet" in hoped.stderr


def test_a_question_for_the_last_wish_is_answered_by_name() -> None:
    """F-D2: `brickctl delete volume` confirms that the data goes, and says that nobody knows what the wish said."""
    world = World()
    world.available()
    verdict = Verdict(
        generation=0,
        conditions=(Condition(type="Available", status="False", reason="LastWishUnknown", message="m", since=""),),
    )
    world.put(Family.VERDICT_VOLUME, ("data",), verdict)
    result = world.run("delete", "volume", "data", "--yes")
    assert result.stdout == "volume/data confirmed: its data is deleted\n"
    assert "it isn't known what its last wish said" in result.stderr
    assert b'"u-1"' in (world.value(Family.DESIRED_DELETION, "data") or b"")


def test_imported_data_is_retained_whatever_is_written() -> None:
    """What is imported is retained."""
    world = World()
    world.volume(spec=b'{"backend": "lvm", "import": {"source-name": "lun-7"}, "on_delete": "delete"}')
    world.terminal = True
    result = world.run("delete", "volume", "data")
    assert result.exit_code == 0
    assert "its data is retained, as of everything imported" in result.stderr


TWICE_DELETED = "volume/data unchanged: Retained, the data is kept; wish for data on lvm again to take it back\n"


def test_deleting_a_retained_volume_says_that_it_is_and_what_to_do() -> None:
    """F-C10: `get` shows it, so it is not said to be none; and how its data is got rid of is told."""
    world = World()
    status = VolumeStatus(uid="u-1", backend="lvm", phase=VolumePhase.RETAINED, size_gib=10)
    world.put(Family.VOLUME, ("data",), status)
    for arguments in (("volume", "data"), ("volume/data",), ("volume", "data", "--yes")):
        result = world.run("delete", *arguments)
        assert (result.exit_code, result.stdout) == (0, TWICE_DELETED)
        assert "spec: {backend: lvm, size_gib: 10}" in result.stderr
        assert "put on_delete: delete into that spec" in result.stderr
    assert "put on_delete: delete into that spec" in world.ok("explain", "data")


def test_deleting_what_is_going_already_says_so() -> None:
    """F-C10: a detach or a deletion under way is still listed; it is as asked for."""
    world = World()
    world.attached()
    world.ok("delete", "attachment", "web-1/data")
    assert world.ok("delete", "attachment", "web-1/data").startswith("attachment/web-1/data unchanged: Detaching, ")
    status = VolumeStatus(uid="u-1", backend="lvm", phase=VolumePhase.DELETING, size_gib=10)
    world.put(Family.VOLUME, ("old",), status)
    assert world.ok("delete", "volume", "old").startswith("volume/old unchanged: Deleting, ")


@pytest.mark.parametrize(
    "command",
    [
        "attach {}",
        "detach {}",
        "explain {}",
        "get attachment {}",
        "describe attachment {}",
        "wait attachment {} --for=attached",
        "delete attachment {}",
    ],
)
def test_an_attachment_is_spelt_either_way(command: str) -> None:
    """F-C11: `web-1 data`, `web-1/data`; with the kind before, where `-o name` printed it so."""
    told = []
    for spelling in ("web-1/data", "web-1 data", "attachment/web-1/data"):
        words = command.format(spelling)
        if spelling.startswith("attachment") and "attachment {}" in command:
            words = words.replace("attachment attachment/", "attachment/")
        world = World()
        world.attached()
        told.append(world.ok(*words.split()))
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize(
    "command", ["cordon {}", "uncordon {}", "drain {} --no-wait", "undrain {}", "get attachments --node {}"]
)
def test_a_node_is_spelt_either_way(command: str) -> None:
    """F-C11: `web-1`, and `node/web-1` as `-o name` prints it."""
    told = []
    for spelling in ("web-1", "node/web-1"):
        world = World()
        world.attached()
        told.append(world.ok(*command.format(spelling).split()))
    assert told[0] == told[1]


def test_several_attachments_are_spelt_either_way() -> None:
    """Names without a slash come two by two; an odd one is told."""
    world = World()
    for volume in ("a", "b"):
        world.attached(volume=volume)
    both = world.ok("describe", "attachment", "web-1/a", "web-1/b")
    assert world.ok("describe", "attachment", "web-1", "a", "web-1", "b") == both
    assert "write NODE/VOLUME, or NODE VOLUME" in world.run("describe", "attachment", "web-1", "a", "web-1").stderr
    assert "2 names: write one" in world.run("get", "volume", "a", "b").stderr
    assert world.ok("explain", "volume", "a") == world.ok("explain", "volume/a") == world.ok("explain", "a")


@pytest.mark.parametrize("spec", [b'{"backend": "lvm", "size_gib": 1, "on_delete": "delete"}', b"{broken"])
def test_losing_data_needs_a_yes(spec: bytes) -> None:
    """F-D9: a terminal is asked, --yes answers; without a terminal and without --yes nothing is deleted."""
    world = World()
    world.volume(spec=spec)
    world.terminal = True
    refused = world.run("delete", "volume", "data", stdin="n\n")
    assert (refused.exit_code, world.value(Family.DESIRED_VOLUME, "data")) == (1, spec)
    assert "Delete the data of data?" in refused.stderr
    assert world.run("delete", "volume", "data", stdin="y\n").exit_code == 0
    world.volume(spec=spec)
    assert "?" not in world.run("delete", "volume", "data", "--yes").stderr
    world.volume(spec=spec)
    world.terminal = False
    for arguments, stdin in ((("volume", "data"), ""), (("volume/data",), ""), (("-f", "-"), MANIFEST)):
        silent = world.run("delete", *arguments, stdin=stdin)
        assert (silent.exit_code, world.value(Family.DESIRED_VOLUME, "data")) == (2, spec)
        assert "Nobody is here to be asked: say --yes" in silent.stderr
    assert world.run("delete", "-f", "-", "--yes", stdin=MANIFEST).exit_code == 0
    assert world.value(Family.DESIRED_VOLUME, "data") is None


MANIFEST = "kind: Volume\nname: data\nspec: {backend: lvm, size_gib: 1, on_delete: delete}\n"
TWO = "kind: Attachment\nnode: web-1\nvolume: a\n---\nkind: Attachment\nnode: web-1\nvolume: b\n"
DRAINS = "kind: Node\nname: web-1\nspec: {drains: {ann: disk}}\n"
ENDS = "kind: Node\nname: web-1\nspec: {confirmed_detaches: {a: 7, b: 7}}\n"


@pytest.mark.parametrize(
    ("command", "stdin"),
    [
        (("delete", "attachment", "web-1/a", "web-1/b"), ""),
        (("delete", "-f", "-"), TWO),
        (("drain", "web-1", "--no-wait"), ""),
        (("apply", "-f", "-"), DRAINS),
        (("apply", "-f", "-"), ENDS),
    ],
)
def test_detaching_more_than_one_needs_a_yes(command: tuple[str, ...], stdin: str) -> None:
    """F-D9: in a script --yes has to say it; one detach by name, or a second drain, needs none."""
    world = World()
    for volume in ("a", "b"):
        world.attached(volume=volume)
    before = world.etcd.revision
    result = world.run(*command, stdin=stdin)
    assert (result.exit_code, world.etcd.revision) == (2, before)
    assert "say --yes" in result.stderr
    world.terminal = not stdin
    if world.terminal:
        assert (world.run(*command, stdin="n\n").exit_code, world.etcd.revision) == (1, before)
        world.terminal = False
    assert world.run(*command, "--yes", stdin=stdin).exit_code == 0
    assert world.etcd.revision > before
    if b"drains" in (world.value(Family.DESIRED_NODE, "web-1") or b""):
        assert world.run("drain", "web-1", "--label", "bob", "--no-wait").exit_code == 0


def test_one_detach_in_a_script_stays() -> None:
    """By name, by manifest, or by a drain of a node that has one volume."""
    for command in (
        ("detach", "web-1", "data"),
        ("delete", "attachment", "web-1/data"),
        ("drain", "web-1", "--no-wait"),
    ):
        world = World()
        world.attached()
        assert world.run(*command).exit_code == 0


@pytest.mark.parametrize(
    "command",
    [
        ("attach", "web-1", "data"),
        ("attach", "web-1", "data", "--min-paths", "2"),
        ("apply", "-f", "-"),
        ("cordon", "web-1"),
        ("drain", "web-1"),
    ],
)
def test_what_a_newer_brickwork_wrote_is_for_an_upgrade(command: tuple[str, ...]) -> None:
    """F-S14: nothing overwrites it, and the words say upgrade."""
    world = World()
    world.node()
    newer = b'{"schema": 2, "modes": ["rw"]}'
    world.wish(spec=newer)
    world.put(Family.DESIRED_NODE, ("web-1",), newer)
    result = world.run(*command, stdin="kind: Attachment\nnode: web-1\nvolume: data\nspec: {mode: rw}\n")
    assert result.exit_code == 3
    assert "Upgrade this brickctl" in result.stderr
    assert stored(world) == newer == world.value(Family.DESIRED_NODE, "web-1")


def test_delete_by_name_and_by_manifest() -> None:
    """By name, what is missing is an error, and the rest is done; by manifest, it is as wished."""
    world = World()
    world.volume("data")
    result = world.run("delete", "volume", "data", "dta")
    assert (result.exit_code, result.stdout) == (4, "volume/data deleted\n")
    assert "no volume dta" in result.stderr
    manifest = "kind: Volume\nname: data\nspec: {backend: lvm, size_gib: 1}\n---\nkind: Attachment\nnode: web-1\nvolume: data\n"
    world.wish()
    assert world.ok("delete", "-f", "-", stdin=manifest) == "attachment/web-1/data deleted\nvolume/data absent\n"


def test_what_the_roles_hide_is_not_absent() -> None:
    """A key that may not be read is never reported missing: exit code 6, and which."""
    world = World()
    world.wish()
    world.volume()
    world.store.denied = (KEYS.folder(Family.DESIRED_ATTACHMENT),)
    for command in (("delete", "attachment", "web-1/data"), ("attach", "web-1", "data"), ("detach", "web-1", "data")):
        result = world.run(*command)
        assert (result.exit_code, "desired/attachments" in result.stderr) == (6, True)
    assert "your user may not read desired/attachments: ask for a role that may" in result.stderr
