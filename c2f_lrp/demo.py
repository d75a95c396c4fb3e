"""The demo of notebook 00: an attack on one image, followed step by step, and the widgets that choose both."""

import base64
import html
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import torch
from ipywidgets import Layout
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from c2f_lrp import attacks, get_profile, load_classifier, load_images, plotting
from c2f_lrp.attacks import Attack, attack_class
from c2f_lrp.attacks.base import BoundedAttack
from c2f_lrp.attacks.lrp_attack import LRPAttack
from c2f_lrp.attacks.pgd import PGD
from c2f_lrp.classifier import CoarseToFine, level_network
from c2f_lrp.datasets import Images, stack
from c2f_lrp.datasets.opening import decode, resize_and_crop
from c2f_lrp.lrp import choose_lrp
from c2f_lrp.metrics import relevance_mass
from c2f_lrp.objectives import adversarial_labels
from c2f_lrp.panels import Panel, panel
from c2f_lrp.profiles import PHOTO_PROFILE
from c2f_lrp.tables import READINGS

LEVELS = ("coarse", "fine")
ATTACKS: dict[str, dict[str, type[Attack]]] = {}  # by title and level
for name in attacks.ATTACKS:
    ATTACKS.setdefault(attack_class(name).title, {})[attack_class(name).level] = attack_class(name)
LOSSES = {"eq. (7), (9)": "eq7", "regions (ours)": "regions", "attention (ours)": "attention"}
PARTS = {"ε / 8": 8, "ε / 4": 4, "ε / 2": 2, "ε": 1}  # of the bound, in one step
STEPS = 20  # K: enough to watch an attack, few enough to answer at once


# --------------------------------------------------------------------------------------------- what an attack does
@dataclass(frozen=True)
class Trace:
    """An attack's course on one image: K + 1 iterates, the clean image first.

    pixels     (3, H, W) in [0, 255];  perturbations: (K + 1, 3, H, W), in pixel units
    network    the attacked one;  names: of its labels;  org, adv: the labels of eq. (6) or (8)
    scores     (K + 1, M), softmax of its logits
    fooled     by the last iterate
    """

    classifier: CoarseToFine
    attack: Attack
    pixels: Tensor
    perturbations: Tensor
    network: nn.Module
    names: tuple[str, ...]
    org: int
    adv: int
    scores: np.ndarray
    fooled: bool


def choose_attack(name: str, level: str, eps: float, parts: int, loss: str, reading: dict) -> Attack:
    """The attack that the widgets say. A step is eps / parts: with the tables' lr of 10 there is little to watch."""
    chosen = ATTACKS[name][level]
    if not issubclass(chosen, BoundedAttack):
        return chosen()
    if issubclass(chosen, PGD):
        return chosen(eps=eps, step_size=eps / parts, iterations=STEPS)
    settings = dict(eps=eps, lr=eps / parts, iterations=STEPS)
    return chosen(**settings, objective=loss, **reading) if issubclass(chosen, LRPAttack) else chosen(**settings)


def trace_attack(classifier: CoarseToFine, pixels: Tensor, attack: Attack) -> Trace:
    """Attack one image (3, H, W), whose labels are the classifier's own, and keep every iterate."""
    iterates: list[Tensor] = []
    coarse, fine = classifier.predict(pixels[None])
    watch = lambda at: iterates.append(at.perturbation[0].clone())  # noqa: E731
    fooled = attack(classifier, pixels[None], coarse, fine, watch=watch).fooled.item()
    network, names = level_network(classifier, attack.level, coarse.item())
    perturbations = torch.stack(iterates)
    with torch.no_grad():
        logits = network(pixels + perturbations)
    org, adv = (label.item() for label in adversarial_labels(logits[:1]))
    scores = logits.softmax(1).numpy()
    return Trace(classifier, attack, pixels, perturbations, network, names, org, adv, scores, fooled)


def panels_at(trace: Trace, step: int, init: str, bias: str) -> tuple[Panel, Panel, list[float]]:
    """The panels of the clean image and of an iterate, and where the scales of both labels' heatmaps end.

    A scale holds the clean image's heatmap and the last iterate's, so that it stays while the steps move.
    """
    lrp = choose_lrp(trace.network, init, bias)
    last = len(trace.perturbations) - 1
    panels = {
        k: panel(trace.classifier, lrp, trace.pixels, trace.perturbations[k], trace.org, trace.adv)
        for k in {0, step, last}
    }
    ends = [
        max(heatmap.sum(0).abs().quantile(0.995).item() for heatmap in heatmaps)
        for heatmaps in zip(*((panels[k].relevance_org, panels[k].relevance_adv) for k in (0, last)), strict=True)
    ]
    return panels[0], panels[step], ends


