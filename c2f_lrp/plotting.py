"""The figures' style. Draws what it is given and computes nothing."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from c2f_lrp.courses import Course
from c2f_lrp.datasets import Images
from c2f_lrp.hierarchy import Hierarchy
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


def attack_figure(
    columns: list[Panel], org: str, adv: str, label_names: list[str], title: str = "", *, perturbed: bool = False
) -> Figure:
    """The layout of Figures 1 and 2: relevance of the label, relevance of the runner-up, image and perturbations.

    columns: before, then one per attack; label_names: what the classifier calls the image in each column;
    perturbed: a fourth row with the perturbed images (Figure 2). The two heatmaps of a row share no scale: each is
    drawn on its own, its norm stands under it.
    """
    height = 4 if perturbed else 3
    size = (1.9 * len(columns) + 0.5, 2.25 * height + 0.3 * bool(title))
    figure, axes = plt.subplots(height, len(columns), figsize=size, squeeze=False, layout="constrained")
    figure.suptitle(title)
    for column, panel, name in zip(axes.T, columns, label_names, strict=True):
        wrapped = name.replace(" / ", " /\n")  # long names of neighbouring columns would meet
        show_relevance(column[0], panel.relevance_org, title=panel.title)
        show_relevance(column[1], panel.relevance_adv)
        caption(column[0], panel.norm_org, panel.score_org)
        caption(column[1], panel.norm_adv, panel.score_adv)
        if panel.perturbation.any():
            show_perturbation(column[2], panel.perturbation)
            column[2].set_xlabel(f"|η|∞ = {panel.perturbation.abs().max():.3g},  now\n{wrapped}", fontsize=8)
        else:
            show_image(column[2], panel.pixels)
            column[2].set_xlabel(wrapped, fontsize=8)
        if perturbed:
            show_image(column[3], panel.pixels)
    labels = [f"relevance of\n{org}", f"relevance of\n{adv}", "image, then\nperturbation", "attacked\nimage"]
    for axis, label in zip(axes[:, 0], labels, strict=False):
        axis.set_ylabel(label)
    return figure


def caption(axes, norm: float, score: float) -> None:
    """Under a heatmap: ||R+||_1 and the score of its label."""
    axes.set_xlabel(f"‖R⁺‖₁ = {norm:.3g},  score {score:.2f}", fontsize=8)


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


VERDICTS = {"supported": "black", "the reverse": ORG}  # filled dots; the other verdicts are rings


def claims_figure(judged, columns: int = 3) -> Figure:
    """Means with their intervals: a panel for each half and measure, a line for each setting.

    judged: lines of one claim, of `claims.judge`, their index attack, reading, eps, half, measure. Black dots: what the
    rules call supported; red ones: the reverse; grey rings: neither.
    """
    lines = judged.reset_index()
    lines["setting"] = [", ".join(part for part in key if part) for key in lines[["attack", "reading", "eps"]].values]
    settings, panels = list(dict.fromkeys(lines.setting)), list(lines.groupby(["half", "measure"], sort=False))
    rows = -(-len(panels) // columns)
    size = (2.4 * columns + 2.2, rows * (0.19 * len(settings) + 0.75))
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, ((half, measure), group) in zip(grid.flat, panels, strict=False):
        for line in group.to_dict("records"):
            place, colour = -settings.index(line["setting"]), VERDICTS.get(line["verdict"], "grey")
            axes.plot([line["low"], line["high"]], [place, place], color=colour, linewidth=1)
            filled = colour if line["verdict"] in VERDICTS else "white"
            axes.plot(line["mean"], place, "o", color=colour, markerfacecolor=filled, markersize=4)
        axes.axvline(0, color="grey", linewidth=0.6)
        axes.locator_params(axis="x", nbins=4)
        axes.set_title(f"{half}: {measure}" if half else measure, fontsize=8)
    for axes in grid[:, 0]:
        axes.set_yticks(-np.arange(len(settings)), settings, fontsize=7)
    return figure


def attention_figure(
    pictures: dict[str, Tensor], heatmaps: dict[str, list[Tensor]], titles: list[str], outline: Tensor | None = None
) -> Figure:
    """A row for each entry: the image (3, H, W), then its heatmaps (C, H, W), each on a scale of its own.

    titles: of the heatmaps. outline: bool (H, W), drawn in every panel: the second object.
    """
    size = (1.55 * (1 + len(titles)) + 0.3, 1.55 * len(pictures) + 0.5)
    figure, grid = plt.subplots(len(pictures), 1 + len(titles), figsize=size, squeeze=False, layout="constrained")
    for axes, (name, pixels) in zip(grid, pictures.items(), strict=True):
        show_image(axes[0], pixels)
        axes[0].set_ylabel(name)
        for axis, heatmap in zip(axes[1:], heatmaps[name], strict=True):
            show_relevance(axis, heatmap)
        for axis in axes if outline is not None and outline.any() else []:
            axis.contour(outline, levels=[0.5], colors="black", linewidths=0.8, linestyles="dotted")
    for axis, title in zip(grid[0], ["image", *titles], strict=True):
        axis.set_title(title, fontsize=8)
    return figure


def cosine_strip(rows) -> Figure:
    """A dot per image at the cosine of the LRP loss's gradient with the margin's, a strip for each reading.

    rows: of `readings.directions`. Blue: the attack fools the image; red rings: it does not.
    """
    names = list(dict.fromkeys(rows.reading))
    figure, axes = plt.subplots(figsize=(6.4, 0.62 * len(names) + 1.2), layout="constrained")
    spread = np.random.default_rng(0)
    for place, name in enumerate(reversed(names)):
        group = rows[rows.reading == name].dropna(subset="cosine")
        heights = place + spread.uniform(-0.28, 0.28, len(group))
        fooled = group.fooled.to_numpy(dtype=bool)
        dots = dict(s=14, linewidths=0.8, clip_on=False)
        axes.scatter(group.cosine[fooled], heights[fooled], color=ADV, alpha=0.7, label="fooled", **dots)
        axes.scatter(group.cosine[~fooled], heights[~fooled], facecolors="none", edgecolors=ORG, label="not", **dots)
    axes.axvline(0, color="grey", linewidth=0.6)
    axes.set_yticks(range(len(names)), reversed(names))
    axes.set(xlim=(-1, 1), ylim=(-0.5, len(names) - 0.5), xlabel="against the margin      cosine      with the margin")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[:2], labels[:2], frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure


# ------------------------------------------------------------------------------------------------------- the animation
def animate(course: Course) -> Iterator[Figure]:
    """A figure for each iterate of an attack, K + 1 of them, for `provenance.save_animation`.

    The image, what was added so far (magnified by one factor throughout), the scores, and the evidence: the difference
    of both labels' heatmaps on one scale, red for the label, blue for its runner-up; above them, whether the attack has
    fooled the network.
    """
    org, adv, last = course.names[course.org], course.names[course.adv], len(course) - 1
    bound = course.perturbations.abs().max().clamp(min=1e-12).item()
    end = course.evidence.abs().flatten(1).quantile(0.995, 1).amax().item() or 1.0
    scores = course.scores.numpy()
    for step in range(len(course)):
        figure = Figure(figsize=(9, 3), facecolor="white")
        verdict, colour = f"NOT YET: still {org}", "dimgrey"
        if step == 0:
            verdict = f"BEFORE: {org}"
        elif step == last and course.fooled:
            verdict, colour = f"FOOLED: {org} → {course.names[scores[step].argmax()]}", FOOLED
        elif step == last:
            verdict, colour = f"NOT FOOLED: still {org}", HELD
        bar = figure.add_axes((0, 0.87, 1, 0.13), facecolor=colour)
        bar.set(xticks=[], yticks=[])
        bar.spines[:].set_visible(False)
        bar.text(0.01, 0.47, verdict, color="white", weight="bold", fontsize=17, va="center", transform=bar.transAxes)
        bar.text(0.99, 0.47, f"step {step} of {last}", color="white", fontsize=12, va="center", ha="right")
        image, added, evidence = (figure.add_axes((x, 0.14, 0.21, 0.63)) for x in (0.01, 0.235, 0.46))
        show_image(image, course.pixels + course.perturbations[step], "image")
        show_image(
            added, 127.5 + course.perturbations[step] * (127.5 / bound), f"what was added, × {127.5 / bound:.3g}"
        )
        shown = evidence.imshow(
            course.evidence[step].numpy(), cmap=CONTRAST, vmin=-end, vmax=end, interpolation="nearest"
        )
        bare(evidence, "difference of the heatmaps")
        beside = figure.colorbar(shown, cax=figure.add_axes((0.46, 0.095, 0.21, 0.03)), orientation="horizontal")
        beside.set_ticks([-0.98 * end, 0.98 * end], labels=[f"for {adv}", f"for {org}"])
        beside.ax.tick_params(length=0, labelsize=9)
        for label, colour in zip(beside.ax.get_xticklabels(), (ADV, ORG), strict=True):
            label.set(color=colour, ha="left" if colour == ADV else "right")
        bars = figure.add_axes((0.7, 0.02, 0.29, 0.75))
        score_bars(bars, scores[0], scores[step], course.names, course.org, course.adv)
        yield figure


# ------------------------------------------------------------------------------------------------------------- the demo
def demo_figure(
    before: Panel,
    now: Panel,
    ends: list[float],
    scores: np.ndarray,
    names: tuple[str, ...],
    org: int,
    adv: int,
    step: int,
    hierarchy: Hierarchy,
    outlines: list[Tensor],
) -> Figure:
    """One attack on one image after `step` of its steps: what was (above), what is (below), labels at the right.

    ends: of the scales of both labels' heatmaps, the same above and below. scores: (K + 1, M) over the steps, of the
    attacked network's labels `names`. outlines: masks (H, W) of the labelled object, then of the other one, if known.
    """
    with plt.rc_context(STYLE | {"font.size": 10, "axes.titlesize": 10.5}):
        figure = Figure(figsize=(12.4, 5.5))
        # Places by hand: they stay where they are from picture to picture.
        places = dict(left=0.005, right=0.995, top=0.94, bottom=0.015, wspace=0.1, hspace=0.16)
        grid = figure.add_gridspec(2, 5, width_ratios=(1, 1, 1, 1, 1.45), **places)
        (image, curve, was_org, was_adv, bars), (attacked, eta, now_org, now_adv, path) = grid.subplots()
    show_image(image, before.pixels, "the image")
    show_image(attacked, now.pixels, "attacked" if step else "not attacked yet")
    largest = now.perturbation.abs().max().item()
    magnified = f"perturbation × {127.5 / largest:.3g}" if largest else "no perturbation yet"
    show_perturbation(eta, now.perturbation, magnified)
    for axes, panel, when in (((was_org, was_adv), before, "before"), ((now_org, now_adv), now, "now")):
        heatmaps = (panel.relevance_org, panel.relevance_adv)
        for axis, heatmap, end, label, colour in zip(axes, heatmaps, ends, (org, adv), (ORG, ADV), strict=True):
            show_relevance(axis, heatmap, end, f"relevance of {names[label]}, {when}")
            axis.title.set(color=colour, fontsize=min(10.5, 285 / len(axis.get_title())))  # neighbours must not meet
    for axes in (image, was_org, was_adv, now_org, now_adv):
        for mask, line in zip(outlines, ("solid", "dotted"), strict=False):
            if mask.any():
                axes.contour(mask, levels=[0.5], colors="black", linewidths=1, linestyles=line)
    score_curves(curve, scores[:, [org, adv]], step)
    score_bars(bars, scores[0], scores[step], names, org, adv)
    draw_path(path, hierarchy, (before.coarse, before.fine), (now.coarse, now.fine))
    return figure


def score_curves(axes, scores: np.ndarray, step: int) -> None:
    """Scores of both labels (K + 1, 2) over the steps, with a mark at `step`."""
    for values, colour in zip(scores.T, (ORG, ADV), strict=True):
        axes.plot(values, ".-", color=colour, linewidth=1, markersize=4)
        axes.plot(step, values[step], "o", color=colour, markersize=8)
    axes.axvline(step, color="grey", linewidth=0.8, zorder=0)
    # Square and with its ticks inside, as large as its neighbours.
    axes.set(ylim=(-0.15, 1.05), title="both scores over the steps", yticks=(0.5,), box_aspect=1)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(direction="in", labelsize=8)
    axes.tick_params(axis="x", pad=-13)
    axes.tick_params(axis="y", pad=-18)


def score_bars(axes, before: np.ndarray, now: np.ndarray, names: tuple[str, ...], org: int, adv: int, most: int = 8):
    """The highest scores (M,) before, pale, and now, in the order of those before."""
    shown = np.sort(np.argsort(-np.maximum(before, now), kind="stable")[:most])
    shown = shown[np.argsort(-before[shown], kind="stable")]
    places = np.arange(len(shown))
    colours = [{org: ORG, adv: ADV}.get(label, "dimgrey") for label in shown.tolist()]
    axes.barh(places, before[shown], height=0.85, color=colours, alpha=0.25)
    axes.barh(places, now[shown], height=0.45, color=colours)
    for place, label in enumerate(shown.tolist()):
        axes.text(-0.02, place, names[label], ha="right", va="center", color=colours[place], fontsize=9)
        axes.text(max(before[label], now[label]) + 0.02, place, f"{now[label]:.2f}", va="center", fontsize=8)
    axes.set(xlim=(-0.55, 1.2), ylim=(max(len(shown), 4) - 0.4, -0.6), title="scores before (pale) and now")
    axes.axis("off")


def draw_path(axes, hierarchy: Hierarchy, before: tuple[int, int], now: tuple[int, int]) -> None:
    """The way of labels (coarse, fine) through the hierarchy before, dashed, and now."""
    ways = [(now, "solid", "black")]
    if before != now:
        ways.insert(0, (before, "dashed", "grey"))
    coarse = {i: 1 - (i + 0.5) / hierarchy.n_coarse for i in few(hierarchy.n_coarse, [way[0][0] for way in ways], 10)}
    leaves = [
        (i, j)
        for i in dict.fromkeys((before[0], now[0]))
        for j in few(hierarchy.n_fine[i], [way[0][1] for way in ways if way[0][0] == i], 4)
    ]
    fine = {leaf: 1 - (row + 0.5) / max(len(leaves), 6) for row, leaf in enumerate(leaves)}
    for y in coarse.values():
        axes.plot((0, 0.12), (0.5, y), color="lightgrey", linewidth=0.8)
    for (i, _), y in fine.items():
        axes.plot((0.55, 0.66), (coarse[i], y), color="lightgrey", linewidth=0.8)
    for (i, j), line, colour in ways:
        x, y = (0, 0.12, 0.55, 0.66), (0.5, coarse[i], coarse[i], fine[i, j])
        axes.plot(x, y, linestyle=line, color=colour, linewidth=2)
    nodes = [(0.13, y, hierarchy.coarse_names[i], i == now[0], i in (before[0], now[0])) for i, y in coarse.items()]
    nodes += [
        (0.67, y, hierarchy.fine_names[i][j], (i, j) == now, (i, j) in (before, now)) for (i, j), y in fine.items()
    ]
    under = dict(facecolor="white", edgecolor="none", pad=1.5)  # a way passes behind its coarse label
    for x, y, name, here, taken in nodes:
        style = dict(weight="bold" if here else "normal", color="black" if taken else "darkgrey", bbox=under)
        axes.text(x, y, name, va="center", fontsize=9, **style)
    axes.set(xlim=(-0.02, 1.08), ylim=(0, 1), title="labels before (dashed) and now")
    axes.axis("off")


def few(count: int, chosen: list[int], most: int) -> list[int]:
    """At most `most` of the numbers 0..count-1 and all the chosen ones, in order."""
    others = [i for i in range(count) if i not in chosen]
    return sorted({*chosen, *others[: max(0, most - len(set(chosen)))]})
