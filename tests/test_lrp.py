"""Equations (3)-(5): relevance against the slow twin, against zennit, and its gradients against finite differences."""

import copy
import re

import numpy as np
import pytest
import reference
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import random_classifier, random_pixels
from torch import nn
from zennit.attribution import Gradient
from zennit.composites import SpecialFirstLayerMapComposite
from zennit.rules import Norm, Pass, ZBox, ZPlus

from c2f_lrp.classifier import Classifier, SingleClass
from c2f_lrp.lrp import BIASES, INITS, LRP
from c2f_lrp.networks import vgg16
from c2f_lrp.objectives import lrp_loss

READINGS = [(init, bias) for init in INITS for bias in BIASES]
N_LABELS = 4
# A heatmap adds up to at most 1, or to a logit of order 1; float64 rounding over a few thousand terms stays near 1e-13.
EXACT = dict(rtol=1e-10, atol=1e-10)
architectures = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# ------------------------------------------------------------------------------------------------------ networks
@st.composite
def networks(draw):
    """A random architecture with weights, and two images that fit it."""
    shape = height, width = draw(st.integers(5, 8)), draw(st.integers(5, 8))
    first, channels, shape = draw(convolutions(3, shape))
    layers = [first]
    for kind in draw(st.lists(st.sampled_from(["conv", "max", "average", "adaptive"]), max_size=3)):
        if kind == "conv":
            conv, channels, shape = draw(convolutions(channels, shape))
            layers += [nn.ReLU(), conv]
        elif kind == "adaptive":
            shape = tuple(draw(st.integers(1, size)) for size in shape)
            layers += [nn.ReLU(), nn.AdaptiveAvgPool2d(shape)]
        else:
            kernel = tuple(draw(st.integers(1, min(3, size))) for size in shape)
            padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
            stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
            shape = tuple(
                (size + 2 * p - k) // s + 1 for size, k, p, s in zip(shape, kernel, padding, stride, strict=True)
            )
            pool = nn.MaxPool2d if kind == "max" else nn.AvgPool2d
            layers += [*([nn.ReLU()] if kind == "average" else []), pool(kernel, stride, padding)]
    layers += [nn.ReLU(), nn.Flatten()]
    features = channels * shape[0] * shape[1]
    if draw(st.booleans()):
        layers += [nn.Linear(features, 5, bias=draw(st.booleans())), nn.ReLU(), nn.Dropout()]
        features = 5
    layers.append(nn.Linear(features, N_LABELS))
    seed = draw(st.integers(0, 2**32))
    return random_classifier(*layers, seed=seed), random_pixels(2, height, width, seed + 1)


@st.composite
def convolutions(draw, channels, shape):
    """A convolution that fits, the number of its output channels, and the shape of its outputs."""
    groups = draw(st.sampled_from([n for n in (1, 2, 3) if channels % n == 0]))
    out_channels = groups * draw(st.integers(1, 3 if groups == 1 else 2))
    kernel, stride, padding, dilation, out_shape = [], [], [], [], []
    for size in shape:
        p = draw(st.integers(0, 1))
        k = draw(st.integers(1, min(3, size + 2 * p)))
        d = draw(st.integers(1, 2)) if 2 * (k - 1) < size + 2 * p else 1
        s = draw(st.integers(1, 3))
        for values, value in ((kernel, k), (stride, s), (padding, p), (dilation, d)):
            values.append(value)
        out_shape.append((size + 2 * p - d * (k - 1) - 1) // s + 1)
    settings = dict(stride=tuple(stride), padding=tuple(padding), dilation=tuple(dilation), groups=groups)
    conv = nn.Conv2d(channels, out_channels, tuple(kernel), **settings, bias=draw(st.booleans()))
    return conv, out_channels, tuple(out_shape)


def small_network(kind: str, seed: int = 0) -> Classifier:
    """Fixed architectures for images (3, 6, 6), wide enough that no label loses all its relevance."""
    head = {
        "plain": [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3)],
        "max": [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 2)],
        "average": [nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(2, 1)],
        "groups": [nn.Conv2d(3, 6, 3, groups=3), nn.ReLU(), nn.Conv2d(6, 8, 2, stride=2, groups=2)],
    }[kind]
    features = {"plain": 96, "max": 32, "average": 32, "groups": 32}[kind]
    tail = [nn.ReLU(), nn.Flatten(), nn.Linear(features, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, N_LABELS)]
    return random_classifier(*head, *tail, seed=seed)


