from __future__ import annotations

import os
import random
import sys
from typing import TYPE_CHECKING

import pytest
from disk_vault import DiskVault
from harness import vault5

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Vault5


@pytest.fixture(scope="session")
def shared_vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault5]:
    """One running vault for tests that leave all five nodes up; use accounts of your own."""
    with vault5(tmp_path_factory.mktemp("shared-vault")) as vault:
        yield vault


@pytest.fixture
def stormy_vault(shared_vault: Vault5) -> Iterator[Vault5]:
    """The same one for tests that kill nodes: whatever they do, all five are up afterwards."""
    yield shared_vault
    dead = [node.id for node in shared_vault.cluster.nodes.values() if not node.running]
    shared_vault.restart(*dead)


@pytest.fixture(scope="session")
def short_grace_vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault5]:
    """One running vault that locks soon: four guesses, two seconds of grace."""
    root = tmp_path_factory.mktemp("short-grace-vault")
    with vault5(root, limit=4, grace_s=2, shards=4) as vault:
        yield vault


@pytest.fixture(scope="session")
def _disk_vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskVault]:
    vault = DiskVault(tmp_path_factory.mktemp("disk-vault"), wan="none", witness=True, shards=4)
    try:
        yield vault
    finally:
        vault.close()


@pytest.fixture
def disk_vault(_disk_vault: DiskVault) -> Iterator[DiskVault]:
    """A vault whose disks fail when told to; whatever a test does, all are well afterwards."""
    yield _disk_vault
    _disk_vault.heal()


@pytest.fixture
def seeded(request: pytest.FixtureRequest) -> random.Random:
    """Randomness of a printed seed; QUORUMVAULT_TEST_SEED repeats it."""
    seed = int(os.environ.get("QUORUMVAULT_TEST_SEED") or random.getrandbits(32))
    sys.stdout.write(f"{request.node.name}: QUORUMVAULT_TEST_SEED={seed}\n")
    return random.Random(seed)
