"""Relevance through graphs: against the slow twin, finite differences, zennit; networks of torchvision; refusals."""

import re
import threading
from collections import OrderedDict

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import Graph, random_classifier, random_pixels
from test_lrp import assert_gradient_is_the_twins
from torch import nn

from c2f_lrp.classifier import Classifier
from c2f_lrp.lrp import BIASES, INITS, LRP, RULES
from c2f_lrp.lrp.affine import Affine
from c2f_lrp.lrp.rules import start
from c2f_lrp.objectives import lrp_loss

READINGS = [(init, bias) for init in INITS for bias in BIASES]
N_LABELS = 4
LABELS = torch.tensor([1, 3])
ORG, ADV = torch.tensor([0, 2]), torch.tensor([3, 1])
# z+ shares by nonnegative numbers: rounding in float64 stays near 1e-13 of a heatmap that adds up to 1 or to a logit.
EXACT = dict(rtol=1e-10, atol=1e-10)
drawn = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# ------------------------------------------------------------------------------------------------------ networks
@st.composite
def graphs(draw):
    """A random graph with weights, and two images that fit it."""
    size = draw(st.integers(5, 7))
    nodes: list = []
    shapes = [(3, size)]  # channels, and pixels a side, of each value

    def add(layer, *inputs: int, channels: int | None = None, side: int | None = None) -> int:
        nodes.append((layer, inputs))
        before = shapes[inputs[0]]
        shapes.append((channels or before[0], side or before[1]))
        return len(nodes)

    def convolution(at: int, *, same: bool = False, channels: int | None = None) -> int:
        before, side = shapes[at]
        groups = draw(st.sampled_from([g for g in (1, 2, before) if before % g == 0]))
        channels = channels or groups * draw(st.integers(1, 3))
        groups = groups if channels % groups == 0 else 1
        kernel = draw(st.sampled_from([1, 3] if same else [1, 2, 3]))
        stride = 1 if same else draw(st.integers(1, 2))
        padding = kernel // 2 if same else draw(st.integers(0, 1))
        if not same and draw(st.booleans()):
            right, bottom = draw(st.integers(0, 1)), draw(st.integers(0, 1))
            at = add(nn.ZeroPad2d((1 - right, right, 1 - bottom, bottom)), at, side=side + 1)
            side += 1
        side = (side + 2 * padding - kernel) // stride + 1
        if side < 1:
            kernel, stride, padding, side = 1, 1, 0, shapes[at][1]
        conv = nn.Conv2d(before, channels, kernel, stride, padding, groups=groups, bias=draw(st.booleans()))
        at = add(conv, at, channels=channels, side=side)
        return add(nn.BatchNorm2d(channels), at) if draw(st.booleans()) else at

    def activated(at: int) -> int:
        return add(draw(st.sampled_from([nn.ReLU(), nn.ReLU6(), nn.Identity()])), at)

    at = activated(convolution(0))
    for kind in draw(st.lists(st.sampled_from(["conv", "residual", "cat", "norm", "pool"]), min_size=1, max_size=4)):
        if kind == "conv":
            at = activated(convolution(at))
        elif kind == "residual":  # the image's own channels, so that the branch fits
            inner = convolution(activated(convolution(at, same=True)), same=True, channels=shapes[at][0])
            at = activated(add("sum", *draw(st.permutations([at, inner]))))
        elif kind == "cat":
            other = activated(convolution(at, same=True))
            at = add("cat", at, other, channels=shapes[at][0] + shapes[other][0])
        elif kind == "norm":  # behind an activation or a sum: an affine layer of its own
            at = activated(add(nn.BatchNorm2d(shapes[at][0], affine=draw(st.booleans())), at))
        elif shapes[at][1] > 1:
            pool = draw(st.sampled_from([nn.MaxPool2d(2), nn.AvgPool2d(2, 1), nn.AdaptiveAvgPool2d(1)]))
            side = {"MaxPool2d": shapes[at][1] // 2, "AvgPool2d": shapes[at][1] - 1}.get(type(pool).__name__, 1)
            at = add(pool, at, side=side)
    channels, side = shapes[at]
    if draw(st.booleans()):
        at, features = add("mean", at), channels
    else:
        at, features = add(nn.Flatten(), at), channels * side * side
    add(nn.Linear(features, N_LABELS), at)
    seed = draw(st.integers(0, 2**32))
    return random_classifier(Graph(nodes), seed=seed), random_pixels(2, size, size, seed + 1)


def inverted_bottleneck(relu: type[nn.Module] = nn.ReLU6, seed: int = 0) -> Classifier:
    """As MobileNetV2 on images (3, 6, 6): linear bottlenecks, a depthwise layer, asymmetric padding, a residual."""
    nodes = [
        (nn.ZeroPad2d((0, 1, 0, 1)), (0,)),
        (nn.Conv2d(3, 6, 3), (1,)),
        (relu(), (2,)),
        (nn.Conv2d(6, 8, 1), (3,)),  # 4: of either sign
        (nn.Conv2d(8, 12, 1), (4,)),
        (relu(), (5,)),
        (nn.Conv2d(12, 12, 3, padding=1, groups=12), (6,)),
        (relu(), (7,)),
        (nn.Conv2d(12, 8, 1), (8,)),
        ("sum", (4, 9)),
        (nn.Conv2d(8, 16, 2, stride=2), (10,)),
        (relu(), (11,)),
        ("mean", (12,)),
        (nn.Linear(16, N_LABELS), (13,)),
    ]
    return random_classifier(Graph(nodes), seed=seed)


def joined(seed: int = 0) -> Classifier:
    """Branches that are concatenated, and batch normalisation before a ReLU as in DenseNet; images (3, 6, 6)."""
    nodes = [
        (nn.Conv2d(3, 6, 3, padding=1, bias=False), (0,)),
        (nn.BatchNorm2d(6), (1,)),  # folded
        (nn.Conv2d(6, 4, 1, groups=2), (2,)),
        ("cat", (2, 3)),
        (nn.BatchNorm2d(10), (4,)),  # a layer of its own
        (nn.ReLU(), (5,)),
        (nn.AvgPool2d(2), (6,)),
        (nn.Conv2d(10, 12, 2), (7,)),
        (nn.ReLU(), (8,)),
        (nn.Flatten(), (9,)),
        (nn.Linear(48, N_LABELS), (10,)),
    ]
    return random_classifier(Graph(nodes), seed=seed)


def near(values, twin) -> None:
    np.testing.assert_allclose(values.detach().numpy().ravel(), twin, **EXACT)


# ------------------------------------------------------------------------------------------------- the equations
@drawn
@given(graphs())
def test_relevance_through_a_graph_is_that_of_the_twin(case):
    classifier, pixels = case
    twin = reference.read(classifier, tuple(pixels.shape[1:]))
    near(classifier(pixels)[0], reference.logits(twin, pixels[0].numpy()))
    for init, bias in READINGS:
        heatmaps = LRP(classifier, init, bias).relevance(pixels, LABELS)
        for heatmap, image, label in zip(heatmaps, pixels, LABELS, strict=True):
            near(heatmap, reference.relevance(twin, image.numpy().ravel(), label, init, bias))


@drawn
@given(graphs(), st.sampled_from(list(RULES)))
def test_totals_through_a_graph_are_the_sums_of_the_heatmaps(case, rule):
    classifier, pixels = case
    for init, bias in READINGS:
        lrp = LRP(classifier, init, bias, rule)
        every = [torch.full((2,), label) for label in range(N_LABELS)]
        heatmaps = lrp.relevances(pixels, every)
        sums = torch.stack([heatmap.sum((1, 2, 3)) for heatmap in heatmaps], 1)
        # Rules that divide by signed sums may make relevance as large as those are small, and rounding with it.
        largest = max(1.0, *(heatmap.abs().sum((1, 2, 3)).max().item() for heatmap in heatmaps))
        torch.testing.assert_close(lrp.totals(pixels), sums, rtol=1e-9, atol=1e-9 * largest)
        if init == "one_hot" and rule == "z+":  # what starts at 1 can get lost, but never grow
            assert -1e-12 <= sums.min() and sums.max() <= 1 + 1e-12


@settings(drawn, max_examples=15)
@given(graphs(), st.sampled_from(READINGS), st.sampled_from([1, 2]))
def test_gradient_through_a_graph_is_that_of_the_twin(case, reading, p):
    """Complex steps through the equations, against the derivative by hand (p = 1) and autograd (p = 2)."""
    classifier, pixels = case
    # One order above EXACT: a derivative divides by each denominator once more.
    assert_gradient_is_the_twins(classifier, pixels, reading, p, tolerance=1e-7)


@pytest.mark.parametrize("make", [inverted_bottleneck, joined])
@pytest.mark.parametrize(("init", "bias"), READINGS)
@pytest.mark.parametrize("p", [1, 2])
def test_gradient_through_a_graph_is_that_of_central_differences(make, init, bias, p):
    """Along random directions, with steps so small that no kink lies between their ends: halving the step proves it."""
    classifier, pixels = make(), 5 + 240 / 255 * random_pixels(2, 6, 6, seed=11)
    lrp = LRP(classifier, init, bias)
    x = pixels.clone().requires_grad_()
    gradient = torch.autograd.grad(lrp_loss(lrp, x, ORG, ADV, p).sum(), x)[0]
    generator = torch.Generator().manual_seed(5)
    for _ in range(3):
        direction = torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
        slopes = []
        for h in (1e-4, 5e-5):
            ends = [lrp_loss(lrp, pixels + sign * h * direction, ORG, ADV, p).sum() for sign in (1, -1)]
            slopes.append(((ends[0] - ends[1]) / (2 * h)).item())
        scale = gradient.norm().item()
        # Without a kink both differ from the derivative by h^2 f''' / 6 and by rounding, 1e-15 / h.
        assert abs(slopes[0] - slopes[1]) < 1e-6 * scale + 1e-10, "choose another seed: a kink lies within the step"
        assert abs(slopes[1] - (gradient * direction).sum().item()) < 1e-6 * scale + 1e-10


def test_a_sum_is_shared_by_size_by_hand():
    """x + f(x) with one pixel a channel: terms 3 and -1 share relevance 3 to 1."""
    branch = nn.Conv2d(1, 1, 1, bias=False)
    nodes = [
        (nn.Conv2d(3, 1, 1, bias=False), (0,)),
        (branch, (1,)),
        ("sum", (1, 2)),
        (nn.Flatten(), (3,)),
        (nn.Linear(1, 1, bias=False), (4,)),
    ]
    classifier = random_classifier(Graph(nodes), seed=0)
    with torch.no_grad():
        branch.weight.fill_(-1 / 3)
        classifier.layers.nodes[0][0].weight.fill_(1.0)
        classifier.layers.nodes[4][0].weight.fill_(1.0)
    x = torch.full((1, 3, 1, 1), 200.0).double()
    lrp = LRP(classifier, "one_hot", "ignore")
    # The branch takes 1/4; its unit is negative, fed by a positive one: it has no positive contribution and drops it.
    torch.testing.assert_close(lrp.totals(x), torch.tensor([[0.75]]).double(), **EXACT)
    torch.testing.assert_close(lrp.relevance(x, torch.tensor([0])).sum(), torch.tensor(0.75).double(), **EXACT)


@pytest.mark.parametrize("bias", BIASES)
def test_totals_by_step_of_a_graph_begin_at_the_output_and_end_at_the_pixels(bias):
    classifier, pixels = inverted_bottleneck(), random_pixels(2, 6, 6, seed=1)
    lrp = LRP(classifier, "one_hot", bias)
    totals = lrp.totals_by_layer(pixels, LABELS).detach()
    assert totals.shape == (len(lrp.program(pixels).steps) + 1, 2)
    torch.testing.assert_close(totals[0], torch.ones(2).double())
    torch.testing.assert_close(totals[-1], lrp.relevance(pixels, LABELS).sum((1, 2, 3)).detach())
    assert totals.diff(dim=0).max() < 1e-12  # relevance is handed on or lost, never made


# -------------------------------------------------------------------------------- identity 2, where biases are ignored
def arriving(classifier: Classifier, pixels: torch.Tensor) -> torch.Tensor:
    """sum_i R_i as printed (one_hot, ignore), of every label: (N, M). Identity 2 says 1."""
    return LRP(classifier, "one_hot", "ignore").totals(pixels).detach()


def test_units_that_fire_by_their_bias_alone_lose_relevance_though_biases_are_ignored():
    """A unit with relevance and without any positive contribution has nowhere to send it: identity 2 fails there."""
    pixels = random_pixels(4, 6, 6, seed=3)
    classifier = inverted_bottleneck()
    narrow, expand = (classifier.layers.nodes[k][0] for k in (3, 4))
    with torch.no_grad():
        narrow.bias += 20  # all that the next layer sees is positive, ...
        expand.weight[0].abs_().neg_()  # ... and all of it speaks against one of the twelve wide units, ...
        expand.bias[0] = 500  # ... which fires all the same
    lost = 1 - arriving(classifier, pixels)
    assert lost.min() > 1e-3
    steps = LRP(classifier).program(pixels).steps
    path = LRP(classifier, "one_hot", "ignore").totals_by_layer(pixels, torch.zeros(4, dtype=torch.int64)).detach()
    drops = -path.diff(dim=0).mean(1)  # from the output to the pixels
    losing = [step.operation for step, drop in zip(reversed(steps), drops, strict=True) if drop > 1e-9]
    assert all(isinstance(operation, Affine) for operation in losing)
    assert any(operation.weight.owner is expand for operation in losing)


def test_sequences_of_vggs_kind_hand_on_everything():
    """Behind a ReLU, a unit that all speaks against rarely fires; where none does, all totals are 1."""
    classifier = random_classifier(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, N_LABELS)),
        seed=0,
    )
    assert (1 - arriving(classifier, random_pixels(4, 6, 6, seed=3))).abs().max() < 1e-12


