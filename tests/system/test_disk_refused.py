"""A directory or token that is not this node's, or not as it was: one line, next step, exit code.

Nothing is written to what was refused, so the right directory is taken again afterwards.
Design section 6; exit codes: section 8 (2 configuration, 8 conflict), 1 for a damaged store.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import uuid
from typing import TYPE_CHECKING

import pytest
from disk_vault import mount, unmount
from harness import wait_until

from chaos.process_disk import STORE_FILE, why_no_mount
from cluster.datadir import DataDir
from cluster.store_pages import _TREE, PAGE_BYTES, PageFile, Tree, _descend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from disk_vault import DiskVault

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

VICTIM, OTHER = 5, 4
META_BYTES = 16 + 24 + 2 * 48 + 16
"""LMDB's: header, fixed part, two trees, last page and, at the end, the transaction."""
REPLACE = (
    f"replace the node with 'quorumvault member replace {VICTIM} --cluster DIR' (docs/node.md)"
)
needs_mount = pytest.mark.skipif(why_no_mount() is not None, reason=str(why_no_mount()))


@pytest.fixture(scope="module")
def _down(_disk_vault: DiskVault) -> Iterator[DiskVault]:
    """Node 5 is down and an image of its directory from an earlier start is at hand."""
    vault = _disk_vault
    vault.kill(VICTIM)
    vault.disks[VICTIM].copy()
    vault.restart(VICTIM)
    vault.kill(VICTIM)
    yield vault
    vault.restart(VICTIM)  # whatever was refused, the right directory is as it was


@pytest.fixture
def down(_down: DiskVault) -> Iterator[DiskVault]:
    """The same; the test puts back what it exchanged."""
    right = fingerprint(_down.data_dir(VICTIM))
    yield _down
    assert fingerprint(_down.data_dir(VICTIM)) == right


def fingerprint(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ("node.lock", "lock.mdb")
    }


@pytest.fixture
def aside(down: DiskVault) -> Iterator[Path]:
    """The right contents are here while the test puts others in their place."""
    directory = down.data_dir(VICTIM)
    kept = directory.parent / "kept"
    shutil.copytree(directory, kept)
    yield kept
    replace(directory, kept)
    shutil.rmtree(kept)


def replace(directory: Path, contents: Path | None) -> None:
    """Exchange what is in the directory, which may be a mount."""
    for entry in directory.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    if contents is not None:
        shutil.copytree(contents, directory, dirs_exist_ok=True)


def in_use(file: Path) -> dict[str, int]:
    """Offsets of bytes that a start reads: which batch is the last, where tables are, a row."""
    with PageFile(file) as pages:
        newest, _ = pages.metas()
        group = Tree(*_TREE.unpack(_descend(pages, newest.main, b"group")))
    return {
        "meta": newest.txn % 2 * PAGE_BYTES + META_BYTES - 8,
        "root": newest.main.root * PAGE_BYTES + PAGE_BYTES - 1,
        "row": group.root * PAGE_BYTES + PAGE_BYTES - 1,
    }


@pytest.mark.usefixtures("aside")
@pytest.mark.parametrize("what", ["meta", "root", "row"])
def test_a_flipped_byte_is_named_and_nothing_starts_from_it(down: DiskVault, what: str) -> None:
    file = down.data_dir(VICTIM) / STORE_FILE
    with file.open("r+b") as opened:
        opened.seek(in_use(file)[what])
        byte = opened.read(1)[0]
        opened.seek(-1, os.SEEK_CUR)
        opened.write(bytes((byte ^ 2,)))
    code, line = down.refused(VICTIM)
    assert code == 1
    assert {"meta": "transaction", "root": "page", "row": "'group'"}[what] in line, line
    assert "check the disk, keep the directory for inspection, and replace the node" in line
    assert "quorumvault member replace" in line


def test_an_old_copy_of_the_directory_is_refused_by_the_stamp(down: DiskVault) -> None:
    down.disks[VICTIM].put_image()
    code, line = down.refused(VICTIM)
    down.disks[VICTIM].put_right()
    assert code == 8
    assert "the data directory is older than the HSM's stamp (incarnation" in line
    assert line.endswith(REPLACE)


@pytest.mark.usefixtures("aside")
def test_an_empty_directory_under_a_used_enrolment_is_refused(down: DiskVault) -> None:
    replace(down.data_dir(VICTIM), None)
    code, line = down.refused(VICTIM)
    assert code == 8
    assert f"the data directory is empty, but node {VICTIM} has run before" in line
    assert "mount its disk if that is missing" in line
    assert line.endswith(REPLACE)


