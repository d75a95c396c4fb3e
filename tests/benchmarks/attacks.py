"""DeepFool and PGD against foolbox and torchattacks, and Table I against the same code one image at a time.

    python -m tests.benchmarks.attacks [--images 100] [--repeats 3]           to attacks.md beside this file
    python -m tests.benchmarks.attacks --profile tiny-imagenet --root DIR     to attacks_tiny-imagenet.md

Needs `pip install -e ".[bench]"`, then `pip install --no-deps torchattacks`: that asks for a requests of 2020, which
JupyterLab refuses, and works with a newer one. Same network, same images, one run, the libraries taking turns.
Agreement is judged in float64, so that rounding decides nothing; times are taken in float32. To the other libraries
every network is flat; at the fine level ours is compared without the coarse network's say.
"""

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import foolbox
import torch
import torchattacks
from torch import Tensor, nn
from tqdm.auto import tqdm

import c2f_lrp
from c2f_lrp.attacks import DFC, DFF, PGDC, PGDF
from c2f_lrp.evaluation import evaluate
from c2f_lrp.tables import table_attacks
from tests.benchmarks.relevance import spread, timed

PGD_EPS = (2.6, 8.0)  # the paper's, and one at which all images are fooled
SCENES_IN_TABLE = 1000
EVERY = 10  # of these, every tenth is attacked alone


# ------------------------------------------------------------------------------------------------ the peers' attacks
def foolbox_deepfool(network: nn.Module, pixels: Tensor, labels: Tensor, steps: int = 50) -> Tensor:
    model = foolbox.PyTorchModel(network, bounds=(0, 255))
    attack = foolbox.attacks.L2DeepFoolAttack(steps=steps, candidates=None, overshoot=0.02)
    return attack.run(model, pixels, labels) - pixels


def foolbox_pgd(network: nn.Module, pixels: Tensor, labels: Tensor, eps: float, steps: int = 40) -> Tensor:
    model = foolbox.PyTorchModel(network, bounds=(0, 255))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=eps / 4, steps=steps, random_start=False)
    return attack.run(model, pixels, foolbox.criteria.Misclassification(labels), epsilon=eps) - pixels


