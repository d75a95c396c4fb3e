"""What chapters 5 to 11 conclude in prose stands in the tables and outputs that they stored."""

import json

import nbformat
import pandas as pd
import pytest

from c2f_lrp import paths, report, tables

FIGURES = paths.REPOSITORY / "figures" / "scenes"
ONE_HOT, LOGIT = tables.READINGS


@pytest.fixture(autouse=True)
def stored(monkeypatch):
    monkeypatch.delenv("C2F_LRP_FIGURES")  # what the notebooks' tests write


def outputs(name: str) -> str:
    """All that a chapter's stored outputs say in words."""
    (path,) = paths.NOTEBOOKS.glob(f"*_{name}.ipynb")
    cells = nbformat.read(path, 4).cells
    found = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.get("data", {}).get("text/markdown", "") for output in found)


def table(name: str) -> pd.DataFrame:
    keys = ["attack", "reading", "eps", "measure"]
    return pd.read_csv(FIGURES / f"{name}.csv", dtype={"eps": str}, keep_default_na=False).set_index(keys).sort_index()


def over(values: pd.DataFrame, attack: str, reading: str, measure: str) -> pd.Series:
    """Ours less the paper's at each eps."""
    lines = values.loc[(attack, reading, slice(None), measure)].astype({"ours": float, "paper": float})
    return (lines.ours - lines.paper).set_axis(lines.index.get_level_values("eps"))


def test_chapter_5_both_totals_fall():
    said = outputs("figure_1")
    assert said.count("which is not the paper's picture") == 3 and said.count(" falls from ") == 6


def test_chapter_6_one_reading_fools_no_owl_and_the_other_all():
    said = outputs("figure_2")
    assert "label *owl*, runner-up *duck*" in said
    assert f"{ONE_HOT}: 0 by LRPF, ε = 10; 0 by LRPF, ε = 40." in said
    assert f"{LOGIT}: 16 by LRPF, ε = 10; 16 by LRPF, ε = 40." in said and "Of 16 images" in said
    assert said.count("bird / toucan") == 2 and "reptile / snake (LRPF, ε = 40, not fooled)" in said
    assert "cosine of -1.0000" in said


def test_chapter_7_one_reading_fools_fewer_and_the_other_more():
    values = table("table_1")
    assert (over(values, "LRPC", ONE_HOT, "fooling_percent") < -5).all()
    more = over(values, "LRPC", LOGIT, "fooling_percent")
    assert set(more[more > 5].index) == {"10", "20"} and (over(values, "LRPC", LOGIT, "rho_2") < 0).all()
    deepfool, pgd = values.loc[("DFC", "", "", "rho_2")], values.loc[("PGDC", "", "", "fooling_percent")]
    assert float(deepfool.ours) > 3 * float(deepfool.paper) and float(pgd.ours) < float(pgd.paper) - 50


def test_chapter_8_one_reading_fools_less_than_half_and_the_other_what_the_paper_does():
    values = table("table_2")
    assert (values.loc[("LRPF", ONE_HOT, slice(None), "fooling_percent")].ours.astype(float) < 50).all()
    assert (over(values, "LRPF", LOGIT, "fooling_percent").abs() <= tables.SAME_FOOLING_POINTS).all()
    deepfool, pgd = values.loc[("DFF", "", "", "rho_2")], values.loc[("PGDF", "", "", "fooling_percent")]
    assert float(deepfool.ours) > 10 * float(deepfool.paper) and float(pgd.ours) < 3
    stayed = pd.read_csv(FIGURES / "table_2_outcomes.csv", index_col=0)
    assert (stayed["neither label"] + stayed["fine label only"]).min() < 90


def test_chapter_9_the_tables_disagree_and_the_sign_predicts_nothing_yet():
    distances = pd.read_csv(FIGURES / "loss_distances.csv").set_index("table")
    nearest = distances.sort_values("distance").groupby("table").reading.first()
    assert nearest.to_dict() == {"table_1": ONE_HOT, "table_2": LOGIT} and distances.distance.min() > 2
    predicts = pd.read_csv(FIGURES / "loss_directions.csv").dropna()
    assert len(predicts) == 3 and (predicts["fooled, with"] > predicts["fooled, against"]).all()
    assert (predicts.p_holm > 0.05).all()
    grid = pd.read_csv(FIGURES / "loss_grid.csv")
    logit = grid.reading.str.startswith("logit")
    printed = grid[(grid.step == "gradient") & ~logit].iloc[0]
    assert printed.bound > 3 and (grid.deepfool > 1.5).all()  # steps as printed hardly move a pixel
    for few in (grid, grid[logit], grid[(grid.step == "gradient") & ~logit]):
        parts = few.iloc[0][["order", "bound", "flat", "deepfool", "pgd", "fooling"]].astype(float)
        assert parts.idxmax() == "deepfool"


