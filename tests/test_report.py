"""The report: every number from the csv files, and a word for what is missing."""

import json

import pandas as pd
import pytest

from c2f_lrp import provenance, report, tables
from c2f_lrp.profiles import PROFILES


@pytest.fixture
def out(tmp_path, monkeypatch):
    """Table I of scenes with made-up numbers, as notebook 07 leaves it; no other profile has one."""
    monkeypatch.setenv("C2F_LRP_FIGURES", str(tmp_path))
    names = list(tables.table_attacks("coarse", [10, 20]))
    columns = ["rho_2", "rho_1", "rho_inf", "fooling_percent"]
    values = [[0.03 + 0.001 * k, 0.02, 0.04 + 0.01 * k, 80.0 + k] for k in range(len(names))]
    index = pd.Index([setting.label for setting in names], name="setting")
    told = pd.DataFrame(names, index)  # attack, reading and eps
    summary = told.join(pd.DataFrame(values, index, columns)).assign(images=40, attacked=30)
    for column in columns:  # intervals
        summary[f"{column}_low"], summary[f"{column}_high"] = summary[column] * 0.9, summary[column] * 1.1
    comparison = tables.compare(summary, "table_1")
    parameters = dict(lr=10.0, iterations=40)
    provenance.save_table(summary, "table_1_summary", "scenes", parameters, tmp_path)
    provenance.save_table(tables.shape_claims(comparison), "table_1_claims", "scenes", parameters, tmp_path)
    provenance.save_table(comparison, "table_1", "scenes", parameters, tmp_path)
    return tmp_path


def test_the_papers_numbers_and_ours_stand_side_by_side(out):
    values = report.beside("table_1", out)
    paper = tables.paper_values("table_1").set_index(["measure", "attack", "eps"]).value
    for (measure, attack, eps), printed in paper.items():
        assert values.loc[(measure, "paper"), f"{attack} {eps}".strip()] == printed
    first, second = (f"scenes, {reading}" for reading in tables.READINGS)
    for source, ours in ((first, [0.03, 0.031]), (second, [0.032, 0.033])):
        expected = [*ours, float("nan"), 0.034, 0.035]
        assert values.loc[("rho_2", source)].tolist() == pytest.approx(expected, nan_ok=True)
    assert list(values.columns) == ["LRPC 10", "LRPC 20", "LRPC 40", "DFC", "PGDC"]
    assert report.shown(values).loc[("fooling %", first)].tolist() == ["80.0", "81.0", "–", "84.0", "85.0"]
    comparison = pd.read_csv(out / "scenes" / "table_1.csv")
    near = (comparison[comparison.reading == list(tables.READINGS)[0]].verdict == "close").sum()
    assert f"{near} of 8 numbers of LRPC are near" in report.in_words("table_1", out)[0]


def test_other_profiles_weights_are_found_beside_those_that_were_named(tmp_path, monkeypatch):
    usual = report.classifiers()
    assert {"paper", "scenes", "tiny-imagenet"} <= set(usual.index)
    monkeypatch.setenv("C2F_LRP_WEIGHTS", str(tmp_path))
    pd.testing.assert_frame_equal(report.classifiers().iloc[:3], usual.iloc[:3])


def test_what_is_missing_is_said(out):
    words = report.bullets(report.in_words("table_1", out))
    assert "- tiny-imagenet: no Table I yet; `c2f-lrp reproduce --profile tiny-imagenet --root DIR` makes it." in words
    assert "scenes: no Table I" not in words and "at most 40 steps of 10 on 30 of 40 images" in words
    of_the_paper = [profile for profile in PROFILES.values() if profile.manifest]  # not a folder of one's own
    assert len(report.in_words("table_2", out)) == len(of_the_paper) and report.claims_beside("table_2", out).empty
    assert list(report.beside("table_2", out).index.get_level_values("source").unique()) == ["paper"]
    text = report.page(out)
    assert text.count("\n## ") == 4 and "| paper" in text and "nan" not in text


def test_a_page_whose_tables_changed_is_stale(out):
    provenance.save_page(report.page(out), "report", "scenes", {}, report.sources(out), out)
    told = json.loads((out / "scenes" / "report.json").read_text())
    assert set(told["sources"]) == {f"scenes/table_1{part}.csv" for part in ("", "_claims", "_summary")}
    assert provenance.verify(out / "scenes") == []
    provenance.save_table(pd.DataFrame({"a": [1]}), "table_1_claims", "scenes", {}, out)
    assert provenance.verify(out / "scenes") == ["report: stale, made from another scenes/table_1_claims.csv"]
