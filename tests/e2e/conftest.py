"""Fixtures of the end-to-end tests: the topology, booted once; a folder of logs and a printed time for each test."""

import inspect
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from harness import product
from harness.guest import Guest
from harness.place import Place
from harness.product import Brickwork
from harness.topology import Topology, missing_parts

HERE = Path(__file__).parent
# What a module takes on an idle machine, roughly. Only the order comes from it; one that is missing here comes late.
MINUTES = {
    "test_recovery.py": 12,
    "test_iscsi.py": 7,
    "test_moves.py": 5,
    "test_systemd.py": 5,
    "test_lun_reuse.py": 4,
    "test_same_wwid.py": 4,
    "test_multipath.py": 3,
}
TOPOLOGY = pytest.StashKey[Topology]()
DIRTY = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "e2e: runs in guests with a kernel of their own; needs root and prepare.sh")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.root)
            item.add_marker(pytest.mark.slow)
    # What the others take for granted comes first, and without the product's daemons beside it.
    items.sort(key=lambda item: (item.path.name != "test_harness.py", *turn(item, config)))


def turn(item: pytest.Item, config: pytest.Config) -> tuple[int, str]:
    """When a module has its turn.

    One set of guests: modules with the same backends come together, because a controller with others takes half a minute to
    start. Several sets: each takes the next module when it is done with one, and the long ones must not come last.
    """
    if set_number(config) is None:
        return 0, source_of_backends(item)
    return -MINUTES.get(item.path.name, 1), item.path.name


def set_number(config: pytest.Config) -> int | None:
    """Which of several sets of guests this process of pytest-xdist has; None when there is only one."""
    worker: dict[str, str] | None = getattr(config, "workerinput", None)
    return int(worker["workerid"].removeprefix("gw")) if worker else None


def source_of_backends(item: pytest.Item) -> str:
    """The text of its module's function `backends`; empty when it has none."""
    backends = getattr(getattr(item, "module", None), "backends", None)
    return inspect.getsource(backends) if backends else ""


@pytest.fixture(scope="session")
def booted_topology(request: pytest.FixtureRequest) -> Iterator[Topology]:
    """Boot the guests, once for all tests."""
    missing = "needs root" if os.geteuid() != 0 else missing_parts()
    if missing and os.environ.get("BRICKWORK_E2E_REQUIRED"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    # A runner that gives up sends SIGTERM, which would leave the namespace behind.
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))
    with Topology(Place(set_number(request.config) or 0)) as topology:
        request.config.stash[TOPOLOGY] = topology
        yield topology
        del request.config.stash[TOPOLOGY]
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def topology(booted_topology: Topology, request: pytest.FixtureRequest) -> Iterator[Topology]:
    """The topology, whole: all guests up, all links healed. What the test starts is stopped after it.

    Guests are shared: a test cleans up what it leaves on them, and one that cannot calls `renew_guests`. After a
    failed test that is done here, so that one failure does not make others.
    """
    if request.config.stash.get(DIRTY, False):
        booted_topology.renew_guests()
        request.config.stash[DIRTY] = False
    booted_topology.before_test(str(request.node.nodeid).removeprefix("tests/e2e/"))
    yield booted_topology
    booted_topology.after_test()


@pytest.fixture
def ctl(topology: Topology) -> Guest:
    """The controller's guest: volume group `cinder-volumes`, LIO."""
    return topology.ctl


@pytest.fixture
def n1(topology: Topology) -> Guest:
    """The first node: iscsid, multipathd."""
    return topology.n1


@pytest.fixture
def n2(topology: Topology) -> Guest:
    """The second node."""
    return topology.n2


@pytest.fixture
def sd(topology: Topology) -> Iterator[Guest]:
    """A node with systemd, and the units of deploy/ installed. Fresh for each test."""
    topology.sd.forget_disks()
    topology.sd.boot()
    yield topology.sd
    topology.sd.kill()
    topology.sd.save_console()


@pytest.fixture(scope="session")
def installed_brickwork(booted_topology: Topology) -> Brickwork:
    """The product, not started yet."""
    booted_topology.evidence_of_store += product.EVIDENCE
    return Brickwork(booted_topology)


@pytest.fixture
def brickwork(topology: Topology, installed_brickwork: Brickwork, request: pytest.FixtureRequest) -> Brickwork:
    """The product at work: the controller with the backends that the test's module has in `backends`, both nodes."""
    installed_brickwork.configure(request.module.backends(topology))
    return installed_brickwork


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Collect evidence of a failure at once: the fixtures' own cleaning up comes next and would destroy it."""
    report = yield
    if report.failed and TOPOLOGY in item.config.stash and item.get_closest_marker("e2e"):
        item.config.stash[DIRTY] = True
        item.config.stash[TOPOLOGY].collect_evidence()
        report.sections.append(("evidence", str(item.config.stash[TOPOLOGY].logs.folder)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Each test's times, and the figures that it gave to `record_property`."""
    durations: dict[str, dict[str, float]] = {}
    figures: dict[str, list[tuple[str, object]]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and "e2e" in report.keywords:
                durations.setdefault(report.nodeid, {})[report.when] = report.duration
                figures[report.nodeid] = report.user_properties
    if durations:
        terminalreporter.section("times of the end-to-end tests (s)")
    for test, phases in durations.items():
        times = "  ".join(f"{phase} {phases.get(phase, 0):6.1f}" for phase in ("setup", "call", "teardown"))
        terminalreporter.write_line(f"{times}  {test}")
        for name, figure in figures[test]:
            terminalreporter.write_line(f"{'':52}{name}: {figure}")
