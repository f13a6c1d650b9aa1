"""The driver for machines without storage: files that are never replaced, lost or mixed up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.adapters.cinder.backend import CinderBackend
from reconciler.runtime.ports import NotOpen, OtherStorage, Retryable, Terminal, Unavailable, VolumeData
from tests.integration.cinder_backends import HOLDER, OTHER_UID, UID, Backends, backends, volume

__all__ = ["backends"]

GIB = 1 << 30
DRIVER = "reconciler.adapters.cinder.file_driver.FileDriver"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def backend(backends: Backends, files: Path) -> CinderBackend:
    backend = backends.make(DRIVER, {"file_driver_folder": str(files)})
    backend.open([])
    return backend


def test_an_ordinary_start_says_nothing(backends: Backends, backend: CinderBackend) -> None:
    backend.create(volume())
    assert backends.log == []


def test_a_volume_is_a_sparse_private_file_of_its_size(backend: CinderBackend, files: Path) -> None:
    backend.create(volume())
    (file,) = files.glob("volume-*")
    assert UID in file.name
    status = file.stat()
    assert (status.st_size, status.st_blocks, status.st_mode & 0o777) == (GIB, 0, 0o600)


def test_conn_info_names_the_file_and_its_true_size(backend: CinderBackend, files: Path) -> None:
    reply = backend.connect(volume(UID, backend.create(volume()), HOLDER), HOLDER)
    (file,) = files.glob("volume-*")
    assert reply.conn_info is not None
    assert reply.conn_info["driver_volume_type"] == "local"
    assert reply.conn_info["data"]["device_path"] == reply.identity == str(file)
    assert reply.conn_info["data"]["size"] == reply.size_bytes == GIB


def test_creating_again_keeps_the_content(backend: CinderBackend, files: Path) -> None:
    backend.create(volume())
    (file,) = files.glob("volume-*")
    write(file, b"precious")
    backend.create(volume())
    assert read(file, 8) == b"precious"


def test_creating_again_after_an_extend_does_not_shrink(backend: CinderBackend, files: Path) -> None:
    reply = backend.create(volume())
    backend.extend(volume(UID, reply), 2)
    backend.create(volume())
    (file,) = files.glob("volume-*")
    assert file.stat().st_size == 2 * GIB


def test_a_volume_that_was_begun_and_is_too_small_is_not_taken_for_created(backend: CinderBackend, files: Path) -> None:
    unheard_of = VolumeData("data", UID, 1 << 34, {}, ())  # GiB: no file system takes such a file
    for _ in range(2):
        with pytest.raises(Retryable):
            backend.create(unheard_of)
    (file,) = files.glob("volume-*")
    assert file.stat().st_size == 0


def test_extending_and_deleting_touch_no_other_volume(backend: CinderBackend, files: Path) -> None:
    first, second = backend.create(volume()), backend.create(volume(OTHER_UID))
    (other,) = (file for file in files.glob("volume-*") if OTHER_UID in file.name)
    write(other, b"precious")
    backend.extend(volume(UID, first), 2)
    backend.delete(volume(UID, first))
    assert list(files.glob("volume-*")) == [other]
    assert (other.stat().st_size, read(other, 8)) == (GIB, b"precious")
    backend.delete(volume(OTHER_UID, second))


def test_a_volume_that_has_vanished_cannot_be_extended_or_connected(backend: CinderBackend, files: Path) -> None:
    reply = backend.create(volume())
    (file,) = files.glob("volume-*")
    file.unlink()
    with pytest.raises(Retryable, match="VolumeNotFound"):
        backend.extend(volume(UID, reply), 2)
    with pytest.raises(Retryable, match="VolumeNotFound"):
        backend.connect(volume(UID, reply, HOLDER), HOLDER)
    assert list(files.glob("volume-*")) == []


def test_a_link_in_place_of_a_volume_is_not_followed(backend: CinderBackend, files: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    backend.create(volume())
    (file,) = files.glob("volume-*")
    file.unlink()
    file.symlink_to(target)
    with pytest.raises(Retryable):
        backend.create(volume())
    assert target.read_bytes() == b"precious"


def test_a_taken_over_file_keeps_its_content_and_gets_whole_gibibytes(backend: CinderBackend, files: Path) -> None:
    write(files / "disk.img", b"precious")
    os.truncate(files / "disk.img", GIB + 1)
    reply = backend.adopt(volume(), {"source-name": "disk.img"})
    (file,) = files.glob("volume-*")
    assert UID in file.name
    assert (reply.size_gib, file.stat().st_size, read(file, 8)) == (2, 2 * GIB, b"precious")


def test_a_file_is_not_taken_over_twice_by_two_volumes(backend: CinderBackend, files: Path) -> None:
    write(files / "disk.img", b"x")
    backend.adopt(volume(), {"source-name": "disk.img"})
    with pytest.raises(Terminal, match=r"there is no file disk\.img"):
        backend.adopt(volume(OTHER_UID), {"source-name": "disk.img"})


def test_a_file_is_not_taken_over_in_place_of_the_one_that_the_volume_has(backend: CinderBackend, files: Path) -> None:
    backend.create(volume())
    write(files / "disk.img", b"precious")
    with pytest.raises(Terminal, match="has another file already"):
        backend.adopt(volume(), {"source-name": "disk.img"})
    assert read(files / "disk.img", 8) == b"precious"


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "", ".hidden", "link", "folder"])
def test_only_files_of_the_folder_can_be_taken_over(backend: CinderBackend, files: Path, name: str) -> None:
    (files.parent / "outside").touch()
    (files / "link").symlink_to(files.parent / "outside")
    (files / "folder").mkdir()
    with pytest.raises(Terminal):
        backend.adopt(volume(), {"source-name": name})


def test_the_free_space_is_real(backend: CinderBackend, files: Path) -> None:
    (pool,) = backend.describe().capacity["pools"]
    space = os.statvfs(files)
    total = space.f_blocks * space.f_frsize / GIB
    assert pool["total_gib"] == pytest.approx(total, abs=0.01)
    assert 0 < pool["free_gib"] < total


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({}, Terminal, "file_driver_folder"),
        ({"file_driver_folder": "/nowhere/at/all"}, Unavailable, "/nowhere/at/all does not exist"),
        ({"file_driver_foldr": "/tmp"}, Terminal, "did you mean file_driver_folder"),
    ],
)
def test_a_wrong_folder_is_named(backends: Backends, options: dict[str, str], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        backends.make(DRIVER, options).open([])
    assert type(caught.value) is kind


def write(path: Path, content: bytes) -> None:
    path.touch()
    with path.open("r+b") as file:
        file.write(content)


def read(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


# --- Whose storage it is -------------------------------------------------------------------------------------------------


def opened(backends: Backends, folder: Path, storage: str, *volumes: VolumeData) -> str:
    return backends.make(DRIVER, {"file_driver_folder": str(folder)}).open(volumes, storage).info.storage


def test_f_d6_a_folder_keeps_its_mark_and_another_has_another(backends: Backends, files: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    mark = opened(backends, files, "")
    assert mark.startswith("files-")
    assert opened(backends, files, mark) == mark
    assert opened(backends, other, mark) != mark  # nothing is recorded, so nothing can be lost
    assert [path.name for path in files.iterdir()] == [".brickwork-storage"]


def test_f_d6_with_volumes_on_another_storage_it_does_not_open_nor_touch_anything(
    backends: Backends, backend: CinderBackend, tmp_path: Path
) -> None:
    made = volume(UID, backend.create(volume()), HOLDER)
    mark = backend.describe().storage
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(OtherStorage, match=f"files-.*1 volume is recorded on {mark}.*brickctl accept") as caught:
        opened(backends, other, mark, made)
    assert caught.value.found.startswith("files-")
    assert caught.value.found != mark
    assert [path.name for path in other.iterdir()] == [".brickwork-storage"]
    opened(backends, other, caught.value.found, made)  # accepted


def test_f_d6_a_folder_that_lost_its_mark_is_another_storage(
    backends: Backends, backend: CinderBackend, files: Path
) -> None:
    """As a mount point is whose share is not mounted."""
    made = volume(UID, backend.create(volume()))
    mark = backend.describe().storage
    (files / ".brickwork-storage").unlink()
    assert backend.describe().storage != mark
    with pytest.raises(OtherStorage):
        opened(backends, files, mark, made)


def test_f_d6_a_folder_that_is_another_meanwhile_is_not_worked_in(backend: CinderBackend, files: Path) -> None:
    """Before anybody has looked at the mark again, and right after, a volume that is not there is not deleted, and none is made."""
    made = volume(UID, backend.create(volume()))
    other = volume(OTHER_UID)
    aside = files.rename(files.with_name("aside"))
    files.mkdir()
    for _ in range(2):
        with pytest.raises(NotOpen, match=r"the storage is files-.* now, and was files-"):
            backend.delete(made)
        with pytest.raises(NotOpen):
            backend.create(other)
        backend.describe()
    assert [path.name for path in files.iterdir()] == [".brickwork-storage"]
    assert any(UID in path.name for path in aside.iterdir())
    (files / ".brickwork-storage").write_text("somebody's")
    with pytest.raises(NotOpen, match="is not the mark"):  # and no refusal of the driver's, which would be final
        backend.create(other)


def test_f_d6_before_anything_was_noted_a_storage_with_none_of_the_volumes_is_another(
    backends: Backends, backend: CinderBackend, files: Path, tmp_path: Path
) -> None:
    """An upgrade, with records of an older version: the host whose disk has the volumes is the right one."""
    made = volume(UID, backend.create(volume()))
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(OtherStorage, match="has none of them"):
        opened(backends, other, "", made)
    assert opened(backends, files, "", made) == backend.describe().storage


def test_f_d6_a_mark_that_somebody_wrote_over_is_named(backends: Backends, files: Path) -> None:
    (files / ".brickwork-storage").write_text("mine")
    with pytest.raises(Terminal, match="brickwork-storage is not the mark"):
        opened(backends, files, "")
