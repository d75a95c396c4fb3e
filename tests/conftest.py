"""A tiny coarse-to-fine classifier and images for it, shared by the tests."""

from types import SimpleNamespace

import pytest
import torch
from networks import SIZE, convolutional, hierarchy_of, random_pixels

from c2f_lrp.classifier import CoarseToFine, SingleClass

torch.set_num_threads(1)  # faster for networks this small, most of all on a busy machine


@pytest.fixture(scope="session")
def clf() -> CoarseToFine:
    """Three coarse classes with 3, 4 and 1 fine ones. Tests must leave it as it is."""
    fine = [convolutional(3, seed=1), convolutional(4, seed=2), SingleClass()]
    return CoarseToFine(convolutional(3, seed=0), fine, hierarchy_of((3, 4, 1))).eval()


@pytest.fixture(scope="session")
def images(clf) -> SimpleNamespace:
    """Eight images of the two coarse classes that have a fine attack, with the labels that clf gives them."""
    pixels = random_pixels(64, SIZE, SIZE, seed=3)
    coarse, fine = clf.predict(pixels)
    rows = torch.cat([(coarse == label).nonzero().flatten()[:4] for label in (0, 1)])[[0, 4, 1, 5, 2, 6, 3, 7]]
    return SimpleNamespace(pixels=pixels[rows], coarse=coarse[rows], fine=fine[rows])