def draw(trace: Trace, image: Images, step: int, before: Panel, now: Panel, ends: list[float]) -> Figure:
    """The demo's picture."""
    outlines = [mask[0] for mask in (image.object_masks, image.secondary_masks) if mask is not None]
    return plotting.demo_figure(
        before, now, ends, trace.scores, trace.names, trace.org, trace.adv, step, trace.classifier.hierarchy, outlines
    )


def as_png(figure: Figure) -> bytes:
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # savefig would crop it, to another size each time
    return buffer.getvalue()


def labels(trace: Trace, before: Panel, now: Panel) -> list[str]:
    """The labels before and now: "vehicle / truck"."""
    return trace.classifier.hierarchy.describe([before.coarse, now.coarse], [before.fine, now.fine])


def describe(trace: Trace, step: int, before: Panel, now: Panel) -> str:
    """A line of HTML: the attack, the step, the labels before and now."""
    last = len(trace.perturbations) - 1
    was, is_now = labels(trace, before, now)
    outcome = "fooled" if trace.fooled else "not fooled"
    return (
        f"<b>{type(trace.attack).__name__}</b>, step {step} of {last} ({outcome} in the end): "
        f"<b>{was}</b> → <b>{is_now}</b>; largest change of a pixel {now.perturbation.abs().max():.3g} of 255."
    )


def attention(trace: Trace, image: Images, before: Panel, now: Panel) -> str:
    """A line of HTML: which share of both labels' positive relevance lies on the object, and on the other object."""
    if image.object_masks is None:
        return "Where attention went cannot be said in numbers: nobody drew the outlines of this photograph's objects."
    places = {"on the object": image.object_masks}
    if image.secondary_masks is not None and image.secondary_masks.any():
        other = trace.classifier.hierarchy.coarse_names[image.secondary_coarse.item()]
        places[f"on the {other} beside it"] = image.secondary_masks
    heatmaps = {
        trace.org: (before.relevance_org, now.relevance_org),
        trace.adv: (before.relevance_adv, now.relevance_adv),
    }
    parts = []
    for label, pair in heatmaps.items():
        moves = []
        for place, mask in places.items():
            was, is_now = (relevance_mass(heatmap[None], mask).item() for heatmap in pair)
            moves.append(f"{place} {was:.0%} → {is_now:.0%}")
        parts.append(f"of <b>{trace.names[label]}</b> {', '.join(moves)}")
    return f"Relevance {'; '.join(parts)}."


