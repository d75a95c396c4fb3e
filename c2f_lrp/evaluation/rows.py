"""The rows of one attack on one slice of the images: labels before and after, eq. (10), where relevance lies."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from c2f_lrp.attacks import Attack, AttackResult
from c2f_lrp.attacks.bounds import attack_family
from c2f_lrp.classifier import CoarseToFine, level_network
from c2f_lrp.datasets import Images
from c2f_lrp.lrp import choose_lrp
from c2f_lrp.measures import Explanation, explain, localisation
from c2f_lrp.metrics import NORMS, perceptibilities
from c2f_lrp.resources import fitting_batch

READING = ("one_hot", "absorb")  # of eqs. (3)-(4), for the measures: all attacks are seen by the same eyes


class Setting(NamedTuple):
    """One line of a table: an attack, the reading of eqs. (3)-(4) that it follows, and its bound; "" for none."""

    attack: str
    reading: str = ""
    eps: str = ""

    @property
    def label(self) -> str:
        """In words, for figures and progress bars: "LRPC, one-hot start, bias absorbs, ε = 10"."""
        return ", ".join(part for part in (self.attack, self.reading, self.eps and f"ε = {self.eps}") if part)


@dataclasses.dataclass(frozen=True)
class Shard:
    """One setting and a slice of the images. facts: all that determines its rows."""

    setting: Setting
    start: int
    attack: Attack
    images: Images
    facts: dict


@dataclasses.dataclass(frozen=True)
class CleanPredictions:
    """A slice of the images and what the classifier says of it before any attack; settings of one level share it.

    coarse, fine  int64 (N,), predicted labels
    correct       bool (N,): right at this level, and at the coarse one
    explanations  in small batches: the coarse label whose network is attacked (at the coarse level any), rows of
                  correct images, and their explanation
    """

    images: Images
    level: str
    coarse: Tensor
    fine: Tensor
    correct: Tensor
    explanations: list[tuple[int, Tensor, Explanation]]


def predict_clean(classifier: CoarseToFine, images: Images, level: str, measures: bool) -> CleanPredictions:
    images = as_float(images).to(next(classifier.parameters()).device)
    coarse, fine = classifier.predict(images.pixels)
    correct = coarse == images.coarse
    if level == "fine":
        correct &= fine == images.fine
    explanations = []
    labels = [0] if level == "coarse" else images.coarse[correct].unique().tolist()
    for label in labels if measures else []:
        network, _ = level_network(classifier, level, label)
        rows = (correct if level == "coarse" else correct & (images.coarse == label)).nonzero().flatten()
        try:
            lrp = choose_lrp(network, *READING)
            for part in rows.split(fitting_batch(network, images.pixels[rows])) if len(rows) else []:
                explanations.append((label, part, explain(lrp, images.pixels[part])))
        except TypeError as error:
            raise TypeError(f"{error}; evaluate(..., measures=False) attacks without measuring relevance") from error
    return CleanPredictions(images, level, coarse, fine, correct, explanations)


def attack_locally(
    classifier: CoarseToFine, missing: Iterator[list[Shard]], measures: bool
) -> Iterator[tuple[Shard, pd.DataFrame]]:
    """Each shard with its rows, one after the other. missing: shards that are attacked together, of the same images."""
    images, before = None, None
    for together in missing:
        shard = together[0]
        if before is None or shard.images is not images:
            images, before = shard.images, predict_clean(classifier, shard.images, shard.attack.level, measures)
        yield from zip(together, attack_rows(classifier, before, [shard.attack for shard in together]), strict=True)


def attack_rows(classifier: CoarseToFine, before: CleanPredictions, attacks: list[Attack]) -> list[pd.DataFrame]:
    """The rows of each of a family's attacks on a slice of the images."""
    images = before.images
    # Those that are wrong beforehand too: Algorithm 1 as printed attacks and counts them, see `summarize`.
    results = attack_family(attacks, classifier, images.pixels, images.coarse, images.fine)
    return [rows_of(classifier, before, *pair) for pair in zip(attacks, results, strict=True)]


def rows_of(classifier: CoarseToFine, before: CleanPredictions, attack: Attack, result: AttackResult) -> pd.DataFrame:
    """The rows of one attack, of what it did to a slice of the images."""
    images = before.images
    perturbation, fooled, iterations = result.perturbation, result.fooled, result.iterations
    attacked = images.pixels + perturbation
    coarse_after, fine_after = classifier.predict(attacked)
    own_fine_after, routed = fine_after.clone(), coarse_after != images.coarse
    own_fine_after[routed] = classifier.predict_fine(attacked[routed], images.coarse[routed])
    seed = getattr(attack, "seed", -1) if getattr(attack, "random_start", False) else -1
    columns = dict(
        coarse=images.coarse,
        fine=images.fine,
        coarse_before=before.coarse,
        fine_before=before.fine,
        coarse_after=coarse_after,
        fine_after=fine_after,  # of the fine network that C(x + eta) routes to
        own_fine_after=own_fine_after,  # of the fine network of the image's own coarse class
        correct=before.correct,
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


def measured(classifier: CoarseToFine, before: CleanPredictions, perturbation: Tensor) -> dict[str, Tensor]:
    """The runner-up label of eq. (6) or (8) and the measures of `localisation`, (N,) each."""
    columns = {"runner_up": torch.full_like(before.coarse, -1)}
    for label, rows, clean in before.explanations:
        lrp = choose_lrp(level_network(classifier, before.level, label)[0], *READING)
        columns["runner_up"][rows] = clean.adv
        found = localisation(lrp, before.images[rows.tolist()], perturbation[rows], clean)
        for name, values in found.items():
            columns.setdefault(name, values.new_full((len(perturbation),), torch.nan))[rows] = values
    return columns


def as_float(images: Images) -> Images:
    """With pixels that can be attacked; as read they are uint8, a quarter of the memory."""
    return images if images.pixels.is_floating_point() else images.with_pixels(images.pixels.float())
