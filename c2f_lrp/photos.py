"""c2f-lrp attack: a photograph, labelled by the classifier itself, attacked, drawn as in Figure 1, and put in words."""

import textwrap
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from PIL import Image
from torch import Tensor, nn

from c2f_lrp import attacks, plotting
from c2f_lrp.attacks.base import BoundedAttack, check_kind
from c2f_lrp.attacks.lrp_attack import PAPER_EPS
from c2f_lrp.classifier import CoarseToFine, GroupLogSumExp
from c2f_lrp.datasets.imagenet import open_photo, resize_and_crop
from c2f_lrp.files import atomic_write, sha256, writable_folder
from c2f_lrp.panels import Panel, panels

UNSURE = 0.5  # a label with a smaller probability is doubted aloud
FEW_CLASSES = 100  # a network that knows fewer will hardly know what a photograph from anywhere shows
MARK = "c2f_lrp photograph"  # in a figure's PNG: the SHA-256 of the photograph that it shows


def photo_attacks(attack: str, eps: list[float] | None, settings: dict | None = None) -> dict[str, attacks.Attack]:
    """The columns after "before": DeepFool of the level, as in Figure 1, then the attack at each bound.

    attack: a name in `attacks.ATTACKS`. eps: bounds in pixel units; None: the paper's for LRPC and LRPF, else the
    attack's own default. settings: other fields of the attack, such as lr; what is not given is the attack's default,
    here as everywhere. Raises ValueError for an unknown attack or setting, and for bounds of an attack that has none.
    """
    chosen = attacks.attack_class(attack)
    settings = settings or {}
    kinds: dict[str, Any] = {field.name: field.type for field in fields(chosen) if field.name != "eps"}
    for name, value in settings.items():
        if name not in kinds:
            how = "; bounds are given with --eps" if name == "eps" else ""
            raise ValueError(f"{attack} has no setting {name!r}; choose one of {', '.join(kinds)}{how}")
        check_kind(name, value, kinds[name], attack)
    deepfool = attacks.DFC if chosen.level == "coarse" else attacks.DFF
    columns = {deepfool.__name__: deepfool()}
    if not issubclass(chosen, BoundedAttack):
        if eps:
            raise ValueError(f"--eps was given, but {attack} has no bound; leave it out")
        return columns | {chosen.__name__: chosen(**settings)}
    bounds = eps or (PAPER_EPS if issubclass(chosen, attacks.LRPC | attacks.LRPF) else [chosen.eps])  # type: ignore[misc]  # its default
    return columns | {f"{chosen.__name__}, ε = {bound:g}": chosen(eps=bound, **settings) for bound in bounds}


def read_photo(photo: Path, size: int) -> tuple[Tensor, str]:
    """A photograph's pixels, float32 (3, size, size) in 0..255, and in words what was cut from it."""
    image = open_photo(photo)
    pixels = torch.from_numpy(resize_and_crop(image, size).copy()).permute(2, 0, 1).float()
    width, height = image.size
    if (width, height) == (size, size):
        return pixels, f"all of {width}×{height} pixels"
    return pixels, f"the centre of {width}×{height} pixels, scaled to {size}×{size}"


def attack_photo(
    classifier: CoarseToFine, photo: Path, size: int, columns: dict[str, attacks.Attack], attack: str, out: Path
) -> dict:
    """Attack a photograph scaled to size x size and draw OUT/<photo>_<attack>.png; returns what happened, as for JSON.

    columns: of `photo_attacks`. The heatmaps are those of the reading that the last column's attack has.
    """
    pixels, crop = read_photo(photo, size)
    pixels = pixels.to(next(classifier.parameters()).device)
    coarse, fine = (label.item() for label in classifier.predict(pixels[None]))
    *_, last = columns.values()
    told: dict[str, Any] = {"photograph": str(photo), "crop": crop, "attack": attack, "level": last.level}
    told["settings"] = {field.name: getattr(last, field.name) for field in fields(last) if field.name != "eps"}
    names = classifier.hierarchy.coarse_names
    if last.level == "fine" and classifier.hierarchy.n_fine[coarse] < 2:
        reason = f"{names[coarse]} has a single fine class here, so there is no fine label to attack"
        return told | {"skipped": reason}
    reading = {name: getattr(last, name) for name in ("init", "bias") if hasattr(last, name)}
    try:
        drawn, org, adv = panels(classifier, pixels, coarse, fine, columns, **reading)
    except TypeError as error:  # of a layer that no rule is known for
        raise ValueError(f"the heatmaps of this network cannot be computed: {error}") from error
    level_names = names if last.level == "coarse" else classifier.hierarchy.fine_names[coarse]
    before, *after = (facts_of(classifier, panel) for panel in drawn)
    path = figure_path(writable_folder(out), photo, attack)
    plotting.use_style()
    labels = classifier.hierarchy.describe([panel.coarse for panel in drawn], [panel.fine for panel in drawn])
    figure = plotting.attack_figure(drawn, level_names[org], level_names[adv], labels)
    with atomic_write(path) as part:
        quickly = {"compress_level": 1}  # less than half the time, for a file a tenth larger
        figure.savefig(part, format="png", dpi=150, metadata={MARK: sha256(photo)}, pil_kwargs=quickly)
    plt.close(figure)
    told |= {"before": before, "runner_up": level_names[adv], "attacks": after}
    return told | {"warnings": doubts(classifier, pixels, drawn[0]), "figure": str(path)}


