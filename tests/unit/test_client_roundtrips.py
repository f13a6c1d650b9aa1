"""What `get` printed, applied again: nothing that others did since is undone (F-D8)."""

from __future__ import annotations

import json

import pytest
import yaml

from schema.keys import Family
from schema.models import AttachmentSpec, VolumePhase, VolumeSpec, VolumeStatus
from tests.unit.client_world import World

FORMS = ("yaml", "json")


def detaching(world: World) -> None:
    """A volume whose wish was just taken back; the device is still there."""
    world.attached()
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")


def retained(world: World, name: str) -> None:
    status = VolumeStatus(uid=f"u-{name}", backend="lvm", phase=VolumePhase.RETAINED, size_gib=1)
    world.put(Family.VOLUME, (name,), status)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["web-1/data", ""])
def test_a_detach_under_way_is_not_taken_back(form: str, name: str) -> None:
    """Alone or in a list: what has no wish is skipped, and said so; the rest is applied."""
    world = World()
    detaching(world)
    if not name:
        world.wish("web-2", "logs")
    objects = ["attachment", name] if name else ["attachments"]
    result = world.run("apply", "-f", "-", stdin=world.ok("get", *objects, "-o", form))
    assert result.exit_code == 0
    assert result.stdout == ("" if name else "attachment/web-2/logs unchanged\n")
    assert "attachment/web-1/data skipped: nobody wished for it when this was printed" in result.stderr
    assert world.value(Family.DESIRED_ATTACHMENT, "web-1", "data") is None


@pytest.mark.parametrize("form", FORMS)
def test_a_list_does_not_take_back_what_others_detached_since(form: str) -> None:
    """Saved while it was wished for, applied after it was detached: skipped. Without its generation it is a new wish."""
    world = World()
    world.attached()
    saved = world.ok("get", "attachments", "-o", form)
    world.ok("detach", "web-1", "data")
    result = world.run("apply", "-f", "-", stdin=saved)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "attachment/web-1/data skipped: its wish was taken back since this was printed" in result.stderr
    assert world.value(Family.DESIRED_ATTACHMENT, "web-1", "data") is None
    if form == "yaml":
        mine = "".join(line for line in saved.splitlines(keepends=True) if not line.startswith("generation:"))
        assert world.ok("apply", "-f", "-", stdin=mine) == "attachment/web-1/data created\n"


@pytest.mark.parametrize("form", FORMS)
def test_a_retained_volume_does_not_make_a_list_unusable(form: str) -> None:
    """Nobody wishes for it; the others are applied."""
    world = World()
    world.volume("data")
    retained(world, "old")
    result = world.run("apply", "-f", "-", stdin=world.ok("get", "volumes", "-o", form))
    assert (result.exit_code, result.stdout) == (0, "volume/data unchanged\n")
    assert "volume/old skipped: nobody wished for it" in result.stderr
    assert world.value(Family.DESIRED_VOLUME, "old") is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("before", [b"", b'{"cordons": {"ann": "disk"}}'])
def test_a_list_of_nodes_does_not_open_what_others_closed_since(form: str, before: bytes) -> None:
    """A node without a wish gets none; one whose cordons changed is a conflict, and nothing is written."""
    world = World()
    world.node()
    if before:
        world.put(Family.DESIRED_NODE, ("web-1",), before)
    saved = world.ok("get", "nodes", "-o", form)
    world.ok("cordon", "web-1", "--label", "bob")
    closed = world.value(Family.DESIRED_NODE, "web-1")
    result = world.run("apply", "-f", "-", stdin=saved)
    assert result.exit_code == (3 if before else 0)
    assert ("node/web-1 was changed since this was printed" in result.stderr) is bool(before)
    assert world.value(Family.DESIRED_NODE, "web-1") == closed


def test_a_wish_that_could_not_be_read_is_not_overwritten() -> None:
    """It is printed without its spec."""
    world = World()
    world.wish(spec=b'{"mode": "sideways"}')
    result = world.run("apply", "-f", "-", stdin=world.ok("get", "attachments", "-o", "yaml"))
    assert result.exit_code == 0
    assert "attachment/web-1/data skipped: its wish could not be read" in result.stderr
    assert world.value(Family.DESIRED_ATTACHMENT, "web-1", "data") == b'{"mode": "sideways"}'


@pytest.mark.parametrize("form", FORMS)
def test_backends_are_skipped(form: str) -> None:
    """They are the controller's; written by hand they are a fault all the same."""
    world = World()
    world.backend()
    result = world.run("apply", "-f", "-", stdin=world.ok("get", "backends", "-o", form))
    assert (result.exit_code, result.stdout) == (0, "")
    assert "skipped: backends are defined in the controller's settings" in result.stderr


def test_an_edited_print_is_written_and_a_stale_one_is_not() -> None:
    """On_delete that somebody changed meanwhile stays as they said."""
    world = World()
    world.volume(spec=b'{"backend": "lvm", "size_gib": 10, "on_delete": "delete"}')
    saved = world.ok("get", "volume", "data", "-o", "yaml")
    assert "configured" in world.ok("apply", "-f", "-", stdin=saved.replace("size_gib: 10", "size_gib: 20"))
    world.volume(spec=b'{"backend": "lvm", "size_gib": 20, "on_delete": "retain"}')
    result = world.run("apply", "-f", "-", stdin=saved)
    assert result.exit_code == 3
    assert b"retain" in (world.value(Family.DESIRED_VOLUME, "data") or b"")


def test_deleting_by_what_was_printed_takes_no_later_wish_along() -> None:
    """A document without a wish names nothing to take back."""
    world = World()
    detaching(world)
    saved = world.ok("get", "attachments", "-o", "yaml")
    world.wish()
    result = world.run("delete", "-f", "-", stdin=saved)
    assert result.exit_code == 0
    assert "attachment/web-1/data skipped" in result.stderr
    assert world.value(Family.DESIRED_ATTACHMENT, "web-1", "data") is not None


def test_a_generation_is_a_whole_number() -> None:
    result = World().run("apply", "-f", "-", stdin="kind: Attachment\nnode: a\nvolume: v\nspec: {}\ngeneration: soon\n")
    assert (result.exit_code, "line 5: generation: must be the whole number" in result.stderr) == (2, True)


NUMBERS = ["010", "0o10", "0x1f", "1_000", "1e3", "1.0", ".inf", "12:30:45", "2026-11-23"]
ODD = [*NUMBERS, "yes", "no", "on", "~", "null", "true", "=", "-"]


@pytest.mark.parametrize("form", FORMS)
def test_text_that_looks_like_something_else_comes_back_as_text(form: str) -> None:
    """F-B3: whatever YAML, in either version, would take for a number, a date or a word of its own."""
    world = World()
    world.put(Family.DESIRED_ATTACHMENT, ("web-1", "data"), AttachmentSpec(labels=dict(zip(ODD, ODD, strict=True))))
    world.put(
        Family.DESIRED_VOLUME, ("data",), VolumeSpec.model_validate({"backend": "010", "import": {"id": "0123456"}})
    )
    for kind in ("attachments", "volumes"):
        printed = world.ok("get", kind, "-o", form)
        assert "unchanged" in world.ok("apply", "-f", "-", stdin=printed)
        if form == "yaml":
            assert [each["spec"] for each in yaml.safe_load_all(printed)] == [
                each["spec"] for each in json.loads(world.ok("get", kind, "-o", "json"))["items"]
            ]
