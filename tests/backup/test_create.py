"""A backup is whole, holds what the disk held, sends what is new, and is refused where it must."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from held import KEYS, held, meta_on_disk, names, on_disk, phone

from quorumvault.backup.catalog import newest
from quorumvault.backup.create import Check, create
from quorumvault.backup.errors import (
    Cancelled,
    FutureVersion,
    RolledBack,
    SourceChanged,
    SourceRefused,
    SourceUnreadable,
)
from quorumvault.backup.keys import Keys
from quorumvault.backup.removal import forget_key
from quorumvault.backup.storage import Storage


@pytest.fixture
def tmp_path(ground):
    return ground


@pytest.fixture
def storage(tmp_path):
    with Storage(str(tmp_path / "storage")) as one:
        yield one


@pytest.fixture
def source(tmp_path):
    return phone(tmp_path / "phone")


class Watch:
    """Progress that is remembered, and something to be done at a certain moment."""

    def __init__(self, at=None, then=None, count=1):
        self.phases = []
        self.done = {}
        self._at, self._then, self._left = at, then, count

    def phase(self, name, total):
        self.phases.append((name, total))
        self.done.setdefault(name, 0)
        if name == self._at and self._then:
            self._then()

    def advance(self, count):
        name = self.phases[-1][0]
        self.done[name] += count
        if self._at == f"{name} advances" and self._left:
            self._left -= 1
            self._then()


# ---------------------------------------------------------------- what a backup holds


def test_a_backup_holds_every_byte_and_every_name_time_and_mode(storage, source):
    (source / "voice").chmod(0o750)
    (source / "voice/a.opus").chmod(0o400)
    made = create(storage, KEYS, [source])
    found = held(storage)
    assert found.files == on_disk(source)
    assert found.meta == meta_on_disk(source)
    assert found.folders == {"phone", "phone/none", "phone/photos", "phone/voice"}
    assert made.files == len(found.files)
    assert made.folders == len(found.folders)
    assert made.bytes == sum(map(len, found.files.values()))
    assert made.generation == found.generation == 1
    assert found.names == names(storage)
    sizes = {stored.name: stored.size for stored in storage.list("")}
    assert made.stored_bytes == made.uploaded_bytes == sum(sizes.values())
    assert made.uploaded_objects == made.chunks + 1 == len(sizes)


def test_small_files_share_a_chunk_and_large_ones_have_their_own(storage, source):
    made = create(storage, KEYS, [source])
    assert made.chunks == 2 + 1 + 1 + 1  # the database, two photos, all voice notes together


def test_several_sources_files_and_folders_are_one_backup(storage, source, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    create(storage, KEYS, [source / "voice", tmp_path / "notes.txt", source / "messages.db"])
    assert set(held(storage).files) == {
        "messages.db",
        "notes.txt",
        "voice/a.opus",
        "voice/b.opus",
        "voice/c.opus",
        "voice/empty",
    }


def test_empty_folders_and_empty_files_alone_are_a_backup(storage, tmp_path):
    (tmp_path / "p/a/b").mkdir(parents=True)
    (tmp_path / "p/a/nothing").touch()
    made = create(storage, KEYS, [tmp_path / "p"])
    assert (made.files, made.folders, made.bytes, made.chunks) == (1, 3, 0, 0)
    assert held(storage).files == {"p/a/nothing": b""}


def test_names_with_newlines_and_bytes_that_are_no_text_are_kept(storage, tmp_path):
    (tmp_path / "p").mkdir()
    for number, name in enumerate([b"new\nline", b"\xff\xfe", b"\x1b[2J", "grün".encode(), b"\\"]):
        (tmp_path / "p" / os.fsdecode(name)).write_bytes(bytes([number]))
    create(storage, KEYS, [tmp_path / "p"])
    assert held(storage).files == on_disk(tmp_path / "p")


@pytest.mark.parametrize(
    "size", [524_288, 524_289, 4_194_299, 4_194_300, 4_194_301, 8_388_600, 8_388_601]
)
def test_files_of_every_size_around_the_cuts_are_whole(storage, tmp_path, size):
    (tmp_path / "file").write_bytes(random.Random(size).randbytes(size))
    made = create(storage, KEYS, [tmp_path / "file"])
    assert made.chunks == -(-size // 4_194_300)
    assert held(storage).files["file"] == (tmp_path / "file").read_bytes()


def test_many_small_files_fill_packs_to_their_last_byte(storage, tmp_path):
    draw = random.Random(3)
    (tmp_path / "p").mkdir()
    for number in range(200):
        size = draw.choice([1, 4_000, 100_000, 524_288])
        (tmp_path / f"p/{number}").write_bytes(draw.randbytes(size))
    made = create(storage, KEYS, [tmp_path / "p"])
    assert held(storage).files == on_disk(tmp_path / "p")
    assert 0 < made.chunks < 40


def test_a_sparse_file_is_sealed_once_per_content_not_once_per_hole(storage, tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(60_000_000)
        file.seek(30_000_000)
        file.write(b"in the middle")
    made = create(storage, KEYS, [tmp_path / "sparse"])
    assert made.chunks == 3  # zeros, the middle, the end
    assert held(storage).files == {"sparse": (tmp_path / "sparse").read_bytes()}


def test_nothing_readable_of_the_source_is_in_the_storage(storage, source, tmp_path):
    canary = b"CANARY-of-the-owner-9f8e7d"
    (source / "voice/CANARY-name-1a2b.opus").write_bytes(canary * 50)
    create(storage, KEYS, [source])
    for place in (tmp_path / "storage").rglob("*"):
        assert "CANARY" not in str(place.relative_to(tmp_path))
        if place.is_file():
            data = place.read_bytes()
            assert b"CANARY" not in data
            assert b"voice" not in data


def test_progress_tells_phases_and_reaches_their_totals(storage, source):
    watch = Watch()
    create(storage, KEYS, [source], progress=watch)
    assert [name for name, _ in watch.phases] == ["look", "upload", "check", "clean"]
    for name, total in watch.phases:
        assert total is None or watch.done[name] == total


# ---------------------------------------------------------------- only what is new


def test_a_second_backup_of_the_same_files_sends_its_manifest_only(storage, source):
    create(storage, KEYS, [source])
    again = create(storage, KEYS, [source])
    assert again.uploaded_objects == 1
    assert again.generation == 2
    assert again.removed_objects == 1
    assert held(storage).names == names(storage)


def test_after_the_second_backup_the_storage_holds_only_what_its_manifest_names(storage, source):
    create(storage, KEYS, [source])
    first = names(storage)
    shutil.rmtree(source / "photos")
    (source / "messages.db").write_bytes(random.Random(9).randbytes(5_000_000))
    made = create(storage, KEYS, [source])
    assert held(storage).names == names(storage)
    assert made.removed_objects == len(first - names(storage))
    assert held(storage).files == on_disk(source)


def test_a_page_changed_in_a_database_sends_one_chunk(storage, tmp_path):
    place = tmp_path / "messages.db"
    place.write_bytes(random.Random(1).randbytes(20_000_000))
    create(storage, KEYS, [place])
    with place.open("r+b") as file:
        file.seek(9_000_000)
        file.write(b"another page")
    assert create(storage, KEYS, [place]).uploaded_objects == 2  # the chunk and the manifest


@pytest.mark.parametrize("change", ["insert first", "insert", "remove", "grow", "rename folder"])
def test_one_small_file_that_comes_or_goes_shifts_only_its_neighbours(storage, tmp_path, change):
    draw = random.Random(5)
    root = tmp_path / "notes"
    root.mkdir()
    for number in range(1_000):
        (root / f"PTT-{number:04}.opus").write_bytes(draw.randbytes(draw.randrange(5_000, 60_000)))
    first = create(storage, KEYS, [root])
    match change:
        case "insert first":
            (root / "AAA").write_bytes(draw.randbytes(30_000))
        case "insert":
            (root / "PTT-0700a.opus").write_bytes(draw.randbytes(30_000))
        case "remove":
            (root / "PTT-0700.opus").unlink()
        case "grow":
            with (root / "PTT-0700.opus").open("ab") as file:
                file.write(b"more")
        case _:
            root = root.rename(tmp_path / "old notes")
    second = create(storage, KEYS, [root])
    assert first.chunks > 12
    assert second.uploaded_objects - 1 <= (0 if change == "rename folder" else 4)
    assert second.uploaded_bytes < first.stored_bytes / 4
    assert held(storage).files == on_disk(root)


def test_equal_contents_are_stored_once(storage, source):
    shutil.copytree(source, source.parent / "copy")
    one = create(storage, KEYS, [source])
    two = create(storage, KEYS, [source, source.parent / "copy"])
    assert two.uploaded_bytes < one.uploaded_bytes / 5  # only small files are packed anew
    assert held(storage).files == on_disk(source) | on_disk(source.parent / "copy")


def test_a_backup_of_another_key_in_the_same_storage_is_never_touched(storage, source):
    other = Keys.of(bytes(32))
    create(storage, other, [source])
    before = names(storage, other)
    create(storage, KEYS, [source / "voice"])
    create(storage, KEYS, [source / "photos"])
    assert names(storage, other) == before
    assert held(storage, other).files == on_disk(source)


def test_a_key_that_is_forgotten_leaves_nothing_and_no_other_key_loses_anything(storage, source):
    other = Keys.of(bytes(32))
    create(storage, other, [source])
    create(storage, KEYS, [source])
    count = len(names(storage))
    assert forget_key(storage, KEYS.folder) == count
    assert storage.folders() == [other.folder]
    assert held(storage, other).files == on_disk(source)
    assert forget_key(storage, KEYS.folder) == 0


@pytest.mark.parametrize(
    "folder",
    ["", "qv1-", "photos", f"qv1-{'0' * 32}/chunks", "../x", f"qv01-{'0' * 32}"],
)
def test_only_a_keys_folder_can_be_forgotten(storage, folder):
    with pytest.raises(ValueError, match="not the folder of a backup key"):
        forget_key(storage, folder)


# ---------------------------------------------------------------- files that change


@pytest.fixture
def meddle(monkeypatch):
    """Something that happens right after bytes of a file were read, so many times."""

    def arrange(then, times):
        left = iter(range(times))
        read = os.preadv

        def read_and_meddle(*arguments):
            count = read(*arguments)
            if next(left, None) is not None:
                then()
            return count

        monkeypatch.setattr("os.preadv", read_and_meddle)

    yield arrange
    monkeypatch.undo()


def change(place: Path, how: str) -> None:
    if how == "grows":
        with place.open("ab") as file:
            file.write(b"more")
    elif how == "is overwritten":
        with place.open("r+b") as file:
            file.write(b"new bytes")
    elif how == "is cut off":
        os.truncate(place, max(0, place.stat().st_size - 100_000))
    else:
        other = place.with_name("other")
        other.write_bytes(random.Random(7).randbytes(place.stat().st_size))
        other.rename(place)


HOW = ["grows", "is overwritten", "is cut off", "is replaced"]
SIZES = [500_000, 5_000_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_changes_while_it_is_read_is_read_again(
    storage, tmp_path, meddle, size, how, times
):
    place = tmp_path / "p/file"
    place.parent.mkdir()
    place.write_bytes(random.Random(1).randbytes(size))
    meddle(lambda: change(place, how), times)
    create(storage, KEYS, [tmp_path / "p"])
    assert held(storage).files == on_disk(tmp_path / "p")
    assert held(storage).names == names(storage)  # what the first reading sent is gone


@pytest.mark.parametrize(("how", "size"), list(zip(HOW, SIZES * 2, strict=True)))
def test_a_file_that_never_rests_is_named_and_the_backup_before_is_whole(
    storage, tmp_path, meddle, size, how
):
    place = tmp_path / "p/busy.log"
    place.parent.mkdir()
    place.write_bytes(random.Random(1).randbytes(size))
    create(storage, KEYS, [tmp_path / "p"])
    before = names(storage)
    meddle(lambda: change(place, how), 100)
    with pytest.raises(SourceChanged, match=r"busy\.log changed each of the 4 times"):
        create(storage, KEYS, [tmp_path / "p"])
    assert held(storage).generation == 1
    assert before <= names(storage)
    place.write_bytes(random.Random(1).randbytes(size))
    made = create(storage, KEYS, [tmp_path / "p"], skip_unreadable=True)
    assert made.skipped == (str(place),)
    assert "p/busy.log" not in held(storage).files


def test_a_database_in_use_is_told_how_to_be_backed_up(storage, tmp_path, meddle):
    place = tmp_path / "messages.db"
    database = sqlite3.connect(place, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("CREATE TABLE message (text TEXT)")
    meddle(lambda: database.execute("INSERT INTO message VALUES ('hello')"), 4)
    with pytest.raises(SourceChanged, match=r"SQLite database in use.*\.backup COPY"):
        create(storage, KEYS, [place])
    copy = tmp_path / "copy.db"
    snapshot = sqlite3.connect(copy)
    database.backup(snapshot)
    snapshot.close()
    database.close()
    create(storage, KEYS, [copy])
    assert held(storage).files["copy.db"] == copy.read_bytes()


def test_a_file_renamed_behind_the_walks_back_is_found_by_another_walk(storage, tmp_path):
    (tmp_path / "p").mkdir()
    for name in ("m.jpg", "n.jpg.part", "z"):
        (tmp_path / "p" / name).write_bytes(name.encode())

    def finish_download():
        (tmp_path / "p/n.jpg.part").rename(tmp_path / "p/a.jpg")

    create(storage, KEYS, [tmp_path / "p"], progress=Watch("upload advances", finish_download))
    assert held(storage).files == on_disk(tmp_path / "p")


# ---------------------------------------------------------------- refused before anything is sent


def test_a_symlink_is_found_before_anything_is_sent(storage, source, tmp_path):
    (source / "zz").symlink_to("/etc/passwd")
    with pytest.raises(SourceRefused, match=r"phone/zz is a symlink"):
        create(storage, KEYS, [source])
    assert not (tmp_path / "storage").exists()
    made = create(storage, KEYS, [source], skip_unreadable=True)
    assert made.skipped == (str(source / "zz"),)
    create(storage, KEYS, [source], exclude=["zz"])


def test_a_backup_that_would_hold_its_own_storage_is_refused(tmp_path, source):
    with Storage(f"file://{source}/copies") as storage:
        for _ in range(2):
            with pytest.raises(SourceRefused, match=r"phone holds .*copies.*--exclude"):
                create(storage, KEYS, [source])
            (source / "copies").mkdir(exist_ok=True)
        create(storage, KEYS, [source], exclude=["copies"])
        create(storage, KEYS, [source], exclude=[str(source / "copies")])
        assert "phone/messages.db" in held(storage).files
        with pytest.raises(SourceRefused, match="no part of a backup"):
            create(storage, KEYS, [source / "copies"])


def test_a_device_profile_is_kept_out(storage, source):
    with pytest.raises(SourceRefused, match="voice"):
        create(storage, KEYS, [source], keep_out=[source / "voice"])


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_file_without_permission_makes_no_backup_unless_it_may_be_skipped(tmp_path, source):
    (source / "voice/b.opus").chmod(0)
    for folder in (each for each in (tmp_path, *tmp_path.parents) if "pytest-of-" in str(each)):
        folder.chmod(0o755)
    script = """if True:
        import os, sys
        from pathlib import Path
        from quorumvault.backup.create import create
        from quorumvault.backup.errors import SourceUnreadable
        from quorumvault.backup.keys import Keys
        from quorumvault.backup.storage import Storage
        keys = Keys.of(bytes(range(32)))
        with Storage(sys.argv[2]) as storage:
            create(storage, keys, [Path(sys.argv[1])])  # so that all is imported
            os.chown(sys.argv[2], 65534, 65534)
            for place in Path(sys.argv[2]).rglob("*"):
                os.chown(place, 65534, 65534)
            os.setuid(65534)
            try:
                create(storage, keys, [Path(sys.argv[1])])
            except SourceUnreadable as error:
                print(error)
            print(create(storage, keys, [Path(sys.argv[1])], skip_unreadable=True).skipped)
    """
    place = tmp_path / "storage"
    said = subprocess.run(
        [sys.executable, "-c", script, str(source), str(place)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    closed = source / "voice/b.opus"
    assert said[0].startswith(f"cannot read {closed}: Permission denied; allow reading it, or")
    assert said[1] == f"('{closed}',)"
    with Storage(str(place)) as storage:
        assert held(storage).files == {
            name: data for name, data in on_disk(source).items() if not name.endswith("b.opus")
        }


def test_a_source_that_is_gone_makes_no_backup_even_if_others_may_be_skipped(storage, source):
    create(storage, KEYS, [source])
    with pytest.raises(SourceUnreadable, match="not there"):
        create(storage, KEYS, [source, source.parent / "card"], skip_unreadable=True)
    assert held(storage).generation == 1


def test_no_room_for_the_temporary_file_is_told(storage, source, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(full)], check=True)
    script = """if True:
        import sys
        from pathlib import Path
        from quorumvault.backup.create import create
        from quorumvault.backup.errors import NoSpace
        from quorumvault.backup.keys import Keys
        from quorumvault.backup.storage import Storage
        try:
            create(Storage(sys.argv[2]), Keys.of(bytes(range(32))), [Path(sys.argv[1])])
        except NoSpace as error:
            print(error)
    """
    try:
        for number in range(50):  # names that make the manifest larger than the file system
            (source / f"{number}-{'n' * 200}").touch()
        said = subprocess.run(
            [sys.executable, "-c", script, str(source), str(tmp_path / "storage")],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"TMPDIR": str(full)},
        ).stdout
    finally:
        subprocess.run(["/bin/umount", str(full)], check=True)
    assert f"cannot write a temporary file in {full}" in said
    assert not [name for name in names(storage) if "/manifests/" in name]


# ---------------------------------------------------------------- generations and versions


def test_generations_go_on_from_what_is_known_here_and_there(storage, source):
    assert create(storage, KEYS, [source / "voice"], known_generation=41).generation == 42
    assert create(storage, KEYS, [source / "voice"]).generation == 43


def test_a_storage_that_went_back_in_time_is_told_and_left_as_it_is(storage, source):
    create(storage, KEYS, [source / "voice"])
    before = names(storage)
    with pytest.raises(RolledBack, match=r"number 1 .*number 5"):
        create(storage, KEYS, [source], known_generation=5)
    assert names(storage) == before


@pytest.mark.parametrize("version", [2, 10])
def test_a_folder_of_a_newer_format_is_not_written_beside(storage, source, version):
    storage.put(f"qv{version}-{KEYS.key_id.hex()}/manifests/x", b"?")
    storage.put(f"qv2-{'0' * 32}/manifests/x", b"?")  # of another key: no matter
    with pytest.raises(FutureVersion, match="newer format"):
        create(storage, KEYS, [source])
    storage.delete([f"qv{version}-{KEYS.key_id.hex()}/manifests/x"])
    create(storage, KEYS, [source])


def test_a_manifest_of_a_newer_version_is_not_removed(storage, source):
    create(storage, KEYS, [source / "voice"])
    (name,) = (name for name in names(storage) if "/manifests/" in name)
    data = bytearray(storage.get(name, 1 << 20))
    data[3] = 2
    storage.put(name, data)
    before = names(storage)
    with pytest.raises(FutureVersion):
        create(storage, KEYS, [source])
    assert names(storage) == before


def test_a_damaged_manifest_and_stray_objects_are_replaced_by_a_whole_backup(storage, source):
    create(storage, KEYS, [source])
    (name,) = (name for name in names(storage) if "/manifests/" in name)
    data = bytearray(storage.get(name, 1 << 20))
    data[500] ^= 1
    storage.put(name, data)
    top = f"{KEYS.folder}/manifests/7fffffffffffffff-{'0' * 32}"
    for stray in (top, f"{KEYS.folder}/chunks/zz", f"{KEYS.folder}/manifests/copy-1"):
        storage.put(stray, b"stray")
    made = create(storage, KEYS, [source])
    assert made.generation == 2
    assert made.uploaded_objects == 1  # chunks were read back and are good
    assert held(storage).names == names(storage)
    assert held(storage).files == on_disk(source)


# ---------------------------------------------------------------- stop


@pytest.mark.parametrize("moment", ["look", "upload", "upload advances", "check"])
def test_a_stop_is_heard_and_the_next_call_goes_on_from_there(storage, source, moment):
    stop = threading.Event()
    with pytest.raises(Cancelled):
        create(storage, KEYS, [source], stop=stop, progress=Watch(moment, stop.set))
    sent = {name for name in names(storage) if "/chunks/" in name}
    made = create(storage, KEYS, [source])
    assert made.uploaded_objects - 1 == made.chunks - len(sent)
    assert held(storage).files == on_disk(source)


def test_all_is_read_back_when_asked_for(storage, source):
    create(storage, KEYS, [source])
    place = next(Path(storage.folder).rglob("chunks/*/*"))
    data = bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    watch = Watch()
    made = create(storage, KEYS, [source], check=Check.ALL, progress=watch)
    assert made.uploaded_objects == 2  # the damaged one was sent again
    assert watch.phases.count(("upload", made.bytes)) == 2
    assert held(storage).files == on_disk(source)


# ---------------------------------------------------------------- size


def test_memory_is_bounded_whatever_the_size(tmp_path):
    root = tmp_path / "p"
    root.mkdir()
    block = random.Random(1).randbytes(1 << 20)
    for number in range(8):
        with (root / f"large-{number}").open("wb") as file:
            for part in range(50):
                file.write(bytes([number, part]))
                file.write(block)
    script = """if True:
        import sys, threading
        from pathlib import Path
        from quorumvault.backup.create import create
        from quorumvault.backup.keys import Keys
        from quorumvault.backup.storage import Storage
        keys = Keys.of(bytes(range(32)))
        with Storage(sys.argv[2]) as storage:
            create(storage, keys, [Path(sys.argv[1], "large-0")])
            print("base", flush=True)
            input()
            print(create(storage, keys, [Path(sys.argv[1])]).bytes)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(root), str(tmp_path / "storage")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "base\n"
        process.stdin.write("\n")
        process.stdin.flush()
        watched = psutil.Process(process.pid)
        peak = 0
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
        assert process.wait() == 0
    assert peak < 190 << 20, peak


def test_many_tiny_files_are_quick_and_whole(storage, tmp_path):
    root = tmp_path / "p"
    for number in range(5_000):
        if number % 500 == 0:
            (root / f"{number:05}").mkdir(parents=True)
        (root / f"{number - number % 500:05}" / f"{number}").write_bytes(b"%d" % number)
    made = create(storage, KEYS, [root])
    assert made.files == 5_000
    assert made.chunks < 20
    assert held(storage).files == on_disk(root)


def test_a_disk_that_is_not_connected_does_not_replace_the_backup_by_an_empty_one(
    storage, tmp_path
):
    source = tmp_path / "card"
    source.mkdir()
    create(storage, KEYS, [source])  # with nothing to lose an empty backup is one
    (source / "photo.jpg").write_bytes(b"light")
    made = create(storage, KEYS, [source])
    (source / "photo.jpg").unlink()
    with pytest.raises(SourceRefused, match="is the disk connected"):
        create(storage, KEYS, [source])
    assert newest(storage, KEYS).generation == made.generation
