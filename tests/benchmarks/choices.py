"""What difference a choice makes: each setting of an attack changed alone, on the same embedded scenes.

    python -m tests.benchmarks.choices [--images 32]

The images are those that are classified correctly. Writes choices.csv and choices.md beside this file, a line for each
setting: the measures of Tables I and II, and on how many images it and the default agree, fooled or not. A few dozen
scenes show what matters, and no more.
"""

import argparse
import dataclasses
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

import c2f_lrp
from c2f_lrp.attacks import DFC, DFF, LRPC, LRPF, PGDC, PGDF, Attack, AttackResult
from c2f_lrp.attacks.base import input_gradient, largest_entry
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.metrics import NORMS, perceptibilities
from c2f_lrp.provenance import markdown

HERE = Path(__file__).parent
CHANGES: dict[type[Attack], list[dict]] = {
    LRPF: [dict(labels="clean"), dict(fine_network="kept"), dict(init="logit")],
    LRPC: [
        dict(labels="clean"),
        dict(init="logit"),
        dict(iterate="best"),
        dict(random_start=True),
        dict(lr=2),
        dict(lr=40),
        dict(iterations=10),
        dict(init="logit", step_scale="gradient", lr=1000),
        dict(p=2),
        dict(rule="epsilon"),
        dict(rule="gamma"),
        dict(rule="alpha-beta"),
        dict(objective="regions"),
        dict(objective="attention"),
    ],
    PGDC: [
        dict(early_stop=True),
        dict(random_start=True),
        dict(step_size=0.25),
        dict(step_size=5),
        dict(iterations=10),
        dict(eps=8),
    ],
    PGDF: [dict(early_stop=True)],
    DFC: [dict(overshoot=0.2), dict(candidates=None), dict(ends="clip")],
    DFF: [dict(candidates=None), dict(ends="clip")],
}


def clipped_apart(
    attack: LRPC, classifier: CoarseToFine, pixels: Tensor, labels: Tensor
) -> tuple[AttackResult, AttackResult]:
    """LRPC where line 8 clips eta to [-eps, eps] alone, and the image that the network sees is clipped to [0, 255].

    Twice the same attack: with eta as it is, and with what the image shows of it.
    """
    lrp, eta = attack.prepare(classifier.coarse), torch.zeros_like(pixels)
    fooled, steps = torch.zeros_like(labels, dtype=torch.bool), torch.zeros_like(labels)
    for _ in range(attack.iterations):
        seen = (pixels + eta).clamp(0, 255)
        pair = attack.pair(classifier.coarse(seen).detach(), labels)
        gradient = input_gradient(lambda x, pair=pair: attack.loss(lrp, x, pair), seen)
        moved = (eta - attack.lr * gradient / largest_entry(gradient)).clamp(-attack.eps, attack.eps)
        eta = eta.where(fooled[:, None, None, None], moved)
        steps += ~fooled
        fooled |= classifier.predict((pixels + eta).clamp(0, 255))[0] != labels
    seen = (pixels + eta).clamp(0, 255)
    return AttackResult(eta, fooled, steps), AttackResult(seen - pixels, fooled, steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=32)
    options = parser.parse_args()
    clf = c2f_lrp.load_classifier("scenes")
    images = c2f_lrp.load_images("scenes", limit=options.images)
    coarse, fine = clf.predict(images.pixels)
    images = images[(coarse == images.coarse) & (fine == images.fine)]
    given = images.pixels, images.coarse, images.fine
    settings = [(kind, change) for kind, changes in CHANGES.items() for change in [{}, *changes]]
    lines = []

    def note(kind: str, changed: str, result: AttackResult, default: AttackResult) -> None:
        line = {"attack": kind, "changed": changed, "fooling %": 100 * result.fooled.double().mean().item()}
        sizes = {name: perceptibilities(result.perturbation, images.pixels, p).mean() for name, p in NORMS.items()}
        line |= {name: size.item() for name, size in sizes.items()}
        line["as the default %"] = 100 * (result.fooled == default.fooled).double().mean().item()
        lines.append(line | {"mean steps": result.iterations.double().mean().item()})
        write(pd.DataFrame(lines), len(images))  # after each, as all of them take a while

    for kind, change in tqdm(settings):
        result = kind(**change)(clf, *given)
        if not change:
            default = result
        told = ", ".join(f"{name}={value!r}" for name, value in change.items())
        note(kind.__name__, told or "(the default)", result, default)
        if kind is LRPC and not change:
            apart = clipped_apart(LRPC(), clf, images.pixels, images.coarse)
            note("LRPC", "line 8 clips η to ±ε alone, and η is counted", apart[0], default)
            note("LRPC", "the same, and what the image shows is counted", apart[1], default)


def write(table: pd.DataFrame, count: int) -> None:
    table.to_csv(HERE / "choices.csv", index=False, float_format="%.4g", lineterminator="\n")
    defaults = "; ".join(
        f"{kind.__name__}: " + ", ".join(f"{f.name}={getattr(kind(), f.name)!r}" for f in dataclasses.fields(kind))
        for kind in (LRPC, PGDC, DFC)
    )
    shown = table.round({"fooling %": 1, "rho_2": 4, "rho_1": 4, "rho_inf": 4, "as the default %": 1, "mean steps": 1})
    text = f"""# Each choice changed alone

Written by `python -m tests.benchmarks.choices`, on {count} scenes that are classified correctly, so one
image is {100 / count:.1f} points. *As the default*: on how many images the two agree, fooled or not.

{markdown(shown.set_index("attack"))}

The defaults: {defaults}.
"""
    (HERE / "choices.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
