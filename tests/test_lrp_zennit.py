"""zennit as a peer: against the engine where their rules are the same, against finite differences where not."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from networks import Graph, convolutional, random_classifier, random_pixels
from test_lrp_graph import LABELS, graphs
from torch import nn
from torchvision.models import resnet18, vgg11_bn

from c2f_lrp.attacks import LRPC
from c2f_lrp.classifier import Classifier
from c2f_lrp.lrp import BIASES, INITS, LRP, ZennitLRP, choose_lrp
from c2f_lrp.lrp.operations import Average, Sum
from c2f_lrp.objectives import lrp_loss

READINGS = [(init, bias) for init in INITS for bias in BIASES]
drawn = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ORG, ADV = torch.tensor([1, 3]), torch.tensor([0, 2])


def classifier_of(network: nn.Module, seed: int) -> Classifier:
    """A torchvision network in float64 with random statistics, so that batch normalisation does something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values, low, high in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2)):
                    values.copy_(low + (high - low) * torch.rand(values.shape, generator=generator))
                module.bias.copy_(0.3 * torch.randn(module.bias.shape, generator=generator))
    return Classifier(network).double().eval()


@pytest.fixture(scope="module")
def resnet() -> Classifier:
    torch.manual_seed(0)
    return classifier_of(resnet18(num_classes=5), 1)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return random_pixels(2, 32, 32, seed=2)


@pytest.mark.parametrize(("init", "bias"), READINGS)
def test_relevance_loss_and_gradients_are_those_of_the_engine(init, bias):
    classifier, x = convolutional(4, seed=0), random_pixels(2, 6, 6, seed=1).requires_grad_()
    weighting = random_pixels(2, 6, 6, seed=3)
    results = []
    for kind in (LRP, ZennitLRP):
        lrp = kind(classifier, init, bias)
        heatmaps = lrp.relevances(x, [ORG, ADV])
        scalars = [(weighting * heatmaps[0]).sum(), (weighting * heatmaps[1]).sum()]
        scalars += [lrp_loss(lrp, x, ORG, ADV, p).sum() for p in (1, 2)]
        results.append([*heatmaps, *scalars, *(torch.autograd.grad(s, x, retain_graph=True)[0] for s in scalars)])
    for ours, theirs in zip(*results, strict=True):
        # Both round in float64; zennit's z-beta by a w - l w+ - h w-, with some cancellation. The literal reading's
        # gradient is 0 here, rounding noise there.
        torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("init", "bias"), [("one_hot", "absorb"), ("logit", "ignore")])
def test_gradient_through_a_residual_network(resnet, pixels, init, bias, p):
    """Central differences along random directions, with a step so small that few kinks lie between their ends."""
    lrp = ZennitLRP(resnet, init, bias)
    x = pixels.clone().requires_grad_()
    gradient = torch.autograd.grad(lrp_loss(lrp, x, ORG, ADV, p).sum(), x)[0]
    generator = torch.Generator().manual_seed(5)
    h = 1e-6
    for _ in range(3):
        direction = torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
        ends = [lrp_loss(lrp, (pixels + sign * h * direction).clamp(0, 255), ORG, ADV, p).sum() for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * h)
        scale = gradient.norm()  # of a slope along a direction of unit variance
        assert scale > 1e-9
        assert abs(slope - (gradient * direction).sum()) < 1e-4 * scale


@pytest.mark.parametrize(("init", "bias"), [("one_hot", "absorb"), ("logit", "ignore")])
def test_vgg11_bn_is_folded_alike(pixels, init, bias):
    """torchvision's module, and its layers in a row: zennit's merging, the engine's, and both alike."""
    torch.manual_seed(0)
    vgg = vgg11_bn(num_classes=5)
    vgg.classifier[0] = nn.Linear(512 * 49, 16)  # 103 million weights fewer
    vgg.classifier[3], vgg.classifier[6] = nn.Linear(16, 16), nn.Linear(16, 5)
    whole = classifier_of(vgg, 1)
    row = Classifier(nn.Sequential(vgg.features, vgg.avgpool, nn.Flatten(), vgg.classifier)).double().eval()
    theirs, ours = choose_lrp(whole, init, bias, "zennit"), choose_lrp(row, init, bias)
    pixels, org, adv = pixels[:1], ORG[:1], ADV[:1]
    torch.testing.assert_close(row(pixels), whole(pixels))
    gradients = []
    for lrp in (theirs, ours):
        x = pixels.clone().requires_grad_()
        loss = lrp_loss(lrp, x, org, adv, 2)
        gradients.append((lrp.relevance(pixels, org), loss.detach(), torch.autograd.grad(loss.sum(), x)[0]))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8 * b.abs().max().item())


def test_as_printed_a_residual_network_hands_on_everything(resnet, pixels):
    lrp = ZennitLRP(resnet, "one_hot", "ignore")
    totals = lrp.relevance(pixels, ORG).sum((1, 2, 3))
    torch.testing.assert_close(totals, torch.ones(2).double(), rtol=0, atol=1e-6)


