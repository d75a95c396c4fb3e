"""Attacks over many images: one row for each image and attack setting, kept in shards, and the tables made of them."""

import ctypes
import dataclasses
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from c2f_lrp import shards
from c2f_lrp.attacks import Attack, preflight
from c2f_lrp.attacks.base import check_inputs, fitting_batch
from c2f_lrp.checks import check_labels
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.datasets import Images, LazyImages
from c2f_lrp.explainability import Explanation, explain, localisation
from c2f_lrp.lrp import LRP, choose_lrp
from c2f_lrp.metrics import fooling_ratio, perceptibilities
from c2f_lrp.objectives import adversarial_labels, signed_norm

SHARD_SIZE = 50  # images; of the scenes a few seconds' work
READING = ("one_hot", "absorb")  # of eqs. (3)-(4), for the measures: all attacks are seen by the same eyes
NORMS = {"rho_2": 2, "rho_1": 1, "rho_inf": float("inf")}


def evaluate(
    classifier: CoarseToFine,
    images: Images | LazyImages,
    attacks: dict[str, Attack],
    *,
    store: Path | None = None,
    resume: bool = False,
    measures: bool = True,
    shard_size: int | None = None,
    scheduler: str | None = None,
) -> pd.DataFrame:
    """One row per attack setting and image: labels before and after, fooled, iterations, the seed of a random start
    (-1: none), the largest |eta| in pixel units, the terms of eq. (10). With `measures` also the runner-up label and
    where relevance and the perturbation lie (`explainability.localisation`, in the default reading of eqs. (3)-(4)).

    Only images that the classifier gets right at the attack's level (and at the coarse one) are attacked; the others
    have correct=False, no perturbation, no measures (nan, runner-up -1), and fooled as Algorithm 1 as printed would
    count them. Images whose coarse class has a single fine class have no row at the fine level.

    Rows are made in shards of `shard_size` images (default SHARD_SIZE) and one setting. With a folder `store` each is
    written there as soon as it is done, whole or not at all, under a hash of all that determines it (settings, weights,
    images, this package's code, torch's version); `resume` reads those that are there. Before a setting's first shard
    is attacked, `attacks.preflight` looks at two images and warns of what speaks against believing the attack.

    The result's `attrs` say in which shards of the store its rows lie and what these hash to, for the sidecars of what
    is made of them (`provenance.save_table`).

    scheduler: the address of a Dask scheduler, whose workers then attack the shards, on their GPU where they have one;
    this process writes them.

    Raises ValueError for images, labels or a classifier that no attack can use, OSError where a shard cannot be
    written: those before it are kept.
    """
    if not len(images):
        raise ValueError("no images were given to evaluate")
    if not attacks:
        raise ValueError("no attacks were given to evaluate")
    if shard_size is not None and shard_size < 1:
        raise ValueError(f"shard_size is {shard_size}; give at least one image")
    check_labels(images.coarse, len(images), classifier.hierarchy.n_coarse)
    levels = list(dict.fromkeys(attack.level for attack in attacks.values()))
    rows = {level: attackable(classifier, images, level) for level in levels}
    total = sum(len(rows[attack.level]) for attack in attacks.values())
    if not total:
        raise ValueError(f"none of the {len(images)} images is of a coarse class with several fine ones")
    if store is not None:
        shards.open_store(store := Path(store))
    # Buffers that no checkpoint holds count too: the hierarchy of a flat classifier, the mean of the pixels.
    identity = shards.content_hash([*classifier.parameters(), *classifier.buffers()]), str(classifier)
    common = dict(classifier=identity, measures=measures, software=shards.software())
    tables: dict[tuple[str, int], pd.DataFrame] = {}  # by setting and first row
    hashes: dict[tuple[str, int], tuple[str, str]] = {}  # the same: key and hash of the rows
    progress = tqdm(total=total, unit="image", desc="attacking")

    def missing() -> Iterator[Shard]:
        """The shards to be attacked, those of one slice of the images after each other; others are read meanwhile."""
        checked = set()
        for level, start, part in slices(images, rows, shard_size or SHARD_SIZE):
            check_inputs(classifier, as_float(part).pixels, part.coarse, part.fine)
            content = shards.content_hash([getattr(part, field) for field in HASHED]), list(part.names)
            for name, attack in attacks.items():
                if attack.level != level:
                    continue
                settings = dict(attack=type(attack).__name__, settings=dataclasses.asdict(attack), images=content)
                shard = Shard(name, start, attack, part, common | settings)
                table = shards.read_shard(store, shard.facts) if resume and store is not None else None
                if table is not None:
                    keep(shard, table)
                    continue
                if name not in checked:
                    checked.add(name)
                    warn_of_doubts(classifier, part, attack)
                yield shard

    def keep(shard: Shard, table: pd.DataFrame) -> None:
        tables[shard.setting, shard.start] = table
        if store is not None:
            hashes[shard.setting, shard.start] = shards.shard_key(shard.facts), shards.table_hash(table)
        progress.set_postfix_str(shard.setting)
        progress.update(len(table))

    if scheduler is None:
        done = attack_here(classifier, missing(), measures)
    else:
        from c2f_lrp.cluster import attack_there  # Dask is an extra

        done = attack_there(scheduler, classifier, missing(), measures)
    with progress:
        for shard, table in done:
            if store is not None:
                shards.write_shard(store, table, shard.facts)
            keep(shard, table)
            hand_back_memory()
    order = {name: place for place, name in enumerate(attacks)}
    keys = sorted(tables, key=lambda key: (order[key[0]], key[1]))
    rows = pd.concat([tables.pop(key).assign(setting=key[0]) for key in keys], ignore_index=True)
    if store is not None:
        rows.attrs["shards"] = {hashes[key][0]: hashes[key][1] for key in keys}
    if scheduler is not None:
        rows.attrs["device"] = "workers of a Dask cluster"
    return rows


