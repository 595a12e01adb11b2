"""A database that is written to while it is read: its two files belong together, or are refused."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from quorumvault.backup.create import create
from quorumvault.backup.cut import Cutter, _ChangedError
from quorumvault.backup.errors import SourceChanged, SourceRefused
from quorumvault.backup.keys import Keys
from quorumvault.backup.restore import restore
from quorumvault.backup.storage import Storage
from quorumvault.backup.walk import Entry

KEYS = Keys.of(bytes(range(32)))


@pytest.fixture
def phone(ground: Path) -> Path:
    folder = ground / "phone"
    folder.mkdir()
    (folder / "messages.db-media").write_bytes(b"read between the database and its log")
    return folder


@pytest.fixture
def database(phone: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(phone / "messages.db", isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma wal_autocheckpoint=0")
    connection.execute("create table messages(number integer primary key, text blob)")
    connection.execute("create index texts on messages(text)")
    write(connection, 50)
    connection.execute("pragma wal_checkpoint(restart)")
    write(connection, 50)
    return connection


def write(connection: sqlite3.Connection, count: int) -> None:
    for _ in range(count):
        connection.execute("insert into messages(text) values (?)", (os.urandom(200),))


def checkpoint(connection: sqlite3.Connection) -> None:
    """What is in the log goes into the database, and the log begins anew."""
    connection.execute("pragma wal_checkpoint(restart)")
    write(connection, 1)


def between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], times: int) -> list[str]:
    """Act after the database was read and before its log is, the first so many times."""
    done: list[str] = []
    real = Cutter._file

    def file(self: Cutter, entry: Entry):
        if entry.path[-1] == b"messages.db-media" and len(done) < times:
            done.append(entry.shown)
            act()
        yield from real(self, entry)

    monkeypatch.setattr(Cutter, "_file", file)
    return done


def restored(storage: Storage, target: Path) -> tuple[str, int]:
    """Whether the restored database is sound, and how many messages it has."""
    restore(storage, KEYS, target)
    connection = sqlite3.connect(target / "phone" / "messages.db")
    try:
        (sound,) = connection.execute("pragma integrity_check(1)").fetchone()
        (count,) = connection.execute("select count(*) from messages").fetchone()
    finally:
        connection.close()
    return sound, count


def test_a_database_whose_log_holds_something_is_kept_with_it(
    ground: Path, phone: Path, database: sqlite3.Connection
) -> None:
    with Storage(str(ground / "storage")) as storage:
        create(storage, KEYS, [phone])
        assert restored(storage, ground / "target") == ("ok", 100)
    database.close()


@pytest.mark.parametrize("ends", ["checkpoint", "closed"])
def test_a_log_that_went_into_the_database_between_the_two_is_read_again(
    ground: Path,
    phone: Path,
    database: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    ends: str,
) -> None:
    act = database.close if ends == "closed" else lambda: checkpoint(database)
    done = between(monkeypatch, act, times=1)
    with Storage(str(ground / "storage")) as storage:
        create(storage, KEYS, [phone])
        assert len(done) == 1
        assert restored(storage, ground / "target") == ("ok", 100 + (ends == "checkpoint"))
    database.close()


@pytest.mark.parametrize("skip", [False, True])
def test_one_that_never_holds_still_makes_no_backup(
    ground: Path,
    phone: Path,
    database: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    skip: bool,
) -> None:
    with Storage(str(ground / "storage")) as storage:
        create(storage, KEYS, [phone])
        between(monkeypatch, lambda: checkpoint(database), times=99)
        with pytest.raises(SourceChanged, match=r"messages\.db is a database in use"):
            create(storage, KEYS, [phone], skip_unreadable=skip)
        assert restored(storage, ground / "target") == ("ok", 100)  # the older one is whole
    database.close()


def test_other_files_of_such_names_may_change(
    ground: Path, phone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (phone / "messages.db-wal").write_bytes(b"of no database")
    done = between(monkeypatch, lambda: (phone / "a").write_bytes(b"new"), times=1)
    with Storage(str(ground / "storage")) as storage:
        assert create(storage, KEYS, [phone]).files in {2, 3}
    assert len(done) == 1


def test_a_change_that_began_after_the_folder_was_listed_is_undone_by_its_journal(
    ground: Path, phone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = sqlite3.connect(phone / "messages.db", isolation_level=None)
    database.execute("create table messages(number integer primary key, text blob)")
    database.execute("create index texts on messages(text)")
    write(database, 50)
    database.execute("pragma cache_size=2")  # so that half a change is in the file
    (phone / "a-note").write_bytes(b"read before the database")
    real = Cutter._file

    def file(self: Cutter, entry: Entry):
        if entry.path[-1] == b"a-note" and not database.in_transaction:
            database.execute("begin immediate")
            write(database, 200)
        yield from real(self, entry)

    monkeypatch.setattr(Cutter, "_file", file)
    with Storage(str(ground / "storage")) as storage:
        create(storage, KEYS, [phone])
        assert restored(storage, ground / "target") == ("ok", 50)
    database.execute("rollback")
    database.close()


@pytest.mark.parametrize("skip", [False, True])
def test_a_database_is_never_kept_without_a_log_that_is_never_quiet(
    ground: Path,
    phone: Path,
    database: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    skip: bool,
) -> None:
    real = Cutter._once

    def once(self: Cutter, entry: Entry, descriptor: int):
        yield from real(self, entry, descriptor)
        if entry.path[-1] == b"messages.db-wal":
            raise _ChangedError

    monkeypatch.setattr(Cutter, "_once", once)
    monkeypatch.setattr("quorumvault.backup.cut.RETRY_AFTER_S", 0)
    with Storage(str(ground / "storage")) as storage:
        says = r"messages\.db-wal changed each.*the log of the database .*messages\.db, .*VACUUM"
        with pytest.raises(SourceChanged, match=says) as told:
            create(storage, KEYS, [phone], skip_unreadable=skip)
    assert f"exclude both: --exclude '{phone}/messages.db' --exclude" in str(told.value)
    database.close()


def test_nor_without_a_log_that_is_something_else(
    ground: Path, phone: Path, database: sqlite3.Connection
) -> None:
    database.close()
    (phone / "messages.db-wal").symlink_to(phone / "elsewhere")
    with Storage(str(ground / "storage")) as storage:
        with pytest.raises(SourceRefused, match=r"is a symlink.*the log of the database"):
            create(storage, KEYS, [phone], skip_unreadable=True)
        (phone / "messages.db").unlink()
        assert create(storage, KEYS, [phone], skip_unreadable=True).files == 1
