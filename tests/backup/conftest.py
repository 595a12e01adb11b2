"""The vault of the SDK's tests, for the tests of backups: five real TLS listeners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from honest_vault import HonestVault
from served_vault import Served

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Its account is alice; `served.connection_file()` says where it is."""
    vault = Served(HonestVault(), tmp_path_factory.mktemp("vault"))
    vault.start()
    yield vault
    vault.stop()
