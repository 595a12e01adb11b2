"""Which files are met: sources, patterns, and a walk that no symlink and no race leads astray."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from quorumvault.backup.errors import (
    SourceChanged,
    SourceRefused,
    SourceUnreadable,
)
from quorumvault.backup.exclude import Exclude
from quorumvault.backup.names import shown
from quorumvault.backup.sources import gather
from quorumvault.backup.walk import Walk


def make(root: Path, *paths: str) -> Path:
    """Files of these paths (folders where they end in a slash), each with its path in it."""
    for path in paths:
        place = root / path
        if path.endswith("/"):
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(path)
    return root


def walk(*sources: Path, exclude: tuple[str, ...] = (), **more) -> list[str]:
    patterns = Exclude(exclude)
    keep_out = more.get("keep_out", ())
    places = gather(sources, exclude=patterns, keep_out=keep_out)
    return [shown(entry.path) for entry in Walk(places, exclude=patterns, **more)]


# ---------------------------------------------------------------- sources


def test_a_walk_meets_everything_in_the_order_of_names_each_folder_before_what_is_in_it(tmp_path):
    make(tmp_path / "phone", "b/2", "b/1", "a-b", "a/z", "c", "empty/")
    assert walk(tmp_path / "phone") == [
        "phone",
        "phone/a",
        "phone/a/z",
        "phone/a-b",
        "phone/b",
        "phone/b/1",
        "phone/b/2",
        "phone/c",
        "phone/empty",
    ]


def test_the_order_is_that_of_path_tuples_and_of_no_importance_is_how_sources_are_given(tmp_path):
    make(tmp_path, "a/1", "a.txt", "a b/1", "B/1")
    names = [tmp_path / name for name in ("a", "a.txt", "a b", "B")]
    met = [tuple(path.split("/")) for path in walk(*names)]
    assert met == sorted(met)
    assert walk(*reversed(names)) == walk(*names)


def test_a_file_may_be_a_source_and_stands_under_its_own_name(tmp_path):
    make(tmp_path, "deep/down/one.db")
    assert walk(tmp_path / "deep/down/one.db") == ["one.db"]


@pytest.mark.parametrize("way", [".", "", "../phone", "a/..", "../phone/./", "a/../../phone/"])
def test_dots_and_slashes_lead_to_the_same_folder(tmp_path, monkeypatch, way):
    make(tmp_path / "phone", "a/1")
    monkeypatch.chdir(tmp_path / "phone")
    assert walk(Path(way)) == ["phone", "phone/a", "phone/a/1"]


def test_dots_after_a_symlink_go_up_from_where_it_leads(tmp_path):
    make(tmp_path, "real/inner/", "real/x", "x")
    (tmp_path / "link").symlink_to(tmp_path / "real/inner")
    (found,) = gather([tmp_path / "link" / ".." / "x"], exclude=Exclude())
    assert found.place == os.fsencode(tmp_path / "real/x")


def test_a_source_given_twice_is_one(tmp_path):
    make(tmp_path / "phone", "1")
    assert walk(tmp_path / "phone", tmp_path / "phone/../phone/") == ["phone", "phone/1"]


def test_no_source_is_refused():
    with pytest.raises(SourceRefused, match="at least one"):
        gather([], exclude=Exclude())


def test_the_root_folder_is_refused():
    with pytest.raises(SourceRefused, match="root folder"):
        gather([Path("/")], exclude=Exclude())


def test_sources_of_one_name_are_refused_by_both_paths(tmp_path):
    make(tmp_path, "a/x", "b/x")
    with pytest.raises(SourceRefused, match=r"/a/x and .*/b/x have one name"):
        gather([tmp_path / "a/x", tmp_path / "b/x"], exclude=Exclude())


def test_a_source_inside_another_is_refused(tmp_path):
    make(tmp_path / "phone", "photos/1")
    with pytest.raises(SourceRefused, match=r"phone/photos is in .*phone already"):
        gather([tmp_path / "phone", tmp_path / "phone/photos"], exclude=Exclude())
    make(tmp_path, "phone2/1")  # only the text of its path begins like the other's
    gather([tmp_path / "phone", tmp_path / "phone2"], exclude=Exclude())


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(SourceUnreadable, match="gone is not there"):
        gather([tmp_path / "gone"], exclude=Exclude())


def test_a_source_that_is_a_symlink_is_refused_but_one_behind_a_symlink_is_not(tmp_path):
    make(tmp_path, "real/file")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(SourceRefused, match="link is a symlink; name what it points to"):
        gather([tmp_path / "link"], exclude=Exclude())
    assert walk(tmp_path / "link/file") == ["file"]


# ---------------------------------------------------------------- places to keep out


@pytest.mark.parametrize("there", [True, False], ids=["there", "not there yet"])
@pytest.mark.parametrize("source", ["home", "home/storage", "home/storage/x"])
def test_a_source_that_holds_or_lies_in_a_place_to_keep_out_is_refused(tmp_path, source, there):
    make(tmp_path, "home/storage/x/1" if there or source != "home" else "home/1")
    with pytest.raises(SourceRefused, match="no part of a backup"):
        gather([tmp_path / source], exclude=Exclude(), keep_out=[tmp_path / "home/storage"])


def test_a_place_to_keep_out_does_no_harm_once_it_is_excluded(tmp_path):
    make(tmp_path, "home/a/storage/1", "home/a/b", "home/c")
    keep_out = [tmp_path / "home/a/storage"]
    for pattern in ("storage", str(keep_out[0]), "home/a/storage", "storage/"):
        assert walk(tmp_path / "home", exclude=(pattern,), keep_out=keep_out) == [
            "home",
            "home/a",
            "home/a/b",
            "home/c",
        ]
    assert walk(tmp_path / "home", exclude=("a",), keep_out=keep_out) == ["home", "home/c"]


def test_a_place_to_keep_out_is_known_by_more_than_its_path(tmp_path):
    make(tmp_path, "home/1")
    places = gather([tmp_path / "home"], exclude=Exclude())
    make(tmp_path, "home/storage/2")  # made after the first look
    met = Walk(places, exclude=Exclude(), keep_out=[tmp_path / "home/storage"])
    with pytest.raises(SourceRefused, match="the backup's own"):
        list(met)


# ---------------------------------------------------------------- patterns


P_WHOLE = ("p", "p/1.tmp", "p/a", "p/a/2.tmp", "p/a/cache", "p/a/cache/3", "p/cache", "p/keep")


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("*.tmp", ["p", "p/a", "p/a/cache", "p/a/cache/3", "p/cache", "p/keep"]),
        ("cache", ["p", "p/1.tmp", "p/a", "p/a/2.tmp", "p/keep"]),
        ("p/cache", ["p", "p/1.tmp", "p/a", "p/a/2.tmp", "p/a/cache", "p/a/cache/3", "p/keep"]),
        ("cache/", ["p", "p/1.tmp", "p/a", "p/a/2.tmp", "p/cache", "p/keep"]),
        ("p/*/*.tmp", ["p", "p/1.tmp", "p/a", "p/a/cache", "p/a/cache/3", "p/cache", "p/keep"]),
        ("p/**/cache", ["p", "p/1.tmp", "p/a", "p/a/2.tmp", "p/keep"]),
        ("**/[0-9].tmp", ["p", "p/a", "p/a/cache", "p/a/cache/3", "p/cache", "p/keep"]),
        ("p/a/**", ["p", "p/1.tmp", "p/cache", "p/keep"]),
        ("p", []),
        ("keep/x", [*P_WHOLE]),
    ],
)
def test_a_pattern_leaves_out_what_it_names(tmp_path, pattern, left):
    make(tmp_path / "p", "1.tmp", "a/2.tmp", "a/cache/3", "cache", "keep")
    assert walk(tmp_path / "p", exclude=(pattern,)) == left


@pytest.mark.parametrize("pattern", ["", "/", "./", "//"])
def test_an_empty_pattern_is_refused(pattern):
    with pytest.raises(SourceRefused, match="names nothing"):
        Exclude([pattern])


# ---------------------------------------------------------------- what can't be kept


def special(place: Path, kind: str) -> None:
    if kind == "symlink":
        place.symlink_to("elsewhere")
    elif kind == "FIFO":
        os.mkfifo(place)
    else:
        with socket.socket(socket.AF_UNIX) as server:
            here = Path.cwd()
            os.chdir(place.parent)  # a socket's path is short
            server.bind(place.name)
            os.chdir(here)


@pytest.mark.parametrize("kind", ["symlink", "FIFO", "socket"])
def test_a_special_file_is_refused_with_the_way_to_exclude_it_or_skipped_and_told(tmp_path, kind):
    make(tmp_path / "p", "1", "3")
    special(tmp_path / "p/2", kind)
    with pytest.raises(SourceRefused, match=rf"p/2 is a {kind}.*--exclude '.*p/2'"):
        walk(tmp_path / "p")
    assert walk(tmp_path / "p", exclude=(str(tmp_path / "p/2"),)) == ["p", "p/1", "p/3"]
    places = gather([tmp_path / "p"], exclude=Exclude())
    met = Walk(places, exclude=Exclude(), skip_unreadable=True)
    assert [shown(entry.path) for entry in met] == ["p", "p/1", "p/3"]
    assert met.skipped == [str(tmp_path / "p/2")]


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_folder_without_permission_is_named_or_skipped(tmp_path):
    make(tmp_path / "p", "1", "closed/2", "3")
    (tmp_path / "p/closed").chmod(0)
    script = (
        "import sys; from pathlib import Path;"
        "from quorumvault.backup.exclude import Exclude;"
        "from quorumvault.backup.sources import gather; from quorumvault.backup.walk import Walk;"
        "from quorumvault.backup.errors import SourceUnreadable; import os;"
        "os.chdir(sys.argv[1]); os.setuid(65534);"
        "p = gather([Path('p')], exclude=Exclude());"
        "w = Walk(p, exclude=Exclude(), skip_unreadable=True);"
        "print([e.path[-1] for e in w], w.skipped)\n"
        "try: list(Walk(p, exclude=Exclude()))\n"
        "except SourceUnreadable as error: print(error)"
    )
    for folder in (each for each in (tmp_path, *tmp_path.parents) if "pytest-of-" in str(each)):
        folder.chmod(0o755)
    said = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    closed = tmp_path / "p/closed"
    assert said[0] == f"[b'p', b'1', b'3'] ['{closed}']"
    assert said[1].startswith(f"cannot read {closed}: Permission denied; allow reading it, or")


def test_names_that_are_no_text_are_met_as_they_are(tmp_path):
    names = [b"new\nline", b"\xff\xfe", b"esc\x1b[2J", "grün".encode(), b" ", b"*", b"-rf"]
    (tmp_path / "p").mkdir()
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/p/" + name)).write_text("x")
    places = gather([tmp_path / "p"], exclude=Exclude())
    met = [entry.path[-1] for entry in Walk(places, exclude=Exclude())]
    assert met == [b"p", *sorted(names)]


def test_a_name_that_is_no_text_is_shown_without_harm(tmp_path):
    make(tmp_path, "p/1")
    place = tmp_path / os.fsdecode(b"p/\xff\x1b[2J\n")
    place.symlink_to("1")
    with pytest.raises(SourceRefused) as caught:
        walk(tmp_path / "p")
    assert r"p/\xff\x1b[2J\x0a is a symlink" in str(caught.value)
    assert str(caught.value).isprintable()


def deep(root: Path, levels: int) -> None:
    """Folders one in another, further down than any path reaches."""
    root.mkdir()
    descriptor = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("deeper", dir_fd=descriptor)
        below = os.open("deeper", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    with open("file", "x", opener=lambda name, flags: os.open(name, flags, dir_fd=descriptor)):
        os.close(descriptor)


def test_a_tree_deeper_than_open_files_and_paths_allow_is_walked(tmp_path):
    deep(tmp_path / "p", 505)
    make(tmp_path / "p", "zz")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (160, hard))
    try:
        places = gather([tmp_path / "p"], exclude=Exclude())
        met = [entry.path for entry in Walk(places, exclude=Exclude())]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert met[505] == (b"p", *(b"deeper",) * 505)
    assert met[506][-1] == b"file"
    assert met[507] == (b"p", b"zz")
    assert len(met) == 508


def test_a_tree_too_deep_to_be_kept_is_refused(tmp_path):
    deep(tmp_path / "p", 520)
    with pytest.raises(SourceRefused, match="can't be kept"):
        walk(tmp_path / "p")


# ---------------------------------------------------------------- races


def steps(source: Path):
    """A walk, step by step, as the paths that it meets."""
    met = Walk(gather([source], exclude=Exclude()), exclude=Exclude())
    return met, iter(met)


def test_a_folder_swapped_for_a_symlink_leads_nowhere(tmp_path):
    make(tmp_path, "p/a/1", "p/b/2", "secret/3")
    _, going = steps(tmp_path / "p")
    assert [next(going).path[-1] for _ in range(3)] == [b"p", b"a", b"1"]
    (tmp_path / "p/b/2").unlink()
    (tmp_path / "p/b").rmdir()
    (tmp_path / "p/b").symlink_to(tmp_path / "secret")
    with pytest.raises(SourceRefused, match="symlink"):
        list(going)


def test_a_file_swapped_for_a_symlink_is_not_opened(tmp_path):
    make(tmp_path, "p/1", "secret")
    _, going = steps(tmp_path / "p")
    next(going)
    entry = next(going)
    (tmp_path / "p/1").unlink()
    (tmp_path / "p/1").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        entry.open()


def test_a_file_that_is_gone_is_not_missed(tmp_path):
    make(tmp_path, "p/1", "p/2", "p/3")
    met, going = steps(tmp_path / "p")
    assert [next(going).path[-1] for _ in range(2)] == [b"p", b"1"]
    (tmp_path / "p/2").unlink()
    assert [entry.path[-1] for entry in going] == [b"3"]
    assert met.renamed is None


def test_a_file_renamed_to_a_later_name_is_met_under_it(tmp_path):
    make(tmp_path, "p/1", "p/2", "p/3")
    met, going = steps(tmp_path / "p")
    assert [next(going).path[-1] for _ in range(2)] == [b"p", b"1"]
    (tmp_path / "p/2").rename(tmp_path / "p/4")
    assert [entry.path[-1] for entry in going] == [b"3", b"4"]
    assert met.renamed is None


def test_a_file_renamed_to_a_name_that_is_past_asks_for_another_walk(tmp_path):
    make(tmp_path, "p/1.jpg", "p/2.jpg.part", "p/3")
    met, going = steps(tmp_path / "p")
    assert [next(going).path[-1] for _ in range(2)] == [b"p", b"1.jpg"]
    (tmp_path / "p/2.jpg.part").rename(tmp_path / "p/0.jpg")
    assert [entry.path[-1] for entry in going] == [b"3"]
    assert met.renamed == str(tmp_path / "p")


def test_a_folder_moved_away_while_the_walk_is_deep_in_it_is_told(tmp_path):
    deep(tmp_path / "p", 100)
    make(tmp_path, "elsewhere/")
    _, going = steps(tmp_path / "p")
    for _ in range(102):
        entry = next(going)
    assert entry.path[-1] == b"file"
    moved = tmp_path.joinpath("p", *["deeper"] * 20)
    moved.rename(tmp_path / "elsewhere/moved")
    with pytest.raises(SourceChanged, match="moved away"):
        list(going)
