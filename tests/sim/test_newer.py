"""F-S15: an older daemon writes back what a newer one wrote into a value, and overwrites no sign of life that it can't read."""

from __future__ import annotations

import json
from typing import Any

from schema.keys import Family
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario
from tests.sim.script import Act

LATER = {"of": ["a", "newer", "daemon"]}
OWN = {
    Family.NODE: ("n1",),
    Family.RECORD: ("v",),
    Family.VOLUME: ("v",),
    Family.GRANT: ("v",),
    Family.CONNECTION: ("n1", "v"),
    Family.ATTACHMENT: ("n1", "v"),
}
GROWN = (Family.RECORD, Family.VOLUME, Family.CONNECTION, Family.ATTACHMENT)
"""Written anew when a volume grows."""


def value(fleet: Fleet, family: Family) -> dict[str, Any]:
    item = fleet.etcd.client().get(fleet.keyspace.path(family, *OWN[family]))
    found: dict[str, Any] = json.loads(item.value) if item else {}
    return found


def test_what_a_newer_daemon_wrote_stays() -> None:
    def story(run: Run) -> None:
        fleet = run.fleet
        volume = fleet.keyspace.path(Family.DESIRED_VOLUME, "v")
        run.act(Act(0.0, volume, b'{"backend": "array1", "size_gib": 1}'))
        run.act(Act(0.0, fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "v"), b"{}"))
        run.until_settled()
        for family, names in OWN.items():
            now = value(fleet, family) | {"later": LATER}
            now |= {"holders": [each | {"later": LATER} for each in now["holders"]]} if "holders" in now else {}
            fleet.by_hand(fleet.keyspace.path(family, *names), json.dumps(now).encode())
        run.let_pass(5.0)
        run.act(Act(0.0, volume, b'{"backend": "array1", "size_gib": 2}'))
        run.until_settled()
        assert value(fleet, Family.RECORD)["size_gib"] == 2
        assert [family for family in GROWN if value(fleet, family).get("later") != LATER] == []
        for family in (Family.VOLUME, Family.GRANT):
            assert [each.get("later") for each in value(fleet, family)["holders"]] == [LATER]

        before = value(fleet, Family.NODE)["boot"]
        fleet.turn_off("n1")
        run.let_pass(5.0)
        fleet.turn_on("n1")
        run.until_settled()
        assert value(fleet, Family.NODE)["boot"] != before
        assert value(fleet, Family.NODE)["later"] == LATER
        assert "later" not in value(fleet, Family.ATTACHMENT), "that was told of another grant"

    shape = Shape(controllers=1, nodes=1, arrays=1, extends_online=True)
    result = Run(Scenario("newer", shape, [], []), story=story).play()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