KINDS = ("plain", "max", "average", "groups")


@pytest.fixture(scope="module")
def network() -> Classifier:
    """Tests must leave it as it is."""
    return small_network("max")


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return random_pixels(2, 6, 6, seed=7)


LABELS = torch.tensor([1, 3])


# ------------------------------------------------------------------------------------------------- the equations
@architectures
@given(networks())
def test_relevance_is_that_of_the_twin(case):
    classifier, pixels = case
    twin = reference.read(classifier, tuple(pixels.shape[1:]))
    np.testing.assert_allclose(classifier(pixels).detach()[0], reference.logits(twin, pixels[0].flatten()), **EXACT)
    for init, bias in READINGS:
        ours = LRP(classifier, init, bias).relevance(pixels, LABELS).detach()
        for heatmap, image, label in zip(ours, pixels, LABELS, strict=True):
            expected = reference.relevance(twin, image.numpy().ravel(), label, init, bias)
            np.testing.assert_allclose(heatmap.numpy().ravel(), expected, **EXACT)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("bias", BIASES)
def test_totals_by_layer(clf, images, init, bias):
    """They begin with what relevance starts at, end with the heatmap's total, and fall only where a bias absorbs."""
    network, labels = clf.coarse, images.coarse
    lrp = LRP(network, init, bias)
    totals = lrp.totals_by_layer(images.pixels, labels).detach()
    assert totals.shape == (len(network.layers) + 1, len(labels))
    first = network(images.pixels).gather(1, labels[:, None]).squeeze(1) if init == "logit" else torch.ones(len(labels))
    torch.testing.assert_close(totals[0], first.detach().double())
    torch.testing.assert_close(totals[-1], lrp.relevance(images.pixels, labels).sum((1, 2, 3)).detach())
    steps = totals.abs().diff(dim=0)
    affine = torch.tensor([isinstance(layer, nn.Conv2d | nn.Linear) for layer in reversed(network.layers)])
    affine[-1] = False  # the first layer's rule, z-beta, has no bias
    assert steps[~affine].abs().max() < 1e-12
    if bias == "ignore":
        assert steps.abs().max() < 1e-12
    else:
        assert (steps[affine] < 0).any(1).all() and steps.max() < 1e-12


@architectures
@given(networks())
def test_totals_are_the_sums_of_the_heatmaps_of_all_labels(case):
    classifier, pixels = case
    for init, bias in READINGS:
        lrp = LRP(classifier, init, bias)
        totals = lrp.totals(pixels)
        every = [torch.full((2,), label) for label in range(N_LABELS)]
        sums = torch.stack([heatmap.sum((1, 2, 3)) for heatmap in lrp.relevances(pixels, every)], 1)
        torch.testing.assert_close(totals, sums, **EXACT)
        if init == "one_hot":  # what starts at 1 can get lost, in biases or dead units, but never grow
            assert -1e-12 <= totals.min() and totals.max() <= 1 + 1e-12


def zennit_relevance(classifier: Classifier, pixels, labels, init: str, bias: str) -> torch.Tensor:
    """The same rules, composed from zennit's; on the normalised image, where its hooks can attach."""
    tiny = 1e-30  # zennit adds it to every denominator; at its default of 1e-6 it would show
    low, high = (classifier.normalize(torch.full_like(pixels[:1], value)) for value in (0.0, 255.0))
    z_plus = ZPlus(stabilizer=tiny, zero_params="bias" if bias == "ignore" else None)
    rules = [
        (nn.Conv2d | nn.Linear, z_plus),
        (nn.AvgPool2d | nn.AdaptiveAvgPool2d, Norm(stabilizer=tiny)),
        (nn.ReLU, Pass()),
    ]
    composite = SpecialFirstLayerMapComposite(rules, [(nn.Conv2d, ZBox(low, high, stabilizer=tiny))])
    layers = copy.deepcopy(classifier.layers)
    with torch.no_grad():
        logits = classifier(pixels)
    start = torch.eye(logits.shape[1]).to(logits)[labels]
    if init == "logit":
        start = start * logits
    with Gradient(layers, composite) as attributor:
        return attributor(classifier.normalize(pixels), start)[1]