# ------------------------------------------------------------------------------------------- networks of torchvision
def torchvision_classifier(name: str) -> Classifier:
    torch.manual_seed(0)
    settings = dict(num_classes=N_LABELS) | (dict(aux_logits=False, init_weights=True) if name == "googlenet" else {})
    network = getattr(torchvision.models, name)(weights=None, **settings)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):  # a fresh one would be the identity
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
            elif isinstance(module, nn.Conv2d):  # or the signal would die on the way
                nn.init.kaiming_normal_(module.weight)
    return Classifier(network).eval()


NETWORKS = ["resnet18", "mobilenet_v2", "squeezenet1_0", "densenet121", "googlenet", "regnet_x_400mf"]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_torchvision(name):
    """In float64: the graph's logits, totals against heatmaps, and one slope of the loss."""
    classifier, pixels = torchvision_classifier(name).double(), random_pixels(1, 64, 64, seed=1)
    lrp = LRP(classifier, "one_hot", "absorb")
    program = lrp.program(pixels)
    with torch.no_grad():
        torch.testing.assert_close(program.logits(classifier.normalize(pixels)), classifier(pixels))
    totals = lrp.totals(pixels)[0]
    torch.testing.assert_close(totals[1], lrp.relevance(pixels, torch.tensor([1])).sum())
    assert 0 <= totals.min() and totals.max() <= 1 + 1e-9
    x = pixels.clone().requires_grad_()
    lrp = LRP(classifier, "logit", "ignore")
    gradient = torch.autograd.grad(lrp.totals(x)[:, 1].sum(), x)[0]
    direction, h = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 1e-6
    ends = [lrp.totals((pixels + sign * h * direction).clamp(0, 255))[0, 1] for sign in (1, -1)]
    slope = (ends[0] - ends[1]).item() / (2 * h)
    # A few of a million units may lie within the step of their kink.
    assert abs(slope - (gradient * direction).sum().item()) < 1e-3 * gradient.norm().item()
    assert gradient.norm() > 1e-9


