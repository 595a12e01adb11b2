"""Whatever fails, lies or is killed while a backup is made, one whole backup is always there."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import OPERATIONS, Faulty
from held import KEYS, Held, held, manifests, names, on_disk, phone

from quorumvault.backup.create import create
from quorumvault.backup.errors import (
    AnotherWriter,
    Damaged,
    StorageError,
    StorageUnreachable,
)
from quorumvault.backup.storage import Storage, Stored


class Ground:
    """A first backup, and a phone that has changed since: a second one adds, keeps and drops."""

    def __init__(self, root: Path) -> None:
        self.url = str(root / "storage")
        self.source = phone(root / "phone")
        with Storage(self.url) as storage:
            create(storage, KEYS, [self.source])
        self.before = on_disk(self.source)
        (self.source / "messages.db").write_bytes(random.Random(8).randbytes(600_000))
        (self.source / "photos/1.jpg").unlink()
        (self.source / "photos/3.jpg").write_bytes(random.Random(9).randbytes(560_000))
        (self.source / "voice/d.opus").write_bytes(b"new")
        self.after = on_disk(self.source)
        shutil.copytree(self.url, root / "first")
        self._first = root / "first"

    def again(self) -> None:
        """Have the first backup only, as at the start."""
        shutil.rmtree(self.url)
        shutil.copytree(self._first, self.url)

    def faulty(self, fault: Callable[[int, str, str], str]) -> Faulty:
        return Faulty(self.url, fault)

    def whole(self) -> Held:
        """The newest backup that is whole; its files are those of its moment, all of them."""
        with Storage(self.url) as storage:
            for manifest in reversed(manifests(storage)):
                with contextlib.suppress(Damaged):
                    found = held(storage, manifest=manifest)
                    assert found.files == (self.before if found.generation == 1 else self.after)
                    return found
        raise AssertionError("no whole backup")

    def goes_on(self) -> None:
        """The next backup succeeds and leaves nothing but itself."""
        with Storage(self.url) as storage:
            made = create(storage, KEYS, [self.source])
            found = held(storage)
            assert found.generation == made.generation
            assert found.files == self.after
            assert found.names == names(storage)
        assert not list(Path(self.url).rglob(".qv-*"))


@pytest.fixture
def ground(ground):
    return Ground(ground)


def count_of(ground: Ground) -> list[tuple[str, str]]:
    """The operations of the second backup when nothing fails."""
    with ground.faulty(lambda *_: "") as storage:
        create(storage, KEYS, [ground.source], workers=1)
    ground.again()
    return storage.operations


def test_the_faults_meet_every_operation(ground):
    assert {operation for operation, _ in count_of(ground)} == set(OPERATIONS)


@pytest.mark.parametrize("what", ["before", "after", "half"])
def test_any_operation_may_fail_and_a_whole_backup_is_there(ground, what):
    operations = count_of(ground)
    failed = 0
    for at, (operation, _) in enumerate(operations, 1):
        if what == "half" and not operation.startswith("put"):
            continue
        with ground.faulty(lambda number, *_, at=at: what if number == at else "") as storage:
            with contextlib.suppress(StorageError):
                create(storage, KEYS, [ground.source], workers=1)
                failed -= 1
            failed += 1
        ground.whole()
        ground.goes_on()
        ground.again()
    assert failed >= (4 if what == "half" else len(operations) - 3)


def test_a_storage_that_goes_away_at_any_operation_leaves_a_whole_backup(ground):
    for at in range(1, len(count_of(ground)) + 1):
        for what in ("before", "after", "half"):
            with (
                ground.faulty(
                    lambda number, *_, at=at, what=what: (
                        "" if number < at else what if number == at else "before"
                    )
                ) as storage,
                pytest.raises(StorageUnreachable),
            ):
                create(storage, KEYS, [ground.source], workers=1)
            ground.whole()
            if what == "half":
                ground.goes_on()
            ground.again()


def test_any_operation_may_fail_while_objects_are_settled_and_proven_already(ground, monkeypatch):
    monkeypatch.setattr("quorumvault.backup.proving.BATCH_BYTES", 1)
    for at in range(1, 31):
        with (
            ground.faulty(lambda number, *_, at=at: "before" if number == at else "") as storage,
            contextlib.suppress(StorageError),
        ):
            create(storage, KEYS, [ground.source])
        ground.whole()
        ground.goes_on()
        ground.again()


def test_a_disk_that_loses_something_on_the_way_is_believed_though_it_tells_only_once(
    ground, monkeypatch
):
    monkeypatch.setattr("quorumvault.backup.proving.BATCH_BYTES", 1)
    told = []

    def once(_, operation, __):
        if operation == "settle" and not told:
            told.append(operation)
            return "before"
        return ""

    with ground.faulty(once) as storage, pytest.raises(StorageUnreachable):
        create(storage, KEYS, [ground.source])
    assert ground.whole().generation == 1
    ground.goes_on()


def test_a_failure_after_the_new_backup_is_whole_says_so(ground):
    with (
        ground.faulty(lambda _, operation, __: "before" * (operation == "delete")) as storage,
        pytest.raises(StorageUnreachable, match=r"new backup is whole, but older .*next backup"),
    ):
        create(storage, KEYS, [ground.source])
    assert ground.whole().generation == 2
    ground.goes_on()


@pytest.mark.parametrize("moment", ["upload", "settle", "manifest", "old manifests", "old chunks"])
def test_a_kill_at_a_telling_moment_leaves_a_whole_backup(ground, moment):
    said = kill_at(ground, moment)
    assert said == "here\n"
    ground.whole()
    ground.goes_on()


def kill_at(ground: Ground, moment: str) -> str:
    script = """if True:
        import sys, threading
        sys.path.insert(0, sys.argv[4])
        from pathlib import Path
        from faulty import Faulty
        from held import KEYS
        from quorumvault.backup.create import create
        moment = sys.argv[3]
        deletes, puts = iter(range(9)), iter(range(9))
        def fault(number, operation, name):
            reached = (
                (moment == "upload" and operation == "put" and next(puts) == 1)
                or (moment == "settle" and operation == "settle")
                or (moment == "manifest" and operation == "put_from")
                or (moment == "old manifests" and operation == "delete")
                or (moment == "old chunks" and operation == "delete" and next(deletes) == 1)
            )
            if reached:
                print("here", flush=True)
                threading.Event().wait()
            return ""
        with Faulty(sys.argv[1], fault) as storage:
            create(storage, KEYS, [Path(sys.argv[2])], workers=1)
    """
    here = str(Path(__file__).parent)
    arguments = [sys.executable, "-c", script, ground.url, str(ground.source), moment, here]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        said = process.stdout.readline()
        process.kill()
    return said


def test_kills_at_random_moments_leave_a_whole_backup(ground):
    script = """if True:
        import sys
        from pathlib import Path
        from quorumvault.backup.create import create
        from quorumvault.backup.keys import Keys
        from quorumvault.backup.storage import Storage
        keys = Keys.of(bytes(range(32)))
        with Storage(sys.argv[1]) as storage:
            print("go", flush=True)
            create(storage, keys, [Path(sys.argv[2])])
    """
    draw = random.Random(6)
    kills = 0
    takes_s = 5.0  # the first one is not killed but measured
    for _ in range(100):
        with subprocess.Popen(
            [sys.executable, "-c", script, ground.url, str(ground.source)],
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout.readline() == b"go\n"
            start = time.monotonic()
            try:
                process.wait(takes_s)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode == 0:
            longest_s = time.monotonic() - start
        else:
            assert process.returncode == -signal.SIGKILL
            kills += 1
        takes_s = draw.random() * longest_s
        ground.whole()
        if draw.random() < 0.5:  # else the next one goes on from here
            ground.again()
        if kills == 8:
            break
    assert kills == 8
    ground.goes_on()


# ---------------------------------------------------------------- a storage that lies


@pytest.mark.parametrize("what", ["dropped", "changed", "half silently"])
@pytest.mark.parametrize("operation", ["put", "put_from"])
def test_an_object_that_does_not_come_back_is_stored_once_more(ground, operation, what):
    spoiled = set()

    def once(_, met, name):
        if met != operation or spoiled:
            return ""
        spoiled.add(name)
        return what

    with ground.faulty(once) as storage:
        if what == "half silently":
            cut_silently(storage, operation, spoiled, times=1)
        create(storage, KEYS, [ground.source])
    assert len(spoiled) == 1
    assert ground.whole().generation == 2
    ground.goes_on()


@pytest.mark.parametrize("what", ["dropped", "changed", "half silently"])
@pytest.mark.parametrize("operation", ["put", "put_from"])
def test_an_object_that_never_comes_back_is_named_and_nothing_older_goes(ground, operation, what):
    spoiled = set()

    def always(_, met, name):
        if met == operation and (not spoiled or name in spoiled):
            spoiled.add(name)
            return what
        return ""

    with Storage(ground.url) as storage:
        first = names(storage)
    with ground.faulty(always) as storage:
        if what == "half silently":
            cut_silently(storage, operation, spoiled, times=9)
        with pytest.raises(Damaged, match="nothing older was removed") as caught:
            create(storage, KEYS, [ground.source])
    assert set(caught.value.objects) == spoiled
    with Storage(ground.url) as storage:
        assert first <= names(storage)
    assert ground.whole().generation == 1
    ground.goes_on()


def cut_silently(storage: Faulty, operation: str, spoiled: set[str], times: int) -> None:
    """A provider that keeps the first half of an object and says that all went well."""
    real = Storage(storage.folder.as_posix())
    storage._fault = lambda *_: ""
    left = iter(range(times))

    def put(name, data):
        if (not spoiled or name in spoiled) and next(left, None) is not None:
            spoiled.add(name)
            data = bytes(data[: len(data) // 2])
        real.put(name, data)

    if operation == "put":
        storage.put = put
    else:
        storage.put_from = lambda name, file, size: put(name, file.read(size))


class Late(Faulty):
    """A provider whose listings stay as they were at the start (asked by name, it knows all)."""

    def __init__(self, url: str, shows: Callable[[str], bool] = lambda _: True) -> None:
        super().__init__(url, lambda *_: "")
        self._shows = shows
        self._old = list(Storage(url).list(""))

    def listed(self, prefix: str, found: list[Stored]) -> list[Stored]:
        return [one for one in self._old if one.name.startswith(prefix) and self._shows(one.name)]


def test_a_listing_that_lacks_what_is_new_and_shows_what_is_gone_does_no_harm(ground):
    with Late(ground.url) as late:
        create(late, KEYS, [ground.source])
        assert ground.whole().generation == 2
        made = create(late, KEYS, [ground.source], known_generation=1)
        # Chunks that the old listing shows were removed by the run before: they are sent again.
        assert made.generation == 2
    found = ground.whole()
    assert found.files == ground.after
    ground.goes_on()


def test_a_listing_that_shows_chunks_that_are_gone_does_not_lead_to_a_backup_without_them(ground):
    with Storage(ground.url) as storage:
        chunks = [name for name in names(storage) if "/chunks/" in name]
    with Late(ground.url) as late:
        with Storage(ground.url) as storage:
            storage.delete(chunks)
        create(late, KEYS, [ground.source])
    assert ground.whole().generation == 2


def test_a_listing_that_hides_chunks_costs_an_upload_only(ground):
    with Late(ground.url, lambda name: "/chunks/" not in name) as late:
        made = create(late, KEYS, [ground.source])
        assert made.uploaded_objects == made.chunks + 1
    assert ground.whole().generation == 2
    ground.goes_on()


# ---------------------------------------------------------------- two devices


def meanwhile(ground: Ground, at: tuple[str, int], other: Callable[[Storage], None]) -> Faulty:
    """A storage with which another device does something at the n-th operation of a kind."""
    operation, number = at
    left = [number]

    def fault(_, met, name):
        if met == operation:
            left[0] -= 1
            if left[0] == 0:
                with Storage(ground.url) as storage:
                    other(storage)
        return ""

    return ground.faulty(fault)


@pytest.mark.parametrize(
    "at",
    [("get", 1), ("put", 1), ("put", 3), ("settle", 1), ("size", 1), ("put_from", 1), ("open", 2)],
)
def test_a_backup_of_another_device_that_came_meanwhile_stays_and_ours_goes(ground, at):
    other = phone(ground.source.parent / "other" / "phone", seed=77)

    def writes(storage):
        create(storage, KEYS, [other])

    with meanwhile(ground, at, writes) as storage, pytest.raises(AnotherWriter):
        create(storage, KEYS, [ground.source], workers=1)
    with Storage(ground.url) as storage:
        found = held(storage)
        assert found.files == on_disk(other)
        assert found.generation == (3 if at[0] == "open" else 2)  # ours was there for a moment
        create(storage, KEYS, [other])
        assert held(storage).names == names(storage)


@pytest.mark.parametrize("at", [("delete", 1), ("list", 3)])
def test_a_device_that_cleans_up_slowly_takes_nothing_of_a_newer_backup(ground, at):
    other = phone(ground.source.parent / "other" / "phone")  # what the first backup had

    def writes(storage):
        create(storage, KEYS, [other])

    with meanwhile(ground, at, writes) as storage, contextlib.suppress(AnotherWriter):
        create(storage, KEYS, [ground.source], workers=1)
    with Storage(ground.url) as storage:
        assert held(storage).files in (on_disk(other), ground.after)
        assert held(storage).generation >= 2


def test_two_devices_at_the_same_time_leave_one_whole_backup(ground):
    other = phone(ground.source.parent / "other" / "phone", seed=5)
    for _ in range(6):
        errors: list[BaseException] = []
        start = threading.Barrier(2)

        def run(source, start=start, errors=errors):
            with Storage(ground.url) as storage:
                start.wait()
                try:
                    create(storage, KEYS, [source], workers=2)
                except AnotherWriter as error:
                    errors.append(error)

        threads = [threading.Thread(target=run, args=(one,)) for one in (ground.source, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with Storage(ground.url) as storage:
            assert held(storage).files in (ground.before, ground.after, on_disk(other))
    ground.goes_on()
