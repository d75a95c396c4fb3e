"""What the loss of eq. (7) measures in each reading of eqs. (3)-(5), and which reading is nearest to the paper."""

import copy
import itertools
import math

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from c2f_lrp import metrics
from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, PGDC, PGDF
from c2f_lrp.attacks.base import input_gradient
from c2f_lrp.claims import holm, measured
from c2f_lrp.classifier import CoarseToFine, level_network
from c2f_lrp.datasets import Images
from c2f_lrp.evaluation import evaluate, summarize
from c2f_lrp.lrp import LRP, ZPlus, choose_lrp
from c2f_lrp.objectives import adversarial_labels, lrp_loss, margin
from c2f_lrp.tables import paper_values


def distance_to_paper(summary: pd.DataFrame, rivals: pd.DataFrame, table: str) -> dict[str, float]:
    """How far one reading's lines are from Table I ("table_1") or II ("table_2"), part by part and in all.

    summary: `evaluation.summarize`'s lines of the LRP attack indexed by eps (10, 20, 40); rivals: those of DeepFool and
    PGD, in this order. The parts and their weights (all 1) were written down before the grid of notebook 09 was run;
    that of the default settings' tables was known from earlier runs.

      order     share of the two steps in eps at which fooling falls, though the paper's rises
      bound     mean over eps of |ln(rho_inf / the paper's)|: is the clip bound reached?
      flat      |ln(rho_1(40) / rho_1(10)) - the paper's|: does rho_1 stay flat over eps?
      deepfool  |ln(rho_2(10) / DeepFool's rho_2) - the paper's|
      pgd       |ln(rho_1(10) / PGD's rho_1) - the paper's|
      fooling   mean over eps of |fooling - the paper's| / 100

    Ratios to the rivals cancel how fragile a network is; the logarithms make a factor of 2 the same either way. All are
    nan where one of the three bounds was not attacked.
    """
    paper = paper_values(table).set_index(["attack", "eps", "measure"]).value
    ours, deepfool, pgd = ("LRPC", "DFC", "PGDC") if table == "table_1" else ("LRPF", "DFF", "PGDF")
    eps = [str(value) for value in (10, 20, 40)]
    mine = summary.rename(index=lambda value: f"{float(value):g}")
    if not set(eps) <= set(mine.index):
        return dict.fromkeys(("order", "bound", "flat", "deepfool", "pgd", "fooling", "distance"), math.nan)
    mine = mine.loc[eps]
    df, other = rivals.iloc[0], rivals.iloc[1]

    def printed(measure: str, bound: str, attack: str = ours) -> float:
        return paper[(attack, bound, measure)]

    def apart(a: float, b: float) -> float:
        return abs(math.log(a) - math.log(b)) if a > 0 else math.inf

    fooling = mine.fooling_percent.tolist()
    parts = {
        "order": sum(later < earlier for earlier, later in zip(fooling[:-1], fooling[1:], strict=True)) / 2,
        "bound": sum(apart(mine.rho_inf[bound], printed("rho_inf", bound)) for bound in eps) / 3,
        "flat": apart(mine.rho_1["40"] / mine.rho_1["10"], printed("rho_1", "40") / printed("rho_1", "10")),
        "deepfool": apart(mine.rho_2["10"] / df.rho_2, printed("rho_2", "10") / printed("rho_2", "", deepfool)),
        "pgd": apart(mine.rho_1["10"] / other.rho_1, printed("rho_1", "10") / printed("rho_1", "", pgd)),
        "fooling": sum(abs(mine.fooling_percent[b] - printed("fooling_percent", b)) for b in eps) / 300,
    }
    return parts | {"distance": sum(parts.values())}


