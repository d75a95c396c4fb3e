"""The figures' style. Draws what it is given and computes nothing."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from c2f_lrp.datasets import Images
from c2f_lrp.panels import Panel

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


ORG, ADV = "tab:red", "tab:blue"  # the label and its runner-up, wherever both are drawn
CONTRAST = "RdBu_r"  # blue where more speaks for the runner-up, white for neither, red for the label
FOOLED, HELD = "#c2410c", "#0f766e"  # an attack that fooled the network, one that did not; told apart without red-green


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
    size = (1.25 * columns, 1.5 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, pixels, titles, strict=False):
        axis.axis("on")
        show_image(axis, image, title)
        axis.title.set_fontsize(7)
    return figure


def attack_figure(columns: list[Panel], org: str, adv: str, label_names: list[str], title: str = "") -> Figure:
    """Figures 1 and 2: a column before and one for each attack, as the paper has them, and what its rows leave out.

    Rows: the attacked image, with what the classifier calls it (label_names) and whether the attack fooled it; the
    perturbation; the relevance of the label and of the runner-up, with both norms and the label's score; what speaks
    for the one and not as much for the other (`Panel.contrast`). Each kind of picture has one scale over all columns,
    which is printed.
    """
    rows = ["attacked image", "perturbation", f"relevance of\n{org}", f"relevance of\n{adv}", "difference\nof the two"]
    figure = plt.figure(figsize=(1.72 * len(columns) + 1.3, 9.2 + 0.3 * bool(title)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, hspace=0.02, wspace=0.02)
    figure.suptitle(title)
    grid = figure.add_gridspec(len(rows), len(columns) + 1, width_ratios=[1] * len(columns) + [0.08])
    axes = np.array([[figure.add_subplot(grid[i, j]) for j in range(len(columns))] for i in range(len(rows))])
    factor = magnification([panel.perturbation for panel in columns])
    relevance = scale_end([heatmap for panel in columns for heatmap in (panel.relevance_org, panel.relevance_adv)])
    difference = scale_end([panel.contrast for panel in columns])
    for column, panel, name in zip(axes.T, columns, label_names, strict=True):
        show_image(column[0], panel.pixels, panel.title)
        outcome(column[0], panel, name)
        largest = panel.perturbation.abs().max().item()
        if largest:
            show_image(column[1], 127.5 + panel.perturbation * factor)
            column[1].set_xlabel(f"largest {largest:.3g} of 255", fontsize=8)
        else:
            column[1].set(xticks=[], yticks=[], frame_on=False)
        norms = zip(("org", "adv"), panel.negative_norms, strict=True)
        for axis, (which, negative) in zip(column[2:4], norms, strict=True):
            show_relevance(axis, getattr(panel, f"relevance_{which}"), relevance)
            caption(axis, getattr(panel, f"norm_{which}"), negative, getattr(panel, f"score_{which}"))
        show_contrast(column[4], panel.contrast, difference)
    rows[1] += f"\n× {factor:.2g}"
    figure.align_ylabels(axes[:, 0])
    for axis, label, colour in zip(axes[:, 0], rows, ("black", "black", ORG, ADV, "black"), strict=True):
        axis.set_ylabel(label, color=colour, fontsize=9)
    bars = (grid[2:4, -1], relevance, "seismic", "against", "for"), (grid[4, -1], difference, CONTRAST, adv, org)
    for place, end, colours, low, high in bars:
        mappable = plt.cm.ScalarMappable(plt.Normalize(-end, end), colours)
        bar = figure.colorbar(mappable, cax=figure.add_subplot(place))
        bar.set_ticks([-end, 0, end], labels=[f"−{end:.1g}\n{low}", "0", f"{high}\n{end:.1g}"], fontsize=7)
        bar.outline.set_linewidth(0.5)
    return figure


def magnification(perturbations: list[Tensor]) -> float:
    """By what the largest entry of all of them takes the full range around mid-grey; 1 where all are zero."""
    largest = max(perturbation.abs().max().item() for perturbation in perturbations)
    return 127.5 / largest if largest else 1.0


def scale_end(heatmaps: list[Tensor]) -> float:
    """Where one scale for heatmaps (C, H, W) ends: the largest of their 99.5th percentiles, channels summed."""
    return max(float(np.quantile(heatmap.sum(0).abs().cpu().numpy(), 0.995)) for heatmap in heatmaps) or 1.0


def outcome(axes, panel: Panel, name: str) -> None:
    """Under an image: its labels, and in one of two colours whether the attack fooled the network.

    name: "coarse" or "coarse / fine"; each gets its probability.
    """
    coarse, *fine = name.split(" / ")
    parts = [f"{coarse} {panel.coarse_score:.0%}"] + [f"{each} {panel.fine_score:.0%}" for each in fine]
    lines, colour = " /\n".join(parts), "black"
    if panel.fooled is not None:
        colour = FOOLED if panel.fooled else HELD
        lines = ("fooled" if panel.fooled else "not fooled") + "\n" + lines
        for spine in axes.spines.values():
            spine.set(edgecolor=colour, linewidth=2.5)
    axes.set_xlabel(lines, fontsize=8.5, color=colour, weight="bold" if panel.fooled else "normal")


def caption(axes, positive: float, negative: float, score: float) -> None:
    """Under a heatmap, as in the paper: ||R+||_1 and ||R-||_1, and the score of its label."""
    axes.set_xlabel(f"‖R⁺‖ {positive:.3g}   ‖R⁻‖ {negative:.2g}\nscore {score:.2f}", fontsize=7.5)


def show_contrast(axes, difference: Tensor, end: float, title: str = "") -> None:
    """A map (1, H, W) of `Panel.contrast`: the label's colour where more speaks for it, the runner-up's for that."""
    axes.imshow(difference.sum(0).cpu().numpy(), cmap=CONTRAST, vmin=-end, vmax=end, interpolation="nearest")
    bare(axes, title)


def mask_sheet(images: Images, columns: int = 8) -> Figure:
    """Images with the outline of the labelled object in red and of the secondary one in blue."""
    figure = contact_sheet(images.pixels, [""] * len(images), columns)
    for masks, colour in ((images.object_masks, "red"), (images.secondary_masks, "blue")):
        for axes, mask in zip(figure.axes, masks if masks is not None else [], strict=False):
            if mask.any():
                axes.contour(mask, levels=[0.5], colors=["white"], linewidths=2.2)
                axes.contour(mask, levels=[0.5], colors=[colour], linewidths=1.2)
    return figure


def confusion_figure(counts: Tensor, names: tuple[str, ...]) -> Figure:
    """Counts (M, M) of images by true label (row) and predicted label (column), shaded by their share of the row."""
    figure, axes = plt.subplots(figsize=(4.4, 4))
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(counts.tolist()):
        for j, count in enumerate(row):
            if count:
                color = "white" if shares[i, j] > 0.5 else "black"
                axes.text(j, i, count, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true")
    figure.tight_layout()
    return figure


def heatmap_sheet(pixels: Tensor, heatmaps: list[Tensor], labels: list[list[str]]) -> Figure:
    """A row of images (N, 3, H, W), and under it a row for each entry of `heatmaps`, each map with its label."""
    figure, axes = plt.subplots(
        1 + len(heatmaps), len(pixels), figsize=(1.5 * len(pixels), 1.7 * (1 + len(heatmaps))), squeeze=False
    )
    for column, image in enumerate(pixels):
        show_image(axes[0, column], image)
        for row, (maps, names) in enumerate(zip(heatmaps, labels, strict=True), start=1):
            show_relevance(axes[row, column], maps[column], title=names[column])
    figure.tight_layout(pad=0.4)
    return figure


def history_figure(history: list[dict], org: str, adv: str, org_label: int, adv_label: int) -> Figure:
    """Loss, scores of both labels and the perturbation's norms over the steps of an attack.

    history: one dict a step with "loss" (float), "scores" (M,) and "eta" (1, 3, H, W).
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9, 2.6))
    left.plot([step["loss"] for step in history], "k.-")
    left.set(title="loss, eq. (7)", xlabel="step")
    for label, name, colour in ((org_label, org, ORG), (adv_label, adv, ADV)):
        middle.plot([step["scores"][label].item() for step in history], ".-", color=colour, label=name)
    middle.set(title="score", xlabel="step", ylim=(0, 1))
    middle.legend(frameon=False)
    right.plot([step["eta"].abs().max().item() for step in history], ".-", label="largest |η|")
    right.plot([step["eta"].abs().mean().item() for step in history], ".-", label="mean |η|")
    right.set(title="perturbation (of 255)", xlabel="step")
    right.legend(frameon=False)
    figure.tight_layout()
    return figure


