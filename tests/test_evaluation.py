"""Rows, shards and tables: what is stored is what is computed, and summaries are what NumPy makes of the rows."""

import copy
import dataclasses
import errno
import os
import random
import signal
import time
import types

import numpy as np
import pandas as pd
import pytest
import torch
from networks import SIZE, random_pixels

from c2f_lrp import evaluation, measures, panels, shards, tables
from c2f_lrp.attacks import DFC, DFF, LRPC, PGDC, PGDF
from c2f_lrp.datasets import Images, LazyImages
from c2f_lrp.evaluation import rows as evaluation_rows


@pytest.fixture
def images(clf):
    """Sixteen random images labelled by the classifier, but for the first's coarse and the second's fine label."""
    pixels = random_pixels(64, SIZE, SIZE, seed=5)
    pixels = pixels[clf.predict(pixels)[0].argsort()[-40:].flip(0)[: 16 * 2 : 2]]
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
def test_an_attack_that_follows_nothing_is_announced_once(clf, images, recwarn):
    attacks = {"literal": LRPC(init="one_hot", bias="ignore", iterations=1), "other": LRPC(iterations=1)}
    evaluation.evaluate(clf, images, attacks, shard_size=6)
    doubts = [str(warning.message) for warning in recwarn if "the gradient of LRPC" in str(warning.message)]
    assert len(doubts) == 1 and "bias='ignore'" in doubts[0] and "is zero" in doubts[0]


ATTACKS = {"a": PGDC(eps=20, iterations=4), "b": DFC(iterations=4)}


@pytest.fixture
def stored(clf, images, tmp_path, monkeypatch):
    """The rows of two settings and three slices, their folder, and a list that grows with each shard attacked later."""
    rows = evaluation.evaluate(clf, images, ATTACKS, store=tmp_path, shard_size=6)
    attacked, real = [], evaluation_rows.attack_rows
    monkeypatch.setattr(evaluation_rows, "attack_rows", lambda *args: attacked.append(1) or real(*args))
    return rows, tmp_path, attacked


def again(clf, images, folder):
    return evaluation.evaluate(clf, images, ATTACKS, store=folder, resume=True, shard_size=6)


def test_a_second_run_attacks_nothing_and_gives_the_same_rows(clf, images, stored):
    rows, folder, attacked = stored
    assert len(list(folder.iterdir())) == 6  # and nothing half-written beside them
    pd.testing.assert_frame_equal(rows, again(clf, images, folder))
    assert not attacked
    in_one_piece = evaluation.evaluate(clf, images, ATTACKS)
    assert attacked == [1, 1]
    pd.testing.assert_frame_equal(rows, in_one_piece, check_exact=False, rtol=1e-9)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 8] ^= 1  # among the values, not in the footer
    path.write_bytes(content)


def exchange(path):
    other = max(entry for entry in path.parent.glob("*.parquet") if entry != path)
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [cut, flip_a_bit, exchange, lambda path: path.write_bytes(b"")])
def test_a_damaged_shard_is_named_and_made_again(clf, images, stored, damage):
    rows, folder, attacked = stored
    first, *others = sorted(folder.iterdir())
    damage(first)
    before = {path: path.stat().st_mtime_ns for path in others}
    with pytest.warns(UserWarning, match=f"{first} is damaged .* its rows are computed again"):
        pd.testing.assert_frame_equal(rows, again(clf, images, folder))
    assert attacked == [1] and {path: path.stat().st_mtime_ns for path in others} == before
    pd.testing.assert_frame_equal(rows, again(clf, images, folder))
    assert attacked == [1]  # repaired


def test_a_full_disk_is_named_and_what_was_written_is_kept(clf, images, tmp_path, monkeypatch):
    calls = []

    def fsync(handle):
        calls.append(handle)
        if len(calls) == 5:  # two calls a shard, one for the file and one for the folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"written \(No space left on device\).* --resume: rows .* kept"):
        evaluation.evaluate(clf, images, ATTACKS, store=tmp_path, shard_size=6)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(kept) == 2 and {path.suffix for path in kept} == {".parquet"}
    pd.testing.assert_frame_equal(again(clf, images, tmp_path), evaluation.evaluate(clf, images, ATTACKS, shard_size=6))
    assert len(list(tmp_path.iterdir())) == 6 and kept.items() <= {p: p.stat().st_mtime_ns for p in kept}.items()


