"""What an attack does to explanations, as numbers: one row of measures per image, and the controls beside them."""

import copy
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from c2f_lrp import metrics
from c2f_lrp.attacks import Attack
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.datasets import Images
from c2f_lrp.lrp import LRP, choose_lrp
from c2f_lrp.metrics import NORMS
from c2f_lrp.objectives import adversarial_labels

BATCH = 32


def measure(
    classifier: CoarseToFine,
    images: Images,
    perturbation: Tensor,
    level: str = "coarse",
    init: str = "one_hot",
    bias: str = "absorb",
) -> pd.DataFrame:
    """One row per image: where the relevance of its label and of the runner-up lies before and after, where the
    perturbation lies, and how alike the heatmaps are before and after.

    level: whose heatmaps and labels; at the "fine" one those of the fine network of each image's coarse class. Heatmaps
    are in one reading for all attacks, whatever an attack itself descended. r_org, r_adv: the labels of the clean
    images, eq. (6) or (8); r_low, the label with the smallest score, serves as control: it takes no part, unless there
    are but two. Columns with masks are left out where the images have none. fooled: as in `AttackResult`.
    """
    labels = [None] if level == "coarse" else images.coarse.unique().tolist()
    parts = []
    for label in labels:
        network = classifier.coarse if label is None else classifier.fine[label]
        chosen = torch.ones_like(images.coarse) if label is None else images.coarse == label
        lrp = choose_lrp(network, init, bias)
        for rows in chosen.nonzero().flatten().split(BATCH):
            part, eta = images[rows.tolist()], perturbation[rows]
            before = explain(lrp, part.pixels, control=True)
            with torch.no_grad():
                fooled = network(part.pixels + eta).argmax(1) != before.org
                if label is not None:
                    fooled &= classifier.coarse(part.pixels + eta).argmax(1) == part.coarse
            columns = {"fooled": fooled, "r_org": before.org, "r_adv": before.adv}
            columns |= {name: metrics.perceptibilities(eta, part.pixels, p) for name, p in NORMS.items()}
            columns |= localisation(lrp, part, eta, before)
            index = pd.Index(rows.tolist())
            parts.append(pd.DataFrame({name: value.cpu().numpy() for name, value in columns.items()}, index))
    return pd.concat(parts).sort_index()


@dataclass(frozen=True)
class Explanation:
    """Clean images' label and runner-up, (N,), by eq. (6) or (8), and the heatmaps (N, 3, H, W) by label's name."""

    org: Tensor
    adv: Tensor
    labels: dict[str, Tensor]
    heatmaps: dict[str, Tensor]


@torch.no_grad()
def explain(lrp: LRP, pixels: Tensor, control: bool = False) -> Explanation:
    """Of images (N, 3, H, W); control: r_low too."""
    logits = lrp.classifier(pixels)
    org, adv = adversarial_labels(logits)
    labels = {"r_org": org, "r_adv": adv} | ({"r_low": logits.argmin(1)} if control else {})
    heatmaps = lrp.relevances(pixels, list(labels.values()))
    return Explanation(org, adv, labels, dict(zip(labels, heatmaps, strict=True)))


@torch.no_grad()
def localisation(lrp: LRP, images: Images, perturbation: Tensor, before: Explanation) -> dict[str, Tensor]:
    """The measures of where relevance and perturbation lie, (N,) each, by name."""
    after = lrp.relevances(images.pixels + perturbation, list(before.labels.values()))
    org, org_after = before.heatmaps["r_org"], after[0]
    pair, pair_after = (org, before.heatmaps["r_adv"]), (org_after, after[1])
    contrasts = {
        "r_org": (metrics.contrast(*pair), metrics.contrast(*pair_after)),
        "r_adv": (metrics.contrast(*reversed(pair)), metrics.contrast(*reversed(pair_after))),
    }
    columns = {}
    masks = {"object": images.object_masks, "other object": images.secondary_masks}
    for name, mask in masks.items():
        if mask is None:
            continue
        mask = mask.to(perturbation.device)
        for (label, was), now in zip(before.heatmaps.items(), after, strict=True):
            mass = [metrics.relevance_mass(heatmap, mask) for heatmap in (was, now)]
            columns[f"mass of {label} on {name}, before"] = mass[0]
            columns[f"shift of {label} on {name}"] = mass[1] - mass[0]
        for label, (was, now) in contrasts.items():
            mass = [metrics.relevance_mass(difference, mask) for difference in (was, now)]
            columns[f"contrast of {label} on {name}, before"] = mass[0]
            columns[f"contrast shift of {label} on {name}"] = mass[1] - mass[0]
        columns[f"rank of r_org on {name}, before"] = metrics.relevance_rank(org, mask)
        columns[f"perturbation on {name}"] = metrics.perturbation_share(perturbation, mask)
        columns[f"share of the image, {name}"] = mask.float().mean((1, 2))
    columns["perturbation on the most relevant tenth"] = metrics.perturbation_share(
        perturbation, metrics.most_relevant(org)
    )
    columns["sparsity of the perturbation (Hoyer)"] = metrics.hoyer(perturbation)
    columns["entropy of the perturbation"] = metrics.entropy(perturbation)
    columns["cosine of r_org's heatmap, before and after"] = metrics.cosine(org, org_after)
    columns["rank correlation of r_org's heatmap, before and after"] = metrics.rank_correlation(org, org_after)
    columns["cosine of both labels' heatmaps, before"] = metrics.cosine(*pair)
    return columns


def perturb(classifier: CoarseToFine, images: Images, attacks: dict[str, Attack]) -> dict[str, Tensor]:
    """The perturbation (N, 3, H, W) of every attack, by its name. Images are to be classified correctly."""
    progress = tqdm(attacks.items(), desc="attacks", leave=False)
    labelled = images.pixels, images.coarse, images.fine
    return {name: attack(classifier, *labelled).perturbation for name, attack in progress}


def measure_all(
    classifier: CoarseToFine, images: Images, perturbations: dict[str, Tensor], level: str = "coarse", **reading
) -> pd.DataFrame:
    """The rows of `measure` for each perturbation (N, 3, H, W), with its name in the column `setting`."""
    progress = tqdm(perturbations.items(), desc="measures", leave=False)
    parts = [measure(classifier, images, eta, level, **reading).assign(setting=name) for name, eta in progress]
    return pd.concat(parts, ignore_index=True)


def with_intervals(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Means with 95 % bootstrap intervals over images: one line per setting, columns (measure, mean | low | high)."""
    lines = {}
    for setting, group in rows.groupby("setting", sort=False):
        lines[setting] = {
            (column, part): value
            for column in columns
            for part, value in zip(("mean", "low", "high"), metrics.bootstrap(group[column]), strict=True)
        }
    return pd.DataFrame(lines).T.rename_axis("setting")


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
