"""Is an attack's result to be believed? Checks to run before it, in the manner of AutoAttack's `checks.py`
(Croce and Hein, "Reliable evaluation of adversarial robustness ...", ICML 2020).
"""

import copy

import torch
from torch import Tensor, nn

from c2f_lrp import metrics
from c2f_lrp.attacks.base import Attack
from c2f_lrp.checks import check_inputs
from c2f_lrp.classifier import CoarseToFine, finite

SAME_WAY = 0.9  # the cosine of the same step in two precisions from which it counts as no noise


@torch.inference_mode(False)
def preflight(
    attack: Attack, classifier: CoarseToFine, pixels: Tensor, coarse: Tensor, fine: Tensor, images: int = 2
) -> list[str]:
    """What speaks against believing this attack on these images (N, 3, H, W) in [0, 255]; empty: nothing does.

    Looks at the classifier's answers, and takes the attack's first step on the first `images` images that are
    classified correctly, in the given precision and in the other of float32 and float64: a step that is zero, or that
    points elsewhere in the other precision, follows nothing, or rounding noise.

    Raises ValueError for what no attack can use: see `Attack.__call__`.
    """
    pixels, coarse, fine = check_inputs(classifier, pixels, coarse, fine)
    found = []
    if len(pixels) and pixels.max() <= 1:
        found.append(
            f"pixels reach {pixels.max():g} only, as if scaled to [0, 1]; this package wants [0, 255], and eps and lr "
            "in the same units: multiply by 255"
        )
    for network, rows in attack.networks(classifier, coarse) if len(pixels) else []:
        labels = (coarse if attack.level == "coarse" else fine)[rows]
        with torch.no_grad():
            logits = finite(network(pixels[rows[:64]]))
        level = "coarse" if attack.level == "coarse" else classifier.hierarchy.coarse_names[coarse[rows[0]]]
        found += [f"{level} network: {problem}" for problem in looks_like_probabilities(logits)]
        right = (logits.argmax(1) == labels[:64]).nonzero().flatten()[:images]
        if len(right):
            problems = steps(attack, network, pixels[rows[right]], labels[right])
        else:
            problems = [f"none of {len(logits)} images is classified correctly; check the labels"]
        found += [f"{level} network: {problem}" for problem in problems]
    return found


def looks_like_probabilities(logits: Tensor) -> list[str]:
    """Attacks on probabilities meet vanishing gradients where a classifier is sure."""
    if not len(logits) or logits.shape[1] < 2:
        return []
    for kind, values in (("probabilities", logits), ("log-probabilities", logits.exp())):
        sums_to_one = torch.allclose(values.sum(1), values.new_ones(len(values)), atol=1e-3)
        if (values >= 0).all() and sums_to_one:
            return [f"its outputs are {kind}: they sum to 1; leave out the softmax and give logits"]
    return []


def steps(attack: Attack, network: nn.Module, pixels: Tensor, labels: Tensor) -> list[str]:
    """What is wrong with the attack's first step: it is zero, or it points elsewhere in another precision."""
    other = torch.float32 if pixels.dtype == torch.float64 else torch.float64
    here = first_step(attack, network, pixels, labels).double()
    there = first_step(attack, copy.deepcopy(network).to(other), pixels.to(other), labels).double()
    if not here.any():
        return [f"the gradient of {attack} is zero: the attack follows nothing. {advice(attack)}"]
    cosine = metrics.cosine(here, there).nan_to_num(0).min().item()  # a step that is zero points nowhere
    if there.any() and cosine < SAME_WAY:
        return [
            f"the gradient of {attack} is rounding noise: its first steps in {pixels.dtype} and in {other} have "
            f"cosine {cosine:.2f}. {advice(attack)}"
        ]
    return []


def first_step(attack: Attack, network: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        memory = attack.start(network, pixels, labels)
    at = attack.evaluate_at(network, attack.prepare(network), pixels, torch.zeros_like(pixels), memory, graph=True)
    with torch.enable_grad():
        return attack.step(at, memory)[0]


def advice(attack: Attack) -> str:
    if getattr(attack, "init", "") == "one_hot" and getattr(attack, "p", 0) == 1:
        return (
            "Relevance that starts at 1 and is handed on entirely has the total 1 for every label, so the loss of eq. "
            '(7) at p = 1 is zero for every image (notebook 03); choose bias="absorb", init="logit" or p=2'
        )
    return "A classifier as sure as this may need its logits scaled down, or float64"
