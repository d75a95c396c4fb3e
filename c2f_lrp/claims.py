"""What the paper claims of explainability, each claim judged by a rule committed before the run that it judges.

One number per image stands for each part of a claim, such as: how much more of r_adv's relevance lies on the second
object after the attack than before, less the same under sign noise of the same norm. From these numbers follow

  images    how many there are (an image without the object, or the perturbation, has none)
  mean      with the 95 % percentile bootstrap interval, low to high
  effect    mean over standard deviation (Cohen's d of paired differences); of two samples, over their pooled one
  p         two-sided randomisation test: signs flipped at random, or images dealt out anew to two samples
  p_holm    Holm's correction (1979) of p over all lines that were tried in one run

"supported" takes all of these: the direction claimed, p_holm below 0.05, at least a small effect (Cohen 1988: 0.2), and
a mean of at least 0.01, one point of a hundred, because a claim about attention is about what can be seen. "too small"
has the direction and the significance but not the size; "the reverse" is significant in the other direction and as
large; "not shown" is the rest; "too few" has fewer than 100 images, and is exploratory whatever it shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from c2f_lrp import metrics
from c2f_lrp.tables import COLUMNS, SAME_RHO_FACTOR

ALPHA = 0.05  # of p_holm
LEAST_EFFECT = 0.2
LEAST_MEAN = 0.01
LEAST_IMAGES = 100
DRAWS = 20_000  # of the randomisation test, so that its smallest p, 1 / 20001, outlives Holm's correction of 500 lines


@dataclass(frozen=True)
class Part:
    """One half of "attention moves", by one measure: which column of `measures.measure` is to fall (-1) or rise (1).

    less: a third, uninvolved label's column, taken off; "" for none.
    """

    half: str
    measure: str
    direction: int
    column: str
    less: str = ""

    def values(self, rows: pd.DataFrame) -> np.ndarray:
        """(N,), each the attack's less that of sign noise with the same norm (columns "noise: ...")."""
        found = rows[self.column] - rows[f"noise: {self.column}"]
        if self.less:
            found = found - rows[self.less] + rows[f"noise: {self.less}"]
        return found.to_numpy(dtype=float)


# Scenes at the coarse level: from the labelled object to the second one, which has r_adv's class.
ON_OBJECTS = (
    Part("away", "heatmap", -1, "shift of r_org on object"),
    Part("towards", "heatmap", 1, "shift of r_adv on other object"),
    Part("away", "contrast", -1, "contrast shift of r_org on object"),
    Part("towards", "contrast", 1, "contrast shift of r_adv on other object"),
    Part(
        "towards",
        "heatmap, less a third label's",
        1,
        "shift of r_adv on other object",
        "shift of r_low on other object",
    ),
    Part(
        "towards",
        "contrast, less a third label's",
        1,
        "contrast shift of r_adv on other object",
        "contrast shift of r_low on other object",
    ),
)
# Where no second object is known, and at the fine level, where both labels are seen on one object: from what speaks for
# r_org on the clean image to what speaks for r_adv there (the paper's beak and tail feathers). Pixels chosen because
# a label stands out there lose some of that under any change, so each is compared with a third label's parts, chosen
# alike: only one of the two is what the attack seeks, and nothing makes it win by construction.
ON_PARTS = tuple(
    Part(half, f"{kind}, less a third label's", direction, f"{shift} of {label} on its parts", f"{shift} of {third}")
    for kind, shift in (("heatmap", "shift"), ("contrast", "contrast shift"))
    for half, direction, label, third in (
        ("away", -1, "r_org", "r_low on its parts, against r_adv"),
        ("towards", 1, "r_adv", "r_low on its parts"),
    )
)
SPARSITY, ON_RELEVANT = "sparsity of the perturbation (Hoyer)", "perturbation on the most relevant tenth"


def judge(rows: pd.DataFrame, control: pd.DataFrame | None = None) -> pd.DataFrame:
    """One line for each part of each claim and each setting: what the docstring above lists, and a verdict.

    rows: of `attention.run`. control: the same attacks on scenes whose second object is not of r_adv's class. Claims:

      attention moves      the parts above, for every attack, as if the paper had claimed it of all
      more at larger eps   the same numbers at the largest eps less those at the smallest, image by image
      more than DeepFool   the same numbers less DeepFool's
      to its class alone   towards: scenes whose second object is of r_adv's class less `control`
      concentrated         sparser than DeepFool's perturbation, and more of it on the most relevant tenth of pixels
      comparable size      ln(rho / the rival's) below ln 1.5: rho_1 and rho_inf against PGD, rho_inf against DeepFool
    """
    keys, lines = [], []
    for key, claim, part, values, other in comparisons(rows, control):
        keys.append((*key, claim, part.half, part.measure))
        lines.append(measured(values, other) | {"direction": part.direction})
    table = pd.DataFrame(lines)
    table["p_holm"] = holm(table.p.to_numpy())
    table["verdict"] = [verdict(line) for line in table.to_dict("records")]
    table.index = pd.MultiIndex.from_tuples(keys, names=[*COLUMNS, "claim", "half", "measure"])
    return table


