"""`brickctl doctor` on a host with real tools: a kernel with modules, udev, open-iscsi, multipathd and Debian's lvm.conf."""

import json
from collections.abc import Iterator

import pytest
import yaml
from harness.guest import Guest
from harness.network import Lan
from harness.topology import Topology

CONFIG = "/etc/brickwork/doctor.yaml"
NAME_FILE = "/etc/iscsi/initiatorname.iscsi"
RECORD = "/etc/iscsi/nodes/iqn.t/10.9.1.99,3260,1/default"
UNASKED = {"lvm-scan": "warning", "clock": "unknown"}
"""On a healthy guest: Debian's LVM scans every disk, and without systemd nobody tells of the clock."""


def doctor(guest: Guest) -> dict[str, str]:
    """What it finds that is not ok: check -> severity."""
    command = ["brickctl", "doctor", "--config", CONFIG, "--protocol", "iscsi", "-o", "json"]
    done = guest.run(command, check=False, timeout_s=180)
    found = json.loads(done.stdout)["findings"]
    return {each["id"]: each["severity"] for each in found if each["severity"] != "ok"}


@pytest.fixture
def host(topology: Topology, n1: Guest) -> Iterator[Guest]:
    """The first node, with settings for the doctor; what the test changes is put back."""
    settings = {
        "etcd": {"endpoints": [f"http://{topology.etcd.endpoint}"]},
        "node": n1.name,
        "my_ip": n1.address(Lan.STORAGE_A),
        "multipath": True,
    }
    n1.put(CONFIG, yaml.safe_dump(settings))
    kept = {path: n1.get(path) for path in (NAME_FILE, "/etc/multipath.conf")}
    yield n1
    for path, content in kept.items():
        n1.put(path, content)
    n1.run("rm -rf /etc/iscsi/nodes/iqn.t")


def test_it_finds_what_is_planted_on_a_real_host(host: Guest) -> None:
    """And nothing else: by real files, modules and answers of the real tools (A58)."""
    assert doctor(host) == UNASKED

    host.put(NAME_FILE, "GenerateName=yes\n")
    host.put("/etc/multipath.conf", host.get("/etc/multipath.conf") + b'blacklist {\n    devnode "^sd[a-z]+"\n}\n')
    host.put(RECORD, "node.startup = automatic\n")
    planted = {"iscsi-initiator": "error", "multipath-blacklist": "error", "iscsi-autologin": "warning"}
    assert doctor(host) == UNASKED | planted
