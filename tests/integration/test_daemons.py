"""Whole daemons on a real etcd: write counts, what users may do wrong, and what one backend may not do to another."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from schema.keys import Family
from tests.integration import fleets
from tools.fleet import FILE_DRIVER, Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root]

NOOP = "reconciler.adapters.cinder.noop_driver.NoopDriver"
FOREIGN = ("/cinder/", "/oslo_", "/eventlet/", "/os_brick/")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A controller with a good and a hanging backend, and two nodes."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "files").mkdir(mode=0o700)
    backends = {
        "files": {"driver": FILE_DRIVER, "options": {"file_driver_folder": str(folder / "files")}},
        "hangs": {
            "driver": NOOP,
            "options": {"noop_failpoints": ["create_volume:hang"]},
            "deadlines_s": {"create": 1.0},
        },
    }
    with Fleet(folder, packages=fleets.STATE, backends=backends) as running:
        running.controller(settings=fleets.QUICK)
        running.node("a", fleets.QUICK)
        running.node("b", fleets.QUICK)
        fleets.until_ready(running, "files", "hangs")
        wait_until("both nodes are published", lambda: len(running.keys("/brickwork/v1/alive/")) == 2)
        yield running


def test_an_attach_and_a_detach_take_four_writes_each(fleet: Fleet) -> None:
    """Counted by etcd's own revision, the user's write left out (A24)."""
    fleets.wish_volume(fleet, "counted")
    wait_until(
        "it is there", lambda: getattr(fleets.value(fleet, Family.VOLUME, "counted"), "phase", "") == "Available"
    )
    before = fleet.revision()
    fleets.attach(fleet, "a", "counted")
    fleets.until_attached(fleet, "a", "counted")
    attached = fleet.revision()
    fleets.detach(fleet, "a", "counted")
    fleets.until_gone(fleet, "a", "counted")
    assert (attached - before - 1, fleet.revision() - attached - 1) == (4, 4)


def test_a_daemon_without_its_lease_says_that_it_is_not_ready(fleet: Fleet) -> None:
    """At once, not when etcd has been silent for so long that the watches are given up."""

    def lacking(daemon: str) -> bool:
        page = fleets.page(fleet, daemon, "/readyz")
        return " 503 " in page and "no lease: etcd has confirmed none for" in page

    os.kill(fleet.etcd.pid, signal.SIGSTOP)
    try:
        for daemon in ("ctl", "a"):
            wait_until(f"{daemon} is not ready", lambda name=daemon: lacking(name))  # type: ignore[misc]
    finally:
        os.kill(fleet.etcd.pid, signal.SIGCONT)
    for daemon in ("ctl", "a"):
        ready = lambda name=daemon: " 200 " in fleets.page(fleet, name, "/readyz")  # noqa: E731
        wait_until(f"{daemon} is ready again", ready)
    fleets.until_ready(fleet, "files", "hangs")


def test_a_state_folder_that_is_full_ends_no_daemon(fleet: Fleet) -> None:
    """It says so, goes on, and is ready again when there is room."""
    in_the_way = fleet.folder / "a" / "state" / "store.json.new"
    in_the_way.mkdir()  # what a file that can't be written comes to, without a file system of its own
    try:
        fleets.wish_volume(fleet, "roomy")
        fleets.attach(fleet, "a", "roomy")
        fleets.until_attached(fleet, "a", "roomy")
        wait_until("it is told", lambda: "store.json can't be written" in fleets.page(fleet, "a", "/readyz"))
        fleets.detach(fleet, "a", "roomy")
        fleets.until_gone(fleet, "a", "roomy")
    finally:
        in_the_way.rmdir()
    wait_until("it is ready again", lambda: " 200 " in fleets.page(fleet, "a", "/readyz"))


def test_a_volume_moves_only_when_it_was_released(fleet: Fleet) -> None:
    """The second node waits, and is told for whom; the content goes along (A22)."""
    fleets.wish_volume(fleet, "moves")
    fleets.attach(fleet, "a", "moves")
    status = fleets.until_attached(fleet, "a", "moves")
    with open(status.path, "r+b", buffering=0) as device:
        device.write(b"moved".ljust(4096, b"\0"))
        os.fsync(device.fileno())
    fleets.attach(fleet, "b", "moves")

    def verdict() -> object:
        return fleets.value(fleet, Family.VERDICT_ATTACHMENT, "b", "moves")

    told = wait_until("b is told", verdict)
    assert [(c.reason, c.message.split(" (")[0]) for c in told.conditions] == [("HeldBy", "held by a")]  # type: ignore[attr-defined]
    fleets.detach(fleet, "a", "moves")
    status = fleets.until_attached(fleet, "b", "moves")
    with open(status.path, "rb", buffering=0) as device:
        assert device.read(5) == b"moved"
    fleets.detach(fleet, "b", "moves")
    fleets.until_gone(fleet, "b", "moves")
    assert verdict() is None


def test_read_only_is_enforced_on_the_device(fleet: Fleet) -> None:
    """`mode: ro` reaches the kernel: the device can't be opened for writing (A22)."""
    fleets.wish_volume(fleet, "readonly")
    fleets.attach(fleet, "a", "readonly", '{"mode": "ro"}')
    status = fleets.until_attached(fleet, "a", "readonly")
    assert status.read_only
    with pytest.raises(OSError, match=r"Read-only|not permitted"), open(status.path, "r+b", buffering=0) as device:
        device.write(b"x" * 512)
    fleets.detach(fleet, "a", "readonly")
    fleets.until_gone(fleet, "a", "readonly")


