"""A provider that answers with gigabytes fills neither the memory nor a disk of the device."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from grounds import Answer, Between, Exchange, between, s3_storage_at, webdav_storage_at
from made_backup import Tree, put_backup

from quorumvault.backup.errors import Damaged
from quorumvault.backup.keys import Keys
from quorumvault.backup.restore import restore
from quorumvault.backup.storage import Storage
from quorumvault.backup.storage_folder import FolderStore
from quorumvault.backup.verify import verify

KEYS = Keys.of(bytes(range(32)))
NAME = "qv1-00ff/chunks/ab/abcdef"
MIB = 1 << 20


class Endless:
    """Says that half a GiB follows, and sends it as long as somebody takes it."""

    def __init__(self) -> None:
        self.sent = 0
        self.over = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        handler = exchange.handler
        handler.send_response_only(206)
        handler.send_header("Content-Length", str(512 * MIB))
        handler.end_headers()
        try:
            while self.sent < 512 * MIB:
                handler.wfile.write(bytes(MIB))
                self.sent += MIB
        except OSError:  # nobody takes it any more
            pass
        finally:
            handler.close_connection = True
            self.over.set()


@pytest.mark.parametrize("kind", ["s3", "webdav"])
@pytest.mark.parametrize("read", ["whole", "stream"])
def test_of_an_endless_answer_no_more_is_taken_than_was_asked_for(
    request: pytest.FixtureRequest, kind: str, read: str
) -> None:
    make: Callable[..., Storage] = s3_storage_at if kind == "s3" else webdav_storage_at
    with between(request.getfixturevalue(f"{kind}_server")) as proxy:
        with make(proxy.address, "phones/endless") as storage:
            taken = endless_read(storage, proxy, read)
        # The connection may be kept until its end is told; nothing is read from it.
        assert taken.over.wait(20)
    assert taken.sent < 64 * MIB


def endless_read(storage: Storage, proxy: Between, read: str) -> Endless:
    storage.put(NAME, bytes(5000))
    endless = Endless()
    proxy.on("GET", endless, ends="abcdef")
    if read == "whole":
        with pytest.raises(Damaged, match="at most 6000"):
            storage.get(NAME, 6000)
    else:
        with storage.open(NAME) as stream:
            assert len(stream.read()) == 5000
    return endless


class Counting:
    """A progress that counts the bytes of the list of files."""

    def __init__(self) -> None:
        self.read = 0
        self._phase = ""

    def phase(self, name: str, total: int | None) -> None:
        del total
        self._phase = name

    def advance(self, count: int) -> None:
        self.read += count if self._phase == "read" else 0


@pytest.mark.parametrize("start", ["none", "of a real one"])
def test_a_made_up_list_of_files_is_not_kept_however_long_it_is(ground: Path, start: str) -> None:
    with Storage(str(ground / "storage")) as storage:
        backup_id = put_backup(storage, KEYS, Tree({"a": b"small"}))
        real = ground / "storage" / KEYS.manifest_name(1, backup_id)
        forged = real
        if start == "none":
            forged = ground / "storage" / KEYS.manifest_name(2, bytes(16))
            forged.touch()
        os.truncate(forged, 1 << 40)  # sparse, so that it costs the stranger nothing
        for work in (
            lambda progress: restore(storage, KEYS, ground / "target", progress=progress),
            lambda progress: verify(storage, KEYS, progress=progress),
        ):
            counting = Counting()
            with pytest.raises(Damaged):
                work(counting)
            assert counting.read <= 3 * MIB
    assert not (ground / "target").exists()


def test_folders_in_folders_without_end_are_not_followed(
    webdav_server: str,
) -> None:
    def one_more(exchange: Exchange) -> None:
        path = exchange.handler.path.rstrip("/")
        exchange.body()
        told = (
            '<?xml version="1.0"?><d:multistatus xmlns:d="DAV:">'
            + "".join(
                f"<d:response><d:href>{href}</d:href><d:propstat><d:prop><d:resourcetype>"
                "<d:collection/></d:resourcetype></d:prop><d:status>HTTP/1.1 200 OK</d:status>"
                "</d:propstat></d:response>"
                for href in (f"{path}/", f"{path}/aa/")
            )
            + "</d:multistatus>"
        )
        exchange.send(Answer(207, [("Content-Type", "application/xml")], told.encode()))

    with (
        between(webdav_server) as proxy,
        webdav_storage_at(proxy.address, "phones/deep") as storage,
    ):
        proxy.on("PROPFIND", one_more)
        assert list(storage.list("qv1-00ff/")) == []
        assert proxy.asked("PROPFIND") < 20


def test_in_a_folder_neither(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = os.open(ground, os.O_RDONLY)
    for name in ("storage", "qv1-00ff", *["aa"] * 300):
        os.mkdir(name, dir_fd=deep)
        inner = os.open(name, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)
    looks: list[str] = []
    real = FolderStore._entries

    def entries(self: FolderStore, folder: str) -> list[tuple[str, bool, int]]:
        looks.append(folder)
        return real(self, folder)

    monkeypatch.setattr(FolderStore, "_entries", entries)
    with Storage(str(ground / "storage")) as storage:
        assert list(storage.list("qv1-00ff/")) == []
        assert storage.sweep("qv1-00ff") == 0
    assert len(looks) < 20
