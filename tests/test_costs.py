"""What benchmarks/costs.py counts for a step of each attack, by hand; its hours rest on that."""

from pathlib import Path

import pandas as pd
import pytest

from c2f_lrp.profiles import get_profile
from c2f_lrp.tables import table_attacks
from tests.benchmarks import costs

FIGURES = Path(__file__).parents[1] / "figures" / "tiny-imagenet"
ONE_HOT, LOGIT = "one-hot start, bias absorbs", "logit start, bias ignored"
# In passes: a backward pass costs as much as a forward one; a relevance loss six and three of them, say.
PASSES = pd.Series({"forward": 1.0, "gradient": 2.0, ONE_HOT: 6.0, LOGIT: 3.0, "training": 3.0})


@pytest.mark.parametrize("level", ["coarse", "fine"])
def test_passes_of_a_step(level):
    sizes = [len(labels) for labels in get_profile("imagenet").hierarchy().fine_names]
    if level == "coarse":
        beside, candidates = 0, 7
    else:  # the coarse network's pass; ten candidates where a network has as many other labels
        beside, candidates = 1, sum(n * (10 if n > 10 else n - 1) for n in sizes) / sum(sizes)
    expected = {"LRPC": {ONE_HOT: 6, LOGIT: 3}, "DFC": {"": 1 + candidates}, "PGDC": {"": 2}}
    for setting, attack in table_attacks(level, [10]).items():
        coarse_name = setting.attack[:-1] + "C"
        assert costs.of_step(setting, attack, PASSES) == pytest.approx(expected[coarse_name][setting.reading] + beside)


def test_tables_add_up_all_settings():
    """Twice the costs are twice the hours; and all settings have their steps in the committed tables."""
    assert costs.tables(2 * PASSES) == pytest.approx(2 * costs.tables(PASSES))
    steps = sum(pd.read_csv(FIGURES / f"table_{number}_summary.csv").mean_iterations.sum() for number in (1, 2))
    assert costs.IMAGES * steps < costs.tables(PASSES) < costs.IMAGES * steps * 12
