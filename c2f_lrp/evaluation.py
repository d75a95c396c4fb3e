"""Attacks over many images: one row for each image and attack setting, kept in shards, and the tables made of them."""

import dataclasses
import hashlib
import json
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pyarrow
import torch
from torch import Tensor
from tqdm.auto import tqdm

from c2f_lrp.attacks import Attack, preflight
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.datasets import Images
from c2f_lrp.lrp import LRP
from c2f_lrp.metrics import fooling_ratio, perceptibilities
from c2f_lrp.objectives import adversarial_labels, signed_norm

SHARD_SIZE = 50
NORMS = {"rho_2": 2, "rho_1": 1, "rho_inf": float("inf")}


def evaluate(
    classifier: CoarseToFine,
    images: Images,
    attacks: dict[str, Attack],
    *,
    store: Path | None = None,
    resume: bool = False,
) -> pd.DataFrame:
    """One row per attack setting and image: labels before and after, fooled, iterations, the largest
    |eta| in pixel units, the terms of eq. (10).

    Only images that the classifier gets right at the attack's level (and at the coarse one) are attacked; the others
    have correct=False, no perturbation, and fooled as Algorithm 1 as printed would count them. Images whose coarse
    class has a single fine class have no row at the fine level.

    Shards of rows are written to the folder `store`, each under a hash of all that determines it (settings, weights,
    images, package version), and read from there when `resume` is set. Before a setting's first shard is attacked,
    `attacks.preflight` looks at two images and warns of what speaks against believing the attack.
    """
    if not len(images):
        raise ValueError("no images were given to evaluate")
    if not attacks:
        raise ValueError("no attacks were given to evaluate")
    identity = content_hash(classifier.state_dict().values())
    shards = [
        (name, attack, chosen[start : start + SHARD_SIZE])
        for name, attack in attacks.items()
        for chosen in [attackable(classifier, images, attack.level)]
        for start in range(0, len(chosen), SHARD_SIZE)
    ]
    if not shards:
        raise ValueError(f"none of the {len(images)} images is of a coarse class with several fine ones")
    tables, checked = [], set()
    progress = tqdm(total=sum(len(shard) for _, _, shard in shards), unit="image", desc="attacking")
    for name, attack, shard in shards:
        progress.set_postfix_str(name)
        path = None if store is None else Path(store) / f"{shard_key(identity, attack, shard)}.parquet"
        table = read_shard(path) if resume and path is not None else None
        if table is None:
            if name not in checked:
                checked.add(name)
                warn_of_doubts(classifier, shard, attack)
            table = attack_rows(classifier, shard, attack)
            if path is not None:
                write_shard(path, table)
        tables.append(table.assign(setting=name))
        progress.update(len(shard))
    progress.close()
    return pd.concat(tables, ignore_index=True)


def attackable(classifier: CoarseToFine, images: Images, level: str) -> Images:
    """The images whose label at this level can change: at the fine level not those of a class with one fine class."""
    return images if level == "coarse" else images[torch.tensor(classifier.hierarchy.n_fine)[images.coarse] > 1]


def warn_of_doubts(classifier: CoarseToFine, images: Images, attack: Attack, n: int = 2) -> None:
    """Warn of what `attacks.preflight` finds with the first n images that are classified correctly."""
    labels = images.coarse, images.fine
    right = torch.stack([a == b for a, b in zip(classifier.predict(images.pixels), labels, strict=True)]).all(0)
    few = images[right.nonzero().flatten()[:n]]
    for doubt in preflight(attack, classifier, few.pixels, few.coarse, few.fine):
        warnings.warn(doubt, stacklevel=3)


