"""Figures 1 and 2: which image they show, chosen by a rule, and what each of their columns holds."""

import dataclasses
import functools
from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from c2f_lrp.attacks import Attack
from c2f_lrp.attacks.bounds import attack_each
from c2f_lrp.classifier import CoarseToFine, finite, level_network
from c2f_lrp.datasets import Images
from c2f_lrp.lrp import LRP, choose_lrp
from c2f_lrp.metrics import contrast, cosine
from c2f_lrp.objectives import adversarial_labels, signed_norm

if TYPE_CHECKING:
    from c2f_lrp.lrp import ZennitLRP


def label_pairs(classifier: CoarseToFine, images: Images, level: str, coarse: str) -> Counter:
    """How often each (label, runner-up) of eq. (6) or (8) occurs among a coarse class's images, as names.

    Only images that both levels classify correctly count. Raises ValueError where there is none.
    """
    label = classifier.hierarchy.coarse_index(coarse)
    chosen = images[images.coarse == label]
    if len(chosen):
        predicted = classifier.predict(chosen.pixels)
        chosen = chosen[(predicted[0] == label) & (predicted[1] == chosen.fine)]
    if not len(chosen):
        raise ValueError(f"none of {len(images)} images is a rightly classified {coarse}; try more images")
    network, names = level_network(classifier, level, label)
    labels = adversarial_labels(torch.cat([network(batch) for batch in chosen.pixels.split(256)]))
    return Counter((names[org], names[adv]) for org, adv in zip(*(entry.tolist() for entry in labels), strict=True))


def choose_images(
    classifier: CoarseToFine, images: Images, org: str, adv: str, attacks: dict[str, Attack], tried: int = 16
) -> tuple[int, int, dict[str, int], int]:
    """The rows of two images that a figure shows, by a rule instead of by hand, and how often each attack succeeds.

    Among the images that both levels classify correctly, whose label is `org` and whose runner-up is `adv` (names at
    the attacks' level): those with a secondary object of the runner-up's class come first, then the surest. Of the
    first `tried`, the first of those that most attacks fool, and the first of those that fewest fool (the same one,
    where all fool as many). Then follow, by the attacks' names, how many of these images each fooled, and how many
    they are: one picture does not say how often an attack succeeds. Raises ValueError where no image has these labels.
    """
    level = next(iter(attacks.values())).level
    coarse, fine = classifier.predict(images.pixels)
    right = ((coarse == images.coarse) & (fine == images.fine)).nonzero().squeeze(1)
    candidates: list[tuple[bool, float, int]] = []
    for label in images.coarse[right].unique().tolist():
        network, names = level_network(classifier, level, label)
        rows = right[images.coarse[right] == label]
        if org not in names or adv not in names:
            continue
        scores = torch.cat([network(batch).softmax(1) for batch in images.pixels[rows].split(256)])
        best, second = adversarial_labels(scores)
        for k in ((best == names.index(org)) & (second == names.index(adv))).nonzero().squeeze(1).tolist():
            row = rows[k].item()
            others = images.secondary_coarse if level == "coarse" else None
            beside = others is not None and others[row].item() == names.index(adv)
            candidates.append((beside, scores[k].max().item(), row))
    if not candidates:
        raise ValueError(f"none of {len(images)} images is classified as {org} with runner-up {adv}; try more images")
    rows = [row for _, _, row in sorted(candidates, reverse=True)[:tried]]
    chosen = images[rows]
    results = attack_each(attacks, classifier, chosen.pixels, chosen.coarse, chosen.fine)
    fooled = [result.fooled for result in results.values()]
    counts = {name: some.sum().item() for name, some in zip(attacks, fooled, strict=True)}
    successes = torch.stack(fooled).sum(0)  # argmax and argmin take the first of equals
    return rows[successes.argmax().item()], rows[successes.argmin().item()], counts, len(rows)