def gradient_cosines(network: nn.Module, pixels: Tensor, readings: dict[str, dict]) -> pd.DataFrame:
    """One row per reading and image: the cosine of the LRP loss's gradient with that of the logit margin, and its norm.

    readings: by name the `init`, `bias` and `p` of each. Give float64 images and network, or expect noise where the
    gradient vanishes; the cosine with a zero gradient is nan.
    """
    with torch.no_grad():
        org, adv = adversarial_labels(network(pixels))
    reference = input_gradient(lambda x: margin(network(x), org, adv), pixels)
    rows = []
    for name, choice in readings.items():
        lrp = LRP(network, choice["init"], choice["bias"])
        gradient = input_gradient(lambda x, lrp=lrp, p=choice["p"]: lrp_loss(lrp, x, org, adv, p), pixels)
        norms = gradient.flatten(1).norm(dim=1)
        cosines = metrics.cosine(gradient, reference)
        rows.append(pd.DataFrame({"reading": name, "cosine": cosines.cpu().numpy(), "norm": norms.cpu().numpy()}))
    return pd.concat(rows, ignore_index=True)


def directions(
    classifier: CoarseToFine,
    images: Images,
    readings: dict[str, dict],
    level: str = "coarse",
    eps: float = 10,
    **settings,
) -> pd.DataFrame:
    """One row per reading and image: where the loss points at the clean image, and whether the attack fools it.

    Columns reading, image, cosine and norm (as in `gradient_cosines`, in float64), fooled, iterations. readings: by
    name, `init`, `bias` and `p`. images: float32, classified correctly, of classes that the level can attack. settings:
    of LRPC or LRPF, such as iterations.
    """
    attack = LRPC if level == "coarse" else LRPF
    parts = []
    for label in [0] if level == "coarse" else images.coarse.unique().tolist():
        network, _ = level_network(classifier, level, label)
        part = images if level == "coarse" else images[images.coarse == label]
        rows = gradient_cosines(copy.deepcopy(network).double(), part.pixels.double(), readings)
        results = [
            attack(eps=eps, **choice, **settings)(classifier, part.pixels, part.coarse, part.fine)
            for choice in readings.values()
        ]
        rows["fooled"] = torch.cat([result.fooled for result in results]).cpu().numpy()
        rows["iterations"] = torch.cat([result.iterations for result in results]).cpu().numpy()
        parts.append(rows.assign(image=list(part.names) * len(readings)))
    return pd.concat(parts, ignore_index=True)


def sign_and_fooling(rows: pd.DataFrame) -> pd.DataFrame:
    """Does the sign of the cosine predict which images are fooled? One line per reading of the rows of `directions`.

    Columns: how many images the loss points with the margin on (cosine > 0) and against it (the others), the per cent
    fooled of each, their difference in points with its 95 % bootstrap interval, the p of a randomisation test, and p
    after Holm's correction over the readings (`c2f_lrp.claims`). nan where one of the two groups has less than two.
    """
    lines = {}
    for reading, group in rows.dropna(subset="cosine").groupby("reading", sort=False):
        ahead = group.cosine > 0
        towards, against = (100.0 * group.fooled[some].to_numpy() for some in (ahead, ~ahead))
        line: dict[str, float] = {"images, with": len(towards), "images, against": len(against)}
        line |= {
            f"fooled, {name}": v.mean() if len(v) else math.nan for name, v in (("with", towards), ("against", against))
        }
        found = measured(towards, against)
        lines[reading] = line | {"difference": found["mean"]} | {name: found[name] for name in ("low", "high", "p")}
    table = pd.DataFrame(lines).T.rename_axis("reading")
    table["p_holm"] = holm(table.p.to_numpy())
    return table.astype({"images, with": int, "images, against": int})


def identity_2(network: nn.Module, pixels: Tensor) -> dict[str, float]:
    """Does relevance that starts at 1 arrive whole where biases are ignored, as eqs. (3)-(5) are printed?

    network: a `Classifier` in float64. pixels: (N, 3, H, W), scaled to the size that the network takes. Means over the
    images of the total at the pixels, of the label; the largest |loss| of eq. (7); and of all units behind the layers
    with weights, the first aside, that fire, the percentage whose contributions are none positive.
    """
    size = network.settings.get("image_size")
    images = pixels.double()
    if size and images.shape[-1] != size:
        images = F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 255)
    rule = CountingZPlus()
    lrp = LRP(network, "one_hot", "ignore", rule)
    with torch.no_grad():
        org, adv = adversarial_labels(network(images))
        totals = lrp.totals(images)
        total_org, total_adv = (totals.gather(1, label[:, None]) for label in (org, adv))
    return {
        "mean total": total_org.mean().item(),
        "largest |loss|": (total_org - total_adv).abs().max().item(),
        "units that fire by their bias alone, %": 100 * sum(rule.alone) / sum(rule.fired),
    }


