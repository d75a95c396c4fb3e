"""Algorithm 1 and its rivals: single steps against the slow twin, bounds, leaving. See also test_conformance.py."""

import copy
import dataclasses
import re

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import hierarchy_of, random_classifier, random_pixels
from torch import nn

from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, PGDC, PGDF
from c2f_lrp.attacks.base import clip
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.loading import load_classifier, load_images
from c2f_lrp.lrp import BIASES, INITS, LRP

COARSE, FINE = (LRPC, PGDC, DFC), (LRPF, PGDF, DFF)
EVERY = (*COARSE, *FINE)
BOUNDED = (LRPC, LRPF, PGDC, PGDF)
READINGS = [(init, bias) for init in INITS for bias in BIASES]
FIRST_STEPS = [
    (*reading, p, step_scale)
    for reading in READINGS
    for p in (1, 2)
    for step_scale in ("normalized", "gradient")
    # As printed the gradient is zero; normalising what rounding leaves of it gives a step that has no twin.
    if (*reading, p, step_scale) != ("one_hot", "ignore", 1, "normalized")
]
# One step moves pixels by up to 10 units; in float64 both sides round near 1e-13 of that.
STEP = dict(rtol=0, atol=1e-9)
NUDGED = 1e-4 * 0.226 * 255  # what DeepFool's authors add to a step's length, for images of 0..255


def attack(settings, clf, images, rows=slice(None), **options):
    return settings(clf, images.pixels[rows], images.coarse[rows], images.fine[rows], **options)


def level_network(attack_class, clf, images, row: int):
    """The network that an attack works on, and its label there."""
    if attack_class.level == "coarse":
        return clf.coarse, images.coarse[row].item()
    return clf.fine[images.coarse[row]], images.fine[row].item()


def twin_of(network, images) -> list:
    return reference.read(network, tuple(images.pixels.shape[1:]))


def flat(image) -> np.ndarray:
    return image.detach().numpy().ravel()


# ------------------------------------------------------------------------------------- single steps, by the twin
@pytest.mark.parametrize("attack_class", [LRPC, LRPF])
def test_the_literal_reading_is_announced(attack_class):
    with pytest.warns(UserWarning, match="as printed: both total relevances are 1"):
        attack_class(init="one_hot", bias="ignore", p=1)


@pytest.mark.filterwarnings("ignore:one_hot with ignored biases")
@pytest.mark.parametrize("attack_class", [LRPC, LRPF])
@pytest.mark.parametrize(("init", "bias", "p", "step_scale"), FIRST_STEPS)
def test_first_step_of_algorithm_1(clf, images, attack_class, init, bias, p, step_scale):
    row, eps = 0, 5
    lr = 7 if step_scale == "normalized" else 2e3  # large enough for eps to cut
    settings = dict(eps=eps, init=init, bias=bias, p=p, lr=lr, step_scale=step_scale, iterations=1)
    result = attack(attack_class(**settings), clf, images, slice(row, row + 1))
    network, _ = level_network(attack_class, clf, images, row)
    twin, x = twin_of(network, images), flat(images.pixels[row])
    org, adv = reference.eq_6(twin, x)
    normalized = step_scale == "normalized"
    expected = reference.algorithm_1_step(twin, x, 0 * x, org, adv, lr, eps, p, init, bias, normalized)
    np.testing.assert_allclose(flat(result.perturbation), expected, **STEP)
    assert result.iterations.tolist() == [1]
    if (init, bias, p) != ("one_hot", "ignore", 1):
        assert abs(expected).max() > 1e-3  # a step worth comparing: a million times the tolerance


