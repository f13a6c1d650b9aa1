"""Stable links: one step from one device to the next, never in place of anything else, one folder per node."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from reconciler.adapters.brick.links import Links, draft_of
from reconciler.runtime.ports import LinkTaken, Terminal

LOOP3, LOOP4 = Path("/dev/loop3"), Path("/dev/loop4")


@pytest.fixture
def links(tmp_path: Path) -> Links:
    return Links(tmp_path / "links", "n1")


def test_a_link_leads_to_its_device_and_goes_again(links: Links, tmp_path: Path) -> None:
    path = links.publish("vol-1", LOOP3)
    assert path == tmp_path / "links" / "vol-1"
    assert os.readlink(path) == "/dev/loop3"
    links.withdraw("vol-1")
    links.withdraw("vol-1")
    assert links.target("vol-1") is None


def test_a_link_is_replaced_even_after_a_crash_in_the_middle(links: Links, tmp_path: Path) -> None:
    links.publish("vol-1", LOOP3)
    links.publish("vol-1", LOOP4)
    assert links.target("vol-1") == LOOP4
    draft_of(tmp_path / "links" / "vol-1").symlink_to("/dev/loop9")
    links.publish("vol-1", LOOP3)
    assert links.target("vol-1") == LOOP3
    assert sorted(path.name for path in (tmp_path / "links").iterdir()) == [".owner", "vol-1"]


def test_a_file_in_the_place_of_a_link_stays(links: Links, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "vol-1").write_text("mine")
    with pytest.raises(Terminal, match="no link"):
        links.publish("vol-1", LOOP3)
    links.withdraw("vol-1")
    assert (tmp_path / "links" / "vol-1").read_text() == "mine"


@pytest.mark.parametrize("name", ["", ".", "..", ".owner", "-x", "_x", "a/b", "a\nb", "vol 1", "x" * 254, "völ"])
def test_a_name_that_is_no_file_name_of_ours_is_refused(links: Links, name: str) -> None:
    with pytest.raises(Terminal):
        links.publish(name, LOOP3)


@pytest.mark.parametrize("name", ["a", "0", "vol-1.backup_2", "x" * 253])
def test_every_name_that_the_schema_allows_can_be_published(links: Links, name: str) -> None:
    links.publish(name, LOOP3)
    assert links.target(name) == LOOP3


def test_two_nodes_cannot_share_a_folder(links: Links, tmp_path: Path) -> None:
    links.publish("vol-1", LOOP3)
    other = Links(tmp_path / "links", "n2")
    with pytest.raises(Terminal, match="belongs to node n1"):
        other.publish("vol-2", LOOP4)
    other.withdraw("vol-1")
    assert links.target("vol-1") == LOOP3


def test_somebody_elses_link_of_a_volumes_name_stays(links: Links, tmp_path: Path) -> None:
    """F-S15: it leads to no device, so it is none of ours."""
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "vol-1").symlink_to("/etc/passwd")
    with pytest.raises(LinkTaken, match="leads elsewhere"):
        links.check("vol-1")
    with pytest.raises(LinkTaken, match="leads elsewhere"):
        links.publish("vol-1", LOOP3)
    links.withdraw("vol-1")
    assert os.readlink(tmp_path / "links" / "vol-1") == "/etc/passwd"


@pytest.mark.parametrize("swapped", ["before", "meanwhile"])
def test_a_folder_that_is_a_link_is_not_followed(links: Links, tmp_path: Path, swapped: str) -> None:
    """F-S15."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "vol-1").symlink_to(LOOP3)
    if swapped == "meanwhile":
        links.publish("vol-1", LOOP3)
        (tmp_path / "links").rename(tmp_path / "away")
    (tmp_path / "links").symlink_to(elsewhere)
    with pytest.raises(LinkTaken, match="not followed"):
        links.publish("vol-1", LOOP4)
    links.withdraw("vol-1")
    assert os.readlink(elsewhere / "vol-1") == str(LOOP3)
    assert [path.name for path in elsewhere.iterdir()] == ["vol-1"]


def test_a_folder_that_was_removed_is_made_again(links: Links, tmp_path: Path) -> None:
    links.publish("vol-1", LOOP3)
    shutil.rmtree(tmp_path / "links")
    assert os.readlink(links.publish("vol-1", LOOP3)) == str(LOOP3)


def test_mount_units_have_links_of_their_own(tmp_path: Path) -> None:
    links = Links(tmp_path / "links", "n1", mounts=tmp_path / "run" / "volumes")
    links.publish("vol-1", LOOP3)
    assert os.readlink(tmp_path / "run" / "volumes" / "vol-1") == str(LOOP3)
    links.publish("vol-1", LOOP4)
    assert os.readlink(tmp_path / "run" / "volumes" / "vol-1") == str(LOOP4)
    links.withdraw("vol-1")
    assert not os.path.lexists(tmp_path / "run" / "volumes" / "vol-1")


def test_links_for_mount_units_hold_nothing_up(tmp_path: Path) -> None:
    """Two nodes on one host, or somebody's file: the stable link is there all the same."""
    Links(tmp_path / "volumes", "n2").publish("vol-1", LOOP4)
    links = Links(tmp_path / "links", "n1", mounts=tmp_path / "volumes")
    assert os.readlink(links.publish("vol-1", LOOP3)) == str(LOOP3)
    links.withdraw("vol-1")
    assert os.readlink(tmp_path / "volumes" / "vol-1") == str(LOOP4)


@pytest.mark.parametrize("mounts", [None, "volumes"])
def test_everybody_may_follow_the_links_of_a_daemon_that_writes_for_itself_alone(
    tmp_path: Path, mounts: str | None
) -> None:
    links = Links(tmp_path / "links", "n1", mounts=tmp_path / mounts if mounts else None)
    before = os.umask(0o077)
    try:
        links.publish("vol-1", LOOP4)
    finally:
        os.umask(before)
    made = {folder.name: oct(folder.stat().st_mode & 0o777) for folder in tmp_path.iterdir()}
    assert made == dict.fromkeys({"links", mounts} - {None}, "0o755")


def test_a_folder_may_be_made_by_several_volumes_at_once(tmp_path: Path) -> None:
    """The first attachments after a boot: none takes what another thread has just made for something in the way."""
    for round_number in range(50):
        several = [Links(tmp_path / f"links-{round_number}", "n1", tmp_path) for _ in range(8)]
        together = Barrier(len(several))

        def check(links: Links, together: Barrier = together) -> None:
            together.wait(timeout=10)
            links.check("data")

        with ThreadPoolExecutor(len(several)) as pool:
            list(pool.map(check, several))