def comparisons(
    rows: pd.DataFrame, control: pd.DataFrame | None
) -> Iterator[tuple[tuple, str, Part, np.ndarray, np.ndarray | None]]:
    """(setting, claim, part, a value per image, those of a second sample or None) of all that is tried."""
    of = {key: group.sort_values("image") for key, group in rows.groupby(COLUMNS, sort=False)}
    against = {} if control is None else dict(list(control.groupby(COLUMNS, sort=False)))
    parts = parts_of(rows)
    plain = [part for part in parts if part in ON_PARTS or not part.less]
    deepfool = next(group for key, group in of.items() if key[0] in ("DFC", "DFF"))
    pgd = next(group for key, group in of.items() if key[0] in ("PGDC", "PGDF"))
    for key, group in of.items():
        for part in parts:
            yield key, "attention moves", part, part.values(group), None
        for part in plain if against else []:
            if part.half == "towards":
                yield key, "to its class alone", part, part.values(group), part.values(against[key])
        if key[0] not in ("LRPC", "LRPF"):
            continue
        ours = {float(eps): g for (attack, reading, eps), g in of.items() if (attack, reading) == key[:2]}
        for part in plain:
            if float(key[2]) == max(ours) > min(ours):
                yield key, "more at larger eps", part, part.values(group) - part.values(ours[min(ours)]), None
            yield key, "more than DeepFool", part, part.values(group) - part.values(deepfool), None
        for measure, column in (("sparsity", SPARSITY), ("on the most relevant tenth", ON_RELEVANT)):
            difference = group[column].to_numpy() - deepfool[column].to_numpy()
            yield key, "concentrated", Part("", measure, 1, column), difference, None
        for name, column, rival in (("PGD", "rho_1", pgd), ("PGD", "rho_inf", pgd), ("DeepFool", "rho_inf", deepfool)):
            ratio = np.log(group[column].to_numpy() / rival[column].to_numpy() / SAME_RHO_FACTOR)
            yield key, "comparable size", Part("", f"{column} against {name}", -1, column), ratio, None


def parts_of(rows: pd.DataFrame) -> tuple[Part, ...]:
    """Those on objects where most images have a second one, at the coarse level; else those on parts, and beside them
    at the coarse level whether r_org's relevance leaves its object or box, where that is known.
    """
    known = {part: bool(rows[part.column].notna().any()) for part in ON_OBJECTS if part.column in rows}
    if not rows.attack.iloc[0].endswith("C"):
        return ON_PARTS
    if known.get(ON_OBJECTS[1]) and rows[ON_OBJECTS[1].column].notna().mean() > 0.5:
        return ON_OBJECTS
    return tuple(part for part in ON_OBJECTS if part.half == "away" and known.get(part)) + ON_PARTS


def measured(values: np.ndarray, other: np.ndarray | None = None) -> dict[str, float]:
    """images, mean, low, high, effect and p of values (N,), nans left out; of values less `other`, where there is."""
    values = values[np.isfinite(values)]
    if other is None:
        mean, low, high = metrics.bootstrap(values)
        spread = values.std(ddof=1) if len(values) > 1 else np.nan
        return {"images": len(values), "mean": mean, "low": low, "high": high} | {
            "effect": effect(mean, spread),
            "p": sign_flip_p(values),
        }
    other = other[np.isfinite(other)]
    if min(len(values), len(other)) < 2:
        return {"images": 0} | dict.fromkeys(("mean", "low", "high", "effect", "p"), np.nan)
    rng = np.random.default_rng(0)
    means = [rng.choice(sample, (2000, len(sample))).mean(1) for sample in (values, other)]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    mean = values.mean() - other.mean()
    degrees = len(values) - 1, len(other) - 1
    pooled = np.sqrt((degrees[0] * values.var(ddof=1) + degrees[1] * other.var(ddof=1)) / sum(degrees))
    found = {"images": len(values) + len(other), "mean": mean, "low": low, "high": high}
    return found | {"effect": effect(mean, pooled), "p": relabelled_p(values, other)}


