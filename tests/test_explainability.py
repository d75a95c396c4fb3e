"""Measures image by image, the controls, the distance to the paper, and the rules for its claims."""

import numpy as np
import pandas as pd
import pytest
import torch

from c2f_lrp import claims, measures, metrics, readings, tables
from c2f_lrp.attacks import DFC, LRPC, LRPF, PGDC
from c2f_lrp.datasets import Images
from c2f_lrp.lrp import LRP
from c2f_lrp.objectives import adversarial_labels

EPS = ("10", "20", "40")


def with_masks(images) -> Images:
    masks = torch.zeros(len(images.pixels), 6, 6, dtype=torch.bool)
    masks[:, :3] = True
    names = tuple(map(str, range(len(masks))))
    return Images(images.pixels, images.coarse, images.fine, masks, ~masks, None, names)


def test_measures_are_those_of_the_heatmaps(clf, images, monkeypatch):
    monkeypatch.setattr(measures, "BATCH", 3)
    given = with_masks(images)
    eta = LRPC(iterations=3)(clf, images.pixels, images.coarse, images.fine).perturbation
    rows = measures.measure(clf, given, eta)
    assert len(rows) == len(eta)
    lrp, (org, adv) = LRP(clf.coarse), adversarial_labels(clf.coarse(images.pixels))
    both = (images.pixels, images.pixels + eta)
    mass = [metrics.relevance_mass(lrp.relevance(x, org), given.object_masks) for x in both]
    np.testing.assert_allclose(rows["shift of r_org on object"], (mass[1] - mass[0]).detach(), atol=1e-12)
    for label, pair, name, mask in (
        ("r_org", [org, adv], "object", given.object_masks),
        ("r_adv", [adv, org], "other object", given.secondary_masks),
    ):
        contrasts = [metrics.contrast(*lrp.relevances(x, pair)).detach() for x in both]
        mass = [metrics.relevance_mass(contrast, mask) for contrast in contrasts]
        np.testing.assert_allclose(rows[f"contrast of {label} on {name}, before"], mass[0], atol=1e-12)
        np.testing.assert_allclose(rows[f"contrast shift of {label} on {name}"], mass[1] - mass[0], atol=1e-12)
    np.testing.assert_allclose(
        rows["perturbation on object"] + rows["perturbation on other object"], 1, rtol=1e-12
    )  # the masks share out the image
    assert rows["rho_2"].tolist() == metrics.perceptibilities(eta, images.pixels, 2).tolist()
    assert (rows.fooled == (clf.coarse(images.pixels + eta).argmax(1) != org).numpy()).all()
    assert rows.r_adv.tolist() == adv.tolist()


def test_at_the_fine_level_each_image_is_seen_by_its_own_network(clf, images):
    given = with_masks(images)
    eta = LRPF(iterations=3)(clf, images.pixels, images.coarse, images.fine).perturbation
    rows = measures.measure(clf, given, eta, "fine")
    attacked = images.pixels + eta
    for i, row in rows.iterrows():
        x, network = images.pixels[i : i + 1], clf.fine[images.coarse[i]]
        org, adv = adversarial_labels(network(x))
        assert (row.r_org, row.r_adv) == (org.item(), adv.item())
        mass = [
            metrics.relevance_mass(LRP(network).relevance(y, org), given.object_masks[i : i + 1])
            for y in (x, attacked[i : i + 1])
        ]
        assert row["shift of r_org on object"] == pytest.approx((mass[1] - mass[0]).item(), abs=1e-12)
        changed = network(attacked[i : i + 1]).argmax() != org
        kept = clf.coarse(attacked[i : i + 1]).argmax() == images.coarse[i]
        assert row.fooled == (changed and kept)
    assert len(rows) == len(eta) and rows.fooled.nunique() == 2


