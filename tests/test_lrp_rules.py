"""Rules for layers with weights: each against the slow twin, against zennit's, and a rule of one's own."""

import re

import numpy as np
import pytest
import reference
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import random_pixels
from test_lrp import LABELS, READINGS, small_network
from test_lrp_graph import ADV, ORG, graphs, inverted_bottleneck, joined
from torch import nn
from zennit.attribution import Gradient
from zennit.composites import SpecialFirstLayerMapComposite
from zennit.rules import AlphaBeta as ZennitAlphaBeta
from zennit.rules import Epsilon as ZennitEpsilon
from zennit.rules import Norm, Pass, ZBox

from c2f_lrp.lrp import BIASES, LRP, RULES, AlphaBeta, Epsilon, Gamma, Rule, Share, ZPlus, choose_lrp
from c2f_lrp.objectives import lrp_loss

drawn = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@drawn
@given(graphs(), st.sampled_from(list(RULES)), st.sampled_from(READINGS))
def test_each_rule_is_that_of_the_twin(case, rule, reading):
    classifier, pixels = case
    twin = reference.read(classifier, tuple(pixels.shape[1:]))
    ours = LRP(classifier, *reading, rule=rule).relevance(pixels, LABELS).detach()
    for heatmap, image, label in zip(ours, pixels, LABELS, strict=True):
        expected = reference.relevance(twin, image.numpy().ravel(), label, *reading, rule)
        # Denominators of either sign may nearly cancel, which makes relevance large and its rounding with it.
        largest = max(1, np.abs(expected).sum())
        np.testing.assert_allclose(heatmap.numpy().ravel(), expected, rtol=1e-8, atol=1e-9 * largest)


@pytest.mark.parametrize("make", [inverted_bottleneck, joined])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("p", [1, 2])
def test_gradient_of_each_rule_is_that_of_central_differences(make, rule, p):
    """As in test_lrp_graph: halving the step shows that no kink lies within it."""
    classifier, pixels = make(), 5 + 240 / 255 * random_pixels(2, 6, 6, seed=11)
    lrp = LRP(classifier, "logit", "absorb", rule)
    x = pixels.clone().requires_grad_()
    gradient = torch.autograd.grad(lrp_loss(lrp, x, ORG, ADV, p).sum(), x)[0]
    direction = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    slopes = []
    for h in (2e-5, 1e-5):
        ends = [lrp_loss(lrp, pixels + sign * h * direction, ORG, ADV, p).sum() for sign in (1, -1)]
        slopes.append(((ends[0] - ends[1]) / (2 * h)).item())
    scale = gradient.norm().item()
    assert scale > 1e-6
    assert abs(slopes[0] - slopes[1]) < 1e-5 * scale, "choose another seed: a kink lies within the step"
    assert abs(slopes[1] - (gradient * direction).sum().item()) < 1e-5 * scale


class Plainly(Rule):
    """z+ by its shares alone, without the shorter ways of `ZPlus`."""

    shares = ZPlus.shares


@drawn
@given(graphs(), st.sampled_from(READINGS))
def test_the_short_ways_of_z_plus_are_those_that_follow_from_its_shares(case, reading):
    classifier, pixels = case
    results = []
    for rule in (ZPlus(), Plainly()):
        lrp, x = LRP(classifier, *reading, rule=rule), pixels.clone().requires_grad_()
        totals, heatmap = lrp.totals(x), lrp.relevance(x, LABELS)
        gradients = [torch.autograd.grad(s, x)[0] for s in (totals.square().sum(), heatmap.square().sum())]
        results.append((totals, heatmap, *gradients))
    for short, plain in zip(*results, strict=True):
        torch.testing.assert_close(short, plain, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["plain", "max", "average", "groups"])
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Epsilon(0.1), lambda zero: ZennitEpsilon(0.1, zero)),
        (AlphaBeta(2, 1), lambda zero: ZennitAlphaBeta(2, 1, 1e-30, zero)),
    ],
)
def test_epsilon_and_alpha_beta_are_zennits(kind, bias, ours, theirs):
    classifier, pixels = small_network(kind), random_pixels(2, 6, 6, seed=7)
    low, high = (classifier.normalize(torch.full_like(pixels[:1], value)) for value in (0.0, 255.0))
    rule = theirs("bias" if bias == "ignore" else None)
    rules = [(nn.Conv2d | nn.Linear, rule), (nn.AvgPool2d, Norm(stabilizer=1e-30)), (nn.ReLU, Pass())]
    composite = SpecialFirstLayerMapComposite(rules, [(nn.Conv2d, ZBox(low, high, stabilizer=1e-30))])
    with Gradient(classifier.layers, composite) as attributor:
        expected = attributor(classifier.normalize(pixels), torch.eye(4).double()[LABELS])[1]
    heatmap = LRP(classifier, "one_hot", bias, ours).relevance(pixels, LABELS)
    torch.testing.assert_close(heatmap, expected, rtol=1e-6, atol=1e-9 * expected.abs().sum().item())


