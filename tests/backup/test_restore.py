"""A restore brings all files back, each byte as it was, or nothing; it never replaces anything."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_backup import MTIME_NS, Tree, content_of, expected, joined, put_backup

from quorumvault.backup import staging
from quorumvault.backup.errors import (
    InUse,
    NameNotPossible,
    NoBackup,
    NoSpace,
    NotInBackup,
    RolledBack,
    TargetExists,
    TargetRefused,
)
from quorumvault.backup.keys import Keys
from quorumvault.backup.objects import CONTENT_BYTES
from quorumvault.backup.restore import Restored, restore
from quorumvault.backup.storage import Storage
from quorumvault.backup.survey import Survey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYS = Keys.of(bytes(range(32)))
TREE = Tree(
    files={
        "Messages/messages.db": os.urandom(2 * CONTENT_BYTES + 12_345),
        "Messages/copy of messages.db": b"",
        "Messages/index": b"index",
        "Photos/2024/a.jpg": os.urandom(120_000),
        "Photos/2024/b.jpg": b"small photo",
        "Photos/zeros.raw": bytes(3 * CONTENT_BYTES + 1),
        "Photos/caf\udce9.jpg": b"not UTF-8",
        "Photos/new\nline": b"line",
        "calls.csv": b"call, records",
    },
    folders={"Voice": 0o700, "Voice/empty": 0o755, "Locked": 0o500, "Locked/inner": 0o000},
    modes={"Messages/index": 0o600, "calls.csv": 0o444, "Photos/2024/b.jpg": 0o000},
)
TREE.files["Messages/copy of messages.db"] = TREE.files["Messages/messages.db"]
TREE.files["Locked/inner/file"] = b"behind locks"


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with Storage(str(tmp_path / "storage")) as storage:
        yield storage


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


class Meddler:
    """Is told of each step and does something once, at the first byte that is in place."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        self.phases: list[tuple[str, int | None]] = []
        self.done = 0
        self._lock = threading.Lock()
        self._acted = False

    def phase(self, name: str, total: int | None) -> None:
        self.phases.append((name, total))
        self.done = 0

    def advance(self, count: int) -> None:
        with self._lock:
            self.done += count
            if self.phases[-1][0] == "restore" and not self._acted:
                self._acted = True
                self.act()


@contextlib.contextmanager
def small_disk(path: Path, *, size: str, options: str = "") -> Iterator[None]:
    path.mkdir()
    subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", path], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["/bin/umount", path], check=True)


# ---------------------------------------------------------------- all comes back


def test_every_byte_mode_and_time_comes_back(storage: Storage, target: Path) -> None:
    put_backup(storage, KEYS, TREE, generation=5)
    watcher = Meddler(lambda: None)
    done = restore(storage, KEYS, target, progress=watcher)
    total = sum(map(len, TREE.files.values()))
    assert done == Restored(5, len(TREE.files), 7, total, target)
    assert content_of(target) == expected(TREE)
    for path in TREE.paths():
        found = (target / joined(path)).lstat()
        assert found.st_mtime_ns == MTIME_NS, path
        default = 0o640 if joined(path) in TREE.files else 0o755
        mode = TREE.modes.get(joined(path), TREE.folders.get(joined(path), default))
        assert found.st_mode & 0o7777 == mode, path
    assert [name for name, _ in watcher.phases] == ["read", "restore"]
    assert watcher.phases[1][1] == watcher.done == total


@pytest.mark.parametrize("workers", [1, 7])
def test_any_number_of_threads_gives_the_same_files(
    storage: Storage, target: Path, workers: int
) -> None:
    put_backup(storage, KEYS, TREE, pack=False)
    restore(storage, KEYS, target, workers=workers)
    assert content_of(target) == expected(TREE)


def test_a_backup_of_nothing_is_restored_to_nothing(storage: Storage, target: Path) -> None:
    put_backup(storage, KEYS, Tree())
    assert restore(storage, KEYS, target) == Restored(1, 0, 0, 0, target)
    assert list(target.iterdir()) == []


