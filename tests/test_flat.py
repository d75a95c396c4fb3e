"""`CoarseToFine.from_flat`: a coarse-to-fine classifier made of one flat network."""

import pytest
import torch
from networks import convolutional, hierarchy_of, random_pixels
from test_lrp_zennit import classifier_of
from torchvision.models import resnet18

from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, PGDC, PGDF
from c2f_lrp.classifier import Classifier, CoarseToFine, SingleClass
from c2f_lrp.hierarchy import Hierarchy
from c2f_lrp.lrp import BIASES, INITS, LRP, ZennitLRP
from c2f_lrp.networks import vgg16
from c2f_lrp.objectives import lrp_loss
from c2f_lrp.profiles import get_profile

READINGS = [(init, bias) for init in INITS for bias in BIASES]
ORG, ADV = torch.tensor([0, 2]), torch.tensor([1, 0])


def shuffled() -> Hierarchy:
    """Groups of 3, 2 and 1 of seven outputs, in no order; output 1 belongs to none."""
    plain = hierarchy_of((3, 2, 1))
    return Hierarchy(plain.coarse_names, plain.fine_names, plain.ids, ((6, 0, 3), (5, 2), (4,)))


@pytest.fixture(scope="module")
def flat():
    return convolutional(7, seed=0)


@pytest.fixture(scope="module")
def pixels():
    return random_pixels(2, 6, 6, seed=1)


def test_probabilities_add_up(flat, pixels):
    classifier = CoarseToFine.from_flat(flat, shuffled())
    chances = flat(pixels).softmax(1)
    expected = torch.stack([chances[:, [6, 0, 3]].sum(1), chances[:, [5, 2]].sum(1), chances[:, 4]], 1)
    # Equal but for the part of output 1, which belongs to no group.
    torch.testing.assert_close(classifier.coarse(pixels).softmax(1), expected / expected.sum(1, keepdim=True))
    torch.testing.assert_close(classifier.fine[0](pixels), flat(pixels)[:, [6, 0, 3]])
    torch.testing.assert_close(classifier.fine[1](pixels), flat(pixels)[:, [5, 2]])
    assert isinstance(classifier.fine[2], SingleClass)
    assert classifier.coarse.layers[0] is flat.layers[0] is classifier.fine[1].layers[0]


@pytest.mark.parametrize(("init", "bias"), READINGS)
def test_a_groups_relevance_is_its_members_in_proportion_to_their_softmax(flat, pixels, init, bias):
    """Relevance is linear in its start, so the group's heatmap is the flat network's, weighted."""
    coarse = CoarseToFine.from_flat(flat, shuffled()).coarse
    ours = LRP(coarse, init, bias).relevance(pixels, torch.tensor([0, 1]))
    one_hot = LRP(flat, "one_hot", bias)
    for row, members in enumerate([[6, 0, 3], [5, 2]]):
        shares = flat(pixels)[row, members].softmax(0)
        parts = [one_hot.relevance(pixels[row : row + 1], torch.tensor([k]))[0] for k in members]
        expected = sum(share * part for share, part in zip(shares, parts, strict=True))
        expected = expected * (1 if init == "one_hot" else coarse(pixels)[row, row])
        torch.testing.assert_close(ours[row], expected)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("init", "bias"), READINGS)