def test_swapped_directories_are_refused_at_both_nodes_and_say_whose_they_are(
    down: DiskVault, aside: Path
) -> None:
    vault = down
    theirs = vault.data_dir(OTHER)
    vault.kill(OTHER)
    kept = theirs.parent / "kept"
    shutil.copytree(theirs, kept)
    try:
        replace(theirs, aside)
        replace(vault.data_dir(VICTIM), kept)
        for node, owner in ((VICTIM, OTHER), (OTHER, VICTIM)):
            code, line = vault.refused(node)
            assert code == 8
            assert f"belongs to node {owner} of cluster {vault.cluster.cluster_id}, not to" in line
            assert line.endswith("correct data_dir or node_id")
    finally:
        replace(theirs, kept)
        shutil.rmtree(kept)
        vault.restart(OTHER)


def test_another_nodes_store_in_the_right_directory_is_told_by_its_key(
    down: DiskVault, aside: Path
) -> None:
    vault = down
    vault.cluster.pause(OTHER)
    try:
        store = vault.data_dir(VICTIM) / "store"
        shutil.rmtree(store)
        shutil.copytree(vault.data_dir(OTHER) / "store", store)
    finally:
        vault.cluster.resume(OTHER)
    assert (aside / "store").exists()
    code, line = vault.refused(VICTIM)
    assert code == 8
    assert "was written with another node's state key" in line
    assert line.endswith("put directory and HSM token of the same node together")


@pytest.mark.usefixtures("aside")
def test_the_directory_of_another_cluster_is_refused(down: DiskVault) -> None:
    directory, foreign = down.data_dir(VICTIM), uuid.uuid4()
    replace(directory, None)
    DataDir.claim(directory, foreign, VICTIM).release()
    code, line = down.refused(VICTIM)
    assert code == 8
    assert f"belongs to node {VICTIM} of cluster {foreign}" in line
    assert line.endswith("correct data_dir or node_id")
    # With the name put right by hand it is still no directory of this node.
    replace(directory, None)
    DataDir.claim(directory, uuid.UUID(down.cluster.cluster_id), VICTIM).release()
    code, line = down.refused(VICTIM)
    assert (code, line.endswith(REPLACE)) == (8, True)


def test_a_second_process_on_one_directory_is_refused_and_the_first_goes_on(
    down: DiskVault,
) -> None:
    vault = down
    node, first = vault.cluster.nodes[VICTIM], vault.cluster.nodes[OTHER]
    config = node.config.read_text()
    try:
        # Its own ports and token, and the directory of a node that runs.
        node.config.write_text(config.replace(str(node.data_dir), str(first.data_dir)))
        code, line = vault.refused(VICTIM)
    finally:
        node.config.write_text(config)
    assert code == 8
    assert f"is in use by process {first.process.pid}: stop that node first" in line
    wait_until(lambda: vault.probe(OTHER, "/readyz")[0] == 200, "the other serves as before")


def test_the_token_of_another_node_is_refused(down: DiskVault) -> None:
    vault = down
    node, other = vault.cluster.nodes[VICTIM], vault.cluster.nodes[OTHER]
    config, environment = node.config.read_text(), dict(node.environment)
    try:
        # The token directory of the other node: no token of the right name is in it.
        node.environment["SOFTHSM2_CONF"] = other.environment["SOFTHSM2_CONF"]
        code, line = vault.refused(VICTIM)
        assert code == 2
        assert "seat-5" in line
        # And configured by its name and PIN: its keys are of another seat.
        changed = config.replace("seat-5", "seat-4")
        changed = changed.replace(str(node.folder / "pin"), str(other.folder / "pin"))
        node.config.write_text(changed)
        code, line = vault.refused(VICTIM)
        assert code == 2
        assert "quorumvault hsm provision" in line
        sys.stdout.write(f"{line}\n")
    finally:
        node.config.write_text(config)
        node.environment.clear()
        node.environment.update(environment)


@needs_mount
def test_a_directory_on_a_read_only_mount_is_refused_and_not_waited_for(down: DiskVault) -> None:
    directory = str(down.data_dir(VICTIM))
    mount("-o", "remount,ro", directory)
    try:
        code, line = down.refused(VICTIM)
    finally:
        mount("-o", "remount,rw", directory)
    assert code == 2
    assert f"data directory {directory} cannot be used (Read-only file system)" in line
    assert line.endswith("check path, permissions and space")


@needs_mount
def test_a_mount_that_is_missing_is_told_from_a_first_start(down: DiskVault) -> None:
    """The mount point is an empty directory of another disk; the data is not lost but elsewhere."""
    directory = down.data_dir(VICTIM)
    elsewhere = directory.parent / "elsewhere"
    elsewhere.mkdir()
    mount("--bind", str(directory), str(elsewhere))
    unmount(directory)
    try:
        code, line = down.refused(VICTIM)
    finally:
        replace(directory, None)
        mount("--bind", str(elsewhere), str(directory))
        unmount(elsewhere)
        elsewhere.rmdir()
    assert code == 8
    assert "mount its disk if that is missing" in line
    assert os.path.ismount(directory)
