"""Which settings print Tables I and II: a search whose grid, distance and rules were committed before it was run.

    python -m tests.benchmarks.search attack --profile imagenet-lite --root DIR --out FOLDER [--device cuda] [--jobs 4]
    python -m tests.benchmarks.search attack --profile tiny-imagenet --root DIR --out FOLDER
    python -m tests.benchmarks.search judge --out FOLDER       writes search.csv and search.md beside this file

The paper prints neither lr nor K, nor the scale of a step, and its text leaves the start of relevance, the bias and the
labels of later steps open. GRID holds all of that at three values of eps.

Photographs. imagenet-lite: all that are given (262 for us); tiny-imagenet: the first 500 that were not trained on.
Those whose coarse label is right are attacked for Table I; for Table II, those whose fine label is right too and whose
coarse class has several fine ones. Half of them choose and half report: by the parity of a hash of the name.

Distance of a setting to a table: the mean over its twelve printed numbers of LRPC (LRPF) of |ln(ours / paper's)| for a
rho and of |ours - paper's| / 100 for a fooling ratio. DeepFool and PGD do not depend on the grid: their numbers say how
far the network is from the paper's, and are reported apart. The distance of a profile is the mean over both tables.

Rules.
1. On each profile the setting with the smallest distance on the choosing half is the nearest. What is reported of it is
   its distance and its numbers on the other half, with 95 % bootstrap intervals over the photographs.
2. The defaults of LRPC and LRPF serve networks of every kind, and raw gradients have another scale in every network. So
   the candidate for the default is the setting with normalized steps whose distance on the choosing halves, averaged
   over the two profiles, is smallest. It becomes the default if on the reporting half of both profiles the interval of
   its distance less that of today's default lies below 0, and not otherwise.
3. PGD: of four ways (stopped early or not, from zero or from noise), at the eps that eq. (10) gives, the one nearest to
   PGDC's and PGDF's eight numbers, by the same distance and the same rule.

The literal reading (one-hot start, bias ignored) is not in the grid: in a VGG-16 its loss is zero for every image
(chapter 3 of the book).
"""

import argparse
import hashlib
import itertools
import multiprocessing
import os
import re
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

import c2f_lrp
from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, PGDC, PGDF, Attack
from c2f_lrp.datasets import Images
from c2f_lrp.metrics import NORMS, perceptibilities
from c2f_lrp.provenance import markdown
from c2f_lrp.tables import MEASURES, PAPER_EPS, paper_values

HERE = Path(__file__).parent
PROFILES = {"imagenet-lite": None, "tiny-imagenet": 500}  # photographs tried; None: all
STARTS = (
    dict(init="one_hot", bias="absorb"),
    dict(init="logit", bias="ignore"),
    dict(init="logit", bias="absorb"),
)
LABELS = ("updated", "clean")
STEPS = [("normalized", lr) for lr in (2.5, 10, 40)] + [("gradient", 10.0**n) for n in (2, 3, 4, 5, 6, 7)]
GRID = [
    dict(**start, labels=labels, step_scale=scale, lr=lr)
    for start, labels, (scale, lr) in itertools.product(STARTS, LABELS, STEPS)
]
KS = (40, 10)  # the most steps; largest first
PGD_WAYS = [dict(early_stop=stop, random_start=noise) for stop in (True, False) for noise in (False, True)]
TABLES = {"table_1": (LRPC, PGDC, DFC), "table_2": (LRPF, PGDF, DFF)}
DRAWS = 2000
BATCH = 256  # on a GPU


# ------------------------------------------------------------------------------------------------------------- attack
def attacks(table: str) -> dict[str, Attack]:
    """Every attack of the grid on one table, by a name that says its settings."""
    lrp, pgd, deepfool = TABLES[table]
    made: list[Attack] = [lrp(eps=eps, iterations=KS[0], **how) for how in GRID for eps in PAPER_EPS]
    made += [pgd(**how) for how in PGD_WAYS]
    return {name_of(attack): attack for attack in [*made, deepfool()]}


def name_of(attack: Attack) -> str:
    shown = ["eps", "init", "bias", "labels", "step_scale", "lr", "early_stop"]
    shown += ["random_start"] * isinstance(attack, PGDC | PGDF)
    values = [f"{f.name}={getattr(attack, f.name)}" for f in fields(attack) if f.name in shown]
    return " ".join([type(attack).__name__, *values])


def attacked_at(classifier, images: Images, table: str) -> Images:
    """Those of the images that the attacks of this table are tried on."""
    coarse, fine = classifier.predict(images.pixels)
    right = coarse == images.coarse
    if table == "table_2":
        several = torch.tensor(classifier.hierarchy.n_fine, device=coarse.device)[images.coarse] > 1
        right = right & (fine == images.fine) & several
    return images[right]