class FromUnit(nn.Module):
    """torchattacks gives images in [0, 1]."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(255 * x)


def torchattacks_deepfool(network: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    attack = torchattacks.DeepFool(FromUnit(network).eval(), steps=50, overshoot=0.02)
    return 255 * attack(pixels / 255, labels) - pixels


# --------------------------------------------------------------------------------------------------------- agreement
@torch.no_grad()
def compared(network: nn.Module, pixels: Tensor, labels: Tensor, ours: Tensor, theirs: Tensor) -> list[str]:
    """Cells: fooled by ours and theirs, agreement, ratio of mean rho^2, relative difference of the perturbations."""

    def fooled(eta: Tensor) -> Tensor:
        return network(pixels + eta).argmax(1) != labels

    def norms(eta: Tensor) -> Tensor:
        return eta.flatten(1).norm(dim=1)

    rho = [(norms(eta) / norms(pixels)).mean() for eta in (ours, theirs)]
    difference = norms(ours - theirs) / norms(theirs).clamp(min=1e-12)
    mine, other = fooled(ours), fooled(theirs)
    return [
        f"{100 * mine.double().mean():.1f} / {100 * other.double().mean():.1f}",
        f"{100 * (mine == other).double().mean():.1f}",
        f"{rho[0] / rho[1]:.4f}",
        f"{difference.median():.1e}",
        f"{difference.max():.1e}",
    ]


def levels(classifier, images) -> list[tuple[str, nn.Module, Tensor, Tensor]]:
    """The coarse network, and the fine one with the most images: name, network, rows and labels."""
    commonest = images.coarse.mode().values.item()
    rows = (images.coarse == commonest).nonzero().flatten()
    name = classifier.hierarchy.coarse_names[commonest]
    return [
        ("coarse", classifier.coarse, torch.arange(len(images)), images.coarse),
        (f"fine, {name}", classifier.fine[commonest], rows, images.fine[rows]),
    ]


def agreement(classifier, images) -> list[str]:
    classifier = classifier.double()
    lines = [
        "| level | attack | against | fooled %, ours / theirs | same images % | ratio of mean ρ² | "
        "difference of η, median | largest |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def add(level: str, attack: str, peer: str, cells: list[str]) -> None:
        lines.append("| " + " | ".join([level, attack, peer, *cells]) + " |")

    for level, network, rows, labels in tqdm(levels(classifier, images), desc="agreement", leave=False):
        pixels, true = images.pixels[rows].double(), (images.coarse[rows], images.fine[rows])
        deepfool, pgd = (DFC, PGDC) if level == "coarse" else (DFF, PGDF)
        flat = flat_classifier(classifier, network, level)
        theirs = foolbox_deepfool(network, pixels, labels)
        for ends in ("clip", "hold"):
            ours = deepfool(ends=ends)(flat, pixels, *true).perturbation
            cells = compared(network, pixels, labels, ours, theirs)
            add(level, f'{deepfool.__name__}, ends="{ends}"', "foolbox", cells)
        other = torchattacks_deepfool(network.float(), pixels.float(), labels).double()
        network.double()
        ours = deepfool()(flat, pixels, *true).perturbation
        add(level, deepfool.__name__, "torchattacks (float32)", compared(network, pixels, labels, ours, other))
        for eps in PGD_EPS:
            result = pgd(eps=eps, early_stop=True)(flat, pixels, *true)
            theirs = torch.zeros_like(pixels)  # foolbox goes on after success: let it take as many steps as ours
            for n in result.iterations.unique().tolist():
                same = result.iterations == n
                theirs[same] = foolbox_pgd(network, pixels[same], labels[same], eps, n)
            cells = compared(network, pixels, labels, result.perturbation, theirs)
            add(level, f"{pgd.__name__}, ε = {eps:g}", "foolbox, as many steps", cells)
    classifier.float()
    return [*lines, ""]


class Constant(nn.Module):
    """A coarse network that never changes its mind: what is left is the flat fine network, as the peers see it."""

    def __init__(self, label: int, n_labels: int):
        super().__init__()
        self.label, self.n_labels = label, n_labels

    def forward(self, pixels: Tensor) -> Tensor:
        return nn.functional.one_hot(torch.full((len(pixels),), self.label), self.n_labels).to(pixels)


def flat_classifier(classifier, network: nn.Module, level: str):
    """The classifier as the other libraries see it: without the coarse network's say at the fine level."""
    if level == "coarse":
        return classifier
    label = next(i for i, fine in enumerate(classifier.fine) if fine is network)
    constant = Constant(label, classifier.hierarchy.n_coarse)
    return c2f_lrp.classifier.CoarseToFine(constant, list(classifier.fine), classifier.hierarchy).eval()


# ------------------------------------------------------------------------------------------------------------- speed
def speed(classifier, images, repeats: int) -> list[str]:
    lines = []
    for level, network, rows, labels in levels(classifier, images):
        pixels, true = images.pixels[rows], (images.coarse[rows], images.fine[rows])
        flat = flat_classifier(classifier, network, level)
        in_our_order = pixels.contiguous(memory_format=torch.channels_last)  # as our attacks lay them out by themselves
        deepfool, pgd = (DFC, PGDC) if level == "coarse" else (DFF, PGDF)
        contests: dict[str, dict[str, Callable]] = {
            "DeepFool": {
                f"{deepfool.__name__} here": partial(deepfool(), flat, pixels, *true),
                f'{deepfool.__name__} here, ends="clip"': partial(deepfool(ends="clip"), flat, pixels, *true),
                "foolbox": partial(foolbox_deepfool, network, pixels, labels),
                "torchattacks": partial(torchattacks_deepfool, network, pixels, labels),
            }
        }
        for eps in PGD_EPS:
            contests[f"PGD, ε = {eps:g}"] = {
                f"{pgd.__name__} here, early_stop=True": partial(pgd(eps=eps, early_stop=True), flat, pixels, *true),
                f"{pgd.__name__} here": partial(pgd(eps=eps), flat, pixels, *true),
                "foolbox": partial(foolbox_pgd, network, pixels, labels, eps),
                "foolbox, images channels-last": partial(foolbox_pgd, network, in_our_order, labels, eps),
            }
        for name, jobs in contests.items():
            times = timed(jobs, repeats, "cpu")
            ours = times[next(iter(jobs))]
            lines += [
                f"| {level}, {len(pixels)} images | {name} | {way} | {sorted(values)[repeats // 2]:.2f} | "
                f"{spread(values, ours)} |"
                for way, values in times.items()
            ]
    head = ["| level | attack | by | median s | times as long as the first |", "|---|---|---|---|---|"]
    return [*head, *lines, ""]


