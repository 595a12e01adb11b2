"""A restore that was cut off at any moment goes on where it was, and trusts nothing it finds."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from made_backup import Tree, content_of, expected, put_backup

from quorumvault.backup import staging
from quorumvault.backup.errors import (
    Cancelled,
    Damaged,
    StorageUnreachable,
    TargetExists,
    TargetRefused,
)
from quorumvault.backup.keys import Keys
from quorumvault.backup.objects import CONTENT_BYTES
from quorumvault.backup.restore import Restored, restore
from quorumvault.backup.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEYS = Keys.of(bytes(range(32)))
BIG = Tree({f"Photos/{number}.jpg": os.urandom(CONTENT_BYTES) for number in range(6)})
BIG.files |= {"Photos/tail": os.urandom(CONTENT_BYTES + 7), "a": b"small", "b": b"other"}
SMALL = Tree(
    {
        "Messages/db": os.urandom(150_000),
        "Messages/index": b"index",
        "Photos/2024/a": b"photo a",
        "Photos/2024/b": b"photo b",
        "calls": b"calls",
        "empty": b"",
    },
    {"Locked": 0o500, "Photos/none": 0o755},
    {"calls": 0o400},
)


class Watched(Storage):
    """Counts what is fetched; may be made unreachable or stop the call after some fetches."""

    fetched = 0
    reachable_for = 1 << 30
    stop: threading.Event | None = None
    stop_after = 1 << 30

    def get(self, name: str, limit: int) -> bytes:
        self.fetched += 1
        if self.fetched > self.reachable_for:
            raise StorageUnreachable("the cable was pulled")
        if self.fetched > self.stop_after and self.stop is not None:
            self.stop.set()
        return super().get(name, limit)


def staged(target: Path) -> Path:
    (found,) = target.glob(f"{staging.PREFIX}*")
    return found


def cut_off(storage: Watched, target: Path, *, after: int) -> None:
    """Begin a restore with one thread and cancel it when `after` objects were fetched."""
    storage.fetched, storage.stop_after, storage.stop = 0, after, threading.Event()
    with pytest.raises(Cancelled, match="the same call goes on"):
        restore(storage, KEYS, target, workers=1, stop=storage.stop)
    storage.fetched, storage.stop = 0, None


# ---------------------------------------------------------------- kills

MOMENTS = frozenset(
    [
        "open",
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.chmod",
        "os.utime",
        "os.link",
        "os.listdir",
        "os.scandir",
        "move",
    ]
)


def count_moves(hook: Callable[[str, object], None]) -> None:
    """Tell the hook of each move; Python tells it of all other system calls itself."""
    real = staging.move_new

    def move_new(source: int, name: bytes, target: int, new_name: bytes) -> None:
        hook("move", name)
        real(source, name, target, new_name)

    staging.move_new = move_new
    sys.addaudithook(hook)


def dies_at(moment: int, work: Callable[[], object]) -> bool:
    """Do the work in a child that is killed just before its `moment`-th system call of note.

    False when the work was over before.
    """
    child = os.fork()
    if not child:
        count = 0

        def hook(event: str, _: object) -> None:
            nonlocal count
            if event in MOMENTS:
                count += 1
                if count == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        count_moves(hook)
        try:
            work()
        except BaseException:  # noqa: BLE001 - told by the exit code
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code != 0


@pytest.mark.parametrize("merged", [False, True])
def test_whenever_it_is_killed_the_same_call_completes_it(ground: Path, merged: bool) -> None:
    with Storage(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, SMALL)
        moment = -1 if merged else 0  # each takes every second moment
        died = True
        while died:
            moment += 2
            target = ground / "target"
            owners: dict[str, bytes | None] = {}
            if merged:
                (target / "Photos" / "2024").mkdir(parents=True)
                (target / "Photos" / "mine").write_bytes(b"mine")
                owners = {"Photos/mine": b"mine"}
            died = dies_at(moment, lambda to=target: restore(storage, KEYS, to, workers=1))
            if died:
                over = not any(list(left.iterdir()) for left in target.glob(f"{staging.PREFIX}*"))
                all_there = content_of(target).keys() >= expected(SMALL).keys()
                try:
                    done = restore(storage, KEYS, target)
                    assert (done.generation, done.files) == (1, len(SMALL.files)), moment
                except TargetExists:
                    # Everything was done, only the call could not say so any more.
                    assert over, moment
                    assert all_there, moment
            assert content_of(target) == expected(SMALL) | owners, moment
            assert (target / "Locked").stat().st_mode & 0o777 == 0o500, moment
            assert (target / "calls").stat().st_mode & 0o777 == 0o400, moment
            shutil.rmtree(target)
    assert moment > 80  # so many moments there are


def test_killed_while_it_gives_up_it_leaves_nothing_strange(ground: Path) -> None:
    with Storage(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, SMALL)
        name = KEYS.chunk_name(KEYS.chunk_id(SMALL.files["Messages/db"]))
        whole = storage.get(name, 1 << 20)
        target = ground / "target"
        moment = 40
        died = True
        while died:
            moment += 1
            storage.delete([name])
            died = dies_at(moment, lambda: fails(storage, target))
            storage.put(name, whole)
            restore(storage, KEYS, target)
            assert content_of(target) == expected(SMALL), moment
            shutil.rmtree(target)
    assert moment > 70  # so many moments there are


def fails(storage: Storage, target: Path) -> None:
    with pytest.raises(Damaged):
        restore(storage, KEYS, target, workers=1)


def test_killed_again_and_again_it_still_ends(ground: Path) -> None:
    with Storage(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, BIG)
        target = ground / "target"
        lives = 0
        while not all((target / name).exists() for name in expected(BIG)):
            dies_at(40 + 9 * lives, lambda: restore(storage, KEYS, target, workers=2))
            lives += 1
        assert lives > 3
        for name, data in BIG.files.items():
            assert (target / name).read_bytes() == data


def moves_cut_off(storage: Storage, target: Path, renames: int) -> None:
    """Kill a restore when it has moved so much into place."""
    child = os.fork()
    if not child:
        count = 0

        def hook(event: str, _: object) -> None:
            nonlocal count
            if event == "move":
                count += 1
                if count > renames:
                    os.kill(os.getpid(), signal.SIGKILL)

        count_moves(hook)
        restore(storage, KEYS, target)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_moves_that_were_cut_off_are_completed_even_without_the_storage(ground: Path) -> None:
    with Storage(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, SMALL, generation=4)
        moves_cut_off(storage, ground / "target", 2)
        assert len(list((ground / "target").iterdir())) == 3  # two of five, and the staging
        (ground / "storage").rename(ground / "away")
        done = restore(storage, KEYS, ground / "target")
        total = sum(map(len, SMALL.files.values()))
        assert done == Restored(4, len(SMALL.files), 5, total, ground / "target")
    assert content_of(ground / "target") == expected(SMALL)


def test_moves_that_were_cut_off_never_take_back_what_the_owner_has_worked_with(
    ground: Path,
) -> None:
    with Storage(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, SMALL)
        target = ground / "target"
        moves_cut_off(storage, target, 2)  # Locked and Messages are in place
        (target / "Messages" / "new").write_bytes(b"written since")
        (target / "Messages" / "index").write_bytes(b"changed since")
        (target / "calls").write_bytes(b"precious")
        for _ in range(2):
            with pytest.raises(TargetExists, match="calls came to be there since"):
                restore(storage, KEYS, target)
            assert (target / "Messages" / "new").read_bytes() == b"written since"
            assert (target / "Messages" / "index").read_bytes() == b"changed since"
            assert (target / "calls").read_bytes() == b"precious"
        (target / "calls").unlink()
        restore(storage, KEYS, target)
        assert content_of(target) == expected(SMALL) | {
            "Messages/new": b"written since",
            "Messages/index": b"changed since",
        }


def test_moves_of_another_selection_are_completed_before_the_own_work(ground: Path) -> None:
    with Storage(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, SMALL)
        target = ground / "target"
        moves_cut_off(storage, target, 2)
        with pytest.raises(TargetExists, match="calls is in the target already"):
            restore(storage, KEYS, target, only=["calls"])
        assert content_of(target) == expected(SMALL)


# ---------------------------------------------------------------- what is taken up again


def test_what_was_fetched_is_not_fetched_again(ground: Path) -> None:
    with Watched(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, BIG)
        cut_off(storage, ground / "target", after=4)
        assert [path.name for path in (ground / "target").iterdir()] == [
            staged(ground / "target").name
        ]
        restore(storage, KEYS, ground / "target")
        assert storage.fetched == 9 - 5  # the fifth was at work when it was cancelled
    assert content_of(ground / "target") == expected(BIG)


def test_a_storage_that_went_away_leaves_what_was_fetched(ground: Path) -> None:
    with Watched(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, BIG)
        storage.reachable_for = 3
        with pytest.raises(StorageUnreachable, match="cable"):
            restore(storage, KEYS, ground / "target", workers=1)
        storage.fetched, storage.reachable_for = 0, 1 << 30
        restore(storage, KEYS, ground / "target")
        assert storage.fetched == 9 - 3
    assert content_of(ground / "target") == expected(BIG)


def test_what_others_put_into_what_was_left_is_never_restored(ground: Path) -> None:
    with Watched(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, BIG)
        target = ground / "target"
        cut_off(storage, target, after=4)
        (staged(target) / "tree" / "Photos" / "strange").write_bytes(b"strange")
        with pytest.raises(TargetRefused, match="somebody put files into"):
            restore(storage, KEYS, target)
        assert not target.exists()


def test_a_folder_that_is_only_named_like_ours_is_left_alone(ground: Path) -> None:
    with Storage(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, SMALL)
        target = ground / "target"
        strange = target / f"{staging.PREFIX}notes"
        strange.mkdir(parents=True)
        (strange / "diary").write_bytes(b"mine")
        restore(storage, KEYS, target)
        assert (strange / "diary").read_bytes() == b"mine"


@pytest.mark.parametrize("harm", ["flip", "cut", "longer", "zeros", "exchange", "empty"])
def test_wrong_bytes_in_what_was_left_are_never_restored(ground: Path, harm: str) -> None:
    with Watched(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, BIG)
        target = ground / "target"
        cut_off(storage, target, after=5)
        photos = staged(target) / "tree" / "Photos"
        first, second = photos / "0.jpg", photos / "1.jpg"
        data = bytearray(first.read_bytes())
        if harm == "flip":
            data[CONTENT_BYTES // 2] ^= 1
            first.write_bytes(data)
        elif harm == "cut":
            first.write_bytes(data[:-1])
        elif harm == "longer":
            first.write_bytes(data + b"x")
        elif harm == "zeros":
            first.write_bytes(bytes(CONTENT_BYTES))
        elif harm == "exchange":
            first.rename(photos / "x")
            second.rename(first)
            (photos / "x").rename(second)
        else:
            first.write_bytes(b"")
        restore(storage, KEYS, target)
    assert content_of(target) == expected(BIG)


def test_leftovers_of_an_older_backup_or_another_selection_are_cleared_away(ground: Path) -> None:
    with Watched(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, BIG, generation=1)
        target = ground / "target"
        cut_off(storage, target, after=2)
        older = staged(target)
        restore(storage, KEYS, target, only=["a"])
        assert content_of(target) == {"a": b"small"}
        (target / "a").unlink()
        cut_off(storage, target, after=2)
        put_backup(storage, KEYS, SMALL, generation=2)
        assert older.exists()
        restore(storage, KEYS, target)
    assert content_of(target) == expected(SMALL)


def test_leftovers_of_another_key_are_left_alone(ground: Path) -> None:
    other = Keys.of(bytes(32))
    with Watched(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, BIG)
        put_backup(storage, other, SMALL)
        target = ground / "target"
        cut_off(storage, target, after=2)
        left = staged(target)
        restore(storage, other, target)
        assert left.exists()
        storage.fetched = 0
        restore(storage, KEYS, target)
        assert storage.fetched < 9
    assert content_of(target) == expected(SMALL) | expected(BIG)


def test_damage_removes_what_was_fetched_and_the_target_that_was_made(ground: Path) -> None:
    with Watched(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, BIG)
        target = ground / "new" / "target"
        cut_off(storage, target, after=4)
        name = KEYS.chunk_name(KEYS.chunk_id(BIG.files["Photos/5.jpg"]))
        storage.delete([name])
        with pytest.raises(Damaged, match=r"missing in the storage; it is needed for Photos/5.jpg"):
            restore(storage, KEYS, target)
    assert [path.name for path in ground.iterdir()] == ["storage"]


def test_files_whose_modes_keep_their_owner_out_are_taken_up_too(ground: Path) -> None:
    tree = Tree(dict(BIG.files), {}, dict.fromkeys(BIG.files, 0o000) | {"a": 0o400})
    with Watched(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, tree)
        for path in [ground / "storage", *(ground / "storage").rglob("*")]:
            path.chmod(0o755)
        home = ground / "home"
        home.mkdir()
        os.chown(home, 65_534, 65_534)
        child = os.fork()
        if not child:
            try:
                os.setuid(65_534)
                cut_off(storage, home / "target", after=4)
                restore(storage, KEYS, home / "target")
                os._exit(42 if storage.fetched < 9 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert content_of(home / "target") == expected(tree)


def test_killed_after_folders_were_closed_to_their_owner_it_still_ends(ground: Path) -> None:
    tree = Tree(dict(SMALL.files), {"Photos": 0o000, "Photos/2024": 0o000})
    with Storage(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, tree)
        for path in [ground / "storage", *(ground / "storage").rglob("*")]:
            path.chmod(0o755)
        home = ground / "home"
        home.mkdir()
        os.chown(home, 65_534, 65_534)

        def killed_at_the_end() -> None:
            def hook(event: str, arguments: tuple[object, ...]) -> None:
                if event == "os.rename" and arguments[1] == "done":
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            restore(storage, KEYS, home / "target")

        assert as_nobody(killed_at_the_end) == -signal.SIGKILL
        assert as_nobody(lambda: restore(storage, KEYS, home / "target")) == 0
    assert content_of(home / "target") == expected(tree)
    for path in ("Photos", "Photos/2024"):
        assert (home / "target" / path).stat().st_mode & 0o777 == 0, path


def as_nobody(work: Callable[[], object]) -> int:
    """Do it in a child without root's rights; how that ended."""
    child = os.fork()
    if not child:
        try:
            os.setuid(65_534)
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - told by the exit code, and shown
            os.write(2, f"{error!r}\n".encode())
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_on_a_disk_that_ignores_case_nothing_is_taken_up(
    ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging.Staging, "tells_names_apart", lambda _: False)
    with Watched(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, BIG)
        cut_off(storage, ground / "target", after=4)
        restore(storage, KEYS, ground / "target")
        assert storage.fetched == 9
    assert content_of(ground / "target") == expected(BIG)
