"""Ready for a GPU without having one: tensors made on the default device, and hidden copies to the host, are found.

Everything given lies on the CPU, while the default device is `meta`, whose tensors have no values: whoever makes a
tensor without saying where cannot use it beside the given ones. And NumPy must not be asked for a tensor's values
before `.cpu()`, which a GPU's tensors would refuse.
"""

import copy

import pytest
import torch
from torch.overrides import TorchFunctionMode

from c2f_lrp import evaluation, measures, panels
from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, PGDC, PGDF, preflight
from c2f_lrp.datasets import Images
from c2f_lrp.lrp import LRP, ZennitLRP
from c2f_lrp.objectives import adversarial_labels, lrp_loss


class Elsewhere(TorchFunctionMode):
    """As on a GPU: `numpy()` wants a tensor that comes from `cpu()`."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.Tensor.numpy, torch.Tensor.__array__) and not getattr(args[0], "is_on_host", False):
            raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu() first")
        out = function(*args, **(kwargs or {}))
        if function is torch.Tensor.cpu:
            out = out.view_as(out)  # a mark on this one, not on the tensor that it may be
            out.is_on_host = True
        return out


@pytest.fixture
def elsewhere():
    with torch.device("meta"), Elsewhere():
        yield


@pytest.fixture(scope="module")
def given(images):
    masks = torch.zeros(len(images.pixels), *images.pixels.shape[2:], dtype=torch.bool)
    masks[:, 1:3, 1:4] = True
    names = tuple(map(str, range(len(masks))))
    return Images(images.pixels, images.coarse, images.fine, masks, ~masks, 1 - images.coarse, names)


def test_what_is_made_elsewhere_is_found(images, elsewhere):
    with pytest.raises((RuntimeError, NotImplementedError)):
        (images.pixels + torch.zeros(len(images.pixels), 1, 1, 1)).sum().item()
    with pytest.raises(TypeError, match="cpu"):
        images.pixels.numpy()
    assert images.pixels.cpu().numpy().shape == images.pixels.shape


ATTACKS = [
    LRPC(iterations=2),
    LRPC(iterations=2, iterate="best", random_start=True),
    LRPC(iterations=2, objective="regions", original="given"),
    LRPF(iterations=2, objective="attention"),
    LRPF(iterations=2, p=2, init="logit", bias="ignore"),
    LRPC(iterations=1, backend="zennit"),
    PGDC(iterations=2),
    PGDF(iterations=2, random_start=True),
    DFC(iterations=2),
    DFF(iterations=2, ends="clip", candidates=1),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
def test_attacks_stay_on_the_device(clf, images, attack, elsewhere):
    result = attack(clf, images.pixels, images.coarse, images.fine, batch_size=5)
    assert result.perturbation.device == result.fooled.device == result.iterations.device == images.pixels.device
    assert preflight(attack, clf, images.pixels, images.coarse, images.fine) == []


@pytest.mark.parametrize("kind", [LRP, ZennitLRP])
def test_relevance_stays_on_the_device(clf, images, kind, elsewhere):
    lrp = kind(copy.deepcopy(clf.coarse))
    for p in (1, 2):
        x = images.pixels.clone().requires_grad_()
        lrp_loss(lrp, x, *adversarial_labels(clf.coarse(images.pixels)), p).sum().backward()
        assert x.grad.any()


@pytest.mark.parametrize("attack", [LRPC(iterations=2), PGDF(iterations=2)], ids=["coarse", "fine"])
def test_tables_and_measures_stay_on_the_device(clf, given, attack, elsewhere):
    rows = evaluation.evaluate(clf, given, {"a": attack})
    assert len(rows) == len(given)
    eta = torch.full_like(given.pixels, -0.5).maximum(-given.pixels)
    assert len(measures.measure(clf, given, eta, attack.level)) == len(given)


def test_figures_stay_on_the_device(clf, given, elsewhere):
    names = clf.hierarchy.coarse_names
    counts = panels.label_pairs(clf, given, "coarse", names[int(given.coarse[0])])
    org, adv = next(iter(counts))
    attacks = {"a": PGDC(iterations=2)}
    row, *_ = panels.choose_images(clf, given, org, adv, attacks)
    columns, *_ = panels.panels(clf, given.pixels[row], int(given.coarse[row]), int(given.fine[row]), attacks)
    assert [column.title for column in columns] == ["before", "a"]