@settings(architectures, max_examples=25)
@given(networks(), st.sampled_from(READINGS), st.sampled_from([1, 2]))
def test_gradient_of_the_loss_is_that_of_the_twin(case, reading, p):
    """Complex steps through the equations as printed, against the derivative by hand (p = 1) and autograd (p = 2)."""
    classifier, pixels = case
    # One order above EXACT: a derivative divides by each denominator once more.
    assert_gradient_is_the_twins(classifier, pixels, reading, p, tolerance=1e-8)


def assert_gradient_is_the_twins(classifier, pixels, reading, p, tolerance):
    """Of the loss of eq. (7) on the first image, for labels 0 and 2."""
    twin = reference.read(classifier, tuple(pixels.shape[1:]))
    x, (org, adv) = pixels[:1].clone().requires_grad_(), (0, 2)
    loss = lrp_loss(LRP(classifier, *reading), x, torch.tensor([org]), torch.tensor([adv]), p).sum()
    ours = torch.autograd.grad(loss, x)[0].numpy().ravel()
    theirs = reference.gradient(lambda at: reference.loss(twin, at, org, adv, p, *reading), x.detach().numpy().ravel())
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * max(1e-3, abs(theirs).max()))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("readings", READINGS)
def test_batch_normalisation_is_folded(readings, p, pixels):
    """Behind convolutions and linear layers, with and without their own bias: as in the network folded by hand."""
    normed = random_classifier(
        *(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 4, 2), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8, affine=False), nn.ReLU(), nn.Linear(8, N_LABELS)),
        seed=1,
    )
    plain = random_classifier(
        *(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, N_LABELS)),
        seed=2,
    )
    generator = torch.Generator().manual_seed(3)
    affine = [layer for layer in plain.layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    before = None
    with torch.no_grad():
        for layer in normed.layers:
            if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
                layer.running_mean.copy_(torch.randn(layer.running_mean.shape, generator=generator))
                layer.running_var.copy_(0.5 + torch.rand(layer.running_var.shape, generator=generator))
                scale = (1 if layer.weight is None else layer.weight) / (layer.running_var + layer.eps).sqrt()
                shift = 0 if layer.bias is None else layer.bias
                before.weight.mul_(scale.view(-1, *[1] * (before.weight.ndim - 1)))
                before.bias.copy_((before.bias - layer.running_mean) * scale + shift)
            elif isinstance(layer, nn.Conv2d | nn.Linear):
                before = affine.pop(0)
                before.weight.copy_(layer.weight)
                before.bias.copy_(torch.zeros_like(before.bias) if layer.bias is None else layer.bias)
    torch.testing.assert_close(normed(pixels), plain(pixels), **EXACT)
    results = []
    for classifier in (normed, plain):
        x = pixels.clone().requires_grad_()
        loss = lrp_loss(LRP(classifier, *readings), x, ORG, ADV, p)
        results.append((loss.detach(), torch.autograd.grad(loss.sum(), x)[0]))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, **EXACT)


@pytest.mark.parametrize("method", ["relevance", "totals"])
def test_changed_weights_are_seen(pixels, method):
    """The engine keeps W+ between calls, not beyond a change."""
    classifier, other = small_network("max", seed=0), small_network("max", seed=1)
    lrp = LRP(classifier)

    def result(lrp, x=pixels):
        return (lrp.relevance(x, LABELS) if method == "relevance" else lrp.totals(x)).detach()

    first = result(lrp)
    with torch.no_grad():
        classifier.layers[3].weight.mul_(-1)
    assert not torch.equal(result(lrp), first)
    assert torch.equal(result(lrp), result(LRP(classifier)))
    classifier.load_state_dict(other.state_dict())
    assert torch.equal(result(lrp), result(LRP(other)))
    classifier.float()
    torch.testing.assert_close(result(lrp, pixels.float()), result(LRP(other)).float(), rtol=1e-4, atol=1e-5)


