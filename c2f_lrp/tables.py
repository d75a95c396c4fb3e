"""Tables I and II: which attacks they hold, what the paper prints, and how ours compare."""

import numpy as np
import pandas as pd

from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, PGDC, PGDF, Attack
from c2f_lrp.attacks.lrp_attack import PAPER_EPS
from c2f_lrp.evaluation.rows import Setting
from c2f_lrp.paths import manifest_path

# The readings of eqs. (3)-(5) whose loss is not zero. As printed (one_hot, ignore) the loss vanishes: notebook 03.
READINGS = {
    "one-hot start, bias absorbs": dict(init="one_hot", bias="absorb"),
    "logit start, bias ignored": dict(init="logit", bias="ignore"),
}
MEASURES = ("rho_2", "rho_1", "rho_inf", "fooling_percent")
MEASURE_NAMES = {"rho_2": "ρ²", "rho_1": "ρ¹", "rho_inf": "ρ^∞", "fooling_percent": "fooling %"}
COLUMNS = ["attack", "reading", "eps"]

# When a value counts as the paper's: stated here, before looking. Networks, images and K differ from the paper's.
SAME_RHO_FACTOR = 1.5
SAME_FOOLING_POINTS = 5


def table_attacks(level: str, epsilons: list[float], **settings) -> dict[Setting, Attack]:
    """The columns of Table I (level "coarse") or II ("fine"): the LRP attack in both readings, DeepFool, PGD.

    `settings` go to the LRP attack, such as lr, iterations, p or step_scale.
    """
    if level not in ("coarse", "fine"):
        raise ValueError(f"level is {level!r}; choose coarse (Table I) or fine (Table II)")
    ours, deepfool, pgd = (LRPC, DFC, PGDC) if level == "coarse" else (LRPF, DFF, PGDF)
    columns: dict[Setting, Attack] = {}
    for reading, choices in READINGS.items():
        for eps in epsilons:
            columns[Setting(ours.__name__, reading, f"{eps:g}")] = ours(eps=eps, **{**choices, **settings})
    return columns | {Setting(deepfool.__name__): deepfool(), Setting(pgd.__name__): pgd()}


def paper_values(table: str) -> pd.DataFrame:
    """What the paper prints: columns table, attack, eps ("" where there is none), measure, value."""
    values = pd.read_csv(manifest_path("paper_values.csv"), dtype={"eps": str}, keep_default_na=False)
    return values[values.table == table].astype({"value": float})


def compare(summary: pd.DataFrame, table: str) -> pd.DataFrame:
    """`evaluation.summarize`'s lines beside the paper's: one row per attack, reading, eps and measure.

    Columns paper, ours, low and high (the 95 % bootstrap interval over our images) and verdict: "close" within a factor
    SAME_RHO_FACTOR for rho or SAME_FOOLING_POINTS for fooling, else by how much ours is larger or smaller.
    `paper` is nan at an eps that the paper does not have.
    """
    paper = paper_values(table).set_index(["attack", "eps", "measure"]).value
    lines = []
    for _, row in summary.iterrows():
        attack, reading, eps = row[COLUMNS]
        for measure in MEASURES:
            printed = paper.get((attack, eps, measure), float("nan"))
            line = {"attack": attack, "reading": reading, "eps": eps, "measure": measure, "paper": printed}
            line |= {"ours": row[measure], "low": row[f"{measure}_low"], "high": row[f"{measure}_high"]}
            lines.append(line | {"verdict": closeness(measure, printed, row[measure])})
    return pd.DataFrame(lines).set_index([*COLUMNS, "measure"])


def closeness(measure: str, paper: float, ours: float) -> str:
    if pd.isna(paper):
        return "not in the paper"
    if measure == "fooling_percent":
        return "close" if abs(ours - paper) <= SAME_FOOLING_POINTS else f"{ours - paper:+.1f} points"
    ratio = ours / paper
    return "close" if 1 / SAME_RHO_FACTOR <= ratio <= SAME_RHO_FACTOR else f"{ratio:.2g} x"


def side_by_side(comparison: pd.DataFrame) -> pd.DataFrame:
    """The paper's layout turned: a row for each attack, a column for each measure, "paper / ours [low, high]" in it."""
    cells = {}
    for (attack, reading, eps, measure), row in comparison.iterrows():
        form = ".1f" if measure == "fooling_percent" else ".4f"
        printed = "–" if pd.isna(row.paper) else format(row.paper, form)
        name = Setting(attack, reading, eps).label
        words = f"{printed} / {row.ours:{form}} [{row.low:{form}}, {row.high:{form}}]"
        cells.setdefault(name, {})[MEASURE_NAMES[measure]] = words
    return pd.DataFrame.from_dict(cells, "index").rename_axis("paper / ours [95 % interval]")


# Why a row may differ from the paper's, by what it depends on. Judged nowhere: said beside numbers that are computed.
REASONS = {
    "DeepFool": "DeepFool depends on little but the network: on how far its nearest boundary lies",
    "PGD": "PGD's bound follows from the paper's ρ^∞; how many it fools says how far boundaries lie in that norm",
    "LRP": "the paper prints neither the start of relevance, nor the bias, nor lr and K, on which all of these depend",
}


