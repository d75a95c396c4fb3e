"""How the time and the memory of an evaluation grow with the number of images.

    python -m tests.benchmarks.growth [--whole 200 1000 5000] [--bookkeeping 200 5000 50000]

Each run is a process of its own. "Whole path": embedded scenes drawn, LRPC, measures of relevance, shards written,
summarised. "Bookkeeping": the same with noise for images, a network of one layer and an attack that does
nothing, so that what is left is slicing, hashing, writing and collecting rows. Writes growth.csv (runs that are there
stay, but for those made again), growth.png and growth.md beside this file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

import c2f_lrp
from c2f_lrp import evaluation, plotting
from c2f_lrp.attacks import LRPC, Attack
from c2f_lrp.classifier import Classifier, CoarseToFine, SingleClass
from c2f_lrp.datasets import Images, LazyImages
from c2f_lrp.hierarchy import Hierarchy

HERE = Path(__file__).parent
ALLOWED = 1.1  # the largest peak by the smallest
STEPS = dict(eps=20, iterations=2)  # a few steps are enough to see how it grows


# ----------------------------------------------------------------------------------------------------------- stand-ins
@dataclass(frozen=True, kw_only=True)
class Nothing(Attack):
    """An attack that takes one step to where it is."""

    level: ClassVar[str] = "coarse"
    iterations: int = 1

    def start(self, network: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return ()

    def step(self, at, memory):
        return at.perturbation + 1e-3, memory


def stand_ins(count: int) -> tuple[CoarseToFine, LazyImages]:
    names = ("a", "b")
    layers = nn.Sequential(nn.AvgPool2d(64), nn.Flatten(), nn.Linear(3, 2))
    hierarchy = Hierarchy(names, (("x",), ("x",)), (("a/x",), ("b/x",)))
    classifier = CoarseToFine(Classifier(layers), [SingleClass(), SingleClass()], hierarchy).eval()

    def noise(rows: list[int]) -> Images:
        generator = torch.Generator().manual_seed(rows[0])
        pixels = torch.randint(0, 256, (len(rows), 3, 64, 64), dtype=torch.uint8, generator=generator)
        labels = torch.zeros(len(rows), dtype=torch.int64)
        return Images(pixels, labels, labels, None, None, None, tuple(f"noise {row}" for row in rows))

    labels = torch.zeros(count, dtype=torch.int64)
    return classifier.requires_grad_(False), LazyImages(labels, labels, noise)


# ----------------------------------------------------------------------------------------------------------- measuring
def run(kind: str, count: int) -> dict:
    """In a process of its own."""
    torch.set_num_threads(1)
    if kind == "whole path":
        classifier, images = c2f_lrp.load_classifier("scenes"), c2f_lrp.open_images("scenes", limit=count)
        attacks = {"LRPC": LRPC(init="logit", bias="ignore", **STEPS)}
    else:
        classifier, images = stand_ins(count)
        attacks = {"nothing": Nothing()}
    started, before, idle = time.monotonic(), time.process_time(), peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        rows = evaluation.evaluate(classifier, images, attacks, store=Path(folder), measures=kind == "whole path")
        evaluation.summarize(rows)
    return dict(
        kind=kind,
        images=count,
        rows=len(rows),
        cpu_seconds=time.process_time() - before,
        wall_seconds=time.monotonic() - started,
        idle_mib=idle,
        peak_mib=peak_mib(),
    )


def peak_mib() -> float:
    """Of this process, by the kernel's own mark (getrusage begins with the parent's)."""
    marks = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(marks["VmHWM"].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--whole", type=int, nargs="*", default=[200, 1000, 5000])
    parser.add_argument("--bookkeeping", type=int, nargs="*", default=[200, 5000, 50_000])
    parser.add_argument("--one", nargs=2, metavar=("KIND", "COUNT"), help="measure one run and print it")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run(options.one[0], int(options.one[1]))))
        return
    runs = [("whole path", n) for n in options.whole] + [("bookkeeping", n) for n in options.bookkeeping]
    path = HERE / "growth.csv"
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["kind", "images"])
    for kind, count in tqdm(runs, unit="run"):
        command = [sys.executable, "-m", "tests.benchmarks.growth", "--one", kind, str(count)]
        settings = dict(check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        done = subprocess.run(command, **settings)
        line = json.loads(done.stdout.splitlines()[-1])
        others = table[(table.kind != kind) | (table.images != count)]
        table = pd.concat([others, pd.DataFrame([line])]).sort_values(["kind", "images"])
        table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
    report()


def report() -> None:
    """growth.md and growth.png, from growth.csv."""
    table = pd.read_csv(HERE / "growth.csv")
    table["ms of CPU an image"] = 1000 * table.cpu_seconds / table.images
    plotting.use_style()
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
    lines = []
    for kind, group in table.groupby("kind", sort=False):
        axes[0].loglog(group.images, group.cpu_seconds, "o-", label=kind)
        axes[1].semilogx(group.images, group.peak_mib, "o-", label=kind)
        if len(group) < 2:
            continue
        largest = group.peak_mib.max() / group.peak_mib.min()
        word = "within" if largest <= ALLOWED else "NOT within"
        lines.append(f"- {kind}: the largest peak is {largest:.3f} of the smallest, {word} 10 %.")
    axes[0].set(xlabel="images", ylabel="CPU time, s")
    axes[1].set(xlabel="images", ylabel="peak memory, MiB", ylim=(0, 1.25 * table.peak_mib.max()))
    for panel in axes:
        counts = sorted(table.images.unique())
        panel.set_xticks(counts, [f"{count:,}" for count in counts])
        panel.set_xticks([], minor=True)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(HERE / "growth.png", dpi=150, metadata={"Software": None})
    shown = table.rename(columns={"kind": "what", "cpu_seconds": "CPU s", "wall_seconds": "wall s"}).round(2)
    shown = shown.rename(columns={"peak_mib": "peak MiB"}).drop(columns="idle_mib").to_markdown(index=False)
    text = f"""# Growth

Written by `python -m tests.benchmarks.growth`: scenes at 64x64, one thread, {STEPS["iterations"]} steps of LRPC.
Peaks include Python and torch, which take {table.idle_mib.max():.0f} MiB.

{shown}

{chr(10).join(lines)}
"""
    print(text)
    (HERE / "growth.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
