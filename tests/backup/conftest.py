"""What the tests of backups share: the vault of the SDK's tests, and three kinds of storage."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from grounds import make_bucket, s3_storage_at, served_s3, served_webdav, webdav_storage_at
from honest_vault import HonestVault
from served_vault import Served

from quorumvault.backup.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ground() -> Iterator[Path]:
    """A folder in memory, where nothing waits for a disk; readable to all."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Its account is alice; `served.connection_file()` says where it is."""
    vault = Served(HonestVault(), tmp_path_factory.mktemp("vault"))
    vault.start()
    yield vault
    vault.stop()


@pytest.fixture(scope="session")
def webdav_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served_webdav(tmp_path_factory.mktemp("webdav")) as address:
        yield address


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Its bucket is `phones`."""
    with served_s3() as address:
        make_bucket(address, "phones")
        yield address


@pytest.fixture
def folder_storage(tmp_path: Path) -> Iterator[Storage]:
    with Storage(str(tmp_path / "storage")) as storage:
        yield storage


@pytest.fixture
def webdav_storage(webdav_server: str) -> Iterator[Storage]:
    with webdav_storage_at(webdav_server, f"backups/{uuid4().hex}") as storage:
        yield storage


@pytest.fixture
def s3_storage(s3_server: str) -> Iterator[Storage]:
    with s3_storage_at(s3_server, f"phones/{uuid4().hex}") as storage:
        yield storage


@pytest.fixture(params=["folder", "s3", "webdav"])
def storage(request: pytest.FixtureRequest) -> Storage:
    """Each of the three; nothing is in it."""
    return request.getfixturevalue(f"{request.param}_storage")
