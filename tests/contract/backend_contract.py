"""What the `Backend` port promises, as tests. One suite for every implementation: a fake that drifts from Cinder fails here.

A subclass's module provides the fixture `rig`, see `Rig`; `FailingBackendContract` needs one that can make calls go wrong.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Protocol

import pytest

from reconciler.runtime.ports import (
    Backend,
    Export,
    NotOpen,
    PortError,
    Reply,
    Retryable,
    Unavailable,
    UnknownOutcome,
    Unsupported,
    VolumeData,
)

Call = Literal["describe", "create", "extend", "delete", "export", "connect", "terminate", "unexport", "exports"]
GIB = 1 << 30


class Rig(Protocol):
    """A backend under test."""

    def backend(self) -> Backend:
        """A new one over the same storage, not open. The rig kills it in the end."""
        ...

    def opened(self) -> Backend:
        """One that is open. It may have served other tests: their volumes are others."""
        ...

    def adoptable(self) -> dict[str, Any] | None:
        """A reference for `adopt` to something of 1 GiB; None if this backend cannot adopt."""
        ...


class FailingRig(Rig, Protocol):
    """One whose calls can be made to go wrong."""

    def failing(self, call: Call, how: Literal["hang", "fail", "die"]) -> Backend:
        """A new backend whose every such call hangs (with a deadline of a second or two), raises, or dies."""
        ...

    def under_way(self, call: Call) -> bool:
        """Whether such a call has reached the storage."""
        ...

    def during(self, call: Callable[[], object], when: Callable[[], bool], act: Callable[[], None]) -> Exception | None:
        """Call, and beside it, as soon as a condition holds, act. Returns what the call raised."""
        ...


_numbers = itertools.count(1)


def new_volume() -> VolumeData:
    """A wish: nothing exists yet. Each is another one."""
    number = next(_numbers)
    return VolumeData(f"vol-{number}", f"00000000-0000-4000-8000-{number:012}", 1, {})


def after(volume: VolumeData, reply: Reply) -> VolumeData:
    """The volume as the controller would have saved it."""
    return replace(volume, model=reply.model, size_gib=reply.size_gib)


def held(volume: VolumeData, *nodes: str) -> VolumeData:
    """The volume with these holders."""
    return replace(volume, exports=tuple(export(node) for node in nodes))


def export(node: str) -> Export:
    """A node's grant."""
    number = sum(node.encode())
    connector = {
        "host": node,
        "ip": f"192.0.2.{number % 250}",
        "initiator": f"iqn.1994-05.com.example:{node}",
        "multipath": False,
        "os_type": "linux",
        "platform": "x86_64",
        "nqn": f"nqn.2014-08.org.nvmexpress:uuid:{node}",
    }
    return Export(node, number, "rw", connector)


def stored(value: Any) -> Any:
    """What is left of a value after it was saved: everything that goes into a key must survive JSON."""
    return json.loads(json.dumps(value))


def everything(backend: Backend) -> dict[str, Callable[[], object]]:
    """Every call but `open` and `kill`."""
    volume = held(new_volume(), "a")
    return {
        "describe": backend.describe,
        "create": lambda: backend.create(new_volume()),
        "extend": lambda: backend.extend(new_volume(), 2),
        "delete": lambda: backend.delete(new_volume()),
        "adopt": lambda: backend.adopt(new_volume(), {"source-name": "x"}),
        "export": lambda: backend.export(volume, volume.exports[0]),
        "connect": lambda: backend.connect(volume, volume.exports[0]),
        "terminate": lambda: backend.terminate(volume, volume.exports[0]),
        "unexport": lambda: backend.unexport(new_volume()),
        "exports": backend.exports,
    }


def made(backend: Backend) -> VolumeData:
    """A volume that exists."""
    volume = new_volume()
    return after(volume, backend.create(volume))


def attached(backend: Backend, volume: VolumeData, *nodes: str) -> tuple[VolumeData, dict[str, Reply]]:
    """The volume, exported to these nodes one after another, and the replies of `connect`."""
    replies = {}
    for index, node in enumerate(nodes):
        volume = held(volume, *nodes[: index + 1])
        volume = after(volume, backend.export(volume, volume.exports[index]))
        replies[node] = backend.connect(volume, volume.exports[index])
        volume = after(volume, replies[node])
    return volume, replies


def clients(backend: Backend, volume: VolumeData) -> list[str]:
    """Whom the volume is exported to, as the driver lists it: the nodes whose connectors it names."""
    named = [exposure.client for exposure in backend.exports() if exposure.uid == volume.uid]
    nodes = {value: node for node in "ab" for value in export(node).connector.values() if isinstance(value, str)}
    return sorted(nodes[client] if client in nodes else repr(client) for client in named)


