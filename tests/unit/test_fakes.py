"""What the contract suites can't see of the fake arrays and hosts: when an effect lands, whose data it hits, what survives what."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from reconciler.runtime.ports import (
    NotOpen,
    PortError,
    Retryable,
    Terminal,
    Unavailable,
    UnknownOutcome,
    Unsupported,
    VolumeData,
)
from tests.fakes.child import FOREVER, Fault
from tests.fakes.clock import shuffled
from tests.fakes.connector import FakeConnector
from tests.fakes.host import FakeHost
from tests.unit.fake_world import World, begin, device_of, on


@pytest.fixture
def world() -> World:
    """A new one."""
    return World()


class TestWhenAnEffectLands:
    """Of calls in a worker, seen at one of a driver."""

    @pytest.fixture
    def volume(self, world: World) -> VolumeData:
        return world.volume("v", FakeHost("n1", [world.array]))

    def begin(self, world: World, volume: VolumeData, fault: Fault) -> list[object]:
        world.backend.fault = on("export", fault)
        return begin(world.controller, lambda: world.backend.export(volume, volume.exports[0]))

    def test_it_lands_while_its_daemon_is_paused(self, world: World, volume: VolumeData) -> None:
        """And the daemon, resumed after the deadline, finds the answer."""
        outcome = self.begin(world, volume, Fault(before_s=60))
        world.clock.run_for(1)
        world.controller.pause()
        world.clock.run_for(600)
        assert volume.uid in world.array.exports
        assert outcome == []
        world.controller.resume()
        world.clock.run_for(0.1)
        assert not isinstance(outcome[0], PortError)

    def test_after_a_kill_it_never_lands(self, world: World, volume: VolumeData) -> None:
        outcome = self.begin(world, volume, Fault(before_s=60))
        world.clock.run_for(1)
        world.backend.kill()
        world.clock.run_for(600)
        assert isinstance(outcome[0], UnknownOutcome)
        assert volume.uid not in world.array.exports

    def test_after_its_deadline_it_never_lands(self, world: World, volume: VolumeData) -> None:
        outcome = self.begin(world, volume, Fault(before_s=181))
        world.clock.run_for(600)
        assert isinstance(outcome[0], UnknownOutcome)
        assert volume.uid not in world.array.exports

    @pytest.mark.parametrize("paused", [False, True])
    def test_a_worker_dies_with_its_daemon(self, world: World, volume: VolumeData, paused: bool) -> None:
        outcome = self.begin(world, volume, Fault(before_s=60))
        world.clock.run_for(1)
        if paused:
            world.controller.pause()
        world.controller.kill()
        world.clock.run_for(600)
        assert (outcome, volume.uid in world.array.exports) == ([], False)

    def test_it_does_not_land_after_its_permission_though_the_daemon_is_paused(
        self, world: World, volume: VolumeData
    ) -> None:
        world.backend.permit(world.clock.now() + 2)
        outcome = self.begin(world, volume, Fault(before_s=5))
        world.clock.run_for(1)
        world.controller.pause()
        world.clock.run_for(600)
        assert volume.uid not in world.array.exports
        world.controller.resume()
        world.clock.run_for(1)
        assert isinstance(outcome[0], UnknownOutcome)

    def test_a_renewed_permission_puts_the_end_off(self, world: World, volume: VolumeData) -> None:
        world.backend.permit(world.clock.now() + 2)
        outcome = self.begin(world, volume, Fault(before_s=5))
        world.clock.run_for(1)
        world.backend.permit(world.clock.now() + 20)
        world.clock.run_for(10)
        assert volume.uid in world.array.exports
        world.clock.run_for(20)
        assert not isinstance(outcome[0], PortError)
        with pytest.raises(Unavailable):
            world.backend.describe()

    def test_it_may_have_landed_and_nobody_is_told(self, world: World, volume: VolumeData) -> None:
        outcome = self.begin(world, volume, Fault(after_s=FOREVER))
        world.clock.run_for(600)
        assert isinstance(outcome[0], UnknownOutcome)
        assert volume.uid in world.array.exports

    def test_a_driver_may_fail_after_it_has_done_everything(self, world: World, volume: VolumeData) -> None:
        error = Retryable("a timeout inside the driver")
        assert self.begin(world, volume, Fault(raises=error)) == []
        world.clock.run_for(1)
        assert volume.uid in world.array.exports

    def test_a_driver_may_lie(self, world: World, volume: VolumeData) -> None:
        outcome = self.begin(world, volume, Fault(lands=False))
        world.clock.run_for(1)
        assert not isinstance(outcome[0], PortError)
        assert volume.uid not in world.array.exports

    def test_a_dying_worker_takes_all_its_calls_along(self, world: World, volume: VolumeData) -> None:
        slow = self.begin(world, volume, Fault(before_s=60))
        world.clock.run_for(1)
        world.backend.fault = on("describe", Fault(lands=False, dies=True))
        for call in (world.backend.describe, world.backend.describe):
            with pytest.raises(Unavailable):
                call()
        world.clock.run_for(600)
        assert isinstance(slow[0], UnknownOutcome)
        assert volume.uid not in world.array.exports
        world.backend.fault = lambda _: None
        world.backend.open([])
        world.backend.describe()

    def test_while_it_is_being_opened_other_calls_are_refused(self, world: World, volume: VolumeData) -> None:
        world.backend.fault = on("open", Fault(before_s=60))
        opened = begin(world.controller, lambda: world.backend.open([]))
        world.clock.run_for(1)
        with pytest.raises(NotOpen):
            world.backend.export(volume, volume.exports[0])
        world.clock.run_for(60)
        assert not isinstance(opened[0], PortError)
        world.backend.describe()

    def test_a_daemon_may_be_killed_at_the_very_moment_of_an_effect(self, world: World, volume: VolumeData) -> None:
        world.backend.landing = lambda *_: world.controller.kill()
        assert self.begin(world, volume, Fault()) == []
        world.clock.run_for(600)
        assert volume.uid not in world.array.exports


class TestArray:
    """What is reached."""

    def test_a_lun_is_used_again_and_a_forgotten_device_shows_the_next_volume(self, world: World) -> None:
        """CVE-2023-2088: the device keeps the identity of the first volume, and its user writes over the second."""
        host, connector, _ = world.host("n1")
        first, target = world.exported("first", host)
        forgotten = device_of(host, connector.connect(target))
        world.withdraw(first)
        assert not host.write(forgotten, "into the void")
        second, after = world.exported("second", host)
        assert after.conn_info["data"]["lun"] == target.conn_info["data"]["lun"]
        assert host.write(forgotten, "stray")
        assert (forgotten.uid, host.served(forgotten)) == (first.uid, world.array.volumes[second.uid])
        assert [world.array.volumes[each.uid].written for each in (first, second)] == [[], ["stray"]]
        assert [(event.kind, event.uid) for event in world.audit.events if event.kind in ("written", "refused")] == [
            ("refused", first.uid),
            ("written", second.uid),
        ]

    def test_a_leftover_at_the_address_is_taken_away_at_connect(self, world: World) -> None:
        host, connector, _ = world.host("n1")
        first, target = world.exported("first", host)
        forgotten = device_of(host, connector.connect(target))
        world.withdraw(first)
        _, after = world.exported("second", host)
        with host.using(forgotten, "mounted at /srv"), pytest.raises(Terminal, match="mounted at /srv"):
            connector.connect(after)
        assert connector.connect(after).identity == "uid-second"
        assert forgotten not in host.devices.values()

    def test_two_volumes_have_two_luns_and_the_smallest_free_one_comes_first(self, world: World) -> None:
        host, _, _ = world.host("n1")
        exported = [world.exported(name, host) for name in ("a", "b", "c")]
        assert [target.conn_info["data"]["lun"] for _, target in exported] == [1, 2, 3]
        world.withdraw(exported[1][0])
        assert world.exported("d", host)[1].conn_info["data"]["lun"] == 2
        assert world.exported("e", host)[1].conn_info["data"]["lun"] == 4

    def test_an_array_that_does_not_cut_lets_in_until_the_volume_is_deleted(self, world: World) -> None:
        world.array.cuts_access = False
        host, connector, _ = world.host("n1")
        volume, target = world.exported("v", host)
        device = device_of(host, connector.connect(target))
        world.withdraw(volume)
        assert world.array.exposures() == []
        assert host.write(device, "still there")
        assert world.exported("w", host)[1].conn_info["data"]["lun"] == 2
        world.backend.delete(volume)
        assert not host.write(device, "gone")

    def test_a_cloned_initiator_is_let_in_as_well(self, world: World) -> None:
        host, _, _ = world.host("n1")
        clone, connector, _ = world.host("n2")
        clone.initiator = host.initiator
        _, target = world.exported("v", host)
        assert clone.write(device_of(clone, connector.connect(target)), "from the clone")

    def test_access_that_two_holders_share_ends_with_the_last_one(self, world: World) -> None:
        host, _, _ = world.host("n1")
        volume, _ = world.exported("v", host)
        both = replace(volume, exports=(*volume.exports, replace(volume.exports[0], node="n2")))
        assert world.backend.terminate(both, both.exports[1]).shared
        assert world.array.exposures() == [("uid-v", host.initiator)]
        assert not world.backend.terminate(volume, volume.exports[0]).shared
        assert world.array.exposures() == []

    def test_another_host_is_not_let_in(self, world: World) -> None:
        host, _, _ = world.host("n1")
        _, stranger, _ = world.host("n2")
        _, target = world.exported("v", host)
        with pytest.raises(Retryable, match="no device"):
            stranger.connect(target)

    def test_what_an_array_forgot_at_its_restart_the_set_up_restores(self, world: World) -> None:
        host, connector, _ = world.host("n1")
        volume, target = world.exported("v", host)
        device = device_of(host, connector.connect(target))
        world.array.restart()
        assert not host.write(device, "lost")
        world.backend.open([volume])
        assert host.write(device, "kept")

    def test_an_array_that_is_away_answers_nothing_but_serves_data(self, world: World) -> None:
        host, connector, _ = world.host("n1")
        volume, target = world.exported("v", host)
        world.array.away = True
        with pytest.raises(Retryable):
            world.backend.terminate(volume, volume.exports[0])
        with pytest.raises(Unavailable):
            world.backend.describe()
        with pytest.raises(Unavailable):
            world.backend.open([])
        assert host.write(device_of(host, connector.connect(target)), "data")

    def test_conn_info_may_change_from_call_to_call(self, world: World) -> None:
        world.array.rotates_passwords = True
        host, _, _ = world.host("n1")
        volume, target = world.exported("v", host)
        assert world.target(volume).conn_info != target.conn_info

    def test_a_driver_that_cannot_list_says_so(self, world: World) -> None:
        with pytest.raises(Unsupported):
            world.backend.exports()


@pytest.mark.parametrize("seed", range(3))
def test_one_seed_is_one_run(seed: int) -> None:
    """Two hosts and a controller at once: with the same choices the same happens, in the same order."""

    def run() -> list[object]:
        world = World(shuffled(random.Random(seed).random))
        for name in ("n1", "n2", "n3"):
            host, connector, daemon = world.host(name)

            def attach_and_detach(
                host: FakeHost = host, connector: FakeConnector = connector, name: str = name
            ) -> None:
                volume, target = world.exported(f"v-{name}", host)
                host.write(device_of(host, connector.connect(target)), name)
                connector.disconnect(target, None)
                world.withdraw(volume)

            begin(daemon, attach_and_detach)
        world.clock.run_for(60)
        assert world.audit.kinds().count("unexported") == 3
        return list(world.audit.events)

    assert run() == run()