def rows(attack: Attack, classifier, images: Images) -> pd.DataFrame:
    """image, K, fooled and the terms of eq. (10), for both K where the attack has the grid's.

    Until an image is fooled, K changes nothing; so those fooled within the smaller K are not attacked again.
    """
    parts, todo = [], images
    known: dict[str, tuple] = {}
    for k in KS if isinstance(attack, LRPC | LRPF) else (attack.iterations,):
        if len(todo):
            size = BATCH if todo.pixels.is_cuda else None
            result = replace(attack, iterations=k)(classifier, todo.pixels, todo.coarse, todo.fine, batch_size=size)
            sizes = [perceptibilities(result.perturbation, todo.pixels, p).tolist() for p in NORMS.values()]
            found = zip(result.fooled.tolist(), result.iterations.tolist(), *sizes, strict=True)
            known |= dict(zip(todo.names, found, strict=True))
        lines = [(name, k, *known[name]) for name in images.names]
        parts.append(pd.DataFrame(lines, columns=["image", "K", "fooled", "iterations", *NORMS]))
        later = [not (known[name][0] and known[name][1] <= KS[-1]) for name in images.names]
        todo = images[torch.tensor(later, device=images.pixels.device)]
    return pd.concat(parts, ignore_index=True)


def attack_one(job: tuple[str, str], images: Images, profile: str, out: Path) -> str:
    """One attack of the grid on all images; its rows to a file, unless they are there."""
    table, name = job
    path = out / profile / f"{hashlib.sha256(f'{table} {name}'.encode()).hexdigest()[:16]}.parquet"
    if not path.exists():
        classifier = loaded(profile, images.pixels.device.type)
        part = attacked_at(classifier, images, table)
        made = rows(attacks(table)[name], classifier, part).assign(profile=profile, table=table, attack=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        made.to_parquet(part_path := path.with_suffix(f".{os.getpid()}.part"), index=False)
        part_path.rename(path)
    return name


LOADED: dict[str, torch.nn.Module] = {}


def loaded(profile: str, device: str):
    if profile not in LOADED:
        LOADED[profile] = c2f_lrp.load_classifier(profile).to(device)
    return LOADED[profile]


def on_device(job: tuple[str, str], images: Images, device: str, **settings) -> str:
    torch.backends.cudnn.allow_tf32 = False  # float32 as on a CPU
    return attack_one(job, images.to(device), **settings)


def attack_all(profile: str, images: Images, out: Path, device: str, jobs: int) -> None:
    """All attacks of the grid; images (N, 3, H, W) float32, on the CPU."""
    todo = [(table, name) for table in TABLES for name in attacks(table)]
    work = partial(on_device, images=images, device=device, profile=profile, out=out)
    if jobs == 1:
        list(map(work, tqdm(todo, desc=profile)))
        return
    torch.set_num_threads(1)
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        list(tqdm(pool.imap_unordered(work, todo), total=len(todo), desc=profile))


# -------------------------------------------------------------------------------------------------------------- judge
def chooses(name: str) -> bool:
    """Whether a photograph is of the half that chooses."""
    return hashlib.sha256(f"half {name}".encode()).digest()[0] % 2 == 0


def read(out: Path) -> pd.DataFrame:
    found = pd.concat([pd.read_parquet(path) for path in sorted(out.glob("*/*.parquet"))], ignore_index=True)
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
        (profile, setting.split(" ", 1)[1] if " " in setting else "", k, half): distance(drawn(values), paper)
        for (profile, setting, k, half), values in values_by_image(chosen, table).items()
    }


def both_tables(found: pd.DataFrame, place: int) -> pd.DataFrame:
    """The distance of each setting: rows (profile, setting, K, half), columns the estimate and DRAWS of it."""
    bounds = tuple(f"{eps:g}" for eps in PAPER_EPS) if place == 0 else ("",)
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
    mean = usable.groupby(["setting", "K"]).chooses.mean()
    best = mean.idxmin()
    verdict = {"candidate": best, "default": default}
    for profile in table.profile.unique():
        reports = halves["reports"].loc[profile]
        less = (reports.loc[best] - reports.loc[default]).to_numpy()
        verdict[profile] = (less[0], *interval(less[1:]))
    verdict["changes"] = best != default and all(verdict[profile][2] < 0 for profile in table.profile.unique())
    return table, verdict


def default_of(kind, place: int) -> tuple[str, int]:
    attack = kind(eps=10) if place == 0 else kind()
    told = name_of(attack).split(" ", 1)[1]
    return " ".join(word for word in told.split() if not word.startswith("eps=")), attack.iterations


