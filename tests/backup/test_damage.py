"""Whatever is done to stored bytes is found by verify and by restore, and nothing is restored."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_backup import Tree, put_backup

from quorumvault.backup.errors import (
    AnotherWriter,
    Cancelled,
    Damaged,
    FutureVersion,
    NoBackup,
)
from quorumvault.backup.keys import Keys
from quorumvault.backup.objects import CONTENT_BYTES
from quorumvault.backup.restore import restore
from quorumvault.backup.show import contents, summaries
from quorumvault.backup.storage import Storage
from quorumvault.backup.verify import Verified, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = Keys.of(bytes(range(32)))
TREE = Tree({"Photos/a.jpg": os.urandom(100_000), "index": b"small", "notes": b"other"})
BIG = Tree(
    {
        "Photos/1.jpg": os.urandom(CONTENT_BYTES),
        "Photos/2.jpg": os.urandom(CONTENT_BYTES),
        "a": b"small",
        "b": b"other",
        "c": b"",
    }
)
HEAD_BYTES = 5 + 1 + 32 + 7 + 16  # of an object: before the first ciphertext and a little of it


@pytest.fixture
def storage(ground: Path) -> Iterator[Storage]:
    with Storage(str(ground / "storage")) as storage:
        yield storage


def objects(storage: Storage) -> dict[str, Path]:
    return {one.name: Path(storage.shown) / one.name for one in storage.list("")}


def chunk_name(content: bytes) -> str:
    return KEYS.chunk_name(KEYS.chunk_id(content))


def refuse(storage: Storage, target: Path) -> Damaged:
    """Both refuse and restore leaves nothing; the error of verify."""
    with pytest.raises(Damaged) as restoring:
        restore(storage, KEYS, target)
    assert not target.exists()
    with pytest.raises(Damaged) as verifying:
        verify(storage, KEYS)
    assert set(restoring.value.objects) <= set(verifying.value.objects)
    return verifying.value


# ---------------------------------------------------------------- single bytes


def test_a_flipped_bit_anywhere_is_found(storage: Storage, ground: Path) -> None:
    put_backup(storage, KEYS, TREE)
    tried = 0
    for name, path in objects(storage).items():
        whole = path.read_bytes()
        places = {
            *range(HEAD_BYTES),
            *range(0, len(whole), 397),
            *range(len(whole) - 17, len(whole)),
        }
        for place in sorted(places):
            changed = bytearray(whole)
            changed[place] ^= 1 << place % 8
            path.write_bytes(changed)
            for work in (
                lambda: restore(storage, KEYS, ground / "target", workers=1),
                lambda: verify(storage, KEYS, workers=1),
            ):
                with pytest.raises((Damaged, FutureVersion)) as caught:
                    work()
                # The version is outside the seal: a later one can't be told from damage.
                assert isinstance(caught.value, Damaged) or (place == 3 and "manifests" in name)
            tried += 1
        path.write_bytes(whole)
    assert not (ground / "target").exists()
    assert tried > 300
    verify(storage, KEYS)


@pytest.mark.parametrize("length", [0, 4, 5, 44, 45, 60, -1, -16, -17])
def test_an_object_cut_off_anywhere_is_found(storage: Storage, ground: Path, length: int) -> None:
    put_backup(storage, KEYS, TREE)
    for name, path in objects(storage).items():
        whole = path.read_bytes()
        path.write_bytes(whole[:length])
        assert refuse(storage, ground / "target").objects == (name,)
        path.write_bytes(whole)


def test_bytes_added_to_an_object_are_found(storage: Storage, ground: Path) -> None:
    put_backup(storage, KEYS, TREE)
    for name, path in objects(storage).items():
        whole = path.read_bytes()
        for more in (b"\0", whole, bytes(5_000)):
            path.write_bytes(whole + more)
            assert refuse(storage, ground / "target").objects == (name,)
        path.write_bytes(whole)


# ---------------------------------------------------------------- whole objects


def test_an_object_that_is_missing_is_named_with_the_files_in_it(
    storage: Storage, ground: Path
) -> None:
    put_backup(storage, KEYS, BIG)
    name = chunk_name(b"smallother")
    storage.delete([name])
    damage = refuse(storage, ground / "target")
    assert damage.objects == (name,)
    assert damage.files == ("a", "b")
    assert "1 of 3 objects, needed for 2 files, the first of them a" in str(damage)


def test_all_damage_is_told_at_once(storage: Storage, ground: Path) -> None:
    put_backup(storage, KEYS, BIG)
    bad = {chunk_name(BIG.files["Photos/1.jpg"]), chunk_name(BIG.files["Photos/2.jpg"])}
    for name in bad:
        (Path(storage.shown) / name).write_bytes(b"QVB")
    with pytest.raises(Damaged, match="2 of 3 objects") as caught:
        verify(storage, KEYS)
    assert set(caught.value.objects) == bad
    assert caught.value.files == ("Photos/1.jpg", "Photos/2.jpg")


def test_two_objects_exchanged_are_found(storage: Storage, ground: Path) -> None:
    put_backup(storage, KEYS, BIG)
    one, other = (
        Path(storage.shown) / chunk_name(BIG.files[name])
        for name in ("Photos/1.jpg", "Photos/2.jpg")
    )
    one.rename(ground / "aside")
    other.rename(one)
    (ground / "aside").rename(other)
    assert len(refuse(storage, ground / "target").objects) == 2


def test_an_old_manifest_under_a_new_name_is_found(storage: Storage, ground: Path) -> None:
    backup_id = put_backup(storage, KEYS, TREE, generation=1)
    old = storage.get(KEYS.manifest_name(1, backup_id), 1 << 20)
    put_backup(storage, KEYS, Tree({"new": b"x"}), generation=2)
    for generation, name_id in ((3, backup_id), (3, bytes(16)), (2, bytes([255] * 16))):
        name = KEYS.manifest_name(generation, name_id)
        storage.put(name, old)
        assert refuse(storage, ground / "target").objects == (name,)
        storage.delete([name])


def test_an_object_of_another_key_is_found(storage: Storage, ground: Path) -> None:
    other = Keys.of(bytes(32))
    put_backup(storage, other, TREE, backup_id=bytes(16))
    put_backup(storage, KEYS, TREE, backup_id=bytes(16))
    for name in [name for name in objects(storage) if name.startswith(KEYS.folder)]:
        path = Path(storage.shown) / name
        whole = path.read_bytes()
        foreign = storage.get(
            other.manifest_name(1, bytes(16))
            if "manifests" in name
            else other.chunk_name(other.chunk_id(_content_of(name))),
            1 << 23,
        )
        path.write_bytes(foreign)
        assert refuse(storage, ground / "target").objects == (name,)
        path.write_bytes(whole)


def _content_of(name: str) -> bytes:
    contents = [*TREE.files.values(), b"smallother"]
    (found,) = [content for content in contents if chunk_name(content) == name]
    return found


def test_a_chunk_of_a_later_version_is_damage_and_a_manifest_of_one_asks_for_an_update(
    storage: Storage, ground: Path
) -> None:
    put_backup(storage, KEYS, TREE)
    for name, path in objects(storage).items():
        whole = path.read_bytes()
        path.write_bytes(whole[:3] + b"\2" + whole[4:])
        if "manifests" in name:
            with pytest.raises(FutureVersion, match="update"):
                restore(storage, KEYS, ground / "target")
            assert not (ground / "target").exists()
            with pytest.raises(FutureVersion, match="update"):
                verify(storage, KEYS)
        else:
            assert "version" in str(refuse(storage, ground / "target"))
        path.write_bytes(whole)


# ---------------------------------------------------------------- what an owner is told


def test_an_older_backup_that_is_there_is_offered_but_only_restored_when_asked(
    storage: Storage, ground: Path
) -> None:
    put_backup(storage, KEYS, Tree({"old": b"old"}), generation=7)
    backup_id = put_backup(storage, KEYS, TREE, generation=8)
    storage.put(KEYS.manifest_name(8, backup_id), b"QVB\1\2")
    damage = refuse(storage, ground / "target")
    assert "older backup 7 is there" in str(damage)
    assert "--backup 7" in str(damage)
    newest, older = summaries(storage, KEYS)
    assert newest.damage
    assert (older.generation, older.files, older.damage) == (7, 1, "")
    restore(storage, KEYS, ground / "target", generation=7)
    assert (ground / "target" / "old").read_bytes() == b"old"
    assert verify(storage, KEYS, generation=7).files == 1


def test_a_backup_replaced_while_it_is_read_asks_to_call_again(ground: Path) -> None:
    class Replacing(Storage):
        def get(self, name: str, limit: int) -> bytes:
            if not self.replaced:
                self.replaced = True
                put_backup(self, KEYS, Tree({"new": b"new"}), generation=2)
                self.delete(
                    [KEYS.manifest_name(1, bytes(16)), chunk_name(TREE.files["Photos/a.jpg"])]
                )
            return super().get(name, limit)

        replaced = True

    with Replacing(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, TREE, backup_id=bytes(16))
        storage.replaced = False
        with pytest.raises(AnotherWriter, match="backup 1 was replaced by backup 2"):
            restore(storage, KEYS, ground / "target")
        assert restore(storage, KEYS, ground / "target").generation == 2


def test_a_whole_backup_is_verified_and_objects_of_strangers_are_counted(storage: Storage) -> None:
    put_backup(storage, KEYS, BIG, generation=3)
    size = sum(one.size for one in storage.list(""))
    total = sum(map(len, BIG.files.values()))
    whole = Verified(generation=3, files=5, bytes=total, objects=4, stored_bytes=size)
    assert verify(storage, KEYS, known_generation=3) == whole
    storage.put(KEYS.chunk_name(bytes(32)), b"x")
    storage.put(f"{KEYS.folder}/chunks/zz/{'z' * 64}", b"x")
    storage.put(f"{KEYS.folder}/notes", b"x")
    storage.put("elsewhere/notes", b"x")
    put_backup(storage, KEYS, Tree(), generation=2)
    assert verify(storage, KEYS).strangers == 4


def test_verify_changes_nothing_in_the_storage(storage: Storage) -> None:
    put_backup(storage, KEYS, BIG)
    before = {name: path.read_bytes() for name, path in objects(storage).items()}
    verify(storage, KEYS)
    assert {name: path.read_bytes() for name, path in objects(storage).items()} == before


def test_verify_can_be_stopped(storage: Storage) -> None:
    put_backup(storage, KEYS, BIG)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        verify(storage, KEYS, stop=stop)


# ---------------------------------------------------------------- looking at it


def test_contents_are_shown_as_restore_takes_them(storage: Storage, ground: Path) -> None:
    tree = Tree({"caf\udce9": b"1", "new\nline": b"22", "a\\b": b"", "Ordner/ü": b"333"})
    put_backup(storage, KEYS, tree)
    items = list(contents(storage, KEYS))
    assert [(item.path, item.kind, item.size) for item in items] == [
        ("Ordner", "folder", 0),
        ("Ordner/ü", "file", 3),
        (r"a\\b", "file", 0),
        (r"caf\xe9", "file", 1),
        (r"new\x0aline", "file", 2),
    ]
    for item in items:
        restore(storage, KEYS, ground / "target", only=[item.path])
        shutil.rmtree(ground / "target")


def test_a_summary_adds_up_what_is_stored(storage: Storage) -> None:
    backup_id = put_backup(storage, KEYS, BIG, generation=9)
    (summary,) = summaries(storage, KEYS)
    assert (summary.generation, summary.backup_id) == (9, backup_id)
    assert (summary.files, summary.folders) == (5, 1)
    assert summary.bytes == sum(map(len, BIG.files.values()))
    assert summary.stored_bytes == sum(one.size for one in storage.list(""))
    assert summary.created_s == 1_700_000_000


def test_nothing_to_show_is_an_error_that_says_so(storage: Storage) -> None:
    for work in (
        lambda: summaries(storage, KEYS),
        lambda: list(contents(storage, KEYS)),
        lambda: verify(storage, KEYS),
    ):
        with pytest.raises(NoBackup):
            work()


def test_a_cut_list_of_files_is_damage_to_whoever_reads_to_its_end(storage: Storage) -> None:
    put_backup(storage, KEYS, Tree({f"{number:05}": b"" for number in range(3_000)}))
    (path,) = objects(storage).values()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Damaged):
        list(contents(storage, KEYS))
