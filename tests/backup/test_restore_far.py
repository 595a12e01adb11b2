"""Restores from real servers: whole, cut off, away for a while, and with listings that lag."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from grounds import Between, answers, between, cuts_answer, s3_storage_at, webdav_storage_at
from held import on_disk, phone
from made_backup import Tree, content_of, expected, put_backup

from quorumvault.backup.create import create
from quorumvault.backup.errors import Damaged, RolledBack, StorageDenied, StorageUnreachable
from quorumvault.backup.keys import Keys
from quorumvault.backup.objects import CONTENT_BYTES
from quorumvault.backup.restore import restore
from quorumvault.backup.show import contents, summaries
from quorumvault.backup.staging import PREFIX
from quorumvault.backup.storage import Storage
from quorumvault.backup.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = Keys.of(bytes(range(32)))
TREE = Tree({f"Photos/{number}.jpg": os.urandom(CONTENT_BYTES // 4) for number in range(4)})
TREE.files |= {"a": b"small", "b": b"other"}
CHUNKS = 5
REACH = {"s3": s3_storage_at, "webdav": webdav_storage_at}


@pytest.fixture(params=["s3", "webdav"])
def far(request: pytest.FixtureRequest) -> Iterator[tuple[Storage, Between]]:
    """A storage behind a proxy that may spoil what passes."""
    with between(request.getfixturevalue(f"{request.param}_server")) as proxy:
        path = f"phones/{os.urandom(8).hex()}"
        with REACH[request.param](proxy.address, path) as storage:
            yield storage, proxy


def test_what_create_stored_is_verified_listed_and_restored(storage: Storage, ground: Path) -> None:
    source = phone(ground / "phone")
    made = create(storage, KEYS, [source])
    checked = verify(storage, KEYS, known_generation=1)
    assert (checked.files, checked.bytes, checked.strangers) == (made.files, made.bytes, 0)
    assert checked.stored_bytes == made.stored_bytes == summaries(storage, KEYS)[0].stored_bytes
    assert len(list(contents(storage, KEYS))) == made.files + made.folders
    done = restore(storage, KEYS, ground / "new phone")
    assert (done.files, done.folders, done.bytes) == (made.files, made.folders, made.bytes)
    assert on_disk(ground / "new phone" / "phone") == on_disk(source)


def test_a_connection_that_breaks_now_and_then_changes_no_byte(
    far: tuple[Storage, Between], ground: Path
) -> None:
    storage, proxy = far
    put_backup(storage, KEYS, TREE)
    proxy.on("GET", cuts_answer, within="/chunks/", times=3)
    proxy.on("GET", cuts_answer, within="/manifests/", times=1)
    restore(storage, KEYS, ground / "target")
    assert content_of(ground / "target") == expected(TREE)


@pytest.mark.parametrize(
    ("far", "status", "error"),
    [("s3", 403, StorageDenied), ("webdav", 503, StorageUnreachable)],
    indirect=["far"],
)
def test_a_server_that_is_away_for_a_while_costs_only_what_was_missing(
    far: tuple[Storage, Between], ground: Path, status: int, error: type[Exception]
) -> None:
    storage, proxy = far
    put_backup(storage, KEYS, TREE)

    class Pulling:
        """Pulls the plug once half of the bytes are in place."""

        done = 0

        def phase(self, name: str, total: int | None) -> None:
            self.done = 0

        def advance(self, count: int) -> None:
            self.done += count
            if self.done > CONTENT_BYTES // 2 and not proxy.rules:
                proxy.on("GET", answers(status), within="/chunks/")

    with pytest.raises(error):
        restore(storage, KEYS, ground / "target", workers=1, progress=Pulling())
    assert [path.name.startswith(PREFIX) for path in (ground / "target").iterdir()] == [True]
    proxy.rules.clear()
    proxy.seen.clear()
    restore(storage, KEYS, ground / "target")
    assert 0 < proxy.asked("GET", "/chunks/") < CHUNKS - 1
    assert content_of(ground / "target") == expected(TREE)


def test_half_an_object_under_its_name_is_damage(webdav_storage: Storage, ground: Path) -> None:
    storage = webdav_storage
    put_backup(storage, KEYS, TREE)
    name = KEYS.chunk_name(KEYS.chunk_id(b"smallother"))
    storage.put(name, storage.get(name, 1 << 20)[:2_000])
    for work in (lambda: restore(storage, KEYS, ground / "target"), lambda: verify(storage, KEYS)):
        with pytest.raises(Damaged) as caught:
            work()
        assert caught.value.objects == (name,)
        assert set(caught.value.files) == {"a", "b"}
    assert not (ground / "target").exists()


def test_a_listing_that_lags_is_told_to_who_knows_better_and_restores_nothing_old(
    far: tuple[Storage, Between], ground: Path
) -> None:
    storage, proxy = far
    backup_id = put_backup(storage, KEYS, TREE, generation=1)
    assert summaries(storage, KEYS)[0].generation == 1
    lagging = proxy.as_it_was()
    put_backup(storage, KEYS, Tree({"new": b"new"}), generation=2)
    storage.delete([KEYS.manifest_name(1, backup_id)])
    proxy.on("GET", lagging, within="list-type")
    proxy.on("PROPFIND", lagging)
    with pytest.raises(RolledBack, match="its listing is late"):
        restore(storage, KEYS, ground / "target", known_generation=2)
    with pytest.raises(Damaged, match="its listing may be late"):
        restore(storage, KEYS, ground / "target")
    assert not (ground / "target").exists()
    proxy.rules.clear()
    assert restore(storage, KEYS, ground / "target").generation == 2
