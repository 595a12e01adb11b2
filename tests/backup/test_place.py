"""Folders by descriptor, moves that never replace, removal at any depth."""

from __future__ import annotations

import contextlib
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from quorumvault.backup import place
from quorumvault.backup.errors import TargetRefused
from quorumvault.backup.place import Folders, move_new, open_target, remove_tree, unmake_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, place.FOLDER_FLAGS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- the way to the target


def test_a_target_is_made_with_its_parents_for_its_owner_alone(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "c"
    descriptor, made = open_target(target)
    os.close(descriptor)
    assert made == 3
    assert target.stat().st_mode & 0o777 == 0o700
    unmake_target(target, made)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_there_is_opened_and_stays(tmp_path: Path) -> None:
    descriptor, made = open_target(tmp_path)
    os.close(descriptor)
    assert made == 0


def test_a_relative_target_starts_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for target in (Path(), Path("../there/x"), Path("new")):
        (tmp_path / "there" / "x").mkdir(parents=True, exist_ok=True)
        descriptor, made = open_target(target)
        assert os.path.samestat(os.fstat(descriptor), target.stat())
        assert made == (target == Path("new"))
        os.close(descriptor)


def test_what_was_removed_with_the_target_is_only_what_was_made_for_it(tmp_path: Path) -> None:
    target = tmp_path / "mine" / "new"
    target.parent.mkdir()
    descriptor, made = open_target(target)
    os.close(descriptor)
    (target / "file").touch()
    unmake_target(target, made)
    assert (target / "file").exists()
    (target / "file").unlink()
    unmake_target(target, made)
    assert list(tmp_path.rglob("*")) == [target.parent]


@pytest.mark.parametrize("place_of_link", ["last", "middle", "dangling"])
def test_a_symlink_on_the_way_is_refused_and_the_real_path_named(
    tmp_path: Path, place_of_link: str
) -> None:
    real = tmp_path / "real"
    if place_of_link != "dangling":
        real.mkdir()
    (tmp_path / "link").symlink_to(real)
    target = tmp_path / "link" / "new" if place_of_link == "middle" else tmp_path / "link"
    with pytest.raises(TargetRefused, match=r"link in .* is a symlink.*real"):
        open_target(target)
    assert not real.exists() or list(real.iterdir()) == []


def test_a_file_on_the_way_is_refused_and_what_was_made_before_is_gone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TargetRefused, match=r"file in .* is no folder"):
        open_target(tmp_path / "file" / "new")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


# ---------------------------------------------------------------- folders beneath one root


def test_a_folder_that_was_exchanged_for_a_symlink_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "victim" / "inner").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "swapped").symlink_to(tmp_path / "victim")
    with opened(tmp_path / "root") as root:
        folders = Folders(root)
        for path in ((b"swapped",), (b"swapped", b"inner")):
            with pytest.raises(OSError) as caught, folders.at(path):
                pass
            assert caught.value.errno in {errno.ELOOP, errno.ENOTDIR}
        folders.close()


def test_a_folder_once_opened_stays_the_same_when_its_name_is_exchanged(tmp_path: Path) -> None:
    (tmp_path / "root" / "inner").mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    with opened(tmp_path / "root") as root:
        folders = Folders(root)
        with folders.at((b"inner",)):
            (tmp_path / "root" / "inner").rename(tmp_path / "moved")
            (tmp_path / "root" / "inner").symlink_to(tmp_path / "victim")
        with folders.at((b"inner",)) as inner:
            os.mkdir("made", dir_fd=inner)
        folders.close()
    assert (tmp_path / "moved" / "made").is_dir()
    assert list((tmp_path / "victim").iterdir()) == []


