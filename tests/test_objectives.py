"""Equations (6)-(9): adversarial labels and relevance losses, against the slow twin and finite differences."""

import re

import numpy as np
import pytest
import reference
import torch

from c2f_lrp import objectives
from c2f_lrp.lrp import BIASES, INITS, LRP
from c2f_lrp.objectives import adversarial_labels, lrp_loss

READINGS = [(init, bias) for init in INITS for bias in BIASES]
NORMS = (1, 2, float("inf"))


def test_adversarial_labels_are_the_highest_and_the_runner_up(clf, images):
    for network in (clf.coarse, clf.fine[0], clf.fine[1]):
        twin = reference.read(network, images.pixels.shape[1:])
        expected = [reference.eq_6(twin, image.ravel()) for image in images.pixels.numpy()]
        org, adv = adversarial_labels(network(images.pixels))
        assert list(zip(org.tolist(), adv.tolist(), strict=True)) == expected


def test_adversarial_labels_of_two_classes():
    org, adv = adversarial_labels(torch.tensor([[0.5, 0.25], [-3, -2]]))
    assert org.tolist() == [0, 1] and adv.tolist() == [1, 0]


def test_one_class_has_no_runner_up(clf, images):
    with pytest.raises(ValueError, match="logits have 1 class; a runner-up needs at least two"):
        adversarial_labels(clf.fine[2](images.pixels))


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize(("init", "bias"), READINGS)
def test_loss_is_that_of_the_twin(clf, images, p, init, bias):
    pixels = images.pixels[:4]
    twin = reference.read(clf.fine[0], pixels.shape[1:])
    org, adv = adversarial_labels(clf.fine[0](pixels))
    ours = lrp_loss(LRP(clf.fine[0], init, bias), pixels, org, adv, p).detach()
    expected = [
        reference.loss(twin, image.ravel(), o, a, p, init, bias)
        for image, o, a in zip(pixels.numpy(), org, adv, strict=True)
    ]
    assert ours.shape == (4,)
    # Norms of heatmaps of order 1: float64 rounding over a few hundred terms stays far below 1e-10.
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("init", "bias"), READINGS)
def test_gradient_of_the_loss(clf, images, p, init, bias):
    """Against central differences of the loss itself, and the twin's complex-step derivative of eq. (7)."""
    image = images.pixels[:1]
    lrp = LRP(clf.coarse, init, bias)
    org, adv = adversarial_labels(clf.coarse(image))
    x = image.clone().requires_grad_()
    analytic = torch.autograd.grad(lrp_loss(lrp, x, org, adv, p).sum(), x)[0].flatten().numpy()
    twin = reference.read(clf.coarse, image.shape[1:])
    exact = reference.gradient(lambda at: reference.loss(twin, at, org, adv, p, init, bias), image.numpy().ravel())
    # As printed (one_hot, ignore, p = 1) the gradient is zero and only rounding is left; others have size 1e-4.
    np.testing.assert_allclose(analytic, exact, rtol=0, atol=1e-9 * abs(exact).max() + 1e-15)

    # h^2 f''' / 6 of a loss that bends on a scale of 10 pixel units is below 1e-8 of f'; rounding adds 1e-15 / h.
    h = 1e-3
    moves = h * torch.eye(image.numel()).double().view(-1, *image.shape[1:])
    around = torch.cat([image + moves, image - moves])
    with torch.no_grad():
        plus, minus = lrp_loss(lrp, around, org.expand(len(around)), adv.expand(len(around)), p).chunk(2)
    numeric = ((plus - minus) / (2 * h)).numpy()
    np.testing.assert_allclose(analytic, numeric, rtol=0, atol=1e-6 * abs(exact).max() + 1e-12)
    printed = (init, bias, p) == ("one_hot", "ignore", 1)
    assert (abs(exact).max() < 1e-15) == printed  # elsewhere there was something to compare


