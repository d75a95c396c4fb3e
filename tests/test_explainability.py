"""Measures image by image, the controls, which images are looked at, the distance to the paper, and the rules."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from networks import convolutional
from scipy import stats

import c2f_lrp
from c2f_lrp import attention, claims, measures, metrics, paths, plotting, provenance, readings, tables
from c2f_lrp.attacks import DFC, LRPC, LRPF
from c2f_lrp.datasets import Images
from c2f_lrp.evaluation.rows import Setting
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
    low = clf.coarse(images.pixels).argmin(1)
    assert (low != adv).all() and (low != org).all()  # three classes
    for label, pair, name, mask in (
        ("r_org", [org, adv], "object", given.object_masks),
        ("r_adv", [adv, org], "other object", given.secondary_masks),
        ("r_low", [low, org], "other object", given.secondary_masks),
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
    some = readings.distance_to_paper(mine.loc[["20"]], rivals, table)  # as after -p epsilons '[20]'
    assert list(some) == list(parts) and all(np.isnan(list(some.values())))


def test_lines_of_a_summary():
    settings = [("LRPC", "a", eps) for eps in EPS] + [("LRPC", "b", "10"), ("DFC", "", ""), ("PGDC", "", "")]
    summary = pd.DataFrame(settings, columns=["attack", "reading", "eps"]).assign(rho_2=range(6))
    mine, rivals = tables.lines_of(summary, "a")
    assert mine.rho_2.to_dict() == {"10": 0, "20": 1, "40": 2} and rivals.rho_2.tolist() == [4, 5]


def test_the_cosine_with_the_margin_is_one_from_the_logit(clf, images):
    tried = {"logit": dict(init="logit", bias="ignore", p=1), "printed": dict(init="one_hot", bias="ignore", p=1)}
    rows = readings.gradient_cosines(clf.coarse, images.pixels, tried).groupby("reading").cosine
    assert rows.get_group("logit").to_numpy() == pytest.approx(1, abs=1e-9)
    assert rows.get_group("printed").isna().all()


def test_parts_are_the_tenth_of_the_clean_image_that_speaks_most_for_a_label(clf, images):
    given, n = with_masks(images), len(images.pixels)
    eta = torch.minimum(255 - images.pixels, torch.tensor(3.0))
    rows = measures.measure(clf, given, eta)
    lrp, (org, adv) = LRP(clf.coarse), adversarial_labels(clf.coarse(images.pixels))
    was, now = (lrp.relevances(x, [org, adv]) for x in (images.pixels, images.pixels + eta))
    for row in range(n):
        difference = metrics.contrast(was[1], was[0])[row, 0].detach().flatten()
        chosen = set(difference.argsort(descending=True)[:4].tolist())  # a tenth of 6 x 6 pixels
        shares = []
        for heatmap in (was[1], now[1]):
            values = heatmap[row].sum(0).flatten().clamp(min=0)
            shares.append(sum(values[i].item() for i in chosen) / values.sum().item())
        assert rows["shift of r_adv on its parts"][row] == pytest.approx(shares[1] - shares[0], abs=1e-12)


def test_an_image_without_the_object_has_no_share_on_it(clf, images):
    """Zeros of images without an object would pull every mean towards "nothing moved"."""
    given = with_masks(images)
    given.secondary_masks[2] = False
    rows = measures.measure(clf, given, torch.minimum(255 - images.pixels, torch.tensor(0.5)))
    on = [name for name in rows if "other object" in name and "r_low" not in name]
    assert len(on) > 5
    for name in on:
        assert rows[name].isna().tolist() == [row == 2 for row in range(len(rows))], name


def test_of_two_classes_none_is_a_third(images):
    lrp = LRP(convolutional(2, seed=5).eval())
    before = measures.explain(lrp, images.pixels, control=True)
    columns = measures.localisation(lrp, with_masks(images), 0.1 * torch.ones_like(images.pixels), before)
    third = [name for name in columns if "of r_low" in name]
    assert len(third) > 5 and all(columns[name].isnan().all() for name in third)
    assert not columns["shift of r_adv on its parts"].isnan().any()


# --------------------------------------------------------------------------------------------- which images, and rows
@pytest.fixture(scope="module")
def scenes_clf():
    return c2f_lrp.load_classifier("scenes")


def test_pairs_of_scenes_are_chosen_by_the_class_of_their_second_object(scenes_clf):
    same, other = attention.scene_pairs(scenes_clf, 2, first=300, others=3)
    assert (len(same), len(other)) == (2, 3)
    for images, alike in ((same, True), (other, False)):
        coarse, fine = scenes_clf.predict(images.pixels)
        assert torch.equal(coarse, images.coarse) and torch.equal(fine, images.fine)
        _, adv = adversarial_labels(scenes_clf.coarse(images.pixels))
        assert ((adv == images.secondary_coarse) == alike).all() and (images.secondary_coarse >= 0).all()
        assert images.secondary_masks.any(2).any(1).all()
        assert all(int(name.rsplit("/", 1)[1]) >= 300 for name in images.names)
    with pytest.raises(ValueError, match="0 and 0 scenes were asked for; ask for at least one"):
        attention.scene_pairs(scenes_clf, 0)


def test_the_run_that_confirms_draws_no_scene_that_another_notebook_does(scenes_clf):
    assert attention.FIRST_SCENE >= c2f_lrp.profiles.get_profile("scenes").validation_images
    images = attention.unseen_images(scenes_clf, "scenes", "fine", 3)
    assert len(images) == 3 and all(int(name.rsplit("/", 1)[1]) >= attention.FIRST_SCENE for name in images.names)


def test_boxes_that_fill_the_image_are_no_place(clf, images, monkeypatch):
    masks = torch.zeros(8, 6, 6, dtype=torch.bool)
    masks[0], masks[1, :5] = True, True  # all of the image, and five sixths of it
    given = Images(images.pixels, images.coarse, images.fine, masks, None, None, tuple("abcdefgh"))
    monkeypatch.setattr(attention, "open_images", lambda *_, **__: given)
    found = attention.unseen_images(copy.deepcopy(clf).float(), "tiny-imagenet", "coarse", 8, first=0)
    assert found.object_masks.flatten(1).any(1).tolist() == [False, True] + 6 * [False]
    assert given.object_masks[0].all()  # the caller's are left as they were


def test_a_run_goes_on_where_it_was_killed(clf, images, tmp_path, monkeypatch):
    monkeypatch.setattr(attention, "SLICE", 4)
    given = with_masks(images)
    attacks = {Setting("LRPC", "a", "5"): LRPC(eps=5, iterations=2), Setting("DFC"): DFC()}
    first = attention.run(clf, given, attacks, store=tmp_path)
    assert len(first) == 16 and first.attack.value_counts().to_dict() == {"LRPC": 8, "DFC": 8}
    plain = attention.run(clf, given, attacks)
    pd.testing.assert_frame_equal(first, plain)
    files = sorted(tmp_path.glob("*.parquet"))
    assert len(files) == 4 == len(first.attrs["shards"])
    files[0].unlink()
    made = []
    monkeypatch.setattr(
        attention, "rows_of", lambda *given, rows_of=attention.rows_of: made.append(1) or rows_of(*given)
    )
    pd.testing.assert_frame_equal(attention.run(clf, given, attacks, store=tmp_path), first)
    assert made == [1]
    ours = first[first.attack == "LRPC"].reset_index(drop=True)
    eta = attacks[Setting("LRPC", "a", "5")](clf, given.pixels, given.coarse, given.fine).perturbation
    noise = measures.noise_like(eta[:4], given.pixels[:4], "sign")
    column = "shift of r_org on object"
    for name, where in ((column, eta[:4]), (f"noise: {column}", noise)):
        expected = measures.measure(clf, given[:4], where)[column]
        np.testing.assert_allclose(ours[name][:4], expected, atol=1e-12)
    with pytest.raises(ValueError, match=r"levels \['coarse', 'fine'\]"):
        attention.run(clf, given, attacks | {Setting("LRPF"): LRPF()})


# ----------------------------------------------------------------------------------------------------------- the rules
def spread(mean: float, n: int = 120, width: float = 0.05) -> np.ndarray:
    """n values around a mean, the same on both sides of it."""
    return mean + width * np.linspace(-1, 1, n)


def rows_with(columns: dict[str, np.ndarray], key=("LRPC", "a", "10")) -> pd.DataFrame:
    """Rows of one setting, as `attention.run` gives them, under which noise moves nothing and all else is calm."""
    n = len(next(iter(columns.values())))
    calm = {name for part in claims.ON_OBJECTS for name in (part.column, part.less) if name}
    calm |= {claims.SPARSITY, claims.ON_RELEVANT, "rho_1", "rho_inf"}
    rows = pd.DataFrame(dict.fromkeys(sorted(calm), 0.5), index=range(n))
    rows = rows.assign(**columns, image=[f"{i:03}" for i in range(n)])
    rows = rows.join(pd.DataFrame(0.5, rows.index, rows.columns.drop("image")).add_prefix("noise: "))
    return rows.assign(**dict(zip(tables.COLUMNS, key, strict=True)))


AWAY, TOWARDS = (part.column for part in claims.ON_OBJECTS[:2])
RIVALS = [rows_with({AWAY: spread(0.5)}, (name, "", "")) for name in ("DFC", "PGDC")]


def verdicts(rows, *others, control=None):
    judged = claims.judge(pd.concat([*rows, *others, *RIVALS]), control)
    return judged.xs(("LRPC", "a", "10"), level=tables.COLUMNS).verdict


def test_every_verdict_can_be_reached():
    moved = "attention moves", "away", "heatmap"
    assert verdicts([rows_with({AWAY: spread(0.4)})])[moved] == "supported"
    assert verdicts([rows_with({AWAY: spread(0.6)})])[moved] == "the reverse"
    assert verdicts([rows_with({AWAY: spread(0.5)})])[moved] == "not shown"
    assert verdicts([rows_with({AWAY: spread(0.495, width=0.001)})])[moved] == "too small"  # half a point of a hundred
    line = dict(images=9000, mean=-0.1, effect=-0.12, p_holm=1e-4, direction=-1)
    assert claims.verdict(line) == "too small" and claims.verdict(line | dict(effect=-0.2)) == "supported"
    some = rows_with({AWAY: spread(0.4)})
    few = [frame.assign(**{AWAY: frame[AWAY].where(frame.index < 99)}) for frame in (some, *RIVALS)]
    assert claims.judge(pd.concat(few)).xs(("LRPC", "a", "10"), level=tables.COLUMNS).verdict[moved] == "too few"


def test_what_noise_or_a_third_label_does_as_well_is_no_finding():
    rows = rows_with({AWAY: spread(0.4)})
    rows[f"noise: {AWAY}"] = spread(0.4)
    assert verdicts([rows])["attention moves", "away", "heatmap"] == "not shown"
    third = claims.ON_OBJECTS[4]
    found = verdicts([rows_with({TOWARDS: spread(0.6), third.less: spread(0.6)})])
    assert found["attention moves", "towards", "heatmap"] == "supported"
    assert found["attention moves", "towards", third.measure] == "not shown"


def test_larger_bounds_rivals_and_other_scenes_are_compared_with():
    strong, weak = ({TOWARDS: spread(0.7)}, ("LRPC", "a", "40")), ({TOWARDS: spread(0.6)}, ("LRPC", "a", "10"))
    rows = pd.concat([rows_with(*weak), rows_with(*strong), *RIVALS])
    control = pd.concat([rows_with({TOWARDS: spread(0.6)}, key) for _, key in (strong, weak)])
    control = pd.concat([control, *RIVALS])
    found = claims.judge(rows, control).verdict
    key = "towards", "heatmap"
    assert found["LRPC", "a", "40", "more at larger eps", *key] == "supported"
    assert ("LRPC", "a", "10", "more at larger eps", *key) not in found.index
    assert found["LRPC", "a", "10", "more than DeepFool", *key] == "supported"
    assert found["LRPC", "a", "40", "to its class alone", *key] == "supported"
    assert found["LRPC", "a", "10", "to its class alone", *key] == "not shown"
    assert not any("more" in claim for claim in found.xs("DFC").index.get_level_values("claim"))


def test_size_is_comparable_below_the_factor_of_the_tables():
    ours = rows_with({"rho_1": spread(0.5, width=0.01), "rho_inf": spread(0.8, width=0.01)})
    found = verdicts([ours])
    assert found["comparable size", "", "rho_1 against PGD"] == "supported"
    assert found["comparable size", "", "rho_inf against PGD"] == "the reverse"  # a factor 1.6
    assert found["concentrated", "", "sparsity"] == "not shown"


def test_without_a_second_object_claims_are_judged_on_parts():
    calm = {part.column: spread(0) for part in claims.ON_PARTS} | {part.less: spread(0) for part in claims.ON_PARTS}
    rows = rows_with(calm).drop(columns=[name for name in rows_with(calm) if "other object" in name])
    assert claims.parts_of(rows)[2:] == claims.ON_PARTS and claims.parts_of(rows)[0].column == AWAY
    rows["attack"] = "LRPF"
    assert claims.parts_of(rows) == claims.ON_PARTS
    rows["attack"] = "LRPC"
    rows[[part.column for part in claims.ON_OBJECTS if part.half == "away"]] = np.nan
    assert claims.parts_of(rows) == claims.ON_PARTS


def test_holm_is_that_of_the_textbook():
    """Holm 1979 by hand: 0.01 x 4, 0.03 x 3, then 0.04 x 2 = 0.08, which may not fall below 0.09."""
    corrected = claims.holm(np.array([0.04, 0.01, np.nan, 0.03, 0.5]))
    np.testing.assert_allclose(corrected, [0.09, 0.04, np.nan, 0.09, 0.5], rtol=1e-12)
    assert claims.holm(np.array([0.9, 0.8])).tolist() == [1, 1]


def test_randomisation_tests_are_those_of_scipy():
    """20,000 draws of each: a p of 0.1 is uncertain by 0.002, so two agree within five times that and sqrt 2."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.3, 1, 30), rng.normal(0, 1, 25)
    options = dict(n_resamples=20_000, rng=rng)
    one = stats.permutation_test((a,), np.mean, permutation_type="samples", **options).pvalue
    assert claims.sign_flip_p(a) == pytest.approx(one, abs=0.015)
    two = stats.permutation_test((a, b), lambda x, y: x.mean() - y.mean(), **options).pvalue
    assert claims.relabelled_p(a, b) == pytest.approx(two, abs=0.015)
    assert claims.sign_flip_p(np.array([1.0, 1, 1])) == pytest.approx(1 / 4, abs=0.01)  # 2 of the 8 ways of signs


