"""The figures' style. Draws what it is given and computes nothing."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from c2f_lrp.evaluation import Panel

STYLE = {
    "figure.dpi": 100,
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.bbox": "tight",
    "savefig.facecolor": "white",
}


def use_style() -> None:
    plt.rcParams.update(STYLE)


def as_picture(pixels: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 255] -> uint8 (H, W, 3)."""
    return pixels.detach().clamp(0, 255).round().byte().permute(1, 2, 0).cpu().numpy()


def show_image(axes, pixels: Tensor, title: str = "") -> None:
    axes.imshow(as_picture(pixels), interpolation="nearest")
    bare(axes, title)


def show_relevance(axes, heatmap: Tensor, limit: float | None = None, title: str = "") -> None:
    """A heatmap (3, H, W): colour channels summed, red for, blue against, white for none; `limit` ends the scale.

    Without a limit the scale ends at the map's own 99.5th percentile, so that single pixels do not bleach the rest.
    """
    summed = heatmap.detach().sum(0).cpu().numpy()
    end = limit or float(np.quantile(np.abs(summed), 0.995)) or 1.0
    axes.imshow(summed, cmap="seismic", vmin=-end, vmax=end, interpolation="nearest")
    bare(axes, title)


def show_perturbation(axes, perturbation: Tensor, title: str = "") -> None:
    """A perturbation (3, H, W), magnified so that its largest entry takes the full range, around mid-grey."""
    largest = perturbation.abs().max().clamp(min=1e-12)
    show_image(axes, 127.5 + perturbation * (127.5 / largest), title)


def bare(axes, title: str = "") -> None:
    axes.set(xticks=[], yticks=[], title=title)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.5)


def contact_sheet(pixels: Tensor, titles: list[str], columns: int = 8) -> Figure:
    """Images (N, 3, H, W) in rows, each with its title."""
    rows = -(-len(pixels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.25 * columns, 1.45 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, pixels, titles, strict=False):
        axis.axis("on")
        show_image(axis, image, title)
        axis.title.set_fontsize(7)
    figure.tight_layout(pad=0.4)
    return figure


def attack_figure(
    columns: list[Panel], org: str, adv: str, label_names: list[str], *, perturbed: bool = False
) -> Figure:
    """The layout of Figures 1 and 2: relevance of the label, relevance of the runner-up, image and perturbations.

    columns: before, then one per attack; label_names: what the classifier calls the image in each column;
    perturbed: a fourth row with the perturbed images (Figure 2). The two heatmaps of a row share no scale: each is
    drawn on its own, its norm stands under it.
    """
    height = 4 if perturbed else 3
    figure, axes = plt.subplots(height, len(columns), figsize=(1.9 * len(columns) + 0.5, 2.25 * height), squeeze=False)
    for column, panel, name in zip(axes.T, columns, label_names, strict=True):
        show_relevance(column[0], panel.relevance_org, title=panel.title)
        show_relevance(column[1], panel.relevance_adv)
        caption(column[0], panel.norm_org, panel.score_org)
        caption(column[1], panel.norm_adv, panel.score_adv)
        if panel.perturbation.any():
            show_perturbation(column[2], panel.perturbation)
            column[2].set_xlabel(f"|η|∞ = {panel.perturbation.abs().max():.3g},  now {name}", fontsize=8)
        else:
            show_image(column[2], panel.pixels)
            column[2].set_xlabel(name, fontsize=8)
        if perturbed:
            show_image(column[3], panel.pixels)
    labels = [f"relevance of\n{org}", f"relevance of\n{adv}", "image, then\nperturbation", "attacked\nimage"]
    for axis, label in zip(axes[:, 0], labels, strict=False):
        axis.set_ylabel(label)
    figure.tight_layout(pad=0.5)
    return figure


def caption(axes, norm: float, score: float) -> None:
    """Under a heatmap: ||R+||_1 and the score of its label."""
    axes.set_xlabel(f"‖R⁺‖₁ = {norm:.3g},  score {score:.2f}", fontsize=8)
