"""Which backups a storage holds, and what is said when it holds none of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from made_backup import Tree, put_backup

from quorumvault.backup.catalog import choose, find, newest
from quorumvault.backup.errors import FutureVersion, NoBackup, RolledBack, WrongKey
from quorumvault.backup.keys import Keys
from quorumvault.backup.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = Keys.of(bytes(range(32)))
OTHER = Keys.of(bytes(32))
TREE = Tree({"a": b"hello"})


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with Storage(str(tmp_path / "storage")) as storage:
        yield storage


def test_backups_are_found_newest_first_by_their_names(storage: Storage) -> None:
    for generation in (2, 300, 17):
        put_backup(storage, KEYS, TREE, generation=generation)
    put_backup(storage, OTHER, TREE, generation=1_000)
    found = find(storage, KEYS)
    assert [one.generation for one in found] == [300, 17, 2]
    for one in found:
        assert one.name == KEYS.manifest_name(one.generation, one.backup_id)
        assert one.size == storage.size(one.name)
    assert newest(storage, KEYS) == found[0]
    assert choose(storage, KEYS, generation=17) == found[1]


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "0000000000000001",
        f"{'0' * 16}-{'a' * 32}",
        f"{'0' * 15}1-{'A' * 32}",
        f"{'0' * 15}1-{'a' * 31}",
        f"{'f' * 16}-{'a' * 32}",
        f"0000000000000001-{'a' * 32}.part",
    ],
)
def test_what_is_not_named_like_a_backup_is_none(storage: Storage, name: str) -> None:
    storage.put(f"{KEYS.folder}/manifests/{name}", b"x")
    with pytest.raises(NoBackup):
        find(storage, KEYS)


def test_an_empty_storage_holds_no_backup_and_the_message_says_where(storage: Storage) -> None:
    with pytest.raises(NoBackup, match="no complete backup") as caught:
        find(storage, KEYS)
    assert storage.shown in str(caught.value)


def test_a_backup_of_another_key_is_told_from_none(storage: Storage) -> None:
    put_backup(storage, OTHER, TREE)
    with pytest.raises(WrongKey, match="of another key"):
        find(storage, KEYS)


def test_chunks_of_another_key_without_a_manifest_are_no_backup(storage: Storage) -> None:
    storage.put(OTHER.chunk_name(bytes(32)), b"x")
    with pytest.raises(NoBackup):
        find(storage, KEYS)


def test_a_backup_in_a_later_format_asks_for_an_update(storage: Storage) -> None:
    put_backup(storage, OTHER, TREE)
    storage.put(f"qv2-{KEYS.key_id.hex()}/manifests/{'0' * 15}1-{'a' * 32}", b"x")
    with pytest.raises(FutureVersion, match="format 2"):
        find(storage, KEYS)


def test_a_whole_backup_counts_beside_one_in_a_later_format(storage: Storage) -> None:
    put_backup(storage, KEYS, TREE)
    storage.put(f"qv2-{KEYS.key_id.hex()}/manifests/{'0' * 15}1-{'a' * 32}", b"x")
    assert newest(storage, KEYS).generation == 1


def test_files_of_strangers_are_no_backup(storage: Storage) -> None:
    storage.put("holiday/photo.jpg", b"x")
    storage.put("qv1-notes/manifests/x", b"x")
    storage.put("qvx", b"x")
    with pytest.raises(NoBackup):
        find(storage, KEYS)


def test_a_storage_that_went_back_in_time_is_found_out_by_who_knows_better(
    storage: Storage,
) -> None:
    put_backup(storage, KEYS, TREE, generation=6)
    assert newest(storage, KEYS, known_generation=6).generation == 6
    with pytest.raises(RolledBack, match=r"shows backup 6 .* has written backup 7"):
        newest(storage, KEYS, known_generation=7)
    assert choose(storage, KEYS, generation=6, known_generation=7).generation == 6


def test_a_generation_that_is_not_there_names_those_that_are(storage: Storage) -> None:
    for generation in (3, 4):
        put_backup(storage, KEYS, TREE, generation=generation)
    with pytest.raises(NoBackup, match="no backup 5; it holds 4, 3"):
        choose(storage, KEYS, generation=5)
