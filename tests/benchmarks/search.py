"""Which settings print Tables I and II: a search whose grid, distance and rules were committed before it was run.

    python -m tests.benchmarks.search attack --imagenet-lite DIR --tiny-imagenet DIR --out FOLDER [--device cuda]
    python -m tests.benchmarks.search judge --out FOLDER       writes search.csv and search.md beside this file

The paper prints neither lr nor K, nor the scale of a step, and its text leaves the start of relevance, the bias and the
labels of later steps open. GRID holds all of that but K.

Photographs: the first of each profile in the order of a hash, PHOTOGRAPHS of them. Table I's part on imagenet-lite and
the first stage ran on a GPU that was lent for a quarter of an hour; for what was left then, FINAL says how many of
these are taken, set before any of its results was seen. Those whose coarse label is right
are attacked for Table I; for Table II, those whose fine label is right too and whose coarse class has several fine
ones. Half of them choose and half report: by the parity of another hash of the name.

Distance of a setting to a table: the mean over its twelve printed numbers of LRPC (LRPF) of |ln(ours / paper's)| for a
rho and of |ours - paper's| / 100 for a fooling ratio. DeepFool and PGD do not depend on the grid: their numbers say how
far the network is from the paper's, and are reported apart. The distance of a profile is the mean over both tables.

Rules.
1. First stage: the whole grid at eps = 20 and K = 10, on FIRST photographs of the choosing half. ADVANCE settings of
   each profile go on, those with the smallest distance to the four numbers of eps = 20; with them go the ADVANCE
   settings with normalized steps whose distance, averaged over both profiles, is smallest, and today's default.
2. Final stage: these at all three eps and both K, on all photographs. On each profile the setting with the smallest
   distance on the choosing half is the nearest. What is reported of it is its distance and its numbers on the other
   half, with 95 % bootstrap intervals over the photographs.
3. The defaults of LRPC and LRPF serve networks of every kind, and raw gradients have another scale in every network. So
   the candidate for the default is the setting with normalized steps whose distance on the choosing halves, averaged
   over the two profiles, is smallest. It becomes the default if on the reporting half of both profiles the interval of
   its distance less that of today's default lies below 0, and not otherwise.
4. PGD: of four ways (stopped early or not, from zero or from noise), at the eps that eq. (10) gives, the one nearest to
   PGDC's and PGDF's eight numbers, by the same distance and the same rule.

The literal reading (one-hot start, bias ignored) is not in the grid: in a VGG-16 its loss is zero for every image
(chapter 3 of the book). From the logit the bias hardly matters (notebook 09), so the grid has it ignored, as printed.
"""

import argparse
import functools
import hashlib
import itertools
import multiprocessing
import os
import re
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

import c2f_lrp
from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, PGDC, PGDF, Attack
from c2f_lrp.attacks.lrp_attack import PAPER_EPS
from c2f_lrp.datasets import Images
from c2f_lrp.metrics import NORMS, perceptibilities
from c2f_lrp.provenance import markdown
from c2f_lrp.tables import COLUMNS, MEASURES, paper_values, side_by_side

HERE = Path(__file__).parent
PHOTOGRAPHS = {"imagenet-lite": 220, "tiny-imagenet": 400}
FINAL = {("imagenet-lite", "table_2"): 110, ("tiny-imagenet", "table_1"): 240, ("tiny-imagenet", "table_2"): 240}
STARTS = (dict(init="one_hot", bias="absorb"), dict(init="logit", bias="ignore"))
LABELS = ("updated", "clean")
STEPS = [("normalized", lr) for lr in (2.5, 10, 40)] + [("gradient", 10.0**n) for n in (2, 3, 4, 5, 6, 7)]
GRID = [
    dict(**start, labels=labels, step_scale=scale, lr=lr)
    for start, labels, (scale, lr) in itertools.product(STARTS, LABELS, STEPS)
]
KS = (40, 10)  # the most steps; largest first
FIRST, FIRST_EPS, FIRST_K = 60, 20, 10
ADVANCE = 4
PGD_WAYS = [dict(early_stop=stop, random_start=noise) for stop in (True, False) for noise in (False, True)]
TABLES = {"table_1": (LRPC, PGDC, DFC), "table_2": (LRPF, PGDF, DFF)}
DRAWS = 2000
BATCH = 128  # on a GPU