def test_gradients(flat, pixels, init, bias, p):
    """Through the soft pooling: totals against heatmaps, the engine against zennit, both against differences."""
    coarse = CoarseToFine.from_flat(flat, shuffled()).coarse
    every = [torch.full((2,), label) for label in range(3)]
    lrp = LRP(coarse, init, bias)
    sums = torch.stack([heatmap.sum((1, 2, 3)) for heatmap in lrp.relevances(pixels, every)], 1)
    torch.testing.assert_close(lrp.totals(pixels), sums)
    gradients = []
    for kind in (LRP, ZennitLRP):
        x = pixels.clone().requires_grad_()
        gradients.append(torch.autograd.grad(lrp_loss(kind(coarse, init, bias), x, ORG, ADV, p).sum(), x)[0])
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-10)
    direction = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ends = [lrp_loss(lrp, (pixels + h * direction).clamp(0, 255), ORG, ADV, p).sum() for h in (1e-6, -1e-6)]
    slope = (gradients[0] * direction).sum()
    torch.testing.assert_close((ends[0] - ends[1]) / 2e-6, slope, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("kind", [LRPC, LRPF, PGDC, PGDF, DFC, DFF])
def test_attacks(flat, kind):
    attack = kind() if kind in (DFC, DFF) else kind(eps=20)
    classifier = CoarseToFine.from_flat(flat, shuffled())
    pixels = random_pixels(24, 6, 6, seed=5)
    coarse, fine = classifier.predict(pixels)
    several = coarse < 2
    result = attack(classifier, pixels[several], coarse[several], fine[several])
    after = classifier.predict(pixels[several] + result.perturbation)
    assert result.fooled.any()
    changed = after[0] != coarse[several]
    if attack.level == "fine":
        changed = ~changed & (after[1] != fine[several])
    assert torch.equal(changed, result.fooled)


def test_the_papers_hierarchy_on_the_papers_layout():
    """1000 outputs, 393 of them in eight groups, VGG-16's layers at a fraction of their width."""
    torch.manual_seed(0)
    hierarchy = get_profile("imagenet").hierarchy()
    classifier = CoarseToFine.from_flat(vgg16(1000, width=4, hidden=16, image_size=32).eval(), hierarchy)
    pixels = random_pixels(2, 32, 32, seed=1).float()
    assert classifier.coarse(pixels).shape == (2, 8)
    assert [network(pixels).shape[1] for network in classifier.fine] == list(hierarchy.n_fine)
    coarse, fine = classifier.predict(pixels)
    result = LRPC(iterations=2)(classifier, pixels, coarse, fine)
    assert result.perturbation.abs().max() > 0


def test_a_network_that_is_no_sequence():
    torch.manual_seed(0)
    classifier = CoarseToFine.from_flat(classifier_of(resnet18(num_classes=7), 1), shuffled())
    pixels = random_pixels(1, 32, 32, seed=2)
    coarse, fine = classifier.predict(pixels)
    result = LRPC(iterations=1)(classifier, pixels, coarse, fine)
    assert result.perturbation.abs().max() > 0


def half(module, given, result):
    return result / 2


class Twice(Classifier):
    def normalize(self, pixels):
        return 2 * super().normalize(pixels)


class Own(Classifier):
    def forward(self, pixels):
        return 2 * super().forward(pixels)


def of_class(kind):
    flat = convolutional(7, seed=0)
    flat.__class__ = kind
    return flat


def with_hook(where):
    flat = convolutional(7, seed=0)
    where(flat).register_forward_hook(half)
    return flat


def with_method(where, name):
    flat = convolutional(7, seed=0)
    owner = where(flat)
    theirs = getattr(owner, name)
    setattr(owner, name, lambda given: theirs(given) / 2)
    return flat


@pytest.mark.parametrize(
    "make",
    [
        lambda: of_class(Twice),
        lambda: of_class(Own),
        lambda: with_hook(lambda flat: flat),
        lambda: with_method(lambda flat: flat, "forward"),
        lambda: with_method(lambda flat: flat, "normalize"),
        lambda: torch.nn.Flatten(),
    ],
    ids=["normalize", "forward", "hook", "forward of the object", "normalize of the object", "another module"],
)
def test_a_model_that_does_more_than_its_layers_is_refused(make):
    with pytest.raises(
        TypeError, match=r"the model is a \w+.*, of which only the layers would be kept; give Classifier"
    ):
        CoarseToFine.from_flat(make(), shuffled())


@pytest.mark.parametrize(
    "make",
    [lambda: with_hook(lambda flat: flat.layers), lambda: with_method(lambda flat: flat.layers, "forward")],
    ids=["hook", "forward of the object"],
)
def test_layers_that_do_more_than_their_modules_stay_whole(make, pixels):
    flat = make()
    group = shuffled().class_indices[0]
    torch.testing.assert_close(CoarseToFine.from_flat(flat, shuffled()).fine[0](pixels), flat(pixels)[:, list(group)])


def test_a_hierarchy_of_another_model(pixels):
    model = convolutional(4, seed=0)
    model.settings["n_classes"] = 4  # told, as every weight file does
    with pytest.raises(ValueError, match="a class at output 6, the model 4 outputs"):
        CoarseToFine.from_flat(model, shuffled())
    del model.settings["n_classes"]  # not told: seen when it is first used
    with pytest.raises(ValueError, match=r"a class at output \d, the network gives 4 outputs"):
        CoarseToFine.from_flat(model, shuffled()).predict(pixels)