@architectures
@given(networks())
def test_relevance_is_that_of_zennit(case):
    classifier, pixels = case
    for init, bias in READINGS:
        ours = LRP(classifier, init, bias).relevance(pixels, LABELS).detach()
        theirs = zennit_relevance(classifier, pixels, LABELS, init, bias)
        # Both round in float64 only, zennit with some cancellation in ZBox (a w - l w+ - h w-).
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(("init", "bias"), READINGS)
@pytest.mark.parametrize("layers", [[nn.Conv2d(3, 1, 1), nn.Flatten()], [nn.Flatten(), nn.Linear(3, 1)]])
def test_first_layer_by_hand(layers, init, bias):
    """Eq. (5) for one pixel and one output, w = (2, -1, 1) per pixel unit: (x - 0) w+ + (x - 255) w-."""
    classifier = random_classifier(*copy.deepcopy(layers), seed=0)
    weight, b = classifier.parameters()
    with torch.no_grad():
        weight.copy_((torch.tensor([2.0, -1, 1]) * classifier.std.flatten()).view(weight.shape))
        b.fill_(7)
    x = torch.tensor([30.0, 155, 0]).double().view(1, 3, 1, 1)
    z = torch.tensor([60.0, 100, 0]).double()  # the bias cancels
    start = 1 if init == "one_hot" else classifier(x).item()
    lrp = LRP(classifier, init, bias)
    torch.testing.assert_close(lrp.totals(x), torch.tensor([[start]]).double(), **EXACT)
    torch.testing.assert_close(lrp.relevance(x, torch.tensor([0])).flatten(), start * z / 160, **EXACT)


@pytest.mark.parametrize(("init", "bias"), READINGS)
def test_average_pooling_at_the_output(init, bias, pixels):
    """Logits that are averages over positions, as of a fully convolutional network, may be negative."""
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, N_LABELS, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    classifier = random_classifier(*layers, seed=0)
    labels = torch.tensor([2, 0])
    assert classifier(pixels)[0, 2] < 0
    twin = reference.read(classifier, (3, 6, 6))
    ours = LRP(classifier, init, bias).relevance(pixels, labels).detach()
    for heatmap, image, label in zip(ours, pixels, labels, strict=True):
        expected = reference.relevance(twin, image.numpy().ravel(), label, init, bias)
        np.testing.assert_allclose(heatmap.numpy().ravel(), expected, **EXACT)


def test_paper_layout_in_float32():
    """VGG-16's sixteen layers at small width: float32 follows float64."""
    torch.manual_seed(0)
    double = vgg16(3, width=2, hidden=8, image_size=32).double().eval()
    with torch.no_grad():
        for layer in double.layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):  # PyTorch's default weights let the signal die on the way
                layer.weight.normal_(0, (2 / layer.weight[0].numel()) ** 0.5)
                layer.bias.normal_(0, 0.1)
    single = copy.deepcopy(double).float()
    pixels = random_pixels(2, 32, 32, seed=1)
    labels = torch.tensor([0, 2])
    for init, bias in READINGS:
        exact = LRP(double, init, bias).relevance(pixels, labels)
        rounded = LRP(single, init, bias).relevance(pixels.float(), labels)
        assert rounded.dtype == torch.float32
        assert exact.abs().sum() > 0.01  # the signal arrives
        # Rounding of 6e-8 per operation grows by sums with both signs through 16 layers: allow a factor of 1000.
        assert (rounded - exact).abs().sum() < 6e-5 * exact.abs().sum()