@pytest.mark.parametrize("name", report.TABLES)
def test_chapter_11_one_reading_fools_fewer_on_every_network(name):
    profiles = report.find(name)
    assert len(profiles) >= 3
    for profile, path in profiles.items():
        values = pd.read_csv(path, dtype={"eps": str}, keep_default_na=False)
        values = values.set_index(["attack", "reading", "eps", "measure"]).sort_index()
        own, deepfool = ("LRPC", "DFC") if name == "table_1" else ("LRPF", "DFF")
        assert (over(values, own, ONE_HOT, "fooling_percent") < -5).all(), profile
        assert (over(values, own, LOGIT, "fooling_percent") > -5).all(), profile
        needs = values.loc[(deepfool, "", "", "rho_2")]
        assert (float(needs.ours) > float(needs.paper)) == (profile != "imagenet-lite"), profile
        if name == "table_1":
            assert (over(values, own, LOGIT, "rho_2") < 0).all(), profile


def test_tiny_imagenets_page_says_what_moves():
    page = (paths.REPOSITORY / "notebooks/book/reference/results_tiny-imagenet.md").read_text(encoding="utf-8")
    claims = pd.read_csv(paths.REPOSITORY / "figures/tiny-imagenet/explainability_claims.csv", keep_default_na=False)
    moves = claims[claims.claim == "attention moves"]
    shown = moves[moves.verdict != "not shown"]
    assert set(zip(shown.half, shown.measure, shown.verdict, strict=True)) == {("away", "heatmap", "supported")}
    assert set(zip(shown.attack, shown.reading, strict=True)) == {("LRPC", LOGIT), ("MarginC", "")}
    assert "one part is supported" in page and "by 1.6 to 1.7 points" in page
    assert {round(-100 * mean, 1) for mean in shown["mean"]} == {1.6, 1.7}


def test_what_moves_at_224_pixels_is_what_chapter_10_and_its_page_say():
    page = (paths.REPOSITORY / "notebooks/book/reference/results_imagenet-lite.md").read_text(encoding="utf-8")
    chapter = (paths.REPOSITORY / "notebooks/10_explainability_measured.ipynb").read_text(encoding="utf-8")
    lines = pd.read_csv(paths.REPOSITORY / "figures/imagenet-lite/explainability_claims.csv", keep_default_na=False)
    judged = lines[lines.images == 110]
    assert set(lines.images) == {45, 110} and set(lines[lines.images == 45].verdict) == {"too few"}
    supported = judged[judged.verdict == "supported"]
    moves = supported[supported.claim == "attention moves"]
    assert set(zip(moves.half, moves.measure, strict=True)) == {("away", "heatmap, less a third label's")}
    points = {name: {round(-100 * x) for x in some["mean"]} for name, some in moves.groupby(["attack", "reading"])}
    assert points == {("LRPC", ONE_HOT): {14}, ("LRPC", LOGIT): {5}, ("MarginC", ""): {4}, ("DFC", ""): {3}}
    assert "14 points from the one-hot start, 5 from the logit, 4 under the margin attack and\n3 under DeepFool" in page
    assert (
        "by 14 points from the one-hot start and by 5 from the logit. Under DeepFool and the margin attack" in chapter
    )
    assert "by 3 and 4 points. That it comes to the sought label's parts is not shown there either" in chapter
    more = supported[supported.claim == "more than DeepFool"]
    assert set(more.reading) == {ONE_HOT} and {round(-100 * x) for x in more["mean"]} == {11} and "by 11 points" in page
    dense = supported[(supported.claim == "concentrated") & (supported.measure == "on the most relevant tenth")]
    assert set(dense.reading) == {ONE_HOT} and len(dense) == 3
    sizes = judged[judged.claim == "comparable size"].groupby("measure").verdict.agg(set)
    assert sizes["rho_1 against PGD"] == {"supported"} and sizes["rho_inf against PGD"] == {"the reverse"}


def test_what_forty_steps_do_at_224_pixels():
    figures = paths.REPOSITORY / "figures/imagenet-lite"
    page = (paths.REPOSITORY / "notebooks/book/reference/results_imagenet-lite.md").read_text(encoding="utf-8")
    page = " ".join(page.split())
    told = {}
    for table, attack in (("table_1", "LRPC"), ("table_2", "LRPF")):
        assert json.loads((figures / f"{table}.json").read_text(encoding="utf-8"))["parameters"]["iterations"] == 40
        summary = pd.read_csv(figures / f"{table}_summary.csv", keep_default_na=False).query(f"attack == '{attack}'")
        for reading, some in summary.groupby("reading"):
            told[attack, reading] = (
                f"{some.fooling_percent.min():.0f} to {some.fooling_percent.max():.0f} %",
                f"{some.rho_2.min():.4f} to {some.rho_2.max():.4f}",
            )
    assert f"From the one-hot start LRPC fools {told['LRPC', ONE_HOT][0]} of 160 photographs" in page
    assert told["LRPC", LOGIT][0] == "100 to 100 %" and "at first), from the logit all." in page
    fooled, size = told["LRPF", ONE_HOT]
    assert f"LRPF fools {fooled} of 160 from the one-hot start, with a ρ² of {size};" in page
    paper = tables.paper_values("table_2").query("attack == 'LRPF'").set_index("measure").value.astype(float)
    low, high = ([fun(paper[measure]) for measure in ("fooling_percent", "rho_2")] for fun in (min, max))
    assert f"the paper's {low[0]:.1f} to {high[0]:.0f} % and {low[1]:.4f} to {high[1]:.4f}" in page
