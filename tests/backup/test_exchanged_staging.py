"""Whoever can rename things in the target gives the staging's name to a folder of the owner's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from made_backup import Tree, put_backup

from quorumvault.backup import staging
from quorumvault.backup.errors import Damaged, TargetRefused
from quorumvault.backup.keys import Keys
from quorumvault.backup.restore import restore
from quorumvault.backup.storage import Storage

KEYS = Keys.of(bytes(range(32)))
TREE = Tree({"Photos/a": b"photo", "calls": os.urandom(150_000)})


def exchange(target: Path) -> None:
    (ours,) = target.glob(f"{staging.PREFIX}*")
    name = ours.name
    ours.rename(target / "elsewhere")
    (target / "Diary").rename(target / name)


class Exchanging:
    """A progress that lets the stranger act when files begin to come."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def phase(self, name: str, total: int | None) -> None:
        del total
        if name == "restore":
            exchange(self._target)

    def advance(self, count: int) -> None:
        pass


def diary(target: Path) -> bytes:
    (kept,) = target.glob("*/today")
    return kept.read_bytes()


@pytest.mark.parametrize("damaged", [True, False])
def test_a_folder_that_took_the_stagings_name_is_not_removed(ground: Path, damaged: bool) -> None:
    target = ground / "target"
    (target / "Diary").mkdir(parents=True)
    (target / "Diary" / "today").write_bytes(b"precious")
    with Storage(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, TREE)
        if damaged:
            storage.delete([KEYS.chunk_name(KEYS.chunk_id(TREE.files["calls"]))])
            with pytest.raises(Damaged):
                restore(storage, KEYS, target, progress=Exchanging(target))
        else:
            restore(storage, KEYS, target, progress=Exchanging(target))
            assert (target / "Photos" / "a").read_bytes() == b"photo"
    assert diary(target) == b"precious"
    assert not list((target / "elsewhere").iterdir())  # of ours nothing is left but the folder


def test_a_folder_that_took_the_name_before_the_staging_was_opened_is_not_written_to(
    ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = ground / "target"
    (target / "Diary").mkdir(parents=True)
    (target / "Diary" / "today").write_bytes(b"precious")
    real = os.open

    def opens(path, flags, mode=0o777, *, dir_fd=None):
        if str(path).startswith(staging.PREFIX) and (target / "Diary").exists():
            exchange(target)
        return real(path, flags, mode, dir_fd=dir_fd)

    with Storage(str(ground / "storage")) as storage:
        put_backup(storage, KEYS, TREE)
        monkeypatch.setattr(os, "open", opens)
        with pytest.raises(TargetRefused, match="was exchanged while we worked"):
            restore(storage, KEYS, target)
        monkeypatch.undo()
    assert diary(target) == b"precious"
    assert [path.name for path in target.glob("*/*")] == ["today"]
