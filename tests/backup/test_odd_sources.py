"""Files that disks can have and few people have seen: none breaks a backup or is kept wrongly."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

import pytest

from quorumvault.backup.create import create
from quorumvault.backup.errors import SourceChanged, SourceRefused
from quorumvault.backup.keys import Keys
from quorumvault.backup.restore import restore
from quorumvault.backup.storage import Storage

KEYS = Keys.of(bytes(range(32)))


@pytest.mark.parametrize("seconds", [1e10, -1.2e10])  # 2286; 1589, of NTFS without a time: 1601
@pytest.mark.parametrize("folder", [True, False])
def test_times_beyond_those_of_the_format_become_its_first_and_last(
    ground: Path, seconds: float, folder: bool
) -> None:
    source = ground / "phone"
    source.mkdir()
    (source / "note").write_bytes(b"text")
    os.utime(source if folder else source / "note", (seconds, seconds))
    with Storage(str(ground / "storage")) as storage:
        create(storage, KEYS, [source])
        restore(storage, KEYS, ground / "target")
    assert (ground / "target" / "phone" / "note").read_bytes() == b"text"


def test_a_clock_before_1970_makes_a_backup(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (ground / "note").write_bytes(b"text")
    monkeypatch.setattr(time, "time", lambda: -86_400.0)
    with Storage(str(ground / "storage")) as storage:
        assert create(storage, KEYS, [ground / "note"]).created_s == 0


def test_a_file_that_calls_itself_empty_and_is_not_is_never_kept_as_empty(ground: Path) -> None:
    proc = Path("/proc/version")
    assert proc.stat().st_size == 0
    assert proc.read_bytes()
    with Storage(str(ground / "storage")) as storage:
        with pytest.raises(SourceChanged, match="/proc/version changed each"):
            create(storage, KEYS, [proc])
        (ground / "note").write_bytes(b"text")
        made = create(storage, KEYS, [proc, ground / "note"], skip_unreadable=True)
    assert (made.files, made.skipped) == (1, ("/proc/version",))


NAMES = ["it's", "'; touch owned; '", "[x]*?", "back\\slash", "new\nline", "caf\udce9", "$(x) `y`"]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_message_says_to_type_leaves_out_that_file_and_is_one_word_of_a_shell(
    ground: Path, name: str
) -> None:
    source = ground / "phone"
    source.mkdir()
    (source / "note").write_bytes(b"text")
    (source / name).symlink_to("note")
    with Storage(str(ground / "storage")) as storage:
        with pytest.raises(SourceRefused) as refused:
            create(storage, KEYS, [source])
        said = str(refused.value)
        option, pattern = shlex.split(said[said.index("--exclude ") :])
        assert option == "--exclude"
        assert create(storage, KEYS, [source], exclude=[pattern]).files == 1
