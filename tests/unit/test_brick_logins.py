"""F-B7: which targets the host logs in to by itself: ours never, and what it had before us stays as it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from reconciler.adapters.brick import library, logins
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


# --- through os-brick's connector


class Connector:
    """os-brick's hand in the records: a login makes one that says automatic, a logout removes it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.logging_in: Callable[[], object] = lambda: None
        self.logged_in: Callable[[], object] = lambda: None
        self.logouts: list[tuple[str, str]] = []
        self.disks: dict[tuple[str, str], tuple[set[str], set[str]]] = {}

    def connect_volume(self, data: dict[str, Any]) -> dict[str, Any]:
        self.logging_in()
        for portal, iqn in paths_of(data):
            self.machine.record(iqn, portal.removesuffix(":3260"), "automatic")
        self.logged_in()
        return {"path": "/dev/sda"}

    def disconnect_volume(self, data: dict[str, Any], device_info: object, **_: object) -> None:
        self._disconnect_connection(data, paths_of(data), False, None)

    def _get_connection_devices(self, *_: object) -> dict[tuple[str, str], tuple[set[str], set[str]]]:
        return self.disks

    def _disconnect_connection(self, data: dict[str, Any], sessions: list[tuple[str, str]], *_: object) -> None:
        for portal, iqn in sessions:
            self.logouts.append((portal, iqn))
            shutil.rmtree(self.machine.records / iqn / f"{portal.removesuffix(':3260')},3260,1", ignore_errors=True)


def paths_of(data: dict[str, Any]) -> list[tuple[str, str]]:
    if "target_portals" in data:
        return list(zip(data["target_portals"], data["target_iqns"], strict=True))
    return [(data["target_portal"], data["target_iqn"])]


def meet(here: Event, go_on: Event) -> None:
    here.set()
    assert go_on.wait(60)


class Brick(OsBrick):
    """os-brick with that connector; each call has the one that the test gives."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.settings, (machine.records,))
        self.next: list[Connector] = []

    def _connector(self, protocol: str, data: object, multipath: bool) -> Connector:
        return self.next.pop(0)

    def log_in(self, with_: Connector, data: dict[str, Any], *, multipath: bool = False) -> None:
        self.next.append(with_)
        self.connect("iscsi", data, multipath=multipath)

    def log_out(self, with_: Connector, data: dict[str, Any]) -> None:
        self.next.append(with_)
        self.disconnect("iscsi", data, {"path": "/dev/sda"}, devices=("sda",), multipath=False, force=False)


ONE = {"target_portal": "10.0.0.1:3260", "target_iqn": SHARED, "target_lun": 1}
TWO = {"target_portals": ["10.0.0.1:3260", "10.0.0.2:3260"], "target_iqns": [SHARED] * 2, "target_luns": [1, 1]}


def test_the_last_logout_between_another_volumes_note_and_its_login_takes_no_note_away(machine: Machine) -> None:
    """A third volume, which comes just after that login, would take its record for the host's own."""
    brick, first, second, third = Brick(machine), *(Connector(machine) for _ in range(3))
    noted, gone, logged_in, looked = (Event() for _ in range(4))
    brick.log_in(first, ONE)
    second.logging_in = lambda: meet(noted, gone)
    second.logged_in = lambda: meet(logged_in, looked)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(brick.log_in, second, ONE)
        assert noted.wait(60)
        brick.log_out(first, ONE)
        gone.set()
        assert logged_in.wait(60)
        brick.log_in(third, ONE)
        looked.set()
        under_way.result(60)
    assert machine.says(SHARED) == {"10.0.0.1:3260": "manual"}
    brick.log_out(third, ONE)
    machine.record(SHARED, "10.0.0.1", "automatic")
    brick.log_in(Connector(machine), ONE)
    assert machine.says(SHARED) == {"10.0.0.1:3260": "automatic"}, "made by the host when nobody was there"


def test_a_login_that_fails_leaves_no_record_that_logs_in_at_boot(machine: Machine) -> None:
    """os-brick's cleaning up is switched off where a device is there already."""
    failing = Connector(machine)

    def fail() -> None:
        raise OSError("no device")

    failing.logged_in = fail
    with pytest.raises(OSError, match="no device"):
        Brick(machine).log_in(failing, ONE)
    assert machine.says(SHARED) == {"10.0.0.1:3260": "manual"}


@pytest.mark.parametrize("startup", ["automatic", "onboot"])
def test_the_hosts_own_session_is_not_ended_with_our_volume(machine: Machine, startup: str) -> None:
    """It may have no disk there just now. Its record stays as well; of the other portal nothing is left."""
    machine.record(SHARED, "10.0.0.1", startup)
    brick, connector = Brick(machine), Connector(machine)
    brick.log_in(connector, TWO)
    brick.log_out(connector, TWO)
    assert connector.logouts == [("10.0.0.2:3260", SHARED)]
    assert machine.says(SHARED) == {"10.0.0.1:3260": startup}
    machine.record(SHARED, "10.0.0.2", startup)
    brick.log_in(Connector(machine), TWO)
    assert machine.says(SHARED) == {"10.0.0.1:3260": startup, "10.0.0.2:3260": startup}


def test_targets_that_os_brick_discovers_are_not_logged_in_to_at_boot(machine: Machine) -> None:
    """With several paths it asks the portal for all targets; open-iscsi's own default may be to log in to each."""
    host = "iqn.2026-01.example:host"
    machine.record(host, "10.0.0.1", "automatic")
    connector = Connector(machine)
    connector.logged_in = lambda: machine.record(IQN, "10.0.0.1", "automatic")
    Brick(machine).log_in(connector, ONE, multipath=True)
    assert (machine.says(IQN), machine.says(host)) == ({"10.0.0.1:3260": "manual"}, {"10.0.0.1:3260": "automatic"})


def test_a_temporary_folder_that_was_removed_is_made_again(machine: Machine, tmp_path: Path) -> None:
    """F-S15. os-brick's keyrings of RBD are written there; its own Python would go to /tmp, or fail until a restart."""
    folder = tmp_path / "run" / "tmp"
    machine.settings = machine.settings.model_copy(update={"temporary_folder": folder})
    brick = Brick(machine)
    brick.log_in(Connector(machine), ONE)
    folder.rmdir()
    brick.log_in(Connector(machine), ONE)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_os_brick_takes_no_disk_for_the_volumes_own_that_was_not_found_to_be(machine: Machine) -> None:
    """It goes by what was ever discovered at the portal: the same LUN of other targets, when its own is not among these."""
    brick, connector = Brick(machine), Connector(machine)
    connector.disks = {("10.0.0.1:3260", IQN): ({"sdb", "sda"}, {"sdc"})}
    brick.log_out(connector, ONE)
    assert connector._get_connection_devices() == {("10.0.0.1:3260", IQN): ({"sda"}, {"sdb", "sdc"})}


def test_a_connect_that_fails_takes_no_disk_away_that_was_there_before(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.records / "block" / "sdb").mkdir(parents=True)
    monkeypatch.setattr(library, "_BLOCK", machine.records / "block")
    brick, connector = Brick(machine), Connector(machine)
    connector.disks = {("10.0.0.1:3260", IQN): ({"sdb", "sda"}, set())}
    brick.log_in(connector, ONE)
    assert connector._get_connection_devices() == {("10.0.0.1:3260", IQN): ({"sda"}, {"sdb"})}
