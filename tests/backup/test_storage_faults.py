"""Providers and networks that fail, over real HTTP: what passes is tried again, else told."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from grounds import (
    PASSWORD,
    QUICK,
    S3_KEY,
    S3_SECRET,
    Between,
    Exchange,
    answers,
    between,
    cuts_answer,
    cuts_upload,
    loses_answer,
    never_answers,
    s3_storage_at,
    webdav_storage_at,
)

from quorumvault.backup.errors import (
    NotThere,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnreachable,
)
from quorumvault.backup.storage import Patience, Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Make = Callable[..., Storage]

CHUNK = "qv1-00ff/chunks/ab/abcdef"
OTHER = "qv1-00ff/chunks/ab/123456"
DATA = os.urandom(300_000)
IMPATIENT = replace(QUICK, call_s=0.2, bytes_per_s=1e9)
S3_REFUSES = b"<Error><Code>AccessDenied</Code><Message>No.</Message></Error>"
S3_QUOTA = b"<Error><Code>QuotaExceeded</Code><Message>Full.</Message></Error>"
S3_FULL = b"<Error><Code>XMinioStorageFull</Code><Message>Minimum free disk</Message></Error>"
S3_SLOW = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@pytest.fixture(params=["s3", "webdav"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def proxy(request: pytest.FixtureRequest, kind: str) -> Iterator[Between]:
    with between(request.getfixturevalue(f"{kind}_server")) as proxy:
        yield proxy


@pytest.fixture
def make(kind: str, proxy: Between) -> Iterator[Make]:
    """Storages at one place behind the proxy, each with connections and memory of its own."""
    path = f"{'phones' if kind == 's3' else 'backups'}/{uuid4().hex}"
    made: list[Storage] = []

    def storage(patience: Patience = QUICK) -> Storage:
        at = s3_storage_at if kind == "s3" else webdav_storage_at
        made.append(at(proxy.address, path, patience))
        return made[-1]

    yield storage
    for one in made:
        one.close()


@pytest.fixture
def storage(make: Make) -> Storage:
    """It holds one object, CHUNK."""
    storage = make()
    storage.put(CHUNK, DATA)
    return storage


# ---------------------------------------------------------------- what passes


@pytest.mark.parametrize("status", [500, 503, 429])
def test_an_error_that_passes_is_not_noticed(
    storage: Storage, proxy: Between, kind: str, status: int
) -> None:
    listing = "GET" if kind == "s3" else "PROPFIND"
    for method in dict.fromkeys(("PUT", "GET", listing)):
        proxy.on(method, answers(status, S3_SLOW), times=1)
    storage.put(OTHER, b"1")
    assert storage.get(CHUNK, len(DATA)) == DATA
    proxy.on(listing, answers(status), times=1)
    assert {stored.name for stored in storage.list("")} == {CHUNK, OTHER}
    assert all(rule.hits == 1 for rule in proxy.rules)


def test_an_error_that_stays_is_told_after_a_few_tries(storage: Storage, proxy: Between) -> None:
    rule = proxy.on("PUT", answers(500))
    with pytest.raises(StorageUnreachable, match=r"500.*Try again when it is back"):
        storage.put(OTHER, b"1")
    assert rule.hits == QUICK.tries
    assert storage.size(OTHER) is None
    assert storage.get(CHUNK, len(DATA)) == DATA


def test_an_upload_cut_off_once_arrives_whole(storage: Storage, proxy: Between) -> None:
    rule = proxy.on("PUT", cuts_upload, times=1)
    storage.put(OTHER, DATA)
    assert rule.hits == 1
    assert storage.get(OTHER, len(DATA)) == DATA


def test_an_upload_that_is_always_cut_off_is_told_and_never_passes_for_whole(
    storage: Storage, proxy: Between, make: Make
) -> None:
    proxy.on("PUT", cuts_upload)
    with pytest.raises(StorageUnreachable):
        storage.put(OTHER, DATA)
    assert make().size(OTHER) != len(DATA)
    assert make().get(CHUNK, len(DATA)) == DATA


def test_a_server_that_swallows_half_an_upload_and_says_yes_is_found_out(
    webdav_server: str,
) -> None:
    with between(webdav_server) as proxy:
        storage = webdav_storage_at(proxy.address, f"backups/{uuid4().hex}")

        def halves(exchange):
            handler = exchange.handler
            body = exchange.body()
            handler.headers.replace_header("Content-Length", str(len(body) // 2))
            exchange.send(proxy.ask(handler, body[: len(body) // 2]))

        proxy.on("PUT", halves)
        with pytest.raises(StorageUnreachable, match=r"took 300000 bytes.* but has 150000 bytes"):
            storage.put(CHUNK, DATA)
        storage.close()


def test_an_upload_whose_answer_is_lost_is_sent_again(storage: Storage, proxy: Between) -> None:
    proxy.on("PUT", loses_answer, times=1)
    storage.put(OTHER, DATA)
    assert storage.get(OTHER, len(DATA)) == DATA


def test_a_download_cut_off_once_arrives_whole(storage: Storage, proxy: Between) -> None:
    rule = proxy.on("GET", cuts_answer, times=1)
    assert storage.get(CHUNK, len(DATA)) == DATA
    assert rule.hits == 1


def test_a_download_that_is_always_cut_off_gives_no_half_object(
    storage: Storage, proxy: Between
) -> None:
    proxy.on("GET", cuts_answer)
    with pytest.raises(StorageUnreachable):
        storage.get(CHUNK, len(DATA))


def test_a_stream_goes_on_where_it_was_cut_off(storage: Storage, proxy: Between) -> None:
    data = os.urandom(9 << 20)
    storage.put(OTHER, data)
    with storage.open(OTHER) as file:
        start = file.read(1000)
        rule = proxy.on("GET", cuts_answer, times=1)
        proxy.on("OPTIONS", answers(200))
        assert start + file.read() == data
    assert rule.hits == 1 or proxy.asked("GET", OTHER) == 1


def test_a_stream_that_breaks_raises_an_error_of_ours(storage: Storage, proxy: Between) -> None:
    proxy.on("GET", cuts_answer)
    with storage.open(CHUNK) as file, pytest.raises(StorageUnreachable):
        file.read()


def test_a_large_file_whose_upload_fails_midway_leaves_no_object(
    storage: Storage, proxy: Between, make: Make, kind: str
) -> None:
    data = os.urandom(33 << 20)
    within = "partNumber=3" if kind == "s3" else OTHER
    proxy.on("PUT", answers(403, S3_REFUSES), within=within)
    with pytest.raises(StorageDenied):
        storage.put_from(OTHER, io.BytesIO(data), len(data))
    assert make().size(OTHER) is None


def test_a_large_file_is_sent_again_from_its_start(
    storage: Storage, proxy: Between, kind: str
) -> None:
    data = os.urandom(33 << 20)
    within = "partNumber=3" if kind == "s3" else OTHER
    rule = proxy.on("PUT", cuts_upload, within=within, times=1)
    storage.put_from(OTHER, io.BytesIO(data), len(data))
    assert rule.hits == 1
    assert storage.get(OTHER, len(data)) == data


# ---------------------------------------------------------------- no answer


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_no_answer_in_time_is_told(
    storage: Storage, proxy: Between, kind: str, method: str
) -> None:
    storage._store._patience = IMPATIENT  # not before it is connected
    rule = proxy.on(method, never_answers)
    with pytest.raises(StorageUnreachable, match="no answer in 0 s"):
        storage.put(CHUNK, b"1") if method == "PUT" else storage.get(CHUNK, len(DATA))
    # A write without an answer may still be at work: elsewhere than at S3, which stores in one
    # go, a second one could mix with it.
    once = method == "PUT" and kind == "webdav"
    proxy.wait_for(rule, 1 if once else IMPATIENT.tries)
    assert rule.hits == (1 if once else IMPATIENT.tries)


def test_a_server_that_is_away_is_told(proxy: Between, kind: str) -> None:
    nobody = "http://127.0.0.1:9"
    at = s3_storage_at if kind == "s3" else webdav_storage_at
    with at(nobody, "phones/a") as storage:
        for call in (
            lambda: storage.put(CHUNK, b"1"),
            lambda: storage.get(CHUNK, 1),
            lambda: storage.size(CHUNK),
            lambda: list(storage.list("")),
            lambda: storage.delete([CHUNK]),
        ):
            with pytest.raises(StorageUnreachable, match=r"Try again when it is back"):
                call()


# ---------------------------------------------------------------- what does not pass


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_a_refusal_is_told_at_once(storage: Storage, proxy: Between, method: str) -> None:
    rule = proxy.on(method, answers(403, S3_REFUSES))
    with pytest.raises(StorageDenied, match="Check the credentials") as caught:
        storage.put(OTHER, b"1") if method == "PUT" else storage.get(CHUNK, len(DATA))
    assert rule.hits == 1
    for secret in (S3_SECRET, S3_KEY, PASSWORD):
        assert secret not in str(caught.value)


def test_a_wrong_password_is_told(webdav_server: str) -> None:
    host = webdav_server.removeprefix("http://")
    with (
        Storage(f"webdav://anna:not-her-password@{host}/backups", patience=QUICK) as storage,
        pytest.raises(StorageDenied, match="401") as caught,
    ):
        storage.put(CHUNK, b"1")
    assert "not-her-password" not in str(caught.value)
    assert "For more information" not in str(caught.value)  # httpx has a page about HTTP


@pytest.mark.parametrize(("status", "body"), [(507, b""), (403, S3_QUOTA), (400, S3_FULL)])
def test_a_full_storage_is_told_and_keeps_what_was_whole(
    storage: Storage, proxy: Between, kind: str, status: int, body: bytes
) -> None:
    if kind == "webdav" and status != 507:
        body, status = b"", 507  # the one way in which WebDAV says it (RFC 4918, 11.5)
    rule = proxy.on("PUT", answers(status, body))
    with pytest.raises(StorageFull, match="Make room"):
        storage.put(OTHER, DATA)
    assert rule.hits == 1
    assert storage.get(CHUNK, len(DATA)) == DATA


def test_an_absent_bucket_is_told_not_listed_as_empty(s3_server: str) -> None:
    with s3_storage_at(s3_server, "no-such-bucket/phone") as storage:
        for call in (
            lambda: storage.put(CHUNK, b"1"),
            lambda: storage.get(CHUNK, 1),
            lambda: list(storage.list("")),
            lambda: storage.folders("qv"),
        ):
            with pytest.raises(StorageError, match="bucket that does not exist") as caught:
                call()
            assert not isinstance(caught.value, NotThere)


def test_an_object_that_the_provider_will_not_remove_is_told(s3_server: str) -> None:
    with between(s3_server) as proxy:
        storage = s3_storage_at(proxy.address, f"phones/{uuid4().hex}")
        storage.put(CHUNK, b"1")
        partly = (
            b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>"
        )
        proxy.on("POST", answers(200, partly))
        proxy.on("DELETE", answers(403, S3_REFUSES))
        with pytest.raises(StorageDenied, match="remove"):
            storage.delete([CHUNK])
        storage.close()


# ---------------------------------------------------------------- listings that lag behind


@contextlib.contextmanager
def lagging(proxy: Between, kind: str, before: Callable[[Exchange], None]) -> Iterator[None]:
    """Listings of folders are answered as they were before; objects as they are."""
    if kind == "s3":
        rules = [proxy.on("GET", before, within="list-type=2")]
    else:
        rules = [proxy.on("PROPFIND", before, ends=folder) for folder in ("/chunks", "/chunks/ab")]
    yield
    assert rules[0].hits >= 1
    for rule in rules:
        rule.times = 0


def test_a_listing_may_lack_a_fresh_object_but_its_name_finds_it(
    storage: Storage, proxy: Between, kind: str
) -> None:
    assert {stored.name for stored in storage.list("qv1-00ff/chunks/")} == {CHUNK}
    before = proxy.as_it_was()
    storage.put(OTHER, b"1")
    with lagging(proxy, kind, before):
        assert {stored.name for stored in storage.list("qv1-00ff/chunks/")} == {CHUNK}
        assert storage.size(OTHER) == 1
        assert storage.get(OTHER, 1) == b"1"
    assert {stored.name for stored in storage.list("qv1-00ff/chunks/")} == {CHUNK, OTHER}


def test_a_listing_may_show_a_removed_object_but_its_name_does_not_find_it(
    storage: Storage, proxy: Between, kind: str
) -> None:
    storage.put(OTHER, b"1")
    assert {stored.name for stored in storage.list("qv1-00ff/chunks/")} == {CHUNK, OTHER}
    before = proxy.as_it_was()
    storage.delete([OTHER])
    with lagging(proxy, kind, before):
        assert {stored.name for stored in storage.list("qv1-00ff/chunks/")} == {CHUNK, OTHER}
        assert storage.size(OTHER) is None
        with pytest.raises(NotThere):
            storage.get(OTHER, 1)
        storage.delete([OTHER])
    assert {stored.name for stored in storage.list("qv1-00ff/chunks/")} == {CHUNK}


def test_a_folder_that_another_device_removed_meanwhile_is_made_again(
    webdav_server: str,
) -> None:
    path = f"backups/{uuid4().hex}"
    with (
        webdav_storage_at(webdav_server, path) as mine,
        webdav_storage_at(webdav_server, path) as theirs,
    ):
        mine.put(CHUNK, b"1")
        theirs.delete([CHUNK])
        theirs.remove_folder("qv1-00ff")
        assert theirs.folders() == []
        mine.put(CHUNK, b"2")
        assert theirs.get(CHUNK, 1) == b"2"


def test_a_removal_takes_nothing_along_that_a_late_listing_does_not_show(
    storage: Storage, proxy: Between, kind: str
) -> None:
    listing = "GET" if kind == "s3" else "PROPFIND"
    empty = proxy.on(listing, answers(404), ends="/qv1-00ff")
    storage.put(OTHER, b"1")
    storage.delete([OTHER])
    empty.times = 0
    assert storage.get(CHUNK, len(DATA)) == DATA


def test_threads_that_were_given_up_end_with_the_connection(
    storage: Storage, proxy: Between
) -> None:
    storage._store._patience = replace(IMPATIENT, tries=1)
    proxy.on("PUT", never_answers)
    with pytest.raises(StorageUnreachable):
        storage.put(CHUNK, b"1")
    left = [thread for thread in threading.enumerate() if thread.name == "storage"]
    assert left
    proxy.closing.set()
    for thread in left:
        thread.join(20)
        assert not thread.is_alive()
