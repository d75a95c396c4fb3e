"""What the page on the search of settings says is what its table shows."""

import math
from pathlib import Path

import pandas as pd
import pytest

from c2f_lrp.attacks import PGDC, PGDF

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "notebooks/book/reference/search.md").read_text(encoding="utf-8")
FOUND = (ROOT / "tests/benchmarks/search.md").read_text(encoding="utf-8")
TABLE = pd.read_csv(ROOT / "tests/benchmarks/search.csv")
FINAL = TABLE[TABLE.stage == "final"]


def nearest(attack: str, profile: str, stage: str = "final", words: str = "") -> pd.Series:
    lines = TABLE[(TABLE.attack == attack) & (TABLE.profile == profile) & (TABLE.stage == stage)]
    return lines[lines.setting.str.contains(words)].sort_values("chooses").iloc[0]


def test_the_nearest_on_the_imagenet_network():
    best = nearest("LRP", "imagenet-lite")
    assert best.setting.startswith("init=logit bias=ignore lr=40 step_scale=normalized")
    assert '`init="logit"`, `lr=40`, normalized' in TEXT and "off by a fifth" in TEXT
    assert 1.15 < math.exp(best.reports) < 1.25
    line = next(line for line in FOUND.splitlines() if line.startswith("| LRPC, ε = 10 "))
    assert "87.1 / 100.0 " in line and "100 % where the paper has 87.1 %" in TEXT


def test_no_setting_serves_both_and_the_default_stays():
    assert " lr=10 " in nearest("LRP", "tiny-imagenet").setting and "(`lr=10`), so no setting serves both" in TEXT
    assert "The default stays." in FOUND and "the default\n  of LRPC and LRPF stays" in TEXT


@pytest.mark.parametrize("stage", ["first", "final"])
@pytest.mark.parametrize("profile", ["imagenet-lite", "tiny-imagenet"])
def test_raw_gradients_come_less_near(profile, stage):
    assert "come less near than normalized ones" in TEXT
    raw, normalized = (nearest("LRP", profile, stage, words).chooses for words in ("gradient", "normalized"))
    assert raw > normalized


def test_labels_and_steps_hardly_matter_from_the_logit():
    assert "hardly matters from the logit" in TEXT
    lines = FINAL[FINAL.setting.str.contains("init=logit")]
    kind = lines.setting.str.replace(r"labels=\S+", "", regex=True)
    spread = lines.groupby([lines.profile, kind]).chooses.agg(lambda values: values.max() - values.min())
    assert spread.max() < 0.05


def test_pgd_takes_all_its_steps():
    assert "`early_stop=False` became PGD's default" in TEXT and "It becomes the default." in FOUND
    for profile in ("imagenet-lite", "tiny-imagenet"):
        assert "early_stop=False" in nearest("PGD", profile).setting
    assert not PGDC().early_stop and not PGDF().early_stop
