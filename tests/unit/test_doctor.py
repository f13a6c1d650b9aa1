"""`brickctl doctor` finds what was planted, each misconfiguration by its own check and by no other (A58)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.adapters.brick.preflight import (
    CHECKS,
    PROTOCOLS,
    Access,
    Case,
    Severity,
    SystemHost,
    node_id,
    preflight,
    seems_made_for,
)
from reconciler.adapters.brick.preflight.multipath import sections
from schema.models import NodeRecord
from tests.unit.client_world import World
from tests.unit.planted_host import (
    INITIATOR,
    MOUNTS,
    MULTIPATH_CONF,
    RECORD,
    RELEASE,
    healthy,
    planted,
    record,
    with_settings,
)

PAGE = (Path(__file__).parents[2] / "docs" / "DOCTOR.md").read_text()
NAME_FILE = "/etc/iscsi/initiatorname.iscsi"
MODULES_DEP = f"/lib/modules/{RELEASE}/modules.dep"


def file(path: str, text: str | None) -> Callable[[Case], Case]:
    """Plant a file, or take one away."""

    def plant(case: Case) -> Case:
        files = planted(case).files
        files.pop(path, None)
        if text is not None:
            files[path] = text
        return case

    return plant


def printed(line: str, out: str) -> Callable[[Case], Case]:
    """A command's answer. Nothing printed: it fails."""

    def plant(case: Case) -> Case:
        planted(case).programs[line] = out
        return case

    return plant


def without(*programs: str) -> Callable[[Case], Case]:
    def plant(case: Case) -> Case:
        host = planted(case)
        host.programs = {line: out for line, out in host.programs.items() if line.split()[0] not in programs}
        return case

    return plant


def mode(path: str, owner: int, bits: int) -> Callable[[Case], Case]:
    def plant(case: Case) -> Case:
        planted(case).modes[path] = Access(owner, bits)
        return case

    return plant


def mounted(fstype: str, point: str) -> Callable[[Case], Case]:
    return file("/proc/self/mountinfo", f"{MOUNTS}30 21 0:9 / {point} rw - {fstype} there rw\n")


def settings(**changes: object) -> Callable[[Case], Case]:
    return lambda case: with_settings(case, **changes)


def multipath_conf(old: str, new: str) -> Callable[[Case], Case]:
    assert old in MULTIPATH_CONF
    return file("/etc/multipath.conf", MULTIPATH_CONF.replace(old, new))


def nodes(**records: NodeRecord) -> Callable[[Case], Case]:
    def plant(case: Case) -> Case:
        renamed = {name.replace("_", "-"): each for name, each in records.items()}
        return replace(case, fleet=replace(case.fleet, nodes={**case.fleet.nodes, **renamed}))

    return plant


def alive(boot: str) -> Callable[[Case], Case]:
    return lambda case: replace(case, fleet=replace(case.fleet, alive={"web-1": boot}))


def as_user(case: Case) -> Case:
    planted(case).user = 1000
    return case


def no_multipathd_wanted(case: Case) -> Case:
    return with_settings(case, multipath=False)


EVERYTHING_GREEDY = "find_multipaths no   # os-brick names the disks"

