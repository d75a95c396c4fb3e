"""What the page on the search of settings says is what its table shows."""

import math
from pathlib import Path

import pandas as pd
import pytest

from c2f_lrp.attacks import PGDC, PGDF
from c2f_lrp.profiles import get_profile

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "notebooks/book/reference/search.md").read_text(encoding="utf-8")
FOUND = (ROOT / "tests/benchmarks/search.md").read_text(encoding="utf-8")
TABLE = pd.read_csv(ROOT / "tests/benchmarks/search.csv")
FINAL = TABLE[TABLE.stage == "final"]


NUMBERS = ("rho_2", "rho_1", "rho_inf", "fooling")


def nearest_cells(profile: str, row: str = "LRP") -> dict[str, list[tuple[float, float]]]:
    """(paper, ours) for the four numbers of each row of the table of a nearest setting."""
    title = f"### {'PGD' if row == 'PGDC' else 'The LRP attack'}: {profile}\n"
    part = FOUND.partition(title)[2].partition("\n### ")[0].partition("The nearest, on the half that reports")[2]
    cells = (line.strip("|").split("|") for line in part.splitlines() if line.startswith(f"| {row}"))
    pairs = {name.strip(): [each.split("[")[0].split("/") for each in numbers] for name, _, *numbers in cells}
    return {name: [(float(paper), float(ours)) for paper, ours in row] for name, row in pairs.items()}


def nearest(attack: str, profile: str, stage: str = "final", words: str = "") -> pd.Series:
    lines = TABLE[(TABLE.attack == attack) & (TABLE.profile == profile) & (TABLE.stage == stage)]
    return lines[lines.setting.str.contains(words)].sort_values("chooses").iloc[0]


def test_the_nearest_on_the_imagenet_network():
    best = nearest("LRP", "imagenet-lite")
    assert best.setting.startswith("init=logit bias=ignore lr=40 step_scale=normalized")
    assert '`init="logit"`, `lr=40`, normalized' in TEXT and "off by a fifth" in TEXT
    assert 1.15 < math.exp(best.reports) < 1.25
    far = {
        (name, column)
        for name, cells in nearest_cells("imagenet-lite").items()
        for column, (paper, ours) in zip(NUMBERS, cells, strict=True)
        if (abs(ours - paper) > 5 if column == "fooling" else max(ours / paper, paper / ours) > 1.5)
    }
    assert far == {
        ("LRPC, ε = 10", "fooling"),
        ("LRPC, ε = 20", "fooling"),
        ("LRPF, ε = 10", "rho_inf"),
        ("LRPF, ε = 40", "rho_inf"),
        ("LRPF, ε = 40", "rho_1"),
    }
    fooling = [nearest_cells("imagenet-lite")[f"LRPC, ε = {eps}"][3] for eps in (10, 20)]
    assert fooling == [(87.1, 100.0), (92.5, 100.0)]
    assert "Five of 24" in TEXT and "LRPC fools 100 % at ε = 10 and 20, where\n  the paper has 87.1 and 92.5 %" in TEXT


def test_so_sparse_a_perturbation_needs_a_larger_image():
    rows = {profile: nearest_cells(profile)["LRPC, ε = 40"] for profile in ("imagenet-lite", "tiny-imagenet")}
    (_, paper_1, paper_inf, _) = (paper for paper, _ in rows["imagenet-lite"])
    ours = [row[1][1] / row[2][1] for row in rows.values()]
    assert f"at ε = 40 is {paper_1 / paper_inf:.2f}" in TEXT.replace("\n ", "")
    assert f"has {ours[0]:.2f} at 224×224 and {ours[1]:.2f} at 64×64" in TEXT


def test_no_setting_serves_both_and_the_default_stays():
    assert " lr=10 " in nearest("LRP", "tiny-imagenet").setting and "(`lr=10`), so no setting serves both" in TEXT
    assert "The default stays." in FOUND and "the default\n  of LRPC and LRPF stays" in TEXT


@pytest.mark.parametrize("stage", ["first", "final"])
@pytest.mark.parametrize(("profile", "lr"), [("imagenet-lite", "lr=100000.0"), ("tiny-imagenet", "lr=10000.0")])
def test_raw_gradients_come_less_near(profile, lr, stage):
    assert "10⁵ is nearest in the one, 10⁴ in the other" in TEXT
    assert "less near than the nearest normalized step" in TEXT
    assert lr in nearest("LRP", profile, stage, "gradient").setting
    raw, normalized = (nearest("LRP", profile, stage, words).chooses for words in ("gradient", "normalized"))
    assert raw > normalized


