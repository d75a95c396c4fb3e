"""Debian's Chromium, for the tests that look at pages as a reader sees them."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDED = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium or its driver is not there: apt-get install chromium chromium-driver"
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
)


@contextlib.contextmanager
def opened(profile: Path, patience: float, *flags: str) -> Iterator:
    """A browser with a profile of its own, whose console is kept; patience: seconds for a page or a script."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS.split(), *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))  # named, so that nothing is looked for
    try:
        driver.set_page_load_timeout(patience)
        driver.set_script_timeout(patience)
        yield driver
    finally:
        driver.quit()
