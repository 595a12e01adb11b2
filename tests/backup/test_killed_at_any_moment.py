"""Whatever moment a backup dies at, the one before it is whole, and the next one cleans up."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chaos.phone_data import MIB, a_day_later, files_below, fingerprint, make_phone
from quorumvault.backup.catalog import newest
from quorumvault.backup.keys import Keys
from quorumvault.backup.restore import restore
from quorumvault.backup.storage import Storage
from quorumvault.backup.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = bytes(range(32))
DEATHS = 50
STRUCK = 13
"""So many of them, at least, come before the backup is there."""


@pytest.fixture
def dying() -> Iterator[Callable[..., dict]]:
    script = Path(__file__).with_name("killed_create.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def order(storage: Path, source: Path, after_s: float | None) -> dict:
            wanted = {
                "storage": str(storage),
                "source": str(source),
                "key": KEY.hex(),
                "after_s": after_s,
            }
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(json.dumps(wanted) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield order
        assert server.stdin is not None
        server.stdin.close()


def test_the_first_backup_is_whole_wherever_the_second_dies(
    dying: Callable[..., dict], tmp_path: Path
):
    seed = int(os.environ.get("QUORUMVAULT_TEST_SEED") or random.getrandbits(32))
    sys.stdout.write(f"QUORUMVAULT_TEST_SEED={seed}\n")
    rng = random.Random(seed)
    phone, first = tmp_path / "phone", tmp_path / "first"
    make_phone(phone, 10 * MIB, seed=5)
    assert dying(first, phone, None)["how"] == "done"
    before = fingerprint(phone)
    a_day_later(phone, seed=6)
    (phone / "Videos" / "new.mp4").write_bytes(rng.randbytes(9 * MIB))
    after = fingerprint(phone)

    storage = tmp_path / "storage"
    shutil.copytree(first, storage)
    whole_run_s = dying(storage, phone, None)["seconds"]
    names_of_second = {path.name for path in files_below(storage)}
    ends = []
    while len(ends) < DEATHS or ends.count(("killed", 1)) < STRUCK:
        shutil.rmtree(storage)
        shutil.copytree(first, storage)
        ended = dying(storage, phone, rng.uniform(0, whole_run_s * 1.05))
        assert ended["code"] in {0, -9}
        place = Storage(str(storage))
        keys = Keys.of(KEY)
        generation = newest(place, keys).generation
        verify(place, keys)
        target = tmp_path / "restored"
        restore(place, keys, target)
        assert fingerprint(target / "phone") == {1: before, 2: after}[generation]
        shutil.rmtree(target)
        place.close()
        ends.append((ended["how"], generation))
        if ended["how"] == "done":
            assert generation == 2
            whole_run_s = ended["seconds"]  # the first one may have waited for a processor
    # The last one's leavings go with the next run.
    assert dying(storage, phone, None)["how"] == "done"
    left = {path.name for path in files_below(storage)}
    assert len(left) == len(names_of_second)
    assert {name for name in left if len(name) == 64} == {
        n for n in names_of_second if len(n) == 64
    }
