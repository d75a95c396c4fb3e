"""The whole path of the profile imagenet at full size, VGG-16 at 224x224, and what the paper's full run would cost.

    python -m tests.benchmarks.imagenet --root DIR [--batch 4] [--keep FOLDER]        to imagenet.md beside this file

DIR holds train/<wnid>/*.JPEG, a few full-size photographs of every group. Weights are random (the layout of
torchvision's, in place of a download), so accuracies and pictures mean nothing; what is tried and measured is the path:
read, fine-tune all nine networks for a few steps, save, load, attack two photographs at each level, draw. Needs 8 GB
of memory and 5 GB of disk. With --keep, networks that an earlier run fine-tuned into FOLDER are not tuned again.
"""

import argparse
import dataclasses
import platform
import re
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

import c2f_lrp
from c2f_lrp import attacks, photos, training
from c2f_lrp.classifier import save_network, vgg16
from c2f_lrp.datasets.imagenet import Crops, Photographs, find
from c2f_lrp.lrp import LRP
from c2f_lrp.objectives import adversarial_labels, lrp_loss
from c2f_lrp.pretrained import FLAT, of_torchvision
from c2f_lrp.profiles import get_profile
from c2f_lrp.tables import PAPER_EPS, READINGS, table_attacks

PROFILE = get_profile("imagenet")
HIERARCHY = PROFILE.hierarchy()
ILSVRC = 1_281_167 * 393 / 1000  # training photographs of 393 classes, were all classes equally large
STEPS = 5
RATES = (10, 50, 200)  # sustained TFLOP/s


def everything(root: Path) -> Photographs:
    """All photographs, whatever their split: a few dozen would not leave each network some to validate on."""
    parts = [find(root, HIERARCHY, split, PROFILE.image_size) for split in ("train", "validation")]
    return Photographs(
        sum((part.paths for part in parts), ()),
        torch.cat([part.coarse for part in parts]),
        torch.cat([part.fine for part in parts]),
        sum((part.names for part in parts), ()),
        PROFILE.image_size,
    )


def seconds(work, *arguments) -> tuple[float, object]:
    start = time.perf_counter()
    value = work(*arguments)
    return time.perf_counter() - start, value


def peak() -> float:
    """GB: the most memory that this process held since it was last asked (Linux only)."""
    highest = int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9
    Path("/proc/self/clear_refs").write_text("5")
    return highest


def flops(work) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def gradient(values, pixels: torch.Tensor) -> None:
    x = pixels.clone().requires_grad_()
    torch.autograd.grad(values(x * 1).sum(), x)  # the counter of operations takes no leaf


def few_steps(name: str, eps: list[float]) -> dict[str, attacks.Attack]:
    """In place of `photos.settings_of`: the attack alone, and STEPS steps of it, as random weights give no success."""
    attack = getattr(attacks, name.upper())
    return {f"{name.upper()}, ε = {eps[0]:g}": attack(eps=eps[0], iterations=STEPS)}


def counted() -> dict[str, float]:
    """FLOP for one photograph on the coarse network; values do not matter."""
    network, pixels = vgg16(HIERARCHY.n_coarse).eval(), torch.full((1, 3, 224, 224), 100.0)
    org, adv = torch.tensor([0]), torch.tensor([1])
    facts = {"training": flops(lambda: network(pixels).sum().backward())}
    network.requires_grad_(False)
    facts |= {"forward": flops(lambda: network(pixels))}
    facts |= {"margin": flops(lambda: gradient(lambda x: network(x)[:, :2].diff(), pixels))}
    for name, choices in READINGS.items():
        lrp = LRP(network, **choices)
        facts[name] = flops(lambda lrp=lrp: gradient(lambda x: lrp_loss(lrp, x, org, adv), pixels))
    return facts


