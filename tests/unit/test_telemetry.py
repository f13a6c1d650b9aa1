"""Metrics: there from the start, named once, read when asked for."""

from __future__ import annotations

import random

from prometheus_client import generate_latest

from reconciler.runtime.controller import Outcome
from reconciler.runtime.telemetry import CALLS, Telemetry
from reconciler.runtime.workqueue import WorkQueue
from tests.fakes.clock import VirtualClock


def test_every_series_begins_at_zero() -> None:
    """Before the first event, for every controller, call, outcome and reason that is known beforehand."""
    telemetry = Telemetry(calls=CALLS)
    telemetry.observer("volume")
    value = telemetry.registry.get_sample_value
    assert value("brickwork_reconcile_seconds_count", {"controller": "volume", "outcome": "panic"}) == 0
    assert value("brickwork_call_seconds_count", {"call": "terminate", "outcome": "unknown"}) == 0
    assert value("brickwork_store_txns_total", {"outcome": "refused"}) == 0
    assert value("brickwork_attach_seconds_count") == value("brickwork_detach_seconds_count") == 0
    assert value("brickwork_forced_total", {"reason": "fence"}) == 0


def test_events_are_counted() -> None:
    """Each where it belongs."""
    telemetry = Telemetry(calls=CALLS)
    telemetry.observer("volume")("key", Outcome.RETRYABLE, 0.02, ValueError())
    telemetry.called("export", "ok", 1.5)
    telemetry.transacted("succeeded")
    telemetry.attached(450.0)
    telemetry.detached(3.0)
    telemetry.forced("fence")
    telemetry.store_failed("lease")
    value = telemetry.registry.get_sample_value
    assert value("brickwork_reconcile_seconds_sum", {"controller": "volume", "outcome": "retryable"}) == 0.02
    assert value("brickwork_call_seconds_bucket", {"call": "export", "outcome": "ok", "le": "2.5"}) == 1
    assert value("brickwork_store_txns_total", {"outcome": "succeeded"}) == 1
    assert value("brickwork_attach_seconds_bucket", {"le": "300.0"}) == 0
    assert value("brickwork_attach_seconds_bucket", {"le": "600.0"}) == 1
    assert value("brickwork_detach_seconds_sum") == 3.0
    assert value("brickwork_forced_total", {"reason": "fence"}) == 1
    assert value("brickwork_store_errors_total", {"who": "lease"}) == 1


def test_states_are_read_when_asked_for() -> None:
    """Queues, ages, and whatever else is registered."""
    clock = VirtualClock()
    queue = WorkQueue(clock, random.Random(1))
    telemetry = Telemetry()
    telemetry.watch_queue("volumes", queue)
    telemetry.watch_reflector("/a/", lambda: clock.now() - 1000.0)
    telemetry.watch_reflector("/b/", lambda: 7.0)
    telemetry.watch_lease("leader", lambda: 0.5)
    telemetry.watch_oldest_unsettled("volume", lambda: 42.0)
    telemetry.watch("brickwork_degraded", "Attachments with dead paths.", "node", "web-1", lambda: 3)
    queue.add("a")
    queue.retry("b")
    clock.run_for(5)
    value = telemetry.registry.get_sample_value
    assert value("brickwork_queue_depth", {"queue": "volumes"}) == 1
    assert value("brickwork_queue_oldest_seconds", {"queue": "volumes"}) == 5.0
    assert value("brickwork_queue_retries_total", {"queue": "volumes"}) == 1
    assert value("brickwork_reflector_age_seconds", {"prefix": "/a/"}) == 5.0
    assert value("brickwork_reflector_age_seconds", {"prefix": "/b/"}) == 7.0
    assert value("brickwork_lease_age_seconds", {"lease": "leader"}) == 0.5
    assert value("brickwork_oldest_unsettled_seconds", {"controller": "volume"}) == 42.0
    assert value("brickwork_degraded", {"node": "web-1"}) == 3


def test_two_daemons_in_one_process_do_not_mix() -> None:
    """Each has a registry of its own, fit for a scrape."""
    one, other = Telemetry(), Telemetry()
    one.forced("fence")
    assert other.registry.get_sample_value("brickwork_forced_total", {"reason": "fence"}) == 0
    assert b"brickwork_forced_total" in generate_latest(one.registry)
