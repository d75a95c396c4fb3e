"""What every attack keeps to, that the check of it finds attacks which do not, and what `preflight` finds."""

import copy
import dataclasses
import re
import warnings
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from networks import hierarchy_of
from torch import nn

from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, PGDC, PGDF, MarginC, MarginF, preflight
from c2f_lrp.attacks.base import clip
from c2f_lrp.attacks.conformance import check_attack
from c2f_lrp.classifier import CoarseToFine

ATTACKS = {
    "LRPC": LRPC(iterations=6),
    "LRPF": LRPF(iterations=6),
    "LRPC, logit start": LRPC(iterations=6, init="logit", bias="ignore"),
    "LRPF, p = 2": LRPF(iterations=6, p=2),
    "LRPC, regions": LRPC(iterations=4, objective="regions"),
    "LRPF, attention": LRPF(iterations=4, objective="attention"),
    "LRPC, best iterate": LRPC(iterations=4, iterate="best"),
    "LRPF, random start": LRPF(iterations=6, random_start=True, seed=7),
    "LRPC by zennit": LRPC(iterations=3, backend="zennit"),
    "PGDC": PGDC(eps=5, iterations=6),
    "PGDF": PGDF(eps=5, iterations=6),
    "PGDC, stops early": PGDC(eps=5, iterations=6, early_stop=True),
    "PGDF, stops early": PGDF(eps=5, iterations=6, early_stop=True),
    "PGDC, random start": PGDC(eps=5, iterations=6, random_start=True),
    "DFC": DFC(),
    "DFF": DFF(),
    "MarginC": MarginC(iterations=6),
    "MarginF": MarginF(iterations=6),
}


def of(images, rows=slice(None)) -> tuple:
    return images.pixels[rows], images.coarse[rows], images.fine[rows]


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_every_attack_conforms(clf, images, attack, dtype, requires_grad):
    """`requires_grad`: a classifier fresh from training has parameters whose gradients an attack could spoil."""
    clf = copy.deepcopy(clf).to(dtype).requires_grad_(requires_grad)
    tolerance = 1e-2 if dtype == torch.float32 else 1e-8
    check_attack(attack, clf, images.pixels.to(dtype), images.coarse, images.fine, tolerance)


# ------------------------------------------------------------------------------------ attacks that must be found out
@dataclass(frozen=True, kw_only=True)
class Beyond(MarginC):
    def step(self, at, memory):
        eta, memory = super().step(at, memory)
        return clip(2 * eta, at.pixels), memory


@dataclass(frozen=True, kw_only=True)
class SpoilsGradients(MarginC):
    def step(self, at, memory):
        at.logits.sum().backward(retain_graph=True)
        return super().step(at, memory)


@dataclass(frozen=True, kw_only=True)
class LeavesAHook(MarginC):
    def prepare(self, network):
        network.register_forward_hook(lambda *_: None)
        return network


@dataclass(frozen=True, kw_only=True)
class Unseeded(MarginC):
    def initial(self, pixels):
        return torch.rand_like(pixels)


@dataclass(frozen=True, kw_only=True)
class LooksAtItsCompany(MarginC):
    def step(self, at, memory):
        eta, memory = super().step(at, memory)
        return eta * (0.5 + 0.5 / len(eta)), memory


@dataclass(frozen=True, kw_only=True)
class TouchesTheImages(MarginC):
    def __call__(self, classifier, pixels, *labels, **options):
        return super().__call__(classifier, pixels.round_(), *labels, **options)


@dataclass(frozen=True, kw_only=True)
class SaysFooled(MarginC):
    level: ClassVar[str] = "coarse"

    def outcome(self, classifier, network, at, coarse, fine):
        changed = at.logits.argmax(1) == coarse
        return changed, changed