def test_a_device_in_use_is_blocked_and_goes_when_free(fleet: Fleet) -> None:
    """Detach of an open device says by whom it is held, unmaps nothing, and completes by itself (A11)."""
    fleets.wish_volume(fleet, "busy")
    fleets.attach(fleet, "a", "busy")
    status = fleets.until_attached(fleet, "a", "busy")
    with open(status.path, "rb"):
        fleets.detach(fleet, "a", "busy")

        def blocked() -> object:
            found = fleets.value(fleet, Family.ATTACHMENT, "a", "busy")
            return [c.message for c in found.conditions if c.reason == "DeviceBusy"]

        message = wait_until("it is blocked", blocked)
        assert str(message).count(f"pid {os.getpid()}") == 1, "F-C13: said once"
        assert fleets.value(fleet, Family.GRANT, "busy").holders[0].phase == "ready"
        assert "Blocked" in fleet.brickctl("get", "attachments", "a/busy", check=False)
    fleets.until_gone(fleet, "a", "busy")


def test_etcdctl_and_yaml_say_the_same(fleet: Fleet, tmp_path: Path) -> None:
    """The same wish by either way gives the same stored spec, and applying it again changes nothing (A1)."""
    fleet.etcdctl_run("put", "/brickwork/v1/desired/volumes/same1", '{"backend": "files", "size_gib": 1}')
    manifest = tmp_path / "m.yaml"
    manifest.write_text("kind: Volume\nname: same2\nspec: {backend: files, size_gib: 1}\n")
    fleet.brickctl("apply", "-f", str(manifest))
    assert "unchanged" in fleet.brickctl("apply", "-f", str(manifest))
    specs = [fleets.value(fleet, Family.DESIRED_VOLUME, name) for name in ("same1", "same2")]
    assert specs[0] == specs[1]


@pytest.mark.parametrize(
    ("name", "raw", "fault"),
    [
        ("notjson", "nonsense", "$: not JSON"),
        ("wrongtype", '{"backend": "files", "size_gib": "1"}', "$.size_gib"),
        ("unknownfield", '{"backend": "files", "size_gib": 1, "sise": 2}', "$.sise: unknown field"),
        ("unknownbackend", '{"backend": "nope", "size_gib": 1}', "no controller serves backend 'nope'"),
        ("toolong", '{"backend": "files", "size_gib": 1, "x": "' + "x" * 33_000 + '"}', "at most 32,768"),
        ("huge", "x" * 1_400_000, "at most 32,768"),
    ],
)
def test_a_broken_wish_is_told_and_left_alone(fleet: Fleet, name: str, raw: str, fault: str) -> None:
    """A raw value that is broken gets its verdict, stays as it is, and stops nothing else (S18)."""
    fleets.put(fleet, Family.DESIRED_VOLUME, name, text=raw)

    def told() -> object:
        verdict = fleets.value(fleet, Family.VERDICT_VOLUME, name)
        return verdict and fault in verdict.conditions[0].message

    wait_until(f"{name} is told", told)
    item = fleet.store.get(f"/brickwork/v1/desired/volumes/{name}")
    assert item is not None
    assert item.value == raw.encode()
    fleets.wish_volume(fleet, f"{name}-good")
    wait_until("others go on", lambda: fleets.value(fleet, Family.RECORD, f"{name}-good"))
    fleets.delete(fleet, Family.DESIRED_VOLUME, name)
    wait_until("the verdict goes with its key", lambda: not fleets.value(fleet, Family.VERDICT_VOLUME, name))