@pytest.mark.parametrize("attack_class", [LRPC, LRPF])
def test_second_step_of_algorithm_1_may_keep_the_labels_of_the_clean_image(clf, images, attack_class):
    row, lr, eps = 1, 0.02, 0.03
    result = attack(attack_class(eps=eps, lr=lr, iterations=2, labels="clean"), clf, images, slice(row, row + 1))
    network, _ = level_network(attack_class, clf, images, row)
    twin, x = twin_of(network, images), flat(images.pixels[row])
    org, adv = reference.eq_6(twin, x)
    eta = 0 * x
    for _ in range(2):
        eta = reference.algorithm_1_step(twin, x, eta, org, adv, lr, eps, 1, "one_hot", "absorb", normalized=True)
    assert result.iterations.tolist() == [2]
    np.testing.assert_allclose(flat(result.perturbation), eta, **STEP)


CHOICES = [
    (LRPC, dict(labels="updated")),
    (LRPC, dict(labels="clean")),
    (LRPF, dict(labels="updated", fine_network="updated")),
    (LRPF, dict(labels="updated", fine_network="kept")),
    (LRPF, dict(labels="clean")),
]


@pytest.mark.parametrize("reading", [dict(init="one_hot", bias="absorb"), dict(init="logit", bias="ignore")])
@pytest.mark.parametrize(("attack_class", "choices"), CHOICES)
def test_algorithm_1_is_the_papers_line_by_line(clf, images, attack_class, choices, reading):
    """All of Algorithm 1 against its slow twin, on images of which two have a wrong label beforehand.

    Steps are so long that labels change on the way: at the fine level coarse labels too, to the class that has a single
    fine class among others.
    """
    coarse, fine = images.coarse.clone(), images.fine.clone()
    coarse[1], fine[1] = 1 - coarse[1], 0
    fine[4] = (fine[4] + 1) % 3
    settings = dict(eps=60, lr=12, iterations=6, **reading)
    result = attack_class(**settings, **choices)(clf, images.pixels, coarse, fine)
    twins = twin_of(clf.coarse, images), [twin_of(clf.fine[label], images) for label in (0, 1)] + [None]
    for row, image in enumerate(images.pixels):
        x, y, z = flat(image), coarse[row].item(), fine[row].item()
        eta, fooled, k = reference.algorithm_1(
            *twins, x, y, z, 6, 12, 60, attack_class.__name__, normalized=True, **reading, **choices
        )
        assert (result.fooled[row].item(), result.iterations[row].item()) == (fooled, k)
        np.testing.assert_allclose(flat(result.perturbation[row]), eta, rtol=1e-6, atol=1e-6)


