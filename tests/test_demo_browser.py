"""The demo as a teacher opens it, in Debian's Chromium: the notebook in JupyterLab, and Voilà's page without code.

Screenshots go to the test's temporary folder, and to the folder that C2F_LRP_SCREENSHOTS names.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import chromium
import pytest
from PIL import Image, ImageChops
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from c2f_lrp.paths import NOTEBOOKS

pytestmark = chromium.NEEDED
PATIENCE = 150  # seconds for one thing to happen while other tests take both cores; alone it takes a few
# JupyterLab asks a new user whether it may fetch news; here it may not, and nobody answers.
SETTINGS = {"@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false"}}


@contextlib.contextmanager
def started(command: list[str], tmp_path: Path):
    """A server with Jupyter's folders of its own; the process, and where it logs."""
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    environment = os.environ | {name: str(tmp_path / folder) for name, folder in places.items()}
    (tmp_path / "work").mkdir(exist_ok=True)
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=tmp_path / "work",
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # its kernels too
            process.wait(timeout=60)


@pytest.fixture
def server(tmp_path):
    """JupyterLab on a free port of this machine alone, with a copy of the notebook; its address with its token."""
    (tmp_path / "work").mkdir()
    shutil.copy(NOTEBOOKS / "00_demo.ipynb", tmp_path / "work")
    settings = tmp_path / "config" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(SETTINGS))
    options = "--no-browser --allow-root --ip=127.0.0.1 --port=0 --LabApp.extension_manager=readonly".split()
    with started(["jupyterlab", *options], tmp_path) as process:

        def address(_):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            for path in (tmp_path / "runtime").glob("jpserver-*.json"):
                told = json.loads(path.read_text() or "{}")
                url = f"{told['url']}api/status?token={told['token']}"
                with urllib.request.urlopen(url, timeout=10):
                    return f"{told['url']}doc/tree/00_demo.ipynb?token={told['token']}"

        yield WebDriverWait(None, PATIENCE, ignored_exceptions=[OSError, ValueError, KeyError]).until(address)


@pytest.fixture
def page(tmp_path):
    """The address of what c2f-lrp demo --page serves."""
    pytest.importorskip("voila")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with started(["c2f_lrp.cli", "demo", "--page", "--", "--no-browser", f"--port={port}"], tmp_path) as process:

        def address(_):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            with socket.create_connection(("127.0.0.1", port), timeout=10):
                return f"http://127.0.0.1:{port}/"

        yield WebDriverWait(None, PATIENCE, ignored_exceptions=[OSError]).until(address)


@pytest.fixture
def browser(tmp_path):
    with chromium.opened(tmp_path / "chromium", PATIENCE, "--window-size=1280,800") as driver:
        yield driver


def labelled(text: str) -> str:
    """The widget with this description."""
    return f"//div[contains(@class, 'jupyter-widgets')][label[text()='{text}']]"


def differs(a: Image.Image, b: Image.Image) -> Image.Image | None:
    """The first picture, if it is another than the second."""
    return a if a.size != b.size or ImageChops.difference(a, b).getbbox() else None


