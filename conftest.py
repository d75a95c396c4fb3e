"""For the tests and for nbval: figures go to a temporary folder, and tests of the notebooks' results run last."""

import os
import tempfile
from pathlib import Path

import pytest

_FIGURES = tempfile.TemporaryDirectory(prefix="c2f-lrp-figures-")
os.environ["C2F_LRP_FIGURES"] = _FIGURES.name  # the notebooks' kernels inherit it


def pytest_configure(config):
    config.addinivalue_line("markers", "after_notebooks: needs what the notebooks wrote in this session; runs last")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("after_notebooks") is not None)


@pytest.fixture
def figures_of_this_run() -> Path:
    return Path(_FIGURES.name)
