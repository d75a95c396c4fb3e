"""For the tests and for nbval: figures go to a temporary folder, and files are shared out between processes."""

import os
import tempfile
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one process a core: threads would only get in each other's way

import pytest

_FIGURES = tempfile.TemporaryDirectory(prefix="c2f-lrp-figures-")
os.environ["C2F_LRP_FIGURES"] = _FIGURES.name  # the notebooks' kernels inherit it


def pytest_configure(config):
    config.addinivalue_line("markers", "after_notebooks: needs what the notebook of its parameter `name` wrote")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """One process runs all of a file; what looks at a notebook's results runs in that notebook's process, after it.

    Notebooks come first: they take longest, and what is short fills the gaps at the end.
    """
    notebooks = {item.path.stem.split("_", 1)[1]: item.path.name for item in items if item.path.suffix == ".ipynb"}

    def group(item) -> str:
        late = item.get_closest_marker("after_notebooks") is not None
        return notebooks.get(item.callspec.params["name"], item.path.name) if late else item.path.name

    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: (item.get_closest_marker("after_notebooks") is not None, item.path.suffix != ".ipynb"))


@pytest.fixture
def figures_of_this_run() -> Path:
    return Path(_FIGURES.name)
