"""What a gradient of the relevance loss costs at 224x224, against zennit and plain forwards.

torchvision's vgg16 and resnet18, and EfficientNet-Lite0.

    python -m tests.benchmarks.relevance [--repeats 3] [--device cuda]     the times, to relevance.md beside this file
    python -m tests.benchmarks.relevance --quick                           one image, three ways, printed only
    python -m tests.benchmarks.relevance --memory                          memory and errors, to relevance_memory.md

Same network (random weights), same images, one run, the ways taking turns. Needs 16 GB of memory and, on two CPU
cores, about ten minutes for each of the two.

zennit's two-pass way is one heatmap for each label, subtracted, its start requiring a gradient (else the gradient is
wrong, see notebook 03). Memory is measured in a process for each way: the peak above what the process holds before,
which is the network once (Linux only). Errors are those of float32 against the same way in float64.

A gradient jumps where a ReLU opens or another pixel wins a max pooling. At 224x224 some of the 14 million units lie so
near to that that rounding in float32 decides; one such unit moves the gradient by 1e-4 and more. The errors are
therefore given twice: as they come, and with these decisions taken from float64.
"""

import argparse
import copy
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import torch
from torch import nn
from torchvision.models import resnet18, vgg16
from tqdm.auto import tqdm

from c2f_lrp.classifier import Classifier
from c2f_lrp.lrp import LRP, ZennitLRP
from c2f_lrp.lrp.engine import program_of
from c2f_lrp.lrp.operations import Maximum, Through
from c2f_lrp.networks.efficientnet_lite import efficientnet_lite0
from c2f_lrp.objectives import lrp_loss

SIZE = 224
KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}  # freed memory stays with the process


NETWORKS = ("vgg16", "resnet18", "EfficientNet-Lite0")


def network(device: str, seed: int = 0, name: str = "vgg16") -> Classifier:
    """With random weights that keep the size of activations, and biases that absorb something."""
    torch.manual_seed(seed)
    if name == "vgg16":
        vgg = vgg16(num_classes=8)
        layers = nn.Sequential(vgg.features, vgg.avgpool, nn.Flatten(), vgg.classifier)
    else:
        layers = resnet18(num_classes=8) if name == "resnet18" else efficientnet_lite0(8)
    with torch.no_grad():
        for module in layers.modules():
            if isinstance(module, nn.Conv2d) and name != "vgg16":
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.normal_(0, 0.05)  # torchvision's zeros would absorb nothing
            if isinstance(module, nn.BatchNorm2d):
                module.bias.normal_(0, 0.05)
    return Classifier(layers).eval().to(device)


def images(n: int, device: str, size: int = SIZE) -> torch.Tensor:
    return 255 * torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1)).to(device)


def gradient(loss, pixels: torch.Tensor) -> torch.Tensor:
    x = pixels.clone().requires_grad_()
    return torch.autograd.grad(loss(x).sum(), x)[0]


def two_passes(lrp, x, org, adv):
    """The straightforward way: both heatmaps, each with its own forward pass, summed and subtracted."""
    return (lrp.relevance(x, org) - lrp.relevance(x, adv)).sum((1, 2, 3))


WAYS = (
    FORWARD := "plain forward",
    MARGIN := "gradient of the logit margin",
    LRPC := "LRPC p=1, one_hot, absorb",
    LOGIT := "LRPC p=1, logit, ignore",
    P_2 := "LRPC p=2, one_hot, absorb",
    ZENNIT := "zennit, two passes, p=1",
    SIGNED := "zennit, one signed pass, p=1",
)