def test_set_user_id_bits_do_not_come_back(storage: Storage, target: Path) -> None:
    put_backup(storage, KEYS, Tree({"a": b"x"}, {"f": 0o2755}, {"a": 0o4755}))
    restore(storage, KEYS, target)
    assert (target / "a").stat().st_mode & 0o7777 == 0o755
    assert (target / "f").stat().st_mode & 0o7777 == 0o755


def test_a_tree_deeper_than_any_path_may_be_long_comes_back(storage: Storage, target: Path) -> None:
    deep = "/".join(["d" * 100] * 200)
    put_backup(storage, KEYS, Tree({f"{deep}/file": b"bottom", "file": b"top"}))
    restore(storage, KEYS, target)
    descriptor = os.open(target, os.O_RDONLY)
    for name in deep.split("/"):
        inner = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    with os.fdopen(os.open("file", os.O_RDONLY, dir_fd=descriptor), "rb") as file:
        assert file.read() == b"bottom"
    os.close(descriptor)


def test_the_newest_backup_is_restored_and_an_older_one_where_asked(
    storage: Storage, tmp_path: Path
) -> None:
    for generation in (1, 2, 3):
        put_backup(storage, KEYS, Tree({"f": b"%d" % generation}), generation=generation)
    assert restore(storage, KEYS, tmp_path / "new", known_generation=3).generation == 3
    assert restore(storage, KEYS, tmp_path / "old", generation=2).generation == 2
    assert (tmp_path / "old" / "f").read_bytes() == b"2"
    with pytest.raises(RolledBack):
        restore(storage, KEYS, tmp_path / "x", known_generation=4)
    with pytest.raises(NoBackup):
        restore(storage, KEYS, tmp_path / "x", generation=9)
    assert not (tmp_path / "x").exists()


# ---------------------------------------------------------------- a part of it


class Counting(Storage):
    """Counts the objects that are fetched."""

    fetched = 0

    def get(self, name: str, limit: int) -> bytes:
        self.fetched += 1
        return super().get(name, limit)


@pytest.mark.parametrize(
    ("only", "files", "objects"),
    [
        (["calls.csv"], {"calls.csv"}, 1),
        (["Photos/2024"], {"Photos/2024/a.jpg", "Photos/2024/b.jpg"}, 2),
        (["/Photos/2024/", "Photos/2024/a.jpg"], {"Photos/2024/a.jpg", "Photos/2024/b.jpg"}, 2),
        ([r"Photos/caf\xe9.jpg"], {"Photos/caf\udce9.jpg"}, 1),
        ([r"Photos/new\x0aline", "Voice"], {"Photos/new\nline"}, 1),
        (["Photos/zeros.raw"], {"Photos/zeros.raw"}, 2),
    ],
)
def test_a_part_is_restored_with_the_folders_above_and_fetches_no_more(
    tmp_path: Path, target: Path, only: list[str], files: set[str], objects: int
) -> None:
    with Counting(str(tmp_path / "storage")) as storage:
        put_backup(storage, KEYS, TREE)
        restore(storage, KEYS, target, only=only)
        assert storage.fetched == objects
    found = {path: data for path, data in content_of(target).items() if data is not None}
    assert found == {path: TREE.files[path] for path in files}


def test_a_part_that_the_backup_lacks_names_near_ones_and_restores_nothing(
    storage: Storage, target: Path
) -> None:
    put_backup(storage, KEYS, TREE)
    for wish, near in (
        ("Photos/2024/a.jpeg", "Photos/2024/a.jpg"),
        ("B.JPG", "Photos/2024/b.jpg"),
        ("photos", "Photos"),
    ):
        with pytest.raises(NotInBackup, match=f"no file or folder {wish}.*{near}"):
            restore(storage, KEYS, target, only=["calls.csv", wish])
        assert not target.exists()
    with pytest.raises(NotInBackup, match="names no file"):
        restore(storage, KEYS, target, only=["/"])