def test_a_file_limit_stops_the_write_like_a_full_disk(tmp_path):
    """RLIMIT_FSIZE: the kernel refuses, nothing is simulated."""
    resource = pytest.importorskip("resource")
    table, limits = pd.DataFrame({"a": range(100_000)}), resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"could not be written \(.*File too large\)"):
            shards.write_shard(tmp_path, table, {"fact": 1})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())
    shards.write_shard(tmp_path, table, {"fact": 1})
    pd.testing.assert_frame_equal(shards.read_shard(tmp_path, {"fact": 1}), table)


def test_a_folder_that_cannot_be_written_to_is_named_before_the_attacks(clf, images, stored, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="rows cannot be written to .*file/rows .*run again"):
        evaluation.evaluate(clf, images, ATTACKS, store=tmp_path / "file" / "rows")
    assert not stored[2]


def test_what_a_killed_run_left_half_written_is_cleared_away(clf, images, stored):
    _, folder, _ = stored
    old, new = folder / "x.parquet.1.part", folder / "y.parquet.2.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    again(clf, images, folder)
    assert not old.exists() and new.exists()  # a young one may be another run's


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes")
def test_killed_and_resumed_it_loses_nothing_and_repeats_nothing(clf, images, tmp_path):
    """SIGKILL at random moments; tests/benchmarks/kill_and_resume.py does it to the command and its notebook."""
    attacks, folder, moments = ATTACKS | {"c": PGDC(eps=1)}, tmp_path / "rows", random.Random(0)

    def resumed():
        return evaluation.evaluate(clf, images, attacks, store=folder, resume=True, shard_size=2)

    def written():
        return {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}

    whole, seen, total = evaluation.evaluate(clf, images, attacks, shard_size=2), {}, 3 * len(images) // 2
    for kill in range(1, 4):
        child = os.fork()
        if not child:
            try:
                resumed()
            finally:
                os._exit(0)
        while len(written()) < kill * total // 5:
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(moments.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert seen.items() <= written().items() and len(written()) < total
        seen = written()
    pd.testing.assert_frame_equal(resumed(), whole)
    assert seen.items() <= written().items() and len(written()) == total


def test_no_more_images_are_held_than_a_shard_has(clf, images):
    read = []

    def few(rows):
        read.append(len(rows))
        return images[rows]

    lazy = LazyImages(images.coarse, images.fine, few)
    rows = evaluation.evaluate(clf, lazy, ATTACKS, shard_size=6)
    assert read == [6, 6, 4]  # once for both settings
    pd.testing.assert_frame_equal(rows, evaluation.evaluate(clf, images, ATTACKS, shard_size=6))


def names_of(clf, images, folder, attack, **choices):
    evaluation.evaluate(clf, images, {"a": attack}, store=folder, **choices)
    return {path.name for path in folder.iterdir()}


def test_a_shard_is_named_by_all_that_determines_it(clf, images, tmp_path, monkeypatch):
    names = names_of(clf, images, tmp_path, PGDC(iterations=1))
    assert len(names) == 1 and names_of(clf, images, tmp_path, PGDC(iterations=1)) == names
    masks = torch.zeros(len(images), SIZE, SIZE, dtype=torch.bool)
    masks[:, :3] = True
    other = copy.deepcopy(clf)
    other.coarse.layers[-1].bias.data[0] += 1e-9
    shifted = copy.deepcopy(clf)
    shifted.coarse.mean += 1e-9  # a buffer that checkpoints do not hold
    changes = [
        (clf, images, PGDC(iterations=1, eps=3), {}),
        (clf, images, PGDC(iterations=1, random_start=True), {}),
        (clf, images, DFC(iterations=1), {}),
        (clf, images.with_pixels(images.pixels.clamp(max=254.9)), PGDC(iterations=1), {}),
        (clf, dataclasses.replace(images, object_masks=masks), PGDC(iterations=1), {}),
        (clf, dataclasses.replace(images, object_masks=~masks), PGDC(iterations=1), {}),
        (clf, images[:8], PGDC(iterations=1), {}),
        (clf, images, PGDC(iterations=1), {"measures": False}),
        (other, images, PGDC(iterations=1), {}),
        (shifted, images, PGDC(iterations=1), {}),
    ]
    for count, (classifier, given, attack, choices) in enumerate(changes, 2):
        assert len(names_of(classifier, given, tmp_path, attack, **choices)) == count
    software = shards.software()
    for name in ("c2f_lrp", "torch", "code"):
        monkeypatch.setattr(shards, "software", lambda name=name: software | {name: "other"})
        count += 1
        assert len(names_of(clf, images, tmp_path, PGDC(iterations=1))) == count


@pytest.mark.parametrize("attack", [PGDC(eps=20, iterations=5), PGDF(eps=20, iterations=5)])
def test_rows_hold_the_measures_of_explainability(clf, images, attack):
    masks = torch.zeros(len(images), SIZE, SIZE, dtype=torch.bool)
    masks[:, :3] = True
    given = dataclasses.replace(images, object_masks=masks, secondary_masks=~masks)
    rows = evaluation.evaluate(clf, given, {"a": attack}, shard_size=5).set_index("image")
    right = rows[rows.correct]
    assert 0 < len(right) < len(rows)
    chosen = given[[given.names.index(name) for name in right.index]]
    eta = attack(clf, chosen.pixels, chosen.coarse, chosen.fine).perturbation
    expected = measures.measure(clf, chosen, eta, attack.level)
    assert (right.runner_up.to_numpy() == expected.r_adv).all()
    shared = [name for name in expected if name in rows and not name.startswith(("rho", "fooled"))]
    assert len(shared) > 15
    np.testing.assert_allclose(right[shared].to_numpy(float), expected[shared].to_numpy(float), atol=1e-9)
    wrong = rows[~rows.correct]
    assert wrong[shared].isna().all(axis=None) and (wrong.runner_up == -1).all()
    assert "entropy of the perturbation" not in evaluation.evaluate(clf, given, {"a": attack}, measures=False)


def test_a_network_without_relevance_is_attacked_without_measures(clf, images):
    other = copy.deepcopy(clf)
    other.coarse.layers[1] = torch.nn.GELU().eval()
    with pytest.raises(TypeError, match=r"GELU, which has no rule here.*evaluate\(..., measures=False\)"):
        evaluation.evaluate(other, images, {"a": PGDC(iterations=1)})
    assert len(evaluation.evaluate(other, images, {"a": PGDC(iterations=1)}, measures=False)) == 16


def test_rows_tell_the_seed_of_a_random_start(clf, images):
    attacks = {"a": PGDC(iterations=1), "b": PGDC(iterations=1, random_start=True, seed=7)}
    rows = evaluation.evaluate(clf, images, attacks, measures=False)
    assert rows.groupby("setting").seed.unique().map(list).to_dict() == {"a": [-1], "b": [7]}


def test_summary_against_numpy():
    rows = pd.DataFrame(
        {
            "setting": ["s"] * 4,
            "attack": ["PGDC"] * 4,
            "reading": [""] * 4,
            "eps": ["2.6"] * 4,
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
        lrp = [attack for setting, attack in attacks.items() if setting.attack == ours]
        assert sorted({attack.eps for attack in lrp}) == [10, 20, 40] and {attack.lr for attack in lrp} == {2.0}
        assert {(attack.init, attack.bias) for attack in lrp} == {("one_hot", "absorb"), ("logit", "ignore")}
    with pytest.raises(ValueError, match="choose coarse"):
        tables.table_attacks("middle", [10])


def test_comparison_puts_the_papers_value_beside_ours():
    attacks = tables.table_attacks("coarse", [10, 15])
    summary = pd.DataFrame(
        [
            setting._asdict() | {"rho_2": 0.0294, "rho_1": 0.0432, "rho_inf": 0.0399, "fooling_percent": 93.0}
            for setting in attacks
        ]
    )
    comparison = tables.compare(summary, "table_1")
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
    assert printed.loc["rho_2", "DFC"] == "0.0045 / 0.0294"


def test_claims_read_the_papers_own_table():
    """The paper's Table I: fooling rises, rho_inf too, rho_1 is flat, DeepFool is smallest, PGD's l1 is matched."""
    attacks = tables.table_attacks("coarse", [10, 20, 40])
    paper = tables.paper_values("table_1").set_index(["attack", "eps", "measure"]).value
    lines = {}
    for setting in attacks:
        printed = {measure: paper[setting.attack, setting.eps, measure] for measure in tables.MEASURES}
        lines[setting.label] = setting._asdict() | printed
    claims = tables.shape_claims(tables.compare(pd.DataFrame.from_dict(lines, "index"), "table_1"))
    assert claims.all(axis=None)  # ours are the paper's numbers here, so every column agrees


class Fools:
    """In place of an attack: fools the images of these names."""

    level = "coarse"

    def __init__(self, images, names):
        self.pixels = images.pixels[[images.names.index(name) for name in names]]

    def __call__(self, classifier, pixels, coarse, fine):
        fooled = [any(torch.equal(x, y) for y in self.pixels) for x in pixels]
        return types.SimpleNamespace(fooled=torch.tensor(fooled))


def test_the_image_of_a_figure_is_chosen_by_the_rule(clf, images):
    scores = clf.coarse(images.pixels).softmax(1).detach()
    pairs = [tuple(pair) for pair in scores.argsort(1, descending=True)[:, :2].tolist()]
    org, adv = max(pairs, key=pairs[2:].count)  # the first two images are misclassified
    rows = [row for row in range(2, 16) if pairs[row] == (org, adv)]
    rows.sort(key=lambda row: -scores[row, org])
    assert len(rows) > 3
    secondary = torch.full((16,), org)
    secondary[rows[2]] = adv  # an object of the runner-up's class comes before a higher score
    images = dataclasses.replace(images, secondary_coarse=secondary)
    first, second, third, last = (images.names[row] for row in [rows[2], rows[0], rows[1], rows[-1]])
    names = (clf.hierarchy.coarse_names[org], clf.hierarchy.coarse_names[adv])

    def chosen(*fooled, tried=16):
        attacks = {str(i): Fools(images, each) for i, each in enumerate(fooled)}
        row, counts = panels.choose_image(clf, images, *names, attacks, tried)
        assert (counts["of"] == min(tried, len(rows))).all()
        return images.names[row], counts.fooled.tolist()

    assert chosen([]) == (first, [0])
    assert chosen([second, third], [third]) == (third, [2, 1])
    assert chosen([last, second], [last]) == (last, [2, 1])
    assert chosen([last, second], [last], tried=2) == (second, [1, 0])
    with pytest.raises(ValueError, match="none of 16 images is classified as no class with runner-up"):
        panels.choose_image(clf, images, "no class", names[1], {"a": Fools(images, [])})


@pytest.mark.parametrize("attack", [DFC(iterations=2), DFF(iterations=2)])
def test_panels_show_before_and_after(clf, images, attack):
    several = (torch.tensor(clf.hierarchy.n_fine)[images.coarse] > 1).nonzero().flatten()
    row = several[several > 1][0]
    columns, org, adv = panels.panels(
        clf, images.pixels[row], images.coarse[row].item(), images.fine[row].item(), {"DF": attack}
    )
    assert [panel.title for panel in columns] == ["before", "DF"] and org != adv
    assert not columns[0].perturbation.any()
    assert columns[0].score_org >= columns[0].score_adv
    assert torch.equal(columns[1].pixels, images.pixels[row] + columns[1].perturbation)
    total = columns[0].relevance_org.clamp(min=0).sum().item()
    assert columns[0].norm_org == pytest.approx(total, rel=1e-9)
    with pytest.raises(ValueError, match="one level"):
        panels.panels(clf, images.pixels[row], 0, 0, {"a": DFC(), "b": DFF()})