# ------------------------------------------------------------------------------------------------------------- attack
def grid(table: str) -> dict[str, Attack]:
    """Every setting of the LRP attack on one table at every eps, by a name that says it."""
    lrp = TABLES[table][0]
    made = [lrp(eps=eps, iterations=KS[0], **how) for how in GRID for eps in PAPER_EPS]
    return {name_of(attack): attack for attack in made}


def rivals(table: str) -> dict[str, Attack]:
    _, pgd, deepfool = TABLES[table]
    return {name_of(attack): attack for attack in [*(pgd(**how) for how in PGD_WAYS), deepfool()]}


def name_of(attack: Attack) -> str:
    shown = ["eps", "init", "bias", "labels", "step_scale", "lr", "early_stop"]
    shown += ["random_start"] * isinstance(attack, PGDC | PGDF)
    values = [f"{f.name}={getattr(attack, f.name)}" for f in fields(attack) if f.name in shown]
    return " ".join([type(attack).__name__, *values])


def setting_of(name: str) -> str:
    """Without the attack and its bound: what both tables and all eps share."""
    return re.sub(r"^\S+ ?(eps=\S+ ?)?", "", name)


def attacked_at(classifier, images: Images, profile: str, table: str, stage: str) -> Images:
    """Those of the images that the attacks of this table are tried on."""
    images = images[: FINAL.get((profile, table), len(images))] if stage == "final" else images
    coarse, fine = classifier.predict(images.pixels)
    right = coarse == images.coarse
    if table == "table_2":
        several = torch.tensor(classifier.hierarchy.n_fine, device=coarse.device)[images.coarse] > 1
        right = right & (fine == images.fine) & several
    part = images[right]
    return part[[row for row, name in enumerate(part.names) if chooses(name)][:FIRST]] if stage == "first" else part


def rows(attack: Attack, classifier, images: Images, ks: tuple[int, ...]) -> pd.DataFrame:
    """image, K, fooled and the terms of eq. (10), for every K, largest first.

    Until an image is fooled, K changes nothing; so those fooled within the smaller K are not attacked again.
    """
    parts, todo = [], images
    known: dict[str, tuple] = {}
    for k in ks:
        if len(todo):
            size = BATCH if todo.pixels.is_cuda else None
            result = replace(attack, iterations=k)(classifier, todo.pixels, todo.coarse, todo.fine, batch_size=size)
            sizes = [perceptibilities(result.perturbation, todo.pixels, p).tolist() for p in NORMS.values()]
            found = zip(result.fooled.tolist(), result.iterations.tolist(), *sizes, strict=True)
            known |= dict(zip(todo.names, found, strict=True))
        lines = [(name, k, *known[name]) for name in images.names]
        parts.append(pd.DataFrame(lines, columns=["image", "K", "fooled", "iterations", *NORMS]))
        later = [not (known[name][0] and known[name][1] <= ks[-1]) for name in images.names]
        todo = images[torch.tensor(later, device=images.pixels.device)]
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Job:
    profile: str
    table: str
    stage: str  # "first" or "final"
    name: str

    def attack(self) -> Attack:
        return (grid(self.table) | rivals(self.table))[self.name]

    def ks(self) -> tuple[int, ...]:
        if self.name in rivals(self.table):
            return (self.attack().iterations,)
        return KS if self.stage == "final" else (FIRST_K,)

    def path(self, out: Path) -> Path:
        key = hashlib.sha256(f"{self.table} {self.name}".encode()).hexdigest()[:16]
        return out / self.stage / self.profile / f"{key}.parquet"


def first_jobs() -> list[Job]:
    return [
        Job(profile, table, "first", name)
        for profile in PHOTOGRAPHS
        for table in TABLES
        for name, attack in grid(table).items()
        if attack.eps == FIRST_EPS
    ]


def final_jobs(out: Path) -> list[Job]:
    """Those whose settings advance by rule 1, and the rivals."""
    going = advancing(out)
    return [
        Job(profile, table, "final", name)
        for profile in PHOTOGRAPHS
        for table in TABLES
        for name in [*grid(table), *rivals(table)]
        if name in rivals(table) or setting_of(name) in going[profile]
    ]


def work(job: Job, out: Path) -> None:
    """The rows of one job, to a file, unless they are there."""
    path = job.path(out)
    if path.exists():
        return
    images = IMAGES[job.profile]
    classifier = loaded(job.profile, images.pixels.device.type)
    part = attacked_at(classifier, images, job.profile, job.table, job.stage)
    made = rows(job.attack(), classifier, part, job.ks())
    path.parent.mkdir(parents=True, exist_ok=True)
    made = made.assign(profile=job.profile, table=job.table, attack=job.name)
    made.to_parquet(part_path := path.with_suffix(f".{os.getpid()}.part"), index=False)
    part_path.rename(path)


