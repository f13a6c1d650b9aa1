"""What the `Connector` port promises, as tests. One suite for every implementation: a fake that drifts from os-brick fails here.

A subclass's module provides the fixture `rig`: a connector, and hands on the storage and the host around it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

import pytest

from reconciler.runtime.ports import (
    Busy,
    Connector,
    Device,
    DuplicateIdentity,
    IdentityMismatch,
    Retryable,
    Target,
    Terminal,
)


class Rig(Protocol):
    """A node's connector, and what a test does around it."""

    @property
    def connector(self) -> Connector: ...

    def volume(self, name: str) -> Target:
        """A new volume that is exported to this host, with size and identity promised, for writing."""
        ...

    def grow(self, target: Target) -> Target:
        """The volume becomes twice as big behind the host's back; what a connection would promise from then on."""
        ...

    def use(self, device: Device) -> AbstractContextManager[object]:
        """Somebody on the host has the device open meanwhile."""
        ...

    def published(self) -> Sequence[str]:
        """The volumes that have a stable link on this host."""
        ...

    def restart(self) -> None:
        """The daemon dies without a word, its worker with it, and a new one takes its place: `connector` is another."""
        ...


class ConnectorContract:
    def test_properties_are_json_and_name_the_host(self, rig: Rig) -> None:
        properties = rig.connector.properties()
        assert json.loads(json.dumps(properties)) == properties
        assert properties["host"]

    # --- connect and inspect

    def test_nothing_is_there_before_the_connect(self, rig: Rig) -> None:
        assert rig.connector.inspect(rig.volume("v"), None) is None

    def test_a_connected_device_is_the_promised_one(self, rig: Rig) -> None:
        target = rig.volume("v")
        device = rig.connector.connect(target)
        assert device.size_bytes == target.size_bytes
        assert device.identity
        assert device.paths_live == device.paths_total >= 1
        assert not device.read_only
        assert json.loads(json.dumps(device.details)) == device.details
        assert rig.published() == ["v"]

    def test_inspect_sees_what_connect_returned(self, rig: Rig) -> None:
        target = rig.volume("v")
        device = rig.connector.connect(target)
        assert rig.connector.inspect(target, device.details) == device

    def test_inspect_needs_no_record(self, rig: Rig) -> None:
        """A crash may come before the details are stored."""
        target = rig.volume("v")
        device = rig.connector.connect(target)
        assert rig.connector.inspect(target, None) == device

    def test_connect_can_be_repeated(self, rig: Rig) -> None:
        target = rig.volume("v")
        assert rig.connector.connect(target) == rig.connector.connect(target)

    def test_volumes_do_not_touch_each_other(self, rig: Rig) -> None:
        """Though one's name begins with the other's."""
        first, second = rig.volume("v1"), rig.volume("v10")
        kept = rig.connector.connect(second)
        gone = rig.connector.connect(first)
        assert kept.device != gone.device
        rig.connector.disconnect(first, gone.details)
        assert rig.connector.inspect(first, None) is None
        assert rig.connector.inspect(second, kept.details) == kept
        assert rig.published() == ["v10"]

    def test_a_device_survives_the_daemon(self, rig: Rig) -> None:
        target = rig.volume("v")
        device = rig.connector.connect(target)
        rig.restart()
        assert rig.connector.inspect(target, None) == device
        assert rig.connector.connect(target) == device

    def test_a_killed_connector_works_again(self, rig: Rig) -> None:
        target = rig.volume("v")
        device = rig.connector.connect(target)
        rig.connector.kill()
        rig.connector.kill()
        assert rig.connector.inspect(target, device.details) == device

    # --- add paths

    def test_adding_paths_brings_no_device(self, rig: Rig) -> None:
        """Only a connect, under its own step, may."""
        target = rig.volume("v")
        with pytest.raises(Retryable):
            rig.connector.add_paths(target, None)
        assert rig.connector.inspect(target, None) is None
        assert rig.published() == []

    def test_no_paths_are_added_to_what_is_not_the_volume(self, rig: Rig) -> None:
        target = rig.volume("v")
        device = rig.connector.connect(target)
        with pytest.raises(IdentityMismatch):
            rig.connector.add_paths(replace(target, size_bytes=2 * device.size_bytes), device.details)
        assert rig.published() == []

    # --- extend

    def test_an_extended_device_has_the_new_size_at_once(self, rig: Rig) -> None:
        """A43: in use, under the same name, and as often as need be."""
        target = rig.volume("v")
        before = rig.connector.connect(target)
        grown = rig.grow(target)
        with rig.use(before):
            for _ in range(2):
                device = rig.connector.extend(grown, before.details)
                assert device.size_bytes == grown.size_bytes == 2 * before.size_bytes
                assert (device.path, device.device, device.identity) == (before.path, before.device, before.identity)
        assert rig.connector.inspect(grown, device.details) == device

    def test_extending_needs_no_record(self, rig: Rig) -> None:
        target = rig.volume("v")
        rig.connector.connect(target)
        grown = rig.grow(target)
        rig.restart()
        assert rig.connector.extend(grown, None).size_bytes == grown.size_bytes

    def test_extending_what_did_not_grow_changes_nothing(self, rig: Rig) -> None:
        target = rig.volume("v")
        device = rig.connector.connect(target)
        assert rig.connector.extend(target, device.details) == device

    def test_a_device_that_did_not_grow_yet_stays_published(self, rig: Rig) -> None:
        """It is the right one, and may be in use."""
        target = rig.volume("v")
        device = rig.connector.connect(target)
        with pytest.raises(Retryable):
            rig.connector.extend(replace(target, size_bytes=2 * device.size_bytes), device.details)
        assert rig.published() != []
        with pytest.raises(IdentityMismatch):
            rig.connector.extend(replace(target, identity="6001405deadbeef0"), device.details)
        assert rig.published() == []

    def test_a_device_that_is_not_there_is_not_extended(self, rig: Rig) -> None:
        with pytest.raises(Retryable):
            rig.connector.extend(rig.volume("v"), None)
        assert rig.published() == []

    # --- the wrong device

    @pytest.mark.parametrize("wrong", ["size", "identity"])
    def test_a_wrong_device_is_not_published(self, rig: Rig, wrong: str) -> None:
        """A34."""
        target = rig.volume("v")
        promised = (
            replace(target, size_bytes=1 << 40) if wrong == "size" else replace(target, identity="6001405deadbeef0")
        )
        with pytest.raises(IdentityMismatch):
            rig.connector.connect(promised)
        assert rig.published() == []
        with pytest.raises(IdentityMismatch):
            rig.connector.inspect(promised, None)
        rig.connector.disconnect(promised, None)
        assert rig.connector.inspect(promised, None) is None

    def test_a_device_that_is_smaller_than_its_volume_is_another_one(self, rig: Rig) -> None:
        """F-D5: also where the driver tells no bytes. Larger it may be: arrays round up."""
        target = replace(rig.volume("v"), size_bytes=None, identity=None)
        device = rig.connector.connect(replace(target, least_bytes=1))
        rig.connector.disconnect(target, device.details)
        small = replace(target, least_bytes=device.size_bytes + 1)
        with pytest.raises(IdentityMismatch):
            rig.connector.connect(small)
        assert rig.published() == []
        with pytest.raises(IdentityMismatch):
            rig.connector.inspect(small, None)

    def test_an_identity_that_another_volume_has_here_is_refused(self, rig: Rig) -> None:
        """F-D4. What came of the second is taken away again; the first is as it was."""
        first, second = rig.volume("v"), replace(rig.volume("w"), identity=None)
        kept = rig.connector.connect(first)
        shown = rig.connector.connect(second)
        rig.connector.disconnect(second, shown.details)
        others = {"v": {**kept.details, "identity": shown.identity}}  # as if the storage had numbered both alike
        with pytest.raises(DuplicateIdentity, match="v"):
            rig.connector.connect(replace(second, others=others))
        assert rig.connector.inspect(second, None) is None
        assert rig.published() == ["v"]
        rig.connector.disconnect(replace(second, others=others), None)
        assert rig.connector.inspect(first, kept.details) == kept

    def test_a_promise_that_was_not_made_is_not_compared(self, rig: Rig) -> None:
        target = replace(rig.volume("v"), size_bytes=None, identity=None)
        assert rig.connector.connect(target).size_bytes > 0

    def test_a_device_that_was_published_before_it_proved_wrong_is_withdrawn(self, rig: Rig) -> None:
        target = rig.volume("v")
        device = rig.connector.connect(target)
        with pytest.raises(IdentityMismatch):
            rig.connector.inspect(replace(target, size_bytes=1 << 40), device.details)
        assert rig.published() == []

    # --- read-only

    def test_a_read_only_device_is_read_only(self, rig: Rig) -> None:
        """A22."""
        target = replace(rig.volume("v"), read_only=True)
        device = rig.connector.connect(target)
        assert device.read_only
        assert rig.connector.inspect(target, None) == device

    def test_the_next_attachment_may_have_another_mode(self, rig: Rig) -> None:
        target = rig.volume("v")
        for read_only in (True, False, True):
            wanted = replace(target, read_only=read_only)
            device = rig.connector.connect(wanted)
            assert device.read_only is read_only
            rig.connector.disconnect(wanted, device.details)

    # --- disconnect

    def test_after_the_disconnect_nothing_is_there(self, rig: Rig) -> None:
        target = rig.volume("v")
        device = rig.connector.connect(target)
        rig.connector.disconnect(target, device.details)
        assert rig.connector.inspect(target, device.details) is None
        assert rig.published() == []

    def test_disconnect_can_be_repeated(self, rig: Rig) -> None:
        target = rig.volume("v")
        device = rig.connector.connect(target)
        for _ in range(2):
            rig.connector.disconnect(target, device.details)

    def test_disconnect_of_what_never_was_is_done(self, rig: Rig) -> None:
        rig.connector.disconnect(rig.volume("v"), None)

    def test_disconnect_needs_no_record(self, rig: Rig) -> None:
        target = rig.volume("v")
        rig.connector.connect(target)
        rig.restart()
        rig.connector.disconnect(target, None)
        assert rig.connector.inspect(target, None) is None

    def test_disconnect_without_flush_removes_it_too(self, rig: Rig) -> None:
        target = rig.volume("v")
        device = rig.connector.connect(target)
        rig.connector.disconnect(target, device.details, flush=False)
        assert rig.connector.inspect(target, None) is None

    @pytest.mark.parametrize("flush", [True, False])
    def test_a_device_in_use_stays_and_its_user_is_named(self, rig: Rig, flush: bool) -> None:
        """A11."""
        target = rig.volume("v")
        device = rig.connector.connect(target)
        with rig.use(device):
            with pytest.raises(Busy) as caught:
                rig.connector.disconnect(target, device.details, flush=flush)
            assert caught.value.holders
            assert all(caught.value.holders)
            if flush:  # of a fenced boot, paths may have been cut off
                assert rig.connector.inspect(target, device.details) == device
            assert rig.published() == ["v"]
        rig.connector.disconnect(target, device.details, flush=flush)
        assert rig.connector.inspect(target, None) is None

    # --- refusals

    @pytest.mark.parametrize("name", ["..", "a/b", ".owner", "-", ""])
    def test_a_name_that_leads_out_of_the_link_folder_is_refused(self, rig: Rig, name: str) -> None:
        with pytest.raises(Terminal):
            rig.connector.connect(replace(rig.volume("v"), volume=name))

    def test_an_unknown_protocol_is_refused_and_leaves_nothing_to_disconnect(self, rig: Rig) -> None:
        """Else its attachment could never end. What was connected by a version that knew it is not given up."""
        target = replace(rig.volume("v"), conn_info={"driver_volume_type": "carrier-pigeon", "data": {}})
        with pytest.raises(Terminal):
            rig.connector.connect(target)
        assert rig.connector.inspect(target, None) is None
        rig.connector.disconnect(target, None)
        with pytest.raises(Terminal):
            rig.connector.inspect(target, {"path": "/dev/pigeon"})
        with pytest.raises(Terminal):
            rig.connector.disconnect(target, {"path": "/dev/pigeon"})