def test_what_is_measured_of_values():
    values = spread(0.2, n=11)
    line = claims.measured(np.append(values, np.nan))
    assert line["images"] == 11 and line["mean"] == pytest.approx(0.2)
    assert line["effect"] == pytest.approx(0.2 / values.std(ddof=1))
    both = claims.measured(values, spread(0.1, n=21))
    assert both["images"] == 32 and both["mean"] == pytest.approx(0.1) and both["low"] < 0.1 < both["high"]
    apart = stats.ttest_ind(values, spread(0.1, n=21)).statistic  # the same spread, pooled: d = t sqrt(1/n + 1/m)
    assert both["effect"] == pytest.approx(apart * (1 / 11 + 1 / 21) ** 0.5)
    nothing = claims.measured(np.array([np.nan]))
    assert nothing["images"] == 0 and np.isnan(nothing["p"])


# --------------------------------------------------------------------------------------------------- how it is told
@pytest.fixture(scope="module")
def judged():
    third = {part.less: spread(0.5) for part in claims.ON_OBJECTS if part.less}
    settings = [
        (0.4, ("LRPC", "a", "10")),
        (0.5, ("LRPC", "a", "40")),
        (0.4, ("LRPC", "b", "10")),
        (0.6, ("DFC", "", "")),
    ]
    rows = [rows_with({AWAY: spread(away)} | third, key) for away, key in settings]
    return claims.judge(pd.concat([*rows, RIVALS[1]]))


