"""Tables I and II: which attacks they hold, what the paper prints, and how ours compare."""

import numpy as np
import pandas as pd

from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, PGDC, PGDF, Attack
from c2f_lrp.evaluation.rows import Setting
from c2f_lrp.paths import manifest_path

# The readings of eqs. (3)-(5) whose loss is not zero. As printed (one_hot, ignore) the loss vanishes: notebook 03.
READINGS = {
    "one-hot start, bias absorbs": dict(init="one_hot", bias="absorb"),
    "logit start, bias ignored": dict(init="logit", bias="ignore"),
}
PAPER_EPS = (10, 20, 40)
MEASURES = ("rho_2", "rho_1", "rho_inf", "fooling_percent")
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

    Columns paper, ours and verdict: "close" within a factor SAME_RHO_FACTOR for rho or SAME_FOOLING_POINTS for
    fooling, else by how much ours is larger or smaller. `paper` is nan at an eps that the paper does not have.
    """
    paper = paper_values(table).set_index(["attack", "eps", "measure"]).value
    lines = []
    for _, row in summary.iterrows():
        attack, reading, eps = row[COLUMNS]
        for measure in MEASURES:
            printed = paper.get((attack, eps, measure), float("nan"))
            line = {"attack": attack, "reading": reading, "eps": eps, "measure": measure, "paper": printed}
            lines.append(line | {"ours": row[measure], "verdict": closeness(measure, printed, row[measure])})
    return pd.DataFrame(lines).set_index([*COLUMNS, "measure"])


def closeness(measure: str, paper: float, ours: float) -> str:
    if pd.isna(paper):
        return "not in the paper"
    if measure == "fooling_percent":
        return "close" if abs(ours - paper) <= SAME_FOOLING_POINTS else f"{ours - paper:+.1f} points"
    ratio = ours / paper
    return "close" if 1 / SAME_RHO_FACTOR <= ratio <= SAME_RHO_FACTOR else f"{ratio:.2g} x"


def side_by_side(comparison: pd.DataFrame) -> pd.DataFrame:
    """The paper's layout: a row for each measure, a column for each attack, "paper / ours" in each cell."""
    digits = {"fooling_percent": ".1f"}
    cells = {}
    for (attack, reading, eps, measure), row in comparison.iterrows():
        column = " ".join(part for part in (attack, eps, f"({reading})" if reading else "") if part)
        form = digits.get(measure, ".4f")
        printed = "–" if pd.isna(row.paper) else format(row.paper, form)
        cells.setdefault(column, {})[measure] = f"{printed} / {row.ours:{form}}"
    return pd.DataFrame(cells).rename_axis("paper / ours")


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
            "fooling does not fall as eps grows": fooling == sorted(fooling),
            "rho_inf at least doubles from the smallest to the largest eps": rho_inf[-1] >= 2 * rho_inf[0],
            "rho_1 stays within a factor 1.5 over eps": max(rho_1) <= 1.5 * min(rho_1),
            f"{deepfool} has the smallest rho_2": df["rho_2"] < min(*rho_2, other["rho_2"]),
            f"{ours} at the smallest eps has no more rho_1 than {pgd} (factor 1.1)": rho_1[0] <= 1.1 * other["rho_1"],
        }

    readings = [reading for reading in dict.fromkeys(comparison.index.get_level_values("reading")) if reading]
    table = {reading: judge("ours", reading) for reading in readings}
    if set(PAPER_EPS) <= set(values.bound):  # the paper can only be judged on its own bounds
        table = {"paper": judge("paper", readings[0])} | table
    return pd.DataFrame(table).rename_axis("claim")


def outcomes(rows: pd.DataFrame) -> pd.DataFrame:
    """What became of the two labels: one line per setting, in percent of the images classified correctly beforehand.

    rows: of `evaluation.evaluate`. The first four columns exclude each other. An image whose coarse label changed is
    routed to another fine network, whatever its own would say; `same fine label` and `fine label too` tell that.
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