def way(name: str, classifier: Classifier, pixels: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A function that does the work once; all but the plain forward give a gradient."""
    org, adv = (torch.full((len(pixels),), label, device=pixels.device) for label in (1, 2))
    if name == FORWARD:
        return torch.no_grad()(lambda: classifier(pixels))
    if name == MARGIN:
        return lambda: gradient(lambda x: classifier(x)[:, 1:3] @ org.new_tensor([1, -1]).to(x), pixels)
    if name in (ZENNIT, SIGNED):
        lrp = ZennitLRP(classifier)
        loss = two_passes if name == ZENNIT else lrp_loss
    else:
        lrp = LRP(classifier, "logit", "ignore") if name == LOGIT else LRP(classifier)
        loss = partial(lrp_loss, p=2) if name == P_2 else lrp_loss
    return lambda: gradient(lambda x: loss(lrp, x, org, adv), pixels)


def seconds(work, device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def timed(jobs: dict, repeats: int, device: str) -> dict[str, list[float]]:
    """Each job's seconds, after one untimed round."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in tqdm(range(repeats + 1), desc="turns", leave=False):
        for name, work in jobs.items():  # in turns, so that a slow minute hits all
            taken = seconds(work, device)
            if turn:
                times[name].append(taken)
    return times


def spread(numerators: list[float], denominators: list[float]) -> str:
    """The median of the ratios of each turn, and their range."""
    ratios = sorted(a / b for a, b in zip(numerators, denominators, strict=True))
    return f"{ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"


def compared(times: dict[str, list[float]]) -> dict[str, str]:
    """Each way's cells: median seconds, plain forwards, times as fast as zennit's two passes."""
    return {
        name: f"{sorted(values)[len(values) // 2]:.2f} | {spread(values, times[FORWARD])} | "
        f"{spread(times[ZENNIT], values)}"
        for name, values in times.items()
    }


def graphs_table(name: str, batch: int, repeats: int, device: str) -> list[str]:
    """zennit's rules differ in one, that of sums: what is compared is time."""
    classifier, pixels = network(device, name=name), images(batch, device)
    jobs = {way_: way(way_, classifier, pixels) for way_ in (FORWARD, MARGIN, LRPC, P_2, SIGNED, ZENNIT)}
    return [
        f"## {name}, batch {batch}",
        "",
        "| way | median s | plain forwards | times as fast as zennit's two passes |",
        "|---|---|---|---|",
        *(f"| {way_} | {cells} |" for way_, cells in compared(timed(jobs, repeats, device)).items()),
        "",
    ]


def table(batch: int, repeats: int, device: str) -> list[str]:
    classifier, pixels = network(device), images(batch, device)
    jobs = {name: way(name, classifier, pixels) for name in WAYS}
    errors = float32_errors(classifier, pixels)
    return [
        f"## vgg16, batch {batch}",
        "",
        "| way | median s | plain forwards | times as fast as zennit's two passes |",
        "|---|---|---|---|",
        *(f"| {name} | {cells} |" for name, cells in compared(timed(jobs, repeats, device)).items()),
        "",
        "Relative difference of gradients:",
        "",
        *errors,
    ]


class SettledMaximum(Maximum):
    """A max pooling whose winners are given."""

    def __init__(self, layer: nn.MaxPool2d, winners: torch.Tensor):
        super().__init__(layer)
        self.given = winners

    def __call__(self, a: torch.Tensor) -> torch.Tensor:
        return self.winners(a)[0]

    def winners(self, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a.flatten(2).gather(2, self.given.flatten(2)).view(self.given.shape), self.given


def settled(classifier: Classifier, pixels: torch.Tensor) -> Classifier:
    """A copy whose graph decides, in every ReLU and max pooling, as the network does in float64 on these images."""
    copied, double = copy.deepcopy(classifier), copy.deepcopy(classifier).double()
    program, exact = program_of(copied, pixels), program_of(double, pixels.double())
    values = {0: double.normalize(pixels.double())}
    for k, step in enumerate(exact.steps):
        given, operation = values[step.inputs[0]], program.steps[k].operation
        if step.kind == "ReLU":
            operation = Through(lambda a, alive=given > 0: a * alive)
        elif isinstance(operation, Maximum):
            operation = SettledMaximum(operation.layer, step.operation.winners(given)[1])
        program.steps[k] = program.steps[k]._replace(operation=operation)
        values[step.output] = step.operation(given)
    return copied


def float32_errors(classifier: Classifier, pixels: torch.Tensor) -> list[str]:
    """Of the gradient, by our engine and by zennit, against ours in float64, which is zennit's too."""
    exact = way(LRPC, copy.deepcopy(classifier).double(), pixels.double())()

    def row(decisions: str, network: Classifier) -> str:
        ours, theirs = (way(name, network, pixels)().double() for name in (LRPC, ZENNIT))
        errors = (((a - b).norm() / exact.norm()).item() for a, b in ((ours, exact), (theirs, exact), (ours, theirs)))
        return f"| {decisions} | " + " | ".join(f"{error:.1e}" for error in errors) + " |"

    lines = [
        "| float32, who wins in ReLU and max pooling | ours and float64 | zennit and float64 | ours and zennit |",
        "|---|---|---|---|",
        row("as float32 has it", classifier),
    ]
    return [*lines, row("as float64 has it", settled(classifier, pixels)), ""]


def in_a_process(batch: int, *arguments: str, **environment: str) -> str:
    """What this program prints there."""
    command = [sys.executable, "-m", "tests.benchmarks.relevance", "--batch", str(batch), *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True).stdout


def peak(name: str, batch: int, device: str) -> float:
    """MB above the loaded network, of one round."""
    torch.set_num_threads(2)
    classifier, pixels = network(device), images(batch, device)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in classifier.parameters()) / 1e6
    work = way(name, classifier, pixels)
    del classifier  # zennit works on a copy, which then stands for the network
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() / 1e6 - weights
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    idle = psutil.Process().memory_info().rss / 1e6
    work()
    # Not getrusage: its peak is inherited from the process that started this one.
    highest = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]
    return int(highest) * 1024 / 1e6 - idle


