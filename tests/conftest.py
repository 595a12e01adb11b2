"""Two workers share the suite on two cores: one has the real vaults, the other all the rest.

Tests with real nodes measure seconds of wall time, so never two of them run at once, and they go
first: their worker is busy longest. What the other worker does (pure code, virtual time, single
processes) yields to them by its priority.
"""

from __future__ import annotations

import os

import pytest
from xdist.scheduler import LoadScopeScheduling

REAL = ("tests/system/", "tests/deploy/", "tests/console/", "tests/chaos/test_driver_docker.py")
"""Tests that bring up a whole vault; so no two stacks of containers are up at once either."""
YIELDS = 10
"""Niceness of the tests that can wait."""


class OneRealVault(LoadScopeScheduling):
    """All tests with real vaults are one piece of work; any other file is one of its own."""

    def _split_scope(self, nodeid: str) -> str:
        return "real" if nodeid.startswith(REAL) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> OneRealVault:
    return OneRealVault(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(REAL))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        niceness = 0 if item.nodeid.startswith(REAL) else YIELDS
        if os.getpriority(os.PRIO_PROCESS, 0) != niceness:
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