IMAGES: dict[str, Images] = {}  # of this process


def take(images: dict[str, Images], device: str) -> None:
    torch.set_num_threads(1)
    IMAGES.update({profile: part.to(device) for profile, part in images.items()})


@functools.cache
def loaded(profile: str, device: str):
    return c2f_lrp.load_classifier(profile).to(device)


def attack_all(images: dict[str, Images], out: Path, device: str, processes: int) -> None:
    """Both stages; images (N, 3, H, W) float32 by profile, on the CPU."""
    with multiprocessing.get_context("spawn").Pool(processes, take, (images, device)) as pool:
        for jobs in (first_jobs, lambda: final_jobs(out)):
            todo = jobs()
            list(tqdm(pool.imap_unordered(partial(work, out=out), todo), total=len(todo)))


# -------------------------------------------------------------------------------------------------------------- judge
def chooses(name: str) -> bool:
    """Whether a photograph is of the half that chooses."""
    return hashlib.sha256(f"half {name}".encode()).digest()[0] % 2 == 0


def read(out: Path, stage: str) -> pd.DataFrame:
    files = sorted((out / stage).glob("*/*.parquet"))
    found = pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)
    tried = found.groupby(["profile", "table"]).attack.transform("nunique")
    by_image = found.groupby(["profile", "table", "image"]).attack.transform("nunique")
    found = found[by_image == tried].reset_index(drop=True)  # some ran on more images than FINAL says
    found["half"] = np.where(found.image.map(chooses), "chooses", "reports")
    return found


def bound_of(name: str) -> float:
    found = re.search(r"eps=(\S+)", name)
    return float(found[1]) if found else 0.0


def values_by_image(found: pd.DataFrame, table: str) -> dict[tuple, np.ndarray]:
    """{(profile, attack and setting without eps, K, half): (images, bounds * 4)}: rho and fooled in %, eps by eps."""
    made = {}
    part = found[found.table == table]
    kinds = part.attack.str.replace(r" eps=\S+", "", regex=True)
    for key, group in part.groupby([part.profile, kinds, part.K, part.half]):
        wide = group.assign(fooling_percent=100.0 * group.fooled).pivot(
            index="image", columns="attack", values=list(MEASURES)
        )
        names = sorted(set(group.attack), key=bound_of)
        made[key] = np.stack([wide[measure, name] for name in names for measure in MEASURES], 1)
    return made


def printed(table: str, attack: str, bounds: tuple) -> np.ndarray:
    paper = paper_values(table).set_index(["attack", "eps", "measure"]).value
    return np.array([paper[(attack, bound, measure)] for bound in bounds for measure in MEASURES])


def distance(means: np.ndarray, paper: np.ndarray) -> np.ndarray:
    """(..., numbers) and (numbers,) to (...): the mean of |ln ratio| for a rho and of points / 100 for fooling."""
    fooling = np.arange(len(paper)) % len(MEASURES) == MEASURES.index("fooling_percent")
    ratios = np.abs(np.log(np.maximum(means, 1e-12) / paper))
    return np.where(fooling, np.abs(means - paper) / 100, ratios).mean(-1)


def drawn(values: np.ndarray) -> np.ndarray:
    """The mean, and then DRAWS bootstrap means over the images: (1 + DRAWS, numbers). The same images every time."""
    n = len(values)
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), DRAWS)
    return np.concatenate([values.mean(0)[None], counts @ values / n])


def of_table(found: pd.DataFrame, table: str, attack: str, bounds: tuple) -> dict[tuple, np.ndarray]:
    """{(profile, setting, K, half): the distance to this table, and DRAWS of it}."""
    paper = printed(table, attack, bounds)
    chosen = found[found.attack.str.split().str[0] == attack]
    return {
        (profile, setting_of(name), k, half): distance(drawn(values), paper)
        for (profile, name, k, half), values in values_by_image(chosen, table).items()
    }


def both_tables(found: pd.DataFrame, place: int, bounds: tuple) -> pd.DataFrame:
    """The distance of each setting: rows (profile, setting, K, half), columns the estimate and DRAWS of it."""
    one, two = (of_table(found, table, kinds[place].__name__, bounds) for table, kinds in TABLES.items())
    made = {key: (one[key] + two[key]) / 2 for key in one}
    return pd.DataFrame.from_dict(made, "index").set_axis(
        pd.MultiIndex.from_tuples(made, names=["profile", "setting", "K", "half"])
    )


