"""What an attack does to explanations, as numbers: one row of measures per image, claims judged by rules, and how far a
reading is from the paper's tables. Used by notebooks 09 and 10.
"""

import copy
import itertools
import math
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from c2f_lrp import metrics
from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, PGDC, PGDF, Attack
from c2f_lrp.attacks.base import input_gradient
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.datasets import Images
from c2f_lrp.lrp import LRP, choose_lrp
from c2f_lrp.objectives import adversarial_labels, lrp_loss, margin
from c2f_lrp.tables import SAME_RHO_FACTOR, paper_values

BATCH = 32


# --------------------------------------------------------------------------------------------- measures, image by image
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
            columns |= {f"rho_{name}": metrics.perceptibilities(eta, part.pixels, p) for name, p in NORMS.items()}
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


NORMS = {"2": 2, "1": 1, "inf": float("inf")}


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


# ------------------------------------------------------------------------------------------------------------ controls
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


# -------------------------------------------------------------------------------------------- distance to the paper
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

    Ratios to the rivals cancel how fragile a network is; the logarithms make a factor of 2 the same either way.
    """
    paper = paper_values(table).set_index(["attack", "eps", "measure"]).value
    ours, deepfool, pgd = ("LRPC", "DFC", "PGDC") if table == "table_1" else ("LRPF", "DFF", "PGDF")
    eps = [str(value) for value in (10, 20, 40)]
    mine = summary.rename(index=lambda value: f"{float(value):g}").loc[eps]
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


# -------------------------------------------------------------------------------------------------- the four claims
# Rules stated before the numbers were looked at. An interval is the 95 % bootstrap interval over images.
def judge_attention(rows: pd.DataFrame, control: pd.DataFrame, measure: str = "shift") -> str:
    """Claim 1, for one setting: relevance of r_org leaves its object, relevance of r_adv comes to the other object.

    "supported": the first interval is below 0, the second above 0, and both means exceed those of sign noise of the
    same norm (`control`). "not supported": neither moves that way. Else "partly". Where the other object's place is not
    known (photographs), the first half alone is judged. measure: "shift", that of the heatmaps as the paper shows them,
    or "contrast shift", that of `metrics.contrast`: added after the first had shown how alike the heatmaps are.
    """
    away, towards = f"{measure} of r_org on object", f"{measure} of r_adv on other object"
    found = [metrics.bootstrap(rows[away])[2] < 0 and rows[away].mean() < control[away].mean()]
    if towards in rows:
        found.append(metrics.bootstrap(rows[towards])[1] > 0 and rows[towards].mean() > control[towards].mean())
    return verdict(*found)


def judge_growth(smallest: pd.DataFrame, largest: pd.DataFrame) -> str:
    """Claim 2, for one reading: both shifts are larger at the largest eps than at the smallest, image by image."""
    return verdict(*more_shift(largest, smallest))


def judge_concentration(ours: pd.DataFrame, deepfool: pd.DataFrame) -> str:
    """Claim 3: the perturbation is sparser than DeepFool's, and more of it is on the most relevant tenth of pixels."""
    columns = ("sparsity of the perturbation (Hoyer)", "perturbation on the most relevant tenth")
    return verdict(*(metrics.bootstrap(ours[c].to_numpy() - deepfool[c].to_numpy())[1] > 0 for c in columns))


def judge_size(ours: pd.DataFrame, deepfool: pd.DataFrame, pgd: pd.DataFrame) -> str:
    """Claim 4: at the smallest eps rho_1 is at most PGD's and rho_inf at most DeepFool's, by a factor 1.5."""
    return verdict(
        ours.rho_1.mean() <= SAME_RHO_FACTOR * pgd.rho_1.mean(),
        ours.rho_inf.mean() <= SAME_RHO_FACTOR * deepfool.rho_inf.mean(),
    )


def judge_all(rows: pd.DataFrame, control: pd.DataFrame, families: dict[str, list[str]]) -> pd.DataFrame:
    """The four claims for each family of settings, weakest eps first: columns family, claim, setting, verdict.

    rows: of `measure_all`; control: the same for sign noise. The families "DeepFool" and "PGD" hold one setting each
    and are judged by claim 1 only, as if the paper had claimed it of them.
    """
    of = {name: group.reset_index(drop=True) for name, group in rows.groupby("setting")}
    noise = {name: group.reset_index(drop=True) for name, group in control.groupby("setting")}
    deepfool, pgd = (of[families[name][0]] for name in ("DeepFool", "PGD"))
    lines = []
    for family, settings in families.items():
        lines += [(family, 1, name, judge_attention(of[name], noise[name])) for name in settings]
        if family not in ("DeepFool", "PGD"):
            first, last = of[settings[0]], of[settings[-1]]
            lines.append((family, 2, settings[-1], judge_growth(first, last)))
            lines += [(family, 3, name, judge_concentration(of[name], deepfool)) for name in settings]
            lines.append((family, 4, settings[0], judge_size(first, deepfool, pgd)))
    return pd.DataFrame(lines, columns=["family", "claim", "setting", "verdict"])


