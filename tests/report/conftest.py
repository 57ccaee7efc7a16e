"""A browser for the report's tests."""

import shutil

import pytest


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright to drive a browser")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs a browser: 'make browser' installs Debian's chromium")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()