def test_chunks_whose_files_come_mixed_are_fetched_once(tmp_path: Path, target: Path) -> None:
    """Another program may pack small files of one kind together, say, not neighbours."""
    import io

    from quorumvault.backup.manifest import ManifestWriter
    from quorumvault.backup.objects import seal_chunk

    packs = [os.urandom(4_000) for _ in range(3)]
    out = io.BytesIO()
    with Counting(str(tmp_path / "storage")) as storage:
        writer = ManifestWriter(KEYS, 1, bytes(16), out, created_s=1, tool="another")
        for pack in packs:
            pack_id = KEYS.chunk_id(pack)
            storage.put(KEYS.chunk_name(pack_id), seal_chunk(KEYS, pack_id, pack))
            writer.chunk(pack_id, len(pack))
        files = {}
        for number in range(120):
            start = number // 3 * 100
            writer.file((b"%03d" % number,), 100, MTIME_NS, 0o600)
            writer.parts([(number % 3, start, 100)])
            files[f"{number:03}"] = packs[number % 3][start : start + 100]
        size = writer.finish()
        out.seek(0)
        storage.put_from(KEYS.manifest_name(1, bytes(16)), out, size)
        restore(storage, KEYS, target)
        assert storage.fetched == 3
    assert content_of(target) == files


# ---------------------------------------------------------------- nothing is replaced


def test_folders_are_merged_and_what_was_there_stays(storage: Storage, target: Path) -> None:
    put_backup(storage, KEYS, TREE)
    (target / "Photos" / "2024").mkdir(parents=True)
    (target / "Photos").chmod(0o711)
    (target / "Photos" / "mine.jpg").write_bytes(b"mine")
    (target / "other").write_bytes(b"other")
    restore(storage, KEYS, target)
    assert content_of(target) == expected(TREE) | {
        "Photos/mine.jpg": b"mine",
        "other": b"other",
    }
    assert (target / "Photos").stat().st_mode & 0o777 == 0o711


@pytest.mark.parametrize("kind", ["file", "folder", "symlink", "folder for a file"])
def test_what_is_there_already_is_named_before_anything_is_fetched(
    tmp_path: Path, target: Path, kind: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"victim")
    (target / "Photos" / "2024").mkdir(parents=True)
    there = target / "Photos" / "2024" / "a.jpg"
    if kind == "file":
        there.write_bytes(b"precious")
    elif kind == "folder":
        there.mkdir()
    elif kind == "symlink":
        there.symlink_to(victim)
    else:
        there = target / "Messages"
        there.write_bytes(b"no folder")
    before = content_of(target)
    with Counting(str(tmp_path / "storage")) as storage:
        put_backup(storage, KEYS, TREE)
        with pytest.raises(TargetExists, match=str(there.relative_to(target))):
            restore(storage, KEYS, target)
        assert storage.fetched == 0
    assert content_of(target) == before
    assert victim.read_bytes() == b"victim"


def test_many_files_in_the_way_are_counted(storage: Storage, target: Path) -> None:
    names = [f"{number:02}" for number in range(12)]
    put_backup(storage, KEYS, Tree(dict.fromkeys(names, b"new")))
    target.mkdir()
    for name in names:
        (target / name).write_bytes(b"old")
    with pytest.raises(TargetExists, match="00, 01, 02, 03, 04 and 7 more are in the target"):
        restore(storage, KEYS, target)


def test_a_file_that_comes_in_the_way_meanwhile_is_kept_and_all_is_moved_back(
    storage: Storage, target: Path
) -> None:
    put_backup(storage, KEYS, TREE)
    (target / "Photos").mkdir(parents=True)

    def meddle() -> None:
        (target / "Photos" / "zeros.raw").write_bytes(b"precious")

    with pytest.raises(TargetExists, match=r"Photos/zeros\.raw came to be there"):
        restore(storage, KEYS, target, progress=Meddler(meddle))
    assert content_of(target) == {"Photos": None, "Photos/zeros.raw": b"precious"}


def test_an_existing_target_stays_and_one_that_was_made_goes_when_it_fails(
    storage: Storage, target: Path
) -> None:
    put_backup(storage, KEYS, TREE, generation=2)
    inner = target / "new" / "newer"
    target.mkdir()
    with pytest.raises(NotInBackup):
        restore(storage, KEYS, inner, only=["nothing"])
    assert list(target.iterdir()) == []