def differences(comparison: pd.DataFrame) -> list[str]:
    """A sentence for each attack (and reading) some of whose values are not the paper's, with by how much and why.

    Not the paper's: beyond a factor SAME_RHO_FACTOR for rho, beyond SAME_FOOLING_POINTS for the fooling ratio.
    """
    sentences = []
    for (attack, reading), group in comparison.groupby(["attack", "reading"], sort=False):
        apart = group[~group.verdict.isin(["close", "not in the paper"])]
        known = group[group.verdict != "not in the paper"]
        name = Setting(attack, reading).label
        if apart.empty:
            sentences.append(f"**{name}**: all {len(known)} numbers are the paper's, within what is called close.")
            continue
        parts = []
        for measure, lines in apart.groupby("measure", sort=False):
            found = ", ".join(
                f"{line.verdict}{f' at ε = {eps}' if eps else ''}"
                for eps, line in zip(lines.index.get_level_values("eps"), lines.itertuples(), strict=True)
            )
            parts.append(f"{MEASURE_NAMES[measure]} {found}")
        kind = {"DF": "DeepFool", "PG": "PGD"}.get(attack[:2], "LRP")
        sentences.append(
            f"**{name}**: {len(known) - len(apart)} of {len(known)} numbers are close; {'; '.join(parts)}. "
            f"{REASONS[kind][0].upper()}{REASONS[kind][1:]}."
        )
    return sentences


def claims_in_words(claims: pd.DataFrame) -> list[str]:
    """A sentence for each shape of the table (`shape_claims`): where it holds, the paper and our readings."""
    return [
        f"{claim[0].upper() if claim[0].isascii() else claim[0]}{claim[1:]}: "  # ρ stays small: Ρ reads as a P
        + ", ".join(f"{who} **{'yes' if holds else 'no'}**" for who, holds in row.items())
        + "."
        for claim, row in claims.iterrows()
    ]


def shape_claims(comparison: pd.DataFrame) -> pd.DataFrame:
    """What the shape of the table says, in the paper and in each of our readings: True, False per claim."""
    ours, deepfool, pgd = dict.fromkeys(comparison.index.get_level_values("attack"))
    values = comparison.reset_index()
    values["bound"] = pd.to_numeric(values.eps)
    values = values.sort_values("bound", kind="stable")

    def judge(column: str, reading: str) -> dict[str, bool]:
        lrp = values[(values.attack == ours) & (values.reading == reading) & values[column].notna()]
        rho_2, rho_1, rho_inf, fooling = (lrp[lrp.measure == m][column].tolist() for m in MEASURES)
        df = values[values.attack == deepfool].set_index("measure")[column]
        other = values[values.attack == pgd].set_index("measure")[column]
        return {
            "fooling does not fall as ε grows": fooling == sorted(fooling),
            "ρ^∞ at least doubles from the smallest to the largest ε": rho_inf[-1] >= 2 * rho_inf[0],
            "ρ¹ stays within a factor 1.5 over ε": max(rho_1) <= 1.5 * min(rho_1),
            f"{deepfool} has the smallest ρ²": df["rho_2"] < min(*rho_2, other["rho_2"]),
            f"{ours} at the smallest ε has no more ρ¹ than {pgd} (factor 1.1)": rho_1[0] <= 1.1 * other["rho_1"],
            f"{ours} at the smallest ε has no more ρ^∞ than {pgd} (factor 1.1)": rho_inf[0] <= 1.1 * other["rho_inf"],
        }

    readings = [reading for reading in dict.fromkeys(comparison.index.get_level_values("reading")) if reading]
    table = {reading: judge("ours", reading) for reading in readings}
    if set(PAPER_EPS) <= set(values.bound):  # the paper can only be judged on its own bounds
        table = {"paper": judge("paper", readings[0])} | table
    return pd.DataFrame(table).rename_axis("claim")


def outcomes(rows: pd.DataFrame) -> pd.DataFrame:
    """What became of the two labels: one line per setting, in percent of the images classified correctly beforehand.

    rows: of `evaluation.evaluate`. The first four columns exclude each other. An image whose coarse label changed is
    routed to another fine network, whatever its own would say; the third and the fourth column tell that.

    The labels are read once more, in other batches than the attack's: a second look at what counted as fooled.
    """
    correct = rows[rows.correct]
    coarse = correct.coarse_after != correct.coarse_before
    fine = correct.own_fine_after != correct.fine_before
    cases = {
        "neither label": ~coarse & ~fine,
        "fine label only": ~coarse & fine,
        "coarse label, its fine network still says the same": coarse & ~fine,
        "coarse label, its fine network would change too": coarse & fine,
        "routed to another fine network": coarse,
    }
    return 100 * pd.DataFrame(cases).groupby(correct.setting, sort=False).mean()


def flows(rows: pd.DataFrame, n_coarse: int) -> dict[str, np.ndarray]:
    """For each setting counts (M, M) of images by coarse label before (row) and after (column) the attack."""
    counts = {}
    for name, group in rows[rows.correct].groupby("setting", sort=False):
        counts[name] = np.zeros((n_coarse, n_coarse), int)
        np.add.at(counts[name], (group.coarse_before, group.coarse_after), 1)
    return counts


def lines_of(summary: pd.DataFrame, reading: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of a table's summary the LRP attack's lines in this reading, indexed by eps, and the two rivals' lines."""
    return summary[summary.reading == reading].set_index("eps"), summary[summary.reading == ""]