def in_numbers(found: pd.DataFrame, profile: str, attack: str, setting: str, k: int, bounds: tuple) -> pd.DataFrame:
    """The paper's numbers and ours on the reporting half, with intervals."""
    table = "table_1" if attack.endswith("C") else "table_2"
    chosen = found[(found.profile == profile) & (found.attack.str.split().str[0] == attack)]
    values = values_by_image(chosen, table)[profile, f"{attack} {setting}".strip(), k, "reports"]
    means, paper = drawn(values), printed(table, attack, bounds)
    lines = []
    for row, bound in enumerate(bounds):
        line = {"attack": f"{attack}{f', ε = {bound}' if bound else ''}", "images": len(values)}
        for column, measure in enumerate(MEASURES):
            i, form = row * len(MEASURES) + column, ".1f" if measure == "fooling_percent" else ".4f"
            low, high = interval(means[1:, i])
            line[measure] = f"{paper[i]:{form}} / {means[0, i]:{form}} [{low:{form}}, {high:{form}}]"
        lines.append(line)
    return pd.DataFrame(lines)


def judge(out: Path) -> None:
    found = read(out)
    text = ["# Which settings print Tables I and II", "", WRITTEN]
    tables = []
    for place, title in ((0, "The LRP attack"), (1, "PGD")):
        default = default_of(TABLES["table_1"][place], place)
        table, verdict = judged(both_tables(found, place), default, "normalized" if place == 0 else "")
        tables.append(table.assign(attack=title))
        text += [f"## {title}", ""]
        for profile in table.profile.unique():
            lines = table[table.profile == profile].reset_index(drop=True)
            place_of_default = lines.index[(lines.setting == default[0]) & (lines.K == default[1])][0]
            shown = lines.iloc[sorted({*range(min(8, len(lines))), place_of_default})]
            text += [f"### {profile}, {len(lines)} settings", "", settings_table(shown), ""]
            setting, k = lines.setting[0], lines.K[0]
            attacks_ = [kinds[place].__name__ for kinds in TABLES.values()]
            bounds = tuple(f"{eps:g}" for eps in PAPER_EPS) if place == 0 else ("",)
            numbers = pd.concat([in_numbers(found, profile, name, setting, k, bounds) for name in attacks_])
            text += [
                "The nearest, on the half that reports (paper / ours [95 % interval]):",
                "",
                numbers_table(numbers),
                "",
            ]
        text += [rule_in_words(verdict, table.profile.unique()), ""]
    text += ["## DeepFool", "", "It depends on the network alone.", ""]
    for profile in found.profile.unique():
        numbers = pd.concat(
            [
                in_numbers(found, profile, kinds[2].__name__, "", kinds[2]().iterations, ("",))
                for kinds in TABLES.values()
            ]
        )
        text += [f"### {profile}", "", numbers_table(numbers), ""]
    pd.concat(tables).to_csv(HERE / "search.csv", index=False, float_format="%.4f", lineterminator="\n")
    (HERE / "search.md").write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")


WRITTEN = """Written by `python -m tests.benchmarks.search judge`. The grid, the distance and the rules stand at the top
of that program; they were committed before the search was run. A distance is the mean over the printed numbers of
|ln(ours / paper's)| for a ρ and of points / 100 for a fooling ratio: 0.1 is about ten per cent a number. One half of
the photographs chooses the setting, the other half reports it.
"""


def settings_table(lines: pd.DataFrame) -> str:
    shown = lines.assign(
        rank=lines.index + 1,
        **{
            "distance, choosing half": lines.chooses.map("{:.3f}".format),
            "distance, reporting half": [
                f"{row.reports:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in lines.itertuples()
            ],
        },
    )
    columns = ["rank", "setting", "K", "distance, choosing half", "distance, reporting half"]
    return markdown(shown[columns].set_index("rank"))


def numbers_table(numbers: pd.DataFrame) -> str:
    names = {"rho_2": "ρ²", "rho_1": "ρ¹", "rho_inf": "ρ^∞", "fooling_percent": "fooling %"}
    return markdown(numbers.rename(columns=names).set_index("attack"))


def rule_in_words(verdict: dict, profiles) -> str:
    best, default = (f"`{setting}`, K = {k}" for setting, k in (verdict["candidate"], verdict["default"]))
    if verdict["candidate"] == verdict["default"]:
        return f"**The rule for the default**: the candidate is today's default, {default}, which stays."
    told = "; ".join("{}: {:+.3f} [{:+.3f}, {:+.3f}]".format(name, *verdict[name]) for name in profiles)
    outcome = "It becomes the default." if verdict["changes"] else "The default stays."
    return (
        f"**The rule for the default**: the candidate is {best}; today's default is {default}. The candidate's "
        f"distance less the default's, on the half that reports: {told}. {outcome}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["attack", "judge"])
    parser.add_argument("--profile", choices=list(PROFILES), default="imagenet-lite")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("search"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.what == "judge":
        judge(options.out)
        return
    images = c2f_lrp.load_images(options.profile, limit=PROFILES[options.profile], root=options.root)
    attack_all(options.profile, images, options.out, options.device, options.jobs)


if __name__ == "__main__":
    main()