def test_without_masks_their_columns_are_left_out(clf, images):
    given = Images(images.pixels, images.coarse, images.fine, None, None, None, ("",) * len(images.pixels))
    rows = measures.measure(clf, given, torch.minimum(255 - images.pixels, torch.tensor(0.5)))
    assert not any("object" in name for name in rows.columns) and "entropy of the perturbation" in rows


@pytest.mark.parametrize("kind", ["normal", "sign"])
def test_noise_has_the_norm_of_the_perturbation(kind):
    pixels = torch.full((3, 3, 5, 5), 128.0)
    eta = torch.arange(1.0, 4).view(3, 1, 1, 1) * torch.randn(3, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    noise = measures.noise_like(eta, pixels, kind, seed=2)
    torch.testing.assert_close(noise.flatten(1).norm(dim=1), eta.flatten(1).norm(dim=1), rtol=1e-4, atol=0)
    assert torch.equal(noise, measures.noise_like(eta, pixels, kind, seed=2))
    with pytest.raises(ValueError, match="kind is 'pink'; choose normal or sign"):
        measures.noise_like(eta, pixels, "pink")


def test_a_randomized_network_is_another_with_the_same_spread(clf, images):
    other = measures.randomized(clf.coarse)
    for (name, ours), theirs in zip(clf.coarse.named_parameters(), other.parameters(), strict=True):
        assert not torch.equal(ours, theirs), name
    wide, drawn = clf.coarse.layers[3].weight, other.layers[3].weight
    assert drawn.std().item() == pytest.approx(wide.std().item(), rel=0.3)


def paper_summary(table: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    values = tables.paper_values(table).pivot(index=["attack", "eps"], columns="measure", values="value")
    ours, deepfool, pgd = ("LRPC", "DFC", "PGDC") if table == "table_1" else ("LRPF", "DFF", "PGDF")
    return values.loc[ours], pd.DataFrame([values.loc[(deepfool, "")], values.loc[(pgd, "")]])


@pytest.mark.parametrize("table", ["table_1", "table_2"])
def test_the_paper_is_at_no_distance_from_itself(table):
    mine, rivals = paper_summary(table)
    assert readings.distance_to_paper(mine, rivals, table)["distance"] == pytest.approx(0, abs=1e-12)
    worse = mine.copy()
    worse["rho_inf"] *= np.e  # one unit of the part "bound", and of nothing else
    parts = readings.distance_to_paper(worse, rivals, table)
    assert parts["bound"] == pytest.approx(1) and parts["distance"] == pytest.approx(1)
    falling = mine.copy()
    falling["fooling_percent"] = [90.0, 80.0, 70.0]
    assert readings.distance_to_paper(falling, rivals, table)["order"] == 1


def test_lines_of_a_summary():
    settings = [("LRPC", "a", eps) for eps in EPS] + [("LRPC", "b", "10"), ("DFC", "", ""), ("PGDC", "", "")]
    summary = pd.DataFrame(settings, columns=["attack", "reading", "eps"]).assign(rho_2=range(6))
    mine, rivals = tables.lines_of(summary, "a")
    assert mine.rho_2.to_dict() == {"10": 0, "20": 1, "40": 2} and rivals.rho_2.tolist() == [4, 5]


def rows_with(away: float, towards: float) -> pd.DataFrame:
    spread = np.linspace(-0.01, 0.01, 20)
    return pd.DataFrame({"shift of r_org on object": away + spread, "shift of r_adv on other object": towards + spread})


def test_the_rules_can_be_met_and_missed():
    still = rows_with(0, 0)
    assert claims.judge_attention(rows_with(-0.2, 0.2), still) == "supported"
    assert claims.judge_attention(rows_with(-0.2, -0.2), still) == "partly"
    assert claims.judge_attention(rows_with(0.2, -0.2), still) == "not supported"
    as_noise_does = claims.judge_attention(rows_with(-0.2, 0.2), rows_with(-0.3, 0.3))
    assert as_noise_does == "not supported"
    other_measure = still.join(rows_with(-0.2, 0.2).add_prefix("contrast "))
    calm = still.join(still.add_prefix("contrast "))
    assert claims.judge_attention(other_measure, calm) == "not supported"
    assert claims.judge_attention(other_measure, calm, "contrast shift") == "supported"
    assert claims.judge_growth(rows_with(-0.1, 0.1), rows_with(-0.2, 0.2)) == "supported"
    assert claims.judge_growth(rows_with(-0.2, 0.2), rows_with(-0.1, 0.1)) == "not supported"


def test_the_cosine_with_the_margin_is_one_from_the_logit(clf, images):
    tried = {"logit": dict(init="logit", bias="ignore", p=1), "printed": dict(init="one_hot", bias="ignore", p=1)}
    rows = readings.gradient_cosines(clf.coarse, images.pixels, tried).groupby("reading").cosine
    assert rows.get_group("logit").to_numpy() == pytest.approx(1, abs=1e-9)
    assert rows.get_group("printed").isna().all()


def shifts(away, towards, fooled=1.0, rho_2=0.02):
    """Rows of five images whose shifts are spread by 0.001 around their means, as `measure` gives them."""
    spread = np.linspace(-0.001, 0.001, 5)
    return pd.DataFrame(
        {claims.AWAY: away + spread, claims.TOWARDS: towards + spread, "fooled": fooled, "rho_2": rho_2}
    )


def test_dominance_asks_for_all_three():
    base = shifts(-0.03, 0.005)
    assert claims.dominance(shifts(-0.04, 0.01), base)["dominates"]
    for lesser in (
        shifts(-0.04, 0.01, fooled=0.8),
        shifts(-0.04, 0.01, rho_2=0.021),
        shifts(-0.03, 0.01),
        shifts(-0.04, 0.005),
    ):
        assert not claims.dominance(lesser, base)["dominates"]


def test_all_claims_are_judged_by_their_rules(clf, images):
    given = with_masks(images)
    attacks = {f"ours, {eps}": LRPC(eps=eps, iterations=2) for eps in (5, 10)} | {"DeepFool": DFC(), "PGD": PGDC()}
    perturbations = measures.perturb(clf, given, attacks)
    rows = measures.measure_all(clf, given, perturbations)
    noise = {name: measures.noise_like(eta, given.pixels, "sign") for name, eta in perturbations.items()}
    control = measures.measure_all(clf, given, noise)
    families = {"ours": ["ours, 5", "ours, 10"], "DeepFool": ["DeepFool"], "PGD": ["PGD"]}
    verdicts = claims.judge_all(rows, control, families)
    found = verdicts.set_index(["family", "claim", "setting"]).verdict
    of, by = dict(list(rows.groupby("setting"))), dict(list(control.groupby("setting")))
    assert found["ours", 1, "ours, 5"] == claims.judge_attention(of["ours, 5"], by["ours, 5"])
    assert found["ours", 2, "ours, 10"] == claims.judge_growth(of["ours, 5"], of["ours, 10"])
    assert found["ours", 4, "ours, 5"] == claims.judge_size(of["ours, 5"], of["DeepFool"], of["PGD"])
    assert list(verdicts[verdicts.family == "PGD"].claim) == [1]
    contrast = claims.judge_contrast(rows, control, families).set_index("setting").verdict
    assert list(contrast.index) == ["ours, 5", "ours, 10", "DeepFool", "PGD"]
    for name, found_of in contrast.items():
        assert found_of == claims.judge_attention(of[name], by[name], "contrast shift")
    assert len(verdicts) == 2 + 1 + 2 + 1 + 1 + 1


def test_without_the_other_object_only_the_first_half_is_judged():
    alone = shifts(-0.03, 0).drop(columns=claims.TOWARDS)
    still = shifts(0, 0).drop(columns=claims.TOWARDS)
    assert claims.judge_attention(alone, still) == "supported"
    assert claims.judge_attention(still, alone) == "not supported"
    assert claims.judge_growth(still, alone) == "supported"