PLANTED: list[tuple[str, str, Callable[[Case], Case]]] = [
    ("settings", "unknown setting", lambda case: replace(case, settings_fault="node.yaml:3: multipth: unknown setting")),
    ("etcd-certificate", "node.pem expires in 4 days", printed(
        "openssl x509 -noout -enddate -in /etc/brickwork/node.pem", "notAfter=Jan 19 08:00:00 2027 GMT\n")),
    ("etcd-certificate", "ca.pem expired 14 days ago", printed(
        "openssl x509 -noout -enddate -in /etc/brickwork/ca.pem", "notAfter=Jan  1 08:00:00 2027 GMT\n")),
    ("etcd-secrets", "node.key can be read by others (mode 0644)", mode("/etc/brickwork/node.key", 0, 0o644)),
    ("node-clash", "another daemon is alive as node web-1 (boot b9; this host's is b1)", alive("b9")),
    ("node-clash", "this host's is not begun", file("/run/brickwork/node/boot.json", None)),
    ("rights", "not run as root", as_user),
    ("kernel-modules", f"kernel {RELEASE} has no iscsi_tcp, nvme_tcp", file(
        MODULES_DEP, "kernel/dm-multipath.ko.zst:\nkernel/rbd.ko:\nkernel/nfs.ko:\n")),
    ("udev", "udev does not run", file("/run/udev/control", None)),
    ("state-folder", "on tmpfs", mounted("tmpfs", "/var/lib/brickwork")),
    ("state-folder", "on nfs4", mounted("nfs4", "/var/lib")),
    ("state-folder", "belongs to user 1000", mode("/var/lib/brickwork/node", 1000, 0o700)),
    ("lock-path", "on nfs4", mounted("nfs4", "/run/lock")),
    ("lock-path-differs", "Nova on this host locks in /var/lib/nova/tmp", file(
        "/etc/nova/nova.conf", "[DEFAULT]\na = 1\na = 2\n[oslo_concurrency]\nlock_path=/var/lib/nova/tmp\n")),
    ("lock-path-differs", "Cinder on this host locks in /b", file(
        "/etc/cinder/cinder.conf", "[oslo_concurrency]\nlock_path=/run/lock/os-brick\n[os_brick]\nlock_path=/b\n")),
    ("link-folder", "/srv/links is on ext4", settings(link_folder=Path("/srv/links"))),
    ("my-ip", "my_ip is 10.0.0.22, which is no address of this host (10.0.0.21)", settings(my_ip="10.0.0.22")),
    ("clock", "not synchronised", printed("timedatectl show --property=NTPSynchronized --value", "no\n")),
    ("scsi-tools", "not installed: lsscsi", without("lsscsi")),
    ("nvme-tools", "not installed: nvme", without("nvme")),
    ("nvme-identity", "'' is no NVMe qualified name", file("/etc/nvme/hostnqn", "\n")),
    ("nvme-identity", "is no UUID", file("/etc/nvme/hostid", "00000000-0000-0000-0000-000000000000")),
    ("nvme-identity-shared", "node web-3 has the same nvme_hostid", nodes(
        web_3=record("b3", nvme_hostid="6e1b5c1e-8f0a-4c0e-9d53-0d7d2a3f1b11"))),
    ("nvme-multipath", "switched off", file("/sys/module/nvme_core/parameters/multipath", "N\n")),
    ("fc-ports", "no Fibre Channel port is online: host1 Linkdown", file("/sys/class/fc_host/host1/port_state", "Linkdown\n")),
    ("fc-ports", "knows no Fibre Channel port", file("/sys/class/fc_host/host1/port_state", None)),
    ("nfs-tools", "not installed: mount.nfs, qemu-img", without("mount.nfs", "qemu-img")),
    ("rbd-tools", "not installed: rbd", without("rbd")),
    ("iscsi-tools", "not installed: iscsiadm, iscsid", without("iscsiadm", "iscsid")),
    ("iscsi-initiator", "there is no such file", file(NAME_FILE, None)),
    ("iscsi-initiator", "no line that begins with InitiatorName=", file(NAME_FILE, "GenerateName=yes\n")),
    ("iscsi-initiator-shared", f"node web-3 has the same initiator, {INITIATOR}", nodes(web_3=record("b3", initiator=INITIATOR))),
    ("iscsi-initiator-changed", "node web-1 published iqn.old:1", nodes(web_1=record(initiator="iqn.old:1"))),
    ("iscsid", "nothing listens for iscsiadm", file("/proc/net/unix", "Num Path\n")),
    ("iscsi-autologin", "logs in by itself at boot to iqn.t", file(
        "/etc/iscsi/nodes/iqn.t/10.0.0.1,3260,1/default", RECORD.format(target="iqn.t", startup="automatic"))),
    ("iscsi-autologin", "at boot to iqn.u", file(
        "/var/lib/iscsi/nodes/iqn.u/10.0.0.1,3260", RECORD.format(target="iqn.u", startup="automatic"))),
    ("multipath-tools", "not installed: multipathd, multipath; the settings ask", without("multipathd", "multipath")),
    ("multipathd", "multipathd does not answer", printed("multipathd show status", "")),
    ("multipathd", "multipathd does not answer", printed("multipathd show status", "error receiving packet\n")),
    ("multipath-blacklist", 'devnode "^sd[a-z0-9]+" in the blacklist', multipath_conf("^(loop|ram|sda$)", "^sd[a-z0-9]+")),
    ("multipath-blacklist", 'wwid ".*" in the blacklist', file("/etc/multipath/conf.d/mine.conf", "blacklist {\nwwid .*\n}\n")),
    ("multipath-queue", "section defaults of the configuration queues for ever", multipath_conf(
        "no_path_retry 12", "no_path_retry queue")),
    ("multipath-queue", "section devices.device", file(
        "/etc/multipath/conf.d/a.conf", 'devices {\n device {\n  vendor "X"\n  features "1 queue_if_no_path"\n }\n}\n')),
    ("multipath-partitions", "kpartx maps the partitions", multipath_conf("skip_kpartx yes", "skip_kpartx no")),
    ("multipath-unasked", "takes every SCSI disk (find_multipaths no)", no_multipathd_wanted),
    ("lvm-scan", "/dev/dm-9999 passes its filters", file("/etc/lvm/lvm.conf", "devices {\n}\n")),
    ("lvm-scan", "passes its filters", file("/etc/lvm/lvm.conf", 'devices { filter = "a|.*|" }')),
    ("lvm-scan", "/dev/nvme99n1 passes", file(
        "/etc/lvm/lvm.conf", 'global_filter = ["r|/dev/dm|", "r|mapper|", "r|by-id/dm|", "r|/dev/sd|", "r|loop|", "r|rbd|"]')),
]  # fmt: skip


