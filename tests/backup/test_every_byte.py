"""No byte of a stored backup can be another one without `verify` and `restore` noticing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from chaos.phone_data import files_below
from quorumvault.backup.create import create
from quorumvault.backup.errors import Damaged, FutureVersion
from quorumvault.backup.keys import Keys
from quorumvault.backup.restore import restore
from quorumvault.backup.storage import Storage
from quorumvault.backup.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = Keys.of(bytes(range(32)))
FLIPS = (0x01, 0x80, 0xFF)
ALL = os.environ.get("QUORUMVAULT_EVERY_BYTE") == "1"
"""Restore at every byte, too: two minutes; else at all of the first 64 and every 13th after."""


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[Storage, list[Path]]]:
    """A backup of two small files: one chunk, one manifest."""
    source = tmp_path / "phone"
    source.mkdir()
    (source / "messages.db").write_bytes(b"see you at the harbour" * 20)
    (source / "photo.jpg").write_bytes(os.urandom(700))
    storage = Storage(str(tmp_path / "storage"))
    create(storage, KEYS, [source])
    yield storage, sorted(files_below(tmp_path / "storage"))
    storage.close()


def test_every_mutation_of_every_stored_byte_is_noticed(
    stored: tuple[Storage, list[Path]], tmp_path: Path
):
    storage, paths = stored
    assert len(paths) == 2
    target = tmp_path / "target"
    uses = (lambda: verify(storage, KEYS), lambda: restore(storage, KEYS, target))
    unnoticed = []
    for path in paths:
        right = path.read_bytes()
        changed = bytearray(right)
        for at in range(len(right)):
            changed[at] = right[at] ^ FLIPS[at % len(FLIPS)]
            with path.open("r+b") as file:
                file.seek(at)
                file.write(changed[at : at + 1])
            for use in uses if ALL or at < 64 or at % 13 == 0 else uses[:1]:
                try:
                    use()
                except (Damaged, FutureVersion):
                    continue
                unnoticed.append((path.name, at))
            changed[at] = right[at]
            with path.open("r+b") as file:
                file.seek(at)
                file.write(right[at : at + 1])
        assert path.read_bytes() == right
    assert not unnoticed
    assert not target.exists()
    verify(storage, KEYS)
