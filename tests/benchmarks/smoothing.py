"""Does label smoothing make the 64x64 networks hard for PGD? Networks that differ in nothing else.

    python -m tests.benchmarks.smoothing --root DIR --out FOLDER [--seeds 0 1] [--epochs 8]

PGD at the paper's bound fools eight in ten photographs of Tiny ImageNet, and all of the paper's. The networks that the
package ships were trained with label smoothing 0.1, and in half of the steps with images cut together (CutMix), which
mixes labels too. Here coarse networks are trained alike (12 channels first, from random weights, the same seed, order
and warps), with both, without smoothing, and with neither. DIR is the folder of Tiny ImageNet. A run that was
interrupted goes on. Writes smoothing.csv and smoothing.md beside this file.

The rule, written before the run: label smoothing makes networks harder for PGD if for every seed the fooling ratio of
PGDC (40 steps, early_stop=False) at eps = 2.53 with smoothing less that without it, on the photographs that both
networks get right, has a 95 % bootstrap interval below 0. The same for CutMix, by the networks without smoothing.
"""

import argparse
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

import c2f_lrp
from c2f_lrp.attacks import DFC, PGDC
from c2f_lrp.attacks.base import input_gradient
from c2f_lrp.metrics import NORMS, bootstrap, perceptibilities
from c2f_lrp.objectives import adversarial_labels, margin
from c2f_lrp.provenance import markdown
from c2f_lrp.training.trainer import train_network

HERE = Path(__file__).parent
WAYS = {
    "smoothing 0.1, CutMix": dict(label_smoothing=0.1, cutmix=0.5),
    "CutMix": dict(label_smoothing=0.0, cutmix=0.5),
    "neither": dict(label_smoothing=0.0, cutmix=0.0),
}
PAIRS = {"label smoothing": ("smoothing 0.1, CutMix", "CutMix"), "CutMix": ("CutMix", "neither")}
PHOTOGRAPHS = 400  # of the fifth that no network was trained on
LAYOUT = dict(n_classes=8, width=12, hidden=128, image_size=64, dropout=0.0)


def looked_at(network, classifier, images) -> pd.DataFrame:
    """One row for each photograph: right, what DeepFool needs, whether PGD succeeds, how steep the margin is."""
    classifier.coarse = network.eval().requires_grad_(False)
    logits = network(images.pixels)
    org, adv = adversarial_labels(logits)
    slope = input_gradient(lambda x: margin(network(x), org, adv), images.pixels).flatten(1)
    table = pd.DataFrame({"image": images.names, "right": (org == images.coarse).tolist()})
    table["margin"] = margin(logits, org, adv).tolist()
    table["margin / l1 norm of its gradient"] = (margin(logits, org, adv) / slope.norm(p=1, dim=1)).tolist()
    for attack in (DFC(), PGDC(), PGDC(eps=8)):
        result = attack(classifier, images.pixels, images.coarse, images.fine)
        name = type(attack).__name__ + (f" {attack.eps:g}" if isinstance(attack, PGDC) else "")
        table[name] = result.fooled.tolist()
        table[f"{name} rho_2"] = perceptibilities(result.perturbation, images.pixels, NORMS["rho_2"]).tolist()
    return table


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """A line for each way of training and seed, over the photographs that it gets right."""
    lines = []
    for (way, seed), group in found.groupby(["way", "seed"], sort=False):
        right = group[group.right]
        lines.append(
            {
                "trained with": way,
                "seed": seed,
                "right %": 100 * group.right.mean(),
                "PGDC 2.53 %": 100 * right["PGDC 2.53"].mean(),
                "PGDC 8 %": 100 * right["PGDC 8"].mean(),
                "DFC rho_2": right["DFC rho_2"].mean(),
                "median margin": right.margin.median(),
                "median margin / slope": right["margin / l1 norm of its gradient"].median(),
            }
        )
    return pd.DataFrame(lines)


def differences(found: pd.DataFrame) -> pd.DataFrame:
    """Points of PGDC's fooling ratio at eps = 2.53, with less without, on what both networks get right."""
    lines = []
    for what, (with_it, without) in PAIRS.items():
        for seed, group in found.groupby("seed"):
            one, other = (group[group.way == way].set_index("image") for way in (with_it, without))
            both = one.index[one.right & other.right.reindex(one.index)]
            less = 100.0 * (one["PGDC 2.53"].loc[both].astype(float) - other["PGDC 2.53"].loc[both].astype(float))
            mean, low, high = bootstrap(less)
            lines.append({"what": what, "seed": seed, "images": len(both), "points": mean, "low": low, "high": high})
    return pd.DataFrame(lines)


def write(found: pd.DataFrame, epochs: int) -> None:
    lines, apart = summary(found), differences(found)
    verdicts = [
        f"**{what}**: " + ("makes" if (group.high < 0).all() else "by this rule, does not make") + " PGD's work harder."
        for what, group in apart.groupby("what", sort=False)
    ]
    lines.to_csv(HERE / "smoothing.csv", index=False, float_format="%.4g", lineterminator="\n")
    text = f"""# Label smoothing and PGD

Written by `python -m tests.benchmarks.smoothing`: coarse networks of Tiny ImageNet, {epochs} epochs and 2 more without
warps, alike but for what is named; {PHOTOGRAPHS} held-out photographs. *Slope*: the l1 norm of the margin's gradient,
so margin / slope is how large a change of every pixel (of 255) removes the margin, were it linear.

{markdown(lines.round(3).set_index("trained with"))}

PGDC's fooling ratio at ε = 2.53, with less without, in points, on photographs that both get right:

{markdown(apart.round(1).set_index("what"))}

{" ".join(verdicts)}
"""
    (HERE / "smoothing.md").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    training = c2f_lrp.load_images("tiny-imagenet", "train", root=options.root)
    pixels = training.pixels.byte()
    images = c2f_lrp.load_images("tiny-imagenet", limit=PHOTOGRAPHS, root=options.root)
    classifier = c2f_lrp.load_classifier("tiny-imagenet")
    parts = []
    for seed in options.seeds:
        for way, how in tqdm(WAYS.items(), desc=f"seed {seed}"):
            run = dict(epochs=options.epochs, finish_epochs=2, seed=seed, images=len(pixels), **how)
            state = options.out / f"{way.replace(' ', '_').replace(',', '')}_{seed}.safetensors"
            network = train_network(LAYOUT, pixels, training.coarse, state=state, run=run, features=None, device="cpu")
            parts.append(looked_at(network, classifier, images).assign(way=way, seed=seed))
        write(pd.concat(parts, ignore_index=True), options.epochs)


if __name__ == "__main__":
    main()