def interval(draws) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def judged(distances: pd.DataFrame, default: tuple[str, int], candidates: str) -> tuple[pd.DataFrame, dict]:
    """A line per profile, setting and K, nearest first on the choosing half; and what the rules say."""
    halves = {half: distances.xs(half, level="half") for half in ("chooses", "reports")}
    table = pd.DataFrame({half: halves[half][0] for half in halves}).reset_index()
    ends = [
        interval(halves["reports"].loc[tuple(key)].to_numpy()[1:]) for key in table[["profile", "setting", "K"]].values
    ]
    table["low"], table["high"] = zip(*ends, strict=True)
    table = table.sort_values(["profile", "chooses"], ignore_index=True)
    usable = table[table.setting.str.contains(candidates)]
    by_profile = usable.pivot(index=["setting", "K"], columns="profile", values="chooses")
    mean = by_profile.dropna().mean(axis=1)  # some settings were tried on one profile only
    best = mean.idxmin()
    verdict = {"candidate": best, "default": default}
    for profile in table.profile.unique():
        reports = halves["reports"].loc[profile]
        less = (reports.loc[best] - reports.loc[default]).to_numpy()
        verdict[profile] = (less[0], *interval(less[1:]))
    verdict["changes"] = best != default and all(verdict[profile][2] < 0 for profile in table.profile.unique())
    return table, verdict


def default_of(attack: Attack) -> tuple[str, int]:
    return setting_of(name_of(attack)), attack.iterations


def advancing(out: Path) -> dict[str, set[str]]:
    """By rule 1, the settings of each profile that go on."""
    distances = both_tables(read(out, "first"), 0, (str(FIRST_EPS),))[0].droplevel(["K", "half"]).unstack("profile")
    usable = distances[distances.index.str.contains("normalized")].mean(axis=1)
    shared = {*usable.nsmallest(ADVANCE).index, default_of(LRPC())[0]}
    return {profile: {*distances[profile].nsmallest(ADVANCE).index, *shared} for profile in PHOTOGRAPHS}


def in_numbers(found: pd.DataFrame, profile: str, place: int, setting: str, k: int, bounds: tuple) -> str:
    """Both tables' numbers and ours on the reporting half, with intervals."""
    parts, counts = [], []
    for table, kinds in TABLES.items():
        attack = kinds[place].__name__
        chosen = found[(found.profile == profile) & (found.attack.str.split().str[0] == attack)]
        values = values_by_image(chosen, table)[profile, f"{attack} {setting}".strip(), k, "reports"]
        means = drawn(values)
        low, high = np.quantile(means[1:], [0.025, 0.975], axis=0)
        index = pd.MultiIndex.from_product([[attack], [""], bounds, MEASURES], names=[*COLUMNS, "measure"])
        columns = {"paper": printed(table, attack, bounds), "ours": means[0], "low": low, "high": high}
        parts.append(side_by_side(pd.DataFrame(columns, index)))
        counts += [len(values)] * len(bounds)
    both = pd.concat(parts)
    both.insert(0, "images", counts)
    return markdown(both)


def judge(out: Path) -> None:
    found, bounds = read(out, "final"), {0: tuple(f"{eps:g}" for eps in PAPER_EPS), 1: ("",), 2: ("",)}
    first = both_tables(read(out, "first"), 0, (str(FIRST_EPS),))[0].rename("distance").reset_index()
    first = first.sort_values(["profile", "distance"], ignore_index=True)
    text = ["# Which settings print Tables I and II", "", WRITTEN, "", first_stage(first), ""]
    parts = [first.rename(columns={"distance": "chooses"}).drop(columns="half").assign(attack="LRP", stage="first")]
    for place, title in ((0, "The LRP attack"), (1, "PGD")):
        # PGD's default was early_stop=True when the rule was written and the search was run.
        default = default_of(LRPC() if place == 0 else PGDC(early_stop=True))
        table, verdict = judged(both_tables(found, place, bounds[place]), default, "normalized" if place == 0 else "")
        parts.append(table.assign(attack="LRP" if place == 0 else "PGD", stage="final"))
        text += [f"## {title}", ""]
        for profile in PHOTOGRAPHS:
            lines = table[table.profile == profile].reset_index(drop=True)
            numbers = in_numbers(found, profile, place, lines.setting[0], lines.K[0], bounds[place])
            text += [f"### {title}: {profile}", "", nearest_in_words(lines, default), "", settings_table(lines), ""]
            text += ["The nearest, on the half that reports:", "", numbers, ""]
        text += [rule_in_words(verdict), ""]
    text += ["## DeepFool", "", "It depends on the network alone.", ""]
    for profile in PHOTOGRAPHS:
        numbers = in_numbers(found, profile, 2, "", DFC().iterations, bounds[2])
        text += [f"### DeepFool: {profile}", "", numbers, ""]
    columns = ["stage", "attack", "profile", "setting", "K", "chooses", "reports", "low", "high"]
    csv = pd.concat(parts)[columns]
    csv.to_csv(HERE / "search.csv", index=False, float_format="%.4f", lineterminator="\n")
    (HERE / "search.md").write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")


