"""Who a daemon is: its node, its boot, that it is alone, and that the installation is ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import schema
from daemons import schema_refusal
from daemons.identity import Instance, boot_id, kernel_boot_id, mint, node_id, private_folder, trusted_folder
from daemons.process import Exit, Refused

# --- the node id


def test_the_host_name_at_first_start_is_kept_when_the_host_is_renamed(tmp_path: Path) -> None:
    assert node_id(tmp_path, None, "web-1") == "web-1"
    assert node_id(tmp_path, None, "web-2") == "web-1"


def test_a_configured_id_goes_before_the_host_name_and_is_kept(tmp_path: Path) -> None:
    assert node_id(tmp_path, "rack-7", "web-1") == "rack-7"
    assert node_id(tmp_path, None, "web-1") == "rack-7"
    assert node_id(tmp_path, "rack-7", "web-1") == "rack-7"


def test_another_configured_id_is_refused_while_the_old_one_is_kept(tmp_path: Path) -> None:
    node_id(tmp_path, None, "web-1")
    with pytest.raises(Refused, match=r"call this host 'web-2', but it has been the node 'web-1'.*Take `node` out"):
        node_id(tmp_path, "web-2", "web-1")


@pytest.mark.parametrize("hostname", ["localhost", "LOCALHOST.localdomain", "", "a/b", "(none)"])
def test_a_host_without_a_name_of_its_own_is_told_to_set_one(tmp_path: Path, hostname: str) -> None:
    with pytest.raises(Refused, match=r"[sS]et `node` in the settings"):
        node_id(tmp_path, None, hostname)
    assert not (tmp_path / "node-id").exists()


def test_a_damaged_id_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "node-id").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="can't be read"):
        node_id(tmp_path, "web-1", "web-1")
    (tmp_path / "node-id").write_text("")
    with pytest.raises(Refused, match="holds no node id"):
        node_id(tmp_path, "web-1", "web-1")


# --- the boot id


def test_a_boot_has_one_id_through_all_restarts_of_the_daemon(tmp_path: Path) -> None:
    first = boot_id(tmp_path, "kernel-1")
    assert boot_id(tmp_path, "kernel-1") == first


def test_a_reboot_makes_a_new_boot_although_the_folder_outlived_it(tmp_path: Path) -> None:
    first = boot_id(tmp_path, "kernel-1")
    second = boot_id(tmp_path, "kernel-2")
    assert second != first
    assert boot_id(tmp_path, "kernel-2") == second


def test_minting_ends_the_boot_within_one_life_of_the_kernel(tmp_path: Path) -> None:
    first = boot_id(tmp_path, "kernel-1")
    second = mint(tmp_path, "kernel-1")
    assert second != first
    assert boot_id(tmp_path, "kernel-1") == second


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kernel": "kernel-1"}', '{"kernel": "kernel-1", "boot": 7}'])
def test_a_boot_file_that_says_nothing_stops_the_daemon_instead_of_ending_the_boot(tmp_path: Path, text: str) -> None:
    (tmp_path / "boot.json").write_text(text)
    with pytest.raises(Refused, match="which devices are of this boot"):
        boot_id(tmp_path, "kernel-1")
    assert (tmp_path / "boot.json").read_text() == text


def test_an_id_that_can_not_be_kept_is_not_given_out(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="can't be written: No such file or directory"):
        mint(tmp_path / "missing", "kernel-1")


def test_a_crash_while_minting_leaves_the_old_boot(tmp_path: Path) -> None:
    first = boot_id(tmp_path, "kernel-1")
    (tmp_path / "boot.json.new").write_text('{"kern')
    assert boot_id(tmp_path, "kernel-1") == first
    assert mint(tmp_path, "kernel-1") == boot_id(tmp_path, "kernel-1")


def test_the_kernel_tells_its_boot() -> None:
    assert kernel_boot_id() == kernel_boot_id() != ""


# --- alone


def test_a_second_daemon_on_the_same_folder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    first = Instance(tmp_path)
    with pytest.raises(Refused, match=rf"another daemon uses {tmp_path} \(pid {os.getpid()}\)"):
        Instance(tmp_path)
    first.close()
    Instance(tmp_path).close()


def test_the_right_ends_with_the_process_and_not_with_its_children(tmp_path: Path) -> None:
    script = (
        "import os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from daemons.identity import Instance\n"
        f"instance = Instance(Path({str(tmp_path)!r}))\n"
        "child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        child = int(daemon.stdout.readline())
        daemon.wait()
    Instance(tmp_path).close()
    os.kill(child, 9)


def test_the_state_folder_is_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert private_folder(folder).stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    assert private_folder(folder).stat().st_mode & 0o777 == 0o700


def test_a_state_folder_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="can't be used: Not a directory"):
        private_folder(tmp_path / "file" / "state")


# --- ours


def test_our_schema_is_accepted_and_another_is_not() -> None:
    assert schema_refusal(schema) is None
    other = SimpleNamespace(__file__="/venv/site-packages/schema.py")
    assert "comes from /venv/site-packages/schema.py" in (schema_refusal(other) or "")
    assert "a folder without __init__.py" in (schema_refusal(SimpleNamespace()) or "")


def test_a_daemon_refuses_to_start_when_another_distribution_took_the_name_schema(tmp_path: Path) -> None:
    (tmp_path / "schema.py").write_text("class Schema: pass\n")
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import daemons.settings"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.REFUSED
    assert done.stderr.startswith(
        f"brickwork: the Python package 'schema' is not Brickwork's: it comes from {tmp_path}"
    )
    assert "Traceback" not in done.stderr


# --- folders that root works in (F-K10)


@pytest.mark.parametrize(
    ("mode", "why"), [(0o1777, "everybody may write to it"), (0o777, "everybody may write to it"), (0o703, "everybody")]
)
def test_a_folder_that_everybody_may_write_to_is_refused(tmp_path: Path, mode: int, why: str) -> None:
    folder = tmp_path / "locks"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(Refused, match=rf"^lock_path: {folder}: {why}.*chmod o-w"):
        trusted_folder("lock_path", folder)


def test_a_folder_in_one_that_everybody_may_write_to_is_refused_unless_nobody_can_move_it(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(0o777)
    with pytest.raises(Refused, match=f"which is in {above}: everybody may write to it"):
        trusted_folder("lock_path", above / "locks")
    above.chmod(0o1777)
    trusted_folder("lock_path", above / "locks")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused_also_behind_a_link(tmp_path: Path) -> None:
    folder, link = tmp_path / "theirs", tmp_path / "locks"
    folder.mkdir()
    link.symlink_to(folder)
    trusted_folder("lock_path", link)
    os.chown(folder, 12345, 12345)
    for place in (folder, link):
        with pytest.raises(Refused, match="belongs to user 12345"):
            trusted_folder("lock_path", place)
    os.chown(folder, 0, 0)
    os.chown(link, 12345, 12345, follow_symlinks=False)
    with pytest.raises(Refused, match="belongs to user 12345"):
        trusted_folder("lock_path", link)


def test_a_folder_is_made_for_others_to_look_into(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        trusted_folder("link_folder", tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o755, 0o755]
