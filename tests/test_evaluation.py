"""Rows, shards and tables: what is stored is what is computed, and summaries are what NumPy makes of the rows."""

import numpy as np
import pandas as pd
import pytest
import torch
from networks import SIZE, random_pixels

from c2f_lrp import evaluation, tables
from c2f_lrp.attacks import DFC, DFF, LRPC, PGDC, PGDF
from c2f_lrp.datasets import Images


@pytest.fixture
def images(clf):
    """Sixteen random images labelled by the classifier, but for the first's coarse and the second's fine label."""
    pixels = random_pixels(64, SIZE, SIZE, seed=5)
    pixels = pixels[clf.predict(pixels)[0].argsort()[-40:].flip(0)[:16 * 2 : 2]]
    coarse, fine = clf.predict(pixels)
    first, second = (coarse == 1).nonzero().flatten()[:2].tolist()
    order = [first, second] + [row for row in range(16) if row not in (first, second)]
    pixels, coarse, fine = pixels[order], coarse[order], fine[order]
    coarse[0], fine[0] = 0, 0
    fine[1] = (fine[1] + 1) % clf.hierarchy.n_fine[1]
    return Images(pixels, coarse, fine, None, None, None, tuple(f"image {i}" for i in range(16)))


def test_rows_tell_what_the_attack_did(clf, images):
    attack = PGDC(eps=20, iterations=5)
    rows = evaluation.evaluate(clf, images, {"pgd": attack})
    assert len(rows) == 16 and list(rows.image) == list(images.names)
    right = (clf.predict(images.pixels)[0] == images.coarse).numpy()
    assert (rows.correct == right).all() and not right[0]
    result = attack(clf, images.pixels[right], images.coarse[right], images.fine[right])
    np.testing.assert_array_equal(rows.fooled[right], result.fooled)
    np.testing.assert_array_equal(rows.iterations[right], result.iterations)
    eta, x = (t.numpy().reshape(len(t), -1) for t in (result.perturbation, images.pixels[right]))
    np.testing.assert_allclose(rows.rho_2[right], np.linalg.norm(eta, axis=1) / np.linalg.norm(x, axis=1), rtol=1e-12)
    np.testing.assert_allclose(rows.largest[right], np.abs(eta).max(1), rtol=1e-12)
    # Algorithm 1 as printed: wrong from the start counts as fooled at iteration 0, with no perturbation.
    wrong = rows[~right]
    assert wrong.fooled.all() and (wrong.iterations == 0).all() and (wrong.rho_2 == 0).all()


def test_fine_rows_need_both_labels_right(clf, images):
    rows = evaluation.evaluate(clf, images, {"pgd": PGDF(eps=20, iterations=3)}).set_index("image")
    several = torch.tensor(clf.hierarchy.n_fine)[images.coarse] > 1
    assert len(rows) == several.sum()
    if "image 0" in rows.index:  # coarse label wrong: cannot count as a fine-level success
        assert not rows.correct["image 0"] and not rows.fooled["image 0"]
    assert not rows.correct["image 1"] and rows.fooled["image 1"]


@pytest.mark.filterwarnings("ignore:one_hot with ignored biases", "ignore:LRPC. the first step moved none")
def test_an_attack_that_follows_nothing_is_announced_once(clf, images, monkeypatch, recwarn):
    monkeypatch.setattr(evaluation, "SHARD_SIZE", 6)
    attacks = {"literal": LRPC(init="one_hot", bias="ignore", iterations=1), "other": LRPC(iterations=1)}
    evaluation.evaluate(clf, images, attacks)
    doubts = [str(warning.message) for warning in recwarn if "the gradient of LRPC" in str(warning.message)]
    assert len(doubts) == 1 and "bias='ignore'" in doubts[0] and "is zero" in doubts[0]


def test_a_resumed_run_reads_its_shards_and_gives_the_same_rows(clf, images, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "SHARD_SIZE", 6)
    attacks = {"a": PGDC(eps=20, iterations=4), "b": DFC(iterations=4)}
    plain = evaluation.evaluate(clf, images, attacks, store=tmp_path)
    shards = sorted(tmp_path.glob("*.parquet"))
    assert len(shards) == 6 and not list(tmp_path.glob("*.part"))
    shards[0].write_bytes(shards[0].read_bytes()[:100])  # a truncated shard is computed again
    shards[1].unlink()
    attacked = []
    real = evaluation.attack_rows
    monkeypatch.setattr(evaluation, "attack_rows", lambda *args: attacked.append(1) or real(*args))
    resumed = evaluation.evaluate(clf, images, attacks, store=tmp_path, resume=True)
    assert len(attacked) == 2
    pd.testing.assert_frame_equal(plain, resumed)


def test_a_shard_is_named_by_all_that_determines_it(clf, images):
    key = evaluation.shard_key("weights", PGDC(), images)
    assert key == evaluation.shard_key("weights", PGDC(), images)
    other_pixels = images.with_pixels(images.pixels + 1e-9)
    for changed in (
        evaluation.shard_key("other weights", PGDC(), images),
        evaluation.shard_key("weights", PGDC(eps=3), images),
        evaluation.shard_key("weights", PGDF(eps=2.6), images),
        evaluation.shard_key("weights", PGDC(), other_pixels),
        evaluation.shard_key("weights", PGDC(), images[:8]),
    ):
        assert changed != key