def judge_contrast(rows: pd.DataFrame, control: pd.DataFrame, families: dict[str, list[str]]) -> pd.DataFrame:
    """Claim 1 for every setting, by the contrast of both heatmaps: columns family, setting, verdict."""
    of, noise = dict(list(rows.groupby("setting"))), dict(list(control.groupby("setting")))
    lines = [
        (family, name, judge_attention(of[name], noise[name], "contrast shift"))
        for family, settings in families.items()
        for name in settings
    ]
    return pd.DataFrame(lines, columns=["family", "setting", "verdict"])


def dominance(ours: pd.DataFrame, other: pd.DataFrame) -> dict[str, float | bool]:
    """Does `ours` dominate `other` (rows of the same images): more attention shift, no less fooling, no more rho_2?

    Both shifts have to be larger image by image, as in claim 2. The rule was written after `objective="regions"` had
    been seen on 32 scenes, where it was ahead; the other objectives had not been looked at.
    """
    line = {"fooling": 100 * ours.fooled.mean(), "rho_2": ours.rho_2.mean(), AWAY: ours[AWAY].mean()}
    if TOWARDS in ours:
        line[TOWARDS] = ours[TOWARDS].mean()
    line["no less fooling"] = bool(ours.fooled.mean() >= other.fooled.mean())
    line["no more rho_2"] = bool(ours.rho_2.mean() <= other.rho_2.mean())
    line["more shift"] = all(more_shift(ours, other))
    line["dominates"] = line["no less fooling"] and line["no more rho_2"] and line["more shift"]
    return line


AWAY, TOWARDS = "shift of r_org on object", "shift of r_adv on other object"


def more_shift(ours: pd.DataFrame, other: pd.DataFrame) -> list[bool]:
    """Image by image: does more relevance of r_org leave its object, and more of r_adv's come to the other object?"""
    found = [metrics.bootstrap(ours[AWAY].to_numpy() - other[AWAY].to_numpy())[2] < 0]
    if TOWARDS in ours:
        found.append(metrics.bootstrap(ours[TOWARDS].to_numpy() - other[TOWARDS].to_numpy())[1] > 0)
    return found


def verdict(*found: bool) -> str:
    return "supported" if all(found) else "partly" if any(found) else "not supported"


# ------------------------------------------------------------------------------------------- what the loss measures
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
        cosines = metrics.cosine(gradient, reference).where(norms > 0, torch.nan)
        rows.append(pd.DataFrame({"reading": name, "cosine": cosines.cpu().numpy(), "norm": norms.cpu().numpy()}))
    return pd.concat(rows, ignore_index=True)


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
            line = {"by": "lrp.py" if backend == "graph" else "zennit", "precision": str(dtype).split(".")[1]}
            line |= {"largest |loss|": loss.abs().max().item(), "largest |gradient|": gradient.abs().max().item()}
            lines.append(line)
    table = pd.DataFrame(lines).set_index(["by", "precision"])
    table["cosine with the other precision"] = [
        metrics.cosine(steps[backend, torch.float32], steps[backend, torch.float64]).mean().item()
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
    from c2f_lrp.evaluation import evaluate, summarize  # which takes its measures from this module

    ours, deepfool, pgd = (LRPC, DFC, PGDC) if table == "table_1" else (LRPF, DFF, PGDF)
    rivals = summarize(evaluate(classifier, images, {"DeepFool": deepfool(), "PGD": pgd()}, measures=False))
    lines = []
    for (name, choice), (scale, lr, k) in tqdm(list(itertools.product(readings.items(), steps)), desc="grid"):
        how = dict(choice, step_scale=scale, lr=lr, iterations=k)
        attacks = {f"{eps:g}": ours(eps=eps, **how) for eps in epsilons}
        summary = summarize(evaluate(classifier, images, attacks, measures=False))
        line = {"reading": name, "step": scale, "lr": lr, "K": k} | distance_to_paper(summary, rivals, table)
        lines.append(line | {f"fooling at {eps:g}": summary.fooling_percent[f"{eps:g}"] for eps in epsilons})
    return pd.DataFrame(lines).sort_values("distance", ignore_index=True)
