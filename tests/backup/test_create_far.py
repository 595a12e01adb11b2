"""Backups to real servers that fail: the backup before is whole, and the next call goes on."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from grounds import (
    Between,
    Exchange,
    answers,
    between,
    cuts_upload,
    loses_answer,
    s3_storage_at,
    webdav_storage_at,
)
from held import KEYS, held, manifests, names, on_disk, phone

from quorumvault.backup.create import create
from quorumvault.backup.errors import (
    BackupError,
    Damaged,
    StorageFull,
    StorageUnreachable,
)
from quorumvault.backup.objects import CONTENT_BYTES
from quorumvault.backup.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from quorumvault.backup.storage import Storage

REACH = {"s3": s3_storage_at, "webdav": webdav_storage_at}


@pytest.fixture(params=["s3", "webdav"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def near(request: pytest.FixtureRequest, kind: str) -> Iterator[tuple[Storage, Between, Storage]]:
    """A storage behind a proxy, the proxy, and the same storage without it in between."""
    server = request.getfixturevalue(f"{kind}_server")
    path = f"phones/{os.urandom(8).hex()}"
    with (
        between(server) as proxy,
        REACH[kind](proxy.address, path) as storage,
        REACH[kind](server, path) as direct,
    ):
        yield storage, proxy, direct


@pytest.fixture
def source(ground: Path) -> Path:
    return phone(ground / "phone")


def grow(source: Path) -> None:
    """Enough for a few new chunks."""
    for number in range(3):
        (source / f"new {number}.jpg").write_bytes(os.urandom(CONTENT_BYTES // 8))


def from_second(act: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
    """The first request passes, all others are spoiled."""
    passed: list[bool] = []

    def spoil(exchange: Exchange) -> None:
        if passed:
            act(exchange)
        else:
            passed.append(True)
            exchange.send(exchange.forward())

    return spoil


FAULTS = {
    "full after one object": ("PUT", "", from_second(answers(507)), StorageFull),
    "cut off": ("PUT", "", cuts_upload, StorageUnreachable),
    "no manifest": ("PUT", "/manifests/", answers(507), StorageFull),
    "manifest cut off": ("PUT", "/manifests/", cuts_upload, StorageUnreachable),
    "no read-back": ("GET", "/chunks/", answers(503), BackupError),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_second_backup_that_fails_leaves_the_first_whole_and_the_next_call_ends_it(
    near: tuple[Storage, Between, Storage], source: Path, fault: str
) -> None:
    storage, proxy, direct = near
    create(storage, KEYS, [source])
    before, first = on_disk(source), manifests(direct)
    grow(source)
    method, within, act, error = FAULTS[fault]
    rule = proxy.on(method, act, within=within)
    with pytest.raises(error):
        create(storage, KEYS, [source])
    assert rule.hits > 0
    rule.times = 0
    # A server may keep half a manifest; what counts is the one that is whole.
    assert first[0] in manifests(direct)
    assert held(direct, manifest=first[0]).files == before

    create(storage, KEYS, [source])
    assert verify(direct, KEYS).strangers == 0
    now = held(direct)
    assert now.files == on_disk(source)
    assert names(direct) == now.names


def test_a_network_that_fails_now_and_then_is_not_noticed(
    near: tuple[Storage, Between, Storage], source: Path
) -> None:
    storage, proxy, direct = near
    grow(source)
    rules = [
        proxy.on("PUT", cuts_upload, times=1),
        proxy.on("PUT", loses_answer, within="/chunks/", times=1),
        proxy.on("PUT", loses_answer, within="/manifests/", times=1),
        proxy.on("GET", answers(500), within="/chunks/", times=1),
    ]
    create(storage, KEYS, [source])
    assert all(rule.hits == rule.times for rule in rules)
    assert held(direct).files == on_disk(source)


def test_listings_that_lag_behind_cost_no_byte(
    near: tuple[Storage, Between, Storage], kind: str, source: Path
) -> None:
    """Each listing is as it was before the first backup: the storage seems empty all the time."""
    storage, proxy, direct = near
    assert names(storage) == set(storage.list(f"{KEYS.folder}/manifests/")) == set()
    empty = proxy.as_it_was()
    rules = (
        [proxy.on("GET", empty, within="list-type=2")]
        if kind == "s3"
        else [
            proxy.on("PROPFIND", empty, ends=KEYS.folder),
            proxy.on("PROPFIND", empty, ends="/manifests"),
        ]
    )
    create(storage, KEYS, [source])
    shutil.rmtree(source / "voice")
    grow(source)
    create(storage, KEYS, [source], known_generation=1)
    assert all(rule.hits for rule in rules)
    for rule in rules:
        rule.times = 0
    assert held(direct).files == on_disk(source)
    assert held(direct).generation == 2
    create(storage, KEYS, [source])
    assert names(direct) == held(direct).names


def test_a_server_that_keeps_half_of_what_it_took_gets_no_manifest(
    webdav_server: str, source: Path
) -> None:
    """The size in its answers is right, the bytes are not there: only the read-back can tell."""
    path = f"phones/{os.urandom(8).hex()}"
    with between(webdav_server) as proxy, webdav_storage_at(proxy.address, path) as storage:

        def loses_half(exchange: Exchange) -> None:
            body = exchange.body()
            half = len(body) // 2
            exchange.send(proxy.ask(exchange.handler, body[:half] + bytes(len(body) - half)))

        proxy.on("PUT", loses_half, within="/chunks/")
        with pytest.raises(Damaged, match="read back"):
            create(storage, KEYS, [source])
        assert manifests(storage) == []
