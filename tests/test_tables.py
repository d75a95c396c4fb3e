"""The tables: their settings, the paper's numbers beside ours, and what became of the labels."""

import re

import numpy as np
import pandas as pd
import pytest

from c2f_lrp import evaluation, paths, plotting, provenance, tables
from c2f_lrp.attacks import LRPC
from c2f_lrp.datasets import Images

COLUMNS = ["setting", "correct", "coarse_before", "coarse_after", "fine_before", "fine_after", "own_fine_after"]
ROWS = pd.DataFrame(
    [
        ("a", True, 0, 0, 1, 1, 1),  # neither
        ("a", True, 0, 0, 1, 2, 2),  # the fine label inside its class
        ("a", True, 0, 2, 1, 1, 1),  # routed; its own fine network still says 1
        ("a", True, 1, 2, 0, 0, 3),  # routed; its own would say 3
        ("a", False, 1, 0, 0, 0, 1),  # wrong beforehand: not counted
        ("b", True, 2, 2, 0, 0, 0),
    ],
    columns=COLUMNS,
)


def test_outcomes_are_shares_of_the_images_classified_correctly():
    table = tables.outcomes(ROWS)
    assert list(table.index) == ["a", "b"]
    assert table.loc["a"].tolist() == [25, 25, 25, 25, 50]
    assert table.loc["b"].tolist() == [100, 0, 0, 0, 0]


@pytest.mark.parametrize("profile", ["scenes", "tiny-imagenet", "imagenet-lite"])
@pytest.mark.parametrize(
    ("table", "column"), [("table_1", "routed to another fine network"), ("table_2", "fine label only")]
)
def test_what_counted_as_fooled_is_so_at_a_second_look(profile, table, column):
    """In the committed tables: the outcomes read the labels again, in other batches than the attack's."""
    figures = paths.REPOSITORY / "figures" / profile
    fooled = pd.read_csv(figures / f"{table}_summary.csv", index_col="setting").fooling_percent
    changed = pd.read_csv(figures / f"{table}_outcomes.csv", index_col="setting")[column]
    assert list(fooled.index) == list(changed.index)
    np.testing.assert_allclose(changed, fooled, rtol=0, atol=1e-3)


