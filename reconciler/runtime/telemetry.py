"""What a daemon counts and measures, for `/metrics`.

One object per process, with a registry of its own, handed to whoever measures: there is no global state, and two
daemons in one test do not mix. Every series that can be named beforehand exists from the start, with zero, so that
dashboards and alerts see it before the first event. Names follow the usual rules: base units, `_total` for counters.

What is not an event but a state (a queue's depth, an age) is read when somebody asks, by a function registered once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from reconciler.runtime.controller import Observer, Outcome
from reconciler.runtime.workqueue import WorkQueue

_WORK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Buckets of single steps: from a plan without a step to a driver call at its deadline."""

_WISH_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
"""Buckets from a user's wish to its fulfilment, over all retries."""

CALLS = ("open", "describe", "create", "extend", "delete", "adopt", "export", "connect", "terminate", "unexport")
"""The calls of a storage backend."""

HOST_CALLS = ("properties", "connect", "inspect", "disconnect")
"""The calls of a host's connector."""

CALL_OUTCOMES = ("ok", "retryable", "terminal", "busy", "unknown")
TXN_OUTCOMES = ("succeeded", "refused", "failed", "unknown")
FORCE_REASONS = ("fence",)
FENCE_OUTCOMES = ("fenced", "not_now", "failed", "overtaken")
"""What comes of a fence agent's command."""