@pytest.fixture
def folder(tmp_path):
    """Where screenshots go."""
    folder = Path(os.environ.get("C2F_LRP_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def until(browser, folder):
    """Waits until a function of the browser gives something."""

    def wait(what):
        try:
            return WebDriverWait(browser, PATIENCE, ignored_exceptions=[WebDriverException, ValueError]).until(what)
        except TimeoutException:
            browser.save_screenshot(folder / "in_vain.png")
            raise

    return wait


def drawn(b):
    """The first row of pictures, once all are decoded."""
    row = b.find_element(By.CSS_SELECTOR, ".c2f .row")
    ready = "return [...arguments[0].querySelectorAll('img')].every(i => i.complete && i.naturalWidth >= 64)"
    return len(row.find_elements(By.TAG_NAME, "img")) == 5 and b.execute_script(ready, row) and row


def text(b) -> str:
    return b.find_element(By.CSS_SELECTOR, ".c2f").text


def test_the_demo_in_jupyterlab(server, browser, until, folder, tmp_path):
    def one(xpath: str):
        return until(lambda b: next((e for e in b.find_elements(By.XPATH, xpath) if e.is_displayed()), None))

    def picture(name: str) -> Image.Image:
        """The demo's pictures as they are seen; the whole window is kept, too."""
        browser.save_screenshot(folder / f"{name}.png")
        until(drawn).screenshot(str(tmp_path / "picture.png"))
        return Image.open(tmp_path / "picture.png").convert("RGB")

    def says(words: str):
        return until(lambda b: words in text(b))

    browser.get(server)
    one("//span[contains(@class, 'jp-StatusBar-TextItem')][contains(., '| Idle')]")  # the kernel is there
    one("//div[contains(@class, 'lm-MenuBar-itemLabel')][text()='Run']").click()
    one("//div[contains(@class, 'lm-Menu-itemLabel')][text()='Run All Cells']").click()
    until(drawn)
    first = picture("1_run")
    says("FOOLED")
    steps = until(lambda b: text(b).split("step ")[1].split(" of ")[1].split()[0])
    says(f"step {steps} of {steps}")
    projector = {"width": 1280, "height": 720, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", projector)
    picture("1_projector")  # the verdict, all pictures and what stands below them, above JupyterLab's last line
    ends = "return [...document.querySelectorAll(arguments[0])].map(e => e.getBoundingClientRect())"
    (row, *_), (line,) = (browser.execute_script(ends, css) for css in (".c2f .row", "#jp-main-statusbar"))
    assert 0 < row["top"] < row["bottom"] <= line["top"] < 720
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    one(labelled("step") + "//div[contains(@class, 'noUi-handle')]").send_keys(Keys.HOME)
    says(f"step 0 of {steps}")
    says("not fooled yet")
    clean = until(lambda b: differs(picture("2_step_0"), first))

    one("//div[contains(@class, 'widget-play')]//button[i[contains(@class, 'fa-play')]]").click()
    says(f"step {steps} of {steps}")

    Select(one(labelled("attack") + "//select")).select_by_visible_text("PGD")
    says("--attack pgdc")
    until(lambda b: differs(picture("3_pgd"), clean))

    one("//button[contains(., 'it fails')]").click()
    says("step 40 of 40")
    says("not fooled")
    browser.set_window_size(480, 900)
    picture("4_narrow")

    assert not browser.find_elements(By.CSS_SELECTOR, ".jp-Dialog, [data-mime-type='application/vnd.jupyter.stderr']")
    assert not browser.find_elements(By.CSS_SELECTOR, "[data-mime-type='application/vnd.jupyter.error']")
    assert "Error displaying widget" not in browser.page_source


TOO_WIDE = """
return [...document.querySelectorAll('*')]
    .filter(e => e.offsetWidth && (e.getBoundingClientRect().right > innerWidth + 1
        || (e.scrollWidth > e.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX))))
    .map(e => `${e.tagName} ${e.className}`)
"""


def test_the_page_without_code_runs_by_itself_on_a_telephone(page, browser, until, folder):
    narrow = {"width": 480, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    browser.get(page)
    until(lambda b: "FOOLED" in text(b) and drawn(b))
    browser.save_screenshot(folder / "5_page.png")
    assert browser.execute_script("return innerWidth") == 480
    assert browser.execute_script(TOO_WIDE) == []
    shown = browser.find_element(By.TAG_NAME, "body").text
    assert "Run All Cells" not in shown and "import" not in shown
    before = text(browser)
    until(lambda b: b.find_element(By.XPATH, "//button[contains(., 'it fails')]")).click()
    until(lambda b: "not fooled" in text(b) and text(b) != before)
    assert browser.execute_script(TOO_WIDE) == []