@drawn
@given(graphs(), st.sampled_from(READINGS))
def test_graphs_but_for_sums_and_averages_of_either_sign(case, reading):
    """For nonnegative terms, |a_k| : |a_l| is zennit's a_k : a_l; there zennit is the engine's peer throughout."""
    classifier, pixels = case
    operations = [step.operation for step in LRP(classifier).program(pixels).steps]
    assume(not any(isinstance(operation, Sum) for operation in operations))  # see below
    assume(all(operation.nonnegative for operation in operations if isinstance(operation, Average)))
    ours, theirs = (kind(classifier, *reading).relevance(pixels, LABELS) for kind in (LRP, ZennitLRP))
    torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-9)


def residual(sign: float) -> Classifier:
    """relu(x) + sign * relu(f(x)): terms of one sign, or of two."""
    branch = nn.Conv2d(6, 6, 1, groups=6, bias=False)
    nodes = [
        (nn.Conv2d(3, 6, 3, padding=1), (0,)),
        (nn.ReLU(), (1,)),
        (nn.Conv2d(6, 6, 3, padding=1), (2,)),
        (nn.ReLU(), (3,)),
        (branch, (4,)),
        ("sum", (2, 5)),
        (nn.Conv2d(6, 8, 2, stride=2), (6,)),
        (nn.ReLU(), (7,)),
        ("mean", (8,)),
        (nn.Linear(8, 4), (9,)),
    ]
    classifier = random_classifier(Graph(nodes), seed=0)
    with torch.no_grad():
        branch.weight.fill_(sign)
    return classifier


@pytest.mark.parametrize(("init", "bias"), READINGS)
def test_sums_are_shared_alike_where_terms_have_one_sign(init, bias):
    classifier, x = residual(1.0), random_pixels(2, 6, 6, seed=1).requires_grad_()
    results = []
    for kind in (LRP, ZennitLRP):
        lrp = kind(classifier, init, bias)
        heatmap, loss = lrp.relevance(x, ORG), lrp_loss(lrp, x, ORG, ADV).sum()
        results.append((heatmap, torch.autograd.grad(loss, x)[0]))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-9)


def test_zennits_shares_of_a_sum_exceed_what_there_is_where_terms_have_two_signs():
    """Norm divides by the signed sum: shares outside 0..1. By size, no share is."""
    a, b = torch.tensor([[3.0, 1.0]]), torch.tensor([[-2.0, 1.0]])
    theirs = (a / (a + b), b / (a + b))
    ours = Sum().relevance(a, b)[1](torch.ones(1, 2))
    torch.testing.assert_close(ours, (torch.tensor([[0.6, 0.5]]), torch.tensor([[0.4, 0.5]])))
    for shares in (ours, theirs):
        torch.testing.assert_close(sum(shares), torch.ones(1, 2))
    assert theirs[0].max() == 3 and theirs[1].min() == -2
    classifier, pixels = residual(-1.0), random_pixels(2, 6, 6, seed=1)
    ours, theirs = (kind(classifier, "one_hot", "ignore").relevance(pixels, ORG) for kind in (LRP, ZennitLRP))
    assert ours.min() >= 0 and theirs.min() < -1e-3


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_it_was(resnet, pixels, fails):
    before = copy.deepcopy(resnet.state_dict())
    lrp = ZennitLRP(resnet)
    x = pixels.clone().requires_grad_()
    torch.autograd.grad(lrp.difference(x, ORG, ADV).sum(), x)
    (network,) = lrp.networks.values()
    if fails:
        handle = network.steps[9].register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lrp.relevance(x, ORG)
        handle.remove()
    for each in (resnet, network):
        for module in each.modules():
            assert not module._forward_hooks and not module._forward_pre_hooks
            assert not module._backward_hooks and not module._backward_pre_hooks
    assert all(torch.equal(value, before[name]) for name, value in resnet.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in resnet.parameters())
    assert all(module.inplace for module in resnet.modules() if isinstance(module, nn.ReLU))
    torch.testing.assert_close(network(resnet.normalize(pixels)), resnet(pixels))


def test_what_the_graph_refuses_is_refused_here(pixels):
    classifier = Classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU())).double().eval()
    with pytest.raises(TypeError, match="layer 1 is a GELU, which has no rule here; known are Conv2d"):
        choose_lrp(classifier, backend="zennit").relevance(pixels, ORG)


def test_in_inference_mode(pixels):
    lrp = ZennitLRP(residual(1.0))
    with torch.inference_mode(), pytest.raises(ValueError, match="torch.inference_mode forbids; use torch.no_grad"):
        lrp.relevance(pixels, ORG)
    with torch.no_grad():
        assert lrp.relevance(pixels, ORG).any()


def test_choice_of_the_backend(resnet):
    for classifier in (convolutional(4, seed=0), resnet):
        assert isinstance(choose_lrp(classifier), LRP)
        assert isinstance(choose_lrp(classifier, backend="zennit"), ZennitLRP)
    with pytest.raises(ValueError, match="backend is 'captum'; choose one of graph, zennit"):
        choose_lrp(resnet, backend="captum")


def test_an_attack_takes_either_backend():
    with pytest.raises(ValueError, match="backend is 'captum'; choose one of graph, zennit"):
        LRPC(backend="captum")
    assert isinstance(LRPC(backend="zennit").prepare(convolutional(4, seed=0)), ZennitLRP)
    assert isinstance(LRPC().prepare(convolutional(4, seed=0)), LRP)