def effect(mean: float, spread: float) -> float:
    """Standard deviations from 0. Where all images have one value, which is not 0, that is infinitely many."""
    if spread <= 1e-12 * abs(mean):  # rounding alone
        return float(np.copysign(np.inf, mean)) if mean else 0.0
    return mean / spread


def sign_flip_p(values: np.ndarray, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p of a mean of 0, when each value's sign may as well be the other one (Fisher 1935). nan for none."""
    if not len(values):
        return np.nan
    signs = np.random.default_rng(seed).integers(0, 2, (draws, len(values)), dtype=np.int8) * 2 - 1
    return p_of(abs(signs @ values), abs(values.sum()))


def relabelled_p(values: np.ndarray, other: np.ndarray, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p of equal means, when images may as well belong to the other sample."""
    both = np.concatenate([values, other])
    rng, n, total = np.random.default_rng(seed), len(values), both.sum()
    sums = np.array([rng.permutation(both)[:n].sum() for _ in range(draws)])
    difference = abs(sums / n - (total - sums) / len(other))
    return p_of(difference, abs(values.mean() - other.mean()))


def p_of(drawn: np.ndarray, found: float) -> float:
    """The share of draws as extreme as what was found, itself counted. Equal up to rounding is as extreme."""
    return (1 + (drawn >= found * (1 - 1e-9)).sum()) / (1 + len(drawn))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p (N,): the k-th smallest times N - k + 1, never falling, at most 1; nan stays."""
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: np.isfinite(p).sum()]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return corrected


def verdict(line: dict) -> str:
    """By the rules at the top; line: with images, mean, effect, p_holm and direction."""
    if line["images"] < LEAST_IMAGES:
        return "too few"
    if not line["p_holm"] < ALPHA:
        return "not shown"
    large = abs(line["effect"]) >= LEAST_EFFECT and abs(line["mean"]) >= LEAST_MEAN
    if line["mean"] * line["direction"] > 0:
        return "supported" if large else "too small"
    return "the reverse" if large else "not shown"


# ------------------------------------------------------------------------------------------------------ how it is told
def read(path: Path) -> pd.DataFrame:
    """The lines of `judge`, as `provenance.save_table` wrote them."""
    index = [*COLUMNS, "claim", "half", "measure"]
    table = pd.read_csv(path, dtype=dict.fromkeys(index, str)).fillna(dict.fromkeys(index, ""))
    return table.set_index(index)


def overview(judged: pd.DataFrame) -> pd.DataFrame:
    """Verdicts of every part of every claim, a column for each attack and reading; over eps, where they differ."""
    lines = judged.reset_index()
    lines["who"] = [", ".join(part for part in key if part) for key in lines[["attack", "reading"]].values]

    def told(group: pd.DataFrame) -> str:
        bounds = group.groupby("verdict", sort=False).eps.agg(", ".join)
        return bounds.index[0] if len(bounds) == 1 else "; ".join(f"{name} at {eps}" for name, eps in bounds.items())

    keys = ["claim", "half", "measure", "who"]
    cells = lines.groupby(keys, sort=False)[["eps", "verdict"]].apply(told).unstack("who")
    order = lines[keys[:3]].drop_duplicates().itertuples(index=False, name=None)
    return cells.reindex(index=pd.MultiIndex.from_tuples(order, names=keys[:3]), columns=lines.who.unique()).fillna("")


def tally(judged: pd.DataFrame, claim: str = "attention moves") -> pd.DataFrame:
    """Of one claim's parts: how many settings of the paper's attack, and of the others, support each of them.

    Index half and measure; columns images (the fewest), the range of means of the paper's attack, and "supported by".
    """
    lines = judged.xs(claim, level="claim").reset_index()
    found = {}
    for key, group in lines.groupby(["half", "measure"], sort=False):
        ours = group[group.attack.isin(["LRPC", "LRPF"])]
        low, high = (round(value, 3) + 0.0 for value in (ours["mean"].min(), ours["mean"].max()))  # + 0: no "-0.000"
        line = {"images": group.images.min(), "mean": f"{low:+.3f} to {high:+.3f}"}
        for name, part in (("LRPC or LRPF", ours), ("the others", group.drop(ours.index))):
            line[f"supported, {name}"] = f"{(part.verdict == 'supported').sum()} of {len(part)}"
        found[key] = line | {"the reverse": f"{(group.verdict == 'the reverse').sum()} of {len(group)}"}
    return pd.DataFrame(found).T.rename_axis(["half", "measure"])
