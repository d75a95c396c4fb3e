"""Rows of attacks tell what the attacks did, and summaries are what NumPy makes of the rows."""

import copy
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from networks import SIZE, sixteen_images

from c2f_lrp import evaluation, measures
from c2f_lrp.attacks import DFC, LRPC, PGDC, PGDF
from c2f_lrp.datasets import LazyImages


@pytest.fixture
def images(clf):
    return sixteen_images(clf)


def test_rows_tell_what_the_attack_did(clf, images):
    attack = PGDC(eps=20, iterations=5, early_stop=True)
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
    # A PGD that stops early tests before it steps: what is wrong from the start is fooled with no perturbation.
    wrong = rows[~right]
    assert wrong.fooled.all() and (wrong.iterations == 0).all() and (wrong.rho_2 == 0).all()


def test_fine_rows_need_both_labels_right(clf, images):
    rows = evaluation.evaluate(clf, images, {"pgd": PGDF(eps=20, iterations=3)}).set_index("image")
    several = torch.tensor(clf.hierarchy.n_fine)[images.coarse] > 1
    assert len(rows) == several.sum()
    # Of the first the coarse label is wrong: it cannot count as a fine-level success.
    assert not rows.correct["image 0"] and not rows.fooled["image 0"]
    assert not rows.correct["image 1"] and rows.fooled["image 1"]


@pytest.mark.filterwarnings("ignore:one_hot with ignored biases", "ignore:LRPC. the first step moved none")
def test_an_attack_that_follows_nothing_is_announced_once(clf, images, recwarn):
    attacks = {"literal": LRPC(init="one_hot", bias="ignore", iterations=1), "other": LRPC(iterations=1)}
    evaluation.evaluate(clf, images, attacks, shard_size=6)
    doubts = [str(warning.message) for warning in recwarn if "the gradient of LRPC" in str(warning.message)]
    assert len(doubts) == 1 and "bias='ignore'" in doubts[0] and "is zero" in doubts[0]


def test_no_more_images_are_held_than_a_shard_has(clf, images):
    read, attacks = [], {"a": PGDC(eps=20, iterations=4), "b": DFC(iterations=4)}

    def few(rows):
        read.append(len(rows))
        return images[rows]

    lazy = LazyImages(images.coarse, images.fine, few)
    rows = evaluation.evaluate(clf, lazy, attacks, shard_size=6)
    assert read == [6, 6, 4]  # once for both settings
    pd.testing.assert_frame_equal(rows, evaluation.evaluate(clf, images, attacks, shard_size=6))


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
