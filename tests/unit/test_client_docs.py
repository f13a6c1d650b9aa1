"""docs/CLIENT.md is true: every console block in it is run, and its output compared.

A block names the world it is played in by a comment before it (`<!-- world: moving -->`). After a change:

    python -m tests.unit.test_client_docs

writes the present output into the page, to be read in the diff.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

from client.exits import Exit
from client.main import COMMANDS
from schema.keys import Family
from schema.models import Condition
from tests.unit.client_world import World

PAGE = Path(__file__).parents[2] / "docs" / "CLIENT.md"
BLOCK = re.compile(r"(?:<!-- world: (?P<world>\w+) -->\n)?```console\n(?P<body>.*?)```\n", re.DOTALL)
MANIFEST = re.compile(r"```yaml\n# (?P<file>\S+\.yaml)\n(?P<body>.*?)```\n", re.DOTALL)


def attached() -> World:
    """web-1 has the volume data."""
    world = World()
    world.attached()
    return world


def ready() -> World:
    """A backend and two nodes, nothing wished for yet."""
    world = World()
    world.backend()
    world.node("web-1")
    world.node("web-2")
    return world


def moving() -> World:
    """data is to go from web-1 to web-2, and is still mounted on web-1."""
    world = attached()
    world.node("web-2")
    world.wish("web-2")
    world.verdict(Family.DESIRED_ATTACHMENT, ("web-2", "data"), "Granted", "HeldBy", "held by web-1 (epoch 7, ready)")
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")
    busy = world.condition("Released", "DeviceBusy", "device is in use (mounted at /srv)")
    world.said("Attached", busy, next_try=world.stamp(-2))
    return world


def degraded() -> World:
    """One of two portals died a minute ago."""
    world = attached()
    lost = Condition(
        type="Degraded", status="True", reason="PathsMissing", message="1/2 paths are live", since=world.stamp(60)
    )
    world.said("Attached", lost, device="/dev/dm-0", paths_live=1, min_paths_reached=True)
    return world


def mounted() -> World:
    """web-1 has two volumes, data being mounted; its daemon is quick."""
    world = attached()
    world.wish("web-1", "logs")
    world.volume("logs")
    world.held("ready", volume="logs")
    world.said("Attached", volume="logs")

    def detach() -> None:
        busy = world.condition("Released", "DeviceBusy", "device is in use (mounted at /srv)")
        world.said("Attached", busy, next_try=world.stamp(-2))
        for family in (Family.CLAIM, Family.CONNECTION, Family.ATTACHMENT):
            world.delete(family, "web-1", "logs")
        world.available("logs")
        text = "set aside: web-1 is drained (kernel: reboot into 6.12)"
        world.verdict(Family.DESIRED_ATTACHMENT, ("web-1", "logs"), "Granted", "Drained", text)

    world.later(2, detach)
    return world


def dead() -> World:
    """web-1 died with the volume."""
    world = attached()
    world.delete(Family.ALIVE, "web-1")
    world.delete(Family.DESIRED_ATTACHMENT, "web-1", "data")
    return world


def doomed() -> World:
    """A volume whose data goes with its wish."""
    world = ready()
    world.volume("scratch", b'{"backend": "lvm", "size_gib": 10, "on_delete": "delete"}')
    world.available("scratch")
    return world


WORLDS: dict[str, Callable[[], World]] = {
    each.__name__: each for each in (attached, ready, moving, mounted, degraded, dead, doomed)
}


def play(page: str) -> str:
    """The page with every console block as it comes out now. Files shown in the page are there to be applied."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for shown in MANIFEST.finditer(page):
                Path(shown["file"]).write_text(shown["body"], encoding="utf-8")
            return BLOCK.sub(_block, page)
        finally:
            os.chdir(before)


def _block(found: re.Match[str]) -> str:
    world = WORLDS[found["world"]]() if found["world"] else World()
    lines = []
    for line in found["body"].splitlines():
        if line.startswith("$ brickctl"):
            result = world.run(*shlex.split(line)[2:])
            lines += [line, *result.output.splitlines()]
            if result.exit_code:
                lines.append(f"[exit code {result.exit_code}]")
    head = f"<!-- world: {found['world']} -->\n" if found["world"] else ""
    return head + "```console\n" + "\n".join(lines) + "\n```\n"


def test_the_page_shows_what_comes_out() -> None:
    """Help and examples are the program's own. `python -m tests.unit.test_client_docs` brings the page up to date."""
    page = PAGE.read_text(encoding="utf-8")
    assert play(page) == page


def test_the_page_is_complete() -> None:
    """Every command has its help, every exit code its line."""
    page = PAGE.read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"$ brickctl {name} --help\n" in page
    for code in Exit:
        assert f"| {int(code)} | " in page


if __name__ == "__main__":
    PAGE.write_text(play(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