@dataclasses.dataclass(frozen=True)
class Panel:
    """One column of Figure 1 or 2: an image before or after one attack, and what the network makes of it.

    Images, perturbation and heatmaps are (3, H, W), pixels in 0..255. norm_org and norm_adv are ||R+||_1 of the
    heatmaps. Scores are softmax probabilities: score_org and score_adv those of both labels by the attacked network,
    coarse_score and fine_score those of the labels that the classifier gives the image.
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
    coarse_score: float
    fine_score: float
    fooled: bool | None = None  # by the attack, in the sense of `AttackResult`; None: not attacked
    iterations: int = 0  # steps that the attack took

    @property
    def contrast(self) -> Tensor:
        """(1, H, W): what speaks for org and not as much for adv, by `metrics.contrast`."""
        return contrast(self.relevance_org[None], self.relevance_adv[None])[0]

    @property
    def negative_norms(self) -> tuple[float, float]:
        """||R-||_1 of both heatmaps, org's and adv's."""
        org, adv = (heatmap.clamp(max=0).abs().sum().item() for heatmap in (self.relevance_org, self.relevance_adv))
        return org, adv


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
    (level,) = levels
    network, _ = level_network(classifier, level, coarse)
    batch, labels = pixels[None], [torch.tensor([label], device=pixels.device) for label in (coarse, fine)]
    org, adv = (label.item() for label in adversarial_labels(network(batch)))
    lrp = choose_lrp(network, init, bias)
    columns = [panel(classifier, lrp, pixels, torch.zeros_like(pixels), org, adv, "before")]
    for title, result in attack_each(attacks, classifier, batch, *labels).items():
        drawn = panel(classifier, lrp, pixels, result.perturbation[0], org, adv, title)
        outcome = dict(fooled=result.fooled.item(), iterations=result.iterations.item())
        columns.append(dataclasses.replace(drawn, **outcome))
    return columns, org, adv


def panel(
    classifier: CoarseToFine,
    lrp: "LRP | ZennitLRP",
    pixels: Tensor,
    perturbation: Tensor,
    org: int,
    adv: int,
    title: str = "",
) -> Panel:
    """The panel of one image (3, H, W) with its perturbation; org and adv are labels of the network `lrp` explains."""
    attacked = (pixels + perturbation)[None]
    labels = [torch.tensor([label], device=attacked.device) for label in (org, adv)]
    heatmaps = [heatmap[0].detach() for heatmap in lrp.relevances(attacked, labels)]
    norms = [signed_norm(heatmap[None].clamp(min=0), p=1).item() for heatmap in heatmaps]
    logits = functools.cache(lambda network: network(attacked))  # the explained network is often one of the other two
    with torch.no_grad():
        scores = logits(lrp.classifier).softmax(1)[0, [org, adv]].tolist()
        coarse_score, coarse = best(logits(classifier.coarse))
        fine_score, fine = best(logits(classifier.fine[coarse]))
    after = coarse, fine, coarse_score, fine_score
    return Panel(title, attacked[0], perturbation, *heatmaps, *norms, *scores, *after)  # type: ignore[call-arg]


def best(logits: Tensor) -> tuple[float, int]:
    """The softmax probability of one image's label, and the label, of its logits (1, M)."""
    score, label = finite(logits).softmax(1).max(1)
    return score.item(), label.item()


def what_moved(columns: list[Panel], org: str, adv: str) -> str:
    """What a figure's heatmaps did, from the first column to the last, beside what the paper says of them: a sentence.

    Numbers are the totals of both heatmaps, which for p = 1 are all that eq. (7) sees.
    """
    first, last = columns[0], columns[-1]
    totals = {
        name: [getattr(panel, which).sum().item() for panel in (first, last)]
        for name, which in ((org, "relevance_org"), (adv, "relevance_adv"))
    }
    parts = [
        f"the relevance of {name} {'falls' if now < was else 'rises'} from {was:.3g} to {now:.3g}"
        for name, (was, now) in totals.items()
    ]
    told = "the paper's picture (it falls, it rises)"
    if not ("falls" in parts[0] and "rises" in parts[1]):
        told = f"not {told}"
    elif totals[adv][1] < 0:
        told += ", as far as a total below zero, which speaks against its label, can be"
    alike = cosine(first.relevance_org[None], first.relevance_adv[None]).item()
    return (
        f"from {first.title} to {last.title}, {parts[0]} and {parts[1]}, which is {told}; before the attack the two "
        f"heatmaps have a cosine of {alike:.4f}"
    )