def test_summary_against_numpy():
    rows = pd.DataFrame(
        {
            "setting": ["s"] * 4,
            "correct": [True, True, True, False],
            "fooled": [True, True, False, True],
            "iterations": [1, 2, 6, 0],
            "rho_2": [0.1, 0.2, 0.6, 0.0],
            "rho_1": [0.3, 0.3, 0.3, 0.0],
            "rho_inf": [0.0, 0.0, 0.9, 0.0],
        }
    )
    line = evaluation.summarize(rows).loc["s"]
    assert line.images == 4 and line.attacked == 3
    assert line.rho_2 == pytest.approx(0.3) and line.rho_inf == pytest.approx(0.3)
    assert line.fooling_percent == pytest.approx(200 / 3) and line.fooling_as_printed == pytest.approx(75)
    assert line.mean_iterations == pytest.approx(3)


def test_nothing_to_evaluate_is_refused(clf, images):
    with pytest.raises(ValueError, match="no images"):
        evaluation.evaluate(clf, images[:0], {"a": DFC()})
    with pytest.raises(ValueError, match="no attacks"):
        evaluation.evaluate(clf, images, {})
    with pytest.raises(ValueError, match="none of the 1 images is classified correctly"):
        evaluation.summarize(evaluation.evaluate(clf, images[:1], {"a": DFC()}))


def test_table_settings_are_the_papers_columns():
    for level, ours in (("coarse", "LRPC"), ("fine", "LRPF")):
        attacks = tables.table_attacks(level, [10, 20, 40], lr=2.0)
        assert len(attacks) == 2 * 3 + 2
        assert {attack.level for attack in attacks.values()} == {level}
        lrp = [attack for name, attack in attacks.items() if name.startswith(ours)]
        assert sorted({attack.eps for attack in lrp}) == [10, 20, 40] and {attack.lr for attack in lrp} == {2.0}
        assert {(attack.init, attack.bias) for attack in lrp} == {("one_hot", "absorb"), ("logit", "ignore")}
    with pytest.raises(ValueError, match="choose coarse"):
        tables.table_attacks("middle", [10])


def test_comparison_puts_the_papers_value_beside_ours():
    attacks = tables.table_attacks("coarse", [10, 15])
    summary = pd.DataFrame(
        {"rho_2": 0.0294, "rho_1": 0.0432, "rho_inf": 0.0399, "fooling_percent": 93.0}, index=list(attacks)
    )
    comparison = tables.compare(summary, "table_1")
    ordered = comparison.sort_index()
    cell = ordered.loc[("LRPC", "logit start, bias ignored", "10")]
    assert cell.paper.to_dict() == {"rho_2": 0.0294, "rho_1": 0.0216, "rho_inf": 0.0399, "fooling_percent": 87.1}
    assert cell.verdict.to_dict() == {
        "rho_2": "close", "rho_1": "2 x", "rho_inf": "close", "fooling_percent": "+5.9 points"
    }
    assert (ordered.loc[("LRPC", "logit start, bias ignored", "15")].verdict == "not in the paper").all()
    assert ordered.loc[("DFC", "", "", "rho_2")].paper == 0.0045
    printed = tables.side_by_side(comparison)
    assert printed.loc["rho_2", "DFC"] == "0.0045 / 0.0294"


def test_claims_read_the_papers_own_table():
    """The paper's Table I: fooling rises, rho_inf too, rho_1 is flat, DeepFool is smallest, PGD's l1 is matched."""
    attacks = tables.table_attacks("coarse", [10, 20, 40])
    paper = tables.paper_values("table_1").set_index(["attack", "eps", "measure"]).value
    lines = {}
    for name in attacks:
        attack, _, eps = (part.strip() for part in name.split("|"))
        lines[name] = {measure: paper[attack, eps, measure] for measure in tables.MEASURES}
    claims = tables.claims(tables.compare(pd.DataFrame(lines).T, "table_1"))
    assert claims.all(axis=None)  # ours are the paper's numbers here, so every column agrees


@pytest.mark.parametrize("attack", [DFC(iterations=2), DFF(iterations=2)])
def test_panels_show_before_and_after(clf, images, attack):
    several = (torch.tensor(clf.hierarchy.n_fine)[images.coarse] > 1).nonzero().flatten()
    row = several[several > 1][0]
    columns, org, adv = evaluation.panels(
        clf, images.pixels[row], images.coarse[row].item(), images.fine[row].item(), {"DF": attack}
    )
    assert [panel.title for panel in columns] == ["before", "DF"] and org != adv
    assert not columns[0].perturbation.any()
    assert columns[0].score_org >= columns[0].score_adv
    assert torch.equal(columns[1].pixels, images.pixels[row] + columns[1].perturbation)
    total = columns[0].relevance_org.clamp(min=0).sum().item()
    assert columns[0].norm_org == pytest.approx(total, rel=1e-9)
    with pytest.raises(ValueError, match="one level"):
        evaluation.panels(clf, images.pixels[row], 0, 0, {"a": DFC(), "b": DFF()})
