"""The honest vault behind five real TLS listeners, for tests of transport and command line."""

from __future__ import annotations

import pytest
from honest_vault import HonestVault
from served_vault import Served


@pytest.fixture
def unstarted(tmp_path):
    served = Served(HonestVault(), tmp_path)
    yield served
    if served.urls:
        served.stop()


@pytest.fixture
def served(unstarted):
    unstarted.start()
    return unstarted
