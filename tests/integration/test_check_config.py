"""F-B5: `--check-config` finds what the running controller would find when it opens its backends."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemons.commandline import settings_from
from daemons.process import Exit

CINDER = "cinder.volume.drivers"
FILES = "{driver: reconciler.adapters.cinder.file_driver.FileDriver, options: {file_driver_folder: FOLDER}}"


def checked(folder: Path, capsys: pytest.CaptureFixture[str], backends: str, *more: str) -> tuple[object, list[str]]:
    """The exit code, and what was told."""
    file = folder / "settings.yaml"
    file.touch(mode=0o600)
    (folder / "files").mkdir(mode=0o700, exist_ok=True)
    file.write_text(f"state_folder: {folder}/state\nbackends:\n{backends}".replace("FOLDER", f"{folder}/files"))
    with pytest.raises(SystemExit) as ended:
        settings_from("controller", ["--config", str(file), "--check-config", *more], {})
    return ended.value.code, capsys.readouterr().err.splitlines()


def test_each_backend_that_cannot_be_used_here_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = checked(
        tmp_path,
        capsys,
        f"  good: {FILES}\n"
        f"  class: {{driver: {CINDER}.lvm.LVMVolumDriver}}\n"
        f"  option: {{driver: {CINDER}.nfs.NfsDriver, options: {{nfs_mount_point_bse: /x}}}}\n"
        f"  sdk: {{driver: {CINDER}.pure.PureISCSIDriver}}\n"
        f"  program: {{driver: {CINDER}.ibm.gpfs.GPFSDriver}}\n"
        f"  file: {{driver: {CINDER}.nfs.NfsDriver, options: {{nfs_shares_config: /no/where}}}}\n"
        f"  secrets: {{driver: {CINDER}.nfs.NfsDriver, secrets_file: {tmp_path}/none.yaml}}\n",
    )
    assert code == Exit.SETTINGS
    for words in (
        "backends.class: driver cinder.volume.drivers.lvm.LVMVolumDriver cannot be imported",
        "backends.option: unknown option nfs_mount_point_bse; did you mean nfs_mount_point_base",
        "backends.sdk: driver pure.PureISCSIDriver needs pypureclient",
        "backends.program: the program mmgetstate is missing: install Spectrum Scale",
        "backends.file: option nfs_shares_config: /no/where does not exist",
        f"backends.secrets: {tmp_path}/none.yaml cannot be read: No such file or directory",
    ):
        assert [line for line in told if line.startswith(f"brickwork-controller: {words}")], (words, told)
    assert not [line for line in told if "backends.good" in line]


@pytest.mark.parametrize("more", [(), ("--open",)])
def test_a_backend_that_can_be_used_is_ok(
    more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(tmp_path, capsys, f"  good: {FILES}\n", *more) == (Exit.OK, ["brickwork-controller: ok"])
    assert not list(tmp_path.glob("state/child-*"))


def test_open_tells_what_the_set_up_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = FILES.replace("FOLDER", "/proc/no/where")
    assert checked(tmp_path, capsys, f"  bad: {bad}\n")[0] == Exit.OK
    code, told = checked(tmp_path, capsys, f"  bad: {bad}\n", "--open")
    assert (code, len(told)) == (Exit.SETTINGS, 1)
    assert told[0].startswith("brickwork-controller: backends.bad: the driver's ")
