"""What is in deploy/ fits the daemons: the examples pass, the units say what safety and settings need."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Literal

import pytest
import yaml

from daemons.process import Exit
from daemons.settings import ControllerSettings, load
from reconciler.adapters.cinder.catalog import DRIVERS

DEPLOY = Path(__file__).parents[2] / "deploy"
Kind = Literal["controller", "node", "fence-agent"]
KINDS: tuple[Kind, ...] = ("controller", "node", "fence-agent")
UNITS: dict[str, Kind] = {kind: kind for kind in KINDS} | {"controller-array": "controller"}
"""Each unit, and whose settings it uses."""

MOUNT_NAMESPACE = {
    "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectKernelTunables",
    "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProtectHostname", "ReadOnlyPaths",
    "ReadWritePaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "TemporaryFileSystem", "BindPaths", "RootDirectory",
    "DynamicUser", "MountFlags",
}  # fmt: skip
"""Options with which what the unit mounts can't be seen by the rest of the host (systemd.exec, "Sandboxing")."""


class Unit:
    """A unit file: options and their last values."""

    def __init__(self, name: str) -> None:
        self.path = DEPLOY / f"brickwork-{name}.service"
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(self.path)
        self.service = dict(parser["Service"])

    def all_of(self, option: str) -> list[str]:
        """The words of an option that may stand several times, and of which each adds to the ones before."""
        lines = self.path.read_text().splitlines()
        return " ".join(line.partition("=")[2] for line in lines if line.startswith(f"{option}=")).split()


def kind_of(example: Path) -> Kind:
    return next(kind for kind in KINDS if example.name.startswith(kind))