def test_a_key_that_is_none_is_told(fleet: Fleet) -> None:
    """A path below `desired/` that does not parse is answered under its encoded name."""
    path = "/brickwork/v1/desired/attachments/a/b/c"
    fleet.etcdctl_run("put", path, "{}")
    answer = fleets.KEYSPACE.verdict_unparsable(path)
    wait_until("it is told", lambda: fleet.store.get(answer))
    fleet.etcdctl_run("del", path)
    wait_until("the verdict goes", lambda: fleet.store.get(answer) is None)


def test_a_hanging_driver_call_is_killed_and_delays_nobody_else(fleet: Fleet) -> None:
    """A call beyond its deadline is an unknown outcome, tried again; another backend's work goes on meanwhile (A62)."""
    fleets.wish_volume(fleet, "stuck", backend="hangs")

    def unknown() -> object:
        verdict = fleets.value(fleet, Family.VERDICT_VOLUME, "stuck")
        return verdict and [c for c in verdict.conditions if c.reason == "UnknownOutcome"]

    wait_until("the call was given up", unknown, 60)
    fleets.wish_volume(fleet, "lively")
    fleets.attach(fleet, "b", "lively")
    fleets.until_attached(fleet, "b", "lively")
    assert fleets.value(fleet, Family.RECORD, "stuck").intent == "create"
    fleets.delete(fleet, Family.DESIRED_VOLUME, "stuck")
    wait_until("what there may be of it is taken away", lambda: fleets.value(fleet, Family.RECORD, "stuck") is None, 60)
    fleets.detach(fleet, "b", "lively")
    fleets.until_gone(fleet, "b", "lively")


def test_a_volume_follows_its_wish(fleet: Fleet) -> None:
    """Extended while detached; retained and taken back; deleted with its data only where the wish said so."""
    fleets.wish_volume(fleet, "life")
    wait_until("made", lambda: getattr(fleets.value(fleet, Family.VOLUME, "life"), "phase", "") == "Available")
    uid = fleets.value(fleet, Family.RECORD, "life").uid
    fleets.wish_volume(fleet, "life", size_gib=2)
    wait_until("extended", lambda: fleets.value(fleet, Family.VOLUME, "life").size_gib == 2)
    fleets.wish_volume(fleet, "life", size_gib=1)
    wait_until("refused", lambda: fleets.value(fleet, Family.VERDICT_VOLUME, "life"))
    assert fleets.value(fleet, Family.VERDICT_VOLUME, "life").conditions[0].reason == "SizeSmaller"
    fleets.delete(fleet, Family.DESIRED_VOLUME, "life")
    wait_until("retained", lambda: fleets.value(fleet, Family.VOLUME, "life").phase == "Retained")
    fleets.wish_volume(fleet, "life", size_gib=2, on_delete="delete")
    wait_until("taken back", lambda: fleets.value(fleet, Family.VOLUME, "life").phase == "Available")
    assert fleets.value(fleet, Family.RECORD, "life").uid == uid
    fleets.delete(fleet, Family.DESIRED_VOLUME, "life")
    wait_until("deleted", lambda: fleets.value(fleet, Family.RECORD, "life") is None)
    assert not [file for file in fleet.files.iterdir() if uid in file.name]


def test_what_exists_is_imported_and_never_deleted(fleet: Fleet) -> None:
    """`import` takes over a file that is there, with its size and content, and retains it whatever is written."""
    (fleet.files / "legacy.img").write_bytes(b"precious".ljust(1 << 20, b"\0") + bytes((1 << 30) - (1 << 20)))
    fleets.put(
        fleet,
        Family.DESIRED_VOLUME,
        "imported",
        text='{"backend": "files", "import": {"source-name": "legacy.img"}, "on_delete": "delete"}',
    )
    fleets.attach(fleet, "a", "imported")
    status = fleets.until_attached(fleet, "a", "imported")
    with open(status.path, "rb") as device:
        assert device.read(8) == b"precious"
    fleets.detach(fleet, "a", "imported")
    fleets.until_gone(fleet, "a", "imported")
    fleets.delete(fleet, Family.DESIRED_VOLUME, "imported")
    wait_until("retained", lambda: fleets.value(fleet, Family.VOLUME, "imported").phase == "Retained")


