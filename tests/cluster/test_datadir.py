"""A data directory belongs to one node of one cluster, and to one process at a time."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from cluster.datadir import DataDir, DataDirError, DataDirForeignError, DataDirInUseError
from cluster.snapshot_files import SnapshotDirectory

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = UUID("00112233-4455-6677-8899-aabbccddeeff")
OTHER = UUID("ffeeddcc-bbaa-9988-7766-554433221100")


def test_an_empty_directory_becomes_the_nodes_own_and_stays_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "data"
    claimed = DataDir.claim(path, CLUSTER, 3)
    assert claimed.store == path / "store"
    assert claimed.snapshots.is_dir()
    assert path.stat().st_mode & 0o777 == 0o700
    claimed.release()
    claimed.release()
    DataDir.claim(path, CLUSTER, 3).release()


def test_copies_of_an_earlier_life_go_when_the_directory_is_claimed_and_not_before(
    tmp_path: Path,
) -> None:
    """Another process, or another node's, must not take them from whoever uses them."""
    claimed = DataDir.claim(tmp_path, CLUSTER, 3)
    copy = claimed.snapshots / "out-ledger-0-1"
    copy.write_bytes(b"rows")
    with pytest.raises(DataDirInUseError):
        DataDir.claim(tmp_path, CLUSTER, 3)
    assert copy.exists()
    claimed.release()
    with pytest.raises(DataDirForeignError):
        DataDir.claim(tmp_path, OTHER, 3)
    assert copy.exists()
    DataDir.claim(tmp_path, CLUSTER, 3).release()
    assert not copy.exists()


@pytest.mark.parametrize(("cluster", "node"), [(OTHER, 3), (CLUSTER, 4)])
def test_another_nodes_directory_is_refused_by_name(
    tmp_path: Path, cluster: UUID, node: int
) -> None:
    DataDir.claim(tmp_path, CLUSTER, 3).release()
    with pytest.raises(DataDirForeignError, match=f"belongs to node 3 of cluster {CLUSTER}"):
        DataDir.claim(tmp_path, cluster, node)
    DataDir.claim(tmp_path, CLUSTER, 3).release()  # a refusal leaves no lock behind


def test_a_directory_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataDirForeignError, match="holds 'photos'"):
        DataDir.claim(tmp_path, CLUSTER, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or of another program"),
        (b"{}", "damaged or of another program"),
        (b'{"format":2,"cluster_id":"%s","node_id":3}' % str(CLUSTER).encode(), "has format 2"),
        (b'{"format":1,"cluster_id":"%s","node_id":3,"x":1}' % str(CLUSTER).encode(), "unknown"),
    ],
)
def test_a_damaged_or_newer_identity_is_refused_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "identity.json").write_bytes(content)
    with pytest.raises(DataDirForeignError, match=message) as refused:
        DataDir.claim(tmp_path, CLUSTER, 3)
    assert "\n" not in str(refused.value)


def test_a_second_process_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from uuid import UUID\n"
        "from cluster.datadir import DataDir\n"
        "held = DataDir.claim(Path(sys.argv[1]), UUID(sys.argv[2]), 3)\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), str(CLUSTER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DataDirInUseError, match=f"in use by process {holder.pid}: stop"):
            DataDir.claim(tmp_path, CLUSTER, 3)
        holder.stdin.close()
    DataDir.claim(tmp_path, CLUSTER, 3).release()


def test_a_path_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataDirError, match="cannot be used"):
        DataDir.claim(tmp_path / "file", CLUSTER, 3)


def test_snapshot_files_are_written_read_listed_and_removed(tmp_path: Path) -> None:
    files = SnapshotDirectory(tmp_path)
    with files.create("out-1-7") as file:
        file.write(b"first")
    with files.create("out-1-7") as file:
        file.write(b"again")
    with files.open("out-1-7") as file:
        assert file.read(100) == b"again"
    assert files.names() == ["out-1-7"]
    assert (tmp_path / "out-1-7").stat().st_mode & 0o777 == 0o600
    files.remove("out-1-7")
    files.remove("out-1-7")
    with pytest.raises(FileNotFoundError):
        files.open("out-1-7")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/passwd", "-x", "a\0", "a" * 200]
)
def test_no_name_leaves_the_snapshot_directory(tmp_path: Path, name: str) -> None:
    files = SnapshotDirectory(tmp_path)
    for call in (files.create, files.open, files.remove):
        with pytest.raises(ValueError, match="not the plain name"):
            call(name)
