"""Equation (10), the fooling ratio, measures of heatmaps and perturbations, against NumPy, SciPy and the twin."""

import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from c2f_lrp import metrics
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
    with pytest.raises(ValueError, match="values have shape"):
        relevance_mass(torch.ones(2, 3, 2, 2), torch.ones(masks, dtype=torch.bool))


@settings(deadline=None)
@given(shapes, st.integers(0, 2**32))
def test_relevance_rank(shape, seed):
    heatmap, masks = normal(shape, seed), normal((shape[0], *shape[2:]), seed + 1) > 0
    rank = metrics.relevance_rank(heatmap, masks)
    expected = [reference.relevance_rank(r, m) for r, m in zip(heatmap.numpy(), masks.numpy(), strict=True)]
    np.testing.assert_allclose(rank.numpy(), expected, rtol=1e-12)  # nan for an empty mask


def test_relevance_rank_by_hand():
    heatmap = torch.tensor([4.0, 3, 2, 1]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
    for mask, expected in (([1, 1, 0, 0], 1), ([1, 0, 0, 1], 0.5), ([0, 0, 0, 1], 0), ([1, 1, 1, 1], 1)):
        assert metrics.relevance_rank(heatmap, torch.tensor(mask).bool().view(1, 2, 2)).item() == expected


@pytest.mark.parametrize(("share", "n"), [(1, 12), (0.5, 6), (0.1, 1), (0.01, 1)])
def test_most_relevant_pixels(share, n):
    heatmap = normal((2, 3, 3, 4), 1)
    masks = metrics.most_relevant(heatmap, share)
    for values, mask in zip(heatmap.sum(1), masks, strict=True):
        assert mask.sum() == n
        if n < 12:
            assert values[mask].min() > values[~mask].max()


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none(share):
    with pytest.raises(ValueError, match="share is"):
        metrics.most_relevant(torch.ones(1, 3, 2, 2), share)


@settings(deadline=None)
@given(st.tuples(st.integers(1, 4), st.just(3), st.integers(2, 5), st.integers(2, 5)), st.integers(0, 2**32))
def test_where_a_perturbation_lies(shape, seed):
    eta, masks = normal(shape, seed), normal((shape[0], *shape[2:]), seed + 1) > 0
    for ours, twin in (
        (metrics.perturbation_share(eta, masks), reference.perturbation_share),
        (metrics.hoyer(eta), lambda e, _: reference.hoyer(e)),
        (metrics.entropy(eta), lambda e, _: reference.entropy(e)),
    ):
        expected = [twin(e, m) for e, m in zip(eta.numpy(), masks.numpy(), strict=True)]
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_sparsity_and_entropy_of_the_extremes():
    single, even = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    single[0, 1, 2, 3] = -5
    for eta, sparsity, spread in ((single, 1, 0), (even, 0, 1), (-even, 0, 1)):
        assert metrics.hoyer(eta).item() == pytest.approx(sparsity, abs=1e-6)
        assert metrics.entropy(eta).item() == pytest.approx(spread, abs=1e-6)
    nothing = torch.zeros(1, 3, 4, 4)
    values = metrics.hoyer(nothing), metrics.entropy(nothing), metrics.perturbation_share(nothing, nothing[:, 0] == 0)
    assert all(value.isnan().all() for value in values)


def test_an_empty_mask_has_no_share_of_anything():
    heatmap, masks = normal((2, 3, 4, 5), 1).abs(), torch.zeros(2, 4, 5, dtype=torch.bool)
    masks[1, 2] = True
    for measure in (metrics.relevance_mass, metrics.relevance_rank, metrics.perturbation_share):
        assert measure(heatmap, masks).isnan().tolist() == [True, False]
    assert metrics.mask_share(masks)[1].item() == pytest.approx(1 / 4) and metrics.mask_share(masks)[0].isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-10, 1e-30, 1e25])
def test_cosines_of_tiny_and_huge_gradients(dtype, size):
    """torch.cosine_similarity gives 1e-4 of the truth at 1e-10 and 0 at 1e-30, whose squares float32 has not."""
    a, b = normal((3, 3, 4, 4), 1), normal((3, 3, 4, 4), 2)
    expected = metrics.cosine(a, b)
    assert expected.abs().min() > 0.01
    found = metrics.cosine((size * a).to(dtype), (size * b).to(dtype))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)  # float32 sums of 48 numbers
    assert metrics.cosine(a, 0 * a).isnan().all()


