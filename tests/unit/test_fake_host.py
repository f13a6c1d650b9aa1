"""What the connector's contract can't see of the fake host: what its devices, its disk and its daemon's worker do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.runtime.ports import Busy, IdentityMismatch, Note, Retryable, UnknownOutcome
from tests.fakes.child import Fault
from tests.fakes.connector import FakeConnector
from tests.fakes.host import FakeBoot, FakeNotes
from tests.unit.fake_world import World, begin, device_of, on


@pytest.fixture
def world() -> World:
    """A new one."""
    return World()


class TestHost:
    """What its devices, its disk and its daemon's worker do."""

    def test_a_killed_connect_leaves_a_session_whose_device_comes_by_itself(self, world: World) -> None:
        """And the next one completes it."""
        host, connector, daemon = world.host("n1")
        _, target = world.exported("v", host)
        connector.fault = on("connect", Fault(between_s=60))
        begin(daemon, lambda: connector.connect(target))
        world.clock.run_for(1)
        daemon.kill()
        assert (len(host.sessions), host.devices) == (1, {})
        host.scan()
        assert (len(host.devices), host.sessions, host.links) == (1, {}, {})
        FakeConnector(host, world.clock.process("n1")).connect(target)
        assert (len(host.devices), list(host.links)) == (1, ["v"])

    def test_a_disconnect_ends_a_session_without_a_device(self, world: World) -> None:
        host, connector, _ = world.host("n1")
        _, target = world.exported("v", host)
        connector.fault = on("connect", Fault(breaks=True))
        with pytest.raises(UnknownOutcome):
            connector.connect(target)
        assert connector.inspect(target, None) is None
        connector.disconnect(target, None)
        host.scan()
        assert (host.sessions, host.devices) == ({}, {})

    def test_a_successor_ends_the_worker_of_a_paused_daemon(self, world: World) -> None:
        host, connector, daemon = world.host("n1")
        _, target = world.exported("v", host)
        connector.fault = on("connect", Fault(before_s=60))
        begin(daemon, lambda: connector.connect(target))
        world.clock.run_for(1)
        daemon.pause()
        assert FakeConnector(host, world.clock.process("n1")).inspect(target, None) is None
        world.clock.run_for(600)
        assert host.devices == {}

    def test_who_opens_it_in_the_last_moment_keeps_it(self, world: World) -> None:
        host, connector, daemon = world.host("n1")
        _, target = world.exported("v", host)
        device = connector.connect(target)
        connector.fault = on("disconnect", Fault(between_s=1))
        outcome = begin(daemon, lambda: connector.disconnect(target, device.details))
        world.clock.run_for(1.5)
        assert host.links == {}
        with host.using(next(iter(host.devices.values())), "opened by qemu (pid 412)"):
            world.clock.run_for(1)
            assert isinstance(outcome[0], Busy)
        assert connector.inspect(target, None) == device

    @pytest.mark.parametrize(("flush", "written"), [(True, ["dirty"]), (False, [])])
    def test_only_a_flush_writes_what_is_dirty(self, world: World, flush: bool, written: list[str]) -> None:
        """A fenced boot's writes must not land."""
        host, connector, _ = world.host("n1")
        volume, target = world.exported("v", host)
        host.write(device_of(host, connector.connect(target)), "dirty", flush=False)
        connector.disconnect(target, None, flush=flush)
        assert world.array.volumes[volume.uid].written == written

    def test_a_device_that_was_cut_off_stays_so_for_its_user(self, world: World) -> None:
        host, connector, _ = world.host("n1")
        _, target = world.exported("v", host)
        device = device_of(host, connector.connect(target))
        with host.using(device, "mounted at /srv"):
            with pytest.raises(Busy):
                connector.disconnect(target, None, flush=False)
            assert not host.write(device, "of a fenced boot")

    def test_writes_to_what_is_read_only_or_halted_do_not_land(self, world: World) -> None:
        host, connector, _ = world.host("n1")
        volume, target = world.exported("v", host)
        device = device_of(host, connector.connect(replace(target, read_only=True)))
        assert not host.write(device, "read-only")
        device.read_only = False
        host.halt()
        assert not host.write(device, "halted")
        assert world.array.volumes[volume.uid].written == []

    def test_without_paths_nothing_lands_and_nothing_appears(self, world: World) -> None:
        host, connector, _ = world.host("n1")
        _, target = world.exported("v", host)
        host.paths_total = 2
        for down, live in ((set[int](), 2), ({1}, 1), ({0, 1}, 0)):
            host.paths_down = down
            if live:
                device = connector.connect(target)
            seen = connector.inspect(target, None)
            assert seen is not None
            assert (seen.paths_live, seen.paths_total) == (live, 2)
        assert not host.write(device_of(host, device), "lost")
        connector.disconnect(target, None)
        with pytest.raises(Retryable, match="no device"):
            connector.connect(target)

    def test_a_network_that_is_back_gives_its_path_once_it_is_added(self, world: World) -> None:
        host, connector, _ = world.host("n1")
        _, target = world.exported("v", host)
        host.paths_total, host.paths_down = 2, {1}
        device = connector.connect(target)
        assert (device.paths_live, device.paths_total) == (1, 2)
        with pytest.raises(Retryable, match="no portal answers"):
            connector.add_paths(target, device.details)
        host.paths_down = set()
        assert connector.inspect(target, device.details) == replace(device, portals_back=("192.0.2.1:3260",))
        whole = connector.add_paths(target, device.details)
        assert whole == replace(device, paths_live=2) == connector.inspect(target, device.details)

    def test_a_network_that_was_lost_gives_its_path_back_by_itself(self, world: World) -> None:
        host, connector, _ = world.host("n1")
        _, target = world.exported("v", host)
        host.paths_total = 2
        device = connector.connect(target)
        host.paths_down = {0}
        assert connector.inspect(target, device.details) == replace(device, paths_live=1)
        host.paths_down = set()
        assert connector.inspect(target, device.details) == device

    def test_a_wrong_volume_behind_the_lun_is_noticed(self, world: World) -> None:
        host, connector, _ = world.host("n1")
        _, target = world.exported("v", host)
        other = world.volume("other")
        world.array.create_export(other.uid)
        world.array.maps[host.initiator][1] = other.uid
        with pytest.raises(IdentityMismatch):
            connector.connect(target)
        assert host.links == {}

    @pytest.mark.parametrize("restores", [False, True])
    def test_what_a_reboot_leaves(self, world: World, restores: bool) -> None:
        host, connector, daemon = world.host("n1")
        host.restores_sessions = restores
        _, target = world.exported("v", host)
        device = device_of(host, connector.connect(target))
        host.write(device, "dirty", flush=False)
        notes, boot = FakeNotes(host, daemon), FakeBoot(host)
        note = Note("v", "uid-v", 1, boot.current(), "rw", target.conn_info, target.size_bytes, target.identity)
        notes.save(note)
        before = boot.current()
        daemon.kill()
        host.reboot()
        assert FakeNotes(host, world.clock.process("n1")).all() == {"v": note}
        assert FakeBoot(host).current() != before
        assert host.links == {}
        assert [(each.uid, each.dirty) for each in host.devices.values()] == ([("uid-v", [])] if restores else [])
        assert not host.write(device, "from the former boot")

    def test_notes_and_boot_outlive_the_daemon(self, world: World) -> None:
        host, _, daemon = world.host("n1")
        notes, boot = FakeNotes(host, daemon), FakeBoot(host)
        for name in ("b", "a"):
            notes.save(Note(name, "uid", 1, boot.current(), "rw", {"data": {}}, None, None))
        notes.drop("b")
        notes.drop("b")
        daemon.kill()
        assert list(FakeNotes(host, world.clock.process("n1")).all()) == ["a"]
        assert FakeBoot(host).current() == boot.current()
        assert boot.mint() == FakeBoot(host).current() != "n1-boot-1"

    def test_a_full_disk_refuses_a_note(self, world: World) -> None:
        host, _, daemon = world.host("n1")
        notes = FakeNotes(host, daemon)
        notes.fault = on("save", Fault(lands=False, raises=Retryable("no space left on device")))
        with pytest.raises(Retryable):
            notes.save(Note("v", "uid", 1, "boot", "rw", {}, None, None))
        assert notes.all() == {}
