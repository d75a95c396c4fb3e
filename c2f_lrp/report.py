"""The paper's Section IV side by side: its tables and ours on scenes and photographs, from reproduce's csv files.

`python -m c2f_lrp.report` writes the short table of the README anew.
"""

import json
import re
from pathlib import Path

import pandas as pd

from c2f_lrp.checkpoints import checkpoints_table, read_checkpoints
from c2f_lrp.files import atomic_write
from c2f_lrp.paths import REPOSITORY, figures_folder, manifest_path
from c2f_lrp.profiles import PROFILES, get_profile
from c2f_lrp.provenance import markdown
from c2f_lrp.tables import MEASURE_NAMES, MEASURES, READINGS, SAME_FOOLING_POINTS, SAME_RHO_FACTOR, paper_values

TABLES = {"table_1": "Table I: coarse level", "table_2": "Table II: fine level"}
RESULTS = re.compile(r"(<!-- results: [^>]*-->\n).*?(<!-- end of results -->)", re.DOTALL)  # in the README
DIFFERENCES = f"""
**Near** means here: ρ within a factor {SAME_RHO_FACTOR} of the paper's, fooling within {SAME_FOOLING_POINTS} points.

**Readings.** With eqs. (3)-(5) as printed and p = 1 the loss of eq. (7) is zero for every image in a network like the
paper's VGG-16 (notebook 03), so its numbers come from some other reading, which it does not print. Ours stand in two:
{"; ".join(READINGS)}.

**Networks and resolution.** The first table says what was attacked. Networks at 64×64 have VGG-16's layout at a
fraction of its width; imagenet-lite is one flat ImageNet network at 224×224 whose classes are grouped. Other networks
have other margins: DeepFool, which depends on little else, shows how far.

**Settings.** The paper prints neither step size nor number of iterations, nor any setting of its rivals. PGD's bound is
the one that the paper's ρ^∞ implies. What differs from our defaults, which the page on choices lists, is in the sidecar
beside each table.

**Counting.** Images that are misclassified beforehand are not averaged over here. Algorithm 1 as printed attacks them
too, and counts what it finds after its first step; the summaries beside each table have those numbers as well.
"""


def find(name: str, out: str | Path | None = None) -> dict[str, Path]:
    """{profile: path} of NAME.csv, of all profiles that have one: where this run writes, else in the usual folder."""
    found = {}
    for profile in PROFILES:
        for folder in (figures_folder(out), figures_folder(None)):
            if (path := folder / profile / f"{name}.csv").is_file():
                found.setdefault(profile, path)
    return found


def beside(table: str, out: str | Path | None = None) -> pd.DataFrame:
    """The values of a table: a row for each measure and source (the paper, each profile in each reading), a column for
    each attack and eps; nan where a source has none.
    """
    lines = {}
    printed = paper_values(table).set_index("measure")
    for profile, path in ({"paper": None} | find(table, out)).items():
        if path is None:
            sources = {"paper": printed}
        else:
            ours = pd.read_csv(path, dtype={"eps": str}, keep_default_na=False).set_index("measure")
            ours = ours.assign(value=ours.ours.astype(float))
            sources = {f"{profile}, {reading}": ours[ours.reading.isin(["", reading])] for reading in READINGS}
        for source, values in sources.items():
            for measure, row in values.iterrows():
                lines.setdefault((measure, source), {})[f"{row.attack} {row.eps}".strip()] = row.value
    order = [key for measure in MEASURES for key in lines if key[0] == measure]
    index = pd.MultiIndex.from_tuples(order, names=["measure", "source"])
    return pd.DataFrame([lines[key] for key in order], index=index)


def shown(values: pd.DataFrame) -> pd.DataFrame:
    """`beside` as the paper prints it: four digits of rho, one of a percentage, and the measures by their symbols."""

    def words(row: pd.Series) -> list[str]:
        form = ".1f" if row.name[0] == "fooling_percent" else ".4f"
        return ["–" if pd.isna(value) else format(value, form) for value in row]

    told = pd.DataFrame([words(row) for _, row in values.iterrows()], values.index, values.columns)
    return told.rename(index=MEASURE_NAMES, level="measure")


def claims_beside(table: str, out: str | Path | None = None) -> pd.DataFrame:
    """Which shapes of a table hold in the paper and in each profile and reading: True or False, nan for unknown."""
    columns = {}
    for profile, path in find(f"{table}_claims", out).items():
        for name, column in pd.read_csv(path, index_col="claim").items():
            columns["paper" if name == "paper" else f"{profile}, {name}"] = column
    return pd.DataFrame(columns)