def table_one(classifier, n: int) -> list[str]:
    """Table I in batches, and the same one image at a time on a sample; both in this run, setting by setting."""
    images = c2f_lrp.load_images("scenes", limit=n)
    sample = images[torch.arange(0, len(images), EVERY)]
    right = classifier.predict(sample.pixels)[0] == sample.coarse
    sample = sample[right]
    batched = alone = 0.0
    for name, attack in tqdm(table_attacks("coarse", [10, 20, 40]).items(), desc="Table I", leave=False):
        start = time.perf_counter()
        rows = evaluate(classifier, images, {name: attack}, measures=False)
        middle = time.perf_counter()
        attack(classifier, sample.pixels, sample.coarse, sample.fine, batch_size=1)
        batched += (middle - start) / int(rows.correct.sum())
        alone += (time.perf_counter() - middle) / len(sample)
    return [
        f"Table I on {len(images)} scenes, two threads: {1000 * batched:.0f} ms for an image and all eight settings; "
        f"one image at a time ({len(sample)} of them) {1000 * alone:.0f} ms, {alone / batched:.2f} times as long.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", default="scenes")
    parser.add_argument("--root")
    parser.add_argument("--table", type=int, default=SCENES_IN_TABLE, help="scenes in Table I; 0: leave it out")
    args = parser.parse_args()
    torch.set_num_threads(2)
    classifier = c2f_lrp.load_classifier(args.profile)
    images = c2f_lrp.load_images(args.profile, limit=args.images, root=args.root)
    coarse, fine = classifier.predict(images.pixels)
    images = images[(coarse == images.coarse) & (fine == images.fine)]
    lines = [
        "# Attacks against their peers",
        "",
        f"Written by `python -m tests.benchmarks.attacks`; profile {args.profile}, the {len(images)} of the first "
        f"{args.images} images that are classified correctly; foolbox {foolbox.__version__}, torchattacks "
        f"{torchattacks.__version__}, torch {torch.__version__}, {platform.processor() or 'CPU'}, two threads. "
        f"Ratios: median of {args.repeats} turns (smallest–largest).",
        "",
        "## Agreement, float64",
        "",
        *agreement(classifier, images),
        'With `ends="clip"` DeepFool does what foolbox does, which adds 1e-4 of a pixel unit to every step. With '
        '`ends="hold"`, our default, pixels at 0 or 255 take no part in a step outwards, and the overshoot of 2 % is '
        "kept instead of being used up by what clipping takes away; 0.0058 is added to every step, as in later "
        "versions of its authors' code. By the paper, whose images have no ends, both are right, and "
        "on an affine classifier both stand on the shortest path (tests/test_attacks.py). torchattacks clips "
        "too and has no nudge: its images end on the boundary or just short of it, so it fools fewer.",
        "",
        "## Time, float32",
        "",
        *speed(classifier, images, args.repeats),
    ]
    if args.table and args.profile == "scenes":
        lines += table_one(classifier, args.table)
    text = "\n".join(lines)
    print(text)
    name = "attacks.md" if args.profile == "scenes" else f"attacks_{args.profile}.md"
    Path(__file__).with_name(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