@pytest.mark.parametrize("rule", [ZPlus(), Gamma(), AlphaBeta()])
def test_rules_without_a_sink_hand_on_everything_where_biases_are_ignored(rule):
    classifier, pixels = small_network("max"), random_pixels(2, 6, 6, seed=7)
    totals = LRP(classifier, "one_hot", "ignore", rule).totals(pixels)
    torch.testing.assert_close(totals, torch.ones_like(totals), rtol=0, atol=1e-9)


def test_gamma_and_alpha_beta_lead_to_z_plus():
    classifier, pixels = small_network("max"), random_pixels(2, 6, 6, seed=7)
    z_plus = LRP(classifier).relevance(pixels, LABELS)
    for rule in (Gamma(1e9), AlphaBeta(1, 0)):
        torch.testing.assert_close(LRP(classifier, rule=rule).relevance(pixels, LABELS), z_plus, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(LRP(classifier, rule="gamma").relevance(pixels, LABELS), z_plus, rtol=0.01)


class Square(Rule):
    """Montavon et al. 2017: z_ij = w_ij^2."""

    def shares(self, layer, a, absorb):
        return [Share([(torch.ones_like(a), layer.weights().weight ** 2)])]


def test_a_rule_of_ones_own_goes_both_ways():
    classifier, pixels = inverted_bottleneck(), random_pixels(2, 6, 6, seed=1)
    for init, bias in READINGS:
        lrp = LRP(classifier, init, bias, Square())
        totals, heatmap = lrp.totals(pixels), lrp.relevance(pixels, LABELS)
        torch.testing.assert_close(totals[range(2), LABELS], heatmap.sum((1, 2, 3)))
    assert not torch.allclose(heatmap, LRP(classifier, init, bias).relevance(pixels, LABELS), rtol=0.1)


def test_a_rule_by_name_or_as_an_object():
    classifier, pixels = small_network("max"), random_pixels(2, 6, 6, seed=7)
    for name, rule in RULES.items():
        heatmaps = [LRP(classifier, rule=given).relevance(pixels, LABELS) for given in (name, rule)]
        assert torch.equal(*heatmaps)
    assert torch.equal(LRP(classifier).relevance(pixels, LABELS), LRP(classifier, rule="z+").relevance(pixels, LABELS))


def test_what_is_no_rule():
    classifier = small_network("max")
    with pytest.raises(ValueError, match=re.escape("rule is 'flat'; choose one of z+, epsilon, gamma, alpha-beta, or")):
        LRP(classifier, rule="flat")
    with pytest.raises(ValueError, match=re.escape("alpha is 1.5 and beta 1.0; alpha - beta must be 1")):
        AlphaBeta(1.5)
    with pytest.raises(ValueError, match="the zennit backend has z. only"):
        choose_lrp(classifier, backend="zennit", rule="gamma")
    with pytest.raises(NotImplementedError, match="Rule has no shares"):
        LRP(classifier, rule=Rule()).totals(random_pixels(1, 6, 6, seed=0))
