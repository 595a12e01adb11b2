"""The calls of a storage, the same for a folder, an S3-compatible provider and WebDAV."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import quote
from uuid import uuid4

import pytest
from grounds import s3_storage_at, webdav_storage_at
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from quorumvault.backup.errors import Damaged, NotThere
from quorumvault.backup.storage import Storage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["folder", "s3", "webdav", "memory"])
def storage(request: pytest.FixtureRequest) -> Storage:
    """The three of `conftest`, and what fsspec has in common with any other provider."""
    if request.param == "memory":
        return Storage(f"memory://phones/{uuid4().hex}")
    return request.getfixturevalue(f"{request.param}_storage")


CHUNK = "qv1-00ff/chunks/ab/abcdef"
FULL = 4 << 20


def names(storage: Storage, prefix: str = "") -> set[str]:
    return {stored.name for stored in storage.list(prefix)}


def test_what_was_put_is_got_byte_for_byte(storage: Storage) -> None:
    data = os.urandom(FULL)
    storage.put(CHUNK, data)
    storage.settle()
    assert storage.get(CHUNK, FULL) == data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_can_be_put(storage: Storage, kind: type) -> None:
    storage.put(CHUNK, kind(b"sealed"))
    assert storage.get(CHUNK, 10) == b"sealed"


def test_a_second_put_replaces_the_first(storage: Storage) -> None:
    storage.put(CHUNK, b"the first, longer one")
    storage.put(CHUNK, b"the second")
    assert storage.get(CHUNK, 100) == b"the second"
    assert [stored.size for stored in storage.list("")] == [10]


def test_an_object_larger_than_the_limit_is_damage_and_no_more_of_it_is_read(
    storage: Storage,
) -> None:
    storage.put(CHUNK, bytes(1001))
    with pytest.raises(Damaged, match="at most 1000") as caught:
        storage.get(CHUNK, 1000)
    assert caught.value.objects == (CHUNK,)
    assert len(storage.get(CHUNK, 1001)) == 1001


def test_an_object_that_was_emptied_is_got_empty(storage: Storage) -> None:
    storage.put(CHUNK, b"")
    assert storage.get(CHUNK, 10) == b""
    assert storage.size(CHUNK) == 0


def test_an_object_that_is_not_there_is_told_so(storage: Storage) -> None:
    storage.put(CHUNK, b"1")
    absent = CHUNK[:-1]
    assert storage.size(absent) is None
    for call in (lambda: storage.get(absent, 10), lambda: storage.open(absent)):
        with pytest.raises(NotThere, match=absent):
            call()
    storage.delete([absent, "qv1-00ff/chunks/zz/absent", "qv1-0000/absent"])
    assert names(storage) == {CHUNK}


def test_a_folder_is_no_object(storage: Storage) -> None:
    storage.put(CHUNK, b"1")
    assert storage.size("qv1-00ff/chunks") is None


def test_a_listing_has_every_object_below_its_prefix_with_its_size(storage: Storage) -> None:
    sizes = {CHUNK: 5, "qv1-00ff/chunks/ac/a": 1, "qv1-00ff/manifests/01": 3, "qv2-0/x": 4}
    for name, size in sizes.items():
        storage.put(name, bytes(size))
    assert {stored.name: stored.size for stored in storage.list("")} == sizes
    assert names(storage, "qv1-00ff/chunks/") == {CHUNK, "qv1-00ff/chunks/ac/a"}
    assert names(storage, "qv1-00ff/chunks/ab") == {CHUNK}
    assert names(storage, "qv1-00ff/chunks/a") == {CHUNK, "qv1-00ff/chunks/ac/a"}
    assert names(storage, "qv2") == {"qv2-0/x"}
    assert names(storage, "qv3") == names(storage, "qv1-00ff/nothing/here/") == set()
    assert storage.folders("qv") == ["qv1-00ff", "qv2-0"]
    assert storage.folders("qv2") == ["qv2-0"]


def test_a_storage_that_does_not_exist_yet_is_empty(storage: Storage) -> None:
    assert names(storage) == names(storage, "qv1-00ff/chunks/") == set()
    assert storage.folders() == []
    assert storage.size(CHUNK) is None
    storage.delete([CHUNK])
    storage.settle()


def test_a_removed_object_is_gone_and_its_folders_with_it(storage: Storage) -> None:
    others = ["qv1-00ff/manifests/01", "qv2-0/x"]
    for name in (CHUNK, *others):
        storage.put(name, b"1")
    storage.delete([CHUNK])
    assert names(storage) == set(others)
    storage.delete(["qv1-00ff/manifests/01"])
    storage.remove_folder("qv1-00ff")
    assert storage.folders() == ["qv2-0"]
    storage.remove_folder("qv1-00ff")
    storage.put(CHUNK, b"again")
    assert storage.get(CHUNK, 10) == b"again"


def test_a_folder_with_an_object_in_it_is_not_removed(storage: Storage) -> None:
    storage.put(CHUNK, b"1")
    storage.remove_folder("qv1-00ff")
    assert storage.get(CHUNK, 1) == b"1"


def test_a_stream_gives_the_whole_object(storage: Storage) -> None:
    data = os.urandom(9 << 20)
    storage.put(CHUNK, data)
    with storage.open(CHUNK) as file:
        first = file.read(10)
        assert first + b"".join(iter(lambda: file.read(1 << 20), b"")) == data


def test_a_file_is_stored_from_where_it_stands(storage: Storage) -> None:
    data = os.urandom(40 << 20)  # so large that it is not sent in one request
    file = io.BytesIO(b"before" + data + b"after")
    file.seek(6)
    storage.put_from("qv1-00ff/manifests/01", file, len(data))
    assert storage.get("qv1-00ff/manifests/01", len(data)) == data


@pytest.mark.parametrize("size", [100, 40 << 20])
def test_a_file_shorter_than_announced_is_not_stored(storage: Storage, size: int) -> None:
    with pytest.raises(ValueError, match="fewer bytes"):
        storage.put_from(CHUNK, io.BytesIO(bytes(size - 1)), size)
    assert storage.size(CHUNK) is None
    assert names(storage) == set()


@pytest.mark.parametrize(("kind", "count"), [("folder", 1_000), ("s3", 300), ("webdav", 300)])
def test_four_threads_store_many_objects(
    request: pytest.FixtureRequest, kind: str, count: int
) -> None:
    storage: Storage = request.getfixturevalue(f"{kind}_storage")
    every = {f"qv1-00ff/chunks/{i % 8:02x}/{i:064x}": b"object %d" % i for i in range(count)}
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda item: storage.put(*item), every.items()))
        storage.settle()
        assert names(storage, "qv1-00ff/chunks/") == set(every)
        some = list(every)[::10]
        assert list(threads.map(lambda name: storage.get(name, 99), some)) == [
            every[name] for name in some
        ]
    storage.delete(list(every))
    assert names(storage) == set()
    storage.remove_folder("qv1-00ff")
    assert storage.folders() == []


def test_a_listing_longer_than_one_answer_of_s3_is_whole_and_so_is_its_removal(
    s3_server: str,
) -> None:
    prefix = uuid4().hex
    every = {f"qv1-00ff/chunks/{i % 256:02x}/{i:064x}" for i in range(2_001)}
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # in this process: no request for each
    for name in every:
        backend.put_object("phones", f"{prefix}/{name}", b"1")
    with s3_storage_at(s3_server, f"phones/{prefix}") as storage:
        assert names(storage) == every
        storage.delete(sorted(every))
        assert names(storage) == set()


def test_four_threads_that_store_one_name_leave_one_of_theirs_whole(
    folder_storage: Storage, s3_storage: Storage
) -> None:
    for storage in (folder_storage, s3_storage):
        candidates = [bytes([i]) * 100_000 for i in range(8)]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda data: storage.put(CHUNK, data), candidates))  # noqa: B023
        assert storage.get(CHUNK, 100_000) in candidates
        assert names(storage) == {CHUNK}


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    for name in ("Ünïcode 備份", "with space", "100%?#&+=@[x]", "-dash", "line\nbreak", "a:b"):
        with Storage(str(tmp_path / name)) as storage:
            storage.put(CHUNK, b"1")
            assert names(storage) == {CHUNK}
            assert (tmp_path / name / CHUNK).read_bytes() == b"1"


def test_a_prefix_in_a_bucket_may_have_any_name(s3_server: str) -> None:
    for name in ("Ünïcode 備份", "with space", "100%?#&+=@[x]", "a/b/c"):
        with s3_storage_at(s3_server, f"phones/{uuid4().hex}/{name}") as storage:
            storage.put(CHUNK, b"1")
            assert names(storage) == {CHUNK}
            assert storage.get(CHUNK, 1) == b"1"
            assert storage.size(CHUNK) == 1
            storage.delete([CHUNK])
            assert names(storage) == set()


def test_a_webdav_folder_may_have_any_name_without_three_characters(webdav_server: str) -> None:
    for name in ("Ünïcode 備份", "with space", "&+=@[x]", "a/b/c"):
        where = quote(f"{uuid4().hex}/{name}")
        with webdav_storage_at(webdav_server, where) as storage:
            storage.put(CHUNK, b"1")
            assert names(storage) == {CHUNK}
            assert storage.get(CHUNK, 1) == b"1"
            assert storage.size(CHUNK) == 1
            storage.delete([CHUNK])
            assert names(storage) == set()


@pytest.mark.parametrize(
    "name", ["", "/x", "x/", "a//b", "../x", "a/../b", "a/.b", ".qv-1.part", "a\0b", "ä", "a b"]
)
def test_a_name_that_is_not_ours_is_never_sent(storage: Storage, name: str) -> None:
    for call in (storage.size, storage.open, lambda name: storage.put(name, b"")):
        with pytest.raises(ValueError, match="not a name"):
            call(name)
    with pytest.raises(ValueError, match="not a name"):
        storage.delete([CHUNK, name])
