"""What the demo shows of one step of an attack, as HTML: pictures in a row on a projector, under each other on a phone.

Text stays text, so it is legible at any width and can be read aloud. Computes nothing but colours.
"""

import base64
import html
from collections.abc import Sequence
from io import BytesIO

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from PIL import Image
from torch import Tensor

from c2f_lrp import plotting
from c2f_lrp.panels import Panel
from c2f_lrp.plotting import ADV, CONTRAST, FOOLED, HELD, ORG

MOVED = "PuOr_r"  # purple where relevance was lost, orange where it was gained
SIDE = 192  # pixels a side, at least, of a picture before the browser scales it

STYLE = """<style>
.c2f {font: 15px/1.35 system-ui, sans-serif; color: #1c1917; max-width: 100%; box-sizing: border-box}
.c2f .row {display: flex; flex-wrap: wrap; gap: 10px; align-items: flex-start}
.c2f figure {margin: 0; flex: 1 1 0; min-width: 130px}
.c2f figure img {width: 100%; aspect-ratio: 1; display: block; image-rendering: pixelated; border: 1px solid #a8a29e;
  box-sizing: border-box}
.c2f figure.after img {border: 4px solid var(--verdict)}
.c2f figcaption {margin-top: 4px; font-size: 14px; line-height: 1.25; overflow-wrap: break-word}
.c2f .label {font-size: 19px; font-weight: 700}
.c2f .flip {flex: 0 1 178px; text-align: center; align-self: center; color: var(--verdict)}
.c2f .flip .word {font-size: 36px; font-weight: 800; line-height: 1.05}
.c2f .flip .arrow {font-size: 34px; line-height: 1}
.c2f small {color: #57534e; font-size: 12.5px; display: block}
.c2f .bar {height: 9px; margin: 3px 0 1px; border: 1px solid #a8a29e}
.c2f .ends {display: flex; justify-content: space-between; font-size: 12.5px}
.c2f .look {font-size: 17px; margin: 0 0 6px}
.c2f .facts {font-size: 14px; color: #44403c; margin: 6px 0 0}
.c2f .more {margin-top: 12px}
.c2f code {font-size: 13px; background: #f5f5f4; padding: 1px 4px; overflow-wrap: anywhere}
.c2f .beware {color: #9a3412}
@media (max-width: 720px) {
  .c2f figure {flex: 0 1 calc(50% - 5px)}
  .c2f .flip {flex: 1 1 100%; order: -1; margin-bottom: 4px}
  .c2f .flip .arrow {display: none}
  .c2f .flip .word {font-size: 30px}
}
.jp-Cell-inputWrapper:has(.jp-Placeholder), .jp-Cell:has(.celltag_lab), .celltag_lab {display: none}
</style>"""