def before_after_figure(
    pixels: Tensor, perturbation: Tensor, before: list[Tensor], after: list[Tensor], org: str, adv: str
) -> Figure:
    """Image and both heatmaps before an attack, and below them the perturbation and heatmaps after; all (3, H, W)."""
    figure, axes = plt.subplots(2, 3, figsize=(5.4, 4.1), layout="constrained")
    show_image(axes[0, 0], pixels, "image")
    show_perturbation(axes[1, 0], perturbation, "perturbation")
    for row, (heatmaps, when) in zip(axes, ((before, "before"), (after, "after")), strict=True):
        for axis, heatmap, name in zip(row[1:], heatmaps, (org, adv), strict=True):
            show_relevance(axis, heatmap, title=f"{name}, {when}")
    return figure


def flow_figure(flows: dict[str, np.ndarray], names: tuple[str, ...]) -> Figure:
    """Where images went: from the coarse label before (left) to the one after (right), a panel for each attack.

    flows: counts (M, M) by title. Bands keep the colour of the label before; images that stayed are pale.
    """
    m = len(names)
    colours = plt.get_cmap("tab10" if m <= 10 else "turbo")(np.arange(m) if m <= 10 else np.linspace(0, 1, m))
    figure, panels = plt.subplots(1, len(flows), figsize=(3.9 * len(flows), 4.2), squeeze=False, layout="constrained")
    x = np.linspace(0, 1, 50)
    bend = (1 - np.cos(np.pi * x)) / 2
    for axes, (title, counts) in zip(panels[0], flows.items(), strict=True):
        gap = 0.03 * counts.sum()
        starts = [np.concatenate([[0], np.cumsum(counts.sum(axis) + gap)[:-1]]) for axis in (1, 0)]
        left, right = (ends.copy() for ends in starts)
        for i, j in np.ndindex(m, m):
            n = counts[i, j]
            low = left[i] + (right[j] - left[i]) * bend
            axes.fill_between(x, low, low + n, color=colours[i], alpha=0.15 if i == j else 0.75, linewidth=0)
            left[i], right[j] = left[i] + n, right[j] + n
        for side, sums, at in ((0, counts.sum(1), starts[0]), (1, counts.sum(0), starts[1])):
            for name, colour, total, low in zip(names, colours, sums, at, strict=True):
                if total:
                    axes.fill_between([side - 0.03, side + 0.03], low, low + total, color=colour, linewidth=0)
                    place = dict(x=-0.06, ha="right") if side == 0 else dict(x=1.06, ha="left")
                    axes.text(y=low + total / 2, s=f"{name} {total}", va="center", fontsize=7, **place)
        axes.set(xlim=(-0.75, 1.75), title=title)
        axes.invert_yaxis()
        axes.axis("off")
    return figure


