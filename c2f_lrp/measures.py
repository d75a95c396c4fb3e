"""What an attack does to explanations, as numbers: one row of measures per image, and the controls beside them."""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn

from c2f_lrp import metrics
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.datasets import Images
from c2f_lrp.lrp import LRP, choose_lrp
from c2f_lrp.metrics import NORMS
from c2f_lrp.objectives import adversarial_labels

if TYPE_CHECKING:
    from c2f_lrp.lrp import ZennitLRP

BATCH = 32

RIVALS = {"r_org": "r_adv", "r_adv": "r_org", "r_low": "r_org"}  # whose heatmap a label's is contrasted with


def measure(
    classifier: CoarseToFine,
    images: Images,
    perturbation: Tensor,
    level: str = "coarse",
    clean: "list[tuple[LRP, Tensor, Explanation]] | None" = None,
) -> pd.DataFrame:
    """One row per image: where the relevance of its label and of the runner-up lies before and after, where the
    perturbation (N, 3, H, W), in pixel units, lies, and how alike the heatmaps are before and after.

    level: whose heatmaps and labels; at the "fine" one those of the fine network of each image's coarse class. Heatmaps
    are in one reading for all attacks, whatever an attack itself descended: that of `clean`, which `explain_all` gives
    (None: its default). r_org, r_adv: the labels of the clean images, eq. (6) or (8). Columns with masks are left out
    where the images have none, and nan where an image's is empty. fooled: as in `AttackResult`.
    """
    parts = []
    for lrp, rows, before in explain_all(classifier, images, level) if clean is None else clean:
        part, eta = images[rows.tolist()], perturbation[rows]
        with torch.no_grad():
            label = lrp.classifier(part.pixels + eta).argmax(1)
            fooled = label != before.org
            if level == "fine":
                fooled &= classifier.coarse(part.pixels + eta).argmax(1) == part.coarse
        columns = {"fooled": fooled, "r_org": before.org, "r_adv": before.adv, "label": label}
        columns |= {name: metrics.perceptibilities(eta, part.pixels, p) for name, p in NORMS.items()}
        columns |= localisation(lrp, part, eta, before)
        parts.append(pd.DataFrame({n: value.cpu().numpy() for n, value in columns.items()}, pd.Index(rows.tolist())))
    return pd.concat(parts).sort_index()


def explain_all(
    classifier: CoarseToFine, images: Images, level: str = "coarse", init: str = "one_hot", bias: str = "absorb"
) -> "list[tuple[LRP | ZennitLRP, Tensor, Explanation]]":
    """The clean images' explanations with that of r_low, in small batches: what explains, rows, explanation."""
    labels = [None] if level == "coarse" else images.coarse.unique().tolist()
    found = []
    for label in labels:
        network = classifier.coarse if label is None else classifier.fine[label]
        chosen = torch.ones_like(images.coarse) if label is None else images.coarse == label
        lrp = choose_lrp(network, init, bias)
        for rows in chosen.nonzero().flatten().split(BATCH):
            found.append((lrp, rows, explain(lrp, images.pixels[rows], control=True)))
    return found


@dataclass(frozen=True)
class Explanation:
    """Clean images' label and runner-up, (N,), by eq. (6) or (8), and the heatmaps (N, 3, H, W) by label's name."""

    org: Tensor
    adv: Tensor
    labels: dict[str, Tensor]
    heatmaps: dict[str, Tensor]


@torch.no_grad()
def explain(lrp: LRP, pixels: Tensor, control: bool = False) -> Explanation:
    """Of images (N, 3, H, W). control: with r_low, the label of the smallest score, which takes no part."""
    logits = lrp.classifier(pixels)
    org, adv = adversarial_labels(logits)
    labels = {"r_org": org, "r_adv": adv} | ({"r_low": logits.argmin(1)} if control else {})
    heatmaps = lrp.relevances(pixels, list(labels.values()))
    return Explanation(org, adv, labels, dict(zip(labels, heatmaps, strict=True)))