def test_a_table_of_verdicts_reads_back_as_it_was_written(judged, tmp_path):
    path = provenance.save_table(judged, "claims", "scenes", {"first": None, "n_images": 5}, tmp_path)
    back = claims.read(path)
    assert list(back.index) == list(judged.index) and list(back.columns) == list(judged.columns)
    assert back.verdict.tolist() == judged.verdict.tolist() and "images" in back
    np.testing.assert_allclose(back["mean"], judged["mean"], rtol=1e-5)  # six digits are written
    assert attention.is_stored(path.parent, "", {"first": None}) is False
    provenance.save_table(judged, "x_claims", "scenes", {"first": None, "n_images": 5}, tmp_path)
    assert attention.is_stored(path.parent, "x", {"first": None, "n_images": None})
    assert not attention.is_stored(path.parent, "x", {"first": 7, "n_images": None})


def test_verdicts_are_told_by_attack_and_where_they_differ_by_bound(judged):
    words = claims.overview(judged)
    moved = words.loc["attention moves", "away", "heatmap"]
    assert moved["LRPC, a"] == "supported at 10; not shown at 40"
    assert (moved["LRPC, b"], moved["DFC"], moved["PGDC"]) == ("supported", "the reverse", "not shown")
    assert words.loc["more than DeepFool", "away", "heatmap"]["DFC"] == ""
    line = claims.tally(judged).loc["away", "heatmap"]
    assert line["supported, LRPC or LRPF"] == "2 of 3" and line["supported, the others"] == "0 of 2"
    assert line["the reverse"] == "1 of 5" and line["images"] == 120 and line["mean"] == "-0.100 to +0.000"


