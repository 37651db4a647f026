"""A browser and a day's work, shared by the tests of the pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.pages.scenery import Desk, a_day, desk, web

PATIENCE = 60_000
"""Milliseconds in which a browser on a busy machine starts, or shows what is expected of it."""
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A ledger with the demo's inputs in it."""
    for name in [name for name in os.environ if name.startswith("POSTROOM_") and not name.startswith("POSTROOM_TEST_")]:
        del os.environ[name]
    with desk(tmp_path_factory.mktemp("day")) as made:
        a_day(made)
        yield made


@pytest.fixture(scope="module")
def url(day: Desk) -> Iterator[str]:
    """The address of the web process over it."""
    with web(day) as address:
        yield address


@pytest.fixture(scope="session")
def chromium() -> str:
    """Debian's Chromium; without it the tests in a browser are skipped."""
    found = shutil.which("chromium")
    if not found:
        pytest.skip("chromium is not installed: sudo apt install chromium")
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One Chromium for the tests of a file."""
    options = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own refuses to start for root
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=options, timeout=PATIENCE)
        yield started
        started.close()