def attack_rows(classifier: CoarseToFine, images: Images, attack: Attack) -> pd.DataFrame:
    """The rows of one attack on a few images."""
    coarse_before, fine_before = classifier.predict(images.pixels)
    coarse_right, fine_right = coarse_before == images.coarse, fine_before == images.fine
    if attack.level == "coarse":
        correct, fooled = coarse_right, ~coarse_right
    else:
        correct, fooled = coarse_right & fine_right, coarse_right & ~fine_right
    perturbation = torch.zeros_like(images.pixels)
    iterations = torch.zeros(len(images), dtype=torch.int64)
    result = attack(classifier, images.pixels[correct], images.coarse[correct], images.fine[correct])
    perturbation[correct], fooled[correct], iterations[correct] = vars(result).values()
    coarse_after, fine_after = classifier.predict(images.pixels + perturbation)
    own_fine_after = classifier.predict_fine(images.pixels + perturbation, images.coarse)
    columns = dict(
        coarse=images.coarse,
        fine=images.fine,
        coarse_before=coarse_before,
        fine_before=fine_before,
        coarse_after=coarse_after,
        fine_after=fine_after,  # of the fine network that C(x + eta) routes to
        own_fine_after=own_fine_after,  # of the fine network of the image's own coarse class
        correct=correct,
        fooled=fooled,
        iterations=iterations,
        largest=perturbation.abs().amax((1, 2, 3)),
        **{name: perceptibilities(perturbation, images.pixels, p) for name, p in NORMS.items()},
    )
    table = pd.DataFrame({name: column.numpy() for name, column in columns.items()})
    table.insert(0, "image", images.names)
    return table


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per setting, in the paper's measures: rho of eq. (10) and the fooling ratio in percent.

    Over the images classified correctly beforehand, fooled or not; `fooling_as_printed` counts all images and takes
    a misclassified one as fooled, as Algorithm 1 does at iteration 0.
    """
    lines = []
    for name, group in rows.groupby("setting", sort=False):
        attacked = group[group.correct]
        if attacked.empty:
            raise ValueError(f"{name}: none of the {len(group)} images is classified correctly, so none is attacked")
        line = {"setting": name, "images": len(group), "attacked": len(attacked)}
        line |= {measure: float(attacked[measure].mean()) for measure in NORMS}
        line["fooling_percent"] = 100 * fooling_ratio(torch.tensor(attacked.fooled.to_numpy()))
        line["fooling_as_printed"] = 100 * fooling_ratio(torch.tensor(group.fooled.to_numpy()))
        line["mean_iterations"] = float(attacked.iterations.mean())
        lines.append(line)
    return pd.DataFrame(lines).set_index("setting")


def content_hash(tensors) -> str:
    """SHA-256 of tensors' values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def shard_key(identity: str, attack: Attack, images: Images) -> str:
    """A name for the rows of one attack setting on these images with the classifier of this identity."""
    facts = dict(
        classifier=identity,
        attack=type(attack).__name__,
        settings=dataclasses.asdict(attack),
        images=content_hash([images.pixels, images.coarse, images.fine]),
        version=version("c2f_lrp"),
    )
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def write_shard(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    table.to_parquet(part)
    part.replace(path)


def read_shard(path: Path) -> pd.DataFrame | None:
    """The rows, or None where there are none or the file is damaged: they are then computed again."""
    try:
        return pd.read_parquet(path)
    except (FileNotFoundError, pyarrow.ArrowInvalid):
        return None


def label_pairs(classifier: CoarseToFine, images: Images, level: str, coarse: str) -> Counter:
    """How often each (label, runner-up) of eq. (6) or (8) occurs among a coarse class's images, as names.

    Only images that both levels classify correctly count. Raises ValueError where there is none.
    """
    if coarse not in classifier.hierarchy.coarse_names:
        raise ValueError(f"{coarse!r} is no coarse class; choose one of {', '.join(classifier.hierarchy.coarse_names)}")
    label = classifier.hierarchy.coarse_names.index(coarse)
    chosen = images[images.coarse == label]
    if len(chosen):
        predicted = classifier.predict(chosen.pixels)
        chosen = chosen[(predicted[0] == label) & (predicted[1] == chosen.fine)]
    if not len(chosen):
        raise ValueError(f"none of {len(images)} images is a rightly classified {coarse}; try more images")
    network, names = level_of(classifier, level, label)
    labels = adversarial_labels(torch.cat([network(batch) for batch in chosen.pixels.split(256)]))
    return Counter((names[org], names[adv]) for org, adv in zip(*(entry.tolist() for entry in labels), strict=True))


def choose_image(
    classifier: CoarseToFine, images: Images, org: str, adv: str, attacks: dict[str, Attack], tried: int = 16
) -> int:
    """The row of the image that a figure shows, by a rule instead of by hand.

    Among the images that both levels classify correctly, whose label is `org` and whose runner-up is `adv` (names at
    the attacks' level): those with a secondary object of the runner-up's class come first, then the surest. Of the
    first `tried`, the first that every attack fools; where there is none, the one that most of them fool. Raises
    ValueError where no image has these labels.
    """
    level = next(iter(attacks.values())).level
    coarse, fine = classifier.predict(images.pixels)
    right = ((coarse == images.coarse) & (fine == images.fine)).nonzero().squeeze(1)
    candidates: list[tuple[bool, float, int]] = []
    for label in images.coarse[right].unique().tolist():
        network, names = level_of(classifier, level, label)
        rows = right[images.coarse[right] == label]
        if org not in names or adv not in names:
            continue
        scores = torch.cat([network(batch).softmax(1) for batch in images.pixels[rows].split(256)])
        best, second = adversarial_labels(scores)
        for k in ((best == names.index(org)) & (second == names.index(adv))).nonzero().squeeze(1).tolist():
            row = rows[k].item()
            beside = level == "coarse" and images.secondary_coarse is not None
            beside = beside and images.secondary_coarse[row].item() == names.index(adv)
            candidates.append((beside, scores[k].max().item(), row))
    if not candidates:
        raise ValueError(f"none of {len(images)} images is classified as {org} with runner-up {adv}; try more images")
    rows = [row for _, _, row in sorted(candidates, reverse=True)[:tried]]
    chosen = images[rows]
    fooled = [attack(classifier, chosen.pixels, chosen.coarse, chosen.fine).fooled for attack in attacks.values()]
    return rows[torch.stack(fooled).sum(0).argmax().item()]  # the first of those with the most


def level_of(classifier: CoarseToFine, level: str, coarse: int) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """The network that a level attacks for images of a coarse label, and its labels' names."""
    hierarchy = classifier.hierarchy
    if level == "coarse":
        return classifier.coarse, hierarchy.coarse_names
    return classifier.fine[coarse], hierarchy.fine_names[coarse]


@dataclasses.dataclass(frozen=True)
class Panel:
    """One column of Figure 1 or 2: an image before or after one attack, and what the network makes of it.

    Images, perturbation and heatmaps are (3, H, W); norms are ||R+||_1 of the heatmaps, scores softmax probabilities.
    """

    title: str
    pixels: Tensor
    perturbation: Tensor
    relevance_org: Tensor
    relevance_adv: Tensor
    norm_org: float
    norm_adv: float
    score_org: float
    score_adv: float
    coarse: int  # the labels the classifier gives this image
    fine: int


def panels(
    classifier: CoarseToFine,
    pixels: Tensor,
    coarse: int,
    fine: int,
    attacks: dict[str, Attack],
    *,
    init: str = "one_hot",
    bias: str = "absorb",
) -> tuple[list[Panel], int, int]:
    """The columns of a figure for one image (3, H, W): before, then each attack; and the labels (org, adv).

    All attacks must be of one level; org and adv (eqs. 6 and 8) are labels of that level's network, for which the
    heatmaps are computed with the given reading of eqs. (3)-(4).
    """
    levels = {attack.level for attack in attacks.values()}
    if len(levels) != 1:
        raise ValueError(f"the attacks are of levels {sorted(levels)}; a figure shows one level")
    network, _ = level_of(classifier, *levels, coarse)
    batch, labels = pixels[None], (torch.tensor([coarse]), torch.tensor([fine]))
    org, adv = adversarial_labels(network(batch))
    lrp = LRP(network, init, bias)
    perturbations = {"before": torch.zeros_like(batch)}
    for name, attack in tqdm(attacks.items(), desc="attacks", leave=False):
        perturbations[name] = attack(classifier, batch, *labels).perturbation
    columns = []
    for title, perturbation in perturbations.items():
        attacked = batch + perturbation
        heatmaps = [heatmap[0] for heatmap in lrp.relevances(attacked, [org, adv])]
        norms = [signed_norm(heatmap[None].clamp(min=0), p=1).item() for heatmap in heatmaps]
        scores = network(attacked).softmax(1)[0, [org.item(), adv.item()]].tolist()
        after = [label.item() for label in classifier.predict(attacked)]
        columns.append(Panel(title, attacked[0], perturbation[0], *heatmaps, *norms, *scores, *after))
    return columns, org.item(), adv.item()