def test_a_node_that_rebooted_gets_its_volumes_back(fleet: Fleet) -> None:
    """A new boot removes what is left of the old one, publishes itself, and is granted anew (A18)."""
    fleets.wish_volume(fleet, "survives")
    fleets.attach(fleet, "b", "survives")
    before = fleets.until_attached(fleet, "b", "survives")
    fleet.daemon("b").kill(signal.SIGKILL)
    fleet.end_children("b")
    fleet.reboot("b")
    fleet.node("b", fleets.QUICK)

    def anew() -> object:
        status = fleets.value(fleet, Family.ATTACHMENT, "b", "survives")
        return status and status.attached and status.boot != before.boot

    wait_until("attached in the new boot", anew, 60)
    assert fleets.value(fleet, Family.ATTACHMENT, "b", "survives").epoch > before.epoch
    fleets.detach(fleet, "b", "survives")
    fleets.until_gone(fleet, "b", "survives")


def test_a_node_record_deleted_by_hand_comes_back(fleet: Fleet) -> None:
    """`nodes/N` is put back while a volume is attached, and nothing happens to the device (A33, PROTOCOL N9)."""
    fleets.wish_volume(fleet, "kept")
    fleets.attach(fleet, "a", "kept")
    before = fleets.until_attached(fleet, "a", "kept")
    fleets.delete(fleet, Family.NODE, "a")
    wait_until("it is back", lambda: fleets.value(fleet, Family.NODE, "a"))
    assert fleets.value(fleet, Family.ATTACHMENT, "a", "kept") == before
    fleets.detach(fleet, "a", "kept")
    fleets.until_gone(fleet, "a", "kept")


@pytest.mark.parametrize("family", [Family.CLAIM, Family.CONNECTION, Family.GRANT, Family.VOLUME, Family.ATTACHMENT])
def test_a_key_of_ours_deleted_by_hand_comes_back(fleet: Fleet, family: Family) -> None:
    """Whatever single key of ours is deleted under a live device, it is healed and the device stays (A33)."""
    names = ("hurt",) if len(family.names) == 1 else ("a", "hurt")
    fleets.wish_volume(fleet, "hurt")
    fleets.attach(fleet, "a", "hurt")
    before = fleets.until_attached(fleet, "a", "hurt")
    fleets.delete(fleet, family, *names)
    wait_until("it is back", lambda: fleets.value(fleet, family, *names))
    after = fleets.until_attached(fleet, "a", "hurt")
    assert (after.device, after.epoch) == (before.device, before.epoch)


def test_the_daemons_map_no_foreign_file(fleet: Fleet) -> None:
    """After attaches and detaches neither daemon has loaded anything of cinder, oslo, eventlet or os-brick."""
    for name in ("ctl", "a"):
        maps = Path(f"/proc/{fleet.daemon(name).pid}/maps").read_text()
        assert not [word for word in FOREIGN if word in maps]


@pytest.mark.parametrize("name", ["ctl", "a"])
def test_what_drivers_leave_behind_is_in_a_folder_of_the_daemons_own(fleet: Fleet, name: str) -> None:
    """F-K: keyrings of RBD among it, for which nobody else should have to be trusted."""
    own = fleet.folder / name / "run" / "tmp"
    assert own.stat().st_mode & 0o777 == 0o700
    workers = fleet.workers(name)
    assert workers
    for worker in workers:
        assert f"TMPDIR={own}".encode() in Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")


def test_stopping_a_node_daemon_touches_no_device(fleet: Fleet) -> None:
    """SIGTERM leaves devices as they are; the next start verifies them and goes on (A8, A19)."""
    fleets.wish_volume(fleet, "stays")
    fleets.attach(fleet, "a", "stays")
    status = fleets.until_attached(fleet, "a", "stays")
    assert fleet.daemon("a").kill(signal.SIGTERM) == 0
    assert Path(status.path).resolve().name in fleet.loop_devices()
    fleet.node("a", fleets.QUICK)
    fleets.detach(fleet, "a", "stays")
    fleets.until_gone(fleet, "a", "stays")
