"""For the tests and for nbval: what notebooks write goes to temporary folders; files are shared out to processes."""

import os
import tempfile
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one process a core: threads would only get in each other's way

import pytest
from xdist.scheduler import LoadFileScheduling

_FIGURES = tempfile.TemporaryDirectory(prefix="c2f-lrp-figures-")
_RUNS = tempfile.TemporaryDirectory(prefix="c2f-lrp-runs-")
os.environ |= {"C2F_LRP_FIGURES": _FIGURES.name, "C2F_LRP_RUNS": _RUNS.name}  # the notebooks' kernels inherit them
_NOTEBOOKS = (Path(__file__).parent / "notebooks").glob("*.ipynb")
NOTEBOOKS = {path.stem.split("_", 1)[1]: f"notebooks/{path.name}" for path in _NOTEBOOKS}  # by name without number


# Files whose tests run notebooks, commands, a browser, other processes or large networks. All others are quick:
# python -m pytest -m "not slow"
SLOW = {
    "test_attacks.py",
    "test_book.py",
    "test_cli.py",
    "test_cluster.py",
    "test_conformance.py",
    "test_demo.py",
    "test_demo_browser.py",
    "test_device.py",
    "test_efficientnet_lite.py",
    "test_examples.py",
    "test_folder.py",
    "test_full_size.py",
    "test_lrp_zennit.py",
    "test_opening.py",
    "test_play.py",
    "test_scenes.py",
    "test_side_by_side.py",
    "test_training.py",
}


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long; the others are run by -m 'not slow'")
    config.addinivalue_line("markers", "after_notebooks: needs what the notebook of its parameter `name` wrote")


def pytest_collection_modifyitems(items):
    """Slow tests are marked. Notebooks come first: they take longest, and what is short fills the gaps at the end."""
    for item in items:
        if item.path.suffix == ".ipynb" or item.path.name in SLOW:
            item.add_marker("slow")
    items.sort(key=lambda item: (item.get_closest_marker("after_notebooks") is not None, item.path.suffix != ".ipynb"))


class FileByFile(LoadFileScheduling):
    """One process runs all of a file; what looks at a notebook's results runs in that notebook's process, after it.

    xdist 3.8's own --dist loadgroup does nothing with pytest 9.2, which ignores the names that groups are written into.
    """

    def _split_scope(self, nodeid: str) -> str:
        name = nodeid.rpartition("[")[2].rstrip("]")
        late = "::test_made_by_the_notebook" in nodeid
        return NOTEBOOKS[name] if late else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return FileByFile(config, log)


@pytest.fixture
def figures_of_this_run() -> Path:
    return Path(_FIGURES.name)
