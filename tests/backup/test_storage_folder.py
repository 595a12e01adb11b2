"""A folder as the storage: durable, whole or not at all, and no way out of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from quorumvault.backup.errors import (
    Damaged,
    NotThere,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnreachable,
)
from quorumvault.backup.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = "qv1-00ff/chunks/ab/abcdef"
AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]


def names(storage: Storage) -> set[str]:
    return {stored.name for stored in storage.list("")}


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run([*AS_ROOT, "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*AS_ROOT, "umount", folder], check=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def storage(root: Path) -> Storage:
    return Storage(str(root))


# ---------------------------------------------------------------- where it is


def test_only_the_owner_can_look_inside(storage: Storage, root: Path) -> None:
    before = os.umask(0)
    try:
        storage.put(CHUNK, b"1")
    finally:
        os.umask(before)
    assert (root / CHUNK).stat().st_mode & 0o777 == 0o600
    for folder in (root, *(root / CHUNK).parents[: len(CHUNK.split("/")) - 1]):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_path_a_relative_path_and_a_file_url_are_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Storage("with space").put(CHUNK, b"1")
    for url in (str(tmp_path / "with space"), f"file://{tmp_path}/with%20space", "~/with space"):
        assert Storage(url).get(CHUNK, 1) == b"1"
        assert Storage(url).shown == str(tmp_path / "with space")


def test_a_relative_storage_stays_where_it_was_when_the_process_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    storage = Storage("storage")
    monkeypatch.chdir(tmp_path / "elsewhere")
    storage.put(CHUNK, b"1")
    assert (tmp_path / "storage" / CHUNK).exists()


def test_a_missing_parent_is_a_disk_that_is_not_connected(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "usb" / "backups"))
    with pytest.raises(StorageUnreachable, match="is the disk connected"):
        storage.put(CHUNK, b"1")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_named_and_kept(root: Path, storage: Storage) -> None:
    root.write_bytes(b"not a folder")
    with pytest.raises(StorageError, match="something else is in its place"):
        storage.put(CHUNK, b"1")
    assert root.read_bytes() == b"not a folder"


# ---------------------------------------------------------------- symlinks and strange files


def test_the_storage_may_be_a_symlink_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "storage").symlink_to("real")
    Storage(str(tmp_path / "storage")).put(CHUNK, b"1")
    assert (tmp_path / "real" / CHUNK).read_bytes() == b"1"


def test_a_symlink_to_nowhere_is_an_error_not_a_loop(tmp_path: Path) -> None:
    (tmp_path / "storage").symlink_to("nowhere")
    with pytest.raises(StorageUnreachable, match="symlink to what does not exist"):
        Storage(str(tmp_path / "storage")).put(CHUNK, b"1")


def test_a_symlink_inside_leads_nowhere(tmp_path: Path, storage: Storage, root: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "ab").mkdir(parents=True)
    (outside / "ab" / "abcdef").write_bytes(b"the owner's")
    storage.put("qv1-00ff/chunks/00/a", b"1")
    (root / "qv1-00ff/chunks/ab").symlink_to(outside / "ab")
    (root / "qv1-00ff/chunks/00/link").symlink_to(outside / "ab" / "abcdef")
    with pytest.raises(StorageError):
        storage.put(CHUNK, b"evil")
    with pytest.raises(StorageError):
        storage.get(CHUNK, 100)
    with pytest.raises(StorageError):
        storage.get("qv1-00ff/chunks/00/link", 100)
    with contextlib.suppress(StorageError):
        storage.delete([CHUNK])
    assert names(storage) == {"qv1-00ff/chunks/00/a"}
    assert (outside / "ab" / "abcdef").read_bytes() == b"the owner's"


def test_a_symlink_in_an_objects_place_is_replaced_not_followed(
    tmp_path: Path, storage: Storage, root: Path
) -> None:
    (tmp_path / "outside").write_bytes(b"the owner's")
    (root / CHUNK).parent.mkdir(parents=True)
    (root / CHUNK).symlink_to(tmp_path / "outside")
    storage.put(CHUNK, b"1")
    assert storage.get(CHUNK, 1) == b"1"
    assert (tmp_path / "outside").read_bytes() == b"the owner's"


def test_a_pipe_in_an_objects_place_is_damage_and_nothing_waits_for_it(
    storage: Storage, root: Path
) -> None:
    (root / CHUNK).parent.mkdir(parents=True)
    os.mkfifo(root / CHUNK)
    with pytest.raises(Damaged, match="is not a file"):
        storage.get(CHUNK, 10)
    assert storage.size(CHUNK) is None
    assert names(storage) == set()


def test_files_of_other_people_are_neither_listed_nor_removed(storage: Storage, root: Path) -> None:
    storage.put(CHUNK, b"1")
    others = [root / "qv1-00ff" / "my notes.txt", root / ".hidden", root / "qv1-00ff/chunks/ab/ä"]
    for path in others:
        path.write_bytes(b"1")
    assert names(storage) == {CHUNK}
    storage.delete([CHUNK])
    assert all(path.exists() for path in others)


# ---------------------------------------------------------------- kills and power cuts

WRITER = """
import sys
from quorumvault.backup.storage import Storage