def kept(repeats: int) -> list[str]:
    """glibc gives what is above 32 MB back when it is freed, and new memory comes in pages that are cleared singly."""
    lines = [
        f"| with {' '.join(f'{name}={value}' for name, value in KEEP.items())} | batch | median s | plain forwards | "
        "times as fast as zennit's two passes |",
        "|---|---|---|---|---|",
    ]
    for batch in (2, 8):
        times = json.loads(in_a_process(batch, "--times", "--repeats", str(repeats), **KEEP))
        lines += [f"| {name} | {batch} | {cells} |" for name, cells in compared(times).items()]
    return [*lines, "", "Without these variables freed memory goes back to the system, whose new pages cost time.", ""]


def memory_and_errors(device: str, repeats: int) -> list[str]:
    names = (LRPC, P_2, ZENNIT, SIGNED)
    lines = ["| peak MB above the loaded network | batch 2 | batch 8 |", "|---|---|---|"]
    for name in tqdm(names, desc="memory", leave=False):
        peaks = [float(in_a_process(n, "--peak", name, "--device", device)) for n in (2, 8)]
        lines.append(f"| {name} | " + " | ".join(f"{value:.0f}" for value in peaks) + " |")
    lines += ["", "| gradient's relative error in float32, images of 64×64 | |", "|---|---|"]
    single = network(device)
    double, pixels = copy.deepcopy(single).double(), images(2, device, size=64)
    for name in tqdm(names, desc="errors", leave=False):
        exact = way(name, double, pixels.double())()
        error = (way(name, single, pixels)().double() - exact).norm() / exact.norm()
        lines.append(f"| {name} | {error.item():.1e} |")
    exact, theirs = (way(name, double, pixels.double())() for name in (LRPC, ZENNIT))
    lines.append(f"| {LRPC} and {ZENNIT}, both in float64 | {((exact - theirs).norm() / exact.norm()).item():.1e} |")
    return [*lines, "", *(kept(repeats) if device == "cpu" else [])]


def mixed_batch(repeats: int, device: str) -> list[str]:
    """The fine-level step: eight images of one coarse class, and of eight, each with its own fine network."""
    first = network(device)
    networks = [first, *(copy.deepcopy(first) for _ in range(7))]
    pixels, org, adv = images(8, device), torch.zeros(8, dtype=torch.int64), torch.ones(8, dtype=torch.int64)
    org, adv = org.to(device), adv.to(device)
    lrps = [LRP(fine) for fine in networks]
    jobs = {
        "one": lambda: gradient(lambda x: lrp_loss(lrps[0], x, org, adv), pixels),
        "eight": lambda: [
            gradient(lambda x, lrp=lrp: lrp_loss(lrp, x, org[:1], adv[:1]), pixels[i : i + 1])
            for i, lrp in enumerate(lrps)
        ],
    }
    times = timed(jobs, repeats, device)
    return [
        "## Fine level, vgg16, batch 8",
        "",
        "One step of LRPF for eight images of eight coarse classes, each on its own fine network, takes "
        f"{spread(times['eight'], times['one'])} times as long as for eight images of one class "
        f"({sorted(times['one'])[repeats // 2]:.2f} s).",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="one image, three ways for each network, printed only")
    parser.add_argument("--memory", action="store_true", help="measure memory and errors instead of times")
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--times", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(peak(args.peak, args.batch, args.device))
        return
    torch.set_num_threads(2)
    if args.times:
        classifier, pixels = network(args.device), images(args.batch, args.device)
        jobs = {name: way(name, classifier, pixels) for name in (FORWARD, LRPC, P_2, ZENNIT)}
        print(json.dumps(timed(jobs, args.repeats, args.device)))
        return
    if args.quick:
        for name in NETWORKS:
            classifier, pixels = network(args.device, name=name), images(1, args.device)
            times = timed(
                {key: way(key, classifier, pixels) for key in (FORWARD, LRPC, SIGNED)}, args.repeats, args.device
            )
            forwards, faster = spread(times[LRPC], times[FORWARD]), spread(times[SIGNED], times[LRPC])
            print(f"{name}: {LRPC} takes {forwards} plain forwards, {faster} times as fast as zennit's one signed pass")
        return
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{platform.processor() or 'CPU'}, two threads"
    lines = [
        f"# {'Memory and errors' if args.memory else 'Cost'} of a relevance gradient",
        "",
        f"Written by `python -m tests.benchmarks.relevance{' --memory' * args.memory}`; images of 224×224, float32, "
        f"torch {torch.__version__}, {where} ({torch.backends.cpu.get_cpu_capability()})."
        + f" Ratios: median of {args.repeats} turns (smallest–largest).",
        "",
    ]
    if args.memory:
        lines += memory_and_errors(args.device, args.repeats)
    else:
        for batch in (2, 8):
            lines += table(batch, args.repeats, args.device)
        lines += mixed_batch(args.repeats, args.device)
        for name in NETWORKS[1:]:
            lines += graphs_table(name, 2, args.repeats, args.device)
    text = "\n".join(lines)
    print(text)
    if args.device == "cpu":
        name = "relevance_memory.md" if args.memory else "relevance.md"
        Path(__file__).with_name(name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