# ---------------------------------------------------------------- symlinks and swaps


@pytest.mark.parametrize("inside", [".", "new/deeper", "link/deeper"])
def test_nothing_is_restored_into_the_storage_where_all_could_be_read(
    tmp_path: Path, inside: str
) -> None:
    with Storage(str(tmp_path / "storage")) as storage:
        put_backup(storage, KEYS, TREE)
        (tmp_path / "storage" / "link").symlink_to(tmp_path / "storage")
        before = sorted((tmp_path / "storage").rglob("*"))
        with pytest.raises(TargetRefused, match="lies in the storage"):
            restore(storage, KEYS, tmp_path / "storage" / inside)
        assert sorted((tmp_path / "storage").rglob("*")) == before
        restore(storage, KEYS, tmp_path)  # beside it is the owner's own choice
    assert (tmp_path / "Messages").exists()


def test_a_symlink_for_a_folder_in_the_target_is_refused(storage: Storage, target: Path) -> None:
    put_backup(storage, KEYS, TREE)
    victim = target.parent / "victim"
    victim.mkdir()
    target.mkdir()
    (target / "Photos").symlink_to(victim)
    with pytest.raises(TargetRefused, match="Photos is a symlink"):
        restore(storage, KEYS, target)
    assert list(victim.iterdir()) == []
    assert list(target.iterdir()) == [target / "Photos"]


def test_a_folder_swapped_for_a_symlink_meanwhile_leads_nowhere(
    storage: Storage, target: Path
) -> None:
    put_backup(storage, KEYS, TREE)
    victim = target.parent / "victim"
    victim.mkdir()
    (target / "Photos" / "2024").mkdir(parents=True)

    def meddle() -> None:
        (target / "Photos").rename(target / "aside")
        (target / "Photos").symlink_to(victim)

    with pytest.raises(TargetExists, match="Photos came to be there"):
        restore(storage, KEYS, target, progress=Meddler(meddle))
    assert list(victim.iterdir()) == []
    assert content_of(target / "aside") == {"2024": None}
    assert sorted(path.name for path in target.iterdir()) == ["Photos", "aside"]


def test_a_target_swapped_for_a_symlink_meanwhile_leads_nowhere(
    storage: Storage, target: Path
) -> None:
    put_backup(storage, KEYS, TREE)
    aside, victim = target.parent / "aside", target.parent / "victim"
    victim.mkdir()
    target.mkdir()

    def meddle() -> None:
        target.rename(aside)
        target.symlink_to(victim)

    restore(storage, KEYS, target, progress=Meddler(meddle))
    assert list(victim.iterdir()) == []
    assert content_of(aside) == expected(TREE)


def test_a_staging_folder_that_others_laid_out_is_not_used(storage: Storage, target: Path) -> None:
    backup_id = put_backup(storage, KEYS, TREE)
    name = f"{staging.PREFIX}1-{backup_id.hex()[:16]}"
    (target / name).mkdir(parents=True)
    (target / name).chmod(0o777)
    with pytest.raises(TargetRefused, match="is not ours"):
        restore(storage, KEYS, target)
    (target / name).rmdir()
    (target / name).symlink_to(target.parent)
    with pytest.raises(TargetRefused, match="is not ours"):
        restore(storage, KEYS, target)


def test_two_restores_to_one_folder_do_not_meet(storage: Storage, target: Path) -> None:
    put_backup(storage, KEYS, TREE)

    def meddle() -> None:
        with pytest.raises(InUse, match="another restore is at work"):
            restore(storage, KEYS, target)

    restore(storage, KEYS, target, progress=Meddler(meddle))
    assert content_of(target) == expected(TREE)


# ---------------------------------------------------------------- names and room


def test_a_name_that_this_system_can_not_have_is_told_before_anything_is_fetched(
    tmp_path: Path, target: Path
) -> None:
    with Counting(str(tmp_path / "storage")) as storage:
        put_backup(storage, KEYS, Tree({"ok": b"x", f"Photos/{'x' * 256}": b"x"}))
        with pytest.raises(NameNotPossible, match="is 256 bytes long, 255 are possible"):
            restore(storage, KEYS, target)
        assert storage.fetched == 0
        assert not target.exists()
        restore(storage, KEYS, target, only=["ok"])
    assert content_of(target) == {"ok": b"x"}


