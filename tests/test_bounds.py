"""Attacks that differ in their bound alone: together they do what each does by itself."""

import pandas as pd
import pytest
import torch

from c2f_lrp import evaluation
from c2f_lrp.attacks import DFC, LRPC, LRPF, PGDC
from c2f_lrp.attacks.base import Attack
from c2f_lrp.attacks.bounds import attack_each, families
from c2f_lrp.datasets import Images
from c2f_lrp.evaluation import run as evaluation_run

CHOICES = [
    {},
    {"init": "logit", "bias": "ignore"},
    {"p": 2},
    {"labels": "clean", "step_scale": "gradient", "lr": 1e4},
    {"objective": "regions", "iterate": "best"},
]


def of(images):
    return images.pixels, images.coarse, images.fine


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("attack_class", [LRPC, LRPF])
def test_together_as_alone(clf, images, attack_class, choice):
    attacks = {eps: attack_class(eps=eps, iterations=6, **{"lr": 3} | choice) for eps in (4, 40, 12.7)}
    assert families(attacks) == [[4, 40, 12.7]]
    together = attack_each(attacks, clf, *of(images))
    assert list(together) == list(attacks)
    reached = []
    for eps, attack in attacks.items():
        alone = attack(clf, *of(images))
        assert torch.equal(together[eps].fooled, alone.fooled)
        assert torch.equal(together[eps].iterations, alone.iterations)
        torch.testing.assert_close(together[eps].perturbation, alone.perturbation, rtol=0, atol=1e-9)
        assert together[eps].perturbation.abs().max() <= eps  # exactly
        reached.append(alone.perturbation.abs().max().item())
    assert reached[0] == 4 and reached[2] < reached[1]  # so that a bound given to the wrong image would show


def test_who_can_share_batches():
    attacks = {
        "a": LRPC(eps=10),
        "pgd": PGDC(eps=1),
        "other loss": LRPC(eps=10, p=2),
        "b": LRPC(eps=20),
        "noise": LRPC(eps=30, random_start=True),
        "pgd 2": PGDC(eps=2),
        "fine": LRPF(eps=10),
        "deepfool": DFC(),
    }
    expected = [["a", "b"], ["pgd"], ["other loss"], ["noise"], ["pgd 2"], ["fine"], ["deepfool"]]
    assert families(attacks) == expected


def test_a_subclass_that_may_use_its_own_eps_is_not_trusted(clf, images):
    class Mine(LRPC):
        def step(self, at, memory):
            return at.perturbation.clamp(-self.eps, self.eps) + self.eps, memory

    attacks = {eps: Mine(eps=eps, iterations=1) for eps in (1, 2)}
    assert families(attacks) == [[1], [2]]
    with pytest.raises(TypeError, match="Mine.* has one bound for all images; call it for each bound"):
        attacks[1](clf, *of(images), bounds=torch.ones(8))


@pytest.mark.parametrize("bounds", [[1.0] * 7, [0.0] * 8, [-1.0] * 8, [float("nan")] * 8, [float("inf")] * 8])
def test_bounds_that_cannot_be(clf, images, bounds):
    with pytest.raises(ValueError, match=r"bounds are \[.*\]; give 8 above 0, one for each image"):
        LRPC()(clf, *of(images), bounds=torch.tensor(bounds))


def test_no_images(clf, images):
    results = attack_each({1: LRPC(eps=1), 2: LRPC(eps=2)}, clf, *(part[:0] for part in of(images)))
    assert [len(result.fooled) for result in results.values()] == [0, 0]


@pytest.mark.parametrize("attack_class, size", [(LRPC, 8), (LRPF, 8), (LRPC, 64)])
def test_rows_of_a_table_are_those_of_each_attack(clf, images, attack_class, size, tmp_path, monkeypatch):
    """Few images of a network share batches; a slice that fills a batch does not."""
    calls, real = [], Attack.__call__

    def count(self, *args, **choices):
        calls.append(self)
        return real(self, *args, **choices)

    monkeypatch.setattr(Attack, "__call__", count)
    monkeypatch.setattr(evaluation_run, "LARGEST_BATCH", 8 if size == 64 else 64)
    monkeypatch.setattr(evaluation_run, "warn_from_preflight", lambda *args: None)
    attacks = {f"{eps}": attack_class(eps=eps, lr=3, iterations=4) for eps in (4, 12)}
    given = Images(*of(images), None, None, None, tuple("abcdefgh"))
    rows = evaluation.evaluate(clf, given, attacks, store=tmp_path)
    assert len(calls) == (2 if size == 64 else 1)
    assert len(list(tmp_path.iterdir())) == 2  # each setting in a file of its own
    alone = [evaluation.evaluate(clf, given, {name: attack}) for name, attack in attacks.items()]
    pd.testing.assert_frame_equal(rows, pd.concat(alone, ignore_index=True), check_exact=False, rtol=1e-9)
    # What is kept is not attacked again, and what is missing is attacked alone.
    next(tmp_path.iterdir()).unlink()
    calls.clear()
    resumed = evaluation.evaluate(clf, given, attacks, store=tmp_path, resume=True)
    assert len(calls) == 1
    pd.testing.assert_frame_equal(rows, resumed, check_exact=False, rtol=1e-9)