def found(case: Case) -> dict[str, str]:
    """What is not ok: check -> what was seen."""
    return {each.id: each.seen for each in preflight(case) if each.severity is not Severity.OK}


def test_a_healthy_host_has_nothing() -> None:
    """Every check is asked, and has nothing to say."""
    findings = preflight(healthy())
    assert {each.id: each.seen for each in findings if each.severity is not Severity.OK} == {}
    assert [each.id for each in findings] == [check.id for check in CHECKS]


@pytest.mark.parametrize(("check", "seen", "plant"), PLANTED, ids=[f"{row[0]}: {row[1]}" for row in PLANTED])
def test_each_planted_misconfiguration_is_found_by_its_check_alone(
    check: str, seen: str, plant: Callable[[Case], Case]
) -> None:
    """With its severity, what was seen, and a remedy."""
    case = plant(healthy())
    assert list(found(case)) == [check]
    finding = next(each for each in preflight(case) if each.id == check)
    assert seen in finding.seen
    assert finding.severity in (Severity.ERROR, Severity.WARNING)
    assert finding.remedy


def test_every_check_has_been_seen_to_find_something() -> None:
    """The two that do not stand alone are in the tests below."""
    assert {row[0] for row in PLANTED} | {"etcd", "kernel-updated"} == {check.id for check in CHECKS}


def test_etcd_away_says_so_and_what_cannot_be_known_then() -> None:
    """No guess about other nodes."""
    case = replace(healthy(), fleet=replace(healthy().fleet, failure="nobody answers", nodes={}, alive={}))
    severities = {each.id: each.severity for each in preflight(case) if each.severity is not Severity.OK}
    unknown = dict.fromkeys(("node-clash", "nvme-identity-shared", "iscsi-initiator-shared"), Severity.UNKNOWN)
    assert severities == {"etcd": Severity.ERROR, **unknown}


def test_a_kernel_that_was_updated_without_a_reboot() -> None:
    """Its modules are gone, so which it has can't be told any more."""
    case = healthy()
    files = planted(case).files
    files["/lib/modules/6.1.0-21-amd64/modules.dep"] = files.pop(MODULES_DEP)
    assert set(found(case)) == {"kernel-updated", "kernel-modules"}
    assert "installed are those of 6.1.0-21-amd64" in found(case)["kernel-updated"]


def test_only_what_the_protocols_need_is_asked() -> None:
    """A host of NFS shares is not told to install open-iscsi."""
    case = without("iscsiadm", "iscsid", "nvme", "rbd", "multipathd")(healthy())
    assert found(replace(case, protocols=frozenset({"nfs", "local"}))) == {}


def test_what_the_host_seems_made_for() -> None:
    host = planted(healthy())
    assert seems_made_for(host) == set(PROTOCOLS)
    host.files = {}
    host.programs = {}
    assert seems_made_for(host) == {"local"}


def test_one_who_is_not_root_is_told_what_was_not_seen() -> None:
    """A file that may not be read is not a missing one."""
    case = as_user(healthy())
    planted(case).secret = frozenset({NAME_FILE})
    severity = {each.id: each.severity for each in preflight(case)}
    assert (severity["rights"], severity["iscsi-initiator"]) == (Severity.WARNING, Severity.UNKNOWN)