class Telemetry:
    """The metrics of one daemon.

    Args:
        calls: the kinds of external calls it makes.
        force_reasons: the reasons for which it may ever act by force.
    """

    def __init__(self, calls: Iterable[str] = (), force_reasons: Iterable[str] = FORCE_REASONS) -> None:
        self.registry = registry = CollectorRegistry()
        self._reconciles = Histogram(
            "brickwork_reconcile_seconds",
            "Time one reconcile took, by controller and outcome.",
            ("controller", "outcome"),
            buckets=_WORK_S,
            registry=registry,
        )
        self._calls = Histogram(
            "brickwork_call_seconds",
            "Time a call to a driver or to os-brick took, by kind and outcome.",
            ("call", "outcome"),
            buckets=_WORK_S,
            registry=registry,
        )
        self._txns = Counter(
            "brickwork_store_txns_total", "Transactions sent to the store.", ("outcome",), registry=registry
        )
        self._attaches = Histogram(
            "brickwork_attach_seconds",
            "From the wish to the published device, over all retries.",
            buckets=_WISH_S,
            registry=registry,
        )
        self._detaches = Histogram(
            "brickwork_detach_seconds",
            "From the end of the wish to the last key gone, over all retries.",
            buckets=_WISH_S,
            registry=registry,
        )
        self._forced = Counter(
            "brickwork_forced_total", "Acts by force, by what allowed them.", ("reason",), registry=registry
        )
        self._errors = Counter(
            "brickwork_store_errors_total", "Errors of reflectors, leases and elections.", ("who",), registry=registry
        )
        self._fences = Counter(
            "brickwork_fence_commands_total",
            "Runs of the fence command, by what came of them.",
            ("outcome",),
            registry=registry,
        )
        self._gauges: dict[str, Gauge] = {}
        self._queues = _Queues()
        registry.register(self._queues)
        for call in calls:
            for outcome in CALL_OUTCOMES:
                self._calls.labels(call, outcome)
        for outcome in TXN_OUTCOMES:
            self._txns.labels(outcome)
        for reason in force_reasons:
            self._forced.labels(reason)
        for outcome in FENCE_OUTCOMES:
            self._fences.labels(outcome)

    # --- Events

    def observer(self, controller: str) -> Observer:
        """What a `Controller` of this name takes as its `observe`."""
        children = {outcome: self._reconciles.labels(controller, outcome.value) for outcome in Outcome}

        def observe(_key: str, outcome: Outcome, duration_s: float, _error: Exception | None) -> None:
            children[outcome].observe(duration_s)

        return observe

    def called(self, call: str, outcome: str, duration_s: float) -> None:
        """A driver or os-brick call ended."""
        self._calls.labels(call, outcome).observe(duration_s)

    def transacted(self, outcome: str) -> None:
        """A transaction was answered, or not."""
        self._txns.labels(outcome).inc()

    def attached(self, since_wish_s: float) -> None:
        """An attachment became `Attached`."""
        self._attaches.observe(since_wish_s)

    def detached(self, since_wish_s: float) -> None:
        """Nothing is left of an attachment."""
        self._detaches.observe(since_wish_s)

    def forced(self, reason: str) -> None:
        """Something was done by force."""
        self._forced.labels(reason).inc()

    def fence_tried(self, outcome: str) -> None:
        """The fence command was run."""
        self._fences.labels(outcome).inc()
        if outcome == "fenced":
            self.forced("fence")

    def store_failed(self, who: str) -> None:
        """A reflector, a lease or an election met an error of the store."""
        self._errors.labels(who).inc()

    # --- States

    def watch_queue(self, name: str, queue: WorkQueue) -> None:
        """Show a work queue's depth, ages and retries."""
        self._queues.queues[name] = queue

    def watch_reflector(self, prefix: str, age_s: Callable[[], float]) -> None:
        """Show how long ago a reflector heard from the store."""
        self.watch("brickwork_reflector_age_seconds", "Since the last sign of life.", "prefix", prefix, age_s)

    def watch_lease(self, name: str, age_s: Callable[[], float]) -> None:
        """Show how old the last confirmed renewal of a lease is."""
        self.watch("brickwork_lease_age_seconds", "Since the last confirmed renewal.", "lease", name, age_s)

    def watch_oldest_unsettled(self, name: str, age_s: Callable[[], float]) -> None:
        """Show the age of the oldest wish that is not settled, 0 without any."""
        self.watch("brickwork_oldest_unsettled_seconds", "Age of the oldest unsettled wish.", "controller", name, age_s)

    def watch_orphan_exports(self, backend: str, number: Callable[[], float]) -> None:
        """Show how many exports the last audit of a backend found that no record explains."""
        text = "Exports at the driver that no record explains."
        self.watch("brickwork_orphan_exports", text, "backend", backend, number)

    def watch_store(self, replaced: Callable[[], float]) -> None:
        """Show whether the store is not the one that it was."""
        self.watch("brickwork_store_replaced", "1: etcd is not the store that it was.", "store", "etcd", replaced)

    def watch_paused(self, what: str, count: Callable[[], float]) -> None:
        """Show how many detaches or deletions wait for a confirmation, since too many wishes vanished at once."""
        self.watch("brickwork_paused", "Ends of wishes that wait for a confirmation.", "what", what, count)

    def watch_held_back(self, reason: str, count: Callable[[], float]) -> None:
        """Show how many silent nodes a fence agent does not fence for this reason."""
        self.watch("brickwork_fence_held_back", "Silent nodes that are not fenced now.", "reason", reason, count)

    def watch(self, name: str, text: str, label: str, value: str, read: Callable[[], float]) -> None:
        """Show any other state: a gauge of this name, one of its series, and what reads it."""
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = self._gauges[name] = Gauge(name, text, (label,), registry=self.registry)
        gauge.labels(value).set_function(read)


class _Queues(Collector):
    """The figures of all work queues, each queue looked at once per scrape."""

    def __init__(self) -> None:
        self.queues: dict[str, WorkQueue] = {}

    def collect(self) -> Iterator[Metric]:
        labels = ("queue",)
        depth = GaugeMetricFamily("brickwork_queue_depth", "Keys that wait for a worker.", labels=labels)
        oldest = GaugeMetricFamily("brickwork_queue_oldest_seconds", "Wait of the oldest key.", labels=labels)
        longest = GaugeMetricFamily(
            "brickwork_queue_longest_running_seconds", "Time of the longest reconcile that runs.", labels=labels
        )
        failing = GaugeMetricFamily("brickwork_queue_failing", "Keys whose last reconcile failed.", labels=labels)
        retries = CounterMetricFamily("brickwork_queue_retries", "Reconciles that failed.", labels=labels)
        for name, queue in self.queues.items():
            stats = queue.stats()
            depth.add_metric((name,), stats.depth)
            oldest.add_metric((name,), stats.oldest_age_s)
            longest.add_metric((name,), stats.longest_s)
            failing.add_metric((name,), stats.failing)
            retries.add_metric((name,), stats.retries)
        yield from (depth, oldest, longest, failing, retries)