def test_names_of_another_system_are_judged_by_its_rules(target: Path) -> None:
    from quorumvault.backup.manifest import File
    from quorumvault.backup.place import Folders
    from quorumvault.backup.selection import Selection

    target.mkdir()
    root = os.open(target, os.O_RDONLY)
    survey = Survey(Folders(root), target.stat().st_dev, system="win32")
    survey.look([File((b"nul.txt",), 0, 0, 0o644)], Selection(()), block=4096)
    with pytest.raises(NameNotPossible, match=r"nul\.txt is the name of a device"):
        survey.verdict(staging.Ticket("qv1-x", 1, bytes(16), ()))
    os.close(root)


def test_too_little_room_is_told_before_anything_is_fetched(tmp_path: Path, target: Path) -> None:
    with Counting(str(tmp_path / "storage")) as storage, small_disk(target, size="8m"):
        put_backup(storage, KEYS, TREE)
        with pytest.raises(NoSpace, match=r"need 28\.\d MiB, .* 8\.0 MiB free"):
            restore(storage, KEYS, target / "new")
        assert storage.fetched == 0
        assert list(target.iterdir()) == []


def test_too_few_inodes_are_told_before_anything_is_fetched(tmp_path: Path, target: Path) -> None:
    tree = Tree({f"{number}": b"" for number in range(60)})
    with (
        Storage(str(tmp_path / "storage")) as storage,
        small_disk(target, size="8m", options=",nr_inodes=50"),
    ):
        put_backup(storage, KEYS, tree)
        with pytest.raises(NoSpace, match="60 files and folders"):
            restore(storage, KEYS, target)
        assert list(target.iterdir()) == []


def test_a_disk_that_fills_meanwhile_leaves_nothing_behind(tmp_path: Path, target: Path) -> None:
    with Storage(str(tmp_path / "storage")) as storage, small_disk(target, size="32m"):
        put_backup(storage, KEYS, TREE)

        def fill() -> None:
            with contextlib.suppress(OSError), (target / "ballast").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1_048_576))

        with pytest.raises(NoSpace, match="make room and try again"):
            restore(storage, KEYS, target / "new", progress=Meddler(fill))
        assert [path.name for path in target.iterdir()] == ["ballast"]


def test_a_read_only_disk_is_refused(tmp_path: Path, target: Path) -> None:
    with (
        Storage(str(tmp_path / "storage")) as storage,
        small_disk(target, size="1m", options=",ro"),
    ):
        put_backup(storage, KEYS, TREE)
        for folder in (target, target / "new"):
            with pytest.raises(TargetRefused, match="Read-only file system"):
                restore(storage, KEYS, folder)


def test_a_folder_on_another_disk_inside_the_target_is_refused(
    storage: Storage, target: Path
) -> None:
    put_backup(storage, KEYS, TREE)
    target.mkdir()
    with small_disk(target / "Photos", size="64m"):
        with pytest.raises(TargetRefused, match="Photos is on another disk"):
            restore(storage, KEYS, target)
        assert list((target / "Photos").iterdir()) == []
    (target / "Photos").rmdir()
    assert list(target.iterdir()) == []


def test_without_permission_the_target_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert errno.EACCES  # the child below is told by its exit code
    import shutil
    import tempfile

    ground = Path(tempfile.mkdtemp())
    try:
        ground.chmod(0o755)
        with Storage(str(ground / "storage")) as storage:
            put_backup(storage, KEYS, Tree({"a": b"x"}))
            for path in [ground / "storage", *(ground / "storage").rglob("*")]:
                path.chmod(0o755)
            child = os.fork()
            if not child:
                os.seteuid(65_534)
                try:
                    restore(storage, KEYS, ground / "target")
                except TargetRefused as error:
                    os._exit(42 if "Permission denied" in str(error) else 1)
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        assert [path.name for path in ground.iterdir()] == ["storage"]
    finally:
        shutil.rmtree(ground)