@dataclass(frozen=True, kw_only=True)
class AlwaysGoesOn(MarginC):
    """Reports the first success, and goes on to change the image."""

    def __call__(self, *arguments, **options):
        result = super().__call__(*arguments, **options)
        return dataclasses.replace(result, perturbation=result.perturbation * (1 - 1e-3 * self.iterations / 40))


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (Beyond(eps=5), r"the perturbation reaches \S+, eps is 5"),
        (SpoilsGradients(), "changed the classifier"),
        (LeavesAHook(), "changed the classifier"),
        (Unseeded(), "a second call gives another result"),
        (LooksAtItsCompany(lr=2), "batches of one give another result"),
        (TouchesTheImages(), "changed the images"),
        (SaysFooled(), "are not fooled as the attack says"),
        (AlwaysGoesOn(iterations=20, lr=40, eps=80), "were touched after they had been fooled"),
        (PGDC(eps=1e-6), "fooled none of 8 images"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_an_attack_that_does_not_conform_is_found_out(clf, images, attack, message):
    with pytest.raises(AssertionError, match=message):
        check_attack(attack, copy.deepcopy(clf), images.pixels.clone(), images.coarse, images.fine)


# --------------------------------------------------------------------------------------------------- open choices
def test_a_margin_attack_is_lrpc_with_the_logit_start(clf, images):
    """With the logit start and all handed on, eq. (7) is f_org - f_adv (design: identity 2). Without biases the
    denominators of the first layer are the only ones that could be zero, and none is here."""
    lrpc, margin = LRPC(init="logit", bias="ignore", iterations=1, lr=3), MarginC(iterations=1, lr=3)
    torch.testing.assert_close(lrpc(clf, *of(images)).perturbation, margin(clf, *of(images)).perturbation)


@pytest.mark.parametrize("attack_class", [LRPC, LRPF, PGDC, PGDF, MarginC])
def test_a_random_start_depends_on_the_seed_and_the_image_alone(clf, images, attack_class):
    attack = attack_class(eps=2, random_start=True, iterations=1)
    first = attack.initial(images.pixels)
    assert torch.equal(first[3:5], attack.initial(images.pixels[3:5]))
    assert not torch.equal(first, dataclasses.replace(attack, seed=1).initial(images.pixels))
    assert (first.abs() <= 2).all() and first.abs().max() > 1.9
    attacked = images.pixels + first
    assert attacked.min() >= 0 and attacked.max() <= 255
    assert not attack_class(eps=2, iterations=1).initial(images.pixels).any()


@pytest.mark.parametrize("attack_class", [LRPC, LRPF])
def test_the_best_iterate(clf, images, attack_class):
    """Of all iterates, found one by one with fewer steps: a fooled one if there is any, then the smallest loss."""
    from c2f_lrp.lrp import LRP
    from c2f_lrp.objectives import adversarial_labels, lrp_loss

    steps, settings = 5, dict(lr=30, eps=30)
    best = attack_class(iterations=steps, iterate="best", **settings)(clf, *of(images))
    chosen = set()
    for row in range(len(images.pixels)):
        one = of(images, slice(row, row + 1))
        network = clf.coarse if attack_class is LRPC else clf.fine[one[1]]
        labels = adversarial_labels(network(one[0]))
        iterates = [torch.zeros_like(one[0])]
        every = [(False, lrp_loss(LRP(network), one[0], *labels).item())]
        for _ in range(steps):
            # One step on from the last iterate, whatever its label: by Algorithm 1 from x' = x + eta within the bounds.
            attack = attack_class(iterations=1, labels="clean", **settings)
            with torch.no_grad():
                memory = attack.start(network, one[0], one[2])
            at = attack.evaluate_at(network, attack.prepare(network), one[0], iterates[-1], memory, graph=True)
            iterates.append(attack.step(at, memory)[0])
            x = one[0] + iterates[-1]
            coarse = clf.coarse(x).argmax(1) != one[1]
            fooled = coarse if attack_class is LRPC else (network(x).argmax(1) != one[2]) & ~coarse
            every.append((fooled.item(), lrp_loss(LRP(network), x, *labels).item()))
        n = min(range(steps + 1), key=lambda n: (not every[n][0], every[n][1]))
        chosen.add(n)
        assert best.iterations[row] == n and best.fooled[row] == every[n][0]
        torch.testing.assert_close(best.perturbation[row], iterates[n][0], rtol=0, atol=1e-8)
    assert len(chosen) > 1


def test_the_given_label_as_the_original(clf, images):
    """It differs where the classifier is wrong: r_org is then the true label instead of the predicted one."""
    wrong = (images.coarse + 1) % 2
    predicted, given = (LRPC(original=choice, labels="clean") for choice in ("predicted", "given"))
    org = [attack.start(clf.coarse, images.pixels, wrong)[0] for attack in (predicted, given)]
    assert torch.equal(org[0], images.coarse) and torch.equal(org[1], wrong)
    right = [attack.start(clf.coarse, images.pixels, images.coarse) for attack in (predicted, given)]
    assert all(map(torch.equal, *right))


# ---------------------------------------------------------------------------------------------------------- batches
def test_a_batch_size_that_cannot_be(clf, images):
    with pytest.raises(ValueError, match="batch_size is 0; give at least 1"):
        LRPC()(clf, *of(images), batch_size=0)


# -------------------------------------------------------------------------------------------------------- preflight
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nothing_speaks_against_these(clf, images, attack):
    assert preflight(attack, clf, *of(images)) == []


LITERAL = dict(init="one_hot", bias="ignore", p=1)


@pytest.mark.filterwarnings("ignore:one_hot with ignored biases")
@pytest.mark.parametrize("attack_class", [LRPC, LRPF])
def test_the_literal_reading_follows_nothing(clf, images, attack_class):
    found = preflight(attack_class(**LITERAL), clf, *of(images))
    assert found and all("is zero" in line and "total 1 for every label" in line for line in found)


@pytest.mark.filterwarnings("ignore:one_hot with ignored biases")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_literal_reading_by_zennit_follows_rounding_noise(clf, images, dtype):
    """zennit's totals differ from 1 in the last place, which normalising the step blows up; or by luck in none."""
    attack = LRPC(backend="zennit", **LITERAL)
    clf, pixels = copy.deepcopy(clf).to(dtype), images.pixels.to(dtype)
    moved = attack(clf, pixels, images.coarse, images.fine).perturbation.any()
    found = preflight(attack, clf, pixels, images.coarse, images.fine)
    assert any(("rounding noise" if moved else "is zero") in line for line in found)


def test_a_sure_classifier_has_no_gradient_in_float32(clf, images):
    """Logits so far apart that the cross-entropy is exactly zero: PGD stands still, and says so."""
    sure = copy.deepcopy(clf).float()
    with torch.no_grad():
        sure.coarse.layers[-1].weight *= 1e6
        sure.coarse.layers[-1].bias *= 1e6
    given = images.pixels.float(), images.coarse, images.fine
    found = preflight(PGDC(), sure, *given)
    assert len(found) == 1 and "the gradient of PGDC" in found[0] and "zero" in found[0]
    with pytest.warns(UserWarning, match="PGDC: the first step moved none of 8 images"):
        PGDC(iterations=2)(sure, *given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DFC(iterations=2)(sure, *given)


@pytest.mark.parametrize(("last", "kind"), [(nn.Softmax(1), "probabilities"), (nn.LogSoftmax(1), "log-probabilities")])
def test_outputs_that_are_no_logits(clf, images, last, kind):
    coarse = copy.deepcopy(clf.coarse)
    coarse.layers.append(last)
    soft = CoarseToFine(coarse, [clf.fine[0], clf.fine[1], clf.fine[2]], hierarchy_of((3, 4, 1))).eval()
    (found,) = preflight(PGDC(eps=5), soft, *of(images))
    assert re.search(f"coarse network: its outputs are {kind}", found)


def test_pixels_scaled_to_one(clf, images):
    pixels = images.pixels / 255
    found = preflight(PGDC(), clf, pixels, *clf.predict(pixels))
    assert "as if scaled to [0, 1]" in found[0]


def test_labels_that_the_classifier_never_gives(clf, images):
    found = preflight(PGDF(), clf, images.pixels, images.coarse, (images.fine + 1) % 3)
    assert len(found) == 2 and all("classified correctly; check the labels" in line for line in found)


def test_what_no_attack_can_use_is_refused(clf, images):
    with pytest.raises(ValueError, match="training mode"):
        preflight(PGDC(), copy.deepcopy(clf).train(), *of(images))