def test_memory_format_and_dropout_do_not_matter(network, pixels):
    expected = LRP(network).relevance(pixels, LABELS)
    channels_last = pixels.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(LRP(network).relevance(channels_last, LABELS), expected, **EXACT)
    assert torch.equal(LRP(network).relevance(pixels, LABELS), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("depth", [0, 3, 6])
def test_small_activations_are_not_dead_ones(dtype, depth, pixels):
    """Without biases, a layer's scale cancels in eqs. (3)-(5), and a power of two does so without rounding."""
    classifier = small_network("max")
    with torch.no_grad():
        for parameter in classifier.parameters():
            if parameter.ndim == 1:
                parameter.zero_()
        expected = LRP(classifier.to(dtype)).relevance(pixels.to(dtype), LABELS)
        assert expected.sum() > 1.99  # of the two images
        classifier.layers[depth].weight *= 2.0**-40
        small = LRP(classifier).relevance(pixels.to(dtype), LABELS)
    torch.testing.assert_close(small, expected, **EXACT)


# ----------------------------------------------------------------------------------------------------- gradients
def pattern(classifier: Classifier, pixels: torch.Tensor) -> torch.Tensor:
    """Which ReLUs are open and which input wins each pooling, (N, ...): it changes exactly at the kinks."""
    a, parts = classifier.normalize(pixels), []
    for layer in classifier.layers:
        if isinstance(layer, nn.ReLU):
            parts.append((a > 0).flatten(1).long())
        elif isinstance(layer, nn.MaxPool2d):
            parts.append(nn.functional.max_pool2d(a, layer.kernel_size, return_indices=True)[1].flatten(1))
        a = layer(a)
    return torch.cat(parts, 1)


def assert_gradient(classifier, function, image: torch.Tensor) -> None:
    """The gradient of function: (N, 3, H, W) -> (N,) at image (1, 3, H, W) is that of central differences to 1e-6.

    Step h = 1e-3 in pixel units: what is differentiated bends on a scale of 10 pixel units and more, so the error
    h^2 f''' / 6 is below 1e-8 of f'; rounding adds 1e-15 / h = 1e-12 to derivatives of order 1e-3, or 1e-9 of them.
    """
    h = 1e-3
    x = image.clone().requires_grad_()
    analytic = torch.autograd.grad(function(x).sum(), x)[0].flatten()
    moves = h * torch.eye(image.numel(), dtype=image.dtype).view(-1, *image.shape[1:])
    around = torch.cat([image + moves, image - moves])
    assert (pattern(classifier, around) == pattern(classifier, image)).all(), "choose a point away from kinks"
    with torch.no_grad():
        plus, minus = function(around).chunk(2)
    numeric = (plus - minus) / (2 * h)
    assert numeric.abs().max() > 1e-8  # there is something to compare
    assert (analytic - numeric).abs().max() <= 1e-6 * numeric.abs().max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("init", "bias"), READINGS)
def test_gradient_of_a_weighted_heatmap(kind, init, bias):
    classifier = small_network(kind)
    lrp = LRP(classifier, init, bias)
    image = 5 + 240 / 255 * random_pixels(1, 6, 6, seed=11)
    weighting = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def weighted(x):
        return (lrp.relevance(x, torch.full((len(x),), 2)) * weighting).sum((1, 2, 3))

    assert_gradient(classifier, weighted, image)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("init", "bias"), [reading for reading in READINGS if reading != ("one_hot", "ignore")])
def test_gradient_of_weighted_totals(kind, init, bias):
    """Except for the reading whose totals are constant: test_as_printed_the_loss_is_zero."""
    classifier = small_network(kind)
    lrp = LRP(classifier, init, bias)
    image = 5 + 240 / 255 * random_pixels(1, 6, 6, seed=12)
    weighting = torch.tensor([1.0, -2, 0.5, 3]).double()
    assert_gradient(classifier, lambda x: lrp.totals(x) @ weighting, image)