class BackendContract:
    """What holds for every backend."""

    @pytest.fixture
    def backend(self, rig: Rig) -> Backend:
        return rig.opened()

    def test_nothing_works_before_it_is_open(self, rig: Rig) -> None:
        for call in everything(rig.backend()).values():
            with pytest.raises(NotOpen):
                call()

    def test_what_is_prepared_is_not_open_and_opens_as_ever(self, rig: Rig) -> None:
        backend = rig.backend()
        backend.prepare()
        with pytest.raises(NotOpen):
            backend.describe()
        backend.prepare()
        backend.open([])
        backend.describe()
        backend.prepare()
        with pytest.raises(NotOpen):
            backend.describe()

    def test_nothing_works_after_a_kill_until_it_is_open_again(self, backend: Backend) -> None:
        backend.kill()
        for call in everything(backend).values():
            with pytest.raises(NotOpen):
                call()
        backend.open([])
        made(backend)

    def test_killing_twice_or_before_it_is_open_is_allowed(self, rig: Rig) -> None:
        backend = rig.backend()
        backend.kill()
        backend.open([])
        backend.kill()
        backend.kill()

    def test_it_says_what_it_is(self, backend: Backend) -> None:
        info = backend.describe()
        assert info.driver
        assert info.protocol
        assert {
            type(info.capabilities[key])
            for key in ("multiattach", "manage_existing", "extend", "extend_online", "list_exports", "cuts_access")
        } == {bool}
        assert stored(dict(info.capabilities)) == info.capabilities
        assert stored(dict(info.capacity)) == info.capacity
        assert isinstance(info.identifiers, tuple)

    def test_describing_again_gives_the_same_kind_of_answer(self, rig: Rig) -> None:
        backend = rig.backend()
        info = backend.open([]).info
        again = backend.describe()
        assert (again.driver, again.protocol, again.identifiers) == (info.driver, info.protocol, info.identifiers)

    def test_replies_survive_being_stored(self, backend: Backend) -> None:
        volume = made(backend)
        assert stored(volume.model) == volume.model
        _, replies = attached(backend, volume, "a")
        assert stored(replies["a"].conn_info) == replies["a"].conn_info

    def test_creating_twice_gives_one_volume(self, backend: Backend) -> None:
        volume = new_volume()
        first, second = backend.create(volume), backend.create(volume)
        assert first.size_gib == second.size_gib == 1
        assert set(first.model) == set(second.model)
        backend.delete(after(volume, second))

    def test_extending_twice_extends_once(self, backend: Backend) -> None:
        volume = made(backend)
        assert backend.extend(volume, 3).size_gib == 3
        reply = backend.extend(volume, 3)  # the first reply was lost
        assert reply.size_gib == 3
        assert backend.extend(after(volume, reply), 3).size_gib == 3

    def test_extending_never_shrinks(self, backend: Backend) -> None:
        volume = made(backend)
        volume = after(volume, backend.extend(volume, 3))
        assert backend.extend(volume, 2).size_gib == 3

    def test_deleting_twice_or_what_never_was_succeeds(self, backend: Backend) -> None:
        volume = made(backend)
        backend.delete(volume)
        backend.delete(volume)
        backend.delete(new_volume())

    def test_adopting_twice_takes_over_once(self, rig: Rig, backend: Backend) -> None:
        if (reference := rig.adoptable()) is None:
            with pytest.raises(PortError):
                backend.adopt(new_volume(), {"source-name": "x"})
            return
        volume = new_volume()
        first, second = backend.adopt(volume, reference), backend.adopt(volume, reference)
        assert first.size_gib == second.size_gib == 1
        attached(backend, after(volume, second), "a")

    def test_each_step_of_attaching_and_detaching_may_be_repeated(self, backend: Backend) -> None:
        volume = made(backend)
        with_a = held(volume, "a")
        first = backend.export(with_a, with_a.exports[0])
        assert backend.export(with_a, with_a.exports[0]).size_gib == first.size_gib
        with_a = after(with_a, backend.export(after(with_a, first), with_a.exports[0]))
        reply = backend.connect(with_a, with_a.exports[0])
        assert backend.connect(after(with_a, reply), with_a.exports[0]) == reply
        for _ in range(2):
            assert not backend.terminate(with_a, with_a.exports[0]).shared
        for _ in range(2):
            backend.unexport(replace(with_a, exports=()))

    def test_undoing_what_was_never_done_succeeds(self, backend: Backend) -> None:
        volume = made(backend)
        with_a = held(volume, "a")
        backend.terminate(with_a, with_a.exports[0])
        backend.unexport(volume)

    def test_connecting_tells_how_a_node_reaches_the_volume(self, backend: Backend) -> None:
        _, replies = attached(backend, made(backend), "a")
        conn_info = replies["a"].conn_info
        assert conn_info is not None
        assert conn_info["driver_volume_type"]
        assert conn_info["data"]["access_mode"] == "rw"

    def test_a_read_only_export_says_so(self, backend: Backend) -> None:
        one = replace(export("a"), mode="ro")
        volume = replace(made(backend), exports=(one,))
        backend.export(volume, one)
        reply = backend.connect(volume, one)
        assert reply.conn_info is not None
        assert reply.conn_info["data"]["access_mode"] == "ro"

    def test_a_size_and_an_identity_that_are_told_are_true(self, backend: Backend) -> None:
        volume = made(backend)
        volume = after(volume, backend.extend(volume, 2))
        _, replies = attached(backend, volume, "a")
        assert replies["a"].size_bytes in (None, 2 * GIB)

    def test_detaching_one_node_leaves_the_other_attached(self, backend: Backend) -> None:
        volume, replies = attached(backend, made(backend), "a", "b")
        backend.terminate(volume, volume.exports[0])
        volume = held(volume, "b")
        assert backend.connect(volume, volume.exports[0]).conn_info == replies["b"].conn_info

    def test_it_lists_what_is_exported_to_whom(self, backend: Backend) -> None:
        if not backend.describe().capabilities["list_exports"]:
            with pytest.raises(Unsupported):
                backend.exports()
            return
        volume, _ = attached(backend, made(backend), "a", "b")
        assert clients(backend, volume) == ["a", "b"]
        backend.terminate(volume, volume.exports[0])
        assert clients(backend, volume) == ["b"]
        volume = held(volume, "b")
        backend.terminate(volume, volume.exports[0])
        backend.unexport(replace(volume, exports=()))
        assert clients(backend, volume) == []

    def test_an_export_is_listed_by_the_next_worker_too(self, rig: Rig, backend: Backend) -> None:
        if not backend.describe().capabilities["list_exports"]:
            return
        volume, _ = attached(backend, made(backend), "a")
        backend.kill()
        other = rig.backend()
        other.open([replace(volume, model=stored(volume.model))])
        assert clients(other, volume) == ["a"]

    def test_an_unchanged_volume_comes_back_as_it_was(self, backend: Backend) -> None:
        """So that nothing is written to the store for it."""
        volume, _ = attached(backend, made(backend), "a")
        assert backend.connect(volume, volume.exports[0]).model == volume.model
        assert backend.terminate(volume, volume.exports[0]).model == volume.model

    def test_another_process_goes_on_from_the_stored_models(self, rig: Rig, backend: Backend) -> None:
        volume, replies = attached(backend, made(backend), "a")
        volume = replace(volume, model=stored(volume.model))
        backend.kill()
        other = rig.backend()
        changed = other.open([volume]).changed
        if volume.volume in changed:
            volume = after(volume, changed[volume.volume])
        assert other.connect(volume, volume.exports[0]).conn_info == replies["a"].conn_info
        other.terminate(volume, volume.exports[0])
        other.unexport(replace(volume, exports=()))
        other.delete(replace(volume, exports=()))

    def test_opening_again_changes_nothing_more(self, backend: Backend) -> None:
        volume, _ = attached(backend, made(backend), "a")
        changed = backend.open([volume]).changed
        volume = after(volume, changed.get(volume.volume) or Reply(volume.model, volume.size_gib))
        assert backend.open([volume]).changed == {}


