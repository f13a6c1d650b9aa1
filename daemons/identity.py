"""Who this daemon is: its node id, its boot, and that it is the only one.

A *node id* is chosen once and kept in the state folder, because everything in etcd hangs on it: a changed host name must not
make a new node while the old one's devices are still here.

A *boot* is one life of the node. Its id is minted at boot and again after a fenced boot was cleaned, and lies in a folder that
a reboot empties; beside it stands the kernel's own boot id, in case the folder outlives a reboot after all. An epoch belongs
to one boot (PROTOCOL R5, R7), so the file is made durable before anybody hears of the id.

Doubt is never resolved by inventing an id: a boot file that can't be read stops the daemon, since a new id would make it take
down the devices of the boot that it forgot.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from pathlib import Path

from daemons.process import Refused
from reconciler.core.modes import lets_others_in
from reconciler.runtime.ports import StoreMark
from schema.keys import BadName, check_name

KERNEL_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_NO_NAMES = ("localhost", "localhost.localdomain", "(none)")
"""What hosts are called before anybody named them: many hosts at once would be one node."""


def node_id(state_folder: Path, configured: str | None, hostname: str) -> str:
    """The kept id; at first start the configured one, else the host's name, which is kept from then on.

    Raises:
        Refused: the settings name another node than the one that this host has been, or no usable name can be had.
    """
    file = state_folder / "node-id"
    kept = read(file).strip() if file.exists() else None
    if kept is None:
        chosen = configured or _from_hostname(hostname)
        write(file, chosen + "\n")
        return chosen
    try:
        check_name("node", kept)
    except BadName as fault:
        raise Refused(
            f"{file} holds no node id ({fault}). Write this host's id into it, as it is known in etcd"
        ) from None
    if configured not in (None, kept):
        raise Refused(
            f"the settings call this host {configured!r}, but it has been the node {kept!r} (kept in {file}), and its "
            f"devices belong to that node. Take `node` out of the settings; or, once every attachment of {kept!r} is "
            f"detached, remove {file}"
        )
    return kept


def _from_hostname(hostname: str) -> str:
    try:
        check_name("host name", hostname)
    except BadName as fault:
        raise Refused(f"the host name can't be the node id: {fault}. Set `node` in the settings") from None
    if hostname.lower() in _NO_NAMES:
        raise Refused(f"the host is called {hostname!r}, as others are too. Name it, or set `node` in the settings")
    return hostname


def kernel_boot_id(file: Path = KERNEL_BOOT_ID) -> str:
    """The kernel's id of this boot."""
    return read(file).strip()


def boot_id(run_folder: Path, kernel: str) -> str:
    """This boot's id. Minted when there is none yet, or when the kernel has been started anew.

    Raises:
        Refused: the file is there but can't be read or understood.
    """
    file = _boot_file(run_folder)
    if not file.exists():
        return mint(run_folder, kernel)
    try:
        stored = json.loads(read(file))
        kernel_then, boot = stored["kernel"], check_name("boot", stored["boot"])
    except (ValueError, TypeError, KeyError):
        raise Refused(
            f"{file} can't be understood, and without it nobody knows which devices are of this boot. Reboot the host; or "
            f"remove the file, which counts as a reboot: every device is detached, then attached anew"
        ) from None
    return boot if kernel_then == kernel else mint(run_folder, kernel)


def mint(run_folder: Path, kernel: str) -> str:
    """A new boot id, durable when this returns. Called at boot, and after a fenced boot was cleaned (PROTOCOL R7)."""
    boot = secrets.token_hex(8)
    write(_boot_file(run_folder), json.dumps({"kernel": kernel, "boot": boot}) + "\n")
    return boot


def _boot_file(run_folder: Path) -> Path:
    return run_folder / "boot.json"


def private_folder(folder: Path) -> Path:
    """Make the folder if need be, and make sure that only we can look into it: connection data with secrets lie there.

    Raises:
        Refused: it can't be made, or somebody else owns it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise Refused(f"{folder} belongs to user {found.st_uid}, and this is user {os.geteuid()}: chown it")
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise Refused(f"{folder} can't be used: {error.strerror}") from error
    return folder


def trusted_folder(name: str, folder: Path) -> None:
    """Make the folder if need be. Root works in it, so nobody else may put files there, or a link in its place.

    Args:
        name: of the setting.

    Raises:
        Refused: others could; says how, and what to do.
    """
    try:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir()
            each.chmod(0o755)  # what is in it may be for others: the links of volumes are
        for place in {folder, folder.resolve()}:
            for each in (place, *place.parents):
                found = each.lstat()
                if stat.S_ISLNK(found.st_mode):
                    found = os.stat_result((found.st_mode & ~0o7777, *found[1:]))  # a link's mode says nothing
                if why := lets_others_in(found.st_mode, found.st_uid, os.geteuid(), itself=each == place):
                    above = "" if each == place else f", which is in {each}"
                    raise Refused(
                        f"{name}: {folder}{above}: {why}, and this daemon would trust files that others put there: choose a "
                        f"folder of root's, or chown root {each} && chmod o-w {each}"
                    )
    except OSError as error:
        raise Refused(f"{name}: {folder} can't be used: {error.strerror}") from error


class Instance:
    """The right to be the only daemon on a state folder, until `close` or the end of the process (however it ends)."""

    def __init__(self, state_folder: Path) -> None:
        """
        Raises:
            Refused: another process has it; names that process.
        """
        self._file = state_folder / "lock"
        try:
            self._fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Refused(f"{self._file} can't be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.read(self._fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise Refused(
                f"another daemon uses {state_folder} (pid {other}). Stop it, or give this one its own state_folder"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        os.close(self._fd)


class FileStoreMemory:
    """`ports.StoreMemory`: a file in the state folder."""

    def __init__(self, state_folder: Path) -> None:
        self._file = state_folder / "store.json"

    def load(self) -> StoreMark | None:
        """
        Raises:
            Refused: the file is there but can't be read or understood.
        """
        if not self._file.exists():
            return None
        try:
            stored = json.loads(read(self._file))
            return StoreMark(str(stored["cluster"]), int(stored["revision"]), bool(stored["accepted"]))
        except (ValueError, TypeError, KeyError):
            raise Refused(
                f"{self._file} can't be understood, so nobody knows whether etcd is the store that it was. If it is for certain: "
                f"start once with --accept-store"
            ) from None

    def save(self, mark: StoreMark) -> None:
        write(self._file, json.dumps(mark._asdict()) + "\n")


def read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{file} can't be read: {error}") from error


def write(file: Path, text: str) -> None:
    """All or nothing, and durable: a half-written or forgotten id would be worse than none."""
    fresh = file.with_name(file.name + ".new")
    try:
        with fresh.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Refused(f"{file} can't be written: {error.strerror}") from error
