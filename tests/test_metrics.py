"""Equation (10), the fooling ratio and the relevance mass, against NumPy."""

import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c2f_lrp.metrics import fooling_ratio, perceptibility, relevance_mass

NORMS = (1, 2, float("inf"))
shapes = st.tuples(st.integers(1, 4), st.just(3), st.integers(1, 5), st.integers(1, 5))


def normal(shape, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None)
@given(shapes, st.integers(0, 2**32), st.sampled_from(NORMS))
def test_perceptibility(shape, seed, p):
    eta, x = normal(shape, seed), normal(shape, seed + 1).abs()
    norms = [[np.linalg.norm(image.ravel(), p) for image in batch.numpy()] for batch in (eta, x)]
    expected = np.mean(np.divide(*norms))
    ours = float(perceptibility(eta, x, p))
    assert ours == pytest.approx(expected, rel=1e-12)  # float64 sums of at most 300 numbers
    assert reference.eq_10(eta.numpy(), x.numpy(), p) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("p", "expected"), [(1, (3 / 30 + 1) / 2), (2, (3 / 500**0.5 + 1) / 2), (math.inf, 0.575)])
def test_perceptibility_by_hand(p, expected):
    """The mean of each image's ratio, not the ratio of the means."""
    x = torch.tensor([[10.0, 20, 0], [5, 0, 0]]).view(2, 3, 1, 1)
    eta = torch.tensor([[0.0, -3, 0], [-5, 0, 0]]).view(2, 3, 1, 1)
    assert float(perceptibility(eta, x, p)) == pytest.approx(expected, rel=1e-6)  # float32


@pytest.mark.parametrize("p", [0, 0.5, 3, -1, float("nan"), -float("inf"), "2"])
def test_perceptibility_of_another_norm(p):
    with pytest.raises(ValueError, match=r"p = 1, 2 or float\('inf'\)"):
        perceptibility(torch.ones(1, 3, 2, 2), torch.ones(1, 3, 2, 2), p)


@pytest.mark.parametrize("p", NORMS)
def test_perceptibility_of_a_black_image(p):
    pixels = torch.ones(3, 3, 2, 2)
    pixels[1] = 0
    with pytest.raises(ValueError, match="image 1 is black"):
        perceptibility(torch.ones(3, 3, 2, 2), pixels, p)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 3, 4, 5), (3, 4, 4)])
def test_perceptibility_of_shapes_that_differ(shape):
    with pytest.raises(ValueError, match="shape"):
        perceptibility(torch.ones(shape), torch.ones(1, 3, 4, 4), 2)


def test_perceptibility_of_no_images():
    with pytest.raises(ValueError, match="at least one image"):
        perceptibility(torch.ones(0, 3, 4, 4), torch.ones(0, 3, 4, 4), 2)


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_fooling_ratio(fooled):
    expected = reference.fooling_ratio([0] * len(fooled), [int(value) for value in fooled])
    assert fooling_ratio(torch.tensor(fooled)) == pytest.approx(expected, rel=1e-15)


def test_fooling_ratio_of_no_images():
    with pytest.raises(ValueError, match="no images"):
        fooling_ratio(torch.zeros(0, dtype=torch.bool))


@settings(deadline=None)
@given(shapes, st.integers(0, 2**32))
def test_relevance_mass(shape, seed):
    heatmap, masks = normal(shape, seed), normal((shape[0], *shape[2:]), seed + 1) > 0
    mass = relevance_mass(heatmap, masks)
    expected = [reference.relevance_mass(r, m) for r, m in zip(heatmap.numpy(), masks.numpy(), strict=True)]
    assert mass.shape == (shape[0],)
    np.testing.assert_allclose(mass.numpy(), expected, rtol=1e-12)  # nan where the twin has nan


def test_relevance_mass_adds_the_channels_before_it_drops_what_is_negative():
    heatmap = torch.tensor([[3.0, 1], [-2, 1], [0, 1]]).view(1, 3, 1, 2)  # channels add up to 1 and 3
    assert relevance_mass(heatmap, torch.tensor([[[True, False]]])).tolist() == [0.25]


def test_relevance_mass_without_positive_relevance_is_nan():
    heatmap = torch.stack([torch.full((3, 2, 2), -1.0), torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    mass = relevance_mass(heatmap, torch.ones(3, 2, 2, dtype=torch.bool))
    assert mass.isnan().tolist() == [True, True, False]
    assert mass[2] == 1


@pytest.mark.parametrize("masks", [(1, 2, 2), (2, 2, 3), (2, 3, 2, 2)])
def test_relevance_mass_of_masks_that_do_not_fit(masks):
    with pytest.raises(ValueError, match="heatmaps have shape"):
        relevance_mass(torch.ones(2, 3, 2, 2), torch.ones(masks, dtype=torch.bool))