# ---------------------------------------------------------------------------------------------------- the widgets
class Demo:
    """The page. Jupyter shows its widgets; where there are none, as on GitHub, its picture is shown.

    Photographs are given to the networks of `PHOTO_PROFILE` where the profile's own know drawings only.
    """

    def __init__(self, profile: str = "scenes", root: Path | None = None, n_images: int = 64):
        if get_profile(profile).image_size <= 64:
            torch.set_num_threads(1)  # quicker for one image so small, most of all where others compute as well
        classifier, images = load_classifier(profile), load_images(profile, limit=n_images, root=root)
        names = classifier.hierarchy.describe(images.coarse, images.fine)
        order = sorted(range(len(images)), key=lambda row: (images.coarse[row].item(), images.fine[row].item()))
        self.choices = [(f"{names[row]} ({images.names[row]})", classifier, images[[row]]) for row in order]
        self.photo_profile = profile if get_profile(profile).needs_root else PHOTO_PROFILE
        self.photo_classifier = lru_cache(lambda: load_classifier(self.photo_profile))
        self.cached_trace = lru_cache(maxsize=64)(self.trace_choice)
        self.make_widgets()
        self.attack_again()

    def make_widgets(self) -> None:
        words = dict(style={"description_width": "initial"}, layout=Layout(width="auto"))
        self.image = widgets.Dropdown(
            options=self.image_names(), description="image", **words | dict(layout=Layout(width="275px"))
        )
        self.photo = widgets.FileUpload(accept="image/*", description="photograph", layout=Layout(width="auto"))
        self.level = widgets.ToggleButtons(options=LEVELS, style={"button_width": "5em"}, layout=Layout(width="auto"))
        self.attack = widgets.Dropdown(options=list(ATTACKS), description="attack", **words)
        sliders = words | dict(layout=Layout(width="230px"))
        self.eps = widgets.IntSlider(10, 1, 40, description="ε", continuous_update=False, **sliders)
        self.parts = widgets.Dropdown(options=PARTS, value=4, description="a step", **words)
        self.reading = widgets.Dropdown(options=READINGS, description="reading", **words)
        self.loss = widgets.Dropdown(options=LOSSES, description="loss", **words)
        self.play = widgets.Play(interval=600, show_repeat=False)
        self.step = widgets.IntSlider(0, 0, 1, description="step", **sliders)
        self.png = widgets.Image(format="png", layout=Layout(width="100%"))
        self.text = widgets.HTML(layout=Layout(min_height="4em"))  # the picture below stays where it is
        rows = (
            (self.image, self.photo, self.level, self.attack, self.reading),
            (self.eps, self.parts, self.loss, self.play, self.step),
        )
        boxes = [widgets.HBox(row, layout=Layout(flex_flow="row wrap", align_items="center")) for row in rows]
        self.page = widgets.VBox([*boxes, self.text, self.png], layout=Layout(max_width="1240px"))
        widgets.jslink((self.play, "value"), (self.step, "value"))
        for control in (self.image, self.level, self.attack, self.eps, self.parts, self.reading, self.loss):
            control.observe(self.attack_again, "value")
        self.step.observe(self.show, "value")
        self.photo.observe(self.add_photos, "value")

    def image_names(self) -> list[tuple[str, int]]:
        return [(name, row) for row, (name, _, _) in enumerate(self.choices)]

    def trace_choice(self, row: int, attack: Attack) -> Trace:
        _, classifier, image = self.choices[row]
        return trace_attack(classifier, image.pixels[0], attack)

    def attack_again(self, change=None) -> None:
        """Another image or attack was chosen: attack, and show the last step."""
        name, reading = self.attack.value, self.reading.value
        chosen = ATTACKS[name][self.level.value]
        self.eps.disabled = self.parts.disabled = not issubclass(chosen, BoundedAttack)
        self.loss.disabled = not issubclass(chosen, LRPAttack)
        attack = choose_attack(name, self.level.value, self.eps.value, self.parts.value, self.loss.value, reading)
        try:
            self.trace = self.cached_trace(self.image.value, attack)
        except ValueError as error:
            self.say(str(error))
            return
        last = len(self.trace.perturbations) - 1
        self.play.max, self.play.value = last, last  # as it is linked to the slider
        set_quietly(self.step, self.show, max=last, value=last)
        self.show()

    def show(self, change=None) -> None:
        """Draw the step that the slider says."""
        (_, _, image), step = self.choices[self.image.value], self.step.value
        before, now, ends = panels_at(self.trace, step, **self.reading.value)
        self.png.value = as_png(draw(self.trace, image, step, before, now, ends))
        self.plain = f"{type(self.trace.attack).__name__}: {' → '.join(labels(self.trace, before, now))}"
        self.text.value = f"{describe(self.trace, step, before, now)}<br>{attention(self.trace, image, before, now)}"

    def add_photos(self, change) -> None:
        """Photographs were uploaded: scale them as the network's own were, and choose the last."""
        size = get_profile(self.photo_profile).image_size
        try:
            photos = [
                (file.name, resize_and_crop(decode(BytesIO(file.content), file.name), size)) for file in change.new
            ]
        except ValueError as error:
            self.say(str(error))
            return
        for name, pixels in photos:
            image = stack([pixels], [-1], [-1], None, [name])  # its labels are not known
            self.choices.append((name, self.photo_classifier(), image.with_pixels(image.pixels.float())))
        set_quietly(self.image, self.attack_again, options=self.image_names(), value=len(self.choices) - 1)
        self.attack_again()

    def say(self, problem: str) -> None:
        self.text.value = f"<b style='color: firebrick'>{html.escape(problem)}</b>"

    def _repr_mimebundle_(self, **options) -> dict:
        """Widgets, or a picture."""
        return {
            **self.page._repr_mimebundle_(**options),
            "image/png": base64.b64encode(self.png.value).decode(),
            "text/plain": self.plain,
        }


def set_quietly(control: widgets.Widget, handler, **values) -> None:
    """Set traits of a control without telling its handler."""
    control.unobserve(handler, "value")
    for name, value in values.items():
        setattr(control, name, value)
    control.observe(handler, "value")
