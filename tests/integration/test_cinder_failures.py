"""What goes wrong with a backend is told at once, in words that name the remedy, and without secrets."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.cinder.backend import BackendSettings
from reconciler.runtime.ports import PortError, Retryable, Terminal, Unavailable
from tests.integration.cinder_backends import HOLDER, UID, Backends, backends, volume

__all__ = ["backends"]

CINDER = "cinder.volume.drivers"
NOOP = "reconciler.adapters.cinder.noop_driver.NoopDriver"
CANARY = "c4n$ary"


def refusal(backends: Backends, *args: Any, **settings: Any) -> PortError:
    """What `open` raises."""
    with pytest.raises(PortError) as caught:
        backends.make(*args, **settings).open([])
    return caught.value


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        (f"{CINDER}.pure.PureISCSIDriver", {}, "needs pypureclient.*pip install py-pure-client"),
        (f"{CINDER}.rbd.RBDDriver", {}, "needs rados, rbd.*python3-rados"),
        (f"{CINDER}.lvm.LVMVolumDriver", {}, "did you mean cinder.volume.drivers.lvm.LVMVolumeDriver"),
        ("nowhere.at.All", {}, "No module named 'nowhere'"),
        (
            f"{CINDER}.nfs.NfsDriver",
            {"nfs_mount_point_bse": "/x"},
            "did you mean nfs_mount_point_base.*nas_host, nas_login",
        ),
        (f"{CINDER}.nfs.NfsDriver", {"nfs_sparsed_volumes": "maybe"}, "'maybe', but must be true or false"),
        (NOOP, {"noop_journal": "$nosuch"}, "noop_journal: a \\$ refers to another option"),
        (f"{CINDER}.qnap.QnapISCSIDriver", {}, "set enable_unsupported"),
    ],
)
def test_what_somebody_has_to_change_is_named(
    backends: Backends, driver: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(Terminal, match=words):
        backends.make(driver, options).open([])


def test_a_renamed_driver_is_found_by_its_former_name(backends: Backends) -> None:
    error = refusal(backends, f"{CINDER}.dell_emc.vmax.iscsi.VMAXISCSIDriver")
    assert "cannot be imported" not in str(error)


def test_an_array_that_is_away_makes_the_backend_unavailable(backends: Backends) -> None:
    options = {"san_ip": "127.0.0.1", "san_login": "admin", "san_password": CANARY}
    error = refusal(backends, f"{CINDER}.dell_emc.powerstore.driver.PowerStoreDriver", options)
    assert isinstance(error, Unavailable)
    assert "check_for_setup_error failed: ConnectionError" in str(error)
    assert CANARY not in str(error) + "".join(backends.log)


@pytest.mark.parametrize(
    ("failpoint", "where"),
    [
        ("do_setup:fail", "do_setup failed"),
        ("check_for_setup_error:exit", "check_for_setup_error failed: SystemExit"),
        ("get_volume_stats:fail", "init_capabilities failed"),
        ("do_setup:die", "SIGSEGV"),
    ],
)
def test_a_set_up_that_fails_says_where(backends: Backends, failpoint: str, where: str) -> None:
    error = refusal(backends, NOOP, {"noop_failpoints": [failpoint]})
    assert isinstance(error, Unavailable)
    assert where in str(error)


def test_a_set_up_that_hangs_ends_at_its_deadline(backends: Backends) -> None:
    backend = backends.make(NOOP, {"noop_failpoints": ["do_setup:hang"]}, deadlines_s={"open": 2})
    with pytest.raises(Unavailable, match="within 2 s"):
        backend.open([])
    with pytest.raises(Unavailable):
        backend.describe()


def test_a_volume_whose_export_cannot_be_restored_does_not_hold_up_the_backend(backends: Backends) -> None:
    backend = backends.make(NOOP, {"noop_failpoints": ["ensure_export:fail"]})
    backend.open([volume(UID, None, HOLDER)])
    assert any("could not be restored" in line for line in backends.log)
    backend.describe()


def test_a_driver_that_exits_is_an_error_and_ends_nothing(backends: Backends) -> None:
    backend = backends.make(NOOP, {"noop_failpoints": ["create_volume:exit"]})
    backend.open([])
    with pytest.raises(Retryable, match="SystemExit"):
        backend.create(volume())
    backend.describe()


# --- Secrets -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.yaml"
    path.write_text(f"noop_password: {CANARY}\n")
    path.chmod(0o600)
    return path


def test_secrets_that_others_may_read_are_refused(backends: Backends, secrets: Path) -> None:
    secrets.chmod(0o640)
    error = refusal(backends, NOOP, secrets_file=secrets)
    assert isinstance(error, Terminal)
    assert f"chmod 600 {secrets}" in str(error)


def test_a_secret_is_in_no_error_log_process_list_environment_or_file(
    backends: Backends, secrets: Path, tmp_path: Path
) -> None:
    options = {"noop_failpoints": ["create_volume:fail"], "noop_journal": str(tmp_path / "journal")}
    backend = backends.make(NOOP, options, secrets_file=secrets, debug=True)
    backend.open([])
    assert f'"password_hash": "{_hash(CANARY)}"' in (tmp_path / "journal").read_text()
    with pytest.raises(Retryable, match=r"login with \*\*\*"):
        backend.create(volume())
    shown = "".join(backends.log).encode()
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        for what in ("cmdline", "environ"):
            try:
                shown += Path(f"/proc/{pid}/{what}").read_bytes()
            except OSError:
                continue  # it ended
    for path in tmp_path.rglob("*"):
        if path.is_file() and path != secrets:
            shown += path.read_bytes()
    assert CANARY.encode() not in shown


# --- An existing cinder.conf ---------------------------------------------------------------------------------------------

CINDER_CONF = """
[DEFAULT]
enabled_backends = lvm
host = some-controller
transport_url = rabbit://somebody:something@rabbit
log_file = /nowhere/cinder.log
[database]
connection = mysql+pymysql://cinder:secret@db/cinder
[coordination]
backend_url = etcd3+http://etcd:2379
[gold]
volume_driver = reconciler.adapters.cinder.noop_driver.NoopDriver
volume_backend_name = gold-backend
noop_journal = $state_path/journal
noop_password = c4n$$ary
leftover_option = 1
[broken]
volume_driver = reconciler.adapters.cinder.noop_driver.NoopDriver
noop_number = many
"""


@pytest.fixture
def cinder_conf(tmp_path: Path) -> Path:
    path = tmp_path / "cinder.conf"
    path.touch(mode=0o600)
    path.write_text(CINDER_CONF)
    return path


def test_a_section_of_a_cinder_conf_is_taken_as_it_is(backends: Backends, cinder_conf: Path, tmp_path: Path) -> None:
    backend = backends.make(cinder_conf=cinder_conf, section="gold")
    backend.open([])
    backend.create(volume())
    assert f'"password_hash": "{_hash(CANARY)}"' in (tmp_path / "journal").read_text()
    assert any("nobody reads option leftover_option" in line for line in backends.log)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("silver", "has no section \\[silver\\]"),
        ("glod", "did you mean \\[gold\\]"),
        ("broken", "noop_number must be a whole number"),
    ],
)
def test_a_wrong_section_is_named(backends: Backends, cinder_conf: Path, section: str, words: str) -> None:
    with pytest.raises(Terminal, match=words):
        backends.make(cinder_conf=cinder_conf, section=section).open([])


def test_a_cinder_conf_with_secrets_that_others_can_read_is_refused(backends: Backends, cinder_conf: Path) -> None:
    """F-K9. Whatever section they are in: it is the file that should be private."""
    cinder_conf.chmod(0o644)
    with pytest.raises(
        Terminal, match=r"holds secrets \(\[\w+\] \w+\) and can be read by others .*: chmod 640"
    ) as told:
        backends.make(cinder_conf=cinder_conf, section="gold").open([])
    assert "c4n" not in str(told.value)
    assert "something" not in str(told.value)
    cinder_conf.write_text(re.sub(r".*(://\w+:|password).*\n", "", CINDER_CONF))
    backends.make(cinder_conf=cinder_conf, section="gold").open([])


def test_a_missing_cinder_conf_is_named(backends: Backends, tmp_path: Path) -> None:
    with pytest.raises(Terminal, match="cannot be read"):
        backends.make(cinder_conf=tmp_path / "absent").open([])


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"driver": NOOP, "cinder_conf": "/etc/cinder/cinder.conf"},
        {"cinder_conf": "/etc/cinder/cinder.conf", "options": {"a": 1}},
        {"driver": NOOP, "section": "gold"},
        {"driver": NOOP, "concurrency": 0},
        {"driver": NOOP, "deadlines_s": {"open": 0}},
        {"driver": NOOP, "typo": 1},
        {"driver": NOOP, "name": "a/b"},
    ],
)
def test_settings_that_contradict_themselves_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        BackendSettings.model_validate({"name": "tested", **wrong})


def _hash(text: str) -> str:
    """As the driver writes it into its journal."""
    return hashlib.sha256(text.encode()).hexdigest()


def test_f_d6_a_volume_whose_export_is_not_found_is_deleted_all_the_same(backends: Backends, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    backend = backends.make(NOOP, {"noop_failpoints": ["remove_export:NotFound"], "noop_journal": str(journal)})
    backend.open([])
    backend.delete(volume())
    assert '"delete_volume"' in journal.read_text()


def test_f_d6_what_is_missing_besides_the_volume_makes_no_call_count_as_done(backends: Backends) -> None:
    """A settings file of the driver's that is not there any more: nothing was unmapped, nothing deleted."""
    calls = ("terminate_connection", "remove_export", "delete_volume")
    backend = backends.make(NOOP, {"noop_failpoints": [f"{call}:ConfigNotFound:1" for call in calls]})
    backend.open([])
    held = volume(UID, backend.create(volume()), HOLDER)
    for call in (
        lambda: backend.terminate(held, HOLDER),
        lambda: backend.unexport(held),
        lambda: backend.delete(volume()),
    ):
        with pytest.raises(Retryable, match="ConfigNotFound"):
            call()
        call()


def test_a_volume_that_is_not_found_is_unmapped_and_deleted(backends: Backends) -> None:
    calls = ("terminate_connection", "remove_export", "delete_volume")
    backend = backends.make(NOOP, {"noop_failpoints": [f"{call}:VolumeNotFound" for call in calls]})
    backend.open([])
    held = volume(UID, backend.create(volume()), HOLDER)
    backend.terminate(held, HOLDER)
    backend.unexport(held)
    backend.delete(volume())