def test_means_say_how_many_images_they_are_of():
    rows = rows_with({AWAY: np.append(spread(0.4, 119), np.nan)}).assign(label=1, r_adv=[1] * 90 + [2] * 30, r_org=0)
    lines = attention.means(rows).loc["LRPC", "a", "10"]
    assert lines.images[AWAY] == 119 and lines["mean"][AWAY] == pytest.approx(0.4) and lines.noise[AWAY] == 0.5
    assert lines["mean"]["ended at r_adv"] == 0.75 and "label" not in lines.index


def test_pictures_of_verdicts_have_a_panel_for_each_part(judged):
    figure = plotting.claims_figure(judged.xs("attention moves", level="claim"))
    drawn = [axes for axes in figure.axes if axes.has_data()]
    assert [axes.get_title() for axes in drawn] == [f"{part.half}: {part.measure}" for part in claims.ON_OBJECTS]
    labels = [text.get_text() for text in drawn[0].get_yticklabels()]
    assert labels == ["LRPC, a, 10", "LRPC, a, 40", "LRPC, b, 10", "DFC", "PGDC"]
    colours = [line.get_color() for line in drawn[0].lines if line.get_marker() == "o"]
    assert colours == ["black", "grey", "black", plotting.ORG, "grey"]


# ----------------------------------------------------------------------------------------- does the sign of it matter
def test_directions_are_those_of_the_loss_and_of_the_attack(clf, images):
    given = Images(images.pixels, images.coarse, images.fine, None, None, None, tuple("abcdefgh"))
    tried = {name: dict(init="one_hot", bias="absorb", p=p) for name, p in (("1", 1), ("2", 2))}
    for level, attack in (("coarse", LRPC), ("fine", LRPF)):
        rows = readings.directions(clf, given, tried, level, eps=3, iterations=2).set_index(["reading", "image"])
        assert len(rows) == 16
        result = attack(eps=3, iterations=2)(clf, images.pixels, images.coarse, images.fine)
        assert rows.loc["1"].fooled[list("abcdefgh")].tolist() == result.fooled.tolist()
        assert rows.loc["1"].iterations[list("abcdefgh")].tolist() == result.iterations.tolist()
        network = clf.coarse if level == "coarse" else clf.fine[images.coarse[3]]
        alone = readings.gradient_cosines(network, images.pixels[3:4], tried)
        assert rows.cosine["2", "d"] == pytest.approx(alone.cosine[1], abs=1e-9)


