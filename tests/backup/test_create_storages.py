"""Backups on every kind of storage: the first, the next, and what a failure leaves."""

from __future__ import annotations

import random
import shutil

import pytest
from held import KEYS, held, names, on_disk, phone

from quorumvault.backup.create import create
from quorumvault.backup.errors import SourceRefused
from quorumvault.backup.removal import forget_key


def test_backups_follow_one_another_and_each_leaves_nothing_but_itself(storage, ground):
    source = phone(ground / "phone")
    first = create(storage, KEYS, [source])
    assert held(storage).files == on_disk(source)
    shutil.rmtree(source / "photos")
    (source / "messages.db").write_bytes(random.Random(9).randbytes(700_000))
    second = create(storage, KEYS, [source])
    assert held(storage).files == on_disk(source)
    assert held(storage).names == names(storage)
    assert (first.generation, second.generation) == (1, 2)
    (source / "link").symlink_to("messages.db")
    with pytest.raises(SourceRefused):
        create(storage, KEYS, [source])
    assert held(storage).generation == 2
    assert forget_key(storage, KEYS.folder) == second.chunks + 1
    assert not names(storage)