class FailingBackendContract:
    """What holds when calls go wrong."""

    CALLS: tuple[Call, ...] = ("create", "extend", "delete", "export", "connect", "terminate", "unexport")

    @pytest.mark.parametrize("call", CALLS)
    def test_a_call_that_fails_is_retryable_and_harms_no_other(self, rig: FailingRig, call: Call) -> None:
        backend = rig.failing(call, "fail")
        backend.open([])
        with pytest.raises(Retryable) as caught:
            everything(backend)[call]()
        assert not isinstance(caught.value, Unavailable)
        backend.describe()

    @pytest.mark.parametrize("call", CALLS)
    def test_a_call_that_hangs_ends_in_time_with_an_unknown_outcome(self, rig: FailingRig, call: Call) -> None:
        backend = rig.failing(call, "hang")
        backend.open([])
        with pytest.raises(UnknownOutcome):
            everything(backend)[call]()
        with pytest.raises(NotOpen):
            backend.describe()
        backend.open([])
        backend.describe()

    def test_a_call_that_takes_the_worker_along_has_an_unknown_outcome(self, rig: FailingRig) -> None:
        backend = rig.failing("connect", "die")
        backend.open([])
        with pytest.raises(UnknownOutcome):
            everything(backend)["connect"]()
        backend.open([])
        backend.describe()

    def test_statistics_that_do_not_come_mean_unavailable(self, rig: FailingRig) -> None:
        backend = rig.failing("describe", "hang")
        backend.open([])
        with pytest.raises(Unavailable):
            backend.describe()
        with pytest.raises(NotOpen):
            backend.describe()

    def test_a_kill_ends_the_call_in_flight(self, rig: FailingRig) -> None:
        backend = rig.failing("connect", "hang")
        backend.open([])
        raised = rig.during(everything(backend)["connect"], lambda: rig.under_way("connect"), backend.kill)
        assert isinstance(raised, UnknownOutcome)
        with pytest.raises(NotOpen):
            backend.describe()
