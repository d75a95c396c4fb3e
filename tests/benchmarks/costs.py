"""What the paper's tables and trainings cost, by network size: steps measured on this CPU, hours extrapolated.

    python -m tests.benchmarks.costs        to costs.md beside this file; two minutes and 6 GB

Measured are CPU seconds of one thread for one image, and floating-point operations are counted. Hours of a GPU are
operations by an assumed speed: no GPU was at hand.
"""

import time
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, Attack
from c2f_lrp.attacks.base import input_gradient
from c2f_lrp.attacks.lrp_attack import PAPER_EPS
from c2f_lrp.classifier import Classifier
from c2f_lrp.evaluation.rows import Setting
from c2f_lrp.lrp import LRP
from c2f_lrp.networks import vgg16
from c2f_lrp.objectives import adversarial_labels, lrp_loss, margin
from c2f_lrp.profiles import get_profile
from c2f_lrp.tables import READINGS, table_attacks

IMAGENET, TINY = get_profile("imagenet"), get_profile("tiny-imagenet")
FINE = IMAGENET.hierarchy().n_fine
SIZES = {
    "scenes": dict(width=get_profile("scenes").width, hidden=get_profile("scenes").hidden, image_size=64),
    "tiny-imagenet, fine": dict(width=TINY.width, hidden=TINY.hidden, image_size=64),
    "tiny-imagenet, coarse": dict(width=TINY.coarse_width, hidden=TINY.hidden, image_size=64),
    "a quarter of VGG-16's width": dict(width=16, hidden=1024, image_size=224),
    "half of it": dict(width=32, hidden=2048, image_size=224),
    "VGG-16, the paper's": dict(width=64, hidden=4096, image_size=224),
}
SUSTAINED = (5, 20, 80)  # TFLOP/s
IMAGES = 1000
PHOTOGRAPHS = round(0.8 * 1_281_167 * 393 / 1000)  # of 393 of 1000 classes, were all equally large
TURNS = 3


def steps_of(network: Classifier) -> dict:
    """What one step of each kind computes, for one image."""
    size = network.settings["image_size"]
    pixels = torch.full((1, 3, size, size), 128.0) + 20 * torch.randn(1, 3, size, size)
    pixels = pixels.clamp(0, 255)
    with torch.no_grad():
        org, adv = adversarial_labels(network(pixels))

    def relevance(reading: dict):
        lrp = LRP(network, **reading)
        return lambda: input_gradient(lambda x: lrp_loss(lrp, x, org, adv), pixels)

    def training():
        network.requires_grad_(True)
        F.cross_entropy(network(pixels), org).backward()
        network.requires_grad_(False)

    return {
        "forward": torch.no_grad()(lambda: network(pixels)),
        # x + 0: the counter of operations cannot follow a leaf into a module.
        "gradient": lambda: input_gradient(lambda x: margin(network(x + 0), org, adv), pixels),
        **{name: relevance(reading) for name, reading in READINGS.items()},
        "training": training,
    }


def measure(network: Classifier) -> pd.DataFrame:
    """CPU seconds (median) and GFLOP of one image, one row for each kind of step."""
    lines = {}
    for name, step in steps_of(network).items():
        step()
        taken = []
        for _ in range(TURNS):
            before = time.process_time()
            step()
            taken.append(time.process_time() - before)
        with FlopCounterMode(display=False) as counter:
            step()
        lines[name] = {"seconds": sorted(taken)[TURNS // 2], "gflop": counter.get_total_flops() / 1e9}
    return pd.DataFrame(lines).T


def of_step(setting: Setting, attack: Attack, costs: pd.Series) -> float:
    """What one step of a setting of Table I or II costs, the labels of its iterate included.

    These come with the pass that the gradient needs; at the fine level the coarse network has its say beside it.
    """
    beside = costs["forward"] * (attack.level == "fine")
    if isinstance(attack, LRPC | LRPF):
        return costs[setting.reading] + beside
    backward = costs["gradient"] - costs["forward"]
    if isinstance(attack, DFC | DFF):  # a backward pass for each candidate, as many as photographs have on average
        labels = [len(FINE)] if attack.level == "coarse" else FINE
        candidates = sum(n * min(attack.candidates or n, n - 1) for n in labels) / sum(labels)
        return costs["forward"] + beside + candidates * backward
    return costs["gradient"] + beside


def tables(costs: pd.Series) -> float:
    """Both tables, all settings, IMAGES images, with the steps an image that tiny-imagenet's committed tables took."""
    total = 0.0
    for number, level in ((1, "coarse"), (2, "fine")):
        path = Path(__file__).parents[2] / "figures" / "tiny-imagenet" / f"table_{number}_summary.csv"
        iterations = pd.read_csv(path, index_col="setting").mean_iterations
        for setting, attack in table_attacks(level, PAPER_EPS).items():
            total += IMAGES * iterations[setting.label] * of_step(setting, attack, costs)
    return total


def trainings(costs: pd.Series) -> float:
    """One coarse network; the fine ones share the photographs out."""
    return (IMAGENET.coarse_epochs + IMAGENET.fine_epochs) * PHOTOGRAPHS * costs["training"]


def hours(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    measured, full = [], []
    for name, size in tqdm(SIZES.items()):
        costs = measure(vgg16(8, **size).eval().requires_grad_(False))
        forward = costs.loc["forward"]
        cells = [f"{1000 * row.seconds:.0f} ({row.gflop / forward.gflop:.1f})" for row in costs.itertuples()]
        side = size["image_size"]
        measured.append([name, f"{size['width']}, {side}×{side}", f"{forward.gflop:.2f}", *cells])
        for what, total in (("Tables I and II", tables), ("nine trainings", trainings)):
            there = [hours(total(costs.gflop) / 1000 / speed / 3600) for speed in SUSTAINED]
            full.append([name, what, hours(total(costs.seconds) / 3600), *there])
    kinds = ["forward", "gradient of a margin", *(f"LRP loss, {name}" for name in READINGS), "training, both ways"]

    def markdown(header: list[str], lines: list[list]) -> str:
        return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [header, ["---"] * len(header), *lines])

    speeds = [f"GPU hours at {speed} TFLOP/s" for speed in SUSTAINED]
    text = f"""# What the full run costs

Written by `python -m tests.benchmarks.costs`; torch {torch.__version__}, CPU.

## Measured: one image, one step

CPU milliseconds of one thread (median of {TURNS}); in brackets the operations, as
counted, by those of a forward pass. Random weights, which cost what trained ones do.

{markdown(["network", "width, image", "GFLOP a forward", *kinds], measured)}

## Extrapolated: the paper's size

{IMAGES:,} photographs, all settings of Tables I and II, with as many steps an image as the committed tables of
tiny-imagenet took (`figures/tiny-imagenet`); networks of another size may take more or fewer. Trainings:
{PHOTOGRAPHS:,} photographs (four fifths of ILSVRC2012's mean class size times 393), {IMAGENET.coarse_epochs} epochs of
the coarse network and {IMAGENET.fine_epochs} of the fine ones, which share the photographs out. Hours of a GPU are
operations by an assumed sustained speed; nothing was measured on one.

{markdown(["network", "what", "hours of one thread of this CPU", *speeds], full)}

Shards and networks are independent, so hours divide by the number of workers; the fine networks wait for the coarse one
where they start from its features.
"""
    print(text)
    (Path(__file__).parent / "costs.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