def test_behind_linear_bottlenecks_relevance_is_lost_where_no_contribution_is_positive_and_nowhere_else():
    """A unit below zero, which no ReLU follows, is relevant where the next weight is negative, too. Where all that it
    adds up is negative, the (a_i w_ij)+ of eq. (4) are zero and nothing is handed on. There are no biases here.
    """
    torch.manual_seed(0)
    network, pixels = torchvision.models.mnasnet0_5(weights=None), random_pixels(1, 64, 64, seed=1)
    lrp, labels = LRP(Classifier(network).double().eval(), "one_hot", "ignore"), LABELS[:1]
    values, lost = {0: lrp.inputs(pixels)[0]}, 0.0
    with torch.no_grad():
        logits, way_back = lrp.forward(pixels)
        for step, _ in way_back:
            values[step.output] = step.operation(*(values[i] for i in step.inputs))
        on_its_way = lrp.backward(way_back, [start(logits, labels, "one_hot")])
        for (step, _), at in zip(reversed(way_back), on_its_way, strict=False):  # the pixels come last, without a step
            if isinstance(step.operation, Affine) and not step.of_image:
                positive = step.operation.positive(step.operation.halves(values[step.inputs[0]]))
                stuck = (positive <= 0) & (at[step.output][0] > 0)
                assert (values[step.output][stuck] < 0).all()
                lost += at[step.output][0][stuck].sum().item()
    assert lost > 0.01
    assert lrp.relevance(pixels, labels).sum().item() == pytest.approx(1 - lost, abs=1e-10)