def test_many_folders_deep_and_wide_keep_few_descriptors_open(tmp_path: Path) -> None:
    with opened(tmp_path) as root:
        folders = Folders(root)
        before = descriptors()
        deep = tuple(b"d" * 60 for _ in range(300))  # far beyond PATH_MAX
        wide = [(b"w%d" % number,) for number in range(500)]
        for path in [*wide, *(deep[:length] for length in range(1, 301))]:
            with folders.at(path[:-1]) as above:
                os.mkdir(path[-1], dir_fd=above)

        def visit(path: tuple[bytes, ...]) -> None:
            with folders.at(path) as folder:
                os.stat(".", dir_fd=folder)
                assert descriptors() < before + 90

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(visit, wide * 3 + [deep] * 20))
        folders.close()
        assert descriptors() <= before
        for path in [*wide, deep]:
            remove_tree(root, path[0])
    assert list(tmp_path.iterdir()) == []


def test_a_tree_is_removed_but_not_what_its_symlinks_lead_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "tree" / "a" / "b" / "file").touch()
    with opened(tmp_path) as parent:
        remove_tree(parent, b"tree")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept"]


# ---------------------------------------------------------------- moves

WAYS: dict[str, Callable[[int, bytes, int, bytes], None]] = {
    "exclusive rename": move_new,
    "link and unlink": place.move_file_plainly,
    "over an own empty file": place.move_file_over_own,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_moved_to_a_free_name_and_never_over_another(tmp_path: Path, way: str) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    (tmp_path / "from" / "file").write_bytes(b"new")
    with opened(tmp_path / "from") as source, opened(tmp_path / "to") as goal:
        for other in ("owners", "dangling"):
            if other == "owners":
                (tmp_path / "to" / other).write_bytes(b"precious")
            else:
                (tmp_path / "to" / other).symlink_to("nowhere")
            with pytest.raises(FileExistsError):
                WAYS[way](source, b"file", goal, other.encode())
        WAYS[way](source, b"file", goal, b"file")
    assert (tmp_path / "to" / "file").read_bytes() == b"new"
    assert (tmp_path / "to" / "owners").read_bytes() == b"precious"
    assert list((tmp_path / "from").iterdir()) == []


@pytest.mark.parametrize("way", [move_new, place.move_folder_plainly])
def test_a_folder_is_moved_to_a_free_name_and_never_over_another(
    tmp_path: Path, way: Callable[[int, bytes, int, bytes], None]
) -> None:
    (tmp_path / "from" / "folder").mkdir(parents=True)
    (tmp_path / "from" / "folder" / "file").write_bytes(b"new")
    (tmp_path / "to" / "owners").mkdir(parents=True)
    (tmp_path / "to" / "empty").mkdir()
    (tmp_path / "to" / "file").write_bytes(b"precious")
    (tmp_path / "to" / "owners" / "file").write_bytes(b"precious")
    with opened(tmp_path / "from") as source, opened(tmp_path / "to") as goal:
        for there in (b"owners", b"file", b"empty"):
            with pytest.raises(FileExistsError):
                way(source, b"folder", goal, there)
        way(source, b"folder", goal, b"folder")
    assert (tmp_path / "to" / "folder" / "file").read_bytes() == b"new"
    assert (tmp_path / "to" / "owners" / "file").read_bytes() == b"precious"


def test_a_disk_that_knows_no_exclusive_rename_gets_the_plain_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> int:
        place.ctypes.set_errno(errno.EINVAL)
        return -1

    libc = type("OldLibrary", (), {"renameat2": staticmethod(unknown)})
    monkeypatch.setattr(place, "_libc", libc)
    (tmp_path / "from" / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "from" / "file").write_bytes(b"new")
    (tmp_path / "to").mkdir()
    with opened(tmp_path / "from") as source, opened(tmp_path / "to") as goal:
        move_new(source, b"folder", goal, b"folder")
        move_new(source, b"file", goal, b"file")
        with pytest.raises(FileNotFoundError):
            move_new(source, b"file", goal, b"other")
    assert (tmp_path / "to" / "folder" / "deep").is_dir()
    assert (tmp_path / "to" / "file").read_bytes() == b"new"