def test_whether_the_sign_of_the_cosine_predicts_who_is_fooled():
    cosine = np.repeat([0.5, -0.5], 40)
    rows = pd.DataFrame(
        {"reading": "a", "cosine": cosine, "fooled": [True] * 36 + [False] * 4 + [True] * 12 + [False] * 28}
    )
    other = rows.assign(reading="b", cosine=np.where(np.arange(80) % 2, 0.5, -0.5), fooled=np.arange(80) % 4 < 2)
    none = rows[:3].assign(reading="c", cosine=np.nan)
    table = readings.sign_and_fooling(pd.concat([rows, other, none]))
    assert list(table.index) == ["a", "b"]  # without a gradient there is no direction
    assert table["images, with"].tolist() == [40, 40] and table["images, against"].tolist() == [40, 40]
    assert table.loc["a", "fooled, with"] == 90 and table.loc["a", "fooled, against"] == 30
    assert (
        table.loc["a", "difference"] == pytest.approx(60)
        and table.loc["a", "p_holm"] < 0.001 < 0.5 < table.loc["b", "p"]
    )
    figure = plotting.cosine_strip(pd.concat([rows, other]))
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["b", "a"]


def test_an_effect_without_spread_is_the_largest():
    """A ratio of bounds that every image reaches: PGD fills its own, and LRPC its."""
    found = claims.measured(np.full(120, 0.97))
    assert found["effect"] == np.inf and claims.measured(np.full(120, -0.97))["effect"] == -np.inf
    assert claims.verdict(found | {"p_holm": 0.001, "direction": -1}) == "the reverse"
    assert claims.measured(np.zeros(120))["effect"] == 0 and np.isnan(claims.measured(np.array([0.97]))["effect"])