def picture(pixels: np.ndarray, alt: str) -> str:
    """An <img> of uint8 pixels (H, W, 3) inside the page itself."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    code = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{code}">'


def coloured(heatmap: Tensor, end: float, colours: str, outlines: Sequence[Tensor] = ()) -> np.ndarray:
    """A map (C, H, W) in diverging colours, channels summed, uint8; `end` ends the scale.

    outlines: masks (H, W), drawn as lines; the first is solid, those after it dotted.
    """
    values = heatmap.sum(0).cpu().numpy() / end
    pixels = (matplotlib.colormaps[colours](values / 2 + 0.5)[..., :3] * 255).round().astype(np.uint8)
    return outlined(enlarged(pixels), outlines)


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, ...) repeated until a side has SIDE."""
    times = max(1, -(-SIDE // len(pixels)))
    return pixels.repeat(times, 0).repeat(times, 1)


def outlined(pixels: np.ndarray, outlines: Sequence[Tensor]) -> np.ndarray:
    """Pixels (H, W, 3) with the border of each mask drawn in black."""
    for number, mask in enumerate(outlines):
        inside = np.pad(enlarged(mask.cpu().numpy()), 1)
        core = inside[1:-1, 1:-1]
        around = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
        edge = core & ~around
        if number:
            rows, columns = np.indices(edge.shape)
            edge &= (rows + columns) % 6 < 3
        pixels[edge] = 60
    return pixels


def bar(colours: str, left: str, right: str, end: float, unit: str) -> str:
    """A colour bar with what its ends mean, and the number at which it ends."""
    stops = ", ".join(to_hex(matplotlib.colormaps[colours](at)) for at in np.linspace(0, 1, 9))
    ends = f"<span>{left}</span><span>{right}</span>"
    gradient = f'<div class="bar" style="background: linear-gradient(90deg, {stops})"></div>'
    return f'{gradient}<div class="ends">{ends}</div><small>±{end:.1g}, {unit}</small>'


def figure(img: str, caption: str, kind: str = "") -> str:
    return f'<figure class="{kind}">{img}<figcaption>{caption}</figcaption></figure>'


def words(text: str, colour: str) -> str:
    return f'<b style="color: {to_hex(colour)}">{html.escape(text)}</b>'


def above_the_fold(
    before: Panel,
    now: Panel,
    last: Panel,
    names: list[tuple[str, str]],
    level: str,
    org: str,
    adv: str,
    step: int,
    steps: int,
    fooled: bool,
    running: bool,
    outlines: list[Tensor],
) -> str:
    """The row of pictures: before, after, the perturbation, and two differences of heatmaps.

    last: the panel at which the scales end. names: ("coarse", "fine") labels before and now. level: the attacked one,
    with the names of its label, org, and runner-up, adv. fooled: at this step.
    """
    verdict = FOOLED if fooled else HELD
    word = "FOOLED" if fooled else "not fooled" + (" yet" if running or step < steps else "")
    largest = now.perturbation.abs().max().item()
    size = f"no pixel was changed by more than {largest:.3g} of 255" if largest else "nothing was changed yet"
    flip = (
        f'<div class="flip"><div class="word">{word}</div><div class="arrow">{"➜" if fooled else "="}</div>'
        f"<small>step {step} of {steps}{' so far' if running else ''}<br>{size}</small></div>"
    )
    factor = plotting.magnification([last.perturbation])
    eta = plotting.as_picture(127.5 + now.perturbation * factor)
    added = f"what was added, <b>× {factor:.3g}</b><br>grey: nothing" if largest else "nothing was added yet"
    contrast_end = plotting.scale_end([before.contrast, last.contrast])
    went, went_last = (moved(before, panel) for panel in (now, last))
    went_end = plotting.scale_end([went_last])
    o, a = words(org, ORG), words(adv, ADV)
    pictures = (
        figure(
            picture(plotting.as_picture(before.pixels), "the image"), "before<br>" + labelled(names[0], before, level)
        ),
        flip,
        figure(
            picture(plotting.as_picture(now.pixels), "the attacked image"),
            "attacked<br>" + labelled(names[1], now, level, verdict),
            "after",
        ),
        figure(picture(eta, "the perturbation"), added),
        figure(
            picture(coloured(now.contrast, contrast_end, CONTRAST, outlines), "the difference of both heatmaps"),
            "what speaks for" + bar(CONTRAST, a, o, contrast_end, "difference of their relevance"),
        ),
        figure(
            picture(coloured(went, went_end, MOVED, outlines), "where relevance went"),
            f"relevance of {o}, now − before" + bar(MOVED, "lost", "gained", went_end, "share of it per pixel"),
        ),
    )
    return f'<div class="row" style="--verdict: {verdict}">{"".join(pictures)}</div>'


def moved(before: Panel, now: Panel) -> Tensor:
    """(1, H, W): the label's relevance now less before, each scaled to sum |R_i| = 1."""
    was, is_now = (
        r.sum(0, keepdim=True) / r.sum(0).abs().sum().clamp(min=1e-12)
        for r in (before.relevance_org, now.relevance_org)
    )
    return is_now - was


def labelled(names: tuple[str, str], panel: Panel, level: str, colour: str = "inherit") -> str:
    """Both labels with their probabilities, that of the attacked level in large letters."""
    lines = []
    for each, name, score in zip(("coarse", "fine"), names, (panel.coarse_score, panel.fine_score), strict=True):
        kind = f' class="label" style="color: {colour}"' if each == level else ""
        lines.append(f"<span{kind}>{html.escape(name)}</span> {score:.0%}")
    return "<br>".join(lines)


def below_the_fold(
    before: Panel, now: Panel, org: str, adv: str, scores: np.ndarray, step: int, outlines: list[Tensor]
) -> str:
    """The heatmaps behind the differences, before and now on one scale, and both scores (K + 1, 2) over the steps."""
    pairs = (("relevance_org", "norm_org", org, ORG), ("relevance_adv", "norm_adv", adv, ADV))
    end = plotting.scale_end([getattr(panel, name) for name, *_ in pairs for panel in (before, now)])
    pictures = []
    for index, (name, norm, title, colour) in enumerate(pairs):
        for when, panel in (("before", before), ("now", now)):
            caption = f"relevance of {words(title, colour)}, {when}<br><small>‖R⁺‖ {getattr(panel, norm):.3g}, "
            caption += f"‖R⁻‖ {panel.negative_norms[index]:.2g}</small>"
            pictures.append(figure(picture(coloured(getattr(panel, name), end, "seismic", outlines), title), caption))
    caption = f"scores of {words(org, ORG)} and {words(adv, ADV)}, step by step"
    pictures.append(figure(curves(scores, step), caption))
    return f'<div class="row more">{"".join(pictures)}</div>'


def curves(scores: np.ndarray, step: int) -> str:
    """Two scores (K + 1, 2) between 0 and 1 as an SVG picture, with a mark at `step`."""
    width, height, last = 200, 192, max(len(scores) - 1, 1)
    x = [8 + (width - 16) * k / last for k in range(len(scores))]
    parts = [f'<line x1="{x[step]:.1f}" x2="{x[step]:.1f}" y1="0" y2="{height}" stroke="#a8a29e"/>']
    for values, colour in zip(scores.T, (ORG, ADV), strict=True):
        colour = to_hex(colour)
        y = [height - 8 - (height - 16) * float(value) for value in values]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<circle cx="{x[step]:.1f}" cy="{y[step]:.1f}" r="5" fill="{colour}"/>')
    style = 'style="width: 100%; border: 1px solid #a8a29e; box-sizing: border-box"'
    return f'<svg viewBox="0 0 {width} {height}" {style} role="img">{"".join(parts)}</svg>'


def page(look: str, row: str, facts: list[str], more: str) -> str:
    """The whole: a sentence on what to look at, the pictures, what can be said in numbers, and what is behind them."""
    said = "".join(f'<p class="facts">{fact}</p>' for fact in facts)
    return f'{STYLE}<div class="c2f"><p class="look">{html.escape(look)}</p>{row}{said}{more}</div>'