def hand_back_memory() -> None:
    """What is free goes back to the system: glibc keeps it in pools, which grow for the first dozens of shards."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@dataclasses.dataclass(frozen=True)
class Shard:
    """One setting and a slice of the images. facts: all that determines its rows."""

    setting: str
    start: int
    attack: Attack
    images: Images
    facts: dict


HASHED = ("pixels", "coarse", "fine", "object_masks", "secondary_masks")


def attackable(classifier: CoarseToFine, images: Images | LazyImages, level: str) -> Tensor:
    """Rows of the images whose label at this level can change: at the fine level not of a class with one fine class."""
    if level == "coarse":
        return torch.arange(len(images), device=images.coarse.device)
    n_fine = torch.tensor(classifier.hierarchy.n_fine, device=images.coarse.device)
    return (n_fine[images.coarse] > 1).nonzero().flatten()


def slices(images: Images | LazyImages, rows: dict[str, Tensor], size: int) -> Iterator[tuple[str, int, Images]]:
    """(level, first row, images) for each slice of the rows of each level."""
    for level, chosen in rows.items():
        for part in chosen.split(size):
            yield level, int(part[0]), images[part.tolist()]


def as_float(images: Images) -> Images:
    """With pixels that can be attacked; as read they are uint8, a quarter of the memory."""
    return images if images.pixels.is_floating_point() else images.with_pixels(images.pixels.float())


def warn_of_doubts(classifier: CoarseToFine, images: Images, attack: Attack, n: int = 2) -> None:
    """Warn of what `attacks.preflight` finds with the first n images that are classified correctly."""
    images = as_float(images).to(next(classifier.parameters()).device)
    labels = images.coarse, images.fine
    right = torch.stack([a == b for a, b in zip(classifier.predict(images.pixels), labels, strict=True)]).all(0)
    few = images[right.nonzero().flatten()[:n]]
    for doubt in preflight(attack, classifier, few.pixels, few.coarse, few.fine):
        warnings.warn(doubt, stacklevel=3)


@dataclasses.dataclass(frozen=True)
class Before:
    """A slice of the images and what the classifier says of it before any attack; settings of one level share it.

    coarse, fine  int64 (N,), predicted labels
    correct       bool (N,): right at this level, and at the coarse one
    explained     in small batches: the coarse label whose network is attacked (at the coarse level any), rows of
                  correct images, and their explanation
    """

    images: Images
    level: str
    coarse: Tensor
    fine: Tensor
    correct: Tensor
    explained: list[tuple[int, Tensor, Explanation]]


def look(classifier: CoarseToFine, images: Images, level: str, measures: bool) -> Before:
    images = as_float(images).to(next(classifier.parameters()).device)
    coarse, fine = classifier.predict(images.pixels)
    correct = coarse == images.coarse
    if level == "fine":
        correct &= fine == images.fine
    explained = []
    labels = [0] if level == "coarse" else images.coarse[correct].unique().tolist()
    for label in labels if measures else []:
        network, _ = level_of(classifier, level, label)
        try:
            lrp = choose_lrp(network, *READING)
        except TypeError as error:
            raise TypeError(f"{error}; evaluate(..., measures=False) attacks without measuring relevance") from error
        rows = (correct if level == "coarse" else correct & (images.coarse == label)).nonzero().flatten()
        for part in rows.split(fitting_batch(network, images.pixels[rows])) if len(rows) else []:
            explained.append((label, part, explain(lrp, images.pixels[part])))
    return Before(images, level, coarse, fine, correct, explained)


def attack_here(
    classifier: CoarseToFine, missing: Iterator[Shard], measures: bool
) -> Iterator[tuple[Shard, pd.DataFrame]]:
    """Each shard with its rows, one after the other."""
    images, before = None, None
    for shard in missing:
        if shard.images is not images:
            images, before = shard.images, look(classifier, shard.images, shard.attack.level, measures)
        yield shard, attack_rows(classifier, before, shard.attack)


def attack_rows(classifier: CoarseToFine, before: Before, attack: Attack) -> pd.DataFrame:
    """The rows of one attack on a slice of the images."""
    images, correct = before.images, before.correct
    if attack.level == "coarse":
        fooled = ~correct
    else:
        fooled = (before.coarse == images.coarse) & (before.fine != images.fine)
    perturbation = torch.zeros_like(images.pixels)
    iterations = torch.zeros_like(images.coarse)
    result = attack(classifier, images.pixels[correct], images.coarse[correct], images.fine[correct])
    perturbation[correct], fooled[correct], iterations[correct] = vars(result).values()
    coarse_after, fine_after = classifier.predict(images.pixels + perturbation)
    own_fine_after = classifier.predict_fine(images.pixels + perturbation, images.coarse)
    seed = attack.seed if getattr(attack, "random_start", False) else -1
    columns = dict(
        coarse=images.coarse,
        fine=images.fine,
        coarse_before=before.coarse,
        fine_before=before.fine,
        coarse_after=coarse_after,
        fine_after=fine_after,  # of the fine network that C(x + eta) routes to
        own_fine_after=own_fine_after,  # of the fine network of the image's own coarse class
        correct=correct,
        fooled=fooled,
        iterations=iterations,
        seed=torch.full_like(iterations, seed),
        largest=perturbation.abs().amax((1, 2, 3)),
        **{name: perceptibilities(perturbation, images.pixels, p) for name, p in NORMS.items()},
        **measured(classifier, before, perturbation),
    )
    table = pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})
    table.insert(0, "image", images.names)
    # All rows of a table are held in memory; labels and iterations need no eight bytes.
    return table.astype({name: "int16" for name, kind in table.dtypes.items() if kind == "int64" and name != "seed"})


def measured(classifier: CoarseToFine, before: Before, perturbation: Tensor) -> dict[str, Tensor]:
    """The runner-up label of eq. (6) or (8) and the measures of `localisation`, (N,) each."""
    columns = {"runner_up": torch.full_like(before.coarse, -1)}
    for label, rows, clean in before.explained:
        lrp = choose_lrp(level_of(classifier, before.level, label)[0], *READING)
        columns["runner_up"][rows] = clean.adv
        found = localisation(lrp, before.images[rows.tolist()], perturbation[rows], clean)
        for name, values in found.items():
            columns.setdefault(name, values.new_full((len(perturbation),), torch.nan))[rows] = values
    return columns


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
) -> tuple[int, pd.DataFrame]:
    """The row of the image that a figure shows, by a rule instead of by hand; and how often each attack succeeds there.

    Among the images that both levels classify correctly, whose label is `org` and whose runner-up is `adv` (names at
    the attacks' level): those with a secondary object of the runner-up's class come first, then the surest. Of the
    first `tried`, the first that every attack fools; where there is none, the one that most of them fool. The table
    says of each attack how many of these it fooled, and of how many: one picture does not say how often it succeeds.
    Raises ValueError where no image has these labels.
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
    counts = pd.DataFrame({"fooled": [some.sum().item() for some in fooled], "of": len(rows)}, index=list(attacks))
    return rows[torch.stack(fooled).sum(0).argmax().item()], counts  # the first of those with the most


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
    batch, labels = pixels[None], [torch.tensor([label], device=pixels.device) for label in (coarse, fine)]
    org, adv = adversarial_labels(network(batch))
    lrp = LRP(network, init, bias)
    perturbations = {"before": torch.zeros_like(batch)}
    for name, attack in tqdm(attacks.items(), desc="attacks", leave=False):
        perturbations[name] = attack(classifier, batch, *labels).perturbation
    columns = [
        panel(classifier, lrp, pixels, perturbation[0], org.item(), adv.item(), title)
        for title, perturbation in perturbations.items()
    ]
    return columns, org.item(), adv.item()


def panel(
    classifier: CoarseToFine, lrp: LRP, pixels: Tensor, perturbation: Tensor, org: int, adv: int, title: str = ""
) -> Panel:
    """The panel of one image (3, H, W) with its perturbation; org and adv are labels of the network `lrp` explains."""
    attacked = (pixels + perturbation)[None]
    labels = [torch.tensor([label], device=attacked.device) for label in (org, adv)]
    heatmaps = [heatmap[0] for heatmap in lrp.relevances(attacked, labels)]
    norms = [signed_norm(heatmap[None].clamp(min=0), p=1).item() for heatmap in heatmaps]
    scores = lrp.classifier(attacked).softmax(1)[0, [org, adv]].tolist()
    after = [label.item() for label in classifier.predict(attacked)]
    return Panel(title, attacked[0], perturbation, *heatmaps, *norms, *scores, *after)
