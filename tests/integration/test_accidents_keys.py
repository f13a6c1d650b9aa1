"""Accidents on whole daemons: a whole prefix deleted (A33). No device goes, nothing is unmapped, nothing is made anew."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from reconciler.runtime.ports import Put
from schema.keys import DEFAULT_PREFIX, Family
from tests.integration import fleets
from tools.fleet import Fleet, wait_until

pytestmark = [pytest.mark.etcd, pytest.mark.root, pytest.mark.slow]

VOLUMES = ("k1", "k2", "k3")
LEASED = ("alive/", "leaders/")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A node that holds three volumes."""
    with Fleet(tmp_path_factory.mktemp("fleet"), packages=fleets.STATE) as running:
        running.controller(settings=fleets.QUICK)
        running.node("a", fleets.QUICK)
        fleets.until_ready(running, "files")
        for volume in VOLUMES:
            fleets.wish_volume(running, volume)
            fleets.attach(running, "a", volume)
        for volume in VOLUMES:
            fleets.until_attached(running, "a", volume)
        yield running


def explained(fleet: Fleet, words: str) -> bool:
    return all(words in fleet.brickctl("explain", "a", volume, check=False) for volume in VOLUMES)


def working(fleet: Fleet, number: int) -> None:
    """The daemons have taken note of all that was before: they made and attached a volume since."""
    probe = f"probe{number}"
    fleets.wish_volume(fleet, probe, on_delete="delete")
    fleets.attach(fleet, "a", probe)
    fleets.until_attached(fleet, "a", probe)
    fleet.brickctl("detach", "a", probe)
    fleets.until_gone(fleet, "a", probe)
    fleets.delete(fleet, Family.DESIRED_VOLUME, probe)
    wait_until(f"{probe} is deleted", lambda: fleets.value(fleet, Family.RECORD, probe) is None, 60)


@pytest.mark.parametrize(
    ("number", "prefix", "words"),
    [
        (1, "claims/", "attachment a/{}: Attached"),
        (2, "attachments/", "attachment a/{}: Attached"),
        (3, "connections/", "attachment a/{}: Attached"),
        (4, "grants/", "attachment a/{}: Attached"),
        (5, "volumes/", "attachment a/{}: Attached"),
        (6, "nodes/", "attachment a/{}: Attached"),
        (7, "alive/", "attachment a/{}: Attached"),
        (8, "leaders/", "attachment a/{}: Attached"),
        (9, "records/", "(RecordMissing)"),
        (10, "desired/", "Blocked (DetachesPaused)"),
        (11, "", "Blocked (DetachesPaused)"),
    ],
    ids=lambda value: str(value) if value else "everything",
)
def test_a_prefix_deleted_touches_no_data_path(fleet: Fleet, number: int, prefix: str, words: str) -> None:
    """Healed where the daemons can, told where they can't; the devices and the backend's maps stay as they were."""
    items = {item.key: item.value for item in fleet.store.list(DEFAULT_PREFIX).items}
    before = fleets.data_paths(fleet, *VOLUMES)
    fleet.etcdctl_run("del", "--prefix", DEFAULT_PREFIX + prefix)
    wait_until(
        "it is explained",
        lambda: all(words.format(v) in fleet.brickctl("explain", "a", v, check=False) for v in VOLUMES),
        60,
    )
    working(fleet, number)
    assert fleets.data_paths(fleet, *VOLUMES) == before
    if prefix == "":
        _only_wishes_come_back(fleet, items)
        assert fleets.data_paths(fleet, *VOLUMES) == before
    present = set(fleet.keys())
    for key, value in items.items():
        if key not in present and not key.removeprefix(DEFAULT_PREFIX).startswith(LEASED):
            fleet.store.txn((), (Put(key, value),))
    for volume in VOLUMES:
        wait_until("healed", lambda v=volume: f"attachment a/{v}: Attached" in fleet.brickctl("explain", "a", v), 60)  # type: ignore[misc]
    assert fleets.data_paths(fleet, *VOLUMES) == before


def _only_wishes_come_back(fleet: Fleet, items: dict[str, bytes]) -> None:
    """The daemons' own keys are lost for good: no new, empty volume takes the name and place of one in use."""
    uids = {volume: json.loads(items[f"{DEFAULT_PREFIX}records/{volume}"])["uid"] for volume in VOLUMES}
    for key, value in items.items():
        if key.startswith(DEFAULT_PREFIX + "desired/"):
            fleet.store.txn((), (Put(key, value),))
    wait_until("it is explained", lambda: explained(fleet, "Uncertain (KeysMissing)"), 60)
    working(fleet, 12)
    for volume in VOLUMES:
        assert fleets.value(fleet, Family.RECORD, volume) is None
        assert fleets.value(fleet, Family.ATTACHMENT, "a", volume).uid == uids[volume]