def the_path(root: Path, folder: Path, batch: int) -> tuple[list[tuple], dict]:
    """Lines (what, seconds, GB) of the whole path, and figures that the cost table takes from it."""
    photographs, lines, facts = everything(root), [], counted()
    crops = Crops(photographs, photographs.coarse, seed=0)
    taken, _ = seconds(lambda: [crops[row] for row in range(len(crops))])
    facts["decode"] = len(crops) / taken
    lines.append((f"reading a photograph and cropping it at random (mean of {len(crops)})", taken / len(crops), None))

    torch.manual_seed(0)
    if not (folder / FLAT).is_file():  # kept by an earlier run
        save_network(of_torchvision(models.vgg16().state_dict()), folder / FLAT, torch.float32)
    peak()
    training.FINE_TUNE_BATCH = batch
    short = dataclasses.replace(PROFILE, coarse_epochs=1, fine_epochs=1)
    rows = training.train(short, photographs, photographs, out=folder / "nine", pretrained=folder / FLAT)
    states = {row["network"]: training.read_state(folder / "nine" / f"{row['network']}.training") for row in rows}
    facts["steps"] = {name: max(1, state["run"]["images"] // batch) for name, state in states.items()}
    facts["step"] = states["coarse"]["seconds"] / facts["steps"]["coarse"]
    what = f"a training step of the coarse network, batch {batch} (mean of {facts['steps']['coarse']})"
    lines.append((what, facts["step"], peak()))

    taken, classifier = seconds(c2f_lrp.load_classifier, "imagenet", folder / "nine")
    lines.append(("loading the nine networks, checksums compared", taken, peak()))
    facts["disk"] = sum(path.stat().st_size for path in (folder / "nine").glob("*.safetensors")) / 1e9
    vehicle, dog = ((photographs.coarse == label).nonzero()[0].item() for label in (5, 7))
    facts["said"], photos.settings_of = [], few_steps
    for attack in ("lrpc", "lrpf"):
        for row in (vehicle, dog):
            path = photographs.paths[row]
            taken, said = seconds(photos.attack_photo, classifier, path, 224, attack, [10], folder / "drawn")
            facts["said"].append(re.sub(r"^.*?: |; drawn in .*", "", said))
            what = f"{attack.upper()} at ε = 10, at most {STEPS} steps, on one photograph; heatmaps, figure"
            lines.append((what, taken, peak()))

    pixels = next(photographs[[vehicle]].split(1)).float()
    org, adv = adversarial_labels(classifier.coarse(pixels))
    for name, choices in READINGS.items():
        lrp = LRP(classifier.coarse, **choices)
        gradient(lambda x, lrp=lrp: lrp_loss(lrp, x, org, adv), pixels)  # the first one prepares the weights
        taken, _ = seconds(gradient, lambda x, lrp=lrp: lrp_loss(lrp, x, org, adv), pixels)
        lines.append((f"the gradient of LRPC's loss, {name}, one photograph", taken, peak()))
    return lines, facts


def tables_flops(facts: dict, level: str) -> float:
    """FLOP of Table I or II on 1000 photographs, with as many steps as tiny-imagenet's committed table took."""
    number = 1 if level == "coarse" else 2
    path = Path(__file__).parents[2] / "figures" / "tiny-imagenet" / f"table_{number}_summary.csv"
    steps = pd.read_csv(path, index_col="setting").mean_iterations
    labels = 8 if level == "coarse" else sum(n * n for n in HIERARCHY.n_fine) / sum(HIERARCHY.n_fine)
    total = 0.0
    for name, attack in table_attacks(level, PAPER_EPS).items():
        reread = facts["forward"] * (1 if level == "coarse" else 2)  # at the fine level both labels are
        if isinstance(attack, attacks.DFC | attacks.DFF):
            each = facts["forward"] + labels * (facts["margin"] - facts["forward"])
        elif isinstance(attack, attacks.LRPC | attacks.LRPF):
            each = facts[name.split(" | ")[1]] + reread
        else:
            each = facts["margin"] + reread
        total += 1000 * steps[name] * each
    return total


def report(lines: list[tuple], facts: dict, batch: int) -> str:
    passes = ILSVRC * 0.8 * (PROFILE.coarse_epochs + PROFILE.fine_epochs)
    here = facts["training"] * batch / facts["step"] / 1e12
    work = {
        f"training: {passes / 1e6:.1f} million photographs through one network each": passes * facts["training"],
        "Table I, 1000 photographs": tables_flops(facts, "coarse"),
        "Table II, 1000 photographs": tables_flops(facts, "fine"),
    }
    threads = torch.get_num_threads()
    cpu = f"torch {torch.__version__}, CPU, {threads} thread{'s' * (threads > 1)}, {platform.machine()}"
    half = "bfloat16" if training.fast_bfloat16("cpu") else "float32"
    return "\n".join(
        [
            "# The profile imagenet at full size",
            "",
            "Written by `python -m tests.benchmarks.imagenet`. Random weights in the layout of torchvision's vgg16 "
            "stood in for the trained ones, so labels and pictures mean nothing here; the path and its cost do.",
            "",
            "## Measured",
            "",
            f"{cpu}, shared with other work; training in {half}, attacks in float32. All {len(facts['steps'])} "
            f"networks were fine-tuned ({', '.join(f'{name} {n}' for name, n in facts['steps'].items())} steps), saved "
            f"({facts['disk']:.2f} GB together), loaded, attacked and drawn.",
            "",
            "| what | seconds | peak memory, GB |",
            "|---|---|---|",
            *(f"| {what} | {taken:.2f} | {'' if held is None else f'{held:.1f}'} |" for what, taken, held in lines),
            "",
            "What the attacks said: " + "; ".join(facts["said"]) + ".",
            "",
            "## Counted",
            "",
            "| for one photograph | GFLOP | plain forwards |",
            "|---|---|---|",
            *(
                f"| {what} | {facts[key] / 1e9:.1f} | {facts[key] / facts['forward']:.2f} |"
                for what, key in [
                    ("plain forward", "forward"),
                    ("training: forward and backward", "training"),
                    ("gradient of a margin of logits, as in PGD", "margin"),
                    *((f"gradient of LRPC's loss, {name}", name) for name in READINGS),
                ]
            ),
            "",
            "## Extrapolated: the full run on one GPU",
            "",
            "Not measured: no GPU was at hand. Hours are FLOP / (3600 · S) for a card that sustains S TFLOP/s in these "
            f"convolutions; this CPU sustained {here:.2f} TFLOP/s in the training steps above. Training counts "
            f"{ILSVRC:,.0f} photographs of the 393 classes (ILSVRC2012's mean class size times 393), four fifths of "
            f"them, {PROFILE.coarse_epochs} epochs of the coarse network and {PROFILE.fine_epochs} of the fine ones. "
            "The tables count the steps an image took on tiny-imagenet (`figures/tiny-imagenet`), each with the "
            "forwards that read the labels again; DeepFool one backward for each label.",
            "",
            f"| what | PFLOP | {' | '.join(f'hours at {rate} TFLOP/s' for rate in RATES)} | days on this CPU |",
            f"|---|---|{'---|' * len(RATES)}---|",
            *(
                f"| {what} | {flop / 1e15:,.1f} | {' | '.join(f'{flop / 3.6e15 / rate:.2f}' for rate in RATES)} | "
                f"{flop / here / 8.64e16:.1f} |"
                for what, flop in work.items()
            ),
            "",
            f"One CPU core decodes {facts['decode']:.0f} photographs a second here. A card at S TFLOP/s trains on "
            f"{1e12 / facts['training']:.1f} · S a second, so it needs about "
            f"{1e12 / facts['training'] / facts['decode']:.2f} · S cores to read them.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--keep", type=Path, help="work here and leave the weights and figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        lines, facts = the_path(options.root, options.keep or Path(temporary), options.batch)
        path = Path(__file__).with_suffix(".md")
        path.write_text(report(lines, facts, options.batch), encoding="utf-8")
        print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