def test_the_words_of_notebook_10_agree_with_its_table():
    """Its first paragraph and the one under the table are prose; this is what they say, line by line."""
    path = paths.REPOSITORY / "figures" / "scenes" / "explainability_claims.csv"
    lines = claims.read(path)
    moves = lines.xs("attention moves", level="claim").verdict

    def told(attack, half, measure, reading="", eps=slice(None)):
        return moves.loc[attack, reading, eps, half, measure]

    one_hot, logit = tables.READINGS
    for reading in tables.READINGS:  # relevance leaves the object, at every eps and in both readings
        assert (told("LRPC", "away", "heatmap", reading) == "supported").all()
    assert (told("LRPC", "towards", "heatmap", logit) == "supported").all()
    assert (told("LRPC", "towards", "heatmap", one_hot) == "too small").all()
    for attack in ("DFC", "PGDC", "MarginC"):  # and so it does under attacks that follow no relevance
        for half in ("away", "towards"):
            assert (told(attack, half, "heatmap") == "supported").all()
    assert (lines.xs("to its class alone", level="claim").verdict == "not shown").all()
    by_third = lines.xs("heatmap, less a third label's", level="measure")
    assert not (by_third.verdict == "supported").any() and by_third["mean"].abs().max() < 0.001
    away = moves.xs(("away", "contrast"), level=("half", "measure"))
    assert set(away[away == "supported"].index) == {("LRPC", one_hot, "20"), ("LRPC", one_hot, "40")}
    whole = pd.read_csv(path.with_name("explainability_measures.csv"), dtype={"eps": str}, keep_default_na=False)
    whole = whole[(whole.scenes == "") & (whole.reading == one_hot)].set_index(["eps", "measure"])["mean"].unstack()
    third = whole["contrast shift of r_low on object"] / whole["contrast shift of r_org on object"]
    assert third["20"] > 0.9 and third["40"] > 0.9  # as far, seen afterwards
    towards = moves.xs("towards", level="half")
    by_contrast = towards[towards.index.get_level_values("measure").str.startswith("contrast")]
    assert len(by_contrast) == 18 and (by_contrast == "not shown").all()
    grown = lines.verdict.xs(("more at larger eps", "away", "heatmap"), level=("claim", "half", "measure"))
    assert grown["LRPC", one_hot, "40"] == "supported" and grown["LRPC", logit, "40"] != "supported"
    # under the table
    same = lines["mean"].xs("attention moves", level="claim")
    ours, margin = same["LRPC", logit, "10"], same["MarginC", "", "10"]
    np.testing.assert_allclose(ours, margin.loc[ours.index], atol=1e-3)
    sparsity = lines.xs(("concentrated", "sparsity"), level=("claim", "measure"))
    assert (sparsity["mean"] < 0).all() and (sparsity.xs("10", level="eps").verdict == "the reverse").all()
    relevant = lines.verdict.xs(("concentrated", "on the most relevant tenth"), level=("claim", "measure"))
    assert set(relevant[relevant == "supported"].index) == {("LRPC", one_hot, eps, "") for eps in ("20", "40")}
    size = lines.verdict.xs("comparable size", level="claim")
    assert (size.xs("rho_inf against PGD", level="measure") == "the reverse").all()
    assert (size.xs("rho_1 against PGD", level="measure") == "supported").all()
    assert lines.images.min() >= claims.LEAST_IMAGES


def test_the_words_of_notebook_10_on_the_fine_level_agree_with_its_table():
    notebook = (paths.REPOSITORY / "notebooks/10_explainability_measured.ipynb").read_text(encoding="utf-8")
    lines = claims.read(paths.REPOSITORY / "figures" / "scenes" / "explainability_fine_claims.csv")
    moves = lines.xs("attention moves", level="claim")
    (supported,) = moves[moves.verdict == "supported"].itertuples()
    one_hot, _ = tables.READINGS
    assert supported.Index == ("LRPF", one_hot, "10", "towards", "heatmap, less a third label's")
    assert 0.015 < supported.mean < 0.025 and "two points more" in notebook
    assert f"one line of {len(moves)} bears" in notebook and f"$p = {supported.p_holm:.3f}$" in notebook
    assert (
        moves.xs(("towards", supported.Index[-1]), level=("half", "measure"))["mean"] > 0
    ).all()  # lean the same way
    assert not (moves.verdict == "the reverse").any() and lines.images.min() >= claims.LEAST_IMAGES
