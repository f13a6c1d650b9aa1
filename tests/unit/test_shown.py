"""What others wrote steers no terminal, by whatever command and stream it leaves the client (F-K7)."""

from __future__ import annotations

import io
import json
import subprocess
import unicodedata
from typing import Any

import pytest
import structlog
import yaml
from hypothesis import given
from hypothesis import strategies as st

from daemons.logs import Format, Logs
from reconciler.runtime.ports import Put
from schema.keys import Family
from schema.models import BackendStatus, Condition
from schema.shown import shell_word, shown
from tests.examples import examples
from tests.unit.client_world import KEYS, World

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202eevil\u2066\udcff\u200b\x00\x08"
"""A title, a cleared screen, a C1 sequence, a line overwritten, directions turned, no UTF-8, invisible, NUL, backspace."""


def steers(text: str) -> list[str]:
    return [each for each in text if each not in "\n\t" and unicodedata.category(each) in ("Cc", "Cf", "Cs")]


def hostile_world() -> World:
    world = World()
    world.node("web-1")
    world.volume("data")

    def put(path: str, text: str) -> None:
        world.store.txn((), (Put(path, text.encode("utf-8", "surrogateescape")),))

    put(KEYS.prefix + "desired/volumes/" + EVIL, "{}")
    put(KEYS.prefix + f"desired/{EVIL}\nNAME  PHASE/x", "{}")
    text = json.dumps(
        {"who": EVIL.replace("\udcff", ""), "why": EVIL.replace("\udcff", "") + "\n", "evidence": "\x1b[1m"}
    )
    put(KEYS.path(Family.FENCE, "web-1", "b1"), text)
    put(KEYS.path(Family.DESIRED_NODE, "web-1"), json.dumps({"cordons": {"ana": EVIL.replace("\udcff", "")}}))
    put(
        KEYS.path(Family.DESIRED_VOLUME, "other"),
        json.dumps({"backend": "b", "size_gib": 1, EVIL.replace("\udcff", ""): 1}),
    )
    put(
        KEYS.path(Family.DESIRED_ATTACHMENT, "web-1", "data"),
        json.dumps({"labels": {"a": EVIL.replace("\udcff", ""), EVIL.replace("\udcff", ""): "b"}}),
    )
    world.put(
        Family.BACKEND,
        ("lvm",),
        value=BackendStatus(ready=False, reason="NotReady", message=EVIL, driver="\x1b[5mx\u202e"),
    )
    return world


COMMANDS = [
    ("get", "volumes"),
    ("get", "volumes", "-o", "wide"),
    ("get", "volumes", "-o", "json"),
    ("get", "volumes", "-o", "yaml"),
    ("get", "volumes", "-o", "name"),
    ("get", "attachments", "-o", "yaml"),
    ("get", "attachments", "-o", "jsonpath=.items[*].spec.labels.a"),
    ("get", "nodes", "-o", "wide"),
    ("get", "nodes", "-o", "yaml"),
    ("get", "backends", "-o", "wide"),
    ("get", "backends", "-o", "json"),
    ("describe", "node", "web-1"),
    ("describe", "backend", "lvm"),
    ("describe", "volume", "other"),
    ("explain", "web-1", "data"),
    ("explain", "other"),
    ("get", "volume", EVIL.replace("\x00", "")),
    ("attach", "web-1", EVIL.replace("\x00", "")),
    ("-e", EVIL, "get", "volumes"),
    (EVIL,),
]


@pytest.mark.parametrize(
    "command", COMMANDS, ids=lambda command: " ".join(shown(word, keep="") for word in command)[:60]
)
def test_no_command_lets_a_terminal_be_steered(command: tuple[str, ...]) -> None:
    result = hostile_world().run(*command)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    said = result.stdout_bytes.decode("utf-8", "surrogateescape") + result.stderr_bytes.decode(
        "utf-8", "surrogateescape"
    )
    assert said
    assert steers(said) == []


def test_what_yaml_and_json_say_is_still_what_was_written() -> None:
    world = hostile_world()
    meant = EVIL.replace("\udcff", "")
    as_yaml: list[Any] = list(yaml.safe_load_all(world.run("get", "attachments", "-o", "yaml").stdout))
    as_json = json.loads(world.run("get", "attachments", "-o", "json").stdout)
    for spec in (as_yaml[0]["spec"], as_json["items"][0]["spec"]):
        assert spec["labels"] == {"a": meant, meant: "b"}


def test_the_command_that_takes_a_strange_key_away_means_that_key() -> None:
    for name in (EVIL.replace("\x00", ""), "a b'c\"d$e\\f", "ü", "-x"):
        word = shell_word(name)
        assert steers(word) == []
        said = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
        assert said == name.encode("utf-8", "surrogateescape")


@given(st.text(st.characters(codec=None, exclude_categories=())))
@examples(200)
def test_any_text_is_shown_once_and_for_all(text: str) -> None:
    assert steers(shown(text)) == []
    assert shown(shown(text)) == shown(text)
    shown(text).encode()


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_on_a_terminal_is_not_steered_either_and_no_line_is_lost(form: Format) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "utf-8")
    logs = Logs(form, "info", stream)
    try:
        structlog.get_logger("x").info(f"said {EVIL}", key=EVIL)
    finally:
        logs.close()
    stream.flush()
    written = raw.getvalue().decode()
    assert "said" in written
    assert form == "json" or steers(written) == []


def test_a_message_with_half_a_character_can_be_stored() -> None:
    assert Condition(type="a", status="False", reason="r", message=EVIL, since="").message.encode()
