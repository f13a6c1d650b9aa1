"""A backend that is gone from the settings while its volumes are attached is told of at the start (F-S11)."""

from __future__ import annotations

import structlog

from schema.keys import Family
from tests.sim.fleet import Fleet, Shape
from tests.sim.run import Run, Scenario


def wish(fleet: Fleet, volume: str) -> None:
    fleet.by_hand(fleet.keyspace.path(Family.DESIRED_VOLUME, volume), b'{"backend": "array2", "size_gib": 1}')


def test_a_start_without_a_backend_names_the_volumes_on_it() -> None:
    """Those that are attached by name. With the backend back in the settings nothing is said."""

    def story(run: Run) -> None:
        fleet = run.fleet
        for volume in ("held", "idle"):
            wish(fleet, volume)
        fleet.by_hand(fleet.keyspace.path(Family.DESIRED_ATTACHMENT, "n1", "held"), b"{}")
        run.until_settled()
        daemon, array = fleet.daemons["ctl/c1"], fleet.arrays["array2"]
        daemon.kill()
        run.let_pass(10.0)
        del fleet.arrays["array2"]
        with structlog.testing.capture_logs() as without:
            daemon.start()
            run.let_pass(10.0)
        daemon.kill()
        run.let_pass(10.0)
        fleet.arrays["array2"] = array
        with structlog.testing.capture_logs() as back:
            daemon.start()
            run.until_settled()
        (told,) = [entry for entry in without if entry.get("backend") == "array2" and entry["log_level"] == "warning"]
        assert "2 volumes are recorded on it, of which are attached: held" in told["event"]
        assert not [entry for entry in back if "is in no settings here" in entry["event"]]

    try:
        result = Run(Scenario("unserved", Shape(1, 1, 2), [], []), story=story).play()
    finally:
        structlog.reset_defaults()
    assert not result.failure, f"{result.failure}\n{result.transcript(60)}"
