"""The figures' style. Draws what it is given and computes nothing."""

from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from c2f_lrp.courses import Course
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


def bare(axes, title: str = "") -> None:
    axes.set(xticks=[], yticks=[], title=title)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.5)


def contact_sheet(pixels: Tensor, titles: list[str], columns: int = 8, *, good: Tensor | None = None) -> Figure:
    """Images (N, 3, H, W) in rows, each with its title; good: bool (N,), titles are green where true, else brown."""
    rows = -(-len(pixels) // columns)
    size = (1.25 * columns, 1.6 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    colours = ["black"] * len(pixels) if good is None else [HELD if each else FOOLED for each in good.tolist()]
    for axis, image, title, colour in zip(axes.flat, pixels, titles, colours, strict=False):
        axis.axis("on")
        show_image(axis, image, title)
        axis.title.set(fontsize=8, color=colour)
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


def history_figure(history: list[dict], org: str, adv: str, org_label: int, adv_label: int) -> Figure:
    """Loss, scores of both labels and the perturbation's size over the steps of an attack.

    history: one dict a step, from the clean image on, with "loss" (float), "scores" (M,) and "eta" (1, 3, H, W).
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(8.4, 2.7), layout="constrained")
    left.plot([step["loss"] for step in history], "k.-")
    left.axhline(0, color="grey", linewidth=0.6)
    left.set(title="loss, eq. (7)")
    for label, name, colour in ((org_label, org, ORG), (adv_label, adv, ADV)):
        middle.plot([step["scores"][label].item() for step in history], ".-", color=colour, label=name)
    middle.set(title="score", ylim=(-0.03, 1.03))
    sizes = {"largest": [step["eta"].abs().max().item() for step in history]}
    sizes["mean"] = [step["eta"].abs().mean().item() for step in history]
    for (name, values), line in zip(sizes.items(), ("solid", "dashed"), strict=True):
        right.plot(values, marker=".", color="black", linestyle=line, label=name)
    right.set(title="change of a pixel value, of 255")
    for axes in (middle, right):
        axes.legend(frameon=False)
    for axes in (left, middle, right):
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
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
    """Total relevance on its way from the output to the pixels: a line for each entry, (L + 1,) values.

    names: of the L + 1 places, "" for those without one; of more than 30, every second, third, ... is written.
    """
    figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
    for name, values in totals.items():
        axes.plot(values, ".-", label=name)
    named = [place for place, name in enumerate(names) if name]
    named = named[:: -(-len(named) // 30)]
    axes.set_xticks(named, [names[place] for place in named], rotation=60, ha="right", fontsize=7)
    axes.set_xticks(range(len(names)), minor=True)
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
        image, added, evidence = (figure.add_axes((x, 0.155, 0.205, 0.615)) for x in (0.01, 0.225, 0.44))
        show_image(image, course.pixels + course.perturbations[step], "image")
        show_image(added, 127.5 + course.perturbations[step] * (127.5 / bound), f"added, × {127.5 / bound:.3g}")
        shown = evidence.imshow(
            course.evidence[step].numpy(), cmap=CONTRAST, vmin=-end, vmax=end, interpolation="nearest"
        )
        bare(evidence, "difference")
        beside = figure.colorbar(shown, cax=figure.add_axes((0.44, 0.105, 0.205, 0.03)), orientation="horizontal")
        beside.set_ticks([-0.98 * end, 0.98 * end], labels=[f"for {adv}", f"for {org}"])
        beside.ax.tick_params(length=0, labelsize=9)
        for label, colour in zip(beside.ax.get_xticklabels(), (ADV, ORG), strict=True):
            label.set(color=colour, ha="left" if colour == ADV else "right")
        bars = figure.add_axes((0.695, 0.02, 0.295, 0.75))
        score_bars(bars, scores[0], scores[step], course.names, course.org, course.adv)
        yield figure


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


# ------------------------------------------------------------------------------------------- chapters 2, 3, 4 and 12
def relevance_bar(figure: Figure, axes, label: str = "relevance of a pixel") -> None:
    """A colour bar beside heatmaps that share one scale, with the scale's two ends and its middle as ticks.

    axes: the Axes, or an array of them, that `show_relevance` drew on; the first one's image sets the bar.
    """
    beside = np.ravel(axes).tolist()
    picture = beside[0].images[-1]
    end = picture.norm.vmax
    bar = figure.colorbar(picture, ax=beside, shrink=0.9, aspect=12, pad=0.02, ticks=[-end, 0, end])
    bar.ax.set_yticklabels([f"−{scientific(end)}", "0", scientific(end)], fontsize=8)
    bar.set_label(label, fontsize=8)


def scientific(value: float) -> str:
    """0.00042 as 4.2 · 10⁻⁴, for matplotlib to set."""
    digits, power = f"{value:.1e}".split("e")
    return rf"${digits} \cdot 10^{{{int(power)}}}$"


def network_figure(
    drawings: dict[str, tuple[list[list[str]], list[Tensor]]], columns: list[str], *, backwards: bool = False
) -> Figure:
    """A network of a few units as nodes and arrows, once for each entry of `drawings`, one below the other.

    drawings: by title, the text in the nodes of every layer, and between each two layers the numbers (n_in, n_out) to
    write on the arrows; an arrow is as thick as its number is large, red if positive and blue if negative, and left
    out where it is 0. columns: what stands above the layers. backwards: arrows lead from the outputs to the inputs.
    """
    size = (1.75 * (len(columns) - 1) + 1.2, 3.1 * len(drawings))
    figure, panels = plt.subplots(len(drawings), 1, figsize=size, squeeze=False, layout="constrained")
    for axes, (title, (nodes, edges)) in zip(panels[:, 0], drawings.items(), strict=True):
        places = [[(x, (len(layer) - 1) / 2 - y) for y in range(len(layer))] for x, layer in enumerate(nodes)]
        for layer, (numbers, column) in enumerate(zip(edges, columns[1:], strict=True)):
            largest = numbers.abs().max()
            for (i, j), value in np.ndenumerate(numbers.cpu().numpy()):
                if value:
                    ends = places[layer][i], places[layer + 1][j]
                    draw_arrow(axes, *(ends[::-1] if backwards else ends), value, abs(value / largest))
            axes.text(layer + 1, 1.62, column, ha="center", fontsize=9, color="dimgrey")
        axes.text(0, 1.62, columns[0], ha="center", fontsize=9, color="dimgrey")
        for spots, texts in zip(places, nodes, strict=True):
            for place, text in zip(spots, texts, strict=True):
                axes.plot(*place, "o", markersize=38, color="white", markeredgecolor="black", zorder=3)
                axes.text(*place, text, ha="center", va="center", fontsize=8.5, zorder=4)
        axes.set(xlim=(-0.35, len(nodes) - 0.65), ylim=(-1.45, 1.85))
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    return figure


def draw_arrow(axes, start: tuple[float, float], end: tuple[float, float], value: float, thickness: float) -> None:
    """One arrow between two nodes with its number near its start; thickness from 0 to 1."""
    colour = ORG if value > 0 else ADV
    style = dict(arrowstyle="-|>", color=colour, linewidth=0.6 + 2.6 * thickness, shrinkA=20, shrinkB=20)
    axes.annotate("", end, start, arrowprops=style)
    x, y = (0.72 * a + 0.28 * b for a, b in zip(start, end, strict=True))
    under = dict(facecolor="white", edgecolor="none", pad=0.8)
    axes.text(x, y, f"{value:.3g}".replace("-", "−"), ha="center", va="center", fontsize=8, color=colour, bbox=under)


def matrices_figure(matrices: dict[str, Tensor], rows: list[list[str]], columns: list[str]) -> Figure:
    """Matrices (n, M) with entries from 0 to 1, side by side, each entry written and shaded, a row label for each n."""
    widths = [len(columns)] * len(matrices)
    size = (1.05 * sum(widths) + 0.8 * len(matrices), 0.42 * max(map(len, rows)) + 0.8)
    figure, panels = plt.subplots(1, len(matrices), figsize=size, squeeze=False, layout="constrained")
    for axes, (title, matrix), names in zip(panels[0], matrices.items(), rows, strict=True):
        axes.imshow(matrix, cmap="Reds", vmin=0, vmax=1.3, aspect="auto")
        for (i, j), value in np.ndenumerate(matrix.cpu().numpy()):
            colour = "white" if value > 0.9 else "black"
            axes.text(j, i, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=9)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
        axes.set_title(title, fontsize=9)
    return figure


def label_matrix(
    axes, values: Tensor, rows: Sequence[str], columns: Sequence[str], *, form: str = "{:g}", end: float = 1.0
):
    """A matrix (R, C) as shaded cells with its numbers, zeros left empty; the shading is darkest at `end`."""
    axes.imshow(values, cmap="Blues", vmin=0, vmax=end)
    for (i, j), value in np.ndenumerate(values.cpu().numpy()):
        if value:
            colour = "white" if value > 0.6 * end else "black"
            axes.text(j, i, form.format(value), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def confusion_figure(predicted: Tensor, second: Tensor, names: tuple[str, ...]) -> Figure:
    """Two counts (M, M) of images by true coarse label (rows): by predicted label, and by runner-up label."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4.2), layout="constrained")
    largest = float(predicted.max())
    label_matrix(left, predicted, names, names, end=largest)
    label_matrix(right, second, names, names, end=largest)
    left.set(title="what the coarse network says", xlabel="label", ylabel="true class")
    right.set(title="what it would say next", xlabel="runner-up")
    right.set_yticks([])
    return figure


def sureness_figure(sureness: Tensor, names: tuple[str, ...]) -> Figure:
    """How sure each fine network is of images of each coarse class: (M, M), rows classes, columns networks, 0 to 1."""
    figure, axes = plt.subplots(figsize=(5.2, 4.4), layout="constrained")
    label_matrix(axes, sureness, names, names, form="{:.2f}")
    axes.set(xlabel="fine network that is asked", ylabel="coarse class of the image")
    return figure


def alike_figure(curves: dict[str, list[float]], measured: float, depth: int, name: str) -> Figure:
    """The smallest cosine between the relevances of two labels against the layers passed; and one measured at `depth`.

    curves: by title, one value for each number of layers from 0 on. name: of the network with the measured value.
    """
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    for title, values in curves.items():
        axes.plot(values, ".-", label=title)
    axes.plot(depth, measured, "k*", markersize=12, label=name)
    axes.set(
        xlabel="layers passed on the way from the labels to the pixels", ylabel="smallest cosine", ylim=(-0.03, 1.05)
    )
    axes.legend(frameon=False, loc="lower right")
    return figure


def heatmaps_beside(pixels: Tensor, heatmaps: Tensor, titles: list[str], columns: int = 4) -> Figure:
    """One image (3, H, W), and beside it heatmaps (N, C, H, W) in rows, all on one scale with a colour bar."""
    rows = -(-len(heatmaps) // columns)
    across = min(columns, len(heatmaps))
    size = (1.5 * (1 + across) + 1, 1.85 * rows)
    figure, axes = plt.subplots(rows, 1 + across, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    limit = scale_end(list(heatmaps))
    for axis, heatmap, title in zip(axes[:, 1:].flat, heatmaps, titles, strict=False):
        axis.axis("on")
        show_relevance(axis, heatmap, limit, title)
    axes[0, 0].axis("on")
    show_image(axes[0, 0], pixels, "the image\n")
    relevance_bar(figure, axes[:, 1:])
    return figure


def difference_sheet(pixels: Tensor, org: Tensor, adv: Tensor, contrasts: Tensor, titles: list[list[str]]) -> Figure:
    """Images (N, 3, H, W), heatmaps of both labels, and what is left when one is taken from the other, in four rows.

    org, adv: heatmaps (N, 3, H, W), on one scale. contrasts: (N, 1, H, W), each on a scale of its own, whose end
    stands below. titles: of the heatmaps of `org` and of `adv`, one for each image.
    """
    n = len(pixels)
    figure, axes = plt.subplots(4, n, figsize=(1.55 * n + 1, 6.9), squeeze=False, layout="constrained")
    limit = scale_end([*org, *adv])
    for column, (image, a, b, c) in enumerate(zip(pixels, org, adv, contrasts, strict=True)):
        show_image(axes[0, column], image)
        show_relevance(axes[1, column], a, limit, titles[0][column])
        show_relevance(axes[2, column], b, limit, titles[1][column])
        end = scale_end([c])
        show_contrast(axes[3, column], c, end)
        axes[3, column].set_xlabel(f"± {scientific(end)}", fontsize=8)
    for axis, name in zip(
        axes[:, 0], ("image", "relevance of\nthe label", "relevance of\nthe runner-up", "difference"), strict=True
    ):
        axis.set_ylabel(name)
    relevance_bar(figure, axes[1:3])
    return figure


def steps_figure(steps: list[Panel], org: str, adv: str, label_names: list[str]) -> Figure:
    """An attack at several of its steps, one column each: image, perturbation, both heatmaps and their difference.

    label_names: what the network calls the image in each column, set off once it is no longer `org`. Both heatmaps
    share one scale over all columns, and so do the differences and the perturbations; each is written beside its row.
    """
    n = len(steps)
    figure, axes = plt.subplots(5, n, figsize=(1.5 * n + 1.2, 8.1), squeeze=False, layout="constrained")
    limit = scale_end([heatmap for panel in steps for heatmap in (panel.relevance_org, panel.relevance_adv)])
    end = scale_end([panel.contrast for panel in steps])
    factor = magnification([panel.perturbation for panel in steps])
    for column, panel, name in zip(axes.T, steps, label_names, strict=True):
        show_image(column[0], panel.pixels, panel.title)
        changed = name != org
        style = dict(color=FOOLED, weight="bold") if changed else {}
        column[0].set_xlabel(name, fontsize=9, **style)
        show_image(column[1], 127.5 + factor * panel.perturbation)
        show_relevance(column[2], panel.relevance_org, limit)
        show_relevance(column[3], panel.relevance_adv, limit)
        show_contrast(column[4], panel.contrast, end)
    rows = ("image", f"perturbation\n× {factor:.3g}", f"relevance of\n{org}", f"relevance of\n{adv}", "difference")
    for axis, name in zip(axes[:, 0], rows, strict=True):
        axis.set_ylabel(name)
    relevance_bar(figure, axes[2:4])
    relevance_bar(figure, axes[4:], "difference")
    return figure


def error_figure(steps: list[float], errors: dict[str, list[float]]) -> Figure:
    """How far finite differences are from the gradient, relative, against the step h; both axes logarithmic."""
    figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
    for title, values in errors.items():
        axes.loglog(steps, values, ".-", label=title)
    axes.axhline(1, color="grey", linewidth=0.6)
    axes.set(xlabel="step h, in pixel units", ylabel="relative difference")
    axes.legend(frameon=False)
    return figure