def classifiers() -> pd.DataFrame:
    """What was attacked: one line for the paper and each profile whose networks are here."""
    paper = paper_values("classifiers").set_index("measure").value
    low, high = (f"{paper[f'fine_accuracy_percent_{end}']:.0f}" for end in ("min", "max"))
    line = ("photographs of ILSVRC2012", "–", 8, 393, "VGG-16", f"{paper.coarse_accuracy_percent:.0f}", f"{low}–{high}")
    lines = {"paper": line}
    for name, profile in PROFILES.items():
        # --weights names a folder of one profile; the others' are where they always are.
        tables = [checkpoints_table(profile), manifest_path("checkpoints.csv")]
        rows = next((rows for table in tables if (rows := read_checkpoints(table, name))), None)
        if rows is None:
            continue
        hierarchy, scores = profile.hierarchy(), {row["network"]: 100 * float(row["accuracy"]) for row in rows}
        coarse, fine = scores.pop("coarse", None), scores.values()
        lines[name] = (
            profile.description,
            f"{profile.image_size}×{profile.image_size}",
            hierarchy.n_coarse,
            sum(hierarchy.n_fine),
            profile.architecture,
            "–" if coarse is None else f"{coarse:.1f}",
            "–" if coarse is None else f"{min(fine):.1f}–{max(fine):.1f}",
        )
    columns = ["images", "size", "coarse classes", "fine classes", "networks", "coarse accuracy %", "fine accuracy %"]
    return pd.DataFrame.from_dict(lines, "index", columns=columns)


def in_words(table: str, out: str | Path | None = None) -> list[str]:
    """A sentence for each profile and reading, and one for each profile without this table."""
    sentences = []
    for profile, path in find(table, out).items():
        values = pd.read_csv(path, dtype={"eps": str}, keep_default_na=False)
        told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["parameters"]
        summary = pd.read_csv(path.with_name(f"{table}_summary.csv"))
        for reading in READINGS:
            mine = values[values.reading == reading]
            sentences.append(
                f"{profile}, {reading}: {(mine.verdict == 'close').sum()} of {len(mine)} numbers of "
                f"{mine.attack.iloc[0]} are near the paper's; at most {told['iterations']} steps of {told['lr']:g} on "
                f"{summary.attacked.min()} of {summary.images.min()} images."
            )
        rival = values[values.attack.str.startswith("DF") & (values.measure == "rho_2")].iloc[0]
        ratio = float(rival.ours) / float(rival.paper)
        sentences.append(f"{profile}: {rival.attack} needs {ratio:.1f} times the paper's ρ².")
    for profile in (name for name, settings in PROFILES.items() if settings.manifest):
        if profile not in find(table, out):
            root = " --root DIR" if get_profile(profile).needs_root else ""
            title = TABLES[table].partition(":")[0]
            sentences.append(f"{profile}: no {title} yet; `c2f-lrp reproduce --profile {profile}{root}` makes it.")
    return sentences


def page(out: str | Path | None = None) -> str:
    """All of it as one Markdown page."""
    parts = ["# Section IV, side by side", "## What was attacked", markdown(classifiers())]
    for table, title in TABLES.items():
        parts += [f"## {title}", markdown(shown(beside(table, out))), bullets(in_words(table, out))]
        if not (shapes := claims_beside(table, out)).empty:
            parts += ["Whether the table has the paper's shape:", markdown(shapes)]
    return "\n\n".join(part.strip() for part in [*parts, "## Why the numbers differ", DIFFERENCES]) + "\n"


def bullets(sentences: list[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def sources(out: str | Path | None = None) -> dict[str, Path]:
    """{profile/file: path} of every csv that the page is made of."""
    names = [f"{table}{part}" for table in TABLES for part in ("", "_claims", "_summary")]
    return {f"{profile}/{path.name}": path for name in names for profile, path in find(name, out).items()}


# ------------------------------------------------------------------------------------------------------------- README
def readme_table(out: str | Path | None = None) -> str:
    """Tables I and II in short, as Markdown: of each attack the fooling ratio in percent and, in brackets, rho^2.

    A line for each attack, bound and reading; a column for the paper and for each profile that has a table in `out` or
    in the usual folder; a dash where a source has no such attack.
    """
    lines: dict[str, dict[str, str]] = {}
    for table in TABLES:
        values = shown(beside(table, out))
        fooling, rho = (values.loc[MEASURE_NAMES[measure]] for measure in ("fooling_percent", "rho_2"))
        for attack in values.columns:
            name, _, eps = attack.partition(" ")
            for reading in READINGS if eps else [next(iter(READINGS))]:  # the rivals are the same in all readings
                line = lines.setdefault(f"{name} ε={eps}, {reading.split()[0]}" if eps else name, {})
                for source in fooling.index:
                    profile, _, read = source.partition(", ")
                    if read in ("", reading):
                        line[profile] = f"{fooling[attack][source]} ({rho[attack][source]})".replace("– (–)", "–")
    columns = list(dict.fromkeys(column for line in lines.values() for column in line))
    cells = [["", *columns], [":--", *("--:" for _ in columns)]]
    cells += [[name, *(line.get(column, "–") for column in columns)] for name, line in lines.items()]
    return "\n".join(f"|{'|'.join(row)}|" for row in cells)


def write_readme(readme: Path, out: str | Path | None = None) -> None:
    """Put `readme_table` between the two marks of a README. ValueError where these are missing."""
    table, text = readme_table(out), readme.read_text(encoding="utf-8")
    text, found = RESULTS.subn(lambda marks: f"{marks[1]}\n{table}\n\n{marks[2]}", text)
    if found != 1:
        marks = "<!-- results: ... --> <!-- end of results -->"
        raise ValueError(f"{readme} has {found} places for results; mark one: {marks}")
    with atomic_write(readme) as part:
        part.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_readme(REPOSITORY / "README.md", REPOSITORY / "figures")
