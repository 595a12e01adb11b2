"""Any tree of files that a disk can have comes back from create and restore as it was."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from quorumvault.backup.create import create
from quorumvault.backup.keys import Keys
from quorumvault.backup.restore import restore
from quorumvault.backup.storage import Storage
from quorumvault.backup.verify import verify

KEYS = Keys.of(bytes(range(32)))
NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not {b"/", b"\0"} & {bytes([one]) for one in name} and name not in {b".", b".."}
)
MODES = st.sampled_from([0o000, 0o400, 0o555, 0o600, 0o644, 0o700, 0o777])
TIMES = st.integers(-(10**9), 4 * 10**9).map(lambda seconds: seconds * 10**9 + 123_456_789)
SIZES = st.sampled_from([0, 1, 100, 4_096, 300_000, 524_288, 524_289, 4_194_300, 4_194_301])
FILES = st.tuples(SIZES, st.integers(0, 3), MODES, TIMES)
TREES = st.recursive(
    st.dictionaries(NAMES, FILES, max_size=4),
    lambda inner: st.dictionaries(NAMES, st.one_of(FILES, inner), max_size=4),
    max_leaves=12,
)

Tree = dict[bytes, "Tree | tuple[int, int, int, int]"]


def grow(tree: Tree, where: Path) -> None:
    where.mkdir()
    for name, what in tree.items():
        path = where / os.fsdecode(name)
        if isinstance(what, dict):
            grow(what, path)
            continue
        size, seed, mode, mtime_ns = what
        path.write_bytes(bytes([seed]) * size)  # equal contents are stored once
        path.chmod(mode)
        os.utime(path, ns=(mtime_ns, mtime_ns))


def seen(where: Path) -> dict[Path, tuple[int, int, bytes]]:
    found = {}
    for path in where.rglob("*"):
        status = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[path.relative_to(where)] = (status.st_mode, status.st_mtime_ns, data)
    return found


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_any_tree_comes_back_as_it_was(tree: Tree) -> None:
    ground = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        source = ground / "source"
        grow(tree, source)
        with Storage(str(ground / "storage")) as storage:
            made = create(storage, KEYS, [source])
            done = restore(storage, KEYS, ground / "target")
            checked = verify(storage, KEYS)
        assert (done.files, done.folders, done.bytes) == (made.files, made.folders, made.bytes)
        assert (checked.files, checked.bytes, checked.strangers) == (made.files, made.bytes, 0)
        assert seen(ground / "target" / "source") == seen(source)
    finally:
        shutil.rmtree(ground)