# --------------------------------------------------------------------------------------------- what is read, and how
class Small(nn.Module):
    """convolution, `middle`, global average, linear layer; images (3, 12, 12). `parts` become submodules."""

    def __init__(self, middle, **parts: nn.Module):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last, self.middle = nn.Linear(8, N_LABELS), middle
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        x = self.middle(self, F.relu(self.first(x)))
        return self.last(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def small(middle, **parts: nn.Module) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Small(middle, **parts)).double().eval()


class ConvSame(nn.Conv2d):
    """TensorFlow's padding "SAME", computed from the image's size as timm's Conv2dSame does."""

    def forward(self, x):
        sizes = zip(x.shape[-2:], self.stride, self.kernel_size, strict=True)
        pads = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in sizes]
        if any(pads):
            x = F.pad(x, [pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2])
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Skip(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def with_functions(self, x):
    x = F.relu6(F.batch_norm(self.second(x), *self.norm_arguments()))
    return F.avg_pool2d(F.dropout(x, 0.5, self.training), 2) + F.max_pool2d(x, 2)


class Functional(Small):
    def norm_arguments(self):
        norm = self.norm
        return norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.1, norm.eps


def overwritten(self, x):
    y = self.second(x)
    kept = y
    y.relu_()  # kept sees it, too
    return kept + x


# Each the same function twice: as it may be found in somebody's network, and plainly, with the parts of each.
ALIKE = {
    "a padding that depends on the image's size": (
        (lambda self, x: F.relu(self.conv(x)), lambda: ConvSame(8, 8, 3, stride=2)),
        (lambda self, x: F.relu(self.conv(F.pad(x, (0, 1, 0, 1)))), lambda: nn.Conv2d(8, 8, 3, stride=2)),
    ),
    "a sequence with a forward of its own": (
        (lambda self, x: self.conv(x), lambda: Skip(nn.Conv2d(8, 8, 1), nn.ReLU())),
        (lambda self, x: torch.add(self.conv(x), x), lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())),
    ),
    "padding as a word": (
        (lambda self, x: F.relu(self.conv(x)), lambda: nn.Conv2d(8, 8, (3, 5), padding="same", dilation=(1, 2))),
        (lambda self, x: F.relu(self.conv(x)), lambda: nn.Conv2d(8, 8, (3, 5), padding=(1, 4), dilation=(1, 2))),
    ),
    "padding as a word, more on one side": (
        (lambda self, x: F.relu(self.conv(x)), lambda: nn.Conv2d(8, 8, (2, 4), padding="same")),
        (lambda self, x: F.relu(self.conv(F.pad(x, (1, 2, 0, 1)))), lambda: nn.Conv2d(8, 8, (2, 4))),
    ),
    "a layer whose name ends as functions that overwrite do": (
        (lambda self, x: self.get_submodule("conv")(x) + x, lambda: nn.Sequential(OrderedDict(in_=nn.Conv2d(8, 8, 1)))),
        (lambda self, x: self.conv.in_(x) + x, lambda: nn.Sequential(OrderedDict(in_=nn.Conv2d(8, 8, 1)))),
    ),
    "one that overwrites": (
        (overwritten, nn.Identity),
        (lambda self, x: F.relu(self.second(x)) + x, nn.Identity),
    ),
    "one layer twice": (
        (lambda self, x: F.relu(self.second(F.relu(self.second(x)))), nn.Identity),
        (lambda self, x: F.relu(self.conv(F.relu(self.second(x)))), lambda: nn.Conv2d(8, 8, 3, padding=1)),
    ),
    "clamp, methods and a view": (
        (lambda self, x: self.second(x).clamp(0, 6).view(x.shape[0], 8, -1).view(x.size(0), 8, 12, 12), nn.Identity),
        (lambda self, x: F.relu6(self.second(x)), nn.Identity),
    ),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", ALIKE)
def test_the_same_function_has_the_same_relevance(name):
    pixels = random_pixels(2, 12, 12, seed=1)
    found, plain = (small(middle, conv=part()) for middle, part in ALIKE[name])
    weights = found.state_dict()
    plain.load_state_dict(
        {key: weights.get(key, weights.get(key.replace("conv", "second"))) for key in plain.state_dict()}
    )
    torch.testing.assert_close(found(pixels), plain(pixels))
    for init, bias in READINGS:
        results = []
        for classifier in (found, plain):
            x = pixels.clone().requires_grad_()
            loss = lrp_loss(LRP(classifier, init, bias), x, ORG, ADV).sum()
            results.append((LRP(classifier, init, bias).relevance(pixels, LABELS), torch.autograd.grad(loss, x)[0]))
        for ours, expected in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected, **EXACT)


