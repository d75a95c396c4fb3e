"""The whole path of the profile imagenet at full size, VGG-16 at 224x224.

    python -m tests.benchmarks.imagenet --root DIR [--batch 4] [--keep FOLDER]        to imagenet.md beside this file

DIR holds train/<wnid>/*.JPEG, a few full-size photographs of every group. Weights are random (the layout of
torchvision's, in place of a download), so accuracies and pictures mean nothing; what is tried and measured is the path:
read, fine-tune all nine networks for a few steps, save, load, attack two photographs at each level, draw. Needs 8 GB
of memory and 5 GB of disk. With --keep, networks that an earlier run fine-tuned into FOLDER are not tuned again. What
the full run costs is counted by costs.py.
"""

import argparse
import dataclasses
import platform
import re
import tempfile
import time
from pathlib import Path

import torch
from torchvision import models

import c2f_lrp
from c2f_lrp import attacks, photos, training
from c2f_lrp.datasets.imagenet import Crops, Photographs, find
from c2f_lrp.lrp import LRP
from c2f_lrp.networks import save_network
from c2f_lrp.objectives import adversarial_labels, lrp_loss
from c2f_lrp.pretrained import FLAT, of_torchvision
from c2f_lrp.profiles import get_profile
from c2f_lrp.tables import READINGS
from c2f_lrp.training import trainer

PROFILE = get_profile("imagenet")
HIERARCHY = PROFILE.hierarchy()
STEPS = 5


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


def gradient(values, pixels: torch.Tensor) -> None:
    x = pixels.clone().requires_grad_()
    torch.autograd.grad(values(x).sum(), x)


def few_steps(name: str, eps: list[float]) -> dict[str, attacks.Attack]:
    """In place of `photos.settings_of`: the attack alone, and STEPS steps of it, as random weights give no success."""
    attack = getattr(attacks, name.upper())
    return {f"{name.upper()}, ε = {eps[0]:g}": attack(eps=eps[0], iterations=STEPS)}


def the_path(root: Path, folder: Path, batch: int) -> tuple[list[tuple], dict]:
    """Lines (what, seconds, GB) of the whole path, and what else the report says."""
    photographs, lines, facts = everything(root), [], {}
    crops = Crops(photographs, photographs.coarse, seed=0)
    taken, _ = seconds(lambda: [crops[row] for row in range(len(crops))])
    facts["decode"] = len(crops) / taken
    lines.append((f"reading a photograph and cropping it at random (mean of {len(crops)})", taken / len(crops), None))

    torch.manual_seed(0)
    if not (folder / FLAT).is_file():  # kept by an earlier run
        save_network(of_torchvision(models.vgg16().state_dict()), folder / FLAT, torch.float32)
    peak()
    trainer.FINE_TUNE_BATCH = batch
    short = dataclasses.replace(PROFILE, coarse_epochs=1, fine_epochs=1)
    rows = training.train(short, photographs, photographs, out=folder / "nine", pretrained=folder / FLAT)
    states = {row["network"]: trainer.read_state(folder / "nine" / f"{row['network']}.training") for row in rows}
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


def report(lines: list[tuple], facts: dict) -> str:
    threads = torch.get_num_threads()
    cpu = f"torch {torch.__version__}, CPU, {threads} thread{'s' * (threads > 1)}, {platform.machine()}"
    half = "bfloat16" if trainer.fast_bfloat16("cpu") else "float32"
    return "\n".join(
        [
            "# The profile imagenet at full size",
            "",
            "Written by `python -m tests.benchmarks.imagenet`. Random weights in the layout of torchvision's vgg16 "
            "stood in for the trained ones, so labels and pictures mean nothing here; the path and its cost do.",
            "",
            f"{cpu}; training in {half}, attacks in float32. All {len(facts['steps'])} "
            f"networks were fine-tuned ({', '.join(f'{name} {n}' for name, n in facts['steps'].items())} steps), saved "
            f"({facts['disk']:.2f} GB together), loaded, attacked and drawn.",
            "",
            "| what | seconds | peak memory, GB |",
            "|---|---|---|",
            *(f"| {what} | {taken:.2f} | {'' if held is None else f'{held:.1f}'} |" for what, taken, held in lines),
            "",
            "What the attacks said: " + "; ".join(facts["said"]) + ".",
            "",
            f"One CPU core decodes {facts['decode']:.0f} photographs a second here.",
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
        path.write_text(report(lines, facts), encoding="utf-8")
        print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