def facts_of(classifier: CoarseToFine, panel: Panel) -> dict:
    """What one column says, in plain values."""
    hierarchy = classifier.hierarchy
    facts = {"coarse": hierarchy.coarse_names[panel.coarse], "coarse_score": round(panel.coarse_score, 4)}
    facts |= {"fine": hierarchy.fine_names[panel.coarse][panel.fine], "fine_score": round(panel.fine_score, 4)}
    if panel.fooled is None:
        return facts
    largest, mean = panel.perturbation.abs().max().item(), panel.perturbation.abs().mean().item()
    told = {"name": panel.title, "fooled": panel.fooled, "steps": panel.iterations}
    return told | facts | {"largest_change": round(largest, 3), "mean_change": round(mean, 4)}


def doubts(classifier: CoarseToFine, pixels: Tensor, before: Panel) -> list[str]:
    """Why the labels may mean nothing: nobody told the network that the photograph shows one of its classes."""
    found, n = [], sum(classifier.hierarchy.n_fine)
    if n < FEW_CLASSES:
        found.append(f"the network knows {n} classes and calls whatever it is shown by one of them")
    share = known_share(classifier, pixels)
    if share is not None and share < UNSURE:
        found.append(f"the network gives these {n} classes together {share:.0%}: it probably sees something else")
    for level, score in (("coarse", before.coarse_score), ("fine", before.fine_score)):
        if score < UNSURE:
            found.append(f"the network is unsure of the {level} label ({score:.0%})")
    return found


@torch.no_grad()
def known_share(classifier: CoarseToFine, pixels: Tensor) -> float | None:
    """The probability that a flat network gives the hierarchy's classes together, of all that it knows.

    pixels: (3, H, W) in 0..255. None where the coarse network was not made of a flat one (`CoarseToFine.from_flat`).
    """
    layers = getattr(classifier.coarse, "layers", None)
    if not isinstance(layers, nn.Sequential) or not isinstance(layers[-1], GroupLogSumExp):
        return None
    logits = layers[:-1](classifier.coarse.normalize(pixels[None]))
    return (layers[-1](logits).logsumexp(1) - logits.logsumexp(1)).exp().item()


def figure_path(out: Path, photo: Path, attack: str) -> Path:  # type: ignore[return]  # it counts for ever
    """OUT/<photo>_<attack>.png, or with a number where that file shows another photograph, or is not one of ours.

    So x.jpg and x.png do not overwrite each other, nor do photographs of one name in two folders, and the same
    photograph's figure is drawn anew. Long names are cut, as a file system's names end at 255 bytes.
    """
    stem = Path(photo).stem.encode()[:180].decode(errors="ignore")
    for number in count(1):
        path = out / f"{stem}_{attack.lower()}{f'_{number}' if number > 1 else ''}.png"
        if not path.exists() or marked(path) == sha256(photo):
            return path


def marked(path: Path) -> str | None:
    """The SHA-256 of the photograph that a figure shows; None where it is not one of ours."""
    try:
        with Image.open(path) as image:
            return image.info.get(MARK)
    except (OSError, SyntaxError, ValueError):
        return None


def as_text(told: dict, network: str) -> str:
    """What `attack_photo` returned, as a block to read. network: its name, of a profile or a file."""
    lines = [told["photograph"], f"  network   {network}", f"  seen      {told['crop']}"]
    settings = ", ".join(f"{name} {value}" for name, value in told["settings"].items())
    lines += textwrap.wrap(f"  attack    {told['attack']}: {settings}", 100, subsequent_indent=" " * 12)
    if "skipped" in told:
        return "\n".join([*lines, f"  skipped   {told['skipped']}"])
    lines.append(f"  before    {labels_of(told['before'])}; runner-up {told['runner_up']}")
    width = max(len(facts["name"]) for facts in told["attacks"])
    for facts in told["attacks"]:
        verdict = "FOOLED    " if facts["fooled"] else "not fooled"
        change = f"{facts['largest_change']:.3g} of 255 at most, {facts['mean_change']:.2g} on average"
        steps = f"{facts['steps']} step{'s' if facts['steps'] != 1 else ''}"
        lines.append(f"  {facts['name']:{width}}  {verdict}  {labels_of(facts)}; {steps}, {change}")
    lines += [f"  beware    {warning}" for warning in told["warnings"]]
    return "\n".join([*lines, f"  figure    {told['figure']}"])


def labels_of(facts: dict) -> str:
    return f"{facts['coarse']} {facts['coarse_score']:.0%} / {facts['fine']} {facts['fine_score']:.0%}"
