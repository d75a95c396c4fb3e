"""What a GPU computes is what a CPU computes. Skipped where there is no GPU; test_device.py looks for the usual faults
without one.
"""

import copy

import pytest
import torch
from PIL import Image

import c2f_lrp
from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, PGDC, PGDF
from c2f_lrp.attacks.base import input_gradient
from c2f_lrp.evaluation import evaluate
from c2f_lrp.lrp import LRP, ZennitLRP
from c2f_lrp.objectives import adversarial_labels, lrp_loss

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
PROFILES = ("scenes", "imagenet-lite")
SETTINGS = [dict(), dict(init="logit", bias="ignore")]


@pytest.fixture(scope="module", params=PROFILES)
def both(request):
    """A classifier in float64 on the CPU, its copy on the GPU, and images for it."""
    classifier = c2f_lrp.load_classifier(request.param).double()
    images = c2f_lrp.load_images("scenes", limit=6)
    pixels = images.pixels.double()
    if request.param != "scenes":  # no photographs are here; what the network says of enlarged scenes will do
        pixels = torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear").clamp(0, 255)
    return classifier, copy.deepcopy(classifier).cuda(), pixels


@pytest.mark.parametrize("how", SETTINGS, ids=["one-hot", "logit"])
@pytest.mark.parametrize("p", [1, 2])
def test_relevance_and_its_gradient(both, how, p):
    here, there, pixels = both
    labels = adversarial_labels(here.coarse(pixels))
    made = []
    for classifier, x in ((here, pixels), (there, pixels.cuda())):
        lrp = LRP(classifier.coarse, **how)
        pair = [label.to(x.device) for label in labels]
        made.append(
            (lrp.relevance(x, pair[0]), input_gradient(lambda x, lrp=lrp, pair=pair: lrp_loss(lrp, x, *pair, p), x))
        )
    for ours, theirs in zip(*made, strict=True):
        torch.testing.assert_close(theirs.cpu(), ours, rtol=1e-7, atol=1e-9 * float(ours.abs().max()))


def test_gradients_are_those_of_whole_float32(both):
    """Rounded to 10 bits, as GPUs do by default, the gradient would be many times further from that of float64."""
    _, there, pixels = both
    x = pixels.cuda()
    labels = adversarial_labels(there.coarse(x))
    exact = input_gradient(lambda x: lrp_loss(LRP(there.coarse), x, *labels), x).flatten(1)
    lrp = LRP(copy.deepcopy(there.coarse).float())
    whole = input_gradient(lambda x: lrp_loss(lrp, x, *labels), x.float())
    rounding = x.float().requires_grad_()
    totals = LRP.totals.__wrapped__(lrp, rounding)  # without what keeps float32 whole
    difference = totals.gather(1, labels[0][:, None]) - totals.gather(1, labels[1][:, None])
    (rounded,) = torch.autograd.grad(difference.sum(), rounding)

    def error(made: torch.Tensor) -> float:
        return ((made.double().flatten(1) - exact).norm(dim=1) / exact.norm(dim=1)).median().item()

    assert error(rounded) > 10 * error(whole)


def test_zennit_on_the_gpu():
    classifier = c2f_lrp.load_classifier("scenes").double().cuda()
    pixels = c2f_lrp.load_images("scenes", limit=4).pixels.double().cuda()
    labels = adversarial_labels(classifier.coarse(pixels))[0]
    ours, theirs = (kind(classifier.coarse).relevance(pixels, labels) for kind in (LRP, ZennitLRP))
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("kind", [LRPC, LRPF, PGDC, PGDF, DFC, DFF], ids=lambda kind: kind.__name__)
def test_attacks(both, kind):
    here, there, pixels = both
    coarse, fine = here.predict(pixels)
    attack = kind(iterations=3)
    ours = attack(here, pixels, coarse, fine)
    theirs = attack(there, pixels.cuda(), coarse.cuda(), fine.cuda())
    assert theirs.fooled.is_cuda
    assert theirs.fooled.cpu().equal(ours.fooled) and theirs.iterations.cpu().equal(ours.iterations)
    apart = (theirs.perturbation.cpu() - ours.perturbation).abs().gt(1e-6).double().mean()
    assert apart <= (1e-3 if kind in (PGDC, PGDF) else 0)  # the sign of a gradient near zero may differ


def test_rows_of_tables(tmp_path):
    classifier, images = c2f_lrp.load_classifier("scenes"), c2f_lrp.load_images("scenes", limit=8)
    attacks = {"LRPC": LRPC(iterations=3), "PGDF": PGDF(iterations=3), "DFC": DFC()}
    here = evaluate(classifier, images, attacks)
    there = evaluate(copy.deepcopy(classifier).cuda(), images.to("cuda"), attacks)
    assert (here.image == there.image).all() and (here.correct == there.correct).all()
    assert (here.fooled == there.fooled).mean() > 0.9  # float32
    assert (here.rho_2 - there.rho_2).abs().max() < 0.1 * here.rho_2.max()


def test_training_and_the_command(tmp_path):
    from c2f_lrp.cli import main
    from c2f_lrp.training.trainer import train_network

    images = c2f_lrp.load_images("scenes", limit=64)
    run = dict(epochs=1, finish_epochs=1, seed=0, cutmix=0.5, label_smoothing=0.1)
    settings = dict(n_classes=9, width=4, hidden=16, image_size=64)
    trained = train_network(
        settings,
        images.pixels.byte(),
        images.coarse,
        state=tmp_path / "state.safetensors",
        run=run,
        features=None,
        device="cuda",
    )
    assert trained(images.pixels[:2].to(next(trained.parameters()).device)).isfinite().all()
    photo = tmp_path / "photo.png"
    Image.fromarray(images.pixels[0].byte().permute(1, 2, 0).numpy()).save(photo)
    command = ["attack", "--profile", "scenes", "--device", "cuda", "--quiet", "--out", str(tmp_path / "out")]
    assert not main([*command, "-p", "iterations", "3", str(photo)])
    assert list((tmp_path / "out").iterdir())