class Pipe:
    def tell(self): return 0
    def seek(self, place): pass
    def read(self, size): return sys.stdin.buffer.read(size)

Storage(sys.argv[1]).put_from(sys.argv[2], Pipe(), 2_000_000)
"""


@contextlib.contextmanager
def half_written(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has written half an object and waits for the rest."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), CHUNK], stdin=subprocess.PIPE
    ) as writer:
        assert writer.stdin is not None
        writer.stdin.write(bytes(1 << 20))
        writer.stdin.flush()
        while not any(part.stat().st_size for part in root.rglob(".qv-*.part")):
            assert writer.poll() is None
        yield writer
        if writer.poll() is None:
            writer.send_signal(signal.SIGKILL)


def test_a_killed_write_is_not_seen_and_is_swept(root: Path, storage: Storage) -> None:
    storage.put(CHUNK, b"whole")
    with half_written(root) as writer:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert len(list(root.rglob(".qv-*"))) == 1
    assert storage.get(CHUNK, 10) == b"whole"
    assert [(stored.name, stored.size) for stored in storage.list("")] == [(CHUNK, 5)]
    assert storage.sweep() == 1
    assert list(root.rglob(".qv-*")) == []
    assert storage.sweep() == 0


def test_the_part_of_a_writer_at_work_is_not_swept(root: Path, storage: Storage) -> None:
    with half_written(root) as writer:
        assert storage.sweep() == 0
        assert writer.stdin is not None
        writer.stdin.write(bytes(951_424))
        writer.stdin.close()
        assert writer.wait() == 0
    assert storage.size(CHUNK) == 2_000_000


def test_a_removal_takes_leftovers_of_killed_writes_along(root: Path, storage: Storage) -> None:
    with half_written(root) as writer:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    storage.put(CHUNK, b"1")
    storage.delete([CHUNK])
    assert list(root.iterdir()) == []


def test_where_there_are_no_locks_the_age_of_a_part_tells(
    root: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(CHUNK, b"1")
    part = (root / CHUNK).with_name(".qv-0011223344556677.part")
    part.write_bytes(b"half")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert storage.sweep() == 0
    day_ago = time.time() - 90_000
    os.utime(part, (day_ago, day_ago))
    assert storage.sweep() == 1
    storage.put("qv1-00ff/chunks/ab/another", b"2")
    assert names(storage) == {CHUNK, "qv1-00ff/chunks/ab/another"}


class Steps:
    """What the file system was told, in order; each call is passed on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.order: list[str] = []
        self.synced: set[int] = set()
        sync, link, rename = os.fsync, os.link, os.rename

        def fsync(descriptor: int) -> None:
            sync(descriptor)
            self.order.append("fsync")
            self.synced.add(os.fstat(descriptor).st_ino)

        def note(name: str, call):
            def noted(*given, **options):
                self.order.append(name)
                return call(*given, **options)

            return noted

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "link", note("link", link))
        monkeypatch.setattr(os, "rename", note("rename", rename))


def all_of(root: Path) -> set[int]:
    return {path.stat().st_ino for path in (root.parent, root, *root.rglob("*"))}