@pytest.mark.parametrize("p", [0.5, 0, -1, float("nan")])
def test_what_is_no_norm(clf, images, p):
    with pytest.raises(ValueError, match=re.escape(f"p is {p}; a norm needs p >= 1, such as 1, 2 or float('inf')")):
        lrp_loss(LRP(clf.coarse), images.pixels, images.coarse, images.coarse, p)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("n", [1, 3])
def test_labels_that_do_not_fit_the_images(clf, images, p, n):
    """Neither too few labels nor too many: a loss of the wrong images must not come back."""
    pixels, labels = images.pixels[:2], images.coarse[:n]
    with pytest.raises((ValueError, RuntimeError)):
        lrp_loss(LRP(clf.coarse), pixels, labels, 1 - labels, p)


# --------------------------------------------------------------------------------------- where the relevance lies
def case(clf, images, init, bias, share=0.2):
    """One image with its labels, regions and clean margin, and the same for the twin."""
    image, lrp = images.pixels[:1], LRP(clf.coarse, init, bias)
    org, adv = adversarial_labels(clf.coarse(image))
    regions = objectives.evidence_regions(lrp, image, org, adv, share)
    twin = reference.read(clf.coarse, image.shape[1:])
    flat, shape = image.numpy().ravel(), image.shape[1:]
    maps = [reference.relevance(twin, flat, c.item(), init, bias).reshape(shape) for c in (org, adv)]
    return image, lrp, org, adv, regions, twin, maps


@pytest.mark.parametrize(("init", "bias"), READINGS)
def test_evidence_regions_are_the_twins(clf, images, init, bias):
    *_, regions, _, maps = case(clf, images, init, bias)
    expected = reference.evidence_regions(*maps, 0.2)
    np.testing.assert_array_equal(regions[0].numpy(), np.stack(expected))
    assert (regions.sum((2, 3)) == 7).all() and not (regions[0, 0] & regions[0, 1]).any()  # 7 of 36 pixels


@pytest.mark.parametrize("name", ["regions", "attention"])
@pytest.mark.parametrize(("init", "bias"), READINGS)
def test_losses_that_see_where_relevance_lies(clf, images, init, bias, name):
    """Value and gradient against the twin, the gradient against central differences too; also as printed."""
    image, lrp, org, adv, regions, twin, _ = case(clf, images, init, bias)
    o, a, masks, clean = org.item(), adv.item(), tuple(regions[0].numpy()), 0.7
    if name == "regions":
        ours = lambda x: objectives.regions_loss(lrp, x, *(v.expand(len(x), *v.shape[1:]) for v in (org, adv, regions)))  # noqa: E731
        theirs = lambda x: reference.regions_loss(twin, x, o, a, masks, init, bias)  # noqa: E731
    else:
        scale = torch.tensor([clean], dtype=torch.float64)

        def ours(x):
            given = (v.expand(len(x), *v.shape[1:]) for v in (org, adv, regions, scale))
            return objectives.attention_loss(lrp, x, *given)

        theirs = lambda x: reference.attention_loss(twin, x, o, a, masks, clean, init, bias)  # noqa: E731
    x = image.clone().requires_grad_()
    value = ours(x)
    assert value.item() == pytest.approx(float(np.real(theirs(image.numpy().ravel()))), rel=1e-9)
    analytic = torch.autograd.grad(value.sum(), x)[0].flatten().numpy()
    exact = reference.gradient(theirs, image.numpy().ravel())
    assert abs(exact).max() > 1e-6
    np.testing.assert_allclose(analytic, exact, rtol=0, atol=1e-9 * abs(exact).max())
    moves = 1e-3 * torch.eye(image.numel()).double().view(-1, *image.shape[1:])
    with torch.no_grad():
        plus, minus = ours(torch.cat([image + moves, image - moves])).chunk(2)
    np.testing.assert_allclose(analytic, (plus - minus).numpy() / 2e-3, rtol=0, atol=1e-5 * abs(exact).max())
