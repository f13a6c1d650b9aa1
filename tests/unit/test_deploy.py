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

MOUNT_NAMESPACE = {
    "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectKernelTunables",
    "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProtectHostname", "ReadOnlyPaths",
    "ReadWritePaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "TemporaryFileSystem", "BindPaths", "RootDirectory",
    "DynamicUser", "MountFlags",
}  # fmt: skip
"""Options with which what the unit mounts can't be seen by the rest of the host (systemd.exec, "Sandboxing")."""


class Unit:
    """A unit file: options and their last values."""

    def __init__(self, kind: Kind) -> None:
        self.path = DEPLOY / f"brickwork-{kind}.service"
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(self.path)
        self.service = dict(parser["Service"])


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_daemon_starts_only_when_all_of_the_old_one_is_dead(kind: Kind) -> None:
    service = Unit(kind).service
    assert service["KillMode"] == "control-group"
    assert service["SendSIGKILL"] == "yes"
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(int(Exit.SETTINGS))


@pytest.mark.parametrize("kind", KINDS)
def test_the_unit_keeps_what_the_settings_expect_where_they_expect_it(kind: Kind) -> None:
    service = Unit(kind).service
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


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("kind", KINDS)
def test_systemd_understands_the_unit(kind: Kind, tmp_path: Path) -> None:
    """With a program that exists, since Brickwork is not installed where the tests run."""
    unit = tmp_path / f"brickwork-{kind}.service"
    unit.write_text(Unit(kind).path.read_text().replace(f"/opt/brickwork/.venv/bin/brickwork-{kind}", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wheel_brings_all_that_is_in_deploy() -> None:
    """F-C20: who installs without a checkout finds units, roles and examples below share/brickwork."""
    root = DEPLOY.parent
    data_files = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    brought = {path for globs in data_files.values() for glob in globs for path in root.glob(glob)}
    assert brought == {path for path in DEPLOY.rglob("*") if path.is_file()}


@pytest.mark.parametrize("script", ["deploy/etcd-roles.sh", "deploy/fence/ipmi.sh.example", "tools/setup", ".ci/run"])
def test_scripts_can_be_run_and_read(script: str) -> None:
    path = DEPLOY.parent / script
    assert os.access(path, os.X_OK)
    shell = path.read_text().splitlines()[0].split("/")[-1].split()[-1]
    subprocess.run([shell, "-n", str(path)], check=True)
