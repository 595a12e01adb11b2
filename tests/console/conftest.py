"""One vault of five real nodes and one real Chromium for all tests of the console."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from accounts import Account
from harness import vault5
from playwright.sync_api import sync_playwright
from spectator import Spectator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Vault5
    from playwright.sync_api import Browser

CHROMIUM = Path("/usr/bin/chromium")
ASKED = 1
"""The node whose console is looked at; no test harms it."""
PAUSE_S = 0.25


_open = ExitStack()
"""Vault and browser, for as long as tests of this folder follow."""


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Behind the last of these tests nodes and browser go, before any other test begins.

    Playwright keeps an event loop running in this thread, in which no other could be run, and
    pytest has no scope for a folder that is no package.
    """
    if nextitem is None or Path(__file__).parent not in nextitem.path.parents:
        _open.close()


@pytest.fixture(scope="session")
def console_vault(tmp_path_factory: pytest.TempPathFactory) -> Vault5:
    """Five nodes, 10 to 40 ms apart, whose clients guess rightly all the time."""
    root = tmp_path_factory.mktemp("console-vault")
    vault = _open.enter_context(vault5(root, wan="europe", witness=False))
    _open.enter_context(_clients(vault))
    return vault


class _clients:  # noqa: N801 - reads as what it is where it is used
    """Somebody who recovers a key again and again, so that there is something to count."""

    def __init__(self, vault: Vault5) -> None:
        self._account = Account(vault, "console")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._guess)

    def __enter__(self) -> None:
        self._account.register(ASKED, b"right", os.urandom(32))
        self._thread.start()

    def _guess(self) -> None:
        while not self._over.wait(PAUSE_S):
            self._account.recover(ASKED, b"right")

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._account.close()


@pytest.fixture(scope="session")
def browser() -> Browser:
    if not CHROMIUM.exists():
        pytest.fail(f"{CHROMIUM} is missing: run deploy/system-packages.sh --test")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    playwright = _open.enter_context(sync_playwright())
    running = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
    _open.callback(running.close)
    return running


@pytest.fixture
def spectator(console_vault: Vault5, browser: Browser) -> Iterator[Spectator]:
    """The console in a window of its own; whatever a test does, it must have behaved."""
    with Spectator.looking(browser, console_vault.ops_url(ASKED)) as looking:
        yield looking
