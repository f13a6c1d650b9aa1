"""Hostile values in etcd, and whole daemons: each gets its answer, and nothing else notices (F-K8, F-K11)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from reconciler.runtime.ports import Put
from schema.keys import Family
from schema.models import Verdict
from tests.integration import fleets
from tools.fleet import Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root]

NESTED = '{"backend": "files", "size_gib": 1, "import": ' + '{"a":' * 255 + "1" + "}" * 256
WISHES = {
    "nested": NESTED,
    "half": '{"backend": "files", "size_gib": 1, "import": {"a": "\\ud800"}}',
    "infinite": '{"backend": "files", "size_gib": 1, "import": {"a": 1e999}}',
    "odd-name": '{"backend": "files", "size_gib": 1, "import": {"\\udfff": 1}}',
}
STRAYS = (b"\xff\xfe", b"\x1b]0;x\x07", b"a/\xc3", "e\u202e".encode())


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("hostile"), packages=fleets.STATE) as it:
        it.controller("ctl", fleets.QUICK)
        it.node("n1", fleets.HASTY)
        fleets.until_ready(it, "files")
        yield it


def test_hostile_wishes_are_answered_and_hold_up_nobody(fleet: Fleet) -> None:
    for name, text in WISHES.items():
        fleets.put(fleet, Family.DESIRED_VOLUME, name, text=text)
        fleets.attach(fleet, "n1", name)
    for stray in STRAYS:
        path = fleets.KEYSPACE.prefix + "desired/volumes/" + stray.decode("utf-8", "surrogateescape")
        fleet.store.txn((), (Put(path, b"{}"),))
    fleets.attached(fleet, "n1", "good")

    def answered() -> bool:
        verdicts = [fleets.value(fleet, Family.VERDICT_VOLUME, name) for name in WISHES]
        strays = fleet.keys(fleets.KEYSPACE.folder(Family.VERDICT_UNPARSABLE))
        return all(isinstance(each, Verdict) for each in verdicts) and len(strays) == len(STRAYS)

    wait_until("each has its answer", answered)
    for name in WISHES:
        assert [each.reason for each in fleets.value(fleet, Family.VERDICT_VOLUME, name).conditions] == ["Malformed"]
    for form in ("table", "wide", "json", "yaml", "name"):
        assert "good" in fleet.brickctl("get", "volumes", "-o", form)
    revision = fleet.revision()
    fleets.wish_volume(fleet, "another")
    fleets.attached(fleet, "n1", "another")
    assert fleet.revision() - revision < 30  # and nobody writes for the others, again and again


def test_a_driver_sees_of_a_connector_what_is_known_of_it(fleet: Fleet) -> None:
    told = {
        "host": "db-1",
        "ip": "10.0.0.1",
        "initiator": "iqn.1994-05.com.example:n2",
        "mountpoint": "/",
        "wwpns": ["*"],
    }
    fleets.put(fleet, Family.NODE, "n2", text=json.dumps({"schema": 1, "boot": "b1", "connector": told}))
    alive = {"schema": 1, "boot": "b1", "since": "2026-01-01T00:00:00Z"}
    fleets.put(fleet, Family.ALIVE, "n2", text=json.dumps(alive))
    fleets.wish_volume(fleet, "for-n2")
    fleets.attach(fleet, "n2", "for-n2")

    wait_until("it is granted", lambda: getattr(fleets.value(fleet, Family.GRANT, "for-n2"), "holders", ()))
    expected = {"host": "n2", "ip": "10.0.0.1", "initiator": "iqn.1994-05.com.example:n2"}
    assert [holder.connector for holder in fleets.value(fleet, Family.GRANT, "for-n2").holders] == [expected]
    assert [export.connector for export in fleets.value(fleet, Family.RECORD, "for-n2").exports] == [expected]


def test_a_forged_connection_makes_no_volume_of_a_file_of_the_host(fleet: Fleet) -> None:
    """Whoever can write `connections/n1/…` could have had any file."""
    before = fleet.loop_devices()
    fleets.attached(fleet, "n1", "mine")
    connection = fleet.store.get(fleets.KEYSPACE.path(Family.CONNECTION, "n1", "mine"))
    assert connection is not None
    forged = json.loads(connection.value)
    forged["conn_info"]["data"]["device_path"] = "/etc/passwd"
    forged |= {"identity": None, "size_bytes": None, "size_gib": None}
    fleets.detach(fleet, "n1", "mine")
    fleets.until_gone(fleet, "n1", "mine")
    forged["boot"] = fleets.value(fleet, Family.NODE, "n1").boot
    # A controller would withdraw the forged connection, often before the node has looked at it; and the node itself would,
    # were it not wished for at the same time.
    fleet.daemon("ctl").kill()
    keys = {
        fleets.KEYSPACE.path(Family.GRANT, "forged"): {"schema": 1, "uid": forged["uid"], "holders": []},
        fleets.KEYSPACE.path(Family.CONNECTION, "n1", "forged"): forged,
        fleets.KEYSPACE.path(Family.DESIRED_ATTACHMENT, "n1", "forged"): {},
    }
    fleet.store.txn((), [Put(path, json.dumps(value).encode()) for path, value in keys.items()])

    def refused() -> bool:
        status = fleets.value(fleet, Family.ATTACHMENT, "n1", "forged")
        return status is not None and any("local_folders" in each.message for each in status.conditions)

    wait_until("it is refused", refused, 60)
    assert not [name for name in set(fleet.loop_devices()) - set(before) if "passwd" in name]
    assert not (fleet.folder / "n1" / "dev" / "forged").is_symlink()
