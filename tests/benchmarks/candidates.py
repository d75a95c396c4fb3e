"""What DeepFool's candidates cost a step at the fine level, where a network may have 118 labels.

    python -m tests.benchmarks.candidates [--repeats 3]       writes candidates.md beside this file

EfficientNet-Lite0's dogs (118 labels) at 224x224, on enlarged scenes: time depends on no photograph. A step takes a
forward pass and a gradient for every candidate. The gradients are taken one after the other, as `DeepFool` does, and in
one batched backward pass (torch.autograd's is_grads_batched, which maps over them).
"""

import argparse
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F

import c2f_lrp
from c2f_lrp.attacks import DFF
from c2f_lrp.provenance import markdown
from tests.benchmarks.relevance import FORWARD, spread, timed

LEVEL = "dog"


def margins(network, pixels: torch.Tensor, count: int) -> torch.Tensor:
    logits = network(pixels)
    return logits.topk(count + 1, 1).values[:, 1:] - logits.amax(1, keepdim=True)


def one_by_one(network, pixels: torch.Tensor, count: int) -> torch.Tensor:
    x = pixels.clone().requires_grad_()
    sums = margins(network, x, count).sum(0)
    return torch.stack([torch.autograd.grad(value, x, retain_graph=True)[0] for value in sums])


def batched(network, pixels: torch.Tensor, count: int) -> torch.Tensor:
    x = pixels.clone().requires_grad_()
    sums = margins(network, x, count).sum(0)
    return torch.autograd.grad(sums, x, torch.eye(count), is_grads_batched=True)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    classifier = c2f_lrp.load_classifier("imagenet-lite")
    network = classifier.fine[classifier.hierarchy.coarse_names.index(LEVEL)]
    scenes = F.interpolate(c2f_lrp.load_images("scenes", limit=4).pixels, (224, 224), mode="bilinear").clamp(0, 255)
    every = network(scenes[:1]).shape[1] - 1
    default = DFF().candidates
    lines = {}
    for n in (1, 4):
        pixels = scenes[:n]
        jobs = {FORWARD: torch.no_grad()(lambda pixels=pixels: network(pixels))}
        for count in (default, every):
            for way in (one_by_one, batched):
                name = f"{count} candidates, {'one by one' if way is one_by_one else 'one batched pass'}"
                jobs[name] = lambda way=way, pixels=pixels, count=count: way(network, pixels, count)
        torch.testing.assert_close(one_by_one(network, pixels, default), batched(network, pixels, default))
        times = timed(jobs, options.repeats, "cpu")
        for name, values in times.items():
            lines.setdefault(name, {})[f"{n} image{'s' * (n > 1)}, s"] = f"{sorted(values)[len(values) // 2]:.2f}"
            lines[name][f"{n}: plain forwards"] = spread(values, times[FORWARD])
    text = f"""# DeepFool's candidates

Written by `python -m tests.benchmarks.candidates`: one step on EfficientNet-Lite0's {every + 1} labels of {LEVEL},
224×224, float32, torch {torch.__version__}, CPU, two threads. Median of {options.repeats} turns (smallest–largest).
`DFF` looks at {default} labels unless told otherwise, as its authors' code does, and takes the gradients one by one.

{markdown(pd.DataFrame.from_dict(lines, "index").rename_axis("a step with"))}
"""
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