# ------------------------------------------------------------------------------------ what p = 1 and (3)-(5) imply
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("init", "bias"), READINGS)
def test_at_p_1_the_loss_is_the_difference_of_total_relevances(kind, init, bias, pixels):
    """Identity 1: ||R+||_1 - ||R-||_1 = sum R, from two explicit heatmaps and their parts."""
    lrp = LRP(small_network(kind), init, bias)
    org, adv = torch.tensor([0, 2]), torch.tensor([3, 1])
    printed = 0
    for sign, heatmap in zip((1, -1), lrp.relevances(pixels, [org, adv]), strict=True):
        plus, minus = heatmap.clamp(min=0), -heatmap.clamp(max=0)
        printed = printed + sign * (plus.sum((1, 2, 3)) - minus.sum((1, 2, 3)))
    totals = lrp.totals(pixels)
    rows = torch.arange(2)
    torch.testing.assert_close(totals[rows, org] - totals[rows, adv], printed, **EXACT)
    torch.testing.assert_close(lrp_loss(lrp, pixels, org, adv, p=1), printed, **EXACT)


def loss_and_gradient(lrp, pixels, org, adv):
    x = pixels.clone().requires_grad_()
    loss = lrp_loss(lrp, x, org, adv, p=1)
    return loss.detach(), torch.autograd.grad(loss.sum(), x)[0]


def margin_and_gradient(classifier, pixels, org, adv):
    x = pixels.clone().requires_grad_()
    logits = classifier(x)
    margin = (logits.gather(1, org[:, None]) - logits.gather(1, adv[:, None])).squeeze(1)
    return margin.detach(), torch.autograd.grad(margin.sum(), x)[0]


ORG, ADV = torch.tensor([0, 2]), torch.tensor([3, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_as_printed_the_loss_is_zero(kind, pixels):
    """Identity 2: eq. (3) starts at 1, eqs. (4) and (5) conserve it, so every total is 1 and nothing is left."""
    classifier = small_network(kind)
    lrp = LRP(classifier, "one_hot", "ignore")
    torch.testing.assert_close(lrp.totals(pixels), torch.ones(2, N_LABELS).double(), rtol=0, atol=1e-12)
    loss, gradient = loss_and_gradient(lrp, pixels, ORG, ADV)
    assert loss.abs().max() < 1e-12
    # Rounding only: 1e-12 of the gradient that an attack on the margin would follow.
    assert gradient.norm() < 1e-12 * margin_and_gradient(classifier, pixels, ORG, ADV)[1].norm()


@pytest.mark.parametrize("kind", KINDS)
def test_started_at_the_logit_the_loss_is_the_margin(kind, pixels):
    classifier = small_network(kind)
    loss, gradient = loss_and_gradient(LRP(classifier, "logit", "ignore"), pixels, ORG, ADV)
    margin, of_margin = margin_and_gradient(classifier, pixels, ORG, ADV)
    torch.testing.assert_close(loss, margin, **EXACT)
    torch.testing.assert_close(gradient, of_margin, rtol=0, atol=1e-10 * of_margin.abs().max().item())


# --------------------------------------------------------------------------------------------------- dead corners
def negative_second(classifier):
    classifier.layers[3].weight.abs_().neg_()


def negative_everywhere(classifier):
    for parameter in classifier.parameters():
        parameter.abs_().neg_()


def zero_everywhere(classifier):
    for parameter in classifier.parameters():
        parameter.zero_()


def nothing(classifier):
    pass


@pytest.mark.parametrize("change", [nothing, negative_second, negative_everywhere, zero_everywhere])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_dead_units_give_finite_relevance_and_gradient(change, dtype, value):
    classifier = small_network("max").requires_grad_(False)
    change(classifier)
    classifier = classifier.to(dtype)
    for init, bias in READINGS:
        lrp = LRP(classifier, init, bias)
        x = torch.full((2, 3, 6, 6), value, dtype=dtype, requires_grad=True)
        heatmap, totals = lrp.relevance(x, LABELS), lrp.totals(x)
        scalars = [(heatmap * torch.linspace(-1, 1, 6)).sum(), totals.sum()]
        scalars += [lrp_loss(lrp, x, ORG, ADV, p).sum() for p in (1, 2, float("inf"))]
        for scalar in scalars:
            assert scalar.isfinite()
            assert torch.autograd.grad(scalar, x, retain_graph=True)[0].isfinite().all()
        assert heatmap.isfinite().all()
        if change is zero_everywhere:  # relevance with nowhere to go is dropped
            assert not heatmap.any()


# -------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init": "delta"}, "init is 'delta'; choose one of one_hot, logit"),
        ({"bias": "keep"}, "bias is 'keep'; choose one of ignore, absorb"),
    ],
)
def test_unknown_reading(network, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LRP(network, **settings)


def test_one_relu_may_serve_twice(pixels):
    """A module that comes twice in a sequence is one child under two names."""
    first, second, third = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(16, N_LABELS)
    relu = nn.ReLU()
    shared = random_classifier(first, relu, second, relu, nn.Flatten(), third, seed=0)
    separate = Classifier(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), third)).double().eval()
    assert torch.equal(LRP(shared).relevance(pixels, LABELS), LRP(separate).relevance(pixels, LABELS))