@pytest.mark.parametrize("example", sorted((DEPLOY / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_passes_the_check_of_its_daemon(example: Path) -> None:
    command = [
        sys.executable,
        "-m",
        f"daemons.{kind_of(example).replace('-', '_')}",
        "--config",
        str(example),
        "--check-config",
        "--elsewhere",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.OK, done.stderr
    assert yaml.safe_load(done.stdout)["etcd"]["endpoints"][0] == "https://etcd-1.example:2379"


@pytest.mark.parametrize("example", sorted((DEPLOY / "examples").glob("controller-*.yaml")), ids=lambda path: path.stem)
def test_the_examples_use_drivers_that_there_are(example: Path) -> None:
    settings = load("controller", example, {})
    assert isinstance(settings, ControllerSettings)
    assert all(each.driver in DRIVERS for each in settings.backends.values() if each.driver)


CHECK_OPTIONS = """
import json, sys
from reconciler.adapters.cinder import library
library.prepare()
from oslo_utils import importutils
from reconciler.adapters.cinder import options
driver, given = json.load(sys.stdin)
known = options.declared(importutils.import_class(driver))
options.section("example", given, {name: known[name] for name in given}, secret=())
"""


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted((DEPLOY / "examples").glob("controller-*.yaml")), ids=lambda path: path.stem)
def test_the_examples_use_options_that_their_drivers_have(example: Path) -> None:
    """Each driver in a process of its own, as in a worker: Cinder is not to be loaded into this one."""
    for backend in load("controller", example, {}).backends.values():
        if backend.driver:
            given = json.dumps([backend.driver, dict(backend.options)])
            command = [sys.executable, "-c", CHECK_OPTIONS]
            done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unit", UNITS)
def test_a_new_daemon_starts_only_when_all_of_the_old_one_is_dead(unit: str) -> None:
    service = Unit(unit).service
    assert service["KillMode"] == "control-group"
    assert service["SendSIGKILL"] == "yes"
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(int(Exit.SETTINGS))


@pytest.mark.parametrize(("unit", "kind"), UNITS.items())
def test_the_unit_keeps_what_the_settings_expect_where_they_expect_it(unit: str, kind: Kind) -> None:
    service = Unit(unit).service
    examples = {"controller": "controller-lvm.yaml", "node": "node.yaml", "fence-agent": "fence-agent.yaml"}
    settings = load(kind, DEPLOY / "examples" / examples[kind], {})
    assert settings.state_folder == Path("/var/lib") / service["StateDirectory"]
    assert settings.run_folder == Path("/run") / service["RuntimeDirectory"]
    assert service["RuntimeDirectoryPreserve"] == "yes"  # or each restart of the daemon were a reboot of the host
    assert service["ExecStart"].split() == [
        f"/opt/brickwork/.venv/bin/brickwork-{kind}", "--config", f"/etc/brickwork/{kind}.yaml"
    ]  # fmt: skip


def test_what_the_node_daemon_mounts_is_seen_by_the_host() -> None:
    assert not MOUNT_NAMESPACE & Unit("node").service.keys()


def test_nothing_restricts_the_devices_of_the_node_daemon() -> None:
    assert not {"DevicePolicy", "DeviceAllow", "ProtectClock"} & Unit("node").service.keys()


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_is_hardened_by_what_all_daemons_bear(unit: str) -> None:
    service = Unit(unit).service
    expected = {"UMask": "0077", "LimitCORE": "0", "RestrictSUIDSGID": "yes", "SystemCallErrorNumber": "EPERM"}
    assert {option: service.get(option) for option in expected} == expected
    assert "SystemCallFilter" in service


def test_the_node_daemon_has_the_capabilities_that_it_needs_and_no_others() -> None:
    assert set(Unit("node").all_of("CapabilityBoundingSet")) == {
        "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_CHOWN", "CAP_NET_ADMIN", "CAP_KILL",
        "CAP_SYS_PTRACE", "CAP_MKNOD", "CAP_SYS_MODULE", "CAP_IPC_LOCK", "CAP_SYS_RAWIO", "CAP_NET_BIND_SERVICE",
    }  # fmt: skip


@pytest.mark.parametrize("unit", ["controller-array", "fence-agent"])
def test_who_only_talks_over_the_network_has_no_capability(unit: str) -> None:
    assert Unit(unit).all_of("CapabilityBoundingSet") == []
    assert Unit(unit).service["CapabilityBoundingSet"] == ""


def test_a_controller_for_arrays_is_not_root_and_never_beside_the_other() -> None:
    unit = Unit("controller-array")
    assert unit.service["User"] == "brickwork"
    assert unit.all_of("Conflicts") == ["brickwork-controller.service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize(
    ("unit", "tenths"), [("node", 62), ("controller", 71), ("controller-array", 13), ("fence-agent", 18)]
)
def test_the_exposure_that_systemd_sees_does_not_grow(unit: str, tenths: int) -> None:
    """The figures of docs/OPERATING.md."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={tenths}"]
    done = subprocess.run([*command, str(Unit(unit).path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert f"brickwork-{unit}.service: {tenths / 10:.1f} " in done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize(("name", "kind"), UNITS.items())
def test_systemd_understands_the_unit(name: str, kind: Kind, tmp_path: Path) -> None:
    """With a program that exists, since Brickwork is not installed where the tests run."""
    unit = tmp_path / f"brickwork-{name}.service"
    unit.write_text(Unit(name).path.read_text().replace(f"/opt/brickwork/.venv/bin/brickwork-{kind}", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wheel_brings_all_that_is_in_deploy() -> None:
    """F-C20: who installs without a checkout finds units, roles and examples below share/brickwork."""
    root = DEPLOY.parent
    data_files = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    brought = {path for globs in data_files.values() for glob in globs for path in root.glob(glob)}
    assert brought == {path for path in DEPLOY.rglob("*") if path.is_file()}


@pytest.mark.parametrize("host", ["machine=1", "machine=2", ""])
def test_the_fence_command_switches_no_other_host_of_the_name(tmp_path: Path, host: str) -> None:
    """F-D1: whose switch it is stands beside its address."""
    script, ipmi = tmp_path / "ipmi.sh", tmp_path / "ipmitool"
    script.write_text((DEPLOY / "fence/ipmi.sh.example").read_text().replace("/etc/brickwork/fence", str(tmp_path)))
    ipmi.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho Chassis Power is off\n')
    ipmi.chmod(0o755)
    (tmp_path / "web-1").write_text("10.0.0.7\nmachine=1\n")
    for name in ("user", "password"):
        (tmp_path / name).write_text("x\n")
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BRICKWORK_HOST": host}
    ended = subprocess.run(["sh", str(script), "web-1", "b1"], check=False, env=environ, capture_output=True, text=True)
    if host == "machine=1":
        assert (ended.returncode, json.loads(ended.stdout)["proof"]) == (0, "powered_off")
        assert "-H 10.0.0.7 " in (tmp_path / "asked").read_text()
    else:
        assert (ended.returncode, ended.stdout) == (1, "")
        assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("script", ["deploy/etcd-roles.sh", "deploy/fence/ipmi.sh.example", "tools/setup", ".ci/run"])
def test_scripts_can_be_run_and_read(script: str) -> None:
    path = DEPLOY.parent / script
    assert os.access(path, os.X_OK)
    shell = path.read_text().splitlines()[0].split("/")[-1].split()[-1]
    subprocess.run([shell, "-n", str(path)], check=True)