@settings(deadline=None)
@given(st.tuples(st.integers(1, 4), st.just(3), st.integers(2, 5), st.integers(2, 5)), st.integers(0, 2**32))
def test_heatmaps_compared(shape, seed):
    a, b = normal(shape, seed), normal(shape, seed + 1)
    for row in range(shape[0]):
        flat = [x[row].numpy().ravel() for x in (a, b)]
        angle = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
        assert metrics.cosine(a, b)[row].item() == pytest.approx(angle, abs=1e-12)
        spearman = stats.spearmanr(*(x[row].sum(0).numpy().ravel() for x in (a, b))).statistic
        assert metrics.rank_correlation(a, b)[row].item() == pytest.approx(spearman, abs=1e-6)  # kept in float32
        expected = reference.contrast(a[row].numpy(), b[row].numpy())
        np.testing.assert_allclose(metrics.contrast(a, b)[row, 0], expected, rtol=1e-9, atol=1e-12)
    assert metrics.rank_correlation(a, a.exp() + 0 * b).shape == (shape[0],)


def test_contrast_is_blind_to_how_much_relevance_there_is():
    a, b = normal((2, 3, 4, 5), 1), normal((2, 3, 4, 5), 2)
    torch.testing.assert_close(metrics.contrast(a, b), metrics.contrast(7 * a, 0.1 * b))
    assert not metrics.contrast(a, 3 * a).abs().max() > 1e-15
    assert torch.equal(metrics.contrast(0 * a, 0 * b), torch.zeros(2, 1, 4, 5, dtype=torch.float64))


def test_bootstrap_intervals_are_those_of_scipy():
    """The percentile interval of the mean; two ways of drawing agree to a few percent of its width."""
    values = normal((40,), 5).numpy() + 3
    mean, low, high = metrics.bootstrap(np.append(values, np.nan), resamples=20_000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, random_state=0)
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    width = high - low
    assert abs(low - theirs.confidence_interval.low) < 0.05 * width
    assert abs(high - theirs.confidence_interval.high) < 0.05 * width
    assert metrics.bootstrap(values) == metrics.bootstrap(values)
    assert metrics.bootstrap([2.0, 2.0]) == (2, 2, 2)
    assert np.isnan(metrics.bootstrap([np.nan])).all()


def test_measures_want_batches():
    with pytest.raises(ValueError, match=r"give a batch \(N, 3, H, W\)"):
        metrics.hoyer(torch.ones(3, 4, 4))


@pytest.mark.filterwarnings("ignore")  # Quantus warns of how its metrics are to be read
def test_measures_are_those_of_quantus():
    """Hedström et al., "Quantus" (JMLR 2023), where it has the measure; it is in the extra `bench`.

    Its heatmaps have one channel, its complexity is an entropy in nats, its "cosine" a distance.
    """
    quantus = pytest.importorskip("quantus", reason='Quantus is in the extra: pip install -e ".[bench]"')
    from quantus.functions import similarity_func

    a, b = normal((6, 3, 9, 8), 1), normal((6, 3, 9, 8), 2)
    masks = normal((6, 9, 8), 3) > 0.5
    plain = dict(abs=False, normalise=False, disable_warnings=True)

    def theirs(metric, heatmap):
        given = dict(model=None, x_batch=a.numpy(), y_batch=np.zeros(6, int), channel_first=True)
        return metric(**given, a_batch=heatmap[:, None].numpy(), s_batch=masks[:, None].numpy())

    def pairs(x, y):
        return zip(x.numpy(), y.numpy(), strict=True)

    relevance, size = a.sum(1), a.abs().sum(1)
    for ours, expected in (
        (metrics.relevance_mass(a, masks), theirs(quantus.RelevanceMassAccuracy(**plain), relevance.clamp(min=0))),
        (metrics.relevance_rank(a, masks), theirs(quantus.RelevanceRankAccuracy(**plain), relevance)),
        (metrics.entropy(a), theirs(quantus.Complexity(**plain), size) / np.log(72)),
        (metrics.cosine(a, b), [1 - similarity_func.cosine(x.ravel(), y.ravel()) for x, y in pairs(a, b)]),
        (
            metrics.rank_correlation(a, b),
            [similarity_func.correlation_spearman(x.sum(0).ravel(), y.sum(0).ravel()) for x, y in pairs(a, b)],
        ),
    ):
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-6)