def test_network_without_layers():
    with pytest.raises(TypeError, match="LRP cannot explain a SingleClass: .*one fine class has no fine network"):
        LRP(SingleClass().eval())


def test_what_holds_networks_is_no_network(clf):
    with pytest.raises(TypeError, match=r"LRP cannot explain a CoarseToFine: give one of its networks, .coarse or"):
        LRP(clf)
    with pytest.raises(TypeError, match=r"LRP cannot explain a DataParallel: give its .module"):
        LRP(nn.DataParallel(clf.coarse))


@pytest.mark.parametrize("part", ["the classifier", "its dropout only"])
def test_training_mode(part):
    classifier = small_network("max")
    (classifier if part == "the classifier" else classifier.layers[-2]).train()
    with pytest.raises(ValueError, match=r"training mode.*\.eval\(\)"):
        LRP(classifier)


IMAGE = torch.full((1, 3, 6, 6), 100.0).double()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (IMAGE[0], r"shape \(3, 6, 6\); give a batch \(N, 3, H, W\)"),
        (IMAGE[:, :1], r"shape \(1, 1, 6, 6\)"),
        (IMAGE.to(torch.uint8), "pixels are torch.uint8; give floating-point values"),
        (IMAGE.long(), "pixels are torch.int64"),
        (IMAGE + 155.001, r"\[255\.001, 255\.001\]; they must be finite and in \[0, 255\]"),
        (IMAGE - 101, r"\[-1, -1\]; they must be finite"),
        (IMAGE.clone().index_fill_(3, torch.tensor(2), torch.nan), "must be finite"),
        (IMAGE.clone().index_fill_(3, torch.tensor(2), torch.inf), "must be finite"),
    ],
)
@pytest.mark.parametrize("method", ["relevance", "totals"])
def test_pixels_that_are_no_images(network, pixels, message, method):
    lrp = LRP(network)
    with pytest.raises(ValueError, match=message):
        lrp.relevance(pixels, LABELS[:1]) if method == "relevance" else lrp.totals(pixels)


@pytest.mark.parametrize("labels", [LABELS[:1], LABELS.repeat(2), LABELS[:, None]])
def test_labels_that_do_not_fit_the_images(network, pixels, labels):
    with pytest.raises((ValueError, RuntimeError)):
        LRP(network).relevance(pixels, labels)


# --------------------------------------------------------------------------------------------------- side effects
def test_the_model_is_left_as_it_was(network, pixels):
    before = copy.deepcopy(network.state_dict())
    x = pixels.clone().requires_grad_()
    lrp = LRP(network)
    loss = lrp.relevance(x, LABELS).square().sum() + lrp.totals(x).sum() + lrp_loss(lrp, x, ORG, ADV, 2).sum()
    torch.autograd.grad(loss, x)
    assert not network.training
    for module in network.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert not module._backward_hooks and not module._backward_pre_hooks
    for parameter in network.parameters():
        assert parameter.grad is None and parameter.requires_grad
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert x.grad is None
