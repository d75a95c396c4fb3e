"""c2f-lrp attack: the panels of Figure 1 for any photograph, labelled by the classifier itself."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from c2f_lrp import attacks, plotting
from c2f_lrp.attacks.base import BoundedAttack
from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.datasets.imagenet import open_photo, resize_and_crop
from c2f_lrp.files import atomic_write, writable_folder
from c2f_lrp.panels import panels
from c2f_lrp.tables import PAPER_EPS


def photo_attacks(attack: str, eps: list[float] | None) -> dict[str, attacks.Attack]:
    """The columns after "before": DeepFool of the level, as in Figure 1, then the attack at each bound.

    attack: a name in `attacks.ATTACKS`. eps: bounds in pixel units; None: the paper's for LRPC and LRPF, else the
    attack's own default. Raises ValueError for an unknown attack, and for bounds of an attack that has none.
    """
    chosen = attacks.attack_class(attack)
    deepfool = attacks.DFC if chosen.level == "coarse" else attacks.DFF
    columns = {deepfool.__name__: deepfool()}
    if not issubclass(chosen, BoundedAttack):
        if eps:
            raise ValueError(f"--eps was given, but {attack} has no bound; leave it out")
        return columns | {chosen.__name__: chosen()}
    bounds = eps or (PAPER_EPS if issubclass(chosen, attacks.LRPC | attacks.LRPF) else [chosen.eps])
    return columns | {f"{chosen.__name__}, ε = {bound:g}": chosen(eps=bound) for bound in bounds}


def attack_photo(
    classifier: CoarseToFine, photo: Path, size: int, attack: str, eps: list[float] | None, out: Path
) -> str:
    """Draw OUT/<photo.jpg>_<attack>.png for a photograph scaled to size x size; returns a line on what happened."""
    columns = photo_attacks(attack, eps)
    pixels = torch.from_numpy(resize_and_crop(open_photo(photo), size).copy()).permute(2, 0, 1).float()
    coarse, fine = (label.item() for label in classifier.predict(pixels[None]))
    level = next(iter(columns.values())).level
    if level == "fine" and classifier.hierarchy.n_fine[coarse] < 2:
        name = classifier.hierarchy.coarse_names[coarse]
        return f"{photo}: {name}, which has a single fine class here, so there is no fine label to attack; skipped"
    drawn, org, adv = panels(classifier, pixels, coarse, fine, columns)
    names = classifier.hierarchy.coarse_names
    level_names = names if level == "coarse" else classifier.hierarchy.fine_names[coarse]
    labels = classifier.hierarchy.describe([panel.coarse for panel in drawn], [panel.fine for panel in drawn])
    plotting.use_style()
    figure = plotting.attack_figure(drawn, level_names[org], level_names[adv], labels)
    path = writable_folder(out) / f"{Path(photo).name}_{attack.lower()}.png"  # with its ending: x.jpg is not x.png
    with atomic_write(path) as part:
        figure.savefig(part, format="png", dpi=150)
    plt.close(figure)
    after = "; ".join(f"{panel.title}: {label}" for panel, label in zip(drawn[1:], labels[1:], strict=True))
    return f"{photo}: {labels[0]}, runner-up {level_names[adv]}; {after}; drawn in {path}"