@pytest.mark.parametrize("name", ["eui.02004567A425678D", "naa.52004567BA64678D", "iqn.2020-01.com.example.web"])
def test_initiator_names_of_every_kind_are_valid(name: str) -> None:
    assert "iscsi-initiator" not in found(file(NAME_FILE, f"InitiatorName={name}\n")(healthy()))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("InitiatorName=web-1", "'web-1' is no initiator name"),
        ("InitiatorName=", "'' is no initiator name"),
        ("InitiatorName=iqn.1993-08.org.debian:01:", "ends where the host's own part should stand"),
        ("InitiatorName=iqn.2020-01.a:1\nInitiatorName=iqn.2020-01.a:2", "it has 2 names"),
    ],
)
def test_faulty_initiator_names(text: str, seen: str) -> None:
    assert seen in found(file(NAME_FILE, text)(healthy()))["iscsi-initiator"]


def test_lvms_devices_file_goes_before_filters() -> None:
    """But not where it is switched off."""
    scanning = file("/etc/lvm/lvm.conf", "devices {\n}\n")(healthy())
    planted(scanning).files["/etc/lvm/devices/system.devices"] = "VERSION=1.1.1\n"
    assert found(scanning) == {}
    planted(scanning).files["/etc/lvm/lvmlocal.conf"] = "devices/use_devicesfile = 0\n"
    assert list(found(scanning)) == ["lvm-scan"]


def test_a_blacklist_with_exceptions_of_its_kind_is_left_alone() -> None:
    everything = 'blacklist {\n wwid ".*"\n}\nblacklist_exceptions {\n wwid "3600.*"\n}\n'
    assert found(file("/etc/multipath/conf.d/x.conf", everything)(healthy())) == {}


def test_multipath_conf_is_read_as_it_is_written() -> None:
    """Comments, quotes, nesting, and a brace that nobody closed."""
    text = '! all\nblacklist {\n  devnode "^a b"  # why\n  devnode c\n}\ndevices {\n device {\n  vendor X\n }\n'
    assert list(sections(text)) == [
        ("blacklist", {"devnode": ["^a b", "c"]}),
        ("devices.device", {"vendor": ["X"]}),
        ("devices", {}),
    ]


# --- the command, on this machine ----------------------------------------------------------------------------------------

SETTINGS_FILE = "node: web-1\nstate_folder: {0}/state\nrun_folder: {0}/run\n"


def test_it_runs_on_this_very_machine(tmp_path: Path) -> None:
    """Whatever it finds here: it asks every check, tells it as JSON, and its exit code fits."""
    config = tmp_path / "node.yaml"
    config.write_text(SETTINGS_FILE.format(tmp_path))
    world = World()
    world.node("web-1")
    world.backend()
    every = [word for protocol in PROTOCOLS for word in ("--protocol", protocol)]
    result = world.run("doctor", "--config", str(config), *every, "-o", "json")
    told = json.loads(result.stdout)
    assert (told["node"], told["protocols"]) == ("web-1", sorted(PROTOCOLS))
    assert [each["id"] for each in told["findings"]] == [check.id for check in CHECKS]
    bad = [each for each in told["findings"] if each["severity"] in ("error", "warning")]
    assert result.exit_code == bool(bad)
    assert "node-clash" in [each["id"] for each in bad]  # alive in etcd, and no boot of it here


def test_backends_say_for_which_protocols(tmp_path: Path) -> None:
    """And faulty settings are one finding among others."""
    config = tmp_path / "node.yaml"
    config.write_text("multipth: true\n")
    world = World()
    world.backend()
    result = world.run("doctor", "--config", str(config), "--all")
    assert result.exit_code == 1, result.output
    assert re.search(r"^error +settings: .*node.yaml:1: multipth: .*; the daemon does not start", result.stdout, re.M)
    assert ", for iscsi: " in result.stdout.splitlines()[-1]


def test_the_id_that_is_kept_goes_before_names() -> None:
    case = healthy()
    assert node_id(case.host, case.settings) == "web-1"
    planted(case).files.pop("/var/lib/brickwork/node/node-id")
    assert node_id(case.host, case.settings.model_copy(update={"node": "n7"})) == "n7"
    assert SystemHost().text("/proc/sys/kernel/hostname")


# --- the page ------------------------------------------------------------------------------------------------------------


def test_the_page_lists_every_check_with_its_severity() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", PAGE, re.MULTILINE)
    assert rows == [(check.id, check.severity.value) for check in CHECKS]
