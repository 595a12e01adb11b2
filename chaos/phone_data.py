"""What a phone keeps, made from a seed: messages, photos, videos, voice notes, call records.

For tests and for the benchmark of backups: the sizes are those of a messenger's folder (many small
voice notes, most bytes in videos), the bytes of media do not compress, those of messages do.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KIB: Final = 1024
MIB: Final = 1024 * KIB

SAID: Final = "see you at the harbour tomorrow bring both tickets and tell nobody yet"
PIECE_BYTES: Final = 4 * MIB
"""Media are written so much at a time."""


def make_phone(folder: Path, size: int, seed: int, *, canary: str = "") -> int:
    """Fill `folder` with about `size` bytes; `canary` stands in every message and file name.

    Returns:
        the bytes of all files together.

    """
    rng = random.Random(seed)  # noqa: S311 - a seed repeats it
    mark = f"-{canary}" if canary else ""
    for name in ("Photos/2026", "Videos", "Voice Notes", "Empty"):
        (folder / name).mkdir(parents=True)
    _messages(folder / f"messages{mark}.db", max(200, size // (20 * KIB)), rng, canary)
    calls = [{"with": canary or "Zoë", "at": n, "seconds": rng.randrange(900)} for n in range(500)]
    (folder / f"calls{mark}.json").write_text(json.dumps(calls))
    (folder / "Empty" / "nothing.txt").touch()
    left = size - sum(path.stat().st_size for path in files_below(folder))
    number = 0
    while left > 0:
        number += 1
        kind = rng.random()
        if kind < 0.70:
            name, wanted = f"Voice Notes/Grüße {number}{mark}.opus", rng.randrange(8, 200) * KIB
        elif kind < 0.97:
            name, wanted = f"Photos/2026/IMG_{number:05}{mark}.jpg", rng.randrange(1, 4) * MIB + 7
        else:
            name, wanted = f"Videos/VID {number}{mark}.mp4", rng.randrange(15, 60) * MIB + 13
        wanted = min(wanted, left)
        _media(folder / name, wanted, rng, canary)
        left -= wanted
    return sum(path.stat().st_size for path in files_below(folder))


def a_day_later(folder: Path, seed: int) -> None:
    """Twenty new messages, one new voice note, one photo less."""
    rng = random.Random(seed)  # noqa: S311 - a seed repeats it
    database = next(folder.glob("messages*.db"))
    _write_messages(database, 20, rng, "")
    _media(folder / "Voice Notes" / f"new {seed}.opus", 30 * KIB, rng, "")
    photos = sorted((folder / "Photos" / "2026").iterdir())
    if photos:
        photos[len(photos) // 2].unlink()


def files_below(folder: Path) -> Iterator[Path]:
    """Every file, in no order."""
    for place, _, names in os.walk(folder):
        for name in names:
            yield folder / place / name


def fingerprint(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Of every file and folder below: digest, mode and modification time (ns); folders' too."""
    seen: dict[str, tuple[str, int, int]] = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        if path.is_dir():
            digest = "folder"
        else:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = str(path.relative_to(folder))
        seen[name] = (digest, about.st_mode & 0o777, about.st_mtime_ns)
    return seen


def _messages(path: Path, count: int, rng: random.Random, canary: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, at INTEGER, said TEXT)")
        database.commit()
    _write_messages(path, count, rng, canary)


def _write_messages(path: Path, count: int, rng: random.Random, canary: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        for _ in range(count):
            said = " ".join(rng.choices(SAID.split(), k=rng.randrange(4, 60)))
            row = (rng.randrange(1 << 40), f"{said} {canary}")
            database.execute("INSERT INTO messages (at, said) VALUES (?, ?)", row)
        database.commit()


def _media(path: Path, size: int, rng: random.Random, canary: str) -> None:
    """Random bytes with the canary in them where there is room for it."""
    with path.open("wb") as file:
        left = size
        while left:
            piece = rng.randbytes(min(left, PIECE_BYTES))
            if canary and len(piece) > len(canary):
                piece = canary.encode() + piece[len(canary.encode()) :]
            file.write(piece)
            left -= len(piece)