def test_flows_count_labels_before_and_after():
    flows = tables.flows(ROWS, 3)
    assert flows["a"].tolist() == [[2, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert flows["b"].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_rows_hold_what_the_own_fine_network_says(clf, images):
    names = tuple(map(str, range(len(images.pixels))))
    given = Images(images.pixels, images.coarse, images.fine, None, None, None, names)
    rows = evaluation.evaluate(clf, given, {"a": LRPC(iterations=3)})
    eta = LRPC(iterations=3)(clf, images.pixels, images.coarse, images.fine).perturbation
    coarse, fine = clf.predict(images.pixels + eta)
    own = [clf.fine[y](x[None]).argmax().item() for y, x in zip(images.coarse, images.pixels + eta, strict=True)]
    assert rows.own_fine_after.tolist() == own
    kept = (coarse == images.coarse).numpy()
    assert not kept.all() and (rows.own_fine_after == fine.numpy())[kept].all()
    shares = tables.outcomes(rows.assign(setting="x")).loc["x"]
    assert shares.iloc[:4].sum() == 100 and shares.iloc[4] == 100 * (1 - kept.mean())


def test_the_flow_figure_shows_every_image_twice():
    counts = np.array([[3, 1, 0], [0, 0, 2], [0, 0, 0]])
    figure = plotting.flow_figure({"one": counts, "two": counts.T}, ("cat", "dog", "fox"))
    for axes, total in zip(figure.axes, (counts, counts.T), strict=True):
        texts = [text.get_text() for text in axes.texts]
        left = [f"{name} {n}" for name, n in zip(("cat", "dog", "fox"), total.sum(1), strict=True) if n]
        right = [f"{name} {n}" for name, n in zip(("cat", "dog", "fox"), total.sum(0), strict=True) if n]
        assert sorted(texts) == sorted(left + right)


def test_markdown_escapes_bars_and_joins_levels():
    table = pd.DataFrame({("mean |loss|", "a|b"): [True], ("mean |loss|", ""): [0.5]}, index=["x|y"])

    def cells(line):
        return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]

    header, _, line = provenance.markdown(table).splitlines()
    assert cells(header) == ["", r"mean \|loss\|, a\|b", r"mean \|loss\|"]
    assert cells(line) == [r"x\|y", "yes", "0.5"]


def test_table_settings_are_the_papers_columns():
    for level, ours in (("coarse", "LRPC"), ("fine", "LRPF")):
        attacks = tables.table_attacks(level, [10, 20, 40], lr=2.0)
        assert len(attacks) == 2 * 3 + 2
        assert {attack.level for attack in attacks.values()} == {level}
        lrp = [attack for setting, attack in attacks.items() if setting.attack == ours]
        assert sorted({attack.eps for attack in lrp}) == [10, 20, 40] and {attack.lr for attack in lrp} == {2.0}
        assert {(attack.init, attack.bias) for attack in lrp} == {("one_hot", "absorb"), ("logit", "ignore")}
    with pytest.raises(ValueError, match="choose coarse"):
        tables.table_attacks("middle", [10])


def with_interval(summary: pd.DataFrame) -> pd.DataFrame:
    """A summary with intervals that end at its values."""
    ends = {f"{measure}_{end}": summary[measure] for measure in tables.MEASURES for end in ("low", "high")}
    return summary.assign(**ends)


def test_comparison_puts_the_papers_value_beside_ours():
    attacks = tables.table_attacks("coarse", [10, 15])
    summary = pd.DataFrame(
        [
            setting._asdict() | {"rho_2": 0.0294, "rho_1": 0.0432, "rho_inf": 0.0399, "fooling_percent": 93.0}
            for setting in attacks
        ]
    )
    comparison = tables.compare(with_interval(summary), "table_1")
    ordered = comparison.sort_index()
    cell = ordered.loc[("LRPC", "logit start, bias ignored", "10")]
    assert cell.paper.to_dict() == {"rho_2": 0.0294, "rho_1": 0.0216, "rho_inf": 0.0399, "fooling_percent": 87.1}
    assert cell.verdict.to_dict() == {
        "rho_2": "close",
        "rho_1": "2 x",
        "rho_inf": "close",
        "fooling_percent": "+5.9 points",
    }
    assert (ordered.loc[("LRPC", "logit start, bias ignored", "15")].verdict == "not in the paper").all()
    assert ordered.loc[("DFC", "", "", "rho_2")].paper == 0.0045
    printed = tables.side_by_side(comparison)
    assert printed.loc["DFC", "ρ²"] == "0.0045 / 0.0294 [0.0294, 0.0294]"


def test_claims_read_the_papers_own_table():
    """The paper's Table I: fooling rises, rho_inf too, rho_1 is flat, DeepFool is smallest, PGD's l1 is matched."""
    attacks = tables.table_attacks("coarse", [10, 20, 40])
    paper = tables.paper_values("table_1").set_index(["attack", "eps", "measure"]).value
    lines = {}
    for setting in attacks:
        printed = {measure: paper[setting.attack, setting.eps, measure] for measure in tables.MEASURES}
        lines[setting.label] = setting._asdict() | printed
    claims = tables.shape_claims(tables.compare(with_interval(pd.DataFrame.from_dict(lines, "index")), "table_1"))
    in_the_text_only = [claim for claim in claims.index if "no more ρ^∞" in claim]  # and refuted by its own table
    assert len(in_the_text_only) == 1 and not claims.loc[in_the_text_only].any(axis=None)
    # Ours are the paper's numbers here, so every column agrees.
    assert claims.drop(in_the_text_only).all(axis=None)