class CountingZPlus(ZPlus):
    """Eq. (4), counting in each layer the units that fire, and those that do so with no positive contribution."""

    fired: list[int]
    alone: list[int]

    def __init__(self):
        object.__setattr__(self, "fired", [])  # the rule it extends is frozen
        object.__setattr__(self, "alone", [])

    def totals(self, layer, a: Tensor, reach: Tensor | None, absorb: bool) -> tuple[Tensor, Tensor | None]:
        fires = layer(a) > 0
        self.fired.append(fires.sum().item())
        self.alone.append((fires & (layer.positive(layer.halves(a)) <= 0)).sum().item())
        return super().totals(layer, a, reach, absorb)


def literal_reading(network: nn.Module, pixels: Tensor) -> pd.DataFrame:
    """Eqs. (3)-(7) as printed, by our engine and by zennit, in both precisions: loss, gradient, and whether two
    precisions agree on where to go.
    """
    lines, steps = [], {}
    for dtype in (torch.float32, torch.float64):
        net, x = copy.deepcopy(network).to(dtype), pixels.to(dtype)
        with torch.no_grad():
            org, adv = adversarial_labels(net(x))
        for backend in ("graph", "zennit"):
            lrp = choose_lrp(net, "one_hot", "ignore", backend)
            gradient = input_gradient(lambda y, lrp=lrp, labels=(org, adv): lrp_loss(lrp, y, *labels), x)
            with torch.no_grad():
                loss = lrp_loss(lrp, x, org, adv)
            steps[backend, dtype] = gradient.double()
            line = {"by": "ours" if backend == "graph" else "zennit", "precision": str(dtype).split(".")[1]}
            line |= {"largest |loss|": loss.abs().max().item(), "largest |gradient|": gradient.abs().max().item()}
            lines.append(line)
    table = pd.DataFrame(lines).set_index(["by", "precision"])
    table["cosine with the other precision"] = [
        metrics.cosine(steps[backend, torch.float32], steps[backend, torch.float64]).nanmean().item()
        if steps[backend, torch.float32].any() and steps[backend, torch.float64].any()
        else float("nan")
        for _ in range(2)
        for backend in ("graph", "zennit")
    ]
    return table


def sensitivity_grid(
    classifier, images: Images, table: str, readings: dict[str, dict], steps: list, epsilons: list[float]
) -> pd.DataFrame:
    """The distance of every reading and way of stepping to Table I or II: one line each, nearest first.

    steps: (step_scale, lr, K) each. Attacks `images` in float32.
    """
    ours, deepfool, pgd = (LRPC, DFC, PGDC) if table == "table_1" else (LRPF, DFF, PGDF)
    rivals = summarize(evaluate(classifier, images, {"DeepFool": deepfool(), "PGD": pgd()}, measures=False))
    lines = []
    for (name, choice), (scale, lr, k) in tqdm(list(itertools.product(readings.items(), steps)), desc="grid"):
        how = dict(choice, step_scale=scale, lr=lr, iterations=k)
        attacks = {f"{eps:g}": ours(eps=eps, **how) for eps in epsilons}
        summary = summarize(evaluate(classifier, images, attacks, measures=False))
        line = {"reading": name, "step": scale, "lr": lr, "K": k} | distance_to_paper(summary, rivals, table)
        lines.append(line | {f"fooling at {eps:g}": summary.fooling_percent[f"{eps:g}"] for eps in epsilons})
    return pd.DataFrame(lines).sort_values("distance", ignore_index=True, kind="stable")