def test_labels_and_networks_make_a_difference(clf, images):
    """Else the test above would say nothing of them."""
    given = images.pixels, images.coarse, images.fine
    found = {}
    for attack_class, choices in CHOICES:
        settings = dict(eps=60, lr=12, iterations=6)
        found[attack_class.__name__, *choices.values()] = attack_class(**settings, **choices)(clf, *given).perturbation
    assert not torch.allclose(found["LRPC", "updated"], found["LRPC", "clean"])
    coarse = set()
    watch = lambda at: coarse.update(at.coarse.tolist())  # noqa: E731
    LRPF(eps=60, lr=12, iterations=6)(clf, *given, watch=watch)
    assert coarse == {0, 1, 2}  # the last is the class with a single fine class
    fine = [value for key, value in found.items() if key[0] == "LRPF"]
    assert not any(torch.allclose(fine[i], fine[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("attack_class", [PGDC, PGDF])
def test_first_steps_of_pgd(clf, images, attack_class):
    row, step, eps = 2, 0.02, 0.03  # too small to fool: both steps are taken
    result = attack(attack_class(eps=eps, step_size=step, iterations=2), clf, images, slice(row, row + 1))
    network, label = level_network(attack_class, clf, images, row)
    twin, x = twin_of(network, images), flat(images.pixels[row])
    eta = 0 * x
    for _ in range(2):
        eta = reference.pgd_step(twin, x, eta, label, step, eps)
    assert result.iterations.tolist() == [2]
    np.testing.assert_allclose(flat(result.perturbation), eta, **STEP)


@pytest.mark.parametrize("attack_class", [PGDC, PGDF])
def test_pgd_steps_are_a_quarter_of_eps_unless_told(clf, images, attack_class):
    default = attack(attack_class(eps=0.8, iterations=3), clf, images)
    told = attack(attack_class(eps=0.8, iterations=3, step_size=0.2), clf, images)
    assert torch.equal(default.perturbation, told.perturbation)


@pytest.mark.parametrize("attack_class", [DFC, DFF])
@pytest.mark.parametrize("candidates", [None, 1])
def test_first_step_of_deepfool(clf, images, attack_class, candidates):
    for row in range(4):
        one = slice(row, row + 1)
        result = attack(attack_class(overshoot=0.1, iterations=1, candidates=candidates), clf, images, one)
        network, label = level_network(attack_class, clf, images, row)
        x = flat(images.pixels[row])
        step = reference.deepfool_step(twin_of(network, images), x, label, candidates, NUDGED)
        np.testing.assert_allclose(flat(result.perturbation), reference.clip(x, 1.1 * step, np.inf), **STEP)


def test_deepfool_crosses_the_boundary_where_pixels_end(clf):
    """A clipped pixel takes no part of a step, which then falls short: overshooting must not stop at a tie."""
    pixels = random_pixels(64, 6, 6, seed=3)
    coarse, fine = clf.predict(pixels)
    result = DFC()(clf, pixels, coarse, fine)
    with torch.no_grad():
        logits = clf.coarse(pixels + result.perturbation)
    margins = logits.max(1).values - logits.gather(1, coarse[:, None]).squeeze(1)
    assert ((pixels + result.perturbation) % 255 == 0).any()  # some pixels do end at 0 or 255
    assert result.fooled.all()
    # Logits are of size 1: below 1e-6 a changed label would be an accident of rounding in float32.
    assert (margins > 1e-6).all(), margins.sort().values[:5]


@pytest.mark.parametrize("attack_class", [DFC, DFF])
def test_deepfool_leaves_the_decision_to_no_rounding(attack_class):
    """Scenes on which DeepFool's last step is so short that 2 % of it, its overshoot, is less than rounding."""
    clf, images = load_classifier("scenes"), load_images("scenes", limit=142)[[34, 118, 141]]
    result = attack_class()(clf, images.pixels, images.coarse, images.fine)
    exact = copy.deepcopy(clf).double()
    for row, (y, j) in enumerate(zip(images.coarse.tolist(), images.fine.tolist(), strict=True)):
        network, label = (exact.coarse, y) if attack_class is DFC else (exact.fine[y], j)
        logits = network((images.pixels[row] + result.perturbation[row])[None].double())[0]
        margin = logits.max() - logits[label]
        assert margin > 3e-5, margin  # ten times what float32 rounds off logits of size 10


# -------------------------------------------------------------------------------------------- affine classifiers
def affine(n_labels: int, seed: int):
    """A network for images (3, 6, 6) without a single kink."""
    return random_classifier(nn.Flatten(), nn.Linear(108, n_labels), seed=seed)


@pytest.fixture(scope="module")
def affine_clf() -> CoarseToFine:
    fine = [affine(5, seed=i) for i in (1, 2)]
    return CoarseToFine(affine(2, seed=3), fine, hierarchy_of((5, 5))).eval()


@pytest.fixture(scope="module")
def grey():
    """Images far from 0 and 255, so that only the boundaries of the classifier matter."""
    return 100 + 55 / 255 * random_pixels(6, 6, 6, seed=4)


def weights_per_pixel(network) -> np.ndarray:
    return network.layers[1].weight.detach().numpy() / np.repeat(network.std.numpy().ravel(), 36)


@pytest.mark.parametrize("attack_class", [DFC, DFF])
def test_deepfool_on_an_affine_classifier_has_a_closed_form(affine_clf, grey, attack_class):
    """One step onto the nearest hyperplane f_k = f_y, |f_k - f_y| / ||w_k - w_y||^2 (w_k - w_y), and just beyond."""
    coarse, fine = affine_clf.predict(grey)
    result = attack_class()(affine_clf, grey, coarse, fine)
    for row in range(len(grey)):
        network, y = (
            (affine_clf.coarse, coarse[row]) if attack_class is DFC else (affine_clf.fine[coarse[row]], fine[row])
        )
        f, w = flat(network(grey[row : row + 1])), weights_per_pixel(network)
        f, w = np.delete(f - f[y], y), np.delete(w - w[y], y, axis=0)
        distances = abs(f) / np.linalg.norm(w, axis=1)
        nearest = np.argmin(distances)
        closed = 1.02 * (distances[nearest] + NUDGED) * w[nearest] / np.linalg.norm(w[nearest])
        np.testing.assert_allclose(flat(result.perturbation[row]), closed, **STEP)
    assert (result.iterations == 1).all()
    attacked = affine_clf.predict(grey + result.perturbation)[0]
    if attack_class is DFC:
        assert result.fooled.all() and (attacked != coarse).all()
    else:  # a fine boundary can lie beyond a coarse one
        assert torch.equal(result.fooled, attacked == coarse) and result.fooled.any()


@pytest.mark.parametrize("ends", ["hold", "clip"])
def test_deepfool_within_the_ends_of_pixels_on_an_affine_classifier(affine_clf, ends):
    """The shortest way into a half-space within a box is clip(t w): t*, at the boundary, by bisection.

    Neither way may stop short of the boundary, and neither goes further than the overshoot and the nudges.
    """
    pixels = random_pixels(12, 6, 6, seed=8)
    pixels = (pixels * 1.6 - 76).clamp(0, 255)  # a third of the pixels at an end
    coarse, fine = affine_clf.predict(pixels)
    result = DFC(ends=ends)(affine_clf, pixels, coarse, fine)
    assert result.fooled.all()
    w = weights_per_pixel(affine_clf.coarse)
    for row, y in enumerate(coarse.tolist()):
        x, way = flat(pixels[row]), w[1 - y] - w[y]
        f = flat(affine_clf.coarse(pixels[row : row + 1]))

        def margin(t, x=x, way=way, gap=f[1 - y] - f[y]):
            return gap + way @ reference.clip(x, t * way, np.inf)

        low, high = 0.0, 1.0
        while margin(high) < 0:
            high *= 2
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if margin(middle) < 0 else (low, middle)
        eta = flat(result.perturbation[row])
        inside = (x + eta > 0) & (x + eta < 255)
        t = eta[inside] / way[inside]
        assert inside.sum() < len(x) and np.ptp(t) < 1e-9 * t.max()  # one t for every pixel that is not at an end
        nudges = 2 * (1e-4 if ends == "clip" else NUDGED) * result.iterations[row].item()
        most = 1.02 * high + nudges / np.linalg.norm(way)
        assert high <= t.mean() <= most
        np.testing.assert_allclose(eta, reference.clip(x, t.mean() * way, np.inf), **STEP)


def test_pgd_on_an_affine_classifier_has_a_closed_form(affine_clf, grey):
    """Between two classes every step is the same, s sign(w_other - w_y), until the margin m <= n s ||w||_1."""
    coarse, fine = affine_clf.predict(grey)
    s = 0.25
    most, settings = 200, dict(eps=50, step_size=s)
    result = PGDC(iterations=most, early_stop=True, **settings)(affine_clf, grey, coarse, fine)
    every_step = PGDC(iterations=most, **settings)(affine_clf, grey, coarse, fine)
    assert result.fooled.all() and every_step.fooled.all() and (every_step.iterations == most).all()
    w = weights_per_pixel(affine_clf.coarse)
    for row, y in enumerate(coarse.tolist()):
        f = flat(affine_clf.coarse(grey[row : row + 1]))
        way = w[1 - y] - w[y]
        n = int((f[y] - f[1 - y]) // (s * abs(way).sum())) + 1
        assert result.iterations[row] == n
        np.testing.assert_allclose(flat(result.perturbation[row]), n * s * np.sign(way), **STEP)
        np.testing.assert_allclose(flat(every_step.perturbation[row]), most * s * np.sign(way), **STEP)


# -------------------------------------------------------------------------------------------------------- bounds
finite = dict(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    st.lists(st.tuples(st.one_of(st.sampled_from([0.0, 255.0, 0.1]), st.floats(0, 255)), st.floats(**finite))),
    st.floats(1e-6, 1e3),
)
def test_clip_is_exact(dtype, pairs, eps):
    if dtype == torch.float32:
        eps = np.float32(eps).item()  # the bound in the precision of the images
    x = torch.tensor([pair[0] for pair in pairs], dtype=dtype)
    eta = torch.tensor([pair[1] for pair in pairs], dtype=torch.float64).clamp(-1e30, 1e30).to(dtype)
    clipped = clip(eta, x, eps)
    assert (clipped.double().abs() <= eps).all()
    assert (x + clipped >= 0).all() and (x + clipped <= 255).all()
    inside = (eta.abs() <= eps) & (x + eta >= 0) & (x.double() + eta.double() <= 255)
    # What was inside stays: up to the rounding of 255 - x, half a unit in the last place of 255.
    assert ((clipped - eta).abs()[inside] <= 255 * torch.finfo(dtype).eps).all()


@pytest.mark.parametrize("attack_class", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 300), st.booleans())
def test_perturbations_keep_their_bounds(clf, attack_class, dtype, seed, eps, whole):
    pixels = random_pixels(4, 6, 6, seed)
    pixels = 300 / 255 * pixels - 20  # a good share beyond the ends
    pixels = pixels.clamp(0, 255).to(dtype)
    if whole:
        pixels = pixels.round()
    clf = copy.deepcopy(clf).to(dtype)
    coarse, fine = clf.predict(pixels)
    rows = coarse < 2
    if dtype == torch.float32:
        eps = np.float32(eps).item()
    bounds = {"eps": eps} if attack_class in BOUNDED else {}
    if attack_class in (LRPC, LRPF):
        bounds["lr"] = eps  # the bound is reached in one step
    result = attack_class(iterations=4, **bounds)(clf, pixels[rows], coarse[rows], fine[rows])
    eta = result.perturbation
    assert eta.dtype == dtype and eta.shape == pixels[rows].shape
    assert eta.isfinite().all()
    if bounds:
        assert (eta.double().abs() <= eps).all()
    attacked = pixels[rows] + eta
    assert (attacked >= 0).all() and (attacked <= 255).all()


# ------------------------------------------------------------------------------------------------------- leaving
def slow_enough(attack_class, iterations: int):
    """Small steps, so that images are fooled after different numbers of them."""
    if attack_class in (LRPC, LRPF):
        return attack_class(iterations=iterations, lr=0.5, init="logit", bias="ignore")
    if attack_class in (PGDC, PGDF):
        return attack_class(iterations=iterations, eps=10, step_size=0.4, early_stop=True)
    return attack_class(iterations=iterations)


@pytest.mark.parametrize("attack_class", EVERY)
def test_an_image_leaves_when_fooled_and_is_not_touched_again(clf, images, attack_class):
    long = attack(slow_enough(attack_class, 40), clf, images)
    counts = long.iterations[long.fooled]
    assert long.fooled.any() and (long.iterations >= 1).all()
    if attack_class not in (DFC, DFF):  # DeepFool is done after one or two steps here
        assert len(counts.unique()) > 1
    for n in counts.unique().tolist():
        short = attack(slow_enough(attack_class, n), clf, images)
        done = long.fooled & (long.iterations <= n)
        assert short.fooled[done].all() and not short.fooled[long.fooled & (long.iterations > n)].any()
        assert torch.equal(short.perturbation[done], long.perturbation[done])
        assert torch.equal(short.iterations, long.iterations.clamp(max=n))


@pytest.mark.parametrize("attack_class", EVERY)
def test_a_watch_sees_every_iterate(clf, images, attack_class):
    """From no perturbation at all to the one returned: after k steps, what an attack of k steps returns."""
    seen, k = [], 4
    whole = attack(slow_enough(attack_class, k), clf, images, slice(1), watch=lambda at: seen.append(at.perturbation))
    assert len(seen) == whole.iterations.item() + 1 and not seen[0].any()
    assert torch.equal(seen[-1], whole.perturbation)
    for n, iterate in enumerate(seen[1:], start=1):
        assert torch.equal(attack(slow_enough(attack_class, n), clf, images, slice(1)).perturbation, iterate)


@pytest.mark.parametrize("attack_class", EVERY)
def test_fooled_is_what_the_twin_finds(clf, images, attack_class):
    """Coarse: C(x + eta) != y. Fine: F^y(x + eta) != z and C(x + eta) = y."""
    settings = slow_enough(attack_class, 10)
    if attack_class in (DFC, DFF):  # which would stop too near the boundary for two ways of rounding
        settings = dataclasses.replace(settings, overshoot=0.2)
    result = attack(settings, clf, images)
    attacked = (images.pixels + result.perturbation).numpy()
    coarse_twin = twin_of(clf.coarse, images)
    fine_twins = [twin_of(clf.fine[label], images) for label in (0, 1)]
    for row, image in enumerate(attacked):
        y, z = images.coarse[row].item(), images.fine[row].item()
        coarse_changed = reference.predict(coarse_twin, image) != y
        fine_changed = reference.predict(fine_twins[y], image) != z
        expected = coarse_changed if attack_class in COARSE else fine_changed and not coarse_changed
        assert result.fooled[row] == expected


@pytest.mark.parametrize("attack_class", EVERY)
def test_an_image_whose_label_is_wrong_beforehand_leaves_at_once_or_after_a_step(clf, images, attack_class):
    coarse, fine = images.coarse.clone(), images.fine.clone()
    rows = torch.tensor([1, 4])
    if attack_class in COARSE:
        coarse[rows] = 1 - coarse[rows]
        fine[rows] = 0
    else:
        fine[rows] = (fine[rows] + 1) % 3
    result = attack_class(iterations=5)(clf, images.pixels, coarse, fine)
    if attack_class in (LRPC, LRPF):  # Algorithm 1 tests after its first step: see its twin
        assert (result.iterations >= 1).all() and result.perturbation.flatten(1).any(1).all()
        return
    if attack_class in (PGDC, PGDF):  # takes all its steps, unless it is told to stop
        assert (result.iterations == 5).all() and result.perturbation.flatten(1).any(1).all()
        result = attack_class(iterations=5, early_stop=True)(clf, images.pixels, coarse, fine)
    assert result.fooled[rows].all()
    assert not result.iterations[rows].any()
    assert not result.perturbation[rows].any()
    others = torch.tensor([0, 2, 3, 5, 6, 7])
    assert (result.iterations[others] >= 1).all()


@pytest.mark.parametrize("attack_class", FINE)
def test_a_fine_label_that_changes_with_the_coarse_one_does_not_count(clf, images, attack_class):
    """The fine network is the coarse one, so both labels always change together."""
    twins = CoarseToFine(clf.coarse, [clf.coarse, clf.coarse, clf.coarse], hierarchy_of((3, 3, 3))).eval()
    result = slow_enough(attack_class, 12)(twins, images.pixels, images.coarse, images.coarse)
    assert not result.fooled.any()
    changed = twins.predict(images.pixels + result.perturbation)[0] != images.coarse
    if attack_class is DFF:  # which has no direction beyond the boundary
        assert changed.all() and (result.iterations < 12).all()
    else:
        assert changed.any() and (result.iterations == 12).all()


@pytest.mark.parametrize("attack_class", EVERY)
def test_no_images(clf, images, attack_class):
    result = attack(attack_class(), clf, images, slice(0))
    assert result.perturbation.shape == (0, 3, 6, 6)
    assert result.fooled.shape == result.iterations.shape == (0,)


def test_a_gradient_of_zero_moves_nothing(clf, images):
    """A network whose answer does not depend on the image: finite, and nothing to follow."""
    constant = copy.deepcopy(clf)
    with torch.no_grad():
        for network in (constant.coarse, constant.fine[0], constant.fine[1]):
            network.layers[0].weight.zero_()
    coarse, fine = constant.predict(images.pixels)
    assert coarse.unique().numel() == 1 and coarse[0] < 2
    for attack_class in EVERY:
        with pytest.warns(UserWarning, match="the first step moved none of 8 images"):
            result = attack_class(iterations=3)(constant, images.pixels, coarse, fine)
        assert not result.perturbation.any() and not result.fooled.any(), attack_class


# ------------------------------------------------------------------------------------------------------ settings
@pytest.mark.parametrize("attack_class", EVERY)
def test_settings_are_frozen_and_shown(attack_class):
    settings = attack_class(iterations=7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.iterations = 8
    assert repr(settings).startswith(attack_class.__name__ + "(iterations=7")
    assert settings == attack_class(iterations=7) != attack_class(iterations=8)


# -------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize("attack_class", FINE)
def test_a_single_fine_class_has_no_fine_attack(clf, images, attack_class):
    coarse, fine = images.coarse.clone(), images.fine.clone()
    coarse[2], fine[2] = 2, 0
    with pytest.raises(ValueError, match="coarse class class2 has a single fine class"):
        attack_class()(clf, images.pixels, coarse, fine)


@pytest.mark.parametrize("attack_class", COARSE)
def test_a_single_fine_class_has_coarse_attacks(clf, attack_class):
    pixels = random_pixels(64, 6, 6, seed=3)
    coarse, fine = clf.predict(pixels)
    rows = (coarse == 2).nonzero().flatten()[:2]
    result = attack_class(iterations=3)(clf, pixels[rows], coarse[rows], fine[rows])
    assert len(rows) == 2 and result.perturbation.flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("classes", "setting", "values", "message"),
    [
        (EVERY, "iterations", (0, -1), "iterations is {}"),
        (BOUNDED, "eps", (0, -1, -0.5, float("nan")), "eps is {}"),
        ((LRPC, LRPF), "lr", (0, -1, float("nan")), "lr is {}"),
        ((LRPC, LRPF), "init", ("delta",), "init is '{}'; choose one of one_hot, logit"),
        ((LRPC, LRPF), "bias", ("keep",), "bias is '{}'; choose one of ignore, absorb"),
        ((LRPC, LRPF), "step_scale", ("sign",), "step_scale is '{}'; choose one of normalized, gradient"),
        ((LRPC, LRPF), "p", (0, 0.5, float("nan")), "p is {}"),
        ((PGDC, PGDF), "step_size", (0, -1, float("nan")), "step_size is {}"),
        ((DFC, DFF), "overshoot", (-0.01, float("nan")), "overshoot is {}"),
        ((DFC, DFF), "candidates", (0, -1), "candidates is {}"),
        ((DFC, DFF), "ends", ("mirror",), "ends is '{}'; choose one of hold, clip"),
        ((LRPC, LRPF), "objective", ("eq9",), "objective is '{}'; choose one of eq7, regions, attention"),
        ((LRPC, LRPF), "iterate", ("last",), "iterate is '{}'; choose one of first, best"),
        ((LRPC, LRPF), "original", ("true",), "original is '{}'; choose one of predicted, given"),
    ],
)
def test_settings_that_cannot_work(classes, setting, values, message):
    """Refused when the attack is written down, with the value in the message."""
    for attack_class in classes:
        for value in values:
            with pytest.raises(ValueError, match=re.escape(message.format(value))):
                attack_class(**{setting: value})


def changed(values, row, value):
    values = values.clone()
    values[row] = value
    return values


@pytest.mark.parametrize("attack_class", [LRPC, DFF])
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("coarse", lambda y: changed(y, 1, 3), r"coarse_labels lie in 0\.\.3; allowed are 0\.\.2"),
        ("coarse", lambda y: changed(y, 1, -1), r"coarse_labels lie in -1\.\.1; allowed are 0\.\.2"),
        ("coarse", lambda y: y[:-1], r"coarse_labels are torch.int64 of shape \(7,\); give int64 of shape \(8,\)"),
        ("coarse", lambda y: y[:, None], r"coarse_labels are torch.int64 of shape \(8, 1\)"),
        ("coarse", lambda y: y.double(), "coarse_labels are torch.float64"),
        ("fine", lambda z: changed(z, 0, 3), r"fine_labels\[0\] is 3; coarse class class0 allows 0\.\.2"),
        ("fine", lambda z: changed(z, 5, -1), r"fine_labels\[5\] is -1; coarse class class1 allows 0\.\.3"),
        ("fine", lambda z: z[:-1], r"fine_labels are torch.int64 of shape \(7,\)"),
        ("pixels", lambda x: x[0], r"shape \(3, 6, 6\); give a batch \(N, 3, H, W\)"),
        ("pixels", lambda x: x[:, :1], r"shape \(8, 1, 6, 6\)"),
        ("pixels", lambda x: x.byte(), "pixels are torch.uint8"),
        ("pixels", lambda x: changed(x, 3, torch.nan), "must be finite"),
        ("pixels", lambda x: changed(x, 3, torch.inf), "must be finite"),
        ("pixels", lambda x: changed(x, 3, 256), r"in \[0, 255\]"),
        ("pixels", lambda x: changed(x, 3, -1), r"in \[0, 255\]"),
    ],
)
def test_inputs_that_do_not_fit(clf, images, attack_class, name, change, message):
    given = {name: getattr(images, name) for name in ("pixels", "coarse", "fine")}
    given[name] = change(given[name])
    with pytest.raises(ValueError, match=message):
        attack_class()(clf, *given.values())


@pytest.mark.parametrize("attack_class", EVERY)
@pytest.mark.parametrize("part", ["classifier", "dropout of a fine network"])
def test_training_mode(clf, images, attack_class, part):
    clf = copy.deepcopy(clf)
    (clf if part == "classifier" else clf.fine[1].layers[-2]).train()
    with pytest.raises(ValueError, match=r"training mode.*\.eval\(\)"):
        attack(attack_class(), clf, images)


@pytest.mark.parametrize("attack_class", [LRPC, LRPF])
def test_the_network_itself_says_what_is_fooled(clf, images, attack_class, monkeypatch):
    """And not the logits that come with the relevance, which are rounded differently: here they are quite wrong."""
    whole = LRP.logits_and_totals

    def wrong(lrp, pixels):
        logits, totals = whole(lrp, pixels)
        return -logits, totals

    monkeypatch.setattr(LRP, "logits_and_totals", wrong)
    coarse, fine = clf.predict(images.pixels)
    result = attack_class(eps=1e-3, iterations=2)(clf, images.pixels, coarse, fine)
    assert not result.fooled.any() and (result.iterations == 2).all()


def test_a_loss_of_ones_own_is_descended(clf, images):
    """Also where eq. (7) would have come with the logits."""

    class Reverse(LRPC):
        def loss(self, lrp, pixels, memory):
            return -super().loss(lrp, pixels, memory)

    pixels = images.pixels.clamp(20, 235)
    there, back = (
        kind(eps=60, lr=5, iterations=1)(clf, pixels, images.coarse, images.fine).perturbation
        for kind in (LRPC, Reverse)
    )
    assert there.any()
    torch.testing.assert_close(back, -there, rtol=0, atol=1e-9)


@pytest.mark.parametrize("attack_class", EVERY)
def test_logits_that_are_not_finite(clf, images, attack_class):
    clf = copy.deepcopy(clf)
    network = clf.coarse if attack_class in COARSE else clf.fine[1]
    with torch.no_grad():
        network.layers[-1].bias[0] = torch.nan
    with pytest.raises(ValueError, match="logits that are not finite"):
        attack(attack_class(), clf, images)
