"""F-B7: which targets the host logs in to by itself: ours never, and what it had before us stays as it was."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.adapters.brick import logins
from reconciler.adapters.brick.library import OsBrick
from reconciler.adapters.brick.settings import ConnectorSettings

IQN, SHARED = "iqn.2026-01.example:ours", "iqn.2026-01.example:shared"
ISCSIADM = """#!/bin/sh
# iscsiadm -m node -T IQN -p PORTAL --op update -n node.startup -v VALUE
address=${6%:*}; address=${address#[}; address=${address%]}
sed -i "s/^node.startup = .*/node.startup = ${12}/" "$RECORDS/$4/$address,${6##*:},1/default"
echo "$4 $6 ${12}" >>"$RECORDS/../calls"
"""


class Machine:
    """A host with open-iscsi's records, and os-brick's hand in them."""

    def __init__(self, folder: Path) -> None:
        self.records = folder / "nodes"
        self.records.mkdir()
        self.settings = ConnectorSettings(node="n1", state_folder=folder / "state", my_ip="10.0.0.9")
        self.restart()

    def restart(self) -> None:
        self.brick = OsBrick(self.settings, (self.records,))
        self.logins = logins.Logins(self.settings.state_folder / "logins", (self.records,))

    def record(self, iqn: str, address: str, startup: str) -> None:
        file = self.records / iqn / f"{address},3260,1" / "default"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# BEGIN RECORD\nnode.name = {iqn}\nnode.startup = {startup}\nnode.conn[0].startup = manual\n")

    def connect(self, iqn: str, *addresses: str, crash: bool = False) -> None:
        """What `OsBrick.connect` does, with os-brick's part in the middle; then what `Block` does."""
        self.logins.before([iqn])
        for address in addresses:
            self.record(iqn, address, "automatic")
        if not crash:
            self.brick.set_manual_startup([iqn])

    def says(self, iqn: str) -> dict[str, str]:
        return dict(logins.startups(iqn, (self.records,)))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    program = tmp_path / "bin" / "iscsiadm"
    program.parent.mkdir()
    program.write_text(ISCSIADM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("RECORDS", str(tmp_path / "nodes"))
    return Machine(tmp_path)


def test_what_we_log_in_to_is_never_logged_in_to_at_boot(machine: Machine) -> None:
    machine.connect(IQN, "10.0.0.1", "fd00::1")
    assert machine.says(IQN) == {"10.0.0.1:3260": "manual", "[fd00::1]:3260": "manual"}
    assert logins.automatic([IQN], (machine.records,)) == []


@pytest.mark.parametrize("startup", ["automatic", "onboot", "manual"])
def test_what_the_host_had_before_us_stays_as_it_was(machine: Machine, startup: str) -> None:
    """On one portal of the target; the other one is ours."""
    machine.record(SHARED, "10.0.0.1", startup)
    for _ in range(2):
        machine.connect(SHARED, "10.0.0.1", "10.0.0.2")
        assert machine.says(SHARED) == {"10.0.0.1:3260": startup, "10.0.0.2:3260": "manual"}
    assert logins.automatic([SHARED, IQN], (machine.records,)) == ([SHARED] if startup == "automatic" else [])


def test_other_targets_are_left_alone(machine: Machine) -> None:
    machine.record(SHARED, "10.0.0.1", "automatic")
    machine.connect(IQN, "10.0.0.1")
    assert machine.says(SHARED) == {"10.0.0.1:3260": "automatic"}


def test_what_os_brick_left_in_a_crash_is_not_taken_for_the_hosts(machine: Machine) -> None:
    machine.connect(IQN, "10.0.0.1", crash=True)
    machine.restart()
    machine.connect(IQN, "10.0.0.1")
    assert machine.says(IQN) == {"10.0.0.1:3260": "manual"}


def test_what_the_host_makes_for_itself_between_two_attachments_is_its_own(machine: Machine) -> None:
    """os-brick removes its records with the last logout."""
    machine.connect(IQN, "10.0.0.1")
    for file in machine.records.rglob("default"):
        file.unlink()
    machine.logins.left([IQN])
    machine.record(IQN, "10.0.0.1", "automatic")
    machine.connect(IQN, "10.0.0.1")
    assert machine.says(IQN) == {"10.0.0.1:3260": "automatic"}


def test_a_note_that_a_power_cut_left_empty_makes_no_login_the_hosts(machine: Machine) -> None:
    machine.connect(IQN, "10.0.0.1", crash=True)
    for note in (machine.settings.state_folder / "logins").iterdir():
        note.write_text("")
    machine.restart()
    machine.connect(IQN, "10.0.0.1")
    assert machine.says(IQN) == {"10.0.0.1:3260": "manual"}


def test_volumes_of_one_target_are_connected_side_by_side(machine: Machine) -> None:
    """Each notes what the host has there, and none takes another's half-written note."""
    machine.record(SHARED, "10.0.0.1", "onboot")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(machine.logins.before, [[SHARED]] * 200))
    machine.connect(SHARED, "10.0.0.1", "10.0.0.2")
    assert machine.says(SHARED) == {"10.0.0.1:3260": "onboot", "10.0.0.2:3260": "manual"}