def test_a_network_of_functions_on_plain_parameters():
    torch.manual_seed(0)
    classifier = Classifier(Functional(with_functions, norm=nn.BatchNorm2d(8))).double().eval()
    pixels = random_pixels(2, 12, 12, seed=1)
    lrp = LRP(classifier)
    kinds = [step.kind for step in lrp.program(pixels).steps]
    assert kinds == [
        *("Conv2d", "relu", "Conv2d", "relu6", "dropout", "avg_pool2d", "max_pool2d", "add"),
        *("adaptive_avg_pool2d", "flatten", "Linear"),
    ]
    torch.testing.assert_close(lrp.totals(pixels)[0, 1], lrp.relevance(pixels, LABELS)[0].sum())


# ----------------------------------------------------------------------------------------------------------- refusals
class Standardised(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


class Quarter(nn.Module):
    def forward(self, x):
        return x * 0.25


def hooked() -> nn.Module:
    conv = nn.Conv2d(8, 8, 1)
    conv.register_forward_hook(lambda module, given, out: 2 * out)
    return conv


def assigned(self, x):
    y = self.second(x)
    z = y
    z += x  # in place: y sees it, torch.fx does not
    return F.relu(y)


REFUSED = {
    "a factor": (lambda self, x: x * 0.25, {}, "forward calls mul, which has no rule here; known are adaptive_avg"),
    "a factor inside": (
        lambda self, x: self.part(x),
        {"part": Quarter()},
        "layer part calls mul, which has no rule here",
    ),
    "a factor in place": (lambda self, x: (x.mul_(0.25), x)[1], {}, "forward calls mul_, which has no rule here"),
    "sigmoid": (lambda self, x: x.sigmoid(), {}, "forward calls sigmoid"),
    "SiLU": (lambda self, x: self.part(x), {"part": nn.SiLU()}, "layer part is a SiLU, which has no rule here; known"),
    "a norm of groups": (lambda self, x: self.part(x), {"part": nn.GroupNorm(2, 8)}, "layer part is a GroupNorm"),
    "softmax": (lambda self, x: x.softmax(1), {}, "forward calls softmax"),
    "indices": (lambda self, x: x[:, :8], {}, "forward calls getitem"),
    "a constant": (lambda self, x: x + 1.0, {}, "add in forward adds something that is no activation"),
    "a tensor": (lambda self, x: x + torch.ones(1, 8, 12, 12), {}, "a constant tensor of shape (1, 8, 12, 12) enters"),
    "a parameter": (lambda self, x: x + self.second.bias.view(1, -1, 1, 1), {}, "view in forward works on something"),
    "broadcasting": (lambda self, x: x + x.mean((2, 3), keepdim=True), {}, "adds tensors of different shapes"),
    "a weighted sum": (lambda self, x: torch.add(x, self.second(x), alpha=0.5), {}, "add in forward with alpha 0.5"),
    "a mean over channels": (lambda self, x: x + x.mean(1, keepdim=True), {}, "mean in forward over dimensions 1"),
    "another clamp": (lambda self, x: self.second(x).clamp(-1, 1), {}, "clamp in forward to [-1, 1] has no rule here"),
    "mirrored padding": (lambda self, x: F.pad(x, (1, 1, 1, 1), "reflect"), {}, "pad in forward with mode 'reflect'"),
    "mirrored padding of a layer": (
        lambda self, x: self.part(x),
        {"part": nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")},
        "pads in a way without a rule; give zero padding",
    ),
    "a decision": (lambda self, x: x if x.sum() > 0 else -x, {}, "Small cannot be traced as a graph (symbolically"),
    "the batch": (lambda self, x: x if len(x) > 1 else x, {}, "cannot be traced as a graph (len() of a tensor is"),
    "a batch that is mixed": (lambda self, x: x.view(-1, 8, 6, 12), {}, "it must keep the batch"),
    "a layer made on the way": (lambda self, x: nn.ReLU()(x), {}, "module is not installed as a submodule"),
    "standardised weights": (lambda self, x: self.part(x), {"part": Standardised(8, 8, 1)}, "mean in layer part works"),
    "a hook": (lambda self, x: self.part(x), {"part": hooked()}, "layer part (Conv2d) has a forward hook"),
    "spectral normalisation": (
        lambda self, x: self.part(x),
        {"part": nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 1))},
        "layer part has parametrised weights (weight); bake them in",
    ),
    "no running statistics": (
        lambda self, x: self.part(x),
        {"part": nn.BatchNorm2d(8, track_running_stats=False)},
        "keeps no running statistics",
    ),
    "an assignment that others see": (assigned, {}, "the graph's logits differ from the classifier's own by"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_by_name_and_place(name):
    middle, parts, message = REFUSED[name]
    pixels = random_pixels(1, 12, 12, seed=0)
    for method in ("relevance", "totals"):
        with pytest.raises(TypeError, match=re.escape(message)):
            lrp = LRP(small(middle, **parts))
            lrp.relevance(pixels, LABELS[:1]) if method == "relevance" else lrp.totals(pixels)


def test_pixels_are_refused_where_a_layer_with_weights_is_due():
    classifier = random_classifier(nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.Flatten(), seed=0)
    with pytest.raises(
        TypeError, match=re.escape("layer 0 (MaxPool2d") + ".*works on the pixels; eq. .5. is for a first"
    ):
        LRP(classifier).totals(random_pixels(1, 6, 6, seed=0))


def test_a_classifier_with_a_forward_of_its_own_is_refused():
    class Doubled(Classifier):
        def forward(self, pixels):
            return 2 * super().forward(pixels)

    classifier = Doubled(nn.Sequential(nn.Conv2d(3, 2, 6), nn.Flatten())).eval()
    with pytest.raises(TypeError, match="the graph's logits differ from the classifier's own"):
        LRP(classifier).totals(random_pixels(1, 6, 6, seed=0).float())


def test_a_layer_that_is_replaced_is_seen():
    classifier, pixels = small(lambda self, x: self.part(x), part=nn.ReLU()), random_pixels(1, 12, 12, seed=0)
    lrp = LRP(classifier)
    before = lrp.totals(pixels)
    classifier.layers.first = nn.Conv2d(3, 8, 3, padding=1).double().eval()
    assert not torch.equal(lrp.totals(pixels), before)
    classifier.layers.part = nn.GELU().eval()
    with pytest.raises(TypeError, match="layer part is a GELU"):
        lrp.totals(pixels)


# ------------------------------------------------------------------------------------------------------------- states
@pytest.fixture
def bottleneck() -> Classifier:
    return inverted_bottleneck().float()


PIXELS = random_pixels(2, 6, 6, seed=1).float()


def test_in_inference_mode_and_afterwards(bottleneck):
    with torch.inference_mode():
        inside = LRP(bottleneck).relevance(PIXELS, LABELS), LRP(bottleneck).difference(PIXELS, ORG, ADV)
    x = PIXELS.clone().requires_grad_()
    lrp = LRP(bottleneck)
    outside = lrp.relevance(x, LABELS), lrp.difference(x, ORG, ADV)
    for a, b in zip(inside, outside, strict=True):
        assert torch.equal(a.clone(), b.detach())
    assert torch.autograd.grad(outside[1].sum(), x)[0].any()


def test_pixels_of_another_precision_than_the_weights(bottleneck):
    with pytest.raises(ValueError, match=r"pixels are torch.float64 and the weights torch.float32; give pixels.to\("):
        LRP(bottleneck).relevance(PIXELS.double(), LABELS)


def test_weights_made_in_inference_mode():
    with torch.inference_mode():
        classifier = inverted_bottleneck()
    with pytest.raises(ValueError, match="the weights were made in torch.inference_mode; load them outside of it"):
        LRP(classifier)


def test_what_changes_after_the_first_call_is_noticed(bottleneck):
    lrp = LRP(bottleneck)
    lrp.totals(PIXELS)
    handle = bottleneck.layers.register_forward_hook(lambda *_: None)
    with pytest.raises(TypeError, match="has a forward hook"):
        lrp.totals(PIXELS)
    handle.remove()
    bottleneck.train()
    with pytest.raises(ValueError, match="training mode"):
        lrp.totals(PIXELS)


def test_no_images_have_no_relevance(bottleneck):
    for lrp in (LRP(bottleneck), LRP(inverted_bottleneck().float())):
        assert lrp.relevance(PIXELS[:0], LABELS[:0]).shape == (0, 3, 6, 6)
        assert lrp.difference(PIXELS[:0], ORG[:0], ADV[:0]).shape == (0,)


def test_images_of_another_size_are_read_anew():
    classifier = small(lambda self, x: F.relu(self.same(x)), same=ConvSame(8, 8, 3, stride=2))
    lrp = LRP(classifier, "one_hot", "ignore")
    for size in (12, 13, 8):
        pixels = random_pixels(2, size, size, seed=size)
        heatmap = lrp.relevance(pixels, LABELS)
        torch.testing.assert_close(heatmap.sum((1, 2, 3)), lrp.totals(pixels)[range(2), LABELS])


def test_tracing_leaves_other_threads_alone():
    """torch.fx patches nn.Module while it traces; another thread's network must not notice."""
    other, pixels = inverted_bottleneck(), random_pixels(2, 6, 6, seed=1)
    expected, wrong, done = other(pixels), [], threading.Event()

    def run():
        while not done.is_set():
            try:
                if not torch.equal(other(pixels), expected):
                    wrong.append("other logits")
            except Exception as error:
                wrong.append(repr(error))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for seed in range(10):
            LRP(inverted_bottleneck(seed=seed)).totals(pixels)
    finally:
        done.set()
        thread.join()
    assert not wrong, wrong[0]


def test_float32_follows_float64():
    """Rounding of 6e-8 per operation, through fourteen nodes with sums of both signs."""
    double = inverted_bottleneck()
    pixels = random_pixels(2, 6, 6, seed=1)
    for init, bias in READINGS:
        exact = LRP(double, init, bias).relevance(pixels, LABELS)
        rounded = LRP(inverted_bottleneck().float(), init, bias).relevance(pixels.float(), LABELS)
        assert (rounded - exact).abs().sum() < 6e-5 * exact.abs().sum()
