"""Stable links: one step from one device to the next, never in place of anything else, one folder per node."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.adapters.brick.links import Links, draft_of
from reconciler.runtime.ports import Terminal

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