def first_stage(first: pd.DataFrame) -> str:
    """The whole grid at one eps, a line for each setting."""
    wide = first.pivot(index="setting", columns="profile", values="distance")
    wide = wide.loc[wide.mean(axis=1).sort_values().index].map("{:.3f}".format).rename_axis(None, axis=1)
    wide.index = [f"`{setting}`" for setting in wide.index]
    told = f"The first stage: distances at ε = {FIRST_EPS}, K = {FIRST_K}, on {FIRST} photographs of the choosing half."
    return f"## The whole grid\n\n{told}\n\n{markdown(wide.rename_axis('setting'))}"


WRITTEN = """Written by `python -m tests.benchmarks.search judge`. The grid, the distance and the rules stand at the top
of that program; they were committed before the search was run. A distance is the mean over the printed numbers of
|ln(ours / paper's)| for a ρ and of points / 100 for a fooling ratio: 0.1 is about ten per cent a number. One half of
the photographs chooses the setting, the other half reports it. One thing was set later, when the time on a lent GPU was
over and before any of the results that it concerns: on how many photographs the rest of the final stage runs (`FINAL`).
"""


def nearest_in_words(lines: pd.DataFrame, default: tuple[str, int]) -> str:
    """What the half that reports says of the nearest setting, and of today's default. lines: nearest first."""
    usual = lines[(lines.setting == default[0]) & (lines.K == default[1])].iloc[0]

    def told(line) -> str:
        ends = f"{line.reports:.3f} [{line.low:.3f}, {line.high:.3f}]"
        return f"{ends} on the half that reports, a factor of {np.exp(line.reports):.2f} a number"

    best = lines.iloc[0]
    if usual.name == best.name:
        return f"The nearest is today's default, `{best.setting}`, K = {best.K}: {told(best)}."
    return f"The nearest is `{best.setting}`, K = {best.K}: {told(best)}. Today's default: {told(usual)}."


def settings_table(lines: pd.DataFrame) -> str:
    shown = pd.DataFrame(
        {
            "setting": [f"`{setting}`" for setting in lines.setting],
            "K": lines.K,
            "choosing half": lines.chooses.map("{:.3f}".format),
            "reporting half": [f"{row.reports:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in lines.itertuples()],
        }
    )
    return markdown(shown.set_index("setting"))


def rule_in_words(verdict: dict) -> str:
    best, default = (f"`{setting}`, K = {k}" for setting, k in (verdict["candidate"], verdict["default"]))
    if verdict["candidate"] == verdict["default"]:
        return f"**The rule for the default**: the candidate is today's default, {default}, which stays."
    told = "; ".join("{}: {:+.3f} [{:+.3f}, {:+.3f}]".format(name, *verdict[name]) for name in PHOTOGRAPHS)
    outcome = "It becomes the default." if verdict["changes"] else "The default stays."
    return (
        f"**The rule for the default**: the candidate is {best}; today's default is {default}. The candidate's "
        f"distance less the default's, on the half that reports: {told}. {outcome}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["attack", "judge"])
    for profile in PHOTOGRAPHS:
        parser.add_argument(f"--{profile}", type=Path, metavar="DIR", help="its folder of photographs")
    parser.add_argument("--out", type=Path, default=Path("search"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.what == "judge":
        judge(options.out)
        return
    roots = {profile: getattr(options, profile.replace("-", "_")) for profile in PHOTOGRAPHS}
    images = {name: c2f_lrp.load_images(name, limit=limit, root=roots[name]) for name, limit in PHOTOGRAPHS.items()}
    attack_all(images, options.out, options.device, options.processes)


if __name__ == "__main__":
    main()
