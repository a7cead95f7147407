"""Chromium as the system has it, driven by Playwright; tests that need it skip with the reason where it is missing."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser. Skips the test when there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine; install Debian's package `chromium` to run the tests of the page")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; it comes with the extra `dev`")
    with playwright.sync_playwright() as driver:
        # no sandbox: the test may run as root in a container, and the page is our own
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()