def test_settled_objects_and_all_folders_on_the_way_are_on_the_disk(
    root: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    storage.put(CHUNK, b"1")
    storage.put("qv1-00ff/manifests/01", b"2")
    assert steps.synced == set()
    storage.settle()
    assert steps.synced == all_of(root)
    steps.synced.clear()
    storage.settle()
    assert steps.synced == set()


def test_what_a_killed_run_left_and_this_one_has_read_is_settled_too(
    root: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    Storage(str(root)).put(CHUNK, b"1")
    steps = Steps(monkeypatch)
    storage.get(CHUNK, 1)
    storage.settle()
    assert steps.synced == all_of(root)


def test_reading_back_what_was_settled_asks_for_no_more(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(CHUNK, b"1")
    storage.settle()
    steps = Steps(monkeypatch)
    storage.get(CHUNK, 1)
    storage.settle()
    assert steps.synced == set()
    storage.put(CHUNK, b"2")
    storage.get(CHUNK, 1)
    storage.settle()
    assert steps.synced != set()


def test_a_second_thread_that_settles_waits_for_the_first(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go = threading.Event(), threading.Event()
    sync = os.fsync

    def slow(descriptor: int) -> None:
        started.set()
        assert go.wait(20)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    storage.put(CHUNK, b"1")
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(storage.settle)
        assert started.wait(20)
        second = threads.submit(storage.settle)
        done, _ = wait([second], timeout=0.2)
        assert not done
        go.set()
        first.result(20)
        second.result(20)


def test_an_object_is_replaced_only_by_one_that_is_on_the_disk(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(CHUNK, b"old")
    steps = Steps(monkeypatch)
    storage.put(CHUNK, b"new")
    assert steps.order == ["link", "fsync", "rename"]


def test_a_disk_without_hard_links_is_written_durably_at_once(
    root: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    storage.put(CHUNK, b"new")
    assert steps.order == ["fsync", "rename"]
    assert [path.name for path in (root / CHUNK).parent.iterdir()] == ["abcdef"]


def test_a_failed_settle_is_not_forgotten(
    root: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(CHUNK, b"1")

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk is dying")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        for _ in range(2):
            with pytest.raises(StorageUnreachable, match="Check the disk"):
                storage.settle()
    steps = Steps(monkeypatch)
    storage.settle()
    assert steps.synced == all_of(root)


def test_removals_are_settled(
    root: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(CHUNK, b"1")
    storage.put("qv1-00ff/manifests/01", b"2")
    storage.settle()
    steps = Steps(monkeypatch)
    storage.delete([CHUNK])
    storage.settle()
    assert (root / "qv1-00ff").stat().st_ino in steps.synced


def test_a_folder_that_others_empty_all_the_time_can_be_written_to(storage: Storage) -> None:
    """One thread removes what there is, with the folders, while another stores."""
    stop = threading.Event()

    def remove() -> None:
        while not stop.is_set():
            storage.delete(["qv1-00ff/chunks/ab/other"])

    with ThreadPoolExecutor(1) as threads:
        removing = threads.submit(remove)
        try:
            for turn in range(60):
                name = f"qv1-00ff/chunks/ab/{turn}"
                storage.put(name, b"1")
                assert storage.get(name, 1) == b"1"
                storage.delete([name])
        finally:
            stop.set()
        removing.result()


# ---------------------------------------------------------------- the disk refuses


def test_a_full_disk_is_told_and_keeps_what_was_whole(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        storage = Storage(str(disk / "storage"))
        storage.put(CHUNK, bytes(600_000))
        for name in (CHUNK, "qv1-00ff/chunks/ab/another"):
            with pytest.raises(StorageFull, match="no room left"):
                storage.put(name, bytes(700_000))
        assert storage.get(CHUNK, 600_000) == bytes(600_000)
        assert [(stored.name, stored.size) for stored in storage.list("")] == [(CHUNK, 600_000)]
        assert list(disk.rglob(".qv-*")) == []
        storage.put("qv1-00ff/manifests/01", bytes(100_000))
        storage.settle()


def test_a_disk_mounted_read_only_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        storage = Storage(str(disk))
        storage.put(CHUNK, b"1")
        subprocess.run([*AS_ROOT, "mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(StorageDenied, match="mounted read-only"):
            storage.put("qv1-00ff/chunks/ab/another", b"1")
        with pytest.raises(StorageDenied):
            storage.delete([CHUNK])
        assert storage.get(CHUNK, 1) == b"1"


OTHER_USER = """
import os, sys
from quorumvault.backup.errors import StorageDenied
from quorumvault.backup.storage import Storage

storage = Storage(sys.argv[1])
if os.geteuid() == 0:  # whom no permission stops
    os.setegid(65534)
    os.seteuid(65534)
for call in (lambda: storage.put("qv2/a", b""), lambda: list(storage.list(""))):
    try:
        call()
    except StorageDenied as error:
        print(error)
"""


def test_a_folder_without_permission_is_told() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        root = Path(folder) / "storage"
        Storage(str(root)).put(CHUNK, b"1")
        root.chmod(0)
        command = [sys.executable, "-c", OTHER_USER, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        root.chmod(0o700)
    assert done.stdout.count("Permission denied. Check who owns the folder") == 2


def test_an_object_removed_while_it_is_listed_is_no_error(storage: Storage) -> None:
    for turn in range(50):
        storage.put(f"qv1-00ff/chunks/{turn:02x}/a", b"1")
    listing = storage.list("")
    first = next(listing)
    storage.delete([stored.name for stored in Storage(storage.shown).list("")])
    assert len(list(listing)) < 50
    with pytest.raises(NotThere):
        storage.get(first.name, 1)