def test_labels_and_steps_hardly_matter_from_the_logit():
    assert "hardly matters from the logit" in TEXT
    lines = FINAL[FINAL.setting.str.contains("init=logit")]
    kind = lines.setting.str.replace(r"labels=\S+", "", regex=True)
    spread = lines.groupby([lines.profile, kind]).chooses.agg(lambda values: values.max() - values.min())
    assert spread.max() < 0.05


def test_pgd_takes_all_its_steps():
    assert "`early_stop=False` became PGD's default" in TEXT.replace("\n ", "") and "It becomes the default." in FOUND
    for profile in ("imagenet-lite", "tiny-imagenet"):
        assert "early_stop=False" in nearest("PGD", profile).setting
    assert not PGDC().early_stop and not PGDF().early_stop
    # The paper's rho_1 stands for its rho_2: the two are probably interchanged.
    (_, ours_2), (paper_1, _), (paper_inf, ours_inf), _ = nearest_cells("imagenet-lite", "PGDC")["PGDC"]
    assert f"is\n  {ours_2 / ours_inf:.1f} on the ImageNet network, and {paper_1 / paper_inf:.1f} in the paper" in TEXT


def test_a_step_of_twice_the_bound_fills_it_and_fools_fewer():
    table = pd.read_csv(ROOT / "tests/benchmarks/choices.csv").query("attack == 'PGDC'").set_index("changed")
    usual, large = table.loc["(the default)"], table.loc["step_size=5"]
    assert large["fooling %"] < usual["fooling %"] and large.rho_2 / large.rho_inf > 2 > usual.rho_2 / usual.rho_inf


def test_an_earlier_look_is_answered():
    raw, best = (nearest("LRP", "tiny-imagenet", words=words).reports for words in ("gradient", "normalized"))
    assert f"these are at {raw:.2f} on the half that reports, and the nearest\nsetting at {best:.2f}" in TEXT


def test_on_the_imagenet_network_the_default_needs_its_forty_steps():
    page = (ROOT / "notebooks/book/reference/results_imagenet-lite.md").read_text(encoding="utf-8")
    assert "[the search](search.md) shows how much farther from the paper ten of them end" in " ".join(page.split())
    lines = FINAL[(FINAL.profile == "imagenet-lite") & FINAL.setting.str.contains("one_hot.* lr=10 .*updated")]
    distance = lines.set_index("K").reports
    assert distance[40] < 0.6 * distance[10]


def test_what_label_smoothing_and_cutmix_do():
    lines = pd.read_csv(ROOT / "tests/benchmarks/smoothing.csv")
    told = (ROOT / "tests/benchmarks/smoothing.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in told.splitlines() if line.startswith("| ")
    ]
    apart = {
        name: [float(number) for number in rest]
        for name, *rest in rows
        if name in ("label smoothing", "CutMix") and len(rest) == 5
    }
    assert apart["label smoothing"][2:] == [6.6, 2.6, 10.6]
    assert "6.6 points *more* (95 % interval 2.6 to\n  10.6)" in TEXT
    assert apart["CutMix"][2:] == [-3.6, -8.0, 0.7]
    assert "with CutMix 3.6 fewer, which may be chance (−8.0 to 0.7)" in TEXT
    assert told.count("by this rule, does not make PGD's work harder") == 2 and set(lines.seed) == {0}
    right, fooled = (f"{lines[name].min():.0f} to {lines[name].max():.0f} %" for name in ("right %", "PGDC 2.53 %"))
    assert f"right on {right}, are fooled by PGD on {fooled}" in TEXT
    ours = pd.read_csv(ROOT / "data_manifests/checkpoints.csv").query(
        "profile == 'tiny-imagenet' and network == 'coarse'"
    )
    table = pd.read_csv(ROOT / "figures/tiny-imagenet/table_1.csv", keep_default_na=False)
    fools = table[(table.attack == "PGDC") & (table.measure == "fooling_percent")].ours.item()
    assert f"is right on {100 * ours.iloc[0].accuracy:.0f} % and fooled on {float(fools):.0f} %" in TEXT
    own = get_profile("tiny-imagenet")
    epochs = own.coarse_feature_epochs + own.coarse_epochs + own.finish_epochs
    assert own.coarse_width == 2 * 12 and f"twice as wide and trained for {epochs} epochs" in TEXT