@torch.no_grad()
def localisation(lrp: LRP, images: Images, perturbation: Tensor, before: Explanation) -> dict[str, Tensor]:
    """The measures of where relevance and perturbation lie, (N,) each, by name.

    "shift" is a share after the attack less the share before. A label's "parts" are the tenth of pixels that speak most
    for it on the clean image and not as much for its rival (`metrics.contrast`): r_adv for r_org, r_org for the others.
    The columns of r_low are nan where it is r_adv, for then it takes part.
    """
    after = lrp.relevances(images.pixels + perturbation, list(before.labels.values()))
    was, now = before.heatmaps, dict(zip(before.labels, after, strict=True))
    contrasts = {
        label: tuple(metrics.contrast(maps[label], maps[RIVALS[label]]) for maps in (was, now)) for label in was
    }
    columns = {}
    masks = {"object": images.object_masks, "other object": images.secondary_masks}
    masks = {name: mask.to(perturbation.device) for name, mask in masks.items() if mask is not None}
    for label in was:
        parts = metrics.most_relevant(contrasts[label][0])
        for name, mask in (masks | {"its parts": parts}).items():
            for kind, pair in (("", (was[label], now[label])), ("contrast ", contrasts[label])):
                mass = [metrics.relevance_mass(heatmap, mask) for heatmap in pair]
                columns[f"{kind or 'mass '}of {label} on {name}, before"] = mass[0]
                columns[f"{kind}shift of {label} on {name}"] = mass[1] - mass[0]
    for name, mask in masks.items():
        columns[f"rank of r_org on {name}, before"] = metrics.relevance_rank(was["r_org"], mask)
        columns[f"perturbation on {name}"] = metrics.perturbation_share(perturbation, mask)
        columns[f"share of the image, {name}"] = metrics.mask_share(mask)
    if "r_low" in was:  # seen as r_org is, against r_adv
        pair = [metrics.contrast(maps["r_low"], maps["r_adv"]) for maps in (was, now)]  # type: ignore[assignment]
        parts = metrics.most_relevant(pair[0])
        for kind, maps in (("", (was["r_low"], now["r_low"])), ("contrast ", pair)):
            mass = [metrics.relevance_mass(heatmap, parts) for heatmap in maps]
            columns[f"{kind}shift of r_low on its parts, against r_adv"] = mass[1] - mass[0]
        third = before.labels["r_low"] != before.adv
        columns |= {name: values.where(third, torch.nan) for name, values in columns.items() if "of r_low" in name}
    columns["perturbation on the most relevant tenth"] = metrics.perturbation_share(
        perturbation, metrics.most_relevant(was["r_org"])
    )
    columns["sparsity of the perturbation (Hoyer)"] = metrics.hoyer(perturbation)
    columns["entropy of the perturbation"] = metrics.entropy(perturbation)
    columns["cosine of r_org's heatmap, before and after"] = metrics.cosine(was["r_org"], now["r_org"])
    columns["rank correlation of r_org's heatmap, before and after"] = metrics.rank_correlation(
        was["r_org"], now["r_org"]
    )
    columns["cosine of both labels' heatmaps, before"] = metrics.cosine(was["r_org"], was["r_adv"])
    return columns


def noise_like(perturbation: Tensor, pixels: Tensor, kind: str, seed: int = 0) -> Tensor:
    """Noise with each image's own ||eta||_2, "normal" or "sign", then clipped to the range of pixels."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(perturbation.shape, generator=generator).to(perturbation)
    if kind == "sign":
        noise = noise.sign()
    elif kind != "normal":
        raise ValueError(f"kind is {kind!r}; choose normal or sign")
    size = perturbation.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    return (pixels + size.view(-1, 1, 1, 1) * noise).clamp(0, 255) - pixels


def randomized(network: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with every layer's weights drawn anew, normal with the layer's own mean and spread.

    The model parameter randomisation test of Adebayo et al., "Sanity checks for saliency maps" (NeurIPS 2018).
    """
    other, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.copy_(parameter.mean() + noise * (parameter.std() if parameter.numel() > 1 else 0))
    return other