def layers_figure(totals: dict[str, np.ndarray], names: list[str]) -> Figure:
    """Total relevance on its way from the output to the pixels: a line for each entry, (L + 1,) values."""
    figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
    for name, values in totals.items():
        axes.plot(values, ".-", label=name)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    axes.set(ylabel="total relevance", ylim=(0, None), title="from the output (left) to the pixels (right)")
    axes.legend(frameon=False)
    return figure


def intervals_figure(table, measures: list[str]) -> Figure:
    """Means with intervals, one panel for each measure, one line for each setting.

    table: of `measures.with_intervals`.
    """
    size = (3.3 * len(measures) + 2.2, 0.24 * len(table) + 1)
    figure, panels = plt.subplots(1, len(measures), figsize=size, squeeze=False, sharey=True, layout="constrained")
    places = np.arange(len(table))[::-1]
    for axes, measure in zip(panels[0], measures, strict=True):
        part = table[measure]
        spread = [part["mean"] - part["low"], part["high"] - part["mean"]]
        axes.errorbar(part["mean"], places, xerr=spread, fmt="o", color="black", markersize=3, linewidth=1)
        axes.axvline(0, color="grey", linewidth=0.6)
        axes.locator_params(axis="x", nbins=4)
        axes.set_title(measure, fontsize=8)
    panels[0, 0].set_yticks(places, table.index, fontsize=7)
    return figure


def trade_off_figure(curves: dict[str, tuple[list[float], list[float]]], x: str, y: str) -> Figure:
    """One curve for each attack, from its weakest setting to its strongest, or a single point."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for (name, (across, up)), marker in zip(curves.items(), "osv^DPX*<>h" * 3, strict=False):
        axes.plot(across, up, marker=marker, markersize=5, linewidth=1, label=name)
    axes.axhline(0, color="grey", linewidth=0.6)
    axes.set(xlabel=x, ylabel=y)
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
